"""When this device's prekeys change, and which of them seals what it sends.

A prekey lives a day and is kept for two: long enough for a peer that slept, short enough that a stolen device
opens little of what was recorded before.
"""

from dataclasses import replace

from clanmesh_protocol.keys import DeviceKeys, Entropy
from clanmesh_protocol.limits import PREKEYS_MAX
from clanmeshd.core.limits import PREKEY_CHECK_S, PREKEY_KEPT_S, PREKEY_LIFE_S, PREKEY_SETTLE_S

_IDS = 256


def rotated(keys: DeviceKeys, entropy: Entropy, now_unix_s: float) -> DeviceKeys | None:
    """Give the keys with a new prekey and without those too old, or None while the newest is young enough.

    A newest prekey from the future (the clock was set back) counts as young: it is replaced when its day is over.
    """
    return renewed(keys, entropy, now_unix_s) if now_unix_s >= keys.prekeys[-1][2] + PREKEY_LIFE_S else None


def renewed(keys: DeviceKeys, entropy: Entropy, now_unix_s: float) -> DeviceKeys:
    """Give the keys with a new prekey and without those too old, whatever the newest one's age."""
    newest = keys.prekeys[-1]
    # The last one stays whatever its age: peers that have not heard of the new one seal with it.
    kept = [
        prekey
        for prekey in keys.prekeys
        if prekey is newest or (now_unix_s < prekey[2] + PREKEY_KEPT_S and prekey[0] != (newest[0] + 1) % _IDS)
    ]
    fresh = ((newest[0] + 1) % _IDS, entropy(32), int(now_unix_s))
    return replace(keys, prekeys=(*kept[-(PREKEYS_MAX - 1) :], fresh))


def sending_prekey(keys: DeviceKeys, now_unix_s: float) -> int:
    """Give the id of the prekey to seal with: the newest one that peers had time to hear of, else the oldest."""
    for number, _, made_unix_s in reversed(keys.prekeys):
        if not made_unix_s <= now_unix_s < made_unix_s + PREKEY_SETTLE_S:
            return number
    return keys.prekeys[0][0]


def next_check_s(keys: DeviceKeys, now_unix_s: float) -> float:
    """Give the seconds until one of the answers above may change; at most an hour, since wall clocks jump."""
    made_unix_s = keys.prekeys[-1][2]
    ahead = [at - now_unix_s for at in (made_unix_s + PREKEY_SETTLE_S, made_unix_s + PREKEY_LIFE_S)]
    # A whole second of slack: the sum of a float clock and a small number must not fall just short of the moment.
    return min([PREKEY_CHECK_S, *(seconds + 1.0 for seconds in ahead if seconds > 0)])
