"""Which version this is."""

from importlib.metadata import PackageNotFoundError, version


def version_text() -> str:
    """The installed version; a checkout that was never installed says so."""
    try:
        return version("clanmesh")
    except PackageNotFoundError:
        return "0.1.0+checkout"
