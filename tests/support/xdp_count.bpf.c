/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* xdp_count.bpf.c -- somebody else's XDP program, which counts every frame and lets it pass. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} frames SEC(".maps");

SEC("xdp.frags")
int xdp_count(struct xdp_md *ctx)
{
	const __u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&frames, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
