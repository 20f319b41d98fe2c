"""The NixOS module, package and flake, evaluated by Nix with stubs in place of nixpkgs.

What this shows: syntax, names, types, the sandbox's agreement with the unit. What it cannot: that NixOS takes the
values, and that the package builds, for which there has to be a nixpkgs.
"""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clanmeshd import config

CHECKOUT = Path(__file__).resolve().parent.parent.parent
EVALUATION_TIMEOUT_S = 30
EVALUATE = ("nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", "evaluate.nix")

pytestmark = pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="needs: apt install nix-bin")


def attempt(settings: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """Evaluate with a person's configuration; no store and no daemon are needed for that."""
    return subprocess.run(
        [*EVALUATE, "--arg", "set", settings],
        cwd=CHECKOUT / "tests" / "nixos",
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "NIX_STATE_DIR": str(tmp_path), "NIX_PATH": ""},
        capture_output=True,
        encoding="utf-8",
        timeout=EVALUATION_TIMEOUT_S,
        check=False,
    )


def evaluate(settings: str, tmp_path: Path) -> Mapping[str, Any]:
    """Evaluate what has to be sound."""
    finished = attempt(settings, tmp_path)
    assert finished.returncode == 0, finished.stderr
    value: Mapping[str, Any] = json.loads(finished.stdout)
    return value


def test_it_is_nothing_until_it_is_enabled(tmp_path: Path) -> None:
    """Importing the module changes no machine."""
    assert evaluate("{ }", tmp_path)["config"] == {}


def test_the_defaults_are_the_daemons(tmp_path: Path) -> None:
    """One truth: a setting, its name and its default are the same in both languages."""
    options = evaluate("{ }", tmp_path)["options"]
    assert set(options) == config._KEYS
    assert options == {name: _plain(getattr(config.Config(), name)) for name in options}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("{ enable = true; settings.port = 70000; }", "settings.port is not of type port"),
        ("{ enable = true; settings.prot = 1; }", "there is no option services.clanmesh.settings.prot"),
        ('{ enable = true; settings.overlay = "vpn"; }', "settings.overlay is not of type one of"),
        ('{ enable = true; settings.interface = "a name with blanks"; }', "settings.interface is not of type"),
        ("{ enable = true; settings.endpoints = [ 1 ]; }", "settings.endpoints is not of type list of string"),
        ('{ enable = "yes"; }', "clanmesh.enable is not of type bool"),
    ],
)
def test_a_wrong_setting_is_refused(settings: str, complaint: str, tmp_path: Path) -> None:
    """When the configuration is evaluated, not when the daemon starts."""
    finished = attempt(settings, tmp_path)
    assert finished.returncode != 0
    assert complaint in finished.stderr


def test_two_ports_of_one_number_are_refused(tmp_path: Path) -> None:
    """Both are UDP."""
    [assertion] = evaluate("{ enable = true; settings.tunnel_port = 51871; }", tmp_path)["config"]["assertions"]
    assert not assertion["assertion"]


def test_it_opens_what_others_have_to_reach(tmp_path: Path) -> None:
    """Both ports, unless told not to."""
    firewall = evaluate("{ enable = true; settings.port = 7; }", tmp_path)["config"]["networking"]["firewall"]
    assert firewall == {"allowedTCPPorts": [7], "allowedUDPPorts": [7, 51872, 5353]}
    closed = evaluate("{ enable = true; openFirewall = false; }", tmp_path)["config"]
    assert closed["networking"]["firewall"] == {}


def test_the_way_back_after_a_power_cut_is_that_of_the_unit(tmp_path: Path) -> None:
    """The same condition, the same order, the same loop over what was begun."""
    service = evaluate("{ enable = true; }", tmp_path)["config"]["systemd"]["services"]["clanmesh-resume"]
    text = (CHECKOUT / "systemd" / "clanmesh-resume.service").read_text()
    unit = _unit_section(CHECKOUT / "systemd" / "clanmesh-resume.service")
    condition = service["unitConfig"]["ConditionPathExistsGlob"]
    assert f"ConditionPathExistsGlob={condition}" in text
    assert f"After={service['after'][0]}" in text
    [command] = unit.pop("ExecStart")
    assert "".join(command.split("'")[1].split()).replace(";", "") == "".join(service["script"].split()).replace(
        ";", ""
    )
    assert {key: _as_unit_text(value) for key, value in service["serviceConfig"].items()} == unit


def test_the_sandbox_is_that_of_the_unit(tmp_path: Path) -> None:
    """Key by key, but for what is a path, and what Debian's older systemd takes from another file."""
    service = evaluate("{ enable = true; }", tmp_path)["config"]["systemd"]["services"]["clanmeshd"][
        "serviceConfig"
    ]
    unit = _unit_section(CHECKOUT / "systemd" / "clanmeshd.service")
    unit |= _unit_section(CHECKOUT / "systemd" / "backoff.conf")
    assert service.pop("ExecStart").endswith("/bin/clanmeshd")
    assert unit.pop("ExecStart") == ["/opt/clanmesh/current/bin/clanmeshd"]
    assert {key: _as_unit_text(value) for key, value in service.items()} == unit


def test_it_finds_what_builds_and_checks_systems(tmp_path: Path) -> None:
    """Nix itself, and the running system's programs for a commit's own checks."""
    service = evaluate("{ enable = true; }", tmp_path)["config"]["systemd"]["services"]["clanmeshd"]
    assert service["path"] == ["/stub/nix", "/run/current-system/sw"]


def _unit_section(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    inside = False
    for line in path.read_text().splitlines():
        if line.startswith("["):
            inside = line == "[Service]"
        elif inside and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def _as_unit_text(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return ["yes" if value is True else str(value)]


def test_the_package_has_all_dependencies(tmp_path: Path) -> None:
    """Those of pyproject.toml, and systemd's, which only packages and tests have."""
    package = evaluate("{ }", tmp_path)["package"]
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = {text.partition(">=")[0] for text in project["dependencies"]}
    assert set(package["dependencies"]) == wanted | {"systemd"}
    assert (package["pname"], package["version"]) == (project["name"], project["version"])
    assert "/stub/wireguard-go" in package["makeWrapperArgs"][0]


def test_the_flake_offers_what_others_use(tmp_path: Path) -> None:
    """Package, module, shell and checks, for both architectures."""
    outputs = evaluate("{ }", tmp_path)["outputs"]
    assert outputs["nixosModules"] == ["clanmesh", "default"]
    for name in ("packages", "devShells", "checks"):
        assert outputs[name] == ["aarch64-linux", "x86_64-linux"]
