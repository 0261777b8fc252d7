# What is done with a disk in a guest, whichever way it got there. Each function ends the script
# when something is not as it should be. DISK is the device, TREE the device with the source tree.

fail() {
    echo "FAILED: $*"
    exit 1
}

step() {
    echo "[$(cut -d' ' -f1 /proc/uptime)] $*"
}

# What the removed module has left allocated, on a kernel that knows. Addresses without a name are
# of code that is gone: its own.
check_leaks() {
    leaks=/sys/kernel/debug/kmemleak
    [ -e "$leaks" ] || return 0
    # Only what is some seconds old counts, and was found by two scans.
    for scan in 1 2; do
        sleep 6
        echo scan >"$leaks" || fail "kmemleak does not scan"
    done
    cat "$leaks"
    ! grep -q 'atdd\|\] 0x' "$leaks" || fail "memory leaks"
    step "no memory leaks"
}

make_filesystem() { # TYPE DEVICE
    case $1 in
    ext4) mkfs.ext4 -q -F "$2" ;;
    xfs) mkfs.xfs -q -f "$2" ;;
    esac || fail "mkfs of $1"
}

check_filesystem() { # TYPE DEVICE
    case $1 in
    ext4) fsck.ext4 -f -n "$2" >/tmp/fsck 2>&1 ;;
    xfs) xfs_repair -n "$2" >/tmp/fsck 2>&1 ;;
    esac || { cat /tmp/fsck; fail "$1 is not clean"; }
}

mount_disk() { # TYPE DEVICE
    mkdir -p /mnt/disk
    mount -t "$1" "$2" /mnt/disk || fail "mount of $1"
}

# By several readers: with one, each file would wait for the one before.
check_tree() {
    rm -f /tmp/part* /tmp/md5*
    awk '{ print >"/tmp/part" int(NR / 1000) }' /mnt/disk/tree/MD5SUMS
    for part in /tmp/part*; do
        (cd /mnt/disk/tree && md5sum -c "$part" >"/tmp/md5${part#/tmp/part}" 2>&1) &
    done
    wait
    cat /tmp/md5* >/tmp/all
    wrong=$(grep -vc ': OK$' /tmp/all)
    right=$(grep -c ': OK$' /tmp/all)
    [ "$wrong" = 0 ] && [ "$right" = "$(wc -l </mnt/disk/tree/MD5SUMS)" ] || {
        grep -v ': OK$' /tmp/all | head
        fail "files differ"
    }
    step "$right files are right"
}

# A filesystem from its making to its check, with a source tree in it.
use_filesystem() { # TYPE
    step "$1: mkfs"
    make_filesystem "$1" "$DISK"
    mount_disk "$1" "$DISK"
    tar -x -f "$TREE" -C /mnt/disk || fail "copying"
    sync
    step "$1: $(du -sm /mnt/disk/tree | cut -f1) MiB are copied"
    check_tree
    umount /mnt/disk || fail "umount"
    check_filesystem "$1" "$DISK"
    echo 3 >/proc/sys/vm/drop_caches
    mount_disk "$1" "$DISK"
    check_tree
    rm -r /mnt/disk/tree
    fstrim -v /mnt/disk || fail "fstrim"
    umount /mnt/disk || fail "umount"
    check_filesystem "$1" "$DISK"
    step "$1: clean"
}

# Makes partitions, and names them in PARTITIONS.
divide() { # SIZE...
    { echo "label: gpt"; for size; do echo "size=$size"; done; } | sfdisk -q "$DISK" ||
        fail "partition table"
    find_partitions
}

find_partitions() {
    blockdev --rereadpt "$DISK" || fail "the partition table is not read"
    PARTITIONS=$(ls -d "$DISK"p[1-9] "$DISK"[1-9] 2>/dev/null)
}

# Two partitions; a filesystem in the second must leave the first alone.
use_partitions() {
    divide 32MiB 64MiB
    set -- $PARTITIONS
    [ $# = 2 ] || fail "there are not two partitions: $*"
    dd if=/dev/urandom of=/tmp/first bs=1M count=32 2>/dev/null
    dd if=/tmp/first of="$1" bs=1M 2>/dev/null
    make_filesystem ext4 "$2"
    mount_disk ext4 "$2"
    dd if=/dev/urandom of=/mnt/disk/file bs=1M count=16 2>/dev/null
    umount /mnt/disk
    check_filesystem ext4 "$2"
    cmp /tmp/first "$1" || fail "the first partition has changed"
    rm /tmp/first
    blkdiscard "$DISK" || fail "blkdiscard"
    cmp -n 1048576 "$DISK" /dev/zero || fail "what was discarded is not zero"
    blockdev --rereadpt "$DISK"
    step "partitions: right"
}

# Random writes that are read back and compared.
verify_with_fio() { # SIZE
    fio --name=verify --filename="$DISK" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k \
        --iodepth=32 --size="$1" --verify=crc32c --verify_fatal=1 --randrepeat=0 \
        --eta=never --output=/tmp/fio || { cat /tmp/fio; fail "fio"; }
    step "fio: $(grep -o 'write: IOPS=[^,]*' /tmp/fio), verified"
}

# Files, each with its checksum, for a guest that is cut off; what is said to be there must be
# there after the next boot. Each filesystem has a partition.
write_until_cut_off() { # TYPE...
    divide $(for type; do echo 512MiB; done)
    set -- $(echo "$@" $PARTITIONS | awk '{ for (i = 1; i <= NF / 2; i++) print $i, $(i + NF / 2) }')
    while [ $# -gt 0 ]; do
        write_files "$1" "$2" &
        shift 2
    done
    wait
}

write_files() { # TYPE DEVICE
    make_filesystem "$1" "$2"
    mkdir -p "/mnt/$1"
    mount -t "$1" "$2" "/mnt/$1" || fail "mount of $1"
    echo "READY to be cut off: $1"
    number=0
    while :; do
        number=$((number + 1))
        dd if=/dev/urandom of="/mnt/$1/part" bs=64k count=$((number % 8 + 1)) 2>/dev/null
        sum=$(md5sum <"/mnt/$1/part" | cut -d' ' -f1)
        mv "/mnt/$1/part" "/mnt/$1/$number-$sum"
        sync "/mnt/$1/$number-$sum" "/mnt/$1" && echo "SYNCED $1 $number-$sum"
    done
}

check_after_cut() { # FILES TYPE...
    files=$1
    shift
    find_partitions
    for device in $PARTITIONS; do
        check_files "$files" "$1" "$device"
        shift
    done
    [ $# = 0 ] || fail "partitions are missing: $PARTITIONS"
}

check_files() { # FILES TYPE DEVICE
    mount_disk "$2" "$3"
    grep "^$2 " "$1" | cut -d' ' -f2 >/tmp/names
    [ -s /tmp/names ] || fail "nothing was synced on $2"
    while read -r name; do
        sum=$(md5sum <"/mnt/disk/$name" | cut -d' ' -f1)
        [ "$sum" = "${name#*-}" ] || fail "wrong or missing after the power cut: $name"
    done </tmp/names
    umount /mnt/disk || fail "umount"
    check_filesystem "$2" "$3"
    step "$2: $(wc -l </tmp/names) synced files are right after the power cut, and it is clean"
}
