/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mirror.h -- copies of frames for sessions of mirrors, as TC makes them: each goes to the tap as it is, and its mark
 * says there what it is a copy of (mirror_send.h). The original stays as it was.
 */
#ifndef IVDS_MIRROR_H
#define IVDS_MIRROR_H

#include "classify.h"

/* skb->mark of a copy, until the tap's other end takes it off. The kernel keeps marks within a network namespace. */
#define IVDS_MARK_SESSION(mark)	  ((mark)&0x1f)
#define IVDS_MARK_DIRECTION(mark) ((mark) >> 5 & 0x3)
#define IVDS_MARK_TAGS(mark)	  ((mark) >> 7 & 0x3) /* of the wire, in front */
#define IVDS_MARK_REASON(mark)	  ((mark) >> 9 & 0x3f)
#define IVDS_MARK_PORT(mark)	  ((mark) >> 15 & (IVDS_MAX_PORTS - 1))
#define IVDS_MARK_SAMPLE	  (1u << 28) /* sampling is left to do, segment by segment */
#define IVDS_MARK_OURS		  (5u << 29)

_Static_assert(IVDS_DROP_MAX <= 0x40, "a drop reason is wider than its place in the mark");
_Static_assert(IVDS_MAX_PORTS <= 1u << 13, "a port id is wider than its place in the mark");

/* What a copy is of; the session comes to it. */
INLINE __u32 mirror_mark(__u32 direction, __u32 port, __u32 reason, __u32 tags)
{
	return IVDS_MARK_OURS | (port & (IVDS_MAX_PORTS - 1)) << 15 | (reason & 0x3f) << 9 | (tags & 0x3) << 7 |
	       (direction & 0x3) << 5;
}

INLINE void count_refused(__u32 session, __u32 packets)
{
	struct ivds_mirror_stats *stats = bpf_map_lookup_elem(&mirror_stats, &session);

	if (stats)
		stats->refused += packets;
}

/* Whether sampling leaves this frame out: the first of each `sample` is in. */
INLINE int is_left_out(__u32 session, __u32 sample)
{
	struct ivds_mirror_state *state = bpf_map_lookup_elem(&mirror_state, &session);

	return state && __sync_fetch_and_add(&state->seen, 1) % sample != 0;
}

struct ivds_copies {
	struct __sk_buff *skb;
	__u32 sessions;
	__u32 mark;
};

static long copy_to_session(__u32 session, struct ivds_copies *copies)
{
	struct __sk_buff *skb = copies->skb;
	const struct ivds_mirror *mirror;
	__u32 mark = copies->mark | session, before;

	if (!(copies->sessions >> session & 1))
		return 0;
	mirror = bpf_map_lookup_elem(&mirrors, &session);
	if (!mirror || mirror->kind == IVDS_MIRROR_NONE)
		return 0;
	if (mirror->filter && acl_refuses(mirror->filter))
		return 0;
	if (IVDS_TRACING)
		return 0;
	if (mirror->sample > 1) {
		if (skb->gso_size)
			mark |= IVDS_MARK_SAMPLE;
		else if (is_left_out(session, mirror->sample))
			return 0;
	}
	before = skb->mark;
	skb->mark = mark;
	if (bpf_clone_redirect(skb, mirror->tap, 0))
		count_refused(session, skb->gso_segs ?: 1);
	skb->mark = before;
	return 0;
}

/* Copies the frame, as it is now, for each of the sessions. The scratch holds its fields, or the bytes are too few
 * for any. */
__noinline int mirror_copies(struct __sk_buff *skb, __u32 sessions, __u32 mark)
{
	struct ivds_copies copies = {.skb = skb, .sessions = sessions, .mark = mark};

	barrier_var(mark);
	if (!sessions)
		return 0;
	note(IVDS_TRACE_MIRROR, sessions, IVDS_MARK_DIRECTION(mark), IVDS_MARK_PORT(mark), 0);
	bpf_loop(IVDS_MAX_MIRRORS, copy_to_session, &copies, 0);
	return 0;
}

/* The copies of a frame as it came in. Reads its fields, while the tags are where they were: also for filters of the
 * copies that follow as it goes out. */
INLINE void mirror_frame(struct __sk_buff *skb, struct ivds_verdict *v, const struct ivds_packet *packet,
			 const struct ivds_frame *f, __u32 port_id)
{
	const int dropped = v->action == IVDS_ACT_DROP;

	if (!(v->mirrors | v->mirrors_out))
		return;
	read_fields(v, packet, f);
	mirror_copies(skb, v->mirrors,
		      mirror_mark(dropped ? IVDS_DIRECTION_DROP : IVDS_DIRECTION_IN, dropped ? v->drop_port : port_id,
				  v->reason, v->wire_tags));
}

/* Those of a flood's copy at a member, or of its drop there; `mirrored` are the sessions that have one already. */
INLINE void mirror_member(struct __sk_buff *skb, __u32 port_id, const struct ivds_port *port, __u32 reason,
			  __u32 *mirrored)
{
	const __u32 sessions = (reason ? port->mirror_drop : port->mirror_out) & ~*mirrored;

	if (!sessions)
		return;
	*mirrored |= sessions;
	mirror_copies(skb, sessions,
		      mirror_mark(reason ? IVDS_DIRECTION_DROP : IVDS_DIRECTION_OUT, port_id, reason, 0));
}

#endif
