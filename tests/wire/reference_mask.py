"""The masks a second time, in plain Python: slow, obvious, and written from docs/masks.md rather than from the core.

`mask` is one cell; `copy_text`, `copy_csv` and `Binary` are the CopyData bodies of a statement. test_mask.py and
test_copymask.py compare the compiled core with it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import math
import re
import struct
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal

NULL, REDACT, PARTIAL, EMAIL, HASH, CONSTANT = range(6)
TEXT_TYPES = {25, 1043, 1042, 19, 705, 1790}
INTEGERS = {21: 2, 23: 4, 20: 8}
EPOCH = dt.date(2000, 1, 1)

# type -> (text, binary)
REDACTED: dict[int, tuple[bytes, bytes]] = {
    **dict.fromkeys(TEXT_TYPES, (b"***", b"***")),
    16: (b"f", b"\0"),
    17: (b"\\x", b""),
    18: (b"*", b"*"),
    21: (b"0", bytes(2)),
    23: (b"0", bytes(4)),
    20: (b"0", bytes(8)),
    26: (b"0", bytes(4)),
    700: (b"0", bytes(4)),
    701: (b"0", bytes(8)),
    1700: (b"0", bytes(8)),
    790: (b"00", bytes(8)),
    114: (b"{}", b"{}"),
    3802: (b"{}", b"\x01{}"),
    142: (b"<redacted/>", b"<redacted/>"),
    1082: (b"1970-01-01", struct.pack("!i", (dt.date(1970, 1, 1) - EPOCH).days)),
    1114: (b"1970-01-01 00:00:00", struct.pack("!q", (dt.date(1970, 1, 1) - EPOCH).days * 86_400_000_000)),
    1184: (b"1970-01-01 00:00:00+00", struct.pack("!q", (dt.date(1970, 1, 1) - EPOCH).days * 86_400_000_000)),
    1083: (b"00:00:00", bytes(8)),
    1266: (b"00:00:00+00", bytes(12)),
    1186: (b"00:00:00", bytes(16)),
    2950: (b"00000000-0000-0000-0000-000000000000", bytes(16)),
    869: (b"0.0.0.0", bytes([2, 32, 0, 4, 0, 0, 0, 0])),
    650: (b"0.0.0.0/32", bytes([2, 32, 1, 4, 0, 0, 0, 0])),
    829: (b"00:00:00:00:00:00", bytes(6)),
    774: (b"00:00:00:00:00:00:00:00", bytes(8)),
    1560: (b"0", bytes([0, 0, 0, 1, 0])),
    1562: (b"0", bytes([0, 0, 0, 1, 0])),
    3614: (b"", bytes(4)),
    3615: (b"'x'", b"\0\0\0\1\1\0\0x\0"),
    4072: (b"$", b"\x01$"),
    27: (b"(0,0)", bytes(6)),
    28: (b"0", bytes(4)),
    29: (b"0", bytes(4)),
    5069: (b"0", bytes(8)),
    3220: (b"0/0", bytes(8)),
    **dict.fromkeys((2970, 5038), (b"1:1:", struct.pack("!iqq", 0, 1, 1))),
    22: (b"0", struct.pack("!iiIiiih", 1, 0, 21, 1, 0, 2, 0)),
    30: (b"0", struct.pack("!iiIiiii", 1, 0, 26, 1, 0, 4, 0)),
    **dict.fromkeys((24, 2202, 2205, 2206, 3734, 3769, 4089, 4096, 4191), (b"-", bytes(4))),
    **dict.fromkeys((2203, 2204), (b"0", bytes(4))),
    600: (b"(0,0)", bytes(16)),
    601: (b"[(0,0),(0,0)]", bytes(32)),
    602: (b"((0,0))", struct.pack("!bidd", 1, 1, 0, 0)),
    603: (b"(0,0),(0,0)", bytes(32)),
    604: (b"((0,0))", struct.pack("!idd", 1, 0, 0)),
    628: (b"{0,1,0}", struct.pack("!ddd", 0, 1, 0)),
    718: (b"<(0,0),0>", bytes(24)),
    **dict.fromkeys((3904, 3906, 3908, 3910, 3912, 3926), (b"empty", b"\x01")),
    **dict.fromkeys((4451, 4532, 4533, 4534, 4535, 4536), (b"{}", bytes(4))),
}
SCALARS = tuple(oid for oid in REDACTED if oid not in {114, 3802, *range(3904, 3928), 4451, *range(4532, 4537)})
ELEMENTS = {
    1006: 22, 1008: 24, 1010: 27, 1011: 28, 1012: 29, 1013: 30, 2201: 1790, 2207: 2202, 2208: 2203, 2209: 2204,
    2210: 2205, 2211: 2206, 2949: 2970, 3221: 3220, 3645: 3615, 3735: 3734, 3770: 3769, 4073: 4072, 4090: 4089,
    4097: 4096, 4192: 4191, 5039: 5038, 271: 5069, 6150: 4451, 6151: 4532, 6152: 4533, 6153: 4534, 6155: 4535,
    6157: 4536,
    1000: 16,
    1001: 17,
    1002: 18,
    1003: 19,
    1016: 20,
    1005: 21,
    1007: 23,
    1009: 25,
    1028: 26,
    199: 114,
    143: 142,
    1017: 600,
    1018: 601,
    1019: 602,
    1020: 603,
    1027: 604,
    629: 628,
    651: 650,
    1021: 700,
    1022: 701,
    719: 718,
    775: 774,
    791: 790,
    1040: 829,
    1041: 869,
    1014: 1042,
    1015: 1043,
    1182: 1082,
    1183: 1083,
    1115: 1114,
    1185: 1184,
    1187: 1186,
    1270: 1266,
    1561: 1560,
    1563: 1562,
    1231: 1700,
    2951: 2950,
    3643: 3614,
    3807: 3802,
    3905: 3904,
    3907: 3906,
    3909: 3908,
    3911: 3910,
    3913: 3912,
    3927: 3926,
}
REDACTED |= {array: (b"{}", struct.pack("!iiI", 0, 0, element)) for array, element in ELEMENTS.items()}


Digest = Callable[[bytes], bytes]


class Unfit(Exception):
    """This kind cannot do this value: redact it."""


# ---------------------------------------------------------------- one cell


def redact(type_oid: int, format: int, value: bytes) -> bytes | None:
    if type_oid not in REDACTED:
        return None
    if format == 0 and type_oid in {1082, 1114, 1184} and not re.match(rb"-?(i|[0-9]{4,}-)", value):
        return None
    if format == 0 and type_oid == 1186 and value[:1] in {b"P", b"@"}:
        return b"PT0S" if value[:1] == b"P" else b"@ 0"
    if type_oid == 1560:
        if format == 0:
            return b"0" * len(value)
        if len(value) >= 4 and len(value) == 4 + (int.from_bytes(value[:4], "big") + 7) // 8:
            return value[:4] + bytes(len(value) - 4)
    return REDACTED[type_oid][format]


def partial(keep: int, value: bytes) -> bytes:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Unfit from None
    hidden = len(text) - max(0, min(keep, len(text) // 2))
    return ("*" * hidden + text[hidden:]).encode()


def email(type_oid: int, value: bytes) -> bytes:
    local, at, domain = value.partition(b"@")
    if not (local and at and domain) or b"@" in domain:
        raise Unfit
    lengths = [n for n in (1, 2, 3, 4) if _decodes(local[:n]) and len(local) >= n]
    if not lengths:
        raise Unfit
    masked = local[: lengths[0]] + b"***@" + domain
    if type_oid == 19 and len(masked) > 63:
        raise Unfit
    return masked


def _decodes(value: bytes) -> bool:
    try:
        return len(value.decode()) == 1
    except UnicodeDecodeError:
        return False


def read_int(value: bytes) -> int | None:
    if not re.fullmatch(rb"-?[0-9]+", value) or len(value) > 400:
        return None
    number = int(value)
    return number if -(2**63) <= number < 2**63 else None


def read_bytea(value: bytes) -> bytes:
    if value.startswith(b"\\x"):
        if not re.fullmatch(rb"(?:[0-9a-fA-F]{2})*", value[2:]):
            raise Unfit
        return bytes.fromhex(value[2:].decode())
    if not re.fullmatch(rb"(?:[^\\]|\\\\|\\[0-3][0-7]{2})*", value, re.DOTALL):
        raise Unfit
    return re.sub(rb"\\(\\|[0-7]{3})", lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8)]), value)


def read_uuid(value: bytes) -> bytes | None:
    digits = value.replace(b"-", b"")
    return bytes.fromhex(digits.decode()) if re.fullmatch(rb"[0-9a-fA-F]{32}", digits) else None


def numeric_groups(number: Decimal) -> tuple[int, int, list[int]]:
    """Sign, weight and base-10000 digits without zero groups at either end."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    whole = 0
    for digit in digits:
        whole = whole * 10 + digit
    while exponent % 4:
        whole *= 10
        exponent -= 1
    if whole == 0:
        return 0, 0, []
    while whole % 10000 == 0:
        whole //= 10000
        exponent += 4
    groups: list[int] = []
    while whole:
        groups.insert(0, whole % 10000)
        whole //= 10000
    return 0x4000 * sign, len(groups) - 1 + exponent // 4, groups


def numeric_normal(format: int, value: bytes) -> bytes:
    specials = {b"NaN": 0xC000, b"Infinity": 0xD000, b"-Infinity": 0xF000}
    if format == 0:
        if value in specials:
            return struct.pack("!Hh", specials[value], 0)
        if not re.fullmatch(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)", value):
            raise Unfit
        number = Decimal(value.decode())
    else:
        if len(value) < 8:
            raise Unfit
        count, weight, sign, _ = struct.unpack("!HhHH", value[:8])
        if len(value) != 8 + 2 * count or count > 0x7FFF or sign not in {0, 0x4000, *specials.values()}:
            raise Unfit
        if sign in specials.values():
            return struct.pack("!Hh", sign, 0)
        raw = struct.unpack(f"!{count}H", value[8:])
        if any(group > 9999 for group in raw):
            raise Unfit
        digits = tuple(int(c) for group in raw for c in f"{group:04}") or (0,)
        number = Decimal((sign >> 14, digits, 4 * (weight - count + 1)))
    normal_sign, normal_weight, groups = numeric_groups(number)
    return struct.pack(f"!Hh{len(groups)}H", normal_sign, normal_weight, *groups)


def write_numeric(number: Decimal, scale: int) -> bytes:
    sign, weight, groups = numeric_groups(number)
    return struct.pack(f"!HhHH{len(groups)}H", len(groups), weight, sign, scale, *groups)


def hashed(key: bytes, type_oid: int, format: int, value: bytes) -> bytes:
    def digest(data: bytes) -> bytes:
        return hmac.new(key, data, hashlib.sha256).digest()

    if type_oid in TEXT_TYPES:
        return digest(value).hex()[:32].encode()
    if type_oid in INTEGERS:
        width = INTEGERS[type_oid]
        number = read_int(value) if format == 0 else int.from_bytes(value, "big", signed=True)
        if number is None or (format == 1 and len(value) != width):
            raise Unfit
        shaped = int.from_bytes(digest(str(number).encode())[:8], "big") % (2 ** (8 * width - 1) - 1) + 1
        return str(shaped).encode() if format == 0 else shaped.to_bytes(width, "big")
    if type_oid == 1700:
        shaped = int.from_bytes(digest(numeric_normal(format, value))[:8], "big") % (10**18 - 1) + 1
        return str(shaped).encode() if format == 0 else write_numeric(Decimal(shaped), 0)
    if type_oid == 2950:
        raw = read_uuid(value) if format == 0 else value
        if raw is None or len(raw) != 16:
            raise Unfit
        made = uuid.UUID(bytes=digest(raw)[:16], version=4)
        return str(made).encode() if format == 0 else made.bytes
    if type_oid in {700, 701}:
        return hashed_float(digest, type_oid, format, value)
    if type_oid == 26:
        number = read_int(value) if format == 0 else int.from_bytes(value, "big")
        if number is None or (format == 1 and len(value) != 4):
            raise Unfit
        shaped = int.from_bytes(digest(str(number).encode())[:8], "big") % (2**31 - 1) + 1
        return str(shaped).encode() if format == 0 else shaped.to_bytes(4, "big")
    if type_oid in {1082, 1083, 1114, 1184}:
        return hashed_time(digest, type_oid, format, value)
    if type_oid in {650, 869}:
        return hashed_address(digest, type_oid, format, value)
    if type_oid in {774, 829}:
        width = 6 if type_oid == 829 else 8
        if format == 0 and not re.fullmatch(rb"[0-9a-fA-F]{2}(?:.[0-9a-fA-F]{2})*", value, re.DOTALL):
            raise Unfit
        raw = bytes(int(value[i : i + 2], 16) for i in range(0, len(value), 3)) if format == 0 else value
        if len(raw) != width:
            raise Unfit
        made_address = bytearray(digest(raw)[:width])
        made_address[0] = made_address[0] & 0xFC | 2
        return made_address.hex(":").encode() if format == 0 else bytes(made_address)
    if type_oid == 17:
        raw = digest(read_bytea(value) if format == 0 else value)
        return b"\\x" + raw.hex().encode() if format == 0 else raw
    raise Unfit


def hashed_float(digest: Digest, type_oid: int, format: int, value: bytes) -> bytes:
    try:
        if format == 0:
            if not re.fullmatch(rb"[0-9.eE+-]{1,63}", value):
                raise Unfit
            number = float(value)
            if type_oid == 700:
                (number,) = struct.unpack("!f", struct.pack("!f", number))
        else:
            (number,) = struct.unpack("!f" if type_oid == 700 else "!d", value)
    except (ValueError, OverflowError, struct.error):
        raise Unfit from None
    if not math.isfinite(number):
        raise Unfit
    most = 2 ** (24 if type_oid == 700 else 53) - 1
    shaped = int.from_bytes(digest(struct.pack("!d", number + 0.0))[:8], "big") % most + 1
    return str(shaped).encode() if format == 0 else struct.pack("!f" if type_oid == 700 else "!d", shaped)


CLOCK = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?"
ZONE = rb"([+-])([0-9]{2})(?::([0-9]{2})(?::([0-9]{2}))?)?"


def read_moment(type_oid: int, value: bytes) -> int:
    """Microseconds since 2000-01-01; of a time since midnight."""
    day = b"" if type_oid == 1083 else rb"(?P<y>[0-9]{4,7})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})"
    form = {1082: day, 1083: CLOCK, 1114: day + b" " + CLOCK, 1184: day + b" " + CLOCK + ZONE}[type_oid]
    found = re.fullmatch(form + (b"" if type_oid == 1083 else rb"(?P<bc> BC)?"), value)
    if not found:
        raise Unfit
    usecs = 0
    parts = found.groups()
    if type_oid != 1083:
        year, month, dom = int(found["y"]), int(found["m"]), int(found["d"])
        if not (1 <= year <= 294276 and 1 <= month <= 12 and 1 <= dom <= 31):
            raise Unfit
        year = 1 - year if found["bc"] else year
        cycles, year = divmod(year, 400)
        days = (dt.date(year + 400, month, 1) - EPOCH).days + dom - 1 + (cycles - 1) * 146097
        usecs = days * 86_400_000_000
        parts = parts[3:-1]
    if type_oid != 1082:
        hours, minutes, seconds = (int(part) for part in parts[:3])
        if hours > 24 or minutes > 59 or seconds > 60:
            raise Unfit
        usecs += ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int(((parts[3] or b"") + b"000000")[:6])
    if type_oid == 1184:
        sign, *zone = parts[4:]
        shift = sum(int(part or 0) * unit for part, unit in zip(zone, (3600, 60, 1), strict=True))
        usecs -= shift * (-1_000_000 if sign == b"-" else 1_000_000)
    return usecs


def hashed_time(digest: Digest, type_oid: int, format: int, value: bytes) -> bytes:
    if format == 0:
        usecs = read_moment(type_oid, value)
    elif len(value) != (4 if type_oid == 1082 else 8):
        raise Unfit
    else:
        usecs = int.from_bytes(value, "big", signed=True) * (86_400_000_000 if type_oid == 1082 else 1)
        if type_oid != 1083 and not -2451545 * 86_400_000_000 <= usecs < 106751983 * 86_400_000_000:
            raise Unfit
    drawn = int.from_bytes(digest(usecs.to_bytes(8, "big", signed=True))[:8], "big")
    if type_oid == 1083:
        second = drawn % 86400
        text = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        return text.encode() if format == 0 else struct.pack("!q", second * 1_000_000)
    days = drawn % 73049 - 36524
    if type_oid == 1082:
        return str(EPOCH + dt.timedelta(days)).encode() if format == 0 else struct.pack("!i", days)
    seconds = days * 86400 + drawn // 73049 % 86400
    if format == 1:
        return struct.pack("!q", seconds * 1_000_000)
    made = dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return f"{made:%Y-%m-%d %H:%M:%S}".encode() + (b"+00" if type_oid == 1184 else b"")


def hashed_address(digest: Digest, type_oid: int, format: int, value: bytes) -> bytes:
    if format == 0:
        host, slash, bits_text = value.partition(b"/")
        try:
            raw = ipaddress.ip_address(host.decode("ascii")).packed
            if b"%" in host:
                raise Unfit
        except ValueError:
            raise Unfit from None
        bits = read_int(bits_text) if slash else 8 * len(raw)
        if len(value) >= 64 or bits is None or not 0 <= bits <= 8 * len(raw):
            raise Unfit
    else:
        if len(value) < 4 or value[0] not in {2, 3} or value[3] != (4 if value[0] == 2 else 16):
            raise Unfit
        bits, raw = value[1], value[4:]
        if len(raw) != value[3] or bits > 8 * len(raw):
            raise Unfit
    made = digest(bytes([bits, len(raw)]) + raw.ljust(16, b"\0"))[: len(raw)]
    if len(raw) == 16:
        made = b"\xfd" + made[1:]
    if format == 1:
        return bytes([2 if len(raw) == 4 else 3, 8 * len(raw), type_oid == 650, len(raw)]) + made
    shown = str(ipaddress.ip_address(made))
    return (shown + (f"/{8 * len(raw)}" if type_oid == 650 else "")).encode()


def constant_float(type_oid: int, format: int, constant: bytes) -> bytes | None:
    if not re.fullmatch(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", constant) or len(constant) > 63:
        return None
    number = float(constant)
    if not math.isfinite(number):
        return None
    try:
        packed = struct.pack("!f" if type_oid == 700 else "!d", number)
    except OverflowError:
        return None
    return constant if format == 0 else packed


def constant_of(type_oid: int, format: int, constant: bytes, value: bytes) -> bytes | None:
    if type_oid in TEXT_TYPES:
        return None if type_oid == 19 and len(constant) > 63 else constant
    if type_oid == 18:
        return constant if len(constant) == 1 and constant.isascii() else None
    if type_oid == 16:
        yes = {b"t": True, b"true": True, b"f": False, b"false": False}.get(constant)
        return None if yes is None else ((b"f", b"t")[yes] if format == 0 else bytes([yes]))
    if type_oid in INTEGERS or type_oid == 26:
        width = INTEGERS.get(type_oid, 4)
        number = read_int(constant)
        low, high = (0, 2**32) if type_oid == 26 else (-(2 ** (8 * width - 1)), 2 ** (8 * width - 1))
        if number is None or not low <= number < high:
            return None
        return str(number).encode() if format == 0 else (number % 2 ** (8 * width)).to_bytes(width, "big")
    if type_oid in {700, 701}:
        return constant_float(type_oid, format, constant)
    if type_oid == 1700:
        if not re.fullmatch(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)", constant) or len(constant) > 400:
            return None
        return constant if format == 0 else write_numeric(Decimal(constant.decode()), len(constant.partition(b".")[2]))
    if type_oid == 17:
        if not re.fullmatch(rb"\\x(?:[0-9a-fA-F]{2})*", constant):
            return None
        return constant if format == 0 else bytes.fromhex(constant[2:].decode())
    if type_oid == 2950:
        raw = read_uuid(constant)
        return raw if raw is None or format == 1 else str(uuid.UUID(bytes=raw)).encode()
    if type_oid == 1083 and re.fullmatch(CLOCK, constant) and len(constant) == 8:
        try:
            usecs = read_moment(1083, constant)
        except Unfit:
            return None
        return constant if format == 0 else struct.pack("!q", usecs)
    if type_oid == 1082 and re.fullmatch(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}", constant):
        try:
            day = dt.date.fromisoformat(constant.decode())
        except ValueError:
            return None
        if format == 1:
            return struct.pack("!i", (day - EPOCH).days)
        return constant if redact(1082, 0, value) is not None else None
    return None


def mask(
    kind: int, keep: int, constant: bytes, key: bytes, type_oid: int, format: int, value: bytes | None
) -> bytes | None:
    if value is None or kind == NULL or format not in {0, 1}:
        return None
    if kind == CONSTANT:
        return constant_of(type_oid, format, constant, value)
    plain = value.rstrip(b" ") if type_oid == 1042 else value
    try:
        if kind == HASH:
            return hashed(key, type_oid, format, plain)
        if kind == PARTIAL and type_oid in TEXT_TYPES:
            return partial(keep, plain)
        if kind == EMAIL and type_oid in TEXT_TYPES:
            return email(type_oid, plain)
    except Unfit:
        pass
    return redact(type_oid, format, value)


# ---------------------------------------------------------------- COPY

Mask = tuple[int, int, bytes, bytes]
LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
NAMES = {value: name for name, value in LETTERS.items()}


class Malformed(ValueError):
    """The row does not match its plan."""


def copy_text(
    line: bytes, delimiter: bytes, null: bytes, columns: Sequence[tuple[int, int]], masks: Sequence[Mask]
) -> bytes:
    d = re.escape(delimiter)
    if not line.endswith(b"\n") or line == b"\\.\n":
        raise Malformed
    field = rb"(?:[^\\\n\r" + d + rb"]|\\[^\n\r])*+"
    if not re.fullmatch(field + b"(?:" + d + field + b")*", line[:-1]):
        raise Malformed
    fields = re.findall(b"(?:^|" + d + b")(" + field + b")", line[:-1])
    if len(fields) != len(columns):
        raise Malformed
    done = []
    for raw, (index, type_oid) in zip(fields, columns, strict=True):
        if index < 0 or raw == null:
            done.append(raw)
            continue
        if any(c not in {*LETTERS, b"\\", delimiter} for c in re.findall(rb"\\(.)", raw, re.DOTALL)):
            raise Malformed
        plain = re.sub(
            rb"\\(.)", lambda m: m[1] if m[1] == delimiter else LETTERS.get(m[1], m[1]), raw, flags=re.DOTALL
        )
        masked = mask(*masks[index], type_oid, 0, plain)
        if masked is None:
            done.append(null)
            continue
        special = rb"[\b\f\n\r\t\v\\" + d + b"]"
        done.append(re.sub(special, lambda m: b"\\" + NAMES.get(m[0], m[0]), masked))
    return delimiter.join(done) + b"\n"


def copy_csv(
    line: bytes,
    delimiter: bytes,
    quote: bytes,
    escape: bytes,
    null: bytes,
    columns: Sequence[tuple[int, int]],
    masks: Sequence[Mask],
) -> bytes:
    d, q, e = (re.escape(c) for c in (delimiter, quote, escape))
    if not line.endswith(b"\n") or line == b"\\.\n":
        raise Malformed
    body = q + b"((?:[^" + q + e + b"]|" + e + b"[" + q + e + b"])*+)" + q
    field = b"(?:" + body + b"|((?!" + q + b")[^\n\r" + q + d + b"]*+))"
    done = []
    at = 0
    for number, (index, type_oid) in enumerate(columns):
        found = re.compile(field, re.DOTALL).match(line, at, len(line) - 1)
        if not found:
            raise Malformed
        at = found.end()
        last = number == len(columns) - 1
        if (at == len(line) - 1) != last or (not last and line[at : at + 1] != delimiter):
            raise Malformed
        at += 1
        raw, quoted = found[0], found[1] is not None
        if index < 0 or raw == null:
            done.append(raw)
            continue
        plain = re.sub(e + b"([" + q + e + b"])", rb"\1", found[1], flags=re.DOTALL) if quoted else raw
        masked = mask(*masks[index], type_oid, 0, plain)
        if masked is None:
            done.append(null)
        elif masked in {null, b"\\."} or any(c in masked for c in (quote, delimiter, b"\n", b"\r")):
            done.append(quote + re.sub(b"([" + q + e + b"])", lambda m: escape + m[1], masked) + quote)
        else:
            done.append(masked)
    return delimiter.join(done) + b"\n"


class Binary:
    """The binary format of one statement: header, tuples, trailer."""

    def __init__(self, columns: Sequence[tuple[int, int]], masks: Sequence[Mask]) -> None:
        self.columns = columns
        self.masks = masks
        self.begun = False
        self.ended = False

    def message(self, data: bytes) -> bytes:
        if not data or self.ended:
            raise Malformed
        self.data, self.at = data, 0
        done = b""
        if not self.begun:
            if self.take(11) != b"PGCOPY\n\xff\r\n\0" or self.take(4) != bytes(4):
                raise Malformed
            self.take(int.from_bytes(self.take(4), "big"))
            done = data[: self.at]
        self.begun = True
        while self.at < len(data):
            count = int.from_bytes(self.take(2), "big", signed=True)
            done += struct.pack("!h", count)
            if count == -1:
                if self.at < len(data):
                    raise Malformed
                self.ended = True
                return done
            if count != len(self.columns):
                raise Malformed
            for index, type_oid in self.columns:
                size = int.from_bytes(self.take(4), "big", signed=True)
                if size < -1:
                    raise Malformed
                value = None if size == -1 else self.take(size)
                if index >= 0:
                    value = mask(*self.masks[index], type_oid, 1, value)
                done += struct.pack("!i", -1 if value is None else len(value)) + (value or b"")
        return done

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise Malformed
        self.at += n
        return self.data[self.at - n : self.at]
