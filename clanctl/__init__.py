"""The command line of a clan: asks the local daemon and shows what it says.

It imports only the protocol and the standard library, with click; rich and segno where something is drawn.
Every command is one short process, so nothing is imported before it is needed.
"""
