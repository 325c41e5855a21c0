# cython: language_level=3
"""The compiled core: what touches a data byte. This file is its table of contents.

Parts, from the bottom up; each may use those above it, never those below:
"""

include "_wire/vocabulary.pyx"   # constants, C library, OpenSSL and native.h declarations
include "_wire/buffer.pyx"       # growable byte buffers
include "_wire/maskvalues.pyx"   # reading and writing values of PostgreSQL types
include "_wire/masktimes.pyx"    # dates and times
include "_wire/masknumbers.pyx"  # decimal numbers, network addresses
include "_wire/maskkeyed.pyx"    # HMAC, SipHash, FF1
include "_wire/masktypes.pyx"    # what a type is: scalar, array, composite, enum, range
include "_wire/maskspec.pyx"     # how a column is hidden
include "_wire/maskredact.pyx"   # the neutral value of each type
include "_wire/maskhash.pyx"     # hash, token, ff1
include "_wire/maskbucket.pyx"   # bucket
include "_wire/maskconstant.pyx" # constant
include "_wire/maskjson.pyx"     # json by its values
include "_wire/maskparts.pyx"    # values made of values
include "_wire/mask.pyx"         # one cell -> its masked form
include "_wire/copymask.pyx"     # one COPY row -> its masked form
include "_wire/copyplan.pyx"     # plans of COPY, from Python
include "_wire/tls.pyx"          # OpenSSL on a descriptor
include "_wire/codes.pyx"        # SQLSTATE codes that say nothing but what they say
include "_wire/frame.pyx"        # lengths checked before they are believed
include "_wire/flow.pyx"         # the protocol's states, from hoopfast/flow.py
include "_wire/journal.pyx"      # append-only mapped segments
include "_wire/lexer.pyx"        # constants in SQL text
include "_wire/statement.pyx"    # contexts, verdicts and their cache, row plans
include "_wire/template.pyx"     # verdicts for texts that differ in their constants
include "_wire/session.pyx"      # legs, reply queue, names, sending
include "_wire/queue.pyx"        # commands in, events out
include "_wire/records.pyx"      # what a session writes into the journal
include "_wire/readiness.pyx"    # epoll or io_uring: what descriptors have to say
include "_wire/gather.pyx"       # spans on their way out, the arena
include "_wire/limits.pyx"       # time limits
include "_wire/verdict.pyx"      # asking, refusing
include "_wire/frontend.pyx"     # client bytes -> upstream
include "_wire/rows.pyx"         # row descriptions and rows -> masked
include "_wire/answers.pyx"      # what is kept of answers
include "_wire/backend.pyx"      # upstream bytes -> client
include "_wire/turn.pyx"         # one session's turn, and its end
include "_wire/commands.pyx"     # what the front asks
include "_wire/loop.pyx"         # the relay thread
include "_wire/api.pyx"          # Relay, as Python sees it
include "_wire/trailjson.pyx"    # JSON of the audit trail
include "_wire/trailparts.pyx"   # sessions, definitions, statements of the journal
include "_wire/decode.pyx"       # the journal read back: records -> finished statements
include "_wire/trail.pyx"        # finished statements -> JSON lines, rows of the audit store
include "_wire/proof.pyx"        # hashes of the audit trail's proof
