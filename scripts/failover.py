"""The measuring part of failover.sh, which builds and checks what this needs."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster import ATDD, Cluster, Gateway, figures, fio, wait_until
from links import Echo, delay_for

LATENCY_LEAST_S = 5.0
RATIO_MOST = 0.75
# What is typical of machines in one data center: half of what "Numbers Everyone Should Know" (Jeff
# Dean, 2009) gives, and https://www.evanjones.ca/network-latencies-2021.html found to be the 80th
# percentile of echoes between virtual machines.
ROUND_TRIP_US = 250


def say(text):
    print(f"== {text}", flush=True)


def fail(text):
    sys.exit(f"FAILED: {text}")


def verify_command(uri, size, output, seconds):
    """Random writes at depth 32, each read back and compared, over and over."""
    return ["fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k",
            "--iodepth=32", f"--size={size}", "--verify=crc32c", "--verify_fatal=1",
            "--verify_backlog=4096", "--time_based=1", f"--runtime={seconds}",
            "--output-format=json", f"--output={output}"]


class Verify:
    """fio with verification in the background."""

    def __init__(self, directory, uri, size, seconds):
        self.output = directory / "verify.json"
        self.child = subprocess.Popen(verify_command(uri, size, self.output, seconds),
                                      cwd=directory, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)

    def finish(self, what):
        said = self.child.communicate()[0]
        text = self.output.read_text(encoding="utf-8")
        if self.child.returncode != 0:
            fail(f"{what}: fio ended with {self.child.returncode}:\n{said}{text}")
        job = json.loads(text[text.index("{"):])["jobs"][0]
        if job["error"]:
            fail(f"{what}: fio counts errors:\n{text}")
        result = figures(job)
        worst = result["max_us"] / 1e6
        print(f"{what}: {result['operations']:,} writes and as many reads verified, "
              f"p50 {result['p50_us'] / 1000:.1f} ms, longest {worst:.2f} s")
        if worst > LATENCY_LEAST_S:
            fail(f"{what}: a request took {worst:.2f} s")
        return result


def kills(directory):
    say("fio with verify at depth 32 through a gateway; each process killed and restarted in turn")
    cluster = Cluster(directory, "256MiB", nbd=False)
    gateway = Gateway(cluster, "gateway")
    try:
        verify = Verify(directory, gateway.uri(), "192m", 24)
        for rank in (1, 2, 3):
            time.sleep(3)
            cluster.kill(rank)
            time.sleep(3)
            cluster.start(rank)
            cluster.wait_for_status(0)
        return verify.finish("killed in turn")
    finally:
        gateway.stop()
        cluster.stop()


def coordinator(cluster):
    """The process that runs the attachment."""
    listed = subprocess.run([ATDD, "attachments", "--config", str(cluster.config), "--json"],
                            capture_output=True, text=True, check=True)
    for process in json.loads(listed.stdout)["processes"]:
        if process.get("attachments"):
            return process["rank"]
    return fail(f"nobody is attached: {listed.stdout}")


def pause(directory):
    say("the gateway's process paused for 10 s with writes in flight, then continued")
    cluster = Cluster(directory, "256MiB", nbd=False)
    gateway = Gateway(cluster, "gateway")
    try:
        verify = Verify(directory, gateway.uri(), "192m", 20)
        wait_until(lambda: subprocess.run(
            [ATDD, "attachments", "--config", str(cluster.config), "--json"],
            capture_output=True, text=True, check=False).stdout.count('"owner"'), "attached")
        time.sleep(2)
        rank = coordinator(cluster)
        cluster.signal(rank, signal.SIGSTOP)
        time.sleep(10)
        cluster.signal(rank, signal.SIGCONT)
        return verify.finish(f"process {rank} paused")
    finally:
        gateway.stop()
        cluster.stop()


def hosts(directory):
    say("two hosts: the second is refused, then takes over; the first gets errors")
    cluster = Cluster(directory, "64MiB", nbd=False)
    first = Gateway(cluster, "first")
    second = Gateway(cluster, "second")
    forced = Gateway(cluster, "forced", "--take-over")
    try:
        writing = Verify(directory, first.uri(), "32m", 20)
        time.sleep(3)
        refused = subprocess.run(["nbdinfo", "--size", second.uri()], capture_output=True,
                                 text=True, check=False)
        if refused.returncode == 0:
            fail("the second host was let in beside the first")
        print(f"refused: {refused.stderr.strip().splitlines()[-1]}")
        held = second.log.read_text(encoding="utf-8")
        if "127.0.0.1:" not in held:
            fail(f"the second gateway does not say who holds the disk:\n{held}")
        pattern = ["qemu-io", "-f", "raw", "-c", "write -P 7 0 32M", "-c", "read -P 7 0 32M",
                   forced.uri()]
        taken = subprocess.run(pattern, capture_output=True, text=True, check=False)
        if taken.returncode != 0 or "failed" in taken.stdout:
            fail(f"the take-over: {taken.stdout}{taken.stderr}")
        said = writing.child.communicate(timeout=60)[0]
        if writing.child.returncode == 0:
            fail(f"the first host goes on as if nothing had happened:\n{said}")
        print("the first host's fio ended with an error, as it must")
        again = ["qemu-io", "-f", "raw", "-c", "read -P 7 0 32M", forced.uri()]
        checked = subprocess.run(again, capture_output=True, text=True, check=False)
        if checked.returncode != 0 or "failed" in checked.stdout:
            fail(f"the first host has changed the disk: {checked.stdout}{checked.stderr}")
    finally:
        for gateway in (first, second, forced):
            gateway.stop()
        cluster.stop()


class Latency:
    """Depth-1 writes beside the first process of a cluster, exclusive and shared in turns."""

    def __init__(self, directory, delay_us):
        directory.mkdir()
        self.name = "loopback" if delay_us is None else f"links of 2 x {delay_us} µs"
        self.delay_us = delay_us
        self.cluster = Cluster(directory, "256MiB", nbd=False, delay_us=delay_us)
        self.rounds = []

    def measure(self, seconds):
        # fio leaves without a goodbye, so a gateway would not let it in again after the other one
        # has had the disk.
        def write(name, *arguments):
            gateway = Gateway(self.cluster, name, *arguments, config=self.cluster.beside_first)
            try:
                return fio(["--ioengine=nbd", f"--uri={gateway.uri()}", "--rw=randwrite", "--bs=4k",
                            "--iodepth=1"], seconds, "256m")["p50_us"]
            finally:
                gateway.stop()

        with Echo(self.delay_us) as echo:
            alone = echo.alone_us()
            (one, two), meanwhile = echo.beside(
                lambda: (write("exclusive"), write("shared", "--shared")))
        self.rounds.append(one / two)
        print(f"{self.name}: round trip {alone:.0f} µs, {meanwhile:.0f} beside the writes; "
              f"median exclusive {one:.0f} µs, shared {two:.0f} µs, ratio {one / two:.2f}",
              flush=True)

    def ratio(self):
        return sorted(self.rounds)[len(self.rounds) // 2]

    def stop(self):
        self.cluster.stop()


def latency(directory, seconds, round_trip_us):
    say(f"depth-1 write latency, exclusive against shared, in turns: over loopback, and over links "
        f"with a round trip of {round_trip_us} µs, held up by a relay")
    loopback = Latency(directory / "loopback", None)
    links = None
    try:
        links = Latency(directory / "links", delay_for(round_trip_us))
        for _ in range(3):
            loopback.measure(seconds)
            links.measure(seconds)
    finally:
        loopback.stop()
        if links:
            links.stop()
    print(f"middle ratio over loopback: {loopback.ratio():.2f}; nothing is demanded of it, since "
          f"there is no round trip worth saving\n"
          f"middle ratio over links: {links.ratio():.2f}; at most {RATIO_MOST} is demanded")
    if links.ratio() > RATIO_MOST:
        fail(f"the ratio over links is {links.ratio():.2f}, not {RATIO_MOST} or better")


def settle_records(cluster):
    """Of each process that is up."""
    return [report["settle_records"] for report in cluster.status()[1].values() if report]


def settle(directory, size, fill):
    """The cost of the first reads after a take-over with one process down."""
    cluster = Cluster(directory, size, nbd=False)
    gateway = Gateway(cluster, "gateway")
    sequential = ["--ioengine=nbd", f"--uri={gateway.uri()}", "--bs=1m", "--iodepth=8"]
    scattered = ["--ioengine=nbd", f"--uri={gateway.uri()}", "--bs=4k", "--iodepth=32"]
    try:
        if fill:
            fio([*sequential, "--rw=write"], 0, fill)
            fio([*scattered, "--rw=randwrite"], 10, fill)
        span = fill or "4g"
        healthy = fio([*sequential, "--rw=read"], 0, span)
        cluster.kill(3)
        begin = time.monotonic()
        first = fio([*sequential, "--rw=read"], 0, span)
        elapsed = time.monotonic() - begin
        print(f"reading {span}: healthy {healthy['mib']:,.0f} MiB/s; after the take-over with one "
              f"process down {first['mib']:,.0f} MiB/s, longest {first['max_us'] / 1000:,.0f} ms, "
              f"{settle_records(cluster)} records in {elapsed:.1f} s")
        again = fio([*sequential, "--rw=read"], 0, span)
        random = fio([*scattered, "--rw=randread"], 5, span)
        print(f"once more: {again['mib']:,.0f} MiB/s, random {random['iops']:,.0f} IOPS, "
              f"{settle_records(cluster)} records in all")
        logs = "".join((directory / f"process-{rank}.log").read_text(encoding="utf-8")
                       for rank in (1, 2))
        for line in re.findall(r".*settled.*", logs):
            print(line)
    finally:
        gateway.stop()
        cluster.stop()


def main():
    parser = argparse.ArgumentParser(prog="scripts/failover.sh")
    parser.add_argument("--seconds", type=int, default=5, help="for each measurement of latency")
    parser.add_argument("--round-trip-us", type=int, default=ROUND_TRIP_US,
                        help="of the links over which latency is measured")
    parser.add_argument("--dir", default="target", help="where the clusters' directories go")
    parser.add_argument("--only", default="", help="only parts whose name matches: kills, pause, "
                        "hosts, latency, settle-fresh, settle-old")
    options = parser.parse_args()
    parts = {
        "kills": kills,
        "pause": pause,
        "hosts": hosts,
        "latency": lambda directory: latency(directory, options.seconds, options.round_trip_us),
        "settle-fresh": lambda directory: (
            say("settling a fresh disk of 1 TiB"), settle(directory, "1TiB", None)),
        "settle-old": lambda directory: (
            say("settling an old disk: 2 GiB, written at random"), settle(directory, "4GiB", "2g")),
    }
    for name, part in parts.items():
        if re.search(options.only, name):
            directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=options.dir)).resolve()
            try:
                part(directory)
            finally:
                if not os.environ.get("ATDD_KEEP"):
                    shutil.rmtree(directory, ignore_errors=True)
    say("everything holds")


if __name__ == "__main__":
    main()
