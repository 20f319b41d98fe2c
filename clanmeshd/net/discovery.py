"""What mDNS says about us and what we make of what it says: tags, and a bounded memory of who was heard.

A tag is `nonce (8) | HMAC-BLAKE2b(discovery secret, nonce) (16)` in hex. Whoever knows the secret sees that a
service belongs to the clan; everybody else sees a number that is new at every start. There is no clock in it.
A tag can be copied by a listener and announced again, so it proves nothing: it only suggests a few addresses.
Pure: no sockets and no clock.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from clanmesh_protocol.endpoints import Endpoint, is_candidate

NONCE_BYTES: Final = 8
MAC_BYTES: Final = 16
ENDPOINTS_PER_TAG_MAX: Final = 8  # in all: so a copied tag cannot send us to more places than an honest one
HEARD_MAX: Final = 256  # services of ours on one LAN; the one that was silent longest gives way
# A suggestion may come to nothing (a lost probe, a member we have yet to hear of): the service is suggested again.
REPEAT_FIRST_S: Final = 2.0
REPEAT_FACTOR: Final = 4.0
REPEAT_S_MAX: Final = 600.0
SILENT_S_MAX: Final = 9000.0  # two questions to all, an hour apart, stayed without its answer: it went unheard


def make_tag(secret: bytes, nonce: bytes) -> str:
    """Make the tag for a nonce of 8 bytes: 48 characters."""
    return (nonce + _mac(secret, nonce)).hex()


def nonce_of_tag_untrusted(secret: bytes, tag: bytes | None) -> bytes | None:
    """Give the nonce of a tag that was made with the secret; None for every other."""
    if tag is None or len(tag) != 2 * (NONCE_BYTES + MAC_BYTES):
        return None
    try:
        raw = bytes.fromhex(tag.decode("ascii"))
    except ValueError:
        return None
    nonce, mac = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
    return nonce if hmac.compare_digest(mac, _mac(secret, nonce)) else None


def _mac(secret: bytes, nonce: bytes) -> bytes:
    return hmac.new(secret, nonce, hashlib.blake2b).digest()[:MAC_BYTES]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A service of the clan as it was heard. `nonce` is None when the service said goodbye."""

    name: str
    nonce: bytes | None
    endpoints: tuple[Endpoint, ...]


@dataclass(slots=True)
class _Heard:
    name: str
    repeat_at_s: float
    heard_s: float = 0.0
    pause_s: float = REPEAT_FIRST_S
    endpoints: list[Endpoint] = field(default_factory=list)


class Sightings:
    """Remembers whom mDNS showed, and says which endpoints to suggest, and when again."""

    def __init__(self) -> None:
        self._heard: dict[bytes, _Heard] = {}  # nonce -> service, the one heard longest ago first

    def note(self, sighting: Sighting, now_s: float) -> list[Endpoint]:
        """Take a sighting in; the endpoints that are new."""
        if sighting.nonce is None:
            self._forget(sighting.name)
            return []
        heard = self._heard.pop(sighting.nonce, None) or _Heard(sighting.name, now_s + REPEAT_FIRST_S)
        heard.heard_s = now_s
        self._heard[sighting.nonce] = heard
        if len(self._heard) > HEARD_MAX:
            del self._heard[next(iter(self._heard))]
        room = ENDPOINTS_PER_TAG_MAX - len(heard.endpoints)
        fresh = [each for each in usable(sighting.endpoints) if each not in heard.endpoints][:room]
        heard.endpoints += fresh
        return fresh

    def due(self, now_s: float) -> list[Endpoint]:
        """List the endpoints whose time to be suggested again has come; who was silent for long is forgotten."""
        for nonce in [nonce for nonce, heard in self._heard.items() if heard.heard_s + SILENT_S_MAX < now_s]:
            del self._heard[nonce]
        ready: list[Endpoint] = []
        for heard in self._heard.values():
            if heard.repeat_at_s <= now_s:
                heard.pause_s = min(REPEAT_S_MAX, heard.pause_s * REPEAT_FACTOR)
                heard.repeat_at_s = now_s + heard.pause_s
                ready += heard.endpoints
        return ready

    @property
    def next_at_s(self) -> float:
        """When `due` will have something; infinite when nobody was heard."""
        return min((heard.repeat_at_s for heard in self._heard.values()), default=float("inf"))

    def _forget(self, name: str) -> None:
        for nonce in [nonce for nonce, heard in self._heard.items() if heard.name == name]:
            del self._heard[nonce]


def usable(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Keep the endpoints that a peer may be tried at, each once, in their order."""
    return [each for each in dict.fromkeys(endpoints) if each.port and is_candidate(each.ip)]
