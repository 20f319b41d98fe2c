"""The state directory: what was acknowledged survives kill -9 and power cuts; damage costs what it hit."""

import json
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from clanmesh_protocol.keys import ClanId, make_device_keys
from clanmeshd.core.tunnel_keys import begun, switched
from clanmeshd.files import RealFiles
from clanmeshd.store import Membership, StateError, Store, read_log_untrusted
from tests.lossy import LossyFiles, PowerCut


def _keys():
    return make_device_keys(os.urandom, 1_800_000_000)


def test_keys_and_membership_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    store.open()
    assert store.load_keys() is None
    assert store.load_membership() is None
    keys, membership = _keys(), Membership(ClanId(bytes(range(16))), "family", b"d" * 16)
    store.save_keys(keys)
    store.save_membership(membership)
    assert store.load_keys() == keys
    assert store.load_membership() == membership
    assert stat.S_IMODE((tmp_path / "state/keys.json").stat().st_mode) == 0o600
    changing = begun(keys, os.urandom, 1_800_000_100)
    store.save_keys(changing)
    assert store.load_keys() == changing
    assert changing.tunnel_next is not None
    store.save_keys(switched(changing, 1_800_000_200))
    assert keys.tunnel_seed.hex() not in (tmp_path / "state/keys.json").read_text(), "the old key is forgotten"
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_former_discovery_secrets_come_back_and_older_files_have_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    membership = Membership(ClanId(bytes(16)), "family", b"d" * 16, ((b"e" * 16, 1_900_000_000), (b"f" * 16, 1)))
    store.save_membership(membership)
    assert store.load_membership() == membership
    older = json.loads((tmp_path / "clan.json").read_text())
    del older["former"]
    (tmp_path / "clan.json").write_text(json.dumps(older))
    assert store.load_membership() == replace(membership, former=())
    for damaged in ([["zz", 1]], [["00"]], 3, [[1, 2]]):
        (tmp_path / "clan.json").write_text(json.dumps(older | {"former": damaged}))
        with pytest.raises(StateError, match=r"clan\.json: damaged"):
            store.load_membership()


def test_what_was_looked_on_at_comes_back_and_older_files_have_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    membership = Membership(ClanId(bytes(16)), "family", b"d" * 16, looked=(b"e" * 16, b"f" * 16))
    store.save_membership(membership)
    assert store.load_membership() == membership
    older = json.loads((tmp_path / "clan.json").read_text())
    del older["looked"]
    (tmp_path / "clan.json").write_text(json.dumps(older))
    assert store.load_membership() == replace(membership, looked=None)
    for damaged in (["zz", "00"], ["00"], 3, [1, 2]):
        (tmp_path / "clan.json").write_text(json.dumps(older | {"looked": damaged}))
        with pytest.raises(StateError, match=r"clan\.json: damaged"):
            store.load_membership()


def test_a_second_daemon_is_refused_in_one_line(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.open()
    with pytest.raises(StateError, match="another clanmeshd uses this state directory") as refused:
        second.open()
    assert "\n" not in str(refused.value)
    first.close()
    second.open()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b'{"format": 1, "identity": "zz"}']
)
def test_damaged_keys_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(StateError, match=r"keys\.json: damaged"):
        Store(tmp_path).load_keys()


def test_a_later_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "clan.json").write_text('{"format": 2}')
    with pytest.raises(StateError, match="format 2"):
        Store(tmp_path).load_membership()


def test_records_come_back_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append([b"one", b"two"])
    store.append([b"three"])
    assert Store(tmp_path).load_records().records == [b"one", b"two", b"three"]


@pytest.mark.parametrize("lost", range(1, 14))
def test_a_torn_tail_is_cut_and_said(tmp_path: Path, lost: int) -> None:
    store = Store(tmp_path)
    store.append([b"first", b"last"])
    log = tmp_path / "records.log"
    log.write_bytes(log.read_bytes()[:-lost])
    loaded = Store(tmp_path).load_records()
    assert loaded.records == [b"first"]
    assert loaded.damage is not None
    assert "records.log" in loaded.damage
    again = Store(tmp_path)
    assert again.load_records().damage is None
    again.append([b"after"])
    assert Store(tmp_path).load_records().records == [b"first", b"after"]


def test_damage_in_the_middle_costs_one_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append([b"a" * 50, b"b" * 50, b"c" * 50])
    log = tmp_path / "records.log"
    data = bytearray(log.read_bytes())
    data[80] ^= 1
    log.write_bytes(data)
    loaded = Store(tmp_path).load_records()
    assert loaded.records == [b"a" * 50, b"c" * 50]
    assert loaded.damage is not None
    assert (tmp_path / "records.damaged").read_bytes() == bytes(data)
    assert Store(tmp_path).load_records().damage is None


@pytest.mark.parametrize("seed", range(200))
def test_a_power_cut_loses_nothing_that_was_acknowledged(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    files = LossyFiles()
    files.random = rng
    store = Store(Path("/state"), files)
    acknowledged: list[bytes] = []
    files.cut_after = rng.randrange(12)
    offered: list[bytes] = []
    try:
        for number in range(12):
            batch = [rng.randbytes(rng.randrange(1, 200)) for _ in range(rng.randrange(1, 4))]
            offered += batch
            store.append(batch)
            acknowledged += batch
            if number % 5 == 4:
                store.compact(acknowledged)
    except PowerCut:
        pass
    files.cut_after = None
    loaded = Store(Path("/state"), files).load_records()
    assert loaded.records[: len(acknowledged)] == acknowledged
    assert set(loaded.records) <= set(offered)


def test_noise_is_no_record() -> None:
    rng = random.Random(7)
    for _ in range(200):
        records, _, _ = read_log_untrusted(rng.randbytes(400))
        assert records == []


def test_an_atomic_write_leaves_no_temporary(tmp_path: Path) -> None:
    files = RealFiles()
    files.write_atomic(tmp_path / "x", b"1")
    files.write_atomic(tmp_path / "x", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with pytest.raises(OSError, match="No such file"):
        files.write_atomic(tmp_path / "missing" / "x", b"3")
