"""The layers that this repository's daemon implements: sessions, the ledger, joining, and what grows from keys."""

from collections.abc import Iterable
from hashlib import blake2b

from nacl import bindings
from nacl.exceptions import CryptoError

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.errors import ProtocolError, SignatureError, StaleError
from clanmesh_protocol.keys import (
    ClanId,
    DeviceKeys,
    NodeId,
    RecordId,
    signing_public,
    tunnel_public_untrusted,
    verify_detached_untrusted,
)
from clanmesh_protocol.probes import Kind, read_packet_untrusted
from clanmesh_protocol.records import (
    Node,
    Secret,
    head_statement,
    parse_untrusted,
    redemption_input,
    tunnel_proof_input,
)
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmesh_protocol.streams import Join, hello_input, read_frame_untrusted
from clanmeshd.core.admission import Refusal, redeem
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.sessions import Sessions
from clanmeshd.core.trie import Trie
from clanmeshd.core.wanted import overlay_address
from clanmeshd.net.certificate import identity_of_certificate_untrusted
from clanmeshd.net.discovery import nonce_of_tag_untrusted
from clanmeshd.overlay.probes import Heard, Probes, direction_key
from clanmeshd.secrets.sealing import SealedError, open_secret
from tests.vectors.form import Vector, unframed
from tests.vectors.layers import Derived, must_pass
from tests.vectors.people import MEMBER


def session(vector: Vector) -> Derived:
    """Open a datagram as its receiver."""
    own_number, own_prekey = _prekey(vector, "receiver-prekey-private")
    number, prekey = _prekey(vector, "sender-prekey")
    keys = DeviceKeys(
        identity_seed=vector.bytes_of("receiver-identity-seed"),
        static_private=vector.bytes_of("receiver-static-private"),
        sealing_private=bytes(32),
        tunnel_seed=bytes(32),
        tunnel_number=1,
        prekeys=((own_number, own_prekey, 0),),
    )
    sender = NodeId(vector.bytes_of("sender"))
    record = Node(vector.bytes_of("sender-static"), bytes(32), ((number, prekey),), (), 1, bytes(32), 1, bytes(64))
    sessions = Sessions(keys, ClanId(vector.bytes_of("clan")), bytes)
    sessions.set_members([sender])
    sessions.set_record(sender, record)
    opened = sessions.open_untrusted(vector.input)
    assert opened.node == sender
    assert not opened.proven
    return {"plaintext": opened_by_the_letter(vector).hex()}


def _prekey(vector: Vector, key: str) -> tuple[int, bytes]:
    number, digits = vector.parameters[key].split()
    return int(number), bytes.fromhex(digits)


def opened_by_the_letter(vector: Vector) -> bytes:
    """Open a datagram as the specification says, with none of the daemon's code."""
    seed, sender = vector.bytes_of("receiver-identity-seed"), vector.bytes_of("sender")
    if vector.input[2] == 1:
        static = bindings.crypto_scalarmult(
            vector.bytes_of("receiver-static-private"), vector.bytes_of("sender-static")
        )
        own, theirs = _prekey(vector, "receiver-prekey-private")[1], _prekey(vector, "sender-prekey")[1]
        shared, person = static + bindings.crypto_scalarmult(own, theirs), b"clanmesh-dgram"
    else:
        own = bindings.crypto_sign_ed25519_sk_to_curve25519(bindings.crypto_sign_seed_keypair(seed)[1])
        shared = bindings.crypto_scalarmult(own, bindings.crypto_sign_ed25519_pk_to_curve25519(sender))
        person = b"clanmesh-hello"
    material = shared + sender + signing_public(seed) + vector.bytes_of("clan")
    key = blake2b(material, digest_size=32, person=person).digest()
    lead, sealed = vector.input[:29], vector.input[29:]
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, lead, lead[13:29] + bytes(8), key)
    except CryptoError as error:
        raise AssertionError(f"{vector.name} does not open by the letter") from error


def ledger(vector: Vector) -> Derived:
    """Take records in, one after another; the verdict is the last one's."""
    clan = ClanId(vector.bytes_of("clan"))
    *basis, last = unframed(vector.input)
    kept = Ledger(clan)
    with must_pass(vector):
        for data in basis:
            _take_in(kept, read_untrusted(data, clan))
        verified = read_untrusted(last, clan)
    _take_in(kept, verified)
    return {}


def _take_in(kept: Ledger, verified: Verified) -> None:
    record = parse_untrusted(verified.value.data, kept.clan)
    if not kept.newer(record):
        raise StaleError("the register holds it, or something newer")
    if not record.is_genesis:
        fold(kept).may_author(record)
    if not kept.apply(verified).is_new:
        raise StaleError("the register holds a higher id of the same seq")


def authority(vector: Vector) -> Derived:
    """Fold a record set; neither the order makes a difference, nor to go on from the result with what is kept."""
    clan = ClanId(vector.bytes_of("clan"))
    final = RecordId(vector.bytes_of("final")) if "final" in vector.parameters else None
    with must_pass(vector):
        verified = [read_untrusted(data, clan) for data in unframed(vector.input)]
    kept, backwards = Ledger(clan), Ledger(clan)
    for record in verified:
        kept.apply(record)
    for record in reversed(verified):
        backwards.apply(record)
    folded = fold(kept, final)
    now = int(vector.parameters.get("now", "0"))
    derived = _meaning_of(folded, now)
    assert derived == _meaning_of(fold(backwards, final), now), "the order matters"
    kept.retain(folded.lets_stay)
    assert derived == _meaning_of(fold(kept, folded.final), now), "a record counts that nobody keeps"
    return derived


def _meaning_of(folded: Authority, now_unix_s: int) -> Derived:
    chain = folded.chain
    tags = [f"{node.hex()}={'+'.join(each.tags)}" for node, each in sorted(folded.members.items()) if each.tags]
    members = [f"{member.name}={node.hex()}" for node, member in sorted(folded.members.items())]
    return {
        "head": folded.head.hex(),
        "number": str(folded.number),
        "settled": (folded.final or b"").hex() or "none",
        "admins": ",".join(f"{admin.node.hex()}:{admin.weight}" for admin in chain.admins),
        "signers": str(len(chain.signers)),
        "checkpoints": str(len(chain.checkpoints)),
        "resolutions": str(len(chain.resolutions)),
        "recovery": chain.recovery.hex() if chain.recovery is not None else "none",
        "settings": ",".join(f"{name}={value}" for name, value in sorted(chain.settings.items())) or "none",
        "pinned": _joined(chain.pinned),
        "pending": _joined(each.id for each in folded.pending),
        "members": ",".join(members) or "none",
        "tags": ",".join(tags) or "none",
        "current": _joined(node for node, each in folded.members.items() if each.is_current(now_unix_s)),
        "revoked": _joined(folded.revoked),
        "suspended": _joined(folded.suspended),
    }


def _joined(keys: Iterable[bytes]) -> str:
    return ",".join(each.hex() for each in sorted(keys)) or "none"


def root(vector: Vector) -> Derived:
    """Hash a set of ids."""
    trie = Trie()
    ids = {vector.input[at : at + 32] for at in range(0, len(vector.input), 32)}
    for each in ids:
        trie.add(RecordId(each))
    return {"root": trie.root().hex()}


class Refused(ProtocolError):
    """Gives a refusal that is no ProtocolError the code that vectors name."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code  # type: ignore[misc]


def join(vector: Vector) -> Derived:
    """Answer a device that wants to come in."""
    clan = ClanId(vector.bytes_of("clan"))
    *basis, last = unframed(vector.input)
    kept = Ledger(clan)
    with must_pass(vector):
        for data in basis:
            _take_in(kept, read_untrusted(data, clan))
        request = read_frame_untrusted(last)
    assert isinstance(request, Join)
    try:
        authority = fold(kept)
        redeem(authority, authority.admins[0], request, float(vector.parameters["now"]))
    except Refusal as refusal:
        raise Refused(refusal.code, refusal.why) from refusal
    return {}


def certificate(vector: Vector) -> Derived:
    """Read an identity out of a certificate."""
    return {"node": identity_of_certificate_untrusted(vector.input).hex()}


def address(vector: Vector) -> Derived:
    """Derive the overlay address of a node."""
    return {"address": overlay_address(ClanId(vector.bytes_of("clan")), NodeId(vector.input)).hex()}


def tunnel(vector: Vector) -> Derived:
    """Check the proof of the tunnel key in a node record."""
    clan = ClanId(vector.bytes_of("clan"))
    with must_pass(vector):
        verified = read_untrusted(vector.input, clan)
    node = verified.content
    assert isinstance(node, Node)
    statement = tunnel_proof_input(clan, verified.value.author, node.tunnel_number)
    verify_detached_untrusted(node.tunnel_key, statement, node.tunnel_proof)
    return {"wireguard-key": tunnel_public_untrusted(node.tunnel_key).hex()}


def secret(vector: Vector) -> Derived:
    """Open a secret as its recipient."""
    clan = ClanId(vector.bytes_of("clan"))
    with must_pass(vector):
        verified = read_untrusted(vector.input, clan)
    record, content = verified.value, verified.content
    assert isinstance(content, Secret)
    assert vector.bytes_of("recipient") == signing_public(MEMBER)
    keys = DeviceKeys(MEMBER, bytes(32), vector.bytes_of("sealing-private"), bytes(32), 1, ())
    try:
        value = open_secret(keys, clan, WantedSecret(record.slot, record.author, record.id, content))
    except SealedError as error:
        raise Refused("seal", str(error)) from error
    return {"value": value.hex()}


def statement(vector: Vector) -> Derived:
    """Make a signed statement from its parts."""
    clan, given = ClanId(vector.bytes_of("clan")), vector.parameters
    match given["of"]:
        case "head":
            made = head_statement(clan, given["ref"], vector.bytes_of("old") or None, vector.bytes_of("new"))
        case "redemption":
            invite, node = RecordId(vector.bytes_of("invite")), NodeId(vector.bytes_of("node"))
            made = redemption_input(clan, invite, node, given["name"])
        case "tunnel":
            made = tunnel_proof_input(clan, NodeId(vector.bytes_of("node")), int(given["number"]))
        case "hello":
            server, client = NodeId(vector.bytes_of("server")), NodeId(vector.bytes_of("client"))
            made = hello_input(clan, server, client, vector.bytes_of("nonce"), given["purpose"])
    assert made == vector.input
    return {}


def probe_mac(vector: Vector) -> Derived:
    """Take a packet as its receiver, who asked for it if it is an answer."""
    receiver, sender = NodeId(vector.bytes_of("receiver")), NodeId(vector.bytes_of("sender"))
    private, public = vector.bytes_of("receiver-static-private"), vector.bytes_of("sender-static")
    clan = ClanId(vector.bytes_of("clan"))
    with must_pass(vector):
        packet = read_packet_untrusted(vector.input)
    probes = Probes(receiver, private, clan, lambda size: packet.nonce[:size])
    probes.set_members({sender: public})
    source = endpoint("198.51.100.1", 51872)
    if packet.kind is Kind.PONG:
        probes.probe(sender, source, 0.0)
    heard = probes.receive_untrusted(vector.input, source, 0.1)
    at = heard.aimed_at if isinstance(heard, Heard) else heard.observed
    shared = bindings.crypto_scalarmult(private, public)
    return {"endpoint": str(at), "key": direction_key(shared, sender, receiver, clan).hex()}


def mdns(vector: Vector) -> Derived:
    """Recognise the clan by a tag."""
    nonce = nonce_of_tag_untrusted(vector.bytes_of("discovery"), vector.input)
    if nonce is None:
        raise SignatureError("not a tag of this clan")
    return {"nonce": nonce.hex()}


LAYERS = {
    "mdns": mdns,
    "probe-mac": probe_mac,
    "session": session,
    "ledger": ledger,
    "authority": authority,
    "root": root,
    "join": join,
    "certificate": certificate,
    "address": address,
    "tunnel": tunnel,
    "secret": secret,
    "statement": statement,
}
