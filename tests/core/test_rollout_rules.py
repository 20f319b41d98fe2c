"""The rollout's pure parts: selection, settings, bundle headers, signers, the memory of what was tried."""

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import MalformedError
from clanmeshd.rollout.bundle import HEADER_BYTES_MAX, BundleReader
from clanmeshd.rollout.config import FILE_BYTES_MAX, parse_config_untrusted
from clanmeshd.rollout.journal import BAD_MAX, HISTORY_MAX, Entry, Journal, Memory, Soak
from clanmeshd.rollout.rings import Ring
from clanmeshd.rollout.selection import Follow, Held, Nothing, select
from clanmeshd.rollout.signers import read_signature_untrusted, read_signer_untrusted, read_signers
from tests.lossy import LossyFiles, PowerCut

A, B, C = (bytes([number] * 20) for number in (1, 2, 3))
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
NIXOS = b'[rollout]\ndriver = "nixos"\n'
MINIMAL = b'[rollout]\ndriver = "command"\nactivate = ["./activate"]\nhealth = ["./health"]\n'


# --- selection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anchor", "heads", "tips", "decision"),
    [
        (None, {}, set(), Nothing()),
        (A, {}, {A}, Follow(A)),
        (None, {A: "alice"}, {A}, Follow(A)),
        (A, {B: "alice"}, {B}, Follow(B)),
        (B, {A: "alice"}, {B}, Follow(B)),  # an old claim is behind the anchor
        (A, {A: "alice", B: "bob"}, {B}, Follow(B)),
    ],
)
def test_one_tip_is_followed(
    anchor: bytes | None, heads: dict[bytes, str], tips: set[bytes], decision: object
) -> None:
    assert select(anchor, heads, tips) == decision


def test_two_tips_hold_and_name_both_signers() -> None:
    decision = select(A, {B: "bob", C: "carol"}, {C, B})
    assert isinstance(decision, Held)
    assert decision.tips == (B, C)
    assert "bob" in decision.why
    assert "carol" in decision.why


def test_a_head_beside_the_anchor_holds() -> None:
    assert isinstance(select(A, {B: "bob"}, {A, B}), Held)


@given(st.sets(st.sampled_from([A, B, C]), min_size=1), st.randoms())
def test_the_order_of_heads_means_nothing(tips: set[bytes], rng: random.Random) -> None:
    shuffled = sorted(tips)
    rng.shuffle(shuffled)
    assert select(None, dict.fromkeys(shuffled, "x"), shuffled) == select(None, dict.fromkeys(tips, "x"), tips)


# --- clan.toml ---------------------------------------------------------------------------------------------


def test_the_least_of_a_clan_toml() -> None:
    config = parse_config_untrusted(MINIMAL)
    assert (config.build, config.activate, config.health) == ((), ("./activate",), ("./health",))
    assert (config.health_timeout_s, config.build_timeout_s, config.activate_timeout_s) == (30, 1800, 300)


def test_rings_in_their_order() -> None:
    rings = b'[[rollout.ring]]\ntag = "testers"\nhealthy = 2\nsoak_s = 0\n[[rollout.ring]]\ntag = "canary"\n'
    assert parse_config_untrusted(MINIMAL).rings == ()
    assert parse_config_untrusted(MINIMAL + rings).rings == (Ring("testers", 2, 0), Ring("canary", 0, 300))


def test_the_least_of_a_nixos_clan_toml() -> None:
    config = parse_config_untrusted(NIXOS)
    assert (config.driver, config.build, config.activate, config.health) == ("nixos", (), (), ())
    assert (config.health_timeout_s, config.build_timeout_s, config.activate_timeout_s) == (30, 14_400, 900)
    assert parse_config_untrusted(NIXOS + b'builders = ["big", "nas"]\n').builders == ("big", "nas")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "the commit has none"),
        (b"", "no table [rollout]"),
        (b"\xff", "not UTF-8"),
        (b"[rollout", "at end of document"),
        (b"rollout = 1", "no table [rollout]"),
        (b"[access]\nusers = []\n" + MINIMAL, "no setting access (line 1)"),
        (MINIMAL + b"relay = true\n", "no setting rollout.relay (line 5)"),
        (MINIMAL.replace(b'"command"', b'"guix"'), "rollout.driver is 'guix'"),
        (MINIMAL.replace(b'"command"', b"[]"), "rollout.driver is []"),
        (MINIMAL.replace(b"command", b"nixos"), "no setting rollout.activate (line 3)"),
        (MINIMAL + b'builders = ["big"]\n', "no setting rollout.builders (line 5)"),
        (NIXOS + b'build = ["./build"]\n', "no setting rollout.build (line 3)"),
        (NIXOS + b'builders = "big"\n', "rollout.builders is not a list of tags and names"),
        (NIXOS + b'builders = [""]\n', "rollout.builders is not a list of tags and names"),
        (NIXOS + b"builders = [" + b'"x", ' * 17 + b"]\n", "rollout.builders names over 16"),
        (MINIMAL.replace(b'driver = "command"\n', b""), "rollout.driver is None"),
        (MINIMAL.replace(b'activate = ["./activate"]\n', b""), "rollout.activate is missing"),
        (MINIMAL.replace(b'health = ["./health"]\n', b""), "rollout.health is missing"),
        (MINIMAL.replace(b'["./health"]', b'"./health"'), "rollout.health is not a list of words"),
        (MINIMAL.replace(b'["./health"]', b"[1]"), "rollout.health is not a list of words"),
        (MINIMAL.replace(b'["./health"]', b"[]"), "rollout.health is not a list of words"),
        (MINIMAL.replace(b'["./health"]', b'[""]'), "rollout.health is not a list of words"),
        (MINIMAL.replace(b'["./health"]', b'["a\\u0000b"]'), "zero byte"),
        (MINIMAL.replace(b'["./health"]', b'["' + b"x" * 5000 + b'"]'), "rollout.health is too long"),
        (MINIMAL + b"health_timeout_s = 0\n", "rollout.health_timeout_s is 0"),
        (MINIMAL + b"health_timeout_s = true\n", "rollout.health_timeout_s is True"),
        (MINIMAL + b"health_timeout_s = 1.5\n", "rollout.health_timeout_s is 1.5"),
        (MINIMAL + b"health_timeout_s = 99999\n", "rollout.health_timeout_s is 99999"),
        (MINIMAL + b"ring = 1\n", "rollout.ring is no list of tables"),
        (MINIMAL + b"ring = [1]\n", "rollout.ring is no list of tables"),
        (MINIMAL + b"[[rollout.ring]]\n", "rollout.ring.tag is None"),
        (MINIMAL + b"[[rollout.ring]]\ntag = 'all'\n", "rollout.ring.tag is 'all'"),
        (MINIMAL + b"[[rollout.ring]]\ntag = 'Testers'\n", "rollout.ring.tag is 'Testers'"),
        (MINIMAL + b"[[rollout.ring]]\ntag = 't'\nsoak = 1\n", "no setting rollout.ring.soak (line 7)"),
        (MINIMAL + b"[[rollout.ring]]\ntag = 't'\nhealthy = 0\n", "rollout.ring.healthy is 0"),
        (MINIMAL + b"[[rollout.ring]]\ntag = 't'\nsoak_s = -1\n", "rollout.ring.soak_s is -1"),
        (MINIMAL + b"[[rollout.ring]]\ntag = 't'\nsoak_s = 604801\n", "rollout.ring.soak_s is 604801"),
        (MINIMAL + 2 * b"[[rollout.ring]]\ntag = 't'\n", "two rings are of one tag"),
        (MINIMAL + b"".join(b"[[rollout.ring]]\ntag = 't%d'\n" % number for number in range(9)), "over 8 rings"),
        (b"#" * (FILE_BYTES_MAX + 1), "over 65536 bytes"),
        (b"a = " + b"[" * 20_000, "nests too deeply"),
        (MINIMAL + b"a." * 200 + b"a = 1\n", "line 5 has over 128 dots"),
        (MINIMAL + b"settle_s = " + b"9" * 5000 + b"\n", "digits"),
        (
            MINIMAL + b"settle_s = 0x" + b"f" * 5000 + b"\n",
            "rollout.settle_s is a number with thousands of digits",
        ),
        (MINIMAL.replace(b'"command"', b"[0x" + b"f" * 5000 + b"]"), "rollout.driver is a number with"),
        (MINIMAL.replace(b'"command"', b'"' + b"x" * 5000 + b'"'), "rollout.driver is 'xxx"),
        (MINIMAL + b"x" * 5000 + b" = 1\n", "no setting rollout.xxx"),
    ],
)
def test_what_a_clan_toml_may_not_be(data: bytes | None, why: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_config_untrusted(data)
    assert why in str(caught.value)
    assert caught.value.kind == "refused"
    assert caught.value.remedy
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=300))
def test_no_clan_toml_breaks_the_reader(data: bytes) -> None:
    with pytest.raises(Fault):
        parse_config_untrusted(data)


# --- bundles -----------------------------------------------------------------------------------------------

HEADER = b"# v2 git bundle\n-" + A.hex().encode() + b" a subject\n" + B.hex().encode() + b" refs/heads/main\n\n"


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_a_header_in_pieces(step: int) -> None:
    data = HEADER + b"PACK and\n\nmore"
    reader = BundleReader()
    pack = b"".join(reader.feed_untrusted(data[at : at + step]) for at in range(0, len(data), step))
    assert reader.begun
    assert reader.prerequisites == [A]
    assert pack == b"PACK and\n\nmore"


@pytest.mark.parametrize(
    "data",
    [
        b"PACK",
        b"# v4 git bundle\n",
        b"# v2 git bundle\nnonsense\n",
        b"# v2 git bundle\n-" + b"x" * 40 + b"\n",
        b"# v2 git bundle\n-" + A.hex().encode() + b"00\n",
        b"# v3 git bundle\n@object-format=sha256\n",
        b"# v3 git bundle\n@filter=blob:none\n",
        b"# v2 git bundle\n" + b"-" * (HEADER_BYTES_MAX + 1),
    ],
)
def test_damaged_headers(data: bytes) -> None:
    reader = BundleReader()
    with pytest.raises(Fault):
        reader.feed_untrusted(data if b"\n" in data else data + b"\n")


@given(st.binary(max_size=200))
def test_no_header_breaks_the_reader(data: bytes) -> None:
    reader = BundleReader()
    with suppress(Fault):
        pack = reader.feed_untrusted(b"# v2 git bundle\n" + data)
        assert data.endswith(pack)


# --- signers -----------------------------------------------------------------------------------------------


def test_a_signer_line() -> None:
    signer = read_signer_untrusted(f"ssh-ed25519 {KEY} alice on the laptop")
    assert signer.name == "alice on the laptop"
    assert signer.fingerprint == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    assert signer.allowed_line.endswith(f" ssh-ed25519 {KEY}\n")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        f"ssh-ed25519 {KEY[:-1]}\u00fc",
        f"cert-authority ssh-ed25519 {KEY}",
        f'valid-before="2001" ssh-ed25519 {KEY}',
        f"ssh-rsa {KEY}",  # the key says otherwise
        f"ssh-dss {KEY}",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 %%%%",
        f"* ssh-ed25519 {KEY}",
    ],
)
def test_lines_that_are_no_signer(line: str) -> None:
    with pytest.raises(MalformedError):
        read_signer_untrusted(line)
    assert read_signers((line,)) == ()


def test_a_key_counts_once_and_the_order_means_nothing() -> None:
    first, second = f"ssh-ed25519 {KEY} a", f"ssh-ed25519 {KEY} b"
    assert len(read_signers((first, second))) == 1
    assert read_signers((first,))[0].blob == read_signers((second, first))[0].blob


@given(st.binary(max_size=200))
def test_no_signature_breaks_the_reader(data: bytes) -> None:
    for candidate in (data, b"SSHSIG" + data, b"SSHSIG\0\0\0\1" + data):
        try:
            signature = read_signature_untrusted(candidate)
        except MalformedError:
            continue
        assert read_signature_untrusted(signature.armored) == signature


# --- memory ------------------------------------------------------------------------------------------------


def entry(number: int, state: str = "failed") -> Entry:
    return Entry(f"{number:040x}", state, "why", 1.0, 2.0)


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    memory = Memory()
    for number in range(HISTORY_MAX + BAD_MAX):
        memory = memory.with_result(entry(number), "")
    assert len(memory.history) == HISTORY_MAX
    assert len(memory.bad) == BAD_MAX
    assert len(memory.bad_commits) == 4
    assert memory.bad_commits[-1] == bytes.fromhex(entry(HISTORY_MAX + BAD_MAX - 1).commit)
    assert memory.good is None


def test_success_clears_an_earlier_failure() -> None:
    memory = Memory().with_result(entry(1), "x").with_result(entry(1, "current"), "y")
    assert memory.bad == ()
    assert memory.good == bytes.fromhex(entry(1).commit)
    assert memory.activation == "y"


def test_a_retry_is_heeded_once() -> None:
    failed = Memory().with_result(entry(1), "").with_result(entry(2), "")
    heeded = failed.with_retry("aa", 5, bytes.fromhex(entry(1).commit))
    assert [bad.commit for bad in heeded.bad] == [entry(2).commit]
    again = heeded.with_result(entry(1), "")
    assert again.with_retry("aa", 5, bytes.fromhex(entry(1).commit)) is again
    assert again.with_retry("bb", 1, bytes.fromhex(entry(1).commit)).bad == heeded.bad
    assert again.with_retry("aa", 6, bytes.fromhex(entry(2).commit)).bad == (again.bad[-1],)


def test_what_is_watched_stays_so_until_another_commit_runs() -> None:
    first, second = (bytes.fromhex(entry(number).commit) for number in (1, 2))
    memory = Memory().with_soak(first, 60)
    assert memory.soaking is None, "it does not run yet"
    memory = memory.with_result(entry(1, "current"), "")
    assert memory.soaking == Soak(first.hex(), 60)
    tried = memory.with_soak(second, 30)
    assert tried.with_result(entry(2), "").soaking == Soak(first.hex(), 60), "it went back to the first"
    assert tried.with_result(entry(2, "current"), "").soaking == Soak(second.hex(), 30)
    assert memory.watched().soaking is None
    assert memory.with_soak(second, 0).with_result(entry(2, "current"), "").soaking is None


def test_the_memory_of_an_earlier_version_is_read() -> None:
    files = LossyFiles()
    journal = Journal(Path("/r"), files)
    journal.save(Memory(good=A))
    value = json.loads(files.read(Path("/r/state.json")))
    del value["soaks"], value["heeded"], value["witnessed"]
    files.write_atomic(Path("/r/state.json"), json.dumps(value).encode())
    assert journal.load(None) is None
    assert journal.memory == Memory(good=A)


@pytest.mark.parametrize("cut_after", range(4))
def test_a_power_cut_leaves_the_old_or_the_new(cut_after: int) -> None:
    files = LossyFiles()
    journal = Journal(Path("/r"), files)
    states = [Memory()]
    files.cut_after = cut_after
    try:
        for number in range(4):
            states.append(
                states[-1].with_result(entry(number), str(number)).with_retry("aa", number, A).with_soak(B, 9)
            )
            journal.save(states[-1])
    except PowerCut:
        pass
    files.cut_after = None
    again = Journal(Path("/r"), files)
    assert again.load(None) is None
    assert again.memory in states[-2:]


def test_a_damaged_file_keeps_the_running_revision() -> None:
    files = LossyFiles()
    journal = Journal(Path("/r"), files)
    files.write_atomic(Path("/r/state.json"), b'{"format": 1, "good": "zz"}')
    note = journal.load(A)
    assert note is not None
    assert "/r/state.json" in note
    assert journal.memory == Memory(good=A)
