"""How this device's tunnel key changes without a packet lost: when, and in which steps.

1. Begun: the next key is made, stored and published beside the one in use, together with a new prekey.
2. Known: every member that is up seals with that prekey, so each has read that record and can read the next one.
3. Its turn: devices that change at the same time do it one after another, the lowest id first.
4. Applied: WireGuard has the new private key. It can still read what peers send in their sessions, and whatever
   it has to send waits in its queues: peers who do not know the key leave its handshake unanswered.
5. Published: the record names the new key alone. Each peer moves the address to it and begins a handshake, and
   what waited flows. (A peer that knew the key before would answer it in step 4, and WireGuard would drop what
   comes from an address that still belongs to the old one.)

Members that are away are not waited for: they read the newest record before anything else when they come back.
A crash before the change was stored takes the device back to the published key, and step 2 begins again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf
from typing import Final

from clanmesh_protocol.keys import DeviceKeys, Entropy, NextTunnelKey, NodeId
from clanmeshd.core.limits import (
    PREKEY_LIFE_S,
    TUNNEL_APPLY_S_MAX,
    TUNNEL_CHECK_IDLE_S,
    TUNNEL_CHECK_S,
    TUNNEL_KEY_DAYS,
    TUNNEL_KEY_DAYS_MAX,
    TUNNEL_KEY_JITTER,
    TUNNEL_LEARN_S_MAX,
    TUNNEL_SETTLE_S,
    TUNNEL_TURN_S_MAX,
)
from clanmeshd.core.prekeys import renewed

SETTING: Final = "tunnel-key-days"  # how long a tunnel key is used; 0: for ever
_DAY_S: Final = 86_400


# --- when ----------------------------------------------------------------------------------------------


def life_days(settings: Mapping[str, str]) -> int:
    """How long a tunnel key is used by the clan's settings, in days; 0: for ever. Nonsense counts as not said."""
    text = settings.get(SETTING, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(TUNNEL_KEY_DAYS_MAX))):
        return TUNNEL_KEY_DAYS
    return min(int(text), TUNNEL_KEY_DAYS_MAX)


def is_due(keys: DeviceKeys, settings: Mapping[str, str], now_unix_s: float) -> bool:
    """Whether the tunnel key is old enough to be changed, and no change is under way.

    Each device is earlier by a part of its own: a clan that was founded in one evening does not change in one.
    """
    days = life_days(settings)
    if not days or keys.tunnel_next is not None:
        return False
    digest = blake2b(keys.node + keys.tunnel_number.to_bytes(8, "big"), digest_size=2).digest()
    early = TUNNEL_KEY_JITTER * int.from_bytes(digest, "big") / 0xFFFF
    return now_unix_s >= keys.tunnel_made_unix_s + days * _DAY_S * (1 - early)


def dated(keys: DeviceKeys, now_unix_s: float) -> DeviceKeys:
    """Give the keys with an age for the tunnel key: it has none from older versions, or one from a wrong clock."""
    if 0 < keys.tunnel_made_unix_s <= now_unix_s + PREKEY_LIFE_S:
        return keys
    return replace(keys, tunnel_made_unix_s=int(now_unix_s))


# --- steps ---------------------------------------------------------------------------------------------


def begun(keys: DeviceKeys, entropy: Entropy, now_unix_s: float) -> DeviceKeys:
    """Give the keys with the next tunnel key and the prekey that goes with it."""
    fresh = renewed(keys, entropy, now_unix_s)
    return replace(fresh, tunnel_next=NextTunnelKey(entropy(32), fresh.prekeys[-1][0], int(now_unix_s)))


def switched(keys: DeviceKeys, now_unix_s: float) -> DeviceKeys:
    """Give the keys with the next tunnel key in the place of the other, which is forgotten."""
    assert keys.tunnel_next is not None
    return replace(
        keys,
        tunnel_seed=keys.tunnel_next.seed,
        tunnel_number=keys.tunnel_number + 1,
        tunnel_made_unix_s=int(now_unix_s),
        tunnel_next=None,
    )


def announcing(keys: DeviceKeys) -> frozenset[int]:
    """The ids of the prekeys that were published with the next tunnel key or after it."""
    numbers = [number for number, _, _ in keys.prekeys]
    first = keys.tunnel_next.prekey if keys.tunnel_next is not None else None
    # One that is no longer there was the oldest: all that are left came later.
    return frozenset(numbers[numbers.index(first) :] if first in numbers else numbers)


@dataclass(frozen=True, slots=True)
class Fellow:
    """A member that is up, as far as changing tunnel keys goes."""

    node: NodeId
    addressed: int | None  # id of the prekey of ours that it sealed with last
    tunnel_key: bytes | None  # that it publishes
    changing: bool  # it has published a next one


class Rotation:
    """Where one change of this device's tunnel key stands in this run."""

    def __init__(self) -> None:
        self.applying = False  # WireGuard is to have the next private key
        self._since_s = 0.0  # this change, in this run
        self._known_s: float | None = None  # since when every member that is up knows the next key
        self._quiet_s = 0.0  # since when no other member's tunnel key has changed
        self._applying_s = 0.0
        self._published: dict[NodeId, bytes | None] = {}
        self._check_s = inf

    def next_deadline(self) -> float:
        """When `step` is to be called."""
        return self._check_s

    def begin(self, now_s: float) -> None:
        """A next key is there: a change has begun, or was under way when this run started."""
        self.applying, self._known_s, self._published = False, None, {}
        self._since_s = self._quiet_s = self._check_s = now_s

    def end(self) -> None:
        """The change is done."""
        self.applying, self._check_s = False, inf

    def step(self, keys: DeviceKeys, fellows: Sequence[Fellow], now_s: float, now_unix_s: float) -> bool:
        """Go on if it is time to. True: the next key shall be in use, whether WireGuard has said so or not."""
        young = now_s < self._since_s + TUNNEL_TURN_S_MAX
        self._check_s = now_s + (TUNNEL_CHECK_S if young or self.applying else TUNNEL_CHECK_IDLE_S)
        if self.applying:
            return now_s >= self._applying_s + TUNNEL_APPLY_S_MAX
        self._watch(fellows, now_s)
        if not self._all_know(keys, fellows, now_unix_s):
            self._known_s = None
            return False
        if self._known_s is None:
            self._known_s = now_s
        if self._is_turn(keys.node, fellows, now_s):
            self.applying, self._applying_s = True, now_s
        return False

    def _watch(self, fellows: Sequence[Fellow], now_s: float) -> None:
        published = {fellow.node: fellow.tunnel_key for fellow in fellows}
        if any(published.get(node, key) != key for node, key in self._published.items()):
            self._quiet_s = now_s
        self._published = published

    def _all_know(self, keys: DeviceKeys, fellows: Sequence[Fellow], now_unix_s: float) -> bool:
        numbers = announcing(keys)
        if all(fellow.addressed in numbers for fellow in fellows):
            return True
        return keys.tunnel_next is not None and now_unix_s >= keys.tunnel_next.made_unix_s + TUNNEL_LEARN_S_MAX

    def _is_turn(self, own: NodeId, fellows: Sequence[Fellow], now_s: float) -> bool:
        assert self._known_s is not None
        if now_s >= self._known_s + TUNNEL_TURN_S_MAX:
            return True
        ahead = any(fellow.changing and fellow.node < own for fellow in fellows)
        return not ahead and now_s >= max(self._known_s, self._quiet_s) + TUNNEL_SETTLE_S
