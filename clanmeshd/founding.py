"""Making a clan: its genesis, its first member, its discovery secret and its recovery key."""

from dataclasses import dataclass

from clanmesh_protocol.keys import ClanId, DeviceKeys, Entropy, fingerprint_slot, node_text, signing_public
from clanmesh_protocol.records import Admin, Credential, Genesis, Kind, Record
from clanmesh_protocol.signing import Verified, read_untrusted, sign_genesis, sign_record
from clanmeshd.store import Membership

DISCOVERY_BYTES = 16
FOUNDER_WEIGHT = 1
FOUNDER_TAGS = ("admin",)


@dataclass(frozen=True, slots=True)
class Founded:
    """A new clan. `recovery` is the only copy of the recovery key's seed, spelled for people."""

    membership: Membership
    records: tuple[Verified[Record], ...]
    recovery: str


def found(
    name: str,
    node_name: str,
    signers: tuple[str, ...],
    keys: DeviceKeys,
    entropy: Entropy,
    now_unix_s: float,
) -> Founded:
    """Found a clan with this device as its first admin."""
    recovery_seed = entropy(32)
    seq = int(now_unix_s * 1000) << 16
    genesis = Genesis(name, (Admin(keys.node, FOUNDER_WEIGHT),), signing_public(recovery_seed), signers)
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
    return Founded(membership, records, node_text(recovery_seed))
