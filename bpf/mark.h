/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mark.h -- the priority that a frame of a vPort gets on its way (abi.h, ivds_port.pcp and dscp): PCP in the tags of
 * the wire, DSCP in its IP header. Whole headers alone are marked.
 */
#ifndef IVDS_MARK_H
#define IVDS_MARK_H

#include "classify.h"

#define IVDS_IPV4_BYTES 20
#define IVDS_IPV6_BYTES 40

/* Whether tags are put on for any place that the frame goes to. */
INLINE int takes_pcp(const struct ivds_verdict *v)
{
	return v->action != IVDS_ACT_LOCAL || (v->egress && v->egress->kind == IVDS_PORT_SUB);
}

/* Whether the frame keeps its own priority: of the vPort's choice, and on its way from the wire to a trunk. */
INLINE int keeps_pcp(const struct ivds_port *port)
{
	return port->kind == IVDS_PORT_UPLINK || port->pcp == IVDS_PCP_KEEP;
}

/* The PCP of the frame's first tag as it came in, read again where it is kept: nothing of it is with the parsed
 * frame, for of each value there the verifier would follow what comes after. */
INLINE __u32 xdp_pcp(struct xdp_md *ctx, const struct ivds_port *port)
{
	const __u8 *data = (void *)(long)ctx->data;
	const __u8 *data_end = (void *)(long)ctx->data_end;
	const __be16 *type = (const void *)(data + 12);

	if (!keeps_pcp(port))
		return port->pcp;
	return data + 16 <= data_end && is_tag(*type) ? data[14] >> 5 : 0;
}

__noinline __u32 tc_pcp(struct __sk_buff *skb)
{
	__be16 tag[2];

	if (skb->vlan_present)
		return (skb->vlan_tci & 0xffff) >> 13;
	return bpf_skb_load_bytes(skb, 12, tag, sizeof(tag)) == 0 && is_tag(tag[0]) ? bpf_ntohs(tag[1]) >> 13 : 0;
}

/* The tag control information of a tag of the wire. */
INLINE __u16 tci_of(__u16 vid, __u32 pcp)
{
	return vid | pcp << 13;
}

/* The first two bytes of an IP header with the DSCP in its place: IPv4 has it behind the header's length (RFC 791),
 * IPv6 behind the version (RFC 8200 3). Its lower two bits, ECN, stay. */
INLINE __be16 with_dscp(__be16 head_be, __be16 type_be, __u32 dscp)
{
	const __u16 head = bpf_ntohs(head_be);

	return bpf_htons(type_be == bpf_htons(IVDS_TYPE_IPV4) ? (head & 0xff03) | dscp << 2
							      : (head & 0xf03f) | dscp << 6);
}

/* Bytes of the header that is marked, 0: it is none, or its first byte says another version. */
INLINE __u32 marked_bytes(__be16 type_be, __u8 first)
{
	if (type_be == bpf_htons(IVDS_TYPE_IPV4))
		return first >> 4 == 4 ? IVDS_IPV4_BYTES : 0;
	return type_be == bpf_htons(IVDS_TYPE_IPV6) && first >> 4 == 6 ? IVDS_IPV6_BYTES : 0;
}

INLINE void xdp_mark(struct xdp_md *ctx, const struct ivds_frame *f, const struct ivds_port *port)
{
	__u8 *ip = (void *)(long)ctx->data + (f->l3_at & 63);
	const __u8 *data_end = (void *)(long)ctx->data_end;
	const __u32 dscp = (port->dscp - 1) & 0x3f;
	__be16 *words = __builtin_assume_aligned(ip, 2), old_be;
	__u32 sum;

	if (!port->dscp || ip + IVDS_IPV4_BYTES > data_end)
		return;
	switch (marked_bytes(f->type_be, ip[0])) {
	case IVDS_IPV4_BYTES:
		old_be = words[0];
		words[0] = with_dscp(old_be, f->type_be, dscp);
		/* RFC 1624 eqn. 3: what is taken out of a ones' complement sum is put in as its complement. */
		sum = (__u16)~words[5] + (__u16)~old_be + words[0];
		sum = (sum & 0xffff) + (sum >> 16);
		words[5] = ~((sum & 0xffff) + (sum >> 16));
		break;
	case IVDS_IPV6_BYTES:
		if (ip + IVDS_IPV6_BYTES <= data_end)
			words[0] = with_dscp(words[0], f->type_be, dscp);
		break;
	}
}

/* Returns nonzero where the kernel could not. */
__noinline int tc_mark(struct __sk_buff *skb, __u32 l3_at, __u32 type_be, __u32 dscp)
{
	__u8 head[IVDS_IPV4_BYTES];
	__be16 old_be, new_be;
	__u32 bytes;

	dscp = (dscp - 1) & 0x3f;
	if (bpf_skb_load_bytes(skb, l3_at, head, sizeof(head)))
		return 0;
	bytes = marked_bytes(type_be, head[0]);
	if (!bytes || l3_at + bytes > skb->len)
		return 0;
	__builtin_memcpy(&old_be, head, sizeof(old_be));
	new_be = with_dscp(old_be, type_be, dscp);
	if (bytes == IVDS_IPV6_BYTES)
		return bpf_skb_store_bytes(skb, l3_at, &new_be, sizeof(new_be), BPF_F_RECOMPUTE_CSUM);
	return bpf_skb_store_bytes(skb, l3_at, &new_be, sizeof(new_be), 0)
		   ?: bpf_l3_csum_replace(skb, l3_at + 10, old_be, new_be, sizeof(new_be));
}

/* What a trace says of it. */
INLINE void note_mark(const struct ivds_port *port, __u32 pcp)
{
	if (pcp || port->dscp)
		note(IVDS_TRACE_MARK, pcp, port->dscp, 0, 0);
}

#endif
