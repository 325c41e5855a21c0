# One target, its seeds, so many seconds.


def fuzz(str target, seeds, words, double seconds, uint64_t seed, board, call=None, expected=()):
    """Fuzz in this process; (runs, features, inputs that reached something new).

    `board` is shared with the parent: u64 runs, u64 length, the input that runs now. `call` is for Python targets.
    """
    global TARGET, CALL, EXPECTED
    cdef uint8_t[::1] page = board
    cdef Input x
    cdef bytes each
    cdef int64_t deadline = hf_clock(CLOCK_MONOTONIC) + <int64_t>(seconds * 1e9)
    cdef size_t i
    CALL, EXPECTED = call, expected
    prepare_relay()
    if target == "relay":
        TARGET = fuzz_relay
    elif target == "mask":
        TARGET = fuzz_mask
    elif target == "copy":
        TARGET = fuzz_copy
    elif target == "frames":
        TARGET = fuzz_frames
    else:
        TARGET = fuzz_python
    ENGINE.kept = <Input**>calloc(KEPT_MAX, sizeof(Input*))
    ENGINE.state = seed * 2654435769 + 88172645463325252
    ENGINE.board = <uint64_t*>&page[0]
    words = list(words)
    ENGINE.n_words = len(words)
    ENGINE.words = <const uint8_t**>calloc(len(words) + 1, sizeof(uint8_t*))
    ENGINE.word_lengths = <uint32_t*>calloc(len(words) + 1, sizeof(uint32_t))
    for i, each in enumerate(words):
        ENGINE.words[i] = copy_bytes(<const char*>each, len(each))
        ENGINE.word_lengths[i] = <uint32_t>len(each)
    x.n = 0
    with nogil:
        try_input(&x, True)
    for each in seeds:
        x.n = <uint32_t>min(len(each), INPUT_MAX)
        memcpy(x.bytes, <const char*>each, x.n)
        with nogil:
            try_input(&x, True)
    i = ENGINE.n_kept
    with nogil:
        fuzz_until(deadline)
    found = [(<char*>ENGINE.kept[at].bytes)[:ENGINE.kept[at].n] for at in range(i, ENGINE.n_kept)]
    return ENGINE.runs, ENGINE.features, found
