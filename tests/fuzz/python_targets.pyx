# The journal's decoder, and what Python reads before anybody has proved who they are: startup packets and the answers of a
# server during the login. There, lines of Python are what is covered.

cdef dict CALLS = {}            # name -> callable of bytes
cdef object CALL
cdef object EXPECTED = ()       # exceptions that are an answer


cdef int fuzz_python(const uint8_t* p, size_t n) except -1 nogil:
    with gil:
        try:
            CALL((<const char*>p)[:n])
        except EXPECTED:
            pass
        except BaseException:
            import traceback
            traceback.print_exc()
            abort()
    return 0


def count_line(frame, event, arg):
    """For sys.settrace."""
    code = frame.f_code
    if "hoopfast" not in code.co_filename:
        return None
    cover_add(<uint32_t>((<object>hash(code) ^ (<object>frame.f_lineno * 40503)) & 0xFFFF))
    return count_line


def records_of(bytes script):
    """(kind, session, sequence, payload) of each operation: kind and session in its first byte."""
    cdef const uint8_t* p = <const uint8_t*>script
    cdef size_t at = 0, n = len(script), following, length
    found = []
    while at < n:
        following = operation(p, at, n, &length)
        found.append((p[at] & 15, 1 + (p[at] >> 6), 1 + (p[at] >> 4 & 3), script[at + 3:at + 3 + length]))
        at = following
    return found


def segment_of(bytes script):
    """The same records as a journal segment would hold them, with right sums."""
    cdef bytes data = b""
    for kind, session, seq, payload in records_of(script):
        body = (kind.to_bytes(2, "little") + bytes(6) + session.to_bytes(8, "little") + seq.to_bytes(8, "little")
                + bytes(16) + payload)
        record = (len(body) + 8).to_bytes(4, "little") + crc32c(body).to_bytes(4, "little") + body
        data += record + bytes((8 - len(record) % 8) % 8)
    return data
