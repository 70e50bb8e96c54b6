/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer.h -- ARP requests and Neighbour Solicitations that the switch answers in the name of who has the address
 * (abi.h, neighbours), so that they are not flooded. The request is made its own answer, in place.
 *
 * Only requests in their plainest form are answered, as VMs send them when they look for a neighbour: all else is for
 * its owner to see. An answer never takes another's place in the asker's memory (no Override), nor does it say that
 * somebody is a router.
 */
#ifndef IVDS_ANSWER_H
#define IVDS_ANSWER_H

#include "classify.h"

#define IVDS_ARP_REQUEST 1
#define IVDS_ARP_REPLY   2

struct ivds_arp {
	__be16 hardware_be;
	__be16 protocol_be;
	__be16 lengths_be;
	__be16 operation_be;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

#define IVDS_ND_SOLICITATION  135
#define IVDS_ND_ADVERTISEMENT 136
#define IVDS_ND_SOLICITED     0x40000000u
#define IVDS_ND_SOURCE_OPTION 1
#define IVDS_ND_TARGET_OPTION 2
#define IVDS_ND_HOPS          255
#define IVDS_ND_PAYLOAD       32
#define IVDS_ND_CHECKED_BYTES 64 /* addresses and message */

/* An IPv6 header, and a solicitation or advertisement with the one option that belongs to it (RFC 4861 4.3, 4.4). */
struct ivds_nd {
	__be32 version_be;
	__be16 payload_be;
	__u8 next;
	__u8 hops;
	__u8 src[16];
	__u8 dst[16];
	__u8 type;
	__u8 code;
	__u16 sum;
	__be32 flags_be;
	__u8 target[16];
	__u8 option;
	__u8 option_units; /* of eight bytes */
	__u8 option_mac[6];
};
_Static_assert(sizeof(struct ivds_arp) == 28 && sizeof(struct ivds_nd) == 72, "as on the wire");

struct ivds_question {
	__u32 instance;
	__u32 port; /* who asks */
	__u32 l3_at;
	__be32 type_be; /* EtherType; a whole word, so that none of it is padding */
	__u32 bytes;    /* of the frame, without a trunk's tag */
};

/* Whether a frame that is to be flooded may be one: of a vPort, in its own instance, without tags. */
INLINE int may_answer(const struct ivds_verdict *v, const struct ivds_frame *f, const struct ivds_port *port)
{
	return v->action == IVDS_ACT_FLOOD && v->instance && v->instance->flags & IVDS_IF_ANSWER &&
	       port->kind != IVDS_PORT_UPLINK && !v->is_patched && !f->tags &&
	       (f->type_be == bpf_htons(IVDS_TYPE_ARP) || f->type_be == bpf_htons(IVDS_TYPE_IPV6));
}

/* Who has the address, if it is known for good, is there, and is not who asks. */
INLINE const struct ivds_neighbour *find_neighbour(const struct ivds_neighbour_key *key,
						   const struct ivds_question *q)
{
	const struct ivds_neighbour *found = bpf_map_lookup_elem(&neighbours, key);
	struct ivds_fdb_key mac = {.instance = q->instance};
	const struct ivds_fdb_entry *entry;

	if (!found)
		return 0;
	copy_mac(mac.mac, found->mac);
	entry = bpf_map_lookup_elem(&fdb, &mac);
	if (!entry || !(entry->flags & IVDS_FDB_STATIC) || entry->port == q->port || !is_up(entry->port))
		return 0;
	note(IVDS_TRACE_ANSWER, entry->port, bpf_ntohs(q->type_be), 0, 0);
	note_mac(found->mac);
	return found;
}

/* The ones' complement sum of what the message's checksum is about, in its 16 bits: all ones if it is right. */
INLINE __u16 nd_sum(const struct ivds_nd *nd)
{
	const __s64 sum64 = bpf_csum_diff(0, 0, (__be32 *)(void *)nd->src, IVDS_ND_CHECKED_BYTES,
					  bpf_htonl(IVDS_ND_PAYLOAD + IVDS_IP_ICMPV6));
	__u32 sum = (__u32)sum64;

	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

INLINE int write_answer(struct __sk_buff *skb, __u32 l3_at, const void *l3, __u32 bytes, const __u8 *macs)
{
	return bpf_skb_store_bytes(skb, 0, macs, 12, BPF_F_RECOMPUTE_CSUM) ||
		       bpf_skb_store_bytes(skb, l3_at, l3, bytes, BPF_F_RECOMPUTE_CSUM)
		   ? -1
		   : 1;
}

/* `macs` are those of the frame, to its destination and from its source. */
INLINE int answer_arp(struct __sk_buff *skb, const struct ivds_question *q, __u8 *macs)
{
	struct ivds_neighbour_key key = {.instance = q->instance};
	const struct ivds_neighbour *owner;
	struct ivds_arp arp;
	__u32 sender, target;

	if (bpf_skb_load_bytes(skb, q->l3_at, &arp, sizeof(arp)) || arp.hardware_be != bpf_htons(1) ||
	    arp.protocol_be != bpf_htons(IVDS_TYPE_IPV4) || arp.lengths_be != bpf_htons(0x0604) ||
	    arp.operation_be != bpf_htons(IVDS_ARP_REQUEST) || !is_same_mac(arp.sender_mac, macs + 6))
		return 0;
	__builtin_memcpy(&sender, arp.sender, sizeof(sender));
	__builtin_memcpy(&target, arp.target, sizeof(target));
	/* A probe (RFC 5227) is from nobody, and an announcement is about the sender itself. */
	if (!sender || sender == target)
		return 0;
	copy_ip4(key.address, arp.target);
	owner = find_neighbour(&key, q);
	if (!owner)
		return 0;
	copy_mac(macs, macs + 6);
	copy_mac(macs + 6, owner->mac);
	arp.operation_be = bpf_htons(IVDS_ARP_REPLY);
	copy_mac(arp.target_mac, arp.sender_mac);
	copy_mac(arp.sender_mac, owner->mac);
	__builtin_memcpy(arp.target, &sender, sizeof(sender));
	__builtin_memcpy(arp.sender, &target, sizeof(target));
	return write_answer(skb, q->l3_at, &arp, sizeof(arp), macs);
}

INLINE int answer_nd(struct __sk_buff *skb, const struct ivds_question *q, __u8 *macs)
{
	struct ivds_neighbour_key key = {.instance = q->instance};
	const struct ivds_neighbour *owner;
	struct ivds_nd nd;
	__u64 from[2];

	if (bpf_skb_load_bytes(skb, q->l3_at, &nd, sizeof(nd)) ||
	    (nd.version_be & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000) ||
	    nd.payload_be != bpf_htons(IVDS_ND_PAYLOAD) || nd.next != IVDS_IP_ICMPV6 || nd.hops != IVDS_ND_HOPS ||
	    nd.type != IVDS_ND_SOLICITATION || nd.code || nd.option != IVDS_ND_SOURCE_OPTION ||
	    nd.option_units != 1 || !is_same_mac(nd.option_mac, macs + 6) || nd.src[0] == 0xff)
		return 0;
	/* Whoever asks from nowhere looks whether an address is free (RFC 4862): its owner says so, to all. */
	__builtin_memcpy(from, nd.src, sizeof(from));
	if (!(from[0] | from[1]) || nd_sum(&nd) != 0xffff)
		return 0;
	__builtin_memcpy(key.address, nd.target, sizeof(key.address));
	owner = find_neighbour(&key, q);
	if (!owner)
		return 0;
	copy_mac(macs, macs + 6);
	copy_mac(macs + 6, owner->mac);
	nd.version_be = bpf_htonl(0x60000000);
	__builtin_memcpy(nd.dst, nd.src, sizeof(nd.dst));
	__builtin_memcpy(nd.src, nd.target, sizeof(nd.src));
	nd.type = IVDS_ND_ADVERTISEMENT;
	nd.flags_be = bpf_htonl(IVDS_ND_SOLICITED);
	nd.option = IVDS_ND_TARGET_OPTION;
	copy_mac(nd.option_mac, owner->mac);
	nd.sum = 0;
	nd.sum = ~nd_sum(&nd);
	return write_answer(skb, q->l3_at, &nd, sizeof(nd), macs);
}

/* Makes the question its answer. Returns 1 where it is that now, 0 where nothing was done, and -1 where the kernel
 * could not write it. */
__noinline int make_answer(struct __sk_buff *skb, const struct ivds_question *q)
{
	__u8 macs[12] __attribute__((aligned(4)));

	barrier_var(skb);
	if (!q || bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return 0;
	return q->type_be == bpf_htons(IVDS_TYPE_ARP) ? answer_arp(skb, q, macs) : answer_nd(skb, q, macs);
}

#endif
