#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo-migration.sh -- a VM that QEMU moves from one host to another and back, in the midst of a TCP connection.
#
#   sudo scripts/demo-migration.sh [--moves N]   install what is missing, build, run, show (2 moves: there and back)
#
# Three hosts are namespaces on this machine, with an etcd between their agents; two are on different VLANs of the
# fabric. The VM is a real guest: a stock kernel and busybox under QEMU, in software emulation. Its interface is a tap,
# which scripts/libvirt/qemu registers when the VM starts, as libvirt would have it do. QEMU moves the VM's memory; when
# the VM stands still for the rest of it, `ivds-ctl migrate commit` moves its vPort, and the VM goes on.
#
# Exit 0 only if all that it claims held; 77, after a line "SKIP: reason", where it cannot be run. Nothing is left behind,
# however it ends: all of it are namespaces and children of one process. The guest's kernel is that of scripts/lab.sh.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in
-h | --help)
    sed -n '3,/^set -/{/^set -/d; s/^# \{0,1\}//; p}' scripts/demo-migration.sh
    exit 0
    ;;
"" | --moves) ;;
*) die "unknown word '$1'; see 'scripts/demo-migration.sh --help'" ;;
esac
need_root "$@"
dependencies
build release ivdsd ivds-ctl ivds-loader
exec /usr/bin/python3 scripts/lib/demo_migration.py "$@"
