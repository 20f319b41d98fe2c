"""The core imports nothing with which it could see a clock, a socket, a file or dice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT, python_files, text

# Whatever is not here is asked about in a review: the list grows by pure modules alone.
PURE = {
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "ipaddress",
    "itertools",
    "math",
    "nacl",
    "operator",
    "random",  # for the type of the dice that come in; see the test below
    "struct",
    "types",
    "typing",
}
OURS = ("clanmeshd.core", "clanmesh_protocol")
CORE = [path for path in python_files() if path.parts[:2] == ("clanmeshd", "core")]
NEVER_LOADED = ("trio", "asyncio", "socket", "ssl", "subprocess", "zeroconf", "pyroute2", "msgpack.fallback")


def impurities(source: str) -> list[str]:
    """Imports of a module that are neither ours nor known to be pure."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if not _is_pure(alias.name)]
            found += ["random as a module" for alias in node.names if alias.name == "random"]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found += [] if _is_pure(node.module) else [node.module]
            if node.module == "random":
                found += [f"random.{alias.name}" for alias in node.names if alias.name != "Random"]
    return found


def _is_pure(module: str) -> bool:
    return module == "clanmeshd" or module.startswith(OURS) or module.partition(".")[0] in PURE


@pytest.mark.parametrize("path", CORE, ids=str)
def test_module(path: Path) -> None:
    """Every import is ours or pure."""
    assert impurities(text(path)) == []


def test_there_is_a_core() -> None:
    """The list above is found by a path, which a move would empty."""
    assert len(CORE) > 5


@pytest.mark.parametrize(
    "line",
    ["import time", "from os import path", "import random", "from random import randbytes", "import trio.abc"],
)
def test_an_impurity_is_found(line: str) -> None:
    """Each way to write it."""
    assert impurities(line) != []


def test_loading_the_core_loads_no_network() -> None:
    """Not even by way of what it imports. In a process of its own: this one has loaded everything."""
    modules = [".".join(path.with_suffix("").parts) for path in CORE if path.name != "__init__.py"]
    program = f"import sys, {', '.join(modules)}; print([n for n in {NEVER_LOADED!r} if n in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert loaded.stdout.strip() == "[]"
