#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh -- installs what is missing, builds (release), and measures the switch against what the same machine
# does without it: a bare redirect, the Linux bridge.
#
#   sudo scripts/bench.sh                      everything, about four minutes
#   sudo scripts/bench.sh xdp-local tc tcp     rows, or all whose names begin so
#   sudo scripts/bench.sh --json FILE          the rows for machines as well
#   sudo scripts/bench.sh --seconds 3          longer repetitions: less noise
#
# Rows: xdp-local xdp-to-wire xdp-from-wire tc-local (60 B frames, each also as NAME-1500); rules, new-flows, fdb, flows,
# vports, rate, mirror-span (by XDP, as xdp-local); cost; latency (round trips by vPorts); tcp-local, tcp-wire (each also
# as NAME-native); agent-rss agent-apply agent-change; plan; verify. It takes a core for itself while it measures.
# Exit 0 when all rows ran; whether they met their bars is for the reader of the table.
set -euo pipefail
from=$PWD
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

arguments=()
json=
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
        arguments+=(--json "$json")
        shift
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

need_root "${arguments[@]}"
dependencies
build release ivds-bench

# On a disk, as the agent's state is; and gone with this script however it ends.
TMPDIR=$(mktemp -d /var/tmp/ivds-bench-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"; give_back' EXIT
status=0
build/release/bin/ivds-bench "${arguments[@]}" || status=$?
if [ -n "$json" ] && [ -f "$json" ] && [ -n "${SUDO_UID:-}" ]; then
    chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$json"
fi
exit "$status"
