# What only concerns the module: its options, several devices, removal whatever the servers do, and
# being fenced. HOST does to the cluster what it is asked for, and returns when that is done.
. ./settings
. ./disk.sh
CONFIG=/sys/kernel/config/atdd

host() {
    answer=$(echo "$*" | nc 10.0.2.2 "$CONTROL")
    [ "$answer" = done ] || fail "the host was to $*, and said: $answer"
}

must_fail() { # COMMAND...
    "$@" 2>/tmp/error && fail "this was to fail: $*"
    return 0
}

# A task that waits for a disk cannot be killed.
within() { # SECONDS COMMAND...
    seconds=$1
    shift
    "$@" 2>/dev/null &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        [ "$seconds" -gt 0 ] || fail "this takes too long: $*"
        seconds=$((seconds - 1))
        sleep 1
    done
    wait "$child" || fail "failed: $*"
}

are_there() { # FILE...
    for file; do
        until [ -e "$file" ]; do sleep 0.2; done
    done
}

must_say() { # TEXT: a line of the kernel's log since the last time
    dmesg -c >/tmp/dmesg
    must_say_too "$1"
}

must_say_too() { # TEXT: another line of those
    grep -q "$1" /tmp/dmesg || { cat /tmp/dmesg; fail "the log does not say: $1"; }
}

must_not_say() { # TEXT
    dmesg -c >/tmp/dmesg
    ! grep "$1" /tmp/dmesg || fail "that is not to be said"
}

set_option() { # DEVICE OPTION VALUE
    echo "$3" >"$CONFIG/$1/$2"
}

prepare_device() { # DEVICE PROCESSES ATTACH
    mkdir "$CONFIG/$1" || fail "mkdir $1"
    set_option "$1" processes "$2"
    set_option "$1" key_file /guest/key
    set_option "$1" attach "$3"
}

start_device() { # DEVICE PROCESSES [ATTACH]
    prepare_device "$1" "$2" "${3-exclusive}"
    set_option "$1" power 1 || fail "power of $1"
    [ -b "/dev/$1" ] || fail "no /dev/$1"
}

read_first() { # DEVICE
    dd if="/dev/$1" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null
}

# Each of four sectors by a request of its own, all at the same time.
write_sectors() { # FILE
    writers=
    for sector in 0 1 2 3; do
        dd if="$1" of=/dev/atdd bs=4096 count=1 skip="$sector" seek="$sector" oflag=direct \
            2>/dev/null &
        writers="$writers $!"
    done
}

are_written() {
    written=0
    for writer in $writers; do
        wait "$writer" || written=1
    done
    return "$written"
}

# The processes of the module, and the module itself, are gone.
nothing_is_left() {
    rmmod atdd || fail "rmmod"
    ps | grep -v grep | grep -q 'atdd-' && fail "threads are left"
    [ -z "$(ls /dev/atdd* 2>/dev/null)" ] || fail "devices are left"
}

step "options"
must_fail insmod ./atdd.ko processes="$PROCESSES"
must_say "key is missing"
must_fail insmod ./atdd.ko processes=10.0.2.2 key_file=/guest/key
must_say "wants up to 32 addresses"
must_fail insmod ./atdd.ko processes="$PROCESSES" hmac=12
must_say "64 hex digits"
must_fail insmod ./atdd.ko processes="$PROCESSES" hmac="$(printf '%064d' 7)"
must_say "does not take the key"
must_fail insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key size=5000
must_say "multiple of 4096"
must_fail insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key size=9T
must_say "size= is"
must_fail insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key attach=sometimes
must_say "attach= is"

step "keyring"
must_fail insmod ./atdd.ko processes="$PROCESSES" key=atdd:nobody
must_say "there is no key atdd:nobody"
keyctl padd logon atdd:client @u <./key >/tmp/serial || fail "keyctl"
insmod ./atdd.ko processes="$PROCESSES" key=atdd:client || fail "insmod"
read_first atdd || fail "reading"
nothing_is_left
echo "$(cat ./key)0" | keyctl padd user atdd:long @u >/tmp/serial || fail "keyctl"
must_fail insmod ./atdd.ko processes="$PROCESSES" key=atdd:long
must_say "64 hex digits"

step "no further devices before the module is there"
insmod ./atdd.ko processes=10.0.2.2:9 key_file=/guest/key 2>/dev/null &
loader=$!
until [ -d "$CONFIG" ]; do sleep 0.1; done
must_fail mkdir "$CONFIG/atdd1"
must_say "still being loaded"
{ kill -9 "$loader"; wait "$loader"; } 2>/dev/null

step "several devices"
insmod ./atdd.ko || fail "insmod"
must_fail mkdir "$CONFIG/disk"
mkdir "$CONFIG/atdd7"
must_fail set_option atdd7 power 1
rmdir "$CONFIG/atdd7"
start_device atdd1 "$PROCESSES" classic
start_device atdd2 "$PROCESSES" classic
must_fail set_option atdd1 size 4096
dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null
dd if=/tmp/data of=/dev/atdd1 bs=1M oflag=direct 2>/dev/null || fail "writing"
dd if=/dev/atdd2 of=/tmp/copy bs=1M count=1 iflag=direct 2>/dev/null || fail "reading"
cmp /tmp/data /tmp/copy || fail "one disk by two ways differs"
set_option atdd1 power 0
[ ! -b /dev/atdd1 ] || fail "atdd1 is still there"
rmdir "$CONFIG/atdd1" "$CONFIG/atdd2"
nothing_is_left

step "partitions and numbered devices"
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key attach=classic || fail "insmod"
printf 'label: gpt\nsize=8MiB\n' | sfdisk -q /dev/atdd || fail "sfdisk"
blockdev --rereadpt /dev/atdd
[ -b /dev/atdd1 ] || fail "no partition"
prepare_device atdd1 "$PROCESSES" classic
must_fail set_option atdd1 power 1
must_say "the partitions of the disk atdd have such names"
rmdir "$CONFIG/atdd1"
dd if=/dev/zero of=/dev/atdd bs=1M count=1 2>/dev/null
nothing_is_left

step "one host at a time"
insmod ./atdd.ko || fail "insmod"
start_device atdd1 "$PROCESSES" exclusive
prepare_device atdd2 "$PROCESSES" exclusive
must_fail set_option atdd2 power 1
must_say "the disk is held by"
rmdir "$CONFIG/atdd1"
set_option atdd2 power 1 || fail "attaching after the other has left"
rmdir "$CONFIG/atdd2"
nothing_is_left
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key || fail "insmod"
read_first atdd || fail "reading"
host take-over
must_fail read_first atdd
must_say "has taken the disk over"
nothing_is_left

step "processes that learn what the classic protocol does not know"
insmod ./atdd.ko processes="$GATES" key_file=/guest/key || fail "insmod"
must_say "served by the classic protocol, without fencing"
for try in 1 2 3 4 5 6 7 8 9 10; do
    write_sectors /tmp/data
    [ $((try % 2)) = 1 ] || host open-gates
    are_written || fail "writing"
done
nothing_is_left

step "a process that takes bytes and answers nothing is left for another"
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key || fail "insmod"
host pause 1
for try in 1 2 3; do
    within 20 dd if=/tmp/data of=/dev/atdd bs=64k count=1 oflag=direct
done
host continue
nothing_is_left

step "a slow link" # busybox has a tc of its own, which knows less
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key || fail "insmod"
dmesg -c >/dev/null
/usr/sbin/tc qdisc add dev eth0 root tbf rate 1mbit burst 20kb latency 400ms || fail "tc"
within 60 dd if=/tmp/data of=/dev/atdd bs=1M count=1 oflag=direct
/usr/sbin/tc qdisc del dev eth0 root
must_not_say "atdd: "
nothing_is_left

[ -z "$PATIENT" ] || . ./played.sh

step "no majority: requests wait, and removal does not"
insmod ./atdd.ko || fail "insmod"
start_device atdd1 "$PROCESSES" exclusive
host pause
read_first atdd1 &
reader=$!
sleep 3
kill -0 "$reader" 2>/dev/null || fail "the read did not wait"
set_option atdd1 power 0 || fail "power 0"
wait "$reader" && fail "the read was to fail"
host continue
rmdir "$CONFIG/atdd1"
nothing_is_left

step "no majority: the process answers heartbeats, however much waits"
insmod ./atdd.ko processes="${PROCESSES%%,*}" key_file=/guest/key connections=1 || fail "insmod"
dmesg -c >/dev/null
host pause 2 3
(fio --name=much --filename=/dev/atdd --direct=1 --ioengine=libaio --rw=write --bs=1m --iodepth=64 \
    --size=64m --eta=never --output=/tmp/fio && touch /tmp/much) &
sleep 6
[ ! -e /tmp/much ] || fail "the writes did not wait"
host continue
within 60 are_there /tmp/much
must_not_say "atdd: process"
nothing_is_left

step "no majority: requests fail after timeout="
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key timeout=5 || fail "insmod"
host pause
must_fail read_first atdd
must_say "no majority of processes answered in 5 s"
host continue
sleep 1
read_first atdd || fail "reading after the pause"
nothing_is_left

step "a write that has timed out does not come after a newer one"
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key timeout=1 || fail "insmod"
tried=0
for try in $(seq "$TRIES"); do
    dd if=/tmp/data of=/tmp/old bs=16k count=1 skip="$((2 * try))" 2>/dev/null
    dd if=/tmp/data of=/tmp/new bs=16k count=1 skip="$((2 * try + 1))" 2>/dev/null
    read_first atdd || fail "reading"
    # Timeouts are looked for at full seconds. The writes are to lie with a process that is paused
    # for less time than makes either side give the other up.
    until grep -q '^[0-9]*\.[78]' /proc/uptime; do :; done
    host pause
    write_sectors /tmp/old
    are_written && fail "nothing timed out"
    write_sectors /tmp/new
    sleep 0.1
    host continue
    are_written || continue
    tried=$((tried + 1))
    for second in 0 1; do
        dd if=/dev/atdd of=/tmp/copy bs=16k count=1 iflag=direct 2>/dev/null || fail "reading"
        cmp /tmp/new /tmp/copy || fail "an older one has come back"
        sleep "$second"
    done
done
[ "$tried" -gt 0 ] || fail "the newer ones timed out, too"
nothing_is_left

step "$ROUNDS rounds of load, input and output, kills, and unload"
round=0
while [ "$round" -lt "$ROUNDS" ]; do
    round=$((round + 1))
    insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key || fail "insmod in round $round"
    dd if=/tmp/data of=/dev/atdd bs=16k seek="$round" oflag=direct 2>/dev/null &
    writer=$!
    host kill "$((round % 3 + 1))"
    case $((round % 3)) in
    0) wait "$writer" || fail "writing in round $round" ;;
    1) { kill "$writer"; wait "$writer"; } 2>/dev/null ;;
    2) host start "$((round % 3 + 1))"; wait "$writer" || fail "writing in round $round" ;;
    esac
    nothing_is_left
    [ $((round % 3)) = 2 ] || host start "$((round % 3 + 1))"
done
step "$ROUNDS rounds are done"
check_leaks
