"""Every attack on every way that it can take: refused with its reason, and without a trace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.commits import attacks_bundles, attacks_content, attacks_history, attacks_signatures
from tests.commits.stage import (
    ATTACKS,
    GOSSIP,
    PUSH,
    Attack,
    enter_scene,
    prepare,
    published,
    refused_as_claim,
    refused_as_push,
)
from tests.net.rollout_devices import running
from tests.net.rollout_world import Key, make_key

CASES_MIN = 60
BY_GIT_TOO = frozenset({"unsigned", "unsigned middle commit"})  # signatures are looked at by the same code
MODULES = (attacks_bundles, attacks_content, attacks_history, attacks_signatures)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    directory = tmp_path_factory.mktemp("keys")
    return {name: make_key(directory, name) for name in ("alice", "bob", "mallory")}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Key]) -> Path:
    root = tmp_path_factory.mktemp("template")
    trio.run(prepare, root, keys)
    return root


def test_the_corpus_is_whole() -> None:
    """Each case of each module is in it, once, and says what it is."""
    assert len(ATTACKS) >= CASES_MIN
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert {attack.make.__module__ for attack in ATTACKS} == {module.__name__ for module in MODULES}
    assert all(attack.make.__doc__ for attack in ATTACKS)


@pytest.mark.parametrize("attack", [one for one in ATTACKS if PUSH in one.reasons], ids=lambda one: one.name)
async def test_refused_as_a_push(attack: Attack, tmp_path: Path, template: Path, keys: dict[str, Key]) -> None:
    scene = enter_scene(template, tmp_path, keys)
    before = published(scene.device)
    attempt = attack.make(scene)
    async with running(scene.device):
        scene.device.put(scene.given)
        said = await refused_as_push(scene, attempt)
    assert attack.reasons[PUSH] in said
    assert "\n" not in said
    assert published(scene.device) == before
    assert not scene.device.quarantined()
    assert not scene.marker.exists()


def _by_gossip() -> Iterator[tuple[Attack, bool]]:
    """Each by packs; and from a member of an earlier version, or so it says, what comes by git's protocol."""
    for attack in ATTACKS:
        if GOSSIP in attack.reasons:
            yield attack, True
            if attack.make.__module__ != attacks_signatures.__name__ or attack.name in BY_GIT_TOO:
                yield attack, False


@pytest.mark.parametrize(
    ("attack", "speaks_packs"),
    list(_by_gossip()),
    ids=lambda value: value.name if isinstance(value, Attack) else ("packs" if value else "git"),
)
async def test_refused_as_a_claim(
    attack: Attack, speaks_packs: bool, tmp_path: Path, template: Path, keys: dict[str, Key]
) -> None:
    scene = enter_scene(template, tmp_path, keys)
    before, ran = published(scene.device), scene.device.trace()
    attempt = attack.make(scene)
    said = await refused_as_claim(scene, attempt, attack, speaks_packs=speaks_packs)
    assert attack.reasons[GOSSIP] in said, said
    assert "\n" not in said
    assert scene.device.trace() == ran, "it was run"
    assert scene.device.rollout.view()["commit"] == scene.base.hex()
    assert not scene.marker.exists()
    if not attack.runs_never:
        if "diverge" in said:
            assert scene.device.rollout.view()["state"] == "held"
        else:
            assert scene.device.rollout.view()["wanted"] == scene.base.hex()
            assert published(scene.device) == before
