"""Tables of events: CSV for spreadsheets, Parquet for analysis. Used by `hoopfast audit export`.

One row per event with the columns people ask for; what has parts (parameters, results, notes) is JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

COLUMNS = (
    "at", "session", "seq", "event", "user", "connection", "client", "application", "kind", "sql", "parameters",
    "verdict", "rule", "outcome", "tag", "rows", "bytes", "duration_us", "sqlstate", "message",
)
# Parquet has room for all of it, and types.
MORE = ("id", "subject", "issuer", "database", "copy_bytes")
LISTS = ("groups", "masks", "tables", "kinds", "columns")
NUMBERS = ("id", "seq", "rows", "bytes", "copy_bytes", "duration_us")
ROWS_AT_ONCE = 10_000


def write_csv(events: Iterable[dict[str, Any]], file: IO[str]) -> None:
    import csv

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for event in events:
        writer.writerow([_cell(_field(event, name)) for name in COLUMNS])


def write_parquet(events: Iterator[dict[str, Any]], path: str) -> None:
    """Raises click.ClickException when pyarrow is not there, or the file cannot be written."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as missing:
        raise click.ClickException(
            "Parquet needs pyarrow, which is not installed: pip install 'hoopfast[parquet]', or use --format csv"
        ) from missing
    texts = [name for name in (*COLUMNS, *MORE) if name not in {*NUMBERS, "at"}]
    schema = pa.schema([
        ("at", pa.timestamp("ns", tz="UTC")), *((name, pa.int64()) for name in NUMBERS),
        *((name, pa.string()) for name in texts), *((name, pa.list_(pa.string())) for name in LISTS),
        ("results", pa.string()), ("detail", pa.string()),
    ])
    # Beside it first: half a file must not look like a whole one.
    partial = Path(f"{path}.new")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            while rows := [_row(event, texts) for event in islice(events, ROWS_AT_ONCE)]:
                writer.write_table(pa.Table.from_pylist(rows, schema))
        partial.rename(path)
    except OSError as failure:
        raise click.ClickException(f"{path} cannot be written: {failure}") from failure
    finally:
        partial.unlink(missing_ok=True)


def _row(event: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    from hoopfast.audit.events import nanoseconds

    row: dict[str, Any] = {"at": nanoseconds(event["at"])}
    row |= {name: min(event.get(name) or 0, 2**63 - 1) for name in NUMBERS}
    row |= {name: _text(_field(event, name)) for name in texts}
    row |= {name: event.get(name) or [] for name in LISTS}
    row["results"] = _text(event.get("results") or None)
    row["detail"] = _text(event.get("note") or event.get("fields"))
    return row


def _text(value: Any) -> str | None:
    import orjson

    return value if isinstance(value, str) or value is None else orjson.dumps(value).decode()


def _field(event: dict[str, Any], name: str) -> Any:
    if name in {"sqlstate", "message"}:
        return (event.get("error") or {}).get(name)
    if name == "sql" and event["event"] != "statement":
        return event.get("action") or (event.get("note") or {}).get("event") or event.get("reason")
    return event.get(name)


def _cell(value: Any) -> str:
    """One CSV cell; a spreadsheet must not take what a client wrote for a formula."""
    if value is None:
        return ""
    text = _text(value) or ""
    return f"'{text}" if isinstance(value, str) and text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
