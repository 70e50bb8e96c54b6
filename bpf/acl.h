/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * acl.h -- holds a frame against a list of rules (abi.h, acls): tuple-space search, one look-up for each combination
 * of fields that rules of the list look at, however many rules there are.
 */
#ifndef IVDS_ACL_H
#define IVDS_ACL_H

#include "count.h"
#include "fields.h"

/* Empties the scratch for a frame of `all` bytes whose L3 begins at `at`. Returns how much of L3 is to be copied, in
 * a form that every verifier sees is neither 0 nor too much; of an L3 of no bytes the copy fails. */
INLINE __u32 begin_fields(struct ivds_scratch *s, __u32 all, __u32 at)
{
	__u32 length = all > at ? all - at : 0;

	__builtin_memset(&s->fields, 0, sizeof(s->fields));
	if (length > IVDS_L3_BYTES)
		length = IVDS_L3_BYTES;
	s->l3.length = length;
	s->l3.l4_at = 0;
	length--;
	barrier_var(length);
	return (length & (IVDS_L3_BYTES - 1)) + 1;
}

/* The rest, from the copies of the MACs and of L3 that are in the scratch. */
INLINE void end_fields(struct ivds_scratch *s, __be16 type_be)
{
	copy_mac(s->fields.dst_mac, s->macs);
	copy_mac(s->fields.src_mac, s->macs + 6);
	parse_fields(&s->fields, &s->l3, type_be);
}

/* Global functions from here on: the verifier looks at each once, and not on every path that calls it. */

/* Reads the fields of the frame into the scratch. `at` is where L3 begins in the bytes. */
__noinline int read_fields_xdp(struct xdp_md *ctx, __u32 at, __u32 type_be)
{
	struct ivds_scratch *s = scratch_of_cpu();
	__u32 length;

	if (!s)
		return -1;
	length = begin_fields(s, bpf_xdp_get_buff_len(ctx), at);
	if (bpf_xdp_load_bytes(ctx, at, s->l3.bytes, length))
		s->l3.length = 0;
	if (bpf_xdp_load_bytes(ctx, 0, s->macs, sizeof(s->macs)))
		return -1;
	end_fields(s, type_be);
	return 0;
}

__noinline int read_fields_tc(struct __sk_buff *skb, __u32 at, __u32 type_be)
{
	struct ivds_scratch *s = scratch_of_cpu();
	__u32 length;

	if (!s)
		return -1;
	length = begin_fields(s, skb->len, at);
	if (bpf_skb_load_bytes(skb, at, s->l3.bytes, length))
		s->l3.length = 0;
	if (bpf_skb_load_bytes(skb, 0, s->macs, sizeof(s->macs)))
		return -1;
	end_fields(s, type_be);
	return 0;
}

struct ivds_acl_walk {
	__u32 acl;
	__u32 order; /* of the best rule so far */
};

/* What the mask looks at of the target, in the place of the header's destination. */
INLINE void put_nd_target(struct ivds_fields *to, const __u32 *target, const struct ivds_fields *mask)
{
	__u32 *out = __builtin_assume_aligned(to->dst, 4);
	const __u32 *looked_at = __builtin_assume_aligned(mask->dst, 4);

	_Static_assert(__builtin_offsetof(struct ivds_fields, dst) % 4 == 0, "the address is masked word by word");
#pragma unroll
	for (int i = 0; i < 4; i++)
		out[i] = target[i] & looked_at[i];
}

/* Looks for the frame under one mask of the list. */
static long acl_step(__u32 index, struct ivds_acl_walk *walk)
{
	struct ivds_acl_mask_key at = {.acl = walk->acl, .index = index};
	const struct ivds_acl_mask *mask = bpf_map_lookup_elem(&acl_masks, &at);
	struct ivds_scratch *s = scratch_of_cpu();
	const struct ivds_acl_rule *rule;
	struct ivds_acl_key *key;

	/* Masks are sorted by their first rule: none behind this one can be before the best so far. */
	if (!mask || !s || mask->first >= walk->order)
		return 1;
	key = &s->rule_key;
	key->acl = walk->acl;
	key->mask = index;
#pragma unroll
	for (unsigned i = 0; i < sizeof(key->fields) / 8; i++)
		((__u64 *)&key->fields)[i] = ((const __u64 *)&s->fields)[i] & ((const __u64 *)&mask->fields)[i];
	if (mask->flags & IVDS_AM_ND_TARGET)
		put_nd_target(&key->fields, s->l3.nd_target, &mask->fields);
	rule = bpf_map_lookup_elem(&acl_rules, key);
	if (rule && rule->order < walk->order) {
		walk->order = rule->order;
		s->decision.rule = rule->rule;
		s->decision.target = rule->target;
		s->decision.mirrors = rule->mirrors;
		s->decision.action = rule->action;
		s->decision.flags = rule->flags;
	}
	return 0;
}

/* Holds the frame in the scratch against the list and puts there what it decides. */
__noinline int ask_list(__u32 acl)
{
	struct ivds_acl_walk walk = {.acl = acl, .order = 0xffffffff};
	const struct ivds_acl *list = bpf_map_lookup_elem(&acls, &acl);
	struct ivds_scratch *s = scratch_of_cpu();

	if (!list || !s)
		return -1;
	__builtin_memset(&s->decision, 0, sizeof(s->decision));
	s->decision.action = IVDS_ACL_DROP;
	/* More tags than are read: nobody can tell what is behind them, so no list lets it pass. */
	if (is_tag(s->fields.type_be))
		return 0;
	if (list->default_action)
		s->decision.action = list->default_action;
	bpf_loop(list->masks, acl_step, &walk, 0);
	note(IVDS_TRACE_ACL, acl, s->decision.rule, s->decision.action, s->decision.flags);
	return 0;
}

/* Counts what a rule decided; 0 is a list's default. */
__noinline int count_rule(__u32 rule, __u64 packets, __u64 bytes)
{
	/* Used in every build: for arguments that one leaves unused the compiler passes nothing, which the verifier
	 * of a global function refuses. */
	barrier_var(rule);
	barrier_var(packets);
	barrier_var(bytes);
	return rule && !IVDS_TRACING ? add_rule_count(rule, packets, bytes, bpf_ktime_get_ns()) : 0;
}

#endif
