"""What a person should look into: worked out of the record set, in plain words, each with what to do.

An alarm holds as long as its cause does, and is known by its kind and subject: `alarms` is asked again and again,
and what is new in its answer began, what is missing ended. Words must not change with every second.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot, node_text
from clanmesh_protocol.limits import SHORT_ID_BYTES
from clanmesh_protocol.records import Acknowledgement, AuthorityOp, Equivocation, Kind, Record
from clanmeshd.core.audience import Audience, recipients
from clanmeshd.core.authority import Authority, Lost
from clanmeshd.core.chain import after
from clanmeshd.core.credentials import life_s
from clanmeshd.core.effects import Instant, WantedSecret
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import CLONE_FADES_S
from clanmeshd.core.phrases import ID_LETTERS, called, listed, operation_text
from clanmeshd.core.roster import Member
from clanmeshd.core.wanted import newest_secrets

Severity: TypeAlias = Literal["problem", "notice"]

DAY_S: Final = 86_400.0
SPLIT_S: Final = 300.0  # two halves of a clan that meet again agree within seconds
STALE_S: Final = 2 * DAY_S  # admins' devices speak once a day: after two, one of us hears nothing
ABSENT_S: Final = 30 * DAY_S  # an admin whose device says nothing for so long may be gone for good
EXPIRING_LIFE: Final = 1 / 4  # renewed while a third of its life is left, a credential never has so little
PROOF_PROBLEM_S: Final = DAY_S  # a restored backup is over by then; a stolen key was looked into
PROOF_NOTICE_S: Final = 30 * DAY_S
REPLACED_S: Final = 3600.0  # for a device that holds a value to replace it by itself
NAMED_MAX: Final = 3  # of devices in one text
EACH_KIND_MAX: Final = 16  # of one kind: a list that nobody can read helps nobody


@dataclass(frozen=True, slots=True, order=True)
class Alarm:
    """Something to look into. `kind` and `subject` say which, the rest is for people."""

    severity: Severity
    kind: str
    subject: str  # a node's or record's id, a secret's name; empty where the kind says it all
    text: str
    remedy: str

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same as long as the alarm lasts."""
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Outlook:
    """What alarms are made of: this device's view of the clan at one moment."""

    own: NodeId
    ledger: Ledger
    authority: Authority
    clones: Mapping[NodeId, float]  # who was seen to run twice, and when last (monotonic s)
    now: Instant

    @property
    def is_admin(self) -> bool:
        """This device is an admin's."""
        return self.authority.is_admin(self.own)

    def name(self, node: bytes) -> str:
        """What people call a node."""
        return "this device" if node == self.own else called(self.authority, node)


def alarms(outlook: Outlook) -> tuple[Alarm, ...]:
    """Everything to look into, problems first. Nothing before the genesis is known."""
    if outlook.authority.number < 0:
        return ()
    sources = (_expelled, _history, _stale, _doubles, _proposals, _lost, _contested, _expiring, _exposed, _frail)
    found = (alarm for source in sources for alarm in _bounded(source(outlook)))
    return tuple(sorted(found, key=lambda alarm: (alarm.severity != "problem", alarm)))


def _bounded(found: Iterator[Alarm]) -> list[Alarm]:
    return [alarm for alarm, _ in zip(found, range(EACH_KIND_MAX), strict=False)]


def _days(seconds: float) -> str:
    days = max(1, int(seconds // DAY_S))
    return f"{days} day{'s' if days > 1 else ''}"


# --- this device and the history -----------------------------------------------------------------------


def _expelled(outlook: Outlook) -> Iterator[Alarm]:
    own, authority = outlook.own, outlook.authority
    if own in authority.revoked:
        yield Alarm(
            "problem",
            "expelled",
            node_text(own),
            "this device was removed from the clan: its key is out for ever",
            "run `clanctl leave`, then join again with a new invite",
        )
    elif own in authority.suspended:
        yield Alarm(
            "problem",
            "expelled",
            node_text(own),
            "more devices came by this device's invite than it allows, and an admin has to choose",
            "on an admin's device: `clanctl invite list`, then `clanctl invite confirm`; "
            "where this one was refused: `clanctl leave`, then join again with a new invite",
        )
    elif not authority.is_member(own):
        yield Alarm(
            "problem",
            "expelled",
            node_text(own),
            "no admin vouches for this device any more",
            "run `clanctl leave`, then join again with a new invite",
        )


def _history(outlook: Outlook) -> Iterator[Alarm]:
    authority = outlook.authority
    if authority.final is not None and not authority.follows(authority.final):
        yield Alarm(
            "problem",
            "fork",
            authority.final.hex(),
            "the clan's history, as it was settled here, is not the one that is followed now",
            "compare `clanctl admin list` on each admin's device; if they differ, use the recovery key",
        )
    for entry in outlook.ledger.of_kind(Kind.ACKNOWLEDGEMENT):
        if isinstance(entry.content, Acknowledgement) and _is_elsewhere(outlook, entry.value, entry.content.head):
            name, ended = outlook.name(entry.value.author), not authority.is_admin(entry.value.author)
            why = ", where it is an admin still" if ended else ""
            yield Alarm(
                "problem",
                "split",
                node_text(entry.value.author),
                f"{name} follows another history than this device{why}: they cannot both be right",
                f"if its key was stolen: {_removing(outlook, entry.value.author)}; else compare "
                "`clanctl admin list` on both, and where it is wrong `clanctl leave --force` and join again",
            )


def _is_elsewhere(outlook: Outlook, said: Record, head: RecordId) -> bool:
    """Whether a member stands by an operation that is here and is not followed, for longer than words take."""
    followed = outlook.authority.follows(head) or outlook.ledger.by_short_id(head[:SHORT_ID_BYTES]) is None
    settled = outlook.now.unix_s - unix_s_of(said.seq) > SPLIT_S
    return not followed and settled and _matters(outlook, said.author)


def _stale(outlook: Outlook) -> Iterator[Alarm]:
    heard = outlook.authority.acknowledged_unix_s
    since = heard if heard is not None else _founded_unix_s(outlook.ledger)
    age_s = outlook.now.unix_s - since
    if age_s > STALE_S:
        yield Alarm(
            "problem",
            "stale-authority",
            "",
            f"no admin's device was heard for {_days(age_s)}: what they decided since is not known here",
            "switch an admin's device on, or connect this one with the others",
        )


def _founded_unix_s(ledger: Ledger) -> float:
    founded = [entry.value.seq for entry in ledger.of_kind(Kind.AUTHORITY) if entry.value.is_genesis]
    return unix_s_of(founded[0]) if founded else 0.0


def _doubles(outlook: Outlook) -> Iterator[Alarm]:
    for node, seen_s in sorted(outlook.clones.items()):
        if outlook.now.monotonic_s < seen_s + CLONE_FADES_S and _matters(outlook, node):
            name = outlook.name(node)
            yield Alarm(
                "problem",
                "clone",
                node_text(node),
                f"{name} runs twice with one key: its disk was copied",
                "switch the copy off, empty its state directory, and let it join with an invite of its own",
            )
    for entry in outlook.ledger.of_kind(Kind.EQUIVOCATION):
        age_s = outlook.now.unix_s - unix_s_of(entry.value.seq)
        if isinstance(entry.content, Equivocation) and age_s < PROOF_NOTICE_S:
            yield from _proof(outlook, entry.content, age_s)


def _proof(outlook: Outlook, proof: Equivocation, age_s: float) -> Iterator[Alarm]:
    if not _matters(outlook, proof.author):
        return
    name = outlook.name(proof.author)
    yield Alarm(
        "problem" if age_s < PROOF_PROBLEM_S else "notice",
        "equivocation",
        node_text(proof.author),
        f"{name} signed two different things at one moment: a restored backup, a copied disk, or a stolen key",
        f"if nobody restored or copied it, its key is stolen: {_removing(outlook, proof.author)}",
    )


def _matters(outlook: Outlook, node: NodeId) -> bool:
    return node == outlook.own or outlook.authority.is_member(node)


def _removing(outlook: Outlook, node: bytes) -> str:
    """What to type to put a member out, and where: an admin's device does it, and not to itself."""
    command = f"`clanctl remove {called(outlook.authority, node)}`"
    if not outlook.is_admin:
        return f"on an admin's device {command}"
    return f"on another admin's device {command}" if node == outlook.own else command


# --- decisions -----------------------------------------------------------------------------------------


def _proposals(outlook: Outlook) -> Iterator[Alarm]:
    authority = outlook.authority
    for pending in authority.pending:
        text = f"{outlook.name(pending.author)} proposes to {operation_text(authority, pending.operation)}"
        short = pending.id.hex()[:ID_LETTERS]
        if outlook.is_admin and outlook.own not in pending.signers:
            remedy = f"if that is right: `clanctl admin approve {short}`"
            yield Alarm("notice", "approval", pending.id.hex(), f"{text}; it waits for this device's word", remedy)
        else:
            missing = f"it has a weight of {pending.weight} of {pending.needed}"
            where = "another" if outlook.is_admin else "an"
            remedy = f"on {where} admin's device: `clanctl admin approve {short}`"
            yield Alarm("notice", "proposal", pending.id.hex(), f"{text}; {missing}", remedy)


def _lost(outlook: Outlook) -> Iterator[Alarm]:
    authority = outlook.authority
    for lost in reversed(missed(authority)):
        if outlook.now.unix_s - lost.at_unix_s > ABSENT_S:
            continue
        who, what = outlook.name(lost.author), operation_text(authority, lost.operation)
        yield Alarm(
            "notice",
            "lost-operation",
            lost.id.hex(),
            f"what {who} decided ({what}) lost against another decision and does not count",
            "decide it again if it is still wanted",
        )


def missed(authority: Authority) -> list[Lost]:
    """Operations that lost against another history, but for those that were said again or change nothing."""
    chain = authority.chain
    return [
        lost
        for lost in authority.lost
        if isinstance(lost.operation, AuthorityOp) and after(chain, lost.operation) != chain
    ]


def _contested(outlook: Outlook) -> Iterator[Alarm]:
    authority = outlook.authority
    for key, standing in sorted(authority.invites.items()):
        waiting = standing.redeemed_by & authority.suspended
        inside = sorted(outlook.name(node) for node in standing.redeemed_by if authority.is_member(node))
        if waiting or len(inside) > standing.invite.uses:  # or several admins have let in one each
            short = key.hex()[:ID_LETTERS]
            came, uses = len(standing.redeemed_by), standing.invite.uses
            yield Alarm(
                "problem" if outlook.is_admin else "notice",
                "contested-invite",
                key.hex(),
                f"{came} devices came by the invite {short}, which is for {uses}: somebody else had the token",
                f"on an admin's device: {_choosing(short, inside, bool(waiting))}",
            )


def _choosing(short: str, inside: Sequence[str], has_waiting: bool) -> str:
    """What a person does about a contested invite: the devices that are in may be the right ones, or not."""
    choose = f"`clanctl invite list`, then `clanctl invite confirm {short} DEVICE`"
    revoke = f"`clanctl invite revoke {short}`"
    if not inside:
        return f"{choose}; if none of them is yours, {revoke}"
    names = listed([*inside[:NAMED_MAX], "others"] if len(inside) > NAMED_MAX else inside)
    wrong = "it" if len(inside) == 1 else "the wrong one"
    then = f", {choose}" if has_waiting else ""
    return f"if {names} may stay, {revoke}; else `clanctl remove` {wrong}{then}"


# --- members -------------------------------------------------------------------------------------------


def _expiring(outlook: Outlook) -> Iterator[Alarm]:
    now_s = outlook.now.unix_s
    for member in outlook.authority.members.values():
        if not member.expires_unix_s:
            continue
        severity: Severity = "problem" if outlook.is_admin or member.node == outlook.own else "notice"
        remedy = f"on an admin's device: `clanctl renew {member.name}`"
        name, subject = outlook.name(member.node), node_text(member.node)
        if not member.is_current(now_s):
            text = f"the membership of {name} has ended"
            yield Alarm(severity, "expired", subject, text, remedy)
        elif _is_overdue(member, life_s(outlook.authority), now_s):
            left = _days(member.expires_unix_s - now_s + DAY_S)  # rounded up
            ruled = life_s(outlook.authority) is not None
            why = ", and no admin's device could renew it" if ruled else ""
            text = f"the membership of {name} ends within {left}{why}"
            yield Alarm(severity, "expiry", subject, text, remedy)


def _is_overdue(member: Member, term_s: int | None, now_unix_s: float) -> bool:
    """Whether little is left of a membership's life: by the clan's rule, else by the date of what made it."""
    life_s = term_s or member.expires_unix_s - member.issued_unix_s
    return member.expires_unix_s - now_unix_s < life_s * EXPIRING_LIFE


def _exposed(outlook: Outlook) -> Iterator[Alarm]:
    """Values that a removed device knows. Those that devices threw dice for are replaced by themselves, soon."""
    revoked = outlook.authority.revoked
    for item in newest_secrets(outlook.ledger, outlook.authority):
        readers = sorted({item.author, *(wrap.node for wrap in item.secret.wraps)} & revoked)
        if item.secret.random_bytes:
            readers = [node for node in readers if outlook.now.unix_s - _out_unix_s(outlook, node) > REPLACED_S]
        if readers:
            yield Alarm(
                "problem" if outlook.is_admin else "notice",
                "exposed-secret",
                item.name,
                f"{_readers_text(outlook, readers)} the secret {item.name}, and it has no new value yet",
                _replacing(outlook, item),
            )


def _readers_text(outlook: Outlook, readers: Sequence[NodeId]) -> str:
    """Who knows a value that is to be replaced: names, of the first few."""
    more = len(readers) - NAMED_MAX
    names = sorted(called(outlook.authority, node) for node in readers[:NAMED_MAX])
    who = listed([*names, f"{more} more"] if more > 0 else names)
    return f"{who} {'knows' if len(readers) == 1 else 'know'}"


def _replacing(outlook: Outlook, item: WantedSecret) -> str:
    """What a person does about a value that somebody else knows."""
    members = outlook.authority.members
    if recipients(Audience.of(item.secret), members, outlook.now.unix_s):
        return f"`clanctl secrets rotate {item.name}`, or give it a new value with `clanctl secrets set`"
    return f"nobody is left that it is for: `clanctl secrets remove {item.name}`, or set it for another device"


def _out_unix_s(outlook: Outlook, node: NodeId) -> float:
    """When a key was put out, by the clock of whoever did."""
    said = [
        entry for entry in outlook.ledger.of_kind(Kind.REVOCATION) if entry.value.slot == fingerprint_slot(node)
    ]
    return max((unix_s_of(entry.value.seq) for entry in said), default=0.0)


# --- what the clan could not survive -------------------------------------------------------------------


def _frail(outlook: Outlook) -> Iterator[Alarm]:
    chain = outlook.authority.chain
    silent = [admin for admin in chain.admins if _is_silent(outlook, admin.node)]
    if silent and chain.total_weight - sum(admin.weight for admin in silent) < chain.majority:
        names, it = listed([outlook.name(admin.node) for admin in silent]), "it" if len(silent) == 1 else "them"
        first = called(outlook.authority, silent[0].node)
        yield Alarm(
            "notice",
            "no-majority",
            "",
            f"{names} said nothing for {_days(ABSENT_S)}, and without {it} the admins cannot change the authority",
            f"switch {it} on, or with the recovery key `clanctl admin recover --add NODE --remove {first}`",
        )
    if chain.recovery is None and outlook.is_admin:
        yield Alarm(
            "notice",
            "recovery-key",
            "",
            "the clan has no recovery key: when too many admins' devices are lost, nobody can change it any more",
            "make one: `clanctl admin propose recovery`, and keep it on paper",
        )


def _is_silent(outlook: Outlook, admin: NodeId) -> bool:
    said = [
        entry.value.seq for entry in outlook.ledger.of_kind(Kind.ACKNOWLEDGEMENT) if entry.value.author == admin
    ]
    return bool(said) and outlook.now.unix_s - unix_s_of(said[0]) > ABSENT_S
