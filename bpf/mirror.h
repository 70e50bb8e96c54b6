/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mirror.h -- copies of frames for sessions of mirrors, as TC makes them: each goes to the tap as it is, and its mark
 * says there what it is a copy of (mirror_send.h). The original stays as it was.
 */
#ifndef IVDS_MIRROR_H
#define IVDS_MIRROR_H

#include "classify.h"

/* skb->mark of a copy, until the tap's other end takes it off. The kernel keeps marks within a network namespace. */
#define IVDS_MARK_SESSION(mark)   ((mark) & 0x1f)
#define IVDS_MARK_DIRECTION(mark) ((mark) >> 5 & 0x3)
#define IVDS_MARK_TAGS(mark)      ((mark) >> 7 & 0x3) /* of the wire, in front */
#define IVDS_MARK_REASON(mark)    ((mark) >> 9 & 0x3f)
#define IVDS_MARK_PORT(mark)      ((mark) >> 15 & (IVDS_MAX_PORTS - 1))
#define IVDS_MARK_SAMPLE          (1u << 28) /* sampling is left to do, segment by segment */
#define IVDS_MARK_OURS            (5u << 29)

_Static_assert(IVDS_DROP_MAX <= 0x40, "a drop reason is wider than its place in the mark");
_Static_assert(IVDS_MAX_PORTS <= 1u << 13, "a port id is wider than its place in the mark");

/* What a copy is of; the session comes to it. */
INLINE __u32 mirror_mark(__u32 direction, __u32 port, __u32 reason, __u32 tags)
{
	return IVDS_MARK_OURS | (port & (IVDS_MAX_PORTS - 1)) << 15 | (reason & 0x3f) << 9 | (tags & 0x3) << 7 |
	       (direction & 0x3) << 5;
}

/* Functions of their own, so that what they keep on the stack is not in the way of the rest. */
__noinline int count_refused(__u32 session, __u32 packets)
{
	struct ivds_mirror_stats *stats = bpf_map_lookup_elem(&mirror_stats, &session);

	if (stats)
		stats->refused += packets;
	return 0;
}

/* Whether sampling leaves this frame out: the first of each `sample` is in. */
__noinline int is_left_out(__u32 session, __u32 sample)
{
	struct ivds_mirror_state *state = bpf_map_lookup_elem(&mirror_state, &session);

	return state && __sync_fetch_and_add(&state->seen, 1) % sample != 0;
}

/* Sends the frame into the tap. Its queue is this CPU's, and of a large frame the kernel does not tell what found no
 * room there: that is found out by the numbers, which the frame's segments have of it, as the next copy comes out. */
INLINE void send_to_tap(struct __sk_buff *skb, __u32 session, __u32 tap)
{
	const __u32 segments = skb->gso_segs ?: 1, index = skb->tc_index;
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flight *flight;
	long failed;

	if (!s || session >= IVDS_MAX_MIRRORS)
		return;
	flight = &s->flights[session];
	skb->tc_index = (__u16)flight->handed;
	failed = bpf_clone_redirect(skb, tap, 0);
	skb->tc_index = index;
	if (failed < 0 || (failed && segments == 1))
		count_refused(session, segments);
	else
		flight->handed += segments;
}

/* A frame of the copy that had this number comes out of the tap: what was handed to it before, and is not out, is
 * lost. A number that cannot be is of a time before this program's; it begins anew. */
__noinline int come_out(__u32 session, __u32 number)
{
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_flight *flight;
	__u64 at, before;

	if (!s || session >= IVDS_MAX_MIRRORS)
		return 0;
	flight = &s->flights[session];
	at = flight->handed - (__u16)(flight->handed - number);
	before = at - flight->settled;
	if (!before) {
		flight->out++;
		return 0;
	}
	if (before <= flight->handed - flight->settled && before > flight->out)
		count_refused(session, before - flight->out);
	flight->settled = at;
	flight->out = 1;
	return 0;
}

/* Copies the frame as it is now for the session, unless sampling leaves it out. */
INLINE void copy_to_session(struct __sk_buff *skb, __u32 session, __u32 mark)
{
	const struct ivds_mirror *mirror = bpf_map_lookup_elem(&mirrors, &session);
	__u32 before;

	if (!mirror || mirror->kind == IVDS_MIRROR_NONE)
		return;
	if (mirror->sample > 1) {
		if (skb->gso_size)
			mark |= IVDS_MARK_SAMPLE;
		else if (is_left_out(session, mirror->sample))
			return;
	}
	before = skb->mark;
	skb->mark = mark | session;
	send_to_tap(skb, session, mirror->tap);
	skb->mark = before;
}

/* Those of the sessions whose filters let the frame in the scratch pass. They are put together in the scratch: of a
 * variable the verifier would follow every combination of bits. */
__noinline __u32 pass_filters(__u32 sessions)
{
	struct ivds_scratch *s = scratch_of_cpu();

	if (!s)
		return 0;
	s->passed = 0;
#pragma unroll
	for (__u32 i = 0; i < IVDS_MAX_MIRRORS; i++) {
		const struct ivds_mirror *mirror;
		__u32 session = i;

		if (!(sessions >> i & 1))
			continue;
		mirror = bpf_map_lookup_elem(&mirrors, &session);
		if (mirror &&
		    (!mirror->filter || (ask_list(mirror->filter) == 0 && s->decision.action == IVDS_ACL_ALLOW)))
			s->passed |= 1u << i;
	}
	return s->passed;
}

__noinline int send_copies(struct __sk_buff *skb, __u32 sessions, __u32 mark)
{
#pragma unroll
	for (__u32 session = 0; session < IVDS_MAX_MIRRORS; session++)
		if (sessions >> session & 1)
			copy_to_session(skb, session, mark);
	return 0;
}

/* Copies the frame, as it is now, for each of the sessions. The scratch holds its fields, or the bytes are too few
 * for any. Loops unrolled, without callbacks, and in turn: the stack has
 * no room for their frames, and the verifier of 6.12 does not see that the loops end. */
__noinline int mirror_copies(struct __sk_buff *skb, __u32 sessions, __u32 mark)
{
	barrier_var(skb);
	sessions = sessions ? pass_filters(sessions) : 0;
	if (!sessions)
		return 0;
	note(IVDS_TRACE_MIRROR, sessions, IVDS_MARK_DIRECTION(mark), IVDS_MARK_PORT(mark), 0);
	return IVDS_TRACING ? 0 : send_copies(skb, sessions, mark);
}

/* The copies of a frame as it came in. Reads its fields, while the tags are where they were: also for filters of the
 * copies that follow as it goes out. */
INLINE void mirror_frame(struct __sk_buff *skb, struct ivds_verdict *v, const struct ivds_packet *packet,
			 const struct ivds_frame *f, __u32 port_id)
{
	const int dropped = v->action == IVDS_ACT_DROP;
	struct ivds_scratch *s = scratch_of_cpu();

	if (s)
		s->mirrored = v->mirrors;
	if (!(v->mirrors | mirrors_out(v)))
		return;
	read_fields(v, packet, f);
	mirror_copies(skb, v->mirrors,
		      mirror_mark(dropped ? IVDS_DIRECTION_DROP : IVDS_DIRECTION_IN, dropped ? v->drop_port : port_id,
				  v->reason, v->wire_tags));
}

/* The copies of a frame that is dropped on its way: those for `late`, and those of drops at the port, but for
 * sessions that `had` one. A function of its own, for the verifier's sake. */
__noinline int mirror_late_drop(struct __sk_buff *skb, __u32 port_id, __u32 reason, __u64 late_had, __u32 l3_type)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	const __u32 drops = port ? port->mirror_drop : 0, l3_at = l3_type >> 16;
	const __u32 sessions = ((__u32)(late_had >> 32) | drops) & ~(__u32)late_had;

	barrier_var(skb);
	if (!sessions)
		return 0;
	if (l3_at)
		read_fields_tc(skb, l3_at, (__u16)l3_type);
	return mirror_copies(skb, sessions, mirror_mark(IVDS_DIRECTION_DROP, port_id, reason, 0));
}

/* Those of a flood's copy at a member or at the uplink, or of its drop there, also for what the member's rules name
 * where they were asked. Sessions that have one already are in the scratch. */
__noinline int mirror_member(struct __sk_buff *skb, __u32 port_id, __u32 reason, __u32 tags)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);
	struct ivds_scratch *s = scratch_of_cpu();
	__u32 sessions;

	barrier_var(skb);
	barrier_var(tags);
	if (!port || !s)
		return 0;
	sessions = reason ? port->mirror_drop : port->mirror_out;
	if (has_lists(port, IVDS_WAY_OUT) && (!reason || reason == IVDS_DROP_ACL_OUT || reason == IVDS_DROP_REDIRECT))
		sessions |= s->decision.mirrors;
	sessions &= ~s->mirrored;
	s->mirrored |= sessions;
	mirror_copies(skb, sessions,
		      mirror_mark(reason ? IVDS_DIRECTION_DROP : IVDS_DIRECTION_OUT, port_id, reason, tags));
	return 0;
}

#endif
