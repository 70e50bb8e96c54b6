/* SPDX-License-Identifier: Apache-2.0 */
/* abi_types.c -- every structure of abi.h as a variable, so that a compiler lays it out and describes it. */
#include "ivds/abi.h"
#include "ivds/abi_check.h"

#define DEFINE(type)               \
    extern struct type the_##type; \
    struct type the_##type

DEFINE(ivds_meta);
DEFINE(ivds_port);
DEFINE(ivds_port_state);
DEFINE(ivds_instance);
DEFINE(ivds_instance_state);
DEFINE(ivds_vvlan_key);
DEFINE(ivds_vvlan);
DEFINE(ivds_fdb_key);
DEFINE(ivds_fdb_entry);
DEFINE(ivds_peer_key);
DEFINE(ivds_peer_rate);
DEFINE(ivds_neighbour_key);
DEFINE(ivds_neighbour);
DEFINE(ivds_acl);
DEFINE(ivds_fields);
DEFINE(ivds_acl_mask_key);
DEFINE(ivds_acl_mask);
DEFINE(ivds_acl_key);
DEFINE(ivds_acl_rule);
DEFINE(ivds_flow_key);
DEFINE(ivds_flow_way);
DEFINE(ivds_flow);
DEFINE(ivds_pool);
DEFINE(ivds_mirror);
DEFINE(ivds_mirror_state);
DEFINE(ivds_mirror_stats);
DEFINE(ivds_port_stats);
DEFINE(ivds_nic_stats);
DEFINE(ivds_instance_stats);
DEFINE(ivds_drop_key);
DEFINE(ivds_count);
DEFINE(ivds_rule_count);
DEFINE(ivds_inspection);
DEFINE(ivds_inspector);
DEFINE(ivds_event);
DEFINE(ivds_sweep);
