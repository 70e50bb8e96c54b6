#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh -- the switch at work, from one command: two hosts and a cable between them, two tenants that use the same IP
# addresses and the same vMACs, three VMs each, spread over both hosts; all made of namespaces on this machine.
#
#   sudo scripts/demo.sh            install what is missing, build, run, show, and leave nothing behind
#   sudo scripts/demo.sh --keep     the same, but leave it running and say what to try
#   sudo scripts/demo.sh on PLACE COMMAND…   run a command in what was kept: host-a, host-b, red-1 … blue-3
#   sudo scripts/demo.sh down       remove what was kept
#
# Exit 0 only if everything it claims held. The configuration it applies is scripts/examples/host-{a,b}.yaml.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in
-h | --help)
    sed -n '3,/^set -/{/^set -/d; s/^# \{0,1\}//; p}' scripts/demo.sh
    exit 0
    ;;
"" | --keep)
    [ $# -le 1 ] || die "too many words; see 'scripts/demo.sh --help'"
    need_root "$@"
    dependencies
    build release ivdsd ivds-ctl ivds-loader
    ;;
on | down) need_root "$@" ;;
*) die "unknown word '$1'; see 'scripts/demo.sh --help'" ;;
esac
exec /usr/bin/python3 scripts/lib/demo.py "$@"
