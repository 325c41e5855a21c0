"""Tests of hoopfast.control."""
