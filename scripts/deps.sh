#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh -- the one place that names packages: installs what building, testing
# and showing the switch needs on a bare Debian 12 (bookworm).
#
#   deps.sh            install what is missing (as root)
#   deps.sh --check    install nothing; exit 1 and list what is missing
#   deps.sh --lab DIR  what scripts/lab.sh needs: install QEMU and the tools that
#                      pack a boot, and put into DIR the packages of the guest,
#                      which are unpacked there and never installed (as root)
#
# Debian 12 itself gives nearly all of it. From bookworm-backports come only
# the packages of BACKPORTS below, pinned one by one, and for the lab QEMU and
# a kernel of LAB_KERNEL; nothing else moves.
set -euo pipefail

BUILD=(build-essential cmake ninja-build ccache pkg-config git ca-certificates
       clang-19 llvm-19 libelf-dev zlib1g-dev libxdp-dev
       libnl-3-dev libnl-route-3-dev libnl-genl-3-dev
       libgrpc++-dev libssl-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
       libpcap-dev libyaml-cpp-dev libcli11-dev libfmt-dev libspdlog-dev libsystemd-dev
       prometheus-cpp-dev libmicrohttpd-dev libfixbuf-dev)
CHECK=(clang-format-19 clang-tidy-19 libclang-rt-19-dev librapidcheck-dev shellcheck
       systemd man-db)
RUN=(iproute2 ethtool iputils-ping iperf3 tcpdump tshark nfdump openssl python3 python3-scapy python3-grpcio
     python3-protobuf util-linux procps jq kmod etcd-server etcd-client)
BACKPORTS=(libbpf-dev libbpf1 bpftool catch2)
# The NIC with virtual functions, igb, is in QEMU from version 8 on.
LAB=(qemu-system-x86 cpio xz-utils kmod)
LAB_GUEST=(busybox-static udev openvswitch-switch openvswitch-common libunbound8 libevent-2.1-7 libcap-ng0 libnuma1)
LAB_KERNEL=6.12

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

# The lab's own group: some hundred megabytes that nothing but the lab needs.
lab() {
    local kernel p want=() dir=$1
    [ "$(id -u)" -eq 0 ] || { echo "deps.sh: --lab installs packages: run it as root" >&2; exit 1; }
    mkdir -p "$dir"
    add_backports
    apt-get -q update
    for p in "${LAB[@]}"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || want+=("$p")
    done
    qemu-system-x86_64 -device help 2>/dev/null | grep -q '"igb"' || want+=(qemu-system-x86)
    if [ ${#want[@]} -gt 0 ]; then
        apt-get -q -y --no-install-recommends -t bookworm-backports install "${want[@]}"
    fi
    kernel=$(apt-cache show -a linux-image-amd64 |
        sed -n "s/^Depends: \\(linux-image-${LAB_KERNEL//./\\.}[^ ,]*\\) .*/\\1/p" | sort -V | tail -n 1)
    [ -n "$kernel" ] || { echo "deps.sh: no kernel $LAB_KERNEL in the package lists" >&2; exit 1; }
    # As root, because the folder need not be open to apt's own user. The guest has this machine's libraries, so its
    # packages are of this machine's release; only the kernel is not.
    (cd "$dir" && apt-get -q -o APT::Sandbox::User=root download "${LAB_GUEST[@]}" "$kernel/bookworm-backports")
    printf '%s\n' "${LAB_GUEST[@]}" "$kernel" >"$dir/names"
}

if [ "${1:-}" = --lab ]; then
    [ $# -eq 2 ] || { echo "deps.sh: usage: deps.sh --lab DIR" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    lab "$2"
    exit 0
fi
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
# The tests start an etcd of their own: a machine that had none gets no service of it.
if [[ " ${want[*]} " == *" etcd-server "* ]] && [ -d /run/systemd/system ]; then
    systemctl disable --now etcd.service
fi
