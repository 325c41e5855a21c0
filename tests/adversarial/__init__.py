"""Attacks on the masks and statements of a normal day, each against a real server through a real gateway."""
