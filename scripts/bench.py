"""The measuring part of bench.sh, which builds and checks what this needs."""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster, cpu_seconds, fio, resident_mib

CLASSIC = "target/release/examples/classic_load"


class Row:
    """One line of the table: what fio does, and the least that it must reach."""

    def __init__(self, name, rw, depth, block="4k", least=None):
        self.name, self.rw, self.depth, self.block, self.least = name, rw, depth, block, least


# In this order: random writes scatter the free space, and with it what is written in sequence
# afterwards. The last two lines show such an aged disk.
ROWS = [
    Row("write 1 MiB depth 8", "write", 8, block="1m", least=250),
    Row("read 1 MiB depth 8", "read", 8, block="1m", least=800),
    Row("write 4 KiB depth 1", "randwrite", 1, least=1500),
    Row("write 4 KiB depth 8", "randwrite", 8),
    Row("write 4 KiB depth 32", "randwrite", 32, least=10000),
    Row("write 4 KiB depth 128", "randwrite", 128),
    Row("read 4 KiB depth 1", "randread", 1, least=6000),
    Row("read 4 KiB depth 8", "randread", 8),
    Row("read 4 KiB depth 32", "randread", 32, least=25000),
    Row("read 4 KiB depth 128", "randread", 128),
    Row("aged, write 1 MiB", "write", 8, block="1m"),
    Row("aged, read 1 MiB", "read", 8, block="1m"),
]
CLASSIC_LEAST = 5000


def nbd_arguments(row, uri):
    return ["--ioengine=nbd", f"--uri={uri}", f"--rw={row.rw}", f"--bs={row.block}",
            f"--iodepth={row.depth}"]


def raw_arguments(row, path):
    """The raw disk doing what one replica must: at depth 1 each write synced, else direct."""
    engine = ["--ioengine=psync", "--fdatasync=1"] if row.rw == "randwrite" and row.depth == 1 \
        else ["--ioengine=libaio", "--direct=1"]
    return [*engine, f"--filename={path}", f"--rw={row.rw}", f"--bs={row.block}",
            f"--iodepth={row.depth}"]


def figure(row, result):
    return result["mib"] if row.block == "1m" else result["iops"]


def run_rows(options, cluster, raw, memory):
    results = []
    print(f"{'':<24}{'raw disk':>10}{'memory NBD':>12}{'atdd':>10}{'least':>8}"
          f"{'p50 µs':>9}{'p99 µs':>9}{'CPU µs/op':>11}")
    for row in ROWS:
        if not re.search(options.only, row.name):
            continue
        raw_result = fio(raw_arguments(row, raw), options.seconds, options.size)
        memory_result = fio(nbd_arguments(row, memory), options.seconds, options.size)
        before = cpu_seconds(cluster.pids())
        result = fio(nbd_arguments(row, cluster.uri()), options.seconds, options.size)
        cpu = (cpu_seconds(cluster.pids()) - before) / max(result["operations"], 1) * 1e6
        ours = figure(row, result)
        verdict = "" if row.least is None or ours >= row.least else "  BELOW"
        print(f"{row.name:<24}{figure(row, raw_result):>10,.0f}"
              f"{figure(row, memory_result):>12,.0f}{ours:>10,.0f}"
              f"{row.least or '':>8}{result['p50_us']:>9,.0f}{result['p99_us']:>9,.0f}"
              f"{cpu:>11,.0f}{verdict}", flush=True)
        results.append({"name": row.name, "raw": raw_result, "memory": memory_result,
                        "atdd": result, "cpu_us_per_operation": cpu, "least": row.least})
    return results


def run_classic(options, cluster):
    """The classic protocol: 8 connections at depth 16, spread over the processes."""
    results = []
    for mix in ("read", "write", "mixed"):
        name = f"classic {mix} 8x16"
        if not re.search(options.only, name):
            continue
        command = [CLASSIC, "--config", str(cluster.config), "--mix", mix,
                   "--seconds", str(options.seconds)]
        before = cpu_seconds(cluster.pids())
        finished = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(finished.stdout)
        cpu = (cpu_seconds(cluster.pids()) - before) / max(result["operations"], 1) * 1e6
        rate = result["operations"] / result["seconds"]
        verdict = "" if rate >= CLASSIC_LEAST else "  BELOW"
        print(f"{name:<24}{'':>10}{'':>12}{rate:>10,.0f}{CLASSIC_LEAST:>8}"
              f"{result['p50_us']:>9,.0f}{result['p99_us']:>9,.0f}{cpu:>11,.0f}{verdict}",
              flush=True)
        results.append({"name": name, "iops": rate, "cpu_us_per_operation": cpu, **result})
    return results


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh")
    parser.add_argument("--seconds", type=int, default=5, help="for each measurement")
    parser.add_argument("--size", default="1GiB", help="of the disk, filled first")
    parser.add_argument("--dir", default="target", help="on the disk to be measured")
    parser.add_argument("--only", default="", help="measure only lines whose name matches")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()

    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir)).resolve()
    memory_socket = directory / "memory.sock"
    memory = subprocess.Popen(
        ["nbdkit", "--foreground", "--exit-with-parent", "--unix", str(memory_socket),
         "memory", options.size.replace("iB", "")], stderr=subprocess.DEVNULL)
    cluster = None
    try:
        raw = directory / "raw"
        fio(["--ioengine=psync", f"--filename={raw}", "--rw=write", "--bs=1m", "--end_fsync=1"],
            0, options.size)
        cluster = Cluster(directory, options.size)
        fill = Row("fill", "write", 8, block="1m")
        fio(nbd_arguments(fill, cluster.uri()), 0, options.size)
        memory_uri = f"nbd+unix:///?socket={memory_socket}"
        fio(nbd_arguments(fill, memory_uri), 0, options.size)
        results = run_rows(options, cluster, raw, memory_uri)
        results += run_classic(options, cluster)
        print(f"largest process: {resident_mib(cluster.pids()):,.0f} MiB resident")
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=2), encoding="utf-8")
    finally:
        if cluster:
            cluster.stop()
        memory.terminate()
        memory.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
