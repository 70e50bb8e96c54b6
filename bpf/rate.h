/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rate.h -- holds frames that are about to be sent to the rates of their vPorts and of their instance's peers (abi.h,
 * struct ivds_rate): a leaky bucket as a meter, kept as the time until which is used up what may pass. Where fq is
 * behind the port that a frame leaves by, it says when the frame is to leave (earliest departure time, Linux 5.18:
 * bpf_skb_set_tstamp).
 */
#ifndef IVDS_RATE_H
#define IVDS_RATE_H

#include "classify.h"

#define IVDS_RATE_TRIES 16

#define IVDS_OVER_RATE (-1)

/* Charges what has the rate for the bytes. Returns the nanoseconds that they have to wait, 0 unless `is_shaped`, or
 * IVDS_OVER_RATE where they are over it. */
INLINE int charge(const struct ivds_rate *rate, __u64 *paid_ns, __u32 bytes, __u32 is_shaped)
{
	const __u64 now_ns = bpf_ktime_get_ns(), cost_ns = bytes * rate->ns_per_mib >> 20;

	/* A frame that loses the race against other CPUs so many times passes, and is not charged. */
	for (int i = 0; i < IVDS_RATE_TRIES; i++) {
		const __u64 paid = *(volatile __u64 *)paid_ns;
		const __u64 from = paid > now_ns ? paid : now_ns;

		if (from - now_ns > rate->burst_ns + (is_shaped ? IVDS_SHAPE_NS : 0))
			return IVDS_OVER_RATE;
		if (__sync_val_compare_and_swap(paid_ns, paid, from + cost_ns) == paid)
			return from - now_ns > rate->burst_ns ? from - now_ns - rate->burst_ns : 0;
	}
	return 0;
}

/* The same for a vPort. */
__noinline int over_rate(__u32 port_id, __u32 way, __u32 bytes, __u32 is_shaped)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_port_state *state = bpf_map_lookup_elem(&port_state, &port_id);

	barrier_var(bytes);
	barrier_var(is_shaped);
	if (!port || !state)
		return 0;
	note(IVDS_TRACE_RATE, port_id, way, 0, 0);
	if (IVDS_TRACING)
		return 0;
	return way == IVDS_WAY_IN
		   ? charge(&port->rate[IVDS_WAY_IN], &state->paid_ns[IVDS_WAY_IN], bytes, is_shaped)
		   : charge(&port->rate[IVDS_WAY_OUT], &state->paid_ns[IVDS_WAY_OUT], bytes, is_shaped);
}

/* The same for the peers of the instance on an outer VLAN. */
__noinline int over_peer_rate(__u32 instance, __u32 vlan_way, __u32 bytes, __u32 is_shaped)
{
	const struct ivds_peer_key key = {.instance = instance, .vlan = vlan_way >> 1};
	struct ivds_peer_rate *peer = bpf_map_lookup_elem(&peer_rates, &key);
	const __u32 way = vlan_way & 1;

	barrier_var(bytes);
	barrier_var(is_shaped);
	if (!peer || !(way == IVDS_WAY_IN ? peer->rate[IVDS_WAY_IN].ns_per_mib : peer->rate[IVDS_WAY_OUT].ns_per_mib))
		return 0;
	note(IVDS_TRACE_PEER_RATE, instance, key.vlan, way, 0);
	if (IVDS_TRACING)
		return 0;
	return way == IVDS_WAY_IN ? charge(&peer->rate[IVDS_WAY_IN], &peer->paid_ns[IVDS_WAY_IN], bytes, is_shaped)
				  : charge(&peer->rate[IVDS_WAY_OUT], &peer->paid_ns[IVDS_WAY_OUT], bytes, is_shaped);
}

/* Whether the frame goes to peers of which some have a rate. */
INLINE int has_peer_rate_out(const struct ivds_verdict *v)
{
	return v->action == IVDS_ACT_WIRE && v->instance && v->instance->flags & IVDS_IF_PEER_RATES;
}

/* Whether a rate holds for the frame. */
INLINE int has_rate(const struct ivds_verdict *v, const struct ivds_port *port)
{
	return port->rate[IVDS_WAY_IN].ns_per_mib || v->peer_vlan || has_peer_rate_out(v) ||
	       (v->action == IVDS_ACT_LOCAL && v->egress && v->egress->rate[IVDS_WAY_OUT].ns_per_mib);
}

/* Holds the frame, which is about to be sent, to the rates of its vPorts and of its instance's peers. Returns the
 * nanoseconds that it has to wait, or IVDS_OVER_RATE: then it is a drop. A flood is held to the rates of those that
 * get a copy one by one. */
INLINE int over_rates(struct ivds_verdict *v, const struct ivds_size *size, __u32 port_id,
		      const struct ivds_port *port, __u32 is_shaped)
{
	int wait_ns = 0, more_ns;

	if (port->rate[IVDS_WAY_IN].ns_per_mib) {
		wait_ns = over_rate(port_id, IVDS_WAY_IN, size->bytes, is_shaped);
		if (wait_ns < 0) {
			set_drop(v, IVDS_DROP_RATE, port_id);
			return IVDS_OVER_RATE;
		}
	}
	if (v->peer_vlan) {
		more_ns =
		    over_peer_rate(v->in_instance, v->peer_vlan << 1 | IVDS_WAY_IN, inner_bytes(v, size), is_shaped);
		if (more_ns < 0) {
			set_drop(v, IVDS_DROP_RATE_PEER, port_id);
			return IVDS_OVER_RATE;
		}
		if (more_ns > wait_ns)
			wait_ns = more_ns;
	}
	if (v->action == IVDS_ACT_LOCAL && v->egress && v->egress->rate[IVDS_WAY_OUT].ns_per_mib) {
		more_ns = over_rate(v->egress_id, IVDS_WAY_OUT, inner_bytes(v, size), is_shaped);
		if (more_ns < 0) {
			set_drop(v, IVDS_DROP_RATE_OUT, v->egress_id);
			return IVDS_OVER_RATE;
		}
		if (more_ns > wait_ns)
			wait_ns = more_ns;
	}
	if (has_peer_rate_out(v)) {
		more_ns =
		    over_peer_rate(v->instance_id, v->vlan << 1 | IVDS_WAY_OUT, inner_bytes(v, size), is_shaped);
		if (more_ns < 0) {
			set_drop(v, IVDS_DROP_RATE_PEER_OUT, v->egress_id);
			return IVDS_OVER_RATE;
		}
		if (more_ns > wait_ns)
			wait_ns = more_ns;
	}
	return wait_ns;
}

#endif
