/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h -- definitions of the pinned maps; abi.h says what they hold and who may write them.
 * Pinned under their names in ROOT/v1/maps; names stay within the kernel's 15 characters.
 */
#ifndef IVDS_MAPS_H
#define IVDS_MAPS_H

#include "common.h"
#include "parse.h"
#include "fields.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ivds_meta);
} meta SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IVDS_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} ifports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IVDS_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct ivds_port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, IVDS_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct ivds_port_state);
} port_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IVDS_MAX_INSTANCES);
	__type(key, __u32);
	__type(value, struct ivds_instance);
} instances SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, IVDS_MAX_INSTANCES);
	__type(key, __u32);
	__type(value, struct ivds_instance_state);
} instance_state SEC(".maps");

/* Not preallocated, so that a small switch does not pay for the largest one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_VVLANS);
	__type(key, struct ivds_vvlan_key);
	__type(value, struct ivds_vvlan);
} vvlans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_FDB);
	__type(key, struct ivds_fdb_key);
	__type(value, struct ivds_fdb_entry);
} fdb SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_NEIGHBOURS);
	__type(key, struct ivds_neighbour_key);
	__type(value, struct ivds_neighbour);
} neighbours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_PEER_RATES);
	__type(key, struct ivds_peer_key);
	__type(value, struct ivds_peer_rate);
} peer_rates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, IVDS_MAX_PORTS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32)); /* ifindex */
} tx SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, IVDS_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct ivds_port_stats);
} port_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct ivds_nic_stats);
} nic_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, IVDS_MAX_INSTANCES);
	__type(key, __u32);
	__type(value, struct ivds_instance_stats);
} instance_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_PORTS * 8);
	__type(key, struct ivds_drop_key);
	__type(value, struct ivds_count);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, IVDS_MAX_MISSES);
	__type(key, struct ivds_vvlan_key);
	__type(value, struct ivds_count);
} misses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IVDS_MAX_ACLS);
	__type(key, __u32);
	__type(value, struct ivds_acl);
} acls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_ACLS * 16);
	__type(key, struct ivds_acl_mask_key);
	__type(value, struct ivds_acl_mask);
} acl_masks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_ACL_RULES);
	__type(key, struct ivds_acl_key);
	__type(value, struct ivds_acl_rule);
} acl_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_ACL_RULES);
	__type(key, __u32);
	__type(value, struct ivds_rule_count);
} rule_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_FLOWS);
	__type(key, struct ivds_flow_key);
	__type(value, struct ivds_flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IVDS_MAX_POOLS);
	__type(key, __u32);
	__type(value, struct ivds_pool);
} pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IVDS_MAX_MIRRORS);
	__type(key, __u32);
	__type(value, struct ivds_mirror);
} mirrors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IVDS_MAX_MIRRORS);
	__type(key, __u32);
	__type(value, struct ivds_mirror_state);
} mirror_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, IVDS_MAX_MIRRORS);
	__type(key, __u32);
	__type(value, struct ivds_mirror_stats);
} mirror_stats SEC(".maps");

struct ivds_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* a ring of any size may be put in */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, IVDS_MAX_MIRRORS);
	__type(key, __u32);
	__array(values, struct ivds_ring);
} captures SEC(".maps");

/* A captured frame on its way into a ring. */
struct ivds_captured {
	struct ivds_capture head;
	__u8 bytes[IVDS_CAPTURE_BYTES];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ivds_captured);
} capture_room SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IVDS_MAX_INSPECTORS);
	__type(key, __u32);
	__type(value, struct ivds_inspector);
} inspectors SEC(".maps");

/* What a list of rules says of a frame. */
struct ivds_decision {
	__u32 rule; /* id; 0: the default */
	__u32 target;
	__u32 mirrors;
	__u8 action; /* enum ivds_acl_action */
	__u8 flags;  /* IVDS_ACL_* */
};

/* What a frame was counted for when lists were asked about it. */
struct ivds_judged {
	struct ivds_flow_key key; /* of its flow; port 0: none */
	__u32 rule;               /* where it was counted apart from the flow; 0: a list's default, or no list */
	__u32 recent;             /* 1 + the place in recents that it was counted in, and nowhere else; 0: none */
	__u32 is_apart;           /* the flow owes its own rule nothing for it */
	__u32 pad0;
};

/* recent.h */
struct ivds_recent_key {
	union {
		struct {
			__u32 port;
			__u32 instance;
			__u8 macs[12]; /* as they are in the frame, and so is the rest */
			__u8 proto;
			__u8 tcp_flags; /* 0: not TCP */
			__u8 way;
			__u8 pad0;
			__be32 src;
			__be32 dst;
			__be16 sport_be;
			__be16 dport_be;
			__u32 pad1;
		};
		__u64 word[5];
	};
};
struct ivds_recent {
	struct ivds_recent_key key;
	__u64 tick; /* the kernel's jiffies; it holds no longer */
	__u32 acl;  /* list that decided, of the way … */
	__u32 acl_way;
	__u32 epoch; /* of the port's flows */
	__u32 busy;  /* 1: a CPU is at the key, or tells the flow */
	struct ivds_decision decision;
	__u64 packets;
	__u64 bytes;
	__u64 told_packets; /* of these, those that the flow knows of */
	__u64 told_bytes;
};
#define IVDS_MAX_CPUS 8192 /* that a kernel of this time can have; the sweep stops after the last there is */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, IVDS_MAX_RECENTS);
	__type(key, __u32);
	__type(value, struct ivds_recent);
} recents SEC(".maps");

/* A mirror session's copies that a CPU handed to the tap. */
struct ivds_flight {
	__u64 handed;  /* frames, with those that were lost */
	__u64 settled; /* of these, those before the copy that came out last, and … */
	__u64 out;     /* … frames of that copy which came out */
};

/* Scratch: what is known of the frame under way. Programs of ours never nest on a CPU: what they send is queued. */
struct ivds_scratch {
	struct ivds_fields fields;
	struct ivds_flow_key key;     /* of the flow entry under way, where it took a closer look */
	struct ivds_judged judged[2]; /* by enum ivds_way */
	struct ivds_recent_key recent;
	struct ivds_flow made;        /* a flow entry while it is put together, and … */
	struct ivds_acl_key rule_key; /* of a rule while it is looked for, and … */
	struct ivds_fields saved;     /* … fields that are put aside: the stack has no room for them */
	struct ivds_l3 l3;
	struct ivds_frame answer; /* of an inspector's, while it is looked at */
	__u8 macs[12];
	struct ivds_decision decision; /* of the list that was asked last */
	/* Of the frame's way through a patch: the near end, and the rules that decided at both ends. 0: none. */
	__u32 patch_out;
	__u32 rule_patch_out;
	__u32 rule_patch_in;
	__u32 pcp;       /* of a flood's copies; not with the rest of it, which the verifier follows word by word */
	__u32 pool;      /* that the decision's target was picked from; 0: none */
	__u32 mirrored;  /* sessions that have a copy of the frame, and … */
	__u32 passed;    /* … those whose filters let it pass, of those asked last */
	__u32 inspector; /* port id of the one that it has passed on its way in; 0: none */
	struct ivds_flight flights[IVDS_MAX_MIRRORS]; /* this alone lasts from frame to frame */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ivds_scratch);
} scratch SEC(".maps");

INLINE struct ivds_scratch *scratch_of_cpu(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&scratch, &only);
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, IVDS_EVENTS_BYTES);
} events SEC(".maps");

#endif
