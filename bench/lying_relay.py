"""A daemon whose relay can be made to lie: what a member could run that others rely on.

It is `clanmeshd` in all else, with the same arguments. It agrees to relay and does so, until a file on its machine
says what to do in its place: `drop` all, `drop-one-way` what one of the two sends, or `garble` what is within each
packet, which then has the size and the address of the real one. Its answers on streams stay those of a good relay.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.__main__ import main
from clanmeshd.overlay.relay_pair import Address, Pair, Sent

ORDER: Final = Path("/run/lie")  # of each machine its own
DROP, ONE_WAY, GARBLE = "drop", "drop-one-way", "garble"
_HEADER_BYTES: Final = 16  # of WireGuard's data: kind, receiver, counter

_route, _receive = Pair.route, Pair.receive


def _order() -> str:
    try:
        return ORDER.read_text()
    except FileNotFoundError:
        return ""


def _is_dropped(pair: Pair, source: Address, order: str) -> bool:
    return order == DROP or (order == ONE_WAY and source == pair.sides[0].address)


def _route_or_not(pair: Pair, packet: memoryview, size: int, source: Address) -> Address | None:
    """As a good one does, or not."""
    order = _order()
    if _is_dropped(pair, source, order):
        return None  # which has `receive` asked
    if order == GARBLE and size > _HEADER_BYTES:
        packet[_HEADER_BYTES:size] = os.urandom(size - _HEADER_BYTES)
    return _route(pair, packet, size, source)


def _receive_or_not(pair: Pair, packet: bytes, source: Address, seen: Endpoint | None, now_s: float) -> list[Sent]:
    """As a good one does, or not; it answers Binds."""
    order, sent = _order(), _receive(pair, packet, source, seen, now_s)
    if _is_dropped(pair, source, order):
        return [each for each in sent if each[1] == source]
    return [_garbled(each, source) if order == GARBLE else each for each in sent]


def _garbled(sent: Sent, source: Address) -> Sent:
    packet, to = sent
    lead = packet[:_HEADER_BYTES]
    return sent if to == source else (lead + os.urandom(len(packet) - len(lead)), to)


def run() -> Any:
    """Be that daemon."""
    with patch.object(Pair, "route", _route_or_not), patch.object(Pair, "receive", _receive_or_not):
        return main()


if __name__ == "__main__":
    sys.exit(run())
