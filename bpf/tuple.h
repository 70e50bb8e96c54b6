/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tuple.h -- reads the six-tuple of a frame (R92): protocol, addresses and ports of IPv4 and IPv6. Pure; also
 * compiled for user space by the fuzzer. What cannot be read is never guessed: the flags say so.
 */
#ifndef IVDS_TUPLE_H
#define IVDS_TUPLE_H

#define IVDS_TYPE_IPV4 0x0800
#define IVDS_TYPE_IPV6 0x86DD

/* IANA protocol numbers. */
#define IVDS_IP_HOP_BY_HOP   0
#define IVDS_IP_TCP          6
#define IVDS_IP_UDP          17
#define IVDS_IP_ROUTING      43
#define IVDS_IP_FRAGMENT     44
#define IVDS_IP_AUTH         51
#define IVDS_IP_DESTINATION  60
#define IVDS_IP_SCTP         132
#define IVDS_IP6_HEADERS_MAX 6 /* extension headers that are followed: each kind of RFC 8200 4.1 and one twice */

struct ivds_ip4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 length_be;
	__be16 id_be;
	__be16 fragment_be; /* 0x2000: more follow; 0x1fff: offset */
	__u8 ttl;
	__u8 proto;
	__be16 checksum_be;
	__u8 src[4];
	__u8 dst[4];
};

struct ivds_ip6 {
	__u8 version_class; /* version in its upper half */
	__u8 class_label[3];
	__be16 length_be;
	__u8 next;
	__u8 hops;
	__u8 src[16];
	__u8 dst[16];
};

struct ivds_ip6_extension {
	__u8 next;
	__u8 length;        /* of most kinds: in 8 bytes, the first not counted */
	__be16 fragment_be; /* of a fragment header: offset in its upper 13 bits, 1: more follow */
};

/* Reads the ports at `l4`, where the protocol has some. */
INLINE void parse_ports(struct ivds_tuple *t, const void *l4, const void *data_end)
{
	const __be16 *ports = l4;

	if (t->flags & IVDS_TUPLE_LATER ||
	    (t->proto != IVDS_IP_TCP && t->proto != IVDS_IP_UDP && t->proto != IVDS_IP_SCTP))
		return;
	if ((const void *)(ports + 2) > data_end) {
		t->flags |= IVDS_TUPLE_CUT;
		return;
	}
	t->sport_be = ports[0];
	t->dport_be = ports[1];
}

INLINE void parse_ip4(struct ivds_tuple *t, const void *l3, const void *data_end)
{
	const struct ivds_ip4 *ip = l3;
	__u32 header;

	if ((const void *)(ip + 1) > data_end || ip->version_ihl >> 4 != 4 || (ip->version_ihl & 0xf) < 5) {
		t->flags |= IVDS_TUPLE_CUT;
		return;
	}
	t->flags |= IVDS_TUPLE_IPV4;
	t->src[10] = t->src[11] = t->dst[10] = t->dst[11] = 0xff;
	__builtin_memcpy(t->src + 12, ip->src, 4);
	__builtin_memcpy(t->dst + 12, ip->dst, 4);
	t->proto = ip->proto;
	if (ip->fragment_be & bpf_htons(0x3fff))
		t->flags |= IVDS_TUPLE_FRAGMENT;
	if (ip->fragment_be & bpf_htons(0x1fff))
		t->flags |= IVDS_TUPLE_LATER;
	header = (ip->version_ihl & 0xf) * 4;
	parse_ports(t, l3 + header, data_end);
}

INLINE void parse_ip6(struct ivds_tuple *t, const void *l3, const void *data_end)
{
	const struct ivds_ip6 *ip = l3;
	const void *at = ip + 1;
	__u8 next;

	if (at > data_end || ip->version_class >> 4 != 6) {
		t->flags |= IVDS_TUPLE_CUT;
		return;
	}
	t->flags |= IVDS_TUPLE_IPV6;
	__builtin_memcpy(t->src, ip->src, 16);
	__builtin_memcpy(t->dst, ip->dst, 16);
	next = ip->next;
	for (int i = 0; i <= IVDS_IP6_HEADERS_MAX; i++) {
		const struct ivds_ip6_extension *extension = at;

		if (next != IVDS_IP_HOP_BY_HOP && next != IVDS_IP_ROUTING && next != IVDS_IP_DESTINATION &&
		    next != IVDS_IP_FRAGMENT && next != IVDS_IP_AUTH) {
			t->proto = next;
			parse_ports(t, at, data_end);
			return;
		}
		/* Every kind is at least eight bytes long. */
		if (i == IVDS_IP6_HEADERS_MAX || at + 8 > data_end)
			break;
		if (next == IVDS_IP_FRAGMENT) {
			t->flags |= IVDS_TUPLE_FRAGMENT;
			at += 8;
			if (extension->fragment_be & bpf_htons(0xfff8)) {
				/* What follows is the middle of something: no header, whatever `next` says. */
				t->flags |= IVDS_TUPLE_LATER;
				t->proto = extension->next;
				return;
			}
		} else if (next == IVDS_IP_AUTH) {
			at += (extension->length + 2) * 4;
		} else {
			at += (extension->length + 1) * 8;
		}
		next = extension->next;
	}
	t->flags |= IVDS_TUPLE_CUT;
}

/* Reads what is at `l3`, behind the EtherType `type_be`, into t, which is all zero before. */
INLINE void parse_tuple(struct ivds_tuple *t, const void *l3, const void *data_end, __be16 type_be)
{
	if (type_be == bpf_htons(IVDS_TYPE_IPV4))
		parse_ip4(t, l3, data_end);
	else if (type_be == bpf_htons(IVDS_TYPE_IPV6))
		parse_ip6(t, l3, data_end);
}

#endif
