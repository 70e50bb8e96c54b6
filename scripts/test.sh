#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh -- installs what is missing (as root), builds, and runs the tests.
#
#   sudo scripts/test.sh             everything; what passed is what scripts/requirements.sh then shows, with
#   sudo scripts/test.sh long        what takes minutes in the lab
#   sudo scripts/test.sh netns bpf   the tests with one of these labels
#   scripts/test.sh unit             labels unit, abi, fuzz and check need no root
#
# Labels: unit abi fuzz check bpf netns upgrade demo bench lab nightly. The lab is an emulated machine, for what takes another
# kernel or NICs with virtual functions; what takes minutes there is also labelled long, and is not part of everything. Its
# QEMU, which one of the demos uses too, is installed by the first of them; where it cannot be had they are skipped.
# Neither is nightly, which takes hours and says how far it is: random worlds on all rungs until ten million frames have
# been compared, and every single bit of an 82599's registers, broken.
# It ends with CTest's summary and a list of what was skipped and why. Exit 0 only if no test failed. JOBS is the number
# of tests at a time. With CI set, as on a machine that builds this once, sources are compiled several at a time.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in
-h | --help)
    sed -n '3,/^set -/{/^set -/d; s/^# \{0,1\}//; p}' scripts/test.sh
    exit 0
    ;;
esac

dependencies
build dev
# The demo, the benchmarks and the lab are of the release build; their tests run it.
if [ $# -eq 0 ] || [[ " $* " =~ \ (demo|bench|netns|upgrade)\  ]]; then
    build release ivdsd ivds-ctl ivds-loader ivds_bench_skeleton nic-plan
fi
if [[ " $* " =~ \ (lab|long)\  ]]; then
    build release ivdsd ivds-ctl ivds-loader ivdsd-other xdp-count nic-plan ivds_bench_skeleton
fi

results=build/dev/results
rm -rf "$results" build/dev/ctest.xml
mkdir -p "$results"
select=(-LE '^(long|nightly)$')
if [ $# -gt 0 ]; then
    select=(-L "^($(IFS='|' && echo "$*"))\$")
fi
[[ " $* " =~ \ nightly\  ]] && select+=(--verbose)
status=0
# Tests that keep several cores busy say so in PROCESSORS or RUN_SERIAL. The rest wait a good part of their time, for
# kernels, leases and each other's processes: one more of them than there are cores.
# The limit ends what hangs: it says nothing of how fast a test is to be, on however slow a machine.
ctest --test-dir build/dev --timeout 1200 -j "${JOBS:-$(($(nproc) + 1))}" --output-on-failure --no-tests=error \
    --output-junit ctest.xml "${select[@]}" || status=$?

record=()
[ $# -eq 0 ] && record=(--record build/last-run.json)
[ "$*" = long ] && record=(--record build/last-run-long.json)
python3 scripts/lib/results.py collect build/dev "${record[@]}"
exit "$status"
