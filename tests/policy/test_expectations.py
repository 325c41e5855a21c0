"""Files of expectations: defaults, several lines of SQL, and every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoopfast.errors import ConfigError
from hoopfast.policy.expectations import expectations, load_suite, moment


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "tests.yaml"
    file.write_text(text)
    return file


def test_defaults_and_what_overrides_them(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, """\
defaults: {user: ann, groups: [eng], connection: shop, at: 2026-01-05T12:00Z, application: psql}
tests:
  - name: first
    sql: |
      SELECT 1
      -- and more
    verdict: allow
  - {user: bob, groups: [], connection: other, verdict: no-entry, application: "", at: 2026-01-05T12:00+01:00}
"""))
    first, second = expectations(suite)
    assert (first.name, first.user, first.groups, first.connection) == ("first", "ann", ("eng",), "shop")
    assert first.sql == "SELECT 1\n-- and more\n" and first.rule is None and first.application == "psql"
    assert (second.name, second.user, second.groups, second.application) == ("test 2", "bob", (), "")
    assert first.at is not None and second.at == first.at - 3600


def problems(tmp_path: Path, text: str) -> set[str]:
    with pytest.raises(ConfigError) as caught:
        load_suite(written(tmp_path, text))
    return {problem.path for problem in caught.value.problems}


def test_every_problem_at_once(tmp_path: Path) -> None:
    assert problems(tmp_path, """\
tests:
  - {user: ann, connection: a, verdict: perhaps, sql: SELECT 1}
  - {user: ann, connection: a, verdict: allow}
  - {user: ann, connection: a, verdict: enter, sql: SELECT 1}
  - {user: ann, connection: a, verdict: enter, at: yesterday, address: localhost}
  - {user: ann, connection: a, verdict: enter, at: 2026-01-05T12:00, expect: nothing}
  - {user: ann, connection: a, verdict: allow, sql: " "}
""") == {
        "$.tests[0].verdict", "$.tests[1]", "$.tests[2]", "$.tests[3].at", "$.tests[3].address", "$.tests[4].at",
        "$.tests[4].expect", "$.tests[5].sql"}


def test_tests_are_whole_and_have_names_of_their_own(tmp_path: Path) -> None:
    assert problems(tmp_path, """\
tests:
  - {connection: a, verdict: enter, name: x}
  - {user: ann, verdict: enter}
  - {user: ann, connection: a, verdict: enter, name: x}
""") == {"$.tests[0]", "$.tests[1]", "$.tests[2].name"}


@pytest.mark.parametrize("text", ["2026-01-05", "2026-01-05T12:00", "noon", "", "2026-13-05T12:00Z"])
def test_a_time_needs_its_offset(text: str) -> None:
    with pytest.raises(ValueError, match="offset"):
        moment(text)
