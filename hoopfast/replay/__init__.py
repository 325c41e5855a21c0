"""Runs recorded sessions again on another database and compares. Used by `hoopfast replay` (cli/replay.py)."""
