"""Other programs that a command runs: git and ssh-keygen. Blocking; their words are kept for the failure."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from clanctl.failures import Failure

_MARKS: Final = ("! [", "fatal: ", "error: ")  # of git's: a branch that was refused says more than what follows
PACKAGES: Final = {"git": "git", "ssh-keygen": "openssh-client"}  # where Debian has them


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes | None = None,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a program to its end, whatever its status. Raises Failure when it is not installed.

    Without `stdin` it reads nothing; a passphrase is asked for on the terminal itself.
    """
    with start(argv, stdin=subprocess.PIPE, directory=directory, env=env) as running:
        return ended(running, stdin if stdin is not None else b"")


def start(
    argv: Sequence[str | Path],
    *,
    stdin: int = subprocess.DEVNULL,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Let a program run beside this one. Raises Failure when it is not installed. `with` waits for its end."""
    name = os.fspath(argv[0])
    try:
        return subprocess.Popen(
            [os.fspath(word) for word in argv],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, **env} if env else None,
        )
    except FileNotFoundError as error:
        package = PACKAGES.get(name, name)
        raise Failure(name, "it is not installed", f"install it: `sudo apt install {package}`") from error
    except PermissionError as error:
        raise Failure(name, "it may not be run", "see its mode and its path") from error


def ended(running: "subprocess.Popen[bytes]", stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Wait for what a program says, whatever its status."""
    stdout, stderr = running.communicate(stdin)
    return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)


def said(finished: "subprocess.CompletedProcess[bytes]") -> str:
    """The line of what a program wrote to stderr that has the reason: as git marks it, or else the last."""
    lines = [line.strip() for line in finished.stderr.decode("utf-8", "replace").strip().splitlines()]
    if not lines:
        return f"it ended with status {finished.returncode} and said nothing"
    marked = (line for mark in _MARKS for line in lines if line.startswith(mark))
    line = next(marked, lines[-1])
    return line.removeprefix("fatal: ").removeprefix("error: ").removeprefix("! ")


def git(
    *words: str | Path,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    what: str = "",
) -> str:
    """Run git and give what it printed, without the last line break. Raises Failure with git's reason."""
    return output(run(["git", *words], directory=directory, env=env, stdin=stdin), what or f"git {words[0]}")


def output(finished: "subprocess.CompletedProcess[bytes]", what: str) -> str:
    """What a program printed, without the last line break. Raises Failure with its reason if it failed."""
    if finished.returncode != 0:
        raise Failure(what, said(finished), "put that right and try again")
    return finished.stdout.decode("utf-8", "replace").removesuffix("\n")


def git_or_none(*words: str | Path, directory: Path | None = None) -> str | None:
    """Run git and give what it printed, or None when it says no (a setting or a ref is not there)."""
    finished = run(["git", *words], directory=directory)
    return finished.stdout.decode("utf-8", "replace").removesuffix("\n") if finished.returncode == 0 else None
