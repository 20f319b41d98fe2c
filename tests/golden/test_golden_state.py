"""Later versions read what this one left on a disk: keys, membership, records, secrets, the rollout's memory."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clanmesh_protocol.signing import read_untrusted
from clanmeshd.core.authority import fold
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.wanted import newest_secrets
from clanmeshd.files import RealFiles
from clanmeshd.rollout.journal import Journal
from clanmeshd.secrets.sealing import open_secret
from clanmeshd.store import Store

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.glob("state-v*"))


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden state: a test must not change what is frozen."""
    return Path(shutil.copytree(HERE / request.param, tmp_path / "state"))


def describe(state: Path) -> dict[str, Any]:
    """What a state directory means, in plain values."""
    store = Store(state)
    keys, membership, loaded = store.load_keys(), store.load_membership(), store.load_records()
    assert keys is not None
    assert membership is not None
    assert loaded.damage is None
    ledger = Ledger(membership.clan)
    for data in loaded.records:
        ledger.apply(read_untrusted(data, membership.clan))
    authority = fold(ledger)
    own = [
        item for item in newest_secrets(ledger, authority) if any(w.node == keys.node for w in item.secret.wraps)
    ]
    return {
        "clan": membership.clan.hex(),
        "name": membership.name,
        "node": keys.node.hex(),
        "members": sorted([member.name, *member.tags] for member in authority.members.values()),
        "admins": sorted(authority.members[admin].name for admin in authority.admins),
        "signers": list(authority.signers),
        "records": len(ledger),
        "root": ledger.root().hex(),
        "secrets": {item.name: open_secret(keys, membership.clan, item).hex() for item in own},
    }


def test_there_is_a_golden_state() -> None:
    assert "state-v1" in VERSIONS


def test_it_means_what_it_meant(golden: Path) -> None:
    expected = json.loads((golden / "expected.json").read_text())
    assert describe(golden) == expected["state"]


def test_the_rollout_remembers(golden: Path) -> None:
    expected = json.loads((golden / "expected.json").read_text())["rollout"]
    journal = Journal(golden / "rollout", RealFiles())
    assert journal.load(None) is None
    assert journal.memory.good is not None
    assert journal.memory.good.hex() == expected["good"]
    assert [entry.commit for entry in journal.memory.bad] == expected["bad"]
