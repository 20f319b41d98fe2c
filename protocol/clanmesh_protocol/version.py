"""Which version this is. Asking the package's metadata would load a megabyte of other things."""

from pathlib import Path
from typing import Final

VERSION: Final = "0.1.0"


def version_text() -> str:
    """The version; a checkout that was never installed says so."""
    beside = Path(__file__).resolve().parent.parent
    return VERSION if any(beside.glob(f"clanmesh-{VERSION}*.dist-info")) else f"{VERSION}+checkout"
