/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fields.h -- reads what rules look at (struct ivds_fields), the six-tuple among it (R92): protocol, addresses and
 * ports of IPv4 and IPv6, ICMP types, TCP flags, ARP, the target of
 * Neighbour Discovery. Pure; also compiled for user space by the fuzzer. What cannot
 * be read is never guessed: `unknown` says so.
 */
#ifndef IVDS_FIELDS_H
#define IVDS_FIELDS_H

#define IVDS_TYPE_IPV4 0x0800
#define IVDS_TYPE_ARP  0x0806
#define IVDS_TYPE_IPV6 0x86DD

/* IANA protocol numbers. */
#define IVDS_IP_HOP_BY_HOP   0
#define IVDS_IP_ICMP         1
#define IVDS_IP_TCP          6
#define IVDS_IP_UDP          17
#define IVDS_IP_ROUTING      43
#define IVDS_IP_FRAGMENT     44
#define IVDS_IP_AUTH         51
#define IVDS_IP_ICMPV6       58
#define IVDS_IP_DESTINATION  60
#define IVDS_IP_SCTP         132
#define IVDS_IP6_HEADERS_MAX 6 /* extension headers that are followed: each kind of RFC 8200 4.1 and one twice */

#define IVDS_L3_BYTES  128 /* of a frame's L3 that are looked at: headers that end behind it count as unknown */
#define IVDS_TCP_BYTES 14  /* of a TCP header, up to its flags */

#define IVDS_ICMP_BYTES 8

/* Neighbour Discovery (RFC 4861 4.3 to 4.5): solicitation, advertisement and redirect have a target behind eight
 * bytes.
 */
#define IVDS_ND_FIRST 135
#define IVDS_ND_LAST  137
#define IVDS_ND_BYTES 24

/* A copy of the beginning of L3; `at` in the functions below is an offset in it, a multiple of four. */
struct ivds_l3 {
	__u8 bytes[IVDS_L3_BYTES] __attribute__((aligned(8)));
	__u32 length;       /* that are there */
	__u32 l4_at;        /* where an ICMP message begins, if it was read; else 0 */
	__u32 nd_target[4]; /* what Neighbour Discovery is about, else 0; not in the fields, which every flow's key
			       holds */
};

INLINE __be16 l3_word(const struct ivds_l3 *l3, __u32 at)
{
	__be16 word;

	__builtin_memcpy(&word, l3->bytes + at, sizeof(word));
	return word;
}

/* Reads what is behind L3 at `at`. */
INLINE void parse_l4(struct ivds_fields *f, struct ivds_l3 *l3, __u32 at)
{
	const __u32 needed = f->proto == IVDS_IP_TCP ? IVDS_TCP_BYTES
			     : f->proto == IVDS_IP_UDP || f->proto == IVDS_IP_SCTP || f->proto == IVDS_IP_ICMP ||
				     f->proto == IVDS_IP_ICMPV6
				 ? 4
				 : 0;

	if (!needed)
		return;
	if (at > IVDS_L3_BYTES - IVDS_TCP_BYTES || at + needed > l3->length) {
		f->unknown |= IVDS_L4_UNKNOWN;
		return;
	}
	if (f->proto == IVDS_IP_ICMP || f->proto == IVDS_IP_ICMPV6) {
		f->icmp_type = l3->bytes[at];
		f->icmp_code = l3->bytes[at + 1];
		l3->l4_at = at;
		return;
	}
	f->sport_be = l3_word(l3, at);
	f->dport_be = l3_word(l3, at + 2);
	if (f->proto == IVDS_IP_TCP)
		f->tcp_flags = l3->bytes[at + 13];
}

/* An IPv4 address as an IPv4-mapped IPv6 one. */
INLINE void copy_ip4(__u8 *to, const __u8 *from)
{
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, from, 4);
}

INLINE void parse_ip4(struct ivds_fields *f, struct ivds_l3 *l3)
{
	const __u8 *ip = l3->bytes;
	const __be16 fragment_be = l3_word(l3, 6); /* 0x2000: more follow; 0x1fff: offset */

	if (l3->length < 20 || ip[0] < 0x45 || ip[0] > 0x4f) {
		f->unknown = IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
		return;
	}
	copy_ip4(f->src, ip + 12);
	copy_ip4(f->dst, ip + 16);
	f->proto = ip[9];
	if (fragment_be & bpf_htons(0x3fff))
		f->unknown |= IVDS_L4_FRAGMENT;
	if (fragment_be & bpf_htons(0x1fff))
		f->unknown |= IVDS_L4_UNKNOWN;
	else
		parse_l4(f, l3, (ip[0] & 0xf) * 4);
}

INLINE void parse_ip6(struct ivds_fields *f, struct ivds_l3 *l3)
{
	const __u8 *ip = l3->bytes;
	__u32 at = 40;
	__u8 next;

	if (l3->length < 40 || ip[0] >> 4 != 6) {
		f->unknown = IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
		return;
	}
	__builtin_memcpy(f->src, ip + 8, 16);
	__builtin_memcpy(f->dst, ip + 24, 16);
	next = ip[6];
	for (int i = 0; i <= IVDS_IP6_HEADERS_MAX; i++) {
		const __u8 kind = next;

		if (kind != IVDS_IP_HOP_BY_HOP && kind != IVDS_IP_ROUTING && kind != IVDS_IP_DESTINATION &&
		    kind != IVDS_IP_FRAGMENT && kind != IVDS_IP_AUTH) {
			f->proto = kind;
			parse_l4(f, l3, at);
			return;
		}
		/* Every kind is at least eight bytes long. */
		if (i == IVDS_IP6_HEADERS_MAX || at > IVDS_L3_BYTES - 8 || at + 8 > l3->length)
			break;
		next = l3->bytes[at];
		if (kind == IVDS_IP_FRAGMENT) {
			f->unknown |= IVDS_L4_FRAGMENT;
			if (l3_word(l3, at + 2) & bpf_htons(0xfff8)) {
				/* What follows is the middle of something: no header, whatever `next` says. */
				f->proto = next;
				f->unknown |= IVDS_L4_UNKNOWN;
				return;
			}
			at += 8;
		} else if (kind == IVDS_IP_AUTH) {
			at += (l3->bytes[at + 1] + 2) * 4;
		} else {
			at += (l3->bytes[at + 1] + 1) * 8;
		}
	}
	/* Not even the protocol is known. */
	f->unknown |= IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
}

/* Operation and protocol addresses of ARP for IPv4 over Ethernet (RFC 826); of other kinds nothing. */
INLINE void parse_arp(struct ivds_fields *f, const struct ivds_l3 *l3)
{
	const __u8 *arp = l3->bytes;

	if (l3->length < 28 || l3_word(l3, 0) != bpf_htons(1) || l3_word(l3, 2) != bpf_htons(IVDS_TYPE_IPV4) ||
	    l3_word(l3, 4) != bpf_htons(0x0604)) {
		f->unknown = IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
		return;
	}
	f->proto = arp[7];
	copy_ip4(f->src, arp + 14);
	copy_ip4(f->dst, arp + 24);
}

INLINE int is_neighbour_discovery(const struct ivds_fields *f)
{
	return f->type_be == bpf_htons(IVDS_TYPE_IPV6) && f->proto == IVDS_IP_ICMPV6 &&
	       f->icmp_type >= IVDS_ND_FIRST && f->icmp_type <= IVDS_ND_LAST;
}

/* Reads the target. A message without one is as one without a type: no rule can tell what it is about. */
INLINE void parse_neighbour(struct ivds_fields *f, struct ivds_l3 *l3)
{
	__u32 at = l3->l4_at;

	__builtin_memset(l3->nd_target, 0, sizeof(l3->nd_target));
	if (!is_neighbour_discovery(f))
		return;
	if (at > IVDS_L3_BYTES - IVDS_ND_BYTES || at + IVDS_ND_BYTES > l3->length) {
		f->unknown |= IVDS_L4_UNKNOWN;
		f->icmp_type = f->icmp_code = 0;
		l3->l4_at = 0;
		return;
	}
	__builtin_memcpy(l3->nd_target, __builtin_assume_aligned(l3->bytes + at + IVDS_ICMP_BYTES, 4),
			 sizeof(l3->nd_target));
}

/* Reads L3 behind the EtherType `type_be` into f, whose fields but the MACs are zero before. */
INLINE void parse_fields(struct ivds_fields *f, struct ivds_l3 *l3, __be16 type_be)
{
	f->type_be = type_be;
	if (type_be == bpf_htons(IVDS_TYPE_IPV4))
		parse_ip4(f, l3);
	else if (type_be == bpf_htons(IVDS_TYPE_IPV6))
		parse_ip6(f, l3);
	else if (type_be == bpf_htons(IVDS_TYPE_ARP))
		parse_arp(f, l3);
	parse_neighbour(f, l3);
}

#endif
