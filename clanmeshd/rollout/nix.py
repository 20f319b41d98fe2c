"""Running Nix so that a commit decides nothing about it, and what its failures mean.

Evaluating is executing. So a commit's flake cannot have builders run while it is evaluated (no import from
derivation), cannot change Nix's settings (no flake configuration is accepted, and there is no home that remembers
an accepted one), and fetches nothing that its lock file does not name by hash.
"""

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from clanmeshd import process
from clanmeshd.process import Finished
from clanmeshd.rollout.git import one_line

STORE_PATH: Final = re.compile(r"/\S+/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+")

_DAEMON: Final = Path("/nix/var/nix/daemon-socket/socket")
_PASSED_ON: Final = (
    *("PATH", "NIX_REMOTE", "NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR"),
    *("NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
_GIT: Final = {  # for inputs, and for the repository itself
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_ALLOW_PROTOCOL": "file:https:http:ssh:git",
    "GIT_TERMINAL_PROMPT": "0",
}

FEATURES: Final = ("--extra-experimental-features", "nix-command flakes")
EVALUATION: Final = (
    *FEATURES,
    *("--option", "accept-flake-config", "false"),
    *("--option", "allow-import-from-derivation", "false"),
    *("--option", "use-registries", "false"),
    *("--option", "eval-cache", "false"),  # a file for each commit, never removed, and none is evaluated twice
    *("--no-write-lock-file", "--no-update-lock-file"),
)


class Cause(Enum):
    """Why a run of Nix failed, as far as it matters for trying again."""

    REVISION = "the same again tomorrow"
    STALL = "it took too long, or was killed"
    WORLD = "a network, a disk, a store"


# `nix-store --realise` exits with 0x60 and bits on top: what a builder did, or with 1. A fetch that failed and a
# full disk are 1: Nix knows them to be passing. But everything is 1 where a daemon builds, as on NixOS: there the
# words count, and whether what failed is a fetch (its output is known by hash) the caller has to find out.
_BUILD_BITS: Final = 0x60
_TIMED_OUT_BIT: Final = 0x01
_FAILED: Final = re.compile(r"(?:builder for|Cannot build) '(\S+\.drv)'")
_DISK: Final = ("lack of free disk space", "No space left on device")
_LATE: Final = ("timed out after",)
_KILLED: Final = ("failed due to signal 9",)  # out of memory, most often
_NO_OUTPUT: Final = ("failed to produce output path", "is not allowed to refer to", "output check")
_MISMATCH: Final = ("hash mismatch",)

# An evaluation always exits with 1. What it says when a transfer failed, or the disk is full:
_PASSING: Final = (
    *("unable to download", "unable to connect", "cannot connect", "program 'git' failed", "could not resolve"),
    *("connection refused", "connection reset", "network is unreachable", "timed out", "temporary failure"),
    *("no space left", "cannot allocate memory", "database is locked", "is busy"),
)


def environment(home: Path) -> dict[str, str]:
    """The whole environment of a Nix process. `home` is where it keeps caches; nothing else may be there."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if "NIX_REMOTE" not in passed and _DAEMON.exists():
        passed["NIX_REMOTE"] = (
            "daemon"  # it builds in sandboxes of its own, which the daemon's unit could not make
        )
    return {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C", "NO_COLOR": "1", **_GIT, **passed}


async def run_nix(
    home: Path,
    *words: str,
    timeout_s: float,
    extra: Mapping[str, str] | None = None,
    output_bytes_max: int = process.OUTPUT_BYTES_MAX,
) -> Finished:
    """Run one of Nix's programs. `extra` adds to its environment. Raises OSError, as when there is no Nix."""
    env = environment(home) | dict(extra or {})
    return await process.run(words, env=env, timeout_s=timeout_s, output_bytes_max=output_bytes_max)


def cause_of_evaluation(finished: Finished) -> Cause:
    """Why an evaluation failed. Its exit code says nothing, so what it said has to."""
    if finished.timed_out or finished.returncode < 0:
        return Cause.STALL
    said = finished.stderr.decode(errors="replace").lower()
    return Cause.WORLD if _says(said, _PASSING) else Cause.REVISION


def failed_derivations(finished: Finished) -> list[str]:
    """The derivations whose builders failed."""
    return _FAILED.findall(finished.stderr.decode(errors="replace"))


def cause_of_build(finished: Finished, fetches: Collection[str] = ()) -> Cause:
    """Why building failed, by `nix-store --realise`'s exit code, or by its words where that says nothing.

    `fetches` are those of `failed_derivations` whose output is known by its hash.
    """
    code, said = finished.returncode, finished.stderr.decode(errors="replace")
    if finished.timed_out or code < 0:
        return Cause.STALL
    by_code = code & _BUILD_BITS == _BUILD_BITS
    if (by_code and code & _TIMED_OUT_BIT) or _says(said, (*_LATE, *_KILLED)):
        return Cause.STALL
    if _says(said, _DISK):
        return Cause.WORLD
    if by_code or _says(said, (*_NO_OUTPUT, *_MISMATCH)):
        return Cause.REVISION
    return Cause.WORLD if set(failed_derivations(finished)) <= set(fetches) else Cause.REVISION


def valid_paths(finished: Finished) -> set[str]:
    """The store paths that `nix path-info --json` found, in either form that it has had."""
    try:
        told = json.loads(finished.stdout)
    except ValueError:
        return set()
    if isinstance(told, list):
        return {str(info["path"]) for info in told if isinstance(info, dict) and "narHash" in info}
    return {str(path) for path, info in told.items() if info} if isinstance(told, dict) else set()


def planned_builds(finished: Finished) -> list[str]:
    """The derivations that `nix-store --realise --dry-run` would build, since no store that Nix knows has them."""
    lines = (line.strip() for line in finished.stderr.decode(errors="replace").splitlines())
    return [line for line in lines if line.endswith(".drv") and STORE_PATH.fullmatch(line)]


def _says(text: str, marks: Sequence[str]) -> bool:
    return any(mark in text for mark in marks)


def complaint(finished: Finished) -> str:
    """The last error that Nix names: those before it are where it came by."""
    lines = [line.strip() for line in finished.stderr.decode(errors="replace").splitlines()]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    named = [error for error in errors if error]
    return one_line(named[-1]) if named else one_line(finished.complaint)
