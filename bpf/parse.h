/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.h -- one look at a frame's Ethernet header and its first three tags, the same for both front
 * ends: TC hands in the tag that the kernel keeps in skb metadata, and from here on nobody can tell
 * where a tag was. Pure; also compiled for user space by the fuzzer.
 */
#ifndef IVDS_PARSE_H
#define IVDS_PARSE_H

#define IVDS_TAGS_MAX     3
#define IVDS_ETH_BYTES    14
#define IVDS_TAG_BYTES    4
#define IVDS_PARSE_BYTES  (IVDS_ETH_BYTES + IVDS_TAGS_MAX * IVDS_TAG_BYTES)
#define IVDS_TPID_C       0x8100 /* IEEE 802.1Q-2018 9.5, customer tag */
#define IVDS_TPID_S       0x88A8 /* service tag */
#define IVDS_TPID_OLD     0x9100 /* widely used for QinQ before 802.1ad */
#define IVDS_TYPE_CONTROL 0x8808 /* IEEE 802.3 annex 31: PAUSE, PFC */

struct ivds_tag {
	__be16 tpid_be;
	__u16 vid; /* 12 bits, host order */
};

struct ivds_frame {
	__u8 dst[6] __attribute__((aligned(4)));
	__u8 src[6];
	struct ivds_tag tag[IVDS_TAGS_MAX]; /* outermost first; a fourth tag is payload */
	__u16 tags;
	__be16 type_be; /* behind the tags */
	__u16 l3_at;    /* where L3 begins in the bytes, which a tag in metadata is not among */
};

INLINE int is_tag(__be16 type_be)
{
	return type_be == bpf_htons(IVDS_TPID_C) || type_be == bpf_htons(IVDS_TPID_S) ||
	       type_be == bpf_htons(IVDS_TPID_OLD);
}

/* A MAC address as three words. The BPF back end would go byte by byte; every MAC here (in frames, keys and
 * tables) stands at an even offset. */
struct ivds_mac {
	__u16 word[3];
};

INLINE struct ivds_mac mac_of(const __u8 *mac)
{
	struct ivds_mac words;

	__builtin_memcpy(&words, __builtin_assume_aligned(mac, 2), sizeof(words));
	return words;
}

INLINE void copy_mac(__u8 *to, const __u8 *from)
{
	const struct ivds_mac words = mac_of(from);

	__builtin_memcpy(__builtin_assume_aligned(to, 2), &words, sizeof(words));
}

INLINE int is_same_mac(const __u8 *a, const __u8 *b)
{
	const struct ivds_mac x = mac_of(a), y = mac_of(b);

	return ((x.word[0] ^ y.word[0]) | (x.word[1] ^ y.word[1]) | (x.word[2] ^ y.word[2])) == 0;
}

/* Reads the frame in [data, data_end) into f, which is all zero before; meta is a tag in front of those
 * in the bytes, or has TPID 0. Returns 0, or IVDS_DROP_TRUNCATED where the frame ends inside its header or one of its
 * first three tags; f then holds nothing of use. */
INLINE int parse_frame(struct ivds_frame *f, const void *data, const void *data_end, struct ivds_tag meta)
{
	const __be16 *type = data + 12;
	const int in_bytes = meta.tpid_be ? IVDS_TAGS_MAX - 1 : IVDS_TAGS_MAX;
	int found = 0;

	if ((const void *)(type + 1) > data_end)
		return IVDS_DROP_TRUNCATED;
	copy_mac(f->dst, data);
	copy_mac(f->src, data + 6);
#pragma unroll
	for (int i = 0; i < IVDS_TAGS_MAX; i++) {
		if (i >= in_bytes || !is_tag(*type))
			break;
		if ((const void *)(type + 3) > data_end)
			return IVDS_DROP_TRUNCATED;
		f->tag[i].tpid_be = type[0];
		f->tag[i].vid = bpf_ntohs(type[1]) & 0xfff;
		type += 2;
		found = i + 1;
	}
	f->type_be = *type;
	f->l3_at = IVDS_ETH_BYTES + found * IVDS_TAG_BYTES;
	if (meta.tpid_be) {
		f->tag[2] = f->tag[1];
		f->tag[1] = f->tag[0];
		f->tag[0] = meta;
		found++;
	}
	f->tags = found;
	return 0;
}

/* Link-local group addresses that no bridge forwards, 01:80:C2:00:00:00 to 0F: IEEE 802.1Q-2018 table 8-1. */
INLINE int is_link_local(const __u8 *mac)
{
	const struct ivds_mac m = mac_of(mac);

	return m.word[0] == bpf_htons(0x0180) && m.word[1] == bpf_htons(0xc200) &&
	       (m.word[2] & bpf_htons(0xfff0)) == 0;
}

INLINE int is_multicast(const __u8 *mac)
{
	return mac[0] & 1;
}

/* No station sends from a group address or from nought. */
INLINE int is_bad_source(const __u8 *mac)
{
	const struct ivds_mac m = mac_of(mac);

	return is_multicast(mac) || !(m.word[0] | m.word[1] | m.word[2]);
}

/* Whether a tag from the first or the third on names a VLAN; a priority tag (VID 0) does not. */
INLINE int is_guest_tagged(const struct ivds_frame *f)
{
	return (f->tag[0].vid | f->tag[1].vid | f->tag[2].vid) != 0;
}

INLINE int is_guest_tagged_behind_two(const struct ivds_frame *f)
{
	return f->tag[2].vid != 0;
}

#endif
