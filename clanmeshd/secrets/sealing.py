"""Sealing a value to its recipients, and opening it.

The value is encrypted once under a fresh key (XChaCha20-Poly1305), and that key is sealed to each recipient's
X25519 key (libsodium's `crypto_box_seal`). The plaintext begins with a hash of clan, author, name and epoch, so
that a recipient cannot pass a ciphertext off as another secret, or an old value as a new one.
"""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from clanmesh_protocol.encoding import UINT64_MAX, encode
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import (
    ClanId,
    DeviceKeys,
    Entropy,
    NodeId,
    RecordId,
    exchange_public,
    exchange_untrusted,
)
from clanmesh_protocol.limits import KEY_BYTES, PAYLOAD_BYTES_MAX, RECIPIENTS_MAX, SECRET_VALUE_BYTES_MAX
from clanmesh_protocol.records import Kind, Secret, Wrap
from clanmeshd.core.audience import Audience
from clanmeshd.core.effects import WantedSecret

NONCE_BYTES: Final = 24
BINDING_BYTES: Final = 32
KEYS_REMEMBERED_MAX: Final = 4096  # whether they are any good costs 50 us, and is asked with each change
EPOCH_STEP: Final = 2  # of a new value; a holder that seals the old one again at this moment uses 1, and loses
RANDOM_BYTES_MAX: Final = SECRET_VALUE_BYTES_MAX * 3 // 4  # its text has 4 characters for 3 bytes

_CONTEXT: Final = b"clanmesh/secret/1\0"
_PERSON: Final = b"clanmesh-secret"


class SealedError(Exception):
    """A value cannot be sealed, or not be opened with this device's keys; one sentence says why."""


def seal(
    clan: ClanId,
    author: NodeId,
    name: str,
    epoch: int,
    predecessor: RecordId | None,
    value: bytes,
    owner: str,
    group: str,
    mode: int,
    audience: Audience,
    recipients: Mapping[NodeId, bytes],
    entropy: Entropy,
    random_bytes: int = 0,
    marks: tuple[Wrap, ...] = (),
) -> Secret:
    """Seal a value to the X25519 keys of its recipients. `audience` is what later members are matched with.

    `random_bytes` is for a value that no person made, `marks` are wraps of removed devices that open nothing. A
    recipient whose published key is no good is left out: nobody can keep a secret from the others that way.
    Raises SealedError.
    """
    if len(value) > SECRET_VALUE_BYTES_MAX:
        raise SealedError(f"a value of {len(value)} bytes where {SECRET_VALUE_BYTES_MAX} are allowed")
    if len(recipients) > RECIPIENTS_MAX:
        raise SealedError(f"{len(recipients)} recipients where {RECIPIENTS_MAX} are allowed")
    if epoch > UINT64_MAX:
        raise SealedError("its epochs are used up: give the secret another name, or remove who used them up")
    key, nonce = entropy(KEY_BYTES), entropy(NONCE_BYTES)
    plaintext = _binding(clan, author, name, epoch) + value
    ciphertext = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, _CONTEXT, nonce, key)
    sealed = [wrap for node in sorted(recipients) for wrap in _wraps(key, node, recipients[node])]
    if not sealed:
        raise SealedError("none of its recipients has a key that it could be sealed to")
    wraps = tuple(sorted((*sealed, *marks), key=lambda wrap: wrap.node))
    secret = Secret(
        epoch=epoch,
        predecessor=predecessor,
        owner=owner,
        group=group,
        mode=mode,
        targets=tuple(sorted(audience.tags)),
        wraps=wraps,
        nonce=nonce,
        ciphertext=ciphertext,
        random_bytes=random_bytes,
        nodes=tuple(sorted(audience.nodes)),
    )
    if len(encode(secret.fields())) > PAYLOAD_BYTES_MAX[Kind.SECRET]:
        raise SealedError("the value and its recipients do not fit one record together")
    return secret


def open_secret(keys: DeviceKeys, clan: ClanId, wanted: WantedSecret) -> bytes:
    """Open a value that this device has a key to. Raises SealedError."""
    secret = wanted.secret
    own = keys.node
    wrap = next((wrap for wrap in secret.wraps if wrap.node == own), None)
    if wrap is None:
        raise SealedError("it is not sealed to this device")
    try:
        key = bindings.crypto_box_seal_open(
            wrap.sealed, exchange_public(keys.sealing_private), keys.sealing_private
        )
        plaintext = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            secret.ciphertext, _CONTEXT, secret.nonce, key
        )
    except (CryptoError, ValueError) as error:
        raise SealedError("it does not open with this device's key") from error
    binding = _binding(clan, wanted.author, wanted.name, secret.epoch)
    if not hmac.compare_digest(plaintext[:BINDING_BYTES], binding):
        raise SealedError("what is sealed in it was made as another secret, or as another epoch of this one")
    return plaintext[BINDING_BYTES:]


def seal_again(
    keys: DeviceKeys,
    clan: ClanId,
    item: WantedSecret,
    recipients: Mapping[NodeId, bytes],
    entropy: Entropy,
    marks: tuple[Wrap, ...] = (),
) -> Secret:
    """Seal the same value under the next epoch, with this device as its author. Raises SealedError."""
    value, count = open_secret(keys, clan, item), item.secret.random_bytes
    return _seal_next(keys.node, clan, item, 1, value, recipients, entropy, count, marks)


def seal_anew(
    author: NodeId,
    clan: ClanId,
    item: WantedSecret,
    value: bytes,
    recipients: Mapping[NodeId, bytes],
    entropy: Entropy,
    random_bytes: int,
) -> Secret:
    """Give a secret another value, for whom and where it was before. Raises SealedError.

    The old value, sealed again by a holder at this moment, is an epoch behind, and loses.
    """
    return _seal_next(author, clan, item, EPOCH_STEP, value, recipients, entropy, random_bytes)


def _seal_next(
    author: NodeId,
    clan: ClanId,
    item: WantedSecret,
    epoch_step: int,
    value: bytes,
    recipients: Mapping[NodeId, bytes],
    entropy: Entropy,
    random_bytes: int,
    marks: tuple[Wrap, ...] = (),
) -> Secret:
    """Seal what takes a secret's place: under its name, for whom and where it was. Raises SealedError."""
    before = item.secret
    return seal(
        clan=clan,
        author=author,
        name=item.name,
        epoch=before.epoch + epoch_step,
        predecessor=item.record_id,
        value=value,
        owner=before.owner,
        group=before.group,
        mode=before.mode,
        audience=Audience.of(before),
        recipients=recipients,
        entropy=entropy,
        random_bytes=random_bytes,
        marks=marks,
    )


def removal(item: WantedSecret) -> Secret:
    """A value for nobody: what says that there is no secret of this name any more. Raises SealedError."""
    before = item.secret
    if before.epoch + EPOCH_STEP > UINT64_MAX:
        raise SealedError("its epochs are used up: it goes when who used them up is removed")
    return replace(
        before,
        epoch=before.epoch + EPOCH_STEP,
        predecessor=item.record_id,
        targets=(),
        nodes=(),
        wraps=(),
        nonce=bytes(NONCE_BYTES),
        ciphertext=b"",
        random_bytes=0,
    )


def random_value(count: int, entropy: Entropy) -> bytes:
    """Spell `count` random bytes in base64url without padding: text, fit for a password file, with no line end."""
    return base64.urlsafe_b64encode(entropy(count)).rstrip(b"=")


def bytes_of_random_value(value: bytes) -> bytes:
    """What a random value spells. Raises SealedError for any other value."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise SealedError("it is no random value") from error


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def takes_seals(sealing_key: bytes) -> bool:
    """Whether anything can be sealed to a published key: not to a point of small order.

    Whoever publishes one is no recipient, ever: who waited for it to become one would seal without end.
    """
    try:
        exchange_untrusted(bytes(KEY_BYTES), sealing_key)
    except MalformedError:
        return False
    return True


def _wraps(key: bytes, node: NodeId, sealing_key: bytes) -> list[Wrap]:
    try:
        return [Wrap(node, bindings.crypto_box_seal(key, sealing_key))]
    except (CryptoError, RuntimeError, ValueError):
        return []  # a point of small order: only its owner can have published it


def _binding(clan: ClanId, author: NodeId, name: str, epoch: int) -> bytes:
    # The name comes last since it alone has no fixed length.
    statement = clan + author + epoch.to_bytes(8, "big") + name.encode()
    return blake2b(statement, digest_size=BINDING_BYTES, person=_PERSON).digest()
