"""Whom a device believes and where it fetches: forks, refused claims, holders that die or stall."""

import secrets
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
import trio.testing

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import RolloutState
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.core.effects import HeadClaim
from clanmeshd.rollout import fetching
from clanmeshd.rollout.attempt import Attempt
from tests.clock import Stopwatch
from tests.net.rollout_devices import deploy, make_devices, running, wait_until
from tests.net.rollout_world import (
    Author,
    Device,
    Key,
    claim,
    relay_claim,
)

# --- forks and refused claims ------------------------------------------------------------------------------


async def test_a_fork_holds_until_a_merge(tmp_path: Path, author: Author, keys: dict[str, Key]) -> None:
    alice, bob = keys["alice"], keys["bob"]
    devices = make_devices(tmp_path, alice, 3)
    for device in devices:
        device.with_signers(alice, bob)
    base = author.commit()
    async with running(*devices):
        first = await devices[0].push(author, alice, None, base)
        for device in devices:
            device.put(first)
            await device.reaches(RolloutState.CURRENT, base)
        left = author.commit({"left": "1"})
        author.git("reset", "-q", "--hard", base.hex())
        author.key = bob
        right = author.commit({"right": "1"})
        claims = [
            await devices[0].push(author, alice, base, left),
            await devices[1].push(author, bob, base, right),
        ]
        # One at a time on the pushers: each has begun to follow its own before it hears of the other.
        devices[0].put(claims[0])
        devices[1].put(claims[1])
        await devices[0].reaches(RolloutState.CURRENT, left)
        await devices[1].reaches(RolloutState.CURRENT, right)
        for device in devices:
            device.put(*claims, holders=[peer for peer in devices[:2] if peer is not device])
        for device, commit in zip(devices, (left, right, base), strict=True):
            await device.reaches(RolloutState.HELD, commit)
        why = str(devices[2].rollout.view()["why"])
        assert left.hex()[:12] in why
        assert right.hex()[:12] in why
        assert "alice" in why
        assert "bob" in why
        merged = author.merge(left)
        claims[1] = await devices[1].push(author, bob, right, merged, author.bundle(merged, base))
        for device in devices:
            device.put(*claims, holders=[devices[1]] if device is not devices[1] else [])
        for device in devices:
            await device.reaches(RolloutState.CURRENT, merged)


async def test_a_claim_with_an_unsigned_commit_counts_nowhere(tmp_path: Path, author: Author, alice: Key) -> None:
    """A pusher whose daemon does not check: everybody checks alone."""
    careless, careful = make_devices(tmp_path, alice, 2)
    good = author.commit()
    async with running(careful):
        given = await careless.push(author, alice, None, good)
        careful.put(given)
        await careful.reaches(RolloutState.CURRENT, good)
        author.key = None
        author.commit(message="sneaked in", files={"a": "1"})
        author.key = alice
        new = author.commit()
        careless.checkpoints = (new,)  # it takes everything
        given = await careless.push(author, alice, good, new)
        careful.put(given)
        await wait_until(lambda: bool(careful.rollout.view()["refused"]))
        assert "sneaked in" in str(careful.rollout.view()["refused"])
        assert careful.rollout.view()["wanted"] == good.hex()
        assert careless.served == 2
        careful.put(given, relay_claim(given, 7))
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert careless.served == 2, "a refused head is not fetched again"


@pytest.mark.parametrize("kind", ["unknown key", "other ref", "other old", "forged"])
async def test_claims_without_a_good_signature_are_not_even_fetched(
    tmp_path: Path, author: Author, keys: dict[str, Key], kind: str
) -> None:
    alice, bob = keys["alice"], keys["bob"]
    holder, device = make_devices(tmp_path, alice, 2)
    new = author.commit()
    await holder.push(author, alice, None, new)
    signature = {
        "unknown key": claim(bob, None, new).signature,
        "other ref": claim(alice, None, new, ref="other").signature,
        "other old": claim(alice, new, new).signature,
        "forged": bytes(40),
    }[kind]
    given = HeadClaim(holder.node, "main", None, new, signature)
    async with running(device):
        device.put(given)
        await wait_until(lambda: bool(device.rollout.view()["refused"]))
    assert holder.served == 0
    assert device.rollout.head is None


@pytest.mark.parametrize("has_old", [True, False])
async def test_a_claim_of_the_same_bytes_speaks_for_itself_alone(
    device: Device, author: Author, alice: Key, has_old: bool
) -> None:
    """A member moves the borders between a signer's words: what is found of that is not said of hers."""
    base = author.commit()
    first = await device.push(author, alice, None, base)
    given = await device.push(author, alice, base, author.commit({"more": "1"}))
    honest = given if has_old else first
    data = (honest.old or b"-") + honest.new + honest.signature
    cut = 32 if has_old else 20
    made_up = HeadClaim(NodeId(bytes(32)), "main", data[:cut], data[cut : cut + 20], data[cut + 20 :])
    device.restart()
    async with running(device):
        device.put(made_up, honest)  # in this order, as sorted claims are looked at
        await device.reaches(RolloutState.CURRENT, honest.new)
        [refused] = device.rollout.view()["refused"]
    assert made_up.new.hex()[:12] in refused


async def test_a_removed_signers_head_falls_back_to_the_checkpoint(
    device: Device, author: Author, keys: dict[str, Key]
) -> None:
    alice, bob = keys["alice"], keys["bob"]
    device.with_signers(alice, bob)
    base = author.commit()
    evil = author.commit({"evil": "1"}, key=bob)
    async with running(device):
        await deploy(device, author, alice, None, base)
        await device.reaches(RolloutState.CURRENT, base)
        given = await device.push(author, bob, base, evil)
        device.put(given)
        await device.reaches(RolloutState.CURRENT, evil)
        device.with_signers(alice)
        device.checkpoints = (base,)
        device.put(given)
        await device.reaches(RolloutState.HELD, evil)
        author.git("reset", "-q", "--hard", base.hex())
        honest = author.commit({"honest": "1"})
        device.put(await device.push(author, alice, base, honest))
        await device.reaches(RolloutState.CURRENT, honest)


async def test_a_checkpoint_that_is_taken_back_takes_with_it_what_rested_upon_it(
    device: Device, author: Author, alice: Key
) -> None:
    """An admin's key that was stolen accepted it by hash; the authority without that one does not have it."""
    author.key = None
    checkpoint = author.commit(message="nobody's")
    author.key = alice
    head = author.commit({"more": "1"})
    device.checkpoints = (checkpoint,)
    async with running(device):
        given = await device.push(author, alice, None, head)
        device.put(given)
        await device.reaches(RolloutState.CURRENT, head)
        device.checkpoints = ()
        device.put(given)
        await device.reaches(RolloutState.HELD, head)


async def test_what_a_signer_signed_before_a_crash_is_looked_at_again_once_it_is_removed(
    device: Device, author: Author, keys: dict[str, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head had moved, and it was not written down yet whose signatures that rested upon."""
    alice, bob = keys["alice"], keys["bob"]
    base = author.commit()
    evil = author.commit({"evil": "1"}, key=bob)
    async with running(device):
        await deploy(device, author, alice, None, base)
        await device.reaches(RolloutState.CURRENT, base)
    device.with_signers(alice, bob)
    crash = trio.Event()

    async def crashes(*arguments: object) -> None:
        crash.set()
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "remember_anchor_keys", crashes)
        device.restart()
        async with running(device):
            given = await device.push(author, bob, base, evil)
            device.put(given)
            with trio.fail_after(10):
                await crash.wait()
            assert device.rollout.head == evil
    device.restart()
    device.with_signers(alice)
    device.checkpoints = (base,)
    async with running(device):
        device.put(given)
        await wait_until(lambda: device.rollout.view()["state"] == "held")
        author.git("reset", "-q", "--hard", base.hex())
        honest = author.commit({"honest": "1"})
        device.put(await device.push(author, alice, base, honest))
        await device.reaches(RolloutState.CURRENT, honest)


# --- fetching ----------------------------------------------------------------------------------------------


async def test_the_next_holder_is_asked_when_one_dies(tmp_path: Path, author: Author, alice: Key) -> None:
    first, second, device = make_devices(tmp_path, alice, 3)
    new = author.commit()
    given = relay_claim(await first.push(author, alice, None, new), 9)
    await second.push(author, alice, None, new)

    first.on_pack = lambda sent: b""
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    assert (first.served, second.served) == (1, 1)


async def test_a_stalling_holder_is_left(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "ANSWER_S", 2.0)
    first, second, device = make_devices(tmp_path, alice, 3)
    new = author.commit()
    given = relay_claim(await first.push(author, alice, None, new), 9)
    await second.push(author, alice, None, new)

    async def stall(*arguments: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(first, "serve_pack", stall)
    with Stopwatch() as watch:
        async with running(device):
            device.put(given)
            await device.reaches(RolloutState.CURRENT, new)
    assert second.served == 1 or watch.paused_s, "who answers is not left, unless the machine stood still"


@pytest.mark.parametrize("cut", [1, 70_000, 300_000])
async def test_another_holder_goes_on_where_one_died(tmp_path: Path, author: Author, alice: Key, cut: int) -> None:
    """All have the pack as it was pushed, so that it goes on in the middle."""
    first, second, device = make_devices(tmp_path, alice, 3)
    new = author.commit({"noise": secrets.token_hex(400_000)})
    given = relay_claim(await first.push(author, alice, None, new), 9)
    async with running(second):
        second.put(given)
        await second.reaches(RolloutState.CURRENT, new)
        whole = first.sent
        first.sent = 0
        first.on_pack = lambda sent: b"" if sent >= cut else None
        async with running(device):
            device.put(given, holders=[first, second])
            await device.reaches(RolloutState.CURRENT, new)
    assert second.wants[-1].offset == first.sent > 0 or cut == 1
    assert first.sent + second.sent == whole


async def test_a_part_that_was_made_up_is_begun_anew(tmp_path: Path, author: Author, alice: Key) -> None:
    """A holder that sends something else in the middle cannot keep others from being asked."""
    first, second, device = make_devices(tmp_path, alice, 3)
    new = author.commit({"noise": secrets.token_hex(400_000)})
    given = relay_claim(await first.push(author, alice, None, new), 9)
    await second.push(author, alice, None, new)
    first.on_pack = lambda sent: bytes(50_000) if sent > 100_000 else None
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    assert [want.pack is None for want in second.wants] == [False, True]


async def test_a_member_of_an_earlier_version_serves_git(tmp_path: Path, author: Author, alice: Key) -> None:
    holder, device = make_devices(tmp_path, alice, 2)
    holder.speaks_packs = False
    new = author.commit()
    given = await holder.push(author, alice, None, new)
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    assert holder.served == 1


async def test_who_asks_early_waits(tmp_path: Path, author: Author, alice: Key) -> None:
    """A holder that has heard of a commit, too, gives it as soon as it is there."""
    holder, device = make_devices(tmp_path, alice, 2)
    new = author.commit()
    with Stopwatch() as watch:
        async with running(device):
            device.put(claim(alice, None, new))
            await wait_until(lambda: holder.served > 0)
            await holder.push(author, alice, None, new)
            await device.reaches(RolloutState.CURRENT, new)
    assert holder.served == 1 or watch.paused_s, "it waits for seconds, unless the machine stood still"


async def test_a_pack_that_builds_upon_what_nobody_asked_about(tmp_path: Path, author: Author, alice: Key) -> None:
    first, second, device = make_devices(tmp_path, alice, 3)
    old = author.commit()
    new = author.commit({"more": "1"})
    for holder in (first, second):
        await holder.push(author, alice, None, old)
        given = relay_claim(await holder.push(author, alice, old, new), 9)

    def thin(want: WantPack, client: NodeId) -> AbstractAsyncContextManager[tuple[Pack, Iterator[bytes]]]:
        return first.rollout.offers.pack(WantPack(want.commit, (old,)), client)

    first.offer = thin  # type: ignore[method-assign]
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    assert second.served == 1


async def test_a_commit_that_nobody_has_yet_is_asked_for_again(tmp_path: Path, author: Author, alice: Key) -> None:
    holder, device = make_devices(tmp_path, alice, 2)
    new = author.commit()
    given = claim(alice, None, new)
    async with running(device):
        device.put(given)
        await wait_until(lambda: holder.served > 0)
        await holder.push(author, alice, None, new)
        await device.reaches(RolloutState.CURRENT, new)


async def test_a_fetch_beyond_the_bound_is_cut(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, device = make_devices(tmp_path, alice, 2)
    new = author.commit({"noise": "".join(map(str, range(100_000)))})
    given = await holder.push(author, alice, None, new)
    monkeypatch.setattr(fetching, "PACK_BYTES_MAX", 10_000)
    async with running(device):
        device.put(given)
        await wait_until(lambda: holder.served > 0)
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert device.rollout.head is None
