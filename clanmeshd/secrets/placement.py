"""The short process that puts opened secrets in place: one JSON request on its standard input, then it ends.

Request: `{"directory", "generation", "files": [{"name", "owner", "group", "mode", "value_b64"}], "keep": [name]}`.
It writes a whole new generation `secrets.d/<n>` under the directory, on a file system in memory, and switches
the symbolic link `secrets` to it in one rename: a reader sees the old set or the new one, never a mixture. A
file named in `keep`, or that cannot get its owner, is carried over from the old generation if it is there.
Exit status: 0 all is in place, 1 nothing was changed, 3 all but what standard error names, one line each.

It imports the standard library alone, and little of that: it starts in no time, and can keep rights that the
daemon gives up.
"""

import binascii
import fcntl
import grp
import json
import os
import pwd
import stat
import sys
from typing import Any, Final, NamedTuple

ROOT_NAME: Final = "secrets.d"
LINK_NAME: Final = "secrets"
READERS_GROUP: Final = "clanmesh"  # may list the names, if the system has it; each file has an owner of its own
DIRECTORY_MODE: Final = 0o751
REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024  # 1024 secrets of 32 kB in base64, and their frame
MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
MOUNT_SIZE: Final = "80m"  # two generations of the largest request
EXIT_NOTHING: Final = 1
EXIT_PARTLY: Final = 3

_MS_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_SET_ANEW: Final = "set the secret with another"


class PlacementFailure(Exception):
    """Why nothing was changed, in one line."""


class Placed(NamedTuple):
    """One file as it lies, or shall lie, in a generation. No dataclass: importing that takes 10 ms."""

    uid: int
    gid: int
    mode: int
    value: bytes

    def __repr__(self) -> str:
        return f"Placed({self.uid}, {self.gid}, {self.mode:o}, {len(self.value)} bytes)"


def main() -> int:
    """Serve the one request."""
    os.umask(0o077)
    try:
        data = sys.stdin.buffer.read(REQUEST_BYTES_MAX + 1)
        if len(data) > REQUEST_BYTES_MAX:
            raise PlacementFailure(f"the secrets are over {REQUEST_BYTES_MAX >> 20} MB together")
        complaints = place(json.loads(data))
    except PlacementFailure as failure:
        complaints, status = [str(failure)], EXIT_NOTHING
    except OSError as error:
        complaints, status = [f"placing the secrets: {error}"], EXIT_NOTHING
    else:
        status = EXIT_PARTLY if complaints else 0
    for line in reversed(complaints):  # the first one is last: that is the line which is shown
        sys.stderr.write(line + "\n")
    return status


def place(request: dict[str, Any]) -> list[str]:
    """Make the files of the request those under `secrets`. Gives one line for each that is not in place.

    Raises PlacementFailure or OSError with the old generation still in place.
    """
    directory = str(request["directory"])
    root = os.path.join(directory, ROOT_NAME)
    _prepare(directory, root)
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a restarted daemon's process and its forerunner's take turns
        current = _current_generation(directory)
        _prune(root, keep=current)
        old = _read_generation(os.path.join(root, current)) if current is not None else {}
        wanted, complaints = _resolve(request, old)
        if current is None or wanted != old:
            number = max(int(request["generation"]), int(current or "0") + 1)
            _write_generation(root, str(number), wanted)
            _switch(directory, str(number))
            _prune(root, keep=str(number))
    finally:
        os.close(lock)
    return complaints


# --- what shall be there -------------------------------------------------------------------------------


def _resolve(request: dict[str, Any], old: dict[str, Placed]) -> tuple[dict[str, Placed], list[str]]:
    wanted: dict[str, Placed] = {}
    complaints: list[str] = []
    for name in map(str, request["keep"]):
        if name in old:
            wanted[name] = old[name]
    for item in request["files"]:
        name = _checked_name(str(item["name"]))
        try:
            wanted[name] = _resolve_file(item)
        except LookupError as error:
            complaints.append(f"secret {name}: {error.args[0]}")
            if name in old:
                wanted[name] = old[name]
    return wanted, complaints


def _resolve_file(item: dict[str, Any]) -> Placed:
    """Raises LookupError with a sentence when the file cannot get its owner or group here."""
    owner, group = str(item["owner"]), str(item["group"])
    try:
        uid = pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise LookupError(f"this machine has no user {owner}; make one, or {_SET_ANEW} --owner") from None
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(f"this machine has no group {group}; make one, or {_SET_ANEW} --group") from None
    if not _may_give(uid, gid):
        raise LookupError(f"clanmeshd may not give it to {owner}:{group}; it runs without the rights of root")
    return Placed(uid, gid, int(item["mode"]) & 0o777, binascii.a2b_base64(item["value_b64"]))


def _may_give(uid: int, gid: int) -> bool:
    if os.geteuid() != 0:
        return uid == os.geteuid() and gid in {os.getegid(), *os.getgroups()}
    return _is_mapped(uid, "uid_map") and _is_mapped(gid, "gid_map")


def _is_mapped(number: int, table: str) -> bool:
    """Whether an account exists in our user namespace: its root can give nothing to others."""
    with open(f"/proc/self/{table}", encoding="ascii") as lines:
        ranges = [tuple(map(int, line.split())) for line in lines]
    return any(first <= number < first + count for first, _, count in ranges)


def _checked_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise PlacementFailure(f"secret {name!r}: it cannot be a file name")
    return name


# --- generations ---------------------------------------------------------------------------------------


def _current_generation(directory: str) -> str | None:
    """The number that the link leads to; None when there is no link, or one that leads nowhere."""
    link = os.path.join(directory, LINK_NAME)
    if not os.path.lexists(link):
        return None
    if not os.path.islink(link):
        raise PlacementFailure(f"{link}: something that is not ours is in the way; move it elsewhere")
    number = os.path.basename(os.readlink(link))
    return number if number.isdecimal() and os.path.isdir(os.path.join(directory, ROOT_NAME, number)) else None


def _read_generation(path: str) -> dict[str, Placed]:
    found: dict[str, Placed] = {}
    for entry in os.scandir(path):
        about = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(about.st_mode):
            with open(entry.path, "rb") as file:
                found[entry.name] = Placed(about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode), file.read())
    return found


def _write_generation(root: str, number: str, files: dict[str, Placed]) -> None:
    path = os.path.join(root, number)
    os.mkdir(path, 0o700)  # nobody looks in before every file is as it shall be
    try:
        for name, placed in files.items():
            _write_file(os.path.join(path, name), placed)
        _open_to_readers(path)
    except BaseException:
        _remove(path)
        raise


def _write_file(path: str, placed: Placed) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(placed.value)
        file.flush()
        os.fchown(descriptor, placed.uid, placed.gid)
        os.fchmod(descriptor, placed.mode)  # last: changing the owner may take bits away


def _switch(directory: str, number: str) -> None:
    temporary = os.path.join(directory, f".{LINK_NAME}.new")
    if os.path.lexists(temporary):
        os.unlink(temporary)  # of a run that was killed right here
    os.symlink(os.path.join(ROOT_NAME, number), temporary)
    os.rename(temporary, os.path.join(directory, LINK_NAME))


def _prune(root: str, keep: str | None) -> None:
    """Remove all generations but one: the old ones, and what a killed run left half done."""
    for entry in list(os.scandir(root)):
        if entry.name != keep:
            _remove(entry.path)


def _remove(path: str) -> None:
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    for entry in list(os.scandir(path)):
        _remove(entry.path)
    os.rmdir(path)


# --- the directory -------------------------------------------------------------------------------------


def _prepare(directory: str, root: str) -> None:
    """Make the directory of generations, in memory and with its mode. Raises PlacementFailure."""
    if not os.path.isdir(directory):
        raise PlacementFailure(f"{directory}: there is no such directory")
    if os.path.islink(root):
        raise PlacementFailure(f"{root}: a link is in the way; move it elsewhere")
    os.makedirs(root, mode=0o700, exist_ok=True)
    kind, options = _file_system(root)
    if kind not in MEMORY_FILE_SYSTEMS:
        _mount(
            root, f"{directory}: it is on {kind or 'an unknown file system'}, and secrets must never reach a disk"
        )
    elif kind == "tmpfs" and "noswap" not in options and _may_swap() and _is_host():
        _mount_unswapped(directory, root)
    _open_to_readers(root)


def _mount_unswapped(directory: str, root: str) -> None:
    """Better what is there, if it can be: only before the first generation, which else would lie below."""
    if not os.path.lexists(os.path.join(directory, LINK_NAME)):
        _try_mount(root)


def _open_to_readers(path: str) -> None:
    if os.geteuid() == 0:
        try:
            os.chown(path, 0, grp.getgrnam(READERS_GROUP).gr_gid)
        except KeyError:
            os.chown(path, 0, 0)
    os.chmod(path, DIRECTORY_MODE)


def _file_system(path: str) -> tuple[str, list[str]]:
    """The type of the file system that a directory is on, and its own options; ("", []) when it can't be told."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            about, _, kind = line.partition(" - ")
            if about.split(" ")[2] == wanted:
                words = kind.split()
                return words[0], words[2].split(",") if len(words) > 2 else []
    return "", []


def _may_swap() -> bool:
    try:
        with open("/proc/swaps", encoding="utf-8") as swaps:
            return len(swaps.readlines()) > 1  # one line is the heading
    except OSError:
        return False


def _is_host() -> bool:
    """A mount made here is seen by the services that read the secrets, for they share our mount namespace."""
    try:
        return os.readlink("/proc/self/ns/mnt") == os.readlink("/proc/1/ns/mnt")
    except OSError:
        return False


def _mount(path: str, why: str) -> None:
    """Mount a tmpfs, or say why it must be. Raises PlacementFailure."""
    error = _try_mount(path)
    if error is not None:
        raise PlacementFailure(f"{why}; mounting a tmpfs there: {error}; use a runtime directory below /run")


def _try_mount(path: str) -> str | None:
    """Mount a tmpfs, without swap where the kernel knows that (6.4). Gives what is wrong, or None."""
    import ctypes  # 10 ms that almost no run needs

    libc = ctypes.CDLL(None, use_errno=True)
    for options in (f"mode=0700,size={MOUNT_SIZE},noswap", f"mode=0700,size={MOUNT_SIZE}"):
        flags = ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC)
        if libc.mount(b"clanmesh", os.fsencode(path), b"tmpfs", flags, options.encode()) == 0:
            return None
    return os.strerror(ctypes.get_errno())


if __name__ == "__main__":
    sys.exit(main())
