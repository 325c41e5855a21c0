"""Every bound of the gateway, in one place, with the reason beside the number.

Protocol limits are PostgreSQL's; the others are ours. Imports nothing.
"""

from __future__ import annotations

# PostgreSQL's own (src/include/libpq/pqcomm.h, src/backend/libpq/auth.c).
STARTUP_PACKET_MAX_BYTES = 10_000
AUTH_MESSAGE_MAX_BYTES = 65_535
CANCEL_KEY_MIN_BYTES = 4
CANCEL_KEY_MAX_BYTES = 256
IDENTIFIER_MAX_BYTES = 63

# Cleartext login messages: identity.md section 4 rule 1 (a token with 400 groups has 11 kB).
CREDENTIAL_MAX_BYTES = 32_768

# Statement text that is analysed; beyond it the statement is refused (54000), the session lives.
STATEMENT_MAX_BYTES = 16 * 1024 * 1024
# Above this the parse leaves the event loop for a thread.
PARSE_INLINE_MAX_BYTES = 8 * 1024
# Parse of touched statements in sessions with masks (the analyser walks them in Python).
ANALYSE_MAX_BYTES = 1024 * 1024
# Texts longer than this share no verdict with texts that differ in constants (LEX_TEXT_MAX in the core).
TEMPLATE_MAX_BYTES = 64 * 1024
# Runs of operator characters, which cost the square of their length: one of the longest takes a fifteenth of a second.
OPERATOR_RUN_MAX = 10_000
OPERATOR_RUN_LONG = 1_000
OPERATOR_RUNS_LONG_MAX = 100
# Nodes of one syntax tree: an INSERT of 16 MiB has about three million, which is a second of walking.
ANALYSE_MAX_NODES = 4_000_000
# Steps in which hidden columns are followed through one statement: a fifth of a second or so. Long chains of queries in
# an unfortunate order need as many steps as the square of their length.
FLOW_STEPS_MAX = 300_000
# Nodes of an expression of hidden columns that may be shown as NULL (analysis/total.py).
TOTAL_MAX_NODES = 200
# Joins nested in one FROM item (the walk into them is the only one that recurses); the decoder refuses about 250.
JOIN_MAX_DEPTH = 200

# Any other client message that the relay looks into (Bind, FunctionCall).
CLIENT_MESSAGE_MAX_BYTES = 256 * 1024 * 1024
# A DataRow that has masked cells must be whole before its new length is known.
MASKED_ROW_MAX_BYTES = 64 * 1024 * 1024

LOGIN_TIMEOUT_S = 60.0
UPSTREAM_CONNECT_TIMEOUT_S = 15.0
CANCEL_TIMEOUT_S = 10.0
LOGINS_IN_FLIGHT_MAX = 512                  # per worker, with a proven identity, on their way to the upstream
LOGIN_SHARE_OF_ADDRESS = 2                  # one address may have 1/n of all places with clients that are not logged in
LOGINS_OF_ADDRESS_MIN = 64
CANCELS_IN_FLIGHT_MAX = 64
CANCELS_ASKED_MAX = 1024               # keys that workers ask each other about
ACCEPTS_PER_TURN_MAX = 64
SESSION_DESCRIPTORS = 2                     # one for each leg
WORKER_DESCRIPTORS = 64                     # what a worker needs beside its sessions: journal, link, cancels, names
FAREWELLS_MAX = 256                         # refused clients that still read why, or an eighth of the descriptors

IPC_FRAME_MAX_BYTES = 64 * 1024 * 1024
JOURNAL_SEGMENT_BYTES = 16 * 1024 * 1024
JOURNAL_DEFAULT_MAX_BYTES = 1024 * 1024 * 1024
RESULT_CAPTURE_DEFAULT_BYTES = 64 * 1024

# Tokens and their keys (identity.md section 4). Times in seconds.
TOKEN_LEEWAY_S = 30.0                       # clocks of provider and gateway may differ by this
TOKEN_LIFETIME_MAX_S = 24 * 3600.0          # exp - iat, and the age of iat: longer is a password in disguise
TOKEN_KID_MAX_CHARS = 256
TOKEN_SUBJECT_MAX_CHARS = 255               # OpenID Connect Core, section 2
GROUPS_MAX = 2_000
GROUP_MAX_CHARS = 256
KEY_SET_MAX_BYTES = 512 * 1024
KEY_SET_MAX_KEYS = 64
KEY_FETCH_TIMEOUT_S = 5.0                   # discovery and key set together
KEY_FETCH_INTERVAL_S = 30.0                 # between two attempts, failures counted
KEY_BACKOFF_MAX_S = 300.0                   # between two attempts while the provider is down
KEY_WAIT_S = 3.0                            # how long a login waits for a running fetch
KEY_SOFT_AGE_MIN_S = 300.0                  # refresh in the background, by Cache-Control within these bounds
KEY_SOFT_AGE_MAX_S = 3600.0
KEY_SOFT_AGE_DEFAULT_S = 900.0              # when the provider says nothing
KEY_HARD_AGE_S = 24 * 3600.0                # keys older than this are not used at all
KEY_UNKNOWN_MAX = 1_024                     # remembered unknown key ids, per issuer
KEY_UNKNOWN_S = 300.0                       # a provider may publish a key a little after its first use

# Failed logins by address: free failures a minute, then each attempt waits.
LOGIN_FAILURES_PER_MINUTE = 10
LOGIN_DELAY_STEP_S = 0.5
LOGIN_DELAY_MAX_S = 5.0
LOGIN_FAILURE_ADDRESSES_MAX = 10_000
