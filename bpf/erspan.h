/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * erspan.h -- wraps a copy in IP, GRE (RFC 2784, with the sequence number of RFC 2890) and ERSPAN version II or III
 * (draft-foschiano-erspan-03), and has the kernel find the way and the neighbour.
 */
#ifndef IVDS_ERSPAN_H
#define IVDS_ERSPAN_H

#include "tc.h"

#define IVDS_IP_GRE           47
#define IVDS_GRE_SEQUENCE     0x1000
#define IVDS_GRE_ERSPAN_II    0x88be
#define IVDS_GRE_ERSPAN_III   0x22eb
#define IVDS_ERSPAN_TRUNCATED (1u << 10)
#define IVDS_ERSPAN_TAGGED    (3u << 11) /* II: the tags are in the frame */
#define IVDS_ERSPAN_ETHERNET  (1u << 15) /* III */
#define IVDS_ERSPAN_EGRESS    (1u << 3)  /* III */
#define IVDS_ERSPAN_100_NS    (1u << 1)  /* III: the timestamp's granularity */
#define IVDS_TTL              64

struct ivds_ip4 {
	__u8 version_length;
	__u8 tos;
	__be16 length_be;
	__be16 id_be;
	__be16 fragment_be;
	__u8 ttl;
	__u8 proto;
	__be16 checksum;
	__u8 src[4];
	__u8 dst[4];
} __attribute__((aligned(4)));
struct ivds_ip6 {
	__be32 version_be;
	__be16 length_be;
	__u8 proto;
	__u8 ttl;
	__u8 src[16];
	__u8 dst[16];
} __attribute__((aligned(4)));
struct ivds_gre {
	__be16 flags_be;
	__be16 proto_be;
	__be32 sequence_be;
	__be16 version_be; /* ERSPAN from here on */
	__be16 session_be;
	__be32 word_be;     /* II: index; III: timestamp */
	__be16 group_be;    /* III */
	__be16 platform_be; /* III */
};
#define IVDS_ERSPAN_II_BYTES  16u /* of GRE and ERSPAN */
#define IVDS_ERSPAN_III_BYTES 20u

INLINE __be16 ip4_checksum(struct ivds_ip4 *ip)
{
	__u64 sum = bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The interface towards the session's address for `length` bytes of IP, or a negative number. What is too long for
 * the way leaves its MTU in *mtu. */
INLINE int find_way(struct __sk_buff *skb, const struct ivds_mirror *mirror, int is_ip4, __u32 length, __u32 *mtu)
{
	struct bpf_fib_lookup way = {.ifindex = skb->ifindex, .tot_len = length, .l4_protocol = IVDS_IP_GRE};
	long found;

	if (is_ip4) {
		way.family = 2; /* AF_INET */
		__builtin_memcpy(&way.ipv4_src, mirror->local + 12, 4);
		__builtin_memcpy(&way.ipv4_dst, mirror->remote + 12, 4);
	} else {
		way.family = 10; /* AF_INET6 */
		__builtin_memcpy(way.ipv6_src, mirror->local, 16);
		__builtin_memcpy(way.ipv6_dst, mirror->remote, 16);
	}
	found = bpf_fib_lookup(skb, &way, sizeof(way), 0);
	*mtu = found == BPF_FIB_LKUP_RET_FRAG_NEEDED ? way.mtu_result : 0;
	/* Who the neighbour is the kernel finds out as it sends. */
	return found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH ? (int)way.ifindex : -1;
}

/* Takes the tag that the kernel keeps beside the bytes; the next one comes up behind it. Returns its TPID and TCI, as
 * they are on the wire, 0 where there is none, and 1 where it stays. */
__noinline __u32 take_tag(struct __sk_buff *skb)
{
	const __u32 present = skb->vlan_present, proto_be = skb->vlan_proto, tci = skb->vlan_tci;

	if (!present)
		return 0;
	return bpf_skb_vlan_pop(skb) ? 1 : proto_be << 16 | bpf_htons(tci);
}

/* Makes the kernel look at the EtherType in the bytes again, which it keeps aside: a tag that is popped off the bytes
 * does that. */
INLINE int refresh_type(struct __sk_buff *skb)
{
	const __be16 known_be = bpf_htons(IVDS_TPID_C);

	return bpf_skb_vlan_push(skb, known_be, 1) || bpf_skb_vlan_push(skb, known_be, 1) || bpf_skb_vlan_pop(skb) ||
	       bpf_skb_vlan_pop(skb);
}

/* Sends the copy, of which some may be cut off already, to the session's address. Returns the program's verdict, or a
 * negative number. */
INLINE int send_in_erspan(struct __sk_buff *skb, __u32 session, const struct ivds_mirror *mirror, __u32 mark,
			  int is_snapped)
{
	const int is_ip4 = mirror->remote[10] == 0xff && mirror->remote[11] == 0xff,
		  is_iii = mirror->kind == IVDS_MIRROR_ERSPAN_III;
	const __u32 l3_bytes = is_ip4 ? sizeof(struct ivds_ip4) : sizeof(struct ivds_ip6);
	const __u32 gre_bytes = is_iii ? IVDS_ERSPAN_III_BYTES : IVDS_ERSPAN_II_BYTES;
	const __u32 direction = IVDS_MARK_DIRECTION(mark);
	struct ivds_mirror_state *state = bpf_map_lookup_elem(&mirror_state, &session);
	struct ivds_mirror_stats *stats = bpf_map_lookup_elem(&mirror_stats, &session);
	__be16 tags[2 * (IVDS_TAGS_MAX + 1)] = {};
	__u32 count, bytes, mtu, at = 0, word;
	struct ivds_gre gre = {};
	__u8 eth[IVDS_ETH_BYTES] = {}, macs[12];
	int ifindex, is_cut = 0;

	if (!state || !stats)
		return -1;
	for (count = 0; count < IVDS_TAGS_MAX + 1; count++) {
		const __u32 tag = take_tag(skb);

		if (tag == 1)
			return -1;
		if (!tag)
			break;
		tags[2 * count] = tag >> 16;
		tags[2 * count + 1] = tag;
	}
	bytes = skb->len + count * IVDS_TAG_BYTES;
	if (skb->vlan_present || bytes + l3_bytes + gre_bytes > 0xffff ||
	    bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	ifindex = find_way(skb, mirror, is_ip4, bytes + l3_bytes + gre_bytes, &mtu);
	if (mtu > l3_bytes + gre_bytes + 128 && mtu < bytes + l3_bytes + gre_bytes) {
		is_cut = 1;
		bytes = mtu - l3_bytes - gre_bytes;
		if (bpf_skb_change_tail(skb, bytes - count * IVDS_TAG_BYTES, 0))
			return -1;
		ifindex = find_way(skb, mirror, is_ip4, mtu, &mtu);
	}
	if (ifindex < 0 ||
	    bpf_skb_change_head(skb, IVDS_ETH_BYTES + l3_bytes + gre_bytes + count * IVDS_TAG_BYTES, 0))
		return -1;

	eth[12] = (is_ip4 ? IVDS_TYPE_IPV4 : IVDS_TYPE_IPV6) >> 8;
	eth[13] = (is_ip4 ? IVDS_TYPE_IPV4 : IVDS_TYPE_IPV6) & 0xff;
	if (bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0))
		return -1;
	at = IVDS_ETH_BYTES;
	if (is_ip4) {
		struct ivds_ip4 ip = {
		    .version_length = 0x45,
		    .length_be = bpf_htons(l3_bytes + gre_bytes + bytes),
		    .fragment_be = bpf_htons(0x4000), /* not to be fragmented */
		    .ttl = IVDS_TTL,
		    .proto = IVDS_IP_GRE,
		};

		__builtin_memcpy(ip.src, mirror->local + 12, 4);
		__builtin_memcpy(ip.dst, mirror->remote + 12, 4);
		ip.checksum = ip4_checksum(&ip);
		if (bpf_skb_store_bytes(skb, at, &ip, sizeof(ip), 0))
			return -1;
	} else {
		struct ivds_ip6 ip = {
		    .version_be = bpf_htonl(6u << 28),
		    .length_be = bpf_htons(gre_bytes + bytes),
		    .proto = IVDS_IP_GRE,
		    .ttl = IVDS_TTL,
		};

		__builtin_memcpy(ip.src, mirror->local, 16);
		__builtin_memcpy(ip.dst, mirror->remote, 16);
		if (bpf_skb_store_bytes(skb, at, &ip, sizeof(ip), 0))
			return -1;
	}
	at += l3_bytes;

	gre.flags_be = bpf_htons(IVDS_GRE_SEQUENCE);
	gre.proto_be = bpf_htons(is_iii ? IVDS_GRE_ERSPAN_III : IVDS_GRE_ERSPAN_II);
	gre.sequence_be = bpf_htonl(__sync_fetch_and_add(&state->sequence, 1));
	gre.version_be = bpf_htons((is_iii ? 2 : 1) << 12 | (count ? bpf_ntohs(tags[1]) & 0xfff : 0));
	word = (mirror->session_id & 0x3ff) | (is_cut | is_snapped ? IVDS_ERSPAN_TRUNCATED : 0);
	if (count)
		word |= (bpf_ntohs(tags[1]) & 0xe000) | (is_iii ? 0 : IVDS_ERSPAN_TAGGED);
	gre.session_be = bpf_htons(word);
	if (is_iii) {
		gre.word_be = bpf_htonl((__u32)(bpf_ktime_get_tai_ns() / 100));
		gre.platform_be = bpf_htons(IVDS_ERSPAN_ETHERNET | (mirror->index & 0x3f) << 4 | IVDS_ERSPAN_100_NS |
					    (direction == IVDS_DIRECTION_OUT ? IVDS_ERSPAN_EGRESS : 0));
		if (bpf_skb_store_bytes(skb, at, &gre, IVDS_ERSPAN_III_BYTES, 0))
			return -1;
	} else {
		gre.word_be = bpf_htonl(mirror->index & 0xfffff);
		if (bpf_skb_store_bytes(skb, at, &gre, IVDS_ERSPAN_II_BYTES, 0))
			return -1;
	}
	at += gre_bytes;

	if (bpf_skb_store_bytes(skb, at, macs, sizeof(macs), 0))
		return -1;
	at += sizeof(macs);
	for (__u32 i = 0; i < IVDS_TAGS_MAX + 1; i++)
		if (i < count && bpf_skb_store_bytes(skb, at + i * IVDS_TAG_BYTES, tags + 2 * i, IVDS_TAG_BYTES, 0))
			return -1;
	if (refresh_type(skb))
		return -1;
	stats->packets++;
	stats->bytes += bytes;
	stats->cut += is_cut;
	return bpf_redirect_neigh(ifindex, 0, 0, 0);
}

#endif
