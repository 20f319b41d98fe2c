"""Benchmarks: `python -m bench.NAME` prints its figures; `--json` for programs, `--check` against the targets."""
