# What a type is to the masks: scalar, array, composite, enum, range, multirange, json. Built-in types by their OIDs, which
# never change; a database's own types from the table that its catalog gave (pack_mask_types).
#
# Domains are seen through to their base type. What is in neither list is UNKNOWN, and the mask of it is NULL.

from libc.stdint cimport int32_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cdef enum:                      # MaskShape.shape
    SHAPE_SCALAR = 0
    SHAPE_ARRAY = 1
    SHAPE_RECORD = 2
    SHAPE_ENUM = 3
    SHAPE_RANGE = 4
    SHAPE_MULTIRANGE = 5
    SHAPE_JSON = 6
    SHAPE_UNKNOWN = 7

cdef enum:
    MASK_FIRST_USER_OID = 16384
    MASK_TYPES_MAX = 65536      # types, fields or labels of one table
    MASK_DOMAINS_MAX = 16       # domains over domains

cdef struct MaskField:          # of a composite, in the order of the wire
    uint32_t type_oid
    int32_t typmod

cdef struct MaskLabel:          # of an enum: bytes of the pool
    uint32_t start
    uint32_t size

cdef struct MaskType:
    uint32_t oid
    uint32_t part               # domain: base type; array: element; range: subtype; multirange: its range
    int32_t typmod              # of a domain's base type
    uint16_t kind               # b"d", b"a", b"c", b"e", b"r", b"m"
    uint16_t delimiter          # between the elements of an array
    uint32_t first              # composite: index of its first field; enum: of its first label
    uint32_t count

cdef struct MaskTypes:
    uint32_t n_types
    uint32_t n_fields
    uint32_t n_labels
    uint32_t pool_len
    MaskType* types             # by OID, ascending; all four point into the same block of memory
    MaskField* fields
    MaskLabel* labels
    unsigned char* pool

cdef struct MaskShape:
    int shape
    uint32_t oid                # a scalar's own, seen through domains
    uint32_t part
    int32_t typmod
    unsigned char delimiter
    const MaskType* type        # of composites and enums


# ---------------------------------------------------------------- the table

cdef void mask_types_free(MaskTypes* t) noexcept nogil:
    free(t)


cdef bint mask_types_sound(const MaskTypes* t) noexcept nogil:
    cdef uint32_t i, most
    for i in range(t.n_types):
        if t.types[i].oid < MASK_FIRST_USER_OID or (i and t.types[i].oid <= t.types[i - 1].oid):
            return False
        most = t.n_fields if t.types[i].kind == c'c' else t.n_labels if t.types[i].kind == c'e' else 0
        if t.types[i].first > most or t.types[i].count > most - t.types[i].first:
            return False
    for i in range(t.n_labels):
        if t.labels[i].start > t.pool_len or t.labels[i].size > t.pool_len - t.labels[i].start:
            return False
    return True


cdef MaskTypes* mask_types_unpack(const unsigned char* p, size_t n) noexcept nogil:
    """A new table (mask_types_free), or NULL when these bytes are none, or memory is short."""
    cdef uint32_t head[4]
    cdef size_t size
    cdef MaskTypes* t
    if n < sizeof(head):
        return NULL
    memcpy(head, p, sizeof(head))
    if head[0] > MASK_TYPES_MAX or head[1] > MASK_TYPES_MAX or head[2] > MASK_TYPES_MAX:
        return NULL
    size = head[0] * sizeof(MaskType) + head[1] * sizeof(MaskField) + head[2] * sizeof(MaskLabel) + head[3]
    if n != sizeof(head) + size:
        return NULL
    t = <MaskTypes*>calloc(1, sizeof(MaskTypes) + size)
    if t == NULL:
        return NULL
    t.n_types, t.n_fields, t.n_labels, t.pool_len = head[0], head[1], head[2], head[3]
    t.types = <MaskType*>(t + 1)
    t.fields = <MaskField*>(t.types + t.n_types)
    t.labels = <MaskLabel*>(t.fields + t.n_fields)
    t.pool = <unsigned char*>(t.labels + t.n_labels)
    memcpy(t.types, p + sizeof(head), size)
    if not mask_types_sound(t):
        free(t)
        return NULL
    return t


cdef const MaskType* mask_type_find(const MaskTypes* t, uint32_t oid) noexcept nogil:
    cdef uint32_t low = 0, high, middle
    if t == NULL:
        return NULL
    high = t.n_types
    while low < high:
        middle = (low + high) // 2
        if t.types[middle].oid < oid:
            low = middle + 1
        else:
            high = middle
    return &t.types[low] if low < t.n_types and t.types[low].oid == oid else NULL


# ---------------------------------------------------------------- built-in types

cdef inline bint mask_is_text(unsigned int oid) noexcept nogil:
    """refcursor is a text by another name."""
    return (oid == OID_TEXT or oid == OID_VARCHAR or oid == OID_BPCHAR or oid == OID_NAME or oid == OID_UNKNOWN
            or oid == OID_REFCURSOR)


cdef unsigned int mask_array_element(unsigned int oid) noexcept nogil:
    """The element type of a built-in array type, 0 when it is not one."""
    if oid == 1000: return 16
    elif oid == 1001: return 17
    elif oid == 1002: return 18
    elif oid == 1003: return 19
    elif oid == 1016: return 20
    elif oid == 1005: return 21
    elif oid == 1006: return 22
    elif oid == 1007: return 23
    elif oid == 1008: return 24
    elif oid == 1009: return 25
    elif oid == 1028: return 26
    elif oid == 1010: return 27
    elif oid == 1011: return 28
    elif oid == 1012: return 29
    elif oid == 1013: return 30
    elif oid == 199: return 114
    elif oid == 143: return 142
    elif oid == 1017: return 600
    elif oid == 1018: return 601
    elif oid == 1019: return 602
    elif oid == 1020: return 603
    elif oid == 1027: return 604
    elif oid == 629: return 628
    elif oid == 651: return 650
    elif oid == 1021: return 700
    elif oid == 1022: return 701
    elif oid == 719: return 718
    elif oid == 775: return 774
    elif oid == 791: return 790
    elif oid == 1040: return 829
    elif oid == 1041: return 869
    elif oid == 1014: return 1042
    elif oid == 1015: return 1043
    elif oid == 1182: return 1082
    elif oid == 1183: return 1083
    elif oid == 1115: return 1114
    elif oid == 1185: return 1184
    elif oid == 1187: return 1186
    elif oid == 1270: return 1266
    elif oid == 1561: return 1560
    elif oid == 1563: return 1562
    elif oid == 1231: return 1700
    elif oid == 2201: return 1790
    elif oid == 2207: return 2202
    elif oid == 2208: return 2203
    elif oid == 2209: return 2204
    elif oid == 2210: return 2205
    elif oid == 2211: return 2206
    elif oid == 2949: return 2970
    elif oid == 2951: return 2950
    elif oid == 3221: return 3220
    elif oid == 3643: return 3614
    elif oid == 3645: return 3615
    elif oid == 3735: return 3734
    elif oid == 3770: return 3769
    elif oid == 3807: return 3802
    elif oid == 3905: return 3904
    elif oid == 3907: return 3906
    elif oid == 3909: return 3908
    elif oid == 3911: return 3910
    elif oid == 3913: return 3912
    elif oid == 3927: return 3926
    elif oid == 4073: return 4072
    elif oid == 4090: return 4089
    elif oid == 4097: return 4096
    elif oid == 4192: return 4191
    elif oid == 5039: return 5038
    elif oid == 271: return 5069
    elif oid == 6150: return 4451
    elif oid == 6151: return 4532
    elif oid == 6152: return 4533
    elif oid == 6153: return 4534
    elif oid == 6155: return 4535
    elif oid == 6157: return 4536
    return 0


cdef unsigned int mask_range_subtype(unsigned int oid) noexcept nogil:
    """Of a built-in range, 0 when it is not one."""
    if oid == 3904: return 23
    elif oid == 3906: return 1700
    elif oid == 3908: return 1114
    elif oid == 3910: return 1184
    elif oid == 3912: return 1082
    elif oid == 3926: return 20
    return 0


cdef unsigned int mask_multirange_range(unsigned int oid) noexcept nogil:
    if oid == 4451: return 3904
    elif oid == 4532: return 3906
    elif oid == 4533: return 3908
    elif oid == 4534: return 3910
    elif oid == 4535: return 3912
    elif oid == 4536: return 3926
    return 0


cdef void mask_shape_builtin(unsigned int oid, int typmod, MaskShape* shape) noexcept nogil:
    shape.oid = oid
    shape.typmod = typmod
    shape.type = NULL
    shape.delimiter = c','
    shape.shape = SHAPE_SCALAR
    if oid == OID_JSON or oid == OID_JSONB:
        shape.shape = SHAPE_JSON
        return
    if oid == OID_RECORD:
        shape.shape = SHAPE_RECORD
        return
    shape.part = mask_array_element(oid)
    if shape.part:
        shape.shape = SHAPE_ARRAY
        if shape.part == OID_BOX:
            shape.delimiter = c';'
        return
    shape.part = mask_range_subtype(oid)
    if shape.part:
        shape.shape = SHAPE_RANGE
        return
    shape.part = mask_multirange_range(oid)
    if shape.part:
        shape.shape = SHAPE_MULTIRANGE


cdef void mask_shape_of(const MaskTypes* types, unsigned int oid, int typmod, MaskShape* shape) noexcept nogil:
    cdef const MaskType* found
    cdef int domains
    for domains in range(MASK_DOMAINS_MAX):
        if oid < MASK_FIRST_USER_OID:
            mask_shape_builtin(oid, typmod, shape)
            return
        found = mask_type_find(types, oid)
        if found == NULL or found.kind != c'd':
            break
        oid = found.part
        if typmod < 0:
            typmod = found.typmod
    shape.oid = oid
    shape.typmod = typmod
    shape.type = found
    shape.shape = SHAPE_UNKNOWN
    if found == NULL:
        return
    shape.part = found.part
    shape.delimiter = <unsigned char>found.delimiter
    if found.kind == c'a':
        shape.shape = SHAPE_ARRAY
    elif found.kind == c'c':
        shape.shape = SHAPE_RECORD
    elif found.kind == c'e':
        shape.shape = SHAPE_ENUM
    elif found.kind == c'r':
        shape.shape = SHAPE_RANGE
    elif found.kind == c'm':
        shape.shape = SHAPE_MULTIRANGE


# ---------------------------------------------------------------- from Python

def pack_mask_types(types):
    """The table for define_context. Each type: (oid, kind, part, typmod, delimiter, items), kind one letter of "dacerm",

    items a composite's [(type oid, typmod)] or an enum's [label as bytes]. ValueError for what cannot be.
    """
    heads, fields, labels, pool = bytearray(), bytearray(), bytearray(), bytearray()
    counts = [0, 0]
    for oid, kind, part, typmod, delimiter, items in sorted(types):
        if kind not in ("d", "a", "c", "e", "r", "m") or len(delimiter) > 1:
            raise ValueError(f"type {oid}: kind {kind!r} does not exist, or its delimiter is no byte")
        which = 1 if kind == "e" else 0
        heads += (oid.to_bytes(4, "little") + part.to_bytes(4, "little") + typmod.to_bytes(4, "little", signed=True)
                  + ord(kind).to_bytes(2, "little") + (ord(delimiter) if delimiter else 44).to_bytes(2, "little")
                  + (counts[which] if items else 0).to_bytes(4, "little") + len(items).to_bytes(4, "little"))
        counts[which] += len(items)
        for item in items:
            if kind == "e":
                labels += len(pool).to_bytes(4, "little") + len(item).to_bytes(4, "little")
                pool += item
            else:
                fields += item[0].to_bytes(4, "little") + item[1].to_bytes(4, "little", signed=True)
    head = b"".join(n.to_bytes(4, "little") for n in (len(types), *counts, len(pool)))
    packed = bytes(head + heads + fields + labels + pool)
    cdef MaskTypes* tried = mask_types_unpack(<const unsigned char*>packed, len(packed))
    if tried == NULL:
        raise ValueError("the types do not make a table: an OID stands twice, or there are too many")
    mask_types_free(tried)
    return packed
