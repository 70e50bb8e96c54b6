#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh -- the one place that names packages: installs what building, testing
# and showing the switch needs on a bare Debian 12 (bookworm).
#
#   deps.sh            install what is missing (as root)
#   deps.sh --check    install nothing; exit 1 and list what is missing
#
# Debian 12 itself gives nearly all of it. From bookworm-backports come only
# the packages of BACKPORTS below, pinned one by one; nothing else moves.
set -euo pipefail

BUILD=(build-essential cmake ninja-build ccache pkg-config git ca-certificates
       clang-19 llvm-19 libelf-dev zlib1g-dev libxdp-dev
       libnl-3-dev libnl-route-3-dev libnl-genl-3-dev
       libgrpc++-dev libssl-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
       libpcap-dev libyaml-cpp-dev libcli11-dev libfmt-dev libspdlog-dev libsystemd-dev)
CHECK=(clang-format-19 clang-tidy-19 libclang-rt-19-dev librapidcheck-dev shellcheck
       systemd man-db)
RUN=(iproute2 ethtool iputils-ping iperf3 tcpdump tshark python3 python3-scapy python3-grpcio
     python3-protobuf util-linux procps jq kmod)
BACKPORTS=(libbpf-dev libbpf1 bpftool catch2)

missing() {
    local p
    for p in "${BUILD[@]}" "${CHECK[@]}" "${RUN[@]}"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
    done
}
missing_backports() {
    local p
    for p in "${BACKPORTS[@]}"; do
        dpkg-query -W -f='${Status} ${Version}' "$p" 2>/dev/null | grep -q 'ok installed.*bpo12' || echo "$p"
    done
}

# Adds bookworm-backports with the mirror and the key of the machine's own
# sources, at a priority at which apt takes nothing from it unasked.
add_backports() {
    local own=/etc/apt/sources.list.d/debian.sources
    if ! grep -qrs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d; then
        if [ -r "$own" ]; then
            # The first stanza is the main archive; the second (security) is left out.
            sed -E '/^$/,$d; /^#/d; s/^(Suites:).*/\1 bookworm-backports/' "$own" \
                >/etc/apt/sources.list.d/ivds-backports.sources
        else
            sed -nE 's/^(deb .*) bookworm (.*)$/\1 bookworm-backports \2/p' /etc/apt/sources.list | head -n 1 \
                >/etc/apt/sources.list.d/ivds-backports.list
        fi
    fi
    {
        printf 'Package: *\nPin: release n=bookworm-backports\nPin-Priority: 1\n\n'
        printf 'Package: %s\nPin: release n=bookworm-backports\nPin-Priority: 600\n' "${BACKPORTS[*]}"
    } >/etc/apt/preferences.d/ivds-backports
}

mapfile -t want < <(missing)
mapfile -t want_bpo < <(missing_backports)
if [ "${1:-}" = --check ]; then
    [ $((${#want[@]} + ${#want_bpo[@]})) -eq 0 ] && exit 0
    echo "missing: ${want[*]} ${want_bpo[*]}" >&2
    exit 1
fi
[ $((${#want[@]} + ${#want_bpo[@]})) -eq 0 ] && exit 0
[ "$(id -u)" -eq 0 ] || { echo "deps.sh: missing: ${want[*]} ${want_bpo[*]}; run 'sudo scripts/deps.sh' once" >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
echo "deps.sh: installing ${want[*]} ${want_bpo[*]}"
add_backports
apt-get -q update
apt-get -q -y --no-install-recommends install "${want[@]}" "${want_bpo[@]}"
