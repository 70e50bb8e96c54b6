/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * count.h -- counters and events. Counters are per CPU and plain adds: programs run with bottom halves
 * off, so nothing of ours interrupts them on their CPU. The sweep alone is interrupted: what it adds to it adds in
 * one instruction.
 */
#ifndef IVDS_COUNT_H
#define IVDS_COUNT_H

#include "note.h"

/* What a frame counts as. A GSO frame counts as the segments that it will become. */
struct ivds_size {
	__u32 packets;
	__u32 bytes;    /* on the port it came in by, all tags in, all segments together */
	__u32 l3_bytes; /* of the largest segment: without Ethernet header and parsed tags */
};

INLINE __u32 now_s(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}

/* Adds to the row of a per-CPU hash of struct ivds_count, which the first of its kind makes. The sums wrap: what is
 * to be taken off is added as its complement. Returns -1 where there is no row, and no memory for one at the moment.
 */
INLINE int add_count(void *map, const void *key, __u64 packets, __u64 bytes)
{
	struct ivds_count *count = bpf_map_lookup_elem(map, key);

	if (!count) {
		struct ivds_count none = {};

		bpf_map_update_elem(map, key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(map, key);
		if (!count)
			return -1;
	}
	__sync_fetch_and_add(&count->packets, packets);
	__sync_fetch_and_add(&count->bytes, bytes);
	return 0;
}

/* Not on the stack: a rule is counted where the chain of calls is longest. */
static const struct ivds_rule_count no_rule_count;

/* The same for a rule, which decided at now_ns. */
INLINE int add_rule_count(__u32 rule, __u64 packets, __u64 bytes, __u64 now_ns)
{
	struct ivds_rule_count *count = bpf_map_lookup_elem(&rule_stats, &rule);

	if (!count) {
		bpf_map_update_elem(&rule_stats, &rule, &no_rule_count, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&rule_stats, &rule);
		if (!count)
			return -1;
	}
	__sync_fetch_and_add(&count->packets, packets);
	__sync_fetch_and_add(&count->bytes, bytes);
	if (count->last_ns < now_ns)
		count->last_ns = now_ns;
	return 0;
}

/* Counts a drop on `port` (0: no port is known). */
static __noinline int count_drop(__u32 port, __u32 reason, __u32 packets, __u32 bytes)
{
	struct ivds_drop_key key = {.port = port, .reason = reason};

	note(IVDS_TRACE_DROP, port, reason, packets, bytes);
	if (IVDS_TRACING)
		return 0;
	return add_count(&drops, &key, packets, bytes);
}

static __noinline int count_miss(__u32 uplink, __u32 vlan, __u32 vvlan, __u32 packets, __u32 bytes)
{
	struct ivds_vvlan_key key = {.uplink = uplink, .vlan = vlan, .vvlan = vvlan};

	if (IVDS_TRACING)
		return 0;
	return add_count(&misses, &key, packets, bytes);
}

/* At most one event of a kind, port and second is reported. NULL: not this time. */
INLINE struct ivds_event *reserve_event(__u32 kind, __u32 port, __u32 other_port, __u32 instance)
{
	struct ivds_port_state *state = bpf_map_lookup_elem(&port_state, &port);
	__u64 time_ns = bpf_ktime_get_coarse_ns();
	__u32 second = time_ns / 1000000000ULL;
	struct ivds_event *e;

	note(IVDS_TRACE_EVENT, kind, port, other_port, instance);
	if (IVDS_TRACING || !state || kind >= IVDS_EVENT_KINDS || state->event_s[kind] == second)
		return 0;
	state->event_s[kind] = second;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = time_ns;
	e->kind = kind;
	e->port = port;
	e->other_port = other_port;
	e->instance = instance;
	return e;
}

/* Reports something about a MAC. */
static __noinline int event(__u32 kind, __u32 port, __u32 other_port, __u32 instance, const __u8 *mac)
{
	struct ivds_event *e = reserve_event(kind, port, other_port, instance);

	note_mac(mac);
	if (!e)
		return 0;
	__builtin_memcpy(e->mac, mac, 6);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Reports what happened to the frame in the scratch: a rule that logs decided, or its flow found no room. */
static __noinline int event_of_flow(__u32 kind, __u32 port, __u32 instance)
{
	const struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_event *e = reserve_event(kind, port, 0, instance);

	if (!e)
		return 0;
	if (s) {
		e->rule = s->decision.rule;
		e->fields = s->fields;
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Counts frames of an uplink that go up to the host. */
INLINE void count_host(__u32 port, __u32 packets)
{
	struct ivds_port_stats *stats = bpf_map_lookup_elem(&port_stats, &port);

	if (!IVDS_TRACING && stats)
		stats->rx_host += packets;
}

INLINE void count_tx(__u32 port, __u32 packets, __u64 bytes)
{
	struct ivds_port_stats *stats = bpf_map_lookup_elem(&port_stats, &port);

	note(IVDS_TRACE_SEND, port, packets, bytes, 0);
	if (!IVDS_TRACING && stats) {
		stats->tx_packets += packets;
		stats->tx_bytes += bytes;
	}
}

#endif
