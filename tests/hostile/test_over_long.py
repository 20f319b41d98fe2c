"""More than there is room for: bytes, fields, slots, chains."""

import pytest

from clanmesh_protocol.errors import LimitError, ProtocolError
from clanmesh_protocol.limits import (
    ADMINS_MAX,
    DATAGRAM_BYTES_MAX,
    RECORD_BYTES_MAX,
    SETTINGS_MAX,
    SLOTS_PER_AUTHOR_UNKNOWN_KIND_MAX,
)
from clanmesh_protocol.records import (
    Checkpoint,
    Kind,
    Setting,
    SignerAdd,
    decode_content_untrusted,
    parse_untrusted,
)
from clanmesh_protocol.signing import sign_record
from tests.core.worlds import START_SEQ, endpoint_of
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, Stage, stays_small


class Raw:
    """A payload of whatever fields."""

    def __init__(self, *fields: object) -> None:
        self._fields = list(fields)

    def fields(self) -> list[object]:
        """The payload as an array."""
        return self._fields


def raw(stage: Stage, by: int, kind: int, slot: str, *fields: object, seq: int = START_SEQ + 5000) -> bytes:
    """A well-signed record of whatever is in it."""
    seed = stage.clan.keys[by].identity_seed
    return sign_record(seed, stage.clan.id, Raw(*fields), kind=kind, slot=slot, seq=seq)  # type: ignore[arg-type]


@hostile("Records", "record/too-large")
def test_a_record_of_more_bytes_than_any_may_have() -> None:
    stage = Stage()
    data = raw(stage, 1, Kind.SECRET, "s", bytes(RECORD_BYTES_MAX))
    with pytest.raises(LimitError):
        parse_untrusted(data, stage.clan.id)
    stage.refuses(data, code="limit")


@hostile("Registers", "record/unknown-kind-payload-801-bytes")
def test_an_unknown_kind_as_a_barn() -> None:
    stage = Stage()
    stage.refuses(raw(stage, 1, 200, "s", bytes(900)), code="limit")


@hostile("Registers", "record/status-payload-257-bytes")
def test_an_operation_of_more_bytes_than_one_may_have() -> None:
    stage = Stage(4, admins=2)
    stage.refuses(raw(stage, 1, Kind.AUTHORITY, "00000001", 200, bytes(4096)), code="limit")


@hostile("Payloads", "content/genesis-33-admins")
@pytest.mark.parametrize("field", ["admins", "signers"])
def test_a_genesis_with_too_many(field: str) -> None:
    admins = [[bytes([number]) * 32, 1] for number in range(ADMINS_MAX + (field == "admins"))]
    signers = ["ssh-ed25519 x"] * (65 if field == "signers" else 1)
    data = raw(Stage(), 0, Kind.AUTHORITY, "00000000", 0, "family", admins, None, signers)
    with pytest.raises(ProtocolError):
        decode_content_untrusted(parse_untrusted(data, Stage().clan.id))


@hostile("Registers", "content/setting-value-257-bytes")
def test_a_setting_that_is_a_book() -> None:
    stage = Stage()
    stage.refuses(stage.operation(0, Setting("a", "b" * 257)), code="limit")


@hostile("Who may say what", "authority/setting-65th")
def test_more_settings_than_there_is_room_for() -> None:
    stage = Stage()
    for number in range(SETTINGS_MAX + 5):
        stage.mesh.publish_operation(Setting(f"s{number}", "on"), NOW)
    assert len(stage.authority.chain.settings) == SETTINGS_MAX


@hostile("Registers", "record/ok-unknown-kind")
def test_an_author_has_so_many_slots_of_a_kind() -> None:
    stage = Stage()
    for number in range(SLOTS_PER_AUTHOR_UNKNOWN_KIND_MAX * 2):
        stage.hears(raw(stage, 1, 201, f"{number:04d}", "x"))
    assert len(stage.mesh.ledger.of_kind(201)) == SLOTS_PER_AUTHOR_UNKNOWN_KIND_MAX


@hostile("Who may say what", "authority/fork-length-is-nothing")
def test_a_long_branch_is_no_better_than_a_short_one() -> None:
    stage = Stage(4, admins=3)
    kept = stage.governs(Checkpoint("main", bytes(20)), 1)
    behind = stage.genesis
    for number in range(60):
        data = stage.operation(2, Setting("n", str(number)), behind)
        stage.takes(data)
        behind = stage.read(data)
    assert stage.authority.head == kept.id


@hostile("Who may say what", "authority/chain-behind-a-proposal")
def test_an_admins_proposals_wait_without_effect() -> None:
    stage = Stage(4, admins=3)
    for number in range(100):
        stage.takes(stage.operation(2, SignerAdd(f"ssh-ed25519 {number}")))
    assert len(stage.authority.pending) == 100
    assert stage.authority.signers == ()


@hostile("Datagrams", "datagram/1201-bytes")
def test_a_datagram_that_is_too_long() -> None:
    stage = Stage()
    before = stage.trace()
    stage.mesh.receive(b"\xc1\x01\x02" + bytes(DATAGRAM_BYTES_MAX), endpoint_of(7), NOW)
    assert stage.trace() == before


@hostile("Records", "record/array-claims-4-billion")
def test_floods_of_what_cannot_be_read_leave_nothing() -> None:
    stage = Stage()
    head = stage.says(1, Setting("a", "b"), slot="00000001")[:97]
    claims = [b"\xdd\xff\xff\xff\xff", b"\x96" * 2000, b"\x96\x00\xa8"]
    before = stage.trace()
    stays_small(stage, [head + claims[number % 3] + bytes([number % 256]) for number in range(900)])
    assert stage.trace() == before
