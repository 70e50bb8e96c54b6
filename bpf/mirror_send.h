/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mirror_send.h -- the tap's other end: takes a copy, which is one whole frame here, to where its session's copies
 * go. Nothing that comes in here goes anywhere else.
 */
#ifndef IVDS_MIRROR_SEND_H
#define IVDS_MIRROR_SEND_H

#include "erspan.h"

INLINE void count_copy(__u32 session, __u32 bytes)
{
	struct ivds_mirror_stats *stats = bpf_map_lookup_elem(&mirror_stats, &session);

	if (stats) {
		stats->packets++;
		stats->bytes += bytes;
	}
}

/* Bytes of the frame; the kernel keeps the first tag of a frame beside its bytes. */
INLINE __u32 copy_bytes(const struct __sk_buff *skb)
{
	return skb->len + (skb->vlan_present ? IVDS_TAG_BYTES : 0);
}

/* What the kernel sends out of an interface: the MTU, the Ethernet header and one tag. */
INLINE int is_too_long(const struct __sk_buff *skb, __u32 mtu_bytes)
{
	return skb->len > mtu_bytes + IVDS_ETH_BYTES + IVDS_TAG_BYTES;
}

/* Sends the copy as it is out of a port's interface; to one behind a trunk with the tag that its VM knows it by. */
INLINE int send_to_port(struct __sk_buff *skb, __u32 port_id)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	const struct ivds_port *carrier = port ? carrier_of(port) : 0;

	if (!carrier || !(port->flags & carrier->flags & IVDS_PF_UP))
		return -1;
	if (port->kind == IVDS_PORT_SUB && bpf_skb_vlan_push(skb, bpf_htons(IVDS_TPID_C), port->vid))
		return -1;
	return is_too_long(skb, carrier->mtu_bytes) ? -1 : bpf_clone_redirect(skb, carrier->ifindex, 0);
}

/* Loads the bytes of the frame from `from` on to `to`, as many as fit below `end`. */
INLINE int load_rest(struct __sk_buff *skb, __u32 from, struct ivds_captured *c, __u32 to, __u32 captured)
{
	__u32 length = captured > to ? captured - to : 0;

	if (!length)
		return 0;
	length--;
	barrier_var(length);
	length = (length & (IVDS_CAPTURE_BYTES - 1)) + 1;
	if (length > IVDS_CAPTURE_BYTES - to)
		return -1;
	return bpf_skb_load_bytes(skb, from, c->bytes + to, length);
}

/* Puts the copy, with its tag where it was on the wire, into the session's ring. Returns how many bytes of it, or a
 * negative number. Global functions: the verifier looks at each once. */
__noinline int send_to_ring(struct __sk_buff *skb, __u32 session, __u32 mark, __u32 snap_bytes)
{
	const __u32 tagged = skb->vlan_present;
	const __be16 tag[2] = {skb->vlan_proto, bpf_htons(skb->vlan_tci)};
	const __u32 bytes = skb->len + (tagged ? IVDS_TAG_BYTES : 0);
	__u32 only = 0, size = bytes;
	struct ivds_captured *c = bpf_map_lookup_elem(&capture_room, &only);
	void *ring = bpf_map_lookup_elem(&captures, &session);

	if (!c || !ring)
		return -1;
	if (snap_bytes && size > snap_bytes)
		size = snap_bytes;
	if (size > IVDS_CAPTURE_BYTES)
		size = IVDS_CAPTURE_BYTES;
	if (bpf_skb_load_bytes(skb, 0, c->bytes, 12))
		return -1;
	__builtin_memcpy(c->bytes + 12, tag, sizeof(tag));
	if (tagged ? load_rest(skb, 12, c, 16, size) : load_rest(skb, 12, c, 12, size))
		return -1;
	c->head.time_ns = bpf_ktime_get_ns();
	c->head.port = IVDS_MARK_PORT(mark);
	c->head.bytes = bytes;
	c->head.captured = size;
	c->head.direction = IVDS_MARK_DIRECTION(mark);
	c->head.reason = IVDS_MARK_REASON(mark);
	c->head.pad0 = 0;
	barrier_var(size);
	if (size > IVDS_CAPTURE_BYTES || bpf_ringbuf_output(ring, c, sizeof(c->head) + size, 0))
		return -1;
	return size;
}

INLINE int mirror_send(struct __sk_buff *skb)
{
	const __u32 mark = skb->mark;
	__u32 session = IVDS_MARK_SESSION(mark), bytes;
	const struct ivds_mirror *mirror = bpf_map_lookup_elem(&mirrors, &session);
	int failed = 0, is_snapped = 0;

	if ((mark & IVDS_MARK_OURS) != IVDS_MARK_OURS || !mirror)
		return IVDS_TC_DROP;
	come_out(session, skb->tc_index);
	if (mark & IVDS_MARK_SAMPLE && mirror->sample > 1 && is_left_out(session, mirror->sample))
		return IVDS_TC_DROP;
	skb->mark = 0;
	skb->tc_index = 0;
	if (mirror->flags & IVDS_MF_STRIP_TAGS && IVDS_MARK_TAGS(mark)) {
		__u32 port_id = IVDS_MARK_PORT(mark);
		const struct ivds_port *uplink = bpf_map_lookup_elem(&ports, &port_id);

		failed = !uplink || tc_pop_tags(skb, uplink, IVDS_MARK_TAGS(mark));
	}
	bytes = copy_bytes(skb);
	if (!failed && mirror->kind == IVDS_MIRROR_RING) {
		const int captured = send_to_ring(skb, session, mark, mirror->snap_bytes);

		failed = captured < 0;
		bytes = captured;
		goto counted;
	}
	if (!failed && mirror->snap_bytes && bytes > mirror->snap_bytes) {
		const __u32 beside = skb->vlan_present ? IVDS_TAG_BYTES : 0;

		failed = bpf_skb_change_tail(skb, mirror->snap_bytes - beside, 0);
		bytes = mirror->snap_bytes;
		is_snapped = 1;
	}
	if (failed)
		goto counted;
	if (mirror->kind == IVDS_MIRROR_SPAN) {
		failed = send_to_port(skb, mirror->target);
	} else if (mirror->kind == IVDS_MIRROR_RSPAN) {
		failed =
		    bpf_skb_vlan_push(skb, bpf_htons(IVDS_TPID_C), mirror->vlan) || send_to_port(skb, mirror->target);
	} else if (mirror->kind == IVDS_MIRROR_ERSPAN_II || mirror->kind == IVDS_MIRROR_ERSPAN_III) {
		const int verdict = send_in_erspan(skb, session, mirror, mark, is_snapped);

		if (verdict >= 0)
			return verdict;
		failed = -1;
	} else {
		failed = -1;
	}
counted:
	if (failed)
		count_refused(session, 1);
	else
		count_copy(session, bytes);
	return IVDS_TC_DROP;
}

#endif
