"""What a relay passes on between two wireguard-go, beside what the same two do over a router in its place.

Three machines in network namespaces on one wire each. The relay is a process of its own with what a daemon has in
it; WireGuard, the streams and all of the traffic share the cores with it. `bench.throughput` says what has to pass
between whole daemons, and `bench.siege` what floods do to it.
"""

import argparse
import sys
from typing import Final

from bench.figures import Figure, median, run
from tests.net.relayed_machines import Stage, apart, state

FIRST_REPLY_S: Final = 1.0
FIRST_REPLY_CARRIED_S: Final = 2.0
NO_UDP: Final = (
    "table ip f { chain o { type filter hook output priority 0; oifname wire meta l4proto udp drop; }; }"
)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Relayed, carried by a stream on one side, and direct; each in machines of its own, in turn."""
    rounds = [_round(arguments.seconds) for _ in range(arguments.rounds)]
    names = rounds[0].keys()
    middle = {name: median([each[name] for each in rounds]) or 0.0 for name in names}
    return [
        Figure("relayed", round(middle["relayed"] / 1e6), "Mbit/s"),
        Figure("direct, in the same run", round(middle["direct"] / 1e6), "Mbit/s"),
        Figure("one side carried by a stream", round(middle["carried"] / 1e6), "Mbit/s"),
        Figure("packets relayed in a second", round(middle["packets"]), ""),
        Figure("CPU of the relay for a packet", round(middle["cpu"] * 1e6, 1), "us"),
        Figure("first reply", round(middle["reply"], 3), "s", FIRST_REPLY_S),
        Figure(
            "first reply where one side has no UDP", round(middle["carried reply"], 3), "s", FIRST_REPLY_CARRIED_S
        ),
    ]


def _round(seconds: float) -> dict[str, float]:
    with apart() as stage:
        relay = stage.relayed()
        before = state(relay)
        found = {"reply": stage.first_reply_s, "relayed": stage.bulk(seconds)}
        after = state(relay)
        packets = after["packets"] - before["packets"]
        found |= {"packets": packets / seconds, "cpu": (after["cpu_s"] - before["cpu_s"]) / packets}
        stage.direct()
        found["direct"] = stage.bulk(seconds)
    with apart() as stage:
        return found | _carried(stage, seconds)


def _carried(stage: Stage, seconds: float) -> dict[str, float]:
    stage.one.run("nft", NO_UDP)
    stage.relayed(carried=[stage.one])
    return {"carried reply": stage.first_reply_s, "carried": stage.bulk(seconds)}


def main() -> int:
    """Measure, print and judge."""
    options = argparse.ArgumentParser(prog="bench.relay", description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=5.0, help="of each stream")
    return run("relay", measure, options)


if __name__ == "__main__":
    sys.exit(main())
