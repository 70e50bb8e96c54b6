#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# hardware_test.sh LAB.SH -- what `lab.sh --on-hardware` is refused on and what it leaves behind, on a made-up sysfs whose
# two ports are a veth pair in a namespace of its own. No card is touched.
set -euo pipefail
lab=$(readlink -f "$1")
if [ -z "${IVDS_HARDWARE_TEST:-}" ]; then
    [ "$(id -u)" -eq 0 ] || { echo "SKIP: making namespaces needs root" && exit 77; }
    IVDS_HARDWARE_TEST=1 exec unshare --mount --net "$0" "$lab"
fi

fail() {
    echo "FAILED: $*"
    exit 1
}
# refused WORDS OPTION…: it ends with 2, says this, and runs nothing.
refused() {
    local words=$1 said status=0
    shift
    said=$("$lab" "$@" -- touch /sys/ran 2>&1) || status=$?
    [ "$status" -eq 2 ] || fail "$*: exit $status: $said"
    case $said in *"$words"*) ;; *) fail "$*: \"$words\" is not in: $said" ;; esac
    [ ! -e /sys/ran ] || fail "$*: the program ran"
}

mount --make-rprivate /
real=$(mktemp -d)
mount -t sysfs sysfs "$real"
mount -t tmpfs tmpfs /sys
mkdir -p /sys/class /sys/bus/pci/drivers/{igb,ixgbe,e1000e}
ln -s "$real/class/net" /sys/class/net
ip link add p0 type veth peer name p1
function_of() { # ADDRESS VENDOR DEVICE DRIVER INTERFACE
    local at=/sys/bus/pci/devices/$1
    mkdir -p "$at/net"
    echo "$2" >"$at/vendor"
    echo "$3" >"$at/device"
    ln -s "/sys/bus/pci/drivers/$4" "$at/driver"
    [ -z "$5" ] || ln -s "$real/class/net/$5" "$at/net/$5"
}
pf=0000:03:00.0 wire=0000:03:00.1
function_of "$pf" 0x8086 0x10fb ixgbe p0
echo 0 >"/sys/bus/pci/devices/$pf/sriov_numvfs"
function_of "$wire" 0x8086 0x10d3 e1000e p1
function_of 0000:04:00.0 0x15b3 0x1015 igb ""
function_of 0000:05:00.0 0x8086 0x10c9 e1000e ""
both=(--on-hardware "$pf" --wire "$wire" --yes)

refused "--wire the port at the other end" --on-hardware "$pf" --yes
refused "no PCI function" --on-hardware eth77 --wire "$wire" --yes
refused "are one port" --on-hardware "$pf" --wire "$pf" --yes
refused "neither an Intel 82599 nor an 82576: its PCI ids are 0x15b3 0x1015" --on-hardware 0000:04:00.0 --wire "$wire" --yes
refused "has not the driver igb" --on-hardware 0000:05:00.0 --wire "$wire" --yes
refused "--yes does it" --on-hardware "$pf" --wire "$wire"

ip link set p0 up
ip link set p1 up
ip addr add 192.0.2.1/24 dev p0
refused "p0 ($pf): it has addresses: 192.0.2.1/24" "${both[@]}"
refused "p0 ($pf): routes lead over it" "${both[@]}"
ip addr flush dev p0
ip route add default dev p1
refused "p1 ($wire): routes lead over it" "${both[@]}"
ip route flush dev p1
ip link add br0 type bridge
ip link set p1 master br0
refused "p1 ($wire): it belongs to br0" "${both[@]}"
ip link del br0
ip link add link p0 name mv0 type macvlan
refused "p0 ($pf): mv0 is on it" "${both[@]}"
ip link del mv0
echo 3 >"/sys/bus/pci/devices/$pf/sriov_numvfs"
refused "it has VFs" "${both[@]}"
echo 0 >"/sys/bus/pci/devices/$pf/sriov_numvfs"

# It runs on two that nobody uses, hands the exit status on, and leaves no VFs.
status=0
# shellcheck disable=SC2016
said=$("$lab" "${both[@]}" -- sh -c 'echo "ran on $IVDS_LAB_NICS"; echo 3 >/sys/bus/pci/devices/'"$pf"'/sriov_numvfs
    ip link set p0 mtu 1400; exit 5') || status=$?
[ "$status" -eq 5 ] || fail "exit $status: $said"
[ "$said" = "ran on $pf $wire" ] || fail "it said $said"
[ "$(cat "/sys/bus/pci/devices/$pf/sriov_numvfs")" = 0 ] || fail "VFs are left"
[ "$(cat "$real/class/net/p0/mtu")" = 1500 ] || fail "the MTU is another"
echo ok
