"""Types of an upstream's own, and whether a mask can be made for a type. Pure; asked by `catalog.hide`.

Kinds that fall back to a type's redaction can be made for every type. The others are mistakes of the policy where they
fit nowhere in the type: the supervisor refuses such a policy when it knows the type, and the statement is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from hoopfast import model
from hoopfast.model import Frozen, MaskSpec

FIRST_USER_OID: Final = 16_384
DEPTH_MAX: Final = 8

INTEGERS: Final = frozenset({20, 21, 23, 26})
FRACTIONS: Final = frozenset({700, 701, 1700})
MOMENTS: Final = frozenset({1114, 1184})
DATE: Final = 1082
CLOCKS: Final = frozenset({1083, 1266})
ADDRESSES: Final = frozenset({650, 869})
TEXTS: Final = frozenset({19, 25, 705, 1042, 1043, 1790})
JSON: Final = frozenset({114, 3802})
CONSTANTS: Final = TEXTS | JSON | INTEGERS | FRACTIONS | MOMENTS | ADDRESSES | {16, 17, 18, DATE, 1083, 2950}
PRESERVED: Final = TEXTS | {20, 23, 1700, 2950}
RANGES: Final = {
    3904: 23, 3906: 1700, 3908: 1114, 3910: 1184, 3912: 1082, 3926: 20,
    4451: 3904, 4532: 3906, 4533: 3908, 4534: 3910, 4535: 3912, 4536: 3926,
}
ARRAYS: Final = {
    199: 114, 651: 650, 1000: 16, 1001: 17, 1002: 18, 1003: 19, 1005: 21, 1007: 23, 1009: 25, 1014: 1042, 1015: 1043,
    1016: 20, 1021: 700, 1022: 701, 1028: 26, 1041: 869, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184, 1231: 1700,
    1270: 1266, 2201: 1790, 2951: 2950, 3807: 3802, 3905: 3904, 3907: 3906, 3909: 3908, 3911: 3910, 3913: 3912,
    3927: 3926, 6150: 4451, 6151: 4532, 6152: 4533, 6153: 4534, 6155: 4535, 6157: 4536,
}


class Type(Frozen, frozen=True):
    """One type of a database's own. `kind`: d domain, a array, c composite, e enum, r range, m multirange.

    `part` is the base type, element, subtype or range; `fields` of a composite are (type OID, type modifier).
    """

    oid: int
    name: str
    kind: str
    part: int = 0
    typmod: int = -1
    delimiter: str = ","
    fields: tuple[tuple[int, int], ...] = ()
    labels: tuple[str, ...] = ()


def unfit(spec: MaskSpec, type_oid: int, types: Mapping[int, Type]) -> str:
    """Why this mask cannot be made for the type, "" when it can."""
    leaves = [*_leaves(type_oid, types, 0)]
    if any(_fits(spec, kind, leaf, types) for kind, leaf in leaves):
        return ""
    if spec.kind == model.MASK_BUCKET:
        if spec.keep == model.UNIT_NUMBER and any(leaf in INTEGERS for _, leaf in leaves):
            return "a bucket of whole numbers needs a whole size of 2 or more"
        units = "a size in numbers fits numbers, one in time fits dates and times, /24 fits addresses"
        return f"a bucket of this size cannot be made for the type ({units})"
    if spec.kind == model.MASK_FF1:
        return "ff1 can be made for text, integer, bigint, numeric, uuid and json"
    if spec.kind == model.MASK_CONSTANT:
        return "the type takes no constant that the gateway can write (docs/masks.md lists those that do)"
    return ""


def _leaves(oid: int, types: Mapping[int, Type], depth: int, kind: str = "") -> Iterator[tuple[str, int]]:
    """("" or the kind of range it is a bound of, OID) of the scalars and enums that a type is made of."""
    found = types.get(oid)
    if depth > DEPTH_MAX:
        return
    if oid < FIRST_USER_OID:
        part = ARRAYS.get(oid) or RANGES.get(oid)
        if part is not None:
            yield from _leaves(part, types, depth + 1, "r" if oid in RANGES else kind)
        else:
            yield kind, oid
    elif found is None or found.kind == "e":
        yield kind, oid
    elif found.kind == "c":
        for field, _ in found.fields:
            yield from _leaves(field, types, depth + 1, kind)
    elif found.kind in "da":
        yield from _leaves(found.part, types, depth + 1, kind)


def _fits(spec: MaskSpec, kind: str, leaf: int, types: Mapping[int, Type]) -> bool:
    """`kind` "r": the leaf is a bound, which only a bucket keeps in order."""
    if spec.kind == model.MASK_BUCKET:
        return _bucket_fits(spec, leaf)
    if spec.kind == model.MASK_FF1:
        return not kind and leaf in PRESERVED | JSON
    if spec.kind == model.MASK_CONSTANT:
        found = types.get(leaf)
        labels = found.labels if found is not None else ()
        return not kind and (leaf in CONSTANTS or spec.constant.decode(errors="replace") in labels)
    return True


def _bucket_fits(spec: MaskSpec, leaf: int) -> bool:
    if spec.keep == model.UNIT_PREFIX:
        return leaf in ADDRESSES
    if spec.keep != model.UNIT_NUMBER:
        if leaf in CLOCKS:
            return spec.keep <= model.UNIT_HOUR
        return leaf in MOMENTS or (leaf == DATE and spec.keep > model.UNIT_DAY)
    if leaf in INTEGERS:
        return b"." not in spec.constant and int(spec.constant) >= 2
    return leaf in FRACTIONS | JSON
