"""Virtual environments: made without the network where pip is at hand, rebuilt when they no longer run.

Neither ensurepip nor a build backend is needed: pip runs from the wheel that the system has or that `debian`
fetched, and the project itself is put in by hand. `pyproject.toml` says which packages and commands it has.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import debian
from tools.console import Impossible, run, show_end_of

STAMP = "made-by-bootstrap.json"
PACKAGES = {"clanmeshd": "clanmeshd", "clanctl": "clanctl", "clanmesh_protocol": "protocol/clanmesh_protocol"}
SHEBANG_BYTES_MAX = 120  # kernels before 5.1 cut the line at 127
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's pip does not even start without
PIP_WHEELS = Path("/usr/share/python-wheels")  # where Debian's ensurepip has them


@dataclass(frozen=True)
class Lock:
    """A lock file, and how pip is to install it."""

    path: Path
    options: tuple[str, ...] = ("--only-binary", ":all:")

    @property
    def digest(self) -> str:
        """Names the content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Environment:
    """A virtual environment at a path, for a checkout, with a log for what pip says."""

    path: Path
    root: Path
    cache: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    def runs(self) -> bool:
        """Say whether it was made here, for the interpreter that runs now, and still starts."""
        if self._stamp().get("made") != self._facts():
            return False
        words = [str(self.python), "-c", "import sys; print(sys.prefix)"]
        try:
            finished = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
        except OSError:
            return False
        return finished.returncode == 0 and finished.stdout.strip() == str(self.path)

    def has(self, lock: Lock) -> bool:
        """Say whether this very lock file is installed."""
        return self._installed().get(lock.path.name) == lock.digest

    def outdated(self, lock: Lock) -> bool:
        """Say whether another version of the lock file is installed."""
        return lock.path.name in self._installed() and not self.has(lock)

    def make(self) -> None:
        """Make it anew, with nothing in it. Raises Impossible."""
        shutil.rmtree(self.path, ignore_errors=True)
        log = self.cache / "logs" / "venv.log"
        log.unlink(missing_ok=True)
        if not run([sys.executable, "-m", "venv", "--without-pip", self.path], log=log):
            show_end_of(log)
            raise Impossible(f"{self.path} could not be made; the reason is above")
        self._write_stamp({})

    def install(self, locks: Sequence[Lock], *, wheels: Path | None = None) -> None:
        """Install lock files, from a directory of wheels alone if one is given. Raises Impossible."""
        source = ["--no-index", "--find-links", str(wheels)] if wheels else []
        for lock in locks:
            words = ["install", "--quiet", "--require-hashes", *lock.options, *source, "-r", str(lock.path)]
            _pip(self.python, words, lock, self.cache, wheels)
            self._write_stamp({**self._installed(), lock.path.name: lock.digest})

    def link_project(self) -> None:
        """Let it import the checkout itself, and have the project's commands."""
        places = sorted({str((self.root / folder).parent) for folder in PACKAGES.values()})
        (self.site_packages() / "clanmesh.pth").write_text("\n".join(places) + "\n")
        self._write_commands()

    def copy_project(self) -> None:
        """Put a copy of the project in, compiled, with its metadata: what a wheel of it would bring."""
        site = self.site_packages()
        for name, folder in PACKAGES.items():
            shutil.copytree(
                self.root / folder, site / name, ignore=shutil.ignore_patterns("__pycache__", "ruff.toml")
            )
        project = _project(self.root)
        about = site / f"{project['name']}-{project['version']}.dist-info"
        about.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (about / "METADATA").write_text(metadata)
        (about / "INSTALLER").write_text("clanmesh make install\n")
        log = self.cache / "logs" / "compile.log"
        run(
            [self.python, "-m", "compileall", "-q", "-j", "0", site], log=log
        )  # a speed-up; a failure costs nothing
        self._write_commands()

    def site_packages(self) -> Path:
        """Where its packages are."""
        return next(self.path.glob("lib/python3*/site-packages"))

    def _write_commands(self) -> None:
        for name, target in _project(self.root)["scripts"].items():
            module, _, function = target.partition(":")
            script = self.path / "bin" / name
            lines = [
                _shebang(self.python),
                "import sys",
                f"from {module} import {function}",
                f"sys.exit({function}())",
            ]
            script.write_text("\n".join(lines) + "\n")
            script.chmod(0o755)

    def _facts(self) -> dict[str, str]:
        return {"path": str(self.path), "root": str(self.root), "python": sys.version, "base": sys.base_prefix}

    def _stamp(self) -> dict[str, dict[str, str]]:
        try:
            stamp: dict[str, dict[str, str]] = json.loads((self.path / STAMP).read_text())
        except (OSError, ValueError):
            return {}
        return stamp

    def _installed(self) -> dict[str, str]:
        return self._stamp().get("installed", {})

    def _write_stamp(self, installed: dict[str, str]) -> None:
        (self.path / STAMP).write_text(
            json.dumps({"made": self._facts(), "installed": installed}, indent=1) + "\n"
        )


def download(lock: Lock, wheels: Path, cache: Path) -> None:
    """Put the wheels of a lock file into a directory, for the interpreter that runs now, and pip's own.

    Raises Impossible.
    """
    words = ["download", "--quiet", "--require-hashes", *lock.options, "--dest", str(wheels), "-r", str(lock.path)]
    _pip(Path(sys.executable), words, lock, cache)
    pip = find_pip_wheel(cache)
    if pip is not None:
        shutil.copy2(pip, wheels)


def _pip(python: Path, words: Sequence[str], lock: Lock, cache: Path, wheels: Path | None = None) -> None:
    log = cache / "logs" / f"pip-{lock.path.stem}.log"
    log.unlink(missing_ok=True)
    if not run([*pip_words(python, cache, wheels), *words], log=log):
        show_end_of(log)
        hint = "" if CERTIFICATES.exists() else "; it may want certificates: apt install ca-certificates"
        raise Impossible(f"the packages of {lock.path.name} could not be had; pip's reason is above{hint}")


def pip_words(python: Path, cache: Path, wheels: Path | None = None) -> list[str]:
    """How to run pip for an environment that has none. Raises Impossible."""
    # The interpreter's own before the system's: an old pip does not run on a Python newer than itself.
    wheel = (wheels and _pip_wheel(wheels)) or _bundled_pip() or _pip_wheel(PIP_WHEELS)
    if wheel is None and _imports(sys.executable, "pip"):
        return [sys.executable, "-m", "pip", "--python", str(python)]
    wheel = wheel or find_pip_wheel(cache)
    if wheel is None:
        raise Impossible("pip is missing, and Debian's python3-pip-whl has none; apt install python3-pip")
    return [str(python), f"{wheel}/pip"]


def find_pip_wheel(cache: Path) -> Path | None:
    """Pip as one file: Python's own, the system's, or Debian's, fetched. None where there is none of them.

    Raises Impossible when it is Debian's to fetch and that fails.
    """
    unpacked = cache / "pip" / PIP_WHEELS.relative_to("/")
    wheel = _bundled_pip() or _pip_wheel(PIP_WHEELS) or _pip_wheel(unpacked)
    if wheel is None and shutil.which("apt-get"):
        debian.unpack(["python3-pip-whl"], cache / "pip", cache)
        wheel = _pip_wheel(unpacked)
    return wheel


def _pip_wheel(directory: Path) -> Path | None:
    return max(directory.glob("pip-*.whl"), default=None)


def _bundled_pip() -> Path | None:
    try:
        import ensurepip
    except ImportError:  # Debian has it in python3-venv
        return None
    return _pip_wheel(Path(ensurepip.__file__).parent / "_bundled")


def _imports(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def _shebang(python: Path) -> str:
    if len(str(python)) <= SHEBANG_BYTES_MAX and " " not in str(python):
        return f"#!{python}"
    # Read by sh as an exec, and by Python as a string.
    return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''"


def _project(root: Path) -> dict[str, dict[str, str]]:
    project: dict[str, dict[str, str]] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return project
