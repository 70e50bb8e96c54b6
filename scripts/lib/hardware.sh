# SPDX-License-Identifier: Apache-2.0
# hardware.sh -- lab.sh --on-hardware: what it is refused on, and the run. Sourced by lab.sh, which sets pf, wire, yes,
# writable and scripts.
# shellcheck shell=bash disable=SC2154

# The PCI address of a function that is named by it or by its interface; nothing: there is none.
pci_of() {
    if [ -e "/sys/bus/pci/devices/$1" ]; then
        echo "$1"
    elif [ -e "/sys/class/net/$1/device" ]; then
        basename "$(readlink -f "/sys/class/net/$1/device")"
    fi
}

interface_of() {
    local path
    for path in "/sys/bus/pci/devices/$1/net/"*; do
        [ -e "$path" ] && basename "$path" && return
    done
    true
}

# Why an interface must not be taken away from who uses it; nothing: nobody does.
use_of() {
    local netdev=$1 upper family addresses
    addresses=$(ip -o addr show dev "$netdev" scope global | awk '{ printf "%s%s", n++ ? ", " : "", $4 }')
    [ -z "$addresses" ] || echo "it has addresses: $addresses"
    for family in -4 -6; do
        ! ip "$family" route show dev "$netdev" | grep -qv '^fe80::\|^multicast' || echo "routes lead over it"
    done
    [ ! -e "/sys/class/net/$netdev/master" ] ||
        echo "it belongs to $(basename "$(readlink -f "/sys/class/net/$netdev/master")")"
    for upper in "/sys/class/net/$netdev/upper_"*; do
        [ -e "$upper" ] && [ ! -e "/sys/class/net/$netdev/master" ] && echo "${upper##*/upper_} is on it"
    done
    ! ip -d link show dev "$netdev" | grep -q 'prog/xdp' || echo "an XDP program is on it"
}

on_hardware() {
    local address far netdev id driver reason refused=() name
    [ -n "${pf:+$wire}" ] || die "--on-hardware takes the PF, and --wire the port at the other end of its cable"
    [ "$(id -u)" -eq 0 ] || die "--on-hardware needs root"
    address=$(pci_of "$pf")
    far=$(pci_of "$wire")
    [ -n "$address" ] || die "$pf: no PCI function and no interface of one; lspci -D -d 8086: lists Intel's"
    [ -n "$far" ] || die "$wire: no PCI function and no interface of one"
    [ "$address" != "$far" ] || die "$pf and $wire are one port; a cable joins two"

    id=$(cat "/sys/bus/pci/devices/$address/vendor" "/sys/bus/pci/devices/$address/device" | tr '\n' ' ')
    case $id in
    0x8086\ 0x10c9\ | 0x8086\ 0x10e[678]\ | 0x8086\ 0x150[ad]\ | 0x8086\ 0x1518\ | 0x8086\ 0x1526\ ) driver=igb ;;
    0x8086\ 0x10f[789bc]\ | 0x8086\ 0x1507\ | 0x8086\ 0x151[47c]\ | 0x8086\ 0x152[9a]\ | 0x8086\ 0x154[ad]\ | 0x8086\ 0x1557\ )
        driver=ixgbe
        ;;
    *) die "$pf ($address) is neither an Intel 82599 nor an 82576: its PCI ids are $id" ;;
    esac
    [ "$(basename "$(readlink -f "/sys/bus/pci/devices/$address/driver")")" = "$driver" ] ||
        die "$pf ($address) has not the driver $driver: bind it"
    [ -e "/sys/bus/pci/devices/$address/sriov_numvfs" ] || die "$pf ($address) can have no VFs: turn SR-IOV on in the firmware"
    [ "$(cat "/sys/bus/pci/devices/$address/sriov_numvfs")" = 0 ] ||
        refused+=("$pf ($address): it has VFs: end who uses them, then echo 0 >/sys/bus/pci/devices/$address/sriov_numvfs")
    for name in "$address" "$far"; do
        netdev=$(interface_of "$name")
        [ -n "$netdev" ] || die "$name has no interface in this network namespace: bind its driver, or move it here"
        while read -r reason; do
            refused+=("$netdev ($name): $reason")
        done < <(use_of "$netdev")
    done
    if [ ${#refused[@]} -gt 0 ]; then
        printf 'lab.sh: refused, %s\n' "${refused[@]}" >&2
        die "give --on-hardware two ports that nobody uses"
    fi

    local programs=()
    [ "$driver" = ixgbe ] || programs+=(offload)
    programs+=(nic nic_life)
    if [ -z "$yes" ]; then
        cat <<END
Would run on $(interface_of "$address") ($address, $driver), with $(interface_of "$far") ($far) at the other end of its cable:
  ${*:-the tests ${programs[*]} of tests/lab, with the programs in build/release/bin}
They make and remove VFs of the PF, move both interfaces to namespaces and back, reset both ports, and write registers.
Nothing was done; --yes does it.
END
        exit 2
    fi
    export IVDS_LAB_NICS="$address $far"
    if [ $# -gt 0 ]; then
        run_on_hardware "$@"
        exit
    fi
    local top failed=0 record=()
    top=$(dirname "$scripts")
    for name in "${programs[@]}"; do
        [ -z "$writable" ] || record=(--record "$writable/hardware-$name.xml")
        run_on_hardware python3 "$top/tests/lab/${name}_test.py" --binaries "$top/build/release/bin" "${record[@]}" ||
            failed=$?
    done
    exit "$failed"
}

# Whatever the program leaves: no VFs, and both interfaces down as after their driver was bound, with their own MTU.
run_on_hardware() {
    local status=0 netdev mtus=() i=0 nic
    for nic in $IVDS_LAB_NICS; do mtus+=("$(cat "/sys/bus/pci/devices/$nic/net/$(interface_of "$nic")/mtu")"); done
    "$@" || status=$?
    for nic in $IVDS_LAB_NICS; do
        [ ! -e "/sys/bus/pci/devices/$nic/sriov_numvfs" ] || echo 0 >"/sys/bus/pci/devices/$nic/sriov_numvfs"
        netdev=$(interface_of "$nic")
        [ -z "$netdev" ] || ip link set "$netdev" down promisc off mtu "${mtus[i]}"
        i=$((i + 1))
    done
    return "$status"
}
