"""Seeded schedules: a clan in which somebody lies, its records in any order, and what holds at every step.

A schedule is a number. From it follow the admins and their weights, who of them is hostile (never half of the
weight), what people do, what the hostile party signs, withholds and plays back, and who hears of what when. Honest
devices run the real record set, authority and governance; only the network between them is made up. Each step has
dice of its own, so that `campaign` can leave steps out of a schedule to find the few that matter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from random import Random
from typing import Final

from clanmesh_protocol.errors import ProtocolError, UnauthorizedError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, fingerprint_slot, signing_public
from clanmesh_protocol.records import (
    Acknowledgement,
    Admin,
    AdminAdd,
    AdminRemove,
    AdminReplace,
    Approval,
    AuthorityOp,
    Checkpoint,
    Credential,
    Genesis,
    Kind,
    Publishable,
    Record,
    RecoveryReplace,
    Revocation,
    Setting,
    SignerAdd,
    Thresholds,
    slot_of,
)
from clanmesh_protocol.signing import read_untrusted, sign_genesis, sign_record
from clanmeshd.core.chain import Chain, after, operation_slot
from tests.sim.honest import Device, Entry, is_over_a_pin, moment, path_to

CLAN_OF_OTHERS: Final = ClanId(b"another clan's..")
ROUNDS_MAX: Final = 24  # of everybody hearing everything, until nobody has anything to say any more
ROOTS_EVERY: Final = 100  # schedules
ROUND_S: Final = 15.0  # longer than the pause between two looks of a daemon at what is to be kept up
LIMIT: Final = "known limit"  # what the message of one begins with
AT_ONCE: Final = 50  # records that a device takes before it looks at them: all that are offered
SEED_BYTES: Final = 32
ADMINS: Final = ("desk", "attic", "nas", "phone")
MEMBER, MOLE, SOCKS = "tv", "mole", ("sock-a", "sock-b")


class Broken(AssertionError):
    """Something that has to hold in every schedule did not."""


class KnownLimit(Broken):
    """What the records cannot decide, so that people have to.

    The recovery key was used while the admins replaced it, and neither had heard of the other: each alone may
    govern, so each side settled what the other cannot undo. Or a hostile admin that holds the balance has
    approved two removals of itself, and two honest admins settled the other's.
    """


@dataclass(frozen=True)
class Key:
    """Somebody who can sign."""

    name: str
    seed: bytes
    node: NodeId


@cache
def key(name: str) -> Key:
    """The same one for a name in every schedule: making keys would take longer than the schedule."""
    seed = Random(f"key {name}").randbytes(SEED_BYTES)
    return Key(name, seed, NodeId(signing_public(seed)))


@dataclass(frozen=True)
class Founded:
    """A clan at its beginning."""

    id: ClanId
    records: tuple[Entry, ...]  # the genesis, and the founder's word for the two members
    has_recovery: bool


@cache
def founded(weights: tuple[int, ...], has_recovery: bool) -> Founded:
    """The clan of as many admins as there are weights."""
    founder = key(ADMINS[0])
    admins = tuple(Admin(key(name).node, weight) for name, weight in zip(ADMINS, weights, strict=False))
    genesis = Genesis("family", admins, bytes(key("recovery").node) if has_recovery else None, ())
    data, clan = sign_genesis(founder.seed, genesis, 1)
    records = [read_untrusted(data, clan)]
    for seq, name in enumerate((MEMBER, MOLE), 2):
        content = Credential(key(name).node, name, (), 0, None)
        records.append(signed(founder, clan, content, seq))
    return Founded(clan, tuple(records), has_recovery)


def signed(
    by: Key, clan: ClanId, content: Publishable | AuthorityOp, seq: int, behind: Record | None = None
) -> Entry:
    """A record by anybody; an operation stands behind another."""
    kind = int(getattr(content, "KIND", Kind.AUTHORITY))
    slot = operation_slot(int(behind.slot) + 1) if behind is not None else slot_of(content)  # type: ignore[arg-type]
    prev = behind.id if behind is not None else None
    return read_untrusted(sign_record(by.seed, clan, content, kind=kind, slot=slot, seq=seq, prev=prev), clan)


@dataclass
class Schedule:
    """One schedule under way. `story` gets a line for each thing that happens, if anybody wants to read it."""

    seed: int
    story: list[str] | None = None
    skipped: frozenset[int] = frozenset()
    device: type[Device] = Device  # what the honest ones are: tests of the schedules themselves put in worse ones
    devices: list[Device] = field(default_factory=list)
    pool: list[Entry] = field(default_factory=list)  # whatever anybody ever signed
    names: dict[bytes, str] = field(default_factory=dict)  # of keys and of operations, for the story
    recoveries: int = 0
    walked: set[RecordId] = field(default_factory=set)  # heads whose path was looked at

    def __post_init__(self) -> None:
        rng = self.rng = Random(f"schedule {self.seed}")
        weights = tuple(rng.choice([1, 1, 1, 2]) for _ in range(rng.randint(2, len(ADMINS))))
        self.clan = founded(weights, rng.random() < 0.7)
        names = ADMINS[: len(weights)]
        minorities = [name for name, weight in zip(names, weights, strict=True) if 2 * weight < sum(weights)]
        self.traitor = key(rng.choice(minorities)) if minorities and rng.random() < 0.85 else None
        cloned = (
            rng.random() < 0.2
        )  # the traitor's key is a copy, and the device that it was copied from is honest
        honest = [name for name in names if cloned or self.traitor is None or name != self.traitor.name]
        self.hostile = [key(MOLE), *map(key, SOCKS), *([self.traitor] * 4 if self.traitor is not None else [])]
        self.crew = frozenset(each.node for each in self.hostile)
        self.keys = [key(name) for name in (*names, MEMBER, MOLE, *SOCKS)]
        self.now_s = 1.0
        self.steps = rng.randint(4, 50 if rng.random() < 0.05 else 17)
        self.malice = rng.uniform(0.1, 0.5)  # of all that is done
        self.meetings = rng.choice([1, 2, 4])  # at most, after each step
        self.pool += self.clan.records
        self.names |= {each.node: each.name for each in (*self.keys, key("recovery"))}
        for name in (*honest, MEMBER):
            self.devices.append(self._start(key(name), self.clan.records, None))
            self._collect(self.devices[-1])
        self.groups = [rng.randint(0, 1) if rng.random() < 0.3 else 0 for _ in self.devices]
        self._tell(
            f"weights {weights} recovery {self.clan.has_recovery} hostile {self.traitor and self.traitor.name}"
            f"{' (cloned)' if cloned and self.traitor else ''}"
        )

    def _start(self, who: Key, records: Iterable[Entry], anchor: RecordId | None) -> Device:
        return self.device(who.name, who.seed, self.clan.id, records, anchor, moment(self.now_s))

    # --- the course of it -------------------------------------------------------------------------------

    def run(self) -> None:
        """Go through all steps and to the rest after them. Raises Broken."""
        for step in range(self.steps):
            if step not in self.skipped:
                self.rng = Random(f"step {self.seed} {step}")
                self.now_s += self.rng.choice([0.1, 1.0, 20.0])
                self._tell(f"step {step}")
                self._act()
        self.rng = Random(f"end {self.seed}")
        self.come_to_rest()
        self.compare()

    def _act(self) -> None:
        device = self.rng.choice(self.devices)
        if self.rng.random() < self.malice:
            self.attack()
        else:
            people = [self.operate, self.agree, self.approve, self.recover, self.trouble]
            self.rng.choices(people, [6, 4, 6, 1, 2])[0](device)
        for _ in range(self.rng.randint(0, self.meetings)):
            self.meet()

    def come_to_rest(self) -> None:
        """Everybody hears of everything, until nobody has anything to say any more. Raises Broken."""
        self.groups = [0] * len(self.devices)
        self._tell("all hear everything")
        rests = False
        for _ in range(ROUNDS_MAX):
            before = [device.ledger.version for device in self.devices]
            self.now_s += ROUND_S
            for device in self.devices:
                self._give(device, self.pool, self.rng.choice([3, 10, AT_ONCE]))
                device.keep_up(moment(self.now_s))
                self._collect(device)
            rests = before == [device.ledger.version for device in self.devices]
            if rests:
                break
        if not all(device.stands() for device in self.devices):
            raise Broken("a second look at the same records gives another head or final operation")
        if not rests:
            raise Broken("honest devices that hear everything never come to rest")

    def compare(self) -> None:
        """All follow one history and hold one record set. Raises Broken."""
        heads = {device.authority.head for device in self.devices}
        finals = {device.authority.final for device in self.devices}
        if len(heads) > 1 and self._is_duel_with_recovery():
            raise KnownLimit(f"{LIMIT}: the recovery key and those who replaced it")
        if len(heads) > 1 and self._is_two_faced():
            raise KnownLimit(f"{LIMIT}: an admin who signed its own removal on both sides")
        if len(heads) > 1:
            raise Broken(f"{len(heads)} heads at {len(finals)} final operations")
        # One that was thrown out keeps its own words, which count nowhere else: nobody compares sets with it.
        inside = [device for device in self.devices if not device.keeps_void_words()]
        held = {frozenset(record.id for record in device.ledger.records()) for device in inside}
        if len(held) > 1:
            raise Broken(f"one head, but {len(held)} record sets")
        # A root is a function of the set and costs more than all the rest.
        if self.seed % ROOTS_EVERY == 0 and len({device.ledger.root() for device in inside}) > 1:
            raise Broken("one record set, but several roots")

    def _apart(self) -> list[list[Entry]]:
        """Of the path of each device what not all of them follow."""
        paths = [path_to(device.ledger, device.authority.head) for device in self.devices]
        common = set.intersection(*[{entry.value.id for entry in path} for path in paths])
        return [[entry for entry in path if entry.value.id not in common] for path in paths]

    def _is_two_faced(self) -> bool:
        """Whether an admin of the hostile party gave the weight to throw it out on two sides."""
        removals = {
            entry.value.id: entry.content.node
            for entries in self._apart()
            for entry in entries
            if isinstance(entry.content, AdminRemove | AdminReplace) and entry.content.node in self.crew
        }
        signed = [
            operation
            for operation, node in removals.items()
            if any(device.ledger.get(node, Kind.APPROVAL, fingerprint_slot(operation)) for device in self.devices)
        ]
        return len(signed) > 1

    def _is_duel_with_recovery(self) -> bool:
        apart = self._apart()
        recovery = key("recovery").node
        recovers = [any(entry.value.author == recovery for entry in entries) for entries in apart]
        replaces = [
            any(isinstance(entry.content, RecoveryReplace) and entry.value.author != recovery for entry in entries)
            for entries in apart
        ]
        return any(recovers[one] and replaces[other] for one, other in permutations(range(len(apart)), 2))

    # --- what people do ---------------------------------------------------------------------------------

    def operate(self, device: Device) -> None:
        """An admin changes something, if this device is an admin's."""
        chain = device.authority.chain
        operation = self._sensible(chain)
        if chain.is_admin(device.node) and self.is_safe(after(chain, operation)):
            self._say(device, f"operates {self._read(operation)}")
            self._try(device, lambda: device.operate(operation, moment(self.now_s)))

    def agree(self, device: Device) -> None:
        """An admin changes something, tells those whom it can reach, and one of them agrees."""
        self.operate(device)
        for other in self.devices:
            if other is not device and self._can_hear(other, device):
                self._give(other, device.entries(), AT_ONCE)
        self.approve(device)

    def approve(self, device: Device) -> None:
        """Some admin agrees to what waits for it; else this one changes something."""
        asked = [
            (each, pending.id)
            for each in self.devices
            for pending in each.authority.pending
            if each.authority.is_admin(each.node) and each.node not in pending.signers
            if self.is_safe(after(each.authority.chain, pending.operation))
        ]
        if not asked:
            self.operate(device)
            return
        asked_one, operation = self.rng.choice(asked)
        self._say(asked_one, f"approves {self._name(operation)}")
        self._try(asked_one, lambda: asked_one.approve(operation, moment(self.now_s)))

    def recover(self, device: Device) -> None:
        """Somebody types the recovery key in at a device."""
        chain, recovery = device.authority.chain, key("recovery")
        operation = self._sensible(chain)
        if chain.recovery == recovery.node and self.recoveries < 2 and self.is_safe(after(chain, operation)):
            self.recoveries += 1
            self._say(device, f"recovers {self._read(operation)}")
            self._try(device, lambda: device.recover(recovery.seed, operation, moment(self.now_s)))

    def _try(self, device: Device, act: Callable[[], None]) -> None:
        """A person asks for something, and may be told that it cannot be done."""
        before = device.state()
        try:
            act()
        except UnauthorizedError as error:
            self._say(device, f"refuses: {error}")
            if device.state() != before:
                raise Broken("what a person was refused left something behind") from error
        self._collect(device)

    def _sensible(self, chain: Chain) -> AuthorityOp:
        """What an honest admin might do, be it by mistake."""
        rng = self.rng
        what, node = rng.random(), rng.choice(self.keys).node
        if what < 0.4:
            traitors = [admin.node for admin in chain.admins if admin.node in self.crew]
            return AdminRemove(rng.choice(traitors or [admin.node for admin in chain.admins]))
        if what < 0.55:
            former = sorted(chain.pinned)  # somebody may try to take one back
            return AdminAdd(
                NodeId(rng.choice(former)) if former and rng.random() < 0.3 else node, rng.choice([1, 1, 2])
            )
        if what < 0.6:
            return AdminReplace(rng.choice(chain.admins).node, node)
        if what < 0.63:
            return RecoveryReplace(None)
        if what < 0.68:
            return Thresholds(rng.randint(0, 3), rng.randint(0, 2))
        if what < 0.8:
            return Setting(f"s{rng.randint(0, 2)}", str(rng.randrange(9)))
        checkpoint, signer = Checkpoint("main", rng.randbytes(20)), SignerAdd(f"ssh-ed25519 {rng.randint(0, 5)}")
        return checkpoint if rng.random() < 0.5 else signer

    def is_safe(self, chain: Chain) -> bool:
        """Whether the hostile party lacks half of the weight: nothing is promised to a clan that gave it away."""
        return 2 * chain.weight(map(NodeId, self.crew)) < chain.total_weight

    def trouble(self, device: Device) -> None:
        """A partition comes or goes, a device starts again, or is set back to what its disk held before."""
        what = self.rng.random()
        if what < 0.5:
            self.groups = [self.rng.randint(0, 1) for _ in self.devices]
            self._tell(f"partition {self.groups}")
        elif what < 0.7:
            self.groups = [0] * len(self.devices)
        else:
            back = what > 0.9
            self._say(device, "is restored from its backup" if back else "restarts")
            records, anchor = device.backup if back else device.image()
            fresh = self._start(key(device.name), records, anchor)
            fresh.backup = device.backup
            self.devices[self.devices.index(device)] = fresh
            self._collect(fresh)

    # --- what the hostile party does --------------------------------------------------------------------

    def attack(self) -> None:
        """The hostile party signs, approves, follows or spoils something."""
        rng, by = self.rng, self.rng.choice(self.hostile)
        operations = [entry.value for entry in self.pool if entry.value.kind == Kind.AUTHORITY]
        chosen = max(rng.choices(operations, k=rng.choice([1, 2, 4])), key=lambda record: record.slot)
        seq = rng.choice([int(self.now_s * 1000) << 16, rng.randrange(1, 1 << 50), chosen.seq])
        what = rng.random()
        if what < 0.4:
            content: Publishable | AuthorityOp = self._wild()
            self._publish(by, content, seq, chosen)
        elif what < 0.55:
            self._publish(by, Approval(chosen.id), seq)
        elif what < 0.72:
            self._publish(by, Acknowledgement(int(chosen.slot), chosen.id), seq)
        elif what < 0.8:
            node = rng.choice(self.keys)
            word = Revocation(node.node, "no") if rng.random() < 0.5 else Credential(node.node, "x", (), 0, None)
            self._publish(by, word, seq)
        else:
            self._spoil(rng.choice(self.pool).value, by)

    def _wild(self) -> AuthorityOp:
        rng = self.rng
        what, node, other = rng.random(), rng.choice(self.keys).node, rng.choice(self.keys).node
        if what < 0.35:
            return AdminRemove(node)
        if what < 0.55:
            return AdminAdd(node, rng.choice([1, 3, 1000]))
        if what < 0.65:
            return AdminReplace(node, other)
        if what < 0.72:
            return RecoveryReplace(bytes(node))
        if what < 0.78:
            return Thresholds(rng.randint(0, 3), rng.randint(0, 3))
        checkpoint, setting = Checkpoint("main", rng.randbytes(20)), Setting(f"s{rng.randint(0, 2)}", "bad")
        return checkpoint if rng.random() < 0.5 else setting

    def _publish(
        self, by: Key, content: Publishable | AuthorityOp, seq: int, behind: Record | None = None
    ) -> None:
        """Sign something and show it to some, to all or, until the end, to nobody."""
        entry = signed(by, self.clan.id, content, seq, behind)
        self._note(entry)
        rests = f" behind {self._name(behind.id)}" if behind is not None else ""
        self._tell(f"{by.name} signs {self._name(entry.value.id)}: {self._read(content)}{rests}")
        self.pool.append(entry)
        for device in self.devices:
            if self.rng.random() < 0.4:
                self._give(device, [entry], 1)

    def _spoil(self, record: Record, by: Key) -> None:
        """Change a record's bytes, put an honest name over it, sign for another clan: nothing may come of it."""
        data, place = bytearray(record.data), self.rng.randrange(len(record.data))
        match self.rng.randrange(3):
            case 0:
                data[place] ^= 1 << self.rng.randrange(8)
            case 1:
                data[1:33] = self.rng.choice(self.devices).node
                data[33 + place % 64] ^= 1
            case _:
                content = Acknowledgement(int(record.slot) if record.slot.isdigit() else 0, record.id)
                data[:] = signed(by, CLAN_OF_OTHERS, content, 1 << 55).value.data
        device = self.rng.choice(self.devices)
        before = device.state()
        try:
            device.receive_untrusted(bytes(data), key(MOLE).node, moment(self.now_s))
        except ProtocolError as error:
            self._tell(f"{device.name} refuses a spoiled record: {error}")
        else:
            raise Broken("a spoiled record came in")
        if device.state() != before:
            raise Broken("a refused record left something behind")

    # --- the network ------------------------------------------------------------------------------------

    def meet(self) -> None:
        """One device hears of what another holds, all or some of it, in any order."""
        source, target = self.rng.choice(self.devices), self.rng.choice(self.devices)
        if self._can_hear(target, source):
            lacking = [entry for entry in source.entries() if not target.ledger.known(entry.value.id)]
            some = self.rng.sample(lacking, self.rng.randint(0, len(lacking)))
            self._give(target, some, self.rng.choice([1, 5, AT_ONCE]))

    def _can_hear(self, one: Device, other: Device) -> bool:
        return self.groups[self.devices.index(one)] == self.groups[self.devices.index(other)]

    def _give(self, device: Device, entries: Iterable[Entry], at_once: int) -> None:
        """Let a device hear of records, several before it looks at them as after a start."""
        lacking = [entry for entry in entries if not device.ledger.known(entry.value.id)]
        self.rng.shuffle(lacking)
        for start in range(0, len(lacking), at_once):
            self._offer(device, lacking[start : start + at_once])

    def _offer(self, device: Device, entries: list[Entry]) -> None:
        before = device.state()
        taken = [entry for entry in entries if device.offer(entry, moment(self.now_s))]
        if not taken and device.state() != before:
            raise Broken("a refused record left something behind")
        if taken:
            self._tell(f"{device.name} takes {' '.join(self._name(entry.value.id) for entry in taken)}")
            device.conclude(moment(self.now_s))
            self._collect(device)

    def _collect(self, device: Device) -> None:
        """What a device has said by itself goes its way, and what it follows is looked at."""
        for entry in device.said():
            self._note(entry)
            self._tell(f"{device.name} says {self._name(entry.value.id)}")
            self.pool.append(entry)
        if device.authority.head in self.walked:
            return  # a head has one path to it
        self.walked.add(device.authority.head)
        if is_over_a_pin(device.ledger, device.authority.head):
            raise Broken(f"{device.name} follows an operation signed by a key that was removed before it")

    # --- the story --------------------------------------------------------------------------------------

    def _note(self, entry: Entry) -> None:
        if self.story is not None:
            self.names.setdefault(entry.value.id, describe(entry, self.names, len(self.names)))

    def _name(self, record: RecordId) -> str:
        return self.names.get(record, record.hex()[:6])

    def _read(self, content: object) -> str:
        return read(content, self.names)

    def _say(self, device: Device, what: str) -> None:
        self._tell(f"{device.name} {what}")

    def _tell(self, line: str) -> None:
        if self.story is not None:
            self.story.append(line)


def describe(entry: Entry, names: Mapping[bytes, str], number: int) -> str:
    """A short name for a record in a story."""
    author = names.get(entry.value.author, "?")
    match entry.content:
        case Acknowledgement(head=head):
            return f"({author} follows {names.get(head, head.hex()[:6])})"
        case Approval(operation=operation):
            return f"({author} approves {names.get(operation, operation.hex()[:6])})"
    return f"#{number}:{author}:{entry.value.slot.lstrip('0')}"


def read(content: object, names: Mapping[bytes, str]) -> str:
    """An operation in a story."""
    values = [getattr(content, field) for field in getattr(content, "__slots__", ())]
    shown = [names.get(v, v.hex()[:6]) if isinstance(v, bytes) else repr(v) for v in values]
    return f"{type(content).__name__}({', '.join(shown)})"
