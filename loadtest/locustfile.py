"""What the users of the load test do: query, fail, cancel, read masked rows, wait for approvals, come and go.

Loaded by locust (`-f loadtest/locustfile.py`); connection data comes from `loadtest.run` in the variable HOOPFAST_LOAD.
Every statement carries a marker, so that PostgreSQL's log and the audit trail can be compared afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

import gevent
import psycopg
from locust import User, between, task

SETUP: dict[str, Any] = json.loads(os.environ["HOOPFAST_LOAD"])
CANARY = SETUP["canary"]
numbers = itertools.count(1)


def marker() -> str:
    return f"hf-marker-load-{os.getpid()}-{next(numbers)}"


class Person(User):
    """One person with one connection, most of the time."""

    wait_time = between(0.01, 0.1)
    db: psycopg.Connection[Any]

    def on_start(self) -> None:
        self.name = random.choice(SETUP["people"])
        self.measure("connect", self._connect)

    def on_stop(self) -> None:
        self.db.close()

    def _connect(self) -> None:
        self.db = psycopg.connect(
            host="127.0.0.1", port=SETUP["port"], dbname="shop", user=self.name, password=SETUP["tokens"][self.name],
            sslmode=SETUP["sslmode"], autocommit=True, connect_timeout=20, application_name="load test",
        )

    def measure(self, what: str, action: Callable[[], Any]) -> None:
        """Run `action` and report it to locust; an exception is a failure of the request."""
        began = time.perf_counter()
        failure: Exception | None = None
        try:
            action()
        except Exception as error:
            failure = error
        spent = (time.perf_counter() - began) * 1000
        self.environment.events.request.fire(
            request_type="sql", name=what, response_time=spent, response_length=0, exception=failure, context={}
        )
        if isinstance(failure, psycopg.OperationalError) and self.db.closed:
            self._connect()

    @task(20)
    def lookup(self) -> None:
        query = "SELECT id, item, price, %s AS marker FROM orders WHERE id = %s"
        self.measure("prepared lookup", lambda: self.db.execute(query, (marker(), random.randint(1, 100))).fetchall())

    @task(8)
    def new_text(self) -> None:
        query = f"SELECT count(*) FROM orders WHERE price < {random.randint(1, 100)} /* {marker()} */"
        self.measure("new statement", lambda: self.db.execute(query).fetchall())

    @task(8)
    def masked(self) -> None:
        def read() -> None:
            query = "SELECT id, name, ssn, email, %s AS marker FROM customers WHERE id < %s"
            rows = self.db.execute(query, (marker(), random.randint(2, 200)), binary=random.random() < 0.5).fetchall()
            if not rows or CANARY in repr(rows):
                raise AssertionError("a masked value arrived" if rows else "no rows")

        self.measure("masked rows", read)

    @task(4)
    def transaction(self) -> None:
        def write() -> None:
            with self.db.transaction():
                self.db.execute("INSERT INTO scratch VALUES (%s, %s)", (1, marker()))
                self.db.execute("DELETE FROM scratch WHERE txt = %s", (marker(),))

        self.measure("transaction", write)

    @task(4)
    def pipeline(self) -> None:
        def run() -> None:
            with self.db.pipeline():
                cursors = [self.db.execute("SELECT %s AS marker, %s::int", (marker(), i)) for i in range(10)]
            if [c.fetchall()[0][1] for c in cursors] != list(range(10)):
                raise AssertionError("answers are out of step")

        self.measure("pipeline of 10", run)

    @task(4)
    def fail(self) -> None:
        def run() -> None:
            try:
                self.db.execute(f"SELECT 1 / 0 /* {marker()} */")
            except psycopg.errors.DivisionByZero:
                return
            raise AssertionError("the error is missing")

        self.measure("error", run)

    @task(2)
    def refused(self) -> None:
        def run() -> None:
            try:
                self.db.execute(f"SELECT upper(ssn) FROM customers /* {marker()} */")
            except psycopg.errors.InsufficientPrivilege:
                return
            raise AssertionError("it was not refused")

        self.measure("refused statement", run)

    @task(1)
    def cancel(self) -> None:
        def run() -> None:
            gevent.spawn_later(0.2, self.db.cancel_safe, timeout=10)
            try:
                self.db.execute(f"SELECT pg_sleep(20) /* {marker()} */")
            except psycopg.errors.QueryCanceled:
                return
            raise AssertionError("it was not cancelled")

        self.measure("cancel", run)

    @task(1)
    def copy_out(self) -> None:
        def run() -> None:
            with self.db.cursor().copy(f"COPY orders TO STDOUT /* {marker()} */") as copy:
                if sum(bytes(part).count(b"\n") for part in copy) != 100:
                    raise AssertionError("rows are missing")

        self.measure("copy out", run)

    @task(1)
    def approval(self) -> None:
        query = f"UPDATE scratch SET txt = txt /* {marker()} */"
        self.measure("approval (waits for a person)", lambda: self.db.execute(query))

    @task(1)
    def come_and_go(self) -> None:
        self.db.close()
        self.measure("connect", self._connect)
