/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi_check.h -- the sizes and offsets of abi.h, asserted. Included by the data plane, by the loader
 * and by the ABI tests, so that no compiler on either side disagrees with the pinned maps.
 */
#ifndef IVDS_ABI_CHECK_H
#define IVDS_ABI_CHECK_H

#include "abi.h"

#ifdef __cplusplus
#define IVDS_ASSERT(cond) static_assert(cond, #cond)
#else
#define IVDS_ASSERT(cond) _Static_assert(cond, #cond)
#endif
#define IVDS_OFFSET(type, member, offset) IVDS_ASSERT(__builtin_offsetof(struct type, member) == (offset))
#define IVDS_SIZE(type, size)             IVDS_ASSERT(sizeof(struct type) == (size))

IVDS_SIZE(ivds_meta, 64);
IVDS_OFFSET(ivds_meta, layout_major, 4);
IVDS_OFFSET(ivds_meta, generation, 8);
IVDS_OFFSET(ivds_meta, build, 16);
IVDS_OFFSET(ivds_meta, layout_digest, 48);

IVDS_SIZE(ivds_rate, 16);
IVDS_OFFSET(ivds_rate, burst_ns, 8);
IVDS_SIZE(ivds_port, 128);
IVDS_OFFSET(ivds_port, instance, 4);
IVDS_OFFSET(ivds_port, next_member, 8);
IVDS_OFFSET(ivds_port, kind, 12);
IVDS_OFFSET(ivds_port, flags, 14);
IVDS_OFFSET(ivds_port, mtu_bytes, 16);
IVDS_OFFSET(ivds_port, vmac, 18);
IVDS_OFFSET(ivds_port, outer_tpid_be, 24);
IVDS_OFFSET(ivds_port, inner_tpid_be, 26);
IVDS_OFFSET(ivds_port, fdb_limit, 28);
IVDS_OFFSET(ivds_port, acl_in, 32);
IVDS_OFFSET(ivds_port, acl_out, 36);
IVDS_OFFSET(ivds_port, flow_limit, 40);
IVDS_OFFSET(ivds_port, peer, 44);
IVDS_OFFSET(ivds_port, mirror_in, 48);
IVDS_OFFSET(ivds_port, mirror_out, 52);
IVDS_OFFSET(ivds_port, mirror_drop, 56);
IVDS_OFFSET(ivds_port, rate, 64);
IVDS_OFFSET(ivds_port, inspector, 96);
IVDS_OFFSET(ivds_port, timeout_ms, 100);
IVDS_OFFSET(ivds_port, queue, 104);

IVDS_SIZE(ivds_acl, 8);
IVDS_OFFSET(ivds_acl, default_action, 4);
IVDS_OFFSET(ivds_acl, tcp_flags, 5);

IVDS_SIZE(ivds_fields, 56);
IVDS_OFFSET(ivds_fields, src, 12);
IVDS_OFFSET(ivds_fields, dst, 28);
IVDS_OFFSET(ivds_fields, type_be, 44);
IVDS_OFFSET(ivds_fields, sport_be, 46);
IVDS_OFFSET(ivds_fields, dport_be, 48);
IVDS_OFFSET(ivds_fields, proto, 50);
IVDS_OFFSET(ivds_fields, unknown, 54);

IVDS_SIZE(ivds_acl_mask_key, 8);
IVDS_SIZE(ivds_acl_mask, 64);
IVDS_OFFSET(ivds_acl_mask, first, 56);
IVDS_SIZE(ivds_acl_key, 64);
IVDS_OFFSET(ivds_acl_key, acl, 56);
IVDS_OFFSET(ivds_acl_key, mask, 60);
IVDS_SIZE(ivds_acl_rule, 20);
IVDS_OFFSET(ivds_acl_rule, target, 8);
IVDS_OFFSET(ivds_acl_rule, mirrors, 12);
IVDS_OFFSET(ivds_acl_rule, action, 16);
IVDS_OFFSET(ivds_acl_rule, flags, 17);

IVDS_SIZE(ivds_pool, 132);
IVDS_SIZE(ivds_flow_key, 64);
IVDS_OFFSET(ivds_flow_key, fields, 8);
IVDS_SIZE(ivds_flow_way, 56);
IVDS_OFFSET(ivds_flow_way, told_packets, 16);
IVDS_OFFSET(ivds_flow_way, acl, 32);
IVDS_OFFSET(ivds_flow_way, rule, 36);
IVDS_OFFSET(ivds_flow_way, target, 40);
IVDS_OFFSET(ivds_flow_way, pool, 44);
IVDS_OFFSET(ivds_flow_way, mirrors, 48);
IVDS_OFFSET(ivds_flow_way, detail, 52);
IVDS_OFFSET(ivds_flow_way, action, 54);
IVDS_OFFSET(ivds_flow_way, flags, 55);
IVDS_SIZE(ivds_flow, 136);
IVDS_OFFSET(ivds_flow, tick, 128);
IVDS_OFFSET(ivds_flow, last_seen_ns, 112);
IVDS_OFFSET(ivds_flow, since_s, 120);
IVDS_OFFSET(ivds_flow, state, 124);
IVDS_OFFSET(ivds_flow, opener, 125);

IVDS_SIZE(ivds_port_state, 64);
IVDS_OFFSET(ivds_port_state, flow_epoch, 8);
IVDS_OFFSET(ivds_port_state, event_s, 16);
IVDS_OFFSET(ivds_port_state, paid_ns, 48);

IVDS_SIZE(ivds_instance, 64);
IVDS_OFFSET(ivds_instance, first_member, 4);
IVDS_OFFSET(ivds_instance, fdb_limit, 8);
IVDS_OFFSET(ivds_instance, vlan, 12);
IVDS_OFFSET(ivds_instance, vvlan, 14);
IVDS_OFFSET(ivds_instance, mtu_bytes, 16);
IVDS_OFFSET(ivds_instance, flags, 18);
IVDS_OFFSET(ivds_instance, peer_vlans, 20);
IVDS_OFFSET(ivds_instance, age_s, 36);

IVDS_SIZE(ivds_instance_state, 8);
IVDS_SIZE(ivds_vvlan_key, 8);
IVDS_SIZE(ivds_vvlan, 4);

IVDS_SIZE(ivds_fdb_key, 12);
IVDS_OFFSET(ivds_fdb_key, mac, 4);
IVDS_SIZE(ivds_fdb_entry, 16);
IVDS_OFFSET(ivds_fdb_entry, last_seen_s, 4);
IVDS_OFFSET(ivds_fdb_entry, vlan, 8);
IVDS_OFFSET(ivds_fdb_entry, flags, 10);

IVDS_SIZE(ivds_peer_key, 8);
IVDS_OFFSET(ivds_peer_key, vlan, 4);
IVDS_SIZE(ivds_peer_rate, 48);
IVDS_OFFSET(ivds_peer_rate, paid_ns, 32);
IVDS_SIZE(ivds_neighbour_key, 20);
IVDS_OFFSET(ivds_neighbour_key, address, 4);
IVDS_SIZE(ivds_neighbour, 8);

IVDS_SIZE(ivds_port_stats, 72);
IVDS_OFFSET(ivds_port_stats, rx_answered, 64);
IVDS_SIZE(ivds_nic_stats, 72);
IVDS_OFFSET(ivds_nic_stats, read, 32);
IVDS_OFFSET(ivds_nic_stats, uplink, 64);
IVDS_SIZE(ivds_instance_stats, 32);
IVDS_SIZE(ivds_drop_key, 8);
IVDS_SIZE(ivds_count, 16);
IVDS_SIZE(ivds_rule_count, 24);
IVDS_OFFSET(ivds_rule_count, last_ns, 16);
IVDS_SIZE(ivds_mirror, 72);
IVDS_OFFSET(ivds_mirror, session_id, 32);
IVDS_OFFSET(ivds_mirror, local, 36);
IVDS_OFFSET(ivds_mirror, remote, 52);
IVDS_SIZE(ivds_mirror_state, 8);
IVDS_SIZE(ivds_mirror_stats, 32);
IVDS_SIZE(ivds_capture, 24);
IVDS_OFFSET(ivds_capture, direction, 20);
IVDS_OFFSET(ivds_capture, reason, 21);

IVDS_SIZE(ivds_inspection, 8);
IVDS_OFFSET(ivds_inspection, way, 4);
IVDS_OFFSET(ivds_inspection, sequence_be, 6);
IVDS_SIZE(ivds_inspector, 64);
IVDS_OFFSET(ivds_inspector, sent, 16);
IVDS_OFFSET(ivds_inspector, passed, 32);

IVDS_SIZE(ivds_event, 96);
IVDS_OFFSET(ivds_event, mac, 24);
IVDS_OFFSET(ivds_event, rule, 32);
IVDS_OFFSET(ivds_event, fields, 40);
IVDS_SIZE(ivds_sweep, 24);

#endif
