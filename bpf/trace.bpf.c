/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * trace.bpf.c -- the front ends once more, compiled to tell of one frame and to do nothing (ivds/trace.h). They are
 * called by BPF_PROG_TEST_RUN alone, over the same pinned maps.
 */
#define IVDS_TRACE
#include "tc.h"
#include "xdp.h"

SEC("xdp.frags")
int trace_xdp(struct xdp_md *ctx)
{
	return xdp_switch(ctx);
}

SEC("tcx/ingress")
int trace_tc(struct __sk_buff *skb)
{
	return tc_switch(skb);
}

char _license[] SEC("license") = "Dual BSD/GPL";
