"""The client's side of a stream: try a peer's endpoints, prove that it is the peer, say who we are and why.

Who joins by a token knows no key but the inviter's, and may be admitted by any member: then whoever answers is
taken, and `Stream.peer` is the identity that it has proven. What that is worth is for the caller to find out.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import MalformedError, ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId
from clanmesh_protocol.limits import ENDPOINTS_MAX, STREAM_FRAME_BYTES_MAX
from clanmesh_protocol.streams import Accept, Greeting, make_hello
from clanmeshd.net.certificate import check_certificate_untrusted, identity_of_certificate_untrusted
from clanmeshd.net.link import Link, Stream
from clanmeshd.net.tls import client_context
from clanmeshd.sockets import family_of

CONNECT_TIMEOUT_S: Final = 10.0  # over all endpoints, to the server's answer
ATTEMPT_TIMEOUT_S: Final = 5.0  # one endpoint, to the end of TLS: two lost segments are 3 s
STAGGER_S: Final = 0.25  # RFC 8305's pause before the next endpoint is tried as well
ATTEMPTS_MAX: Final = 2 * ENDPOINTS_MAX  # those of the record and those that were observed


Choice = TypeVar("Choice")


class Unreachable(OSError):
    """No endpoint led to the peer. The text says what happened at each."""


async def first_of(
    choices: Iterable[Choice], attempt: Callable[[Choice], Awaitable[bool]], head_start_s: float
) -> None:
    """Attempt one after the other until one succeeds, which ends all that are under way.

    The next one begins when the last one has failed, or has had its head start.
    """

    async def begin(choice: Choice, failed: trio.Event) -> None:
        if await attempt(choice):
            nursery.cancel_scope.cancel()
        failed.set()

    async with trio.open_nursery() as nursery:
        for choice in choices:
            failed = trio.Event()
            nursery.start_soon(begin, choice, failed)
            with trio.move_on_after(head_start_s):
                await failed.wait()


async def connect(
    endpoints: Sequence[Endpoint],
    *,
    server: NodeId | None,
    seed: bytes,
    clan: ClanId,
    purpose: str,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Stream:
    """Open a stream to a member wherever it answers first; the endpoints are tried in their order, overlapping.

    `server` is whom it has to be (None: anybody), `seed` our own identity's. Raises Unreachable, StreamBroken
    (both OSError), StreamRefused, or another ProtocolError for a peer that holds the key but not to the protocol.
    """
    failures: dict[Endpoint, str] = {}
    with trio.move_on_after(timeout_s) as scope:
        link, peer = await _first_proven(endpoints, server, failures)
        try:
            await _introduce(link, peer, seed, clan, purpose)
        except BaseException:
            await link.aclose()
            raise
        return Stream(link, peer, str(purpose))
    assert scope.cancelled_caught
    raise _unreachable(failures, f"no answer within {timeout_s:.0f} s")


async def prove(endpoints: Sequence[Endpoint], server: NodeId, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Let a member prove itself over a new connection, which ends then: it is not told who asks.

    Raises Unreachable, or another OSError.
    """
    failures: dict[Endpoint, str] = {}
    with trio.move_on_after(timeout_s):
        link, _ = await _first_proven(endpoints, server, failures)
        await link.aclose()
        return
    raise _unreachable(failures, f"no answer within {timeout_s:.0f} s")


async def _introduce(link: Link, server: NodeId, seed: bytes, clan: ClanId, purpose: str) -> None:
    greeting = await link.receive()
    if not isinstance(greeting, Greeting) or greeting.server != server:
        raise MalformedError("a stream begins with the greeting of the server whose certificate it showed")
    await link.send(make_hello(seed, clan, server, greeting.nonce, purpose))
    if not isinstance(await link.receive(), Accept):
        raise MalformedError("a hello is answered with an Accept or a Refuse")
    link.frame_bytes_max = STREAM_FRAME_BYTES_MAX


async def _first_proven(
    endpoints: Sequence[Endpoint], server: NodeId | None, failures: dict[Endpoint, str]
) -> tuple[Link, NodeId]:
    """Race the endpoints; the first where the server proves itself wins and the others are closed."""
    proven: list[tuple[Link, NodeId]] = []

    async def attempt(endpoint: Endpoint) -> bool:
        try:
            with trio.fail_after(ATTEMPT_TIMEOUT_S):
                proven.append(await _prove(endpoint, server))
            return True
        except trio.TooSlowError:
            failures[endpoint] = "no answer"
        except OSError as error:
            failures[endpoint] = os.strerror(error.errno) if error.errno else str(error)
        except ProtocolError as error:
            failures[endpoint] = f"another device answers there: {error}"
        return False

    try:
        await first_of(list(dict.fromkeys(endpoints))[:ATTEMPTS_MAX], attempt, STAGGER_S)
    except BaseException:
        for link, _ in proven:
            await link.aclose()
        raise
    for link, _ in proven[1:]:
        await link.aclose()
    if not proven:
        raise _unreachable(failures, "it has no known address")
    return proven[0]


async def _prove(endpoint: Endpoint, server: NodeId | None) -> tuple[Link, NodeId]:
    opened = trio.socket.socket(family_of(endpoint.ip), trio.socket.SOCK_STREAM)
    try:
        await opened.connect((endpoint.host, endpoint.port))
        link = Link(trio.SSLStream(trio.SocketStream(opened), client_context()))
        identity = _identity_untrusted(await link.shake_hands(), server)
    except BaseException:
        opened.close()  # nothing was agreed, so there is nobody to say goodbye to
        raise
    return link, identity


def _identity_untrusted(certificate: bytes | None, server: NodeId | None) -> NodeId:
    """Whose certificate it is, TLS having proven that the peer holds its key. Raises ProtocolError."""
    if server is None and certificate is not None:
        return identity_of_certificate_untrusted(certificate)
    if server is None:
        raise MalformedError("no certificate")
    check_certificate_untrusted(certificate, server)
    return server


def _unreachable(failures: dict[Endpoint, str], otherwise: str) -> Unreachable:
    return Unreachable("; ".join(f"{endpoint}: {why}" for endpoint, why in failures.items()) or otherwise)
