"""What routers do to UDP: the models of the laboratory, as rules for nftables. Pure.

`lan` and `wan` are a router's two sides. How it maps (which port outside stands for one inside) and what it lets
in are two things; the models are those that are met, from the best to punch through to the worst.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

TUNNEL_PORT: Final = 51872
HAIRPIN_PORT_STEP: Final = 1000  # between the outer ports of two hosts behind a router that loops back
SEEN_S: Final = 60  # for so long an address that was spoken to may answer from any port


class Model(Enum):
    """A kind of router."""

    FULL_CONE = "full-cone"  # whoever knows the outer port gets in
    ADDRESS = "address-restricted"  # an address that was spoken to gets in, from any port
    EASY = "easy"  # one outer port for all; only the address and port that were spoken to get in: most at home
    OPEN_INPUT = "open-input"  # as EASY, but the router itself takes what it knows nothing of
    HARD = "hard"  # another outer port for each that is spoken to
    BLOCKED = "udp-blocked"  # no UDP at all
    HAIRPIN = "hairpin"  # as FULL_CONE for two hosts, and from inside its own outer address leads in again

    @property
    def maps(self) -> str:
        """How the outer port comes about: `independent` of who is spoken to, `dependent`, or `none`."""
        return {Model.HARD: "dependent", Model.BLOCKED: "none"}.get(self, "independent")


MODELS: Final = (Model.FULL_CONE, Model.ADDRESS, Model.EASY, Model.OPEN_INPUT, Model.HARD, Model.BLOCKED)
_STRICT: Final = frozenset(
    {Model.EASY, Model.OPEN_INPUT, Model.HARD}
)  # they let in only who was spoken to, exactly


def punchable(one: Model, other: Model) -> bool:
    """Whether hosts behind two routers can reach each other directly, with a third one's help to begin."""
    if Model.BLOCKED in (one, other):
        return False
    # Nobody knows the next port of a hard one, so whoever lets in known ports alone cannot let it in.
    return not (Model.HARD in (one, other) and {one, other} <= _STRICT)


def rules(model: Model, outside: str, hosts: Sequence[str]) -> str:
    """Input of `nft -f -` for a router with an outer address, and addresses of what is behind it."""
    return "\n".join((*_translation(model, outside, hosts), *_filter(model))) + "\n"


def _translation(model: Model, outside: str, hosts: Sequence[str]) -> list[str]:
    before: list[str] = []
    after = ['oifname "wan" masquerade']
    extra: list[str] = []
    match model:
        case Model.HARD:
            after = ['oifname "wan" masquerade random,fully-random']
        case Model.FULL_CONE:
            before = [f'iifname "wan" udp dport 1024-65535 dnat to {host}' for host in hosts[:1]]
        case Model.ADDRESS:
            before = [f'iifname "wan" ip saddr @seen udp dport 1024-65535 dnat to {host}' for host in hosts[:1]]
            extra = [
                f"set seen {{ type ipv4_addr; flags dynamic,timeout; timeout {SEEN_S}s; }}",
                *_chain("note", "filter", "forward", -150, [f'iifname "lan" update @seen {_noted()}']),
            ]
        case Model.HAIRPIN:
            outer = [(host, TUNNEL_PORT + HAIRPIN_PORT_STEP * number) for number, host in enumerate(hosts)]
            inner = f"udp sport {TUNNEL_PORT} snat to {outside}"
            before = [f"ip daddr {outside} udp dport {port} dnat to {host}:{TUNNEL_PORT}" for host, port in outer]
            after = [*(f"ip saddr {host} {inner}:{port}" for host, port in outer), *after]
    return [
        "table ip nat {",
        *extra,
        *_chain("before", "nat", "prerouting", -100, before),
        *_chain("after", "nat", "postrouting", 100, after),
        "}",
    ]


def _noted() -> str:
    return f"{{ ip daddr timeout {SEEN_S}s }}"


def _filter(model: Model) -> list[str]:
    blocked = ['iifname "lan" meta l4proto udp drop'] if model is Model.BLOCKED else []
    forward = [*blocked, "ct state established,related accept", 'iifname "lan" accept', "ct status dnat accept"]
    closed = [] if model is Model.OPEN_INPUT else ['iifname "wan" ct state new drop']
    return [
        "table ip guard {",
        *_chain("through", "filter", "forward", 0, [*forward, "drop"]),
        *_chain("inside", "filter", "input", 0, closed),
        "}",
    ]


def _chain(name: str, kind: str, hook: str, priority: int, body: Sequence[str]) -> list[str]:
    return [f"chain {name} {{", f"type {kind} hook {hook} priority {priority};", *body, "}"]
