"""The core's parts one by one, with pytest-benchmark: `make bench`, or `pytest bench/test_core.py --benchmark-only`."""

from __future__ import annotations

from typing import Any

import pytest

from hoopfast import model
from hoopfast.analysis.classify import facts
from hoopfast.analysis.parse import parse
from tests.support import wire

_wire: Any = pytest.importorskip("hoopfast._wire", exc_type=ImportError)

PREPARED = wire.bind([b"12345"], name="P_0") + wire.describe_portal() + wire.execute() + wire.SYNC
TEXT_OID, INT8_OID, NUMERIC_OID = 25, 20, 1700
VALUES = {
    "redact": (model.MASK_REDACT, TEXT_OID, 0, b"Ada Lovelace"),
    "null": (model.MASK_NULL, TEXT_OID, 0, b"Ada Lovelace"),
    "partial": (model.MASK_PARTIAL, TEXT_OID, 0, b"4539-1488-0343-6467"),
    "email": (model.MASK_EMAIL, TEXT_OID, 0, b"ada.lovelace@example.org"),
    "hash-text": (model.MASK_HASH, TEXT_OID, 0, b"078-05-1120"),
    "hash-int8-binary": (model.MASK_HASH, INT8_OID, 1, (123456789).to_bytes(8, "big")),
    "constant": (model.MASK_CONSTANT, NUMERIC_OID, 0, b"98765.43"),
    "token-text": (model.MASK_TOKEN, TEXT_OID, 0, b"078-05-1120"),
}
STATEMENTS = {
    "pgbench": "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
    "join": "SELECT o.id, c.name, sum(o.price) FROM orders o JOIN customers c ON c.id = o.customer"
            " WHERE o.at > now() - interval '1 day' GROUP BY 1, 2 HAVING sum(o.price) > 10 ORDER BY 3 DESC LIMIT 50",
    "cte": "WITH gone AS (DELETE FROM orders WHERE price < 0 RETURNING *) INSERT INTO archive SELECT * FROM gone",
}


def test_scan_frames(benchmark: Any) -> None:
    data = PREPARED * 200
    frames, covered = benchmark(_wire.scan_frames, data, frontend=True)
    assert covered == len(data)
    assert len(frames) == 800


@pytest.mark.parametrize("size", [64, 1024, 65536])
def test_crc32c(benchmark: Any, size: int) -> None:
    assert benchmark(_wire.crc32c, b"x" * size)
    assert _wire.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("name", VALUES)
def test_mask_value(benchmark: Any, name: str) -> None:
    kind, oid, form, value = VALUES[name]
    masked = benchmark(_wire.mask_value, kind, 4, b"0", b"k" * 32, oid, form, value)
    assert masked != value


@pytest.mark.parametrize("name", STATEMENTS)
def test_parse_and_classify(benchmark: Any, name: str) -> None:
    assert benchmark(lambda: facts(parse(STATEMENTS[name])))
