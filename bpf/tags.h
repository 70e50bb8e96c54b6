/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tags.h -- tags put on and taken off by TC, where the kernel keeps the first of a frame's beside its bytes.
 */
#ifndef IVDS_TAGS_H
#define IVDS_TAGS_H

#include "classify.h"

/* `vlan` and `vvlan` are tags' control information from here on: the VID, and the PCP above it. */

/* Puts the outer tag in front of the V.VLAN tag that is in skb metadata. The kernel's helpers know no TPID
 * 0x9100: a V.VLAN tag of that kind was pushed as a known one and gets its name where it now is. */
INLINE int tc_push_outer(struct __sk_buff *skb, const struct ivds_port *uplink, __u16 vlan)
{
	const __be16 old_be = bpf_htons(IVDS_TPID_OLD);

	if (bpf_skb_vlan_push(skb, uplink->outer_tpid_be, vlan))
		return -1;
	return uplink->inner_tpid_be == old_be ? bpf_skb_store_bytes(skb, 12, &old_be, 2, 0) : 0;
}

/* Guest tags in a row that tc_write_tags() can carry; with more the frame drops (tag_failed). */
#define IVDS_GUEST_TAGS 8

/* Puts two tags into the bytes, and behind them those of the guest's that are in skb metadata, one after the other
 * as the kernel pops them: what is left there ends up in front of all on the wire. */
static __noinline int tc_write_tags(struct __sk_buff *skb, __be16 outer_be, __u16 outer_tci, __be16 inner_be,
				    __u16 inner_tci)
{
	__be16 tags[4 + 2 * IVDS_GUEST_TAGS] = {outer_be, bpf_htons(outer_tci), inner_be, bpf_htons(inner_tci)};
	__u32 bytes = IVDS_TAGS_BYTES;
	__u8 macs[12];

#pragma unroll
	for (int i = 0; i < IVDS_GUEST_TAGS; i++) {
		if (!skb->vlan_present)
			break;
		tags[4 + 2 * i] = skb->vlan_proto;
		tags[5 + 2 * i] = bpf_htons(skb->vlan_tci);
		bytes += IVDS_TAG_BYTES;
		if (bpf_skb_vlan_pop(skb))
			return -1;
	}
	if (skb->vlan_present || bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) ||
	    bpf_skb_change_head(skb, bytes, 0) || bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return -1;
	barrier_var(bytes);
	if (bytes < IVDS_TAGS_BYTES || bytes > sizeof(tags))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(macs), tags, bytes, 0);
}

/* Puts the V.VLAN tag, if vvlan is not 0, and the outer tag in front of what the guest sent. */
static __noinline int tc_push_tags(struct __sk_buff *skb, const struct ivds_port *uplink, __u16 vlan, __u16 vvlan)
{
	const __be16 old_be = bpf_htons(IVDS_TPID_OLD);
	const __be16 inner_be = uplink->inner_tpid_be == old_be ? bpf_htons(IVDS_TPID_C) : uplink->inner_tpid_be;

	if (!vvlan) /* abi.h leaves out the outer TPID 0x9100 here, which the helper refuses */
		return bpf_skb_vlan_push(skb, uplink->outer_tpid_be, vlan);
	if (uplink->outer_tpid_be != old_be)
		return bpf_skb_vlan_push(skb, inner_be, vvlan) ?: tc_push_outer(skb, uplink, vlan);

	return tc_write_tags(skb, uplink->outer_tpid_be, vlan, uplink->inner_tpid_be, vvlan);
}

/* Takes one or two tags off, wherever they are, of types that the kernel pops none of. Two tags more bring every tag
 * into the bytes behind a known one; there ours are renamed; the pops then take off the helpers' tags first. */
static __noinline int tc_pop_any(struct __sk_buff *skb, __u32 tags)
{
	const __be16 known_be = bpf_htons(IVDS_TPID_C);

	if (bpf_skb_vlan_push(skb, known_be, 1) || bpf_skb_vlan_push(skb, known_be, 1) ||
	    bpf_skb_store_bytes(skb, 16, &known_be, 2, BPF_F_RECOMPUTE_CSUM) ||
	    (tags == 2 && bpf_skb_store_bytes(skb, 20, &known_be, 2, BPF_F_RECOMPUTE_CSUM)) ||
	    bpf_skb_vlan_pop(skb) || bpf_skb_vlan_pop(skb))
		return -1;
	return bpf_skb_vlan_pop(skb) ?: tags == 2 ? bpf_skb_vlan_pop(skb) : 0;
}

/* Takes the outer tag off, and the V.VLAN tag where there are two, wherever they are. */
INLINE int tc_pop_tags(struct __sk_buff *skb, const struct ivds_port *uplink, __u32 tags)
{
	if (uplink->outer_tpid_be == bpf_htons(IVDS_TPID_OLD) || uplink->inner_tpid_be == bpf_htons(IVDS_TPID_OLD))
		return tc_pop_any(skb, tags);
	return bpf_skb_vlan_pop(skb) ?: tags == 2 ? bpf_skb_vlan_pop(skb) : 0;
}

#endif
