/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h -- what a vPort's lists said of a flow is remembered in its flow table (abi.h, flows): a known flow costs
 * one look-up, however many rules there are; a new one is held against the list. Connections that a stateful rule
 * opened are followed here.
 */
#ifndef IVDS_FLOW_H
#define IVDS_FLOW_H

#include "acl.h"

#define IVDS_TCP_FIN 0x01
#define IVDS_TCP_SYN 0x02
#define IVDS_TCP_RST 0x04
#define IVDS_TCP_ACK 0x10

#define IVDS_ICMP_ECHO   8
#define IVDS_ICMP_REPLY  0
#define IVDS_ICMP6_ECHO  128
#define IVDS_ICMP6_REPLY 129

/* What find_flow says of the frame. */
#define IVDS_FLOW_NONE     0 /* no flow: ARP and its like in IPv6, later fragments, headers that cannot be read */
#define IVDS_FLOW_FRAGMENT 1 /* belongs to one, and is not all of its datagram */
#define IVDS_FLOW_WHOLE    2

INLINE __u32 acl_of(const struct ivds_port *port, __u32 way)
{
	return way == IVDS_WAY_IN ? port->acl_in : port->acl_out;
}

INLINE int is_icmp(const struct ivds_fields *f)
{
	return f->type_be == bpf_htons(IVDS_TYPE_IPV4) ? f->proto == IVDS_IP_ICMP : f->proto == IVDS_IP_ICMPV6;
}

/* Unreachable, time exceeded, parameter problem (RFC 792); the error messages of RFC 4443, packet too big among them.
 */
INLINE int is_icmp_error(const struct ivds_fields *f)
{
	if (!is_icmp(f))
		return 0;
	if (f->type_be == bpf_htons(IVDS_TYPE_IPV4))
		return f->icmp_type == 3 || f->icmp_type == 11 || f->icmp_type == 12;
	return f->icmp_type >= 1 && f->icmp_type <= 4;
}

/* Exchanges source and destination on the way from one struct to another. */
INLINE void copy_fields(struct ivds_fields *to, const struct ivds_fields *from, int is_turned)
{
	*to = *from;
	if (!is_turned)
		return;
	copy_mac(to->src_mac, from->dst_mac);
	copy_mac(to->dst_mac, from->src_mac);
	__builtin_memcpy(to->src, from->dst, sizeof(to->src));
	__builtin_memcpy(to->dst, from->src, sizeof(to->dst));
	to->sport_be = from->dport_be;
	to->dport_be = from->sport_be;
}

/* Makes the key of the frame's entry in the scratch. */
__noinline int make_flow_key(__u32 port, __u32 instance, __u32 way)
{
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_fields *key;
	__u32 at;

	if (!s || s->fields.unknown & (IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN) ||
	    (s->fields.type_be != bpf_htons(IVDS_TYPE_IPV4) && s->fields.type_be != bpf_htons(IVDS_TYPE_IPV6)) ||
	    is_neighbour_discovery(&s->fields)) /* two of one flow may be about different targets */
		return IVDS_FLOW_NONE;
	key = &s->key.fields;
	copy_fields(key, &s->fields, way == IVDS_WAY_OUT);
	key->tcp_flags = 0;
	key->unknown = 0;
	if (is_icmp(key)) {
		const __u8 echo = key->proto == IVDS_IP_ICMP ? IVDS_ICMP_ECHO : IVDS_ICMP6_ECHO;
		const __u8 reply = key->proto == IVDS_IP_ICMP ? IVDS_ICMP_REPLY : IVDS_ICMP6_REPLY;

		if (key->icmp_type == echo || key->icmp_type == reply) {
			at = s->l3.l4_at;
			barrier_var(at);
			if (at + IVDS_ICMP_BYTES > s->l3.length || at > IVDS_L3_BYTES - IVDS_ICMP_BYTES)
				return IVDS_FLOW_NONE;
			key->icmp_type = echo;
			key->sport_be = l3_word(&s->l3, at + 4);
			key->dport_be = key->sport_be;
		}
	}
	s->key.port = port;
	s->key.instance = instance;
	return s->fields.unknown ? IVDS_FLOW_FRAGMENT : IVDS_FLOW_WHOLE;
}

/* How long the connection may be silent. */
INLINE __u64 idle_limit_ns(const struct ivds_flow *flow, __u8 proto)
{
	__u64 limit_s = IVDS_FLOW_OPEN_S;

	if (flow->state == IVDS_FLOW_OPENING)
		limit_s = IVDS_FLOW_OPENING_S;
	else if (flow->state == IVDS_FLOW_CLOSING)
		limit_s = IVDS_FLOW_CLOSING_S;
	else if (flow->state == IVDS_FLOW_VERDICT)
		limit_s = IVDS_FLOW_VERDICT_S;
	else if (proto == IVDS_IP_TCP)
		limit_s = IVDS_FLOW_TCP_OPEN_S;
	return limit_s * 1000000000ULL;
}

/* With 0 as the time, which is none, no entry is. */
INLINE int is_idle(const struct ivds_flow *flow, __u8 proto, __u64 now_ns)
{
	const __u64 seen_ns = flow->last_seen_ns;

	return now_ns > seen_ns && now_ns - seen_ns > idle_limit_ns(flow, proto);
}

/* The port whose interface the port's frames leave by: a trunk's for those behind it. */
INLINE const struct ivds_port *carrier_of(const struct ivds_port *port)
{
	__u32 trunk = port->peer;

	return port->kind == IVDS_PORT_SUB ? bpf_map_lookup_elem(&ports, &trunk) : port;
}

INLINE int is_up(__u32 id)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &id);
	const struct ivds_port *carrier = port ? carrier_of(port) : 0;

	return carrier && port->flags & carrier->flags & IVDS_PF_UP;
}

/* The way of an entry, in a form that the verifier follows. */
INLINE struct ivds_flow_way *way_of(struct ivds_flow *flow, __u32 way)
{
	barrier_var(way);
	return &flow->way[way & 1];
}

/* What the CPUs know of the port's flows from earlier in this tick holds no more (recent.h). */
INLINE void forget_recent(__u32 port)
{
	struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);

	if (ps)
		__sync_fetch_and_add(&ps->flow_epoch, 1);
}

/* What of a frame is not in its flow's key, and may matter all the same. */
struct ivds_flow_detail {
	__u8 proto;
	__u8 tcp_flags; /* 0: none, or not TCP */
	__u16 icmp;     /* type << 8 | code */
};

/* Whether the entry says what becomes of the frame with no more ado: 0, or 1 + the enum ivds_way whose decision it
 * is. */
INLINE int flow_holds(struct ivds_flow *flow, const struct ivds_port *port, __u32 way,
		      const struct ivds_flow_detail *detail, __u64 now_ns)
{
	const struct ivds_flow_way *w;

	if (flow->state == IVDS_FLOW_VERDICT) {
		w = way_of(flow, way);
		if (detail->proto == IVDS_IP_TCP) {
			if ((detail->tcp_flags & (w->detail >> 8)) != (w->detail & 0xff))
				return 0;
		} else if (w->detail != detail->icmp) {
			return 0;
		}
	} else {
		if (flow->state == IVDS_FLOW_CLOSING || (flow->state == IVDS_FLOW_OPENING && way != flow->opener) ||
		    detail->tcp_flags & (IVDS_TCP_SYN | IVDS_TCP_FIN | IVDS_TCP_RST) ||
		    is_idle(flow, detail->proto, now_ns))
			return 0;
		way = flow->opener & 1;
		w = way_of(flow, way);
	}
	if (w->acl != (way == IVDS_WAY_IN ? port->acl_in : port->acl_out) || (w->pool && !is_up(w->target)))
		return 0;
	return 1 + (int)way;
}

/* The rule that frames which go this way are counted for: of a connection, that which let it through. */
INLINE __u32 rule_of_flow(struct ivds_flow *flow, __u32 way)
{
	return way_of(flow, flow->state == IVDS_FLOW_VERDICT ? way : flow->opener)->rule;
}

/* How much is still to be told; now it counts as told. 0 where somebody else is telling it. */
INLINE __u64 take_owed(__u64 *told, __u64 counted)
{
	const __u64 before = *told;

	if (before == counted || __sync_val_compare_and_swap(told, before, counted) != before)
		return 0;
	return counted - before;
}

/* Tells the rule of the frames that it does not know of yet, the last of them at seen_ns. What was taken back from
 * the way since is taken back from the rule: the difference wraps. */
INLINE void tell_rule(struct ivds_flow_way *w, __u32 rule, __u64 seen_ns)
{
	const __u64 packets = take_owed(&w->told_packets, w->packets), bytes = take_owed(&w->told_bytes, w->bytes);

	if (rule && packets | bytes && add_rule_count(rule, packets, bytes, seen_ns)) {
		__sync_fetch_and_add(&w->told_packets, -packets); /* another time */
		__sync_fetch_and_add(&w->told_bytes, -bytes);
	}
}

/* Both ways' rules: before the entry has others, or is gone. */
__noinline int tell_rules(struct ivds_flow *flow)
{
	if (!flow || IVDS_TRACING)
		return 0;
	tell_rule(&flow->way[IVDS_WAY_IN], rule_of_flow(flow, IVDS_WAY_IN), flow->last_seen_ns);
	tell_rule(&flow->way[IVDS_WAY_OUT], rule_of_flow(flow, IVDS_WAY_OUT), flow->last_seen_ns);
	return 0;
}

/* The time, where it is another than that of the flow's last frame, else 0. */
INLINE __u64 time_of_frame(const struct ivds_flow *flow)
{
	return flow->tick == (__u32)bpf_jiffies64() ? 0 : bpf_ktime_get_coarse_ns();
}

/* Counts a frame of the flow; now_ns is what time_of_frame said of it. Returns whether its rule is told by that. */
INLINE int count_flow(struct ivds_flow *flow, __u32 way, __u32 rule, __u64 packets, __u64 bytes, __u64 now_ns)
{
	struct ivds_flow_way *w = way_of(flow, way);
	const int is_told = rule_of_flow(flow, way) == rule;

	__sync_fetch_and_add(&w->packets, packets);
	__sync_fetch_and_add(&w->bytes, bytes);
	if (!is_told) {
		__sync_fetch_and_add(&w->told_packets, packets);
		__sync_fetch_and_add(&w->told_bytes, bytes);
	}
	if (now_ns) {
		flow->last_seen_ns = now_ns;
		flow->tick = bpf_jiffies64();
		tell_rules(flow);
	}
	return is_told;
}

/* Rendezvous hashing: every member draws a number for the flow, and the highest of those that are up has it. */
struct ivds_pick {
	__u32 pool;
	__u32 hash;
	__u32 best;
	__u32 member;
};

static long pick_step(__u32 index, struct ivds_pick *pick)
{
	__u32 id = pick->pool, member, drawn;
	const struct ivds_pool *pool = bpf_map_lookup_elem(&pools, &id);

	if (!pool || index >= pool->count || index >= IVDS_MAX_POOL_PORTS)
		return 1;
	member = pool->member[index];
	if (!is_up(member))
		return 0;
	/* The finaliser of MurmurHash3 over flow and member. */
	drawn = pick->hash ^ member * 0x9e3779b1u;
	drawn = (drawn ^ drawn >> 16) * 0x85ebca6bu;
	drawn = (drawn ^ drawn >> 13) * 0xc2b2ae35u;
	drawn ^= drawn >> 16;
	if (!pick->member || drawn > pick->best) {
		pick->best = drawn;
		pick->member = member;
	}
	return 0;
}

/* Puts the vPort that a decision's target comes to in its place: a pool's member for the flow, 0 where none is up.
 * All fragments of a datagram have the same, so ports count only where there are none. */
__noinline int resolve_target(void)
{
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_pick pick = {};
	__u32 hash = 0;

	if (!s)
		return -1;
	s->pool = 0;
	if (s->decision.action != IVDS_ACL_REDIRECT || !(s->decision.target & IVDS_TARGET_POOL))
		return 0;
#pragma unroll
	for (unsigned i = 0; i < sizeof(s->fields) / 4; i++) {
		__u32 word = ((const __u32 *)&s->fields)[i];

		/* From the EtherType on: ports, protocol, and what is not the same in all frames of a flow. */
		if (i >= 11)
			break;
		hash = (hash ^ word) * 0x01000193u;
		hash ^= hash >> 15;
	}
	hash ^= s->fields.proto;
	if (!s->fields.unknown)
		hash = (hash ^ ((__u32)s->fields.sport_be << 16 | s->fields.dport_be)) * 0x01000193u;
	pick.hash = hash;
	pick.pool = s->decision.target & ~IVDS_TARGET_POOL;
	s->pool = pick.pool;
	bpf_loop(IVDS_MAX_POOL_PORTS, pick_step, &pick, 0);
	s->decision.target = pick.member;
	return 0;
}

INLINE int is_stateful(const struct ivds_decision *d)
{
	return d->flags & IVDS_ACL_STATEFUL && d->action != IVDS_ACL_DROP;
}

/* Writes the decision in the scratch down as the way's. */
INLINE void set_way(struct ivds_flow_way *w, const struct ivds_scratch *s, __u32 acl)
{
	const struct ivds_acl *list = bpf_map_lookup_elem(&acls, &acl);
	const __u8 looked_at = list ? list->tcp_flags : 0;

	w->acl = acl;
	w->rule = s->decision.rule;
	w->target = s->decision.target;
	w->pool = s->pool;
	w->mirrors = s->decision.mirrors;
	w->action = s->decision.action;
	w->flags = s->decision.flags;
	w->detail = s->fields.proto == IVDS_IP_TCP ? looked_at << 8 | (s->fields.tcp_flags & looked_at)
						   : s->fields.icmp_type << 8 | s->fields.icmp_code;
}

/* Puts into the scratch what the opener's list, as it is now, says of the frame that opened the connection, and
 * writes it down as the way's. */
INLINE int ask_about_opener(struct ivds_scratch *s, const struct ivds_flow *flow, struct ivds_flow_way *w, __u32 acl)
{
	int failed;

	s->saved = s->fields;
	copy_fields(&s->fields, &s->key.fields, flow->opener == IVDS_WAY_OUT);
	s->fields.tcp_flags = flow->open_flags;
	if (is_icmp(&s->fields)) {
		s->fields.icmp_type = w->detail >> 8;
		s->fields.icmp_code = w->detail & 0xff;
		s->fields.sport_be = s->fields.dport_be = 0;
	}
	failed = ask_list(acl);
	if (!failed) {
		resolve_target();
		set_way(w, s, acl);
	}
	s->fields = s->saved;
	return failed;
}

/* The decision that the way holds, into the scratch. */
INLINE void get_way(struct ivds_scratch *s, const struct ivds_flow_way *w)
{
	s->decision.rule = w->rule;
	s->decision.target = w->target;
	s->decision.mirrors = w->mirrors;
	s->decision.action = w->action;
	s->decision.flags = w->flags;
	s->pool = w->pool;
}

/* Takes an entry out of its port's count. */
INLINE void uncount_flow(__u32 port)
{
	struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);

	if (ps)
		__sync_fetch_and_add(&ps->flows, (__u32)-1);
}

/* Adds the entry in the scratch, within what the port may own. Returns nonzero where there is no room. */
INLINE int add_flow(const struct ivds_scratch *s, __u32 limit)
{
	__u32 port = s->key.port;
	struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);

	if (!ps)
		return -1;
	/* Count first and take it back on failure: two CPUs cannot both pass below a limit. */
	if (__sync_fetch_and_add(&ps->flows, 1) < limit) {
		switch (bpf_map_update_elem(&flows, &s->key, &s->made, BPF_NOEXIST)) {
		case 0:
			return 0;
		case -17: /* EEXIST: another CPU was first, and has counted it */
			uncount_flow(port);
			return 0;
		}
	}
	uncount_flow(port);
	event_of_flow(IVDS_EVENT_FLOW_LIMIT, port, s->key.instance);
	return -1;
}

#define IVDS_CONNECTION_NONE    0 /* there is none, or it is over */
#define IVDS_CONNECTION_GOES_ON 1
#define IVDS_CONNECTION_STALE   2 /* another list, or a member that is gone: renew_connection asks anew */

/* Takes the connection whose key is in the scratch a frame further, and puts there what it decides. One that
 * `is_renewed` is not stale, though its pool may have no member that is up: its answers go on. Returns
 * IVDS_CONNECTION_*. */
__noinline int follow_connection(__u32 port_id, __u32 way, __u32 is_renewed)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	const __u64 now_ns = bpf_ktime_get_coarse_ns();
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flow_way *w;
	struct ivds_flow *flow;
	__u32 opener, acl;
	__u8 tcp;

	barrier_var(is_renewed);
	way &= 1;
	if (!port || !s)
		return 0;
	flow = bpf_map_lookup_elem(&flows, &s->key);
	if (!flow || flow->state == IVDS_FLOW_VERDICT)
		return 0;
	opener = flow->opener & 1;
	acl = acl_of(port, opener);
	tcp = s->fields.proto == IVDS_IP_TCP ? s->fields.tcp_flags : 0;
	w = way_of(flow, opener);
	if (!acl || is_idle(flow, s->fields.proto, now_ns))
		return 0;
	if (flow->state == IVDS_FLOW_CLOSING && (tcp & (IVDS_TCP_SYN | IVDS_TCP_ACK)) == IVDS_TCP_SYN)
		return 0;
	if (!is_renewed && (w->acl != acl || (w->pool && !is_up(w->target))))
		return IVDS_CONNECTION_STALE;
	get_way(s, w);
	note(IVDS_TRACE_FLOW, flow->state, opener, way, s->decision.rule);
	if (IVDS_TRACING)
		return 1;
	if (tcp & (IVDS_TCP_RST | IVDS_TCP_FIN))
		forget_recent(port_id);
	if (tcp & IVDS_TCP_RST) {
		flow->state = IVDS_FLOW_CLOSING;
	} else if (tcp & IVDS_TCP_FIN) {
		flow->fins |= 1 << way;
		if (flow->fins == 3)
			flow->state = IVDS_FLOW_CLOSING;
	} else if (flow->state == IVDS_FLOW_CLOSING && flow->fins != 3) {
		flow->state = IVDS_FLOW_OPEN; /* both go on: the reset was not one of theirs */
	}
	if (way != opener && flow->state == IVDS_FLOW_OPENING)
		flow->state = IVDS_FLOW_OPEN;
	return 1;
}

/* Asks the opener's list, as it is now, about the connection whose key is in the scratch. Returns 0 where it does not
 * let it be any more. */
__noinline int renew_connection(__u32 port_id)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flow *flow;
	__u32 acl;

	if (!port || !s)
		return 0;
	flow = bpf_map_lookup_elem(&flows, &s->key);
	if (!flow)
		return 0;
	acl = acl_of(port, flow->opener & 1);
	tell_rules(flow);
	s->made = *flow;
	if (ask_about_opener(s, flow, way_of(&s->made, flow->opener), acl) || !is_stateful(&s->decision))
		return 0;
	/* Replaced as a whole, so that nobody on another CPU reads half of it. */
	return IVDS_TRACING || bpf_map_update_elem(&flows, &s->key, &s->made, BPF_EXIST) == 0;
}

/* Whether the frame is an ICMP error about a datagram of one of the vPort's connections, which is then what it is
 * judged by. The datagram went the other way, and its MACs are not in the message: the error's own stand for them. */
__noinline int follow_error(__u32 port_id, __u32 way)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_scratch *s = scratch_of_cpu();
	const struct ivds_flow *flow;
	struct ivds_flow_key *key;
	const __u8 *ip;
	__u32 at, l4;

	if (!port || !s)
		return 0;
	key = &s->key;
	at = s->l3.l4_at;
	barrier_var(at);
	if (!at || at > IVDS_L3_BYTES - IVDS_ICMP_BYTES - 48 || s->fields.unknown || !is_icmp_error(&s->fields))
		return 0;
	at += IVDS_ICMP_BYTES;
	ip = s->l3.bytes + at;
	__builtin_memset(&key->fields, 0, sizeof(key->fields));
	if (s->fields.type_be == bpf_htons(IVDS_TYPE_IPV4)) {
		if (at + 28 > s->l3.length || ip[0] != 0x45 || l3_word(&s->l3, at + 6) & bpf_htons(0x1fff))
			return 0;
		copy_ip4(key->fields.src, ip + 12);
		copy_ip4(key->fields.dst, ip + 16);
		key->fields.proto = ip[9];
		l4 = at + 20;
	} else {
		if (at + 48 > s->l3.length || ip[0] >> 4 != 6)
			return 0;
		__builtin_memcpy(key->fields.src, ip + 8, 16);
		__builtin_memcpy(key->fields.dst, ip + 24, 16);
		key->fields.proto = ip[6];
		l4 = at + 40;
	}
	if (key->fields.proto != IVDS_IP_TCP && key->fields.proto != IVDS_IP_UDP && key->fields.proto != IVDS_IP_SCTP)
		return 0;
	if (l4 > IVDS_L3_BYTES - 8)
		return 0;
	key->fields.sport_be = l3_word(&s->l3, l4);
	key->fields.dport_be = l3_word(&s->l3, l4 + 2);
	key->fields.type_be = s->fields.type_be;
	copy_mac(key->fields.src_mac, s->fields.dst_mac);
	copy_mac(key->fields.dst_mac, s->fields.src_mac);
	/* What the error is about was sent the other way; a key is as the VM sends. */
	if (way == IVDS_WAY_IN) {
		s->saved = key->fields;
		copy_fields(&key->fields, &s->saved, 1);
	}
	key->port = port_id;
	flow = bpf_map_lookup_elem(&flows, key);
	if (!flow || flow->state == IVDS_FLOW_VERDICT || is_idle(flow, key->fields.proto, bpf_ktime_get_coarse_ns()))
		return 0;
	if (flow->opener == IVDS_WAY_IN) {
		if (flow->way[IVDS_WAY_IN].acl != port->acl_in)
			return 0;
		get_way(s, &flow->way[IVDS_WAY_IN]);
	} else {
		if (flow->way[IVDS_WAY_OUT].acl != port->acl_out)
			return 0;
		get_way(s, &flow->way[IVDS_WAY_OUT]);
	}
	s->decision.action = IVDS_ACL_ALLOW;
	note(IVDS_TRACE_FLOW, flow->state, flow->opener, way, s->decision.rule);
	return 1;
}

/* Remembers what the list decided about the frame, in its entry or in a new one. Returns -1 where a connection finds
 * no room. */
__noinline int remember(__u32 port_id, __u32 way)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	const __u64 now_ns = bpf_ktime_get_coarse_ns();
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flow *made, *flow;

	if (!port || !s)
		return -1;
	made = &s->made;
	flow = bpf_map_lookup_elem(&flows, &s->key);
	if (flow) {
		/* A SYN that is refused does not end what is left of the connection before. */
		if (s->decision.action == IVDS_ACL_DROP && flow->state == IVDS_FLOW_CLOSING &&
		    !is_idle(flow, s->fields.proto, now_ns))
			return 0;
		tell_rules(flow);
		*made = *flow;
	} else {
		__builtin_memset(made, 0, sizeof(*made));
		made->since_s = now_ns / 1000000000ULL;
	}
	set_way(way_of(made, way), s, acl_of(port, way));
	made->last_seen_ns = now_ns;
	made->state = IVDS_FLOW_VERDICT;
	if (is_stateful(&s->decision) && !(s->fields.tcp_flags & IVDS_TCP_RST)) {
		made->state = IVDS_FLOW_OPENING;
		made->opener = way;
		made->open_flags = s->fields.tcp_flags;
		made->fins = 0;
	}
	note(IVDS_TRACE_FLOW_NEW, made->state, made->opener, way, s->decision.rule);
	if (IVDS_TRACING)
		return 0;
	if (flow) {
		bpf_map_update_elem(&flows, &s->key, made, BPF_EXIST);
		forget_recent(port_id);
		return 0;
	}
	/* Half of the entries are for connections alone: what only spares a search gives way. */
	if (made->state == IVDS_FLOW_VERDICT) {
		add_flow(s, port->flow_limit / 2);
		return 0;
	}
	return add_flow(s, port->flow_limit);
}

/* Whether the flow entry decides about the frame in the scratch; then its decision is there as well. */
__noinline int judge_known(__u32 port_id, __u32 way, __u32 kind)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flow_detail detail = {};
	struct ivds_flow *flow;
	int decided;

	way &= 1;
	if (!port || !s || kind != IVDS_FLOW_WHOLE)
		return 0;
	flow = bpf_map_lookup_elem(&flows, &s->key);
	if (!flow)
		return 0;
	detail.proto = s->fields.proto;
	detail.tcp_flags = s->fields.tcp_flags;
	detail.icmp = s->fields.icmp_type << 8 | s->fields.icmp_code;
	decided = flow_holds(flow, port, way, &detail, time_of_frame(flow));
	if (!decided)
		return 0;
	get_way(s, way_of(flow, decided - 1));
	if (way != IVDS_WAY_IN)
		s->decision.action = s->decision.action == IVDS_ACL_DROP ? IVDS_ACL_DROP : IVDS_ACL_ALLOW;
	note(IVDS_TRACE_FLOW, flow->state, decided - 1, way, s->decision.rule);
	return 1;
}

/* Decides about the frame in the scratch where no entry of the vPort does so at once. `kind` is what make_flow_key
 * said, which has just been called; with `is_passing` the frame makes no entry, as a copy of a flood or at a patch.
 * The decision is in the scratch. Returns 0, or -1 where a connection could not be followed for want of room. */
__noinline int judge_anew(__u32 port_id, __u32 instance, __u32 way, __u32 kind, __u32 is_passing)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_scratch *s = scratch_of_cpu();
	int connection = IVDS_CONNECTION_NONE;
	__u32 acl;

	barrier_var(instance);
	barrier_var(is_passing);
	if (!port || !s)
		return -1;
	way &= 1;
	s->pool = 0;
	acl = acl_of(port, way);
	if (kind != IVDS_FLOW_NONE) {
		connection = follow_connection(port_id, way, 0);
		if (connection == IVDS_CONNECTION_STALE) {
			connection = renew_connection(port_id);
			/* A trace has renewed nothing: the scratch holds what the list says. */
			if (connection && !IVDS_TRACING)
				connection = follow_connection(port_id, way, 1);
		}
	}
	if (connection == IVDS_CONNECTION_GOES_ON) {
		if (way != IVDS_WAY_IN)
			s->decision.action = IVDS_ACL_ALLOW; /* the answers of what was redirected */
		if (kind == IVDS_FLOW_FRAGMENT && s->pool) {
			s->decision.target = IVDS_TARGET_POOL | s->pool;
			resolve_target();
		}
		return 0;
	}
	__builtin_memset(&s->decision, 0, sizeof(s->decision));
	s->decision.action = acl ? IVDS_ACL_DROP : IVDS_ACL_ALLOW;
	if (!acl || ask_list(acl))
		return 0;
	resolve_target();
	if (s->decision.flags & IVDS_ACL_LOG)
		event_of_flow(IVDS_EVENT_RULE, port_id, instance);
	/* An error that is dropped is not remembered: the next may be about a connection that is there by then. */
	if (s->decision.action == IVDS_ACL_DROP && is_icmp_error(&s->fields)) {
		follow_error(port_id, way);
		s->key.port = 0; /* it counts for no flow */
		return 0;
	}
	if (kind != IVDS_FLOW_WHOLE || is_passing)
		return 0;
	return remember(port_id, way);
}

#endif
