"""Round trips, as people read them. Pure: values in, lines out."""

from collections.abc import Sequence
from typing import Any

from clanctl.answers import Values, part_of, word_of
from clanctl.failures import one_line


def title(who: Values) -> str:
    """Who is pinged."""
    return one_line(f"PING {word_of(who.get('name'))} ({word_of(who.get('address'))}) through the tunnel")


def line(item: Values) -> str:
    """One round trip: how long it took and which way it went, or why there is no answer."""
    number, rtt_ms = word_of(item.get("sequence")), item.get("rtt_ms")
    if not isinstance(rtt_ms, int | float):
        why = f": {item['why']}" if item.get("why") else ""
        return one_line(f"{number}: no answer{why}")
    return one_line(", ".join(filter(None, (f"{number}: {rtt_ms:.2f} ms", _way(part_of(item, "path"))))))


def _way(path: Values) -> str:
    kind, endpoint = word_of(path.get("kind")), word_of(path.get("endpoint"))
    via = f" by {path['via']}" if path.get("via") else ""
    return f"{kind}{via} ({endpoint})" if endpoint else f"{kind}{via}"


def summary(answers: Sequence[Values]) -> dict[str, Any]:
    """What the round trips come to."""
    times = [float(item["rtt_ms"]) for item in answers if isinstance(item.get("rtt_ms"), int | float)]
    return {
        "sent": len(answers),
        "received": len(times),
        "loss_percent": round(100 * (1 - len(times) / len(answers)), 1) if answers else None,
        "min_ms": min(times, default=None),
        "avg_ms": round(sum(times) / len(times), 2) if times else None,
        "max_ms": max(times, default=None),
    }


def summary_text(who: Values, summary: Values) -> str:
    """The line at the end."""
    loss = summary.get("loss_percent")
    text = f"{word_of(who.get('name'))}: {summary['sent']} sent, {summary['received']} answered"
    if isinstance(loss, int | float):
        text += f", {loss:g} % lost"
    if summary.get("avg_ms") is not None:
        spread = "/".join(f"{float(summary[key]):.2f}" for key in ("min_ms", "avg_ms", "max_ms"))
        text += f"; min/avg/max {spread} ms"
    return one_line(text) + "\n"
