#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh -- one check of the sources; CTest runs each as the test check-NAME (label check).
#
#   check.sh format BUILD   clang-format-19 on all C, C++ and BPF files
#   check.sh tidy BUILD     clang-tidy-19 on what BUILD compiles; remembers in BUILD what was clean
#   check.sh shell BUILD    shellcheck on all shell scripts
#   check.sh spdx BUILD     a licence identifier in the first lines of each source file
#   check.sh words BUILD    no words of unfinished work
#   check.sh units BUILD    `systemd-analyze verify` of what `cmake --install` puts in place, and all of it there
#   check.sh man BUILD      the manual pages format without a warning
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

# The project's own files, committed or about to be, that match the patterns.
files() {
    local f
    git ls-files -co --exclude-standard -- "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done
}

# BPF programs have the kernel's style wherever they are, user space has its own.
check_format() {
    files '*.c' '*.h' '*.cpp' ':!*.bpf.c' | xargs clang-format-19 --dry-run --Werror
    files '*.bpf.c' | xargs clang-format-19 --dry-run --Werror --style=file:bpf/.clang-format
}

check_tidy() {
    python3 scripts/lib/tidy.py "$1"
}

check_shell() {
    local f
    files | while read -r f; do
        if [[ $f == *.sh ]] || head -n 1 "$f" | grep -qaE '^#!.*\b(ba)?sh$'; then echo "$f"; fi
    done | xargs shellcheck -x
}

check_spdx() {
    local f bad=0
    while read -r f; do
        head -n 3 "$f" | grep -q 'SPDX-License-Identifier: ' || {
            echo "$f: no SPDX-License-Identifier in its first lines"
            bad=1
        }
    done < <(files '*.c' '*.h' '*.cpp' '*.py' '*.sh' '*.proto' '*.cmake' '*CMakeLists.txt' '*.yaml' '*.in' \
        '*.rules' '*.service' '*.conf' .ci/run)
    return "$bad"
}

# The words stand in brackets so that this line does not find itself.
check_words() {
    local words='\b(TO[D]O|FIX[M]E|XX[X]|HA[C]K|place[h]older|for no[w]|stubb[e]d out|not im[p]lemented)\b' found
    found=$(files ':!LICENSE' ':!LICENSES' | xargs grep -nIE "$words" || true)
    [ -z "$found" ] || die "words of unfinished work:"$'\n'"$found"
}

check_units() {
    local prefix unit f bad=0
    stage=$(mktemp -d) # for the trap, which runs outside of the function
    trap 'rm -rf "$stage"' EXIT
    prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$1/CMakeCache.txt")
    DESTDIR=$stage cmake --install "$1" >"$stage/install.log"
    for f in sbin/ivdsd sbin/ivds-loader sbin/ivds-ctl lib/systemd/system/ivdsd.service \
        lib/systemd/system/ivds-loader@.service lib/udev/rules.d/90-ivds.rules lib/sysusers.d/ivds.conf \
        include/ivds/abi.h share/man/man8/ivdsd.8 share/man/man8/ivds-ctl.8 share/man/man8/ivds-loader.8 \
        share/man/man5/ivds.yaml.5 share/bash-completion/completions/ivds-ctl; do
        [ -e "$stage$prefix/$f" ] || {
            echo "cmake --install did not put $prefix/$f in place"
            bad=1
        }
    done
    # A unit names its program by the installed path; here that is below the staging folder.
    for unit in "$stage$prefix"/lib/systemd/system/*.service; do
        sed "s|=$prefix/|=$stage$prefix/|" "$unit" >"$stage/$(basename "${unit/@.service/@eth0.service}")"
    done
    systemd-analyze verify --man=no "$stage"/*.service >"$stage/verify.log" 2>&1 || bad=1
    if [ -s "$stage/verify.log" ]; then
        cat "$stage/verify.log"
        bad=1
    fi
    return "$bad"
}

check_man() {
    local page said bad=0
    while read -r page; do
        said=$(MANROFFSEQ='' LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
        [ -z "$said" ] || {
            printf '%s: %s\n' "$page" "$said"
            bad=1
        }
    done < <(files 'scripts/man/*.[1-8]')
    return "$bad"
}

if [ $# -ne 2 ] || ! declare -F "check_$1" >/dev/null; then
    die "usage: check.sh format|tidy|shell|spdx|words|units|man BUILD"
fi
"check_$1" "$2"
