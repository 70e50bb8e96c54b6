# SPDX-License-Identifier: Apache-2.0
# IvdsTest.cmake -- how a program of Catch2 becomes a CTest test whose single cases are recorded.
#
#   ivds_test(NAME loader-unit COMMAND loader_unit_test [ARGUMENT…] LABELS unit [COST 60] [SERIAL])
#
# Beside the console, Catch2's XML reporter writes BUILD/results/NAME.xml, from which scripts/requirements.sh
# learns which cases, and so which requirement ids, passed. Exit code 77 is a skip; the program then has printed a
# line "SKIP: reason". COST is as tests/CMakeLists.txt says; a SERIAL test has the machine to itself.
include_guard(GLOBAL)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/results)

function(ivds_test)
  cmake_parse_arguments(arg "SERIAL" "NAME;COST" "COMMAND;LABELS" ${ARGN})
  add_test(NAME ${arg_NAME}
           COMMAND ${arg_COMMAND} --reporter console --reporter xml::out=${CMAKE_BINARY_DIR}/results/${arg_NAME}.xml)
  set_tests_properties(${arg_NAME} PROPERTIES LABELS "${arg_LABELS}" SKIP_RETURN_CODE 77)
  if(arg_COST)
    set_tests_properties(${arg_NAME} PROPERTIES COST ${arg_COST})
  endif()
  if(arg_SERIAL)
    set_tests_properties(${arg_NAME} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()
