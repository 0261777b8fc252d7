"""A kernel that looks for bugs while guests test the module atdd, built from Debian's sources."""

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

import vm_image

CONFIG = Path("scripts/debug_kernel.config")
# What the build needs beside what vm.sh asks for: each file, and its package.
NEEDED = {
    "/usr/bin/flex": "flex", "/usr/bin/bison": "bison", "/usr/bin/bc": "bc",
    "/usr/include/gelf.h": "libelf-dev",
}
# Directories that no module is built against: most of what a build takes.
USELESS = ["Documentation", "crypto", "drivers", "fs", "mm", "net", "sound", "tools/testing"]


class DebugKernel(vm_image.Kernel):
    """Linux 6.1 with KASAN, lockdep, kmemleak and the like, and with everything a guest needs
    built in."""

    # All of its memory is watched, by a machine that is emulated already.
    SLOWNESS = 6
    # The other machine's ACPI has a loop in it that takes this kernel a minute.
    MACHINE = "q35"

    def __init__(self):
        self.directory = (vm_image.CACHE / f"debug-{self.key()}").resolve()
        if not self.directory.is_dir():
            self.make()
        self.build = self.directory / "build"
        self.root = self.directory / "root"
        self.image = self.build / "arch" / "x86" / "boot" / "bzImage"
        self.version = self.release(self.build)

    @staticmethod
    def key():
        """What the kernel is made of, as a short name."""
        made_of = CONFIG.read_bytes() + vm_image.sources().read_bytes()
        return hashlib.sha256(made_of).hexdigest()[:12]

    @staticmethod
    def release(build):
        release = build / "include" / "config" / "kernel.release"
        return release.read_text(encoding="utf-8").strip()

    def make(self):
        """Builds the kernel, and keeps what guests and modules need of it."""
        missing = [package for file, package in NEEDED.items() if not Path(file).exists()]
        if missing:
            sys.exit(f"the debug kernel's build needs: apt-get install {' '.join(missing)}")
        print("vm: building the debug kernel", flush=True)
        begin = time.monotonic()
        part = self.directory.with_suffix(".part")
        build = part / "build"
        shutil.rmtree(part, ignore_errors=True)
        build.mkdir(parents=True)
        vm_image.run("tar", "-x", "-f", vm_image.sources(), "-C", build, "--strip-components=1")
        make = ["nice", "make", "-C", build, "-s", "ARCH=x86_64",
                f"LOCALVERSION=-{self.directory.name}"]
        vm_image.run(*make, f"KCONFIG_ALLCONFIG={CONFIG.resolve()}", "allnoconfig")
        self.check_config(build)
        vm_image.run(*make, f"-j{os.cpu_count()}", "bzImage", "modules")
        vm_image.run(*make, f"INSTALL_MOD_PATH={part / 'root'}", "modules_install")
        for name in USELESS:
            shutil.rmtree(build / name)
        part.rename(self.directory)
        print(f"vm: built it in {time.monotonic() - begin:.0f} s", flush=True)

    @staticmethod
    def check_config(build):
        """An option with a dependency that is not there would be left out silently."""
        taken = (build / ".config").read_text(encoding="utf-8").splitlines()
        lost = [line for line in CONFIG.read_text(encoding="utf-8").splitlines()
                if line.startswith("CONFIG_") and line not in taken]
        if lost:
            sys.exit(f"the debug kernel's configuration does not take {' '.join(lost)}")

    def build_directory(self):
        return self.build
