"""Signing records, and the only way to believe one.

`Verified[T]` cannot be made outside this module. Whatever takes a `Verified` argument therefore never sees a
byte that no member's key stands for; whether the author *may* say it is the ledger's question.
"""

from typing import Any, Final, Generic, Never, TypeVar, final

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.errors import MalformedError, SignatureError
from clanmesh_protocol.keys import CLAN_ID_NONE, ClanId, NodeId, RecordId, sign_detached, signing_public
from clanmesh_protocol.keys import verify_detached_untrusted as verify_detached
from clanmesh_protocol.limits import RECORD_HEADER_BYTES, RECORD_VERSION
from clanmesh_protocol.records import (
    AuthorityOp,
    Content,
    Equivocation,
    Genesis,
    Kind,
    Publishable,
    Record,
    clan_of_genesis,
    decode_content_untrusted,
    encode_body,
    parse_untrusted,
    signature_of,
    signing_input,
)

T_co = TypeVar("T_co", covariant=True)

_WITNESS: Final = object()


@final
class Verified(Generic[T_co]):
    """A value whose signature was checked, with its meaning. Made by `verify_untrusted` alone."""

    __slots__ = ("_content", "_value")

    def __init__(self, value: T_co, content: Content, witness: object) -> None:
        if witness is not _WITNESS:
            raise TypeError("only signing.verify_untrusted makes a Verified")
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_content", content)

    @property
    def value(self) -> T_co:
        """What was verified."""
        return self._value  # type: ignore[no-any-return,attr-defined]

    @property
    def content(self) -> Content:
        """The decoded payload."""
        return self._content  # type: ignore[no-any-return,attr-defined]

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError("a Verified does not change")

    def __reduce__(self) -> Never:
        raise TypeError("a Verified is not copied through pickle: verify again")

    def __init_subclass__(cls, **arguments: Any) -> Never:
        raise TypeError("Verified has no subclasses")

    def __repr__(self) -> str:
        return f"Verified({self.value!r})"


def verify_untrusted(record: Record, clan: ClanId) -> Verified[Record]:
    """Check a parsed record's signature and decode its payload. 45 microseconds; do the cheap checks first.

    Raises SignatureError, MalformedError or LimitError.
    """
    check_signature_untrusted(record, clan)
    content = decode_content_untrusted(record)
    if isinstance(content, Equivocation):
        check_equivocation_untrusted(content, clan)
    return Verified(record, content, _WITNESS)


def check_signature_untrusted(record: Record, clan: ClanId) -> None:
    """Check that the author's key stands for these bytes in this clan; a genesis, that it founds this clan.

    Proves nothing to the type checker: only `verify_untrusted` makes a Verified. Raises SignatureError.
    """
    scope = CLAN_ID_NONE if record.is_genesis else clan
    body = record.data[RECORD_HEADER_BYTES:]
    verify_detached(record.author, signing_input(scope, record.author, body), signature_of(record))
    if record.is_genesis and clan_of_genesis(record) != clan:
        raise SignatureError("the genesis of another clan")


def check_equivocation_untrusted(proof: Equivocation, clan: ClanId) -> None:
    """Check that a proof of equivocation is one. Two signatures, 90 microseconds. Raises ProtocolError."""
    lower, higher = parse_untrusted(proof.lower, clan), parse_untrusted(proof.higher, clan)
    if lower.register != higher.register or lower.seq != higher.seq:
        raise MalformedError("equivocation: the records are not of one register and seq")
    if lower.id >= higher.id:
        raise MalformedError("equivocation: the records are one, or the wrong way round")
    for record in (lower, higher):
        check_signature_untrusted(record, clan)


def read_untrusted(data: bytes, clan: ClanId) -> Verified[Record]:
    """Parse and verify in one step. Raises ProtocolError."""
    return verify_untrusted(parse_untrusted(data, clan), clan)


def sign_record(
    seed: bytes,
    clan: ClanId,
    content: Publishable | AuthorityOp | None,
    *,
    kind: int,
    slot: str,
    seq: int,
    ttl_s: int = 0,
    prev: RecordId | None = None,
) -> bytes:
    """Make a record's bytes. `content` None makes a tombstone; a Genesis is signed outside of any clan."""
    payload = encode(content.fields()) if content is not None else b""
    body = encode_body(kind, slot, seq, ttl_s, prev, payload)
    author = NodeId(signing_public(seed))
    scope = CLAN_ID_NONE if isinstance(content, Genesis) else clan
    signature = sign_detached(seed, signing_input(scope, author, body))
    return bytes([RECORD_VERSION]) + author + signature + body


def sign_genesis(seed: bytes, genesis: Genesis, seq: int) -> tuple[bytes, ClanId]:
    """Found a clan: its first record and its id."""
    data = sign_record(seed, CLAN_ID_NONE, genesis, kind=Kind.AUTHORITY, slot="00000000", seq=seq)
    return data, clan_of_genesis(parse_untrusted(data, CLAN_ID_NONE))
