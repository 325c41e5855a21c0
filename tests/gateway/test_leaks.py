"""Leak accounting notices what is held, and says what it is."""

from __future__ import annotations

from tests.support.gateway import Gateway, wait_until
from tests.support.leaks import Account


def test_accounting_names_what_is_held(gateway: Gateway) -> None:
    account = Account(gateway)
    assert account.settle() == []
    with gateway.connect("shop") as db:
        db.execute("SELECT email FROM customers", prepare=True)
        wait_until(lambda: any("held_names" in line for line in account.excess()), "the worker's counters are written")
        excess = "\n".join(account.excess())
        for held in ("sessions_open: 1, was 0", "held_names", "1 'client', 1 'upstream'"):
            assert held in excess, excess
    assert account.settle() == []
