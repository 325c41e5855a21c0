"""Every type of PostgreSQL, each mask, text and binary: the server reads masked values back as their declared types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import pq

from hoopfast import _wire, model
from hoopfast.analysis.fit import Type, unfit
from hoopfast.control.types import load_types
from hoopfast.policy.masks import UNITS
from tests.support.postgres import PostgresServer

KEY = bytes(range(32))
TEXT, BINARY = 0, 1
VALUES: dict[str, tuple[str, ...]] = {
    "bool": ("t",),
    "bytea": (r"\xdeadbeef", r"\x"),
    '"char"': ("x",),
    "name": ("jane@example.com",),
    "int2": ("12345", "-32768"),
    "int4": ("193584726", "-2147483648", "2147483647"),
    "int8": ("9223372036854775807", "-9007199254740993"),
    "oid": ("4294967295",),
    "text": ("Ada Lovelace", "123-45-6789", "jane@example.com", "", "日本語 \\ \" ' \n"),
    "varchar(9)": ("123456789",),
    "char(7)": ("ab cd",),
    "float4": ("1.5", "-98765.4", "NaN", "1e30"),
    "float8": ("98765.43", "-0.000012", "Infinity", "1e300"),
    "numeric": ("98765.43", "-0.00012", "123456789012345678901234567890.5", "NaN", "0", "100000000"),
    "numeric(5,2)": ("123.45", "-999.99"),
    "numeric(4,4)": ("0.1234",),
    "money": ("1234.56",),
    "date": ("1987-06-05", "infinity", "0044-03-15 BC", "5874897-12-31"),
    "time": ("12:34:56.789", "24:00:00"),
    "timetz": ("12:34:56.789+05:30",),
    "timestamp": ("1987-06-05 12:34:56.789012", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59"),
    "timestamptz": ("1987-06-05 12:34:56.789012+02", "4713-01-01 00:00:00+00 BC"),
    "interval": ("1 year 2 months 3 days 04:05:06",),
    "uuid": ("12345678-1234-5678-9abc-def012345678",),
    "json": ('{"name": "Ada", "n": [1, 2.5e3, -7], "ok": true, "x": null}', '"a \\u00e9 \\n \\ud83d\\ude00"', "[]"),
    "jsonb": ('{"name": "Ada \\"q\\"", "n": [100200300, 2.5], "ok": true, "x": null}', "17"),
    "inet": ("10.1.2.3", "10.1.2.3/8", "2001:db8::1:2/96"),
    "cidr": ("10.1.0.0/16", "2001:db8::/32"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(5)": ("10101",),
    "varbit": ("1011",),
    "tsvector": ("'cat':3 'fat':2A",),
    "tsquery": ("'fat' & 'cat'",),
    "point": ("(1.5,2)",),
    "lseg": ("[(1,2),(3,4)]",),
    "line": ("{1,-1,0}",),
    "box": ("(3,4),(1,2)",),
    "path": ("((1,2),(3,4))", "[(1,2),(3,4)]"),
    "polygon": ("((1,2),(3,4),(5,6))",),
    "circle": ("<(1,2),3>",),
    "pg_lsn": ("16/B374D848",),
    "tid": ("(12,3)",),
    "xid": ("77",),
    "cid": ("7",),
    "xid8": ("77",),
    "pg_snapshot": ("10:20:10,14",),
    "txid_snapshot": ("10:20:10,14",),
    "regclass": ("pg_class",),
    "regtype": ("integer",),
    "regproc": ("now",),
    "regprocedure": ("now()",),
    "regoper": ("||/",),
    "regoperator": ("+(integer,integer)",),
    "regrole": ("pg_monitor",),
    "regnamespace": ("pg_catalog",),
    "regconfig": ("english",),
    "regdictionary": ("simple",),
    "regcollation": ('"C"',),
    "jsonpath": ('$."a"[*]',),
    "refcursor": ("cursor 1",),
    "int2vector": ("1 2 3",),
    "oidvector": ("1 2 3",),
    "int4range": ("[12,25)", "empty", "(,5)"),
    "int8range": ("[123456,223456)",),
    "numrange": ("[1.5,22.75]",),
    "daterange": ("[2024-01-05,2024-03-09)", "[2024-01-01,infinity)"),
    "tsrange": ('["2024-01-05 01:02:03","2024-01-09 05:00:00")',),
    "tstzrange": ('["2024-01-05 01:02:03+00",)',),
    "int4multirange": ("{[1,15),[17,19)}", "{}"),
    "int8multirange": ("{[100,250)}",),
    "nummultirange": ("{[1.5,2.5)}",),
    "datemultirange": ("{[2024-01-05,2024-01-09),[2024-03-03,)}",),
    "tsmultirange": ('{["2024-01-05 01:02:03","2024-01-09 05:00:00")}',),
    "tstzmultirange": ('{["2024-01-05 01:02:03+00","2024-01-09 05:00:00+00")}',),
    "text[]": ('{Ada,"b c",NULL,"NULL","q\\"\\\\x",""}', "{}", "{{a,b},{c,d}}", "[0:1]={x,y}"),
    "varchar(5)[]": ("{abcde,f}",),
    "int4[]": ("{193584726,NULL,-5}", "[-1:0]={1,2}"),
    "numeric(5,2)[]": ("{123.45,1}",),
    "timestamptz[]": ('{"1987-06-05 12:34:56+00",NULL}',),
    "jsonb[]": ('{"{\\"a\\": [\\"x y\\", 1]}",NULL}',),
    "box[]": ("{(3,4),(1,2);(1,1),(0,0)}",),
    "point[]": ('{"(1,2)"}',),
    "uuid[]": ("{12345678-1234-5678-9abc-def012345678}",),
    "bytea[]": ('{"\\\\xdead"}',),
    "inet[]": ("{10.1.2.3,::1}",),
    "int4range[]": ('{"[1,15)",empty}',),
    "datemultirange[]": ('{"{[2024-01-05,2024-01-09)}"}',),
    "bit(3)[]": ("{101}",),
    # types of one's own
    "mood": ("happy",),
    "mood[]": ("{happy,sad,NULL}",),
    "ssn": ("123-45-6789",),
    "ssn[]": ("{123-45-6789,NULL}",),
    "age": ("42",),
    "person": ('("Ada ""L"" \\\\x",42,happy,"{jane@x.org,""a b""}",,"[12,25)")', "(,,,,,)"),
    "person[]": ('{"(\\"Ada, L\\",42,happy,\\"{\\"\\"a b\\"\\"}\\",,)"}',),
    "crowd": ('("(Ada,42,happy,{x},""{""""k"""": 1}"",)","{1,2}")',),
    "citext": ("Jane@Example.com",),
    "citext[]": ("{Jane@Example.com,NULL}",),
    "floats": ("[1.5,2.5)",),
    "floatm": ("{[1.5,2.5)}",),
}
OWN = """
CREATE SCHEMA masked; SET search_path = masked, pg_catalog; CREATE EXTENSION citext SCHEMA masked;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN ssn AS varchar(11); CREATE DOMAIN age AS int4;
CREATE TYPE person AS (name text, age age, mood mood, mails text[], extra jsonb, span int4range);
CREATE TYPE crowd AS (head person, numbers int4[]);
CREATE TYPE floats AS RANGE (subtype = float8, multirange_type_name = floatm);
"""


def spec(kind: int, keep: int = 0, constant: bytes = b"") -> model.MaskSpec:
    return model.MaskSpec(kind=kind, keep=keep, constant=constant, key=KEY if kind in model.MASKS_KEYED else b"")


MASKS = {
    "redact": spec(model.MASK_REDACT),
    "inside": spec(model.MASK_REDACT, 1),
    "partial": spec(model.MASK_PARTIAL, 4),
    "email": spec(model.MASK_EMAIL),
    "hash": spec(model.MASK_HASH),
    "token": spec(model.MASK_TOKEN, 12),
    "ff1": spec(model.MASK_FF1),
    "ff1 alphanumeric": spec(model.MASK_FF1, 4),
    "thousands": spec(model.MASK_BUCKET, model.UNIT_NUMBER, b"1000"),
    "halves": spec(model.MASK_BUCKET, model.UNIT_NUMBER, b"0.5"),
    "hours": spec(model.MASK_BUCKET, model.UNIT_HOUR),
    "months": spec(model.MASK_BUCKET, UNITS.index("month")),
    "networks": spec(model.MASK_BUCKET, model.UNIT_PREFIX, b"24"),
    "constant": spec(model.MASK_CONSTANT, 0, b"42"),
}


class Sample(NamedTuple):
    type_name: str
    type_oid: int
    typmod: int
    literal: str
    text: bytes
    binary: bytes


class World(NamedTuple):
    connection: psycopg.Connection[Any]
    types: dict[int, Type]
    packed: bytes
    samples: list[Sample]


@pytest.fixture(scope="module")
def world(postgres: PostgresServer) -> Iterator[World]:
    with postgres.database("mask_types") as name, postgres.connect(name) as connection:
        connection.execute(OWN)
        connection.execute("SET search_path = masked, pg_catalog")
        connection.execute("SET TimeZone = 'Asia/Kolkata'")
        samples = [sample for type_name in VALUES for sample in taken(connection, type_name)]

        async def rows(query: str, *arguments: Any) -> list[Any]:
            return connection.execute(query, arguments).fetchall()  # type: ignore[call-overload, no-any-return]

        loaded = asyncio.run(load_types(rows, {one.type_oid for one in samples}, []))
        domains = connection.execute("SELECT oid::int8 FROM pg_type WHERE typname IN ('ssn', 'age')").fetchall()
        loaded = asyncio.run(load_types(rows, {one.oid for one in loaded} | {oid for (oid,) in domains}, []))
        packed = _wire.pack_mask_types([
            (one.oid, one.kind, one.part, one.typmod, one.delimiter,
             [label.encode() for label in one.labels] if one.kind == "e" else list(one.fields)) for one in loaded])
        yield World(connection, {one.oid: one for one in loaded}, packed, samples)


def taken(connection: psycopg.Connection[Any], type_name: str) -> Iterator[Sample]:
    """The values of a type as this server sends them."""
    for literal in VALUES[type_name]:
        query = f"SELECT $1::text::{type_name} AS value".encode()
        text, binary = (connection.pgconn.exec_params(query, [literal.encode()], result_format=fmt) for fmt in (0, 1))
        assert text.status == pq.ExecStatus.TUPLES_OK, (type_name, literal, text.error_message)
        value = binary.get_value(0, 0) if binary.status == pq.ExecStatus.TUPLES_OK else b""
        yield Sample(type_name, text.ftype(0), text.fmod(0), literal, text.get_value(0, 0) or b"", value or b"")


def read_back(world: World, one: Sample, fmt: int, masked: bytes) -> bytes | None:
    """What the server makes of it, as its text; an error fails the test."""
    query = f"SELECT $1::{one.type_name}".encode()
    oid = 0 if fmt == TEXT else one.type_oid
    done = world.connection.pgconn.exec_params(query, [masked], [oid], [fmt], TEXT)
    assert done.status == pq.ExecStatus.TUPLES_OK, (one, fmt, masked, done.error_message.decode())
    return done.get_value(0, 0)


@pytest.mark.parametrize("name", MASKS)
def test_masked_values_parse_and_agree(world: World, name: str) -> None:
    mask = MASKS[name]
    nulls = set()
    for one in world.samples:
        done = []
        for fmt, value in ((TEXT, one.text), (BINARY, one.binary)):
            masked = _wire.mask_value(mask.kind, mask.keep, mask.constant, mask.key, one.type_oid, fmt, value,
                                      types=world.packed, typmod=one.typmod)
            done.append(None if masked is None else read_back(world, one, fmt, masked))
        assert done[0] == done[1], (one, done)
        if done[0] is None:
            nulls.add(one.type_name)
        may_stay = mask.kind in (model.MASK_CONSTANT, model.MASK_BUCKET) or one.type_name.startswith(("mood", "bit"))
        assert may_stay or len(one.text) <= 12 or done[0] != one.text, one
    if mask.kind != model.MASK_CONSTANT:
        assert not nulls


def test_what_fits_is_what_is_made(world: World) -> None:
    """A mask is refused at policy load exactly where the core would only redact."""
    made = {}
    for name, mask in MASKS.items():
        if mask.kind not in (model.MASK_BUCKET, model.MASK_FF1):
            continue
        for one in world.samples:
            arguments = one.type_oid, TEXT, one.text
            masked = _wire.mask_value(mask.kind, mask.keep, mask.constant, mask.key, *arguments, types=world.packed)
            redacted = _wire.mask_value(model.MASK_REDACT, 1, b"", b"", *arguments, types=world.packed)
            made.setdefault((name, one.type_name), False)
            made[name, one.type_name] |= masked != redacted
    oids = {one.type_name: one.type_oid for one in world.samples}
    wrong = {(name, type_name) for (name, type_name), real in made.items()
             if real and unfit(MASKS[name], oids[type_name], world.types)}
    assert not wrong
    refused = {(name, type_name) for name, type_name in made if unfit(MASKS[name], oids[type_name], world.types)}
    assert ("months", "int4") in refused
    assert ("ff1", "timestamp") in refused
    assert ("thousands", "crowd") not in refused
    assert len(refused) > 200


def test_buckets_are_those_of_the_server(world: World) -> None:
    """floor() and date_trunc() of the server are the oracle."""
    cases = [
        ("int4", "thousands", "floor({} / 1000.0)::int4 * 1000"), ("int8", "thousands", "floor({} / 1000.0) * 1000"),
        ("numeric", "halves", "floor({} / 0.5) * 0.5"), ("float8", "thousands", "floor({} / 1000) * 1000"),
        ("timestamp", "months", "date_trunc('month', {})"), ("timestamp", "hours", "date_trunc('hour', {})"),
        ("date", "months", "date_trunc('month', {}::timestamp)::date"),
        ("timestamptz", "months", "date_trunc('month', {} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"),
        ("inet", "networks", "network(set_masklen({0}, least(masklen({0}), (family({0}) - 2) * 12)))"),
    ]
    checked = 0
    for type_name, name, expression in cases:
        mask = MASKS[name]
        for one in world.samples:
            if one.type_name != type_name or one.literal.lower().lstrip("-") in {"nan", "infinity", "1e300"}:
                continue
            if one.literal in {"-2147483648", "5874897-12-31"}:
                continue        # the bucket would begin below the type; beyond what a timestamp has
            masked = _wire.mask_value(mask.kind, mask.keep, mask.constant, b"", one.type_oid, TEXT, one.text)
            truth = expression.format(f"(%s::text::{type_name})")
            count = truth.count("%s")
            query = f"SELECT %s::text::{type_name} = ({truth})"
            assert masked is not None
            row = world.connection.execute(query, [masked.decode(), *[one.literal] * count]).fetchone()  # type: ignore[call-overload]
            assert row == (True,), (one, masked)
            checked += 1
    assert checked > 15


def test_all_types_of_the_server_are_known(world: World) -> None:
    """Whatever scalar, range or array pg_type has: its redaction is not NULL, apart from what cannot be read back."""
    rows = world.connection.execute(
        "SELECT oid::int8, typname::text, typarray::int8, typtype::text FROM pg_type WHERE oid < 16384"
        " AND typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace AND typcategory <> 'A'"
    ).fetchall()
    closed = {"aclitem", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
              "pg_brin_minmax_multi_summary", "gtsvector"}
    for oid, name, array, _ in rows:
        if name in closed:
            continue
        for fmt in (TEXT, BINARY):
            assert _wire.mask_value(model.MASK_REDACT, 0, b"", b"", oid, fmt, b"2024-01-01") is not None, name
            if array:
                assert _wire.mask_value(model.MASK_REDACT, 0, b"", b"", array, fmt, b"") is not None, name
    assert len(rows) > 70
