/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc.h -- the TC front end: everything that XDP passes, GSO frames and floods. It is the last rung in
 * the kernel: a vPort's frame is sent or dropped here, never handed up.
 */
#ifndef IVDS_TC_H
#define IVDS_TC_H

#include "answer.h"
#include "inspect.h"
#include "mark.h"
#include "mirror.h"
#include "quick.h"
#include "rate.h"

/* Bytes of the L3 and L4 headers at `offset` of a GSO frame. Other protocols than TCP and UDP, and
 * IPv6 extension headers, count as the smallest header: the frame then looks smaller than its segments
 * are, and the egress device has the last word. */
static __noinline __u32 gso_header_bytes(struct __sk_buff *skb, __u32 offset)
{
	__u8 ip[10] = {}, proto, doff = 0;
	__u32 l3;

	if (bpf_skb_load_bytes(skb, offset, ip, sizeof(ip)))
		return 0;
	if (ip[0] >> 4 == 4) {
		l3 = (ip[0] & 0xf) * 4;
		proto = ip[9];
	} else {
		l3 = 40;
		proto = ip[6];
	}
	if (proto == IVDS_IP_TCP && bpf_skb_load_bytes(skb, offset + l3 + 12, &doff, 1) == 0)
		return l3 + (doff >> 4) * 4;
	return l3 + (proto == IVDS_IP_UDP ? 8 : 0);
}

struct ivds_flood {
	struct __sk_buff *skb;
	__u32 next;    /* port id of the next member, 0: done */
	__u32 ingress; /* port id that gets no copy */
	__u32 instance_id;
	__u32 l3_bytes;
	__u32 guest_tagged;
	__u32 packets;
	__u32 bytes; /* of a copy at a member */
	__u32 sent;
};

/* Puts the tag on by which a trunk's VM knows the vPort behind it. */
INLINE int tc_push_trunk(struct __sk_buff *skb, const struct ivds_port *sub, __u32 pcp)
{
	return bpf_skb_vlan_push(skb, bpf_htons(IVDS_TPID_C), tci_of(sub->vid, pcp));
}

/* Sends a copy; a traced frame goes nowhere. */
INLINE int send_copy(struct __sk_buff *skb, __u32 ifindex)
{
	return IVDS_TRACING ? 0 : bpf_clone_redirect(skb, ifindex, 0);
}

/* What tc_switch() left in the scratch. */
INLINE __u32 pcp_of_flood(void)
{
	const struct ivds_scratch *s = scratch_of_cpu();

	return s ? s->pcp : 0;
}

static long flood_member(__u32 index, struct ivds_flood *flood)
{
	__u32 to = flood->next, reason;
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &to), *carrier;
	__u32 bytes = flood->bytes, has_tag;
	int inspected = IVDS_INSPECTED;

	(void)index;
	if (!to || !port)
		return 1;
	/* Read before the copy is sent; a member that leaves meanwhile keeps its link to the rest. */
	flood->next = port->next_member;
	if (to == flood->ingress)
		return 0;
	reason = check_vport(port, flood->instance_id, flood->l3_bytes, flood->guest_tagged);
	if (reason == IVDS_DROP_PORT_DOWN)
		return 0; /* not a member that a flood owes a copy */
	if (!reason && has_lists(port, IVDS_WAY_OUT)) {
		const struct ivds_scratch *s = scratch_of_cpu();

		if (judge_passing(to, flood->instance_id, IVDS_WAY_OUT))
			reason = IVDS_DROP_ACL_OUT;
		count_rule(s ? s->decision.rule : 0, flood->packets, flood->bytes);
	}
	if (!reason && port->rate[IVDS_WAY_OUT].ns_per_mib && over_rate(to, IVDS_WAY_OUT, flood->bytes, 0))
		reason = IVDS_DROP_RATE_OUT;
	carrier = carrier_of(port);
	has_tag = !reason && port->kind == IVDS_PORT_SUB;
	if (has_tag && tc_push_trunk(flood->skb, port, pcp_of_flood())) {
		reason = IVDS_DROP_TAG_FAILED;
		has_tag = 0;
	}
	if (!reason && port->inspector)
		inspected = inspect(flood->skb, to, IVDS_WAY_OUT);
	if (inspected == IVDS_INSPECT_NEVER)
		reason = IVDS_DROP_INSPECTOR;
	if (!reason && inspected == IVDS_INSPECTED && (!carrier || send_copy(flood->skb, carrier->ifindex)))
		reason = IVDS_DROP_REDIRECT;
	mirror_member(flood->skb, to, reason, 0);
	if (has_tag) {
		bpf_skb_vlan_pop(flood->skb);
		bytes += flood->packets * IVDS_TAG_BYTES;
	}
	if (reason) {
		count_drop(to, reason, flood->packets, flood->bytes);
		return 0;
	}
	count_tx(to, flood->packets, bytes);
	flood->sent++;
	return 0;
}

/* Sends the answer that make_answer() made of a question to who asked, as a copy of a flood is sent: what is dropped
 * on the way is dropped there. */
__noinline int send_answer(struct __sk_buff *skb, const struct ivds_question *q, int made)
{
	struct ivds_flood flood = {.skb = skb, .packets = 1};
	const struct ivds_port *port;
	struct ivds_scratch *s = scratch_of_cpu();
	__u32 id;

	barrier_var(skb);
	if (!q || !s)
		return 0;
	id = q->port;
	port = bpf_map_lookup_elem(&ports, &id);
	if (!port)
		return 0;
	flood.next = id;
	flood.instance_id = q->instance;
	flood.bytes = q->bytes;
	flood.l3_bytes = q->bytes - IVDS_ETH_BYTES;
	s->pcp = port->kind == IVDS_PORT_SUB ? tc_pcp(skb) & 7 : 0;
	if (made < 0 || read_fields_tc(skb, q->l3_at, q->type_be) ||
	    (port->kind == IVDS_PORT_SUB && bpf_skb_vlan_pop(skb)))
		count_drop(id, IVDS_DROP_TAG_FAILED, 1, q->bytes);
	else
		bpf_loop(1, flood_member, &flood, 0);
	return 0;
}

/* 1 where floods go to no peer on the instance's own VLAN, else 0; and the outer VLAN of the first copy, 0 where
 * there is none. Without branches: the verifier would follow both sides of them through all copies. */
INLINE __u32 skips_own(const struct ivds_instance *instance)
{
	_Static_assert(IVDS_IF_SKIP_OWN == 1 << 5, "the bit that is shifted");
	return instance->flags >> 5 & 1;
}

INLINE __u32 first_vlan(const struct ivds_instance *instance, __u32 skipped)
{
	_Static_assert(__builtin_offsetof(struct ivds_instance, peer_vlans) ==
			   __builtin_offsetof(struct ivds_instance, vlan) + 8,
		       "the one is eight bytes behind the other");
	return *(const __u16 *)__builtin_assume_aligned((const __u8 *)&instance->vlan + skipped * 8, 2);
}

/* Sends a copy of a flood by the uplink to the outer VLAN of the TCI, unless it is over the rate of who is there.
 * Returns 0 or the reason of a drop. */
INLINE __u32 send_to_peers(struct __sk_buff *skb, const struct ivds_instance *instance,
			   const struct ivds_flood *flood, __u32 ifindex, __u16 tci)
{
	if (instance->flags & IVDS_IF_PEER_RATES &&
	    over_peer_rate(flood->instance_id, (tci & 0xfff) << 1 | IVDS_WAY_OUT, flood->bytes, 0))
		return IVDS_DROP_RATE_PEER_OUT;
	return send_copy(skb, ifindex) ? IVDS_DROP_REDIRECT : 0;
}

/* The copies of a vPort's flood for the wire: one for each outer VLAN that peers are on, then one for plain
 * hosts; peers that get the last as well have learned its source by then, and drop it (plain_source). Where there is
 * nobody, nothing is sent. Returns how many were; the frame is of no further use. */
INLINE __u32 flood_wire(struct __sk_buff *skb, const struct ivds_instance *instance, const struct ivds_flood *flood,
			__u32 guest_tags, __u32 port_id)
{
	__u32 uplink_id = instance->uplink, reason, sent = 0;
	const struct ivds_port *uplink = bpf_map_lookup_elem(&ports, &uplink_id);
	const __u32 tags = instance->vvlan ? 2 : 1;
	const __u64 bytes = flood->bytes + flood->packets * tags * IVDS_TAG_BYTES;
	const __u32 pcp = pcp_of_flood();
	const __u16 vvlan = instance->vvlan ? tci_of(instance->vvlan, pcp) : 0;
	const __u32 skipped = skips_own(instance), first = first_vlan(instance, skipped);
	__u16 vlan = tci_of(first ?: instance->vlan, pcp);

	if (!uplink || !(uplink->flags & IVDS_PF_UP) || (!first && !(instance->flags & IVDS_IF_PLAIN_OUT)))
		return 0;
	reason = check_uplink(uplink, flood->l3_bytes, guest_tags + tags);
	if (reason) {
		count_drop(uplink_id, reason, flood->packets, flood->bytes);
		return 0;
	}
	if (tc_push_tags(skb, uplink, vlan, vvlan)) {
		count_drop(port_id, IVDS_DROP_TAG_FAILED, flood->packets, flood->bytes);
		return 0;
	}
	mirror_member(skb, uplink_id, 0, tags);
	for (__u32 i = 0; i <= IVDS_MAX_PEER_VLANS && first; i++) {
		if (i > 0) {
			const __u32 at = i - 1 + skipped;
			__be16 tci_be;

			vlan = at < IVDS_MAX_PEER_VLANS ? instance->peer_vlans[at] : 0;
			if (!vlan)
				break;
			vlan = tci_of(vlan, pcp);
			if (skb->vlan_present) {
				reason = bpf_skb_vlan_pop(skb) || tc_push_outer(skb, uplink, vlan);
			} else {
				tci_be = bpf_htons(vlan);
				reason = bpf_skb_store_bytes(skb, 14, &tci_be, 2, 0) != 0;
			}
			if (reason) {
				count_drop(port_id, IVDS_DROP_TAG_FAILED, flood->packets, flood->bytes);
				break;
			}
		}
		reason = send_to_peers(skb, instance, flood, uplink->ifindex, vlan);
		if (reason) {
			count_drop(uplink_id, reason, flood->packets, flood->bytes);
			continue;
		}
		count_tx(uplink_id, flood->packets, bytes);
		sent++;
	}
	if (!(instance->flags & IVDS_IF_PLAIN_OUT))
		return sent;
	if (flood->guest_tagged) { /* behind the outer VLAN alone, the guest's tag would be a V.VLAN's */
		count_drop(uplink_id, IVDS_DROP_GUEST_TAG_OUT, flood->packets, flood->bytes);
		return sent;
	}
	if (tc_pop_tags(skb, uplink, 2) || tc_push_tags(skb, uplink, tci_of(instance->vlan, pcp), 0)) {
		count_drop(port_id, IVDS_DROP_TAG_FAILED, flood->packets, flood->bytes);
		return sent;
	}
	reason = send_to_peers(skb, instance, flood, uplink->ifindex, instance->vlan);
	if (reason) {
		count_drop(uplink_id, reason, flood->packets, flood->bytes);
		return sent;
	}
	count_tx(uplink_id, flood->packets, bytes - flood->packets * IVDS_TAG_BYTES);
	return sent + 1;
}

/* Where the kernel copies a frame for generic XDP (it was shared, or had no headroom), it forgets how long the
 * Ethernet header is, and shows TC the frame without it (seen on 6.18). What TC then finds in place of the mark
 * that XDP left in metadata is the end of the header, which is still there. Returns nonzero where the header
 * cannot be brought back. */
static __noinline int tc_restore_header(struct __sk_buff *skb)
{
	const __u32 *mark = (void *)(long)skb->data_meta;
	__u32 found, header_end;
	__u8 eth[IVDS_ETH_BYTES];

	if ((const void *)(mark + 1) > (const void *)(long)skb->data || *mark == IVDS_XDP_MARK)
		return 0;
	found = *mark;
	if (bpf_skb_load_bytes_relative(skb, 0, eth, sizeof(eth), BPF_HDR_START_MAC))
		return -1;
	__builtin_memcpy(&header_end, eth + sizeof(eth) - sizeof(header_end), sizeof(header_end));
	if (found != header_end)
		return 0; /* somebody else's metadata */
	return bpf_skb_change_head(skb, sizeof(eth), 0) || bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0);
}

/* Sends the frame where quick_look() knows what becomes of it. Returns what the program then does; else 0, and the
 * frame is as it was. A global function, so that the verifier follows no side of it further. */
__noinline int tc_quick(struct __sk_buff *skb)
{
	const __u8 *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	const __u32 *mark = (void *)(long)skb->data_meta, bytes = skb->len;
	const __be16 old_be = bpf_htons(IVDS_TPID_OLD); /* which no helper knows */
	struct ivds_quick q;

	/* Metadata that is not our own mark may stand for a header that is gone: see tc_restore_header(). */
	if (IVDS_TRACING || skb->vlan_present || skb->gso_size ||
	    ((const __u8 *)(mark + 1) <= data && *mark != IVDS_XDP_MARK) ||
	    !quick_look(&q, data, data_end, skb->ifindex, bytes, IVDS_PF_UP))
		return 0;
	if (q.vlan) {
		const __u32 pcp = quick_pcp(&q);

		if (q.egress->outer_tpid_be == old_be || q.egress->inner_tpid_be == old_be)
			return 0;
		quick_judge(&q, bytes);
		if (bpf_skb_vlan_push(skb, q.egress->inner_tpid_be, tci_of(q.vvlan, pcp)) ||
		    bpf_skb_vlan_push(skb, q.egress->outer_tpid_be, tci_of(q.vlan, pcp))) {
			count_drop(q.port_id, IVDS_DROP_TAG_FAILED, 1, bytes);
			return IVDS_TC_DROP;
		}
		quick_count(&q, bytes, IVDS_TAGS_BYTES);
	} else {
		quick_judge(&q, bytes);
		quick_count(&q, bytes, 0);
	}
	return bpf_redirect(q.egress->ifindex, 0);
}

INLINE int tc_switch(struct __sk_buff *skb)
{
	__u32 in_metadata = skb->vlan_present ? IVDS_TAG_BYTES : 0;
	struct ivds_size size = {.packets = 1, .bytes = skb->len + in_metadata};
	const struct ivds_packet packet = {.ctx = skb, .is_xdp = 0};
	struct ivds_scratch *s;
	struct ivds_verdict v = {};
	const struct ivds_port *port, *carrier;
	struct ivds_frame f = {};
	__u32 ifindex = skb->ifindex, port_id, pcp;
	int wait_ns = 0, inspected;
	__u64 out_bytes;

	port = find_port(ifindex, &port_id);
	if (!port)
		return IVDS_TC_NEXT;
	if (port->kind == IVDS_PORT_NONE) {
		set_drop(&v, IVDS_DROP_NO_PORT, port_id);
		goto drop;
	}

	if (tc_restore_header(skb)) {
		set_drop(&v, IVDS_DROP_TRUNCATED, port_id);
		goto drop;
	}
	s = scratch_of_cpu();
	if (s)
		s->inspector = 0;
	if (port->kind == IVDS_PORT_INSPECTOR) {
		port_id = pass_inspector(skb, port_id);
		port = bpf_map_lookup_elem(&ports, &port_id);
		if (!port_id || !port)
			return IVDS_TC_DROP;
	}
	in_metadata = skb->vlan_present ? IVDS_TAG_BYTES : 0;
	size.packets = 1;
	size.bytes = skb->len + in_metadata;
	if (parse_skb(skb, &f)) {
		set_drop(&v, IVDS_DROP_TRUNCATED, port_id);
		goto drop;
	}
	size.l3_bytes = size.bytes - IVDS_ETH_BYTES - f.tags * IVDS_TAG_BYTES;
	if (skb->gso_size) {
		const __u32 eth = IVDS_ETH_BYTES + f.tags * IVDS_TAG_BYTES;
		const __u32 headers = gso_header_bytes(skb, eth - in_metadata);

		size.packets = skb->gso_segs ?: 1;
		size.bytes += (size.packets - 1) * (eth + headers);
		size.l3_bytes = headers + skb->gso_size;
	}
	if (may_enter_trunk(&f, port)) {
		port_id = enter_trunk(&f, port_id);
		port = bpf_map_lookup_elem(&ports, &port_id);
		if (!port)
			return IVDS_TC_DROP;
	}
	if (port->inspector) {
		inspected = inspect(skb, port_id, IVDS_WAY_IN);
		if (inspected == IVDS_INSPECT_GONE)
			return IVDS_TC_DROP;
		if (inspected != IVDS_INSPECTED) {
			read_fields(&v, &packet, &f); /* for those that watch drops */
			set_drop(&v, IVDS_DROP_INSPECTOR, port_id);
			goto drop;
		}
	}
	classify(&v, &packet, &f, &size, port_id, port);
	mirror_frame(skb, &v, &packet, &f, port_id);

	if (v.action == IVDS_ACT_DROP)
		goto drop;
	if (v.action == IVDS_ACT_HOST) {
		count_host(port_id, size.packets);
		return IVDS_TC_NEXT;
	}

	if (has_rate(&v, port)) {
		carrier = v.egress ? carrier_of(v.egress) : 0;
		wait_ns = over_rates(&v, &size, port_id, port,
				     carrier && carrier->flags & IVDS_PF_FQ && !v.egress->inspector);
		if (wait_ns < 0)
			goto drop;
	}
	/* While the tags are where they were: members of a flood may have rules. */
	if (v.action == IVDS_ACT_FLOOD && read_fields(&v, &packet, &f)) {
		set_drop(&v, IVDS_DROP_TRUNCATED, port_id);
		goto drop;
	}
	if (may_answer(&v, &f, port) && !skb->gso_size) {
		const struct ivds_question question = {.instance = v.instance_id,
						       .port = port_id,
						       .l3_at = f.l3_at,
						       .type_be = f.type_be,
						       .bytes = inner_bytes(&v, &size)};

		const int made = make_answer(skb, &question);

		if (made) {
			send_answer(skb, &question, made);
			v.action = IVDS_ACT_ANSWER;
			count_accepted(&v, &size, port_id, port);
			return IVDS_TC_DROP; /* the answer is on its way */
		}
	}
	pcp = !takes_pcp(&v) ? 0 : keeps_pcp(port) ? tc_pcp(skb) & 7 : port->pcp;
	note_mark(port, pcp);
	if (port->dscp && tc_mark(skb, f.l3_at, f.type_be, port->dscp)) {
		set_drop(&v, IVDS_DROP_TAG_FAILED, port_id);
		goto drop;
	}
	out_bytes = inner_bytes(&v, &size);
	if (port->kind == IVDS_PORT_SUB ? bpf_skb_vlan_pop(skb)
					: port->kind == IVDS_PORT_UPLINK && tc_pop_tags(skb, port, v.wire_tags)) {
		set_drop(&v, IVDS_DROP_TAG_FAILED, port_id);
		goto drop;
	}
	if (v.action == IVDS_ACT_FLOOD) {
		struct ivds_flood flood = {
		    .skb = skb,
		    .ingress = v.in_port,
		    .instance_id = v.instance_id,
		    .l3_bytes = size.l3_bytes,
		    .guest_tagged = v.guest_tagged,
		    .packets = size.packets,
		    .bytes = out_bytes,
		};

		if (!v.instance)
			return IVDS_TC_DROP;
		s = scratch_of_cpu();
		if (s)
			s->pcp = pcp;
		flood.next = v.instance->first_member;
		bpf_loop(IVDS_MAX_PORTS, flood_member, &flood, 0);
		if (port->kind != IVDS_PORT_UPLINK && v.instance->flags & IVDS_IF_WIRE)
			flood.sent += flood_wire(skb, v.instance, &flood, f.tags, port_id);
		if (!flood.sent) {
			v.mirrors |= s ? s->mirrored : 0;
			set_drop(&v, IVDS_DROP_LONE_FLOOD, port_id);
			goto drop;
		}
		count_accepted(&v, &size, port_id, port);
		return IVDS_TC_DROP; /* the copies are on their way */
	}

	if (!v.egress || !v.instance)
		return IVDS_TC_DROP;
	if (v.action == IVDS_ACT_WIRE) {
		const __u16 mark = v.is_straggler ? IVDS_TCI_DEI : 0;

		if (tc_push_tags(skb, v.egress, tci_of(v.vlan, pcp), v.vvlan ? tci_of(v.vvlan, pcp) | mark : 0)) {
			set_drop(&v, IVDS_DROP_TAG_FAILED, port_id);
			goto drop;
		}
		out_bytes += size.packets * (v.vvlan ? IVDS_TAGS_BYTES : IVDS_TAG_BYTES);
	} else if (v.egress->kind == IVDS_PORT_SUB) {
		if (tc_push_trunk(skb, v.egress, pcp)) {
			set_drop(&v, IVDS_DROP_TAG_FAILED, port_id);
			goto drop;
		}
		out_bytes += size.packets * IVDS_TAG_BYTES;
	}
	if (mirrors_out(&v))
		mirror_copies(skb, mirrors_out(&v),
			      mirror_mark(IVDS_DIRECTION_OUT, v.egress_id, 0,
					  v.action != IVDS_ACT_WIRE ? 0
					  : v.vvlan                 ? 2
								    : 1));
	if (v.egress->inspector) {
		inspected = inspect(skb, v.egress_id, IVDS_WAY_OUT);
		if (inspected == IVDS_INSPECT_NEVER) {
			set_drop(&v, IVDS_DROP_INSPECTOR, v.egress_id);
			goto drop;
		}
		if (inspected == IVDS_INSPECT_GONE) {
			count_accepted(&v, &size, port_id, port);
			count_tx(v.egress_id, size.packets, out_bytes);
			return IVDS_TC_DROP;
		}
	}
	count_accepted(&v, &size, port_id, port);
	count_tx(v.egress_id, size.packets, out_bytes);
	if (wait_ns > 0)
		bpf_skb_set_tstamp(skb, bpf_ktime_get_ns() + wait_ns, BPF_SKB_TSTAMP_DELIVERY_MONO);
	carrier = carrier_of(v.egress);
	return carrier ? bpf_redirect(carrier->ifindex, 0) : IVDS_TC_DROP;

drop:
	mirror_late_drop(skb, v.drop_port, v.reason, (__u64)v.mirrors_late << 32 | v.mirrors,
			 (__u32)f.l3_at << 16 | f.type_be);
	count_verdict(&v, &size, port_id);
	return IVDS_TC_DROP;
}

#endif
