"""The SQLSTATE codes the gateway itself sends, by the names PostgreSQL's errcodes list gives them.

Used wherever an ErrorResponse is made, so that a code is spelled once.
"""

from __future__ import annotations

from typing import Final

FEATURE_NOT_SUPPORTED: Final = "0A000"
PROTOCOL_VIOLATION: Final = "08P01"
CONNECTION_UNABLE: Final = "08001"              # sqlclient_unable_to_establish_sqlconnection
CONNECTION_REJECTED: Final = "08004"             # sqlserver_rejected_establishment_of_sqlconnection
CONNECTION_FAILURE: Final = "08006"
CHARACTER_NOT_IN_REPERTOIRE: Final = "22021"
INVALID_PARAMETER_VALUE: Final = "22023"
INVALID_AUTHORIZATION: Final = "28000"
INVALID_PASSWORD: Final = "28P01"              # noqa: S105 a code
INVALID_CATALOG_NAME: Final = "3D000"
SYNTAX_ERROR: Final = "42601"
UNDEFINED_OBJECT: Final = "42704"
INSUFFICIENT_PRIVILEGE: Final = "42501"
INSUFFICIENT_RESOURCES: Final = "53000"
DISK_FULL: Final = "53100"
TOO_MANY_CONNECTIONS: Final = "53300"
PROGRAM_LIMIT_EXCEEDED: Final = "54000"
QUERY_CANCELED: Final = "57014"
ADMIN_SHUTDOWN: Final = "57P01"
CANNOT_CONNECT_NOW: Final = "57P03"
IDLE_SESSION_TIMEOUT: Final = "57P05"
INTERNAL_ERROR: Final = "XX000"
