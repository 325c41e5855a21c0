"""How a mask is written in policy.yaml (`with:`), and what of it the relay gets. Used by `source` and `snapshot`."""

from __future__ import annotations

import decimal
import hashlib
import hmac
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from hoopfast import model
from hoopfast.config import Section

Keep = Annotated[int, msgspec.Meta(ge=1, le=64)]
Version = Annotated[int, msgspec.Meta(ge=1, le=999)]
KeyName = Annotated[str, msgspec.Meta(max_length=100)]
Short = Literal["redact", "null", "email", "partial", "hash", "constant", "token", "ff1"]

KEEP_DEFAULT: Final = 4
STEP_DIGITS_MAX: Final = 15
# In the order of the core's units and alphabets.
UNITS: Final = ("", "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century")
ALPHABETS: Final = ("digits", "hex", "lower", "upper", "alphanumeric")


class Redact(Section, frozen=True, kw_only=True):
    inside: bool = False            # keep arrays and json as they are built, and redact what is in them


class Partial(Section, frozen=True, kw_only=True):
    keep: Keep = KEEP_DEFAULT       # characters left at the end


class Constant(Section, frozen=True, kw_only=True):
    value: str | int                # as PostgreSQL would print it


class Bucket(Section, frozen=True, kw_only=True):
    size: str | int | float         # 1000, 0.5, month, /24


class Keyed(Section, frozen=True, kw_only=True):
    """`version` makes another key of the same column; columns that name the same `key` have one key together."""

    version: Version = 1
    key: KeyName = ""


class FF1(Section, frozen=True, kw_only=True):
    alphabet: Literal["digits", "hex", "lower", "upper", "alphanumeric"] = "digits"
    version: Version = 1
    key: KeyName = ""


class Form(Section, frozen=True, kw_only=True):
    """The long form of a mask: `with: {partial: {keep: 4}}`. Exactly one of them."""

    redact: Redact | None = None
    partial: Partial | None = None
    constant: Constant | None = None
    bucket: Bucket | None = None
    hash: Keyed | None = None
    token: Keyed | None = None
    ff1: FF1 | None = None


class Key(NamedTuple):
    """Which key a keyed mask has: of its column, or of a name that columns share."""

    version: int = 1
    shared: str = ""


def chosen(form: Form) -> tuple[str, ...]:
    """The kinds that a long form writes; a valid one writes one."""
    return tuple(name for name in form.__struct_fields__ if getattr(form, name) is not None)


def bucket_size(size: str | float) -> tuple[int, str]:
    """(unit, number in digits) of a bucket's size. Raises ValueError with what it may be."""
    text = str(size)
    if text in UNITS[1:]:
        return UNITS.index(text), ""
    if text.startswith("/") and text[1:].isdecimal() and text.isascii() and 1 <= int(text[1:]) <= 32:
        return model.UNIT_PREFIX, text[1:]
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        number = decimal.Decimal(0)
    digits = f"{number:f}" if number.is_finite() and -20 < number.adjusted() < 20 else ""
    if not number > 0 or not digits or len(digits.replace(".", "")) > STEP_DIGITS_MAX:
        raise ValueError(
            f"must be a number above zero of up to {STEP_DIGITS_MAX} digits, a time ({', '.join(UNITS[1:])}) or the "
            "prefix of an address (/1 to /32; of IPv6 twice as many bits)")
    return model.UNIT_NUMBER, digits


def spec_of(with_: Short | Form | None, keep: int | None, value: str | int | None) -> tuple[model.MaskSpec, Key]:
    """What the relay does with the column, and which key it needs; `with: null` without quotes is the kind "null"."""
    form = with_ if isinstance(with_, Form) else Form()
    name = chosen(form)[0] if isinstance(with_, Form) else with_ or "null"
    kind = model.MASK_NAMES.index(name)
    if name == "redact":
        return model.MaskSpec(kind=kind, keep=int(form.redact is not None and form.redact.inside)), Key()
    if name == "partial":
        kept = form.partial.keep if form.partial else KEEP_DEFAULT if keep is None else keep
        return model.MaskSpec(kind=kind, keep=kept), Key()
    if name == "constant":
        shown = form.constant.value if form.constant else value
        return model.MaskSpec(kind=kind, constant=str(shown).encode() if shown is not None else b""), Key()
    if name == "bucket" and form.bucket:
        unit, digits = bucket_size(form.bucket.size)
        return model.MaskSpec(kind=kind, keep=unit, constant=digits.encode()), Key()
    if name == "ff1":
        ff1 = form.ff1 or FF1()
        return model.MaskSpec(kind=kind, keep=ALPHABETS.index(ff1.alphabet)), Key(ff1.version, ff1.key)
    if name in {"hash", "token"}:
        keyed = form.hash or form.token or Keyed()
        shown_version = keyed.version if name == "token" else 0
        return model.MaskSpec(kind=kind, keep=shown_version), Key(keyed.version, keyed.key)
    return model.MaskSpec(kind=kind), Key()


def with_key(spec: model.MaskSpec, key: Key, mask_key: bytes, names: tuple[str, ...]) -> model.MaskSpec:
    """Keyed masks get a key of their own column and connection, so that equal values in two columns cannot be linked,

    or of the name they share, so that they can. Each kind and each version has another.
    """
    if spec.kind not in model.MASKS_KEYED:
        return spec
    if spec.kind == model.MASK_HASH and key == Key():
        words: tuple[str, ...] = ("hoopfast mask 1", *names)
    else:
        whose = ("shared", key.shared) if key.shared else ("column", *names)
        words = ("hoopfast mask 2", model.MASK_NAMES[spec.kind], str(key.version), *whose)
    # NUL cannot be part of a name: no two lists of names give the same bytes.
    message = b"\0".join(word.encode() for word in words)
    return msgspec.structs.replace(spec, key=hmac.new(mask_key, message, hashlib.sha256).digest())
