"""Protection of recorded values: hidden and put back, sealed and opened, through snapshots, clones and erasures."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pglast.parser import scan

from hoopfast.audit.builder import Item, as_batch, as_events
from hoopfast.audit.events import Statement, decode, encode
from hoopfast.audit.protected import SHOWN, hide_error, hide_literals, hide_parameters, revealed
from hoopfast.audit.sinks.sqlite import SqliteSink
from hoopfast.audit.stored import QUERY, StoredLines
from hoopfast.audit.streams import WorkerStream
from hoopfast.audit.typed import Raw
from hoopfast.audit.vault import CannotOpen, PersonKeys, RecoveryKeys, Vault, open_text, read_private
from hoopfast.errors import AuditUnavailable
from tests.audit.journal_writer import WALL, JournalWriter, error_body, row_description

ALL = {"literals": "all", "parameters": "all", "error": True, "results": True}


def places(sql: str, *constants: str) -> list[int]:
    """Their places among the tokens."""
    return [n for n, token in enumerate(scan(sql)) if sql[token.start : token.end + 1] in constants]


class Home:
    """A state directory with a journal, read as the shipper does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = JournalWriter(directory)
        self.vault = Vault(directory)
        self.stream = WorkerStream(directory, 0, 1000, self.vault)
        self.items: list[Item] = []

    def read(self) -> list[Statement]:
        self.items = []
        self.stream.read(self.items, 1000, live=True)
        return [event for event in as_events(self.items) if isinstance(event, Statement)]

    def open(self, event: Statement) -> dict[str, Any]:
        private = read_private(next((self.directory / "recovery-keys").glob("*.key")))
        assert event.protected is not msgspec.UNSET
        parts = {name: open_text(text, private, PersonKeys(self.directory)) for name, text in event.protected.items()}
        return revealed(msgspec.to_builtins(event), parts)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(("sql", "constants", "shown"), [
    ("SELECT 'a', 'bcde' /* c */", ["'bcde'"], "SELECT 'a', '***' /* c */"),
    ("SELECT 'bcde', x = 'bcde'", ["'bcde'"], "SELECT '***', x = '***'"),
    ("SELECT E'\\'', $$b$$, B'1', U&'d', N'e', 1.5, true", ["E'\\''", "$$b$$", "B'1'", "U&'d'", "'e'", "1.5", "true"],
     "SELECT '***', '***', '***', '***', N'***', '***', '***'"),
    ("SELECT 'ü€', 'ü'", ["'ü'"], "SELECT 'ü€', '***'"),
])
def test_literals_are_hidden_and_put_back(sql: str, constants: list[str], shown: str) -> None:
    text, hidden, _ = hide_literals(sql, places(sql, *constants))
    assert text == shown
    assert revealed({"sql": text}, {"sql": msgspec.json.encode(hidden)})["sql"] == sql


def test_a_sign_is_part_of_its_number() -> None:
    sql = "UPDATE t SET x = -5"
    assert hide_literals(sql, places(sql, "-"))[0] == "UPDATE t SET x = '***'"


@pytest.mark.parametrize(("sql", "literals"), [
    ("SELECT 1", "text"),
    ("SELECT 'open", "all"), ("SELECT 'open", [1]), ("SELECT 1", [7]), ("SELECT x", [1]), ("SELECT -", [1]),
])
def test_what_cannot_be_told_apart_is_hidden_whole(sql: str, literals: Any) -> None:
    assert hide_literals(sql, literals) == ("'***'", [(0, sql)], True)


def test_all_literals_and_comments() -> None:
    assert hide_literals("SELECT 'a', 1 -- b", "all")[0] == "SELECT '***', '***' -- b"


def test_parameters_errors_and_rows() -> None:
    shown, hidden = hide_parameters(["a", None, Raw(5, "\\x00")], [1, 2, 3, 4])
    assert shown == (SHOWN, None, SHOWN)
    assert hidden == {1: "a", 3: Raw(5, "\\x00")}
    error, secret = hide_error({"sqlstate": "23505", "message": "m", "detail": "d", "constraint": "c", "X": "new"})
    assert error == {"sqlstate": "23505", "message": SHOWN, "detail": SHOWN, "constraint": "c", "X": SHOWN}
    assert secret == {"message": "m", "detail": "d", "X": "new"}


def test_a_statement_of_each_kind(home: Home) -> None:
    journal, sql = home.journal, "UPDATE customers SET ssn = 'SECRET-1' WHERE id = 5"
    journal.start(1)
    intent = journal.query(1, sql, protect={"literals": places(sql, "'SECRET-1'"), "error": True})
    journal.outcome(1, intent, "", how="E", error=error_body("23505", "SECRET-1 is there"))
    other = sql.replace("SECRET-1", "SECRET-22")
    journal.outcome(1, journal.query_text(1, 1, other), "UPDATE 1")
    journal.define(2, "SELECT ssn FROM customers WHERE ssn = $1 AND id = $2", (25, 23),
                   protect={"parameters": [1], "results": True})
    bind = journal.bind(1, 2, [b"SECRET-3", struct.pack("!i", 7)], formats=(0, 1), statement="s1", portal="p")
    run = journal.execute(1, 2, bind, portal="p")
    journal.result(1, run, row_description(("ssn", 25, 0)))
    journal.outcome(1, run)
    journal.define(3, "", protect=ALL | {"literals": []})
    call = struct.pack("!Ihhi", 871, 0, 1, 8) + b"SECRET-4" + struct.pack("!h", 0)
    journal.outcome(1, journal.function(1, 3, call))
    failed, templated, prepared, called = events = home.read()
    for event in events:
        assert b"SECRET-" not in encode(event)
    assert failed.sql == templated.sql == "UPDATE customers SET ssn = '***' WHERE id = 5"
    assert home.open(failed)["sql"] == sql
    assert home.open(failed)["error"]["message"] == "SECRET-1 is there"
    assert home.open(templated)["sql"] == other
    assert (prepared.parameters, prepared.statement_name, prepared.portal) == ((SHOWN, "7"), "s1", "p")
    assert home.open(prepared)["parameters"] == ["SECRET-3", "7"]
    assert called.sql == "function call 871"
    assert home.open(called)["parameters"] == ["SECRET-4"]


def test_a_bind_that_failed(home: Home) -> None:
    home.journal.start(1)
    home.journal.define(1, "SELECT $1, 'SECRET-1'", protect=ALL)
    bind = home.journal.bind(1, 1, [b"SECRET-2"])
    home.journal.outcome(1, bind, "", how="E", error=error_body("22P02", "SECRET-2 is no number"))
    (event,) = home.read()
    assert b"SECRET-" not in encode(event)
    shown = home.open(event)
    assert (shown["sql"], shown["parameters"], shown["error"]["message"]) == (
        "SELECT $1, 'SECRET-1'", ["SECRET-2"], "SECRET-2 is no number")


def test_lines_and_rows_of_the_store_are_the_same_event(home: Home) -> None:
    home.journal.start(1)
    for number, label in enumerate(({}, {"protect": ALL}), 1):
        home.journal.outcome(1, home.journal.query(1, f"SELECT 'SECRET-{number}'", number, **label))
    events = home.read()
    sink = SqliteSink(home.directory / "audit.db")
    sink.write(as_batch(home.items))
    rows = sink._db.execute(f"{QUERY} WHERE definition IS NOT NULL ORDER BY id").fetchall()
    lines = [StoredLines(sink._db).line(row)[:-1] for row in rows]
    assert lines == [encode(event) for event in events]
    assert [b"protected" in line for line in lines] == [False, True]
    # As a struct, which the core has not made: the same again.
    again = SqliteSink(home.directory / "again.db", keys=None)
    again.write([decode(line) for line in lines])
    rows = again._db.execute(f"{QUERY} ORDER BY id").fetchall()
    assert [StoredLines(again._db).line(row)[:-1] for row in rows] == lines
    for one in (sink, again):
        one.close()


def test_snapshots_hold_no_value_and_lose_none(home: Home) -> None:
    journal, sql = home.journal, "SELECT ssn FROM customers WHERE ssn = 'SECRET-1' AND x = $1"
    label = {"protect": {"literals": places(sql, "'SECRET-1'"), "parameters": [1], "error": True, "results": True}}
    journal.start(1)
    journal.define(1, sql, **label)
    opened = journal.query(1, sql, 1)
    bind = journal.bind(1, 1, [b"SECRET-2"], portal="p")
    home.read()
    journal.next_segment()
    home.read()
    place, (_, snapshot) = home.stream.place, home.stream.state()
    assert b"SECRET-" not in snapshot
    journal.define(1, sql, **label)
    later = journal.execute(1, 1, bind, portal="p")
    for intent in (opened, later):
        journal.outcome(1, intent, "", how="E", error=error_body("22000", "SECRET-3"))
    first = home.read()
    home.stream = WorkerStream.resume(home.directory, 0, 1000, place, snapshot, home.vault)
    again = home.read()
    assert list(map(encode, again)) == list(map(encode, first))
    for event in again:
        assert b"SECRET-" not in encode(event)
        assert home.open(event)["sql"] == sql
        assert home.open(event)["error"]["message"] == "SECRET-3"
    assert home.open(again[1])["parameters"] == ["SECRET-2"]


def test_a_sink_that_falls_behind_gets_the_same_events(home: Home) -> None:
    home.journal.start(1)
    home.journal.define(1, "SELECT 'SECRET-1'", protect=ALL)
    home.read()
    other = home.stream.clone()
    home.journal.outcome(1, home.journal.query(1, "SELECT 'SECRET-1'", 1))
    home.read()
    behind: list[Item] = []
    other.read(behind, 1000, live=True)
    assert as_batch(behind).leaves() == as_batch(home.items).leaves()
    assert home.open(as_events(behind)[0])["sql"] == "SELECT 'SECRET-1'"      # type: ignore[arg-type]


def test_what_nobody_said_how_to_protect_is_protected(home: Home) -> None:
    """The definition is lost with its damage; its text, in a record of its own, is not."""
    home.journal.start(1)
    home.journal.outcome(1, home.journal.query_text(1, 99, "SELECT 'SECRET-1'"))
    home.journal.outcome(1, home.journal.execute(1, 99, home.journal.bind(1, 99, [b"SECRET-2"])))
    simple, extended = home.read()
    assert simple.sql == "SELECT '***'"
    assert extended.parameters == (SHOWN,)


def test_without_a_vault_everything_is_as_it_came(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.stream = WorkerStream(tmp_path, 0, 1000)
    home.journal.start(1)
    home.journal.outcome(1, home.journal.query(1, "SELECT 'SECRET-1'", protect=ALL))
    (event,) = home.read()
    assert event.sql == "SELECT 'SECRET-1'"
    assert event.protected is msgspec.UNSET


def test_values_that_are_not_to_be_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.stream = WorkerStream(tmp_path, 0, 1000, Vault(tmp_path, keep=False))
    home.journal.start(1)
    home.journal.outcome(1, home.journal.query(1, "SELECT 'SECRET-1'", protect=ALL))
    (event,) = home.read()
    assert (event.sql, event.protected) == ("SELECT '***'", {"sql": ""})
    assert not (tmp_path / "recovery-keys").exists()
    with pytest.raises(CannotOpen, match="not kept"):
        open_text("", None, PersonKeys(tmp_path))            # type: ignore[arg-type]


# ---------------------------------------------------------------- the vault

def sealed(vault: Vault, secret: bytes = b"secret", *, user: str = "ana", at: int = WALL, name: str = "1/1/sql") -> str:
    return vault.seal(user, at, name, secret)


def test_texts_differ_and_open(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    texts = [sealed(vault), sealed(vault, name="1/2/sql"), sealed(vault, user="bo"), sealed(vault, at=WALL + 10**13)]
    assert len({text.rpartition(".")[2] for text in texts}) == 4
    assert sealed(vault) == texts[0]
    assert len({len(sealed(vault, b"x" * n, name=str(n))) for n in range(1, 48)}) == 1
    private = read_private(next((tmp_path / "recovery-keys").glob("*.key")))
    for text in texts:
        assert open_text(text, private, PersonKeys(tmp_path)).strip() == b"secret"
    prefix, _, last = texts[0].rpartition(".")
    for wrong in (prefix + "." + ("B" if last[0] == "A" else "A") + last[1:], prefix + ".", "hf2" + texts[0][3:], "x"):
        with pytest.raises(CannotOpen):
            open_text(wrong, private, PersonKeys(tmp_path))


def test_files_are_for_the_service_alone(tmp_path: Path) -> None:
    sealed(Vault(tmp_path))
    for path in (*tmp_path.glob("*-keys"), *tmp_path.glob("*-keys/*")):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def test_another_recovery_key_opens_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    text = sealed(vault)
    RecoveryKeys(tmp_path).new(tmp_path / "auditors.key")
    vault.refresh()
    later = sealed(vault)
    auditors = read_private(tmp_path / "auditors.key")
    assert open_text(later, auditors, PersonKeys(tmp_path)).strip() == b"secret"
    with pytest.raises(CannotOpen, match="sealed to the recovery key"):
        open_text(text, auditors, PersonKeys(tmp_path))
    with pytest.raises(FileExistsError):
        RecoveryKeys(tmp_path).new(tmp_path / "auditors.key")
    assert [key.private_here for key in RecoveryKeys(tmp_path).all()] == [True, False]


def test_erasure(tmp_path: Path) -> None:
    vault, people = Vault(tmp_path), PersonKeys(tmp_path)
    mine, others = sealed(vault), sealed(vault, user="bo")
    key = next((tmp_path / "person-keys").glob("*.key"))
    linked = tmp_path / "the same file"
    files = {path: path.read_bytes() for path in (tmp_path / "person-keys").glob("*.key")}
    key = next(path for path, content in files.items() if b"ana" in content)
    os.link(key, linked)
    erasure = people.erase("ana", "asked")
    assert set(linked.read_bytes()) == {0}
    private = read_private(next((tmp_path / "recovery-keys").glob("*.key")))
    with pytest.raises(CannotOpen, match=r"destroyed at .*: asked"):
        open_text(mine, private, people)
    assert open_text(others, private, people).strip() == b"secret"
    vault.refresh()
    # What happened before, and comes out of the journal only now, is not kept under the next key.
    assert sealed(vault, at=erasure.at) == ""
    assert open_text(sealed(vault, at=erasure.at + 1), private, people).strip() == b"secret"
    assert people.erase("nobody", "").key == ""


def test_keys_that_are_missing_or_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vault = Vault(tmp_path)
    text = sealed(vault)
    private = read_private(next((tmp_path / "recovery-keys").glob("*.key")))
    key = next((tmp_path / "person-keys").glob("*.key"))
    content = key.read_bytes()
    key.write_bytes(b"damaged")
    vault.refresh()
    with pytest.raises(CannotOpen, match="lost"):
        open_text(text, private, PersonKeys(tmp_path))
    # A value that cannot be sealed is not written in clear, and somebody hears of it.
    assert sealed(vault, name="later") == sealed(vault, at=WALL + 10**13) == ""
    assert "not kept" in caplog.text
    key.write_bytes(content)
    (tmp_path / "recovery-keys" / "current").unlink()
    with pytest.raises(AuditUnavailable, match="names the recovery key"):
        vault.refresh()
    for wrong in ("-----BEGIN", "not a key"):
        (tmp_path / "wrong").write_text(wrong)
        with pytest.raises(AuditUnavailable):
            read_private(tmp_path / "wrong")
