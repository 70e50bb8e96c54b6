/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xsk_end -- the far end of a vPort's or an inspector's interface, read by AF_XDP in copy mode, without a packet
 * socket. By native XDP: what TC redirected there the kernel does not show to generic XDP.
 *
 *   xsk-end INTERFACE          prints each frame that comes in, in hexadecimal
 *   xsk-end INTERFACE inspect  an inspector that lets all pass: sends each frame back as it came, and says hello
 */
#include <errno.h>
#include <linux/if_link.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <xdp/xsk.h>

#include "ivds/abi.h"

enum { frames = 2048, frame_bytes = XSK_UMEM__DEFAULT_FRAME_SIZE, hello_ms = 100 };

static uint8_t *area;
static struct xsk_ring_prod fill, send_ring;
static struct xsk_ring_cons done, receive_ring;
static struct xsk_socket *end;
static uint64_t hello_at = (uint64_t)(frames - 1) * frame_bytes; /* the last frame is for hellos alone */

static void give(struct xsk_ring_prod *ring, uint64_t at) {
    uint32_t slot;

    if (xsk_ring_prod__reserve(ring, 1, &slot) != 1) return;
    *xsk_ring_prod__fill_addr(ring, slot) = at;
    xsk_ring_prod__submit(ring, 1);
}

/* Frames that were sent can be received into again. */
static void take_back(void) {
    uint32_t slot, count = (uint32_t)xsk_ring_cons__peek(&done, frames, &slot);

    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = *xsk_ring_cons__comp_addr(&done, slot + i);

        if (at != hello_at) give(&fill, at - at % frame_bytes);
    }
    xsk_ring_cons__release(&done, count);
}

static bool send_frame(uint64_t at, uint32_t bytes) {
    uint32_t slot;
    struct xdp_desc *out;

    if (xsk_ring_prod__reserve(&send_ring, 1, &slot) != 1) return false;
    out = xsk_ring_prod__tx_desc(&send_ring, slot);
    out->addr = at;
    out->len = bytes;
    out->options = 0;
    xsk_ring_prod__submit(&send_ring, 1);
    (void)sendto(xsk_socket__fd(end), NULL, 0, MSG_DONTWAIT, NULL, 0);
    return true;
}

static void say_hello(void) {
    uint8_t *hello = area + hello_at;

    memset(hello, 0, 64);
    hello[12] = IVDS_TYPE_INSPECTION >> 8;
    hello[13] = IVDS_TYPE_INSPECTION & 0xff;
    hello[17] = IVDS_INSPECT_HELLO;
    (void)send_frame(hello_at, 64);
}

static int open_end(const char *netdev) {
    const struct xsk_socket_config config = {
        .rx_size = frames,
        .tx_size = frames,
        .xdp_flags = XDP_FLAGS_DRV_MODE,
        .bind_flags = XDP_COPY,
    };
    const struct xsk_umem_config memory = {
        .fill_size = frames,
        .comp_size = frames,
        .frame_size = frame_bytes,
        .frame_headroom = 0,
    };
    struct xsk_umem *umem;
    int err;

    area = mmap(NULL, (size_t)frames * frame_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) return -errno;
    err = xsk_umem__create(&umem, area, (uint64_t)frames * frame_bytes, &fill, &done, &memory);
    if (!err) err = xsk_socket__create(&end, netdev, 0, umem, &receive_ring, &send_ring, &config);
    for (uint64_t i = 0; !err && i < frames - 1; i++) give(&fill, i * frame_bytes);
    return err;
}

int main(int count, char **words) {
    const bool inspects = count == 3 && strcmp(words[2], "inspect") == 0;
    int err;

    if (count != 2 && !inspects) {
        fprintf(stderr, "usage: xsk-end INTERFACE [inspect]\n");
        return 2;
    }
    err = open_end(words[1]);
    if (err) {
        fprintf(stderr, "xsk-end: %s: %s\n", words[1], strerror(-err));
        return 1;
    }
    fprintf(stderr, "reading\n");
    for (;;) {
        struct pollfd ready = {.fd = xsk_socket__fd(end), .events = POLLIN, .revents = 0};
        uint32_t slot, got;

        (void)poll(&ready, 1, hello_ms);
        take_back();
        if (inspects) say_hello();
        got = (uint32_t)xsk_ring_cons__peek(&receive_ring, frames, &slot);
        for (uint32_t i = 0; i < got; i++) {
            const struct xdp_desc *in = xsk_ring_cons__rx_desc(&receive_ring, slot + i);

            if (inspects) {
                if (!send_frame(in->addr, in->len)) give(&fill, in->addr - in->addr % frame_bytes);
                continue;
            }
            for (uint32_t b = 0; b < in->len; b++) printf("%02x", area[in->addr + b]);
            printf("\n");
            give(&fill, in->addr - in->addr % frame_bytes);
        }
        xsk_ring_cons__release(&receive_ring, got);
        fflush(stdout);
    }
}
