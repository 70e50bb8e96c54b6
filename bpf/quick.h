/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * quick.h -- the way of nearly all frames of a busy switch, straight: a whole IPv4 frame of TCP or UDP without tags,
 * from a vPort's own vMAC to a MAC that is known, which no list is asked about or only lists that this CPU asked
 * about its flow in this tick (recent.h). With such a frame it does what classify.h and the front ends do, and
 * nothing of what they do for others; any other is left to them untouched and uncounted.
 */
#ifndef IVDS_QUICK_H
#define IVDS_QUICK_H

#include "classify.h"
#include "mark.h"

/* Where a frame goes. */
struct ivds_quick {
	const struct ivds_port *port;
	const struct ivds_port *egress;
	__u32 port_id;
	__u32 egress_id;
	__u32 instance_id;
	__u16 vlan; /* to the uplink with these; 0: to a vPort */
	__u16 vvlan;
	struct ivds_recent *in; /* what counts it for the lists; NULL: there are none */
	struct ivds_recent *out;
};

/* What this CPU decided about the flow in this tick, if it is no more than that the frame passes. */
INLINE struct ivds_recent *quick_recent(const struct ivds_recent_key *key, const struct ivds_port *port)
{
	__u32 id = key->port, at = slot_of(key);
	const struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &id);
	struct ivds_recent *r;
	__u64 tick;

	if (!ps)
		return 0;
	tick = bpf_jiffies64();
	r = bpf_map_lookup_elem(&recents, &at);
	if (!r || !recent_holds(r, key, port, ps, tick) || r->decision.action != IVDS_ACL_ALLOW ||
	    r->decision.mirrors)
		return 0;
	return r;
}

/* Says where a frame of `bytes` goes, and changes nothing. The port that it leaves by has all flags of `needed`.
 * Returns 0 where the frame is none of those that this is for. */
INLINE int quick_look(struct ivds_quick *q, const __u8 *data, const __u8 *data_end, __u32 ifindex, __u32 bytes,
		      __u32 needed)
{
	const __u8 *ip = data + IVDS_ETH_BYTES;
	const __u32 l3_bytes = bytes - IVDS_ETH_BYTES;
	const struct ivds_instance *instance;
	const struct ivds_fdb_entry *entry;
	const struct ivds_port *port, *to;
	const __u32 *words = __builtin_assume_aligned(data, 4);
	struct ivds_recent_key key;
	__u32 port_id, instance_id, to_id, start, rest;

	/* The EtherType and an IPv4 header's first byte, in one word. */
	if (ip + IVDS_QUICK_BYTES > data_end ||
	    (words[3] & bpf_htonl(0xffffff00)) != bpf_htonl(IVDS_TYPE_IPV4 << 16 | 0x4500) ||
	    (data[0] | data[6]) & 1 || !has_recent_key(ip))
		return 0;
	port = find_port(ifindex, &port_id);
	if (!port || port->kind != IVDS_PORT_VPORT ||
	    port->inspector | port->mirror_in | port->dscp | port->rate[IVDS_WAY_IN].ns_per_mib)
		return 0;
	_Static_assert(__builtin_offsetof(struct ivds_port, vmac) % 4 == 2, "its last four bytes are a word");
	rest = *(const __u32 *)__builtin_assume_aligned(port->vmac + 2, 4);
	start = *(const __u16 *)__builtin_assume_aligned(port->vmac, 2);
	if (words[2] != rest || *(const __u16 *)(const void *)(data + 6) != start || !(rest | start))
		return 0;
	instance_id = port->instance; /* instance 0, which is none, is not active */
	instance = bpf_map_lookup_elem(&instances, &instance_id);
	if (!instance || !(instance->flags & IVDS_IF_ACTIVE) || l3_bytes > port->mtu_bytes ||
	    l3_bytes > instance->mtu_bytes)
		return 0;

	write_recent_key(&key, data, ip, port_id, instance_id, IVDS_WAY_IN);
	q->in = q->out = 0;
	if (has_lists(port, IVDS_WAY_IN)) {
		q->in = quick_recent(&key, port);
		if (!q->in)
			return 0;
	}
	entry = fdb_lookup(IVDS_TRACE_DESTINATION, instance_id, key.macs);
	if (!entry)
		return 0;
	to_id = entry->port;
	to = bpf_map_lookup_elem(&ports, &to_id);
	if (!to || to_id == port_id || (to->flags & needed) != needed || to->inspector | to->mirror_out)
		return 0;
	q->vlan = q->vvlan = 0;
	if (to_id == instance->uplink) {
		q->vlan = entry->vlan ? entry->vlan : instance->vlan;
		q->vvlan = instance->vvlan;
		if ((instance->flags & (IVDS_IF_WIRE | IVDS_IF_PEER_RATES)) != IVDS_IF_WIRE ||
		    entry->flags & IVDS_FDB_PLAIN || !q->vlan || !q->vvlan || port->mirror_drop ||
		    check_uplink(to, l3_bytes, 2))
			return 0;
	} else {
		if (to->kind != IVDS_PORT_VPORT || to->instance != instance_id || l3_bytes > to->mtu_bytes ||
		    to->rate[IVDS_WAY_OUT].ns_per_mib)
			return 0;
		if (has_lists(to, IVDS_WAY_OUT)) {
			key.port = to_id;
			key.way = IVDS_WAY_OUT;
			q->out = quick_recent(&key, to);
			if (!q->out)
				return 0;
		}
	}
	q->port = port;
	q->egress = to;
	q->port_id = port_id;
	q->egress_id = to_id;
	q->instance_id = instance_id;
	return 1;
}

/* The PCP of its tags. */
INLINE __u32 quick_pcp(const struct ivds_quick *q)
{
	return keeps_pcp(q->port) ? 0 : q->port->pcp;
}

/* Counts the frame for its rules and flows, as judge() does. */
INLINE void quick_judge(const struct ivds_quick *q, __u32 bytes)
{
	if (q->in) {
		q->in->packets++;
		q->in->bytes += bytes;
	}
	if (q->out) {
		q->out->packets++;
		q->out->bytes += bytes;
	}
}

/* Counts it as one that is sent, with `tags` bytes of tags on it. */
INLINE void quick_count(const struct ivds_quick *q, __u32 bytes, __u32 tags)
{
	__u32 port_id = q->port_id, egress_id = q->egress_id, instance_id = q->instance_id;
	struct ivds_port_stats *ps = bpf_map_lookup_elem(&port_stats, &port_id);
	struct ivds_instance_stats *is = bpf_map_lookup_elem(&instance_stats, &instance_id);

	if (ps) {
		ps->rx_packets++;
		ps->rx_bytes += bytes;
		if (tags)
			ps->rx_wire++;
		else
			ps->rx_local++;
	}
	if (is) {
		is->port_packets++;
		is->port_bytes += bytes;
	}
	count_tx(egress_id, 1, bytes + tags);
}

#endif
