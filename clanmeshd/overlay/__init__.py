"""The overlay: WireGuard made to be what the core wants, by the kernel or by a program in userspace.

`plan` compares and is pure; `interface` reads, plans and performs; a `Control` is what the two backends differ
in. Nothing here knows of records, members or names.
"""
