#!/usr/bin/env bash
# Attachments on a release build, at full size: kills and a pause under fio with verification,
# two hosts, the latency of exclusive writes against shared ones, and the cost of settling.
#
#   scripts/failover.sh [--only REGEX] [--seconds 5] [--round-trip-us 250] [--dir DIR]
#
# With ATDD_KEEP=1 the clusters' directories, and with them their logs, are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

need "fio libnbd-bin qemu-utils python3" fio nbdinfo qemu-io python3
# Apart, since the dependencies of tests would change those of the program.
cargo build --release --quiet --example slow_link
cargo build --release --quiet --bin atdd
exec python3 -B scripts/failover.py "$@"
