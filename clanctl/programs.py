"""Other programs that a command runs: git and ssh-keygen. Blocking; their words are kept for the failure."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from clanctl.failures import Failure

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
    name = os.fspath(argv[0])
    try:
        return subprocess.run(
            [os.fspath(word) for word in argv],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=directory,
            env={**os.environ, **env} if env else None,
            check=False,
        )
    except FileNotFoundError as error:
        package = PACKAGES.get(name, name)
        raise Failure(name, "it is not installed", f"install it: `sudo apt install {package}`") from error
    except PermissionError as error:
        raise Failure(name, "it may not be run", "see its mode and its path") from error


def said(finished: "subprocess.CompletedProcess[bytes]") -> str:
    """The last line that a program wrote to stderr: mostly the reason."""
    lines = finished.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else f"it ended with status {finished.returncode} and said nothing"


def git(
    *words: str | Path,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    what: str = "",
) -> str:
    """Run git and give what it printed, without the last line break. Raises Failure with git's reason."""
    finished = run(["git", *words], directory=directory, env=env, stdin=stdin)
    if finished.returncode != 0:
        raise Failure(what or f"git {words[0]}", said(finished), "put that right and try again")
    return finished.stdout.decode("utf-8", "replace").removesuffix("\n")


def git_or_none(*words: str | Path, directory: Path | None = None) -> str | None:
    """Run git and give what it printed, or None when it says no (a setting or a ref is not there)."""
    finished = run(["git", *words], directory=directory)
    return finished.stdout.decode("utf-8", "replace").removesuffix("\n") if finished.returncode == 0 else None
