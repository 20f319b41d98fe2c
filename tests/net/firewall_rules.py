"""Random rule sets, as JSON that nft takes: four chains, which only jump to later ones."""

import random
from collections.abc import Sequence
from typing import Any

CHAINS = 4
FAMILY_NETWORKS = {
    "ip": (("192.0.2.0", 24), ("10.0.0.0", 24)),
    "ip6": (("2001:db8:c1a::", 64), ("fd00::", 64)),
}
WIDE = {"rate": 1000, "per": "second", "burst": 1000}
LISTS = ("known", "below", "above")
DYNAMIC = {"flags": ["timeout"], "timeout": 600}
INCOMING, OUTGOING = ("input", "prerouting"), ("output", "postrouting")
EQUALITY = ("==", "!=")
ACCEPT, DROP, RETURN = {"accept": None}, {"drop": None}, {"return": None}

Json = dict[str, Any]


def rule_set(rng: random.Random, ports: Sequence[int], hooks: Sequence[str] = INCOMING) -> list[Json]:
    """A table whose first chain packets come to by one of the hooks. Neighbours always find one another.

    What counts does so for each sender and port, or lets through more than a test sends.
    """
    base = {"type": "filter", "hook": rng.choice(hooks), "prio": 0}
    first = {**base, "policy": rng.choice(("accept", "drop"))}
    chains = [_of_table("chain", name=f"c{at}", **(first if at == 0 else {})) for at in range(CHAINS)]
    neighbours = [_match({"meta": {"key": "l4proto"}}, "ipv6-icmp"), ACCEPT]
    rules = [_of_table("rule", chain="c0", expr=neighbours)]
    for at in range(CHAINS):
        rules += [
            _of_table("rule", chain=f"c{at}", expr=_rule(rng, at, ports)) for _ in range(rng.randrange(1, 5))
        ]
    sets = [_of_table("set", name=name, type=["ipv4_addr", "inet_service"], size=999, **DYNAMIC) for name in LISTS]
    limits = [_of_table("limit", name="wide", **WIDE), _of_table("limit", name="over", **WIDE, inv=True)]
    return [{"table": {"family": "inet", "name": "t"}}, *limits, *sets, *chains, *rules]


def _of_table(kind: str, **values: Any) -> Json:
    return {kind: {"family": "inet", "table": "t", **values}}


def _match(left: Json, right: Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _payload(field: str, protocol: str = "udp") -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _rule(rng: random.Random, at: int, ports: Sequence[int]) -> list[Json]:
    tests = [_test(rng, ports) for _ in range(rng.randrange(3))]
    if rng.randrange(5):
        return [*tests, _verdict(rng, at)]
    pairs: list[list[Any]] = [[port, _verdict(rng, at)] for port in rng.sample(ports, 2)]
    pairs = [[port, verdict] for port, verdict in pairs if "counter" not in verdict]
    pairs += [["*", rng.choice((ACCEPT, DROP))]] if not pairs or rng.randrange(2) else []
    return [*tests, {"vmap": {"key": _payload("dport"), "data": {"set": pairs}}}]


def _verdict(rng: random.Random, at: int) -> Json:
    plain = rng.choice((ACCEPT, DROP, RETURN, {"counter": None}))
    if at == CHAINS - 1 or rng.randrange(2):
        return dict(plain)
    return {rng.choice(("jump", "goto")): {"target": f"c{rng.randrange(at + 1, CHAINS)}"}}


def _test(rng: random.Random, ports: Sequence[int]) -> Json:
    port, other = rng.choice(ports), rng.choice(ports)
    family = rng.choice(("ip", "ip6"))
    address, bits = rng.choice(FAMILY_NETWORKS[family])
    both = {"concat": [{"meta": {"key": "l4proto"}}, _payload("dport", "th")]}
    op, end = rng.choice(EQUALITY), rng.choice(("saddr", "daddr"))
    return rng.choice(
        (
            _match(_payload("dport"), port, rng.choice((*EQUALITY, "<", ">", "<=", ">="))),
            _match(_payload("dport"), {"set": [port, {"range": [1000, 1100]}]}, op),
            _match(_payload("dport"), {"range": sorted((port, other + 1))}, op),
            _match(_payload("dport", "tcp"), port, op),
            _match(both, {"set": [{"concat": ["udp", port]}, {"concat": ["tcp", other]}]}, op),
            _match({"meta": {"key": rng.choice(("iifname", "oifname"))}}, rng.choice(("eth0", "lo", "et*")), op),
            _match({"meta": {"key": "l4proto"}}, rng.choice(("udp", "tcp", {"set": ["tcp", "udp"]})), op),
            _match({"meta": {"key": "nfproto"}}, rng.choice(("ipv4", "ipv6"))),
            _match({"meta": {"key": "mark"}}, rng.choice((0, 1))),
            _match(_payload("sport"), rng.choice(ports), op),
            _match(_payload(end, family), {"prefix": {"addr": address, "len": bits}}, op),
            _match({"ct": {"key": "state"}}, rng.choice(("new", ["established", "related"])), "in"),
            _match({"fib": {"result": "type", "flags": ["daddr"]}}, rng.choice(("local", "unicast")), op),
            *_counting(rng, op),
        )
    )


def _counting(rng: random.Random, op: str) -> list[Json]:
    inv = rng.choice(({}, {"inv": True}))
    sender = {"concat": [_payload("saddr", "ip"), _payload("dport")]}
    rate = {"limit": {"rate": 1, "per": "hour", "burst": 1, **inv}}  # for one packet of each
    limited = {"op": "add", "elem": sender, "set": "@above" if inv else "@below", "stmt": [rate]}
    return [
        {"limit": {**WIDE, **inv}},
        {"limit": rng.choice(("wide", "over"))},
        {"ct count": {"val": rng.choice((0, 1000)), **inv}},
        {"set": {"op": rng.choice(("add", "update")), "elem": sender, "set": "@known"}},
        {"set": limited},
        _match(sender, "@known", op),
    ]
