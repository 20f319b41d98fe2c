"""Devices that wait for a ring, watch what they run, heed admins, and leave a head that was given up: real git."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio.testing

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Resolution, RolloutState, Verb
from clanmeshd.core.effects import HeadClaim, Order, Trial
from clanmeshd.rollout.activation import activator_lives
from tests.net.rollout_devices import deploy, make_devices, running, wait_for, wait_until
from tests.net.rollout_world import CLAN_TOML, Author, Device, Key, claim, phases

RING = '[[rollout.ring]]\ntag = "testers"\nhealthy = 2\nsoak_s = 1000\n'
TESTED = {"clan.toml": CLAN_TOML + RING}
SLOW = '#!/bin/sh\ntouch "$CLAN_RUNTIME_DIR/building"\nsleep 1000\n'
QUIET_S = 0.2  # for which nothing happens, where nothing shall


def shown(commit: bytes, *whats: str) -> tuple[Trial, ...]:
    """What testers show of a commit: `well`, `bad`, or something else."""
    return tuple(
        Trial(
            NodeId(bytes([200 + number]) * 32),
            ("testers",),
            commit if what == "well" else None,
            (commit,) if what == "bad" else (),
        )
        for number, what in enumerate(whats)
    )


def order(verb: Verb, commit: bytes | None = None, seq: int = 1) -> Order:
    return Order(verb, "main", NodeId(bytes([99]) * 32), "laptop", seq, commit, "holidays")


def hears(
    device: Device, given: HeadClaim, *, trials: tuple[Trial, ...] = (), orders: tuple[Order, ...] = ()
) -> None:
    """Let a device hear what is claimed, shown and ordered by now."""
    device.trials, device.orders = trials, orders
    device.put(given)


async def with_rings(device: Device, author: Author, alice: Key) -> tuple[bytes, HeadClaim]:
    """Have a device run a commit whose successors testers try first; the commit, and the claim on it."""
    first = author.commit(TESTED)
    given = await device.push(author, alice, None, first)
    device.put(given)
    state = RolloutState.SOAKING if "testers" in device.tags else RolloutState.CURRENT
    await device.reaches(state, first)
    return first, given


async def test_others_wait_until_enough_testers_found_it_well(device: Device, author: Author, alice: Key) -> None:
    async with running(device):
        # The first revision has no earlier one to name its rings: it names them itself.
        first = author.commit(TESTED)
        given = await device.push(author, alice, None, first)
        hears(device, given, trials=shown(first, "", "", ""))
        await device.reaches(RolloutState.BEHIND, None)
        hears(device, given, trials=shown(first, "well", "well", ""))
        await device.reaches(RolloutState.CURRENT, first)
        second = author.commit({"clan.toml": CLAN_TOML})  # a commit does not choose who tries it
        given = await device.push(author, alice, first, second)
        hears(device, given, trials=shown(second, "well", "bad", ""))
        report = await device.reaches(RolloutState.BEHIND, first)
        assert report.wanted == second
        await wait_until(lambda: "1 of the 2" in str(device.rollout.view()["why"]))
        assert phases(device)[-1][1] == first.hex()
        hears(device, given, trials=shown(second, "well", "bad", "well"))
        await device.reaches(RolloutState.CURRENT, second)


async def test_testers_that_went_back_stop_the_others(device: Device, author: Author, alice: Key) -> None:
    async with running(device):
        first, given = await with_rings(device, author, alice)
        bad = author.commit({"more": "text"})
        given = await device.push(author, alice, first, bad)
        hears(device, given, trials=shown(bad, "bad", "bad", "well"))
        await device.reaches(RolloutState.HELD, first)
        assert "2 of 3 testers went back" in str(device.rollout.complaint)
        better = author.commit({"more": "other text"})
        given = await device.push(author, alice, bad, better)
        hears(device, given, trials=shown(better, "well", "well", ""))
        await device.reaches(RolloutState.CURRENT, better)
    assert bad.hex() not in {commit for _, commit in phases(device)}


async def test_a_build_is_given_up_when_testers_go_back_or_an_admin_pauses(
    device: Device, author: Author, alice: Key
) -> None:
    async with running(device):
        first, given = await with_rings(device, author, alice)
        slow = author.commit({"build": SLOW})
        given = await device.push(author, alice, first, slow)
        well = shown(slow, "well", "well")
        for trials, orders in ((shown(slow, "bad", "bad"), ()), (well, (order(Verb.PAUSE),))):
            hears(device, given, trials=well)
            await wait_for(device.runtime / "building")
            (device.runtime / "building").unlink()
            hears(device, given, trials=trials, orders=orders)
            await wait_until(lambda: device.rollout.view()["state"] == "held")
        assert "laptop paused the rollout (holidays)" in str(device.rollout.view()["why"])
        assert device.rollout.complaint is None, "it is on purpose"
    assert [entry["commit"] for entry in device.rollout.history()] == [first.hex()]


async def test_a_promoted_commit_waits_for_no_ring(device: Device, author: Author, alice: Key) -> None:
    async with running(device):
        first, given = await with_rings(device, author, alice)
        second = author.commit({"more": "text"})
        given = await device.push(author, alice, first, second)
        hears(device, given, trials=shown(second, "bad", "bad"), orders=(order(Verb.PROMOTE, first),))
        await device.reaches(RolloutState.HELD, first)
        hears(device, given, trials=shown(second, "bad", "bad"), orders=(order(Verb.PROMOTE, second),))
        await device.reaches(RolloutState.CURRENT, second)


async def test_a_tester_waits_for_nobody_and_watches_over_restarts(
    device: Device, author: Author, alice: Key
) -> None:
    device.tags = ("testers",)
    async with running(device):
        first, given = await with_rings(device, author, alice)
        assert RolloutState.CURRENT not in {report.state for report in device.reports if report.commit == first}
    device.restart()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.SOAKING, first)
        second = author.commit({"clan.toml": CLAN_TOML + RING.replace("1000", "1")})
        given = await device.push(author, alice, first, second)
        device.put(given)
        await device.reaches(RolloutState.SOAKING, second)
        assert "1000 s" in str(device.rollout.view()["why"]), "no commit chooses how long it is watched"
        third = author.commit({"more": "text"})
        given = await device.push(author, alice, second, third)
        device.put(given)
        await device.reaches(RolloutState.SOAKING, third)
        await device.reaches(RolloutState.CURRENT, third)
    device.restart()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, third)
    assert RolloutState.SOAKING not in {report.state for report in device.reports}, "it was watched already"


async def test_a_retry_by_an_admin_is_heeded_once(device: Device, author: Author, alice: Key) -> None:
    failing = '#!/bin/sh\necho >>"$CLAN_RUNTIME_DIR/tries"\nexit 1\n'
    tries = device.runtime / "tries"
    async with running(device):
        first = author.commit()
        await deploy(device, author, alice, None, first)
        await device.reaches(RolloutState.CURRENT, first)
        bad = author.commit({"build": failing})
        given = await device.push(author, alice, first, bad)
        for seq, expected in ((0, 1), (5, 2), (5, 2), (4, 2), (6, 3)):
            device.orders = (order(Verb.RETRY, bad, seq), order(Verb.RETRY, first, seq)) if seq else ()
            device.put(given)
            await wait_until(lambda expected=expected: len(device.rollout.history()) == 1 + expected)
            await trio.testing.wait_all_tasks_blocked(QUIET_S)
            assert len(tries.read_text()) == expected
    device.restart()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.FAILED, first)
        await trio.testing.wait_all_tasks_blocked(QUIET_S)
    assert len(tries.read_text()) == 3, "remembered over a restart"


async def test_what_others_show_is_no_reason_to_look_at_the_claims_again(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    decide = device.rollout._following.decide

    async def counted(*args: object) -> object:
        looks.append(args)
        return await decide(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(device.rollout._following, "decide", counted)
    async with running(device):
        first = author.commit()
        given = await device.push(author, alice, None, first)
        hears(device, given)
        await device.reaches(RolloutState.CURRENT, first)
        await wait_until(lambda: not activator_lives(device.root / "rollout"))
        await trio.testing.wait_all_tasks_blocked(QUIET_S)
        seen, reported = len(looks), len(device.reports)
        for what in ("well", "bad", "", "well"):
            hears(device, given, trials=shown(first, what))
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(looks) == seen
        assert len(device.reports) == reported


# --- forks ---------------------------------------------------------------------------------------------


async def forked(
    devices: list[Device], author: Author, keys: dict[str, Key]
) -> tuple[bytes, bytes, bytes, list[HeadClaim]]:
    """Two devices that run two heads of a third one's base; all three see both."""
    alice, bob = keys["alice"], keys["bob"]
    base = author.commit()
    given = await devices[0].push(author, alice, None, base)
    for device in devices:
        device.with_signers(alice, bob)
        device.put(given)
        await device.reaches(RolloutState.CURRENT, base)
    heads, claims = [], []
    for device, key in ((devices[0], alice), (devices[1], bob)):
        author.git("reset", "-q", "--hard", base.hex())
        heads.append(author.commit({key.path.name: "1"}, key=key))
        claims.append(await device.push(author, key, base, heads[-1]))
        device.put(claims[-1])
        await device.reaches(RolloutState.CURRENT, heads[-1])
    for device in devices:
        device.put(*claims, holders=[peer for peer in devices[:2] if peer is not device])
    for device, commit in zip(devices, (*heads, base), strict=True):
        await device.reaches(RolloutState.HELD, commit)
    return base, heads[0], heads[1], claims


async def test_a_fork_is_told_with_both_heads_and_signers_and_its_end_too(
    tmp_path: Path, author: Author, keys: dict[str, Key]
) -> None:
    devices = make_devices(tmp_path, keys["alice"], 3)
    async with running(*devices):
        _, left, right, claims = await forked(devices, author, keys)
        named = {(left, "alice"), (right, "bob")}
        for device in devices:
            assert set(device.rollout.fork) == named
            [(kind, text)] = device.told
            assert kind == "alarm"
            assert all(f"{commit.hex()[:12]} by {signer}" in text for commit, signer in named)
        author.key = keys["bob"]
        merged = author.merge(left)
        claims[1] = await devices[1].push(author, keys["bob"], right, merged, author.bundle(merged))
        for device in devices:
            device.put(*claims, holders=[devices[1]] if device is not devices[1] else [])
            await device.reaches(RolloutState.CURRENT, merged)
            assert [kind for kind, _ in device.told] == ["alarm", "alarm-over"]
            assert device.rollout.fork == ()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_fork_does_not_end_when_the_member_that_made_it_says_something_else(
    tmp_path: Path, author: Author, keys: dict[str, Key], restarted: bool
) -> None:
    """One that has a signer's key shows each head where it likes, and lets one vanish when both are seen."""
    devices = make_devices(tmp_path, keys["alice"], 3)
    witness = devices[2]
    async with running(*devices):
        base, left, right, claims = await forked(devices, author, keys)
    if restarted:
        witness.restart()
    bare = claim(keys["alice"], None, base, author=1)
    forged = replace(claims[0], signature=bytes(40))
    async with running(witness):
        for said in (bare, forged):
            witness.put(said, claims[1], holders=devices[:2])
            await witness.reaches(RolloutState.HELD, base)
            await trio.testing.wait_all_tasks_blocked(QUIET_S)
            assert set(witness.rollout.fork) == {(left, "alice"), (right, "bob")}
        assert [kind for kind, _ in witness.told] == ["alarm"] * (1 + restarted)
        # Its end is an admin's word, or that the signer is none any more.
        witness.resolutions = (Resolution("main", right, (left,)),)
        witness.put(bare, claims[1], holders=devices[:2])
        await witness.reaches(RolloutState.CURRENT, right)
        assert witness.rollout._journal.memory.witnessed == ()
    assert left.hex() not in {commit for _, commit in phases(witness)}


async def test_a_removed_signers_fork_is_none(tmp_path: Path, author: Author, keys: dict[str, Key]) -> None:
    devices = make_devices(tmp_path, keys["alice"], 3)
    witness = devices[2]
    async with running(*devices):
        base, left, _, claims = await forked(devices, author, keys)
        witness.with_signers(keys["alice"])
        witness.checkpoints = (base,)
        witness.put(claims[0], holders=devices[:1])
        await witness.reaches(RolloutState.CURRENT, left)
        assert witness.rollout._journal.memory.witnessed == ()


async def test_a_resolution_ends_a_fork_and_the_other_head_never_comes_back(
    tmp_path: Path, author: Author, keys: dict[str, Key]
) -> None:
    alice, bob = keys["alice"], keys["bob"]
    devices = make_devices(tmp_path, alice, 3)
    async with running(*devices):
        base, stands, left, claims = await forked(devices, author, keys)
        for device in devices:
            device.resolutions = (Resolution("main", stands, (left,)),)
            device.put(*claims)
        for device in devices:
            await device.reaches(RolloutState.CURRENT, stands)
        assert ("rollback", base.hex()) not in phases(devices[1])
        assert phases(devices[1])[-1] == ("commit", stands.hex()), "it stepped over to the other side"
        # Built upon what was left: not forward at the push, and refused as another's claim.
        author.git("reset", "-q", "--hard", left.hex())
        again = author.commit({"more": "1"}, key=bob)
        with pytest.raises(Fault, match="does not descend"):
            await devices[1].push(author, bob, stands, again, author.bundle(again))
        careless = await careless_claim(devices[0], author, bob, left, again)
        for device in devices[1:]:
            device.put(claims[0], careless, holders=[devices[0]])
            await wait_until(lambda device=device: "built on" in str(device.rollout.view()["refused"]))
            assert device.rollout.fork == ()
            assert device.rollout.view()["wanted"] == stands.hex()
        # The one way back in is to contain what stands.
        author.key = bob
        merged = author.merge(stands)
        healed = await devices[1].push(author, bob, stands, merged, author.bundle(merged))
        for device in devices[1:]:
            device.put(healed, holders=[devices[1]] if device is not devices[1] else [])
            await device.reaches(RolloutState.CURRENT, merged)


async def careless_claim(device: Device, author: Author, key: Key, old: bytes, new: bytes) -> HeadClaim:
    """What a member claims and serves that has not heard which head was left."""
    fresh = Device(9, device.root.parent / "careless", device.signers)
    given = await fresh.push(author, key, old, new, author.bundle(new))
    device.serve_pack = fresh.serve_pack  # type: ignore[method-assign]
    return replace(given, author=device.node)


async def test_a_checkpoint_on_the_side_that_was_left_is_no_ground(
    tmp_path: Path, author: Author, keys: dict[str, Key]
) -> None:
    devices = make_devices(tmp_path, keys["alice"], 3)
    async with running(*devices):
        _, stands, left, claims = await forked(devices, author, keys)
        for device in devices:
            device.checkpoints = (left,)
            device.resolutions = (Resolution("main", stands, (left,)),)
            device.put(*claims)
        for device in devices:
            await device.reaches(RolloutState.CURRENT, stands)


async def test_a_fork_holds_what_was_about_to_be_run(tmp_path: Path, author: Author, keys: dict[str, Key]) -> None:
    alice, bob = keys["alice"], keys["bob"]
    pusher, other = make_devices(tmp_path, alice, 2)
    pusher.with_signers(alice, bob)
    other.with_signers(alice, bob)
    async with running(pusher, other):
        base = author.commit()
        given = await pusher.push(author, alice, None, base)
        for device in (pusher, other):
            device.put(given)
            await device.reaches(RolloutState.CURRENT, base)
        left = author.commit({"build": SLOW})
        claims = [await pusher.push(author, alice, base, left)]
        pusher.put(*claims)
        await wait_for(pusher.runtime / "building")
        author.git("reset", "-q", "--hard", base.hex())
        right = author.commit({"right": "1"}, key=bob)
        claims.append(await other.push(author, bob, base, right))
        pusher.put(*claims, holders=[other])
        await pusher.reaches(RolloutState.HELD, base)
    assert [entry["commit"] for entry in pusher.rollout.history()] == [base.hex()]
