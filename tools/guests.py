#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes what the guests run, in build/guest, from Debian's unmodified packages (fetched by tools/ext.sh, not installed):

    vmlinuz     the kernel of linux-image-cloud-amd64, whatever version the archive offers
    initrd.img  busybox and the modules needed to mount a virtio disk (an uncompressed newc archive)
    root.img    an ext4 root file system: busybox, the scripts of tools/guests/root, modules for virtual machines
    small.img   the same without modules and journal, in a few MiB: for a RAM disk, where the machine has no disk

Nothing here needs root rights: mke2fs fills the file system, the archive is written by this program.
"""

import argparse
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
EXT = Path(os.environ.get("BASALT_EXT", TOP / "build/ext"))
OUT = TOP / "build/guest"
SCRIPTS = TOP / "tools/guests"
ROOT_MIB = 128
SMALL_MIB = 4

# What the initial RAM disk loads before it mounts the root file system; dependencies are found by modprobe.
EARLY_MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_rng"]
# What the root file system carries besides: drivers for the devices that Basalt shows a guest or passes through to it.
MODULES = EARLY_MODULES + """virtio_balloon virtio_net virtio_mmio virtio_scsi vmw_vsock_virtio_transport vsock
    evdev button crc32c-intel sd_mod ahci nvme e1000 e1000e igb igbvf ixgbevf tun vfat nls_cp437 nls_ascii isofs overlay
    loop squashfs 8250_pci rtc-cmos pcspkr msr cpuid""".split()
FOLDERS = "bin sbin dev proc sys run tmp root mnt var/lib var/log etc lib".split()
# File times are fixed, so that the same input makes the same output.
TIME = 1700000000


def fetch(package):
    """Downloads a package unless that was done before; returns the path of the .deb."""
    done = subprocess.run([TOP / "tools/ext.sh", "deb", package], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


def unpack(deb, name):
    """Unpacks a .deb into build/ext/NAME once."""
    target = EXT / name
    stamp = target / ".from"
    if not stamp.exists() or stamp.read_text() != deb.name:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", deb, target], check=True)
        stamp.write_text(deb.name)
    return target


def kernel_tree():
    """The unpacked kernel package that linux-image-cloud-amd64 stands for; returns (folder, version)."""
    depends = subprocess.run(["dpkg-deb", "-f", fetch("linux-image-cloud-amd64"), "Depends"], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    package = next(word for word in depends.replace(",", " ").split() if word.startswith("linux-image-"))
    tree = unpack(fetch(package), "linux")
    version = package.removeprefix("linux-image-")
    modules = tree / "lib/modules" / version
    if not (modules / "modules.dep.bin").exists():
        subprocess.run(["/sbin/depmod", "-b", tree, version], check=True)
    return tree, version


def busybox():
    tree = unpack(fetch("busybox-static"), "busybox")
    return tree / "bin/busybox"


def module_paths(tree, version, names):
    """The files of the named modules with all they depend on, in the order in which they must be loaded. Modules that
    this kernel has built in, or does not have, are left out."""
    paths = []
    for name in names:
        done = subprocess.run(["/sbin/modprobe", "-d", tree, "-S", version, "--show-depends", name],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in done.stdout.splitlines():
            words = line.split()
            if words[0] == "insmod":
                path = Path("/" + os.path.relpath(words[1], tree))
                if path not in paths:
                    paths.append(path)
    return paths


class Cpio:
    """Writes a newc archive; everything in it belongs to root."""

    def __init__(self, path):
        self.file = open(path, "wb")
        self.inode = 0

    def entry(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, TIME, len(data), 0, 0, *device, len(encoded), 0]
        self.file.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self.file.write(b"\0" * (-(110 + len(encoded)) % 4) + data + b"\0" * (-len(data) % 4))

    def close(self):
        self.entry("TRAILER!!!", 0)
        self.file.write(b"\0" * (-self.file.tell() % 512))
        self.file.close()


def build_initrd(out, tree, version):
    archive = Cpio(out)
    for folder in FOLDERS + ["modules", "etc/basalt", "etc/acpi", "etc/acpi/PWRF", "var", "newroot"]:
        archive.entry(folder, stat.S_IFDIR | 0o755)
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.entry("init", stat.S_IFREG | 0o755, (SCRIPTS / "init").read_bytes())
    archive.entry("bin/busybox", stat.S_IFREG | 0o755, busybox().read_bytes())
    archive.entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    for path in sorted((SCRIPTS / "root").rglob("*")):
        if path.is_file():
            archive.entry(str(path.relative_to(SCRIPTS / "root")), stat.S_IFREG | (path.stat().st_mode & 0o111) | 0o644,
                          path.read_bytes())
    paths = module_paths(tree, version, EARLY_MODULES)
    for path in paths:
        archive.entry("modules/" + path.name, stat.S_IFREG | 0o644, (tree / path.relative_to("/")).read_bytes())
    archive.entry("modules.order", stat.S_IFREG | 0o644, "".join(p.name + "\n" for p in paths).encode())
    archive.close()


def build_tree(root, tree, version, modules):
    """Fills a folder with the root file system."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copytree(SCRIPTS / "root", root, dirs_exist_ok=True)
    shutil.copy(busybox(), root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in subprocess.run([busybox(), "--list-full"], check=True, stdout=subprocess.PIPE, text=True).stdout.split():
        name = Path(applet).name
        link = root / ("sbin" if "sbin" in applet else "bin") / name
        if name != "busybox":
            link.symlink_to("/bin/busybox")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/mtab").symlink_to("/proc/mounts")
    if modules:
        copy_modules(root, tree, version)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (TIME, TIME), follow_symlinks=False)


def copy_modules(root, tree, version):
    target = root / "lib/modules" / version
    for path in module_paths(tree, version, MODULES):
        (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / path.relative_to("/"), root / path.relative_to("/"))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(tree / "lib/modules" / version / name, target / name)
    subprocess.run(["/sbin/depmod", "-b", root, version], check=True)


def build_root(out, tree, version, mib, modules, options):
    folder = OUT / out.stem
    shutil.rmtree(folder, ignore_errors=True)
    build_tree(folder, tree, version, modules)
    out.unlink(missing_ok=True)
    with open(out, "wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "root", *options,
                    "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-d", folder, out], check=True)
    if os.geteuid() != 0:  # the files were made by an ordinary user: give them to root inside the image
        names = [path.relative_to(folder) for path in folder.rglob("*")]
        commands = "".join(f'sif "/{name}" uid 0\nsif "/{name}" gid 0\n' for name in names)
        subprocess.run(["/sbin/debugfs", "-w", "-f", "-", out], input=commands, text=True, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["all", "kernel", "initrd", "root"], nargs="?", default="all")
    what = parser.parse_args().what
    OUT.mkdir(parents=True, exist_ok=True)
    tree, version = kernel_tree()
    if what in ("all", "kernel"):
        shutil.copy(tree / "boot" / f"vmlinuz-{version}", OUT / "vmlinuz")
        (OUT / "version").write_text(version + "\n")
    if what in ("all", "initrd"):
        build_initrd(OUT / "initrd.img", tree, version)
    if what in ("all", "root"):
        build_root(OUT / "root.img", tree, version, ROOT_MIB, True, ["-J", "size=4"])
        build_root(OUT / "small.img", tree, version, SMALL_MIB, False, ["-O", "^has_journal", "-N", "512"])
    print(f"guests: Linux {version}, initial RAM disk of {(OUT / 'initrd.img').stat().st_size >> 10} KiB, "
          f"root file system in build/guest", file=sys.stderr)


if __name__ == "__main__":
    main()
