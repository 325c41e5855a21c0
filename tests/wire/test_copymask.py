"""Masking of COPY TO STDOUT: against the reference, and refusal of everything that is not one row of the plan."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoopfast import _wire, model
from tests.wire import reference_mask as reference

KEY = bytes(range(32))
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
MASKS: list[reference.Mask] = [
    (model.MASK_NULL, 0, b"", b""),
    (model.MASK_REDACT, 0, b"", b""),
    (model.MASK_PARTIAL, 4, b"", b""),
    (model.MASK_EMAIL, 0, b"", b""),
    (model.MASK_HASH, 0, b"", KEY),
    (model.MASK_CONSTANT, 0, b'a"b,c\td\\e\nf|\x08g', b""),
    (model.MASK_CONSTANT, 0, b"\\.", b""),
    (model.MASK_CONSTANT, 0, b"", b""),
]
COLUMNS = [
    (-1, 23),
    (1, 25),
    (2, 1043),
    (3, 25),
    (4, 17),
    (5, 25),
    (-1, 25),
    (4, 1700),
    (0, 25),
    (1, 1082),
    (6, 25),
    (7, 25),
]


def plan(
    format: Literal["text", "csv", "binary"], columns: Sequence[tuple[int, int]] = COLUMNS, **options: Any
) -> bytes:
    defaults: dict[str, Any] = {
        "delimiter": b"," if format == "csv" else b"\t",
        "quote": b'"',
        "escape": b'"',
        "null": b"" if format == "csv" else b"\\N",
    }
    return _wire.pack_copy_plan(format=format, columns=columns, **(defaults | options))


def text_field(value: bytes | None, delimiter: bytes, null: bytes) -> bytes:
    """As CopyAttributeOutText writes it."""
    if value is None:
        return null
    names = {8: b"b", 12: b"f", 10: b"n", 13: b"r", 9: b"t", 11: b"v"}
    return b"".join(
        b"\\" + names[c] if c in names else b"\\" + bytes([c]) if c in b"\\" + delimiter else bytes([c]) for c in value
    )


def csv_field(value: bytes | None, delimiter: bytes, quote: bytes, escape: bytes, null: bytes) -> bytes:
    """As CopyAttributeOutCSV writes it."""
    if value is None:
        return null
    if value == null or value == b"\\." or any(c in delimiter + quote + b"\r\n" for c in value):
        return quote + b"".join((escape if c in quote + escape else b"") + bytes([c]) for c in value) + quote
    return value


def binary_tuple(values: Sequence[bytes | None]) -> bytes:
    return struct.pack("!h", len(values)) + b"".join(
        struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values
    )


def outcome(run: Callable[[], object]) -> object:
    try:
        return run()
    except ValueError:
        return "malformed"


cells = st.one_of(
    st.none(),
    st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=12).map(str.encode),
    st.text(alphabet="ab@,\"\\\t\n\r|\b\f\v.N'x0", max_size=10).map(str.encode),
    st.sampled_from([b"jane@example.com", b"123-45-6789", b"\\N", b"\\.", b"12.50", b"\\xdead", b"2024-02-29", b""]),
)
rows = st.lists(cells, min_size=len(COLUMNS), max_size=len(COLUMNS))


@settings(max_examples=200, deadline=None)
@given(
    values=rows,
    delimiter=st.sampled_from([b"\t", b"|", b",", b"\b", b"'"]),
    null=st.sampled_from([b"\\N", b"", b"\\NULL", b"x\\."]),
)
def test_text_rows(values: list[bytes | None], delimiter: bytes, null: bytes) -> None:
    line = delimiter.join(text_field(v, delimiter, null) for v in values) + b"\n"
    packed = plan("text", delimiter=delimiter, null=null)
    [ours] = _wire.copy_mask(packed, MASKS, [line])
    assert ours == reference.copy_text(line, delimiter, null, COLUMNS, MASKS)


@settings(max_examples=200, deadline=None)
@given(
    values=rows,
    delimiter=st.sampled_from([b",", b"\t", b"|"]),
    quote=st.sampled_from([b'"', b"'"]),
    escape=st.sampled_from([b"", b"\\", b"x", b"|"]),
    null=st.sampled_from([b"", b"\\N", b"NULL"]),
)
def test_csv_rows(values: list[bytes | None], delimiter: bytes, quote: bytes, escape: bytes, null: bytes) -> None:
    escape = escape or quote
    line = delimiter.join(csv_field(v, delimiter, quote, escape, null) for v in values) + b"\n"
    packed = plan("csv", delimiter=delimiter, quote=quote, escape=escape, null=null)
    [ours] = _wire.copy_mask(packed, MASKS, [line])
    assert ours == reference.copy_csv(line, delimiter, quote, escape, null, COLUMNS, MASKS)


@settings(max_examples=200, deadline=None)
@given(tuples=st.lists(rows, max_size=3), split=st.booleans())
def test_binary_rows(tuples: list[list[bytes | None]], split: bool) -> None:
    parts = [HEADER, *(binary_tuple(t) for t in tuples), TRAILER]
    chunks = parts if split else [b"".join(parts)]
    theirs = reference.Binary(COLUMNS, MASKS)
    assert _wire.copy_mask(plan("binary"), MASKS, chunks) == [theirs.message(c) for c in chunks]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["text", "csv"]),
    st.lists(st.sampled_from([b"a", b"@", b"\\", b'"', b",", b"\n", b"\r", b"N", b".", b"n", b"7"]), max_size=14),
    st.integers(1, 3),
)
def test_any_line_is_read_as_the_reference_reads_it(
    format: Literal["text", "csv"], pieces: list[bytes], width: int
) -> None:
    line = b"".join(pieces) + b"\n"
    columns = [(2, 25), (1, 25), (-1, 25)][:width]
    packed = plan(format, columns, delimiter=b",")
    if format == "text":
        theirs = outcome(lambda: reference.copy_text(line, b",", b"\\N", columns, MASKS))
    else:
        theirs = outcome(lambda: reference.copy_csv(line, b",", b'"', b'"', b"", columns, MASKS))
    assert outcome(lambda: _wire.copy_mask(packed, MASKS, [line])[0]) == theirs


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(0, 400), st.integers(0, 255))
def test_damaged_binary_is_read_as_the_reference_reads_it(values: list[bytes | None], at: int, byte: int) -> None:
    message = bytearray(HEADER + binary_tuple(values))
    message[at % len(message)] = byte
    ours = outcome(lambda: _wire.copy_mask(plan("binary"), MASKS, [bytes(message)])[0])
    assert ours == outcome(lambda: reference.Binary(COLUMNS, MASKS).message(bytes(message)))


ROW: list[bytes | None] = [
    b"1",
    b"secret",
    b"123-45-6789",
    b"jane@example.com",
    b"\\xdead",
    b"x",
    b"tab\there",
    b"12.5",
    b"gone",
    b"2024-02-29",
    b"y",
    None,
]


def test_what_comes_out() -> None:
    columns = [(-1, 23), (2, 25), (3, 25), (1, 25)]
    assert _wire.copy_mask(plan("text", columns), MASKS, [b"1\t123-45-6789\tjane@x.org\t\\N\n"]) == [
        b"1\t*******6789\tj***@x.org\t\\N\n"
    ]
    assert _wire.copy_mask(plan("csv", columns), MASKS, [b'1,"a,b""cdef",jane@x.org,\n']) == [
        b"1,****cdef,j***@x.org,\n"
    ]
    assert _wire.copy_mask(plan("csv", columns), MASKS, [b'1,"","say ""hi""",""\n']) == [b'1,"",***,***\n']

    assert _wire.copy_mask(
        plan("binary", columns), MASKS, [HEADER + binary_tuple([b"\0\0\0\1", b"123456789", None, b"x"]), TRAILER]
    ) == [
        HEADER + binary_tuple([b"\0\0\0\1", b"*****6789", None, b"***"]),
        TRAILER,
    ]


def test_a_masked_value_is_never_taken_for_null_or_a_quote_in_csv() -> None:
    masks = [(model.MASK_CONSTANT, 0, b"NULL", b""), (model.MASK_CONSTANT, 0, b"\\.", b"")]
    assert _wire.copy_mask(plan("csv", [(0, 25)], null=b"NULL"), masks, [b"x\n", b"NULL\n"]) == [b'"NULL"\n', b"NULL\n"]
    assert _wire.copy_mask(plan("csv", [(1, 25)]), masks, [b"x\n"]) == [b'"\\."\n']


def test_quotes_do_not_tell_what_is_in_a_value() -> None:
    """Whoever chooses the delimiter would learn from them whether a value contains it."""
    packed = plan("csv", [(1, 25)], delimiter=b"Q")
    assert _wire.copy_mask(packed, MASKS, [b'"xQy"\n']) == _wire.copy_mask(packed, MASKS, [b"xzy\n"]) == [b"***\n"]


def test_header_lines_pass_once() -> None:
    for fmt, line in (("text", b"id\tssn\n"), ("csv", b"id,ssn\n")):
        row = line.replace(b"id", b"1")
        columns = [(-1, 23), (1, 25)]
        packed = plan(fmt, columns, header=True)  # type: ignore[arg-type]
        first, second = _wire.copy_mask(packed, MASKS, [line, row])
        assert first == line
        assert b"ssn" not in second
        [without] = _wire.copy_mask(plan(fmt, columns), MASKS, [line])  # type: ignore[arg-type]
        assert b"ssn" not in without
        with pytest.raises(ValueError):
            _wire.copy_mask(packed, MASKS, [line.replace(b"id", b"id" + line[2:3])])


def cuts(message: bytes) -> list[bytes]:
    return [message[:n] for n in range(len(message))]


@pytest.mark.parametrize(
    "message",
    [
        b"\t".join(text_field(v, b"\t", b"\\N") for v in ROW) + b"\n",
        b"\t".join(text_field(v, b"\t", b"\\N") for v in [b"a\\", *ROW[1:]]) + b"\n",
    ],
)
def test_text_cut_anywhere_is_malformed(message: bytes) -> None:
    for part in cuts(message):
        with pytest.raises(ValueError):
            _wire.copy_mask(plan("text"), MASKS, [part])
    for more in (message + message, message + b"\n", b"\n" + message, message[:-1] + b"\t\n", message[:-1] + b"\r\n"):
        with pytest.raises(ValueError):
            _wire.copy_mask(plan("text"), MASKS, [more])


def test_csv_cut_anywhere_is_malformed() -> None:
    message = (
        b",".join(csv_field(v, b",", b'"', b'"', b"") for v in [*ROW[:6], b'multi\nline "quoted"', *ROW[7:11], b"end"])
        + b"\n"
    )
    for part in cuts(message):
        with pytest.raises(ValueError):
            _wire.copy_mask(plan("csv"), MASKS, [part])
    for more in (message + message, message + b"\n", message[:-1] + b",\n", message[:-1] + b"\r\n"):
        with pytest.raises(ValueError):
            _wire.copy_mask(plan("csv"), MASKS, [more])


def test_binary_cut_anywhere_is_malformed() -> None:
    message = HEADER + binary_tuple(ROW)
    for part in cuts(message):
        if part != HEADER:
            with pytest.raises(ValueError):
                _wire.copy_mask(plan("binary"), MASKS, [part])


@pytest.mark.parametrize(
    "chunks",
    [
        [binary_tuple(ROW)],  # no header
        [HEADER, HEADER],
        [HEADER + TRAILER, binary_tuple(ROW)],  # after the end
        [HEADER + TRAILER, TRAILER],
        [HEADER + TRAILER + b"\0"],
        [HEADER, b""],
        [HEADER[:11] + b"\0\1\0\0" + bytes(4) + binary_tuple(ROW)],  # OIDs
        [HEADER[:15] + b"\xff\xff\xff\xff" + binary_tuple(ROW)],  # extension longer than the message
        [HEADER, binary_tuple(ROW[:-1])],
        [HEADER, binary_tuple([*ROW, None])],
        [HEADER, struct.pack("!h", len(ROW)) + struct.pack("!i", -2) + binary_tuple(ROW)[7:]],
        [HEADER, struct.pack("!h", len(ROW)) + b"\x7f\xff\xff\xff" + b"x" * 100],
    ],
)
def test_binary_that_is_not_as_planned(chunks: list[bytes]) -> None:
    with pytest.raises(ValueError):
        _wire.copy_mask(plan("binary"), MASKS, chunks)


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ("text", b"\\.\n"),
        ("text", b"a\\qb\n"),
        ("text", b"a\\101\n"),
        ("text", b"a\\\n"),
        ("text", b"a\rb\n"),
        ("text", b""),
        ("text", b"a\\\nb\n"),
        ("csv", b"\\.\n"),
        ("csv", b'a"b\n'),
        ("csv", b'"a\n'),
        ("csv", b'"a"b\n'),
        ("csv", b'"a""\n'),
        ("csv", b"a\nb\n"),
        ("csv", b"a\rb\n"),
        ("csv", b""),
    ],
)
def test_lines_that_postgresql_does_not_write(format: Literal["text", "csv"], line: bytes) -> None:
    with pytest.raises(ValueError):
        _wire.copy_mask(plan(format, [(2, 25)]), MASKS, [line])


def test_csv_with_an_escape_of_its_own() -> None:
    packed = plan("csv", [(2, 25)], escape=b"\\")
    assert _wire.copy_mask(packed, MASKS, [b'"xa\\"b\\\\c,d"\n']) == [b'"****\\\\c,d"\n']
    for line in (b'"a\\b"\n', b'"a""b"\n', b'"a\\"\n'):
        with pytest.raises(ValueError):
            _wire.copy_mask(packed, MASKS, [line])


def test_room_is_respected_to_the_byte() -> None:
    messages: list[tuple[bytes, bytes]] = [
        (plan("text"), b"\t".join(text_field(v, b"\t", b"\\N") for v in ROW) + b"\n"),
        (plan("csv"), b",".join(csv_field(v, b",", b'"', b'"', b"") for v in ROW) + b"\n"),
        (plan("binary"), HEADER + binary_tuple(ROW)),
    ]
    for packed, message in messages:
        whole = _wire.copy_mask(packed, MASKS, [message])
        fits = False
        for room in range(len(whole[0]) + 256):
            try:
                assert _wire.copy_mask(packed, MASKS, [message], room) == whole
                fits = True
            except BufferError:
                assert not fits, "more room cannot be too little"
        assert fits


def test_a_mask_that_the_context_lacks_is_malformed() -> None:
    with pytest.raises(ValueError):
        _wire.copy_mask(plan("text", [(3, 25)]), MASKS[:3], [b"x\n"])


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": b""},
        {"delimiter": b"ab"},
        {"delimiter": b"\n"},
        {"delimiter": b"a"},
        {"delimiter": b"\\"},
        {"delimiter": b"\xe9"},
        {"null": b"a\tb"},
        {"null": b"a\nb"},
        {"null": b"\\"},
        {"null": b"x\\\\\\"},
        {"null": b"x" * 1025},
        {"columns": []},
        {"columns": [(-2, 25)]},
        {"columns": [(-1, 25)] * 1665},
        {"format": "csv", "quote": b"\t"},
        {"format": "csv", "null": b'"'},
        {"format": "csv", "escape": b""},
        {"format": "json"},
    ],
)
def test_plans_that_cannot_be(options: dict[str, Any]) -> None:
    given_options: dict[str, Any] = {
        "format": "text",
        "delimiter": b"\t",
        "quote": b'"',
        "escape": b'"',
        "null": b"\\N",
        "columns": [(-1, 25)],
    }
    _wire.pack_copy_plan(**given_options)
    with pytest.raises(ValueError):
        _wire.pack_copy_plan(**(given_options | options))


def test_packed_plans_are_checked() -> None:
    packed = plan("csv", [(1, 25), (-1, 23)], null=b"NULL", header=True)
    broken = [
        *cuts(packed),
        packed + b"x",
        b"\0" + packed[1:],
        packed[:1] + b"\3" + packed[2:],
        packed[:2] + b"\2" + packed[3:],
    ]
    for part in broken:
        with pytest.raises(ValueError, match="plan"):
            _wire.copy_mask(part, MASKS, [])
    chooser = random.Random(7)
    for _ in range(500):
        damaged = bytearray(packed)
        damaged[chooser.randrange(len(damaged))] = chooser.randrange(256)
        outcome(partial(_wire.copy_mask, bytes(damaged), MASKS, [b"h,h\n", b"a,b\n"]))


@pytest.mark.parametrize("null", [b"NULL", b"123-45-6789", b"\\\\x", b"a\\tb"])
def test_a_null_string_that_a_value_may_be_is_no_oracle(null: bytes) -> None:
    """COPY t (ssn) TO STDOUT (NULL 'guess') would show the guess, unmasked, where it is right."""
    with pytest.raises(ValueError, match="told apart"):
        plan("text", [(1, 25)], null=null, delimiter=b"|")
    plan("text", [(-1, 25)], null=null, delimiter=b"|")
    plan("csv", [(1, 25)], null=null, delimiter=b"|")
