# SPDX-License-Identifier: Apache-2.0
# The loader's pure parts and its logic over a fake kernel; no root.
find_package(rapidcheck REQUIRED)
add_executable(unit_loader
  loader_core.cpp loader_fake.cpp loader_pin.cpp loader_plan.cpp loader_preflight.cpp loader_tables.cpp)
ivds_unity(unit_loader)
target_link_libraries(unit_loader PRIVATE ivds_options ivds_loader fmt::fmt rapidcheck ZLIB::ZLIB Catch2::Catch2WithMain)
ivds_test(NAME unit_loader COMMAND unit_loader LABELS unit)
