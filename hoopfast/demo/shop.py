"""The demo's database: a small online shop, the same on every run, and not a single real person in it.

`statements` make the schema, `rows` the content of each table. Loaded by demo/stage.py; the tour reads it back with the
owner's connection to prove what the gateway hid.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

SEED = 20260131
CUSTOMERS = 1200
PRODUCTS = 80
ORDERS = 3000
EMPLOYEES = 40
CARTS = 250

Row = tuple[Any, ...]

_SCHEMA = (
    """CREATE TABLE customers (
        id int PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, city text NOT NULL,
        ssn text NOT NULL, card_number text NOT NULL, created date NOT NULL)""",
    "CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price numeric(10,2) NOT NULL, stock int NOT NULL)",
    """CREATE TABLE orders (
        id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, status text NOT NULL,
        placed_at timestamptz NOT NULL)""",
    """CREATE TABLE order_items (
        order_id int NOT NULL REFERENCES orders, product_id int NOT NULL REFERENCES products,
        quantity int NOT NULL, price numeric(10,2) NOT NULL, PRIMARY KEY (order_id, product_id))""",
    """CREATE TABLE employees (
        id int PRIMARY KEY, name text NOT NULL, email text NOT NULL, title text NOT NULL,
        salary numeric(10,2) NOT NULL)""",
    "CREATE TABLE old_carts (id int PRIMARY KEY, customer_id int, abandoned_at timestamptz NOT NULL)",
)
_INDEXES = (
    "CREATE INDEX orders_customer ON orders (customer_id)",
    "CREATE INDEX order_items_product ON order_items (product_id)",
    "COMMENT ON TABLE old_carts IS 'left behind by the shop before last; nobody needs it'",
)
_FIRST = (
    "Ada", "Alan", "Barbara", "Carol", "Chen", "Dennis", "Donald", "Edith", "Elena", "Farid", "Fatima", "Grace",
    "Hana", "Ines", "Ivan", "Jean", "Joao", "Kofi", "Lars", "Lena", "Linus", "Mei", "Mira", "Nadia", "Niklas",
    "Nora", "Omar", "Priya", "Rosa", "Sven", "Tariq", "Uma", "Viktor", "Wanda", "Yara", "Yusuf", "Zoe",
)
_LAST = (
    "Adeyemi", "Almeida", "Andersen", "Baker", "Bianchi", "Cohen", "Costa", "Dubois", "Eriksen", "Fischer",
    "Garcia", "Haddad", "Ito", "Jansen", "Kaya", "Kim", "Kowalski", "Larsen", "Lopez", "Marino", "Meyer", "Moreau",
    "Nguyen", "Novak", "Okoye", "Patel", "Petrov", "Rossi", "Sato", "Schmidt", "Silva", "Singh", "Tanaka", "Weber",
    "Yilmaz",
)
_CITIES = (
    "Amsterdam", "Barcelona", "Berlin", "Copenhagen", "Dublin", "Helsinki", "Krakow", "Lagos", "Lisbon", "London",
    "Lyon", "Milan", "Oslo", "Porto",
)
_THINGS = (
    "Kettle", "Desk lamp", "Notebook", "Headphones", "Backpack", "Coffee grinder", "Bicycle bell", "Rain jacket",
    "Water bottle", "Keyboard", "Bread knife", "Plant pot", "Wool blanket", "Travel mug", "Chess set", "Tripod",
)
_FINISHES = ("classic", "compact", "blue", "oak", "black")
_STATES = ("paid", "shipped", "delivered", "delivered", "delivered", "returned", "cancelled")
_TITLES = ("Engineer", "Support agent", "Warehouse lead", "Designer", "Accountant", "Buyer")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def _people(count: int, seed: int) -> Iterator[tuple[str, str, random.Random]]:
    dice = random.Random(seed)
    for i in range(1, count + 1):
        first, last = dice.choice(_FIRST), dice.choice(_LAST)
        yield f"{first} {last}", f"{first}.{last}.{i}@example.net".lower(), dice


def _customers() -> Iterator[Row]:
    for i, (name, email, dice) in enumerate(_people(CUSTOMERS, SEED), 1):
        # Area numbers from 900 are never given out, and 4000 00 is a prefix of test cards.
        ssn = f"{dice.randrange(900, 1000)}-{dice.randrange(10, 100)}-{dice.randrange(1000, 10_000)}"
        card = _with_check_digit(f"400000{dice.randrange(10**9):09d}")
        yield i, name, email, dice.choice(_CITIES), ssn, card, date(2023, 1, 1) + timedelta(days=dice.randrange(1000))


def _products() -> Iterator[Row]:
    dice = random.Random(SEED + 1)
    for i in range(PRODUCTS):
        name = f"{_THINGS[i % len(_THINGS)]}, {_FINISHES[i // len(_THINGS) % len(_FINISHES)]}"
        yield i + 1, name, dice.randrange(500, 20_000) / 100, dice.randrange(0, 400)


def _orders() -> Iterator[Row]:
    dice = random.Random(SEED + 2)
    for i in range(1, ORDERS + 1):
        placed = _EPOCH - timedelta(minutes=dice.randrange(365 * 24 * 60))
        yield i, dice.randrange(1, CUSTOMERS + 1), dice.choice(_STATES), placed


def _order_items() -> Iterator[Row]:
    dice = random.Random(SEED + 3)
    prices = {row[0]: row[2] for row in _products()}
    for order in range(1, ORDERS + 1):
        for product in sorted(dice.sample(range(1, PRODUCTS + 1), dice.randrange(1, 5))):
            yield order, product, dice.randrange(1, 4), prices[product]


def _employees() -> Iterator[Row]:
    for i, (name, email, dice) in enumerate(_people(EMPLOYEES, SEED + 4), 1):
        yield i, name, email.replace("example.net", "example.com"), dice.choice(_TITLES), dice.randrange(32_000, 98_000)


def _old_carts() -> Iterator[Row]:
    dice = random.Random(SEED + 5)
    for i in range(1, CARTS + 1):
        left = datetime(2019, 3, 1, tzinfo=UTC) + timedelta(hours=dice.randrange(9000))
        yield i, dice.randrange(1, CUSTOMERS + 1), left


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "customers": _customers, "products": _products, "orders": _orders, "order_items": _order_items,
    "employees": _employees, "old_carts": _old_carts,
}


def load(db: psycopg.Connection[Any]) -> int:
    """Make and fill the tables as the connection's user, in one transaction. Returns the number of rows."""
    count = 0
    with db.transaction(), db.cursor() as cursor:
        for statement in _SCHEMA:
            cursor.execute(statement.encode())
        for table, rows in TABLES.items():
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
                for row in rows():
                    copy.write_row(row)
                    count += 1
        for statement in _INDEXES:
            cursor.execute(statement.encode())
    db.execute("ANALYZE")
    return count


def _with_check_digit(digits: str) -> str:
    """A card number whose last digit is right (Luhn), so that it looks like one to those who check."""
    total = 0
    for i, c in enumerate(reversed(digits)):
        value = int(c) * (2 if i % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return f"{digits}{-total % 10}"
