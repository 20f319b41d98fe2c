"""Making a clan: its genesis, its first member, its discovery secret and its recovery key."""

from dataclasses import dataclass

from clanmesh_protocol.keys import ClanId, DeviceKeys, Entropy, fingerprint_slot, signing_public
from clanmesh_protocol.records import Admin, Credential, Genesis, Kind, Record
from clanmesh_protocol.signing import Verified, read_untrusted, sign_genesis, sign_record
from clanmesh_protocol.tokens import encode_recovery
from clanmeshd.store import Membership

DISCOVERY_BYTES = 16
FOUNDER_WEIGHT = 1
FOUNDER_TAGS = ("admin",)


@dataclass(frozen=True, slots=True)
class Founded:
    """A new clan. `recovery` is the only copy of the recovery key's seed, spelled for people, if it has one."""

    membership: Membership
    records: tuple[Verified[Record], ...]
    recovery: str | None


def found(
    name: str,
    node_name: str,
    signers: tuple[str, ...],
    keys: DeviceKeys,
    entropy: Entropy,
    now_unix_s: float,
    *,
    has_recovery: bool = True,
) -> Founded:
    """Found a clan with this device as its first admin."""
    recovery_seed = entropy(32) if has_recovery else None
    recovery_key = signing_public(recovery_seed) if recovery_seed is not None else None
    seq = int(now_unix_s * 1000) << 16
    genesis = Genesis(name, (Admin(keys.node, FOUNDER_WEIGHT),), recovery_key, signers)
    genesis_data, clan = sign_genesis(keys.identity_seed, genesis, seq)
    credential = Credential(keys.node, node_name, FOUNDER_TAGS, expires_unix_s=0, redemption=None)
    credential_data = sign_record(
        keys.identity_seed,
        clan,
        credential,
        kind=Kind.CREDENTIAL,
        slot=fingerprint_slot(keys.node),
        seq=seq + 1,
    )
    records = tuple(read_untrusted(data, clan) for data in (genesis_data, credential_data))
    membership = Membership(ClanId(clan), name, entropy(DISCOVERY_BYTES))
    return Founded(membership, records, encode_recovery(recovery_seed) if recovery_seed is not None else None)
