# SPDX-License-Identifier: Apache-2.0
# The control plane without a kernel: codec, model, compile, store, and the agent over a plane that fails on demand.
include(${CMAKE_SOURCE_DIR}/tests/support/IvdsTest.cmake)
find_package(rapidcheck REQUIRED)
add_executable(unit_ctl ctl_codec.cpp ctl_model.cpp ctl_vmac_pool.cpp ctl_compile.cpp ctl_store.cpp ctl_agent.cpp
                        ctl_properties.cpp ctl_rules.cpp ctl_policy.cpp ctl_mirror.cpp ctl_metrics.cpp
                        ctl_flow_export.cpp ctl_offload.cpp)
ivds_unity(unit_ctl)
target_link_libraries(unit_ctl PRIVATE ivds_ctl ivds_metrics ivds_options Catch2::Catch2WithMain rapidcheck)
target_compile_definitions(unit_ctl PRIVATE IVDS_EXAMPLES="${CMAKE_SOURCE_DIR}/scripts/examples")
ivds_test(NAME unit_ctl COMMAND unit_ctl LABELS unit)

add_executable(unit_registry ctl_registry.cpp ctl_migration.cpp)
target_link_libraries(unit_registry PRIVATE ivds_ctl ivds_options Catch2::Catch2WithMain)
ivds_test(NAME unit_registry COMMAND unit_registry LABELS unit)

add_executable(unit_access ctl_access.cpp)
target_link_libraries(unit_access PRIVATE ivds_ctl ivds_options Catch2::Catch2WithMain)
ivds_test(NAME unit_access COMMAND unit_access LABELS unit)
