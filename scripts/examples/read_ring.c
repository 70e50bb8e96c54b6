/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_ring.c -- what read_ring.py beside it does, in C: reads the copies of a mirror to a ring, and says of each its
 * direction, its port, how long the frame is, and its bytes.
 *
 *     cc -Ibpf/include -o read_ring read_ring.c -lbpf
 *     read_ring /sys/fs/bpf/ivds/v1/rings/watch
 *
 * abi.h says what a record is. C++ does the same, with libbpf's functions.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ivds/abi.h"

enum { patience_ms = 1000 };

static int print_copy(void *context, void *data, size_t size) {
    static const char *const directions[] = {"in", "out", "drop"};
    struct ivds_capture head;
    const unsigned char *frame = (const unsigned char *)data + sizeof(head);

    (void)context;
    if (size < sizeof(head)) return 0;
    memcpy(&head, data, sizeof(head));
    if (head.direction > IVDS_DIRECTION_DROP || head.captured > size - sizeof(head)) return 0;
    printf("%s port %u, %u bytes: ", directions[head.direction], head.port, head.bytes);
    for (__u32 i = 0; i < head.captured; i++) printf("%02x", frame[i]);
    printf("\n");
    return 0;
}

int main(int count, char **words) {
    struct ring_buffer *ring;
    int fd, done;

    if (count != 2) {
        fprintf(stderr, "usage: read_ring PIN\n");
        return 2;
    }
    fd = bpf_obj_get(words[1]);
    ring = fd < 0 ? NULL : ring_buffer__new(fd, print_copy, NULL, NULL);
    if (!ring) {
        perror(words[1]);
        return 1;
    }
    fprintf(stderr, "reading\n");
    do {
        done = ring_buffer__poll(ring, patience_ms);
        fflush(stdout);
        /* A process that was stopped goes on where it was: that interrupts its wait, and is no error. */
    } while (done >= 0 || done == -EINTR);
    fprintf(stderr, "%s: %s\n", words[1], strerror(-done));
    ring_buffer__free(ring);
    return 1;
}
