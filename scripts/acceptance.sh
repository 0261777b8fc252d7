#!/usr/bin/env bash
# The long version of what tests/cluster shows: stock tools on a release build, at full size.
# Takes some minutes and about 8 GiB of disk. Leaves nothing behind, nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

need "libnbd-bin qemu-utils fio" nbdinfo nbdcopy qemu-io fio

cargo build --release --quiet --bin atdd
atdd=$PWD/target/release/atdd
work=$(mktemp -d "$PWD/target/acceptance-XXXXXX")
declare -A pids=()

finish() {
    for pid in "${pids[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

say() { printf '%s\n' "== $*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# Waits until the command succeeds, for a minute at the most.
eventually() {
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "still not: $*"
}

# --- atdd dev ------------------------------------------------------------------------------------

uri="nbd+unix:///?socket=$work/dev.sock"

start_dev() {
    "$atdd" dev --dir "$work/dev" --size 1GiB --nbd "unix:$work/dev.sock" >>"$work/dev.log" 2>&1 &
    pids[dev]=$!
    eventually nbdinfo --size "$uri"
}

kill_dev() {
    local children
    children=$(pgrep -P "${pids[dev]}")
    kill -9 "${pids[dev]}"
    wait "${pids[dev]}" 2>/dev/null || true
    unset 'pids[dev]'
    for child in $children; do
        eventually test ! -e "/proc/$child"
    done
}

fio_verify() { # NAME URI SIZE [OPTIONS...]: random writes at depth 32 over four connections
    local name=$1 target=$2 size=$3
    shift 3
    (cd "$work" && fio --name="$name" --ioengine=nbd --uri="$target" --rw=randwrite --bs=4k \
        --iodepth=32 --numjobs=4 --size="$size" --offset_increment="$size" --verify=crc32c \
        --verify_fatal=1 --group_reporting "$@" >"$work/$name.log" 2>&1) ||
        { cat "$work/$name.log"; fail "fio $name"; }
}

say "dev: nbdinfo"
start_dev
nbdinfo --list "$uri" | grep -q 1073741824 || fail "nbdinfo shows another size"

say "dev: nbdcopy of 512 MiB in and out"
head -c 512M /dev/urandom >"$work/original"
nbdcopy "$work/original" "$uri"
nbdcopy "$uri" "$work/copy"
cmp -n $((512 << 20)) "$work/original" "$work/copy"

say "dev: kill -9, start again, everything is there, nothing is left running"
kill_dev
start_dev
nbdcopy "$uri" "$work/copy"
cmp -n $((512 << 20)) "$work/original" "$work/copy"

say "dev: qemu-io patterns"
qemu-io -f raw -c "write -P 7 512M 8M" -c "write -P 8 536871424 512" -c "read -P 7 512M 512" \
    -c "read -P 8 536871424 512" -c "read -P 7 536871936 3584" -c "discard 512M 8M" \
    -c "read -P 0 512M 8M" "$uri" >"$work/qemu.log" 2>&1
! grep -q 'verification failed' "$work/qemu.log" || fail "qemu-io"

say "dev: fio with verify, depth 32, four connections"
fio_verify dev-verify "$uri" 128m
kill_dev
rm -rf "$work/dev" "$work/original" "$work/copy"

# --- three processes -----------------------------------------------------------------------------

ports=$(python3 - <<'PYTHON'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(" ".join(str(each.getsockname()[1]) for each in sockets))
PYTHON
)
read -r port1 port2 port3 <<<"$ports"
"$atdd" init "$work/cluster" --size 1GiB \
    --processes "127.0.0.1:$port1,127.0.0.1:$port2,127.0.0.1:$port3" >/dev/null
config=$work/cluster/cluster.toml
uri="nbd+unix:///?socket=$work/serve.sock"

serve() {
    local rank=$1 nbd=()
    [ "$rank" = 1 ] && nbd=(--nbd "unix:$work/serve.sock")
    "$atdd" serve --config "$config" --rank "$rank" --data "$work/process-$rank" "${nbd[@]}" \
        >>"$work/process-$rank.log" 2>&1 &
    pids[$rank]=$!
}

kill_process() {
    kill -9 "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}

status_is() {
    local code=0
    "$atdd" status --config "$config" >"$work/status.log" 2>&1 || code=$?
    [ "$code" = "$1" ]
}

for rank in 1 2 3; do serve "$rank"; done
eventually status_is 0

say "serve: fio with verify while the second and then the third process is killed and restarted"
(
    cd "$work"
    exec fio --name=kills --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=32 \
        --numjobs=4 --size=128m --offset_increment=128m --verify=crc32c --verify_fatal=1 \
        --group_reporting --do_verify=1 --loops=2 >"$work/kills.log" 2>&1
) &
pids[fio]=$!
for rank in 2 3; do
    sleep 3
    kill_process "$rank"
    sleep 3
    serve "$rank"
    eventually status_is 0
done
wait "${pids[fio]}" || { cat "$work/kills.log"; fail "fio saw an error"; }
unset 'pids[fio]'

say "serve: whole cluster killed and restarted, everything acknowledged is there"
fio_verify before-kill "$uri" 64m --do_verify=0
for rank in 1 2 3; do kill_process "$rank"; done
for rank in 1 2 3; do serve "$rank"; done
eventually status_is 0
fio_verify before-kill "$uri" 64m --verify_only=1

say "serve: two of three dead, I/O waits, status says why, and it goes on when one returns"
kill_process 2
kill_process 3
eventually status_is 2
qemu-io -f raw -c "write -P 5 0 4k" -c "read -P 5 0 4k" "$uri" >"$work/wait.log" 2>&1 &
pids[io]=$!
sleep 2
kill -0 "${pids[io]}" || fail "the write did not wait: $(cat "$work/wait.log")"
grep -q 'majority' "$work/status.log" || fail "status does not say why: $(cat "$work/status.log")"
serve 2
wait "${pids[io]}" || fail "the write failed: $(cat "$work/wait.log")"
unset 'pids[io]'

say "everything holds"
