"""Which errors and notices a masked session gets whole: its own statements' yes, what hidden columns may be in, no.

Constraints and triggers can be put off to the end of the transaction. Then the error of a touched statement arrives as
the answer to something harmless: COMMIT, Sync, SET CONSTRAINTS, or whatever ends a transaction by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hoopfast import model
from tests.support import wire
from tests.support.relay import READY, Pair, RelayBench, complete, error, expect, read_frames

SECRET = "Key (ssn)=(078-05-1120) already exists."
TAKEN = error("23505", "duplicate key value violates unique constraint", D=SECRET, n="customers_ssn_key")
IN_BLOCK, FAILED = b"Z\0\0\0\x05T", b"Z\0\0\0\x05E"
PARSED, BOUND = b"1\0\0\0\x04", b"2\0\0\0\x04"
FLAGS = {b"touched": model.FLAG_TOUCHED, b"scrub": model.FLAG_SCRUB, b"settle": model.FLAG_SETTLES}


def bench_of(tmp_path: Path) -> RelayBench:
    """The first word of a statement says how it is judged."""

    def decide(bench: RelayBench, event: tuple[Any, ...]) -> None:
        flags = FLAGS.get(event[5].split()[0], 0)
        bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, flags, label=b"{}")

    bench = RelayBench(tmp_path, decide=decide)
    bench.relay.define_context(7, [(model.MASK_REDACT, 0, b"", b"")], [(500, 2, 0)])
    return bench


def ask(pair: Pair, sql: str, answer: bytes) -> bytes:
    """A simple Query, and what the client gets for the server's answer (whose last frame is ReadyForQuery)."""
    return exchange(pair, wire.query(sql), answer)


def exchange(pair: Pair, request: bytes, answer: bytes) -> bytes:
    pair.client.sendall(request)
    expect(pair.upstream, request)
    pair.upstream.sendall(answer)
    return b"".join(frame.body for frame in read_frames(pair.client, until="Z"))


def test_an_untouched_statement_keeps_its_errors(tmp_path: Path) -> None:
    with bench_of(tmp_path) as bench:
        pair = bench.session(7)
        assert SECRET.encode() in ask(pair, "insert into orders", TAKEN + READY)
        ask(pair, "begin", complete("BEGIN") + IN_BLOCK)
        assert SECRET.encode() in ask(pair, "insert into orders", TAKEN + FAILED)
        assert SECRET.encode() in ask(pair, "settle commit", TAKEN + READY), "nothing touched has run"
        assert bench.counter("scrubbed") == 0


@pytest.mark.parametrize("kind", ["touched", "scrub"])
def test_a_touched_statement_does_not(tmp_path: Path, kind: str) -> None:
    with bench_of(tmp_path) as bench:
        pair = bench.session(7)
        got = ask(pair, f"{kind} update", TAKEN + READY)
        assert b"078-05" not in got and b"23505" in got and b"withheld" in got
        assert SECRET.encode() in ask(pair, "insert into orders", TAKEN + READY), "another transaction"


def test_what_was_deferred_is_withheld_where_it_is_settled(tmp_path: Path) -> None:
    with bench_of(tmp_path) as bench:
        pair = bench.session(7)
        for settling in ("settle commit", "settle set constraints all immediate"):
            ask(pair, "begin", complete("BEGIN") + IN_BLOCK)
            ask(pair, "touched update", complete("UPDATE 1") + IN_BLOCK)
            assert SECRET.encode() in ask(pair, "insert into orders", TAKEN + IN_BLOCK), "it settles nothing"
            got = ask(pair, settling, wire.frame("N", TAKEN[5:]) + TAKEN + READY)
            assert b"078-05" not in got and b"23505" in got
        assert bench.counter("scrubbed") == 4


def test_sync_ends_an_implicit_transaction(tmp_path: Path) -> None:
    with bench_of(tmp_path) as bench:
        pair = bench.session(7)
        request = wire.parse("scrub update") + wire.bind() + wire.execute() + wire.SYNC
        got = exchange(pair, request, PARSED + BOUND + complete("UPDATE 1") + TAKEN + READY)
        assert b"078-05" not in got and b"23505" in got
        request = wire.parse("insert into orders") + wire.bind() + wire.execute() + wire.SYNC
        assert SECRET.encode() in exchange(pair, request, PARSED + BOUND + complete("INSERT 0 1") + TAKEN + READY)


@pytest.mark.parametrize("before", ["", "settle commit"])
def test_a_query_without_sync_before_it_ends_it_too(tmp_path: Path, before: str) -> None:
    """Also right behind a COMMIT, when the status that the server reported last is out of date."""
    with bench_of(tmp_path) as bench:
        pair = bench.session(7)
        request = answer = b""
        if before:
            ask(pair, "begin", complete("BEGIN") + IN_BLOCK)
            request = wire.parse(before) + wire.bind() + wire.execute()
            answer = PARSED + BOUND + complete("COMMIT")
        request += wire.parse("scrub update") + wire.bind() + wire.execute() + wire.query("select 1")
        answer += PARSED + BOUND + complete("UPDATE 1") + TAKEN + READY
        got = exchange(pair, request, answer)
        assert b"078-05" not in got and b"23505" in got


def test_a_transaction_that_is_open_when_masks_arrive(tmp_path: Path) -> None:
    with bench_of(tmp_path) as bench:
        pair = bench.session(1)
        ask(pair, "begin", complete("BEGIN") + IN_BLOCK)
        ask(pair, "update customers", complete("UPDATE 1") + IN_BLOCK)
        bench.relay.set_context(pair.session, 7)
        got = ask(pair, "settle commit", TAKEN + READY)
        assert b"078-05" not in got and b"23505" in got
