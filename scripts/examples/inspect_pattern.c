/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect_pattern.c -- what inspect_pattern.py beside it does, in C: blocks each flow in which a pattern is seen,
 * from that frame on, both ways.
 *
 *     cc -Ibpf/include -o inspect_pattern inspect_pattern.c
 *     inspect_pattern ips0-in 'attack at dawn'
 *
 * abi.h says what an inspection is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "ivds/abi.h"

enum {
    inspection_at = 12,
    frame_at = inspection_at + sizeof(struct ivds_inspection),
    hello_ms = 100,
    flows_max = 4096,
};

struct flow {
    uint8_t address[2][16];
    uint8_t port[2][2];
    uint8_t vport[2];
    uint8_t proto;
};

static struct flow blocked[flows_max];
static size_t blocked_count;

static unsigned word_at(const uint8_t *bytes) {
    return (unsigned)bytes[0] << 8 | bytes[1];
}

/* What identifies the flow of a frame behind its inspection, the same for both ways. False: it is no whole IP. */
static bool read_flow(const uint8_t *data, size_t length, struct flow *flow) {
    size_t at = frame_at, address_at, address_bytes, l4;
    const uint8_t *ip;
    unsigned kind;
    bool turned;

    memset(flow, 0, sizeof(*flow));
    while (length >= at + 4 &&
           (word_at(data + at) == 0x8100 || word_at(data + at) == 0x88a8 || word_at(data + at) == 0x9100))
        at += 4;
    if (length < at + 2) return false;
    kind = word_at(data + at);
    at += 2;
    ip = data + at;
    if (kind == 0x0800 && length >= at + 20) {
        flow->proto = ip[9];
        address_at = 12;
        address_bytes = 4;
        l4 = at + (ip[0] & 15u) * 4u;
    } else if (kind == 0x86dd && length >= at + 40) {
        flow->proto = ip[6];
        address_at = 8;
        address_bytes = 16;
        l4 = at + 40;
    } else {
        return false;
    }
    turned = memcmp(ip + address_at, ip + address_at + address_bytes, address_bytes) > 0;
    memcpy(flow->address[turned], ip + address_at, address_bytes);
    memcpy(flow->address[!turned], ip + address_at + address_bytes, address_bytes);
    if ((flow->proto == IPPROTO_TCP || flow->proto == IPPROTO_UDP) && length >= l4 + 4) {
        memcpy(flow->port[turned], data + l4, 2);
        memcpy(flow->port[!turned], data + l4 + 2, 2);
    }
    memcpy(flow->vport, data + inspection_at + 2, 2);
    return true;
}

static bool is_blocked(const struct flow *flow) {
    for (size_t i = 0; i < blocked_count; i++)
        if (memcmp(&blocked[i], flow, sizeof(*flow)) == 0) return true;
    return false;
}

static bool passes(const uint8_t *data, size_t length, const char *pattern) {
    struct flow flow;
    const bool is_flow = read_flow(data, length, &flow);

    if (is_flow && is_blocked(&flow)) return false;
    if (!memmem(data + frame_at, length - frame_at, pattern, strlen(pattern))) return true;
    if (is_flow && blocked_count < flows_max) blocked[blocked_count++] = flow;
    return false;
}

static int open_end(const char *netdev) {
    const int room = 4 << 20; /* for all that may be unanswered: the inspector's `queue` of whole frames */
    struct sockaddr_ll end = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(IVDS_TYPE_INSPECTION),
        .sll_ifindex = (int)if_nametoindex(netdev),
    };
    const int fd = socket(AF_PACKET, SOCK_RAW, htons(IVDS_TYPE_INSPECTION));

    if (fd < 0 || end.sll_ifindex == 0 || bind(fd, (const struct sockaddr *)&end, sizeof(end)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) != 0) {
        perror(netdev);
        return -1;
    }
    return fd;
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int count, char **words) {
    static uint8_t data[65536];
    uint8_t hello[frame_at] = {0};
    struct ivds_inspection inspection = {.type_be = htons(IVDS_TYPE_INSPECTION), .verdict = IVDS_INSPECT_HELLO};
    struct pollfd ready = {.events = POLLIN};
    int64_t hello_due = 0;

    if (count != 3) {
        fprintf(stderr, "usage: %s INTERFACE PATTERN\n", words[0]);
        return 2;
    }
    ready.fd = open_end(words[1]);
    if (ready.fd < 0) return 1;
    memcpy(hello + inspection_at, &inspection, sizeof(inspection));
    for (;;) {
        const int64_t now = now_ms();
        ssize_t length;

        if (now >= hello_due) {
            (void)send(ready.fd, hello, sizeof(hello), 0);
            hello_due = now + hello_ms;
        }
        if (poll(&ready, 1, (int)(hello_due - now)) <= 0) continue;
        length = recv(ready.fd, data, sizeof(data), 0);
        if (length < (ssize_t)frame_at) continue;
        /* As it came it goes on; to have it dropped, its first bytes say so. */
        if (!passes(data, (size_t)length, words[2])) {
            data[inspection_at + __builtin_offsetof(struct ivds_inspection, verdict)] = IVDS_INSPECT_BLOCK;
            length = frame_at;
        }
        (void)send(ready.fd, data, (size_t)length, 0);
    }
}
