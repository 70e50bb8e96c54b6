/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench.bpf.c -- what the benchmark puts around and against the switch: the generator, the two sinks
 * at the far veth, the bare redirects that are the ceiling, and the wrapper that measures one program
 * again and again on the same frame although the program changes it.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define HEADER_BYTES  24 /* two addresses, two tags, the type, and two bytes that let the copy be whole words */
#define CAPTURE_BYTES 60 /* of a frame; none of the benchmark's is shorter */

/* The first bytes of every frame. The kernel does not restore what a receiver wrote into a live frame
 * before it sends it again, so the generator does. */
__u8 header[HEADER_BYTES];
__u32 frame_bytes; /* for the wrapper */
__u32 is_varied;   /* every frame is of another flow: a source address of its own, in 10.0.0.0/8 */
__u32 next_source;
__u32 spread; /* not 0: the last two bytes of the destination's MAC count up to it, frame by frame */
__u32 next_destination;
__u32 bare_ifindex;

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} into SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} bare_out SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counted SEC(".maps");

struct captured {
	__u32 length;
	__u8 bytes[CAPTURE_BYTES];
};
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} captures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} subject SEC(".maps");

static __always_inline void write_header(void *data)
{
	__builtin_memcpy(data, header, HEADER_BYTES);
}

/* Runs by live frames in the sender's namespace; `into` holds the sender's own end of the veth. */
SEC("xdp")
int bench_generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;

	if (data + HEADER_BYTES > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	write_header(data);
	if (spread) {
		const __u32 to = next_destination++ % spread;

		((__u8 *)data)[4] = to >> 8;
		((__u8 *)data)[5] = to;
	}
	if (is_varied) {
		__u8 *source = data + 26; /* of IPv4 behind no tags */
		__u32 address = next_source++;

		if (source + 4 > (__u8 *)(long)ctx->data_end)
			return XDP_ABORTED;
		source[1] = address >> 16;
		source[2] = address >> 8;
		source[3] = address;
	}
	return (int)bpf_redirect_map(&into, 0, XDP_DROP);
}

SEC("xdp")
int bench_count(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&counted, &zero);

	if (count)
		*count += 1;
	return XDP_DROP;
}

SEC("xdp")
int bench_capture(struct xdp_md *ctx)
{
	struct captured *out = bpf_ringbuf_reserve(&captures, sizeof(*out), 0);

	if (!out)
		return XDP_DROP;
	out->length = (__u32)(ctx->data_end - ctx->data);
	if (bpf_xdp_load_bytes(ctx, 0, out->bytes, CAPTURE_BYTES) != 0)
		out->length = 0;
	bpf_ringbuf_submit(out, 0);
	return XDP_DROP;
}

/* frags, as all must be that the wrapper's array may hold. */
SEC("xdp.frags")
int bench_bare_xdp(struct xdp_md *ctx)
{
	return (int)bpf_redirect_map(&bare_out, 0, XDP_DROP);
}

SEC("tcx/ingress")
int bench_bare_tc(struct __sk_buff *skb)
{
	return (int)bpf_redirect(bare_ifindex, 0);
}

/* What a program costs that does nothing. */
SEC("xdp.frags")
int bench_cost_empty(struct xdp_md *ctx)
{
	return XDP_DROP;
}

/* Gives `subject` the same frame in every repetition of a test run: undoes what it did to it before. */
SEC("xdp.frags")
int bench_cost(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	long grown = (void *)(long)ctx->data_end - data - (long)frame_bytes;

	if (grown != 0 && bpf_xdp_adjust_head(ctx, (int)grown) != 0)
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	if (data + HEADER_BYTES > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	write_header(data);
	bpf_tail_call(ctx, &subject, 0);
	return XDP_ABORTED;
}

SEC("tcx/ingress")
int bench_cost_tc_empty(struct __sk_buff *skb)
{
	return 2; /* TC_ACT_SHOT */
}

char _license[] SEC("license") = "Dual BSD/GPL";
