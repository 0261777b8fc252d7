#!/usr/bin/env bash
# Measures the disk on this machine: three processes, NBD embedded in the first, fio in front.
# Prints a table with the raw disk and a memory NBD server beside it, all from the same run.
#
#   scripts/bench.sh [--seconds 5] [--size 1GiB] [--dir DIR] [--only REGEX] [--json FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

need "fio libnbd-bin nbdkit python3" fio nbdinfo nbdkit python3
# One after the other: together, the examples' features of tokio would get into `atdd` too.
cargo build --release --quiet --bin atdd
cargo build --release --quiet --example classic_load
exec python3 -B scripts/bench.py "$@"
