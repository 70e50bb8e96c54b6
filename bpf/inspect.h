/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * inspect.h -- frames on their way to an inspector and back (abi.h, struct ivds_inspection). Whoever has one for it
 * passes it in by the inspector's own interface, with a mark that says what it is: there it gets its inspection and
 * goes out, so that a frame which cannot go out is in one place, whole, and goes on from there or is dropped.
 */
#ifndef IVDS_INSPECT_H
#define IVDS_INSPECT_H

#include "tags.h"

/* Return codes that tcx and cls_bpf share; include/uapi/linux/bpf.h calls them TCX_NEXT and TCX_DROP. */
#define IVDS_TC_NEXT (-1)
#define IVDS_TC_DROP 2

/* skb->mark of such a frame, as mirror.h has others of its copies. An inspector in our network namespace can make
 * the mark as well: it gains the way to itself. */
#define IVDS_MARK_INSPECT             (6u << 29)
#define IVDS_MARK_INSPECT_SEQUENCE(m) ((m) >> 14 & IVDS_SEQUENCE_MASK)
#define IVDS_MARK_INSPECT_WAY(m)      ((m) >> 13 & 1)
#define IVDS_MARK_INSPECT_PORT(m)     ((m) & (IVDS_MAX_PORTS - 1))

_Static_assert(IVDS_SEQUENCE_MASK == 0x7fff && IVDS_MAX_PORTS == 1u << 13, "the mark has no room for more");

/* What inspect() did with the frame. */
#define IVDS_INSPECTED     0 /* it goes on: it needs none, or its inspector fails open */
#define IVDS_INSPECT_GONE  1 /* it is with the inspector; what is here is of no further use */
#define IVDS_INSPECT_NEVER 2 /* it is to be dropped (inspector) */

static const struct ivds_inspector new_inspector;

/* The state of the inspector, which the first that has to do with it makes. */
INLINE struct ivds_inspector *inspector_of(__u32 id)
{
	struct ivds_inspector *state = bpf_map_lookup_elem(&inspectors, &id);

	if (!state && !IVDS_TRACING) {
		bpf_map_update_elem(&inspectors, &id, &new_inspector, BPF_NOEXIST);
		state = bpf_map_lookup_elem(&inspectors, &id);
	}
	return state;
}

/* Whether the inspector was heard lately, and has not too much before it. Frames that it never answers count for as
 * long as it may be silent. */
INLINE int is_listening(const struct ivds_port *port, const struct ivds_inspector *state)
{
	const __u64 now_ns = bpf_ktime_get_ns(), limit_ns = port->timeout_ms * 1000000ULL;

	return port->flags & IVDS_PF_UP && state->heard_ns && state->heard_ns + limit_ns > now_ns &&
	       (state->sent - state->answered < port->queue || state->sent_ns + limit_ns < now_ns);
}

/* What becomes of a frame of the vPort without its inspector. */
INLINE int do_without(const struct ivds_port *inspector, struct ivds_inspector *state, __u32 packets)
{
	const int is_open = (inspector->flags & IVDS_PF_FAIL_OPEN) != 0;

	if (!IVDS_TRACING)
		__sync_fetch_and_add(is_open ? &state->uninspected : &state->refused, packets);
	return is_open ? IVDS_INSPECTED : IVDS_INSPECT_NEVER;
}

/* Hands the frame, as it comes from the vPort's VM or goes to it, to the vPort's inspector. Where it is not taken, it
 * is as it was. A traced frame passes one that listens. */
__noinline int inspect(struct __sk_buff *skb, __u32 port_id, __u32 way)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id), *inspector;
	struct ivds_scratch *s = scratch_of_cpu();
	const __u32 packets = skb->gso_segs ?: 1;
	struct ivds_inspector *state;
	__u32 id, mark, sequence;
	int done, listens;

	barrier_var(skb);
	if (!port || !s)
		return IVDS_INSPECT_NEVER;
	id = port->inspector;
	if (!id || s->inspector == id)
		return IVDS_INSPECTED;
	inspector = bpf_map_lookup_elem(&ports, &id);
	state = inspector_of(id);
	if (!inspector || (!state && !IVDS_TRACING))
		return IVDS_INSPECT_NEVER;
	listens = state && is_listening(inspector, state);
	note(IVDS_TRACE_INSPECT, port_id, id, way, listens);
	if (listens && !IVDS_TRACING) {
		mark = skb->mark;
		sequence = __sync_fetch_and_add(&state->sent, packets) + packets;
		state->sent_ns = bpf_ktime_get_ns(); /* now, as the next of a flood is asked for at once */
		skb->mark = IVDS_MARK_INSPECT | (sequence & IVDS_SEQUENCE_MASK) << 14 | (way & 1) << 13 |
			    (port_id & (IVDS_MAX_PORTS - 1));
		done = bpf_clone_redirect(skb, inspector->ifindex, BPF_F_INGRESS);
		skb->mark = mark;
		if (!done)
			return IVDS_INSPECT_GONE;
		__sync_fetch_and_add(&state->sent, -(__u64)packets);
	}
	done = listens && IVDS_TRACING ? IVDS_INSPECTED : do_without(inspector, state, packets);
	/* It is settled: it does not go there when it leaves, though the inspector may listen by then. */
	if (done == IVDS_INSPECTED && way == IVDS_WAY_IN)
		s->inspector = id;
	return done;
}

/* Sends the frame out to the inspector. Returns nonzero where it was not sent, below 0 where it is whole no more. */
INLINE int send_to_inspector(struct __sk_buff *skb, struct ivds_inspector *state, __u32 mark, __u32 packets)
{
	if (tc_write_tags(skb, bpf_htons(IVDS_TYPE_INSPECTION), IVDS_MARK_INSPECT_PORT(mark),
			  bpf_htons(IVDS_MARK_INSPECT_WAY(mark) << 8), IVDS_MARK_INSPECT_SEQUENCE(mark)))
		return -1;
	if (bpf_clone_redirect(skb, skb->ifindex, 0) == 0)
		return 0;
	__sync_fetch_and_add(&state->sent, -(__u64)packets);
	return tc_pop_any(skb, 2) ? -1 : 1;
}

/* Notes that everything up to the sequence is answered. What is behind what was answered already, or before what was
 * sent, is nothing. */
INLINE void note_answer(struct ivds_inspector *state, __u16 sequence)
{
	const __u64 sent = state->sent, answered = sent - ((sent - sequence) & IVDS_SEQUENCE_MASK);

	if (answered <= sent && answered > state->answered)
		state->answered = answered;
}

/* The frame's tags and addresses as they are now. */
INLINE int parse_skb(struct __sk_buff *skb, struct ivds_frame *f)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct ivds_tag meta = {};

	if (data_end - data < IVDS_PARSE_BYTES && data_end - data < (long)skb->len) {
		bpf_skb_pull_data(skb, skb->len < IVDS_PARSE_BYTES ? skb->len : IVDS_PARSE_BYTES);
		data = (void *)(long)skb->data;
		data_end = (void *)(long)skb->data_end;
	}
	if (skb->vlan_present) {
		meta.tpid_be = skb->vlan_proto;
		meta.vid = skb->vlan_tci & 0xfff;
	}
	return parse_frame(f, data, data_end, meta);
}

/* Whether what the inspector sent back is a frame of this vPort's: of a trunk's, or of one behind it, the tag says.
 * Towards the VM it is held to what the vPort takes; the switch does the same with what comes from the VM. Returns
 * 0 or the reason of a drop. */
static __noinline __u32 check_answer(struct __sk_buff *skb, __u32 port_id, const struct ivds_port *port,
				     const struct ivds_port *carrier, __u32 way)
{
	struct ivds_scratch *s = scratch_of_cpu();
	__u32 found = port->kind == IVDS_PORT_SUB ? port->peer : port_id, l3_bytes;
	struct ivds_frame *f;

	if (!s)
		return IVDS_DROP_TRUNCATED;
	f = &s->answer;
	__builtin_memset(f, 0, sizeof(*f));
	if (parse_skb(skb, f))
		return IVDS_DROP_TRUNCATED;
	l3_bytes = skb->len + (skb->vlan_present ? IVDS_TAG_BYTES : 0) - IVDS_ETH_BYTES - f->tags * IVDS_TAG_BYTES;
	if (may_enter_trunk(f, carrier))
		found = enter_trunk(f, found);
	if (found != port_id)
		return IVDS_DROP_FORGED;
	return way == IVDS_WAY_OUT ? check_vport(port, port->instance, l3_bytes, is_guest_tagged(f)) : 0;
}

/* Whether the vPort is there and its frames go to this inspector. */
INLINE const struct ivds_port *inspected_port(__u32 port_id, __u32 inspector_id)
{
	const struct ivds_port *port = bpf_map_lookup_elem(&ports, &port_id);

	return port && port_id != inspector_id && port->inspector == inspector_id ? port : 0;
}

/* Takes what came in by an inspector's interface: frames of ours for it, and its answers. Returns the id of the port
 * that the frame comes in by from here on, as it was before, or 0: it comes in by none. */
__noinline __u32 pass_inspector(struct __sk_buff *skb, __u32 id)
{
	const __u32 mark = skb->mark, packets = skb->gso_segs ?: 1;
	const struct ivds_port *inspector = bpf_map_lookup_elem(&ports, &id), *port, *carrier;
	struct ivds_scratch *s = scratch_of_cpu();
	struct ivds_inspector *state = inspector_of(id);
	struct ivds_inspection inspection;
	__u32 port_id, way, reason = 0, bytes = skb->len + (skb->vlan_present ? IVDS_TAG_BYTES : 0);
	int failed;

	barrier_var(skb);
	if (!inspector || !s || !state || IVDS_TRACING)
		return 0;
	skb->mark = 0;
	if ((mark & (7u << 29)) == IVDS_MARK_INSPECT) {
		port_id = IVDS_MARK_INSPECT_PORT(mark);
		way = IVDS_MARK_INSPECT_WAY(mark);
		port = inspected_port(port_id, id);
		if (!port)
			goto forged;
		failed = send_to_inspector(skb, state, mark, packets);
		if (!failed)
			return 0;
		if (failed < 0)
			reason = IVDS_DROP_TAG_FAILED;
		else if (do_without(inspector, state, packets) == IVDS_INSPECT_NEVER)
			reason = IVDS_DROP_INSPECTOR;
	} else {
		if (skb->vlan_present || bpf_skb_load_bytes(skb, 12, &inspection, sizeof(inspection)) ||
		    inspection.type_be != bpf_htons(IVDS_TYPE_INSPECTION))
			goto forged;
		state->heard_ns = bpf_ktime_get_ns();
		if (inspection.verdict == IVDS_INSPECT_HELLO)
			return 0;
		port_id = bpf_ntohs(inspection.port_be);
		way = inspection.way & 1;
		port = inspected_port(port_id, id);
		if (!port)
			goto forged;
		note_answer(state, bpf_ntohs(inspection.sequence_be));
		bytes -= sizeof(inspection);
		if (inspection.verdict != IVDS_INSPECT_PASS) {
			__sync_fetch_and_add(&state->blocked, 1);
			reason = IVDS_DROP_BLOCKED;
		} else if (bytes < IVDS_ETH_BYTES || tc_pop_any(skb, 2)) {
			reason = IVDS_DROP_TAG_FAILED;
		}
	}
	carrier = carrier_of(port);
	if (!carrier)
		goto forged;
	if (!reason && (mark & (7u << 29)) != IVDS_MARK_INSPECT) {
		reason = check_answer(skb, port_id, port, carrier, way);
		if (!reason)
			__sync_fetch_and_add(&state->passed, 1);
	}
	if (reason == IVDS_DROP_FORGED)
		goto forged;
	if (!reason && way == IVDS_WAY_OUT) {
		if (!bpf_clone_redirect(skb, carrier->ifindex, 0))
			return 0;
		reason = IVDS_DROP_REDIRECT;
	}
	if (reason) {
		count_drop(port_id, reason, packets, bytes);
		return 0;
	}
	s->inspector = id;
	return port->kind == IVDS_PORT_SUB ? port->peer : port_id;

forged:
	count_drop(id, IVDS_DROP_FORGED, 1, bytes);
	return 0;
}

#endif
