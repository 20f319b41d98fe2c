"""The clanmesh protocol: formats, limits and signatures, with no input or output of any kind.

A second implementation can be written from the folder that holds this package: `README.md` is the
specification, `vectors/` the test of it. Nothing here opens a socket or a file, or reads a clock.
"""
