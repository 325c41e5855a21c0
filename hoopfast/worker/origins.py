"""Where a statement's columns come from, as the server says, held against what the analysis promised. Used by the
verdict desk."""

from __future__ import annotations

from hoopfast._wire import pack_copy_plan
from hoopfast.analysis.gate import StatementJudgement
from hoopfast.protocol import messages
from hoopfast.worker.contexts import Context
from hoopfast.worker.refusals import Denied, refusal


def check_origins(fields: list[messages.Field], one: StatementJudgement, context: Context) -> int:
    """How many columns have no origin. Raises Denied for more than the analysis proved clean, and for whole rows."""
    zero = sum(not field.table_oid for field in fields)
    closure = context.closure
    for field in fields:
        row = field.table_oid and not field.attnum
        if row or (closure is not None and field.table_oid in closure.view_oids):
            raise Denied(refusal(f'column "{field.name}" may hold hidden values', "Name plain columns of tables."),
                         "origin", "masking")
    for position in one.positions:
        by = fields[position - 1 : position] if position > 0 else []
        if not by or (by[0].table_oid, by[0].attnum) in context.names:
            raise Denied(refusal(f"sorting or grouping by position {position} would use a hidden column",
                                 "Name the column to sort or group by."), "position", "masking")
    if one.zero_origin is not None and zero > one.zero_origin:
        raise Denied(refusal("the server computes output columns that the analysis took for plain ones",
                              "Write column references with the table's name."), "origin", "masking")
    return zero


def copy_plan(one: StatementJudgement, fields: list[messages.Field], context: Context) -> bytes:
    """For Relay.decide. Raises Denied for options that cannot be masked."""
    assert one.copy is not None
    how = one.copy
    computed = context.redaction if one.redact else -1
    columns = [(context.masks.get((field.table_oid, field.attnum), -1) if field.table_oid else computed, field.type_oid,
                field.modifier) for field in fields]
    try:
        return pack_copy_plan(
            format=how.format,  # type: ignore[arg-type]  # checked by copy_format
            delimiter=how.delimiter, quote=how.quote, escape=how.escape, null=how.null, columns=columns,
            header=how.header)
    except ValueError as error:
        raise Denied(refusal(f"this COPY cannot be masked: {error}", "Use the format's usual options."),
                     "copy options", "masking") from None
