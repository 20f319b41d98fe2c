"""Secrets: who may read a value, how it is sealed to them, and how it comes to lie on a recipient's tmpfs."""
