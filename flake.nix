{
  description = "A mesh for families and small businesses: devices that find one another, with no server";

  inputs.nixpkgs.url = "nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        clanmesh = pkgs.callPackage ./nixos/package.nix { };
        default = clanmesh;
      });

      nixosModules = rec {
        clanmesh = import ./nixos/module.nix { inherit self; };
        default = clanmesh;
      };

      devShells = each (pkgs: {
        default = pkgs.callPackage ./nixos/shell.nix { };
      });

      checks = each (
        pkgs:
        let
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.clanmesh;
        in
        {
          inherit package;
          tests = pkgs.callPackage ./nixos/checks.nix { inherit package; };
        }
      );
    };
}
