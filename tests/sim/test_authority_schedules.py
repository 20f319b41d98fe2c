"""Whatever a hostile minority signs, withholds and plays back: who is out stays out, and honest devices agree."""

import os
from collections.abc import Iterable

from clanmesh_protocol.records import AdminRemove, Checkpoint, Record
from tests.core.authors import Family
from tests.seeds import seeds
from tests.sim.campaign import AGAIN, BATCH, campaign, failure, shrunk
from tests.sim.honest import Device, Entry, is_over_a_pin
from tests.sim.schedules import LIMIT, Broken, Schedule, key

COUNT_VARIABLE = "SOAK_SCHEDULES"
COUNT = 10_000
LIMITS_SHARE_MAX = 0.0005  # of all schedules; about one in ten thousand was seen
LIMITS_MAX = 3  # in however few
REACHES = 200  # schedules that are looked at to see that the rest means something


def test_schedules() -> None:
    count = int(os.environ.get(COUNT_VARIABLE, COUNT))
    first = seeds(1)[0] * 1_000
    print(f"{count} schedules from seed {first} on")
    found = campaign(first, count)
    again = [f"{what}: {AGAIN} {seed} --shrink" for seed, what in found]
    print("\n".join(again))
    assert [line for line in again if not line.startswith(LIMIT)] == []
    assert len(again) <= LIMITS_MAX + count * LIMITS_SHARE_MAX


def test_they_get_somewhere() -> None:
    """Operations stand, keys are thrown out, branches are lost, heads become final."""
    ended = []
    for seed in range(REACHES):
        schedule = Schedule(seed)
        schedule.run()
        ended.append(schedule.devices[0].authority)
    assert sum(authority.number for authority in ended) > REACHES
    assert sum(bool(authority.chain.pinned) for authority in ended) > REACHES / 5
    assert sum(bool(authority.lost) for authority in ended) > REACHES / 20
    assert sum(authority.final == authority.head for authority in ended) > REACHES / 2


def test_one_seed_is_one_story() -> None:
    def told(seed: int) -> list[str]:
        schedule = Schedule(seed, [])
        schedule.run()
        assert schedule.story is not None
        return schedule.story

    assert told(5) == told(5) != told(6)


# --- the schedules can fail ----------------------------------------------------------------------------


class Deaf(Device):
    """It does not hear what the first admin signs."""

    def would_take(self, record: Record) -> bool:
        return record.author != key("desk").node and super().would_take(record)


class Leaky(Device):
    """It stores what it refuses."""

    def offer(self, entry: Entry, now: object) -> bool:
        taken = super().offer(entry, now)  # type: ignore[arg-type]
        if not taken:
            self.ledger.apply(entry)
        return taken


def broken_by(device: type[Device], seeds: Iterable[int]) -> set[str]:
    found = set()
    for seed in seeds:
        try:
            Schedule(seed, device=device).run()
        except Broken as broken:
            found.add(str(broken))
    return found


def test_devices_that_do_not_hear_the_same_are_found() -> None:
    assert any("heads" in what for what in broken_by(Deaf, range(BATCH)))


def test_a_device_that_keeps_what_it_refuses_is_found() -> None:
    assert "a refused record left something behind" in broken_by(Leaky, range(BATCH))


def test_an_operation_past_a_pin_is_seen() -> None:
    family = Family(["desk", "attic", "nas"])
    desk, attic = family["desk"], family["attic"]
    out = desk.write(AdminRemove(attic.node), slot="00000001", prev=family.genesis.value.id)
    after = attic.write(Checkpoint("main", bytes(20)), slot="00000002", prev=out.value.id)
    ledger = family.ledger(out, after)
    assert is_over_a_pin(ledger, after.value.id)
    assert not is_over_a_pin(ledger, out.value.id)


def test_a_failing_schedule_gets_shorter() -> None:
    seed = next(seed for seed in range(BATCH) if failure(seed, device=Deaf))
    skipped = shrunk(seed, device=Deaf)
    assert failure(seed, skipped, device=Deaf)
    assert len(skipped) > Schedule(seed).steps / 2
