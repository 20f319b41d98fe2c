"""A joining device among members, liars and sleepers: it believes what holds, whoever says it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.records import Record
from clanmesh_protocol.signing import Verified
from clanmesh_protocol.streams import Bundle, End, Join, Refuse, Welcome
from clanmesh_protocol.tokens import Token
from clanmeshd import joining
from clanmeshd.config import Config
from clanmeshd.net.stream import Stream, open_listeners, serve
from tests.clock import Stopwatch
from tests.core.authors import Family, fresh_seed

CONFIG = replace(Config(), mdns=False)
BOUND_S = 20.0
DISCOVERY = b"d" * 16

Answer = Callable[[Stream, Join], Awaitable[None]]


class Scene:
    """A clan of a desk (who invites) and a nas, a stranger, and a phone that wants to join."""

    def __init__(self) -> None:
        self.family = Family(["desk"], ["nas", "phone", "stranger"])
        desk, nas = self.family["desk"], self.family["nas"]
        self.seed = fresh_seed()
        self.invite = desk.invite(self.seed)
        self.records = [self.family.genesis, desk.credential(desk), desk.credential(nas), self.invite]
        self.asked: list[str] = []
        self.elsewhere = False  # who listens is in another clan
        self.endpoints: list[Endpoint] = []

    @property
    def token(self) -> Token:
        """What the phone was given."""
        return Token(
            clan=self.family.clan,
            clan_name="family",
            invite_seed=self.seed,
            invite_id=self.invite.value.id,
            authority_head=self.family.genesis.value.id,
            inviter=self.family["desk"].node,
            floor=self.invite.value.seq,
            discovery=DISCOVERY,
            expires_unix_s=2_000_000_000,
            endpoints=tuple(self.endpoints),
        )

    async def open(self, name: str, answer: Answer, nursery: trio.Nursery) -> None:
        """Let a device listen; its endpoint is the next one of the token."""
        listeners = await open_listeners(0, "127.0.0.1")
        self.endpoints.append(Endpoint(bytes([127, 0, 0, 1]), listeners[0].socket.getsockname()[1]))

        async def handle(stream: Stream) -> None:
            self.asked.append(name)
            request = await stream.receive()
            assert isinstance(request, Join)
            await answer(stream, request)

        async def run() -> None:
            seed = self.family[name].keys.identity_seed
            own = ClanId(bytes(16)) if self.elsewhere else self.family.clan
            await serve(listeners, seed=seed, clan=lambda: own, may=lambda node, purpose: True, handle=handle)

        nursery.start_soon(run)

    def admits(self, by: str, records: list[Verified[Record]] | None = None) -> Answer:
        """Admit whoever asks, by the word of `by`."""

        async def answer(stream: Stream, request: Join) -> None:
            admission = self.family[by].redemption(self.invite, self.seed, self.family["phone"])
            given = [*(self.records if records is None else records), admission]
            await stream.send(Welcome(DISCOVERY, "family"))
            await stream.send(Bundle(tuple(record.value.data for record in given)))
            await stream.send(End())

        return answer

    async def join(self) -> joining.Joined:
        """Let the phone join. Raises Fault."""
        return await joining.join(CONFIG, self.family["phone"].keys, self.token, "phone", _silent)


async def _silent(text: str) -> None:
    assert "\n" not in text


def refuses(code: str, why: str) -> Answer:
    async def answer(stream: Stream, request: Join) -> None:
        await stream.send(Refuse(code, why))

    return answer


async def sleeps(stream: Stream, request: Join) -> None:
    await trio.sleep_forever()


async def hangs_up(stream: Stream, request: Join) -> None:
    return


async def outcome(scene: Scene, *devices: tuple[str, Answer]) -> joining.Joined | Fault:
    """Let these devices answer, in the order of the token, and the phone join."""
    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            for name, answer in devices:
                await scene.open(name, answer, nursery)
            try:
                result: joining.Joined | Fault = await scene.join()
            except Fault as fault:
                result = fault
            nursery.cancel_scope.cancel()
    return result


async def run(scene: Scene, *devices: tuple[str, Answer]) -> joining.Joined:
    joined = await outcome(scene, *devices)
    assert isinstance(joined, joining.Joined), str(joined)
    return joined


async def fault_of(scene: Scene, *devices: tuple[str, Answer]) -> Fault:
    fault = await outcome(scene, *devices)
    assert isinstance(fault, Fault), "it was admitted"
    assert "\n" not in str(fault)
    assert fault.remedy
    return fault


async def test_another_member_admits_in_the_inviters_place() -> None:
    scene = Scene()
    scene.endpoints.append(Endpoint(bytes([127, 0, 0, 1]), 9))  # the inviter is off
    joined = await run(scene, ("nas", scene.admits("nas")))
    assert joined.membership.discovery == DISCOVERY
    assert len(joined.records) == 5


async def test_a_stranger_with_the_clans_records_is_not_believed_and_the_next_is_asked() -> None:
    scene = Scene()
    stolen = scene.admits("stranger")
    fault = await fault_of(scene, ("stranger", stolen))
    assert "does not hold" in fault.why
    scene = Scene()
    joined = await run(scene, ("stranger", scene.admits("stranger")), ("nas", scene.admits("nas")))
    assert scene.asked[-1] == "nas"
    assert len(joined.records) == 5


@pytest.mark.parametrize("answer", [sleeps, hangs_up], ids=["sleeps", "hangs up"])
async def test_one_that_does_not_finish_holds_nobody_up(answer: Answer) -> None:
    scene = Scene()
    with Stopwatch() as watch:
        joined = await run(scene, ("stranger", answer), ("nas", scene.admits("nas")))
    assert len(joined.records) == 5
    assert watch.passed_s < 5.0


async def test_the_inviters_refusal_is_final() -> None:
    scene = Scene()
    fault = await fault_of(
        scene, ("desk", refuses("used", "the invite was used already")), ("nas", scene.admits("nas"))
    )
    assert (fault.kind, fault.why) == ("refused", "the invite was used already")
    assert scene.asked == ["desk"]


async def test_another_members_refusal_is_not() -> None:
    scene = Scene()
    joined = await run(
        scene, ("nas", refuses("unknown-invite", "the clan does not know it")), ("desk", scene.admits("desk"))
    )
    assert len(joined.records) == 5


async def test_refused_by_all_it_says_why_after_a_little_while() -> None:
    scene = Scene()
    with Stopwatch() as watch:
        fault = await fault_of(scene, ("stranger", sleeps), ("nas", refuses("expired", "the invite has expired")))
    assert fault.why == "the invite has expired"
    assert watch.passed_s < joining.SECOND_OPINION_S + 5.0


async def test_records_from_before_the_token_are_refused() -> None:
    scene = Scene()
    old = [record for record in scene.records if record is not scene.invite]
    fault = await fault_of(scene, ("nas", scene.admits("nas", old)))
    assert "does not hold" in fault.why


async def test_a_device_of_another_clan_is_told_apart() -> None:
    scene = Scene()
    scene.elsewhere = True
    fault = await fault_of(scene, ("stranger", hangs_up))
    assert "another clan" in fault.remedy


async def test_nobody_there_is_said_with_what_was_tried() -> None:
    scene = Scene()
    scene.endpoints.append(Endpoint(bytes([127, 0, 0, 1]), 9))
    with trio.fail_after(BOUND_S), pytest.raises(Fault) as caught:
        await scene.join()
    assert caught.value.kind == "unreachable"
    assert "127.0.0.1:9" in caught.value.why
