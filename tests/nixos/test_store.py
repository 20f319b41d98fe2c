"""Store paths from another member: two real stores of the same paths, and a stream in memory between them."""

import errno
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from clanmesh_protocol.errors import LimitError, MalformedError
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import Holder
from clanmeshd.process import Finished
from clanmeshd.rollout import store
from clanmeshd.rollout.store import SigningKey, pull, read_key_untrusted, serve_store, signing_key

needs_stores = pytest.mark.skipif(
    shutil.which("nix-store") is None or os.geteuid() != 0,
    reason="needs: apt install nix-bin, and root: builds for a store elsewhere are sandboxed",
)

CONFIGURATION = "sandbox = true\nsubstituters =\nbuild-users-group =\n"
EXPRESSION = """\
derivation {
  name = "thing-@NAME@";
  system = builtins.currentSystem;
  builder = "builtin:buildenv";
  derivations = "";
  manifest = builtins.toFile "manifest" "@NAME@";
}
"""
# What another machine's nix-store is: the same program on another store.
ELSEWHERE = '#!/bin/sh\n[ "$1" != --serve ] || export NIX_REMOTE="@STORE@"\nexec @PROGRAM@ "$@"\n'
TIMEOUT_S = 30.0

Serve = Callable[[trio.SocketStream], Awaitable[None]]


class Members:
    """Builders, by what they do with a stream; each is reached in memory."""

    def __init__(self, *serve: Serve) -> None:
        self.serve = serve
        self.asked: list[int] = []

    def near(self, labels: Sequence[str]) -> Sequence[Holder]:
        assert labels == ["big"]
        return [Holder(NodeId(bytes([number] * 32)), (), frozenset()) for number in range(len(self.serve))]

    @asynccontextmanager
    async def open(self, builder: Holder) -> AsyncIterator[trio.SocketStream]:
        number = builder.node[0]
        self.asked.append(number)
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, number, theirs)
            async with ours:
                yield ours
            nursery.cancel_scope.cancel()

    async def _serve(self, number: int, stream: trio.SocketStream) -> None:
        async with stream:
            await self.serve[number](stream)


class Stage:
    """A builder's store and a reader's, and how to put something into the first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.builder, self.reader = (f"local?root={root / name}" for name in ("builder", "reader"))
        self.home = root / "home"
        for folder in ("builder", "reader", "home", "bin"):
            (root / folder).mkdir()
        program = shutil.which("nix-store")
        assert program is not None
        elsewhere = ELSEWHERE.replace("@PROGRAM@", program).replace("@STORE@", self.builder)
        (root / "bin/nix-store").write_text(elsewhere)
        (root / "bin/nix-store").chmod(0o755)

    def nix(self, remote: str, *words: str) -> str:
        features = {"NIX_CONFIG": "experimental-features = nix-command"}
        finished = subprocess.run(
            words,
            env={**os.environ, **features, "NIX_REMOTE": remote},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.strip()

    def build(self, name: str, key: SigningKey | None) -> str:
        """Build something in the builder's store, signed with a key or with none; give its path."""
        file = self.root / f"{name}.nix"
        file.write_text(EXPRESSION.replace("@NAME@", name))
        derivation = self.nix(self.builder, "nix-instantiate", str(file))
        signing = ("--option", "extra-secret-key-files", str(key.secret)) if key is not None else ()
        return self.nix(self.builder, "nix-store", "--realise", derivation, *signing)

    def has(self, path: str) -> bool:
        told = json.loads(self.nix(self.reader, "nix", "path-info", "--json", path))
        return "narHash" in told[0]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path)
    (tmp_path / "nix.conf").write_text(CONFIGURATION)
    monkeypatch.setenv("NIX_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("NIX_REMOTE", made.reader)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    yield made
    for folder, _, _ in os.walk(tmp_path):
        Path(folder).chmod(0o755)


def honest(stage: Stage, key: SigningKey) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        await serve_store(stage.home, key, stream)

    return serve


@needs_stores
async def test_what_a_builder_signed_is_taken(stage: Stage) -> None:
    """With all that it needs; what the builder does not have is left."""
    key = await signing_key(stage.home, "big")
    assert await signing_key(stage.home, "big") == key, "it is made once"
    assert stage.home.joinpath("key").stat().st_mode & 0o077 == 0
    path = stage.build("a", key)
    other = f"/nix/store/{'0' * 32}-unknown"
    members = Members(honest(stage, key))
    assert await pull(stage.home, members, ["big"], [path, other], TIMEOUT_S) == {path}
    assert stage.has(path)
    assert len(members.asked) <= store.CONNECTIONS_MAX


@needs_stores
async def test_what_nobody_signed_is_not_taken(stage: Stage) -> None:
    key = await signing_key(stage.home, "big")
    path = stage.build("unsigned", None)
    assert await pull(stage.home, Members(honest(stage, key)), ["big"], [path], TIMEOUT_S) == set()
    assert not stage.has(path)


@needs_stores
async def test_what_another_key_signed_is_not_taken(stage: Stage) -> None:
    """Each member is believed for what it signed itself, whoever else is a builder."""
    own = await signing_key(stage.home, "big")
    (stage.home / "other").mkdir()
    other = await signing_key(stage.home / "other", "other")
    path = stage.build("foreign", other)
    assert await pull(stage.home, Members(honest(stage, own)), ["big"], [path], TIMEOUT_S) == set()
    assert not stage.has(path)


@needs_stores
async def test_a_key_is_believed_for_one_copy(stage: Stage) -> None:
    """Nothing of it stays: neither for another builder's paths nor in Nix's settings."""
    key = await signing_key(stage.home, "big")
    (stage.home / "other").mkdir()
    other = await signing_key(stage.home / "other", "other")
    first, second = stage.build("first", key), stage.build("second", key)
    await pull(stage.home, Members(honest(stage, key)), ["big"], [first], TIMEOUT_S)
    assert await pull(stage.home, Members(honest(stage, other)), ["big"], [second], TIMEOUT_S) == set()
    assert stage.has(first)
    assert not stage.has(second)


@needs_stores
async def test_who_fails_is_passed_over(stage: Stage) -> None:
    """One that is none, one that talks nonsense, one that hangs up in the middle; then an honest one."""
    key = await signing_key(stage.home, "big")
    path = stage.build("b", key)

    async def none(stream: trio.SocketStream) -> None:
        await trio.lowlevel.checkpoint()

    async def nonsense(stream: trio.SocketStream) -> None:
        await stream.send_all(f"{key.public}\n".encode() + bytes(range(256)))
        await stream.receive_some(100)

    members = Members(none, nonsense, honest(stage, key))
    assert await pull(stage.home, members, ["big"], [path], TIMEOUT_S) == {path}
    assert set(members.asked) == {0, 1, 2}
    few = Members(none, nonsense, nonsense, honest(stage, key))
    assert await pull(stage.home, few, ["big"], [stage.build("c", key)], TIMEOUT_S) == set()
    assert set(few.asked) == {0, 1, 2}, "no more than three are asked"


async def test_a_nix_that_cannot_be_started_today_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not come is built; there are too many processes on the machine for a moment."""

    async def refuse(*given: object, **named: object) -> Finished:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(store, "run_nix", refuse)
    assert await pull(tmp_path, Members(trio.SocketStream.aclose), ["big"], ["x"], TIMEOUT_S) == set()


@needs_stores
async def test_a_store_cannot_be_written_to(stage: Stage) -> None:
    """Nix asks for it, as it always does; the builder's side gives it to read."""
    key = await signing_key(stage.home, "big")
    stage.build("d", key)
    path = stage.nix(stage.reader, "nix-store", "--add", str(stage.root / "nix.conf"))
    async with store._tunnel(Members(honest(stage, key)), Holder(NodeId(bytes(32)), (), frozenset())) as tunnel:
        words = ("nix", "copy", *store.FEATURES, "--to", f"ssh://{store.HOST}", path)
        finished = await store.run_nix(stage.home, *words, timeout_s=TIMEOUT_S, extra=tunnel.environment)
    assert not finished.ok
    assert not list((stage.root / "builder/nix/store").glob("*-nix.conf"))


# --- the line with the key ---------------------------------------------------------------------------------

LINE = b"big-clanmesh-1:" + b"A" * 43 + b"="


@pytest.mark.parametrize(
    ("said", "error"),
    [(b"", OSError), (LINE, OSError), (b"\n", MalformedError), (b"x" * 200, LimitError)],
)
async def test_a_line_that_is_no_key(said: bytes, error: type[Exception]) -> None:
    """More of them are vectors of layer `store`."""
    sending, receiving = trio.testing.memory_stream_one_way_pair()
    await sending.send_all(said)
    await sending.aclose()
    with pytest.raises(error):
        await read_key_untrusted(receiving)


async def test_a_key_and_no_byte_more_is_read() -> None:
    sending, receiving = trio.testing.memory_stream_one_way_pair()
    await sending.send_all(LINE + b"\nrest")
    assert await read_key_untrusted(receiving) == LINE.decode()
    assert await receiving.receive_some() == b"rest"
