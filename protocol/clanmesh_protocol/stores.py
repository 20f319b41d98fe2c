"""What comes first on a stream of purpose `store`: the line with the key that signs its store paths."""

import base64
import binascii
import re
from typing import Final

from clanmesh_protocol.errors import LimitError, MalformedError
from clanmesh_protocol.limits import KEY_BYTES, STORE_LINE_BYTES_MAX

_LINE: Final = re.compile(rb"([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]{43}=)\n")


def read_store_line_untrusted(line: bytes) -> tuple[str, bytes]:
    """Read the line, with its line feed: the key as Nix writes it, and its bytes. Raises ProtocolError."""
    if len(line) > STORE_LINE_BYTES_MAX:
        raise LimitError(f"a line of over {STORE_LINE_BYTES_MAX} bytes where a store's key stands")
    found = _LINE.fullmatch(line)
    if found is None:
        raise MalformedError("a store's key is name:base64")
    try:
        key = base64.b64decode(found[2], validate=True)
    except binascii.Error as error:
        raise MalformedError("a store's key is not base64") from error
    if len(key) != KEY_BYTES or base64.b64encode(key) != found[2]:
        raise MalformedError("a store's key is not 32 bytes")
    return line[:-1].decode(), key
