"""Clients that are not logged in: no address may have more than its share of the places."""

from __future__ import annotations

from typing import Any

from hoopfast import limits
from hoopfast.supervisor.doorway import Doorway


class Worker:
    """Stands for a worker: only its identity counts."""


def worker() -> Any:
    return Worker()


def test_an_address_gets_its_share_and_no_more() -> None:
    door, one, other = Doorway(), worker(), worker()
    for port in range(500):
        assert door.may_enter(f"192.0.2.7:{port}", 1000)
        door.entered(one if port % 2 else other, f"192.0.2.7:{port}")
    assert not door.may_enter("192.0.2.7:9999", 1000)
    assert door.may_enter("192.0.2.8:9999", 1000), "others are not kept out"
    door.left(one, "192.0.2.7:1")
    assert door.may_enter("192.0.2.7:9999", 1000)
    assert len(door) == 499


def test_a_small_gateway_still_lets_a_burst_in() -> None:
    door, one = Doorway(), worker()
    for port in range(limits.LOGINS_OF_ADDRESS_MIN):
        assert door.may_enter(f"[2001:db8::{port:x}]:1", 2)
        door.entered(one, f"[2001:db8::{port:x}]:1")
    assert not door.may_enter("[2001:db8::ffff]:1", 2), "a /64 is one address"


def test_those_of_a_dead_worker_are_forgotten() -> None:
    door, one = Doorway(), worker()
    door.entered(one, "unix")
    del one
    assert len(door) == 0


def test_leaving_twice_harms_nobody() -> None:
    door, one = Doorway(), worker()
    door.entered(one, "unix")
    door.left(one, "unix")
    door.left(one, "unix")
    door.left(worker(), "unix")
    assert len(door) == 0
