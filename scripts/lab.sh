#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lab.sh -- boots a stock kernel of Debian's, Linux 6.12, in QEMU, with emulated NICs that have virtual functions
# (Intel 82576: drivers igb and igbvf), and runs one program in it as root.
#
#   sudo scripts/lab.sh [OPTION…] PROGRAM [ARGUMENT…]
#   sudo scripts/lab.sh --prepare      fetch and unpack what is needed and not there yet, and run nothing
#   sudo scripts/lab.sh --on-hardware PF --wire NIC [--writable DIR] [--yes] [PROGRAM [ARGUMENT…]]
#
#   --nics N          NICs (2); each two are joined by a wire: eth0 and eth1, eth2 and eth3 …
#   --writable DIR    the guest may write there; it has the same path in the guest
#   --layer DIR       a tree that the guest sees over this machine's root, such as a `cmake --install` into it
#   --systemd         systemd and udev run in the guest, as on a machine; without it the program runs alone
#   --iommu           an IOMMU (Intel's), by which vfio-pci hands NICs and their VFs to programs
#   --count           the guest's clock goes on by 1 ns with each instruction, and while there is none to do, with time:
#                     what keeps its CPU busy takes as many instructions as nanoseconds
#   --timeout SECS    for the program (300)
#   --memory SIZE     (2G)
#
# With --on-hardware nothing is emulated: the program runs on this machine, on an Intel 82599 or 82576 (PF) that a cable
# joins with another port (NIC) of any kind, both by PCI address or interface. It is refused where one of the two has
# addresses or routes, is under a bridge, bond, VLAN or XDP program, or where PF has VFs. Without --yes it tells what it
# would do, and does nothing. It makes and removes VFs of PF, moves interfaces to namespaces and back, resets both ports
# and writes registers of PF, for which the kernel's command line has iomem=relaxed. Without a program it runs the lab's
# tests of NICs, after `cmake --build --preset release`; their records, hardware-*.xml, go to DIR. What is left of a run
# that was ended in its midst goes with `echo 0 >sriov_numvfs` and when the driver of PF is bound anew.
#
# The guest's root is this machine's, read-only, under an overlay in memory: what was built here runs there at the same
# path and leaves nothing behind. It has no network but the wires; what passes wire N is in the guest's
# /lab/wireN.pcap while it passes, written by QEMU, from outside. Everything is emulated, hence slow: use it for what
# this machine's kernel or NICs lack.
#
# Exit status: the program's; 124 out of time; 125 the guest ended before it did; 77, after a line "SKIP: reason", where
# no lab can be had. What is fetched, 120 MB, stays in /var/cache/ivds-lab (or IVDS_LAB_CACHE) until it is removed.
set -euo pipefail
script=$(readlink -f "${BASH_SOURCE[0]}")
scripts=$(dirname "$script")
cache=${IVDS_LAB_CACHE:-/var/cache/ivds-lab}
here=$PWD

die() {
    echo "lab.sh: $*" >&2
    exit 2
}
skip() {
    echo "SKIP: $*"
    exit 77
}

pf='' wire='' yes=''
nics=2 writable='' layer='' systemd='' count='' iommu='' limit=300 memory=2G prepare_only=''
while [ $# -gt 0 ]; do
    case $1 in
    --nics | --writable | --layer | --timeout | --memory | --on-hardware | --wire) [ $# -ge 2 ] || die "$1 takes a value; see --help" ;;&
    --nics) nics=$2 && shift ;;
    --on-hardware) pf=$2 && shift ;;
    --wire) wire=$2 && shift ;;
    --yes) yes=1 ;;
    --writable) writable=$(realpath "$2") && shift ;;
    --layer) layer=$(realpath "$2") && shift ;;
    --timeout) limit=$2 && shift ;;
    --memory) memory=$2 && shift ;;
    --systemd) systemd=1 ;;
    --count) count=1 ;;
    --iommu) iommu=1 ;;
    --prepare) prepare_only=1 ;;
    -h | --help)
        sed -n '3,/^set -/{/^set -/d; s/^# \{0,1\}//; p}' "$script"
        exit 0
        ;;
    --)
        shift
        break
        ;;
    -*) die "unknown option $1; see --help" ;;
    *) break ;;
    esac
    shift
done
[ -n "$prepare_only$pf" ] || [ $# -gt 0 ] || die "no program to run; see --help"
[[ $nics =~ ^[0-9]$ ]] || die "--nics takes a number from 0 to 9"
[[ $limit =~ ^[0-9]+$ ]] || die "--timeout takes seconds"
[ -z "$writable" ] || [ -d "$writable" ] || die "--writable $writable: no such folder; make it first"
[ -z "$layer" ] || [ -d "$layer" ] || die "--layer $layer: no such folder; make it first"
if [ -n "$pf$wire$yes" ]; then
    # shellcheck source=scripts/lib/hardware.sh
    . "$scripts/lib/hardware.sh"
    on_hardware "$@" # and ends
fi
[ "$(id -u)" -eq 0 ] || skip "the lab needs root: it shows the guest all of this machine's files"
[ "$(uname -m)" = x86_64 ] || skip "the lab's guest is of x86_64, and runs this machine's programs"

# ------------------------------------------------------------------------------------------- what a boot needs

# Modules without which the first stage cannot reach its root.
first_modules=(9pnet_virtio 9p overlay)

unpack() {
    local kernel name module
    rm -rf "$cache"/{kernel,guest,tools,initrd,initrd.gz}
    mkdir -p "$cache"/{kernel,guest,tools} "$cache"/initrd/{bin,proc,sys,dev,modules,host,layer,guest,kernel,lab,up,root}
    while read -r name; do
        case $name in
        linux-image-*) dpkg-deb -x "$cache/packages/$name"_*.deb "$cache/kernel" && kernel=${name#linux-image-} ;;
        busybox-static) dpkg-deb -x "$cache/packages/$name"_*.deb "$cache/tools" ;;
        *) dpkg-deb -x "$cache/packages/$name"_*.deb "$cache/guest" ;;
        esac
    done <"$cache/packages/names"
    # A folder /bin of a package would hide the link /bin of the root below it.
    for name in bin sbin lib; do
        if [ -d "$cache/guest/$name" ]; then
            mkdir -p "$cache/guest/usr/$name"
            cp -a "$cache/guest/$name/." "$cache/guest/usr/$name/"
            rm -rf "${cache:?}/guest/$name"
        fi
    done
    depmod -b "$cache/kernel" "$kernel"
    cp "$cache/tools/bin/busybox" "$cache/initrd/bin/"
    for name in "${first_modules[@]}"; do
        modprobe -d "$cache/kernel" -S "$kernel" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
        name=$(basename "${module%.xz}")
        xz -dc "$module" >"$cache/initrd/modules/$name"
        echo "$name" >>"$cache/initrd/modules/order"
    done
    cat >"$cache/initrd/init" <<'INIT'
#!/bin/busybox sh
# The first stage: puts the root together out of the folders that QEMU shares, and goes there.
b=/bin/busybox
fail() { echo "lab: the first stage failed: $*" >/dev/console; $b poweroff -f; }
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev 2>/dev/null
while read -r m; do $b insmod "/modules/$m" || fail "insmod $m"; done </modules/order
share() { $b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$2" "$1" "$3" || fail "mount $1"; }
for d in host layer guest kernel; do share $d ro,cache=loose /$d; done
$b mount -t tmpfs -o size=75% up /up
$b mkdir /up/files /up/work
$b mount -t overlay -o lowerdir=/layer:/guest:/host,upperdir=/up/files,workdir=/up/work root /root || fail overlay
$b mkdir -p /root/lab /root/lib/modules /root/run
# Where this machine is a container, its root says so, and systemd would leave half of its work to the host.
$b rm -f /root/.dockerenv
share lab access=any /root/lab
w=$($b cat /root/lab/writable)
if [ -n "$w" ]; then $b mkdir -p "/root$w"; share writable access=any "/root$w"; fi
# The modules of the machine's own kernel, if it has any, are of no use here.
$b mount -t tmpfs modules /root/lib/modules
v=$($b uname -r)
$b mkdir "/root/lib/modules/$v"
$b mount --bind "/kernel/lib/modules/$v" "/root/lib/modules/$v"
for d in proc sys dev; do $b mount --move /$d /root/$d; done
exec $b switch_root /root $($b cat /root/lab/init) </dev/console >/dev/console 2>&1
INIT
    chmod +x "$cache/initrd/init"
    (cd "$cache/initrd" && find . | cpio -o -H newc --quiet | gzip -1) >"$cache/initrd.gz"
    echo "$kernel" >"$cache/version"
}

# The stamp says what made the cache: the list of packages, and what was done with them.
stamp=$({ cat "$scripts/deps.sh" && declare -f unpack && declare -p first_modules; } | sha256sum)
mkdir -p "$cache"
exec 9>"$cache/lock"
fits() {
    [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ]
}
# A guest runs from the cache: it is shared as long as one does, and made anew by one who has it alone.
until flock --shared 9 && fits; do
    flock 9
    fits && continue
    rm -f "$cache/stamp"
    "$scripts/deps.sh" --lab "$cache/packages" >"$cache/deps.log" 2>&1 </dev/null ||
        skip "the packages for the lab cannot be had: $(tail -n 1 "$cache/deps.log") (all of it: $cache/deps.log)"
    unpack
    echo "$stamp" >"$cache/stamp"
done
kernel=$(cat "$cache/version")
if [ -n "$prepare_only" ]; then
    echo "lab.sh: ready, kernel $kernel"
    exit 0
fi

# ---------------------------------------------------------------------------------------------------- the guest

run=$(mktemp -d /var/tmp/ivds-lab.XXXXXX)
qemu=''
trap '[ -z "$qemu" ] || { kill "$qemu" 2>/dev/null; wait "$qemu" 2>/dev/null; } || true; rm -rf "$run"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$run/lab" "$run/empty"
printf '%s' "$writable" >"$run/lab/writable"

# What the program needs around it. systemd mounts all this by itself.
cat >"$run/lab/alone" <<'GUEST'
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname lab
. /lab/program
GUEST
{
    cat <<'GUEST'
stty -F /dev/ttyS0 -onlcr
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
ip link set lo up
modprobe -a igb igbvf veth
GUEST
    printf 'cd %q\n' "$here"
    printf 'timeout -k 5 %q' "$limit"
    printf ' %q' "$@"
    printf ' </dev/null 2>&1\n'
    cat <<'GUEST'
echo $? >/lab/status
# Nothing has to be shut down, and a driver that hangs must not keep the guest: at once, and QEMU takes it for the end.
echo 0 >/proc/sys/kernel/printk
echo b >/proc/sysrq-trigger
sleep 60
GUEST
} >"$run/lab/program"

if [ -n "$systemd" ]; then
    # A layer of its own with the one service; the caller's layer, if any, is copied beside it.
    echo "/lib/systemd/systemd --unit=ivds-lab.target" >"$run/lab/init"
    mkdir -p "$run/layer/usr/lib/systemd/system"
    [ -z "$layer" ] || cp -a "$layer/." "$run/layer/"
    # A boot empties /tmp, where the tree under test may be; this file of nothing takes the place of the one that says so.
    mkdir -p "$run/layer/etc/tmpfiles.d"
    : >"$run/layer/etc/tmpfiles.d/tmp.conf"
    cat >"$run/layer/usr/lib/systemd/system/ivds-lab.target" <<'UNIT'
[Unit]
Requires=basic.target ivds-lab.service
After=basic.target
AllowIsolate=yes
UNIT
    cat >"$run/layer/usr/lib/systemd/system/ivds-lab.service" <<'UNIT'
[Unit]
After=basic.target
FailureAction=poweroff-force
[Service]
ExecStart=/bin/bash /lab/program
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
UNIT
    layer=$run/layer
else
    echo "/bin/bash /lab/alone" >"$run/lab/init"
fi

# iomem=relaxed lets programs write registers of a NIC whose driver is bound, as the offload does.
# no_timer_check: a machine that is short of time gives the guest too few ticks while it tries its timer, and it panics.
machine=(-machine q35 -accel tcg -cpu max -smp 1 -m "$memory" -nodefaults -no-user-config -display none -no-reboot
    -serial "file:$run/console" -kernel "$cache/kernel/boot/vmlinuz-$kernel" -initrd "$cache/initrd.gz"
    -append "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off no_timer_check iomem=relaxed systemd.show_status=0${iommu:+ intel_iommu=on}"
    -object "rng-random,id=rng0,filename=/dev/urandom" -device "virtio-rng-pci,rng=rng0")
[ -z "$count" ] || machine+=(-icount shift=0)
[ -z "$iommu" ] || machine+=(-device intel-iommu)
share() {
    machine+=(-virtfs "local,mount_tag=$1,path=$2,security_model=none,multidevs=remap${3:+,readonly=on}")
}
share host / ro
share layer "${layer:-$run/empty}" ro
share guest "$cache/guest" ro
share kernel "$cache/kernel" ro
share lab "$run/lab"
[ -z "$writable" ] || share writable "$writable"
for ((i = 0; i < nics; i++)); do
    machine+=(-device "pcie-root-port,id=slot$i,chassis=$((i + 1)),slot=$((i + 1))"
        -netdev "hubport,id=port$i,hubid=$((i / 2))"
        -device "igb,id=nic$i,bus=slot$i,netdev=port$i,mac=$(printf '52:54:00:82:57:%02x' $((i * 16)))")
    [ $((i % 2)) -ne 0 ] || machine+=(-object "filter-dump,id=dump$i,netdev=port$i,file=$run/lab/wire$((i / 2)).pcap")
done

: >"$run/console"
timeout -k 10 $((limit + 120)) qemu-system-x86_64 "${machine[@]}" </dev/null >"$run/qemu" 2>&1 &
qemu=$!
tail -q -n +1 -f --pid="$qemu" "$run/console" &
ended=0
wait "$qemu" || ended=$?
qemu=''
wait # for the last lines of the console
if [ -s "$run/lab/status" ]; then
    exit "$(cat "$run/lab/status")"
fi
grep -v 'is not connected to host network' "$run/qemu" >&2 || true
[ "$ended" -ne 124 ] || exit 124
echo "lab.sh: the guest ended before its program did" >&2
exit 125
