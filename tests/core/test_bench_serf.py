"""What `bench.gossip_vs_serf` reads: serf's answers and log, the scheduler's counts, the logs of records."""

import os
import random
import socket
import time
from pathlib import Path

import msgpack
import pytest

from bench.processes import Usage, _run_ns, read_usage
from bench.record_logs import RecordLogs
from bench.serf_measures import (
    CPU,
    CPU_WORST,
    DETECTED_ALL,
    DETECTED_ALL_WORST,
    DETECTED_HALF,
    DETECTED_P50,
    DETECTED_P99,
    PROPORTIONAL,
    RESIDENT,
    SENT,
    SENT_WORST,
    death_values,
    idle_values,
    quantile,
)
from bench.serf_rpc import Answer, Answers, SerfError, request, told
from bench.serf_watch import Watch
from clanmesh_protocol.records import Kind
from clanmeshd.founding import found
from clanmeshd.store import Store
from tests.core.authors import NOW_UNIX_S, Author

LINES = [  # as serf 0.9.4 prints them
    ("2026/11/23 14:25:47 [INFO] serf: EventMemberJoin: n3 192.0.2.3", ("up", "n3")),
    ("2026/11/23 14:25:55 [INFO] serf: EventMemberFailed: n3 192.0.2.3", ("down", "n3")),
    ("2026/11/23 14:25:55 [INFO] serf: EventMemberLeave: node-10 192.0.2.10", ("down", "node-10")),
    ("2026/11/23 14:25:55 [INFO] serf: EventMemberUpdate: n3 192.0.2.3", None),
    ("2026/11/23 14:25:51 [INFO] memberlist: Suspect n3 has failed, no acks received", None),
    ("2026/11/23 14:25:55 [INFO] memberlist: Marking n3 as failed, suspect timeout reached", None),
    ("2026/11/23 14:25:56 [INFO] agent: Received event: member-failed", None),
    ("2026/11/23 14:25:56 [INFO] agent: Received event: user-event: x EventMemberFailed: n3 1", None),
    ("", None),
]


@pytest.mark.parametrize(("line", "meaning"), LINES)
def test_a_line_of_the_monitor(line: str, meaning: tuple[str, str] | None) -> None:
    """Only serf's own verdict counts, not what leads to it."""
    assert told({"Log": line}) == meaning


def test_an_event_of_a_user() -> None:
    """By its name; other events come too late to be of use."""
    assert told({"Event": "user", "Name": "update-7", "Payload": b"\xff", "LTime": 1}) == ("update", "update-7")
    assert told({"Event": "member-failed", "Members": []}) is None


def _said() -> bytes:
    """A conversation: answers without a body and with one, a log line, an event with bytes that are no text."""
    parts = (
        {"Seq": 0, "Error": ""},
        {"Seq": 1, "Error": ""},
        {"Seq": 3, "Error": ""},
        {"Num": 1},
        {"Seq": 1, "Error": ""},
        {"Log": LINES[1][0]},
        {"Seq": 2, "Error": ""},
        {"Event": "user", "Name": "update-0", "Payload": b"\xff\xfe"},
        {"Seq": 4, "Error": "No such command"},
    )
    return b"".join(msgpack.packb(part, use_bin_type=False) for part in parts)


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_answers_come_in_pieces(piece: int) -> None:
    """Wherever the pieces end."""
    answers, data = Answers(), _said()
    taken = [each for at in range(0, len(data), piece) for each in answers.feed(data[at : at + piece])]
    assert Answer(3, "", {"Num": 1}) in taken
    assert taken[-1] == Answer(4, "No such command", None)
    assert [each for answer in taken if (each := told(answer.body or {}))] == [
        ("down", "n3"),
        ("update", "update-0"),
    ]
    assert [answer.seq for answer in taken] == [0, 1, 3, 3, 1, 1, 2, 2, 4]


@pytest.mark.parametrize("value", [{"Log": "a body before any header"}, 7, "HTTP/1.1 400 Bad Request"])
def test_what_is_no_answer_is_refused(value: object) -> None:
    """As when something else listens at that port."""
    with pytest.raises(SerfError):
        Answers().feed(msgpack.packb(value))


def test_a_request_is_a_header_and_a_body() -> None:
    """In the old format of strings, which is the only one that serf reads."""
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(request("event", 9, {"Name": "x" * 40, "Coalesce": False}))
    assert list(unpacker) == [{b"Command": b"event", b"Seq": 9}, {b"Name": b"x" * 40, b"Coalesce": False}]
    assert b"\xd9" not in request("event", 9, {"Name": "x" * 40})


# --- counts --------------------------------------------------------------------------------------------


def test_schedstat_counts_the_time_on_a_core(tmp_path: Path) -> None:
    """Its first number, in nanoseconds; a thread that is gone has none."""
    (tmp_path / "schedstat").write_text("123456789 999 5\n")
    assert _run_ns(tmp_path / "schedstat") == 123456789
    assert _run_ns(tmp_path / "gone") == 0


def test_the_usage_of_a_process_is_what_it_used() -> None:
    """This one, which works for a while: the two counts of the kernel agree to a tenth and a tick."""
    os.sched_yield()  # brings the one of what runs up to date
    before, begun_ns = read_usage(os.getpid(), "lo"), time.process_time_ns()
    while time.process_time_ns() < begun_ns + 200_000_000:
        pass
    os.sched_yield()
    used_ns = read_usage(os.getpid(), "lo").cpu_ns - before.cpu_ns
    assert used_ns == pytest.approx(time.process_time_ns() - begun_ns, rel=0.1, abs=20_000_000)


def test_idle_values() -> None:
    """Per second and node; bytes without the Ethernet headers."""
    before = [Usage(1, 1, 0, 0, 0, 0), Usage(1, 1, 5_000_000_000, 1000, 10, 0)]
    after = [
        Usage(40_000_000, 20_000_000, 10_000_000, 3000 + 140, 10, 0),
        Usage(44_000_000, 30_000_000, 5_030_000_000, 2000 + 140, 20, 0),
    ]
    values = idle_values(list(zip(before, after, strict=True)), 10.0)
    assert (values[SENT], values[SENT_WORST]) == (200.0, 300.0)
    assert (values[CPU], values[CPU_WORST]) == (0.2, 0.3)
    assert (values[RESIDENT], values[PROPORTIONAL]) == (42.0, 25.0)


def test_death_values() -> None:
    """Quantiles are over all pairs, halves and ends over the deaths."""
    values = death_values([[1.0, 2.0, 3.0], [2.0, 4.0, 9.0], [3.0, 3.0, 3.0]])
    assert (values[DETECTED_P50], values[DETECTED_P99]) == (3.0, 9.0)
    assert (values[DETECTED_HALF], values[DETECTED_ALL], values[DETECTED_ALL_WORST]) == (3.0, 3.0, 9.0)


@pytest.mark.parametrize("missing", [[1.0, None], [None, None]])
def test_a_death_that_somebody_never_saw_leaves_no_figure(missing: list[float | None]) -> None:
    """A check then fails, as it should."""
    values = death_values([[1.0, 2.0], missing])
    assert values[DETECTED_P99] is values[DETECTED_ALL] is values[DETECTED_ALL_WORST] is None


def test_quantiles() -> None:
    """Nearest rank: always one of the values."""
    assert quantile([float(value) for value in range(1, 101)], 0.99) == 99.0
    assert quantile([5.0, 1.0], 0.5) == 1.0
    assert quantile([5.0], 0.99) == 5.0


# --- listening -----------------------------------------------------------------------------------------


class _Scripted:
    """A node that says one thing for each byte that comes."""

    def __init__(self, *said: tuple[str, str]) -> None:
        self.socket, self.other = socket.socketpair()
        self._said = list(said)

    def read(self) -> list[tuple[str, str]]:
        return [self._said.pop(0) for _ in self.socket.recv(10)]


def test_a_watch_keeps_who_is_up_and_what_came_first() -> None:
    """Forgetting what was said forgets nobody's state."""
    watch, node = Watch(), _Scripted(("up", "b"), ("down", "b"), ("down", "b"), ("down", "c"), ("up", "b"))
    with node.other:
        watch.add("a", node)
        node.other.send(b"...")
        watch.pump(1.0)
        assert (watch.up, watch.count("down"), watch.count("down", but="b")) == ({"a": set()}, 2, 0)
        at_s = watch.first("down", "b")["a"]
        node.other.send(b"..")
        assert watch.until(lambda: watch.up["a"] == {"b"}, 10.0)
        assert watch.first("down", "b") == {"a": at_s}
        assert watch.count("down", but="b") == 1
        watch.forget()
        assert (watch.first("down", "b"), watch.up) == ({}, {"a": {"b"}})
        assert not watch.until(lambda: False, 0.0)
        watch.close()


# --- logs ----------------------------------------------------------------------------------------------


def _secret(author: Author, name: str) -> bytes:
    return author.write(None, kind=Kind.SECRET, slot=name).value.data


def test_logs_are_compared_by_their_sets(tmp_path: Path) -> None:
    """Whatever the order, with old values or without, torn or written anew."""
    founder = Author("a", 1)
    founded = found("family", "a", (), founder.keys, random.Random(1).randbytes, NOW_UNIX_S, has_recovery=True)
    founder.clan = founded.membership.clan
    records = [each.value.data for each in founded.records]
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    logs = RecordLogs(founder.clan, {"one": one.directory, "other": other.directory})
    for store, data in ((one, records), (other, records[::-1])):
        store.directory.mkdir()
        store.append(data)
    logs.refresh()
    assert logs.equal()
    old, new = _secret(founder, "key"), _secret(founder, "key")
    one.append([old, new])
    logs.refresh()
    assert not logs.equal()
    assert logs.stored_s("other", "key") is None
    other.append([new])
    with (other.directory / "records.log").open("ab") as file:
        file.write(b"\xc7\x1etorn")
    logs.refresh()
    assert logs.equal()
    assert logs.stored_s("other", "key") is not None
    one.compact([*records, new])
    logs.refresh()
    assert logs.equal()
    one.compact(records)
    logs.refresh()
    assert not logs.equal()
