#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs_check.sh BIN -- the documentation and the programs in BIN say the same:
#   - every command and flag of ivds-ctl is in ivds-ctl(8), and its completion offers every command;
#   - every command that a fix text names is one;
#   - every flag of ivdsd and of ivds-loader is in its page;
#   - every field of the schema is in ivds.yaml(5), and the example in that page is a configuration that parses.
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for need in man bash; do
    command -v "$need" >/dev/null || {
        echo "SKIP: no $need"
        exit 77
    }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
complain() {
    echo "$*"
    bad=1
}
page() { LC_ALL=C.UTF-8 MANWIDTH=1000 MANROFFOPT=-c man --nh --nj -l "scripts/man/$1" | col -bx; }
# Long flags of a help text, but for --help itself.
flags() { grep -oE '(^|[ ,])--[a-z][a-z-]*' | grep -oE -- '--[a-z-]+' | grep -vx -- --help | sort -u; }
has() { grep -qE -- "(^|[^a-z-])$2([^a-z-]|\$)" "$1"; }

page ivds-ctl.8 >"$work/ctl"
# shellcheck source=scripts/completion/ivds-ctl
. scripts/completion/ivds-ctl
# What the completion offers after these words.
offered() {
    COMP_LINE="ivds-ctl${*:+ $*} "
    COMP_POINT=${#COMP_LINE}
    COMPREPLY=()
    _ivds_ctl "$bin/ivds-ctl"
    printf '%s\n' "${COMPREPLY[@]}"
}
# The help of a command, for which ivds-ctl is started once.
help_of() {
    local file="$work/help ${*:-ivds-ctl}"
    [ -e "$file" ] || "$bin/ivds-ctl" "$@" --help >"$file"
    cat "$file"
}
commands=0
walk() {
    local help word offered
    help=$(help_of "$@")
    commands=$((commands + 1))
    while read -r word; do
        has "$work/ctl" "$word" || complain "ivds-ctl(8) lacks $word of 'ivds-ctl $*'"
    done < <(flags <<<"$help")
    offered=$(offered "$@")
    while read -r word; do
        has "$work/ctl" "$word" || complain "ivds-ctl(8) lacks the command '$* $word'"
        grep -qx -- "$word" <<<"$offered" || complain "the completion does not offer $word after '$*'"
        walk "$@" "$word"
    done < <(sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' <<<"$help")
}
walk
[ "$commands" -gt 40 ] || complain "only $commands commands were found in the help of ivds-ctl"

# Commands in texts: `ivds-ctl vport list`. {} stands for a kind of object where a command belongs, else for a value.
fixes=0
while read -r -a words; do
    fixes=$((fixes + 1))
    path=()
    for word in "${words[@]}"; do
        [ "$word" != '{}' ] || [ "${#path[@]}" -gt 0 ] || word=vport
        [[ $word =~ ^[a-z][a-z-]*$ ]] || break
        path+=("$word")
    done
    help=$(help_of "${path[@]}")
    grep -qE "^Usage: ivds-ctl${path[*]:+ ${path[*]}}( |\$)" <<<"$help" || complain "a text names 'ivds-ctl ${words[*]}', which is no command"
    for word in "${words[@]}"; do
        [[ $word =~ ^--[a-z-]+$ ]] || continue
        flags <<<"$help" | grep -qx -- "$word" || [ "$word" = --help ] ||
            complain "a text names 'ivds-ctl ${words[*]}', which has no $word"
    done
done < <(grep -rhoE "[\`']ivds-ctl [^\`']*[\`']" ctl loader --include='*.cpp' | sed -E "s/^.ivds-ctl //;s/.\$//" | sort -u)
[ "$fixes" -gt 5 ] || complain "only $fixes commands were found in the texts"

page ivdsd.8 >"$work/agent"
"$bin/ivdsd" --help | flags >"$work/flags"
page ivds-loader.8 >"$work/loader"
{
    "$bin/ivds-loader" --help
    for word in $("$bin/ivds-loader" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
        has "$work/loader" "$word" || complain "ivds-loader(8) lacks the command $word" >&2
        "$bin/ivds-loader" "$word" --help
    done
} | flags >"$work/loader-flags"
while read -r word; do has "$work/agent" "$word" || complain "ivdsd(8) lacks $word"; done <"$work/flags"
while read -r word; do has "$work/loader" "$word" || complain "ivds-loader(8) lacks $word"; done <"$work/loader-flags"
for file in flags loader-flags; do
    [ -s "$work/$file" ] || complain "no flags were found in the help ($file)"
done

page ivds.yaml.5 >"$work/yaml"
# The objects, up to the messages of state, and the lists of a file.
sed -n '1,/^message Object /p' ctl/api/ivds.proto |
    sed -nE 's/^  (repeated )?[A-Za-z0-9.]+ ([a-z_0-9]+) = [0-9]+;.*/\2/p' | sort -u >"$work/fields"
[ "$(wc -l <"$work/fields")" -gt 30 ] || complain "few fields were found in ivds.proto"
while read -r word; do
    grep -qE "(^|[^a-z_])$word([^a-z_]|\$)" "$work/yaml" || complain "ivds.yaml(5) lacks the field $word"
done <"$work/fields"
sed -n '/^EXAMPLES/,/^SEE ALSO/p' "$work/yaml" | sed -nE '/^ +uplinks:/,/^SEE/{/^SEE/d;s/^ {14}//;p}' >"$work/example.yaml"
grep -q vports "$work/example.yaml" || complain "no example was found in ivds.yaml(5)"
# A file that parses gets as far as the agent, which is not there.
"$bin/ivds-ctl" apply --socket "$work/none" -f "$work/example.yaml" 2>"$work/said" && status=0 || status=$?
[ "$status" -eq 7 ] || complain "the example of ivds.yaml(5): $(cat "$work/said")"
exit "$bad"
