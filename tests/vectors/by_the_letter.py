"""The authority chain by the letter of the specification, sections 7.1 to 7.5, with none of the daemon's code.

It is written from the text alone, so that a fault in either shows as a difference between the two.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clanmesh_protocol.encoding import decode_untrusted
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.records import Record, parse_untrusted


@dataclass(frozen=True)
class State:
    """What stands behind an operation. Keys and ids are plain bytes here."""

    admins: tuple[tuple[bytes, int], ...]
    recovery: bytes | None
    signers: tuple[str, ...]
    checkpoints: tuple[tuple[str, bytes], ...] = ()
    resolutions: tuple[Any, ...] = ()
    govern: int = 0
    routine: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    pinned: frozenset[bytes] = frozenset()

    @property
    def keys(self) -> list[bytes]:
        """The admins, the most senior first."""
        return [key for key, _ in self.admins]

    def weight(self, keys: Iterable[bytes]) -> int:
        """What these keys weigh."""
        return sum(weight for key, weight in self.admins if key in set(keys))

    @property
    def majority(self) -> int:
        """Over half of the total."""
        return self.weight(self.keys) // 2 + 1

    def needs(self, number: int) -> int:
        """The weight that an operation of this number needs."""
        total = self.weight(self.keys)
        if number < 128 and number != 3:
            return max(self.majority, min(self.govern, total))
        return max(1, min(self.routine, total))


def after(state: State, payload: list[Any]) -> State:
    """The table of effects."""
    match payload:
        case [1, line, *_]:
            there = {tuple(each.split()[:2]) for each in state.signers}
            if tuple(line.split()[:2]) in there or len(state.signers) >= 64:
                return state
            return replace(state, signers=(*state.signers, line))
        case [2, line, *_]:
            gone = line.split()[:2]
            return replace(state, signers=tuple(each for each in state.signers if each.split()[:2] != gone))
        case [3, ref, commit, *_]:
            if state.checkpoints[-1:] == ((ref, commit),):
                return state
            return replace(state, checkpoints=(*state.checkpoints, (ref, commit))[-16:])
        case [4 | 5 | 6, *_]:
            return _after_admins(state, payload)
        case [7, govern, routine, *_]:
            return replace(state, govern=govern, routine=routine or 1)
        case [8, key, *_]:
            if key == state.recovery or key in state.pinned or key in state.keys:
                return state
            old = {state.recovery} if state.recovery is not None else set()
            return replace(state, recovery=key, pinned=state.pinned | old)
        case [128, name, value, *_]:
            settings = {**state.settings, name: value}
            if not value:
                del settings[name]
            return replace(state, settings=settings) if len(settings) <= 64 else state
        case [129, ref, head, abandoned, *_]:
            if (ref, head, abandoned) in state.resolutions:
                return state
            return replace(state, resolutions=(*state.resolutions, (ref, head, abandoned))[-64:])
    return state


def _after_admins(state: State, payload: list[Any]) -> State:
    number, key = payload[:2]
    barred = state.pinned | {state.recovery}
    if number == 4:
        if key in barred or (key not in state.keys and len(state.admins) >= 32):
            return state
        if key not in state.keys:
            return replace(state, admins=(*state.admins, (key, payload[2])))
        return replace(state, admins=tuple((each, payload[2] if each == key else w) for each, w in state.admins))
    if key not in state.keys:
        return state
    if number == 5:
        left = tuple(each for each in state.admins if each[0] != key)
        return replace(state, admins=left, pinned=state.pinned | {key}) if left else state
    successor = payload[2]
    if successor in barred or successor in state.keys:
        return state
    admins = tuple((successor if each == key else each, weight) for each, weight in state.admins)
    return replace(state, admins=admins, pinned=state.pinned | {key})


@dataclass(eq=False)
class Operation:
    """A valid operation."""

    record: Record
    number: int  # of its kind: 0 is a genesis
    parent: "Operation | None"
    signers: set[bytes]
    state: State
    children: list["Operation"] = field(default_factory=list)

    @property
    def pins(self) -> frozenset[bytes]:
        """Keys that are pinned behind it and not before."""
        return self.state.pinned - self.parent.state.pinned if self.parent else frozenset()

    def line(self) -> Iterator["Operation"]:
        """It and what it rests on."""
        at: Operation | None = self
        while at:
            yield at
            at = at.parent

    def subtree(self, without: Iterable[bytes] = ()) -> list["Operation"]:
        """T(self) without some keys."""
        void, parent = set(without), self.parent
        if parent and self.record.author in void:
            return []
        enough = parent is None or parent.state.weight(self.signers - void) >= parent.state.needs(self.number)
        if parent and self.record.author != parent.state.recovery and not enough:
            return []
        return [self, *(each for child in self.children for each in child.subtree(void))]


@dataclass
class History:
    """What comes out."""

    head: Operation
    final: bytes | None
    proposals: list[bytes]


def history(records: Iterable[bytes], clan: ClanId, final: bytes | None) -> History:
    """Work out the head, the final operation and the proposals of a record set."""
    parsed = [parse_untrusted(data, clan) for data in records]
    root = _root(next(record for record in parsed if record.is_genesis))
    approvals: dict[bytes, set[bytes]] = {}
    words: dict[bytes, tuple[int, bytes, bytes | None]] = {}
    for record in parsed:
        if record.kind == 12:
            approvals.setdefault(_payload(record)[0], set()).add(record.author)
        if record.kind == 13:
            word = (record.seq, record.id, _payload(record)[1] if record.payload else None)
            words[record.author] = max(word, words.get(record.author, word), key=lambda each: each[:2])
    operations = {bytes(root.record.id): root}
    proposals = _grow(root, [each for each in parsed if each.kind == 0], approvals, operations)
    choice = Choice(operations, {key: head for key, (_, _, head) in words.items() if head in operations}, final)
    head = choice.head_behind(root)
    waiting = [record.id for parent, record in proposals if parent is head]
    return History(head, choice.final_behind(head), sorted(waiting))


def _payload(record: Record) -> list[Any]:
    return decode_untrusted(record.payload, bytes_max=65_536)


def _root(record: Record) -> Operation:
    _, _, admins, recovery, signers, *_ = _payload(record)
    keys = tuple((bytes(key), weight) for key, weight in admins)
    state = State(keys, None if recovery in dict(keys) else recovery, tuple(signers))
    return Operation(record, 0, None, {record.author}, state)


def _grow(
    root: Operation,
    records: list[Record],
    approvals: Mapping[bytes, set[bytes]],
    operations: dict[bytes, Operation],
) -> list[tuple[Operation, Record]]:
    proposals = []
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        before = parent.state
        for record in (each for each in records if each.prev == parent.record.id):
            payload = _payload(record)
            if int(record.slot) != int(parent.record.slot) + 1:
                continue
            if record.author not in {*before.keys, before.recovery}:
                continue
            signers = {key for key in {record.author, *approvals.get(record.id, ())} if key in before.keys}
            if record.author != before.recovery and before.weight(signers) < before.needs(payload[0]):
                proposals.append((parent, record))
                continue
            child = Operation(record, payload[0], parent, signers, after(before, payload))
            parent.children.append(child)
            operations[record.id] = child
            waiting.append(child)
    return proposals


@dataclass
class Choice:
    """The choice between histories."""

    operations: Mapping[bytes, Operation]
    words: Mapping[bytes, bytes]  # what each key's newest acknowledgement names
    final: bytes | None

    def followers(self, operation: Operation) -> set[bytes]:
        """Who follows an operation."""
        return {key for key, head in self.words.items() if operation in self.operations[head].line()}

    def head_behind(self, root: Operation) -> Operation:
        """The head. What is final falls back to the last operation that both rest on, until the head has it."""
        while True:
            head = root
            while head.children:
                head = self.at(head) if len(head.children) > 1 else head.children[0]
            held = self.operations.get(self.final) if self.final is not None else None
            if held is None or held in head.line():
                return head
            self.final = next(each.record.id for each in held.line() if each in head.line())

    def at(self, fork: Operation) -> Operation:
        """The child that is chosen."""
        held = self.operations.get(self.final) if self.final is not None else None
        mine = next((child for child in fork.children if held and child in held.line()), None)
        if held and mine:
            others = [child for child in fork.children if child is not mine]
            left = any(held.state.weight(self.followers(child)) >= held.state.majority for child in others)
            key = fork.state.recovery
            since = [each for each in held.line() if each not in fork.line()]
            if not any(key in each.pins and each.record.author != key for each in since):
                left |= any(each.record.author == key for child in others for each in child.subtree())
            pins = held.state.pinned - fork.state.pinned
            if pins and not left and self._chosen(fork, {child: set(pins) for child in others}) is mine:
                return mine
        return self._chosen(fork, {})

    def _chosen(self, fork: Operation, pins: Mapping[Operation, set[bytes]]) -> Operation:
        """The rules behind the first one."""
        void = {child: pins.get(child, set()) for child in fork.children}
        standing = {child: child.subtree(void[child]) for child in fork.children}
        in_it = self._recovery_key(fork, standing, void)
        if len(in_it) == 1:
            return in_it[0]
        last, out = self._pins(in_it, standing, void)
        return min(last, key=lambda child: self._order(fork, child, last[child], out[child]))

    def _recovery_key(
        self, fork: Operation, standing: dict[Operation, list[Operation]], void: dict[Operation, set[bytes]]
    ) -> list[Operation]:
        key = fork.state.recovery
        by_key = {c: [each for each in c.subtree() if each.record.author == key] for c in fork.children}
        signed = [child for child in fork.children if by_key[child] and key not in void[child]]
        thrown_out = {pin for child in signed for each in by_key[child] for pin in each.pins} - {key}
        ended = any(
            key in each.pins and each.record.author != key
            for child in signed
            for other in fork.children
            if other is not child
            for each in other.subtree(void[other] | thrown_out)
        )
        if not signed or ended:
            return [child for child in fork.children if standing[child]]
        for child in signed:
            if not any(each.record.author == key for each in standing[child]):
                standing[child], void[child] = child.subtree(), set()
        return signed

    def _pins(
        self,
        in_it: list[Operation],
        standing: dict[Operation, list[Operation]],
        void: dict[Operation, set[bytes]],
    ) -> tuple[dict[Operation, list[Operation]], dict[Operation, set[bytes]]]:
        whole = {child: standing[child] for child in in_it}
        stage, out = whole, void
        for _ in range(2):
            pinned = {child: {key for each in stage[child] for key in each.pins} for child in in_it}
            out = {c: void[c].union(*(pinned[other] for other in in_it if other is not c)) for c in in_it}
            stage = {child: child.subtree(out[child]) for child in in_it}
        left = {child: stage[child] for child in in_it if stage[child]}
        return (left, out) if left else (whole, void)

    def _order(self, fork: Operation, child: Operation, standing: list[Operation], void: set[bytes]) -> Any:
        signers = {key for each in standing for key in each.signers} - void
        author = child.record.author
        seniority = -1 if author == fork.state.recovery else fork.state.keys.index(author)
        return (
            not any(each.state.weight(self.followers(each) - void) >= each.state.majority for each in standing),
            -fork.state.weight(signers),
            not any(each.pins for each in standing),
            seniority,
            child.record.id,
        )

    def final_behind(self, head: Operation) -> bytes | None:
        """The final operation, once the head is known."""
        if self.final is not None and self.final not in self.operations:
            return self.final
        chain = list(head.line())[::-1]
        newest = self.operations[self.final] if self.final is not None else chain[0]
        for each in chain[chain.index(newest) + 1 :]:
            if each.state.weight(self.followers(each)) >= each.state.majority:
                newest = each
        return newest.record.id
