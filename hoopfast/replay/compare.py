"""Says whether a statement did the same again: command tag, rows, error, a digest of the results. Pure.

Rows were recorded as the client got them: masked. The sandbox gives raw values, so hidden columns are left out of the
digest ("not comparable: masked"), and no value of a column that was ever hidden from anybody is in a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hoopfast.audit.typed import Raw, Results, Value, decode_results
from hoopfast.protocol.messages import Field, frame, parse_row_description
from hoopfast.replay.recorded import Recorded
from hoopfast.replay.treat import Facts, facts_of

SAME, DIFFERS, SKIPPED, UNRECORDED, ADAPTED = "same", "differs", "skipped", "unrecorded", "adapted"
STATUSES = (SAME, DIFFERS, SKIPPED, UNRECORDED, ADAPTED)
# Classes of differences, the heaviest first.
ERROR, TAG, COUNT, COLUMNS, VALUES, ORDER = "error", "tag", "row-count", "columns", "values", "order"
CONCURRENCY, CHOSEN, AFTER_GAP, PIPELINE = "concurrency", "server-chosen", "after-gap", "pipeline"
STALLED = "stalled"
SHOWN_ROWS, SHOWN_VALUE = 3, 80
_RACES = frozenset({"40001", "40P01", "55P03", "57014"})
_CHOSEN_TYPES = frozenset({24, 26, 27, 28, 29, 2202, 2205, 2206, 3220, 5069})     # oid, xid, tid, regclass, pg_lsn, ...


class Origin(msgspec.Struct, frozen=True):
    """A column of the sandbox as its catalog has it. `generated`: its default or identity is the server's choice."""

    name: str                           # schema.table.column
    is_table: bool
    generated: bool


class ResultSet(msgspec.Struct):
    """Rows of one result: the body of its RowDescription (b"" without one) and frames as they came, a first part."""

    description: bytes = b""
    frames: bytearray = msgspec.field(default_factory=bytearray)
    rows: int = 0                       # in `frames`


class Answer(msgspec.Struct):
    """What a statement led to in the sandbox. `state`: complete | suspended | error | skipped."""

    state: str = "skipped"
    tags: list[str] = []
    rows: int = 0
    sqlstate: str = ""
    message: str = ""
    sets: list[ResultSet] = []
    us: int = 0

    @property
    def tag(self) -> str:
        return "; ".join(self.tags)


class Outcome(msgspec.Struct, frozen=True):
    """One side of the comparison, as reports have it. `digest`: of the rows that both sides have, in hex."""

    outcome: str = ""
    tag: str = ""
    rows: int = 0
    sqlstate: str = ""
    message: str = ""
    duration_us: int = 0
    digest: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """`kind` is the class of the difference; `diff` are lines of it, - as recorded and + as replayed."""

    status: str
    kind: str = ""
    why: str = ""
    note: str = ""
    diff: tuple[str, ...] = ()
    recorded: Outcome = Outcome()
    replayed: Outcome | None = None


class Hidden(msgspec.Struct, frozen=True):
    """What was masked for anybody in the recording."""

    columns: frozenset[str] = frozenset()

    @property
    def tables(self) -> frozenset[str]:
        return frozenset(name.rpartition(".")[0] for name in self.columns)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name.rpartition(".")[2] for name in self.columns)

    def touches(self, one: Recorded) -> bool:
        """Whether an error of this statement might quote a hidden value."""
        bare = {name.rpartition(".")[2] for name in self.tables}
        return bool(one.masks) or any(name.rpartition(".")[2] in bare for name in one.tables)


_results = msgspec.json.Decoder(tuple[Results, ...])


def recorded_outcome(one: Recorded, digest: str = "") -> Outcome:
    end = 0 if one.outcome in {"unknown", "running"} else max(one.end - one.begin, 0) // 1000
    return Outcome(one.outcome, one.tag, one.rows, one.sqlstate, one.message, end, digest)


def compare(
    one: Recorded, answer: Answer, kept: bytes, origins: Mapping[tuple[int, int], Origin], hidden: Hidden,
) -> Verdict:
    """`kept`: the recorded results as JSON, b"" when there are none; `origins` by (table OID, attribute number)."""
    message = answer.message
    if message and hidden.touches(one):
        message = "(not shown: the statement touches hidden columns)"
    replayed = Outcome(answer.state, answer.tag, answer.rows, answer.sqlstate, message, answer.us)
    was = recorded_outcome(one)
    if one.outcome in {"unknown", "running"}:
        why = f"how it ended was not recorded ({one.outcome})"
        return Verdict(UNRECORDED, "", why, recorded=was, replayed=replayed)
    kind, why = _plainly(one, answer, message)
    if why:
        if kind in {TAG, COUNT} and facts_of(one.sql).chosen:
            kind = CHOSEN
        return Verdict(DIFFERS, kind, why, recorded=was, replayed=replayed)
    if one.sqlstate or not kept or not answer.sets or "explain" in one.kinds:
        return Verdict(SAME, recorded=was, replayed=replayed)
    found = _Rows(one, origins, hidden).compare(_results.decode(kept), answer.sets)
    digests = found.digests()
    return Verdict(
        found.status, found.kind, found.why, found.note, tuple(found.diff),
        msgspec.structs.replace(was, digest=digests[0]), msgspec.structs.replace(replayed, digest=digests[1]),
    )


def _plainly(one: Recorded, answer: Answer, message: str) -> tuple[str, str]:
    """(class, sentence) of what differs besides rows; two empty texts when nothing does."""
    if answer.state == "skipped":
        return PIPELINE, "it ran then, and a statement before it in its pipeline fails now"
    if one.sqlstate != answer.sqlstate:
        was = f"failed with {one.sqlstate} ({one.message})" if one.sqlstate else "succeeded"
        now = f"fails with {answer.sqlstate} ({message})" if answer.sqlstate else "succeeds"
        return CONCURRENCY if {one.sqlstate, answer.sqlstate} & _RACES else ERROR, f"it {was} then and {now} now"
    if one.sqlstate:
        return "", ""
    if one.tag != answer.tag:
        return (COUNT if _verbs(one.tag) == _verbs(answer.tag) else TAG,
                f"the command tag was {one.tag!r} and is {answer.tag!r}")
    # COPY counts lines, which the tag says already.
    if one.rows != answer.rows and not one.tag.startswith("COPY"):
        return COUNT, f"it returned {one.rows} rows and returns {answer.rows}"
    return "", ""


def _verbs(tag: str) -> list[str]:
    return ["".join(c for c in part if not c.isdigit()) for part in tag.split("; ")]


class _Rows:
    """Compares the rows of one statement, result by result."""

    def __init__(self, one: Recorded, origins: Mapping[tuple[int, int], Origin], hidden: Hidden) -> None:
        self.status, self.kind, self.why, self.note = SAME, "", "", ""
        self.diff: list[str] = []
        self._one, self._origins, self._hidden = one, origins, hidden
        self._was, self._now = hashlib.sha256(), hashlib.sha256()
        self._compared = False
        self._left_out: list[str] = []

    @property
    def _facts(self) -> Facts:
        # Read only where it matters: most statements do the same.
        return facts_of(self._one.sql)

    def digests(self) -> tuple[str, str]:
        return (self._was.hexdigest()[:16], self._now.hexdigest()[:16]) if self._compared else ("", "")

    def compare(self, was: Sequence[Results], now: Sequence[ResultSet]) -> _Rows:
        for then, live in zip(was, now, strict=False):
            if then.copy:
                self._copy(then, live)
            else:
                self._set(then, live)
            if self.status == DIFFERS:
                break
        if self._left_out:
            names = ", ".join(dict.fromkeys(self._left_out))
            self.note = "; ".join(filter(None, [self.note, f"not comparable: masked: {names}"]))
        return self

    def _differs(self, kind: str, why: str) -> None:
        self.status, self.kind, self.why = DIFFERS, kind, why

    def _copy(self, then: Results, live: ResultSet) -> None:
        if self._one.masks:
            self._left_out += self._one.masks
            return
        now = _decoded(live.frames, b"", ()).copy
        both = min(len(then.copy), len(now)) if then.truncated else max(len(then.copy), len(now))
        before, after = then.copy[:both].split("\n"), now[:both].split("\n")
        self._digest([(line,) for line in before], [(line,) for line in after])
        if before == after:
            return
        if sorted(before) == sorted(after):
            self._reordered()
            return
        at = next(i for i in range(max(len(before), len(after))) if before[i : i + 1] != after[i : i + 1])
        self._differs(CHOSEN if self._facts.chosen else VALUES, f"line {at + 1} of the copied rows differs")
        if not self._hidden.touches(self._one):
            self.diff = [f"- {_cut(before[at])}" if at < len(before) else "- (no line)",
                         f"+ {_cut(after[at])}" if at < len(after) else "+ (no line)"]

    def _set(self, then: Results, live: ResultSet) -> None:
        fields = parse_row_description(live.description) if live.description else []
        now = _decoded(live.frames, live.description if then.columns else b"", self._one.result_formats)
        if then.columns and [column.name for column in then.columns] != [field.name for field in fields]:
            self._differs(COLUMNS, f"its columns were {_names(then.columns)} and are {_names(fields)}")
            return
        if then.rows and now.rows and len(then.rows[0]) != len(now.rows[0]):
            self._differs(COLUMNS, f"its rows had {len(then.rows[0])} columns and have {len(now.rows[0])}")
            return
        places = self._comparable(fields, len(then.rows[0]) if then.rows else len(fields))
        # The trail keeps the first part of long results, and so does the sandbox's side.
        both = min(len(then.rows), len(now.rows))
        before = [tuple(_plain(row[i]) for i in places) for row in then.rows[:both]]
        after = [tuple(_plain(row[i]) for i in places) for row in now.rows[:both]]
        self._digest(before, after)
        if before == after:
            return
        if not then.truncated and sorted(map(repr, before)) == sorted(map(repr, after)):
            self._reordered()
            return
        self._values(fields, places, before, after)

    def _comparable(self, fields: Sequence[Field], count: int) -> list[int]:
        """Columns whose values mean the same on both sides."""
        if not self._one.masks:
            return list(range(count))
        places = []
        for i in range(count):
            field = fields[i] if i < len(fields) else None
            if field is None or self._is_hidden(field):
                self._left_out.append(field.name if field is not None else f"column {i + 1}")
            else:
                places.append(i)
        return places

    def _is_hidden(self, field: Field) -> bool:
        """In a statement with masks: of a column only what is plainly a table's own, other column is not hidden.

        Views rename, partitions and children have columns of the same names. An output column without origin reads no
        hidden column: the gateway would have refused it.
        """
        if field.table_oid == 0:
            return False
        origin = self._origins.get((field.table_oid, field.attnum))
        return origin is None or not origin.is_table or origin.name.rpartition(".")[2] in self._hidden.names

    def _may_show(self, field: Field | None) -> bool:
        if not self._hidden.columns:
            return True
        if field is None or field.table_oid == 0:
            return not self._hidden.touches(self._one)
        return not self._is_hidden(field)

    def _values(
        self, fields: Sequence[Field], places: Sequence[int], before: Sequence[Any], after: Sequence[Any],
    ) -> None:
        odd = [k for k in range(len(places)) if any(b[k] != a[k] for b, a in zip(before, after, strict=True))]
        named = {k: fields[places[k]] if places[k] < len(fields) else None for k in odd}
        chosen = self._facts.chosen or all(self._is_chosen(field) for field in named.values())
        names = ", ".join(field.name if field else f"column {places[k] + 1}" for k, field in named.items())
        rows = [i for i, (b, a) in enumerate(zip(before, after, strict=True)) if b != a]
        self._differs(CHOSEN if chosen else VALUES, f"{len(rows)} of {len(before)} rows differ, in {names}")
        for i in rows[:SHOWN_ROWS]:
            for k in odd:
                field = named[k]
                if before[i][k] == after[i][k]:
                    continue
                if not self._may_show(field):
                    self.diff.append(f"  row {i + 1}, {field.name if field else 'a column'}: not shown: it is hidden")
                    continue
                where = f"row {i + 1}, {field.name if field else places[k] + 1}"
                self.diff += [f"- {where}: {_cut(before[i][k])}", f"+ {where}: {_cut(after[i][k])}"]

    def _is_chosen(self, field: Field | None) -> bool:
        if field is None:
            return False
        origin = self._origins.get((field.table_oid, field.attnum))
        return field.type_oid in _CHOSEN_TYPES or (origin is not None and origin.generated)

    def _reordered(self) -> None:
        if self._facts.ordered:
            self._differs(ORDER, "the rows are the same in another order")
        else:
            self.note = "the rows came in another order, which the statement leaves open"

    def _digest(self, before: Sequence[Sequence[Value]], after: Sequence[Sequence[Value]]) -> None:
        self._compared = True
        for digest, rows in ((self._was, before), (self._now, after)):
            for row in rows:
                digest.update(msgspec.json.encode(row) + b"\n")


def _decoded(frames: bytearray, description: bytes, formats: Sequence[int]) -> Results:
    whole = (frame(b"T", description) if description else b"") + bytes(frames)
    found = decode_results(whole, formats)
    return found[0] if found else Results()


def _plain(value: Any) -> Any:
    # The OID of a type that is not built in is another one in another database.
    return value.hex if isinstance(value, Raw) else value


def _names(columns: Sequence[Any]) -> str:
    return ", ".join(column.name for column in columns)


def _cut(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}... ({len(text)} characters)"
