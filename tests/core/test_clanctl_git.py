"""Real git and ssh-keygen against a fake daemon: pushing, fetching, and each refusal with its reason."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clanctl.cli import run
from clanctl.failures import Failure
from clanctl.git_remote import clan_name
from clanctl.programs import said
from clanctl.signing import key_of
from clanmesh_protocol.control import Fault
from clanmesh_protocol.records import HEAD_NAMESPACE, head_statement
from tests.core.clanctl_clan import CLAN, Clan, commit, git
from tests.core.clanctl_fake import Line, fake_daemon

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person without any settings, whose PATH has `git-remote-clan`."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    shim = binaries / "git-remote-clan"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m clanctl.git_remote "$@"\n')
    shim.chmod(0o755)
    for name in ("XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_DIR", "GIT_CONFIG_GLOBAL", "CLANMESH_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.org")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'protocol'}")
    return tmp_path


@pytest.fixture
def clan(home: Path) -> Iterator[Clan]:
    with fake_daemon(Clan) as server:
        assert isinstance(server, Clan)
        server.published = home / "published.git"
        server.signers = []
        git(home, "init", "--quiet", "--bare", "--initial-branch=main", str(server.published))

        def add(request: Any, line: Line) -> dict[str, Any]:
            server.signers.append(request.args["line"])
            return {"signers": server.signers}

        server.answers.update(
            {
                "repo-info": server.info,
                "push": server.push,
                "git-upload-pack": server.upload_pack,
                "signer-add": add,
                "repo-checkpoint": lambda request, line: {"commit": request.args["commit"]},
            }
        )
        yield server


def repo_init(clan: Clan, path: Path) -> Path:
    assert run(["--runtime-dir", str(clan.runtime), "repo", "init", str(path)]) == 0
    return path


@pytest.fixture
def repository(clan: Clan, home: Path) -> Path:
    path = repo_init(clan, home / "config")
    commit(path)
    return path


def allowed(clan: Clan, home: Path) -> Path:
    path = home / "allowed_signers"
    path.write_text("".join(f"signer {' '.join(key_of(line))}\n" for line in clan.signers))
    return path


def check_signature(clan: Clan, home: Path, old: str | None, new: str) -> None:
    """What the daemon will do: the head statement holds under a signer's key."""
    signature = home / "signature"
    signature.write_bytes(clan.args("push")["signature"])
    statement = head_statement(CLAN, "main", bytes.fromhex(old) if old else None, bytes.fromhex(new))
    words = [
        "-Y",
        "verify",
        "-f",
        str(allowed(clan, home)),
        "-I",
        "signer",
        "-n",
        HEAD_NAMESPACE,
        "-s",
        str(signature),
    ]
    finished = subprocess.run(["ssh-keygen", *words], input=statement, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


# --- repo init -----------------------------------------------------------------------------------------


def test_an_empty_directory_becomes_a_repository_that_signs(clan: Clan, home: Path, capfd: Any) -> None:
    path = repo_init(clan, home / "new" / "config")
    assert sorted(entry.name for entry in path.iterdir()) == [".git", "activate", "build", "clan.toml", "health"]
    assert os.access(path / "health", os.X_OK)
    assert len(clan.signers) == 1
    assert "no passphrase" in capfd.readouterr().out
    commit(path)
    git(path, "-c", f"gpg.ssh.allowedSignersFile={allowed(clan, home)}", "verify-commit", "HEAD")


def test_it_can_be_run_again(clan: Clan, home: Path) -> None:
    path = repo_init(clan, home / "config")
    commit(path)
    repo_init(clan, path)
    assert len(clan.signers) == 1
    assert git(path, "config", "--get-all", "remote.clan.url") == "clan::family"


def test_the_own_key_of_a_person_is_taken(clan: Clan, home: Path) -> None:
    (home / ".ssh").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / ".ssh/id_ed25519"], check=True)
    repo_init(clan, home / "config")
    assert clan.signers == [(home / ".ssh/id_ed25519.pub").read_text().strip()]
    assert not (home / ".config").exists()


def test_history_that_is_there_is_accepted_by_its_hash(clan: Clan, home: Path) -> None:
    path = home / "old"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    head = commit(path)
    repo_init(clan, path)
    assert clan.args("repo-checkpoint") == {"commit": head}
    assert not (path / "clan.toml").exists()


def test_a_key_that_cannot_be_registered_leaves_a_remedy(clan: Clan, home: Path) -> None:
    clan.says(signer_add=Fault("denied", "signer-add was refused", "it changes the clan", "try sudo"))
    with pytest.raises(Failure, match="no signer yet") as caught:
        repo_init(clan, home / "config")
    assert "clanctl signer add 'ssh-ed25519 " in caught.value.remedy


def test_what_other_admins_must_approve_is_said(clan: Clan, home: Path, capfd: Any) -> None:
    waiting = {"state": "pending", "id": "ab" * 32, "signed_by": ["laptop"], "weight": 1, "needed": 2}
    add = {**waiting, "operation": "let me sign commits", "approvers": ["nas"]}
    accept = {**waiting, "operation": "accept commit 0123", "approvers": ["nas"]}
    clan.says(signer_add={"signers": [], "decisions": [add]}, repo_checkpoint={"decision": accept})
    path = home / "old"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    commit(path)
    repo_init(clan, path)
    out = capfd.readouterr().out
    assert "pending: let me sign commits" in out
    assert "pending: accept commit 0123" in out
    assert "accepted as it is" not in out


def test_a_remote_of_that_name_is_not_overwritten(clan: Clan, home: Path) -> None:
    path = home / "config"
    path.mkdir()
    git(path, "init", "--quiet")
    git(path, "remote", "add", "clan", "https://example.org/other")
    with pytest.raises(Failure, match=r"leads to https://example\.org/other"):
        repo_init(clan, path)


def test_a_directory_inside_another_repository_is_refused(clan: Clan, repository: Path) -> None:
    with pytest.raises(Failure, match="lies inside the repository"):
        repo_init(clan, repository / "sub")


# --- push ----------------------------------------------------------------------------------------------


def test_a_push_is_signed_bundled_and_tracked(clan: Clan, home: Path, repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "push", "clan", "main")
    assert git(clan.published, "rev-parse", "main") == first
    check_signature(clan, home, None, first)
    second = commit(repository, "b")
    git(repository, "push", "--quiet", "clan", "main")
    assert git(clan.published, "rev-parse", "main") == second
    assert git(repository, "rev-parse", "refs/remotes/clan/main") == second
    check_signature(clan, home, first, second)


def test_a_second_bundle_has_only_what_is_new(clan: Clan, repository: Path) -> None:
    (repository / "large").write_bytes(os.urandom(200_000))
    commit(repository)
    git(repository, "push", "--quiet", "clan", "main")
    commit(repository, "b")
    git(repository, "push", "--quiet", "clan", "main")
    sizes = [request.args["bundle_bytes"] for request in clan.asked if request.call == "push"]
    assert sizes[0] > 200_000 > 5_000 > sizes[1]


def test_progress_reaches_the_terminal(clan: Clan, repository: Path) -> None:
    words = ["git", "push", "clan", "main"]
    finished = subprocess.run(words, cwd=repository, capture_output=True, encoding="utf-8", check=True)
    assert "clan: verifying 1 commit" in finished.stderr
    assert "clan: published" in finished.stderr
    commit(repository, "b")
    finished = subprocess.run(
        [*words, "--quiet"], cwd=repository, capture_output=True, encoding="utf-8", check=True
    )
    assert finished.stderr == ""


def test_pushing_what_is_there_does_nothing(clan: Clan, repository: Path) -> None:
    git(repository, "push", "--quiet", "clan", "main")
    git(repository, "push", "--quiet", "clan", "main")
    assert [request.call for request in clan.asked].count("push") == 1


def test_a_dry_run_sends_nothing(clan: Clan, repository: Path) -> None:
    git(repository, "push", "--dry-run", "clan", "main")
    assert "push" not in [request.call for request in clan.asked]


def test_any_commit_can_be_pushed_to_main(clan: Clan, repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--quiet", "--detach")
    git(repository, "branch", "-D", "main")
    git(repository, "push", "--quiet", "clan", f"{head}:refs/heads/main")
    assert git(clan.published, "rev-parse", "main") == head


def test_a_push_from_a_worktree(clan: Clan, repository: Path, home: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "-b", "topic", str(home / "tree: 2"))
    head = commit(home / "tree: 2", "topic")
    git(home / "tree: 2", "push", "--quiet", "clan", "topic:main")
    assert git(clan.published, "rev-parse", "main") == head


def test_the_daemons_reason_is_shown(clan: Clan, repository: Path) -> None:
    clan.refusal = Fault("refused", "the push", "commit 1234567 is not signed", "sign it: `git commit --amend -S`")
    said = git(repository, "push", "clan", "main", status=1)
    assert "the push: commit 1234567 is not signed; sign it: `git commit --amend -S`" in said
    assert "remote rejected" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["clan", "main:other"], "follows refs/heads/main and nothing else"),
        (["clan", "main:refs/tags/v1"], "follows refs/heads/main and nothing else"),
        (["clan", ":main"], "not deleted by a push"),
    ],
)
def test_only_main_moves(clan: Clan, repository: Path, words: list[str], why: str) -> None:
    git(repository, "push", "--quiet", "clan", "main")
    assert why in git(repository, "push", *words, status=1)


def test_history_is_not_rewritten(clan: Clan, repository: Path) -> None:
    commit(repository, "b")
    git(repository, "push", "--quiet", "clan", "main")
    git(repository, "commit", "--quiet", "--amend", "-m", "other")
    assert "non-fast-forward" in git(repository, "push", "clan", "main", status=1)
    said = git(repository, "push", "--force", "clan", "main", status=1)
    assert "its history only moves forward" in said
    assert [request.call for request in clan.asked].count("push") == 1


def test_a_forced_push_that_moves_forward_is_a_push(clan: Clan, repository: Path) -> None:
    git(repository, "push", "--quiet", "clan", "main")
    head = commit(repository, "b")
    git(repository, "push", "--quiet", "--force", "clan", "main")
    assert git(clan.published, "rev-parse", "main") == head


def test_a_stranger_to_the_clan_is_told_how_to_become_a_signer(clan: Clan, repository: Path) -> None:
    clan.signers = ["ssh-ed25519 AAAA other"]
    said = git(repository, "push", "clan", "main", status=1)
    assert "no signer of the clan" in said
    assert "clanctl signer add 'ssh-ed25519 " in said


def test_a_repository_that_does_not_sign(clan: Clan, repository: Path) -> None:
    git(repository, "config", "--unset", "gpg.format")
    assert "not set to sign by SSH" in git(repository, "push", "clan", "main", status=1)


def test_a_key_file_that_is_gone(clan: Clan, repository: Path) -> None:
    git(repository, "config", "user.signingkey", "/nonexistent/key.pub")
    assert "there is no /nonexistent/key.pub" in git(repository, "push", "clan", "main", status=1)


def test_a_private_half_that_is_gone(clan: Clan, repository: Path) -> None:
    key = Path(git(repository, "config", "user.signingkey"))
    key.with_suffix("").unlink()
    assert "signing the push" in git(repository, "push", "clan", "main", status=1)


def test_a_key_in_the_agent(
    clan: Clan, repository: Path, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    key = Path(git(repository, "config", "user.signingkey"))
    git(repository, "config", "user.signingkey", f"key::{key.read_text().strip()}")
    assert "no agent runs" in git(repository, "push", "clan", "main", status=1)
    where = clan.runtime / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", where], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(where))
            _wait_for(where)
            assert "add the key to the agent" in git(repository, "push", "clan", "main", status=1)
            subprocess.run(["ssh-add", "-q", key.with_suffix("")], check=True)
            git(repository, "push", "--quiet", "clan", "main")
        finally:
            agent.terminate()
    check_signature(clan, home, None, git(repository, "rev-parse", "HEAD"))


def _wait_for(path: Path) -> None:
    from clanctl.demo.processes import wait_until

    assert wait_until(path.exists, 10)


def test_a_shallow_clone_is_told_to_complete_itself(clan: Clan, repository: Path, home: Path) -> None:
    commit(repository, "b")
    git(home, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    shallow = repo_init(clan, home / "shallow")
    commit(shallow, "c")
    assert "fetch --unshallow" in git(shallow, "push", "clan", "main", status=1)


# --- fetch ---------------------------------------------------------------------------------------------


def test_what_was_pushed_can_be_cloned_and_pulled(
    clan: Clan, repository: Path, home: Path, monkeypatch: Any
) -> None:
    git(repository, "push", "--quiet", "clan", "main")
    monkeypatch.setenv("CLANMESH_RUNTIME_DIR", str(clan.runtime))
    git(home, "clone", "--quiet", "clan://family", "clone")
    assert git(home / "clone", "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")
    (repository / "large").write_bytes(os.urandom(3_000_000))
    head = commit(repository, "b")
    git(repository, "push", "--quiet", "clan", "main")
    git(home / "clone", "pull", "--quiet")
    assert git(home / "clone", "rev-parse", "HEAD") == head


def test_a_clan_without_a_commit_can_be_cloned(clan: Clan, home: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CLANMESH_RUNTIME_DIR", str(clan.runtime))
    git(home, "clone", "--quiet", f"clan::{CLAN.hex()[:12]}", "clone")
    assert (home / "clone" / ".git").is_dir()


def test_another_clan_is_not_asked(clan: Clan, repository: Path) -> None:
    git(repository, "remote", "set-url", "clan", "clan::neighbours")
    for words in (["fetch", "clan"], ["push", "clan", "main"]):
        said = git(repository, *words, status=128)
        assert "git-remote-clan: clan::neighbours: this device's clan is family" in said


def test_no_daemon_is_said_by_name(home: Path) -> None:
    git(home, "init", "--quiet", "config")
    git(home / "config", "config", "clanmesh.runtimedir", "/nonexistent")
    said = git(home / "config", "fetch", "clan::family", status=128)
    assert "git-remote-clan: clanmeshd is not running: no control socket at /nonexistent/control.sock" in said


@pytest.mark.parametrize("url", ["family", "clan::family", "clan://family", "clan://family/"])
def test_urls(url: str) -> None:
    assert clan_name(url) == "family"


def test_a_url_of_nothing() -> None:
    with pytest.raises(Failure, match="names no clan"):
        clan_name("clan://")


def test_what_cannot_be_offered_is_told_in_our_words(
    clan: Clan, home: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(*words: str) -> str:
        with pytest.raises(Failure) as caught:
            run(["--runtime-dir", str(clan.runtime), "repo", "offer", *words])
        return str(caught.value)

    monkeypatch.chdir(home)
    assert refusal("origin").startswith("finding HEAD: this directory is in no git repository; change into the")
    monkeypatch.chdir(repository)
    assert refusal("origin", "--commit", "nope") == (
        "finding nope: this repository has no such commit; see `git log --all --oneline`"
    )
    assert refusal("nowhere").startswith("the push: 'nowhere' does not appear to be a git repository; ")


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (b"", "it ended with status 1 and said nothing"),
        (b"one\ntwo\n", "two"),
        (b"fatal: 'x' is none\nfatal: Could not read\n\nPlease make sure\nand it exists.\n", "'x' is none"),
        (
            b"To x\n ! [rejected] a -> b (fetch first)\nerror: failed to push\nhint: y\n",
            "[rejected] a -> b (fetch first)",
        ),
    ],
)
def test_the_reason_is_found_in_what_git_says(stderr: bytes, reason: str) -> None:
    assert said(subprocess.CompletedProcess(["git"], 1, b"", stderr)) == reason
