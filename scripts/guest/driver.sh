# The disk by the kernel module atdd.
. ./settings
. ./disk.sh
DISK=/dev/atdd
TREE=/dev/vda

echo "kernel $(uname -r), module atdd"
insmod ./atdd.ko processes="$PROCESSES" key_file=/guest/key ${OPTIONS-} || fail "insmod"
. "./$TASK.sh"
rmmod atdd || fail "rmmod"
step "removed"
check_leaks
