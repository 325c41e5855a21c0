"""The proof of the audit trail: every way of tampering is found, and where; single events are proven."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hoopfast._wire import json_lines, leaf_hashes, merkle_root
from hoopfast.audit import chain, sealing
from hoopfast.audit.chain import Proof, Signer, check_proof, key_id, key_text, parse_checkpoint, path_to, root_of
from hoopfast.audit.events import Event, encode
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.search import AuditReader
from hoopfast.audit.sinks.jsonl import JsonlSink
from hoopfast.audit.sinks.jsonl_seal import CHECKPOINTS
from hoopfast.audit.sinks.sqlite import SqliteSink
from hoopfast.audit.stored import QUERY, StoredLines
from hoopfast.audit.verify import Report, prove, verify_store
from hoopfast.audit.verify_files import verify_directory, verify_export
from hoopfast.cli import audit as audit_cli
from hoopfast.errors import AuditUnavailable, GatewayError
from tests.audit.test_decoder import Chaos, by_core, segments
from tests.audit.test_search import EVENTS, A, B, statement

BATCHES: list[list[Event]] = [
    EVENTS,
    [statement(A, 20 + n, f"SELECT {n}", error={"sqlstate": "42P01", "message": "no"} if n == 3 else None,
               rows=n, duration_us=n * 1000, outcome="error" if n == 3 else "complete") for n in range(6)],
    [statement(B, 40 + n, "UPDATE customers SET name = 'x'", tables=("customers",)) for n in range(5)],
]
COUNT = sum(map(len, BATCHES))              # 7, 6, 5: events 1-7, 8-13, 14-18


@pytest.fixture(autouse=True, scope="module")
def at_once() -> Iterator[None]:
    """A sync seals, however young the events are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "SEAL_S", 0.0)
        yield


class Kept:
    """A state directory with both stores, sealed batch by batch, and a second place for checkpoints."""

    def __init__(self, root: Path) -> None:
        self.root, self.db, self.files = root, root / "audit.db", root / "audit"
        self.second = root / "elsewhere"
        self.ring = KeyRing(root / "audit-keys")

    def fill(self, batches: list[list[Event]] = BATCHES) -> None:
        sqlite, jsonl = self.open(), JsonlSink(self.files, checkpoints=self.second)
        jsonl.restore({})
        for batch in batches:
            for sink in (sqlite, jsonl):
                sink.write(batch)
                sink.kept(sink.sync())
        sqlite.close()
        jsonl.close()

    def open(self) -> SqliteSink:
        return SqliteSink(self.db, checkpoints=self.second)

    @property
    def keys(self) -> list[Ed25519PublicKey]:
        return [known.key for known in self.ring.public()]

    def verify(self, **options: Any) -> Report:
        return verify_store(self.db, self.keys, **options)

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.db)) as db:
            for text in statements:
                db.execute(text)
            db.commit()

    def one(self, query: str) -> Any:
        with closing(sqlite3.connect(self.db)) as db:
            return db.execute(query).fetchone()[0]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Kept(tmp_path_factory.mktemp("proof") / "state")
    made.fill()
    return made.root


@pytest.fixture
def kept(master: Path, tmp_path: Path) -> Kept:
    shutil.copytree(master, tmp_path / "state")
    return Kept(tmp_path / "state")


def kinds(report: Report) -> set[str]:
    return {problem.kind for problem in report.problems}


# ---------------------------------------------------------------- trees

def reference_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + reference_root(leaves[:k]) + reference_root(leaves[k:])).digest()


@pytest.mark.parametrize("count", [*range(1, 35), 63, 64, 65, 1000])
def test_roots_and_paths_are_those_of_rfc_6962(count: int) -> None:
    lines = [b"%d" % n * (n % 5) for n in range(count)]
    leaves = leaf_hashes(b"".join(line + b"\n" for line in lines))
    expected = [hashlib.sha256(b"\0" + line).digest() for line in lines]
    assert leaves == b"".join(expected)
    root = merkle_root(leaves)
    assert root == reference_root(expected)
    for index in {0, count // 2, count - 1}:
        path = path_to(leaves, index)
        assert root_of(expected[index], path) == root
        assert len(path) <= (count - 1).bit_length()


def test_hashes_want_whole_input() -> None:
    assert leaf_hashes(b"") == b""
    for wrong in (b"", b"x" * 31, b"x" * 33):
        with pytest.raises(ValueError):
            merkle_root(wrong)
    with pytest.raises(ValueError):
        leaf_hashes(b"no end")


# ---------------------------------------------------------------- what is stored is what was hashed

@pytest.mark.parametrize("seed", range(12))
def test_rows_give_back_the_lines_that_were_hashed(tmp_path: Path, seed: int) -> None:
    """Everything a journal can hold, through the embedded store and back, byte for byte."""
    chaos = Chaos(tmp_path, seed)
    chaos.run(600)
    items = by_core(segments(chaos.journal), random.Random(seed))
    sink = SqliteSink(tmp_path / "audit.db")
    sink.write(items)
    sink.sync()
    with closing(sqlite3.connect(tmp_path / "audit.db")) as db:
        stored = StoredLines(db).lines(db.execute(f"{QUERY} ORDER BY id"))
    sink.close()
    lines = dict.fromkeys((json.loads(line)["session"], json.loads(line)["seq"]) for line in stored.splitlines())
    first: dict[tuple[str, int], bytes] = {}
    for line in json_lines(items, encode).split(b"\n")[:-1]:
        read = json.loads(line)
        first.setdefault((read["session"], read["seq"]), line)
    assert list(lines) == list(first)
    report = verify_store(tmp_path / "audit.db", [known.key for known in KeyRing(tmp_path / "audit-keys").public()])
    assert report.good, report
    assert report.events == len(first) > 100


# ---------------------------------------------------------------- whole

def test_what_the_sinks_write_is_whole(kept: Kept) -> None:
    report = kept.verify(second=kept.second)
    assert report.good, report
    assert (report.events, report.checkpoints, report.unsealed, report.recovered) == (COUNT, 3, 0, 0)
    report = verify_directory(kept.files, kept.keys, second=kept.second)
    assert report.good, report
    assert (report.events, report.checkpoints, report.unsealed) == (COUNT, 3, 0)


def test_private_keys_are_private(kept: Kept) -> None:
    (path,) = (kept.root / "audit-keys").glob("*.key")
    assert path.stat().st_mode & 0o777 == 0o600
    assert (kept.root / "audit-keys").stat().st_mode & 0o777 == 0o700


def kill(sink: SqliteSink) -> None:
    """What is not in the file by now never gets there."""
    sink._db.close()


def test_unsealed_events_are_counted_and_sealed_at_the_next_start(
    kept: Kept, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "SEAL_S", 1e9)
    sink = kept.open()
    sink.write([statement(A, 90, "SELECT 90")])
    sink.kept(sink.sync())
    kill(sink)
    report = kept.verify()
    assert (report.good, report.unsealed) == (True, 1)
    sink = kept.open()
    sink.write([statement(A, 90, "SELECT 90"), statement(A, 91, "SELECT 91")])      # the shipper sends it again
    sink.close()
    report = kept.verify(second=kept.second)
    assert (report.good, report.unsealed, report.recovered, report.events) == (True, 0, 1, COUNT + 2)


def test_an_identity_that_is_known_better_than_the_event_says_is_no_damage(kept: Kept) -> None:
    """After a lost snapshot of the shipper, events of an open session have no user, the store still has."""
    sink = kept.open()
    sink.write([msgspec.structs.replace(statement(A, 95, "SELECT 95"), user="", groups=())])
    sink.sync()
    sink.close()
    assert kept.verify().good


def test_large_batches_are_sealed_with_their_events(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SEAL_S", 1e9)
    monkeypatch.setattr(sealing, "SEAL_MAX", 10)
    sink = kept.open()
    sink.write([statement(A, 100 + n, f"SELECT {n}") for n in range(9)])
    assert kept.verify().unsealed == 9
    sink.write([statement(A, 200, "SELECT 1")])
    assert kept.verify().unsealed == 0
    sink.close()


def test_a_change_before_the_seal_shows_after_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SEAL_S", 1e9)
    sink = kept.open()
    sink.write([statement(A, 90, "SELECT 90")])
    kept.sql("UPDATE events SET rows = 7 WHERE id = 19")
    sink.close()
    assert kinds(kept.verify()) == {"changed"}


def test_events_without_company_are_sealed_all_the_same(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipper syncs only what is new, and says once a second that it is kept."""
    monkeypatch.setattr(sealing, "SEAL_S", 0.2)
    sink = kept.open()
    sink.write([statement(A, 90, "SELECT 90")])
    mark = sink.sync()
    assert kept.verify().unsealed == 1
    time.sleep(0.21)
    sink.kept(mark)
    assert kept.verify().unsealed == 0
    sink.close()


def test_much_that_is_found_unsealed_gets_many_checkpoints(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoopfast.audit.sinks.sqlite._PAGE", 4)
    kept.sql("DELETE FROM checkpoints")
    monkeypatch.setattr(sealing, "SEAL_MAX", 5)
    kept.open().close()
    report = kept.verify()
    assert (report.good, report.recovered, report.checkpoints, report.unsealed) == (True, COUNT, 3, 0)


def test_events_removed_on_purpose_can_be_left_out(kept: Kept) -> None:
    kept.sql("DELETE FROM events WHERE id <= 7")
    assert not kept.verify().good
    report = kept.verify(begin=2)
    assert (report.good, report.events, report.checkpoints) == (True, COUNT - 7, 3), report


def test_a_failed_transaction_leaves_no_trace_in_the_chain(kept: Kept) -> None:
    sink = kept.open()
    sink.write([statement(A, 200, "SELECT 200")])
    broken: Any = [statement(A, 201, "SELECT 201"), object()]
    with pytest.raises(AttributeError):
        sink.write(broken)
    sink.write([statement(A, 202, "SELECT 202")])
    sink.sync()
    sink.close()
    report = kept.verify()
    assert (report.good, report.events) == (True, COUNT + 2)


# ---------------------------------------------------------------- tampering with the embedded store

RENUMBER = "UPDATE events SET id = -id WHERE id > {0}; UPDATE events SET id = -id {1} WHERE id < 0"
COPY = """INSERT INTO events SELECT {}, session, 777, at, definition, kind, rows, duration_us, detail
 FROM events WHERE id = 9"""
EXCHANGE = """UPDATE events SET id = 999 WHERE id = {0}; UPDATE events SET id = {0} WHERE id = {1};\
 UPDATE events SET id = {1} WHERE id = 999"""
TAMPERED: dict[str, tuple[str, str, str]] = {
    "a count": ("UPDATE events SET rows = 0 WHERE id = 11", "changed", "event 11 (0000000000000001/23)"),
    "a duration": ("UPDATE events SET duration_us = 5 WHERE id = 12", "changed", "event 12"),
    "a detail": ("UPDATE events SET detail = '{}' WHERE id = 11", "changed", "event 11"),
    "no detail": ("UPDATE events SET detail = 'x' WHERE id = 11", "changed", "event 11"),
    "a blob": ("UPDATE events SET detail = x'ff' WHERE id = 11", "changed", "event 11"),
    "a time": ("UPDATE events SET at = at + 1 WHERE id = 9", "changed", "event 9"),
    "an outcome": ("UPDATE events SET kind = 1 WHERE id = 4", "changed", "event 4"),
    "no outcome": ("UPDATE events SET kind = 99 WHERE id = 4", "changed", "event 4"),
    "a note of the gateway": (
        "UPDATE events SET detail = replace(detail, 'eve', 'bob') WHERE id = 7",
        "changed", "event 7"),
    "a text": ("UPDATE definitions SET sql = 'SELECT 1' WHERE sql LIKE 'DELETE%'", "changed", "event 4"),
    "tables": ("UPDATE definitions SET tables = '[]' WHERE sql LIKE 'DELETE%'", "changed", "event 4"),
    "a definition lost": ("DELETE FROM definitions WHERE sql LIKE 'DELETE%'", "changed", "event 4"),
    "another session": ("UPDATE events SET session = 2, seq = 999 WHERE id = 9", "changed", "event 9"),
    "a person": (
        "UPDATE sessions SET header = replace(header, 'bob', 'eve') WHERE session LIKE '%2'",
        "changed", "event 4"),
    "removed": ("DELETE FROM events WHERE id = 9", "removed", "event 9 was removed"),
    "removed and closed up": (
        "DELETE FROM events WHERE id = 9; " + RENUMBER.format(9, "- 1"), "removed", "event 9 was removed"),
    "a whole batch": ("DELETE FROM events WHERE id BETWEEN 8 AND 13", "removed", "event 8 was removed"),
    "the first": ("DELETE FROM events WHERE id = 1", "removed", "event 1 was removed"),
    "the last": ("DELETE FROM events WHERE id >= 17", "cut", "events 17 to 18"),
    "much of the end": ("DELETE FROM events WHERE id >= 10", "cut", "events 14 to 18"),
    "put in": (
        RENUMBER.format(9, "+ 1") + "; " + COPY.format(10), "inserted", "event 10 (0000000000000001/777)"),
    "put in front": (COPY.format(-5), "inserted", "1 events stand before"),
    "two exchanged": (EXCHANGE.format(9, 11), "reordered", "event 9"),
    "two exchanged far apart": (EXCHANGE.format(2, 17), "changed", "event 17"),
    "two exchanged between neighbours": (EXCHANGE.format(9, 15), "reordered", "outside of their places"),
    "leaves too": (
        "UPDATE events SET rows = 9 WHERE id = 9; UPDATE checkpoints SET leaves = zeroblob(192) WHERE number = 2",
        "changed", "events 8 to 13 are not what was sealed"),
    "a checkpoint": (
        "UPDATE checkpoints SET line = replace(line, '\"count\":6', '\"count\":5')",
        "checkpoint", "signature"),
    "spelling of a checkpoint": ("UPDATE checkpoints SET line = replace(line, ',', ', ')", "checkpoint", "damaged"),
    "a checkpoint less": ("DELETE FROM checkpoints WHERE number = 2", "checkpoint", "follows checkpoint 1"),
    "the first checkpoint": ("DELETE FROM checkpoints WHERE number = 1", "removed", "checkpoints before 2"),
    "checkpoints exchanged": ("UPDATE checkpoints SET number = -number; UPDATE checkpoints SET number = 4 + number",
                              "checkpoint", "stands in the place of"),
    "who a session is listed for": (
        "UPDATE sessions SET user = 'x' WHERE session LIKE '%2'",
        "index", "0000000000000002"),
    "when a session ended": ("UPDATE sessions SET ended_at = NULL, reason = NULL", "index", "0000000000000002"),
    "tables of a definition": (
        "DELETE FROM definition_names WHERE name = 'customers'",
        "index", "not listed under its tables"),
    "an error's mark": ("DELETE FROM marks WHERE value = '42P01'", "index", "event 11 is not listed"),
    "a user's mark": ("DELETE FROM marks WHERE value = 'eve'", "index", "event 7 is not listed"),
    "where times are looked for": ("UPDATE spans SET latest = earliest", "index", "events from 0 on"),
    "what kinds mean": ("UPDATE kinds SET outcome = 'complete' WHERE outcome = 'denied'", "index", "kinds"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_with_the_store(kept: Kept, what: str) -> None:
    script, kind, said = TAMPERED[what]
    kept.sql("DROP INDEX events_name", *script.split("; "))
    report = kept.verify()
    assert not report.good
    assert kind in kinds(report), report
    assert any(said in problem.text for problem in report.problems if problem.kind == kind), report


@pytest.mark.parametrize("what", ["a count", "removed", "put in", "two exchanged", "removed and closed up"])
def test_what_is_told_is_what_was_done_and_no_more(kept: Kept, what: str) -> None:
    script, kind, _ = TAMPERED[what]
    kept.sql("DROP INDEX events_name", *script.split("; "))
    told = [problem for problem in kept.verify().problems if problem.checkpoint == 2]
    assert (told[0].kind, len([p for p in told if p.kind == kind])) == (kind, 2 if what == "two exchanged" else 1)


def test_a_tail_cut_with_its_checkpoints_shows_in_the_second_place(kept: Kept) -> None:
    kept.sql("DELETE FROM events WHERE id > 7", "DELETE FROM checkpoints WHERE number > 1")
    assert kept.verify().good                              # nothing in the store can show it
    report = kept.verify(second=kept.second)
    assert kinds(report) == {"cut"}
    assert "events 8 to 13" in report.problems[0].text


def test_a_store_that_was_cut_and_written_on_shows_in_the_second_place(kept: Kept, caplog: Any) -> None:
    kept.sql("DELETE FROM events WHERE id > 7", "DELETE FROM checkpoints WHERE number > 1")
    sink = kept.open()
    for n in range(3):
        sink.write([statement(A, 300 + n, "SELECT 300")])
        sink.sync()
    sink.close()
    assert "cut back or replaced" in caplog.text
    assert kept.verify().good
    report = kept.verify(second=kept.second)
    assert kinds(report) == {"checkpoint"}
    assert "checkpoint 2 in elsewhere is another one" in report.problems[0].text


def test_the_second_place_catches_up(kept: Kept) -> None:
    lines = kept.second.read_bytes().splitlines()
    of_store = [line for line in lines if parse_checkpoint(line).place == ""]
    kept.second.write_bytes(of_store[0] + b"\n" + of_store[1][:40])         # torn by a full disk
    sink = kept.open()
    sink.write([statement(A, 400, "SELECT 400")])
    sink.sync()
    sink.close()
    report = kept.verify(second=kept.second)
    assert report.good, report
    assert "4 checkpoints in elsewhere were compared" in report.notes
    kept.second.write_bytes(b"")
    assert kinds(kept.verify(second=kept.second)) == {"checkpoint"}


def test_a_second_place_that_fails_holds_up_nothing(kept: Kept, caplog: Any) -> None:
    kept.second.unlink()
    kept.second.mkdir()
    sink = kept.open()
    sink.write([statement(A, 400, "SELECT 400")])
    sink.sync()
    assert "second place" in caplog.text
    kept.second.rmdir()
    sink.write([statement(A, 401, "SELECT 401")])
    sink.sync()
    sink.close()
    assert kept.verify(second=kept.second).good


# ---------------------------------------------------------------- keys

def forge(kept: Kept, signer: Signer) -> None:
    """Everything rewritten, with all hashes right: only the key is another one."""
    with closing(sqlite3.connect(kept.db)) as db:
        db.execute("UPDATE definitions SET sql = 'SELECT 1' WHERE sql LIKE 'DELETE%'")
        head = None
        for number, first, last in db.execute("SELECT number, first, last FROM checkpoints").fetchall():
            leaves = leaf_hashes(StoredLines(db).lines(db.execute(f"{QUERY} WHERE id BETWEEN ? AND ?", (first, last))))
            head = chain.after(head, log="f" * 16, at="2026-01-01T00:00:00.000000000Z", signer=signer, leaves=leaves)
            db.execute("UPDATE checkpoints SET line=?, leaves=? WHERE number=?", (head.line().decode(), leaves, number))
        db.commit()


def test_a_forged_chain_is_not_trusted(kept: Kept) -> None:
    private = Ed25519PrivateKey.generate()
    forge(kept, Signer(key_id(private.public_key()), private))
    assert verify_store(kept.db, [private.public_key()]).good
    assert kinds(kept.verify()) == {"key"}
    with pytest.raises(AuditUnavailable, match="not signed by a key of this gateway"):
        kept.open()


def test_rotation_is_signed_by_the_old_key_and_both_pins_work(kept: Kept) -> None:
    (old,) = kept.ring.public()
    kept.ring.rotate()
    more = [[statement(A, 500, "SELECT 500")], [statement(A, 501, "SELECT 501")]]
    sink = kept.open()
    for batch in more:
        sink.write(batch)
        sink.sync()
    sink.close()
    first, second = kept.ring.public()
    assert (first.id, second.signs) == (old.id, True)
    rotation = parse_checkpoint(kept.one("SELECT line FROM checkpoints WHERE number = 4").encode())
    assert (rotation.kind, rotation.key, rotation.next_key) == ("key", old.id, key_text(second.key))
    for pinned in ([old.key], [second.key]):
        report = verify_store(kept.db, pinned)
        assert report.good, report
    assert not kept.ring.can_sign(old.id)                  # its private part is gone
    stranger = Ed25519PrivateKey.generate().public_key()
    assert kinds(verify_store(kept.db, [stranger])) == {"key"}


def test_private_keys_stay_until_every_chain_has_rotated(kept: Kept) -> None:
    (old,) = kept.ring.public()
    ring = KeyRing(kept.root / "audit-keys")
    sqlite, jsonl = SqliteSink(kept.db, keys=ring), JsonlSink(kept.files, keys=ring)
    jsonl.restore({})
    kept.ring.rotate()
    sqlite.write([statement(A, 500, "SELECT 500")])
    sqlite.sync()
    assert ring.can_sign(old.id)
    jsonl.write([statement(A, 500, "SELECT 500")])
    jsonl.kept(jsonl.sync())
    assert not ring.can_sign(old.id)
    sqlite.close()
    jsonl.close()
    assert kept.verify().good
    assert verify_directory(kept.files, kept.keys).good


def test_an_old_key_signs_nothing_after_its_rotation(kept: Kept) -> None:
    (old,) = kept.ring.public()
    signer = kept.ring.signer(old.id)
    kept.ring.rotate()
    sink = kept.open()
    sink.write([statement(A, 500, "SELECT 500")])
    sink.sync()
    sink.close()
    with closing(sqlite3.connect(kept.db)) as db:
        (line,) = db.execute("SELECT line FROM checkpoints ORDER BY number DESC LIMIT 1").fetchone()
        leaves = leaf_hashes(b"anything\n")
        later = chain.after(parse_checkpoint(line.encode()), log="", at="", signer=signer, leaves=leaves)
        row = (later.number, later.first, later.last, later.line().decode(), leaves)
        db.execute("INSERT INTO checkpoints VALUES (?,?,?,?,?)", row)
        db.commit()
    newer = [known.key for known in kept.ring.public() if known.signs]
    assert "key" in kinds(verify_store(kept.db, newer)) or "checkpoint" in kinds(verify_store(kept.db, newer))


def test_a_lost_key_stops_nothing_and_shows(kept: Kept, caplog: Any) -> None:
    (old,) = kept.ring.public()
    for path in (kept.root / "audit-keys").glob("*.key"):
        path.unlink()
    with pytest.raises(AuditUnavailable, match="keys rotate"):
        kept.open()
    kept.ring.rotate()
    sink = kept.open()
    sink.write([statement(A, 600, "SELECT 600")])
    sink.sync()
    sink.close()
    assert "lost" in caplog.text
    assert not verify_store(kept.db, [old.key]).good       # the old key does not vouch for the new one
    assert kept.verify().good                              # both are trusted


# ---------------------------------------------------------------- single events

def test_a_proof_needs_neither_store_nor_gateway(kept: Kept) -> None:
    for event in ("1", "7", f"{A}/23", "18"):
        proof = msgspec.json.decode(msgspec.json.encode(prove(kept.db, event)), type=Proof)
        assert check_proof(proof, kept.keys) == []
    assert json.loads(proof.event)["seq"] == 44
    changed = msgspec.structs.replace(proof, event=proof.event.replace("complete", "denied"))
    assert "is not among those" in check_proof(changed, kept.keys)[0]
    moved = msgspec.structs.replace(proof, checkpoint=prove(kept.db, "1").checkpoint)
    assert "is not among those" in check_proof(moved, kept.keys)[0]
    forged = msgspec.structs.replace(proof, checkpoint=msgspec.structs.replace(proof.checkpoint, at="2020"))
    assert "signature" in check_proof(forged, kept.keys)[0]
    assert "not among the given keys" in check_proof(proof, [])[0]


def test_what_cannot_be_proven_is_explained(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SEAL_S", 1e9)
    sink = kept.open()
    sink.write([statement(A, 700, "SELECT 700")])
    kill(sink)
    kept.sql("UPDATE events SET rows = 99 WHERE id = 9")
    for event, said in (("999", "has no event"), ("x", "names no event"), ("19", "under no checkpoint yet"),
                        ("9", "is not what checkpoint 2 sealed"), (f"{A}/9999", "has no event")):
        with pytest.raises(GatewayError, match=said):
            prove(kept.db, event)


# ---------------------------------------------------------------- files of the jsonl sink

def remove(lines: list[bytes]) -> None:
    del lines[9]


def change(lines: list[bytes]) -> None:
    lines[9] = lines[9].replace(b'"ana"', b'"eve"')


def insert(lines: list[bytes]) -> None:
    lines.insert(9, lines[9].replace(b'"seq":', b'"seq":7'))


def exchange(lines: list[bytes]) -> None:
    lines[8], lines[10] = lines[10], lines[8]


def cut(lines: list[bytes]) -> None:
    del lines[15:]


def cut_more(lines: list[bytes]) -> None:
    del lines[13:]


@pytest.mark.parametrize(("how", "kind", "number"), [
    (remove, "removed", 2), (change, "changed", 2), (insert, "inserted", 2), (exchange, "changed", 2), (cut, "cut", 3),
    (cut_more, "cut", 3),
])
def test_tampering_with_files(kept: Kept, how: Callable[[list[bytes]], None], kind: str, number: int) -> None:
    (path,) = kept.files.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    how(lines)
    path.write_bytes(b"".join(lines))
    report = verify_directory(kept.files, kept.keys)
    assert [(problem.kind, problem.checkpoint) for problem in report.problems] == [(kind, number)]


def test_files_removed_on_purpose_can_be_left_out(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "audit-keys")
    sink = JsonlSink(tmp_path / "audit", rotate_bytes=1)
    sink.restore({})
    for batch in BATCHES:
        sink.write(batch)
        sink.kept(sink.sync())
    sink.close()
    keys = [known.key for known in ring.public()]
    assert verify_directory(tmp_path / "audit", keys).good
    names = sorted(path.name for path in (tmp_path / "audit").glob("events-*"))
    assert [name.endswith(".zst") for name in names] == [False, True, True] or len(names) == 3
    first = next(path for path in (tmp_path / "audit").glob("events-*") if path.name.count(".") == 2 - 0
                 and path.suffix == ".zst" and ".1." not in path.name)
    first.unlink()
    report = verify_directory(tmp_path / "audit", keys)
    assert "removed" in kinds(report)
    assert "--from 2 on" in report.problems[0].text
    report = verify_directory(tmp_path / "audit", keys, begin=2)
    assert report.good, report
    assert report.events == COUNT - 7


def test_checkpoints_of_files_survive_a_torn_line_and_a_lost_mark(kept: Kept) -> None:
    path = kept.files / CHECKPOINTS
    path.write_bytes(path.read_bytes() + b'{"version":1,"ki')
    sink = JsonlSink(kept.files)
    sink.restore({})
    sink.write([statement(A, 800, "SELECT 800")])
    sink.kept(sink.sync())
    sink.close()
    report = verify_directory(kept.files, kept.keys)
    assert (report.good, report.events, report.checkpoints) == (True, COUNT + 1, 4)


def test_files_without_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="has no checkpoints"):
        verify_directory(tmp_path, [])


# ---------------------------------------------------------------- exports

@pytest.fixture
def exported(kept: Kept) -> tuple[Path, Path]:
    reader = AuditReader(kept.db)
    events, checkpoints = kept.root / "events.jsonl", kept.root / "checkpoints.jsonl"
    events.write_bytes(b"".join(line + b"\n" for line in reader.export()))
    reader.close()
    shown = CliRunner().invoke(audit_cli.command, ["checkpoints", "export", str(kept.db), "-o", str(checkpoints)])
    assert shown.exit_code == 0, shown.output
    return events, checkpoints


def test_an_export_is_checked_like_its_store(kept: Kept, exported: tuple[Path, Path]) -> None:
    report = verify_export(*exported, kept.keys)
    assert (report.good, report.events, report.checkpoints) == (True, COUNT, 3)


@pytest.mark.parametrize(("how", "kind"), [
    (remove, "removed"), (change, "changed"), (exchange, "reordered"), (cut, "cut"), (cut_more, "cut"),
    (lambda lines: lines.insert(9, lines[9]), "reordered"),
])
def test_tampering_with_an_export(
    kept: Kept, exported: tuple[Path, Path], how: Callable[[list[bytes]], None], kind: str,
) -> None:
    lines = exported[0].read_bytes().splitlines(keepends=True)
    how(lines)
    exported[0].write_bytes(b"".join(lines))
    report = verify_export(*exported, kept.keys)
    assert kind in kinds(report), report


# ---------------------------------------------------------------- the command

def run(kept: Kept, *arguments: str) -> Result:
    config = kept.root.parent / "hoopfast.yaml"
    config.write_text("state_dir: state\naudit: {checkpoints: elsewhere}\n")
    return CliRunner().invoke(audit_cli.command, [*arguments, "-c", str(config)])


def test_verify_tells_whole_from_tampered(kept: Kept) -> None:
    shown = run(kept, "verify")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count(": whole") == 2
    assert "18 events under 3 checkpoints" in shown.output
    kept.sql("UPDATE events SET rows = 77 WHERE id = 9")
    shown = run(kept, "verify")
    assert shown.exit_code == 1
    assert "changed: event 9 (0000000000000001/21) was changed" in shown.output
    assert json.loads(run(kept, "verify", "--json").output)[0]["problems"][0]["kind"] == "changed"


def test_keys_are_shown_rotated_and_pinned(kept: Kept) -> None:
    (line,) = run(kept, "keys", "show").output.splitlines()
    text = line.split()[0]
    assert run(kept, "verify", "--key", text).exit_code == 0
    other = key_text(Ed25519PrivateKey.generate().public_key())
    assert run(kept, "verify", "--key", other).exit_code == 1
    assert run(kept, "verify", "--key", "nonsense").exit_code == 2
    pem = kept.root / "key.pem"
    pem.write_text(run(kept, "keys", "show", "--pem").output)
    assert run(kept, "verify", "--key", str(pem)).exit_code == 0
    assert "signs from the next checkpoint on" in run(kept, "keys", "rotate").output
    assert [line.split()[2] for line in run(kept, "keys", "show").output.splitlines()] == ["earlier", "signs"]


def test_a_proof_by_command(kept: Kept) -> None:
    proof = kept.root / "proof.json"
    assert run(kept, "prove", f"{A}/23", "-o", str(proof)).exit_code == 0
    shown = run(kept, "verify", "--proof", str(proof))
    assert shown.exit_code == 0, shown.output
    assert "proven: sealed by key" in shown.output
    proof.write_text(proof.read_text().replace("SELECT 3", "SELECT 4"))
    assert run(kept, "verify", "--proof", str(proof)).exit_code == 1
    assert run(kept, "prove", "4711").exit_code == 1
