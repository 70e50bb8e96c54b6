#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# systemd.sh BUILD RESULTS -- installs BUILD into a layer over the lab's root, and runs systemd_test.py there.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
layer=$(mktemp -d)
trap 'rm -rf "$layer"' EXIT
DESTDIR=$layer cmake --install "$1" >"$layer/install.log"
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$1/CMakeCache.txt")
rm "$layer/install.log"
# VFs are often given names of their own; this one has a dash, which means something else in a unit's name.
mkdir -p "$layer/etc/udev/rules.d"
echo 'ACTION=="add", SUBSYSTEM=="net", TEST=="device/physfn", NAME="late-vf"' >"$layer/etc/udev/rules.d/70-late.rules"
"$here/../../scripts/lab.sh" --systemd --layer "$layer" --writable "$2" --timeout 400 \
    /usr/bin/python3 "$here/systemd_test.py" --binaries "$prefix/sbin" --record "$2/lab-systemd.xml"
