"""Boot a stock Debian kernel under QEMU, without hardware virtualisation, on this machine's own root file system.

The root is shared read-only over 9p; /run, /tmp and /var/tmp are fresh in the guest. Whatever the guest program
needs from below those (a checkout, a virtual environment) is a share of its own, mounted at its own path.
"""

import gzip
import lzma
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

BOOT_MODULES = ("virtio_pci", "virtio_rng", "9p", "9pnet_virtio")  # what the root needs; the rest loads itself
MEMORY_MB = 768
COVERED = ("/run", "/tmp", "/var/tmp")
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "modprobe": "kmod",
}
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# Runs from the initial RAM disk. The real root's devices, processes and temporary places are mounted over it.
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module || echo "no module $module"; done
nine="-t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose"
$b mount $nine root /root
for place in /root/run /root/tmp /root/var/tmp; do $b mount -t tmpfs tmpfs $place; done
$b mount -t proc proc /root/proc; $b mount -t sysfs sysfs /root/sys; $b mount -t devtmpfs dev /root/dev
{shares}
exec $b switch_root /root /bin/sh -c {command}
"""
COMMAND = """export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
{program}
echo "guest exit $?"; echo o > /proc/sysrq-trigger; while :; do sleep 1; done"""


def missing_packages() -> list[str]:
    """The Debian packages that a boot needs and this machine lacks."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program, path=_SEARCH) is None]
    return packages if kernel_release() else [*packages, "linux-image-amd64"]


def kernel_release() -> str | None:
    """The newest installed kernel that has all modules (a cloud kernel has no 9p); None without one."""
    found = [
        directory.name
        for directory in Path("/lib/modules").glob("*")
        if Path(f"/boot/vmlinuz-{directory.name}").exists() and "cloud" not in directory.name
    ]
    return max(found, key=_version, default=None)


def _version(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", release)]


def boot(program: Sequence[str], *, needs: Sequence[Path], timeout_s: float) -> str:
    """Run a program as root in a fresh guest until it ends; the console's text. Raises TimeoutExpired.

    `needs` are directories that the program must find at their own paths.
    """
    release = kernel_release()
    assert release is not None
    shares = _shares(needs)
    with tempfile.TemporaryDirectory() as directory:
        ram_disk = Path(directory, "initrd.gz")
        ram_disk.write_bytes(gzip.compress(_archive(_ram_disk(release, shares, program)), compresslevel=1))
        argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
        argv += ["-m", str(MEMORY_MB), "-nographic", "-no-reboot", "-net", "none", "-device", "virtio-rng-pci"]
        argv += ["-kernel", f"/boot/vmlinuz-{release}", "-initrd", os.fspath(ram_disk)]
        argv += ["-append", "console=ttyS0 loglevel=1 panic=-1"]  # no warning cuts a line of the program in two
        for tag, path in {"root": Path("/"), **shares}.items():
            argv += [
                "-virtfs",
                f"local,path={path},mount_tag={tag},security_model=none,readonly=on,multidevs=remap",
            ]
        finished = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
        )
    return finished.stdout.decode(errors="replace").replace("\r\n", "\n")


def _shares(needs: Sequence[Path]) -> dict[str, Path]:
    """The directories that the guest's root does not show, by mount tag."""
    hidden = {path for path in needs if any(path.is_relative_to(place) for place in COVERED)}
    return {f"share{number}": path for number, path in enumerate(sorted(hidden))}


def _ram_disk(release: str, shares: dict[str, Path], program: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    """Path, mode and content of each file, directories before what is in them."""
    for name in ("bin", "modules", "proc", "sys", "dev", "root"):
        yield name, 0o040755, b""
    busybox = shutil.which("busybox", path=_SEARCH)
    assert busybox is not None
    yield "bin/busybox", 0o100755, Path(busybox).read_bytes()
    for number, module in enumerate(_modules(release)):
        yield f"modules/{number:03d}-{module.name.removesuffix('.xz')}", 0o100644, _module(module)
    mounts = [
        f"$b mkdir -p {shlex.quote(f'/root{path}')}; $b mount $nine {tag} {shlex.quote(f'/root{path}')}"
        for tag, path in shares.items()
    ]
    command = shlex.quote(COMMAND.format(program=shlex.join(program)))
    yield "init", 0o100755, INIT.format(shares="\n".join(mounts), command=command).encode()


def _modules(release: str) -> list[Path]:
    """The files of the boot modules and what they depend on, in the order of loading."""
    found: dict[Path, None] = {}
    for name in BOOT_MODULES:
        listed = subprocess.run(
            ["modprobe", "--set-version", release, "--show-depends", name],
            env={**os.environ, "PATH": _SEARCH},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for line in listed.stdout.splitlines():
            if line.startswith("insmod "):
                found[Path(line.split()[1])] = None
    return list(found)


def _module(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _archive(files: Iterator[tuple[str, int, bytes]]) -> bytes:
    """The kernel's archive format (cpio, newc)."""
    out = bytearray()
    for number, (name, mode, content) in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % value for value in numbers) + path
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)
