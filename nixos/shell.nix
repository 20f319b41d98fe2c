# What `make demo` and `make test` run on; the Python packages come from the lock files.
{
  mkShell,
  gcc,
  git,
  gnumake,
  iproute2,
  iputils,
  nftables,
  openssh,
  pkg-config,
  python3,
  qemu,
  systemd,
  uv,
  wireguard-go,
  wireguard-tools,
}:
mkShell {
  packages = [
    gcc
    git
    gnumake
    iproute2
    iputils
    nftables
    openssh
    pkg-config
    python3
    qemu
    systemd
    uv
    wireguard-go
    wireguard-tools
  ];
}
