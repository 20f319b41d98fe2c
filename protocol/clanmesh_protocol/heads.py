"""The text that a signer signs to move a ref. Apart from all else: a push needs nothing more of this package."""

from typing import Final

HEAD_NAMESPACE: Final = "head@clanmesh"
OFFERED: Final = "refs/clanmesh/head"  # at an upstream: the signed statement of a head, as a text


def head_statement(clan: bytes, ref: str, old: bytes | None, new: bytes) -> bytes:
    """The text that `ssh-keygen -Y sign -n head@clanmesh` signs when a ref is moved."""
    before = old.hex() if old is not None else "0"
    return f"clanmesh head 1\nclan {clan.hex()}\nref {ref}\nold {before}\nnew {new.hex()}\n".encode()
