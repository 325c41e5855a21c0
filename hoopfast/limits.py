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

# Any other client message that the relay looks into (Bind, FunctionCall).
CLIENT_MESSAGE_MAX_BYTES = 256 * 1024 * 1024
# A DataRow that has masked cells must be whole before its new length is known.
MASKED_ROW_MAX_BYTES = 64 * 1024 * 1024

LOGIN_TIMEOUT_S = 60.0
UPSTREAM_CONNECT_TIMEOUT_S = 15.0
CANCEL_TIMEOUT_S = 10.0
LOGINS_IN_FLIGHT_MAX = 512
CANCELS_IN_FLIGHT_MAX = 64
ACCEPTS_PER_TURN_MAX = 64

IPC_FRAME_MAX_BYTES = 64 * 1024 * 1024
JOURNAL_SEGMENT_BYTES = 16 * 1024 * 1024
JOURNAL_DEFAULT_MAX_BYTES = 1024 * 1024 * 1024
RESULT_CAPTURE_DEFAULT_BYTES = 64 * 1024
