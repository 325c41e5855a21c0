"""The search for masked values finds them in whatever they were written, and finds nothing in an ordinary answer."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import struct
import uuid
from typing import Any

import pytest

from tests.adversarial.canaries import Canaries
from tests.adversarial.cases import load
from tests.adversarial.generate import statement

TEXT = "QZVXKWJPHGBMFY"
DAY = dt.date(2743, 7, 19)
MOMENT = dt.datetime(2871, 3, 5, 12, 30, 15, tzinfo=dt.UTC)
TOKEN = uuid.UUID("d3b07384-d9a0-4e9b-8a1f-0123456789ab")
SECRET = bytes(range(200, 212))


@pytest.mark.parametrize(("value", "shown"), [
    (TEXT, TEXT.encode()),
    (TEXT, TEXT.lower().encode()),
    (TEXT, TEXT[::-1].encode()),
    (TEXT, TEXT[4:9].encode()),
    (TEXT, b"\\x" + TEXT.encode().hex().encode()),
    (TEXT, base64.b64encode(TEXT.encode())),
    (TEXT, base64.b64encode(b"x" + TEXT.encode())),
    (TEXT, base64.b64encode(b"xy" + TEXT.encode())),
    (TEXT, ",".join(str(ord(c)) for c in TEXT).encode()),
    (TEXT, "".join(f"\\{ord(c):03o}" for c in TEXT).encode()),
    (TEXT, hashlib.md5(TEXT.encode(), usedforsecurity=False).hexdigest().encode()),
    (TEXT, hashlib.sha256(TEXT.encode()).digest()),
    (739184626, b"total 739184626.75"),
    (739184626, b"739,184,626"),
    (739184626, f"{739184626:x}".encode()),
    (739184626, b"626481937"),
    (739184626, struct.pack("!ii", 4, 739184626)),
    (739184626, struct.pack("!iq", 8, 739184626)),
    (739184626.75, struct.pack("!id", 8, 739184626.75)),
    (739184626.75, bytes.fromhex("00070f4e12121d4c")),
    (DAY, b"2743-07-19"),
    (DAY, b"19/07/2743"),
    (DAY, struct.pack("!ii", 4, (DAY - dt.date(2000, 1, 1)).days)),
    (MOMENT, b"2871-03-05 12:30:15+00"),
    (MOMENT, str(int(MOMENT.timestamp())).encode()),
    (TOKEN, str(TOKEN).encode()),
    (TOKEN, TOKEN.bytes),
    (SECRET, b"\\x" + SECRET.hex().encode()),
    (SECRET, SECRET),
    ({"key": TEXT, "deep": ["KJHGFPQZXV"]}, b'{"deep": ["kjhgf'),
    (["KJHGFPQZXV"], b"{KJHGFPQZXV}"),
])
def test_found(value: Any, shown: bytes) -> None:
    assert Canaries([("t.c", value)]).find(b"before " + shown + b" after") == {"t.c"}


def test_cut_over_rows_and_columns() -> None:
    canaries = Canaries([("t.c", TEXT)])
    assert canaries.find_spread([[c.encode()] for c in TEXT])
    assert canaries.find_spread([[str(ord(c)).encode()] for c in TEXT])
    assert canaries.find_spread([[struct.pack("!i", ord(c)) for c in TEXT]])
    assert not canaries.find_spread([[b"a"], [None], [b"b"]])


def test_what_masks_show_is_no_canary() -> None:
    canaries = Canaries([("people.email", "pqzvxkwj@example.org"), ("people.card", "KBMGF-HPJWB-1486")])
    assert not canaries.find(b"p***@example.org ************1486")
    assert canaries.find(b"pqzvxkwj") == {"people.email"}


def test_an_ordinary_answer_has_none() -> None:
    canaries = Canaries([("t.c", value) for value in (TEXT, 739184626, DAY, MOMENT, TOKEN, SECRET)])
    assert not canaries.find(b'relation "people" does not exist 16384 2024-01-01 00:00:00 \\x00 ' + bytes(64))


def test_files_are_read() -> None:
    cases = load("attacks") + load("benign")
    assert len({(case.channel, case.name) for case in cases}) == len(cases)
    assert not [case.name for case in cases if case.channel in ("queries", "people") and case.statement is None]


def test_random_queries_are_the_same_every_time() -> None:
    assert [statement(n) for n in range(20)] == [statement(n) for n in range(20)]
    assert len({statement(n) for n in range(50)}) == 50
