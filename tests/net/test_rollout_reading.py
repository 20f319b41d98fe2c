"""Real daemons: a commit goes from a push to all, and what was tried at one of them is read from any other."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from clanctl.demo import scripts
from clanctl.demo.lab import Lab, Node
from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import LimitError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import STREAM_FRAME_BYTES_MAX, STREAM_LINE_BYTES_MAX, STREAM_LINES_MAX
from clanmesh_protocol.stream_rollout import Ask
from clanmesh_protocol.streams import Frame, Log, Purpose, Refuse, encode_frame
from clanmeshd import reaching
from clanmeshd.core.effects import Holder
from tests.clock import wait_until
from tests.net.clan_of_daemons import PATIENCE_S, Clan

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    with Lab(tmp_path_factory.mktemp("reading")) as lab:
        yield Clan(lab, 'overlay = "none"\n', "desk", "nas", "phone")


def push(clan: Clan, greeting: str) -> str:
    """Commit and push from the first machine; give the commit."""
    desk = clan.founder
    path = desk.directory / "home" / "config"
    if not path.exists():
        clan.ctl(desk, "repo", "init", str(path))
    scripts.write(path, greeting)
    for words in (["add", "--all"], ["commit", "-q", "-m", greeting], ["push", "-q", "clan", "main"]):
        done = clan.lab.exec(desk, ["git", *words], directory=path)
        assert done.returncode == 0, done.stderr
    return clan.lab.exec(desk, ["git", "rev-parse", "HEAD"], directory=path).stdout.strip()


def is_in(clan: Clan, node: Node, commit: str, state: str) -> bool:
    """Whether a machine shows that it wants a commit, and how far it is."""
    status = clan.lab.call(node, "rollout-status")
    return bool(status["wanted"] == commit and status["state"] == state)


@needs_root
def test_what_was_tried_is_read_from_anywhere(clan: Clan) -> None:
    desk, nas, phone = clan.nodes
    good = push(clan, scripts.GOOD)
    assert wait_until(lambda: all(is_in(clan, node, good, "current") for node in clan.nodes), PATIENCE_S)
    bad = push(clan, scripts.BAD)
    assert wait_until(lambda: all(is_in(clan, node, bad, "rolled-back") for node in clan.nodes), PATIENCE_S)
    told = clan.ctl(phone, "rollout", "history", "nas")["entries"]
    assert [(entry["commit"], entry["state"]) for entry in told] == [(good, "current"), (bad, "rolled-back")]
    own = clan.lab.call(nas, "rollout-history")["entries"]
    assert [entry["why"] for entry in told] == [entry["why"] for entry in own]
    assert [round(entry["seconds"], 3) for entry in own] == [entry["seconds"] for entry in told]
    newest = clan.ctl(phone, "rollout", "log", "nas")["text"]
    assert newest == clan.lab.call(nas, "rollout-log")["text"]
    assert "health exited with 1" in newest
    assert clan.ctl(phone, "rollout", "log", "nas", good[:8])["text"] != newest
    assert clan.ctl(nas, "rollout", "log", "nas")["text"] == newest
    refused = clan.lab.ctl(phone, "rollout", "history", "nobody")
    assert "nobody" in refused.stderr
    clan.lab.kill(nas)
    away = clan.lab.ctl(desk, "rollout", "log", "nas")
    assert away.returncode == 1
    assert "clanctl peers" in away.stderr


class Talkative:
    """A member that answers with as many full frames as anybody reads, and how one asks it."""

    def __init__(self) -> None:
        self.sent = 0

    @asynccontextmanager
    async def connect(self, holder: Holder, purpose: Purpose) -> AsyncIterator["Talkative"]:
        yield self

    async def send(self, frame: Frame) -> None:
        assert isinstance(frame, Ask)

    async def receive(self) -> Frame:
        await trio.lowlevel.checkpoint()
        self.sent += 1
        return Log(("x" * STREAM_LINE_BYTES_MAX,) * 60)


async def test_an_answer_without_an_end_is_not_read_to_it() -> None:
    member, size = Talkative(), 60 * STREAM_LINE_BYTES_MAX
    with pytest.raises(LimitError):
        await reaching.ask_log(member, Holder(NodeId(bytes(32)), (), frozenset()), None)  # type: ignore[arg-type]
    assert member.sent * size <= 2 * reaching.LOG_CHARACTERS_MAX


class Asker(Talkative):
    """A member that asks for a log, and what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Frame] = []

    async def send(self, frame: Frame) -> None:
        self.heard.append(frame)

    async def receive(self) -> Frame:
        await trio.lowlevel.checkpoint()
        return Ask(reaching.LOG)


async def test_a_log_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It is nothing that a member's question could end the daemon with."""

    def broken(commit: bytes | None) -> str:
        raise Fault("failed", "reading the log", "Input/output error")

    asker = Asker()
    await reaching.serve_question(SimpleNamespace(log=broken), asker)  # type: ignore[arg-type]
    assert asker.heard == [Refuse("failed", "reading the log")]


def test_a_log_fits_its_frames(tmp_path: Path) -> None:
    """Whatever a script wrote: no control characters, no frame over its bounds, nothing lost."""
    text = "\x1b[31mred\ttab\r\n" + "x" * 10_000 + "\n" + "\n" * 3000 + "\u00e9" * 5000 + "\n" + "long\n" * 70_000
    batches = list(reaching._batches(text))
    frames = [encode_frame(Log(lines)) for lines in batches]
    assert max(map(len, frames)) <= STREAM_FRAME_BYTES_MAX
    assert max(map(len, batches)) <= STREAM_LINES_MAX
    lines = [line for batch in batches for line in batch]
    assert lines[0] == "?[31mred    tab"
    assert len(lines[1]) == STREAM_LINE_BYTES_MAX
    assert lines[-1] == "long"
    assert len(lines) == len(text.splitlines())
