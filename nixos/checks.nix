# The tiers that need nothing of the machine, with the libraries of nixpkgs in place of the locked ones.
{
  lib,
  python3,
  runCommand,
  git,
  openssh,
  ruff,
  package,
}:
let
  python = python3.withPackages (
    packages:
    package.dependencies
    ++ [
      packages.hypothesis
      packages.pytest
      packages.pytest-trio
    ]
  );
in
runCommand "clanmesh-tests"
  {
    nativeBuildInputs = [
      python
      git
      openssh
      ruff
    ];
    src = lib.cleanSource ../.;
  }
  ''
    cp -r $src source && chmod -R u+w source && cd source
    export HOME=$PWD
    ruff check .
    python -m pytest -p no:cacheprovider tests/vectors tests/core
    touch $out
  ''
