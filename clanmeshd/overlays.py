"""The overlay's life in the daemon: find a backend, apply what is wanted, repair, or say why there is none."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels
from clanmeshd.overlay.backend import Backend, OverlayUnavailable, TunnelState, open_backend
from clanmeshd.overlay.drift import Drift
from clanmeshd.overlay.greeting import Greeter
from clanmeshd.reconcile import Latest, reconcile

DRIFT_CHECK_S: Final = 4.0  # how long a foreign change of WireGuard's peers can last; of the rest the kernel tells
UNAVAILABLE_RETRY_S: Final = 60.0  # somebody may install a backend meanwhile

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Overlay:
    """Holds the backend while there is one. `failure` is the line for people while there is none."""

    interface: str
    kind: str  # `auto`, `kernel`, `userspace` or `none`
    backend: Backend | None = None
    failure: str | None = None
    remedy: str = ""
    applied: Callable[[SetTunnels], Awaitable[None]] | None = None  # hears of a private key that is in use
    seen: Callable[[Mapping[bytes, TunnelState]], None] = lambda observed: None  # hears of each look at the peers
    held: frozenset[NodeId] = frozenset()  # whom WireGuard has, by the last state that was applied
    _observed: Mapping[bytes, TunnelState] = field(default_factory=dict)

    async def run(self, wanted: Latest[SetTunnels]) -> None:
        """Keep the overlay as wanted until cancelled; the interface goes away with us."""
        if self.kind == "none":
            self.failure = "switched off in the configuration"
            return
        while True:
            await self._run_with_backend(wanted)
            await trio.sleep(UNAVAILABLE_RETRY_S)

    async def _run_with_backend(self, wanted: Latest[SetTunnels]) -> None:
        async with trio.open_nursery() as nursery:
            try:
                backend = await open_backend(self.interface, nursery, self.kind)
            except OverlayUnavailable as reason:
                self._explain(reason)
                return
            self.backend, self.failure = backend, None
            log.info("overlay: %s WireGuard on %s", backend.kind, self.interface)
            try:
                nursery.start_soon(Drift(self.interface, lambda: _prefix(wanted.newest)).run, wanted.again)
                greeter = Greeter(backend, nursery, applied=self.applied)

                async def apply(state: SetTunnels) -> None:
                    await greeter.apply(state)
                    self.held = frozenset(tunnel.node for tunnel in state.tunnels)

                await reconcile(wanted, apply, what="overlay", recheck_s=DRIFT_CHECK_S, report=self._report)
            finally:
                self.backend, self.held = None, frozenset()
                with trio.move_on_after(1, shield=True):
                    await backend.close()
                nursery.cancel_scope.cancel()

    def _report(self, error: Exception | None) -> None:
        self.failure = str(error) if error is not None else None
        self.remedy = error.remedy if isinstance(error, OverlayUnavailable) else ""

    def _explain(self, reason: OverlayUnavailable) -> None:
        if str(reason) != self.failure:
            log.warning("overlay: %s; %s", reason, reason.remedy)
        self._report(reason)

    async def observe(self) -> Mapping[bytes, TunnelState]:
        """What WireGuard knows of each peer, by public key; the last that was seen while it does not answer."""
        if self.backend is not None:
            try:
                self._observed = await self.backend.read()
            except OSError as error:
                log.debug("overlay: %s", error)
            else:
                self.seen(self._observed)
        return self._observed


def _prefix(wanted: SetTunnels | None) -> bytes | None:
    return wanted.address[: wanted.prefix_bits // 8] if wanted is not None else None
