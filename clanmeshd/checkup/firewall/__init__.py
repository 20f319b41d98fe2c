"""What this machine's own firewall does with what the clan needs, and which tool changes that."""
