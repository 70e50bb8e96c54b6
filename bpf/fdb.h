/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fdb.h -- the forwarding database: look-up, learning within limits, and moves.
 * Who inserts an entry counts it (port and instance), who removes it uncounts it; both are atomic, so
 * that one port cannot push others out whatever races.
 */
#ifndef IVDS_FDB_H
#define IVDS_FDB_H

#include "count.h"
#include "parse.h"

/* `kind` says what a trace calls the look-up: IVDS_TRACE_SOURCE or IVDS_TRACE_DESTINATION. */
INLINE struct ivds_fdb_entry *fdb_lookup(__u32 kind, __u32 instance, const __u8 *mac)
{
	struct ivds_fdb_key key = {.instance = instance};
	struct ivds_fdb_entry *entry;

	copy_mac(key.mac, mac);
	entry = bpf_map_lookup_elem(&fdb, &key);
	note(kind, instance, entry ? entry->port : 0, entry ? entry->vlan : 0, entry ? entry->flags : 0);
	note_mac(mac);
	return entry;
}

/* Takes a learned entry out of the counts; 0 stands for a port or an instance whose count stays. */
INLINE void uncount_learned(__u32 port, __u32 instance)
{
	struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);
	struct ivds_instance_state *is = bpf_map_lookup_elem(&instance_state, &instance);

	if (ps && port)
		__sync_fetch_and_add(&ps->learned, (__u32)-1);
	if (is && instance)
		__sync_fetch_and_add(&is->learned, (__u32)-1);
}

/* What learning is about: source `mac` was seen at `port`, behind the outer VLAN `vlan` (0: local). */
struct ivds_sighting {
	const __u8 *mac;
	__u32 port;
	__u32 port_limit;
	__u32 instance;
	__u32 instance_limit;
	__u16 vlan;
	__u8 flags; /* IVDS_FDB_PLAIN or 0 */
};

static __noinline int learn_new(const struct ivds_sighting *s)
{
	struct ivds_fdb_key key = {.instance = s->instance};
	struct ivds_fdb_entry entry = {.port = s->port, .vlan = s->vlan, .flags = s->flags};
	__u32 port = s->port, instance = s->instance, at_port, in_instance;
	struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);
	struct ivds_instance_state *is = bpf_map_lookup_elem(&instance_state, &instance);

	if (!ps || !is)
		return 0;
	copy_mac(key.mac, s->mac);
	/* Count first and take it back on failure: two CPUs cannot both pass below a limit. */
	at_port = __sync_fetch_and_add(&ps->learned, 1);
	in_instance = __sync_fetch_and_add(&is->learned, 1);
	if (at_port >= s->port_limit || in_instance >= s->instance_limit) {
		uncount_learned(port, instance);
		return event(IVDS_EVENT_LIMIT, port, 0, instance, key.mac);
	}
	entry.last_seen_s = now_s();
	switch (bpf_map_update_elem(&fdb, &key, &entry, BPF_NOEXIST)) {
	case 0:
		return 0;
	case -17: /* EEXIST: another CPU was first, and has counted it */
		break;
	default:
		event(IVDS_EVENT_FDB_FULL, port, 0, instance, key.mac);
	}
	uncount_learned(port, instance);
	return 0;
}

static __noinline int learn_move(const struct ivds_sighting *s, struct ivds_fdb_entry *entry)
{
	__u32 port = s->port, from;
	struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);

	if (!ps || !entry)
		return 0;
	from = entry->port;
	if (__sync_fetch_and_add(&ps->learned, 1) >= s->port_limit) {
		__sync_fetch_and_add(&ps->learned, (__u32)-1);
		return event(IVDS_EVENT_LIMIT, port, from, s->instance, s->mac);
	}
	/* The winner of the exchange owns the move; a loser takes its count back. In between the entry may
	 * name the new port with the old outer VLAN: 0, or the one its former host was on. */
	if (__sync_val_compare_and_swap(&entry->port, from, port) != from) {
		__sync_fetch_and_add(&ps->learned, (__u32)-1);
		return 0;
	}
	entry->vlan = s->vlan;
	entry->flags = s->flags;
	entry->last_seen_s = now_s();
	uncount_learned(from, 0);
	return event(IVDS_EVENT_MOVE, port, from, s->instance, s->mac);
}

/* What learn() would do, for a trace. */
INLINE void note_learning(const struct ivds_sighting *s, const struct ivds_fdb_entry *entry)
{
	__u32 port = s->port, instance = s->instance, how = IVDS_TRACE_LEARN_SEEN;
	const struct ivds_port_state *ps = bpf_map_lookup_elem(&port_state, &port);
	const struct ivds_instance_state *is = bpf_map_lookup_elem(&instance_state, &instance);

	if (!ps || !is)
		return;
	if (!entry)
		how = ps->learned >= s->port_limit || is->learned >= s->instance_limit ? IVDS_TRACE_LEARN_LIMIT
										       : IVDS_TRACE_LEARN_NEW;
	else if (entry->port != s->port)
		how = ps->learned >= s->port_limit ? IVDS_TRACE_LEARN_LIMIT : IVDS_TRACE_LEARN_MOVE;
	else if (entry->vlan != s->vlan || entry->flags != s->flags)
		how = IVDS_TRACE_LEARN_MOVE;
	note(IVDS_TRACE_LEARN, how, s->port, entry ? entry->port : 0, s->vlan);
	note_mac(s->mac);
}

/* Takes note of a source that is not a static MAC. `entry` is what the FDB holds of it, or NULL. */
INLINE void learn(const struct ivds_sighting *s, struct ivds_fdb_entry *entry)
{
	if (IVDS_TRACING) {
		note_learning(s, entry);
	} else if (!entry) {
		learn_new(s);
	} else if (entry->port != s->port) {
		learn_move(s, entry);
	} else {
		__u32 now = now_s();

		if (entry->last_seen_s != now)
			entry->last_seen_s = now;
		if (entry->vlan != s->vlan || entry->flags != s->flags) {
			entry->vlan = s->vlan;
			entry->flags = s->flags;
			event(IVDS_EVENT_MOVE, s->port, s->port, s->instance, s->mac);
		}
	}
}

#endif
