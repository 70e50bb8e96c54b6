/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * xdp-dispatcher.bpf.c -- the dispatcher that libxdp puts on an XDP hook, for its protocol of the installed version:
 * libxdp sets the configuration, and replaces prog0 to prog9 (or the whole, for a single program) by the programs
 * that share the hook.
 *
 * libxdp brings one of its own. But a kernel of 2025 or later, and older ones that took over its fixes, let a
 * function be replaced by one that moves the start of the frame only if it does so itself, and that of libxdp
 * before 1.5.5 does not. The switch pushes and pops tags.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <xdp/prog_dispatcher.h>

static volatile const struct xdp_dispatcher_config conf = {};

/* A place for a program. Left empty it lets the next one run. It is never run as it is, so that the call which counts
 * as a change of the frame costs nothing. */
#define PLACE(name)                                                                                                  \
	__attribute__((noinline)) int name(struct xdp_md *ctx)                                                       \
	{                                                                                                            \
		volatile int verdict = XDP_DISPATCHER_RETVAL;                                                        \
                                                                                                                     \
		if (!ctx)                                                                                            \
			return XDP_ABORTED;                                                                          \
		bpf_xdp_adjust_tail(ctx, 0);                                                                         \
		return verdict;                                                                                      \
	}

PLACE(prog0)
PLACE(prog1)
PLACE(prog2)
PLACE(prog3)
PLACE(prog4)
PLACE(prog5)
PLACE(prog6)
PLACE(prog7)
PLACE(prog8)
PLACE(prog9)
PLACE(compat_test)

/* What is beyond the programs there are is left out by the verifier, as the configuration is constant. */
#define RUN(n)                                                                                                       \
	do {                                                                                                         \
		if (programs <= (n))                                                                                 \
			return XDP_PASS;                                                                             \
		verdict = prog##n(ctx);                                                                              \
		if (!((1U << verdict) & conf.chain_call_actions[n]))                                                 \
			return verdict;                                                                              \
	} while (0)

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	const __u8 programs = conf.num_progs_enabled;
	int verdict;

	RUN(0);
	RUN(1);
	RUN(2);
	RUN(3);
	RUN(4);
	RUN(5);
	RUN(6);
	RUN(7);
	RUN(8);
	RUN(9);
	if (programs > MAX_DISPATCHER_ACTIONS)
		compat_test(ctx); /* never; it only keeps the function, which libxdp asks for */
	return XDP_PASS;
}

/* What libxdp tries kernels out with. */
SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
__uint(dispatcher_version, XDP_DISPATCHER_VERSION) SEC(XDP_METADATA_SECTION);
