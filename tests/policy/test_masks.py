"""Keys of masks: one for each column, kind and version, or one for all that name it; and masks that fit no type."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from hoopfast import model
from hoopfast.analysis.catalog import Catalog, Column, Relation, hide
from hoopfast.analysis.fit import Type, unfit
from hoopfast.policy import source
from hoopfast.policy.snapshot import compile_for

SECRET = bytes(range(32))


def keys(entries: str, connections: tuple[str, ...] = ("shop",)) -> list[bytes]:
    policy = source.parse_policy(f"masks: [{entries}]", "policy.yaml", connections)
    snapshot = compile_for(connections, policy, 1, SECRET)
    nobody = model.Identity(user="", subject="", issuer="")
    return [mask.spec.key for name in connections for mask in snapshot.masks_for(nobody, name)]


def entry(column: str, how: str) -> str:
    return f"{{columns: [{column}], with: {how}}}"


def test_the_key_of_a_hash_is_what_it_always_was() -> None:
    """Hashes that were written down before versions existed must still be found."""
    old = hmac.new(SECRET, b"hoopfast mask 1\0public\0t\0a\0shop", hashlib.sha256).digest()
    assert keys(entry("public.t.a", "hash")) == keys(entry("public.t.a", "{hash: {version: 1}}")) == [old]


def test_every_column_kind_version_and_connection_has_a_key_of_its_own() -> None:
    hows = ("hash", "token", "ff1", "{hash: {version: 2}}", "{token: {version: 2}}", "{ff1: {version: 2}}",
            "{token: {key: people}}", "{token: {key: people, version: 2}}", "{ff1: {key: people}}")
    found = [key for how in hows for column in ("public.t.a", "public.t.b")
             for key in keys(entry(column, how), ("x", "y"))]
    assert all(len(key) == 32 for key in found)
    # Shared keys are one for both columns on both connections: three of the nine hows.
    assert len(set(found)) == 6 * 4 + 3


def test_a_shared_key_makes_columns_joinable() -> None:
    both = ", ".join(entry(f"public.{table}.customer", "{token: {key: customers}}") for table in ("orders", "people"))
    one, other = keys(both)
    assert one == other


def test_masks_without_keys_have_none() -> None:
    for how in ("redact", "partial", "email", "null", "{bucket: {size: 10}}"):
        assert keys(entry("public.t.a", how)) == [b""]


PERSON = Type(oid=20001, name="person", kind="c", fields=((25, -1), (20000, -1), (1007, -1)))
TYPES = {
    20000: Type(oid=20000, name="mood", kind="e", labels=("sad", "happy")), 20001: PERSON,
    20002: Type(oid=20002, name="people", kind="a", part=20001),
    20003: Type(oid=20003, name="ssn", kind="d", part=1043),
    20004: Type(oid=20004, name="floats", kind="r", part=701),
}


@pytest.mark.parametrize(("how", "good", "bad"), [
    ("{bucket: {size: 1000}}", (20, 21, 23, 700, 1700, 3802, 1007, 3904, 4451, 20001, 20002),
     (25, 1082, 20000, 20004, 790)),
    ("{bucket: {size: 0.5}}", (700, 701, 1700, 3906), (23, 1007, 20001)),
    ("{bucket: {size: 1}}", (1700,), (23, 20)),
    ("{bucket: {size: month}}", (1082, 1114, 1184, 3912, 1185), (1083, 23, 25)),
    ("{bucket: {size: hour}}", (1083, 1114, 1266), (1082,)),
    ("{bucket: {size: /24}}", (650, 869, 1041), (23, 829)),
    ("ff1", (25, 1043, 23, 20, 1700, 2950, 114, 1009, 20003), (21, 1082, 3904, 20000, 17, 16)),
    ("{constant: {value: happy}}", (25, 20000, 1009, 20001), (600, 20004, 3614)),
    ("redact", (25, 600, 20004, 99999), ()), ("hash", (25, 3614), ()), ("partial", (25, 23), ()),
])
def test_what_fits(how: str, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    policy = source.parse_policy(f"masks: [{entry('a.b.c', how)}]", "policy.yaml")
    spec, _ = source.mask_spec(policy.masks[0])
    assert {oid for oid in good if unfit(spec, oid, TYPES)} == set()
    assert {oid for oid in bad if not unfit(spec, oid, TYPES)} == set()


def test_a_relation_with_a_mask_that_cannot_be_is_named() -> None:
    columns = (Column("id", 1, 23), Column("born", 2, 1082, policy=(("public", "t", "born"),), type_name="date"))
    catalog = Catalog(epoch=1, relations=(Relation(7, "public", "t", "r", columns),))
    hidden = hide(catalog, {("public", "t", "born"): model.MaskSpec(kind=model.MASK_FF1, key=SECRET)})
    assert hidden.unfit == {
        "t": "masked column public.t.born (date): ff1 can be made for text, integer, bigint, numeric, uuid and json"}
    assert hide(catalog, {("public", "t", "born"): model.MaskSpec(kind=model.MASK_REDACT)}).unfit == {}
