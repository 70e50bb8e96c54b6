/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* common.h -- what every part of the data plane includes. */
#ifndef IVDS_COMMON_H
#define IVDS_COMMON_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "ivds/abi.h"
#include "ivds/abi_check.h"
#include "ivds/trace.h"

#define INLINE static __always_inline

/* What XDP puts in metadata for TC. As the end of an Ethernet header it would be the reserved type 0xffff. */
#define IVDS_XDP_MARK 0xffffffffu

#endif
