"""Who floods with junk is mostly left unread; members, and whoever comes to be one, are not."""

from clanmeshd.net.strangers import (
    ADDRESSES_MAX,
    JUDGED_S,
    JUNK_MAX,
    LET_THROUGH,
    PROVEN_MAX,
    PROVEN_S,
    Strangers,
)

FLOODER, MEMBER = bytes([198, 51, 100, 1]), bytes([192, 0, 2, 1])


def _flood(strangers: Strangers, ip: bytes, count: int = JUNK_MAX) -> None:
    for _ in range(count):
        strangers.blame(ip)


def _read(strangers: Strangers, ip: bytes, count: int = 100 * LET_THROUGH) -> int:
    return sum(strangers.lets_in(ip) for _ in range(count))


def test_of_a_flood_a_part_is_read() -> None:
    strangers = Strangers()
    strangers.turn(0.0)
    _flood(strangers, FLOODER, JUNK_MAX - 1)
    assert _read(strangers, FLOODER) == 100 * LET_THROUGH
    _flood(strangers, FLOODER, 1)
    assert _read(strangers, FLOODER) == 100
    assert _read(strangers, MEMBER) == 100 * LET_THROUGH


def test_a_verdict_is_short() -> None:
    strangers = Strangers()
    strangers.turn(0.0)
    _flood(strangers, FLOODER)
    strangers.turn(JUDGED_S / 2)
    assert _read(strangers, FLOODER) == 100
    strangers.turn(JUDGED_S)
    assert _read(strangers, FLOODER) == 100 * LET_THROUGH


def test_a_member_is_read_whatever_is_sent_in_its_name() -> None:
    strangers = Strangers()
    strangers.turn(0.0)
    strangers.prove(MEMBER)
    for at_s in (0.0, PROVEN_S / 2, PROVEN_S, 2 * PROVEN_S - 1):
        strangers.turn(at_s)
        _flood(strangers, MEMBER)
        assert _read(strangers, MEMBER) == 100 * LET_THROUGH


def test_who_proves_itself_amid_a_flood_from_its_address_is_read_from_then_on() -> None:
    strangers = Strangers()
    strangers.turn(0.0)
    _flood(strangers, FLOODER)
    strangers.prove(FLOODER)
    _flood(strangers, FLOODER)
    assert _read(strangers, FLOODER) == 100 * LET_THROUGH


def test_whose_proof_is_old_counts_as_anybody() -> None:
    strangers = Strangers()
    strangers.turn(0.0)
    strangers.prove(MEMBER)
    for turns in range(1, 3):
        strangers.turn(turns * PROVEN_S)
    _flood(strangers, MEMBER)
    assert _read(strangers, MEMBER) == 100


def test_a_flood_from_everywhere_takes_no_more_memory() -> None:
    strangers = Strangers()
    strangers.turn(0.0)
    for number in range(2 * ADDRESSES_MAX):
        _flood(strangers, number.to_bytes(4, "big"))
    assert _read(strangers, (0).to_bytes(4, "big")) == 100
    assert _read(strangers, (2 * ADDRESSES_MAX - 1).to_bytes(4, "big")) == 100 * LET_THROUGH
    for number in range(4 * PROVEN_MAX):
        strangers.prove(number.to_bytes(4, "big"))
        strangers.turn(0.0)
    assert len(strangers._junk) <= ADDRESSES_MAX
    assert len(strangers._proven) + len(strangers._proven_before) <= 2 * PROVEN_MAX
