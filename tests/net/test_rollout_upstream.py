"""An upstream that is watched: what a signer left there is taken, and nothing else; commands are no URLs."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clanmesh_protocol.control import Fault
from clanmesh_protocol.heads import OFFERED, head_statement
from clanmesh_protocol.records import RolloutState
from clanmeshd.rollout import upstream
from clanmeshd.rollout.config import parse_config_untrusted
from clanmeshd.rollout.upstream import LOOK_S, LOOK_S_MAX, SignedHead, Upstream, pause_s, read_head_untrusted
from tests.commits.stage import published
from tests.net.rollout_devices import running
from tests.net.rollout_world import CLAN, CLAN_TOML, Author, Device, Key, no_progress


class Place:
    """A repository at a forge, and a device that watches it."""

    def __init__(self, device: Device, author: Author, root: Path) -> None:
        self.device = device
        self.author = author
        self.path = root / "forge.git"
        author.git("init", "-q", "--bare", str(self.path))
        self.upstream = Upstream(device.root / "rollout", self.take)
        (device.root / "rollout").mkdir(exist_ok=True)
        self.taken: list[bytes] = []

    async def take(self, signed: SignedHead, bundle: AsyncIterator[bytes]) -> None:
        """Push it to the device, as the daemon does."""
        binary = await self.device.rollout.push(
            self.device.wanted(),
            ref="main",
            old=signed.old,
            new=signed.new,
            signature=signed.signature,
            bundle=bundle,
            progress=no_progress,
        )
        assert binary.startswith(b"SSHSIG")
        self.taken.append(signed.new)

    def leave(self, new: bytes, text: bytes) -> None:
        """Push a branch and a text beside it."""
        blob = self.author.git("hash-object", "-w", "--stdin", data=text)
        self.author.git("push", "-q", "-f", str(self.path), f"{new.hex()}:refs/heads/main", f"{blob}:{OFFERED}")

    def offer(self, key: Key, old: bytes | None, new: bytes, ref: str = "main") -> None:
        """Leave a signed head, as `clanctl repo offer` does."""
        statement = head_statement(CLAN, ref, old, new)
        self.leave(new, statement + key.sign(statement))

    async def look(self, url: str = "") -> bool:
        """Look once."""
        return await self.upstream.look(url or f"file://{self.path}", CLAN, self.device.rollout.head)


@pytest.fixture
def place(device: Device, author: Author, tmp_path: Path) -> Place:
    return Place(device, author, tmp_path)


async def test_a_signed_head_is_taken_once(place: Place, alice: Key) -> None:
    first = place.author.commit()
    place.offer(alice, None, first)
    assert await place.look()
    assert not await place.look()
    second = place.author.commit({"more": "1"})
    place.offer(alice, first, second)
    assert await place.look()
    assert place.taken == [first, second]
    assert place.device.rollout.head == second


async def test_what_is_taken_is_followed_as_a_push(place: Place, alice: Key) -> None:
    new = place.author.commit()
    place.offer(alice, None, new)
    async with running(place.device):
        await place.look()
        given = await place.device.push(place.author, alice, None, new)
        place.device.put(given)
        await place.device.reaches(RolloutState.CURRENT, new)


async def test_a_branch_alone_says_nothing(place: Place) -> None:
    """A forge may move it anywhere."""
    new = place.author.commit()
    place.author.git("push", "-q", str(place.path), f"{new.hex()}:refs/heads/main")
    assert not await place.look()
    assert place.device.rollout.head is None


async def test_heads_that_do_not_count(place: Place, keys: dict[str, Key]) -> None:
    """Each is refused once, with its reason, and does not keep the next one from being taken."""
    alice, bob = keys["alice"], keys["bob"]
    base = place.author.commit()
    place.offer(bob, None, base)
    with pytest.raises(Fault, match="no signer of the clan"):
        await place.look()
    assert not await place.look()
    place.offer(alice, None, base, ref="other")
    with pytest.raises(ValueError, match="something else"):
        await place.look()
    place.leave(base, b"\xff\xfe not a head\n")
    with pytest.raises(ValueError, match="no signed head"):
        await place.look()
    unsigned = place.author.commit({"more": "1"}, key=bob)
    place.offer(alice, None, unsigned)
    with pytest.raises(Fault, match="no signer of the clan"):
        await place.look()
    assert place.taken == []
    place.offer(alice, None, base)
    assert await place.look()


async def test_an_older_head_is_no_news(place: Place, alice: Key) -> None:
    """A forge that shows again what it showed before: each word of it is properly signed."""
    first = place.author.commit()
    place.offer(alice, None, first)
    assert await place.look()
    second = place.author.commit({"more": "1"})
    place.offer(alice, first, second)
    assert await place.look()
    statement = head_statement(CLAN, "main", None, first)
    place.leave(second, statement + alice.sign(statement))
    with pytest.raises(ValueError, match="before this one"):
        await place.look()
    assert place.device.rollout.head == second


async def test_a_head_that_did_not_count_is_looked_at_again_later(
    place: Place, keys: dict[str, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signed it may be a signer by then."""
    monkeypatch.setattr(upstream, "LOOK_AGAIN_S", 0.0)
    new = place.author.commit(key=keys["bob"])
    place.offer(keys["bob"], None, new)
    with pytest.raises(Fault, match="no signer of the clan"):
        await place.look()
    place.device.with_signers(keys["alice"], keys["bob"])
    assert await place.look()
    assert place.taken == [new]


async def test_a_branch_that_is_somewhere_else_than_the_head(place: Place, alice: Key) -> None:
    base = place.author.commit()
    statement = head_statement(CLAN, "main", None, bytes(20))
    place.leave(base, statement + alice.sign(statement))
    with pytest.raises(ValueError, match="branch does not have"):
        await place.look()


async def test_a_branch_that_is_ahead_of_the_head_brings_nothing_more(place: Place, alice: Key) -> None:
    """What nobody said is the head is not published here."""
    base = place.author.commit()
    statement = head_statement(CLAN, "main", None, base)
    place.author.key = None
    ahead = place.author.commit({"more": "1"}, message="nobody's")
    place.leave(ahead, statement + alice.sign(statement))
    assert await place.look()
    assert place.taken == [base]
    assert base.hex() in published(place.device)
    assert ahead.hex() not in published(place.device)


async def test_what_an_upstream_leaves_does_not_pile_up(
    place: Place, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may say something else each time, with as much behind it as one look may bring."""
    monkeypatch.setattr(upstream, "PACK_BYTES_MAX", 300_000)
    kept = []
    for number in range(6):
        place.author.git("checkout", "-q", "--orphan", f"o{number}")
        new = place.author.commit({"noise": secrets.token_hex(100_000)})
        place.leave(new, b"not a head %d\n" % number)
        with pytest.raises(ValueError, match="no signed head"):
            await place.look()
        stored = (place.device.root / "rollout" / "upstream.git").rglob("*.pack")
        kept.append(sum(path.stat().st_size for path in stored))
    assert max(kept) < 600_000
    place.offer(alice, None, new)
    assert await place.look()


async def test_an_upstream_writes_no_file_without_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "PACK_BYTES_MAX", 100_000)
    place.leave(place.author.commit({"noise": secrets.token_hex(200_000)}), b"a head\n")
    with pytest.raises(OSError, match=r".+"):
        await place.look()
    assert not (place.device.root / "rollout" / "upstream.git").exists()


async def test_an_upstream_that_is_gone(place: Place, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r".+"):
        await place.look(f"file://{tmp_path}/nowhere.git")


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% {marker}", "fd::17", "git://example.org/x", "http://example.org/x"]
)
async def test_other_transports_do_nothing_even_if_one_got_here(place: Place, tmp_path: Path, url: str) -> None:
    marker = tmp_path / "executed"
    with pytest.raises(OSError, match=r"not allowed|not supported|transport"):
        await place.look(url.format(marker=marker))
    assert not marker.exists()


@pytest.mark.parametrize(
    "url", ["https://example.org/x.git", "ssh://git@example.org:22/x", "file:///srv/x.git", ""]
)
def test_urls_that_may_be_named(url: str) -> None:
    assert parse_config_untrusted(f'{CLAN_TOML}upstream = "{url}"\n'.encode()).upstream == url


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% x",
        "EXT::sh",
        "fd::17",
        "http://example.org/x",
        "git://example.org/x",
        "git@example.org:x",
        "--upload-pack=touch",
        "ssh://-oProxyCommand=touch/x",
        "https://-x/",
        "file://host/x",
        "file://../x",
        "https://example.org/x\\ny",
        "https://example.org/a b",
        "/srv/x",
        "https://" + "x" * 1100,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Fault, match=r"rollout\.upstream is no URL of https, ssh or a file"):
        parse_config_untrusted(f'{CLAN_TOML}upstream = "{url}"\n'.encode())


def test_the_first_member_looks_often_and_all_look_now_and_then() -> None:
    pauses = [pause_s(rank) for rank in (0, 1, 5, 500)]
    assert LOOK_S <= pauses[0] <= 2 * LOOK_S
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 2 * LOOK_S_MAX


@pytest.mark.parametrize("change", ["clan", "case", "more", "short"])
def test_a_head_of_exactly_this_form(alice: Key, change: str) -> None:
    statement = head_statement(CLAN, "main", None, bytes([171] * 20)).decode()
    changed = {
        "clan": statement.replace(CLAN.hex(), "0" * 32),
        "case": statement.replace("abab", "ABAB"),
        "more": statement + "more 1\n",
        "short": statement.replace("abab", ""),
    }[change]
    assert read_head_untrusted(statement + "-----BEGIN SSH SIGNATURE-----\n", CLAN).new == bytes([171] * 20)
    with pytest.raises(ValueError, match="head"):
        read_head_untrusted(changed + "-----BEGIN SSH SIGNATURE-----\n", CLAN)
