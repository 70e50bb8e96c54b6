#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# agent_test.sh BIN -- ivds-ctl against the real agent, in a network and mount namespace of its own: a tenant's life
# from the first object to the last, exit codes on the way, and what is still there to read when the agent is stopped,
# killed and taken down.
set -euo pipefail
[ "$(id -u)" -eq 0 ] || {
    echo "SKIP: needs root"
    exit 77
}
if [ "${2:-}" != inside ]; then
    # What dies takes its namespaces, and with them interfaces, mounts and processes, along.
    exec unshare --mount --net --pid --fork --kill-child --mount-proc "$0" "$1" inside
fi

bin=$1
work=$(mktemp -d)
trap 'umount "$work/bpf"; rm -rf "$work"' EXIT
mount --make-rprivate /
mkdir "$work/bpf"
mount -t bpf bpf "$work/bpf"
where=(--root "$work/bpf/ivds" --socket "$work/socket" --state-dir "$work/state")
for pair in "vm1 far1" "vm2 far2" "wire far0"; do
    read -r near far <<<"$pair"
    ip link add "$near" type veth peer name "$far"
    ip link set "$near" up
    ip link set "$far" up
done

bad=0
complain() {
    echo "FAILED: $*"
    cat "$work/out" "$work/err"
    bad=1
}
# expect CODE WORDS… runs ivds-ctl; its output is in $work/out and $work/err.
expect() {
    local wanted=$1 got=0
    shift
    "$bin/ivds-ctl" "${where[@]}" "$@" >"$work/out" 2>"$work/err" || got=$?
    [ "$got" -eq "$wanted" ] || complain "ivds-ctl $*: exit code $got, not $wanted"
}
out_has() { grep -qE -- "$1" "$work/out" || complain "'$1' is not in the output"; }
err_has() { grep -qE -- "$1" "$work/err" || complain "'$1' is not in the errors"; }
err_is_empty() { [ ! -s "$work/err" ] || complain "there are errors"; }

"$bin/ivdsd" "${where[@]}" 2>"$work/log" &
agent=$!
for _ in $(seq 100); do
    [ -S "$work/socket" ] && break
    sleep 0.1
done

expect 0 uplink create up0 --netdev wire
expect 0 vmac-pool create pool0 --uplink up0 --size 4
expect 0 instance create red --uplink up0 --vlan 10 --scope distributed
out_has 'vvlan [0-9]+'
expect 0 vnic create nic1 --pool pool0
out_has 'vmac ([0-9a-f]{2}:){5}[0-9a-f]{2}'
expect 0 vnic create nic2 --vmac 02:00:00:00:00:02
expect 0 vport create web1 --instance red --netdev vm1 --vnic nic1
expect 0 vport create web2 --instance red --netdev vm2 --vnic nic2
expect 0 vport create web2 --instance red --netdev vm2 --vnic nic2 # once more changes nothing
expect 4 vport create web2 --instance red --netdev vm1 --vnic nic2
err_has '^fix: '
expect 3 vport create web3 --instance blue --netdev vm3
expect 2 vport create 'web 3' --instance red --netdev vm3
expect 4 instance delete red
expect 3 vport get web3
expect 0 vport update web1 --mtu-bytes 1400
expect 0 vport get web1
out_has '^mtu_bytes: 1400$'

for _ in 1 2 3; do expect 0 vmac reserve pool0; done
reserved=$(cat "$work/out")
expect 5 vmac reserve pool0
expect 0 vmac release pool0 "$reserved"
expect 0 vmac reserve pool0
[ "$(cat "$work/out")" = "$reserved" ] || complain "the released vMAC is not the free one"

expect 0 show ports
out_has '^web1 +[0-9]+ +up +red +vm1 '
expect 0 status
out_has '^up0 +uplink +wire +up +auto +[a-z+]+ +[^ -]'
expect 0 fdb show --instance red
err_is_empty
out_has '02:00:00:00:00:02 +web2 +- +static'
expect 3 fdb show --instance blue
expect 0 fdb flush --port web1
expect 0 stats
err_is_empty
expect 0 events
out_has ' port_up +web1 +red '
expect 0 doctor
"$bin/ivds-ctl" __complete "${where[@]}" vport get '' >"$work/out"
[ "$(tr '\n' ' ' <"$work/out")" = "web1 web2 " ] || complain "the completion does not offer the vPorts"

# export and apply round-trip; a file that lacks an object removes it.
expect 0 export -o "$work/all.yaml"
expect 0 apply -f "$work/all.yaml"
out_has '^nothing to change$'
sed '/^  - name: web2$/,/^  - /{/^  - name: web2$/d;/^    /d}' "$work/all.yaml" >"$work/less.yaml"
expect 0 apply -f "$work/less.yaml" --dry-run
out_has '^- vport web2$'
expect 0 vport get web2
expect 0 apply -f "$work/less.yaml"
expect 3 vport get web2
expect 0 apply -f "$work/all.yaml"
out_has '^\+ vport web2$'

# A stopped agent: what reads goes on reading, what writes says that nobody answers.
kill -STOP "$agent"
expect 0 status --timeout 0.5
err_has '^note: agent does not answer; read from the pinned maps$'
out_has '^web1 +vport +vm1 +up '
expect 7 vport delete web1 --timeout 0.5
kill -CONT "$agent"
for _ in $(seq 100); do
    "$bin/ivds-ctl" "${where[@]}" vport get web1 >/dev/null 2>&1 || break # the delete may still come
    sleep 0.1
done
expect 0 apply -f "$work/all.yaml"

# A killed one, and then one that is gone with all it made.
kill -KILL "$agent"
{ wait "$agent" || true; } 2>/dev/null
for words in status "show all" stats "fdb show" "map show"; do
    # shellcheck disable=SC2086 # the words of a command
    expect 0 $words
    err_has '^note: agent is down; read from the pinned maps$'
    out_has 'web1'
done
out_has '^ +3 +tuple to vPort +physical +fdb \{[0-9]+, [0-9a-f:]+\} -> port [0-9]+ '
out_has 'unknown at wire: the agent is away'
expect 0 nic show
out_has '^ +link +up$'
expect 0 vlan list
out_has '^up0 +10 +[0-9]+ +red '
for words in "vport list" "vport get web1" export; do
    # shellcheck disable=SC2086
    expect 0 $words
    err_has '^note: agent is down; read from the saved state$'
    out_has 'web1'
done
expect 7 vport delete web1
err_has '^fix: systemctl start ivdsd$'
expect 1 doctor
out_has 'IVDS-U010'
"$bin/ivds-loader" down --detach --root "$work/bpf/ivds" --state "$work/state/tables.state" >/dev/null
expect 7 status
exit "$bad"
