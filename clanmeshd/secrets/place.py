"""The daemon's side of placement: open every value, and hand all of them to the short process through a pipe.

Plaintext is in this process's memory and in a pipe, nowhere else: no file, no argument, no environment.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Final

from clanmesh_protocol.keys import DeviceKeys
from clanmeshd import process
from clanmeshd.core.effects import SetSecrets
from clanmeshd.secrets import placement
from clanmeshd.secrets.grants import is_reserved
from clanmeshd.secrets.sealing import SealedError, open_secret

TIMEOUT_S: Final = 30.0  # a thousand files take under a second; a stuck account database must not hold us


class PlacementError(Exception):
    """Some secret is not in place, or none is; one line says which and why."""


async def place(runtime: Path, wanted: SetSecrets, keys: DeviceKeys) -> None:
    """Put all wanted secrets under `runtime`/secrets, and take away all others.

    What can be placed is placed even when something else can't: no single value holds up the rest. Raises
    PlacementError, then, with the first that could not, and OSError when the process can't be started.
    """
    files, unopened, why = _open_all(wanted, keys)
    request = {
        "directory": str(runtime),
        "generation": wanted.generation,
        "files": files,
        "keep": unopened,
    }
    # -S and -I: no site packages, no environment, no current directory; the program needs the standard library.
    argv = [sys.executable, "-I", "-S", placement.__file__]
    finished = await process.run(
        argv, stdin=json.dumps(request).encode(), env={"LC_ALL": "C.UTF-8"}, timeout_s=TIMEOUT_S
    )
    if finished.timed_out:
        raise PlacementError(f"placing the secrets took over {TIMEOUT_S:.0f} s")
    if not finished.ok:
        raise PlacementError(finished.complaint)
    if why is not None:
        raise PlacementError(why)


def _open_all(wanted: SetSecrets, keys: DeviceKeys) -> tuple[list[dict[str, object]], list[str], str | None]:
    files: list[dict[str, object]] = []
    unopened: list[str] = []
    why: str | None = None
    for item in wanted.secrets:
        if is_reserved(item.name):
            continue
        try:
            value = open_secret(keys, wanted.clan, item)
        except SealedError as error:
            unopened.append(item.name)
            why = why or f"secret {item.name}: {error}"
            continue
        files.append(
            {
                "name": item.name,
                "owner": item.secret.owner,
                "group": item.secret.group,
                "mode": item.secret.mode,
                "value_b64": base64.b64encode(value).decode(),
            }
        )
    return files, unopened, why
