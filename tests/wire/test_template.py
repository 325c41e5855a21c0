"""Verdicts for texts that differ in their constants: which share one, and what the journal says of them."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Any

from hoopfast import model
from hoopfast.analysis.constants import free_constants
from hoopfast.analysis.parse import parse
from tests.support import wire
from tests.support.relay import READY, RelayBench, complete, error, expect, row, row_description


def free(bench: RelayBench, event: tuple[Any, ...]) -> None:
    """Allow, with the free constants of the real analysis."""
    sql = event[5].decode()
    places = array("I", free_constants(sql, parse(sql))).tobytes()
    bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, 0, label=b'{"verdict":"allow"}', free_constants=places)


def run(bench: RelayBench, pair: Any, *texts: str) -> int:
    """Run queries; how many verdicts they needed."""
    before = len(bench.of_kind("verdict"))
    for text in texts:
        pair.client.sendall(wire.query(text))
        expect(pair.upstream, wire.query(text))
        answer = row_description(("a", 0, 0, 23, 0)) + row(b"1") + complete("SELECT 1") + READY
        pair.upstream.sendall(answer)
        expect(pair.client, answer)
    return len(bench.of_kind("verdict")) - before


def test_other_constants_need_no_other_verdict(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=free) as bench:
        pair = bench.session()
        texts = [f"SELECT a FROM t WHERE id = {n} AND name = '{'x' * n}'" for n in range(1, 30)]
        assert run(bench, pair, *texts) == 1
        assert bench.counter("template_hits") == 28
        # Each is recorded with the text that ran.
        bench.wait(lambda: len(bench.records_of(model.KIND_OUTCOME)) == 29, "outcomes")
        own = [record.payload[8:].decode() for record in bench.records_of(model.KIND_QUERY_TEXT)]
        assert own == texts[1:]
        # Their definition carries the label, and is in the segment once.
        numbers = {struct.unpack_from("<Q", record.payload)[0] for record in bench.records_of(model.KIND_QUERY_TEXT)}
        definitions = [r.payload for r in bench.records_of(model.KIND_STATEMENT)
                       if struct.unpack_from("<Q", r.payload)[0] in numbers]
        assert len(numbers) == len(definitions) == 1 and b'{"verdict":"allow"}' in definitions[0]


def test_other_fixed_constants_kinds_and_words_do(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=free) as bench:
        pair = bench.session()
        assert run(bench, pair, "SELECT f('x') FROM t WHERE id = 5") == 1
        assert run(bench, pair, "SELECT f('x') FROM t WHERE id = 6") == 0
        for text in (
            "SELECT f('y') FROM t WHERE id = 5", "SELECT f('x') FROM u WHERE id = 5",
            "SELECT f('x') FROM t WHERE id = 5 ", "SELECT f('x') FROM t WHERE id = 5 -- 'z'",
            "SELECT f('x') FROM t WHERE id = '5'", "SELECT f('x') FROM t WHERE id = 5.0",
            "SELECT f('x') FROM t WHERE id = 5000000000", "SELECT f('x') FROM t WHERE id = -5",
            "SELECT f('x') FROM t WHERE id = 5e1", "SELECT f('x') FROM t WHERE 5 = 5",
            "SELECT f(1) FROM t WHERE id = 5",
        ):
            assert run(bench, pair, text) == 1, text
        # The shape is known by now, the fixed constant is not.
        assert run(bench, pair, "SELECT f('new') FROM t WHERE id = 6") == 1
        assert run(bench, pair, "SELECT f('new') FROM t WHERE id = 7") == 0


def test_a_text_cannot_pretend_to_be_a_template(tmp_path: Path) -> None:
    def deny(bench: RelayBench, event: tuple[Any, ...]) -> None:
        frame = error("42501", "no")
        bench.relay.decide(event[1], event[2], model.ACTION_DENY, 0, label=b'{"verdict":"deny"}', error=frame)

    with RelayBench(tmp_path, decide=free) as bench:
        pair = bench.session()
        run(bench, pair, "SELECT a FROM t WHERE id = 5")
        bench.decide = deny
        for value in ("\2", "\1", "'\2'"):
            text = f"SELECT a FROM t WHERE id = {value}"
            pair.client.sendall(wire.query(text))
            pair.upstream.recv(4096)
            pair.upstream.sendall(error("42601", "syntax error") + READY)
            expect(pair.client, error("42501", "no") + READY)


def test_contexts_do_not_share_templates(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=free) as bench:
        bench.relay.define_context(2, [], [])
        first, second = bench.session(1), bench.session(2)
        assert run(bench, first, "SELECT a FROM t WHERE id = 5") == 1
        assert run(bench, second, "SELECT a FROM t WHERE id = 6", "SELECT a FROM t WHERE id = 7") == 1
        assert run(bench, first, "SELECT a FROM t WHERE id = 8") == 0


def test_a_parsed_statement_has_its_own_text(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=free) as bench:
        pair = bench.session()
        for number in (5, 6):
            text = f"SELECT a FROM t WHERE id = {number} AND b = $1"
            name = f"s{number}"
            messages = wire.parse(text, name, [23]) + wire.bind([b"1"], name=name) + wire.execute() + wire.SYNC
            pair.client.sendall(messages)
            expect(pair.upstream, messages)
            answer = b"1\0\0\0\x04" + b"2\0\0\0\x04" + row(b"5") + complete("SELECT 1") + READY
            pair.upstream.sendall(answer)
            expect(pair.client, answer)
        assert len(bench.of_kind("verdict")) == 1
        bench.wait(lambda: len(bench.records_of(model.KIND_OUTCOME)) == 2, "outcomes")
        # Other parameter types are another statement.
        messages = wire.parse("SELECT a FROM t WHERE id = 7 AND b = $1", "s7", [25]) + wire.SYNC
        pair.client.sendall(messages)
        expect(pair.upstream, messages)
        assert len(bench.of_kind("verdict")) == 2
        texts = [record.payload for record in bench.records_of(model.KIND_STATEMENT)]
        assert any(text.endswith(b"id = 6 AND b = $1") for text in texts)


def test_long_texts_and_many_shapes_stay_within_the_cache(tmp_path: Path) -> None:
    with RelayBench(tmp_path, decide=free, cache_bytes=1 << 20) as bench:
        bench.segment_bytes = 1 << 24
        pair = bench.session()
        for number in range(40):
            text = f"INSERT INTO t{number} VALUES " + ", ".join(f"({n}, 'v{n}')" for n in range(2000))
            assert run(bench, pair, text) == 1
        assert run(bench, pair, text.replace("'v7'", "'other'")) == 0
