"""Signers as OpenSSH knows them: `allowed_signers` lines, and what a signature says about its maker.

Nothing here decides that a signature holds: `ssh-keygen` does (see `commits`). What is read out of a signature
serves to tell a person which key it was.
"""

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.records import HEAD_NAMESPACE

PRINCIPAL: Final = "signer"  # one name for all: who of them it was is told by the key
COMMIT_NAMESPACE: Final = "git"

_KEY_TYPES: Final = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
_ARMOR: Final = re.compile(rb"\s*-----BEGIN SSH SIGNATURE-----\s(.*?)-----END SSH SIGNATURE-----\s*", re.DOTALL)
_MAGIC: Final = b"SSHSIG"
_ARMOR_COLUMNS: Final = 70
SIGNATURE_BINARY_BYTES_MAX: Final = 1900  # what a head record has room for; RSA-4096 makes 1100


@dataclass(frozen=True, slots=True)
class Signer:
    """One key that may sign, and how people call it."""

    key_type: str
    blob: bytes  # the public key in SSH wire form
    comment: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return fingerprint(self.blob)

    @property
    def name(self) -> str:
        """The comment, or else the fingerprint."""
        return self.comment or self.fingerprint

    @property
    def allowed_line(self) -> str:
        """A line of an `allowed_signers` file. No dates: git would check them against what a commit claims."""
        key = base64.b64encode(self.blob).decode()
        return f'{PRINCIPAL} namespaces="{COMMIT_NAMESPACE},{HEAD_NAMESPACE}" {self.key_type} {key}\n'


def read_signer_untrusted(line: str) -> Signer:
    """Read `TYPE KEY [COMMENT]`. Options in front (`cert-authority`, dates) are refused. Raises MalformedError."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or words[0] not in _KEY_TYPES:
        raise MalformedError("not a line of an SSH public key")
    try:
        blob = base64.b64decode(words[1], validate=True)
        key_type, _ = _take_string(blob)
    except (ValueError, struct.error) as error:  # binascii.Error is one; letters beyond ASCII make another
        raise MalformedError("the key is not in base64") from error
    if key_type != words[0].encode():
        raise MalformedError("the key is of another type than the line says")
    return Signer(words[0], blob, words[2].strip() if len(words) > 2 else "")


def read_signers(lines: tuple[str, ...]) -> tuple[Signer, ...]:
    """All lines that can be read, each key once, sorted by key."""
    found: dict[bytes, Signer] = {}
    for line in lines:
        try:
            signer = read_signer_untrusted(line)
        except MalformedError:
            continue  # an admin's record of a later version may allow more than we know
        found.setdefault(signer.blob, signer)
    return tuple(found[blob] for blob in sorted(found))


@dataclass(frozen=True, slots=True)
class Signature:
    """What an SSH signature claims."""

    blob: bytes  # the public key it names
    namespace: str
    binary: bytes

    @property
    def armored(self) -> bytes:
        """The text form that ssh-keygen reads."""
        text = base64.b64encode(self.binary).decode()
        rows = [text[at : at + _ARMOR_COLUMNS] for at in range(0, len(text), _ARMOR_COLUMNS)]
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *rows, "-----END SSH SIGNATURE-----", ""]).encode()


def read_signature_untrusted(data: bytes) -> Signature:
    """Read an SSH signature in its text or binary form. Raises MalformedError."""
    try:
        if match := _ARMOR.fullmatch(data):
            data = base64.b64decode(b"".join(match[1].split()), validate=True)
        if not data.startswith(_MAGIC) or len(data) > SIGNATURE_BINARY_BYTES_MAX:
            raise MalformedError("not an SSH signature")
        (version,) = struct.unpack_from(">I", data, len(_MAGIC))
        blob, rest = _take_string(data[len(_MAGIC) + 4 :])
        namespace, _ = _take_string(rest)
    except (binascii.Error, struct.error) as error:
        raise MalformedError("a damaged SSH signature") from error
    if version != 1:
        raise MalformedError(f"an SSH signature of version {version}")
    return Signature(blob, namespace.decode(errors="replace"), data)


def fingerprint(blob: bytes) -> str:
    """The SHA256 fingerprint of a public key in wire form."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _take_string(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from(">I", data)
    if 4 + length > len(data):
        raise struct.error("a length points behind the end")
    return data[4 : 4 + length], data[4 + length :]
