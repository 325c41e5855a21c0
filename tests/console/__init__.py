"""Tests of hoopfast.console."""
