"""Two worlds: the same database twice, different only in the values of masked columns. Used by the runner.

Whatever a person with masks can see must be equal in both, byte for byte; that notices every leaked bit, where a search
for canaries notices whole values. What masks show on purpose (domain of an e-mail address, last digits of a card)
is therefore the same in both. Hashes differ all the same: each connection has a key of its own.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from pathlib import Path
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

SCHEMA = Path(__file__).parent / "estate.sql"
PEOPLE = ("Ada", "Bo", "Cy", "Dee", "Eve", "Flo")
CITIES = ("Paris", "Rome", "Oslo", "Paris", "Rome", None)
# Letters that hardly meet in words, so that five of them in a row are never chance.
RARE = "QZXVJKWGHPFBYM"
MOODS = ("qzvmood", "zvxmood", "xjqmood", "kwzmood")
# What the policy masks, and how.
MASKS: dict[str, Any] = {
    "people.ssn": "redact", "people.card": {"partial": {"keep": 4}}, "people.email": "email", "people.salary": "null",
    "people.badge": {"constant": {"value": 7}}, "people.account": "redact", "people.born": "redact",
    "people.seen": "redact",
    "people.token": "redact", "people.secret": "redact", "people.profile": "redact", "people.tags": "redact",
    "people.home": "redact", "people.address": "null", "people.code": "redact", "people.feeling": "redact",
    "people.score": "redact", "payments.iban": "redact", "payments.amount": "null", "staff.pin": "redact",
    "lockers.pin": "redact",
    "people_audit.image": "redact", "members.pass": "hash",
}
POLICY: dict[str, Any] = {
    "access": [{"groups": ["engineering"], "connections": ["*"]}],
    "masks": [{"columns": [f"public.{column}"], "with": how} for column, how in MASKS.items()],
}
PERSON = ("ssn", "card", "email", "salary", "badge", "account", "born", "seen", "token", "secret", "profile", "tags",
          "home", "address", "code", "feeling", "score")
INSERT_PERSON = """INSERT INTO people (id, name, city, dept, joined, boss, note, ssn, card, email, salary, badge,
account, born, seen, token, secret, profile, tags, home, address, code, feeling, score) VALUES
(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::place, %s, %s::mood, %s)"""


class World:
    """The values of one world. `secrets` are the masked ones, by column."""

    def __init__(self, number: int) -> None:
        self._rng = random.Random(f"world {number}")
        # What is the same in every world.
        self._common = random.Random("every world")
        self.secrets: dict[str, list[Any]] = {}
        self._number_of_world = self._high = number
        self.people = [self._person(number) for number in range(1, len(PEOPLE) + 1)]
        self.payments = [
            (n, 2023 + n % 2, self._secret("payments.iban", self._word(16)),
             self._secret("payments.amount", self._number(7) + 0.25), f"memo {n}")
            for n in range(1, 7)
        ]
        self.members = [(n, self._secret("members.pass", self._word(11)), 3 * n) for n in range(1, 4)]
        self.staff = [(n, self._secret("staff.pin", self._word(12)), f"room {n}") for n in range(1, 5)]

    def _word(self, length: int) -> str:
        """Begins in one half of the alphabet, with the same place in the other world in the other."""
        first = self._rng.choice("QVXZ" if self._high else "BFGH")
        return first + "".join(self._rng.choice(RARE) for _ in range(length - 1))

    def _number(self, digits: int) -> int:
        low = 6 if self._high else 2
        return self._rng.randrange(low * 10 ** (digits - 1), (low + 3) * 10 ** (digits - 1)) // 2 * 2 + self._high

    def _year(self) -> int:
        return self._rng.randrange(2760, 2999) if self._high else self._rng.randrange(2500, 2740)

    def _secret(self, column: str, value: Any) -> Any:
        self.secrets.setdefault(column, []).append(value)
        return value

    def _person(self, n: int) -> dict[str, Any]:
        rng, common = self._rng, self._common
        self._high = (n + self._number_of_world) % 2
        values = {
            "ssn": self._word(14),
            "card": f"{self._word(5)}-{self._word(5)}-{common.randrange(1000, 10000)}",
            "email": f"{'pqrstu'[n - 1]}{self._word(9).lower()}@example{n}.org",
            "salary": self._number(9) + 0.75,
            "badge": common.randrange(200_000_000, 999_999_999),
            "account": self._number(15),
            "born": dt.date(self._year(), rng.randrange(1, 13), rng.randrange(13, 29)),
            "seen": dt.datetime(self._year(), rng.randrange(1, 13), rng.randrange(13, 29),
                                rng.randrange(10, 24), rng.randrange(10, 60), rng.randrange(10, 60), tzinfo=dt.UTC),
            "token": uuid.UUID(bytes=bytes([rng.randrange(128) + 128 * self._high]) + rng.randbytes(15)),
            "secret": bytes([208 if self._high else 144]) + bytes(rng.randrange(128, 256) for _ in range(11)),
            "profile": {"key": self._word(12), "deep": [self._word(10)]},
            "tags": [self._word(9), self._word(9)],
            "home": ".".join(map(str, (206 + 2 * self._high, *(rng.randrange(100, 250) for _ in range(3))))),
            "address": (self._word(10), self._word(8)),
            "code": self._word(13),
            "feeling": MOODS[self._high * 2 + n % 2],
            "score": self._number(8) + 0.5,
        }
        if n == len(PEOPLE):
            values |= dict.fromkeys(PERSON)        # everything is NULL once
        for column, value in values.items():
            if value is not None:
                self._secret(f"people.{column}", value)
        return values

    def fill(self, db: Connection[Any]) -> None:
        """Insert the rows, in the same order in every world."""
        for n, (name, values) in enumerate(zip(PEOPLE, self.people, strict=True), 1):
            adapted = dict(values)
            if adapted["profile"] is not None:
                adapted["profile"] = Jsonb(adapted["profile"])
                adapted["address"] = f"({adapted['address'][0]},{adapted['address'][1]})"
            boss = 1 if n > 1 else None
            clean = (n, name, CITIES[n - 1], "RD" if n % 2 else "HR", dt.date(2020, n, 1), boss, f"note {n}")
            db.execute(INSERT_PERSON, (*clean, *(adapted[column] for column in PERSON)))
        with db.cursor() as cursor:
            cursor.executemany("INSERT INTO payments VALUES (%s, %s, %s, %s, %s)", self.payments)
            cursor.executemany("INSERT INTO staff VALUES (%s, %s, %s)", self.staff[:3])
            cursor.executemany("INSERT INTO members VALUES (%s, %s, %s)", self.members)
            cursor.executemany("INSERT INTO lockers VALUES (%s, %s)", [(n, pin) for n, pin, _ in self.staff])
            cursor.executemany("INSERT INTO managers VALUES (%s, %s, %s, 7)", self.staff[3:])
        db.execute("UPDATE people SET note = 'first' WHERE id = 1")     # the trigger writes an image
        db.execute("""INSERT INTO orders (person, item, price, placed, qty) SELECT 1 + i % 5, 'item ' || i % 4, i * 1.5,
                      date '2024-01-01' + i, i % 7 FROM generate_series(1, 40) i""")
        db.execute("REFRESH MATERIALIZED VIEW people_mat")
        db.execute("REFRESH MATERIALIZED VIEW order_mat")
        db.execute("ANALYZE")
