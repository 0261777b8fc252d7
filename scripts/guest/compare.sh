# Both ways to a disk in one guest, each to a cluster of its own, measured in turns.
. ./settings
. ./disk.sh

measure() { # NAME DEVICE RW BLOCK DEPTH
    fio --name=m --filename="$2" --direct=1 --ioengine=libaio --rw="$3" --bs="$4" --iodepth="$5" \
        --size=256m --time_based --runtime="$SECONDS_OF_FIO" --eta=never \
        --output=/tmp/fio --output-format=terse || fail "fio"
    field=7 # KiB a second
    case $3 in *write) field=48 ;; esac
    echo "MEASURED $1 $3 $4 $(tail -1 /tmp/fio | cut -d';' -f"$field")"
}

nbd-client 10.0.2.2 "$PORT" /dev/nbd0 -block-size 4096 || fail "nbd-client"
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key || fail "insmod"
for round in $(seq "$ROUNDS"); do
    for job in "write 1m 4" "read 1m 4" "randwrite 4k 32" "randread 4k 32"; do
        measure nbd-client /dev/nbd0 $job
        measure module /dev/atdd $job
    done
done
rmmod atdd || fail "rmmod"
nbd-client -d /dev/nbd0 || fail "nbd-client -d"
