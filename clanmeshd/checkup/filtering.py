"""The check of this machine's own firewall: what it keeps out, which chain does, and what lets it in. Pure."""

from collections.abc import Iterator, Sequence

from clanmeshd.checkup.members import spoken
from clanmeshd.checkup.terms import Barrier, Finding, Firewall, Level, Snapshot


def firewall(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether a firewall here lets in what the clan needs."""
    found = snapshot.firewall
    if found is None:
        return
    for barrier in found.barriers:
        yield _inside(barrier) if barrier.is_inside else _outside(snapshot, barrier)
    if found.doubt is not None:
        yield _doubt(snapshot, found)
    elif not any(not barrier.is_inside for barrier in found.barriers):
        if found.active:
            what = f"the firewall here lets in what the clan needs: {spoken(found.needed)}"
            yield Finding(Level.OK, "firewall", what, "; ".join(found.active))
        else:
            yield Finding(Level.OK, "firewall", "no firewall of this machine keeps anything out")


def _outside(snapshot: Snapshot, barrier: Barrier) -> Finding:
    is_cut_off = bool(snapshot.fellows) and not snapshot.up
    scope = f" {barrier.scope}" if barrier.scope else ""
    heard = (
        "not even answers to what this device sent come in"
        if barrier.is_shut
        else "only answers to what this device sent come in, so two such devices may never meet"
    )
    return Finding(
        Level.PROBLEM if barrier.is_shut or is_cut_off else Level.NOTE,
        "firewall",
        f"{barrier.tool} on this device drops what comes to {spoken(barrier.dropped)}{scope}",
        f"{barrier.chain}: {heard}",
        _remedy(barrier),
    )


def _inside(barrier: Barrier) -> Finding:
    return Finding(
        Level.NOTE,
        "firewall",
        f"{barrier.tool} on this device drops members' {spoken(barrier.dropped)} that come through the tunnels",
        f"{barrier.chain}: they reach only what it lets in from everywhere",
        f"if they shall reach more: {_remedy(barrier)}",
    )


def _remedy(barrier: Barrier) -> str:
    commands = _quoted(barrier.commands)
    return f"{commands}, {barrier.lasts}" if barrier.lasts else commands


def _quoted(commands: Sequence[str]) -> str:
    return spoken([f"`{command}`" for command in commands])


def _doubt(snapshot: Snapshot, found: Firewall) -> Finding:
    """No alarm: whoever is up got through it. Where nobody is, it may be the reason."""
    is_suspect = bool(snapshot.fellows) and not snapshot.up
    return Finding(
        Level.NOTE if is_suspect else Level.OK,
        "firewall",
        f"a firewall is active ({'; '.join(found.active)})" if found.active else "there may be a firewall here",
        f"whether it lets in {spoken(found.needed)} is not known: {found.doubt}",
        f"see that it does; {_quoted(found.commands)} would" if is_suspect and found.commands else "",
    )
