#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh -- installs what is missing, builds (release), and measures the switch against what the same machine
# does without it: a bare redirect, the Linux bridge.
#
#   sudo scripts/bench.sh                      everything, about four minutes
#   sudo scripts/bench.sh xdp-local tc tcp     rows, or all whose names begin so
#   sudo scripts/bench.sh --json FILE          the rows for machines as well
#   sudo scripts/bench.sh --seconds 3          longer repetitions: less noise
#   sudo scripts/bench.sh --exact              instructions a frame, in a guest that counts them; about two minutes
#   sudo scripts/bench.sh --exact --record     the same, and keeps them as what the test lab-exact holds the switch to
#
# Rows: xdp-local xdp-to-wire xdp-from-wire tc-local (60 B frames, each also as NAME-1500); rules, new-flows, fdb, flows,
# vports, rate, mirror-span (by XDP, as xdp-local); cost; latency (round trips by vPorts); tcp-local, tcp-wire (each also
# as NAME-native); agent-rss agent-apply agent-change; registry-converge registry-rss registry-change (16 hosts and etcd);
# plan; verify. It takes a core for itself while it measures.
# Exit 0 when all rows ran; whether they met their bars is for the reader of the table.
#
# With --exact, scripts/lab.sh boots Linux 6.12 on an emulated CPU whose clock counts instructions, and one VM of a host
# sends 60 B frames to another: by XDP (xdp-exact) and by tcx (tc-exact) with the agent, 100 rules, a known flow and 10,000
# MACs; by the Linux bridge with VLAN filtering and by the kernel's datapath of OVS with an access VLAN; and to nowhere
# (drop-exact): the generator's part of all. The ratios are of whole figures. They repeat within half a percent, on a busy
# machine too, and say nothing of what the cache misses. Exit 1 where the switch takes over 2 % more instructions than
# tests/bench/exact.json says.
set -euo pipefail
from=$PWD
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

arguments=()
json=
exact=
record=
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help)
        sed -n '3,/^set -/{/^set -/d; s/^# \{0,1\}//; p}' scripts/bench.sh
        exit 0
        ;;
    --json)
        [ $# -ge 2 ] || die "--json needs a file"
        # The caller means a path from where they stand.
        json=$(cd "$from" && realpath -m "$2")
        shift
        ;;
    --exact) exact=1 ;;
    --record) record=1 ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

[ -n "$exact" ] || [ -z "$record" ] || die "--record goes with --exact"
[ -z "$exact" ] || [ ${#arguments[@]} -eq 0 ] || die "--exact takes no rows: it measures all of its own"
need_root ${exact:+--exact} "${arguments[@]}"
dependencies
if [ -n "$exact" ]; then
    build release ivdsd ivds-ctl ivds-loader ivds_bench_skeleton
else
    build release ivds-bench
fi

# On a disk, as the agent's state is; and gone with this script however it ends.
TMPDIR=$(mktemp -d /var/tmp/ivds-bench-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"; give_back' EXIT
status=0
if [ -n "$exact" ]; then
    kept=tests/bench/exact.json
    rows=$TMPDIR/rows.json
    hold=(--record "$kept")
    [ -z "$record" ] || hold=()
    scripts/lab.sh --nics 0 --count --writable "$TMPDIR" --timeout 900 /usr/bin/python3 tests/bench/exact.py \
        --binaries build/release/bin --sink build/release/tests/bench/bench.bpf.o --json "$rows" "${hold[@]}" || status=$?
    for file in ${json:+"$json"} ${record:+"$kept"}; do
        [ ! -f "$rows" ] || cat "$rows" >"$file"
    done
else
    build/release/bin/ivds-bench ${json:+--json "$json"} "${arguments[@]}" || status=$?
fi
if [ -n "$json" ] && [ -f "$json" ] && [ -n "${SUDO_UID:-}" ]; then
    chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$json"
fi
exit "$status"
