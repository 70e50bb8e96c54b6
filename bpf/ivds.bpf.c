/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ivds.bpf.c -- the data plane's programs: the two front ends of one pipeline, and the sweep that the
 * agent runs. Needs kernel 6.1 (bpf_loop 5.17, XDP frags 5.18, unpreallocated maps in a sleepable
 * program 6.1); tcx needs 6.6 and gives way to clsact.
 */
#include "mirror_send.h"
#include "sweep.h"
#include "tc.h"
#include "xdp.h"

/* Set before the program is loaded as a component of libxdp's dispatcher; elsewhere the verifier leaves out what
 * depends on it. */
const volatile __u8 in_dispatcher = 0;

SEC("xdp.frags")
int ivds_xdp(struct xdp_md *ctx)
{
	/* During an upgrade two builds of us are in the dispatcher, and the second shall not count frames again. */
	if (in_dispatcher && xdp_passed_to_tc(ctx))
		return XDP_PASS;
	if (xdp_quick(ctx))
		return XDP_REDIRECT;
	/* Nothing that was looked at is kept, and so the verifier goes through the rest once. */
	barrier();
	return xdp_switch(ctx);
}

SEC("tcx/ingress")
int ivds_tc(struct __sk_buff *skb)
{
	return tc_quick(skb) ?: tc_switch(skb);
}

SEC("tcx/ingress")
int ivds_mirror(struct __sk_buff *skb)
{
	return mirror_send(skb);
}

SEC("syscall")
int ivds_sweep(struct ivds_sweep *args)
{
	struct ivds_sweep sweep = {
	    .now_s = args->now_s, .port = args->port, .instance = args->instance, .only = args->only};

	if (args->only != IVDS_SWEEP_FLOWS)
		bpf_for_each_map_elem(&fdb, sweep_entry, &sweep, 0);
	if (args->only != IVDS_SWEEP_FDB) {
		bpf_loop(IVDS_MAX_CPUS * IVDS_MAX_RECENTS, sweep_recent, &sweep, 0);
		bpf_for_each_map_elem(&flows, sweep_flow, &sweep, 0);
	}
	args->removed = sweep.removed;
	args->removed_flows = sweep.removed_flows;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
