# Evaluates this project's flake and module with stubs in place of nixpkgs. `set` is what a person configures.
{ set }:
let
  lib = import ./lib.nix;
  flake = import ../../flake.nix;

  derivation = name: {
    inherit name;
    outPath = "/stub/${name}";
  };
  names = builtins.attrNames;
  # Calls a function with those of our packages that it names; a name that nobody has is an error, as in nixpkgs.
  callPackage =
    file: extra:
    let
      function = import file;
      arguments = builtins.functionArgs function;
    in
    function (builtins.intersectAttrs arguments pkgs // extra);

  pkgs = {
    inherit lib callPackage;
    stdenv.hostPlatform.system = "x86_64-linux";
    formats.toml = _: {
      generate = name: value: {
        inherit name value;
        outPath = "/stub/${name}";
      };
    };
    python3Packages = {
      buildPythonApplication = arguments: arguments // derivation arguments.pname;
    } // lib.genAttrs [ "click" "hatchling" "ifaddr" "msgpack" "pynacl" "pyroute2" "rich" "segno" "systemd" "trio" ] derivation;
    python3 = derivation "python3" // {
      withPackages = choose: derivation "python" // {
        chosen = choose (lib.genAttrs [ "hypothesis" "pytest" "pytest-trio" ] derivation);
      };
    };
    mkShell = arguments: arguments // derivation "shell";
    runCommand = name: arguments: script: arguments // derivation name // { inherit script; };
  } // lib.genAttrs [
    "gcc" "git" "gnumake" "iproute2" "iputils" "nftables" "openssh" "pkg-config" "qemu" "ruff" "systemd" "uv"
    "wireguard-go" "wireguard-tools"
  ] derivation;

  nixpkgs = {
    inherit lib;
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
  };
  outputs = flake.outputs {
    self = outputs;
    inherit nixpkgs;
  };

  module = outputs.nixosModules.default {
    inherit lib pkgs;
    config = everything;
  };
  settled = lib.settle module.config;
  everything = {
    inherit (settled) environment;
    nix.package = derivation "nix";
    services.clanmesh = lib.fill "services.clanmesh" module.options.services.clanmesh set;
  };
in
{
  config = settled;
  options = everything.services.clanmesh.settings;
  outputs = builtins.mapAttrs (_: names) outputs;
  package =
    let
      package = outputs.packages.x86_64-linux.default;
    in
    {
      inherit (package) pname version meta pythonImportsCheck makeWrapperArgs;
      dependencies = map (dependency: dependency.name) package.dependencies;
    };
  shell = map (package: package.name) outputs.devShells.x86_64-linux.default.packages;
  check = outputs.checks.x86_64-linux.tests.script;
}
