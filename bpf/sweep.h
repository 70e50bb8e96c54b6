/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* sweep.h -- a pass over FDB and flows, which the agent runs: it removes what is too old, or flushes some. */
#ifndef IVDS_SWEEP_H
#define IVDS_SWEEP_H

#include "fdb.h"
#include "recent.h"

/* One element of the FDB: removes a learned entry that is too old, or of what is flushed; of a VM that went, what is
 * over. */
static long sweep_entry(void *map, const struct ivds_fdb_key *key, struct ivds_fdb_entry *entry,
			struct ivds_sweep *sweep)
{
	__u32 port = entry->port, instance = key->instance;

	if (entry->flags & IVDS_FDB_STATIC) {
		if (entry->flags & IVDS_FDB_MOVED && (__s32)(sweep->now_s - entry->last_seen_s) > 0) {
			entry->flags &= ~IVDS_FDB_MOVED;
			entry->last_seen_s = 0;
		}
		return 0;
	}
	if (sweep->port || sweep->instance) {
		if (port != sweep->port && instance != sweep->instance)
			return 0;
	} else {
		const struct ivds_instance *in = bpf_map_lookup_elem(&instances, &instance);

		if (!in || !in->age_s || sweep->now_s - entry->last_seen_s <= in->age_s ||
		    (__s32)(sweep->now_s - entry->last_seen_s) < 0)
			return 0;
	}
	if (bpf_map_delete_elem(map, key) == 0) {
		uncount_learned(port, instance);
		sweep->removed++;
	}
	return 0;
}

/* One element of the flows. An entry that lives on may be handed over meanwhile: the count then stays right, for who
 * makes one again counts it. */
static long sweep_flow(void *map, const struct ivds_flow_key *key, struct ivds_flow *flow, struct ivds_sweep *sweep)
{
	__u32 port = key->port;

	tell_rules(flow);
	if (sweep->port || sweep->instance) {
		if (port != sweep->port && key->instance != sweep->instance)
			return 0;
	} else if (sweep->only != IVDS_SWEEP_FLOWS &&
		   !is_idle(flow, key->fields.proto, sweep->now_s * 1000000000ULL)) {
		return 0;
	}
	if (bpf_map_delete_elem(map, key) == 0) {
		forget_recent(port);
		uncount_flow(port);
		sweep->removed_flows++;
	}
	return 0;
}

/* Tells the flows what CPU `index / IVDS_MAX_RECENTS` knows of them alone. */
static long sweep_recent(__u32 index, struct ivds_sweep *sweep)
{
	struct ivds_flow_key room = {};
	__u32 at = index % IVDS_MAX_RECENTS;
	struct ivds_recent *r = bpf_map_lookup_percpu_elem(&recents, &at, index / IVDS_MAX_RECENTS);

	(void)sweep;
	if (!r)
		return 1; /* that was the last CPU */
	if (r->packets == r->told_packets && r->bytes == r->told_bytes)
		return 0;
	/* Its own CPU may be at it: then that tells them. */
	if (__sync_val_compare_and_swap(&r->busy, 0, 1))
		return 0;
	tell_of_recent(r, &room);
	__sync_lock_test_and_set(&r->busy, 0);
	return 0;
}

#endif
