"""Clients that send marked statements in every form of the protocol, and come back when their connection breaks."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import psycopg

from tests.support.gateway import Gateway

LEDGER = "CREATE TABLE ledger (marker text)"
PAUSE_S = 0.001                         # between statements: the machine has more to do than that
RETRY_S = 0.1


class Load:
    """Threads with a session each. `answered`: markers whose statement the client knows to have run."""

    def __init__(self, gateway: Gateway, name: str, threads: int, seed: int) -> None:
        self.name = name
        self.answered: set[str] = set()
        self.breaks = 0
        self._gateway = gateway
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(i, random.Random(f"{seed}-{i}")), daemon=True)
            for i in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def _run(self, thread: int, chance: random.Random) -> None:
        number = 0
        while not self._stopping.is_set():
            try:
                with contextlib.closing(self._gateway.connect("shop")) as db:
                    while not self._stopping.is_set():
                        number += 1
                        # The letter keeps one marker from being the beginning of another.
                        marker = f"hf-marker-{self.name}-{thread}-{number}z"
                        self.answered |= chance.choice(FORMS)(db, marker)
                        time.sleep(PAUSE_S)
            except (psycopg.Error, OSError):
                self.breaks += 1
                time.sleep(RETRY_S)


def _simple(db: psycopg.Connection[Any], marker: str) -> set[str]:
    psycopg.ClientCursor(db).execute(f"SELECT 1 /* {marker} */")
    return {marker}


def _template(db: psycopg.Connection[Any], marker: str) -> set[str]:
    psycopg.ClientCursor(db).execute(f"SELECT marker FROM ledger WHERE marker = '{marker}' LIMIT 1")
    return {marker}


def _extended(db: psycopg.Connection[Any], marker: str) -> set[str]:
    db.execute(f"SELECT %s::int /* {marker} */", (4711,), prepare=False)
    return {marker}


def _prepared(db: psycopg.Connection[Any], marker: str) -> set[str]:
    db.execute("SELECT %s::text", (marker,), prepare=True)
    return {marker}


def _pipeline(db: psycopg.Connection[Any], marker: str) -> set[str]:
    with db.pipeline():
        for part in "abc":
            db.execute("SELECT %s::text || 'x'", (marker + part,), prepare=True)
    return {marker + part for part in "abc"}


def _several(db: psycopg.Connection[Any], marker: str) -> set[str]:
    psycopg.ClientCursor(db).execute(f"SELECT 1 /* {marker}a */; SELECT 2 /* {marker}b */")
    return {marker + "a", marker + "b"}


def _insert(db: psycopg.Connection[Any], marker: str) -> set[str]:
    db.execute("INSERT INTO ledger VALUES (%s)", (marker,))
    return {marker}


def _transaction(db: psycopg.Connection[Any], marker: str) -> set[str]:
    with db.transaction():
        db.execute("INSERT INTO ledger VALUES (%s)", (marker + "a",))
        db.execute(f"SELECT 1 /* {marker}b */")
    return {marker + "a", marker + "b"}


def _copy(db: psycopg.Connection[Any], marker: str) -> set[str]:
    with db.cursor().copy(f"COPY ledger FROM STDIN /* {marker} */") as copy:
        copy.write(f"{marker}\n".encode())
    return {marker}


def _failing(db: psycopg.Connection[Any], marker: str) -> set[str]:
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        # Not by constants alone: those would fail in Bind, and PostgreSQL would not call that an execution.
        db.execute(f"SELECT %s::int / (random() * 0)::int /* {marker} */", (1,))
    return {marker}


FORMS: tuple[Callable[[psycopg.Connection[Any], str], set[str]], ...] = (
    _simple, _template, _extended, _prepared, _pipeline, _several, _insert, _transaction, _copy, _failing,
)
