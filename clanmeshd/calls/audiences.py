"""Whom the words of `--for` mean, and the words for whom a secret is for.

A word is a tag or a device. Where it could be both, it has to say which: whoever joins chooses its own name, and
must not come by what is meant for a tag, nor end what goes to it.
"""

from collections.abc import Iterable

from clanmesh_protocol.control import Fault
from clanmesh_protocol.limits import RECIPIENTS_MAX
from clanmesh_protocol.names import is_label
from clanmeshd.calls.finding import a_member
from clanmeshd.core.audience import Audience, tags_in_use
from clanmeshd.core.authority import Authority
from clanmeshd.core.phrases import called

_TAG, _NODE = "tag:", "node:"


def audience(authority: Authority, words: Iterable[str]) -> Audience:
    """Whom words mean: tags, `all`, devices by name or id; `tag:` and `node:` in front tell them apart.

    Raises Fault.
    """
    tags, nodes = set(), set()
    for word in {word.strip() for word in words}:
        if _is_tag(authority, word):
            tags.add(word.removeprefix(_TAG))
        else:
            nodes.add(a_member(authority, word.removeprefix(_NODE)).node)
    if len(tags) > RECIPIENTS_MAX or len(nodes) > RECIPIENTS_MAX:
        raise Fault("usage", "--for", f"it names over {RECIPIENTS_MAX}", "give them a tag in common")
    return Audience(frozenset(tags), frozenset(nodes))


def _is_tag(authority: Authority, word: str) -> bool:
    if word.startswith(_TAG):
        if not is_label(word.removeprefix(_TAG)):
            raise Fault("usage", f"--for {word!r}", "a tag has a-z, 0-9 and inner hyphens", "see `clanctl peers`")
        return True
    if word.startswith(_NODE):
        return False
    device, tagged = authority.named(word), word in tags_in_use(authority)
    if device is not None and tagged:
        raise Fault(
            "conflict",
            f"--for {word}",
            "it is a tag, and a device's name too",
            f"write --for {_TAG}{word} or --for {_NODE}{word}",
        )
    if device is None and not tagged and is_label(word) and not _begins_an_id(authority, word):
        raise Fault(
            "not-found",
            f"--for {word}",
            "no device and no tag is called that",
            f"see `clanctl peers`; a tag that no device has yet is --for {_TAG}{word}",
        )
    return tagged


def _begins_an_id(authority: Authority, word: str) -> bool:
    try:
        a_member(authority, word)
    except Fault as fault:
        return fault.kind == "conflict"  # several: that is said better than that there is none
    return True


def words(authority: Authority, meant: Audience) -> list[str]:
    """Whom a secret is for, tags first, in words that could be given again."""
    heirs = {former: member.node for member in authority.members.values() for former in member.forerunners}
    devices = [called(authority, heirs.get(node, node)) for node in meant.nodes]
    both = tags_in_use(authority)
    return [*sorted(meant.tags), *sorted(f"{_NODE}{name}" if name in both else name for name in devices)]
