"""Masks of values with parts, keyed functions against their standards, buckets and format-preserving encryption."""

from __future__ import annotations

import json
import struct
import uuid
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from hoopfast import _wire, model
from tests.wire import reference_mask as reference

KEY = bytes(range(32))
TEXT, BINARY = 0, 1
FEW = settings(max_examples=60, deadline=None)
ELEMENTWISE = (model.MASK_PARTIAL, model.MASK_EMAIL, model.MASK_HASH)


def mask(kind: int, keep: int, type_oid: int, format: int, value: bytes, constant: bytes = b"", **more: Any) -> Any:
    return _wire.mask_value(kind, keep, constant, KEY, type_oid, format, value, **more)


def one(kind: int, type_oid: int, value: bytes) -> bytes:
    masked = reference.mask(kind, 2, b"", KEY, type_oid, TEXT, value)
    assert masked is not None
    return masked


# ---------------------------------------------------------------- standards

# NIST, "FF1 samples" of SP 800-38G: all nine.
NIST = [
    ("2B7E151628AED2A6ABF7158809CF4F3C", 10, "", "0123456789", "2433477484"),
    ("2B7E151628AED2A6ABF7158809CF4F3C", 10, "39383736353433323130", "0123456789", "6124200773"),
    ("2B7E151628AED2A6ABF7158809CF4F3C", 36, "3737373770717273373737", "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
    ("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F", 10, "", "0123456789", "2830668132"),
    ("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F", 10, "39383736353433323130", "0123456789", "2496655549"),
    ("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F", 36, "3737373770717273373737", "0123456789abcdefghi",
     "xbj3kv35jrawxv32ysr"),
    ("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94", 10, "", "0123456789", "6657667009"),
    ("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94", 10, "39383736353433323130", "0123456789",
     "1001623463"),
    ("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94", 36, "3737373770717273373737",
     "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
]


@pytest.mark.parametrize(("key", "radix", "tweak", "plain", "cipher"), NIST)
def test_ff1_of_the_standard(key: str, radix: int, tweak: str, plain: str, cipher: str) -> None:
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    made = _wire.ff1(bytes.fromhex(key), radix, bytes.fromhex(tweak), [letters.index(c) for c in plain])
    assert made is not None
    assert "".join(letters[digit] for digit in made) == cipher


def test_ff1_refuses_small_domains_and_is_a_permutation() -> None:
    for radix, least, most in ((10, 6, 56), (16, 5, 48), (36, 4, 36), (62, 4, 32)):
        assert radix**least >= 1_000_000
        assert _wire.ff1(KEY, radix, b"", [1] * (least - 1)) is None
        assert _wire.ff1(KEY, radix, b"", [1] * (most + 1)) is None
        for n in (least, most):
            values = [[0] * n, [radix - 1] * n, [*([0] * (n - 1)), 1]]
            assert len({tuple(_wire.ff1(KEY, radix, b"", value) or ()) for value in values}) == 3
    seen = {tuple(_wire.ff1(KEY, 10, b"", [int(c) for c in f"{i:06}"]) or ()) for i in range(3000)}
    assert len(seen) == 3000


def test_siphash_of_its_authors() -> None:
    """First, second and last line of vectors_sip128 of the reference implementation."""
    key = bytes(range(16))
    for n, expected in ((0, "a3817f04ba25a8e66df67214c7550293"), (1, "da87c1d86b99af44347659119b22fc45"),
                        (63, "5150d1772f50834a503e069a973fbd7c")):
        assert _wire.siphash(key, bytes(range(n))).hex() == expected


# ---------------------------------------------------------------- token

def test_tokens_say_their_version_and_keep_equality() -> None:
    one_, other = (mask(model.MASK_TOKEN, 7, 25, TEXT, value) for value in (b"Ada", b"Bob"))
    assert one_.startswith(b"t7_")
    assert len(one_) == 29
    assert one_ != other
    assert mask(model.MASK_TOKEN, 7, 1042, BINARY, b"Ada   ") == one_
    assert mask(model.MASK_TOKEN, 7, 23, TEXT, b"42") == str(
        struct.unpack("!i", mask(model.MASK_TOKEN, 7, 23, BINARY, struct.pack("!i", 42)))[0]).encode()
    assert len(mask(model.MASK_TOKEN, 1, 17, BINARY, b"x")) == 16


def test_declared_lengths_are_kept() -> None:
    assert mask(model.MASK_TOKEN, 1, 1043, TEXT, b"abcdefgh", typmod=4 + 8) == mask(
        model.MASK_TOKEN, 1, 25, TEXT, b"abcdefgh")[:8]
    assert mask(model.MASK_REDACT, 0, 1043, TEXT, b"abc", typmod=4 + 2) == b"**"
    assert mask(model.MASK_CONSTANT, 0, 1042, TEXT, b"abc", "日本語".encode(), typmod=4 + 2) == "日本".encode()
    precise = (5 << 16 | 2) + 4
    assert int(mask(model.MASK_HASH, 0, 1700, TEXT, b"123.45", typmod=precise)) <= 999
    assert mask(model.MASK_BUCKET, 0, 1700, TEXT, b"-999.99", b"1000", typmod=precise) == b"0"
    assert mask(model.MASK_CONSTANT, 0, 1700, TEXT, b"1.00", b"1000", typmod=precise) is None


# ---------------------------------------------------------------- ff1 of values

@pytest.mark.parametrize(("alphabet", "value", "same"), [
    (0, "123-45-6789", "ddd-dd-dddd"), (0, "+49 (0) 123 456", "+dd (d) ddd ddd"),
    (3, "DE89 3704 0044", "xxxx xxxx xxxx"),
    (1, "dead-beef", "xxxx-xxxx"), (4, "Ab3d-EF9", "xxxx-xxx"),
])
def test_ff1_keeps_the_format(alphabet: int, value: str, same: str) -> None:
    masked = mask(model.MASK_FF1, alphabet, 25, TEXT, value.encode()).decode()
    assert masked != value
    assert len(masked) == len(value)
    for c, form in zip(masked, same, strict=True):
        assert c == form or (form == "d" and c.isdigit()) or (form == "x" and c.isalnum())


@pytest.mark.parametrize(("alphabet", "value"), [
    (0, "12-345"), (0, "A1234567"), (0, "1234567\xe9"), (1, "DEADBEEF"), (3, "abc123"), (0, "9" * 57), (0, ""),
])
def test_ff1_shows_nothing_of_what_it_cannot_encrypt(alphabet: int, value: str) -> None:
    """Too short, too long, or with letters outside of the alphabet, which would stay."""
    assert mask(model.MASK_FF1, alphabet, 25, TEXT, value.encode()) == b"***"


@FEW
@given(st.integers(-(2**63), 2**63 - 1))
def test_ff1_of_integers(value: int) -> None:
    masked = mask(model.MASK_FF1, 0, 20, TEXT, str(value).encode())
    assert struct.unpack("!q", mask(model.MASK_FF1, 0, 20, BINARY, struct.pack("!q", value))) == (int(masked),)
    if abs(value) < 100_000:
        assert masked == b"0"
    else:
        assert len(masked) == len(str(value))
        assert (int(masked) < 0) == (value < 0)
        assert -(2**63) <= int(masked) < 2**63


def test_ff1_of_integers_is_one_to_one_within_the_type() -> None:
    values = [2**31 - 1 - i for i in range(500)] + [100_000 + i for i in range(500)]
    masked = {mask(model.MASK_FF1, 0, 23, TEXT, str(value).encode()) for value in values}
    assert len(masked) == 1000
    assert all(int(m) < 2**31 for m in masked)


def test_ff1_of_numeric_and_uuid() -> None:
    made = mask(model.MASK_FF1, 0, 1700, TEXT, b"-98765.43")
    assert Decimal(made.decode()).as_tuple().exponent == -2
    assert len(made) == 9
    assert made.startswith(b"-")
    binary = mask(model.MASK_FF1, 0, 1700, BINARY, reference.write_numeric(Decimal("-98765.43"), 2))
    assert binary == reference.write_numeric(Decimal(made.decode()), 2)
    plain = uuid.UUID(int=7)
    assert uuid.UUID(bytes=mask(model.MASK_FF1, 0, 2950, BINARY, plain.bytes)) == uuid.UUID(
        mask(model.MASK_FF1, 0, 2950, TEXT, str(plain).encode()).decode()) != plain


# ---------------------------------------------------------------- buckets

@FEW
@given(st.decimals(-10**20, 10**20, places=6), st.sampled_from(["1000", "0.5", "0.125", "7", "999999999999999"]))
def test_buckets_of_numbers(value: Decimal, size: str) -> None:
    step = Decimal(size)
    expected = (value / step).to_integral_value(ROUND_FLOOR) * step
    text = f"{value:f}"
    masked = mask(model.MASK_BUCKET, 0, 1700, TEXT, text.encode(), size.encode())
    assert Decimal(masked.decode()) == expected
    binary = mask(model.MASK_BUCKET, 0, 1700, BINARY, reference.write_numeric(value, 6), size.encode())
    assert binary == reference.write_numeric(expected, max(0, -step.as_tuple().exponent))  # type: ignore[operator]


@FEW
@given(st.integers(-(2**31), 2**31 - 1), st.integers(2, 10**9))
def test_buckets_of_integers(value: int, size: int) -> None:
    masked = int(mask(model.MASK_BUCKET, 0, 23, TEXT, str(value).encode(), str(size).encode()))
    assert masked == max(value // size * size, -(2**31) // size * size + size * bool(2**31 % size))
    binary = mask(model.MASK_BUCKET, 0, 23, BINARY, struct.pack("!i", value), str(size).encode())
    assert struct.unpack("!i", binary) == (masked,)


@pytest.mark.parametrize(("type_oid", "unit", "constant", "value", "masked"), [
    (701, 0, b"1000", "98765.43", "98000"), (701, 0, b"0.5", "-0.3", "-0.5"), (701, 0, b"1000", "1e300", "0"),
    (701, 0, b"1000", "NaN", "0"), (23, 0, b"0.5", "42", "0"), (23, 0, b"1", "42", "0"), (25, 0, b"10", "42", "***"),
    (1082, 4, b"", "2024-02-29", "2024-02-26"), (1082, 8, b"", "0044-03-15 BC", "0051-01-01 BC"),
    (1082, 9, b"", "2000-12-31", "1901-01-01"), (1082, 3, b"", "2024-02-29", "1970-01-01"),
    (1184, 7, b"", "1990-01-01 00:30:00+02", "1989-01-01 00:00:00+00"), (1083, 1, b"", "12:34:56.7", "12:34:00"),
    (1266, 2, b"", "12:34:56.7+05:30", "12:00:00+05:30"), (1114, 2, b"", "infinity", "1970-01-01 00:00:00"),
    (869, 10, b"24", "10.1.2.3", "10.1.2.0/24"), (869, 10, b"20", "10.1.255.3/8", "10.0.0.0/8"),
    (650, 10, b"8", "2001:db8::/32", "2001::/16"), (869, 10, b"24", "not one", "0.0.0.0"),
    (3904, 0, b"10", "[12,25)", "[10,20)"), (3904, 0, b"10", "(,25)", "(,20)"), (3904, 0, b"10", "empty", "empty"),
    (3908, 3, b"", '["2024-01-05 01:02:03",)', '["2024-01-05 00:00:00",)'), (3908, 3, b"", "[infinity,)", "empty"),
    (4451, 0, b"10", "{[12,25),[31,)}", "{[10,20),[30,)}"),
])
def test_buckets(type_oid: int, unit: int, constant: bytes, value: str, masked: str) -> None:
    assert mask(model.MASK_BUCKET, unit, type_oid, TEXT, value.encode(), constant).decode() == masked


# ---------------------------------------------------------------- arrays

def written(element: str | None) -> str:
    """As array_out writes an element."""
    if element is None:
        return "NULL"
    plain = element and element.upper() != "NULL" and not any(c in '{},"\\' or c.isspace() for c in element)
    return element if plain else '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'


ELEMENTS = st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)),
                    min_size=1, max_size=6)


@FEW
@given(ELEMENTS, st.sampled_from(ELEMENTWISE))
def test_arrays_are_masked_by_element(elements: list[str | None], kind: int) -> None:
    text = "{" + ",".join(map(written, elements)) + "}"
    expected = [None if e is None else one(kind, 25, e.encode()).decode() for e in elements]
    masked = mask(kind, 2, 1009, TEXT, text.encode())
    assert Transformer().get_loader(1009, Format.TEXT).load(masked) == expected
    binary = struct.pack("!iiIii", 1, 1, 25, len(elements), 1) + b"".join(
        struct.pack("!i", -1) if e is None else struct.pack("!i", len(e.encode())) + e.encode() for e in elements)
    assert Transformer().get_loader(1009, Format.BINARY).load(mask(kind, 2, 1009, BINARY, binary)) == expected


@pytest.mark.parametrize("value", [
    b"", b"{", b"}", b"{a", b"{a}}", b"{a}b", b"a", b'{"a}', b'{"a"b}', b"{{a}", b"[1:2]", b"[1:2]=", b"[x]={a}",
    b"{a\\,b}", b"{" * 7 + b"a" + b"}" * 7, b'{"a',
])
def test_what_is_no_array_is_redacted_whole(value: bytes) -> None:
    assert mask(model.MASK_PARTIAL, 2, 1009, TEXT, value) == b"{}"


@pytest.mark.parametrize("value", [
    b"", bytes(11), struct.pack("!iiI", 7, 0, 25), struct.pack("!iiIii", 1, 0, 25, 2, 1) + struct.pack("!i", -1),
    struct.pack("!iiIii", 1, 0, 23, 1, 1) + struct.pack("!i", -1), struct.pack("!iiIii", 1, 0, 25, 2**31 - 1, 1),
    struct.pack("!iiIii", 1, 0, 25, 1, 1) + struct.pack("!i", 9) + b"x", struct.pack("!iiIii", 1, 0, 25, 0, 1) + b"x",
    struct.pack("!iiIiiii", 2, 0, 25, 2**31 - 1, 1, 2**31 - 1, 1),
])
def test_what_is_no_binary_array_is_redacted_whole(value: bytes) -> None:
    assert mask(model.MASK_PARTIAL, 2, 1009, BINARY, value) == struct.pack("!iiI", 0, 0, 25)


# ---------------------------------------------------------------- json

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-10**18, 10**18), st.text(max_size=12))
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)), max_leaves=12)


def expected_json(kind: int, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: expected_json(kind, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [expected_json(kind, inner) for inner in value]
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return int(one(kind, 1700, str(value).encode()))
    if isinstance(value, str):
        try:
            return "***" if "\0" in value else one(kind, 25, value.encode()).decode()
        except UnicodeEncodeError:
            return "***"            # half of a surrogate pair
    return value


@FEW
@given(DOCUMENTS, st.sampled_from(ELEMENTWISE), st.booleans())
def test_json_is_masked_by_value(document: Any, kind: int, ascii_only: bool) -> None:
    try:
        text = json.dumps(document, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    expected = expected_json(kind, document)
    assert json.loads(mask(kind, 2, 114, TEXT, text)) == expected
    assert json.loads(mask(kind, 2, 3802, TEXT, text)) == expected
    binary = mask(kind, 2, 3802, BINARY, b"\1" + text)
    assert binary[:1] == b"\1"
    assert json.loads(binary[1:]) == expected


@pytest.mark.parametrize("value", [b"secret", b'"open', b"tru", b"nul", b"{'a': 1}", b'{"a": NaN}', b'"x" \xff'])
def test_what_is_no_json_is_redacted_whole(value: bytes) -> None:
    assert mask(model.MASK_PARTIAL, 2, 114, TEXT, value) == b"{}"


def test_json_redacted_whole_or_inside_and_as_a_constant() -> None:
    text = b'{"name": "Ada", "n": [1.5, true, null]}'
    assert mask(model.MASK_REDACT, 0, 114, TEXT, text) == b"{}"
    assert mask(model.MASK_REDACT, 1, 114, TEXT, text) == b'{"name": "***", "n": [0, false, null]}'
    assert mask(model.MASK_CONSTANT, 0, 3802, TEXT, text, b'say "x"\n') == b'"say \\"x\\"\\n"'
    pay = mask(model.MASK_BUCKET, 0, 114, TEXT, b'{"pay": 98765.43, "x": "y"}', b"1000")
    assert pay == b'{"pay": 98000, "x": "***"}'


# ---------------------------------------------------------------- types of a database's own

TYPES = _wire.pack_mask_types([
    (20000, "e", 0, -1, "", [b"sad", b"happy"]),
    (20001, "c", 0, -1, "", [(25, -1), (20000, -1), (1007, -1), (20003, -1)]),
    (20002, "a", 20001, -1, ",", []), (20003, "d", 1043, 4 + 5, "", []), (20004, "r", 701, -1, "", []),
    (20005, "d", 20003, -1, "", []), (20006, "d", 20006, -1, "", []), (20007, "c", 0, -1, "", [(20007, -1)]),
])


@pytest.mark.parametrize(("type_oid", "kind", "value", "masked"), [
    (20000, model.MASK_REDACT, b"happy", b"sad"), (20000, model.MASK_PARTIAL, b"happy", b"sad"),
    (20001, model.MASK_REDACT, b'("a ""b",happy,"{1,2}",long)', b"(***,sad,{},***)"),
    (20001, model.MASK_PARTIAL, b'("a ""b",happy,,abcde)', b'("**""b",sad,,***de)'),
    (20001, model.MASK_REDACT, b"(,,,)", b"(,,,)"), (20001, model.MASK_REDACT, b"(a,happy,{})", None),
    (20001, model.MASK_REDACT, b"(a,happy,{},x,y)", None), (20001, model.MASK_REDACT, b"(a,happy,{},x", None),
    (20002, model.MASK_PARTIAL, b'{"(\\"a b\\",happy,\\"{1,2}\\",)",NULL}', b'{"(**b,sad,\\"{0,0}\\",)",NULL}'),
    (20003, model.MASK_HASH, b"x", reference.hashed(KEY, 25, 0, b"x")[:5]),
    (20005, model.MASK_HASH, b"x", reference.hashed(KEY, 25, 0, b"x")[:5]),
    (20004, model.MASK_HASH, b"[1,2)", b"empty"), (20006, model.MASK_REDACT, b"x", None),
    (20007, model.MASK_REDACT, b"(" * 20 + b")" * 20, None), (2249, model.MASK_REDACT, b"(a)", None),
    (30000, model.MASK_REDACT, b"x", None),
])
def test_types_of_a_database(type_oid: int, kind: int, value: bytes, masked: bytes | None) -> None:
    assert mask(kind, 2, type_oid, TEXT, value, types=TYPES) == masked


def test_enum_hashes_are_labels_and_constants_must_be() -> None:
    found = {mask(model.MASK_TOKEN, 1, 20000, TEXT, bytes([c]), types=TYPES) for c in range(40)}
    assert found == {b"sad", b"happy"}
    assert mask(model.MASK_CONSTANT, 0, 20000, BINARY, b"sad", b"happy", types=TYPES) == b"happy"
    assert mask(model.MASK_CONSTANT, 0, 20000, BINARY, b"sad", b"angry", types=TYPES) is None


def test_composites_in_binary() -> None:
    value = struct.pack("!iIi3sIi", 2, 25, 3, b"Ada", 23, -1)
    assert mask(model.MASK_PARTIAL, 1, 2249, BINARY, value) == struct.pack("!iIi3sIi", 2, 25, 3, b"**a", 23, -1)
    # A known composite must have its own fields.
    assert mask(model.MASK_PARTIAL, 1, 20001, BINARY, value, types=TYPES) is None


def test_tables_of_types_that_cannot_be() -> None:
    twice = (20000, "e", 0, -1, "", [b"x"])
    for types in ([twice, twice], [(25, "e", 0, -1, "", [])], [(20000, "q", 0, -1, "", [])]):
        with pytest.raises(ValueError, match="type"):
            _wire.pack_mask_types(types)
    with pytest.raises(ValueError, match="table"):
        mask(model.MASK_REDACT, 0, 25, TEXT, b"x", types=TYPES[:-1])


def test_copy_follows_the_types_modifier() -> None:
    plan = _wire.pack_copy_plan(format="text", delimiter=b"\t", quote=b'"', escape=b'"', null=b"\\N",
                                columns=[(0, 1043, 4 + 2), (0, 1009, -1)])
    rows = _wire.copy_mask(plan, [(model.MASK_PARTIAL, 1, b"", b"")], [b'abcd\t{"x\\\\\\\\y",NULL}\n'])
    assert rows == [b"**\t{**y,NULL}\n"]


@pytest.mark.parametrize("elements", [200, 5000])
def test_much_growth_has_room(elements: int) -> None:
    """Two bytes an element become 33."""
    masked = mask(model.MASK_HASH, 0, 1009, TEXT, b"{" + b",".join([b"x"] * elements) + b"}")
    assert len(masked) == 33 * elements + 1
