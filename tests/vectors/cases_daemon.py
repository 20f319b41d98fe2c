"""Vectors of what grows from keys: certificates, addresses, tunnel proofs, secrets, statements, tags, lines."""

import base64
import hmac
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from nacl import bindings

from clanmesh_protocol.keys import exchange_public, sign_detached, signing_public
from clanmesh_protocol.records import RecordId, head_statement, redemption_input, tunnel_proof_input
from clanmesh_protocol.streams import hello_input
from clanmeshd.net.certificate import make_certificate
from tests.vectors.cases_content import COMMIT, COMMIT_SHA256, NODE
from tests.vectors.cases_records import flip
from tests.vectors.form import Vector
from tests.vectors.people import (
    CLAN,
    FOUNDER,
    FOUNDER_ID,
    MEMBER_ID,
    OTHER_CLAN,
    STRANGER,
    STRANGER_ID,
    TUNNEL,
    secret,
    sign_payload,
)


def all_cases() -> Iterator[Vector]:
    """Give every vector of these layers."""
    yield from certificates()
    yield from addresses()
    yield from tunnels()
    yield from secrets()
    yield from statements()
    yield from tags()
    yield from store_lines()


def certificates() -> Iterator[Vector]:
    """The fixed form that TLS carries an identity in."""
    good = make_certificate(FOUNDER)
    key_at = good.index(FOUNDER_ID)
    cases = {
        "ok": ("ok", "the founder's", good, {"node": FOUNDER_ID.hex()}),
        "empty": ("malformed", "no bytes at all", b"", {}),
        "cut": ("malformed", "the last byte is missing", good[:-1], {}),
        "trailing-byte": ("malformed", "one byte behind", good + b"\0", {}),
        "serial": ("malformed", "another serial number", flip(good, good.index(b"\x02\x01\x01") + 2, 1), {}),
        "name": ("malformed", "another common name", good.replace(b"clanmesh", b"clanmush", 1), {}),
        "expiry": ("malformed", "another end of validity", good.replace(b"99991231", b"99981231"), {}),
        "algorithm": (
            "malformed",
            "X25519's object identifier",
            good.replace(b"\x2b\x65\x70", b"\x2b\x65\x6e", 1),
            {},
        ),
        "signature-bit": ("signature", "a flipped bit in the signature", flip(good, len(good) - 40), {}),
        "other-key": ("signature", "the key exchanged", good[:key_at] + STRANGER_ID + good[key_at + 32 :], {}),
    }
    for name, (expect, comment, data, parameters) in cases.items():
        yield Vector(f"certificate/{name}", expect, comment, data, parameters)


def addresses() -> Iterator[Vector]:
    """Overlay addresses: the input is a node id."""
    for name, clan, node in (
        ("founder", CLAN, FOUNDER_ID),
        ("member", CLAN, MEMBER_ID),
        ("guest", OTHER_CLAN, MEMBER_ID),
    ):
        address = b"\xfd" + clan[:5] + blake2b(node, digest_size=10, person=b"clanmesh-address").digest()
        parameters = {"clan": clan.hex(), "address": address.hex()}
        yield Vector(f"address/ok-{name}", "ok", "an address follows from clan and identity", node, parameters)


def tunnels() -> Iterator[Vector]:
    """The proof within a node record that its tunnel key is the node's own. The input is the record."""

    def case(name: str, expect: str, comment: str, proof: bytes, key: bytes = signing_public(TUNNEL)) -> Vector:
        data = sign_payload(FOUNDER, 4, "self", [*NODE[:5], key, 1, proof])
        parameters = {"clan": CLAN.hex()}
        if expect == "ok":
            parameters["wireguard-key"] = bindings.crypto_sign_ed25519_pk_to_curve25519(key).hex()
        return Vector(f"tunnel/{name}", expect, comment, data, parameters)

    def proof(clan: Any = CLAN, node: Any = FOUNDER_ID, number: int = 1, seed: bytes = TUNNEL) -> bytes:
        return sign_detached(seed, tunnel_proof_input(clan, node, number))

    yield case("ok", "ok", "the tunnel key signed for this node", proof())
    yield case(
        "other-node",
        "signature",
        "a key that another node proved: claiming it would cut that peer",
        proof(node=MEMBER_ID),
    )
    yield case("other-number", "signature", "the proof of an earlier key number", proof(number=2))
    yield case("other-clan", "signature", "the proof of another clan", proof(clan=OTHER_CLAN))
    yield case("other-signer", "signature", "signed by another key", proof(seed=STRANGER))
    yield case("zero", "signature", "no proof at all", bytes(64))


SEALING = secret("sealing key of the member")
VALUE = b"correct horse battery staple"


def sealed_payload(
    author: bytes = FOUNDER_ID, name: str = "wifi", epoch: int = 1, clan: bytes = CLAN
) -> list[Any]:
    """A secret's payload, sealed to the member as author, name, epoch and clan say."""
    key, nonce, ephemeral = secret("value key"), secret("value nonce", 24), secret("ephemeral key")
    statement = clan + author + epoch.to_bytes(8, "big") + name.encode()
    binding = blake2b(statement, digest_size=32, person=b"clanmesh-secret").digest()
    ciphertext = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        binding + VALUE, b"clanmesh/secret/1\0", nonce, key
    )
    public, recipient = exchange_public(ephemeral), exchange_public(SEALING)
    box_nonce = blake2b(public + recipient, digest_size=24).digest()
    wrap = public + bindings.crypto_box(key, box_nonce, recipient, ephemeral)
    return [1, None, "root", "root", 0o400, ["all"], [[MEMBER_ID, wrap]], nonce, ciphertext]


def secrets() -> Iterator[Vector]:
    """Sealed values, as their recipient opens them. The input is the record."""

    def case(name: str, expect: str, comment: str, payload: list[Any], **changes: str) -> Vector:
        parameters = {
            "clan": CLAN.hex(),
            "recipient": MEMBER_ID.hex(),
            "sealing-private": SEALING.hex(),
            **changes,
        }
        return Vector(f"secret/{name}", expect, comment, sign_payload(FOUNDER, 6, "wifi", payload), parameters)

    def broken(position: int, value: Any) -> list[Any]:
        return [*good[:position], value, *good[position + 1 :]]

    good = sealed_payload()
    yield case("ok", "ok", "opens with the recipient's key", good, value=VALUE.hex())
    yield case("other-name", "seal", "sealed as another secret", sealed_payload(name="door"))
    yield case("other-epoch", "seal", "an old value passed off as a new one", sealed_payload(epoch=2))
    yield case(
        "other-author", "seal", "another member's value under one's own name", sealed_payload(author=MEMBER_ID)
    )
    yield case("other-clan", "seal", "another clan's value", sealed_payload(clan=OTHER_CLAN))
    yield case("ciphertext-bit", "seal", "a flipped bit in the value", broken(8, flip(good[8], 5)))
    yield case(
        "wrap-bit", "seal", "a flipped bit in the sealed key", broken(6, [[MEMBER_ID, flip(good[6][0][1], 50)]])
    )
    yield case("nonce-bit", "seal", "a flipped bit in the nonce", broken(7, flip(good[7], 0)))
    yield case("not-a-recipient", "seal", "sealed to another node", broken(6, [[STRANGER_ID, good[6][0][1]]]))


def statements() -> Iterator[Vector]:
    """What is signed inside payloads and frames. The input is the statement, to be made from the parameters."""
    invite = RecordId(secret("invite id"))
    nonce = secret("nonce")
    cases: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "ok-head": (
            "a ref moves",
            head_statement(CLAN, "main", COMMIT, COMMIT_SHA256),
            {"of": "head", "ref": "main", "old": COMMIT.hex(), "new": COMMIT_SHA256.hex()},
        ),
        "ok-head-first": (
            "a ref begins",
            head_statement(CLAN, "main", None, COMMIT),
            {"of": "head", "ref": "main", "old": "", "new": COMMIT.hex()},
        ),
        "ok-redemption": (
            "a device joins",
            redemption_input(CLAN, invite, STRANGER_ID, "phone"),
            {"of": "redemption", "invite": invite.hex(), "node": STRANGER_ID.hex(), "name": "phone"},
        ),
        "ok-tunnel": (
            "a tunnel key is a node's own",
            tunnel_proof_input(CLAN, FOUNDER_ID, 7),
            {"of": "tunnel", "node": FOUNDER_ID.hex(), "number": "7"},
        ),
        "ok-hello": (
            "a client names itself to a server",
            hello_input(CLAN, FOUNDER_ID, MEMBER_ID, nonce, "records"),
            {
                "of": "hello",
                "server": FOUNDER_ID.hex(),
                "client": MEMBER_ID.hex(),
                "nonce": nonce.hex(),
                "purpose": "records",
            },
        ),
    }
    for name, (comment, statement, parameters) in cases.items():
        yield Vector(f"statement/{name}", "ok", comment, statement, {"clan": CLAN.hex(), **parameters})


def tags() -> Iterator[Vector]:
    """What mDNS carries, in hex digits as they stand in the TXT entry. The input is their ASCII."""
    discovery, nonce = secret("discovery", 16), secret("mdns nonce", 8)

    def case(name: str, expect: str, comment: str, tag: bytes) -> Vector:
        parameters = {"discovery": discovery.hex(), **({"nonce": nonce.hex()} if expect == "ok" else {})}
        return Vector(f"mdns/{name}", expect, comment, tag.hex().encode(), parameters)

    mac = hmac.new(discovery, nonce, "blake2b").digest()[:16]
    yield case("ok", "ok", "made with the clan's discovery secret", nonce + mac)
    yield case("nonce-bit", "signature", "a flipped bit in the nonce", flip(nonce + mac, 3))
    yield case("mac-bit", "signature", "a flipped bit at the end", flip(nonce + mac, 23))
    other = hmac.new(bytes(16), nonce, "blake2b").digest()[:16]
    yield case("other-clan", "signature", "made with another secret", nonce + other)
    yield case("cut", "signature", "a byte is missing: it is nobody's tag", (nonce + mac)[:-1])


def store_lines() -> Iterator[Vector]:
    """The first line of purpose `store`."""
    key = secret("store key", 32)
    text = base64.b64encode(key)

    def case(name: str, expect: str, comment: str, line: bytes) -> Vector:
        return Vector(f"store/{name}", expect, comment, line, {"key": key.hex()} if expect == "ok" else {})

    longest = b"A.9_-" + b"a" * 59
    yield case("ok", "ok", "a name as Nix makes them", b"nas-clanmesh-1:" + text + b"\n")
    yield case("ok-name-64-bytes", "ok", "the longest, with each kind of sign", longest + b":" + text + b"\n")
    yield case("name-65-bytes", "malformed", "a name that is too long", longest + b"a:" + text + b"\n")
    yield case("name-empty", "malformed", "no name", b":" + text + b"\n")
    yield case("name-blank", "malformed", "two keys in one line", b"a:" + text + b" b:" + text[:20] + b"\n")
    yield case("key-31-bytes", "malformed", "a byte is missing", b"a:" + base64.b64encode(key[:31]) + b"\n")
    yield case("key-33-bytes", "malformed", "a byte too many", b"a:" + base64.b64encode(key + key[:1]) + b"\n")
    odd = text[:42] + bytes([text[42] + 1]) + b"="
    yield case("key-padding-bits", "malformed", "bits are set that are of none of its bytes", b"a:" + odd + b"\n")
    yield case("no-line-feed", "malformed", "cut before its end", b"a:" + text)
    yield case("carriage-return", "malformed", "a line end of another kind", b"a:" + text + b"\r\n")
    yield case("second-line", "malformed", "what follows is Nix's", b"a:" + text + b"\nx")
    yield case("129-bytes", "limit", "a line that does not end", b"a" * 129)
