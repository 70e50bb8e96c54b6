#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# requirements.sh -- a line a requirement, R1 to R192: "R107 shown: TEST…" or "R107 not shown".
#
# Shown means: in the last full run of scripts/test.sh, or in `scripts/test.sh long` of the same commit, a test
# passed (not skipped, not failed) that carries the id as a Catch2 tag or in its name. TEST is the CTest name and, for
# Catch2, the case: "loader-unit: refuses …".
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
[ -r build/last-run.json ] || die "no record of a full run yet: run 'sudo scripts/test.sh' first"
exec python3 scripts/lib/results.py requirements build/last-run.json build/last-run-long.json
