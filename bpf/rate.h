/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rate.h -- holds frames that are about to be sent to the rates of their vPorts (abi.h, struct ivds_rate): a leaky
 * bucket as a meter, kept as the time until which the port has used up what it may. Where fq is behind the port that
 * a frame leaves by, it says when the frame is to leave (earliest departure time, Linux 5.18: bpf_skb_set_tstamp).
 */
#ifndef IVDS_RATE_H
#define IVDS_RATE_H

#include "classify.h"

#define IVDS_RATE_TRIES 16

#define IVDS_OVER_RATE (-1)

/* Charges the vPort for the bytes. Returns the nanoseconds that they have to wait, 0 unless `is_shaped`, or
 * IVDS_OVER_RATE where they are over its rate. */
__noinline int over_rate(__u32 port_id, __u32 way, __u32 bytes, __u32 is_shaped)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_port_state *state = bpf_map_lookup_elem(&port_state, &port_id);
	const struct ivds_rate *rate;
	__u64 *paid_ns, now_ns, cost_ns;

	barrier_var(bytes);
	barrier_var(is_shaped);
	if (!port || !state)
		return 0;
	rate = way == IVDS_WAY_IN ? &port->rate[IVDS_WAY_IN] : &port->rate[IVDS_WAY_OUT];
	note(IVDS_TRACE_RATE, port_id, way, 0, 0);
	if (IVDS_TRACING)
		return 0;
	paid_ns = way == IVDS_WAY_IN ? &state->paid_ns[IVDS_WAY_IN] : &state->paid_ns[IVDS_WAY_OUT];
	now_ns = bpf_ktime_get_ns();
	cost_ns = bytes * rate->ns_per_mib >> 20;
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

/* Whether a rate holds for the frame. */
INLINE int has_rate(const struct ivds_verdict *v, const struct ivds_port *port)
{
	return port->rate[IVDS_WAY_IN].ns_per_mib ||
	       (v->action == IVDS_ACT_LOCAL && v->egress && v->egress->rate[IVDS_WAY_OUT].ns_per_mib);
}

/* Holds the frame, which is about to be sent, to the rates of its vPorts. Returns the nanoseconds that it has to
 * wait, or IVDS_OVER_RATE: then it is a drop. A flood is held to the rates of those that get a copy one by one. */
INLINE int over_rates(struct ivds_verdict *v, const struct ivds_size *size, __u32 port_id,
		      const struct ivds_port *port, __u32 is_shaped)
{
	int wait_ns = 0;

	if (port->rate[IVDS_WAY_IN].ns_per_mib) {
		wait_ns = over_rate(port_id, IVDS_WAY_IN, size->bytes, is_shaped);
		if (wait_ns < 0) {
			set_drop(v, IVDS_DROP_RATE, port_id);
			return IVDS_OVER_RATE;
		}
	}
	if (v->action == IVDS_ACT_LOCAL && v->egress && v->egress->rate[IVDS_WAY_OUT].ns_per_mib) {
		const int out_ns = over_rate(v->egress_id, IVDS_WAY_OUT, inner_bytes(v, size), is_shaped);

		if (out_ns < 0) {
			set_drop(v, IVDS_DROP_RATE_OUT, v->egress_id);
			return IVDS_OVER_RATE;
		}
		if (out_ns > wait_ns)
			wait_ns = out_ns;
	}
	return wait_ns;
}

#endif
