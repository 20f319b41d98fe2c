# The NixOS module. The sandbox below says the same as systemd/clanmeshd.service, and a test compares the two.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.clanmesh;
  toml = pkgs.formats.toml { };
in
{
  options.services.clanmesh = import ./options.nix {
    inherit lib;
    package = self.packages.${pkgs.stdenv.hostPlatform.system}.clanmesh;
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.settings.port != cfg.settings.tunnel_port;
        message = "services.clanmesh.settings: port and tunnel_port are both UDP and must differ";
      }
    ];

    environment.systemPackages = [ cfg.package ]; # git finds git-remote-clan on the path
    environment.etc."clanmesh/clanmesh.toml".source = toml.generate "clanmesh.toml" cfg.settings;
    users.groups.clanmesh = { }; # its members may ask the daemon; what changes the clan is for root

    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [ cfg.settings.port ];
      allowedUDPPorts = [
        cfg.settings.port
        cfg.settings.tunnel_port
        5353 # mDNS
      ];
    };

    # The boot after a power cut, if the daemon that it finds does not start; see systemd/clanmesh-resume.service.
    systemd.services.clanmesh-resume = {
      description = "clanmesh: go back from an activation that a power cut interrupted";
      wantedBy = [ "multi-user.target" ];
      after = [ "clanmeshd.service" ];
      restartIfChanged = false;
      startLimitIntervalSec = 0;
      unitConfig.ConditionPathExistsGlob = "/var/lib/clanmesh*/rollout/activation.resume";
      script = ''
        status=0
        for each in /var/lib/clanmesh*/rollout/activation.resume; do
          sh "$each" || status=1
        done
        exit "$status"
      '';
      serviceConfig = {
        Type = "exec"; # going back may take minutes, and the boot does not wait for it
        Restart = "on-failure";
        RestartSec = "2s";
        KillMode = "process";
      };
    };

    systemd.services.clanmeshd = {
      description = "clanmesh: this device's part of its clan";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      startLimitIntervalSec = 0;
      path = [
        config.nix.package # what builds a commit's system, and sets the profile
        "/run/current-system/sw" # what a commit's own checks may want
      ];
      stopIfChanged = false; # a new version takes over in one go, as late as it can
      restartTriggers = [ config.environment.etc."clanmesh/clanmesh.toml".source ];
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/clanmeshd";
        WatchdogSec = "30s";
        TimeoutStartSec = "30s";
        TimeoutStopSec = "10s";
        Restart = "always";
        RestartSec = "2s";
        RestartSteps = 6;
        RestartMaxDelaySec = "60s";
        KillMode = "mixed";
        OOMPolicy = "continue"; # a build that takes all memory ends alone
        StateDirectory = "clanmesh";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "clanmesh";
        RuntimeDirectoryMode = "0755";
        RuntimeDirectoryPreserve = "yes";
        LimitNOFILE = 8192;
        CapabilityBoundingSet = [
          "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE" # NET_RAW: probes that leave from WireGuard's own port
          "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_SETUID CAP_SETGID CAP_KILL CAP_SYS_ADMIN"
        ];
        NoNewPrivileges = true;
        ProtectSystem = "full";
        ProtectHome = true;
        PrivateTmp = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6 AF_NETLINK";
        SystemCallArchitectures = "native";
        DevicePolicy = "closed";
        DeviceAllow = "/dev/net/tun rw";
      };
    };
  };
}
