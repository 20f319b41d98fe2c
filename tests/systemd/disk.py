"""A disk of its own for a container: a power cut leaves on it what was synced, and it can be filled to the brim.

The file system's dirty pages are memory until it writes them to the image, as they are before a real disk. So the
image, copied before the file system is unmounted, is what a machine would find after the power came back.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

SIZE_MB: Final = 512  # an installation takes 80
# No commit of the journal by the clock: what nobody synced is lost, however slow the machine.
OPTIONS: Final = "loop,commit=600,data=ordered"


class Disk:
    """An image and where it is mounted."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image = image
        self.place = place

    def make(self) -> None:
        """Make an empty file system."""
        with self.image.open("wb") as file:
            file.truncate(SIZE_MB << 20)
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", self.image)

    def copy_of(self, other: "Disk") -> None:
        """Take over the content of a disk that is not mounted."""
        _copy(other.image, self.image)

    def mount(self) -> None:
        """Mount it; the kernel repairs what a power cut has left."""
        self.place.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", OPTIONS, self.image, self.place)

    def unmount(self) -> None:
        """Unmount it, with everything written."""
        if self.place.is_mount():
            # Any container may hold it in a name space of its own; then only this writes what there is.
            _run("sync", "--file-system", self.place)
            _run("umount", self.place)

    def cut(self) -> None:
        """Lose what was not synced. Nobody may use it any more. It is not mounted afterwards."""
        survived = self.image.with_suffix(".cut")
        _copy(self.image, survived)
        _run("umount", self.place)
        survived.replace(self.image)

    def fill(self) -> None:
        """Leave no free block."""
        ballast = self.place / "ballast"
        # It takes what is left block by block: `fallocate` of more than there is would take nothing.
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M"], capture_output=True, check=False)
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}.2", "bs=512"], capture_output=True, check=False)

    def relieve(self) -> None:
        """Take the ballast away."""
        for name in ("ballast", "ballast.2"):
            (self.place / name).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    _run("cp", "--sparse=always", "--reflink=auto", source, target)


def _run(*words: object) -> None:
    finished = subprocess.run([str(word) for word in words], capture_output=True, check=False)
    assert finished.returncode == 0, f"{words}: {finished.stderr.decode(errors='replace')}"


def lacking() -> str:
    """Why there can be no such disk here; empty when there can."""
    if not Path("/dev/loop-control").exists():
        return "power cuts need loop devices (/dev/loop-control)"
    missing = [name for name in ("mkfs.ext4", "mount", "losetup") if shutil.which(name) is None]
    return f"power cuts need {', '.join(missing)}" if missing else ""
