"""Running git so that nothing of the machine's or a user's configuration has a say in it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from clanmeshd import process
from clanmeshd.process import Finished

GIT_TIMEOUT_S: Final = 60.0  # any one local command; transfers have bounds of their own
LINE_CHARACTERS_MAX: Final = 300  # of a reason; the log has the rest
MEMORY_KIB_MAX: Final = 1 << 20  # of address space: a delta bomb ends here and not in the OOM killer
HASH_BYTES: Final = 20  # SHA-1; repositories in SHA-256 form are refused by name

# Odd but harmless traits of commits that real histories have; everything else that fsck knows is refused.
FSCK_TOLERATED: Final = ("zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate")

_BLOCK_BYTES: Final = 512  # the unit of `ulimit -f`
_BOUNDED: Final = 'ulimit -v "$1"; ulimit -f "$2"; in=$3; shift 3; exec "$@" <"$in"'
_NO_SPACE: Final = (b"No space left on device", b"Disk quota exceeded")

_CONFIG: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsync": "all",
    "core.bigFileThreshold": "16m",  # larger blobs are streamed, never held in memory
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "fetch.fsckObjects": "true",
    "transfer.fsckObjects": "true",
    "transfer.unpackLimit": "1",  # always a pack, which is published by two renames
    "transfer.hideRefs": "refs/rollout",
    "uploadpack.allowReachableSHA1InWant": "true",  # an older head than the one that is followed by now
    "submodule.recurse": "false",
    "advice.detachedHead": "false",
    "safe.directory": "*",  # the state directory is ours, whoever may own it on disk
    **{f"fetch.fsck.{name}": "ignore" for name in FSCK_TOLERATED},
}


def environment(*, protocols: str = "", config: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a git process. `protocols` are the transports it may use, colon-separated."""
    settings = {**_CONFIG, **(config or {})}
    numbered = {f"GIT_CONFIG_KEY_{at}": key for at, key in enumerate(settings)}
    numbered |= {f"GIT_CONFIG_VALUE_{at}": value for at, value in enumerate(settings.values())}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": str(len(settings)),
        **numbered,
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_NO_REPLACE_OBJECTS": "1",  # a commit is what its hash says
        "GIT_TERMINAL_PROMPT": "0",
    }


async def run_git(
    directory: Path,
    *words: str,
    stdin: bytes = b"",
    protocols: str = "",
    config: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    timeout_s: float = GIT_TIMEOUT_S,
    output_bytes_max: int = process.OUTPUT_BYTES_MAX,
    end_at_overflow: bool = False,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run one git command on a bare repository. `extra` adds variables to its environment. Raises OSError."""
    env = environment(protocols=protocols, config=config) | dict(extra or {})
    return await process.run(
        ["git", f"--git-dir={directory}", *words],
        stdin=stdin,
        env=env,
        timeout_s=timeout_s,
        output_bytes_max=output_bytes_max,
        end_at_overflow=end_at_overflow,
        pass_fds=pass_fds,
    )


def bounded(
    argv: Sequence[str | Path], *, file_bytes_max: int, stdin: Path = Path(os.devnull)
) -> list[str | Path]:
    """A program that reads what strangers send: it takes MEMORY_KIB_MAX at most, and writes no larger file."""
    blocks = file_bytes_max // _BLOCK_BYTES
    return ["/bin/sh", "-c", _BOUNDED, "bounded", str(MEMORY_KIB_MAX), str(blocks), stdin, *argv]


class GitFailed(OSError):
    """A git command that should have worked did not: a full disk, a damaged repository, a missing object."""

    def __init__(self, what: str, finished: Finished) -> None:
        why = "it took too long" if finished.timed_out else complaint(finished)
        super().__init__(f"git {what}: {why}")
        self.why = why


class DiskFull(GitFailed):
    """This device has no room: nobody else's fault."""


def check_space(what: str, finished: Finished) -> None:
    """Raise DiskFull when that is why a command failed."""
    if not finished.ok and any(words in finished.stderr for words in _NO_SPACE):
        raise DiskFull(what, finished)


def complaint(finished: Finished) -> str:
    """The first line of an error, without git's own prefix: the cause stands there, consequences follow."""
    for line in finished.stderr.decode(errors="replace").splitlines():
        for prefix in ("error: ", "fatal: "):
            if line.startswith(prefix):
                return one_line(line.removeprefix(prefix))
    return one_line(finished.complaint)


def one_line(text: str) -> str:
    """Text of others as it may stand in a log or on a terminal: bounded, and without control characters."""
    cleaned = "".join(character if character.isprintable() else "?" for character in text.strip())
    return cleaned[:LINE_CHARACTERS_MAX]
