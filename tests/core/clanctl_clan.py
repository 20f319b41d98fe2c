"""A clan for the tests of pushing: a real repository behind a fake daemon."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import ClanId
from tests.core.clanctl_fake import RAW, FakeDaemon, Line

CLAN = ClanId(bytes(range(16)))


class Clan(FakeDaemon):
    """What the tests say of the clan: its repository, and what was pushed to it."""

    published: Path
    signers: list[str]
    refusal: Fault | None = None

    def info(self, request: object, line: Line) -> dict[str, Any]:
        head = git(self.published, "for-each-ref", "--format=%(objectname)", "refs/heads/main")
        return {
            "clan": {"id": CLAN.hex(), "name": "family"},
            "ref": "main",
            "head": head or None,
            "signers": self.signers,
        }

    def push(self, request: Any, line: Line) -> dict[str, Any]:
        bundle = b""
        while data := line.frame()["data"]:
            bundle += data
        assert len(bundle) == request.args["bundle_bytes"]
        if self.refusal is not None:
            raise self.refusal
        line.send(progress="verifying 1 commit")
        path = self.published.with_name("incoming.bundle")
        path.write_bytes(bundle)
        git(self.published, "bundle", "verify", str(path))
        git(self.published, "fetch", "--quiet", str(path), "refs/heads/main:refs/heads/main")
        return {"commit": request.args["new"]}

    def upload_pack(self, request: object, line: Line) -> object:
        line.send(result={})
        process = subprocess.Popen(
            ["git", "upload-pack", str(self.published)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            inward = threading.Thread(target=self._carry, args=(line, process))
            inward.start()
            while chunk := os.read(process.stdout.fileno(), 65_536):
                line.socket.sendall(chunk)
            line.socket.shutdown(1)
            inward.join(10)
        return RAW

    @staticmethod
    def _carry(line: Line, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        while chunk := line.socket.recv(65_536):
            process.stdin.write(chunk)
            process.stdin.flush()


def git(directory: Path, *words: str, status: int = 0) -> str:
    finished = subprocess.run(
        ["git", *words], cwd=directory, capture_output=True, encoding="utf-8", check=False, timeout=30
    )
    assert finished.returncode == status, finished.stderr
    return finished.stdout.strip() if status == 0 else finished.stderr


def commit(directory: Path, text: str = "a") -> str:
    (directory / "file").write_text(text)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "-m", f"write {text}")
    return git(directory, "rev-parse", "HEAD")
