/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * witness.bpf.c -- what the rig puts around the switch: a TC program behind the switch's own, which shows what
 * the switch let through to the host, and an XDP program at the far ends, without which a veth takes no redirects.
 */
#include "witness.h"

#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} passed SEC(".maps");

SEC("tcx/ingress")
int witness_host(struct __sk_buff *skb)
{
	struct witness_frame *frame = bpf_ringbuf_reserve(&passed, sizeof(*frame), 0);

	if (!frame)
		return TC_ACT_SHOT;
	__u32 length = skb->len;

	frame->ifindex = skb->ifindex;
	frame->length = length;
	frame->vlan_present = skb->vlan_present;
	frame->vlan_tci = skb->vlan_tci;
	frame->vlan_proto_be = skb->vlan_proto;
	if (length > sizeof(frame->bytes))
		length = sizeof(frame->bytes);
	if (length < 14 || bpf_skb_load_bytes(skb, 0, frame->bytes, length))
		frame->length = 0;
	bpf_ringbuf_submit(frame, 0);
	return TC_ACT_SHOT;
}

SEC("xdp.frags")
int witness_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
