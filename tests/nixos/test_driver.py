"""The driver `nixos` on a real Nix: a store of its own in the test's folder, flakes from a real repository."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from clanmesh_protocol.keys import NodeId
from clanmeshd.rollout import drivers, store
from clanmeshd.rollout.activation import NIXOS, Revision
from clanmeshd.rollout.build import BuildFailed, BuildStalled, Place
from clanmeshd.rollout.drivers import Workshop
from clanmeshd.rollout.repository import MAIN, RefChange, Repository
from tests.net.rollout_world import Author

pytestmark = pytest.mark.skipif(shutil.which("nix-store") is None, reason="needs: apt install nix-bin")

CONFIGURATION = "sandbox = false\nsubstituters =\nbuild-users-group =\n"
CLAN_TOML = '[rollout]\ndriver = "nixos"\nbuild_timeout_s = 60\nhealth = ["./health"]\n'
SCRIPT = "mkdir -p $out/bin; echo $rev >$out/nixos-version; cp $program $out/bin/switch-to-configuration"
FETCH = f'outputHash = "sha256-{"A" * 43}="; outputHashMode = "recursive";'  # what it brings is known beforehand
SYSTEM = f"{os.uname().machine}-linux"
FLAKE = """\
{
  outputs = { self }: {
    nixosConfigurations."nas.cellar".config.system.build.toplevel = derivation {
      name = "nixos-system-nas";
      system = "@SYSTEM@";
      builder = "/bin/sh";
      args = [ "-c" ''PATH=/usr/bin:/bin; @SCRIPT@'' ];
      program = ./program;
      rev = self.rev or "dirty";
      @MORE@
    };
  };
}
"""


@dataclass
class Bench:
    """A repository, and what builds from it."""

    root: Path
    author: Author
    repository: Repository
    workshop: Workshop

    async def commit(self, flake: str | None, **files: str) -> bytes:
        """Commit a flake, and have it followed."""
        clan_toml = files.pop("clan_toml", CLAN_TOML)
        self.author.write({"clan.toml": clan_toml, "program": "#!/bin/sh\n", **files})
        if flake is not None:
            self.author.write({"flake.nix": flake})
        commit = self.author.commit()
        self.author.git("push", "-q", "--force", str(self.repository.path), f"{commit.hex()}:refs/heads/incoming")
        await self.repository.update([RefChange(MAIN, commit)])
        return commit

    async def build(self, commit: bytes, name: str = "nas.cellar") -> Revision:
        return await self.workshop.build(commit, Place(name, (), self.root), self.root / "log")

    def let_go(self, commit: bytes) -> None:
        """Remove a commit's root behind the driver's back."""
        (self.root / "rollout" / "roots" / commit.hex()).unlink()

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()


def flake(script: str = SCRIPT, more: str = "") -> str:
    return FLAKE.replace("@SYSTEM@", SYSTEM).replace("@SCRIPT@", script).replace("@MORE@", more)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("store", "state", "log", "conf"):
        monkeypatch.setenv(f"NIX_{name.upper()}_DIR", str(tmp_path / "nix" / name))
    monkeypatch.delenv("NIX_REMOTE", raising=False)
    (tmp_path / "nix" / "conf").mkdir(parents=True)
    (tmp_path / "nix" / "conf" / "nix.conf").write_text(CONFIGURATION)
    repository = Repository(tmp_path / "rollout")
    (tmp_path / "rollout").mkdir()
    await repository.open()
    author = Author(tmp_path / "author", None)
    for name in ("build", "activate"):
        (author.path / name).unlink()
    return Bench(tmp_path, author, repository, Workshop(tmp_path / "rollout", repository))


@pytest.fixture(autouse=True)
def _writable_again(tmp_path: Path) -> Iterator[None]:
    """Nix takes the write bits from its store; who removes old folders of tests needs them."""
    yield
    for folder, _, _ in os.walk(tmp_path / "nix"):
        Path(folder).chmod(0o755)


async def test_a_system_is_built_and_kept(bench: Bench) -> None:
    """By a root with the commit's name: the collector leaves it, until it is let go of."""
    commit = await bench.commit(flake())
    revision = await bench.build(commit)
    assert (revision.driver, revision.commit, revision.activate) == (NIXOS, commit.hex(), [])
    assert revision.health == ["./health"]
    system = Path(revision.toplevel)
    assert version_of(system) == commit.hex(), "self.rev is the commit"
    assert exists(revision.checkout, "health")
    _collect()
    assert exists(system)
    await bench.workshop.keep_only([commit])
    _collect()
    assert exists(system)
    await bench.workshop.keep_only([])
    _collect()
    assert not exists(system)
    assert not exists(revision.checkout)


async def test_evaluating_leaves_nothing_behind_for_each_commit(bench: Bench) -> None:
    """Nix would keep a data base of what each of them came to, for ever, and none is evaluated twice."""

    def files() -> set[Path]:
        return {path for path in (bench.root / "rollout" / "nix").rglob("*") if "gitv3" not in path.parts}

    await bench.build(await bench.commit(flake()))
    before = files()
    await bench.build(await bench.commit(flake(more="# another\n")))
    assert files() == before


def exists(*parts: str | Path) -> bool:
    return Path(*parts).exists()


def version_of(system: Path) -> str:
    return (system / "nixos-version").read_text().strip()


def _collect() -> None:
    subprocess.run(["nix-collect-garbage"], check=True, capture_output=True)


async def test_the_way_back_is_what_was_built(bench: Bench) -> None:
    """From the root, without evaluating; built again where the root is gone."""
    good = await bench.commit(flake())
    built = await bench.build(good)
    new = await bench.build(await bench.commit(flake(more='more = "1";')))
    await bench.repository.update([RefChange("refs/rollout/good", good)])
    place, log = Place("nas.cellar", (), bench.root), bench.root / "log2"
    assert await bench.workshop.way_back(good, new, place, log) == built
    assert not log.exists()
    bench.let_go(good)
    assert await bench.workshop.way_back(good, new, place, log) == built
    assert "evaluation" in log.read_text()


async def test_without_a_commit_before_it_is_the_running_system(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clanmeshd.rollout import nixos

    before = Path((await bench.build(await bench.commit(flake(more='old = "1";')))).toplevel)
    new = await bench.build(await bench.commit(flake()))
    running = bench.root / "current-system"
    running.symlink_to(before)
    monkeypatch.setattr(nixos, "RUNNING", running)
    place = Place("nas.cellar", (), bench.root)
    back = await bench.workshop.way_back(None, new, place, bench.root / "log")
    assert back is not None
    assert (back.driver, back.commit, back.toplevel, back.health) == (NIXOS, "", str(before), [])
    running.unlink()
    bench.let_go(bytes.fromhex(new.commit))
    _collect()
    assert exists(before)
    assert await bench.workshop.way_back(None, new, place, bench.root / "log") is None


# --- what is the revision's fault ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "the commit has no flake.nix"),
        ("{ outputs = { self }: {", "the evaluation failed: syntax error"),
        ("{ outputs = { self }: { }; }", "the evaluation failed: flake"),
        (flake(script="exit 7"), "failed with exit code 7"),
        (flake(script="true"), "failed to produce output path"),
        (flake(script="echo 1 >$out"), "is not that of a NixOS system"),
        (flake().replace("derivation {", "throw ''no good'' {"), "no good"),
        ('{ inputs.x.url = "nixpkgs"; outputs = { self, x }: x; }', "registry lookups are not allowed"),
        (flake(more=FETCH), "hash mismatch"),
    ],
)
async def test_what_is_wrong_with_a_revision_is_not_tried_again(bench: Bench, text: str | None, why: str) -> None:
    commit = await bench.commit(text)
    with pytest.raises(BuildFailed) as caught:
        await bench.build(commit)
    assert why in str(caught.value)


async def test_another_devices_system_is_not_taken(bench: Bench) -> None:
    commit = await bench.commit(flake())
    with pytest.raises(BuildFailed, match="does not provide attribute"):
        await bench.build(commit, "tv")


async def test_nothing_is_built_while_evaluating(bench: Bench) -> None:
    """A flake that asks for it, and allows it to itself, has no builder run."""
    witness = bench.root / "built"
    script = f"args = [ ''-c'' ''echo 1 >$out; touch {witness}'' ];"
    made = f"name = ''i''; system = ''{SYSTEM}''; builder = ''/bin/sh''; {script}"
    text = flake(more=f"x = import (derivation {{ {made} }});").replace(
        "outputs =", "nixConfig.allow-import-from-derivation = true;\n  outputs ="
    )
    with pytest.raises(BuildFailed, match="allow-import-from-derivation"):
        await bench.build(await bench.commit(text))
    assert not exists(witness)


async def test_a_flake_changes_no_setting(bench: Bench) -> None:
    """Its `nixConfig` is not heeded, and nothing waits for somebody to say so."""
    text = flake().replace("outputs =", 'nixConfig.substituters = "http://127.0.0.1:9/";\n  outputs =')
    await bench.build(await bench.commit(text))
    assert "ignoring untrusted flake configuration setting 'substituters'" in bench.log


# --- what is not ---------------------------------------------------------------------------------------------


async def test_an_input_that_cannot_be_fetched_is_tried_again(bench: Bench) -> None:
    """The network may be back tomorrow."""
    lock = (
        '{"nodes":{"root":{"inputs":{"x":"x"}},"x":{"flake":false,"locked":{"type":"git",'
        '"url":"file:///nonexistent/x","rev":"' + "a" * 40 + '","narHash":"sha256-' + "A" * 43 + '="},'
        '"original":{"type":"git","url":"file:///nonexistent/x"}}},"root":"root","version":7}'
    )
    text = flake(more='x = builtins.readFile "${x}/y";').replace("{ self }:", "{ self, x }:")
    text = text.replace(
        "outputs =", 'inputs.x = { url = "git+file:///nonexistent/x"; flake = false; };\n  outputs ='
    )
    commit = await bench.commit(text, **{"flake.lock": lock})
    with pytest.raises(OSError, match="the evaluation failed") as caught:
        await bench.build(commit)
    assert not isinstance(caught.value, BuildStalled)


async def test_a_fetch_in_the_build_is_tried_again(bench: Bench) -> None:
    """As Nix tells it from other builders that fail."""
    commit = await bench.commit(flake(script="exit 6", more=FETCH))
    with pytest.raises(OSError, match=r"the build failed.*exit code 6"):
        await bench.build(commit)


async def test_a_build_that_hangs_has_three_tries(bench: Bench) -> None:
    """It is bounded each time; the third is the last."""
    commit = await bench.commit(
        flake(script="sleep 1000"), clan_toml=CLAN_TOML.replace("build_timeout_s = 60", "build_timeout_s = 1")
    )
    for _ in range(drivers.STALLS_MAX - 1):
        with pytest.raises(BuildStalled, match=r"did not end within 1 s|timed out"):
            await bench.build(commit)
    with pytest.raises(BuildFailed, match="3 times"):
        await bench.build(commit)


async def test_no_member_takes_all_places_at_a_builders_store(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reader may take hours, and there are a few places."""
    lent: list[trio.abc.HalfCloseableStream] = []

    async def lend(home: Path, key: object, stream: trio.abc.HalfCloseableStream) -> None:
        lent.append(stream)
        await trio.sleep_forever()

    monkeypatch.setattr(store, "serve_store", lend)
    good = await bench.commit(flake(), clan_toml=f'{CLAN_TOML}builders = ["nas.cellar"]\n')
    place = Place("nas.cellar", (), bench.root)
    greedy, honest = (trio.testing.memory_stream_pair()[0] for _ in range(2))
    async with trio.open_nursery() as nursery:
        for _ in range(drivers.LENT_AT_ONCE_MAX + 1):
            nursery.start_soon(bench.workshop.serve_store, good, place, greedy, NodeId(bytes(32)))
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.start_soon(bench.workshop.serve_store, good, place, honest, NodeId(bytes([1] * 32)))
        with trio.fail_after(10):
            while honest not in lent:
                await trio.sleep(0.01)
        assert lent == [greedy] * drivers.LENT_EACH_MAX + [honest]
        nursery.cancel_scope.cancel()


async def test_without_nix_it_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may get it later."""
    commit = await bench.commit(flake())
    (bench.root / "bin").mkdir()
    for name in ("git", "sync"):
        found = shutil.which(name)
        assert found is not None
        (bench.root / "bin" / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(bench.root / "bin"))
    with pytest.raises(OSError, match="nix"):
        await bench.build(commit)
