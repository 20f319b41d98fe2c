# Daemon and command line, from this checkout. What it is called, and its version, are in pyproject.toml.
{
  lib,
  python3Packages,
  git,
  openssh,
  wireguard-go,
}:
let
  project = (builtins.fromTOML (builtins.readFile ../pyproject.toml)).project;
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;

  src = lib.cleanSource ../.;

  build-system = [ python3Packages.hatchling ];

  dependencies = [
    python3Packages.click
    python3Packages.ifaddr
    python3Packages.msgpack
    python3Packages.pynacl
    python3Packages.pyroute2
    python3Packages.rich
    python3Packages.segno
    (python3Packages.systemd-python or python3Packages.systemd)
    python3Packages.trio
  ];

  # The programs that it runs; the kernel's own WireGuard is used where there is one.
  makeWrapperArgs = [
    "--prefix PATH : ${
      lib.makeBinPath [
        git
        openssh
        wireguard-go
      ]
    }"
  ];

  # The tests want network namespaces and containers, which no build sandbox gives: `make test` runs them.
  doCheck = false;
  pythonImportsCheck = [
    "clanmesh_protocol"
    "clanmeshd.daemon"
    "clanctl.cli"
  ];

  meta = {
    inherit (project) description;
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "clanctl";
  };
}
