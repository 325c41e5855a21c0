"""Times of the week: days, midnight, zones and their changes of the clock."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hoopfast.policy.windows import Window, parse_days, parse_time, parse_zone

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(("text", "inside"), [
    ("2026-01-05T09:00:00", True), ("2026-01-05T08:59:59", False), ("2026-01-05T16:59:59", True),
    ("2026-01-05T17:00:00", False), ("2026-01-10T12:00:00", False),         # a Saturday
    ("2026-07-06T09:00:00", True),                                          # summer time
])
def test_office_hours(text: str, inside: bool) -> None:
    assert Window(["mon-fri"], "09:00", "17:00", "Europe/Berlin").holds(at(text)) is inside


@pytest.mark.parametrize(("text", "inside"), [
    ("2026-01-09T21:59:59", False), ("2026-01-09T22:00:00", True), ("2026-01-10T05:59:00", True),
    ("2026-01-10T06:00:00", False), ("2026-01-10T22:30:00", False), ("2026-01-09T03:00:00", False),
])
def test_over_midnight_the_day_is_that_of_the_beginning(text: str, inside: bool) -> None:
    assert Window(["fri"], "22:00", "06:00", "Europe/Berlin").holds(at(text)) is inside


def test_whole_days() -> None:
    weekend = Window(["sat-sun"], "00:00", "24:00", "UTC")
    assert weekend.holds(at("2026-01-11T23:59:59", ZoneInfo("UTC")))
    assert not weekend.holds(at("2026-01-12T00:00:00", ZoneInfo("UTC")))


def test_words() -> None:
    assert parse_days(["sat-mon"]) == {5, 6, 0}
    assert parse_days([]) == set(range(7))
    assert (parse_time("00:00"), parse_time("24:00"), parse_time("09:30")) == (0, 1440, 570)


@pytest.mark.parametrize("text", ["9:00", "24:01", "12:60", "12", "1200", "-1:00", "12:00:00", "", "١٢:٠٠"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="time of day"):
        parse_time(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Europe"])
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        parse_zone(name)


def test_what_is_no_day() -> None:
    for word in ("monday", "mon-", "fri-weekend", ""):
        with pytest.raises(ValueError, match="days"):
            parse_days([word])
