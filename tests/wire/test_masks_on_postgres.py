"""What the server thinks of masked values: its input functions take them, and COPY through the mask loads again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql

from hoopfast import _wire, model
from tests.support.postgres import PostgresServer
from tests.wire import reference_mask as reference
from tests.wire.test_mask import KEY, VALUES

MASKS: list[reference.Mask] = [
    (model.MASK_REDACT, 0, b"", b""),
    (model.MASK_PARTIAL, 4, b"", b""),
    (model.MASK_EMAIL, 0, b"", b""),
    (model.MASK_HASH, 0, b"", KEY),
    (model.MASK_CONSTANT, 0, b"42", b""),
    (model.MASK_CONSTANT, 0, b"t", b""),
    (model.MASK_CONSTANT, 0, b"2000-01-01", b""),
    (model.MASK_CONSTANT, 0, b"\\x00ff", b""),
    (model.MASK_CONSTANT, 0, b"00000000-0000-4000-8000-000000000000", b""),
]
ROWS: list[tuple[Any, ...]] = [
    (1, "plain secret", "jane@example.com", "1234.5600", "caf\u00e9"),
    (2, 'quote " comma , tab \t back \\ line \n end', None, "-0.5", ""),
    (3, "", "no address", None, "\\N"),
    (4, "\\.", "a@b", "NaN", "NULL"),
]


def test_input_functions_take_every_masked_value(postgres: PostgresServer) -> None:
    checked = 0
    with postgres.connect() as connection:
        pg = connection.pgconn
        for type_oid in reference.REDACTED:
            for mask in MASKS:
                for fmt in (0, 1):
                    value = VALUES.get(type_oid, [(b"2024-02-29", b"")])[0][fmt]
                    masked = _wire.mask_value(*mask, type_oid, fmt, value)
                    if masked is None or type_oid == 705:
                        continue
                    done = pg.exec_params(b"SELECT $1", [masked], [type_oid], [fmt], fmt)
                    if done.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"0A000" and type_oid == 142:
                        continue  # a server built without libxml
                    assert done.status == psycopg.pq.ExecStatus.TUPLES_OK, (type_oid, mask, fmt, done.error_message)
                    assert done.ftype(0) in {type_oid, 25}
                    checked += 1
    assert checked > 600


@pytest.mark.parametrize("columns", [(0, 1, 2, 3), (0,), (3, 1), ()])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("text", ""),
        ("text", ", DELIMITER '|'"),
        ("csv", ""),
        ("csv", ", QUOTE '''', ESCAPE '\\', NULL 'NULL', FORCE_QUOTE *"),
        ("csv", ", HEADER"),
        ("binary", ""),
    ],
)
def test_copy_through_the_mask_loads_again(
    postgres: PostgresServer, form: Literal["text", "csv", "binary"], options: str, columns: Sequence[int]
) -> None:
    marks = {
        "delimiter": b"," if form == "csv" else b"\t",
        "quote": b'"',
        "escape": b'"',
        "null": b"" if form == "csv" else b"\\N",
    }
    if "QUOTE '" in options:
        marks |= {"quote": b"'", "escape": b"\\", "null": b"NULL"}
    if "DELIMITER" in options:
        marks["delimiter"] = b"|"
    oids = (23, 25, 25, 1700, 1043)
    masked_by = [columns.index(i - 1) if i - 1 in columns else -1 for i in range(5)]
    masks = [MASKS[i] for i in columns]
    plan = _wire.pack_copy_plan(
        format=form, columns=list(zip(masked_by, oids, strict=True)), header="HEADER" in options, **marks
    )
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE t (id int, a text, b text, c numeric, d varchar); CREATE TEMP TABLE u (LIKE t)"
        )
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s, %s)", ROWS)
        with_options = sql.SQL("(FORMAT {}" + options + ")").format(sql.Identifier(form))
        with cursor.copy(sql.SQL("COPY t TO STDOUT ") + with_options) as out:
            messages = [bytes(m) for m in out]
        back = sql.SQL("(FORMAT {}" + options.replace(", FORCE_QUOTE *", "") + ")").format(sql.Identifier(form))
        with cursor.copy(sql.SQL("COPY u FROM STDIN ") + back) as into:
            for message in _wire.copy_mask(plan, masks, messages):
                into.write(message)
        plain = cursor.execute("SELECT id::text, a, b, c::text, d FROM t ORDER BY id").fetchall()
        loaded = cursor.execute("SELECT id::text, a, b, c::text, d FROM u ORDER BY id").fetchall()
    expected = [
        tuple(
            v
            if v is None or masked_by[i] < 0
            else (reference.mask(*masks[masked_by[i]], oids[i], 0, v.encode()) or b"").decode()
            for i, v in enumerate(row)
        )
        for row in plain
    ]
    assert loaded == expected
