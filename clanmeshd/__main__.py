"""`clanmeshd`: read the configuration, lock the state, run. Each failure to start is one line."""

import argparse
import sys
from pathlib import Path
from typing import Final, NoReturn

import trio

from clanmesh_protocol.version import version_text
from clanmeshd import memory
from clanmeshd.config import Config, ConfigError, load_config
from clanmeshd.logs import start_logging
from clanmeshd.store import StateError, Store, is_told, told

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


def main() -> int:
    """Run the daemon. Gives the exit status: 0 stopped, 1 could not start, 2 usage or configuration."""
    arguments = _parse()
    start_logging()
    try:
        config = load_config(arguments.config, arguments.state_dir, arguments.runtime_dir)
    except ConfigError as error:
        return _complain(str(error), EXIT_USAGE)
    store = Store(config.state_directory)
    try:
        store.open()
        if arguments.check:
            return _check(config, store)
        _run(config, store)
    except StateError as error:
        return _complain(str(error), EXIT_FAILED)
    finally:
        store.close()
    return 0


def _run(config: Config, store: Store) -> None:
    # The daemon's imports cost 150 ms: a wrong flag or a second daemon is told about before they are paid.
    from clanmeshd import daemon

    memory.keep_little()
    memory.search_rarely()
    try:
        trio.run(daemon.run, config, store, restrict_keyboard_interrupt_to_checkpoints=True)
    except* (OSError, StateError) as group:
        raise StateError(_told(_leaves(group)[0], store.directory)) from None


def _told(error: BaseException, directory: Path) -> str:
    return told(error, directory) if isinstance(error, OSError) and is_told(error) else str(error)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _check(config: Config, store: Store) -> int:
    keys, membership = store.load_keys(), store.load_membership()
    print(f"configuration: port {config.port}, WireGuard {config.tunnel_port}, overlay {config.overlay}")
    print(f"state: {config.state_directory}, keys {'present' if keys else 'not made yet'}")
    print(f"clan: {membership.name if membership else 'none yet'}")
    return 0


def _complain(why: str, status: int) -> int:
    print(f"clanmeshd: {why}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(_complain(f"{message}; see `clanmeshd --help`", EXIT_USAGE))


def _parse() -> argparse.Namespace:
    parser = _Parser(prog="clanmeshd", description="Runs this device's part of a clan.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file (default /etc/clanmesh/clanmesh.toml)"
    )
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="where state is kept (/var/lib/clanmesh)")
    parser.add_argument(
        "--runtime-dir", type=Path, metavar="DIR", help="where the control socket is (/run/clanmesh)"
    )
    parser.add_argument(
        "--check", action="store_true", help="read configuration and state, say what is there, end"
    )
    parser.add_argument("--version", action="version", version=f"clanmeshd {version_text()}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
