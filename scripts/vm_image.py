"""Debian's kernels unpacked, and the initramfs of a guest that boots them; kept between runs."""

import functools
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path("target/vm")
# What a guest loads of its kernel, each with what it depends on.
# Not sha256_ssse3: vector instructions are what emulation is slowest at.
MODULES = ["virtio_pci", "virtio_net", "virtio_blk", "nbd", "ext4", "xfs", "configfs",
           "libchacha20poly1305", "sch_tbf"]
# Programs of the host that a guest runs, each with its libraries.
PROGRAMS = ["nbd-client", "mkfs.ext4", "fsck.ext4", "mkfs.xfs", "xfs_repair", "fio", "fstrim",
            "sfdisk", "blkdiscard", "blockdev", "keyctl", "tc"]
BUSYBOX = "busybox"
DRIVER = Path("linux_driver")
# Of Linux's sources, what a guest copies to the disk.
TREE = ["drivers/net", "fs", "kernel", "mm"]


def run(*command, **options):
    """Runs a command, and ends the script with its words when it fails."""
    finished = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options)
    if finished.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{finished.stdout}{finished.stderr}")
    return finished.stdout


def newest(package, series):
    """The newest package of a kernel series, such as `linux-image` of 6.1, that apt knows."""
    pattern = rf"^{package}-{re.escape(series)}\.[0-9]+(-[0-9]+)?(\+deb[0-9]+)?-amd64$"
    names = run("apt-cache", "search", "--names-only", pattern).split("\n")
    names = [name.split()[0] for name in names if name]
    if not names:
        sys.exit(f"apt knows no {package} of Linux {series}: run apt-get update, on Debian 12 "
                 "with bookworm-security among its sources")
    return max(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def unpacked(package):
    """The directory with the contents of a package, which is downloaded where it is not there."""
    directory = CACHE / "packages" / package
    if directory.is_dir():
        return directory
    fresh = directory.with_name(f"{package}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    print(f"vm: downloading {package}", flush=True)
    run("apt-get", "-qq", "-o", "Acquire::Retries=3", "download", package, cwd=fresh)
    [archive] = fresh.glob("*.deb")
    run("dpkg-deb", "--extract", archive, fresh)
    archive.unlink()
    fresh.rename(directory)
    return directory


def depends(package):
    """The packages that a package depends on."""
    lines = run("apt-cache", "depends", "--important", package).splitlines()
    return [line.split()[-1] for line in lines if "Depends:" in line]


class Kernel:
    """A kernel of Debian's by its series."""

    # How many times longer than usual its guests may take; more than once, and their pass is short.
    SLOWNESS = 1
    MACHINE = "pc"

    def __init__(self, series):
        self.package = newest("linux-image", series)
        self.version = self.package.removeprefix("linux-image-")
        self.root = unpacked(self.package)
        self.image = self.root / "boot" / f"vmlinuz-{self.version}"
        self.modules = self.root / "lib" / "modules" / self.version
        if not (self.modules / "modules.dep").exists():
            run("depmod", "-b", self.root, self.version)

    def build_directory(self):
        """What a module for this kernel is built against: Debian's headers, whose absolute paths
        are made those of the cache."""
        own = unpacked(f"linux-headers-{self.version}")
        build = own / "usr" / "src" / f"linux-headers-{self.version}"
        marker = build / ".place"
        if marker.exists():
            if marker.read_text(encoding="utf-8") == str(build.resolve()):
                return build.resolve()
            # The checkout was moved, and the paths are of its old place.
            for each in (CACHE / "packages").glob("linux-headers-*"):
                shutil.rmtree(each)
            return self.build_directory()
        makefile = build / "Makefile"
        text = makefile.read_text(encoding="utf-8")
        for name in re.findall(r"/usr/src/(linux-headers-\S+-common)", text):
            common = unpacked(name) / "usr" / "src" / name
            text = text.replace(f"/usr/src/{name}", str(common.resolve()))
            tools = next(part for part in depends(f"linux-headers-{self.version}")
                         if part.startswith("linux-kbuild-"))
            # Both trees have links to the tools' place below /usr.
            place = unpacked(tools) / "usr" / "lib" / tools
            for directory in (build, common):
                for link in ("scripts", "tools"):
                    (directory / link).unlink(missing_ok=True)
                    (directory / link).symlink_to((place / link).resolve())
        makefile.write_text(text, encoding="utf-8")
        marker.write_text(str(build.resolve()), encoding="utf-8")
        return build.resolve()

    def module_files(self, names):
        """The files of these modules and of those that they need, in the order of loading."""
        files = []
        for name in names:
            lines = run("modprobe", "-d", self.root.resolve(), "-S", self.version, "--show-depends", name)
            for line in lines.splitlines():
                action, _, path = line.partition(" ")
                path = Path(path.split()[0])
                if action == "insmod" and path not in files:
                    files.append(path)
        return files


@functools.cache
def module(kernel):
    """The module atdd, built for this kernel."""
    copy = (CACHE / "driver" / kernel.version).resolve()
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(DRIVER, copy)
    # Without the kernel's own image there is no type information to be had.
    run("make", "-C", copy, f"KDIR={kernel.build_directory()}", "CONFIG_DEBUG_INFO_BTF_MODULES=")
    return copy / "atdd.ko"


def sources():
    """The archive of Linux's sources."""
    [archive] = (unpacked("linux-source-6.1") / "usr" / "src").glob("linux-source-*.tar.xz")
    return archive


def check_style():
    """The module's sources as the kernel's own checker sees them."""
    directory = CACHE / "checkpatch"
    if not (directory / "checkpatch.pl").exists():
        directory.mkdir(parents=True, exist_ok=True)
        name = sources().name.removesuffix(".tar.xz")
        files = [f"{name}/scripts/{each}"
                 for each in ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")]
        run("tar", "-x", "-f", sources(), "-C", directory, "--strip-components=2", *files)
    run("perl", directory / "checkpatch.pl", "--strict", "--no-tree", "--quiet", "--file",
        *sorted(DRIVER.glob("*.[ch]")))


def tree(short):
    """An archive of a part of Linux's sources, with the checksums of its files in it."""
    parts = TREE[1:] if short else TREE
    archive = (CACHE / ("tree-short.tar" if short else "tree.tar")).resolve()
    if archive.exists():
        return archive
    root = CACHE / "tree.part"
    shutil.rmtree(root, ignore_errors=True)
    (root / "tree").mkdir(parents=True)
    name = sources().name.removesuffix(".tar.xz")
    run("tar", "-x", "-f", sources(), "-C", root / "tree", "--strip-components=1",
        *(f"{name}/{part}" for part in parts))
    run("sh", "-c", "find . -type f -exec md5sum {} + >../MD5SUMS && mv ../MD5SUMS .",
        cwd=root / "tree")
    run("tar", "-c", "-f", f"{archive}.part", "-C", root, "tree")
    Path(f"{archive}.part").rename(archive)
    shutil.rmtree(root)
    return archive


def copy_program(name, root):
    """A program of the host and its libraries, at their places below `root`."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        sys.exit(f"there is no {name}: see the packages that .ci/run installs")
    wanted = [path, *re.findall(r"(/\S+) \(0x", run("ldd", path))]
    for each in wanted:
        target = root / each.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(each, target)
    target = root / "bin" / name
    if not target.exists():
        target.symlink_to(path)


def decompressed(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def base(kernel):
    """The initramfs of this kernel: programs and modules, without any script."""
    wanted = "\n".join([kernel.version, *MODULES, *PROGRAMS])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    archive = CACHE / f"base-{kernel.version}-{key}.cpio"
    if archive.exists():
        return archive
    root = CACHE / "root"
    shutil.rmtree(root, ignore_errors=True)
    for directory in ("bin", "dev", "proc", "sys", "mnt", "tmp", "etc", "modules"):
        (root / directory).mkdir(parents=True)
    # So that libraries are found at their places on any Debian.
    for directory in ("lib", "lib64", "sbin"):
        (root / "usr" / directory).mkdir(parents=True, exist_ok=True)
        (root / directory).symlink_to(f"usr/{directory}")
    shutil.copy(shutil.which(BUSYBOX), root / "bin" / "busybox")
    for name in PROGRAMS:
        copy_program(name, root)
    order = []
    for path in kernel.module_files(MODULES):
        name = path.name.removesuffix(".xz")
        (root / "modules" / name).write_bytes(decompressed(path))
        order.append(name)
    lines = "".join(f"{name}\n" for name in order)
    (root / "modules" / "order").write_text(lines, encoding="utf-8")
    pack(root, archive)
    shutil.rmtree(root)
    return archive


def pack(root, archive):
    """Everything below `root` as an archive that a kernel unpacks at boot; not compressed, since
    emulation is slow at that."""
    part = archive.with_name(archive.name + ".part")
    with open(part, "wb") as out:
        find = subprocess.Popen(["find", ".", "-print0"], cwd=root, stdout=subprocess.PIPE)
        cpio = subprocess.Popen(["cpio", "--null", "--create", "--format=newc", "--quiet",
                                 "--owner=0:0"], cwd=root, stdin=find.stdout, stdout=out)
        find.stdout.close()
        if [each.wait() for each in (find, cpio)] != [0, 0]:
            sys.exit("the initramfs could not be packed")
    part.rename(archive)
