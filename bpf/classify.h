/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * classify.h -- the pipeline: what the switch does with a parsed frame, written once. It reads the
 * tables, learns, and returns a verdict; the front ends (xdp.h, tc.h) carry it out and count it. The
 * four stages of the path (R99 to R101): VLAN filter, V.VLAN look-up, MAC look-up, egress.
 */
#ifndef IVDS_CLASSIFY_H
#define IVDS_CLASSIFY_H

#include "fdb.h"
#include "judge.h"

#ifdef IVDS_TRACE
/* A traced frame comes in by the port that the caller names, whether its interface is there or not. */
INLINE const struct ivds_port *find_port(__u32 ifindex, __u32 *port_id)
{
	const struct ivds_trace *t = the_trace();
	const struct ivds_port *port;

	(void)ifindex;
	*port_id = t ? t->port : 0;
	port = bpf_map_lookup_elem(&ports, port_id);
	if (port)
		note(IVDS_TRACE_PORT, *port_id, port->kind, port->flags, port->instance);
	return port;
}
#else
/* Which port an interface was last found to be, by the low bits of its ifindex. Only a hint: it is believed when
 * the port itself names the interface. It spares a hash look-up a frame. */
#define IVDS_PORT_HINTS 4096
static __u16 port_hints[IVDS_PORT_HINTS];

/* The port of the interface and its id, or NULL where it is none: then the frame is not ours. */
INLINE const struct ivds_port *find_port(__u32 ifindex, __u32 *port_id)
{
	__u16 *hint = &port_hints[ifindex % IVDS_PORT_HINTS];
	const struct ivds_port *port;
	const __u32 *found;

	*port_id = *hint;
	port = bpf_map_lookup_elem(&ports, port_id);
	if (port && port->ifindex == ifindex)
		return port;
	found = bpf_map_lookup_elem(&ifports, &ifindex);
	if (!found)
		return 0;
	*port_id = *found;
	*hint = *port_id;
	return bpf_map_lookup_elem(&ports, port_id);
}
#endif

enum ivds_action {
	IVDS_ACT_DROP,   /* reason, on drop_port */
	IVDS_ACT_HOST,   /* uplink: as if the switch were not there */
	IVDS_ACT_LOCAL,  /* to vPort `egress_id` */
	IVDS_ACT_WIRE,   /* to uplink `egress_id` with the outer VLAN `vlan` and, if not 0, `vvlan` */
	IVDS_ACT_FLOOD,  /* to the other members of the instance; from a vPort also to the wire */
	IVDS_ACT_ANSWER, /* it was a question, and is now the answer to it: back to `in_port` (answer.h) */
};

struct ivds_verdict {
	__u32 action; /* enum ivds_action */
	__u32 reason; /* enum ivds_drop */
	__u32 drop_port;
	__u32 egress_id;
	__u32 instance_id;
	__u16 vlan;
	__u16 vvlan;
	/* That the frame came in with and loses: 2 from the wire, 1 if plain or by a trunk, else 0. */
	__u16 wire_tags;
	__u16 guest_tagged; /* the payload carries a VLAN tag of the guest's own */
	__u16 has_fields;   /* the scratch holds what rules look at */
	__u16 is_redirected;
	__u16 is_patched;   /* it went through a patch: the scratch knows which */
	__u16 is_straggler; /* from the wire, and goes back there: to where its VM went from here */
	__u32 target;       /* redirected: port id of the vPort, 0 where a pool has none */
	__u32 in_instance;  /* that the frame came in by; another than instance_id behind a patch */
	__u32 peer_vlan;    /* from the wire: outer VLAN of its sender where peers may have a rate, else 0 */
	__u32 in_port;      /* that it came in by there: the far end of a patch, or the ingress port */
	__u32 mirrors;      /* sessions that get a copy of the frame as it came in, and … */
	__u32 mirrors_late; /* … those that get one as it goes out, by a rule of the vPort there */
	__u32 judged; /* 1 << enum ivds_way, for each list that was asked: it counts in the lists' rules and flows */
	const struct ivds_port *egress;
	const struct ivds_instance *instance;
};

INLINE void set_drop(struct ivds_verdict *v, __u32 reason, __u32 port)
{
	v->action = IVDS_ACT_DROP;
	v->reason = reason;
	v->drop_port = port;
}

/* Whether the frame of a vPort may belong to one behind it, by its first tag. */
INLINE int may_enter_trunk(const struct ivds_frame *f, const struct ivds_port *port)
{
	return port->flags & IVDS_PF_TRUNK && f->tag[0].tpid_be == bpf_htons(IVDS_TPID_C) && f->tag[0].vid;
}

/* The id of the vPort that it belongs to, and then the tag is the frame's no more; else the trunk's own. A global
 * function, so that the verifier does not follow each number of tags to the end. */
__noinline __u32 enter_trunk(struct ivds_frame *f, __u32 port_id)
{
	struct ivds_vvlan_key key = {.uplink = port_id};
	const struct ivds_vvlan *found;
	const struct ivds_port *sub;
	const struct ivds_tag none = {};
	__u32 id;

	if (!f)
		return port_id;
	key.vlan = f->tag[0].vid;
	found = bpf_map_lookup_elem(&vvlans, &key);
	if (!found)
		return port_id;
	id = found->instance;
	sub = bpf_map_lookup_elem(&ports, &id);
	if (!sub || sub->kind != IVDS_PORT_SUB)
		return port_id;
	note(IVDS_TRACE_TRUNK, port_id, key.vlan, id, 0);
	f->tag[0] = f->tag[1];
	f->tag[1] = f->tag[2];
	f->tag[2] = none;
	f->tags--;
	return id;
}

/* 1 for a vPort behind a trunk, else 0, without a branch: the verifier would follow both sides of it to the end. */
INLINE __u32 is_sub(const struct ivds_port *port)
{
	_Static_assert(IVDS_PORT_SUB == 4 && IVDS_PORT_PATCH < 4, "the one kind with that bit");
	return port->kind >> 2 & 1;
}

/* Whether vPort `to` of the instance takes the frame: 0 or a reason that counts on `to`. */
INLINE __u32 check_vport(const struct ivds_port *to, __u32 instance_id, __u32 l3_bytes, __u32 guest_tagged)
{
	const struct ivds_port *carrier = carrier_of(to);

	if ((to->kind != IVDS_PORT_VPORT && to->kind != IVDS_PORT_SUB) || to->instance != instance_id || !carrier ||
	    !(to->flags & carrier->flags & IVDS_PF_UP))
		return IVDS_DROP_PORT_DOWN;
	if (guest_tagged && !(to->flags & IVDS_PF_CARRY_TAGS))
		return IVDS_DROP_GUEST_TAG_OUT;
	if (l3_bytes > to->mtu_bytes)
		return IVDS_DROP_OVERSIZE_OUT;
	return 0;
}

/* Whether the uplink takes it: behind the Ethernet header go the tags of the wire, the guest's tags and L3. */
INLINE __u32 check_uplink(const struct ivds_port *to, __u32 l3_bytes, __u32 tags)
{
	if (to->kind != IVDS_PORT_UPLINK || !(to->flags & IVDS_PF_UP))
		return IVDS_DROP_PORT_DOWN;
	if (l3_bytes + tags * IVDS_TAG_BYTES > to->mtu_bytes)
		return IVDS_DROP_OVERSIZE_OUT;
	return 0;
}

/* Reads what rules look at, once a frame. */
INLINE int read_fields(struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f)
{
	if (v->has_fields)
		return 0;
	v->has_fields = 1;
	return packet->is_xdp ? read_fields_xdp(packet->ctx, f->l3_at, f->type_be)
			      : read_fields_tc(packet->ctx, f->l3_at, f->type_be);
}

/* Whether the vPort's lists have a say about frames that go this way. */
INLINE int has_lists(const struct ivds_port *port, __u32 way)
{
	return acl_of(port, way) || port->flags & IVDS_PF_STATEFUL;
}

/* The frame's bytes as a VM sees it: without the tags of the wire, of which a vPort's has none. */
INLINE __u32 inner_bytes(const struct ivds_verdict *v, const struct ivds_size *size)
{
	return size->bytes - size->packets * v->wire_tags * IVDS_TAG_BYTES;
}

/* Holds the frame against a vPort's lists, by way of its flows, and counts it there. Returns 0 or the reason of a
 * drop; what cannot be read is dropped. */
INLINE __u32 judge(struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f,
		   const struct ivds_size *size, __u32 port_id, __u32 way)
{
	struct ivds_ask ask = {
	    .port = port_id,
	    .instance = v->instance_id,
	    .way = way,
	    .l3_at = f->l3_at,
	    .type_be = f->type_be,
	    .has_fields = v->has_fields,
	    .packets = size->packets,
	    .bytes = inner_bytes(v, size),
	};
	const __u32 reason = packet->is_xdp ? judge_xdp(packet->ctx, &ask) : judge_tc(packet->ctx, &ask);
	const struct ivds_scratch *s = scratch_of_cpu();

	v->has_fields = ask.has_fields;
	v->judged |= 1 << way;
	if (s) {
		if (way == IVDS_WAY_OUT && !reason)
			v->mirrors_late = s->decision.mirrors;
		else
			v->mirrors |= s->decision.mirrors;
		if (way == IVDS_WAY_IN && s->decision.action == IVDS_ACL_REDIRECT) {
			v->is_redirected = 1;
			v->target = s->decision.target;
		}
	}
	return reason;
}

/* The same where the frame passes and leaves no flow: a copy of a flood, the ends of a patch. The decision is in the
 * scratch. Returns whether it is dropped. */
INLINE int judge_passing(__u32 port_id, __u32 instance, __u32 way)
{
	const struct ivds_scratch *s = scratch_of_cpu();

	judge_anew(port_id, instance, way, make_flow_key(port_id, instance, way), 1);
	return !s || s->decision.action == IVDS_ACL_DROP;
}

/* Notes that the source is behind the port, and outer VLAN `vlan` (0: a vPort). `entry` is what is known of it. */
INLINE void learn_source(const struct ivds_frame *f, const struct ivds_verdict *v, __u32 port_id,
			 const struct ivds_port *port, __u16 vlan, struct ivds_fdb_entry *entry)
{
	struct ivds_sighting s = {
	    .mac = f->src,
	    .port = port_id,
	    .port_limit = port->fdb_limit,
	    .instance = v->instance_id,
	    .instance_limit = v->instance->fdb_limit,
	    .vlan = vlan,
	    .flags = vlan && v->wire_tags == 1 ? IVDS_FDB_PLAIN : 0,
	};

	learn(&s, entry);
}

/* Takes the frame out of its instance by one end of a patch, `out_id`, and into the other's by the other. Returns
 * nonzero where it is dropped on the way. The ends are vPorts with rules, but know no flows. Within one instance the
 * frame could come back to its source: such a patch carries nothing. */
INLINE int cross_patch(struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f,
		       const struct ivds_size *size, __u32 port_id, __u32 out_id, const struct ivds_port *out)
{
	struct ivds_scratch *s = scratch_of_cpu();
	__u32 in_id = out->peer, instance_id;
	const struct ivds_port *in = bpf_map_lookup_elem(&ports, &in_id);
	const struct ivds_instance *instance;

	if (!s || !in || in->kind != IVDS_PORT_PATCH || !(in->flags & out->flags & IVDS_PF_UP) ||
	    out->instance != v->instance_id || in->instance == out->instance) {
		set_drop(v, IVDS_DROP_PATCH, port_id);
		return -1;
	}
	if (v->guest_tagged && !(in->flags & out->flags & IVDS_PF_CARRY_TAGS)) {
		set_drop(v, IVDS_DROP_GUEST_TAG_OUT, out_id);
		return -1;
	}
	if (size->l3_bytes > out->mtu_bytes) {
		set_drop(v, IVDS_DROP_OVERSIZE_OUT, out_id);
		return -1;
	}
	s->rule_patch_out = s->rule_patch_in = 0;
	/* A known flow's entry has brought the frame here: then the scratch may still hold the fields of another. */
	if ((out->acl_out || in->acl_in) && read_fields(v, packet, f)) {
		set_drop(v, IVDS_DROP_ACL_OUT, out_id);
		return -1;
	}
	if (out->acl_out) {
		const int is_drop = judge_passing(out_id, v->instance_id, IVDS_WAY_OUT);

		s->rule_patch_out = s->decision.rule;
		v->mirrors |= s->decision.mirrors;
		if (is_drop) {
			set_drop(v, IVDS_DROP_ACL_OUT, out_id);
			return -1;
		}
	}
	instance_id = in->instance;
	instance = bpf_map_lookup_elem(&instances, &instance_id);
	note(IVDS_TRACE_PATCH, out_id, in_id, instance_id, 0);
	if (!instance || !(instance->flags & IVDS_IF_ACTIVE)) {
		set_drop(v, IVDS_DROP_INSTANCE_DOWN, in_id);
		return -1;
	}
	if (size->l3_bytes > in->mtu_bytes || size->l3_bytes > instance->mtu_bytes) {
		set_drop(v, IVDS_DROP_OVERSIZE, in_id);
		return -1;
	}
	if (in->acl_in) {
		const int is_drop = judge_passing(in_id, instance_id, IVDS_WAY_IN);

		s->rule_patch_in = s->decision.rule;
		v->mirrors |= s->decision.mirrors;
		if (is_drop || s->decision.action == IVDS_ACL_REDIRECT) {
			set_drop(v, is_drop ? IVDS_DROP_ACL : IVDS_DROP_PATCH, in_id);
			return -1;
		}
	}
	v->mirrors |= out->mirror_out | in->mirror_in;
	s->patch_out = out_id;
	v->is_patched = 1;
	v->in_port = in_id;
	v->instance = instance;
	v->instance_id = instance_id;
	return 0;
}

#define IVDS_TCI_DEI 0x1000 /* IEEE 802.1Q-2018 9.6: drop eligible */

/* Whether a host has sent the frame on before. No bridge of the fabric touches the V.VLAN's tag, so that what is said
 * there arrives. */
__noinline int was_sent_on_tc(struct __sk_buff *skb, __u32 l3_at, __u32 tags)
{
	__be16 tci_be;

	return bpf_skb_load_bytes(skb, l3_at - (tags - 1) * IVDS_TAG_BYTES, &tci_be, sizeof(tci_be)) ||
	       tci_be & bpf_htons(IVDS_TCI_DEI);
}

__noinline int was_sent_on_xdp(struct xdp_md *ctx, __u32 l3_at, __u32 tags)
{
	__be16 tci_be;

	return bpf_xdp_load_bytes(ctx, l3_at - (tags - 1) * IVDS_TAG_BYTES, &tci_be, sizeof(tci_be)) ||
	       tci_be & bpf_htons(IVDS_TCI_DEI);
}

/* Whether a frame from the wire goes back there as its VM went from here a moment ago, and the sender has not heard
 * of it. It leaves in another outer VLAN than it came in by, and only once in its life, so that it never goes round
 * between hosts of which neither has the VM. It never leaves in the outer VLAN that leads to its sender: the fabric
 * would learn that the sender is here, and frames to it would come here until it sends in that VLAN itself. */
INLINE int is_straggler(const struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f,
			const struct ivds_fdb_entry *entry)
{
	const struct ivds_fdb_entry *source;
	int was;

	if (!(entry->flags & IVDS_FDB_MOVED) || entry->flags & IVDS_FDB_PLAIN || v->wire_tags != 2 || !entry->vlan ||
	    entry->vlan == f->tag[0].vid || (__s32)(entry->last_seen_s - now_s()) < 0)
		return 0;
	source = fdb_lookup(IVDS_TRACE_SOURCE, v->instance_id, f->src);
	if (source && (source->vlan ?: v->instance->vlan) == entry->vlan) {
		note(IVDS_TRACE_MOVED, 2, 0, 0, 0);
		return 0;
	}
	was = packet->is_xdp ? was_sent_on_xdp(packet->ctx, f->l3_at, f->tags)
			     : was_sent_on_tc(packet->ctx, f->l3_at, f->tags);
	note(IVDS_TRACE_MOVED, was, 0, 0, 0);
	return !was;
}

/* Where a frame of the instance goes that was let in at the port, whichever kind of port it is. */
INLINE void forward(struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f,
		    const struct ivds_size *size, __u32 port_id)
{
	const struct ivds_fdb_entry *entry = 0;
	const struct ivds_instance *instance;
	__u32 to = 0, reason;

	v->action = IVDS_ACT_FLOOD;
	v->in_port = port_id;
	if (v->is_redirected) {
		const struct ivds_port *target;

		to = v->target;
		note(IVDS_TRACE_TARGET, to, 0, 0, 0);
		if (!to)
			return set_drop(v, IVDS_DROP_NO_MEMBER, port_id);
		target = bpf_map_lookup_elem(&ports, &to);
		if (target && target->kind == IVDS_PORT_PATCH) {
			if (cross_patch(v, packet, f, size, port_id, to, target))
				return;
			to = 0;
		}
	}
	instance = v->instance;
	if (!instance)
		return set_drop(v, IVDS_DROP_NO_INSTANCE, port_id);
	if (!to) {
		if (is_multicast(f->dst)) {
			note(IVDS_TRACE_GROUP, 0, 0, 0, 0);
			return;
		}
		entry = fdb_lookup(IVDS_TRACE_DESTINATION, v->instance_id, f->dst);
		if (!entry)
			return;
		to = entry->port;
	}
	if (to == port_id) {
		v->is_straggler = entry && is_straggler(v, packet, f, entry);
		if (!v->is_straggler)
			return set_drop(v, IVDS_DROP_SAME_PORT, port_id);
	}
	v->egress_id = to;
	v->egress = bpf_map_lookup_elem(&ports, &to);
	if (!v->egress)
		return set_drop(v, IVDS_DROP_PORT_DOWN, to);
	if (entry && to == instance->uplink) {
		if (!(instance->flags & IVDS_IF_WIRE))
			return set_drop(v, IVDS_DROP_NO_UPLINK, port_id);
		v->action = IVDS_ACT_WIRE;
		v->vlan = entry->vlan ? entry->vlan : instance->vlan;
		v->vvlan = entry->flags & IVDS_FDB_PLAIN ? 0 : instance->vvlan;
		reason = check_uplink(v->egress, size->l3_bytes, f->tags + (v->is_straggler ? 0 : v->vvlan ? 2 : 1));
		/* Behind the outer VLAN alone, the guest's tag would be a V.VLAN's, and the frame another tenant's.
		 */
		if (!reason && v->guest_tagged && instance->vvlan && !v->vvlan)
			reason = IVDS_DROP_GUEST_TAG_OUT;
	} else {
		v->action = IVDS_ACT_LOCAL;
		reason = check_vport(v->egress, v->instance_id, size->l3_bytes, v->guest_tagged);
		if (!reason && has_lists(v->egress, IVDS_WAY_OUT))
			reason = judge(v, packet, f, size, to, IVDS_WAY_OUT);
	}
	note(IVDS_TRACE_EGRESS, to, v->vlan, v->vvlan, reason);
	if (reason)
		set_drop(v, reason, to);
}

/* The same for a frame that is not let in. */
INLINE int refuse(struct ivds_verdict *v, __u32 reason, __u32 port)
{
	set_drop(v, reason, port);
	return 0;
}

/* What a frame of a vPort has to pass to be let into its instance. Returns whether it is forwarded. */
INLINE int classify_vport(struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f,
			  const struct ivds_size *size, __u32 port_id, const struct ivds_port *port)
{
	int is_news = 0;
	__u32 instance_id = port->instance;
	const struct ivds_instance *instance;
	struct ivds_fdb_entry *entry = 0;

	v->instance_id = v->in_instance = instance_id;
	instance = bpf_map_lookup_elem(&instances, &instance_id);
	if (!instance_id || !instance)
		return refuse(v, IVDS_DROP_NO_INSTANCE, port_id);
	note(IVDS_TRACE_INSTANCE, instance_id, instance->flags, instance->mtu_bytes, instance->uplink);
	v->instance = instance;
	if (!(instance->flags & IVDS_IF_ACTIVE))
		return refuse(v, IVDS_DROP_INSTANCE_DOWN, port_id);
	if (is_bad_source(f->src))
		return refuse(v, IVDS_DROP_BAD_SOURCE, port_id);
	if (is_link_local(f->dst) || f->type_be == bpf_htons(IVDS_TYPE_CONTROL))
		return refuse(v, IVDS_DROP_VM_CONTROL, port_id);
	v->guest_tagged = is_guest_tagged(f);
	if (v->guest_tagged && !(port->flags & IVDS_PF_CARRY_TAGS))
		return refuse(v, IVDS_DROP_GUEST_TAG, port_id);
	if (size->l3_bytes > port->mtu_bytes || size->l3_bytes > instance->mtu_bytes)
		return refuse(v, IVDS_DROP_OVERSIZE, port_id);

	if (is_same_mac(f->src, port->vmac)) {
		note(IVDS_TRACE_VMAC, 0, 0, 0, 0);
	} else {
		entry = fdb_lookup(IVDS_TRACE_SOURCE, instance_id, f->src);
		if (entry && entry->flags & IVDS_FDB_STATIC) {
			if (entry->port != port_id)
				goto spoof;
		} else if (port->flags & IVDS_PF_ANTI_SPOOF) {
			goto spoof;
		} else {
			is_news = 1;
		}
	}
	if (has_lists(port, IVDS_WAY_IN)) {
		const __u32 reason = judge(v, packet, f, size, port_id, IVDS_WAY_IN);

		if (reason)
			return refuse(v, reason, port_id);
	}
	if (is_news)
		learn_source(f, v, port_id, port, 0, entry);

	return 1;

spoof:
	event(IVDS_EVENT_SPOOF, port_id, 0, instance_id, f->src);
	return refuse(v, IVDS_DROP_SPOOF, port_id);
}

/* Whether frames of the instance have the V.VLAN's tag alone: one that a VM sent is none of the host's, whatever its
 * address. */
INLINE int is_single_tag(__u32 instance_id)
{
	const struct ivds_instance *instance = bpf_map_lookup_elem(&instances, &instance_id);

	return instance_id && instance && !instance->vvlan;
}

/* Whether a source from the wire is known for good, and behind that outer VLAN. */
INLINE int is_registered(const struct ivds_fdb_entry *entry, __u16 vlan)
{
	return entry && entry->flags & IVDS_FDB_STATIC && (!entry->vlan || entry->vlan == vlan);
}

/* The same for a frame of an uplink. */
INLINE int classify_uplink(struct ivds_verdict *v, const struct ivds_frame *f, const struct ivds_size *size,
			   __u32 port_id, const struct ivds_port *port)
{
	struct ivds_vvlan_key key = {.uplink = port_id, .vlan = f->tag[0].vid};
	const struct ivds_instance *instance;
	const struct ivds_vvlan *vvlan;
	struct ivds_fdb_entry *entry;
	__u32 instance_id, reason, host = IVDS_TRACE_HOST_PLAIN;

	if (f->tags == 0 || f->tag[0].tpid_be != port->outer_tpid_be) {
		host = IVDS_TRACE_HOST_UNTAGGED;
		goto host;
	}
	if (f->tags == 1 || f->tag[1].tpid_be != port->inner_tpid_be) {
		if (is_link_local(f->dst))
			host = IVDS_TRACE_HOST_LINK_LOCAL;
		if (!(port->flags & (IVDS_PF_PLAIN_DROP | IVDS_PF_PLAIN_IN)))
			goto host;
		vvlan = bpf_map_lookup_elem(&vvlans, &key);
		if (!vvlan || (is_link_local(f->dst) && !is_single_tag(vvlan->instance)))
			goto host;
		note(IVDS_TRACE_VVLAN, port_id, key.vlan, 0, vvlan->instance);
		if (!vvlan->instance) {
			if (port->flags & IVDS_PF_PLAIN_DROP)
				return refuse(v, IVDS_DROP_NO_VVLAN, port_id);
			goto host;
		}
		v->wire_tags = 1;
		v->guest_tagged = (f->tag[1].vid | f->tag[2].vid) != 0;
	} else {
		if ((__u16)(f->tag[0].vid - 1) >= IVDS_VLAN_MAX || (__u16)(f->tag[1].vid - 1) >= IVDS_VLAN_MAX)
			return refuse(v, IVDS_DROP_BAD_VID, port_id);
		key.vvlan = f->tag[1].vid;
		vvlan = bpf_map_lookup_elem(&vvlans, &key);
		note(IVDS_TRACE_VVLAN, port_id, key.vlan, key.vvlan, vvlan ? vvlan->instance : 0);
		if (!vvlan) {
			count_miss(port_id, key.vlan, key.vvlan, size->packets, size->bytes);
			key.vvlan = 0;
			reason =
			    bpf_map_lookup_elem(&vvlans, &key) ? IVDS_DROP_UNKNOWN_VVLAN : IVDS_DROP_UNKNOWN_VLAN;
			return refuse(v, reason, port_id);
		}
		v->wire_tags = 2;
		v->guest_tagged = is_guest_tagged_behind_two(f);
	}

	instance_id = vvlan->instance;
	v->instance_id = v->in_instance = instance_id;
	instance = bpf_map_lookup_elem(&instances, &instance_id);
	if (!instance || (instance->flags & (IVDS_IF_ACTIVE | IVDS_IF_WIRE)) != (IVDS_IF_ACTIVE | IVDS_IF_WIRE) ||
	    instance->uplink != port_id)
		return refuse(v, IVDS_DROP_INSTANCE_DOWN, port_id);
	note(IVDS_TRACE_INSTANCE, instance_id, instance->flags, instance->mtu_bytes, instance->uplink);
	v->instance = instance;
	if (is_bad_source(f->src))
		return refuse(v, IVDS_DROP_BAD_SOURCE, port_id);
	if (is_link_local(f->dst))
		return refuse(v, IVDS_DROP_VM_CONTROL, port_id);
	if (size->l3_bytes > instance->mtu_bytes)
		return refuse(v, IVDS_DROP_OVERSIZE, port_id);

	entry = fdb_lookup(IVDS_TRACE_SOURCE, instance_id, f->src);
	if (entry && entry->flags & IVDS_FDB_STATIC && entry->port != port_id)
		return refuse(v, IVDS_DROP_WIRE_SOURCE, port_id);
	/* The plain copy of a flood that came with its V.VLAN as well, or a plain host with a VM's address. */
	if (entry && instance->vvlan && v->wire_tags == 1 && !(entry->flags & IVDS_FDB_PLAIN))
		return refuse(v, IVDS_DROP_PLAIN_SOURCE, port_id);
	if (instance->flags & IVDS_IF_REGISTERED && !is_registered(entry, key.vlan)) {
		event(IVDS_EVENT_UNREGISTERED, port_id, 0, instance_id, f->src);
		return refuse(v, IVDS_DROP_UNREGISTERED, port_id);
	}
	if (instance->flags & IVDS_IF_PEER_RATES)
		v->peer_vlan = !entry || !(entry->flags & IVDS_FDB_STATIC) ? key.vlan : entry->vlan ?: instance->vlan;
	if (!(entry && entry->flags & IVDS_FDB_STATIC) && instance->flags & IVDS_IF_LEARN_WIRE)
		learn_source(f, v, port_id, port, key.vlan, entry);

	return 1;

host:
	note(IVDS_TRACE_HOST, host, 0, 0, 0);
	v->action = IVDS_ACT_HOST;
	return 0;
}

/* Adds the sessions that mirror the ports, once each. What is the host's is in no mirror. */
INLINE void pick_mirrors(struct ivds_verdict *v, __u32 port_id, const struct ivds_port *port)
{
	if (v->action == IVDS_ACT_HOST)
		return;
	v->mirrors |= port->mirror_in;
	if (v->action == IVDS_ACT_DROP) {
		__u32 at = v->drop_port;

		if (at != port_id)
			port = bpf_map_lookup_elem(&ports, &at);
		if (port)
			v->mirrors |= port->mirror_drop;
	}
}

/* Other sessions that get one as the frame goes out; those of a flood's members come to it on the way. */
INLINE __u32 mirrors_out(const struct ivds_verdict *v)
{
	if ((v->action != IVDS_ACT_LOCAL && v->action != IVDS_ACT_WIRE) || !v->egress)
		return 0;
	return (v->egress->mirror_out | v->mirrors_late) & ~v->mirrors;
}

INLINE void classify(struct ivds_verdict *v, const struct ivds_packet *packet, const struct ivds_frame *f,
		     const struct ivds_size *size, __u32 port_id, const struct ivds_port *port)
{
	if (IVDS_TRACING) {
		read_fields(v, packet, f);
		note_frame(f, size->l3_bytes, size->bytes);
	}
	v->wire_tags = is_sub(port);
	if (port->kind == IVDS_PORT_UPLINK ? classify_uplink(v, f, size, port_id, port)
					   : classify_vport(v, packet, f, size, port_id, port))
		forward(v, packet, f, size, port_id);
	pick_mirrors(v, port_id, port);
}

/* The frame counts for no rule and no flow: it is another rung's. */
INLINE void unjudge(const struct ivds_verdict *v, const struct ivds_size *size)
{
	if (v->judged & 1 << IVDS_WAY_IN)
		take_back(IVDS_WAY_IN, size->packets, inner_bytes(v, size));
	if (v->judged & 1 << IVDS_WAY_OUT)
		take_back(IVDS_WAY_OUT, size->packets, inner_bytes(v, size));
}

/* Counts a drop where its reason belongs. At the port that a frame from the wire was meant for it counts as the
 * VM's frame, without the tags of the wire, as in a flood. */
INLINE void count_verdict(const struct ivds_verdict *v, const struct ivds_size *size, __u32 port_id)
{
	count_drop(v->drop_port, v->reason, size->packets,
		   v->drop_port == port_id ? size->bytes : inner_bytes(v, size));
}

/* Counts the frame at both ends of the patch that it went through, and in the instance behind it. */
INLINE void count_patch(const struct ivds_verdict *v, const struct ivds_size *size)
{
	const struct ivds_scratch *s = scratch_of_cpu();
	const __u32 bytes = inner_bytes(v, size);
	__u32 in_id = v->in_port, instance_id = v->instance_id;
	struct ivds_port_stats *ps = bpf_map_lookup_elem(&port_stats, &in_id);
	struct ivds_instance_stats *is = bpf_map_lookup_elem(&instance_stats, &instance_id);

	if (!s)
		return;
	count_rule(s->rule_patch_out, size->packets, bytes);
	count_rule(s->rule_patch_in, size->packets, bytes);
	count_tx(s->patch_out, size->packets, bytes);
	if (ps) {
		ps->rx_packets += size->packets;
		ps->rx_bytes += bytes;
		if (v->action == IVDS_ACT_FLOOD)
			ps->rx_flood += size->packets;
		else if (v->action == IVDS_ACT_WIRE)
			ps->rx_wire += size->packets;
		else
			ps->rx_local += size->packets;
	}
	if (is) {
		is->port_packets += size->packets;
		is->port_bytes += bytes;
	}
}

/* Counts a frame that was accepted and sent to at least one place. */
INLINE void count_accepted(const struct ivds_verdict *v, const struct ivds_size *size, __u32 port_id,
			   const struct ivds_port *port)
{
	__u32 instance_id = v->in_instance;
	struct ivds_port_stats *ps = bpf_map_lookup_elem(&port_stats, &port_id);
	struct ivds_instance_stats *is = bpf_map_lookup_elem(&instance_stats, &instance_id);
	const int uplink = port->kind == IVDS_PORT_UPLINK;

	note(IVDS_TRACE_ACCEPT, v->action, port_id, size->packets, size->bytes);
	if (IVDS_TRACING)
		return;
	if (v->is_patched)
		count_patch(v, size);
	if (ps) {
		ps->rx_packets += size->packets;
		ps->rx_bytes += size->bytes;
		if (v->action == IVDS_ACT_FLOOD)
			ps->rx_flood += size->packets;
		else if (v->action == IVDS_ACT_ANSWER)
			ps->rx_answered += size->packets;
		else if (v->action == IVDS_ACT_WIRE || uplink)
			ps->rx_wire += size->packets;
		else
			ps->rx_local += size->packets;
	}
	if (is) {
		if (uplink) {
			is->wire_packets += size->packets;
			is->wire_bytes += inner_bytes(v, size);
		} else {
			is->port_packets += size->packets;
			is->port_bytes += inner_bytes(v, size);
		}
	}
}

#endif
