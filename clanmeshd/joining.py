"""The joining device's side: find the member that the token names, prove both keys, check all that comes back."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import DeviceKeys, sign_detached, signing_public
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
EXCHANGE_TIMEOUT_S: Final = 30.0

log = logging.getLogger(__name__)

Progress = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a new member starts with: all of it verified."""

    membership: Membership
    records: list[Verified[Record]]


async def join(config: Config, keys: DeviceKeys, token: Token, name: str, progress: Progress) -> Joined:
    """Redeem a token. Raises Fault with what a person can do about it.

    Whether it has expired is decided by the member that admits: this device's clock may be years off.
    """
    await progress(f"looking for a member of {token.clan_name}")
    channel = await _reach_inviter(config, keys, token)
    try:
        with trio.fail_after(EXCHANGE_TIMEOUT_S):
            async with channel:
                await progress("found one; asking to be admitted")
                return await _exchange(channel, keys, token, name)
    except stream.StreamRefused as refusal:
        raise _refused(refusal) from refusal
    except ProtocolError as error:
        raise Fault(
            "refused", "joining", f"what the member sent does not hold: {error}", "ask who invited you"
        ) from error
    except (OSError, trio.TooSlowError) as error:
        raise Fault("unreachable", "joining", "the member stopped answering", "try again") from error


async def _reach_inviter(config: Config, keys: DeviceKeys, token: Token) -> stream.Stream:
    """Try the token's endpoints and whatever mDNS finds, together; the first that proves itself wins."""
    found: list[stream.Stream] = []
    failures: list[str] = []
    refusals: list[stream.StreamRefused] = []

    async def attempt(endpoints: tuple[Endpoint, ...], scope: trio.CancelScope) -> None:
        try:
            channel = await stream.connect(
                endpoints,
                server=token.inviter,
                seed=keys.identity_seed,
                clan=token.clan,
                purpose=Purpose.JOIN,
            )
        except stream.StreamRefused as refusal:
            refusals.append(refusal)  # the inviter's own word, since its key was proven
            scope.cancel()
            return
        except (OSError, ProtocolError) as error:
            failures.append(str(error))
            return
        found.append(channel)
        scope.cancel()

    async def search(nursery: trio.Nursery) -> None:
        seen: set[Endpoint] = set(token.endpoints)
        async for endpoint in mdns.find(token.discovery, FIND_TIMEOUT_S):
            if endpoint not in seen:
                seen.add(endpoint)
                nursery.start_soon(attempt, (endpoint,), nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        if token.endpoints:
            nursery.start_soon(attempt, token.endpoints, nursery.cancel_scope)
        if config.mdns:
            nursery.start_soon(search, nursery)
    for spare in found[1:]:
        await spare.aclose()
    if not found and refusals:
        raise _refused(refusals[0])
    if not found:
        raise _nobody(token, failures)
    return found[0]


async def _exchange(channel: stream.Stream, keys: DeviceKeys, token: Token, name: str) -> Joined:
    statement = redemption_input(token.clan, token.invite_id, keys.node, name)
    await channel.send(
        Join(
            invite=token.invite_id,
            invite_key=signing_public(token.invite_seed),
            node=keys.node,
            name=name,
            invite_proof=sign_detached(token.invite_seed, statement),
            node_proof=sign_detached(keys.identity_seed, statement),
        )
    )
    welcome = await channel.receive()
    if not isinstance(welcome, Welcome):
        raise Fault("refused", "joining", "the member did not answer as this version does", "update both devices")
    data: list[bytes] = []
    while not isinstance(frame := await channel.receive(), End):
        if not isinstance(frame, Bundle) or len(data) + len(frame.records) > STREAM_RECORDS_MAX:
            raise Fault(
                "refused", "joining", "the member did not answer as this version does", "update both devices"
            )
        data += frame.records
    records = open_bundle_untrusted(token, keys.node, data)
    return Joined(Membership(token.clan, token.clan_name, welcome.discovery), records)


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
        "switch on the device that made the token, and let both be on one network",
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
