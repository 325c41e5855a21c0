"""Every wire test in three deliveries: whole, byte by byte, and with the next message's bytes already behind it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

Result = TypeVar("Result")
Delivery = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    """One chunk."""
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """As many chunks as bytes."""
    for i in range(len(data)):
        yield data[i : i + 1]


def in_pieces(data: bytes, seed: int = 1) -> Iterator[bytes]:
    """Random chunks of 1 to 64 bytes; the same ones for the same seed."""
    rng = random.Random(seed)
    position = 0
    while position < len(data):
        size = rng.choice((1, 2, 4, 5, 7, 16, 64))
        yield data[position : position + size]
        position += size


DELIVERIES: tuple[Delivery, ...] = (whole, byte_by_byte, in_pieces)
deliveries = pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.__name__)


def deliver(
    fresh: Callable[[], Callable[[bytes], Result | None]], data: bytes, *, trailing: bytes = b""
) -> list[Result]:
    """Feed `data` to three machines from `fresh` and check that they agree; returns what one of them made of it.

    A machine takes a chunk and returns a result, or None when it needs more.
    """
    runs: list[list[Result]] = []
    for chunks in (whole(data), byte_by_byte(data), whole(data + trailing)):
        machine = fresh()
        runs.append([result for chunk in chunks if (result := machine(chunk)) is not None])
    assert runs[0] == runs[1], "byte by byte differs from whole"
    assert runs[0] == runs[2], "trailing bytes change the result"
    return runs[0]
