"""The demo's data: the same on every run, consistent, and nobody's."""

from __future__ import annotations

from hoopfast.demo import shop


def test_every_run_has_the_same_rows() -> None:
    for name, rows in shop.TABLES.items():
        assert list(rows()) == list(rows()), name


def test_size() -> None:
    counts = {name: sum(1 for _ in rows()) for name, rows in shop.TABLES.items()}
    assert counts["customers"] == shop.CUSTOMERS
    assert counts["old_carts"] == shop.CARTS
    assert 5_000 < sum(counts.values()) < 20_000


def test_keys_fit() -> None:
    rows = {name: list(make()) for name, make in shop.TABLES.items()}
    for name in ("customers", "products", "orders", "employees", "old_carts"):
        assert [row[0] for row in rows[name]] == list(range(1, len(rows[name]) + 1))
    assert {row[1] for row in rows["orders"]} <= {row[0] for row in rows["customers"]}
    assert {row[0] for row in rows["order_items"]} == {row[0] for row in rows["orders"]}
    assert {row[1] for row in rows["order_items"]} <= {row[0] for row in rows["products"]}
    pairs = [row[:2] for row in rows["order_items"]]
    assert len(pairs) == len(set(pairs))
    assert len({row[2] for row in rows["customers"]}) == shop.CUSTOMERS, "e-mail addresses are unique"


def test_nobody_is_real() -> None:
    for _, _, email, _, ssn, card, _ in shop.TABLES["customers"]():
        assert email.endswith("@example.net")
        area, group, serial = ssn.split("-")
        assert 900 <= int(area) <= 999 and len(group) == 2 and len(serial) == 4
        assert card.startswith("400000") and len(card) == 16
        digits = [int(c) for c in card]
        doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
        assert (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0, "Luhn"


def test_the_tour_can_tell_true_values_from_masks() -> None:
    """A true value that looks like its mask, or is part of another, would make a check of the tour mean nothing."""
    for _, name, email, _, ssn, card, _ in shop.TABLES["customers"]():
        assert "*" not in email + ssn + card
        assert len(email) > 8 and name
