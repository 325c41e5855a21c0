# cython: language_level=3
"""The compiled core: what touches a data byte. This file is its table of contents.

Parts, from the bottom up; each may use those above it, never those below:
"""

include "_wire/vocabulary.pyx"   # constants, C library, OpenSSL and native.h declarations
include "_wire/buffer.pyx"       # growable byte buffers
include "_wire/tls.pyx"          # OpenSSL on a descriptor
include "_wire/frame.pyx"        # lengths checked before they are believed
include "_wire/journal.pyx"      # append-only mapped segments
