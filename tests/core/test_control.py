"""The control socket: frames, refusals, privileges; a client's nonsense never ends the server."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from clanmesh_protocol.control import Fault, Request, decode_frame_untrusted, encode_frame, request_frame
from clanmeshd import control


async def _start(nursery: trio.Nursery, runtime: Path, answer: Any) -> Path:
    listener = control.listen(runtime)
    nursery.start_soon(control.serve, listener, answer)
    return control.socket_path(runtime)


async def _ask(path: Path, data: bytes) -> list[dict[str, Any]]:
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(data)
        received = b""
        with trio.move_on_after(20):
            while chunk := await stream.receive_some():
                received += chunk
    frames = []
    while received:
        length = int.from_bytes(received[:4], "big")
        frames.append(decode_frame_untrusted(received[4 : 4 + length]))
        received = received[4 + length :]
    return frames


async def _echo(request: Request, conversation: control.Conversation) -> Any:
    await conversation.progress("working")
    return {"call": request.call, **request.args}


async def test_a_call_gets_progress_and_a_result(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, _echo)
        frames = await _ask(path, request_frame(Request("status", {"a": 1})))
        nursery.cancel_scope.cancel()
    assert frames == [{"progress": "working"}, {"result": {"call": "status", "a": 1}}]


async def test_progress_of_several_tasks_is_told_frame_by_frame(tmp_path: Path) -> None:
    async def work(request: Request, conversation: control.Conversation) -> Any:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(
                    conversation.progress, str(number) * 200_000
                )  # more than the socket takes at once
        return None

    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, work)
        frames = await _ask(path, request_frame(Request("status", {})))
        nursery.cancel_scope.cancel()
    assert sorted(frame["progress"][0] for frame in frames[:-1]) == ["0", "1", "2"]
    assert frames[-1] == {"result": None}


async def test_a_fault_is_told_whole(tmp_path: Path) -> None:
    async def refuse(request: Request, conversation: control.Conversation) -> Any:
        raise Fault("refused", "the push", "unsigned", "sign it")

    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, refuse)
        frames = await _ask(path, request_frame(Request("status", {})))
        nursery.cancel_scope.cancel()
    assert frames == [{"error": {"kind": "refused", "what": "the push", "why": "unsigned", "remedy": "sign it"}}]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\x01\xc1",
        b"\xff\xff\xff\xff",
        encode_frame({"v": 2, "call": "status", "args": {}}),
        encode_frame({"v": 1, "call": "no-such-call", "args": {}}),
        encode_frame({"v": 1, "call": "status", "args": []}),
        encode_frame({"v": 1}),
    ],
)
async def test_nonsense_is_refused_and_the_next_is_served(tmp_path: Path, garbage: bytes) -> None:
    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, _echo)
        refused = await _ask(path, garbage)
        served = await _ask(path, request_frame(Request("status", {})))
        nursery.cancel_scope.cancel()
    assert [frame["error"]["kind"] for frame in refused] == ["usage"]
    assert "result" in served[-1]


async def test_a_client_that_hangs_up_disturbs_nobody(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, _echo)
        for data in (b"", b"\0\0", request_frame(Request("status", {}))[:-3]):
            stream = await trio.open_unix_socket(path)
            await stream.send_all(data)
            await stream.aclose()
        frames = await _ask(path, request_frame(Request("status", {})))
        nursery.cancel_scope.cancel()
    assert "result" in frames[-1]


async def test_the_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    listener = control.listen(tmp_path)
    assert stat.S_IMODE(control.socket_path(tmp_path).stat().st_mode) == 0o660
    await listener.aclose()
    replaced = control.listen(tmp_path)
    await replaced.aclose()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_only_root_writes(tmp_path: Path) -> None:
    import subprocess
    import sys

    client = (
        "import os,socket,sys; os.setgid(65534); os.setuid(65534); s=socket.socket(socket.AF_UNIX); "
        "s.connect(sys.argv[1]); s.sendall(bytes.fromhex(sys.argv[2])); sys.stdout.buffer.write(s.recv(9999))"
    )
    os.chmod(tmp_path.parent, 0o755)
    os.chmod(tmp_path.parent.parent, 0o755)
    os.chmod(tmp_path, 0o755)
    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, _echo)
        os.chmod(path, 0o666)

        async def ask(call: str) -> bytes:
            words = [sys.executable, "-c", client, str(path), request_frame(Request(call, {})).hex()]
            done = await trio.run_process(words, capture_stdout=True, stderr=subprocess.DEVNULL, check=False)
            return done.stdout

        assert b"denied" in await ask("signer-add")
        assert b"signer add was refused" in await ask("signer-add")
        assert b"it shows a secret, which is for root" in await ask("secrets-show")
        assert b"it changes this device, which is for root" in await ask("join")
        assert b"progress" in await ask("peers")
        nursery.cancel_scope.cancel()


async def test_the_worlds_fault_ends_the_call_and_not_the_daemon(tmp_path: Path) -> None:
    async def fail(request: Request, conversation: control.Conversation) -> Any:
        raise OSError(28, "No space left on device")

    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, fail)
        for _ in range(2):
            frames = await _ask(path, request_frame(Request("status", {})))
            assert frames[0]["error"]["kind"] == "failed"
            assert frames[0]["error"]["why"] == "No space left on device"
        nursery.cancel_scope.cancel()


async def test_who_hangs_up_does_not_stop_what_was_begun(tmp_path: Path) -> None:
    gone, done = trio.Event(), trio.Event()

    async def work(request: Request, conversation: control.Conversation) -> Any:
        await gone.wait()
        await conversation.progress("half of it")
        await conversation.progress("more than half")
        done.set()

    async with trio.open_nursery() as nursery:
        path = await _start(nursery, tmp_path, work)
        stream = await trio.open_unix_socket(path)
        await stream.send_all(request_frame(Request("status", {})))
        await stream.aclose()
        gone.set()
        with trio.fail_after(20):
            await done.wait()
        nursery.cancel_scope.cancel()
