#!/usr/bin/env bash
# Real kernels: Debian's 6.1 and 6.12 in a virtual machine by software emulation, which use a cluster
# of three processes on this machine.
#
#   scripts/vm.sh build     builds the module atdd for both, and has checkpatch look at it
#   scripts/vm.sh nbd       by stock nbd-client: filesystems, partitions, fio, kills, power cuts
#   scripts/vm.sh driver    the same by the kernel module atdd, and what only concerns that
#   scripts/vm.sh compare   the throughput of both, side by side
#   scripts/vm.sh run FILE  runs a script in a guest; gives its output, exit code and the kernel's log
#
# --kernel 6.1 or 6.12 takes only that one; --short VERSION makes that one's pass shorter.
# --kernel debug takes a kernel that looks for bugs in the module: a 6.1 with KASAN, lockdep,
# kmemleak and more, built from Debian's sources when it is first wanted. It is slow, and its pass
# is short. The tests' guests run two at a time, with one thread each. Packages, kernels and images
# are kept in target/vm. `compare` also takes --rounds, and --threads single; `run` takes
# --seconds. Needed are the packages of .ci/run, and nothing but a user's rights.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH="$PATH:/usr/sbin:/sbin"
. scripts/need.sh
need "qemu-system-x86 busybox-static kmod cpio nbd-client fio e2fsprogs xfsprogs fdisk keyutils iproute2 python3 perl gcc make" \
    qemu-system-x86_64 busybox depmod cpio nbd-client fio mkfs.ext4 mkfs.xfs sfdisk keyctl tc python3 perl \
    gcc make
# One after the other: together, the example's features would get into `atdd` too.
cargo build --release --quiet --bin atdd
cargo build --release --quiet --example played_server
exec python3 -B scripts/vm.py "$@"
