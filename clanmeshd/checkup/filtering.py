"""The check of this machine's own firewall: what it lets pass, which chain drops, and what undoes that. Pure."""

from collections.abc import Iterator, Sequence

from clanmeshd.checkup.members import spoken
from clanmeshd.checkup.terms import Barrier, Finding, Firewall, Level, Snapshot


def firewall(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether a firewall here lets pass what the clan needs."""
    found = snapshot.firewall
    if found is None:
        return
    for barrier in found.barriers:
        yield _inside(barrier) if barrier.is_inside else _outside(snapshot, barrier)
    sure = [way for way in found.ways if way not in found.unsure]
    if sure and all(barrier.is_inside for barrier in found.barriers):
        if found.active:
            what = f"the firewall here lets {spoken(sure)} what the clan needs: {spoken(found.needed)}"
            yield Finding(Level.OK, "firewall", what, "; ".join(found.active))
        else:
            yield Finding(Level.OK, "firewall", "no firewall of this machine keeps anything out")
    if found.doubt is not None:
        yield _doubt(snapshot, found)


def _outside(snapshot: Snapshot, barrier: Barrier) -> Finding:
    is_cut_off = bool(snapshot.fellows) and not snapshot.up
    scope = f" {barrier.scope}" if barrier.scope else ""
    dropped = f"{spoken(barrier.dropped)}{scope}"
    what, others, go = (
        (f"what this device sends by {dropped}", "others", "go out")
        if barrier.is_outgoing
        else (f"what comes to {dropped}", "this device", "come in")
    )
    heard = (
        f"not even answers to what {others} sent {go}"
        if barrier.is_shut
        else f"only answers to what {others} sent {go}, so two such devices may never meet"
    )
    return Finding(
        Level.PROBLEM if barrier.is_shut or is_cut_off else Level.NOTE,
        "firewall",
        f"{barrier.tool} on this device drops {what}",
        f"{barrier.chain}: {heard}",
        _remedy(barrier),
    )


def _inside(barrier: Barrier) -> Finding:
    dropped = spoken(barrier.dropped)
    if barrier.is_outgoing:
        what = f"this device's {dropped} to members through the tunnels"
        who, whence = "it", "out to everywhere"
    else:
        what = f"members' {dropped} that come through the tunnels"
        who, whence = "they", "in from everywhere"
    return Finding(
        Level.NOTE,
        "firewall",
        f"{barrier.tool} on this device drops {what}",
        f"{barrier.chain}: only what it lets {whence} is reached",
        f"if {who} shall reach more: {_remedy(barrier)}",
    )


def _remedy(barrier: Barrier) -> str:
    commands = _quoted(barrier.commands)
    return f"{commands}, {barrier.lasts}" if barrier.lasts else commands


def _quoted(commands: Sequence[str]) -> str:
    return spoken([f"`{command}`" for command in commands])


def _doubt(snapshot: Snapshot, found: Firewall) -> Finding:
    """No alarm: whoever is up got through it. Where nobody is, it may be the reason."""
    is_suspect = bool(snapshot.fellows) and not snapshot.up
    if found.active:
        what = f"a firewall is active ({'; '.join(found.active)})"
        why = f"whether it lets {spoken(found.unsure)} {spoken(found.needed)} is not known: {found.doubt}"
        remedy = f"see that it does; {_quoted(found.commands)} would" if found.commands else "see that it does"
    else:
        what = f"whether a firewall here is in the way of {spoken(found.needed)} was not looked at"
        why, remedy = found.doubt or "", "see that none is"
    return Finding(Level.NOTE if is_suspect else Level.OK, "firewall", what, why, remedy if is_suspect else "")
