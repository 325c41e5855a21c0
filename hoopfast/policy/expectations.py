"""A file of expectations: who, where, which SQL, and what the policy should say. Run by `hoopfast policy test`.

The structs say what was written; `expectations` fills in the defaults of the file. Pure apart from reading it.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hoopfast import document
from hoopfast.config import Section
from hoopfast.errors import ConfigError
from hoopfast.model import Frozen
from hoopfast.policy.source import LOCAL_ADDRESS, Name, Names

Sql = Annotated[str, msgspec.Meta(extra={"lines": True})]
ENTRY = frozenset({"enter", "no-entry"})


class Defaults(Section, frozen=True, kw_only=True):
    """What a test that says nothing else takes."""

    user: Name = ""
    groups: Names = ()
    connection: Name = ""
    address: Name = ""
    application: str | None = None
    at: Name = ""


class Test(Section, frozen=True, kw_only=True):
    verdict: Literal["enter", "no-entry", "allow", "limit", "warn", "deny", "approve"]
    sql: Sql = ""                                   # none: only whether somebody may enter
    rule: str | None = None                         # "" means that no rule decided; left out, any may have
    name: Name = ""
    user: Name = ""
    groups: tuple[Name, ...] | None = None          # [] means nobody's
    connection: Name = ""
    address: Name = ""                              # of the client: 192.0.2.7, or unix
    application: str | None = None
    at: Name = ""                                   # 2026-01-31T22:00:00+01:00


class Suite(Section, frozen=True, kw_only=True):
    tests: Annotated[tuple[Test, ...], msgspec.Meta(min_length=1)]
    policy: Name = ""                               # relative to this file
    # By connection, files of `hoopfast policy catalog`.
    catalogs: dict[str, Name] = msgspec.field(default_factory=dict)
    defaults: Defaults = Defaults()


class Expectation(Frozen, frozen=True, kw_only=True):
    """One test with nothing left to fill in. `at` in unix seconds; None: not known."""

    name: str
    user: str
    groups: tuple[str, ...]
    connection: str
    sql: str
    verdict: str
    rule: str | None
    address: str | None
    application: str | None
    at: float | None


def load_suite(path: Path) -> Suite:
    """Read and judge a file. Raises ConfigError with every problem."""
    report = document.Report(str(path))
    suite = document.decode(Suite, document.read(path, report), report, {
        Suite: _check_suite, Test: _check_test, Defaults: _check_moment})
    if suite is None or report.problems:
        raise ConfigError(report.problems)
    return suite


def expectations(suite: Suite) -> tuple[Expectation, ...]:
    """Every test of an accepted suite, with the defaults."""
    common = suite.defaults
    return tuple(
        Expectation(
            name=test.name or f"test {number}",
            user=test.user or common.user,
            groups=common.groups if test.groups is None else test.groups,
            connection=test.connection or common.connection,
            sql=test.sql, verdict=test.verdict, rule=test.rule,
            address=test.address or common.address or None,
            application=common.application if test.application is None else test.application,
            at=moment(test.at or common.at) if test.at or common.at else None,
        )
        for number, test in enumerate(suite.tests, 1)
    )


def moment(text: str) -> float:
    """A time with its offset as unix seconds: `2026-01-31T22:00:00+01:00`. ValueError with words for the writer."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ValueError("must be a time with its offset, such as 2026-01-31T22:00:00+01:00 or 2026-01-31T21:00Z")
    return parsed.timestamp()


def _check_moment(test: Test | Defaults, path: str, report: document.Report) -> None:
    try:
        if test.at:
            moment(test.at)
    except ValueError as e:
        report.add(f"{path}.at", str(e))
    try:
        if test.address and test.address != LOCAL_ADDRESS:
            ipaddress.ip_address(test.address)
    except ValueError:
        report.add(f"{path}.address", "must be an IP address, or unix")


def _check_test(test: Test, path: str, report: document.Report) -> None:
    _check_moment(test, path, report)
    if report.touches(f"{path}.sql") or report.touches(f"{path}.verdict"):
        return
    if not test.sql and test.verdict not in ENTRY:
        report.add(path, f"needs `sql` to expect `{test.verdict}`")
    if test.sql and test.verdict == "enter":
        report.add(path, "`enter` is for tests without `sql`")


def _check_suite(suite: Suite, path: str, report: document.Report) -> None:
    if report.touches(f"{path}.tests"):
        return                                      # some tests are missing here, so the others have other numbers
    names: dict[str, int] = {}
    for i, test in enumerate(suite.tests):
        for key in ("user", "connection"):
            if not getattr(test, key) and not getattr(suite.defaults, key):
                report.add(f"{path}.tests[{i}]", f"has no `{key}`, and `defaults` has none")
        if test.name and names.setdefault(test.name, i) != i:
            report.add(f"{path}.tests[{i}].name", f"is the name of tests[{names[test.name]}] too")


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Suite)}
