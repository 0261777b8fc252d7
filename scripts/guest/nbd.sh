# The disk by the kernel's own NBD client.
. ./settings
. ./disk.sh
DISK=/dev/nbd0
TREE=/dev/vda

echo "kernel $(uname -r), stock nbd-client"
nbd-client 10.0.2.2 "$PORT" "$DISK" -block-size 4096 -persist || fail "nbd-client"
. "./$TASK.sh"
nbd-client -d "$DISK" || fail "nbd-client -d"
step "detached"
