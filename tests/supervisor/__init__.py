"""Tests of hoopfast.supervisor."""
