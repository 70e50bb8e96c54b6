/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * xdp.h -- the XDP front end: known unicast, one copy, in place. What needs a copy, what may be a GSO
 * frame and what is not linear goes up to TC, if TC is there; a tenant's frame goes nowhere else.
 */
#ifndef IVDS_XDP_H
#define IVDS_XDP_H

#include "mark.h"
#include "quick.h"
#include "rate.h"

/* The first twelve bytes of a frame: both MAC addresses. */
struct ivds_macs {
	__u64 low;
	__u32 high;
} __attribute__((packed, aligned(2)));

struct ivds_wire_tags {
	__be16 outer_tpid_be;
	__be16 vlan_be;
	__be16 inner_tpid_be;
	__be16 vvlan_be;
};

INLINE int xdp_push_tags(struct xdp_md *ctx, const struct ivds_wire_tags *tags)
{
	struct ivds_macs macs;
	void *data, *data_end;

	if (bpf_xdp_adjust_head(ctx, -(int)IVDS_TAGS_BYTES))
		return -1;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + IVDS_TAGS_BYTES + sizeof(macs) > data_end)
		return -1;
	__builtin_memcpy(&macs, data + IVDS_TAGS_BYTES, sizeof(macs));
	__builtin_memcpy(data, &macs, sizeof(macs));
	__builtin_memcpy(data + sizeof(macs), tags, sizeof(*tags));
	return 0;
}

INLINE int xdp_pop_tags(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ivds_macs macs;

	if (data + IVDS_TAGS_BYTES + sizeof(macs) > data_end)
		return -1;
	__builtin_memcpy(&macs, data, sizeof(macs));
	__builtin_memcpy(data + IVDS_TAGS_BYTES, &macs, sizeof(macs));
	return bpf_xdp_adjust_head(ctx, IVDS_TAGS_BYTES);
}

/* Hands a frame up to TC, with a mark in front of it in metadata: see tc_restore_header(). */
INLINE int xdp_pass_to_tc(struct xdp_md *ctx)
{
	__u32 *mark;

	note(IVDS_TRACE_TO_TC, 0, 0, 0, 0);
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*mark)) == 0) {
		mark = (void *)(long)ctx->data_meta;
		if ((void *)(mark + 1) <= (void *)(long)ctx->data)
			*mark = IVDS_XDP_MARK;
	}
	return XDP_PASS;
}

/* Whether the frame carries that mark: the program that put it there has decided already. */
INLINE int xdp_passed_to_tc(struct xdp_md *ctx)
{
	const __u32 *mark = (void *)(long)ctx->data_meta;

	return (const void *)(mark + 1) <= (const void *)(long)ctx->data && *mark == IVDS_XDP_MARK;
}

/* What is looked at of the kernel's own view of a frame (net/xdp.h, 5.18 and later). */
struct xdp_buff___ivds {
	__u32 flags;
} __attribute__((preserve_access_index));
#define IVDS_XDP_HAS_FRAGS 0x1u

extern void *bpf_cast_to_kern_ctx(void *ctx) __weak __ksym; /* since 6.2 */

/* Whether the frame is in one piece, as nearly all are: no call is needed to tell. */
INLINE int xdp_is_whole(struct xdp_md *ctx)
{
	if (bpf_ksym_exists(bpf_cast_to_kern_ctx)) {
		const struct xdp_buff___ivds *buff = bpf_cast_to_kern_ctx(ctx);

		return !(buff->flags & IVDS_XDP_HAS_FRAGS);
	}
	return bpf_xdp_get_buff_len(ctx) == ctx->data_end - ctx->data;
}

/* Its length. */
INLINE __u32 xdp_length(struct xdp_md *ctx)
{
	return xdp_is_whole(ctx) ? ctx->data_end - ctx->data : bpf_xdp_get_buff_len(ctx);
}

/* Sends the frame where quick_look() knows what becomes of it: XDP_REDIRECT. Else it returns 0, and the frame is as
 * it was. */
INLINE int xdp_quick(struct xdp_md *ctx)
{
	const __u8 *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const __u32 bytes = data_end - data;
	struct ivds_quick q;

	if (IVDS_TRACING || !xdp_is_whole(ctx) ||
	    !quick_look(&q, data, data_end, ctx->ingress_ifindex, bytes, IVDS_PF_UP | IVDS_PF_XDP_TARGET) ||
	    bpf_redirect_map(&tx, q.egress_id, XDP_DROP) != XDP_REDIRECT)
		return 0;
	if (q.vlan) {
		const __u32 pcp = quick_pcp(&q);
		const struct ivds_wire_tags tags = {
		    .outer_tpid_be = q.egress->outer_tpid_be,
		    .vlan_be = bpf_htons(tci_of(q.vlan, pcp)),
		    .inner_tpid_be = q.egress->inner_tpid_be,
		    .vvlan_be = bpf_htons(tci_of(q.vvlan, pcp)),
		};

		if (xdp_push_tags(ctx, &tags))
			return 0;
		quick_judge(&q, bytes);
		quick_count(&q, bytes, IVDS_TAGS_BYTES);
		return XDP_REDIRECT;
	}
	quick_judge(&q, bytes);
	quick_count(&q, bytes, 0);
	return XDP_REDIRECT;
}

INLINE int xdp_switch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const __u32 bytes = xdp_length(ctx);
	const struct ivds_tag no_meta = {};
	struct ivds_size size = {.packets = 1, .bytes = bytes};
	const struct ivds_packet packet = {.ctx = ctx, .is_xdp = 1};
	struct ivds_verdict v = {};
	const struct ivds_port *port;
	struct ivds_frame f = {};
	__u32 ifindex = ctx->ingress_ifindex, port_id, pcp;
	__u64 out_bytes;

	port = find_port(ifindex, &port_id);
	if (!port)
		return XDP_PASS;
	if (port->inspector) {
		if (port->flags & IVDS_PF_TC)
			return xdp_pass_to_tc(ctx);
		count_drop(port_id, IVDS_DROP_NO_TC, 1, bytes);
		return XDP_DROP;
	}
	if (port->kind == IVDS_PORT_NONE) {
		count_drop(port_id, IVDS_DROP_NO_PORT, 1, bytes);
		return XDP_DROP;
	}
	if (parse_frame(&f, data, data_end, no_meta)) {
		if (data_end - data < bytes)
			goto to_tc;
		set_drop(&v, IVDS_DROP_TRUNCATED, port_id);
		goto drop;
	}
	size.l3_bytes = bytes - IVDS_ETH_BYTES - f.tags * IVDS_TAG_BYTES;
	if (may_enter_trunk(&f, port))
		goto to_tc;
	classify(&v, &packet, &f, &size, port_id, port);
	if ((v.mirrors | mirrors_out(&v)) && port->flags & IVDS_PF_TC)
		goto to_tc; /* XDP cannot copy */

	if (v.action == IVDS_ACT_DROP)
		goto drop;
	if (v.action == IVDS_ACT_HOST) {
		if (!(port->flags & IVDS_PF_TC)) {
			count_host(port_id, 1);
			return XDP_PASS; /* an uplink without TC: the host's frames are the host's all the same */
		}
		return xdp_pass_to_tc(ctx);
	}
	if (v.action == IVDS_ACT_FLOOD || !v.egress || !(v.egress->flags & IVDS_PF_XDP_TARGET) ||
	    v.egress->inspector || v.wire_tags == 1 || v.is_straggler || (v.action == IVDS_ACT_WIRE && !v.vvlan) ||
	    data_end - data < bytes)
		goto to_tc;
	if (has_rate(&v, port)) {
		if (v.egress->flags & IVDS_PF_FQ)
			goto to_tc; /* XDP passes no qdisc … */
		if ((port->mirror_drop | v.egress->mirror_drop) && port->flags & IVDS_PF_TC)
			goto to_tc; /* … and cannot copy what is over a rate */
		if (over_rates(&v, &size, port_id, port, 0) < 0)
			goto drop;
	}
	pcp = takes_pcp(&v) ? xdp_pcp(ctx, port) : 0;
	note_mark(port, pcp);
	xdp_mark(ctx, &f, port);

	out_bytes = bytes;
	if (v.action == IVDS_ACT_WIRE) {
		struct ivds_wire_tags tags = {
		    .outer_tpid_be = v.egress->outer_tpid_be,
		    .vlan_be = bpf_htons(tci_of(v.vlan, pcp)),
		    .inner_tpid_be = v.egress->inner_tpid_be,
		    .vvlan_be = bpf_htons(tci_of(v.vvlan, pcp)),
		};

		if (xdp_push_tags(ctx, &tags))
			goto to_tc; /* no headroom; the frame is as it was */
		out_bytes += IVDS_TAGS_BYTES;
	} else if (port->kind == IVDS_PORT_UPLINK) {
		if (xdp_pop_tags(ctx)) {
			set_drop(&v, IVDS_DROP_TAG_FAILED, port_id);
			goto drop;
		}
		out_bytes -= IVDS_TAGS_BYTES;
	}
	if (bpf_redirect_map(&tx, v.egress_id, XDP_DROP) != XDP_REDIRECT) {
		set_drop(&v, IVDS_DROP_REDIRECT, v.egress_id);
		goto drop;
	}
	count_accepted(&v, &size, port_id, port);
	count_tx(v.egress_id, 1, out_bytes);
	return XDP_REDIRECT;

drop:
	/* TC knows whether a frame that looks too large will be cut into segments. */
	if ((v.reason == IVDS_DROP_OVERSIZE || v.reason == IVDS_DROP_OVERSIZE_OUT) && port->flags & IVDS_PF_TC)
		goto to_tc;
	count_verdict(&v, &size, port_id);
	return XDP_DROP;
to_tc:
	unjudge(&v, &size);
	if (port->flags & IVDS_PF_TC)
		return xdp_pass_to_tc(ctx);
	count_drop(port_id, IVDS_DROP_NO_TC, 1, bytes);
	return XDP_DROP;
}

#endif
