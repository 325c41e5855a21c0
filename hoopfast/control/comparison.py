"""Two versions of a policy, asked about the same recorded statements. Pure; used by `hoopfast policy diff`.

Both versions are asked anew: what the gateway said at the time may have come from a third one. Hidden columns are
compared by name: whether a statement passes with other masks is for the catalog to say, not for the trail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hoopfast.audit.events import nanoseconds
from hoopfast.control.preview import NO_ENTRY, Situation, function_call_facts, preview, ruled
from hoopfast.model import Client, Frozen, Identity
from hoopfast.policy.snapshot import Snapshot

CHANGES_MAX: Final = 10_000             # different ones that are kept
KNOWN_MAX: Final = 50_000               # verdicts that are remembered while reading
SQL_KEPT: Final = 2_000                 # characters of a statement

Verdict = tuple[str, str]               # verdict, rule


class Change(Frozen, frozen=True, kw_only=True):
    """Statements of one person with one text whose verdict changes alike."""

    user: str
    groups: tuple[str, ...]
    connection: str
    sql: str
    old: Verdict
    new: Verdict
    times: int = 1
    last: str = ""                      # of the latest, as the trail writes it


class Comparison:
    """Feed it events of the trail, in any order; read the counts and `changes` in the end.

    `versions` gives the old and the new policy for a connection; it is asked once for each.
    """

    def __init__(self, versions: Callable[[str], tuple[Snapshot, Snapshot]]) -> None:
        self._make = versions
        self._made: dict[str, tuple[Snapshot, Snapshot]] = {}
        self._known: dict[tuple[Any, ...], tuple[Verdict, Verdict]] = {}
        self._people: dict[tuple[Any, ...], None] = {}
        # By connection: columns that only the new version hides from somebody, and that only the old one hides.
        self.hidden: dict[str, set[str]] = {}
        self.shown: dict[str, set[str]] = {}
        self._changes: dict[tuple[Any, ...], Change] = {}
        self.statements = 0
        self.changed = 0
        self.skipped = 0                # their text was lost
        self.left_out = 0               # changes beyond CHANGES_MAX

    def add(self, event: dict[str, Any]) -> None:
        """One event as exports have it; those that are no statements do not count."""
        if event.get("event") != "statement":
            return
        if event.get("kind") == "lost" or (not event.get("sql") and event.get("kind") != "function"):
            self.skipped += 1
            return
        self.statements += 1
        old, new = self._ask(event)
        if old != new:
            self.changed += 1
            self._note(event, old, new)

    @property
    def changes(self) -> list[Change]:
        """The most frequent first."""
        return sorted(self._changes.values(), key=lambda change: (-change.times, change.user, change.sql))

    def _versions(self, connection: str) -> tuple[Snapshot, Snapshot]:
        found = self._made.get(connection)
        if found is None:
            found = self._made[connection] = self._make(connection)
        return found

    def _ask(self, event: dict[str, Any]) -> tuple[Verdict, Verdict]:
        situation = situation_of(event)
        sql = None if event.get("kind") == "function" else str(event["sql"])
        versions = self._versions(situation.connection)
        whom = (situation.identity, situation.connection)
        if whom not in self._people and len(self._people) < KNOWN_MAX:
            self._people[whom] = None
            self._compare_masks(situation)
        key = (*whom, situation.client.application, (situation.client.peer or "").rpartition(":")[0], sql)
        found = self._known.get(key)
        if found is None:
            (old, timed), (new, timed_too) = (self._judge(snapshot, situation, sql) for snapshot in versions)
            found = old, new
            if not (timed or timed_too) and len(self._known) < KNOWN_MAX and len(sql or "") <= SQL_KEPT:
                self._known[key] = found
        return found

    def _judge(self, snapshot: Snapshot, situation: Situation, sql: str | None) -> tuple[Verdict, bool]:
        """The verdict, and whether it holds for its time only."""
        seen = preview(snapshot, situation, sql, masks=False)
        if sql is not None or seen.verdict == NO_ENTRY:
            return (seen.verdict, seen.rule), seen.ruling.timed
        ruling = ruled(snapshot, situation, function_call_facts())
        return (ruling.action, ruling.rule), ruling.timed

    def _compare_masks(self, situation: Situation) -> None:
        old, new = (
            {f"{mask.schema}.{mask.table}.{mask.column}"
             for mask in snapshot.masks_for(situation.identity, situation.connection)}
            if snapshot.may_enter(situation.identity, situation.connection) else set()
            for snapshot in self._versions(situation.connection)
        )
        for found, names in ((self.hidden, new - old), (self.shown, old - new)):
            if names:
                found.setdefault(situation.connection, set()).update(names)

    def _note(self, event: dict[str, Any], old: Verdict, new: Verdict) -> None:
        at = str(event.get("at", ""))
        sql = str(event.get("sql") or "(function call)")[:SQL_KEPT]
        key = (event.get("user"), event.get("connection"), sql, old, new)
        known = self._changes.get(key)
        if known is None and len(self._changes) >= CHANGES_MAX:
            self.left_out += 1
            return
        self._changes[key] = Change(
            user=str(event.get("user", "")), groups=tuple(event.get("groups") or ()),
            connection=str(event.get("connection", "")), sql=sql, old=old, new=new,
            times=known.times + 1 if known else 1, last=max(at, known.last) if known else at,
        )


def situation_of(event: dict[str, Any]) -> Situation:
    """Who, where, from where and when, of an event."""
    try:
        now: float | None = nanoseconds(str(event.get("at", ""))) / 1e9
    except ValueError:
        now = None
    return Situation(
        identity=Identity(
            user=str(event.get("user", "")), subject=str(event.get("subject", "")), issuer=str(event.get("issuer", "")),
            groups=tuple(event.get("groups") or ())),
        connection=str(event.get("connection", "")),
        client=Client(peer=event.get("client") or None, application=event.get("application")),
        now=now,
    )
