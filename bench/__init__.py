"""Benchmarks: the core's parts (`test_core.py`, pytest-benchmark) and the gateway beside its peers (`peers.py`)."""
