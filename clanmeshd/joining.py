"""The joining device's side: find a member, prove both keys, check all that comes back.

Any member can admit. Those at the token's endpoints are asked, the inviter first, and those whom mDNS shows. Of
whoever answers only the inviter's key is known beforehand, so nobody's answer is believed: what a member hands
over must be the token's clan, follow the token's authority, and name both the member and this device. A refusal
is final from the inviter alone; after any other's there is a little time for somebody to know better.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import LimitError, MalformedError, ProtocolError
from clanmesh_protocol.keys import DeviceKeys, NodeId, sign_detached, signing_public
from clanmesh_protocol.limits import STREAM_RECORDS_MAX
from clanmesh_protocol.records import Record, redemption_input
from clanmesh_protocol.signing import Verified
from clanmesh_protocol.streams import Bundle, End, Join, Purpose, Welcome
from clanmesh_protocol.tokens import Token
from clanmeshd.config import Config
from clanmeshd.core.admission import open_bundle_untrusted
from clanmeshd.net import mdns, stream
from clanmeshd.store import Membership

FIND_TIMEOUT_S: Final = 20.0  # for mDNS to answer; a token's endpoints are tried at once
EXCHANGE_TIMEOUT_S: Final = 30.0  # with one member, to the last record of the bundle
FIND_LATER_S: Final = 0.3  # before mDNS is asked where the token has addresses: every device there answers to all
STAGGER_S: Final = 0.3  # before the next endpoint is tried as well: on a LAN the one before is done by then
SECOND_OPINION_S: Final = 3.0  # after a refusal, for a member that knows a later word of the admins
ENDPOINTS_MAX: Final = 64  # of a token and of mDNS together: a full LAN of members, or somebody's copied tags
BUNDLE_BYTES_MAX: Final = 128 << 20  # of records; a clan of 1000 with a thousand secrets has 70 MB
EXCHANGES_AT_ONCE_MAX: Final = 3  # one that stalls holds nobody up; asking two members takes one use of the invite

log = logging.getLogger(__name__)

Progress = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a new member starts with: all of it verified."""

    membership: Membership
    records: list[Verified[Record]]
    server: NodeId  # the member that admitted it


async def join(config: Config, keys: DeviceKeys, token: Token, name: str, progress: Progress) -> Joined:
    """Redeem a token. Raises Fault with what a person can do about it.

    Whether it has expired is decided by the member that admits: this device's clock may be years off.
    """
    await progress(f"looking for a member of {token.clan_name}")
    search = _Search(keys, token, name, progress)
    await search.run(uses_mdns=config.mdns)
    if search.joined is None:
        raise search.fault()
    return search.joined


class _Search:
    """Asks one member after the other until one admits, or nobody is left."""

    def __init__(self, keys: DeviceKeys, token: Token, name: str, progress: Progress) -> None:
        self.joined: Joined | None = None
        self._keys = keys
        self._token = token
        self._name = name
        self._progress = progress
        self._scope = trio.CancelScope()
        self._exchanges = trio.CapacityLimiter(EXCHANGES_AT_ONCE_MAX)
        self._seen: set[Endpoint] = set()
        self._asked: set[NodeId] = set()
        self._refusals: list[stream.StreamRefused] = []  # by members, the inviter's first
        self._turned_away: list[stream.StreamRefused] = []  # at a door: of another clan, or a busy one
        self._faults: list[ProtocolError] = []  # of what members sent
        self._failures: list[str] = []  # to reach anybody

    async def run(self, *, uses_mdns: bool) -> None:
        """Search to the end."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                if uses_mdns:
                    nursery.start_soon(self._listen, nursery)
                for endpoint in self._token.endpoints:
                    await self._knock(endpoint, nursery)

    async def _listen(self, nursery: trio.Nursery) -> None:
        async def found(endpoint: Endpoint) -> None:
            await self._knock(endpoint, nursery)

        if self._token.endpoints:
            await trio.sleep(FIND_LATER_S)
        await mdns.find(self._token.discovery, FIND_TIMEOUT_S, found)

    async def _knock(self, endpoint: Endpoint, nursery: trio.Nursery) -> None:
        """Begin to ask who is at an endpoint; gives the next one its turn when this one failed, or soon."""
        if endpoint in self._seen or len(self._seen) >= ENDPOINTS_MAX:
            return
        self._seen.add(endpoint)
        done = trio.Event()
        nursery.start_soon(self._try, endpoint, done)
        with trio.move_on_after(STAGGER_S):
            await done.wait()

    async def _try(self, endpoint: Endpoint, done: trio.Event) -> None:
        try:
            async with self._exchanges:
                await self._ask(endpoint)
        finally:
            done.set()

    async def _ask(self, endpoint: Endpoint) -> None:
        server: NodeId | None = None
        try:
            with trio.fail_after(EXCHANGE_TIMEOUT_S):
                channel = await stream.connect(
                    (endpoint,),
                    server=None,
                    seed=self._keys.identity_seed,
                    clan=self._token.clan,
                    purpose=Purpose.JOIN,
                )
                server = channel.peer
                async with channel:
                    await self._ask_once(channel)
        except stream.StreamRefused as refusal:
            self._note_refusal(refusal, server)
        except ProtocolError as error:
            log.debug("joining at %s: %s", endpoint, error)
            self._faults.append(error)
        except OSError as error:
            self._failures.append(str(error))
        except trio.TooSlowError:
            self._failures.append(f"{endpoint}: it stopped answering")

    async def _ask_once(self, channel: stream.Stream) -> None:
        if channel.peer in self._asked:
            return  # at another of its addresses
        self._asked.add(channel.peer)
        await self._progress("found one; asking to be admitted")
        try:
            self.joined = await _exchange(channel, self._keys, self._token, self._name)
        except OSError:
            self._asked.discard(channel.peer)  # another of its addresses may do better
            raise
        self._scope.cancel()

    def _note_refusal(self, refusal: stream.StreamRefused, server: NodeId | None) -> None:
        if server == self._token.inviter:
            self._refusals.insert(0, refusal)
            self._scope.cancel()
        elif server is not None:
            self._refusals.append(refusal)
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + SECOND_OPINION_S)
        else:
            self._turned_away.append(refusal)

    def fault(self) -> Fault:
        """Why nobody admitted this device."""
        if self._refusals:
            return _refused(self._refusals[0])
        if self._turned_away and not self._faults:
            return _refused(self._turned_away[0])
        if self._faults:
            why = f"what the member sent does not hold: {self._faults[0]}"
            return Fault("refused", "joining", why, "ask who invited you for a new token")
        return _nobody(self._token, self._failures)


def make_join(token: Token, keys: DeviceKeys, name: str) -> Join:
    """What a device asks a member with: that it has the token, and that the key is its own."""
    statement = redemption_input(token.clan, token.invite_id, keys.node, name)
    return Join(
        invite=token.invite_id,
        invite_key=signing_public(token.invite_seed),
        node=keys.node,
        name=name,
        invite_proof=sign_detached(token.invite_seed, statement),
        node_proof=sign_detached(keys.identity_seed, statement),
    )


async def _exchange(channel: stream.Stream, keys: DeviceKeys, token: Token, name: str) -> Joined:
    """Ask one member, and check its answer. Raises OSError or ProtocolError, StreamRefused among them."""
    await channel.send(make_join(token, keys, name))
    welcome = await channel.receive()
    if not isinstance(welcome, Welcome):
        raise MalformedError("it did not answer as this version does: update both devices")
    records = open_bundle_untrusted(token, keys.node, await _receive_bundle(channel), server=channel.peer)
    return Joined(Membership(token.clan, token.clan_name, welcome.discovery), records, channel.peer)


async def _receive_bundle(channel: stream.Stream) -> list[bytes]:
    data: list[bytes] = []
    size = 0
    while not isinstance(frame := await channel.receive(), End):
        if not isinstance(frame, Bundle):
            raise MalformedError("it did not answer as this version does: update both devices")
        data += frame.records
        size += sum(map(len, frame.records))
        if len(data) > STREAM_RECORDS_MAX or size > BUNDLE_BYTES_MAX:
            raise LimitError("it sent more than a clan can have")
    return data


def _nobody(token: Token, failures: list[str]) -> Fault:
    what = "no member of the clan was found"
    if token.expires_unix_s < time.time():
        why = "nobody answers, and by this device's clock the token has expired"
        return Fault("unreachable", what, why, "ask for a new one: `clanctl invite`")
    tried = ", ".join(map(str, token.endpoints)) or "no address in the token"
    return Fault(
        "unreachable",
        what,
        f"mDNS found nobody and {tried} did not answer ({failures[0] if failures else 'no route'})",
        "switch a device of the clan on, and let both be on one network",
    )


def _refused(refusal: stream.StreamRefused) -> Fault:
    remedies = {
        "used": "each token works once: ask for a new one (`clanctl invite`)",
        "expired": "ask for a new one (`clanctl invite`)",
        "unknown-invite": "ask for a new one (`clanctl invite`)",
        "wrong-clan": "the device at that address is in another clan; ask for a token of the right one",
        "name-taken": "choose another with --name",
        "revoked": "this device was removed from the clan; ask an admin",
    }
    return Fault("refused", "the token", refusal.why, remedies.get(refusal.refusal, "ask who invited you"))
