"""The configuration file: defaults need none; a mistake is one line that names the file and the key."""

from pathlib import Path

import pytest

from clanmesh_protocol.endpoints import parse_endpoint
from clanmeshd.config import Config, ConfigError, load_config


def _load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "clanmesh.toml"
    path.write_text(text)
    return load_config(path, tmp_path / "state", tmp_path / "run")


def test_defaults_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLANMESH_STATE_DIR", raising=False)
    config = load_config(None, None, tmp_path)
    assert (config.port, config.tunnel_port, config.interface) == (51871, 51872, "clan0")
    assert config.state_directory == Path("/var/lib/clanmesh")


def test_everything_can_be_set(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        'port = 1\ntunnel_port = 2\ninterface = "wg9"\noverlay = "none"\n'
        'mdns = false\nnames = false\nendpoints = ["192.0.2.1:3"]\nport_mapping = false\n'
        'relay = false\nawake = 9\nhooks = "/hooks"\n',
    )
    assert config == Config(
        tmp_path / "state",
        tmp_path / "run",
        1,
        2,
        "wg9",
        "none",
        mdns=False,
        names=False,
        endpoints=(parse_endpoint("192.0.2.1:3"),),
        port_mapping=False,
        relay=False,
        awake=9,
        hooks=Path("/hooks"),
    )


@pytest.mark.parametrize(
    ("text", "relays"),
    [("", "auto"), ('relay = "auto"', "auto"), ("relay = true", True), ("relay = false", False)],
)
def test_who_relays_may_be_said(tmp_path: Path, text: str, relays: bool | str) -> None:
    assert _load(tmp_path, text).relay == relays


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "prot"),
        ("port = 0", "port"),
        ("port = true", "port"),
        ('port = "80"', "port"),
        ("port = 65536", "port"),
        ('interface = "a-name-that-is-too-long"', "interface"),
        ('interface = "a/b"', "interface"),
        ('interface = "a:b"', "interface"),
        ('interface = ""', "interface"),
        ('overlay = "magic"', "overlay"),
        ("mdns = 1", "mdns"),
        ("names = 1", "names"),
        ("hooks = 1", "hooks"),
        ('hooks = "hooks.d"', "hooks"),
        ('port_mapping = "yes"', "port_mapping"),
        ("relay = 1", "relay"),
        ("awake = -1", "awake"),
        ("awake = true", "awake"),
        ('relay = "yes"', "relay"),
        ('endpoints = ["host"]', "ADDRESS:PORT"),
        ("port =", "clanmesh.toml"),
        ("x = 1\n" * 20_000, "65536"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=r"clanmesh\.toml") as refused:
        _load(tmp_path, text)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value).strip()


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "missing.toml", None, None)
