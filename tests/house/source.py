"""The files of this checkout: those that git has or would take; without git, all that our tools do not make."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_MADE = {
    ".git",
    ".venv",
    ".cache",
    ".hypothesis",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "__pycache__",
    "dist",
}


@cache
def files() -> tuple[Path, ...]:
    """All files, relative to the root, sorted."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
        return tuple(sorted(name for name in set(names) if (ROOT / name).is_file()))
    every = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return tuple(sorted(path for path in every if not _MADE & set(path.parts)))


def python_files() -> list[Path]:
    """All Python modules, relative to the root."""
    return [path for path in files() if path.suffix == ".py"]


def text(path: Path) -> str:
    """The content of a file that is text; nothing of one that is not."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
