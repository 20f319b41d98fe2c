"""`git-remote-clan`: lets git fetch from and push to a clan by the URL `clan::NAME`.

Git speaks gitremote-helpers(7) on stdin and stdout. Fetching is git's own protocol, carried to the daemon byte by
byte; pushing is ours, since a push to a clan is a signed statement and not a change of a server's ref.
"""

import io
import os
import socket
import sys
import threading
from typing import Any, BinaryIO, Final

from clanctl.client import CHUNK_BYTES, RUNTIME_VARIABLE, Conversation, Instance, Progress, call, instance
from clanctl.failures import EXIT_DONE, EXIT_USAGE, Failure, one_line, printable
from clanctl.guard import guarded
from clanctl.programs import git_or_none
from clanctl.pushing import REF, find_key, plan_move, push

CAPABILITIES: Final = ("connect", "push", "option")
RUNTIME_SETTING: Final = "clanmesh.runtimedir"  # set by `clanctl repo init` for an instance beside the default
COMMAND_BYTES_MAX: Final = 65_536  # one line of git's; the longest has two ref names
ID_PREFIX_MIN: Final = 8  # hex digits by which a URL may name a clan


def main() -> int:
    """Serve one git process."""
    return guarded("git-remote-clan", _run)


def _run() -> int:
    if len(sys.argv) < 2:
        raise Failure("usage", "git starts this for URLs such as clan::NAME", status=EXIT_USAGE)
    url = sys.argv[2] if len(sys.argv) > 2 else sys.argv[1]
    # Unbuffered: after `connect` every byte behind the command belongs to git's own protocol.
    with open(0, "rb", buffering=0, closefd=False) as commands:
        return Session(commands, sys.stdout.buffer, _instance(), clan_name(url)).serve()


def clan_name(url: str) -> str:
    """The clan that a URL names: `clan::family`, `clan://family` or, as git passes it, `family`."""
    name = url.removeprefix("clan::").removeprefix("clan://").strip("/")
    if not name:
        raise Failure(f"the URL {url!r}", "it names no clan", "write clan::NAME")
    return name


def _instance() -> Instance:
    chosen = os.environ.get(RUNTIME_VARIABLE) or git_or_none("config", "--type=path", RUNTIME_SETTING)
    return instance(runtime_directory=chosen)


class Session:
    """One conversation with git: commands in, answers out."""

    def __init__(self, commands: io.FileIO | BinaryIO, answers: BinaryIO, where: Instance, name: str) -> None:
        self._commands = commands
        self._answers = answers
        self._where = where
        self._name = name
        self._quiet = False
        self._dry_run = False
        self._known: dict[str, Any] | None = None

    def serve(self) -> int:
        """Answer until git closes, or until it takes the connection over. Raises Failure."""
        while line := self._read():
            command, _, rest = line.partition(" ")
            match command:
                case "capabilities":
                    self._answer(*CAPABILITIES)
                case "option":
                    self._option(rest)
                case "list":
                    self._list()
                case "push":
                    self._push(rest)
                case "connect" if rest == "git-upload-pack":
                    self._connect()
                    return EXIT_DONE
                case "connect":
                    self._line("fallback")  # git then asks for `list` and `push`
                case _:
                    raise Failure("git", f"it says {one_line(line)!r}, which is not known here", "update clanmesh")
        return EXIT_DONE

    # --- git's lines ---

    def _read(self) -> str:
        """One command; empty at the end, and at the blank line that ends a batch."""
        return self._commands.readline(COMMAND_BYTES_MAX).decode("utf-8", "surrogateescape").rstrip("\n")

    def _line(self, text: str) -> None:
        self._answers.write(text.encode("utf-8", "surrogateescape") + b"\n")
        self._answers.flush()

    def _answer(self, *lines: str) -> None:
        self._line("".join(f"{line}\n" for line in lines))

    def _option(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        match name:
            case "verbosity":
                self._quiet = value.strip() in ("0", "-1")
            case "dry-run":
                self._dry_run = value == "true"
            case "progress":
                pass
            case _:
                self._line("unsupported")
                return
        self._line("ok")

    # --- the clan ---

    def _info(self) -> dict[str, Any]:
        """What the daemon says of the clan's repository, once per session. Raises Failure."""
        if self._known is None:
            known: dict[str, Any] = call(self._where, "repo-info")
            clan = known["clan"]
            by_id = len(self._name) >= ID_PREFIX_MIN and str(clan["id"]).startswith(self._name)
            if self._name != clan["name"] and not by_id:
                remedy = f"`git remote set-url clan clan::{clan['name']}`, or choose the instance of {self._name}"
                raise Failure(f"clan::{self._name}", f"this device's clan is {clan['name']}", remedy)
            self._known = known
        return self._known

    def _list(self) -> None:
        head = self._info().get("head")
        self._answer(*([f"{head} {REF}", f"@{REF} HEAD"] if head else []))

    def _push(self, first: str) -> None:
        wanted = [first]
        while line := self._read():
            wanted.append(line.removeprefix("push "))
        self._answer(*(self._push_one(specification) for specification in wanted))

    def _push_one(self, specification: str) -> str:
        """Give git's line about one ref: `ok REF` or `error REF WHY`."""
        source, _, destination = specification.removeprefix("+").partition(":")
        try:
            self._publish(source, destination)
        except Failure as failure:
            return f"error {destination} {one_line(str(failure))}"
        return f"ok {destination}"

    def _publish(self, source: str, destination: str) -> None:
        if destination != REF:
            why = f"a clan follows {REF} and nothing else"
            raise Failure("the push", why, "`git push clan main`, or `git push clan BRANCH:main`")
        if not source:
            raise Failure("the push", "the clan's branch is not deleted by a push", "push a commit instead")
        info = self._info()
        move, key = plan_move(info, source), find_key(info)
        if move.new != move.old and not self._dry_run:
            push(self._where, move, key, self._progress())

    def _progress(self) -> Progress:
        def say(text: str) -> None:
            if not self._quiet:
                print(f"clan: {printable(text)}", file=sys.stderr, flush=True)

        return say

    def _connect(self) -> None:
        self._info()
        with Conversation.open(self._where) as conversation:
            conversation.ask("git-upload-pack", {})
            conversation.result()
            self._line("")
            relay(conversation.socket, self._commands, self._answers)


def relay(connected: socket.socket, source: io.FileIO | BinaryIO, sink: BinaryIO) -> None:
    """Carry bytes both ways until the socket's other side ends; the end of `source` is passed on."""
    connected.settimeout(None)

    def outward() -> None:
        try:
            while chunk := source.read(CHUNK_BYTES):
                connected.sendall(chunk)
            connected.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the daemon hung up first; what it said last is still on its way to git

    # A daemon thread: git may keep its side open for as long as it likes once the other one has ended.
    threading.Thread(target=outward, daemon=True).start()
    while chunk := connected.recv(CHUNK_BYTES):
        sink.write(chunk)
        sink.flush()


if __name__ == "__main__":
    sys.exit(main())
