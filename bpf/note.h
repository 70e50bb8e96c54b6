/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * note.h -- how the pipeline notes its decisions where it is compiled to be traced (ivds/trace.h). In the programs
 * that switch, a note is nothing at all.
 */
#ifndef IVDS_NOTE_H
#define IVDS_NOTE_H

#include "maps.h"

#ifdef IVDS_TRACE

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ivds_trace);
} trace SEC(".maps");

INLINE struct ivds_trace *the_trace(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&trace, &only);
}

/* The next free step, or NULL. */
INLINE struct ivds_trace_step *next_step(void)
{
	struct ivds_trace *t = the_trace();
	__u32 at;

	if (!t)
		return 0;
	at = t->steps++;
	return at < IVDS_TRACE_STEPS ? &t->step[at] : 0;
}

/* Global functions: the verifier looks at them once, not on every path that calls them. */
__noinline int note(__u32 kind, __u32 a, __u32 b, __u32 c, __u32 d)
{
	struct ivds_trace_step *step = next_step();

	if (!step)
		return 0;
	*step = (struct ivds_trace_step){.kind = kind, .arg = {a, b, c, d}};
	return 0;
}

/* Adds an address to the step noted last. */
__noinline int note_address(const struct ivds_mac *mac)
{
	struct ivds_trace *t = the_trace();
	__u32 at;

	if (!t || !t->steps)
		return 0;
	at = t->steps - 1;
	if (at < IVDS_TRACE_STEPS && mac)
		__builtin_memcpy(t->step[at].mac, mac, 6);
	return 0;
}

INLINE void note_mac(const __u8 *mac)
{
	const struct ivds_mac words = mac_of(mac);

	note_address(&words);
}

/* The frame as it was read: tags, sizes, and the fields in the scratch. */
INLINE void note_frame(const struct ivds_frame *f, __u32 l3_bytes, __u32 bytes)
{
	const struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_trace *t = the_trace();

	note(IVDS_TRACE_FRAME, f->tags, bpf_ntohs(f->type_be), l3_bytes, bytes);
	for (int i = 0; i < IVDS_TAGS_MAX; i++)
		if (i < f->tags)
			note(IVDS_TRACE_TAG, i, bpf_ntohs(f->tag[i].tpid_be), f->tag[i].vid, 0);
	if (s && t)
		t->fields = s->fields;
	note(IVDS_TRACE_FIELDS, 0, 0, 0, 0);
}

#define IVDS_TRACING 1
#else
#define IVDS_TRACING 0
INLINE void note(__u32 kind, __u32 a, __u32 b, __u32 c, __u32 d)
{
	(void)kind, (void)a, (void)b, (void)c, (void)d;
}
INLINE void note_mac(const __u8 *mac)
{
	(void)mac;
}
INLINE void note_frame(const struct ivds_frame *f, __u32 l3_bytes, __u32 bytes)
{
	(void)f, (void)l3_bytes, (void)bytes;
}
#endif

#endif
