"""Guests with Debian's kernels that use the disk; see vm.sh."""

import argparse
import concurrent.futures
import contextlib
import functools
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cluster
import vm_debug
import vm_image
from cluster import Cluster, free_ports
from vm_faults import PARTS, Control, Gate, Kills, Liar, Played

GUEST = Path("scripts/guest")
# Without what is fast on real processors, and therefore chosen, and slow when it is emulated.
CPU = "max,-erms,-fsrm,-avx,-avx2"
# What the kernel says when something is wrong with it, or with a module. All that looks for bugs
# says WARNING or BUG; the second line is of what has stopped to look.
ALARMS = re.compile(r"WARNING:|BUG[: ]|Oops|Call Trace|blocked for more than|UBSAN|refcount_t|"
                    r"ODEBUG disabled|leak detector disabled|"
                    r"unreferenced object|possible circular|inconsistent lock|EXT4-fs error|"
                    r"XFS .*(?:[Cc]orruption|[Ss]hutdown)")
# No filesystem is to see an error of the disk.
DISK_ALARMS = re.compile(ALARMS.pattern + r"|I/O error")


class Guest:
    """A virtual machine that runs `main`, one of the scripts of scripts/guest or another."""

    def __init__(self, kernel, main, directory, settings=None, files=(), disks=(),
                 threads="single"):
        directory.mkdir(exist_ok=True)
        self.slowness = kernel.SLOWNESS
        self.name = f"{kernel.version.split('-')[0]} {directory.name}"
        self.kernel_log = directory / "kernel.log"
        self.output = directory / "output.log"
        self.code = directory / "exit-code"
        overlay = self.pack_overlay(directory, main, settings or {}, files)
        self.initramfs = directory / "initramfs"
        with open(self.initramfs, "wb") as out:
            for part in (vm_image.base(kernel), overlay):
                out.write(part.read_bytes())
        # One thread for both processors: with two, a kernel that patches its code was seen to crash
        # at boot, by an instruction of before (6.12, once in some 150 boots). What is measured has
        # two all the same: with one, whoever waits for a lock waits for the other processor's turn.
        command = [
            "qemu-system-x86_64", "-accel", f"tcg,thread={threads}",
            "-cpu", CPU, "-smp", "2", "-m", "2G", "-nodefaults", "-display", "none", "-no-reboot",
            "-machine", kernel.MACHINE, "-kernel", kernel.image, "-initrd", self.initramfs,
            # Of the clocks that a kernel would choose, the emulated ones are slow to read.
            "-append", "console=ttyS0 panic=-1 quiet loglevel=7 tsc=reliable clocksource=tsc",
            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net",
            "-serial", f"file:{self.kernel_log}", "-serial", f"file:{self.output}",
            "-serial", f"file:{self.code}",
        ]
        for disk in disks:
            command += ["-drive", f"file={disk},format=raw,if=virtio,readonly=on"]
        self.child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL)

    @staticmethod
    def pack_overlay(directory, main, settings, files):
        root = directory / "overlay"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(GUEST, root / "guest")
        shutil.move(root / "guest" / "init", root / "init")
        (root / "init").chmod(0o755)
        shutil.copy(main, root / "guest" / "main")
        for path in files:
            shutil.copy(path, root / "guest")
        lines = [f"{name}='{value}'\n" for name, value in settings.items()]
        (root / "guest" / "settings").write_text("".join(lines), encoding="utf-8")
        archive = directory / "overlay.cpio"
        vm_image.pack(root, archive)
        return archive

    def said(self):
        return self.output.read_text(encoding="utf-8", errors="replace") \
            if self.output.exists() else ""

    def wait(self, seconds):
        """Waits for its end; its exit code, or `None` when it was not done in this time."""
        shown = 0
        deadline = time.monotonic() + seconds * self.slowness
        while self.child.poll() is None:
            if time.monotonic() > deadline:
                self.cut_off()
                return None
            time.sleep(0.2)
            shown = self.show(shown)
        self.show(shown)
        text = self.code.read_text(encoding="utf-8").strip()
        return int(text) if text else None

    def show(self, shown):
        said = self.said()
        whole = said.rfind("\n") + 1
        for line in said[shown:whole].splitlines():
            print(f"{self.name}: {line}", flush=True)
        return max(shown, whole)

    def wait_for(self, text, seconds):
        deadline = time.monotonic() + seconds * self.slowness
        while text not in self.said():
            if self.child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the guest never said {text!r}; logs in {self.output.parent}")
            time.sleep(0.1)

    def cut_off(self):
        """A power cut, unless it has ended."""
        self.child.kill()
        self.child.wait()
        self.initramfs.unlink(missing_ok=True)

    def alarms(self, pattern):
        log = self.kernel_log.read_text(encoding="utf-8", errors="replace")
        return [line for line in log.splitlines() if pattern.search(line)]


class Gateway:
    """`atdd nbd` on a port of the loopback, which a guest reaches."""

    def __init__(self, of, name):
        [self.port] = free_ports(1)
        with open(of.directory / f"{name}.log", "wb") as log:
            self.child = subprocess.Popen(
                [cluster.ATDD, "nbd", "--config", str(of.config), "--port", str(self.port)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(timeout=60)


class Way:
    """A way to the disk: what a guest is given for it."""

    def __init__(self, name, kernel, of):
        self.name = name
        self.gateway = None
        self.files = []
        self.settings = {}
        if name == "nbd":
            self.gateway = Gateway(of, f"gateway-{time.monotonic_ns()}")
            self.settings["PORT"] = self.gateway.port
        else:
            text = of.config.read_text(encoding="utf-8")
            ports = re.findall(r'"127\.0\.0\.1:(\d+)"', text)[:cluster.PROCESSES]
            self.settings["PROCESSES"] = ",".join(f"10.0.2.2:{port}" for port in ports)
            key = of.directory / "key"
            key.write_bytes((of.config.parent / "client.key").read_bytes())
            self.files = [vm_image.module(kernel), key]

    def stop(self):
        if self.gateway:
            self.gateway.stop()
            self.gateway = None


class Run:
    """One command: its directory, and what it has started; all of that ends with it."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.directory = Path(tempfile.mkdtemp(prefix="atdd-vm-"))
        self.number = 0
        self.started = contextlib.ExitStack()

    def cluster(self, name):
        of = Cluster(self.directory / name, "2GiB", nbd=False)
        self.started.callback(of.stop)
        return of

    def way(self, name, kernel, of):
        way = Way(name, kernel, of)
        self.started.callback(way.stop)
        return way

    def guest(self, kernel, way, task, extra=None, files=(), tree=None):
        self.number += 1
        directory = self.directory / f"{self.number}-{way.name}-{task}"
        settings = way.settings | {"TASK": task} | (extra or {})
        guest = Guest(kernel, GUEST / f"{way.name}.sh", directory, settings,
                      [*way.files, *files], [tree] if tree else [])
        self.started.callback(guest.cut_off)
        return guest

    def must_pass(self, guest, seconds, pattern=DISK_ALARMS):
        code = guest.wait(seconds)
        alarms = guest.alarms(pattern)
        if code != 0 or alarms:
            print("\n".join(alarms[:20]))
            sys.exit(f"{guest.name}: exit code {code}; logs in {guest.output.parent}")

    def use(self, name, kernel, short):
        """Filesystems, partitions and fio, while processes are killed; then a power cut."""
        of = self.cluster(f"{name}-{kernel.version}")
        way = self.way(name, kernel, of)
        tree = vm_image.tree(short)
        types = ["ext4"] if short else ["ext4", "xfs"]
        kills = Kills(of)
        self.started.callback(kills.stop)
        self.must_pass(self.guest(
            kernel, way, "full",
            {"TYPES": " ".join(types), "FIO_SIZE": "16m" if short else "32m"}, tree=tree), 900)
        print(f"vm: processes were killed {kills.stop()} times meanwhile", flush=True)
        self.cut_off(way, kernel, types)
        self.started.close()

    def between(self, way, kind):
        """One of these before each process, and their addresses."""
        ports = [int(each.rsplit(":", 1)[1]) for each in way.settings["PROCESSES"].split(",")]
        relays = [kind(port) for port in ports]
        for each in relays:
            self.started.callback(each.stop)
        return relays, ",".join(f"10.0.2.2:{each.port}" for each in relays)

    def use_module_with_liars(self, kernel, short):
        """The module among liars, by either protocol: whatever they say, the data are right."""
        of = self.cluster(f"liars-{kernel.version}")
        way = self.way("driver", kernel, of)
        liars, way.settings["PROCESSES"] = self.between(way, Liar)
        for mode in ["exclusive"] if short else ["exclusive", "classic"]:
            way.settings["OPTIONS"] = f"attach={mode}"
            self.must_pass(self.guest(kernel, way, "verify", {"FIO_SIZE": "16m"}), 300)
            print(f"vm: {sum(each.lies for each in liars)} lies so far", flush=True)
        if not all(each.lies for each in liars):
            sys.exit("a liar never lied")
        self.started.close()

    def use_module(self, kernel, short):
        """What only concerns the module."""
        of = self.cluster(f"module-{kernel.version}")
        way = self.way("driver", kernel, of)
        gates, way.settings["GATES"] = self.between(way, Gate)
        control = Control(of, gates)
        self.started.callback(control.stop)
        for part in PARTS:
            played = Played(of.config.parent / "client.key", part)
            self.started.callback(played.stop)
            way.settings[part.replace("-", "_").upper()] = f"10.0.2.2:{played.port}"
        way.settings |= {"CONTROL": control.port, "ROUNDS": 6 if short else 50,
                         "TRIES": 2 if short else 3,
                         # Half a minute of waiting, which differs in nothing between kernels.
                         "PATIENT": "" if short and kernel.SLOWNESS == 1 else "yes"}
        guest = Guest(kernel, GUEST / "driver-only.sh", self.directory / "driver-only",
                      way.settings, way.files)
        self.started.callback(guest.cut_off)
        self.must_pass(guest, 900, ALARMS)
        self.started.close()

    def cut_off(self, way, kernel, types):
        """A guest that loses its power in the middle of writing, and boots again."""
        settings = {"TYPES": " ".join(types)}
        guest = self.guest(kernel, way, "cut", settings)
        for kind in types:
            guest.wait_for(f"READY to be cut off: {kind}", 120)
        time.sleep(5)
        guest.cut_off()
        synced = self.directory / "synced"
        names = re.findall(r"^SYNCED (\S+ \S+)\r?\n", guest.said(), re.M)
        synced.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        self.must_pass(self.guest(kernel, way, "after-cut", settings, [synced]), 120)

    def script(self, kernel):
        """The user's own; the command ends as it does, or badly where the kernel's log is bad."""
        guest = Guest(kernel, self.arguments.script, self.directory / kernel.version)
        self.started.callback(guest.cut_off)
        failure = guest.wait(self.arguments.seconds)
        log = guest.kernel_log.read_text(encoding="utf-8", errors="replace")
        print(f"the kernel's log:\n{log}")
        alarms = guest.alarms(ALARMS)
        if failure is None:
            failure = (f"{guest.name}: it was not done in {self.arguments.seconds} s (see "
                       "--seconds), or had no exit code")
        elif failure == 0 and alarms:
            failure = "\n".join(["the kernel says that something is wrong:", *alarms])
        if failure:
            self.started.close()
            shutil.rmtree(self.directory)
            sys.exit(failure)

    def compare(self, kernel):
        """The module and nbd-client side by side: in one guest, in turns."""
        nbd = self.way("nbd", kernel, self.cluster("nbd"))
        module = self.way("driver", kernel, self.cluster("module"))
        rounds = self.arguments.rounds
        guest = Guest(kernel, GUEST / "compare.sh", self.directory / "compare",
                      nbd.settings | module.settings | {"ROUNDS": rounds, "SECONDS_OF_FIO": 5},
                      module.files, threads=self.arguments.threads)
        self.started.callback(guest.cut_off)
        self.must_pass(guest, 120 * (rounds + 1))
        self.started.close()
        figures = {}
        for name, *job, rate in re.findall(r"MEASURED (\S+) (\S+) (\S+) (\S+)", guest.said()):
            figures.setdefault(tuple(job), {}).setdefault(name, []).append(float(rate))
        for (job, block), rates in figures.items():
            ratios = [ours / theirs
                      for ours, theirs in zip(rates["module"], rates["nbd-client"], strict=True)]
            middle = {name: statistics.median(each) / 1024 for name, each in rates.items()}
            print(f"{job} {block}: module {middle['module']:.1f}, "
                  f"nbd-client {middle['nbd-client']:.1f} MiB/s; "
                  f"ratio {statistics.median(ratios):.2f}, "
                  f"of {', '.join(f'{each:.2f}' for each in sorted(ratios))}")


def main():
    parser = argparse.ArgumentParser(prog="vm.sh")
    parser.add_argument("command", choices=["build", "nbd", "driver", "compare", "run"])
    parser.add_argument("script", nargs="?")
    parser.add_argument("--kernel", action="append", choices=["6.1", "6.12", "debug"])
    parser.add_argument("--short", action="append", default=[], choices=["6.1", "6.12"],
                        help="a kernel that gets a shorter pass")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", choices=["single", "multi"], default="multi",
                        help="one for both processors of the guest that compares, or one for each")
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    if arguments.command == "run" and not Path(arguments.script or "").is_file():
        parser.error("run takes the file of a script for the guest")
    cluster.READY_SECONDS = 60
    begin = time.monotonic()
    kernels = {series: vm_debug.DebugKernel() if series == "debug" else vm_image.Kernel(series)
               for series in arguments.kernel or ["6.1", "6.12"]}
    match arguments.command:
        case "build":
            for kernel in kernels.values():
                vm_image.module(kernel)
            vm_image.check_style()
        case "nbd" | "driver":
            test(arguments, kernels)
        case command:
            run = Run(arguments)
            with run.started:
                for series, kernel in kernels.items():
                    if command == "compare":
                        run.compare(kernel)
                    else:
                        run.script(kernel)
            shutil.rmtree(run.directory)
    print(f"vm: all is well after {time.monotonic() - begin:.0f} s")


def test(arguments, kernels):
    """Runs the tests of a way, in two lanes: a guest has one thread, and waits much of the time."""
    uses, others = [], []
    for series, kernel in kernels.items():
        short = series in arguments.short or kernel.SLOWNESS > 1
        uses.append(functools.partial(Run.use, name=arguments.command, kernel=kernel, short=short))
        # What both lanes want is made once.
        vm_image.base(kernel)
        vm_image.tree(short)
        if arguments.command == "driver":
            vm_image.module(kernel)
            others += [functools.partial(each, kernel=kernel, short=short)
                       for each in (Run.use_module, Run.use_module_with_liars)]
    lanes = [uses, others] if others else [[each] for each in uses]

    def work(lane):
        run = Run(arguments)
        with run.started:
            for each in lane:
                each(run)
        shutil.rmtree(run.directory)

    with concurrent.futures.ThreadPoolExecutor() as executor:
        for done in concurrent.futures.as_completed([executor.submit(work, lane) for lane in lanes]):
            done.result()


main()
