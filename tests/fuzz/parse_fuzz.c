/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parse_fuzz.c -- libFuzzer on the data plane's parser, compiled for the host from bpf/parse.h. An input is one byte
 * that picks the TPID of a tag in metadata (0: none), two bytes of its VID, and the frame. The parser may not read
 * outside the frame, and must read it as the plain readers below do, wherever the outer tag is; so must the reader of
 * the fields that rules look at.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ivds/abi.h"

#define INLINE static inline
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#include "fields.h"
#include "parse.h"

#define MUST(condition)            \
    do {                           \
        if (!(condition)) abort(); \
    } while (0)

enum { max_frame = 2048 };

struct reading {
    int truncated;
    unsigned tags;
    unsigned tpid[3], vid[3];
    unsigned type;
};

static unsigned get16(const uint8_t *at) {
    return (unsigned)at[0] << 8 | at[1];
}

/* The frame with all tags in its bytes, read byte by byte. */
static struct reading read_plainly(const uint8_t *frame, size_t length) {
    struct reading r = {0};
    size_t at = 12;

    for (;;) {
        if (at + 2 > length) {
            r.truncated = 1;
            return r;
        }
        r.type = get16(frame + at);
        if (r.tags == 3 || (r.type != 0x8100 && r.type != 0x88a8 && r.type != 0x9100)) return r;
        if (at + 4 <= length) {
            r.tpid[r.tags] = r.type;
            r.vid[r.tags] = get16(frame + at + 2) & 0xfff;
        }
        r.tags++;
        at += 4;
    }
}

/* What rules look at, of L3 at `ip`, byte by byte; `target` is what Neighbour Discovery is about. */
static struct ivds_fields read_fields_plainly(const uint8_t *ip, size_t length, unsigned type, uint8_t target[16]) {
    struct ivds_fields f = {0};
    size_t at = 0;
    unsigned next;

    f.type_be = bpf_htons(type);
    if (length > IVDS_L3_BYTES) length = IVDS_L3_BYTES;
    if (type == 0x0806) {
        f.unknown = IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
        if (length < 28 || memcmp(ip, "\0\1\x08\0\6\4", 6) != 0) return f;
        f.unknown = 0;
        f.proto = ip[7];
        memset(f.src + 10, 0xff, 2);
        memset(f.dst + 10, 0xff, 2);
        memcpy(f.src + 12, ip + 14, 4);
        memcpy(f.dst + 12, ip + 24, 4);
        return f;
    }
    if (type == 0x0800) {
        f.unknown = IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
        if (length < 20 || ip[0] < 0x45 || ip[0] > 0x4f) return f;
        const unsigned fragment = get16(ip + 6) & 0x3fff;

        f.unknown = (fragment ? IVDS_L4_FRAGMENT : 0) | (fragment & 0x1fff ? IVDS_L4_UNKNOWN : 0);
        memset(f.src + 10, 0xff, 2);
        memset(f.dst + 10, 0xff, 2);
        memcpy(f.src + 12, ip + 12, 4);
        memcpy(f.dst + 12, ip + 16, 4);
        f.proto = ip[9];
        at = (ip[0] & 15u) * 4;
    } else if (type == 0x86dd) {
        f.unknown = IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
        if (length < 40 || ip[0] >> 4 != 6) return f;
        f.unknown = 0;
        memcpy(f.src, ip + 8, 16);
        memcpy(f.dst, ip + 24, 16);
        at = 40;
        next = ip[6];
        for (int headers = 0; next == 0 || next == 43 || next == 60 || next == 44 || next == 51; headers++) {
            if (headers >= IVDS_IP6_HEADERS_MAX || at + 8 > length) {
                f.unknown |= IVDS_L3_UNKNOWN | IVDS_L4_UNKNOWN;
                return f;
            }
            const unsigned of_next = ip[at];

            if (next == 44) {
                f.unknown |= IVDS_L4_FRAGMENT;
                if (get16(ip + at + 2) >= 8) {
                    f.unknown |= IVDS_L4_UNKNOWN;
                    f.proto = of_next;
                    return f;
                }
            }
            at += next == 44 ? 8 : next == 51 ? (ip[at + 1] + 2u) * 4 : (ip[at + 1] + 1u) * 8;
            next = of_next;
        }
        f.proto = next;
    } else {
        return f;
    }
    if (f.unknown & IVDS_L4_UNKNOWN) return f;
    const int is_icmp = f.proto == 1 || f.proto == 58;

    if (!is_icmp && f.proto != 6 && f.proto != 17 && f.proto != 132) return f;
    if (at + 14 > IVDS_L3_BYTES || at + (f.proto == 6 ? 14 : 4) > length) {
        f.unknown |= IVDS_L4_UNKNOWN;
    } else if (type == 0x86dd && f.proto == 58 && ip[at] >= 135 && ip[at] <= 137 && at + 24 > length) {
        f.unknown |= IVDS_L4_UNKNOWN;
    } else if (is_icmp) {
        if (type == 0x86dd && f.proto == 58 && ip[at] >= 135 && ip[at] <= 137) memcpy(target, ip + at + 8, 16);
        f.icmp_type = ip[at];
        f.icmp_code = ip[at + 1];
    } else {
        memcpy(&f.sport_be, ip + at, 2);
        memcpy(&f.dport_be, ip + at + 2, 2);
        if (f.proto == 6) f.tcp_flags = ip[at + 13];
    }
    return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    static const unsigned tpids[] = {0, 0x8100, 0x88a8, 0x9100};
    uint8_t whole[max_frame + 4];
    struct ivds_frame f = {0};
    struct ivds_tag meta = {0};

    if (size < 3 || size > max_frame) return 0;
    const size_t length = size - 3;
    uint8_t *frame = malloc(length ? length : 1);

    MUST(frame);
    memcpy(frame, input + 3, length);
    size_t whole_length = length;

    memcpy(whole, frame, length);
    /* The kernel takes a tag into metadata only from a frame that has an Ethernet header left. */
    if (tpids[input[0] % 4] && length >= IVDS_ETH_BYTES) {
        meta.tpid_be = bpf_htons(tpids[input[0] % 4]);
        meta.vid = get16(input + 1) & 0xfff;
        memmove(whole + 16, whole + 12, length - 12);
        memcpy(whole + 12, &meta.tpid_be, 2);
        whole[14] = meta.vid >> 8;
        whole[15] = meta.vid & 0xff;
        whole_length += 4;
    }

    const int result = parse_frame(&f, frame, frame + length, meta);
    const struct reading r = read_plainly(whole, whole_length);

    MUST(result == (r.truncated ? IVDS_DROP_TRUNCATED : 0));
    if (!result) {
        MUST(!memcmp(f.dst, whole, 6) && !memcmp(f.src, whole + 6, 6));
        MUST(f.tags == r.tags && bpf_ntohs(f.type_be) == r.type);
        for (unsigned i = 0; i < IVDS_TAGS_MAX; i++)
            MUST(bpf_ntohs(f.tag[i].tpid_be) == r.tpid[i] && f.tag[i].vid == r.vid[i]);
        MUST(is_guest_tagged(&f) == (r.vid[0] || r.vid[1] || r.vid[2]));
        MUST(is_guest_tagged_behind_two(&f) == (r.vid[2] != 0));
        MUST(is_multicast(f.dst) == (whole[0] & 1));
        MUST(is_link_local(f.dst) == (!memcmp(whole, "\x01\x80\xc2\0\0", 5) && whole[5] < 16));
        const size_t at = IVDS_ETH_BYTES + (f.tags - (meta.tpid_be ? 1u : 0u)) * IVDS_TAG_BYTES;
        struct ivds_l3 l3 = {0};
        struct ivds_fields fields = {0};

        MUST(f.l3_at == at);
        l3.length = length - at < IVDS_L3_BYTES ? length - at : IVDS_L3_BYTES;
        memcpy(l3.bytes, frame + at, l3.length);
        parse_fields(&fields, &l3, f.type_be);
        uint8_t target[16] = {0};
        const struct ivds_fields plain = read_fields_plainly(frame + at, length - at, r.type, target);
        MUST(!memcmp(&fields, &plain, sizeof(fields)) && !memcmp(l3.nd_target, target, sizeof(target)));
        MUST(is_bad_source(f.src) == ((whole[6] & 1) || !memcmp(whole + 6, "\0\0\0\0\0", 6)));
    }
    free(frame);
    return 0;
}
