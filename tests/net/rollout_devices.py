"""What tests of whole devices share: some devices with peers, running, and a push."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.net.rollout_world import Author, Device, Key


def make_devices(tmp_path: Path, key: Key, count: int) -> list[Device]:
    devices = [Device(number, tmp_path / f"device{number}", (key.line,)) for number in range(1, count + 1)]
    for device in devices:
        device.peers = [peer for peer in devices if peer is not device]
    return devices


@asynccontextmanager
async def running(*devices: Device) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for device in devices:
            nursery.start_soon(device.rollout.run, device.slot)
        yield
        nursery.cancel_scope.cancel()


async def deploy(device: Device, author: Author, key: Key, old: bytes | None, new: bytes) -> None:
    """Push to one device and have it follow."""
    device.put(await device.push(author, key, old, new))


async def wait_for(path: Path) -> None:
    await wait_until(path.exists)


async def wait_until(condition: object) -> None:
    assert callable(condition)
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.01)
