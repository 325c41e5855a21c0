# Dates and times as PostgreSQL writes them (DateStyle ISO) and sends them (days and microseconds since 2000-01-01).

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

cdef enum:
    MASK_DATE_LEAST = -2451545          # 4714-11-24 BC, the first day that PostgreSQL has
    MASK_DATE_MOST = 106751983          # behind 294276-12-31, the last day of a timestamp

cdef enum:                              # units of `bucket`; policy/source.py has the same order
    UNIT_NUMBER = 0
    UNIT_MINUTE = 1
    UNIT_HOUR = 2
    UNIT_DAY = 3
    UNIT_WEEK = 4
    UNIT_MONTH = 5
    UNIT_QUARTER = 6
    UNIT_YEAR = 7
    UNIT_DECADE = 8
    UNIT_CENTURY = 9
    UNIT_PREFIX = 10

cdef int64_t MASK_USECS_PER_DAY = 86400000000LL


cdef inline int64_t mask_floor_div(int64_t a, int64_t b) noexcept nogil:
    """b > 0."""
    cdef int64_t q = a // b
    return q - 1 if a % b < 0 else q


cdef int64_t mask_days(int64_t year, int month, int day) noexcept nogil:
    """Days since 2000-01-01 in the Gregorian calendar; year 0 is 1 BC."""
    cdef int64_t y = year if month > 2 else year - 1        # years that begin in March: the leap day is their last
    return (y * 365 + mask_floor_div(y, 4) - mask_floor_div(y, 100) + mask_floor_div(y, 400)
            + (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1 - 730425)


cdef void mask_civil(int64_t days, int64_t* year, int* month, int* day) noexcept nogil:
    """The inverse of mask_days."""
    cdef int64_t shifted = days + 730425                    # since 0000-03-01
    cdef int64_t era = mask_floor_div(shifted, 146097)
    cdef int64_t of_era = shifted - era * 146097
    cdef int64_t y = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int of_year = <int>(of_era - (365 * y + y // 4 - y // 100))
    cdef int m = (5 * of_year + 2) // 153
    day[0] = of_year - (153 * m + 2) // 5 + 1
    month[0] = m + 3 if m < 10 else m - 9
    year[0] = y + era * 400 + (1 if month[0] <= 2 else 0)


# ---------------------------------------------------------------- reading

cdef inline int mask_two_digits(const unsigned char* p, size_t n) noexcept nogil:
    """-1 when they are not there."""
    if n < 2 or not mask_is_digit(p[0]) or not mask_is_digit(p[1]):
        return -1
    return (p[0] - c'0') * 10 + p[1] - c'0'


cdef size_t mask_read_clock(const unsigned char* p, size_t n, int64_t* usecs) noexcept nogil:
    """HH:MM:SS with up to six digits behind a point; bytes read, 0 when there is no time."""
    cdef int hours = mask_two_digits(p, n), minutes, seconds
    cdef int64_t fraction = 0, weight = 100000
    cdef size_t i = 8
    if n < 8 or p[2] != c':' or p[5] != c':':
        return 0
    minutes = mask_two_digits(p + 3, 2)
    seconds = mask_two_digits(p + 6, 2)
    if hours < 0 or hours > 24 or minutes < 0 or minutes > 59 or seconds < 0 or seconds > 60:
        return 0
    if i < n and p[i] == c'.':
        i += 1
        while i < n and mask_is_digit(p[i]):
            fraction += weight * (p[i] - c'0')
            weight //= 10
            i += 1
    usecs[0] = ((hours * 60 + minutes) * 60 + seconds) * 1000000LL + fraction
    return i


cdef size_t mask_read_zone(const unsigned char* p, size_t n, int64_t* usecs) noexcept nogil:
    """+HH[:MM[:SS]], east positive; bytes read, 0 when there is no zone."""
    cdef int part
    cdef int64_t total
    cdef size_t i = 3
    if n < 3 or (p[0] != c'+' and p[0] != c'-'):
        return 0
    part = mask_two_digits(p + 1, 2)
    if part < 0:
        return 0
    total = part * 3600
    if n - i >= 3 and p[i] == c':':
        part = mask_two_digits(p + i + 1, 2)
        if part < 0:
            return 0
        total += part * 60
        i += 3
        if n - i >= 3 and p[i] == c':':
            part = mask_two_digits(p + i + 1, 2)
            if part < 0:
                return 0
            total += part
            i += 3
    usecs[0] = total * (-1000000LL if p[0] == c'-' else 1000000LL)
    return i


cdef bint mask_read_moment(unsigned int oid, const unsigned char* p, size_t n, int64_t* usecs) noexcept nogil:
    """An ISO date, timestamp or timestamptz in microseconds since 2000-01-01 (UTC). Infinities are none."""
    cdef int64_t year = 0, clock = 0, zone = 0
    cdef size_t i = 0, size
    cdef int month, day
    cdef bint bc = n > 3 and p[n - 1] == c'C' and p[n - 2] == c'B' and p[n - 3] == c' '
    if bc:
        n -= 3
    while i < n and i < 7 and mask_is_digit(p[i]):
        year = year * 10 + p[i] - c'0'
        i += 1
    if i < 4 or n - i < 6 or p[i] != c'-' or p[i + 3] != c'-':
        return False
    month = mask_two_digits(p + i + 1, 2)
    day = mask_two_digits(p + i + 4, 2)
    if month < 1 or month > 12 or day < 1 or day > 31 or year < 1:
        return False
    i += 6
    if oid != OID_DATE:
        if i >= n or p[i] != c' ':
            return False
        i += 1
        size = mask_read_clock(p + i, n - i, &clock)
        if size == 0:
            return False
        i += size
        if oid == OID_TIMESTAMPTZ:
            size = mask_read_zone(p + i, n - i, &zone)
            if size == 0:
                return False
            i += size
    if i != n or year > 294276:
        return False
    usecs[0] = mask_days(1 - year if bc else year, month, day) * MASK_USECS_PER_DAY + clock - zone
    return True


cdef bint mask_real_day(const unsigned char* p, size_t n) noexcept nogil:
    """Whether a date that mask_read_moment took is one of the calendar: it does not count the days of months."""
    cdef int64_t year = 0, read = 0
    cdef int month = 0, day = 0
    cdef size_t i = 0
    while i < n and mask_is_digit(p[i]):
        read = read * 10 + p[i] - c'0'
        i += 1
    mask_civil(mask_days(read, mask_two_digits(p + i + 1, 2), mask_two_digits(p + i + 4, 2)), &year, &month, &day)
    return i == 4 and p[n - 1] != c'C' and year == read and day == mask_two_digits(p + i + 4, 2)


# ---------------------------------------------------------------- writing

cdef inline size_t mask_write_two(unsigned char* out, int value) noexcept nogil:
    out[0] = <unsigned char>(c'0' + value // 10)
    out[1] = <unsigned char>(c'0' + value % 10)
    return 2


cdef size_t mask_write_day(unsigned char* out, int64_t days, bint* bc) noexcept nogil:
    """YYYY-MM-DD, the year as one of its era; at most 12 bytes."""
    cdef int64_t year = 0
    cdef int month = 0, day = 0
    cdef size_t at = 0
    mask_civil(days, &year, &month, &day)
    bc[0] = year <= 0
    if bc[0]:
        year = 1 - year
    if year > 9999:
        at = mask_write_decimal(out, year // 10000)
        year %= 10000
    at += mask_write_two(out + at, <int>(year // 100))
    at += mask_write_two(out + at, <int>(year % 100))
    out[at] = c'-'
    at += 1 + mask_write_two(out + at + 1, month)
    out[at] = c'-'
    return at + 1 + mask_write_two(out + at + 1, day)


cdef size_t mask_write_clock(unsigned char* out, int second) noexcept nogil:
    """HH:MM:SS"""
    mask_write_two(out, second // 3600)
    out[2] = out[5] = c':'
    mask_write_two(out + 3, second // 60 % 60)
    mask_write_two(out + 6, second % 60)
    return 8


cdef ssize_t mask_put_date(int fmt, int64_t days, unsigned char* dst, size_t room) noexcept nogil:
    cdef unsigned char text[32]
    cdef size_t size
    cdef bint bc = False
    if fmt == 1:
        return mask_put_be(dst, room, <uint64_t>days, 4)
    size = mask_write_day(text, days, &bc)
    memcpy(text + size, b" BC", 3)
    return mask_put(dst, room, text, size + 3 if bc else size)


cdef ssize_t mask_put_moment(unsigned int oid, int fmt, int64_t usecs, unsigned char* dst, size_t room) noexcept nogil:
    """A whole second. With a zone where the type has one: UTC, which says the same in every session."""
    cdef unsigned char text[48]
    cdef int64_t days = mask_floor_div(usecs, MASK_USECS_PER_DAY)
    cdef size_t size
    cdef bint bc = False
    if fmt == 1:
        return mask_put_be(dst, room, <uint64_t>usecs, 8)
    size = mask_write_day(text, days, &bc)
    text[size] = c' '
    size += 1 + mask_write_clock(text + size + 1, <int>((usecs - days * MASK_USECS_PER_DAY) // 1000000))
    if oid == OID_TIMESTAMPTZ:
        memcpy(text + size, b"+00", 3)
        size += 3
    memcpy(text + size, b" BC", 3)
    return mask_put(dst, room, text, size + 3 if bc else size)


cdef ssize_t mask_put_clock(int fmt, int64_t usecs, unsigned char* dst, size_t room) noexcept nogil:
    cdef unsigned char text[8]
    if fmt == 1:
        return mask_put_be(dst, room, <uint64_t>usecs, 8)
    return mask_put(dst, room, text, mask_write_clock(text, <int>(usecs // 1000000)))


# ---------------------------------------------------------------- units

cdef int64_t mask_unit_day(int unit, int64_t days) noexcept nogil:
    """The first day of the unit that holds this day."""
    cdef int64_t year = 0
    cdef int month = 0, day = 0
    if unit <= UNIT_DAY:
        return days
    if unit == UNIT_WEEK:                       # of Monday; 2000-01-03 was one
        return mask_floor_div(days - 2, 7) * 7 + 2
    mask_civil(days, &year, &month, &day)
    if unit == UNIT_QUARTER:
        month = (month - 1) // 3 * 3 + 1
    elif unit != UNIT_MONTH:
        month = 1
    if unit == UNIT_DECADE:
        year = mask_floor_div(year, 10) * 10
    elif unit == UNIT_CENTURY:                  # as date_trunc: 1901 begins one
        year = mask_floor_div(year - 1, 100) * 100 + 1
    return mask_days(year, month, 1)


cdef int64_t mask_unit_moment(int unit, int64_t usecs) noexcept nogil:
    """The first microsecond of the unit."""
    if unit == UNIT_MINUTE:
        return mask_floor_div(usecs, 60000000) * 60000000
    if unit == UNIT_HOUR:
        return mask_floor_div(usecs, 3600000000LL) * 3600000000LL
    return mask_unit_day(unit, mask_floor_div(usecs, MASK_USECS_PER_DAY)) * MASK_USECS_PER_DAY
