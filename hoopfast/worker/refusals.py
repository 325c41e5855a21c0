"""What people read when a statement is refused, warned about or cut short. Pure; used by `worker/verdicts.py`.

Every message says what happened, why, and what to do next, as a finished frame.
"""

from __future__ import annotations

from typing import Final

from hoopfast import model
from hoopfast.analysis.parse import Unparsable
from hoopfast.protocol import messages, sqlstate
from hoopfast.worker.approvals import CANCELLED, FAILED, Outcome, duration

WARNING_CODE: Final = "01000"


class Denied(Exception):
    """The statement is refused with this ErrorResponse frame. `cache`: every later one like it may be, too; `echo`: it
    is the server's, which may show values."""

    def __init__(self, frame: bytes, reason: str, rule: str = "", *, cache: bool = True, echo: bool = False) -> None:
        super().__init__(reason)
        self.echo = echo
        self.frame = frame
        self.reason = reason
        self.rule = rule
        self.cache = cache


class LastWord(Denied):
    """A person's answer (rejected, expired, withdrawn): judging again under a newer context would ask again."""


class Gone(Exception):
    """The client is gone: there is nobody to answer."""


def refusal(message: str, hint: str = "", code: str = sqlstate.INSUFFICIENT_PRIVILEGE) -> bytes:
    return messages.error_response("ERROR", code, message, hint=hint)


def warning(warned: model.Warned) -> bytes:
    said = warned.reason or "this statement is on the watch list of whoever keeps the gateway's policy"
    return messages.notice_response("NOTICE", WARNING_CODE, f'rule "{warned.rule}" of the gateway: {said}')


def too_long(ruling: model.Ruling) -> bytes:
    return refusal(
        f'rule "{ruling.limit_rule}" of the gateway lets this run for {duration(ruling.limit_s)}, and it was cancelled',
        "Make it touch less, or ask whoever keeps the gateway's policy.", sqlstate.QUERY_CANCELED)


def denied_by(ruling: model.Ruling) -> bytes:
    because = f": {ruling.reason}" if ruling.reason else ""
    return refusal(f'rule "{ruling.rule}" of the gateway does not allow this{because}',
                    "Ask whoever keeps the gateway's policy if you need it.")


def not_approved(outcome: Outcome, ruling: model.Ruling) -> bytes:
    if outcome.how == CANCELLED:
        return refusal("canceling statement due to user request", code=sqlstate.QUERY_CANCELED)
    if outcome.how == FAILED:
        return refusal(f"this statement needs approval, but {outcome.reason}", "Try again.")
    if outcome.how == "rejected":
        because = f": {outcome.reason}" if outcome.reason else " and gave no reason"
        return refusal(f"{outcome.reviewer or 'a reviewer'} rejected this statement{because}",
                        f'Rule "{ruling.rule}" asks for approval. Talk to the reviewer before you send it again.')
    return refusal(f"nobody approved this statement within {duration(ruling.expires_s)}",
                    f"Send it again when one of {', '.join(ruling.approver_groups) or 'the approvers'} is there.")


def unparsable(error: Unparsable) -> bytes:
    return messages.error_response("ERROR", error.sqlstate, error.reason, hint=error.hint, position=error.position)


def unjudged() -> bytes:
    return messages.error_response(
        "ERROR", sqlstate.INTERNAL_ERROR, "hoopfast could not judge this statement, so it did not run",
        hint="Tell the operators of the gateway; its log has the details.")


def without_position(body: bytes) -> bytes:
    fields = messages.parse_fields(body)
    return messages.error_response("ERROR", fields.get("C", sqlstate.INTERNAL_ERROR), fields.get("M", ""),
                                   detail=fields.get("D", ""), hint=fields.get("H", ""))
