"""Fuzzing: damaged messages for all that reads what others sent. It is a tier of its own.

`python -m tests.fuzz.cost` prints what the readers cost for each byte of their worst inputs,
`python -m tests.fuzz.coverage_guided` lets atheris look for ways that mutations alone do not find.
"""
