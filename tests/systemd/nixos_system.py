"""Systems for tests as NixOS makes them: units, an activation script, a boot loader, a program that switches.

No nixpkgs, so what is inside of one is the least that can be switched between; how it is done is upstream's way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

PROGRAM: Final = Path(__file__).with_name("switch_to_configuration.py")
UNITS: Final = "etc/systemd/system"
NIX_CONFIGURATION: Final = "sandbox = false\nsubstituters =\nbuild-users-group =\n"

# Links the units of the system, and lets go of those that it does not have; the running system comes last.
ACTIVATE: Final = """\
#!/bin/sh
set -eu
cd /etc/systemd/system
for link in *.* multi-user.target.wants/*; do
    case $(readlink "$link") in
    /nix/store/*) [ -e "$1/etc/systemd/system/${link##*/}" ] || rm "$link" ;;
    esac
done
for unit in $(ls -d "$1"/etc/systemd/system/*.service 2>/dev/null || true); do
    ln -sfn "$unit" .
    ln -sfn "$unit" multi-user.target.wants/
done
[ ! -e "$1/more" ] || . "$1/more"
ln -sfn "$1" /run/current-system
"""

# As systemd-boot's: an entry for each generation; a full /boot is no failure.
INSTALL_BOOTLOADER: Final = """\
#!/bin/sh
set -eu
[ ! -e /boot/full ] || exit 0
mkdir -p /boot/loader/entries
number=0
for generation in /nix/var/nix/profiles/system-*-link "$1"; do
    number=$((number + 1))
    echo "options init=$(readlink -f "$generation")/init" >"/boot/loader/entries/nixos-generation-$number.conf"
done
"""

FLAKE: Final = """\
{
  outputs = { self }: {
    nixosConfigurations.nas.config.system.build.toplevel = derivation {
      name = "nixos-system-nas";
      system = "@SYSTEM@";
      builder = "/bin/sh";
      args = [ ./make-system ];
      tree = ./system;
      rev = self.rev or "by hand";
    };
  };
}
"""
MAKE_SYSTEM: Final = """\
PATH=/usr/bin:/bin
set -eu
cp -r "$tree" "$out"
chmod -R u+w "$out"
echo "$rev" >"$out/nixos-version"
"""


def service(command: str, *more: str, kind: str = "exec") -> str:
    """A unit's text."""
    return "\n".join(("[Service]", f"Type={kind}", f"ExecStart={command}", *more, ""))


def system_files(**units: str) -> dict[str, str]:
    """What a system has, by path; units by their names without `.service`."""
    return {
        "bin/switch-to-configuration": PROGRAM.read_text(),
        "activate": ACTIVATE,
        "install-bootloader": INSTALL_BOOTLOADER,
        "init-interface-version": "1\n",
        **{f"{UNITS}/{name}.service": text for name, text in units.items()},
    }


def write_tree(directory: Path, files: Mapping[str, str]) -> None:
    """Write files; programs are known by their first line."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
