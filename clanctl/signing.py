"""SSH keys: the lines that name signers, the key a repository signs with, and signing with it.

Private keys are never read here. ssh-keygen signs, with the file, or with the agent that holds the key.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clanctl.failures import EXIT_USAGE, Failure
from clanctl.programs import git_or_none, run, said

LINE_BYTES_MAX: Final = 16_384  # of a file that should hold one public key
LITERAL_PREFIX: Final = "key::"  # git's own mark of a key that stands in user.signingkey itself
_SETTINGS: Final = r"^(gpg\.format|gpg\.ssh\.program|user\.signingkey)$"
OWN_KEY: Final = Path("clanmesh") / "signing_ed25519"  # under the XDG configuration directory


def signer_line(given: str, *, any_text: bool = False) -> str:
    """Read a public key's line from a file, from stdin (`-`), or take it as given. Raises Failure.

    With `any_text` a word that names neither is passed on: it may be the comment of a line.
    """
    if given == "-":
        return _only_line(sys.stdin.read(LINE_BYTES_MAX), "stdin")
    path = Path(given).expanduser()
    if " " not in given and path.is_file():
        return public_line(path)
    if " " not in given and not any_text:
        why = f"{given!r} is neither a file nor the line of a public key"
        raise Failure("the signer", why, "give a file such as ~/.ssh/id_ed25519.pub", status=EXIT_USAGE)
    return given.strip()


def public_line(path: Path) -> str:
    """Read the public line of a key file, given its public or its private half. Raises Failure."""
    public = path if path.name.endswith(".pub") else path.with_name(path.name + ".pub")
    try:
        text = (public if public.is_file() else path).read_text()[:LINE_BYTES_MAX]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise Failure(f"the key {path}", why, "give the public file of an SSH key") from error
    if "PRIVATE KEY" in text:
        remedy = f"make it: `ssh-keygen -y -f {path} > {public}`"
        raise Failure(f"the key {path}", "its public half is missing", remedy)
    return _only_line(text, os.fspath(path))


def _only_line(text: str, origin: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) != 1:
        why = f"{len(lines)} keys in it" if lines else "there is no key in it"
        raise Failure(f"the signer from {origin}", why, "give one public key at a time", status=EXIT_USAGE)
    return lines[0]


def key_of(line: str) -> tuple[str, ...]:
    """Type and key of a line: what makes two lines the same signer."""
    return tuple(line.split()[:2])


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What `user.signingkey` names: a file, or (`path` None) a key that the agent holds."""

    path: Path | None
    line: str  # the public key
    program: str = "ssh-keygen"  # or what gpg.ssh.program says


def configured_key(directory: Path | None = None) -> SigningKey | None:
    """The SSH key that git signs with here; None when it signs with none. Raises Failure for a broken setting."""
    settings = _settings(directory)
    text = settings.get("user.signingkey")
    if settings.get("gpg.format") != "ssh" or not text:
        return None
    program = settings.get("gpg.ssh.program") or "ssh-keygen"
    literal = text.removeprefix(LITERAL_PREFIX)
    if literal != text or (text.startswith("ssh-") and " " in text):
        return SigningKey(None, literal, program)
    path = Path(text) if directory is None else directory / text
    if not path.exists():
        remedy = "correct it: `git config user.signingkey FILE`"
        raise Failure("user.signingkey", f"there is no {path}", remedy)
    return SigningKey(path, public_line(path), program)


def _settings(directory: Path | None) -> dict[str, str]:
    """What git's configuration says of signing by SSH, paths in it expanded; the last word on each counts."""
    found = git_or_none("config", "--null", "--get-regexp", _SETTINGS, directory=directory) or ""
    pairs = (each.partition("\n") for each in found.split("\0") if each)
    return {name: os.path.expanduser(value) for name, _, value in pairs}


def find_or_make_key() -> tuple[SigningKey, bool]:
    """The person's own Ed25519 key, else one made for this; says whether it was made. Raises Failure."""
    users = Path("~/.ssh/id_ed25519").expanduser()
    if users.is_file() and users.with_suffix(".pub").is_file():
        return SigningKey(users.with_suffix(".pub"), public_line(users)), False
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
    own = configuration / OWN_KEY
    made = not own.is_file()
    if made:
        _make_key(own)
    public = own.with_name(own.name + ".pub")
    return SigningKey(public, public_line(public)), made


def _make_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    comment = f"clanmesh signing key of {socket.gethostname()}"
    finished = run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    if finished.returncode != 0:
        raise Failure("making a signing key", said(finished), f"see whether {path.parent} can be written")


def sign(key: SigningKey, namespace: str, statement: bytes) -> bytes:
    """Sign a text as `ssh-keygen -Y sign` does; gives the armoured signature. Raises Failure."""
    with _key_file(key) as path:
        agent = ["-U"] if key.path is None else []
        finished = run([key.program, "-Y", "sign", "-n", namespace, "-f", path, *agent], stdin=statement)
    if finished.returncode != 0 or not finished.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise Failure("signing the push", said(finished), _signing_remedy(key))
    return finished.stdout


def _signing_remedy(key: SigningKey) -> str:
    if key.path is None:
        return "add the key to the agent: `ssh-add FILE`" if os.environ.get("SSH_AUTH_SOCK") else _NO_AGENT
    return f"see that the private half of {key.path} is there, or in the agent (`ssh-add -L`)"


_NO_AGENT: Final = "no agent runs (SSH_AUTH_SOCK is not set): start one, or name a key file in user.signingkey"


@contextmanager
def _key_file(key: SigningKey) -> Iterator[Path]:
    """The file that ssh-keygen shall be given; a literal key is written into one for it."""
    if key.path is not None:
        yield key.path
        return
    with tempfile.TemporaryDirectory(prefix="clanmesh-key-") as directory:
        path = Path(directory) / "key.pub"
        path.write_text(key.line + "\n")
        yield path
