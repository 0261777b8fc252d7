#!/usr/bin/env bash
# What continuous integration runs, and what to run before a push: formatting, lints, tests, docs.
#
# Tests that need other programs (nbdinfo, nbdcopy, qemu-io, fio, python3 with libnbd) say so and
# are skipped when those are missing; with ATDD_REQUIRE_TOOLS=1 a skipped test is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() {
    printf '\n== %s\n' "$*"
    local begin=$SECONDS
    "$@"
    printf '== done in %d s\n' "$((SECONDS - begin))"
}

export RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings"

step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step cargo test --workspace --locked
step cargo doc --workspace --no-deps --locked
printf '\nAll checks passed.\n'
