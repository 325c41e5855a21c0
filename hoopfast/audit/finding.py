"""How a store is searched: filters as conditions, and which index to begin with. Used by audit.search.

Questions are answered newest first. Where a filter leaves few events, its index gives them all; otherwise the newest
events are looked through, where what is common soon turns up; only if it does not, the best index is taken however many
it gives. No planner knows that, so every query says what it means: a `+` before a column forbids its index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hoopfast import units
from hoopfast.audit.database import Database
from hoopfast.audit.events import nanoseconds
from hoopfast.audit.sinks.sqlite import MANY_ROWS, SLOW_US, SPAN, USUAL_KIND
from hoopfast.errors import GatewayError

FEW = 20_000                            # events that an index may give before anything else is tried
NEWEST = 200_000                        # events looked through, newest first
MANY = 3_000_000                        # entries of an index that are counted at most
LISTED = 200_000                        # events of an export that are found first and read then

FILTERS = (
    "user", "connection", "session", "text", "table", "column", "kind", "verdict", "rule", "outcome", "sqlstate",
    "event", "rows", "duration", "since", "until",
)
Values = list[Any]
_USER = '"user"'                        # bare, it is a function of PostgreSQL


class BadSearch(GatewayError):
    """A filter that cannot be understood; the message says which and what it should look like."""


class Source(NamedTuple):
    """Events by an index: FROM and WHERE of a query whose events are `e`."""

    tables: str
    where: str
    values: Values


class Condition(NamedTuple):
    """One filter: what it asks of an event `e`, and where such events are found; no source: in no index.

    `times`: all that it lets through is from these on (ns), and before.
    """

    where: str
    values: Values
    sources: tuple[Source, ...] = ()
    times: tuple[int, int] | None = None


def conditions(db: Database, filters: Mapping[str, Any]) -> list[Condition]:
    """What the filters mean; empty ones do not count. Raises BadSearch."""
    for name in filters:
        if name not in FILTERS:
            raise BadSearch(f"events cannot be searched by {name}; use one of {', '.join(FILTERS)}")
    given = {name: str(value) for name, value in filters.items() if value not in {None, ""}}
    found = [_MADE[name](db, value) for name, value in given.items() if name in _MADE]
    if "since" in given or "until" in given:
        found.append(_time(db, given.get("since", ""), given.get("until", "")))
    return found


def newest(db: Database, wanted: list[Condition], limit: int, before: int | None) -> list[int]:
    """Ids of the newest events that meet all conditions, newest first; with `before`, only smaller ids."""
    top = before if before is not None else last_id(db) + 1
    drivers = [condition for condition in wanted if condition.sources]
    few = _least(db, drivers, FEW)
    if few is not None:
        return _by(db, few, wanted, limit, top)
    found, whole = _look_through(db, wanted, limit, top)
    if len(found) >= limit or whole:
        return found
    # First with a bound: counting a filter that leaves millions costs as much as answering by one that leaves fewer.
    best = _least(db, drivers, LISTED) or _least(db, drivers, MANY)
    if best is not None:
        return _by(db, best, wanted, limit, top)
    return _scan(db, wanted, limit, 0, top)


def oldest(db: Database, wanted: list[Condition], limit: int, after: int) -> list[int]:
    """Ids in order of arrival, behind `after`; reads the whole table, a part at a time."""
    where, values = _all(wanted)
    query = f"SELECT e.id FROM events e WHERE e.id > ?{where} ORDER BY e.id LIMIT ?"
    return [row[0] for row in db.execute(query, (after, *values, limit))]


def listed(db: Database, wanted: list[Condition]) -> list[int] | None:
    """All ids in order of arrival, when an index gives few enough; None: read the table."""
    best = _least(db, [condition for condition in wanted if condition.sources], LISTED)
    return sorted(_by(db, best, wanted, 2**62, 2**63 - 1)) if best is not None else None


def last_id(db: Database) -> int:
    return int(db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])


# ---------------------------------------------------------------- ways

def _least(db: Database, drivers: list[Condition], most: int) -> Condition | None:
    """The condition whose index gives the fewest events, when that is not more than `most`."""
    best, least = None, most
    for condition in drivers:
        count = 0
        for source in condition.sources:
            query = f"SELECT count(*) FROM (SELECT 1 FROM {source.tables} WHERE {source.where} LIMIT ?)"
            count += db.execute(query, (*source.values, least + 1)).fetchone()[0]
        if count <= least:
            best, least = condition, count
    return best


def _by(db: Database, driver: Condition, wanted: list[Condition], limit: int, top: int) -> list[int]:
    where, values = _all([condition for condition in wanted if condition is not driver])
    found: set[int] = set()
    for source in driver.sources:
        query = (f"SELECT e.id FROM {source.tables} WHERE {source.where} AND +e.id < ?{where}"
                 " ORDER BY +e.id DESC LIMIT ?")
        found.update(row[0] for row in db.execute(query, (*source.values, top, *values, limit)))
    ids = sorted(found, reverse=True)
    return ids[:limit]


def _scan(db: Database, wanted: list[Condition], limit: int, bottom: int, top: int) -> list[int]:
    where, values = _all(wanted)
    query = f"SELECT e.id FROM events e WHERE e.id >= ? AND e.id < ?{where} ORDER BY e.id DESC LIMIT ?"
    return [row[0] for row in db.execute(query, (bottom, top, *values, limit))]


def _look_through(db: Database, wanted: list[Condition], limit: int, top: int) -> tuple[list[int], bool]:
    """What the newest NEWEST events that may be meant have to offer, and whether these were all."""
    found: list[int] = []
    left = NEWEST
    for bottom, end in _ranges(db, wanted, top):
        if left <= 0 or len(found) >= limit:
            return found, False
        begin = max(bottom, end - left)
        found += _scan(db, wanted, limit - len(found), begin, end)
        left -= end - begin
        if begin > bottom:
            return found, False
    return found, True


def _ranges(db: Database, wanted: list[Condition], top: int) -> Iterator[tuple[int, int]]:
    """(first id, id behind the last) of events that may be from the wanted times, newest first."""
    times = next((condition.times for condition in wanted if condition.times), None)
    if times is None and not db.sparse:
        yield 0, top
        return
    begin = end = top
    query = "SELECT block FROM spans WHERE block <= ? AND latest >= ? AND earliest < ? ORDER BY block DESC"
    for (block,) in db.execute(query, (top // SPAN, *(times or (-(2**63), 2**63 - 1)))):
        stop = min(top, (block + 1) * SPAN)
        if stop != begin:
            if begin < end:
                yield begin, end
            end = stop
        begin = block * SPAN
    if begin < end:
        yield begin, end


def _all(wanted: Iterable[Condition]) -> tuple[str, Values]:
    parts = list(wanted)
    where = "".join(f" AND {condition.where}" for condition in parts)
    return where, [value for condition in parts for value in condition.values]


# ---------------------------------------------------------------- filters

def _of_sessions(column: str) -> Callable[[Database, str], Condition]:
    def made(db: Database, value: str) -> Condition:
        return Condition(_in_sessions(db, "+e.session", column), [value], (_sessions(db, column, value),))

    return made


def _in_sessions(db: Database, of: str, column: str) -> str:
    return db.among(of, f"SELECT id FROM sessions WHERE {column} = ?")


def _sessions(db: Database, column: str, value: str) -> Source:
    return Source(db.by_index("events_name"), _in_sessions(db, "e.session", column), [value])


def _user(db: Database, value: str) -> Condition:
    """The session's user, or the event's own where there is no session."""
    own = db.among("+e.id", "SELECT event FROM marks WHERE name = 'user' AND value = ?")
    where = f"({_in_sessions(db, '+e.session', _USER)} OR {own})"
    return Condition(where, [value, value], (_sessions(db, _USER, value), _marked(db, "user", "m.value = ?", [value])))


def _marked(db: Database, name: str, where: str, values: Values) -> Source:
    return Source(f"marks m {db.join} events e ON e.id = m.event", f"m.name = '{name}' AND {where}", values)


def _sqlstate(db: Database, value: str) -> Condition:
    """A code, or the first two signs of one: its class."""
    where, values = ("value = ?", [value])
    if len(value) < 5:
        where, values = "value >= ? AND value < ?", [value, value + "\x7f"]
    of = db.among("+e.id", f"SELECT event FROM marks WHERE name = 'sqlstate' AND {where}")
    return Condition(of, values, (_marked(db, "sqlstate", where.replace("value", "m.value"), values),))


def _of_definitions(db: Database, where: str, values: Values) -> Condition:
    index = Source(db.by_index("events_definition"), db.among("e.definition", f"SELECT {where}"), values)
    return Condition(db.among("+e.definition", f"SELECT {where}"), values, (index,))


def _text(db: Database, value: str) -> Condition:
    return _of_definitions(db, *db.with_words(value))


def named(db: Database, what: str, fits: Callable[[str], bool]) -> Condition:
    """Definitions under one of these names. There are few different ones: the index is read from name to name."""
    names = [row[0] for row in db.execute("""
WITH RECURSIVE n(name) AS (
 SELECT min(name) FROM definition_names WHERE what = ?
 UNION ALL SELECT (SELECT min(d.name) FROM definition_names d WHERE d.what = ? AND d.name > n.name)
 FROM n WHERE n.name IS NOT NULL)
SELECT name FROM n WHERE name IS NOT NULL""", (what, what)) if fits(row[0])]
    if not names:
        return _of_definitions(db, "definition FROM definition_names WHERE what IS NULL", [])
    marks = ",".join("?" * len(names))
    return _of_definitions(db, f"definition FROM definition_names WHERE what = ? AND name IN ({marks})", [what, *names])


def _table(db: Database, value: str) -> Condition:
    return named(db, "tables", lambda name: value in {name, name.rpartition(".")[2]})


def column_of(db: Database, value: str) -> Condition:
    """Definitions that may read a column: schema.table.column, table.column (of any schema), or a column of any table.

    What a statement names without a schema may be in any; what it reads whole has all columns.
    """
    table, _, column = value.rpartition(".")

    def fits(name: str) -> bool:
        of, _, read = name.rpartition(".")
        if read not in {column, "*"}:
            return False
        if not table:
            return read == column
        bare = of.rpartition(".")[2]
        return of == table or (bare == of and of == table.rpartition(".")[2]) or ("." not in table and bare == table)

    return named(db, "columns", fits)


def _kinds(db: Database, where: str, value: str) -> Condition:
    codes = f"SELECT code FROM kinds WHERE {where}"
    rare = f"{db.among('e.kind', codes)} AND e.kind <> {USUAL_KIND}"
    usual = value in {"complete", "statement"}
    index = () if usual else (Source(db.by_index("events_kind"), rare, [value]),)
    return Condition(db.among("+e.kind", codes), [value], index)


def _at_least(column: str, indexed: int, index: str, read: Callable[[str], int]) -> Callable[..., Condition]:
    def made(db: Database, value: str) -> Condition:
        least = read(value)
        where = f"e.{column} >= ?"
        source = Source(db.by_index(index), f"{where} AND e.{column} >= {indexed}", [least])
        return Condition(f"+{where}", [least], (source,) if least >= indexed else ())

    return made


def _rows(value: str) -> int:
    if not value.isdigit():
        raise BadSearch(f"{value!r} is no number of rows")
    return min(int(value), 2**62)


def _duration(value: str) -> int:
    try:
        return int(value.removesuffix("ms")) * 1000 if value.endswith("ms") else int(units.duration_s(value) * 1e6)
    except ValueError:
        raise BadSearch(f"{value!r} is no duration; write 250ms, 5s, 2m, 1h") from None


def _time(db: Database, since: str, until: str) -> Condition:
    parts, values = [], []
    times = [-(2**63), 2**63 - 1]
    for i, (text, sign) in enumerate(((since, ">="), (until, "<"))):
        if text:
            times[i] = nanoseconds(parse_time(text))
            parts.append(f"e.at {sign} ?")
            values.append(times[i])
    where = " AND ".join(f"+{part}" for part in parts)
    if since and (first := db.first_id(times[0])):
        # Nothing arrives before it happened: what is older need not be opened.
        where += f" AND e.id >= {first}"
        parts.append(f"e.id >= {first}")
    index = Source(db.by_index("events_at"), " AND ".join(parts), values)
    return Condition(where, values, (index,), (times[0], times[1]))


_MADE: dict[str, Callable[[Database, str], Condition]] = {
    "user": _user,
    "connection": _of_sessions("connection"),
    "session": _of_sessions("session"),
    "text": _text,
    "table": _table,
    "column": column_of,
    "kind": lambda db, value: named(db, "kinds", value.__eq__),
    "verdict": lambda db, value: _of_definitions(db, "id FROM definitions WHERE verdict = ?", [value]),
    "rule": lambda db, value: _of_definitions(db, "id FROM definitions WHERE rule = ?", [value]),
    "outcome": lambda db, value: _kinds(db, "outcome = ?", value),
    "sqlstate": _sqlstate,
    "event": lambda db, value: _kinds(db, "event = ?", value),
    "rows": _at_least("rows", MANY_ROWS, "events_rows", _rows),
    "duration": _at_least("duration_us", SLOW_US, "events_slow", _duration),
}


def parse_time(text: str) -> str:
    """ISO 8601 (UTC unless it says otherwise) or an age (30s, 15m, 2h, 7d), as the store has it. Raises BadSearch."""
    ages = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if text[-1:] in ages and text[:-1].isdigit():
            moment = datetime.now(UTC) - timedelta(**{ages[text[-1]]: int(text[:-1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        said = f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z, or an age like 15m, 2h, 7d"
        raise BadSearch(said) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
