# Plans for COPY TO STDOUT, packed in Python and read by copymask.pyx.

from libc.stdlib cimport free, malloc
from libc.string cimport memset


def _copy_byte(name, value):
    if len(value) != 1 or value in b"\0\r\n" or value >= b"\x80":
        raise ValueError(f"COPY {name} must be one byte of ASCII, not a line end")
    return value[0]


def _copy_like_a_value(null, delimiter):
    """Could a value that is not NULL be written as this NULL string? It would pass unmasked: an oracle for guesses."""
    i = 0
    while i < len(null):
        if null[i:i + 1] == b"\\":
            i += 1
            if null[i:i + 1] not in (b"\\", b"b", b"f", b"n", b"r", b"t", b"v", delimiter):
                return False
        elif null[i] in b"\b\f\t\v":
            return False
        i += 1
    return len(null) > 0                        # the empty string tells NULL and empty apart from the rest, no more


def _copy_check_lines(format, delimiter, quote, null, masked):
    """What PostgreSQL refuses too, or what would make fields ambiguous."""
    backslashes = len(null) - len(null.rstrip(b"\\"))
    if len(null) > COPY_NULL_MAX or any(c in null for c in (b"\n", b"\r", b"\0", delimiter)):
        raise ValueError("COPY NULL must not contain the delimiter, a line end or NUL")
    if format == "text":
        if backslashes & 1 or (masked and _copy_like_a_value(null, delimiter)):
            raise ValueError("COPY NULL cannot be told apart from a value here: use the default, or format csv")
        if delimiter in b"\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise ValueError("COPY DELIMITER must not be a backslash, a dot, a lower-case letter or a digit")
    elif quote == delimiter or quote in null:
        raise ValueError("COPY QUOTE must differ from the delimiter and not appear in NULL")


def pack_copy_plan(*, format, delimiter, quote, escape, null, columns, header=False):
    """A plan for copy_plan_unpack. ValueError for options that PostgreSQL would refuse, or that cannot be masked safely."""
    formats = ("text", "csv", "binary")
    if format not in formats:
        raise ValueError(f"COPY format {format!r}: choose one of {', '.join(formats)}")
    if not 0 < len(columns) <= COPY_COLUMNS_MAX:
        raise ValueError(f"a COPY plan has 1 to {COPY_COLUMNS_MAX} columns")
    marks = [0, 0, 0]
    if format == "binary":
        null, header = b"", False
    else:
        marks[0] = _copy_byte("DELIMITER", delimiter)
        if format == "csv":
            marks[1:] = _copy_byte("QUOTE", quote), _copy_byte("ESCAPE", escape)
        _copy_check_lines(format, delimiter, quote, null, any(mask >= 0 for mask, *_ in columns))
    packed = bytearray((COPY_PLAN_MAGIC, formats.index(format), bool(header), *marks))
    for number in (len(null), len(columns), 0):
        packed += number.to_bytes(2, "little")
    for mask, type_oid, *modifier in columns:
        if mask < -1:
            raise ValueError(f"mask index {mask} does not exist")
        packed += mask.to_bytes(4, "little", signed=True) + type_oid.to_bytes(4, "little")
        packed += (modifier[0] if modifier else -1).to_bytes(4, "little", signed=True)
    return bytes(packed + null)


def copy_mask(bytes plan, masks, chunks, ssize_t room=-1):
    """For tests: the CopyData bodies of one statement, masked. ValueError where the relay would end the session,

    BufferError when `room` bytes (-1: as many as the bound) are too few; a guard lies behind them.
    """
    cdef CopyPlan* unpacked = copy_plan_unpack(<const unsigned char*>plan, len(plan))
    cdef MaskSpec* specs = <MaskSpec*>malloc((len(masks) + 1) * sizeof(MaskSpec))
    cdef int n_masks = len(masks), state = COPY_AT_START
    cdef long long cells = 0
    cdef size_t size
    cdef ssize_t done
    cdef bytes chunk
    cdef const unsigned char* src
    cdef unsigned char* dst
    results = []
    if specs != NULL:
        memset(specs, 0, (len(masks) + 1) * sizeof(MaskSpec))
    try:
        if unpacked == NULL or specs == NULL:
            raise ValueError("not a COPY plan")
        for i, (kind, keep, constant, key) in enumerate(masks):
            mask_fill(&specs[<int>i], kind, keep, constant, key)
        for chunk in chunks:
            src = <const unsigned char*>chunk
            size = <size_t>room
            if room < 0:
                size = (copy_mask_bound(unpacked, specs, n_masks, len(chunk))
                        + copy_parts_bound(unpacked, specs, n_masks, len(chunk)))
            guarded = bytearray(b"\xA5" * (size + 64))
            dst = guarded
            done = copy_mask_row(unpacked, specs, n_masks, src, len(chunk), dst, size, &state, &cells)
            if guarded[size:] != b"\xA5" * 64 or done > <ssize_t>size:
                raise SystemError("the mask wrote past its room")
            if done == COPY_NO_ROOM:
                raise BufferError("too little room for the row")
            if done < 0:
                raise ValueError("the row does not match its COPY plan")
            results.append(bytes(guarded[:done]))
    finally:
        copy_plan_free(unpacked)
        for i in range(n_masks if specs != NULL else 0):
            mask_spec_clear(&specs[<int>i])
        free(specs)
    return results
