"""Clusters and gateways of release builds on this machine, and fio on them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from links import SlowLink

ATDD = "target/release/atdd"
TICKS = os.sysconf("SC_CLK_TCK")
PROCESSES = 3
READY_SECONDS = 30


def fio(arguments, seconds, size):
    """Runs one fio job; gives its operations, rate, MiB a second and latencies in µs."""
    with tempfile.NamedTemporaryFile(suffix=".json") as output:
        command = [
            "fio", "--name=job", "--output-format=json", f"--output={output.name}",
            f"--size={size}", "--randrepeat=0", "--norandommap=1", *arguments,
        ]
        if seconds:
            command += ["--time_based=1", f"--runtime={seconds}"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        text = Path(output.name).read_text(encoding="utf-8")
    if finished.returncode != 0:
        sys.exit(f"fio failed: {' '.join(command)}\n{finished.stderr}{text}")
    return figures(json.loads(text[text.index("{"):])["jobs"][0])


def figures(job):
    """What counts of a job in fio's JSON."""
    side = job["write"] if job["write"]["total_ios"] else job["read"]
    percentile = side["clat_ns"].get("percentile", {})
    return {
        "operations": side["total_ios"],
        "iops": side["iops"],
        "mib": side["bw_bytes"] / 2**20,
        "mean_us": side["lat_ns"]["mean"] / 1000,
        "p50_us": percentile.get("50.000000", 0) / 1000,
        "p99_us": percentile.get("99.000000", 0) / 1000,
        "max_us": max(job[way]["lat_ns"]["max"] for way in ("read", "write")) / 1000,
    }


def cpu_seconds(pids):
    """User and system time that these processes have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mib(pids):
    """The largest resident set among the processes, now."""
    def one(pid):
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024
    return max(one(pid) for pid in pids)


def free_ports(count):
    """Ports that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until(done, what):
    """Waits for `done()`, and ends the script when it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not done():
        if time.monotonic() > deadline:
            sys.exit(f"still not after {READY_SECONDS} s: {what}")
        time.sleep(0.05)


class Cluster:
    """Three processes on this machine, the first with NBD on a unix socket if `nbd`. With a delay
    they reach one another by slow links; `config` has their own addresses, without delay."""

    def __init__(self, directory, size, nbd=True, delay_us=None):
        self.directory = directory
        self.nbd = nbd
        self.socket = directory / "nbd.sock"
        self.config = directory / "cluster" / "cluster.toml"
        free = free_ports(2 * PROCESSES)
        ports = dict(enumerate(free[:PROCESSES], start=1))
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports.values())
        subprocess.run(
            [ATDD, "init", str(directory / "cluster"), "--processes", addresses, "--size", size],
            check=True, stdout=subprocess.DEVNULL)
        self.configs = dict.fromkeys(ports, self.config)
        self.links = []
        if delay_us is not None:
            slow = dict(enumerate(free[PROCESSES:], start=1))
            self.links = [SlowLink(ports[rank], delay_us, slow[rank]) for rank in ports]
            for rank, port in ports.items():
                self.configs[rank] = self.copy_config(f"process-{rank}", slow | {rank: port})
        # A client begins with any process. One with this file finds the first and no other, since
        # nobody listens on the lowest ports.
        nowhere = {rank: rank for rank in ports}
        self.beside_first = self.copy_config("beside-first", nowhere | {1: ports[1]})
        self.children = {}
        for rank in ports:
            self.start(rank)
        self.wait_for_status(0)

    def copy_config(self, name, ports):
        """A copy of cluster.toml in which the processes are at these ports, by rank."""
        addresses = json.dumps([f"127.0.0.1:{ports[rank]}" for rank in sorted(ports)])
        text = self.config.read_text(encoding="utf-8")
        text = re.sub(r"(?ms)^processes = \[.*?^\]", f"processes = {addresses}", text)
        copy = self.config.with_name(f"{name}.toml")
        copy.write_text(text, encoding="utf-8")
        return copy

    def start(self, rank):
        command = [ATDD, "serve", "--config", str(self.configs[rank]), "--rank", str(rank),
                   "--data", str(self.directory / f"process-{rank}")]
        if self.nbd and rank == 1:
            command += ["--nbd", f"unix:{self.socket}"]
        log = open(self.directory / f"process-{rank}.log", "ab")
        self.children[rank] = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self, rank):
        child = self.children.pop(rank)
        child.kill()
        child.wait()

    def signal(self, rank, number):
        self.children[rank].send_signal(number)

    def status(self):
        """The exit code of `atdd status`, and what each process reports, by rank."""
        finished = subprocess.run([ATDD, "status", "--config", str(self.config), "--json"],
                                  capture_output=True, text=True, check=False)
        processes = json.loads(finished.stdout)["processes"]
        reports = {each["rank"]: each.get("report") for each in processes}
        return finished.returncode, reports

    def wait_for_status(self, code):
        wait_until(lambda: self.status()[0] == code, f"status {code}; logs in {self.directory}")

    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def pids(self):
        return [child.pid for child in self.children.values()]

    def stop(self):
        for child in self.children.values():
            child.send_signal(signal.SIGTERM)
        for child in self.children.values():
            child.wait(timeout=30)
        for link in self.links:
            link.stop()


class Gateway:
    """`atdd nbd` on a unix socket."""

    def __init__(self, cluster, name, *arguments, config=None):
        self.socket = cluster.directory / f"{name}.sock"
        self.log = cluster.directory / f"{name}.log"
        command = [ATDD, "nbd", "--config", str(config or cluster.config), "--unix",
                   str(self.socket), *arguments]
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self.socket.exists, f"a gateway; its log is {self.log}")

    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(timeout=30)
