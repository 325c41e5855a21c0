"""Times of the week as policy.yaml writes them: `{days: [mon-fri], from: "09:00", to: "17:00", zone: Europe/Berlin}`.

Pure: the moment comes from the caller. Used by the reader of policy.yaml and by `conditions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60


def parse_time(text: str) -> int:
    """`09:30` as minutes since midnight; `24:00` is the end of the day. ValueError with words for the writer."""
    hours, colon, minutes = text.partition(":")
    digits = (hours + minutes).isascii() and (hours + minutes).isdecimal()
    if not colon or not digits or len(hours) != 2 or len(minutes) != 2 or int(minutes) > 59 or (
            int(hours) * 60 + int(minutes) > DAY_MINUTES):
        raise ValueError("must be a time of day such as 09:30 (00:00 to 24:00)")
    return int(hours) * 60 + int(minutes)


def parse_days(words: Iterable[str]) -> frozenset[int]:
    """`mon`, `mon-fri`, `sat-mon` as numbers, Monday is 0; nothing means every day. ValueError as above."""
    found: set[int] = set()
    for word in words:
        first, dash, last = word.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"must be days such as mon or mon-fri (known: {', '.join(DAYS)})")
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if dash else 0
        found.update((start + i) % 7 for i in range(length + 1))
    return frozenset(found or range(7))


def parse_zone(name: str) -> ZoneInfo:
    """A zone of the IANA data base; ValueError when there is none of this name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone such as Europe/Berlin or UTC") from None


class Window:
    """One stretch of the day on some days of the week, in local time. One whose end comes before its beginning goes
    on into the next day: its day is the one on which it began."""

    __slots__ = ("_days", "_from", "_to", "_zone")

    def __init__(self, days: Iterable[str], start: str, end: str, zone: str) -> None:
        self._days = parse_days(days)
        self._from = parse_time(start)
        self._to = parse_time(end)
        self._zone = parse_zone(zone)

    def holds(self, now: float) -> bool:
        """Whether a moment (unix seconds) is within; the beginning belongs to it, the end does not."""
        local = datetime.fromtimestamp(now, self._zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self._from < self._to:
            return day in self._days and self._from <= minute < self._to
        return (day in self._days and minute >= self._from) or ((day - 1) % 7 in self._days and minute < self._to)
