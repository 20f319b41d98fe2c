"""Preparing a checkout and installing from it. Standard library only: it runs before there is anything else."""
