/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * recent.h -- what a CPU decided about a flow in this tick of the clock. The flow table costs a hash of 64 bytes a
 * frame; a flow's further frames in the same tick, nearly all of a busy one's, find their decision here by fewer
 * bytes and a cheaper hash. It is believed as long as the list is the same and the port's flows have not been changed
 * (flow_epoch); what it counts the flow is told in the next tick, or by the sweep.
 */
#ifndef IVDS_RECENT_H
#define IVDS_RECENT_H

#include "flow.h"

#define IVDS_QUICK_BYTES 34 /* an IPv4 header without options and a TCP header up to its flags */

/* A front end's packet, for what needs its helpers. */
struct ivds_packet {
	void *ctx;
	int is_xdp; /* a constant where it is inlined */
};

/* A frame that a vPort's lists are asked about. */
struct ivds_ask {
	__u32 port; /* the vPort's id */
	__u32 instance;
	__u32 way; /* enum ivds_way */
	__u32 l3_at;
	__u32 type_be;
	__u32 has_fields; /* the scratch holds what rules look at; after the call as well */
	__u32 packets;    /* that it counts as, at the vPort */
	__u32 bytes;
};

/* Whether the key below says all of a frame's flow: IPv4 without options, whole, TCP or UDP. At `ip` are
 * IVDS_QUICK_BYTES. Both read word by word: a packet's bytes are aligned to two, and every machine that BPF is
 * compiled for here reads words there. */
INLINE int has_recent_key(const __u8 *ip)
{
	const __u32 *words = __builtin_assume_aligned(ip, 4);

	return ip[0] == 0x45 && (ip[9] == IVDS_IP_TCP || ip[9] == IVDS_IP_UDP) && !(words[1] & bpf_htonl(0x3fff));
}

/* It is written as it is read later, word by word. */
INLINE void write_recent_key(struct ivds_recent_key *key, const __u8 *data, const __u8 *ip, __u32 port,
			     __u32 instance, __u32 way)
{
	const __u32 *macs = __builtin_assume_aligned(data, 4), *words = __builtin_assume_aligned(ip, 4);
	const __u32 flags = ip[9] == IVDS_IP_TCP ? ip[33] : 0;

	_Static_assert(__builtin_offsetof(struct ivds_recent_key, proto) == 20 &&
			   __builtin_offsetof(struct ivds_recent_key, src) == 24 &&
			   sizeof(struct ivds_recent_key) == 40,
		       "the key is written word by word");
	key->word[0] = port | (__u64)instance << 32;
	key->word[1] = macs[0] | (__u64)macs[1] << 32;
	key->word[2] = macs[2] | (__u64)bpf_htonl(ip[9] << 24 | flags << 16 | (way & 1) << 8) << 32;
	key->word[3] = words[3] | (__u64)words[4] << 32;
	key->word[4] = words[5];
}

/* Makes the key of the commonest frames straight from the packet. Returns 0 where the frame is another; read_fields
 * and make_flow_key then say all about it. */
INLINE int make_recent_key(struct ivds_recent_key *key, const struct ivds_packet *packet, const struct ivds_ask *ask)
{
	const __u8 *data, *data_end, *ip;

	if (IVDS_TRACING)
		return 0;
	if (packet->is_xdp) {
		data = (void *)(long)((struct xdp_md *)packet->ctx)->data;
		data_end = (void *)(long)((struct xdp_md *)packet->ctx)->data_end;
	} else {
		data = (void *)(long)((struct __sk_buff *)packet->ctx)->data;
		data_end = (void *)(long)((struct __sk_buff *)packet->ctx)->data_end;
	}
	ip = data + (ask->l3_at & 63);
	if (ask->type_be != bpf_htons(IVDS_TYPE_IPV4) || data + 12 > data_end || ip + IVDS_QUICK_BYTES > data_end ||
	    !has_recent_key(ip))
		return 0;
	write_recent_key(key, data, ip, ask->port, ask->instance, ask->way);
	return 1;
}

INLINE __u32 slot_of(const struct ivds_recent_key *key)
{
	__u64 hash = (key->word[1] ^ key->word[3]) * 0x9e3779b97f4a7c15ULL;

	_Static_assert(IVDS_MAX_RECENTS == 1 << 9, "the hash's upper bits");
	hash ^= (key->word[2] ^ key->word[4]) * 0xc2b2ae3d27d4eb4fULL;
	return (hash ^ key->word[0]) * 0x9e3779b97f4a7c15ULL >> 55;
}

/* The same as the key of the flow's entry. */
INLINE void make_whole_key(struct ivds_flow_key *key, const struct ivds_recent_key *from)
{
	const int is_out = from->way == IVDS_WAY_OUT;
	__u32 *out = (__u32 *)(void *)&key->fields;

	_Static_assert(__builtin_offsetof(struct ivds_fields, src) == 12 &&
			   __builtin_offsetof(struct ivds_fields, dst) == 28 && sizeof(struct ivds_fields) == 56,
		       "the key is written word by word");
	key->port = from->port;
	key->instance = from->instance;
	copy_mac(key->fields.src_mac, is_out ? from->macs : from->macs + 6);
	copy_mac(key->fields.dst_mac, is_out ? from->macs + 6 : from->macs);
	out[3] = out[4] = out[7] = out[8] = 0;
	out[5] = out[9] = bpf_htonl(0xffff);
	out[6] = is_out ? from->dst : from->src;
	out[10] = is_out ? from->src : from->dst;
	key->fields.type_be = bpf_htons(IVDS_TYPE_IPV4);
	key->fields.sport_be = is_out ? from->dport_be : from->sport_be;
	key->fields.dport_be = is_out ? from->sport_be : from->dport_be;
	key->fields.proto = from->proto;
	key->fields.tcp_flags = 0;
	out[13] = 0;
}

/* Whether the row holds what was decided about the key's flow in this tick, for the key's port and its state `ps`. A
 * frame of a known flow differs nowhere, and so all is compared before anything is asked. */
INLINE int recent_holds(const struct ivds_recent *r, const struct ivds_recent_key *key, const struct ivds_port *port,
			const struct ivds_port_state *ps, __u64 tick)
{
	const __u64 other = (r->tick ^ tick) | (r->key.word[0] ^ key->word[0]) | (r->key.word[1] ^ key->word[1]) |
			    (r->key.word[2] ^ key->word[2]) | (r->key.word[3] ^ key->word[3]) |
			    (r->key.word[4] ^ key->word[4]) | (r->epoch ^ ps->flow_epoch) |
			    (r->acl ^ acl_of(port, r->acl_way));

	return !other;
}

/* Tells the flow, or where it is gone its rule, of the frames that it does not know of yet; by who holds r->busy.
 * `room` is for a key. What was taken back since is taken back there: the difference wraps. */
__noinline int tell_of_recent(struct ivds_recent *r, struct ivds_flow_key *room)
{
	__u64 packets, bytes;
	struct ivds_flow *flow;

	if (!r || !room)
		return 0;
	packets = r->packets - r->told_packets;
	bytes = r->bytes - r->told_bytes;
	if (!(packets | bytes))
		return 0;
	r->told_packets += packets;
	r->told_bytes += bytes;
	make_whole_key(room, &r->key);
	flow = bpf_map_lookup_elem(&flows, room);
	if (!flow || !count_flow(flow, r->key.way, r->decision.rule, packets, bytes, 0))
		count_rule(r->decision.rule, packets, bytes);
	return 0;
}

/* Keeps the decision in the scratch for the frames of its flow that follow in this tick; it is that of the entry's
 * way `acl_way`. What is there from this tick stays: a row of flows that share a place shall not tell each other's.
 */
__noinline int keep_recent(struct ivds_recent *r, __u32 acl_way)
{
	const __u64 tick = bpf_jiffies64();
	struct ivds_scratch *s = scratch_of_cpu();
	const struct ivds_port_state *ps;
	const struct ivds_port *port;
	__u32 id;

	if (!r || !s || s->pool)
		return 0; /* whether a pool's member is up is asked for each frame */
	id = s->recent.port;
	port = bpf_map_lookup_elem(&ports, &id);
	ps = bpf_map_lookup_elem(&port_state, &id);
	if (!port || !ps)
		return 0;
	if (r->tick == tick && (r->key.port != id || r->epoch == ps->flow_epoch))
		return 0;
	/* The sweep of another CPU may be at it: then another time. */
	if (__sync_val_compare_and_swap(&r->busy, 0, 1))
		return 0;
	tell_of_recent(r, &s->key);
	r->key = s->recent;
	r->tick = tick;
	r->epoch = ps->flow_epoch;
	r->acl_way = acl_way & 1;
	r->acl = acl_of(port, acl_way & 1);
	r->decision = s->decision;
	r->packets = r->bytes = r->told_packets = r->told_bytes = 0;
	__sync_lock_test_and_set(&r->busy, 0);
	return 0;
}

#endif
