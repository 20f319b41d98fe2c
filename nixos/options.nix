# What a person may set on NixOS. Those of `settings` are the daemon's own; see clanmeshd/config.py.
{ lib, package }:
{
  enable = lib.mkEnableOption "clanmesh, this device's part of its clan";

  package = lib.mkOption {
    type = lib.types.package;
    default = package;
    description = "The clanmesh package to run.";
  };

  openFirewall = lib.mkOption {
    type = lib.types.bool;
    default = true;
    description = "Whether other devices may reach the ports of the daemon and of WireGuard.";
  };

  settings = {
    port = lib.mkOption {
      type = lib.types.port;
      default = 51871;
      description = "UDP and TCP port of the daemon.";
    };
    tunnel_port = lib.mkOption {
      type = lib.types.port;
      default = 51872;
      description = "UDP port of WireGuard.";
    };
    interface = lib.mkOption {
      type = lib.types.strMatching "[^/:[:space:]]{1,15}";
      default = "clan0";
      description = "Name of the WireGuard interface.";
    };
    overlay = lib.mkOption {
      type = lib.types.enum [
        "auto"
        "kernel"
        "userspace"
        "none"
      ];
      default = "auto";
      description = "Which WireGuard carries the overlay.";
    };
    mdns = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether to look for other devices on the local network.";
    };
    names = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether to answer for the clan's names, and to tell the system's resolver of them.";
    };
    endpoints = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "203.0.113.7:51871" ];
      description = "Addresses and ports at which others reach this device, beside those that it sees itself.";
    };
    port_mapping = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether to ask the home router to forward the ports to this device.";
    };
    relay = lib.mkOption {
      type = lib.types.enum [
        "auto"
        true
        false
      ];
      default = "auto";
      description = "Whether to relay for members that cannot reach each other: by default with the tag `relay`, or with a public address.";
    };
    awake = lib.mkOption {
      type = lib.types.ints.unsigned;
      default = 64;
      description = "With more other devices than this, tunnels that nothing goes through sleep until something does.";
    };
    hooks = lib.mkOption {
      type = lib.types.str;
      default = "/etc/clanmesh/hooks.d";
      description = "Directory of programs that are told how each activation ended.";
    };
  };
}
