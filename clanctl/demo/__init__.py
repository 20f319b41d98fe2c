"""A whole clan on one machine: real daemons in network namespaces that vanish with the command."""
