"""Whose fault a failure is, and what the person sees of it.

Every failure that can reach a client, an operator or a log is one of these; the class says who has to act.
A refusal by policy is not here: that is a verdict, the normal flow of a gateway. Used by every layer; imports nothing.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Root of everything hoopfast raises on purpose."""


class ClientFault(GatewayError):
    """The client sent something we answer with an ErrorResponse.

    `sqlstate` is five characters of PostgreSQL's errcodes list; `hint` says what to do next.
    `fatal` closes the connection after the answer (severity FATAL instead of ERROR).
    """

    def __init__(self, sqlstate: str, message: str, *, detail: str = "", hint: str = "", fatal: bool = True) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint
        self.fatal = fatal


class AuthenticationFailed(ClientFault):
    """The credential was refused. `reason` is for metrics and the audit trail, never for the wire."""

    def __init__(self, reason: str, message: str = "", *, hint: str = "") -> None:
        super().__init__("28P01", message or "the gateway did not accept this credential", hint=hint)
        self.reason = reason


class UpstreamFault(GatewayError):
    """PostgreSQL could not be reached, or refused us; that upstream connection is thrown away."""

    def __init__(self, sqlstate: str, message: str, *, hint: str = "", fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.fields = fields or {}


class AuditUnavailable(GatewayError):
    """A record cannot be kept, so nothing may run (fail closed)."""


class ConfigError(GatewayError):
    """The configuration or the policy is wrong. Holds every problem found, not just the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(p) for p in problems))
        self.problems = problems


class Problem:
    """One fault in a configuration file: where (`$.connections.orders.upstream.port`) and what."""

    __slots__ = ("file", "path", "what")

    def __init__(self, file: str, path: str, what: str) -> None:
        self.file = file
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.what}"


class InternalFault(GatewayError):
    """Our own bug: the session pair is closed, the worker lives on."""
