"""Random rule sets as iptables-restore takes them, full of what counts: each port has lists and rates of its own.

What lets through less than a test sends would have to know how often a packet comes by, and is not among them.
"""

import random
from collections.abc import Sequence

CHAINS = ("A", "B", "C")  # which only jump to later ones
RULES_MAX = 5  # of each chain, for one port
VERDICTS = ("ACCEPT", "DROP", "RETURN")
WHO = ("--mask 255.255.255.255 --rsource", "--mask 255.255.255.255 --rdest", "--mask 255.255.255.0 --rsource")


def rule_set(rng: random.Random, ports: Sequence[int], base: str) -> str:
    """The table `filter`, of IPv4. `base`: its chain that packets come to."""
    policy = rng.choice(("ACCEPT", "DROP"))
    lines = ["*filter", f":{base} {policy} [0:0]", *(f":{name} - [0:0]" for name in CHAINS)]
    number = rng.randrange(10**6)  # lists of a name that there was before are not empty
    for at, name in enumerate((base, *CHAINS)):
        for port in ports:
            lines += [
                f"-A {name} {_rule(rng, CHAINS[at:], port, number)}" for _ in range(rng.randrange(RULES_MAX))
            ]
    return "\n".join([*lines, "COMMIT", ""])


def _rule(rng: random.Random, later: Sequence[str], port: int, number: int) -> str:
    tests = " ".join(_test(rng, port, number) for _ in range(rng.randrange(3)))
    jump = rng.choice(VERDICTS) if not later or rng.randrange(2) else rng.choice(later)
    target = f"-j {jump}" if rng.randrange(3) else ""  # some only count
    return f"-p udp -m udp --dport {port} {tests} {target}"


def _test(rng: random.Random, port: int, number: int) -> str:
    invert, name = rng.choice(("", "! ")), f"{rng.choice('kl')}{number}-{port}"
    hits = rng.choice(("", "--seconds 60 ", "--hitcount 1 ", "--seconds 60 --hitcount 2 ", "--hitcount 6 "))
    recent = f"{rng.choice(('--rcheck', '--update', '--remove'))} {hits}".replace("--remove --", "--rcheck --")
    over = rng.choice(("upto", "above"))
    return rng.choice(
        (
            *(f"-m recent {invert}--set --name {name} {rng.choice(WHO)}",) * 2,
            *(f"-m recent {invert}{recent} --name {name} {rng.choice(WHO)}",) * 3,
            f"-m connlimit --connlimit-{over} {rng.choice((0, 1, 9))} --connlimit-mask 32 --connlimit-saddr",
            f"-m hashlimit --hashlimit-{over} 1/hour --hashlimit-burst 99 --hashlimit-mode srcip,dstport "
            f"--hashlimit-name {over}{number}-{port}",
            "-m limit --limit 1/hour --limit-burst 99",
        )
    )
