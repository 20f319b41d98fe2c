"""A daemon whose port has the receive buffer that Linux grants to whoever lacks CAP_NET_ADMIN.

It is `clanmeshd` in all else, with the same arguments. A machine's own limit may be another one, and belongs to
all that runs there; so it is the request that is made smaller, to what most systems allow.
"""

import socket
import sys
from typing import Final
from unittest.mock import patch

from clanmeshd.__main__ import main
from clanmeshd.net import udp

GRANTED_BYTES: Final = 212_992  # Linux's default of net.core.rmem_max, which is doubled for the kernel's own use


def _enlarge_little(opened: socket.socket, size: int, *buffers: tuple[int, int]) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, GRANTED_BYTES)
    granted = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if granted > 2 * GRANTED_BYTES:
        raise OSError(f"the buffer has {granted} bytes")


if __name__ == "__main__":
    with patch.object(udp, "enlarge", _enlarge_little):
        sys.exit(main())
