/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h -- the contract between the data plane and everyone who opens its pinned maps.
 *
 * The maps live under ROOT/v1/maps (ROOT is /sys/fs/bpf/ivds unless told otherwise). An agent
 * reads `meta` first and refuses a layout_major it does not know. Layout rules:
 *  - fixed-width members, host byte order unless the name ends in _be, no implicit padding; members
 *    named pad* are zero, and a key with a non-zero pad never matches;
 *  - MAC addresses are six bytes in wire order;
 *  - VLAN ids are the 12 bits alone, 1 to 4094; 0 says "none";
 *  - enumerations are append-only;
 *  - a value that the data plane changes in place changes in one naturally aligned word.
 * The header compiles as BPF C, C11 and C++; abi_check.h asserts every size and offset.
 */
#ifndef IVDS_ABI_H
#define IVDS_ABI_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define IVDS_MAGIC        0x49564453u /* "IVDS" */
#define IVDS_LAYOUT_MAJOR 1u          /* an agent refuses another major */
#define IVDS_LAYOUT_MINOR 0u          /* grows when something is only added */

/* Names of pins; bpffs names hold no dots. */
#define IVDS_PIN_ROOT "/sys/fs/bpf/ivds"
#define IVDS_PIN_DIR  "v1"

/* Capacities. Port and instance ids are indices; id 0 is never used. */
#define IVDS_MAX_PORTS      8192u    /* vPorts and uplinks together */
#define IVDS_MAX_INSTANCES  131072u  /* instances on a host (R72) */
#define IVDS_MAX_FDB        1048576u /* FDB entries on a host, static and learned together */
#define IVDS_MAX_VVLANS     262144u  /* {uplink, VLAN, V.VLAN} entries */
#define IVDS_MAX_PEER_VLANS 8u       /* outer VLANs of one instance's peers, besides its own */
#define IVDS_MAX_PEER_RATES 65536u   /* outer VLANs of instances whose peers have a rate */
#define IVDS_MAX_NEIGHBOURS 1048576u /* addresses that the switch answers for */
#define IVDS_MAX_MISSES     4096u    /* {uplink, VLAN, V.VLAN} pairs counted as unknown, LRU */
#define IVDS_MAX_ACLS       16384u   /* lists of rules; ports with the same rules share one */
#define IVDS_MAX_ACL_MASKS  1024u    /* of one list: combinations of fields and prefix lengths in its rules */
#define IVDS_MAX_ACL_RULES  1048576u /* entries of all lists together */
#define IVDS_MAX_FLOWS      1048576u /* flow entries on a host */
#define IVDS_MAX_RECENTS    512u     /* flows of this tick that a CPU knows by heart */
#define IVDS_MAX_POOLS      1024u    /* vPort pools */
#define IVDS_MAX_POOL_PORTS 32u      /* vPorts of one pool */
#define IVDS_MAX_MIRRORS    32u      /* mirror sessions: one bit each in a mask of sessions */
#define IVDS_MAX_INSPECTORS 64u
#define IVDS_EVENTS_BYTES   (256u * 1024u)

#define IVDS_VLAN_NONE  0u
#define IVDS_VLAN_MAX   4094u
#define IVDS_TAGS_BYTES 8u /* outer VLAN tag and V.VLAN tag; a plain frame has the first alone */

/* ------------------------------------------------------------------ meta ARRAY[1] */
struct ivds_meta {
	__u32 magic; /* IVDS_MAGIC, written last: a map without it is not ready */
	__u16 layout_major;
	__u16 layout_minor;
	__u64 generation;    /* grows by one with every applied change of the tables */
	__u8 build[32];      /* version of the programs, NUL-terminated text */
	__u32 layout_digest; /* of every map's type, key and value size (loader/layout) */
	__u32 pad0;
	__u64 pad1;
};

/* ------------------------------------------------- ifports HASH: __u32 ifindex -> __u32 port id */

/* ------------------------------------------------- ports ARRAY: __u32 port id -> struct ivds_port */
enum ivds_port_kind {
	IVDS_PORT_NONE = 0, /* the slot is free: frames are dropped (no_port) */
	IVDS_PORT_VPORT = 1,
	IVDS_PORT_UPLINK = 2,
	IVDS_PORT_PATCH = 3, /* a vPort without an interface: what is redirected to it comes in by its peer */
	IVDS_PORT_SUB = 4,   /* a vPort without one of its own: behind a tag (0x8100) of its peer's, the trunk's */
	IVDS_PORT_INSPECTOR =
	    5, /* leads to a program that lets frames of vPorts pass or not: struct ivds_inspection */
	/* A vPort whose VM has a VF itself: the NIC carries it, or nothing does. While the NIC does it is up, and its
	 * addresses are entries at the uplink (ivds_fdb_entry.vport). */
	IVDS_PORT_VF = 6,
};

/* ivds_port.flags */
#define IVDS_PF_UP         0x0001u /* interface there and running; else nothing is sent to it */
#define IVDS_PF_ANTI_SPOOF 0x0002u /* vPort: source must be a static FDB entry of this port */
#define IVDS_PF_CARRY_TAGS 0x0004u /* vPort: the guest's own tags are payload; else such frames drop */
#define IVDS_PF_TC         0x0008u /* the TC program is attached: XDP may pass to it */
#define IVDS_PF_XDP_TARGET 0x0010u /* the driver (and a veth's peer) takes XDP redirects */
#define IVDS_PF_PLAIN_DROP 0x0020u /* uplink: single-tagged frames of a switched VLAN drop, else host */
#define IVDS_PF_PLAIN_IN   0x0040u /* uplink: {uplink, VLAN, 0} may name the instance of single-tagged frames */
#define IVDS_PF_STATEFUL   0x0080u /* vPort: a rule of one of its lists is stateful */
#define IVDS_PF_TRUNK      0x0100u /* vPort: others are behind tags of its VM's: {its id, VID, 0} in vvlans */
#define IVDS_PF_FQ         0x0200u /* its interface's qdiscs are fq, which holds a frame until its time has come */
#define IVDS_PF_FAIL_OPEN  0x0400u /* inspector: while it does not listen, frames go on without it; else they drop */

#define IVDS_PCP_KEEP 8u /* that of the frame's first tag as the VM sent it, 0 where it had none */

enum ivds_way {
	IVDS_WAY_IN = 0,  /* from the VM */
	IVDS_WAY_OUT = 1, /* to the VM */
};

/* How much may pass one way (R132): a frame passes where the port owes no more time than its burst takes, and adds
 * the time that its own bytes take; what is over is dropped (rate, rate_out). On its way out of a port with
 * IVDS_PF_FQ it is not dropped, but leaves when the port owes no more than the burst, if that is within
 * IVDS_SHAPE_NS; copies of floods are dropped all the same. */
#define IVDS_SHAPE_NS 100000000ull
struct ivds_rate {
	__u64 ns_per_mib; /* nanoseconds that 2^20 bytes take, 0: no limit. Bytes are those of port_stats */
	__u64 burst_ns;   /* time that the burst takes */
};

struct ivds_port {
	__u32 ifindex;            /* 0: the interface is away */
	__u32 instance;           /* vPort: its instance id; 0: none yet, frames drop (no_instance) */
	__u32 next_member;        /* next port id in the instance's member list, 0 ends it */
	__u16 kind;               /* enum ivds_port_kind */
	__u16 flags;              /* IVDS_PF_* */
	__u16 mtu_bytes;          /* largest L3 size, tags and Ethernet header not counted */
	__u8 vmac[6];             /* vPort: its primary vMAC */
	__be16 outer_tpid_be;     /* uplink: TPID of the outer VLAN tag on the wire */
	__be16 inner_tpid_be;     /* uplink: TPID of the V.VLAN tag on the wire; 0: the tag before is the V.VLAN's */
	__u32 fdb_limit;          /* learned FDB entries this port may own, 0: none */
	__u32 acl_in;             /* vPort: the list that frames from it are held against, 0: none */
	__u32 acl_out;            /* vPort: the list that frames to it are held against, 0: none */
	__u32 flow_limit;         /* vPort: flow entries it may own */
	__u32 peer;               /* patch: port id of the other end, of another instance; sub: of the trunk */
	__u32 mirror_in;          /* sessions that get a copy of what it sends, as it comes in */
	__u32 mirror_out;         /* sessions that get a copy of what is sent to it, as it goes out */
	__u32 mirror_drop;        /* sessions that get a copy of what is dropped on it, as it came in */
	__u16 vid;                /* sub: of the tag that its VM knows it by */
	__u8 pcp;                 /* vPort: PCP of the tags of the wire, 0 to 7, or IVDS_PCP_KEEP (R132) */
	__u8 dscp;                /* vPort: 1 + the DSCP that IP packets from it get; 0: they keep theirs */
	struct ivds_rate rate[2]; /* vPort with an interface: by enum ivds_way */
	__u32 inspector;          /* port id of its inspector, 0: none; inspector: its own id */
	__u32 timeout_ms;         /* inspector: silent for longer, it does not listen */
	__u32 queue;              /* inspector: nor with so many frames unanswered, unless they are as old as that */
	__u32 pad0;
	__u64 pad1[2];
};

/* -------------------------------------- port_state ARRAY, mmapable: port id -> struct ivds_port_state
 * Written by the data plane with atomic adds and by the agent's sweep. */
#define IVDS_EVENT_KINDS 8u
struct ivds_port_state {
	__u32 learned;    /* learned FDB entries this port owns now */
	__u32 flows;      /* flow entries this port owns now */
	__u32 flow_epoch; /* counts changes of its flow entries other than new ones and their counts */
	__u32 pad0;
	__u32 event_s[IVDS_EVENT_KINDS]; /* coarse second of the last event, by enum ivds_event_kind */
	__u64 paid_ns[2];                /* by enum ivds_way: CLOCK_MONOTONIC up to which its rate is used up */
};

/* ------------------------------------------ instances ARRAY: instance id -> struct ivds_instance */
#define IVDS_IF_ACTIVE     0x0001u /* forwarding; else every frame drops (instance_down) */
#define IVDS_IF_WIRE       0x0002u /* scope distributed: to and from the wire */
#define IVDS_IF_LEARN_WIRE 0x0004u /* sources are learned from the wire */
#define IVDS_IF_PLAIN_OUT  0x0008u /* floods also go out with the outer VLAN alone; its TPID is not 0x9100 */
#define IVDS_IF_ANSWER     0x0010u /* who asks for an address in `neighbours` is answered here (rx_answered) */
#define IVDS_IF_SKIP_OWN   0x0020u /* floods go to `peer_vlans` alone, not to `vlan`: no peer is on it */
#define IVDS_IF_REGISTERED 0x0040u /* sources from the wire are static entries, by their VLAN; others drop */
#define IVDS_IF_PEER_RATES 0x0080u /* some peers have a rate: {instance, VLAN} in peer_rates */

struct ivds_instance {
	__u32 uplink;       /* port id of the uplink, 0: none */
	__u32 first_member; /* first port id of the member list, 0: empty */
	__u32 fdb_limit;    /* learned FDB entries this instance may hold */
	__u16 vlan;         /* outer VLAN of frames sent to the wire (independent mode: the transport VLAN) */
	__u16 vvlan;        /* V.VLAN; 0: `vlan` is it, and the one tag that frames have on the wire */
	__u16 mtu_bytes;    /* largest L3 size of the instance */
	__u16 flags;        /* IVDS_IF_* */
	__u16 peer_vlans[IVDS_MAX_PEER_VLANS]; /* further outer VLANs that floods go to; 0 ends the list */
	__u32 age_s;                           /* learned entries go after this long unseen, 0: never */
	__u32 pad0[6];
};

/* ------------------------------- peer_rates HASH: struct ivds_peer_key -> struct ivds_peer_rate
 * What an instance with IVDS_IF_PEER_RATES and its peers on one outer VLAN may send each other (R81): from the wire
 * the VLAN is that of the source's static FDB entry, or else the one that the frame came by, and to the wire the one
 * that it leaves by. A static entry without a VLAN has the instance's. Bytes count without the tags of the wire. */
struct ivds_peer_key {
	__u32 instance;
	__u16 vlan;
	__u16 pad0;
};
struct ivds_peer_rate {
	struct ivds_rate rate[2]; /* by enum ivds_way: IN what the peers send, OUT what is sent to them */
	__u64 paid_ns[2];         /* as in port_state; written by the data plane, 0 again when the rates change */
};

/* -------------------------- instance_state ARRAY, mmapable: instance id -> struct ivds_instance_state */
struct ivds_instance_state {
	__u32 learned; /* learned FDB entries of the instance now */
	__u32 pad0;
};

/* ------------------------------- vvlans HASH: struct ivds_vvlan_key -> struct ivds_vvlan
 * {uplink, VLAN, V.VLAN} names an instance. The entry {uplink, VLAN, 0} says that the VLAN carries
 * V.VLANs; it tells an unknown VLAN from an unknown V.VLAN, and which plain frames PLAIN_DROP is about. Where it
 * names an instance, plain frames of the VLAN belong to that (R95, R115). {trunk, VID, 0} names the vPort behind that
 * tag (R116). */
struct ivds_vvlan_key {
	__u32 uplink; /* port id, of an uplink or a trunk */
	__u16 vlan;
	__u16 vvlan;
};
struct ivds_vvlan {
	__u32 instance; /* instance id, 0 in a {uplink, VLAN, 0} entry: plain frames belong to none; trunk: port id */
};

/* ------------------------------- fdb HASH: struct ivds_fdb_key -> struct ivds_fdb_entry */
struct ivds_fdb_key {
	__u32 instance;
	__u8 mac[6];
	__u16 pad0;
};
#define IVDS_FDB_STATIC 0x01u /* configured: never ages, never moves */
#define IVDS_FDB_PLAIN  0x02u /* remote, and knows no V.VLAN: frames to it carry the outer VLAN alone */
#define IVDS_FDB_MOVED  0x04u /* static, remote: its VM went there from here; what comes late is sent on */
/* MOVED: through the second last_seen_s, frames that still come for it from the wire by another outer VLAN go on to
 * it with both tags, the V.VLAN's with DEI set; one that came so drops. */
struct ivds_fdb_entry {
	__u32 port;        /* port id: a vPort of the instance, or its uplink (a remote MAC) */
	__u32 last_seen_s; /* coarse monotonic second a frame from it was last seen; static: 0, or see MOVED */
	__u16 vlan;        /* remote: outer VLAN that reaches it; local: 0 */
	__u8 flags;        /* IVDS_FDB_* */
	__u8 pad0;
	__u32 vport; /* at the uplink: port id of the VF's vPort on this host whose address it is, else 0 */
};

/* ------------------------------- neighbours HASH: struct ivds_neighbour_key -> struct ivds_neighbour
 * Who has an address in an instance with IVDS_IF_ANSWER. ARP requests and Neighbour Solicitations of its vPorts for
 * it that would be flooded are answered at once instead, if the MAC is a static FDB entry of another port that is up.
 * Requests from nobody (address probes), those for the asker's own address, and what is not in its plainest form are
 * flooded as ever. */
struct ivds_neighbour_key {
	__u32 instance;
	__u8 address[16]; /* IPv4: ::ffff:a.b.c.d */
};
struct ivds_neighbour {
	__u8 mac[6];
	__u16 pad0;
};

/* ------------------------------- acls ARRAY: ACL id -> struct ivds_acl
 * A list of rules in order, laid out for look-up: the rules that look at the same bits of a frame share a mask, and
 * each is an entry of `acl_rules` under its mask. Of all entries that a frame finds, the first in the list decides.
 * A frame with more than three tags on its way in passes no list: what is behind them is not read.
 * A list never changes: other rules are another list under another id, which one word of the port then names. */
enum ivds_acl_action {
	IVDS_ACL_ALLOW = 1,
	IVDS_ACL_DROP = 2,
	IVDS_ACL_REDIRECT = 3, /* lists of frames from a vPort: they go to `target`, whatever their destination */
};
/* ivds_acl_rule.flags */
#define IVDS_ACL_STATEFUL 0x01u       /* with ALLOW and REDIRECT: the rest of the connection passes, both ways */
#define IVDS_ACL_LOG      0x02u       /* an event for a frame that it decides */
#define IVDS_TARGET_POOL  0x80000000u /* in a target: a pool's id, else a port's */
struct ivds_acl {
	__u32 masks;         /* how many there are, at {ACL id, 0} and on in acl_masks; 0: the default decides */
	__u8 default_action; /* enum ivds_acl_action, where no rule matches; 0: the slot is free, frames drop */
	__u8 tcp_flags;      /* those that any of its rules looks at */
	__u8 pad0[2];
};

/* What rules look at: of the VM's frame, without the tags of the wire. Where a frame has no such field it is 0. Of
 * Neighbour Discovery (RFC 4861) without its target the ICMP type could not be read either. */
#define IVDS_L4_FRAGMENT 0x01u /* one of several */
#define IVDS_L4_UNKNOWN  0x02u /* ports, ICMP type and TCP flags could not be read: a later fragment, or cut off */
#define IVDS_L3_UNKNOWN  0x04u /* the EtherType says IP or ARP, and its headers could not be read to their end */
struct ivds_fields {
	__u8 src_mac[6];
	__u8 dst_mac[6];
	__u8 src[16]; /* IPv4: ::ffff:a.b.c.d; ARP: the sender's and the target's protocol address, likewise */
	__u8 dst[16];
	__be16 type_be; /* EtherType behind all tags */
	__be16 sport_be;
	__be16 dport_be;
	__u8 proto;     /* behind IPv6 extension headers; ARP: the operation */
	__u8 tcp_flags; /* the 14th byte of the TCP header */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 unknown; /* IVDS_L4_*, IVDS_L3_* */
	__u8 pad0;
};

/* ------------------------------- acl_masks HASH: struct ivds_acl_mask_key -> struct ivds_acl_mask */
struct ivds_acl_mask_key {
	__u32 acl;
	__u32 index;
};
/* ivds_acl_mask.flags */
#define IVDS_AM_ND_TARGET 0x01u /* `dst` is of the target in Neighbour Discovery, not of the IPv6 header */
struct ivds_acl_mask {
	struct ivds_fields fields; /* ones where a rule looks */
	__u32 first;               /* the least `order` of the rules under it; masks are sorted by it */
	__u32 flags;               /* IVDS_AM_* */
};

/* ------------------------------- acl_rules HASH: struct ivds_acl_key -> struct ivds_acl_rule */
struct ivds_acl_key {
	struct ivds_fields fields; /* as masked */
	__u32 acl;
	__u32 mask; /* index */
};
struct ivds_acl_rule {
	__u32 order;   /* place in the list; the least decides */
	__u32 rule;    /* id, for counting */
	__u32 target;  /* REDIRECT: port id of a vPort, or IVDS_TARGET_POOL and a pool's id */
	__u32 mirrors; /* sessions that get a copy of what it decides */
	__u8 action;   /* enum ivds_acl_action */
	__u8 flags;    /* IVDS_ACL_* */
	__u8 pad0[2];
};

/* ------------------------------- pools HASH: __u32 pool id -> struct ivds_pool
 * A target of many: a flow goes to the member that rendezvous hashing picks among those that are up, so that a member
 * that goes away loses only its own flows. Where there is none, frames drop (no_member). */
struct ivds_pool {
	__u32 count;                       /* of members; 0: no vPort of this host is in it */
	__u32 member[IVDS_MAX_POOL_PORTS]; /* port ids */
};

/* ------------------------------- flows HASH: struct ivds_flow_key -> struct ivds_flow
 * What the lists of a vPort decided about a flow, so that they are not asked again for each frame, and the state of
 * connections that a stateful rule let through. An entry belongs to one vPort; a flow between two that have lists has
 * two. IPv4 and IPv6 alone, unfragmented, with headers that can be read, and no Neighbour Discovery about a target;
 * all else is held against the list each time. A verdict holds as long as the vPort's list is the one that gave it: a
 * change of rules makes another list. */
struct ivds_flow_key {
	__u32 port; /* id of the vPort */
	__u32 instance;
	/* As the vPort's VM sends the frame: in the other direction source and destination are exchanged. `tcp_flags`
	 * and `unknown` are 0. ICMP echo: both ports are the identifier, and a reply has the type of its request. */
	struct ivds_fields fields;
};
/* What was decided about one direction. */
struct ivds_flow_way {
	__u64 packets;
	__u64 bytes;        /* as they are at the vPort */
	__u64 told_packets; /* of these, those that rule_stats has been told of */
	__u64 told_bytes;
	__u32 acl; /* list that decided; where it is not the vPort's, this way holds nothing but counts */
	__u32 rule;
	__u32 target; /* REDIRECT: port id; of a pool the member that was picked */
	__u32 pool;   /* id of the pool that it was picked from, or 0 */
	__u32 mirrors;
	__u16 detail; /* ICMP: type << 8 | code; TCP: flags that the list looks at << 8 | which of them are set */
	__u8 action;  /* enum ivds_acl_action */
	__u8 flags;   /* IVDS_ACL_* */
};
enum ivds_flow_state {
	IVDS_FLOW_VERDICT = 0, /* no connection: it spares the search */
	IVDS_FLOW_OPENING = 1, /* seen from the one side that opened it */
	IVDS_FLOW_OPEN = 2,    /* seen from both */
	IVDS_FLOW_CLOSING = 3, /* TCP: FIN from both, or a reset */
};
/* Seconds without a frame after which an entry counts as gone. */
#define IVDS_FLOW_VERDICT_S  15u
#define IVDS_FLOW_OPENING_S  30u
#define IVDS_FLOW_OPEN_S     180u  /* other than TCP */
#define IVDS_FLOW_TCP_OPEN_S 7500u /* beyond TCP's own keepalive, RFC 9293 3.8.4: two hours */
#define IVDS_FLOW_CLOSING_S  10u
struct ivds_flow {
	struct ivds_flow_way way[2]; /* by enum ivds_way */
	__u64 last_seen_ns;          /* coarse CLOCK_MONOTONIC of the last frame */
	__u32 since_s;               /* coarse monotonic second it was made */
	__u8 state;                  /* enum ivds_flow_state */
	__u8 opener;                 /* enum ivds_way of the frame that opened the connection … */
	__u8 open_flags;             /* … and its TCP flags */
	__u8 fins;                   /* 1 << enum ivds_way: a FIN was seen */
	__u32 tick; /* the kernel's jiffies when last_seen_ns was written; what they are is its own */
	__u32 pad0;
};

/* ------------------------------- rule_stats PERCPU_HASH: __u32 rule id -> struct ivds_rule_count: frames it decided
 * Id 0 counts nothing: a list's default. Those that a flow entry decided for are counted there, and told here at the
 * flow's next frame in a later tick, or by the sweep: after a sweep nothing is owing. */
struct ivds_rule_count {
	__u64 packets;
	__u64 bytes;
	__u64 last_ns; /* CLOCK_MONOTONIC of the last one on this CPU; the rule's is the latest of all */
};

/* ------------------------------- recents PERCPU_ARRAY: the data plane's own: what the CPU decided about flows in
 * this tick of the clock. What it counted it tells their entries at a frame in a later tick, or in the sweep. */

/* ------------------------------- scratch PERCPU_ARRAY[1]: the data plane's own, while a frame is under way */

/* ------------------------------- tx DEVMAP: __u32 port id -> __u32 ifindex
 * Only ports with IVDS_PF_XDP_TARGET are in it. The kernel drops an entry when its netdev goes. */

/* ------------------------------- port_stats PERCPU_ARRAY: port id -> struct ivds_port_stats
 * "rx" is from the port into the switch, "tx" from the switch out of the port. Bytes count the frame
 * as it is on that port, without FCS; a GSO frame counts as the segments it will become. */
struct ivds_port_stats {
	__u64 rx_packets;
	__u64 rx_bytes;
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 rx_local; /* of rx: known unicast looped back to a local vPort */
	__u64 rx_wire;  /* of rx: known unicast sent to the uplink; on an uplink: to a local vPort, or on (MOVED) */
	__u64 rx_flood; /* of rx: flooded (unknown, broadcast, multicast) */
	__u64 rx_host;  /* uplink: passed to the host untouched (not in rx_packets) */
	__u64 rx_answered; /* of rx: asked for an address, and the switch answered */
};

/* ------------------------------- nic_stats HASH: __u32 port id -> struct ivds_nic_stats
 * What NICs counted of a vPort whose VF they carried, as of the agent's last look. No program saw these frames: what
 * the vPort sent and got is this and its port_stats together. Only the agent writes here, and it goes on from what it
 * finds: `read` are the NIC's counters as they were at that look, which wrap, and which a reset of the NIC clears. */
#define IVDS_NO_POOL 0xffffffffu
struct ivds_nic_stats {
	__u64 rx_packets; /* directions and bytes as in port_stats */
	__u64 rx_bytes;
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 read[4]; /* in the order above */
	__u32 uplink;  /* port id of the uplink whose NIC was read */
	__u32 pool;    /* of its pools the vPort's; IVDS_NO_POOL: it is in no NIC now */
};

/* ------------------------------- instance_stats PERCPU_ARRAY: instance id -> struct ivds_instance_stats */
struct ivds_instance_stats {
	__u64 port_packets; /* accepted from its vPorts */
	__u64 port_bytes;
	__u64 wire_packets; /* accepted from the wire; bytes without the two tags */
	__u64 wire_bytes;
};

/* ------------------------------- drops PERCPU_HASH: struct ivds_drop_key -> struct ivds_count */
struct ivds_drop_key {
	__u32 port;   /* port the frame came in by, or was meant for (see the reason); 0: unknown port */
	__u32 reason; /* enum ivds_drop */
};
/* ------------------------------- misses LRU_PERCPU_HASH: struct ivds_vvlan_key -> struct ivds_count */
struct ivds_count {
	__u64 packets;
	__u64 bytes;
};

/* One list of reasons for data plane, CLI, metrics and docs: X(name, number, side, text). side says
 * which port the drop is counted on: IN the ingress port, OUT the port it was meant for. */
#define IVDS_DROPS(X)                                                                                                \
	X(NO_PORT, 1, IN, "no_port", "the interface carries our program but no port")                                \
	X(NO_INSTANCE, 2, IN, "no_instance", "the vPort is bound to no instance")                                    \
	X(INSTANCE_DOWN, 3, IN, "instance_down", "the instance is not active")                                       \
	X(TRUNCATED, 4, IN, "truncated", "the frame ends inside its Ethernet header or a tag")                       \
	X(BAD_SOURCE, 5, IN, "bad_source", "the source MAC is multicast or zero")                                    \
	X(SPOOF, 6, IN, "spoof", "the source MAC is not the vPort's, or is another port's static MAC")               \
	X(GUEST_TAG, 7, IN, "guest_tag", "the VM sent a tagged frame and its profile drops those")                   \
	X(GUEST_TAG_OUT, 8, OUT, "guest_tag_out",                                                                    \
	  "a tagged payload for a vPort whose profile drops it, or a plain host")                                    \
	X(VM_CONTROL, 9, IN, "vm_control", "PAUSE, PFC or a link-local control frame (BPDU, LACP …) from a VM")      \
	X(OVERSIZE, 10, IN, "oversize", "larger than the MTU of the ingress vPort or its instance")                  \
	X(OVERSIZE_OUT, 11, OUT, "oversize_out", "larger than the MTU of the egress port, tags counted")             \
	X(UNKNOWN_VLAN, 12, IN, "unknown_vlan", "two tags, and the outer VLAN carries no V.VLAN here")               \
	X(UNKNOWN_VVLAN, 13, IN, "unknown_vvlan", "the V.VLAN is not registered under this outer VLAN")              \
	X(BAD_VID, 14, IN, "bad_vid", "VID 0 or 4095 where the outer VLAN or the V.VLAN belongs")                    \
	X(NO_VVLAN, 15, IN, "no_vvlan", "no V.VLAN tag on a switched VLAN, and the uplink's policy is drop")         \
	X(WIRE_SOURCE, 16, IN, "wire_source", "a static local MAC came in as source from the wire")                  \
	X(SAME_PORT, 17, IN, "same_port", "the destination is behind the port the frame came from")                  \
	X(PORT_DOWN, 18, OUT, "port_down", "the egress port is away, down, or of another instance")                  \
	X(NO_UPLINK, 19, IN, "no_uplink", "meant for the wire, and the instance has no uplink")                      \
	X(NO_TC, 20, IN, "no_tc", "XDP needed TC, and the TC program is not attached")                               \
	X(TAG_FAILED, 21, IN, "tag_failed", "the kernel could not push or pop a tag")                                \
	X(REDIRECT, 22, OUT, "redirect", "the kernel refused to send to the egress port")                            \
	X(LONE_FLOOD, 23, IN, "lone_flood", "a flood with no other member and no wire")                              \
	X(PLAIN_SOURCE, 24, IN, "plain_source",                                                                      \
	  "a MAC known with a V.VLAN, or at a vPort, came in without a V.VLAN")                                      \
	X(ACL, 25, IN, "acl", "a rule or the default of the ingress vPort's rules")                                  \
	X(ACL_OUT, 26, OUT, "acl_out", "a rule or the default of the egress vPort's rules")                          \
	X(FLOW_LIMIT, 27, IN, "flow_limit", "a new connection, and the vPort has as many flow entries as it may")    \
	X(FLOW_LIMIT_OUT, 28, OUT, "flow_limit_out", "the same, of the egress vPort")                                \
	X(PATCH, 29, IN, "patch", "a patch is within one instance, its other end is away, or it redirects again")    \
	X(NO_MEMBER, 30, IN, "no_member", "redirected to a pool none of whose vPorts is up")                         \
	X(RATE, 31, IN, "rate", "over the rate that the vPort may send at")                                          \
	X(RATE_OUT, 32, OUT, "rate_out", "over the rate that the vPort may be sent to at")                           \
	X(BLOCKED, 33, IN, "blocked", "the vPort's inspector said so; from or to its VM")                            \
	X(INSPECTOR, 34, IN, "inspector", "the vPort's inspector does not listen, and fails closed")                 \
	X(FORGED, 35, IN, "forged", "came in by an inspector, and is no frame of a vPort that it inspects")          \
	X(UNREGISTERED, 36, IN, "unregistered", "from the wire, of a source that is registered behind no such VLAN") \
	X(RATE_PEER, 37, IN, "rate_peer", "over the rate that the instance's peers on a VLAN may send at")           \
	X(RATE_PEER_OUT, 38, OUT, "rate_peer_out", "over the rate that they may be sent to at")

enum ivds_drop {
	IVDS_DROP_NONE = 0,
#define IVDS_X(name, number, side, id, text) IVDS_DROP_##name = number,
	IVDS_DROPS(IVDS_X)
#undef IVDS_X
	    IVDS_DROP_MAX = 39,
};

/* ------------------------------- mirrors ARRAY: session -> struct ivds_mirror
 * Where the copies of a session go. TC sends each to the tap, a pair of interfaces of ours on which the kernel makes
 * it what it is on a wire (segments, checksums, tags in the bytes); at the pair's other end the program `mirror` cuts
 * it, wraps it and sends it on. Copies are never seen by a port, so that none is copied again. */
enum ivds_mirror_kind {
	IVDS_MIRROR_NONE = 0,
	IVDS_MIRROR_SPAN = 1,      /* to a vPort */
	IVDS_MIRROR_RSPAN = 2,     /* to an uplink, in a VLAN of their own */
	IVDS_MIRROR_ERSPAN_II = 3, /* in GRE to an address */
	IVDS_MIRROR_ERSPAN_III = 4,
	IVDS_MIRROR_RING = 5, /* into the session's ring in `captures` */
};
/* ivds_mirror.flags */
#define IVDS_MF_STRIP_TAGS 0x01u /* the wire's tags are left out of copies of an uplink's frames */
struct ivds_mirror {
	__u32 kind;       /* enum ivds_mirror_kind */
	__u32 tap;        /* ifindex of the tap's sending end, 0: there is none */
	__u32 target;     /* SPAN, RSPAN: port id */
	__u32 filter;     /* id of the list that allows what is copied, 0: all */
	__u32 snap_bytes; /* longer copies are cut, 0: none */
	__u32 sample;     /* one of so many frames; 0, 1: all */
	__u32 flags;      /* IVDS_MF_* */
	__u32 index;      /* ERSPAN II; III: hardware id */
	__u16 session_id; /* ERSPAN */
	__u16 vlan;       /* RSPAN */
	__u8 local[16];   /* ERSPAN: IPv4 as ::ffff:a.b.c.d */
	__u8 remote[16];
	__u32 pad0;
};

/* ------------------------------- mirror_state ARRAY: session -> struct ivds_mirror_state, the data plane's own */
struct ivds_mirror_state {
	__u32 seen;     /* frames that sampling counted */
	__u32 sequence; /* ERSPAN: of the next copy */
};

/* ------------------------------- mirror_stats PERCPU_ARRAY: session -> struct ivds_mirror_stats */
struct ivds_mirror_stats {
	__u64 packets; /* copies that were sent on */
	__u64 bytes;   /* as they were sent, without what carries them: RSPAN's tag, a trunk's, ERSPAN's headers */
	__u64 refused; /* copies that could not be sent: the target is down, too small, or its queue or ring full */
	__u64 cut;     /* of those sent: shortened to what the way to an ERSPAN address takes */
};

/* ------------------------------- captures ARRAY_OF_MAPS: session -> RINGBUF of struct ivds_capture with the bytes
 * behind it */
#define IVDS_CAPTURE_BYTES 16384u /* of a frame at most */
enum ivds_direction {
	IVDS_DIRECTION_IN = 0,   /* from the port into the switch */
	IVDS_DIRECTION_OUT = 1,  /* out of the port */
	IVDS_DIRECTION_DROP = 2, /* dropped on the port */
};
struct ivds_capture {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 port;
	__u32 bytes;    /* of the frame */
	__u32 captured; /* of them, behind this header */
	__u8 direction; /* enum ivds_direction */
	__u8 reason;    /* DROP: enum ivds_drop */
	__u16 pad0;
};

/* ------------------------------- inspectors HASH: __u32 port id -> struct ivds_inspector
 * An inspector stands between VMs and the switch. Frames from the VMs of the vPorts that name it go to it before the
 * switch looks at them, and frames to them when the switch is done; one that came in by it does not go to it again.
 * They go out of its interface with an inspection behind their MAC addresses, and those that come back as they are
 * go on where they were. What it has to say of itself it says the same way. */
#define IVDS_TYPE_INSPECTION 0x88b5 /* IEEE 802 local experimental; such frames are on the inspector's link alone */
#define IVDS_SEQUENCE_MASK   0x7fffu
#define IVDS_MAX_QUEUE       16384u
enum ivds_inspect {
	IVDS_INSPECT_PASS = 0,  /* the frame goes on; so is it sent to the inspector */
	IVDS_INSPECT_BLOCK = 1, /* it is dropped (blocked); only its first 20 bytes have to be there */
	IVDS_INSPECT_HELLO = 2, /* no frame: the inspector lives */
};
struct ivds_inspection {
	__be16 type_be;     /* IVDS_TYPE_INSPECTION */
	__be16 port_be;     /* id of the vPort; HELLO: 0 */
	__u8 way;           /* enum ivds_way */
	__u8 verdict;       /* enum ivds_inspect */
	__be16 sequence_be; /* 15 bits, grows by one a frame; an answer to it is one to all before it */
};
struct ivds_inspector {
	__u64 heard_ns; /* CLOCK_MONOTONIC of the last that it sent */
	__u64 sent_ns;  /* and of the last that was sent to it */
	__u64 sent;     /* frames that were sent to it; the lower bits are the last one's sequence */
	__u64 answered; /* of these, up to this one */
	__u64 passed;   /* frames that it sent back */
	__u64 blocked;
	__u64 uninspected; /* frames that went on without it */
	__u64 refused;     /* frames that were dropped for want of it */
};

/* ------------------------------- events RINGBUF: struct ivds_event
 * At most one of a kind, port and second; the counters are exact, the events are hints. */
enum ivds_event_kind {
	IVDS_EVENT_NONE = 0,
	IVDS_EVENT_SPOOF = 1,        /* mac: the forged source */
	IVDS_EVENT_MOVE = 2,         /* mac moved from other_port to port; the same port: to another outer VLAN */
	IVDS_EVENT_LIMIT = 3,        /* mac not learned: the port's or the instance's limit is reached */
	IVDS_EVENT_FDB_FULL = 4,     /* mac not learned: the FDB is full */
	IVDS_EVENT_FLOW_LIMIT = 5,   /* the port has as many flow entries as it may, or the table is full: fields */
	IVDS_EVENT_RULE = 6,         /* a rule that logs decided about a frame of the port: rule and fields */
	IVDS_EVENT_UNREGISTERED = 7, /* mac: a source from the wire that is not registered */
};
struct ivds_event {
	__u64 time_ns; /* CLOCK_MONOTONIC, coarse */
	__u32 kind;    /* enum ivds_event_kind */
	__u32 port;
	__u32 other_port;
	__u32 instance;
	__u8 mac[6];
	__u16 pad0;
	__u32 rule; /* RULE: its id */
	__u32 pad1;
	struct ivds_fields fields; /* RULE, FLOW_LIMIT: of the frame */
};

/* ------------------------------- arguments of the sweep program (SEC "syscall"): one pass over FDB and flows */
enum ivds_sweep_only {
	IVDS_SWEEP_BOTH = 0,
	IVDS_SWEEP_FDB = 1,   /* flows stay: connections outlive a flushed FDB */
	IVDS_SWEEP_FLOWS = 2, /* what is learned stays */
};
struct ivds_sweep {
	__u32 now_s;         /* coarse monotonic second */
	__u32 port;          /* != 0: flush what is learned at this port, and its flows */
	__u32 instance;      /* != 0: flush what this instance learned, and its flows */
	__u32 removed;       /* out: FDB entries removed */
	__u32 removed_flows; /* out */
	__u32 only;          /* enum ivds_sweep_only; FLOWS with no port and no instance: all of them */
};

#endif
