# The module before processes that play parts: see examples/played_server.rs. Of driver-only.sh.

must_not_start() { # DEVICE PROCESSES ATTACH [SIZE]
    prepare_device "$1" "$2" "$3"
    [ -z "${4-}" ] || set_option "$1" size "$4"
    must_fail set_option "$1" power 1
}

read_sector() { # DEVICE SECTOR
    dd if="/dev/$1" of=/dev/null bs=4096 skip="$2" count=1 iflag=direct 2>/dev/null
}

write_64k() { # DEVICE FROM TO: pieces of /tmp/data and of the disk
    dd if=/tmp/data of="/dev/$1" bs=64k skip="$2" seek="$3" count=1 oflag=direct 2>/dev/null
}

has_64k() { # DEVICE FROM TO
    dd if=/tmp/data of=/tmp/expected bs=64k skip="$2" count=1 2>/dev/null
    dd if="/dev/$1" of=/tmp/copy bs=64k skip="$3" count=1 iflag=direct 2>/dev/null &&
        cmp /tmp/expected /tmp/copy
}

trickles() { # DEVICE
    dd if=/tmp/data of="/dev/$1" bs=512k count=1 oflag=direct 2>/dev/null &&
        dd if="/dev/$1" of=/tmp/trickle bs=512k count=1 iflag=direct 2>/dev/null &&
        cmp -n 524288 /tmp/data /tmp/trickle
}

# Reads that are answered, until something else is.
reads_beside() { # DEVICE
    until [ -e /tmp/forgotten ]; do
        read_first "$1"
        sleep 0.2
    done
}

step "processes that are not what they should be"
insmod ./atdd.ko || fail "insmod"
dmesg -c >/dev/null
# What takes half a minute, as long as the driver waits for some things, goes on beside the rest.
(must_not_start atdd1 "$SILENT" classic 64M && touch /tmp/silent) &
(must_not_start atdd2 "$MUTE" exclusive && touch /tmp/mute) &
start_device atdd7 "$SLOW"
(read_sector atdd7 128 && touch /tmp/slow) &
start_device atdd8 "$FORGETFUL" classic
(write_64k atdd8 0 0 && touch /tmp/forgotten) &
reads_beside atdd8 &
start_device atdd10 "$TRICKLING"
(trickles atdd10 && touch /tmp/trickled) &
start_device atdd3 "$LATE"
start_device atdd4 "$SAME_GENERATION"
start_device atdd5 "$OLD_NUMBER"
for sector in 0 1 2; do read_sector atdd5 "$sector" || fail "reading"; done
start_device atdd6 "$OLD_HELLO"
start_device atdd9 "$OVERTAKING"
# Sectors 128 to 255 in two pieces, of which the second comes late; its half is written anew.
must_fail dd if=/tmp/data of=/dev/atdd3 bs=512k seek=1 count=1 oflag=direct
within 20 dd if=/tmp/data of=/dev/atdd3 bs=128k skip=4 seek=6 count=1 oflag=direct
write_64k atdd4 1 0 && write_64k atdd4 2 0 || fail "writing"
write_64k atdd9 1 8 &
writer=$!
sleep 0.5
write_64k atdd9 2 8 && wait "$writer" || fail "writing"
has_64k atdd9 2 8 || fail "two writes of one place were under way together"
sleep 3
dd if=/dev/atdd3 of=/tmp/copy bs=128k skip=6 count=1 iflag=direct 2>/dev/null || fail "reading"
dd if=/tmp/data bs=128k skip=4 count=1 2>/dev/null | cmp - /tmp/copy ||
    fail "a piece of a write that has failed came after a newer one"
has_64k atdd4 2 0 || fail "a write was sent again under a generation in which it was under way"
within 60 are_there /tmp/silent /tmp/mute /tmp/slow /tmp/forgotten /tmp/trickled
must_say "atdd1: no process could be used"
must_say_too "atdd2: the disk could not be read"
must_say_too "atdd5: process 1 answered what was not asked"
! grep "atdd6: process" /tmp/dmesg || fail "an answer was taken that was recorded"
! grep "atdd10: process" /tmp/dmesg || fail "a slow link was taken for a dead process"
has_64k atdd8 0 0 || fail "a write that was not answered was not sent again"
for number in $(seq 10); do rmdir "$CONFIG/atdd$number"; done
nothing_is_left
