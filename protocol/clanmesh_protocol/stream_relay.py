"""Stream frames of relays (purpose `relay`): a port for a pair of members is asked for, given, given back.

Their order is the README's; `streams` knows them with all others.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from clanmesh_protocol.encoding import Fields
from clanmesh_protocol.endpoints import Endpoint, endpoint_from_fields_untrusted
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import ENDPOINTS_MAX, KEY_BYTES, RELAY_LIFETIME_S_MAX, RELAY_TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class WantRelay:
    """The client asks the server to relay between itself and another member; again, to go on."""

    TYPE: ClassVar[int] = 16
    peer: NodeId
    carried: bool  # what WireGuard sends and gets at the client shall travel on this stream

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.peer, self.carried]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        return cls(NodeId(fields.blob("peer", exactly=KEY_BYTES)), fields.boolean("carried"))


@dataclass(frozen=True, slots=True)
class Relayed:
    """The server relays for the pair from now on: where, for how long, and the client's token for a Bind."""

    TYPE: ClassVar[int] = 17
    endpoints: tuple[Endpoint, ...]  # of the pair's UDP port, best first; none if it is reached by streams alone
    lifetime_s: int  # until the client has to ask again
    token: bytes  # 32; the one of the newest answer to this client counts

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [[list(each) for each in self.endpoints], self.lifetime_s, self.token]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        endpoints = tuple(map(endpoint_from_fields_untrusted, fields.rows("endpoints", ENDPOINTS_MAX)))
        lifetime_s = fields.uint("lifetime", RELAY_LIFETIME_S_MAX)
        return cls(endpoints, lifetime_s, fields.blob("token", exactly=RELAY_TOKEN_BYTES))


@dataclass(frozen=True, slots=True)
class Release:
    """The client needs the pair no more. What the other one has asked for stays."""

    TYPE: ClassVar[int] = 18
    peer: NodeId

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.peer]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        return cls(NodeId(fields.blob("peer", exactly=KEY_BYTES)))
