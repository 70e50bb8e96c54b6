/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * trace.h -- what the traced programs tell of one frame. They are the data plane's own sources, compiled with
 * IVDS_TRACE, and read the pinned maps, but count, learn, report and send nothing: they note each decision in the
 * map `trace`, which is theirs alone. The loader and the programs are built together, so this is no ABI.
 */
#ifndef IVDS_TRACE_H
#define IVDS_TRACE_H

#include "abi.h"

#define IVDS_TRACE_STEPS 256u /* steps that are kept; a flood to more members is counted on */

/* X(name, number, stage): the stage of the path that decides (R99 to R101): 1 VLAN filter, 2 V.VLAN look-up,
 * 3 tuple mapping, 4 forwarding. Arguments of a step, in order: */
#define IVDS_TRACE_KINDS(X)                                                                                          \
	X(PORT, 1, 1)         /* port id, kind, flags, instance */                                                   \
	X(FRAME, 2, 1)        /* tags, EtherType behind them, L3 bytes, frame bytes */                               \
	X(TAG, 3, 1)          /* index from 0, TPID, VID */                                                          \
	X(HOST, 4, 1)         /* enum ivds_trace_host: it is the host's */                                           \
	X(VVLAN, 5, 2)        /* uplink, VLAN, V.VLAN, instance or 0 */                                              \
	X(INSTANCE, 6, 2)     /* instance, flags, MTU, uplink */                                                     \
	X(FIELDS, 7, 3)       /* none: ivds_trace.fields holds them */                                               \
	X(VMAC, 8, 3)         /* none: the source is the vPort's vMAC */                                             \
	X(SOURCE, 9, 3)       /* look-up of the source: instance, port or 0, outer VLAN, flags; mac */               \
	X(DESTINATION, 10, 3) /* and of the destination: the same */                                                 \
	X(LEARN, 11, 3)       /* enum ivds_trace_learn, port, former port, outer VLAN; mac */                        \
	X(EVENT, 12, 3)       /* enum ivds_event_kind, port, other port, instance; mac */                            \
	X(GROUP, 13, 4)       /* none: a group address */                                                            \
	X(EGRESS, 14, 4)      /* port, outer VLAN or 0, V.VLAN or 0, drop reason or 0 */                             \
	X(TO_TC, 15, 4)       /* none: XDP leaves it to TC */                                                        \
	X(SEND, 16, 4)        /* port, packets, bytes of them together */                                            \
	X(DROP, 17, 4)        /* port, enum ivds_drop, packets, bytes */                                             \
	X(ACCEPT, 18, 4)      /* enum ivds_action, port, packets, bytes: it went somewhere */                        \
	X(ACL, 19, 3)         /* ACL id, rule id or 0 for the default, enum ivds_acl_action, IVDS_ACL_* flags */     \
	X(FLOW, 20, 3)        /* known flow: enum ivds_flow_state, its opener, the frame's way, rule id */           \
	X(FLOW_NEW, 21, 3)    /* it would make a flow entry: enum ivds_flow_state, opener, the frame's way */        \
	X(TARGET, 22, 4)      /* redirected: port id, pool id or 0 */                                                \
	X(PATCH, 23, 4)       /* out of one end of a patch, port id, and in by the other, port id, of an instance */ \
	X(MIRROR, 24, 4)      /* sessions, enum ivds_direction, port: copies of the frame */                         \
	X(RATE, 25, 4)        /* port id, enum ivds_way: the vPort's rate that way may drop the frame */             \
	X(TRUNK, 26, 2)       /* port id of the trunk, VID, port id of the vPort behind it */                        \
	X(MARK, 27, 4)        /* PCP of the tags of the wire, 1 + DSCP that the packet gets or 0 */                  \
	X(INSPECT, 28, 4)   /* port id, inspector's port id, enum ivds_way, whether it listens; it goes on there */  \
	X(MOVED, 29, 4)     /* its VM went to another host; 0: goes on, 1: did before, 2: into its sender's VLAN */  \
	X(ANSWER, 30, 4)    /* port id of who has the address, its EtherType: the frame is the answer now; mac */    \
	X(PEER_RATE, 31, 4) /* instance, outer VLAN, enum ivds_way: its peers' rate there may drop the frame */

enum ivds_trace_kind {
	IVDS_TRACE_NONE = 0,
#define IVDS_X(name, number, stage) IVDS_TRACE_##name = number,
	IVDS_TRACE_KINDS(IVDS_X)
#undef IVDS_X
};

/* Why a frame of an uplink is the host's. */
enum ivds_trace_host {
	IVDS_TRACE_HOST_UNTAGGED = 1,   /* no outer tag with the uplink's TPID */
	IVDS_TRACE_HOST_PLAIN = 2,      /* no V.VLAN tag, and the VLAN's policy is the host */
	IVDS_TRACE_HOST_LINK_LOCAL = 3, /* a link-local group, without a V.VLAN */
};

/* What would come of the source's address. */
enum ivds_trace_learn {
	IVDS_TRACE_LEARN_NEW = 1,
	IVDS_TRACE_LEARN_SEEN = 2,  /* known there; its age starts again */
	IVDS_TRACE_LEARN_MOVE = 3,  /* from another port, or another outer VLAN */
	IVDS_TRACE_LEARN_LIMIT = 4, /* the port or the instance is full: the frame goes on, unlearned */
};

struct ivds_trace_step {
	__u32 kind; /* enum ivds_trace_kind */
	__u32 arg[4];
	__u8 mac[6];
	__u16 pad0;
};

struct ivds_trace {
	__u32 port;  /* in: id of the port that the frame comes in by */
	__u32 steps; /* out: how many there were; more than IVDS_TRACE_STEPS are not kept */
	struct ivds_fields fields;
	struct ivds_trace_step step[IVDS_TRACE_STEPS];
};

#endif
