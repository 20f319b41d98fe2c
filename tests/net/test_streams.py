"""Streams on loopback: proofs, refusals, bounds, and ends of every kind, with real sockets and real TLS."""

import os
from contextlib import ExitStack, suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.streams import (
    Accept,
    End,
    Greeting,
    Hello,
    Purpose,
    RecordData,
    Refuse,
    WantRecords,
    encode_frame,
    make_hello,
)
from clanmeshd.net.door import (
    ACCEPTS_BURST,
    ACCEPTS_PER_S,
    HANDSHAKE_TIMEOUT_S,
    JOIN_TIMEOUT_S,
    STRANGERS_PER_SOURCE_MAX,
    STREAMS_PER_MEMBER_MAX,
)
from clanmeshd.net.link import FIRST_FRAMES_BYTES_MAX, IDLE_S_MAX
from clanmeshd.net.ports import PortInUse
from clanmeshd.net.stream import (
    Stream,
    StreamBroken,
    StreamRefused,
    Unreachable,
    connect,
    open_listeners,
    prove,
)
from tests.clock import Stopwatch
from tests.net.stream_house import (
    CLAN,
    CLIENT,
    CLIENT_SEED,
    OTHER,
    OTHER_SEED,
    SERVER,
    SERVER_SEED,
    house,
    introduce,
    raw_client,
    until,
    visit,
    wait_for_end,
)

# --- the way it should be ------------------------------------------------------------------------------


async def test_frames_travel_between_proven_ends() -> None:
    async with house() as made:
        async with await visit(made.at) as stream:
            await stream.send(WantRecords((b"aaaaaaaa", b"bbbbbbbb")))
            answer = [await stream.receive() for _ in range(3)]
        assert answer == [RecordData(b"aaaaaaaa" * 20), RecordData(b"bbbbbbbb" * 20), End()]
        assert (stream.peer, stream.purpose) == (SERVER, "records")
        assert made.served == [(CLIENT, "records")]


async def test_a_stranger_may_join_and_nothing_else() -> None:
    async with house(wait_for_end) as made:
        async with await visit(made.at, seed=OTHER_SEED, purpose=Purpose.JOIN):
            pass
        with pytest.raises(StreamRefused, match="members") as caught:
            await visit(made.at, seed=OTHER_SEED)
        assert caught.value.refusal == "unauthorized"
        assert made.served == [(OTHER, "join")]


@pytest.mark.parametrize(
    ("refusal", "clan", "purpose"),
    [("wrong-clan", ClanId(b"x" * 16), "records"), ("unknown-purpose", CLAN, "telepathy")],
)
async def test_a_refusal_names_its_code(refusal: str, clan: ClanId, purpose: str) -> None:
    async with house() as made:
        with pytest.raises(StreamRefused) as caught:
            await visit(made.at, clan=clan, purpose=purpose)
        assert caught.value.refusal == refusal
        assert made.counters[refusal] == 1
        assert made.served == []


async def test_a_refusal_within_a_conversation_is_raised_too() -> None:
    async def refuse(stream: Stream) -> None:
        await stream.receive()
        await stream.send(Refuse("used", "this invite was used"))

    async with house(refuse) as made, await visit(made.at) as stream:
        await stream.send(End())
        with pytest.raises(StreamRefused) as caught:
            await stream.receive()
        assert (caught.value.refusal, caught.value.why) == ("used", "this invite was used")


# --- who is at the other end ---------------------------------------------------------------------------


async def test_another_server_at_the_address_is_not_spoken_to() -> None:
    """An address is a hint: whoever answers there without the key never sees a hello."""
    async with house() as made:
        with pytest.raises(Unreachable, match="another device answers there"):
            await connect([made.at], server=OTHER, seed=CLIENT_SEED, clan=CLAN, purpose=Purpose.RECORDS)
        with pytest.raises(Unreachable, match="another device answers there"):
            await prove([made.at], OTHER)
        assert made.served == []


async def test_who_only_proves_itself_is_told_nothing() -> None:
    async with house() as made:
        await prove([made.at], SERVER)
        assert made.served == []
    with pytest.raises(Unreachable):
        await prove([made.at], SERVER)


async def test_a_hello_of_another_key_nonce_or_server_is_refused() -> None:
    """Stolen, replayed and forwarded hellos: the attacks that the signed input answers."""

    def forged(nonce: bytes) -> list[Hello]:
        honest = make_hello(CLIENT_SEED, CLAN, SERVER, nonce, "records").signature
        elsewhere = make_hello(CLIENT_SEED, ClanId(b"x" * 16), SERVER, nonce, "records").signature
        return [
            make_hello(CLIENT_SEED, CLAN, SERVER, bytes(32), "records"),
            make_hello(CLIENT_SEED, CLAN, OTHER, nonce, "records"),
            Hello(CLAN, CLIENT, "records", elsewhere),
            Hello(CLAN, OTHER, "records", honest),
            Hello(CLAN, CLIENT, "git", honest),
        ]

    async with house() as made:
        for number in range(5):
            async with raw_client(made.at) as (link, _):
                greeting = await link.receive()
                assert isinstance(greeting, Greeting)
                await link.send(forged(greeting.nonce)[number])
                with pytest.raises(StreamRefused) as caught:
                    await link.receive()
                assert caught.value.refusal == "signature"
        assert made.served == []


async def test_a_nonce_is_never_used_twice() -> None:
    nonces = set()
    async with house() as made:
        for _ in range(3):
            async with raw_client(made.at) as (link, _):
                greeting = await link.receive()
                assert isinstance(greeting, Greeting)
                nonces.add(greeting.nonce)
    assert len(nonces) == 3


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        b"\x16\x03\x01\xff\xff" + bytes(300),
        b"\x16",
        b"",
    ],
    ids=["http", "zeros", "tls-like", "cut", "nothing"],
)
async def test_garbage_before_tls_ends_that_connection_only(data: bytes) -> None:
    async with house() as made:
        async with await trio.open_tcp_stream(made.at.host, made.at.port) as garbage:
            await garbage.send_all(data)
            await garbage.send_eof()
            await until(lambda: made.counters["broken"] == 1)
        async with await visit(made.at):
            pass


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (bytes(4), "malformed"),
        ((FIRST_FRAMES_BYTES_MAX + 1).to_bytes(4, "big"), "limit"),
        (b"\xff\xff\xff\xff", "limit"),
        (b"\0\0\0\x02\xfe\x90", "version"),
        (encode_frame(Accept()), "malformed"),
        (b"\0\0\0\x03\x02\x91\xc0", "malformed"),
    ],
    ids=["empty", "large", "huge", "unknown", "no-hello", "hello-of-nil"],
)
async def test_garbage_in_place_of_a_hello_is_refused_by_name(data: bytes, refusal: str) -> None:
    async with house() as made:
        async with raw_client(made.at) as (link, _):
            await link.receive()
            await link.send_bytes(data)
            with pytest.raises(StreamRefused) as caught:
                await link.receive()
            assert caught.value.refusal == refusal
        async with await visit(made.at):
            pass
        assert made.served == [(CLIENT, "records")]


# --- ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_byte", [0, 1, 4, 9])
async def test_a_killed_peer_is_one_error_wherever_it_died(at_byte: int) -> None:
    """A killed process closes its socket without a word of TLS."""
    broken: list[StreamBroken] = []

    async def handle(stream: Stream) -> None:
        try:
            await stream.receive()
        except StreamBroken as error:
            broken.append(error)
            raise

    async with house(handle) as made:
        async with raw_client(made.at) as (link, transport):
            await introduce(link)
            if at_byte:
                await link.send_bytes(encode_frame(WantRecords((b"aaaaaaaa",)))[:at_byte])
            await trio.aclose_forcefully(transport)
            await until(lambda: bool(broken))
        assert isinstance(broken[0], OSError)
        await until(lambda: made.counters["broken"] == 1)


async def test_a_clean_close_within_a_frame_is_a_cut_too() -> None:
    async with house(wait_for_end) as made:
        async with await visit(made.at) as stream:
            await stream.link.send_bytes(encode_frame(End())[:-1])
        await until(lambda: made.counters["broken"] == 1)


async def test_faults_of_a_handler_end_one_stream_and_bugs_end_the_server() -> None:
    faults: list[BaseException] = [ProtocolError("theirs"), OSError("the world's"), StreamBroken("theirs")]

    async def fail(stream: Stream) -> None:
        async with trio.open_nursery():
            raise faults.pop(0) if faults else AssertionError("ours")

    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        async with house(fail) as made:
            for _ in range(3):
                async with await visit(made.at) as stream:
                    with pytest.raises(StreamBroken):
                        await stream.receive()
            assert (made.counters["broken"], made.counters["failed"]) == (2, 1)
            async with await visit(made.at):
                await trio.sleep_forever()


# --- endpoints -----------------------------------------------------------------------------------------


async def test_dead_endpoints_before_the_right_one_do_not_matter() -> None:
    """One refuses, one accepts and says nothing: the third is reached without their timeouts."""
    async with house() as made:
        with trio.socket.socket() as silent, trio.socket.socket() as free:
            await silent.bind(("127.0.0.1", 0))
            silent.listen()
            await free.bind(("127.0.0.1", 0))
            dead = [endpoint("127.0.0.1", each.getsockname()[1]) for each in (free, silent)]
            with Stopwatch() as watch:
                stream = await connect(
                    [*dead, made.at], server=SERVER, seed=CLIENT_SEED, clan=CLAN, purpose=Purpose.RECORDS
                )
            assert watch.passed_s < 2
            await stream.aclose()


async def test_a_failure_to_connect_says_what_happened_where() -> None:
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        dead = endpoint("127.0.0.1", free.getsockname()[1])
        with pytest.raises(Unreachable) as caught:
            await visit(dead)
    assert str(caught.value) == f"{dead}: Connection refused"
    with pytest.raises(Unreachable, match="no known address"):
        await connect([], server=SERVER, seed=CLIENT_SEED, clan=CLAN, purpose=Purpose.RECORDS)


async def test_a_port_in_use_is_told_in_one_line() -> None:
    listeners = await open_listeners(0, "127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(PortInUse, match=f"TCP port {port} is in use"):
        await open_listeners(port, "127.0.0.1")
    await listeners[0].aclose()


# --- bounds --------------------------------------------------------------------------------------------


async def test_the_oldest_stranger_makes_room() -> None:
    """Silent connections of one address cannot keep an honest peer at that address out."""
    async with house() as made:
        silent = [await trio.open_tcp_stream(made.at.host, made.at.port) for _ in range(STRANGERS_PER_SOURCE_MAX)]
        async with await visit(made.at):
            pass
        assert made.counters["evicted"] == 1
        assert await silent[0].receive_some() == b""
        for each in silent:
            await each.aclose()


@pytest.fixture
def patient_clock() -> MockClock:
    """Time that leaps once nothing has happened for 50 real ms: loopback is far faster."""
    return MockClock(autojump_threshold=0.05)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01"], ids=["silent", "slow"])
async def test_a_stranger_has_a_few_seconds(patient_clock: MockClock, data: bytes) -> None:
    async with house(bound_s=HANDSHAKE_TIMEOUT_S + 5) as made:
        async with await trio.open_tcp_stream(made.at.host, made.at.port) as stranger:
            began = trio.current_time()
            await stranger.send_all(data)
            assert await stranger.receive_some() == b""
            assert trio.current_time() - began == pytest.approx(HANDSHAKE_TIMEOUT_S, abs=0.5)
        await until(lambda: made.counters["cut-off"] == 1)


async def test_more_connections_than_a_burst_have_to_wait(patient_clock: MockClock) -> None:
    excess = 10
    async with house() as made:
        began = trio.current_time()
        for _ in range(int(ACCEPTS_BURST) + excess):
            await (await trio.open_tcp_stream(made.at.host, made.at.port)).aclose()
        await until(lambda: made.counters["broken"] == ACCEPTS_BURST + excess)
        assert trio.current_time() - began == pytest.approx(excess / ACCEPTS_PER_S, rel=0.2)


async def test_who_joins_has_half_a_minute_however_busy(patient_clock: MockClock) -> None:
    async def chatter(stream: Stream) -> None:
        while True:
            await stream.send(End())
            await trio.sleep(1)

    async with house(chatter, bound_s=60) as made, await visit(made.at, purpose=Purpose.JOIN) as stream:
        began = trio.current_time()
        with suppress(StreamBroken):
            while trio.current_time() < began + 2 * JOIN_TIMEOUT_S:
                await stream.receive()
        assert trio.current_time() - began == pytest.approx(JOIN_TIMEOUT_S, abs=1.5)


async def test_silence_ends_a_stream_and_traffic_in_one_direction_keeps_it(patient_clock: MockClock) -> None:
    async def speak_for_three_minutes(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive)
            for _ in range(9):
                await trio.sleep(20)
                await stream.send(End())

    async with house(speak_for_three_minutes, bound_s=600) as made, await visit(made.at) as stream:
        began = trio.current_time()
        for _ in range(9):
            await stream.receive()
        with pytest.raises(StreamBroken, match="nothing was heard"):
            await stream.receive()
        assert trio.current_time() - began == pytest.approx(180 + IDLE_S_MAX, abs=1)


async def test_one_member_cannot_take_all_the_room() -> None:
    async with house(wait_for_end) as made:
        inside = [await visit(made.at) for _ in range(STREAMS_PER_MEMBER_MAX)]
        with pytest.raises(StreamRefused) as caught:
            await visit(made.at)
        assert caught.value.refusal == "busy"
        async with await visit(made.at, seed=SERVER_SEED):
            pass
        await inside.pop().aclose()
        await until(lambda: made.counters["broken"] == 2)
        async with await visit(made.at):
            pass
        for stream in inside:
            await stream.aclose()


async def test_cancelling_everything_is_quick_and_leaves_nothing() -> None:
    """Strangers in mid-handshake, idle members, and a peer that takes nothing more: all gone at once."""
    before = set(os.listdir("/proc/self/fd"))

    async def flood(stream: Stream) -> None:
        while True:
            await stream.send(RecordData(bytes(60_000)))

    stack = ExitStack()
    async with house(flood) as made:
        held: list[trio.abc.AsyncResource] = []
        for _ in range(3):
            held.append(await trio.open_tcp_stream(made.at.host, made.at.port))
            held.append(await visit(made.at))
        await until(lambda: len(made.served) == 3)
        await wait_all_tasks_blocked(0.05)
        watch = stack.enter_context(Stopwatch())
        made.scope.cancel()
    stack.close()
    assert watch.passed_s < 0.5
    for each in held:
        await trio.aclose_forcefully(each)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_a_cancelled_connect_leaves_nothing() -> None:
    with trio.socket.socket() as silent:
        await silent.bind(("127.0.0.1", 0))
        silent.listen()
        before = set(os.listdir("/proc/self/fd"))
        with trio.move_on_after(0.1) as scope:
            await visit(endpoint("127.0.0.1", silent.getsockname()[1]))
        assert scope.cancelled_caught
        assert set(os.listdir("/proc/self/fd")) == before
