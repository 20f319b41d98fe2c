"""Commits on a small disk: run by `test_rollout_disk`, inside a mount namespace of its own."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanmesh_protocol.control import Fault
from clanmesh_protocol.records import RolloutState
from tests.net.rollout_devices import make_devices, running, wait_until
from tests.net.rollout_world import Author, Device, Key, relay_claim

SIZE_MB = 2
NOISE_BYTES = 3_000_000  # comes once as a pack and lies beside it as git unpacks it


@pytest.fixture
def small(tmp_path: Path, alice: Key) -> Iterator[Device]:
    """A device on a disk of a few megabytes."""
    root = tmp_path / "device2"
    root.mkdir()
    _mount(root, f"size={SIZE_MB}m")
    holder, device = make_devices(tmp_path, alice, 2)
    device.peers = [holder]
    yield device
    subprocess.run(["umount", "-l", root], check=True)


def _mount(root: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "test", root], check=True)


def _nothing_left(device: Device) -> bool:
    return not device.quarantined()


async def test_a_push_is_answered_with_the_cause(small: Device, author: Author, alice: Key) -> None:
    new = author.commit({"noise": secrets.token_hex(NOISE_BYTES)})
    with pytest.raises(Fault, match="No space left on device") as caught:
        await small.push(author, alice, None, new)
    assert caught.value.kind == "failed"
    assert "fsck" not in caught.value.remedy
    assert _nothing_left(small)
    _mount(small.root, "remount,size=100m")
    await small.push(author, alice, None, new)
    assert small.rollout.head == new


async def test_a_checkout_shows_the_cause(small: Device, author: Author, alice: Key) -> None:
    """The commits travel well; laid out they take twice as much."""
    _mount(small.root, "remount,size=7m")
    new = author.commit({"noise": secrets.token_hex(NOISE_BYTES), ".gitattributes": "\n"})
    (holder,) = small.peers
    given = await holder.push(author, alice, None, new)
    async with running(small):
        small.put(given)
        await wait_until(lambda: "No space left on device" in str(small.rollout.view()["why"]))
        assert small.rollout.target == new
        _mount(small.root, "remount,size=100m")
        await small.reaches(RolloutState.CURRENT, new)


async def test_a_build_that_fills_the_disk_gives_it_back(small: Device, author: Author, alice: Key) -> None:
    """It has a few tries, since somebody else may have filled it; and what it came to is remembered."""
    _mount(small.root, "remount,size=7m")
    new = author.commit({"build": "#!/bin/sh\nexec head -c 50000000 /dev/zero >fill\n"})
    async with running(small):
        small.put(await small.push(author, alice, None, new))
        report = await small.reaches(RolloutState.FAILED, None)
        assert report.bad == (new,)
        assert small.rollout.view()["why"] == "build: No space left on device, 3 times"
    space = os.statvfs(small.root)
    assert space.f_bavail * space.f_frsize > 5_000_000


@pytest.mark.parametrize("speaks_packs", [True, False], ids=["packs", "git"])
async def test_a_fetch_shows_the_cause_and_goes_on_when_there_is_room(
    small: Device, author: Author, alice: Key, speaks_packs: bool
) -> None:
    """It is no holder's fault: none of the others is asked for the same once more."""
    holder, *others = small.peers, *make_devices(small.root.parent / "more", alice, 9)[7:]
    new = author.commit({"noise": secrets.token_hex(NOISE_BYTES)})
    peers = [*holder, *others]
    for peer in peers:
        peer.speaks_packs = speaks_packs
        given = await peer.push(author, alice, None, new)
    small.peers = peers
    async with running(small):
        small.put(relay_claim(given, 99))
        await wait_until(lambda: "No space left on device" in str(small.rollout.view()["why"]))
        assert [peer.served for peer in others] == [0, 0]
        assert small.rollout.head is None
        await wait_until(lambda: _nothing_left(small))
        _mount(small.root, "remount,size=100m")
        await small.reaches(RolloutState.CURRENT, new)
