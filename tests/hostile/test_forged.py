"""Words put into somebody's mouth, and words by those who have no say."""

import pytest

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.records import (
    AdminAdd,
    AdminRemove,
    Approval,
    Credential,
    Equivocation,
    Kind,
    Publishable,
    Revocation,
    Setting,
)
from clanmesh_protocol.signing import Verified
from tests.core.worlds import status
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, RECOVERY, Stage

STRANGER = bytes(32)


def forged(data: bytes, author: bytes) -> bytes:
    """The same record with another author in front."""
    return data[:1] + author + data[33:]


@hostile("Signatures", "record/other-author")
@pytest.mark.parametrize("kind", [Kind.CREDENTIAL, Kind.REVOCATION, Kind.STATUS])
def test_an_admins_name_over_a_members_signature(kind: Kind) -> None:
    stage = Stage()
    node = stage.node(3)
    contents: dict[Kind, Publishable] = {
        Kind.CREDENTIAL: Credential(node, "mine", (), 0, None),
        Kind.REVOCATION: Revocation(node, "mine"),
        Kind.STATUS: status(1),
    }
    data = stage.says(1, contents[kind], seq=1 << 60)
    stage.refuses(forged(data, stage.node(0)), code="signature")


@hostile("Signatures", "record/zero-signature")
def test_an_operation_without_a_signature() -> None:
    stage = Stage()
    data = stage.operation(0, AdminAdd(stage.node(1), 1))
    stage.refuses(data[:33] + bytes(64) + data[97:], code="signature")


@hostile("Signatures", "record/key-minus-zero")
def test_only_the_check_makes_a_belief() -> None:
    stage = Stage()
    record = stage.read(stage.operation(1, Setting("a", "b")))
    with pytest.raises(TypeError):
        Verified(record, Setting("a", "b"), object())


@hostile("Who may say what", "ledger/member-operation")
def test_an_operation_by_a_member() -> None:
    stage = Stage()
    stage.refuses(stage.operation(1, AdminAdd(stage.node(1), 1000)), code="unauthorized")


@hostile("Who may say what", "authority/approval-by-a-member")
def test_an_approval_by_a_member_and_by_a_stranger() -> None:
    stage = Stage(admins=2)
    proposed = stage.operation(1, AdminRemove(stage.node(0)))
    stage.takes(proposed)
    stage.refuses(stage.approval(2, proposed), stage.approval(STRANGER, proposed), code="unauthorized")
    assert stage.authority.is_admin(stage.node(0))


@hostile("Who may say what", "authority/approval-by-recovery")
def test_the_recovery_key_approves_nothing() -> None:
    stage = Stage(admins=2)
    proposed = stage.operation(1, AdminRemove(stage.node(0)))
    stage.takes(proposed)
    stage.keeps_head(stage.approval(RECOVERY, proposed))
    assert stage.authority.pending[0].signers == {stage.node(1)}


@hostile("Who may say what", "ledger/stranger")
def test_a_stranger_acknowledges() -> None:
    stage = Stage()
    stage.refuses(stage.acknowledgement(STRANGER, stage.genesis.data), code="unauthorized")


@hostile("Who may say what", "authority/chain-author-no-admin")
def test_one_that_became_an_admin_on_no_branch() -> None:
    stage = Stage(admins=2)
    alone = stage.operation(1, AdminAdd(stage.node(2), 1))
    stage.takes(alone)  # a proposal: it lacks the other's name
    stage.refuses(stage.operation(2, Setting("a", "b"), stage.read(alone)), code="unauthorized")


@hostile("Registers", "content/equivocation-forged")
def test_a_proof_of_equivocation_against_an_honest_admin() -> None:
    stage = Stage()
    seq = 1 << 40
    made = [forged(stage.says(1, status(n), seq=seq), stage.node(0)) for n in (1, 2)]
    lower, higher = sorted(made, key=lambda data: stage.read(data).id)
    proof = Equivocation(lower, higher)
    data = stage.says(1, proof, slot=fingerprint_slot(stage.node(0)))
    stage.refuses(data, code="signature")


@hostile("Records", "content/approval-other-slot")
def test_an_approval_that_stands_in_anothers_slot() -> None:
    stage = Stage(admins=2)
    first, second = (stage.operation(1, Setting("a", value)) for value in "xy")
    content = Approval(stage.read(first).id)
    with pytest.raises(ProtocolError):
        stage.mesh.publish(content, slot=fingerprint_slot(stage.read(second).id), now=NOW)
    slot = fingerprint_slot(stage.read(second).id)
    stage.refuses(stage.says(1, content, slot=slot), code="malformed")
