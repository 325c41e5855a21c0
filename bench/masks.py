"""What a masked cell costs in the core: `python -m bench.masks`, nanoseconds of the quickest thousand for each mask."""

from __future__ import annotations

import struct

from hoopfast import _wire, model

KEY = bytes(range(32))
ROUNDS = 300_000
CELLS: dict[str, tuple[int, int, bytes, int, int, bytes]] = {
    "redact text": (model.MASK_REDACT, 0, b"", 25, 0, b"Ada Lovelace"),
    "redact timestamp": (model.MASK_REDACT, 0, b"", 1114, 0, b"2024-01-01 12:34:56"),
    "redact int4, binary": (model.MASK_REDACT, 0, b"", 23, 1, bytes(4)),
    "partial": (model.MASK_PARTIAL, 4, b"", 25, 0, b"4539-1488-0343-6467"),
    "email": (model.MASK_EMAIL, 0, b"", 25, 0, b"ada.lovelace@example.org"),
    "constant": (model.MASK_CONSTANT, 0, b"+00 000", 25, 0, b"+49 30 123456"),
    "bucket int4": (model.MASK_BUCKET, 0, b"1000", 23, 0, b"193584"),
    "bucket int4, binary": (model.MASK_BUCKET, 0, b"1000", 23, 1, struct.pack("!i", 193584)),
    "bucket numeric": (model.MASK_BUCKET, 0, b"1000", 1700, 0, b"98765.43"),
    "bucket date": (model.MASK_BUCKET, 5, b"", 1082, 0, b"2024-02-29"),
    "bucket date, binary": (model.MASK_BUCKET, 5, b"", 1082, 1, struct.pack("!i", 8825)),
    "bucket inet": (model.MASK_BUCKET, model.UNIT_PREFIX, b"24", 869, 0, b"10.1.2.3"),
    "token text": (model.MASK_TOKEN, 1, b"", 25, 0, b"078-05-1120"),
    "token int8, binary": (model.MASK_TOKEN, 1, b"", 20, 1, struct.pack("!q", 193584726)),
    "hash text": (model.MASK_HASH, 0, b"", 25, 0, b"078-05-1120"),
    "hash uuid, binary": (model.MASK_HASH, 0, b"", 2950, 1, bytes(16)),
    "ff1 card": (model.MASK_FF1, 0, b"", 25, 0, b"4539-1488-0343-6467"),
    "ff1 int8": (model.MASK_FF1, 0, b"", 20, 0, b"193584726"),
    "partial text[4]": (model.MASK_PARTIAL, 4, b"", 1009, 0, b"{hello,world,abc,def}"),
    "partial jsonb, 3 values": (model.MASK_PARTIAL, 4, b"", 3802, 0, b'{"a": "hello", "b": "world", "c": 12}'),
}


def main() -> None:
    for name, (kind, keep, constant, type_oid, form, value) in CELLS.items():
        print(f"{name:26}{_wire.mask_many(kind, keep, constant, KEY, type_oid, form, value, ROUNDS):8.1f} ns")


if __name__ == "__main__":
    main()
