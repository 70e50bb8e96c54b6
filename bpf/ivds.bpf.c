/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "maps.h"
SEC("xdp.frags") int ivds_xdp(struct xdp_md *ctx) { __u32 k = ctx->ingress_ifindex; return bpf_map_lookup_elem(&ifports, &k) ? XDP_PASS : XDP_DROP; }
SEC("tcx/ingress") int ivds_tc(struct __sk_buff *skb) { __u32 k = skb->ifindex; return bpf_map_lookup_elem(&ifports, &k) ? -1 : 2; }
SEC("syscall") int ivds_sweep(struct ivds_sweep *args) { args->removed = 0; return 0; }
char _license[] SEC("license") = "Dual BSD/GPL";
