/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judge.h -- asks a vPort's lists about a frame, from the cheapest to the dearest: what this CPU decided about the
 * flow in this tick (recent.h), the flow's entry (flow.h), the list itself (acl.h).
 */
#ifndef IVDS_JUDGE_H
#define IVDS_JUDGE_H

#include "recent.h"

INLINE __u32 judge_frame(const struct ivds_packet *packet, struct ivds_ask *ask)
{
	const __u32 way = ask->way & 1, refused = way == IVDS_WAY_IN ? IVDS_DROP_ACL : IVDS_DROP_ACL_OUT;
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flow_detail detail = {};
	struct ivds_recent *recent = 0;
	const struct ivds_port_state *ps;
	const struct ivds_port *port;
	struct ivds_judged *judged;
	struct ivds_flow *flow = 0;
	__u64 now_ns = 0;
	__u32 port_id = ask->port, kind, at, is_full = 0;
	int decided = 0;

	port = bpf_map_lookup_elem(&ports, &port_id);
	if (!s || !port)
		return refused;
	judged = way == IVDS_WAY_IN ? &s->judged[IVDS_WAY_IN] : &s->judged[IVDS_WAY_OUT];
	judged->rule = 0;
	judged->recent = 0;
	judged->is_apart = 0;
	if (make_recent_key(&s->recent, packet, ask)) {
		at = slot_of(&s->recent);
		ps = bpf_map_lookup_elem(&port_state, &port_id);
		if (!ps)
			return refused;
		recent = bpf_map_lookup_elem(&recents, &at);
		if (recent && recent_holds(recent, &s->recent, port, ps, bpf_jiffies64())) {
			recent->packets += ask->packets;
			recent->bytes += ask->bytes;
			judged->recent = 1 + at;
			s->decision = recent->decision;
			return s->decision.action == IVDS_ACL_DROP ? refused : 0;
		}
		make_whole_key(&judged->key, &s->recent);
		flow = bpf_map_lookup_elem(&flows, &judged->key);
		if (flow) {
			now_ns = time_of_frame(flow);
			detail.proto = s->recent.proto;
			detail.tcp_flags = s->recent.tcp_flags;
			decided = flow_holds(flow, port, way, &detail, now_ns);
		} else if (!acl_of(port, way)) {
			/* No answer of a connection, and there is no list for what is none. */
			__builtin_memset(&s->decision, 0, sizeof(s->decision));
			return 0;
		}
	}
	if (decided) {
		get_way(s, way_of(flow, decided - 1));
		if (recent)
			keep_recent(recent, decided - 1);
	} else {
		judged->key.port = 0;
		__builtin_memset(&s->decision, 0, sizeof(s->decision));
		if (!ask->has_fields) {
			ask->has_fields = 1;
			if (packet->is_xdp ? read_fields_xdp(packet->ctx, ask->l3_at, ask->type_be)
					   : read_fields_tc(packet->ctx, ask->l3_at, ask->type_be))
				return refused;
		}
		kind = make_flow_key(port_id, ask->instance, way);
		if (!judge_known(port_id, way, kind))
			is_full = judge_anew(port_id, ask->instance, way, kind, 0);
		flow = kind == IVDS_FLOW_WHOLE ? bpf_map_lookup_elem(&flows, &s->key) : 0;
		if (flow) {
			judged->key = s->key;
			now_ns = time_of_frame(flow);
		}
	}
	if (!IVDS_TRACING) {
		const __u32 rule = s->decision.rule;

		if (!flow || !count_flow(flow, way, rule, ask->packets, ask->bytes, now_ns)) {
			judged->rule = rule;
			judged->is_apart = 1;
			count_rule(rule, ask->packets, ask->bytes);
		}
	}
	if (is_full)
		return way == IVDS_WAY_IN ? IVDS_DROP_FLOW_LIMIT : IVDS_DROP_FLOW_LIMIT_OUT;
	return s->decision.action == IVDS_ACL_DROP ? refused : 0;
}

/* What the vPort's lists say of the frame, which is counted for the rule and the flow that decided. Returns 0 or the
 * reason of a drop; the decision is in the scratch. */
__noinline int judge_xdp(struct xdp_md *ctx, struct ivds_ask *ask)
{
	const struct ivds_packet packet = {.ctx = ctx, .is_xdp = 1};

	return ask ? judge_frame(&packet, ask) : (__u32)IVDS_DROP_ACL;
}

__noinline int judge_tc(struct __sk_buff *skb, struct ivds_ask *ask)
{
	const struct ivds_packet packet = {.ctx = skb, .is_xdp = 0};

	return ask ? judge_frame(&packet, ask) : (__u32)IVDS_DROP_ACL;
}

/* Takes back what was counted when the frame was judged last, that way. */
__noinline int take_back(__u32 way, __u32 packets, __u32 bytes)
{
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_recent *recent;
	struct ivds_judged *judged;
	struct ivds_rule_count *count;
	struct ivds_flow *flow;
	__u32 at;

	barrier_var(way);
	barrier_var(packets);
	barrier_var(bytes);
	if (!s || IVDS_TRACING)
		return 0;
	judged = way == IVDS_WAY_IN ? &s->judged[IVDS_WAY_IN] : &s->judged[IVDS_WAY_OUT];
	if (judged->recent) {
		at = judged->recent - 1;
		recent = bpf_map_lookup_elem(&recents, &at);
		if (recent) {
			recent->packets -= packets;
			recent->bytes -= bytes;
		}
		return 0;
	}
	count = bpf_map_lookup_elem(&rule_stats, &judged->rule);
	if (count) {
		count->packets -= packets;
		count->bytes -= bytes;
	}
	flow = bpf_map_lookup_elem(&flows, &judged->key);
	if (flow) {
		struct ivds_flow_way *w = way_of(flow, way);

		/* An entry that was replaced since has never counted the frame. */
		if (w->packets >= packets && w->bytes >= bytes) {
			__sync_fetch_and_add(&w->packets, -(__u64)packets);
			__sync_fetch_and_add(&w->bytes, -(__u64)bytes);
			if (judged->is_apart) {
				__sync_fetch_and_add(&w->told_packets, -(__u64)packets);
				__sync_fetch_and_add(&w->told_bytes, -(__u64)bytes);
			}
		}
	}
	return 0;
}

#endif
