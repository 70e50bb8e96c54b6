# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# common.sh -- what demo.sh, test.sh and bench.sh share; sourced by them. Leaves the caller in the top folder.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root (namespaces, BPF): run 'sudo $0${*:+ $*}'"
}

# Installs what is missing as root; only says what is missing otherwise.
dependencies() {
    if [ "$(id -u)" -eq 0 ]; then
        scripts/deps.sh
    else
        scripts/deps.sh --check || die "run 'sudo scripts/deps.sh' once"
    fi
}

# build PRESET [TARGET…]: configures and builds dev or release, all of it or these targets; warnings are errors.
# Under sudo, the caller owns the result.
build() {
    local preset=$1 log status=0 targets=()
    shift
    if [ $# -gt 0 ]; then
        targets=(--target "$@")
    fi
    trap give_back EXIT
    mkdir -p "build/$preset"
    log=build/$preset/configure.log
    # Where nothing has been built before, nor will be after: in continuous integration.
    if ! cmake --preset "$preset" ${CI:+-DIVDS_UNITY=ON} >"$log" 2>&1; then
        cat "$log" >&2
        die "configuring the $preset preset failed"
    fi
    cmake --build "build/$preset" -j "$(nproc)" "${targets[@]}" || status=$?
    [ "$status" -eq 0 ] || die "building the $preset preset failed"
}

# A build folder made under sudo belongs to whoever called sudo, so that the next run needs none.
give_back() {
    if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_UID:-}" ] && [ -d build ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" build
    fi
}
