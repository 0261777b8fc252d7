"""Guests with Debian's kernels under software emulation; see vm.sh."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vm_image

GUEST = Path("scripts/guest")
MEMORY = "2G"
# From inside a guest, this machine's loopback.
HOST = "10.0.2.2"


class Guest:
    """A virtual machine that runs the scripts of scripts/guest, beginning with `main`."""

    def __init__(self, kernel, main, directory, settings=(), files=(), disks=()):
        self.kernel_log = directory / "kernel.log"
        self.output = directory / "output.log"
        self.code = directory / "exit-code"
        overlay = self.pack_overlay(directory, main, settings, files)
        initramfs = directory / "initramfs"
        with open(initramfs, "wb") as out:
            for part in (vm_image.base(kernel), overlay):
                out.write(part.read_bytes())
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
            "-m", MEMORY, "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", kernel.image, "-initrd", initramfs,
            "-append", "console=ttyS0 panic=-1 oops=panic quiet loglevel=7",
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
        lines = [f"{name}='{value}'\n" for name, value in dict(settings).items()]
        (root / "guest" / "settings").write_text("".join(lines), encoding="utf-8")
        archive = directory / "overlay.cpio.gz"
        vm_image.pack(root, archive)
        return archive

    def wait(self, seconds):
        """Waits for its end; its exit code, or `None` when it was not done in this time."""
        try:
            self.child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.cut_off()
            return None
        text = self.code.read_text(encoding="utf-8").strip()
        return int(text) if text else None

    def cut_off(self):
        """A power cut."""
        self.child.kill()
        self.child.wait()


def main():
    parser = argparse.ArgumentParser(prog="vm.sh")
    parser.add_argument("what")
    parser.add_argument("script", nargs="?")
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="atdd-vm-"))
    begin = time.monotonic()
    guest = Guest(vm_image.Kernel(arguments.kernel), arguments.script, directory)
    code = guest.wait(arguments.seconds)
    print(guest.output.read_text(encoding="utf-8", errors="replace"), end="")
    print(f"vm: exit code {code} after {time.monotonic() - begin:.1f} s; logs in {directory}")
    sys.exit(1 if code is None else code)


main()
