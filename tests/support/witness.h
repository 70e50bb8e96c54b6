/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* witness.h -- a frame that the switch passed to the host, as witness.bpf.c reports it. */
#ifndef IVDS_TESTS_WITNESS_H
#define IVDS_TESTS_WITNESS_H

#include <linux/types.h>

struct witness_frame {  // NOLINT(readability-identifier-naming): in the style of C
    __u32 ifindex;
    __u32 length; /* of the frame without a tag that is in metadata; 0 if it could not be read */
    __u32 vlan_present;
    __u32 vlan_tci;
    __u32 vlan_proto_be;
    __u8 bytes[2048];
};

#endif
