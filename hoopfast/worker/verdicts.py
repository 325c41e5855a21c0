"""The verdict desk: judges every statement that the relay has no verdict for. Called by `worker/front.py`.

A statement is read (analysis), ruled on (policy), checked against the person's masks (gate), described on its own
upstream connection where its columns' origins matter (probe), held for approval where a rule says so, and answered
to the relay. Whatever fails on the way ends in a refusal: a parked session is always answered, and never with a
pass by accident.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from hoopfast import limits, model
from hoopfast.analysis import gate
from hoopfast.analysis.classify import facts, function_call_facts
from hoopfast.analysis.constants import free_constants
from hoopfast.analysis.flow import Refused
from hoopfast.analysis.gate import Judgement, StatementJudgement
from hoopfast.analysis.parse import Statement, Unparsable, decode, parse
from hoopfast.analysis.private import EVERYTHING
from hoopfast.analysis.settings import assigned
from hoopfast.audit import typed
from hoopfast.policy.snapshot import also_held
from hoopfast.protocol import messages, sqlstate
from hoopfast.protocol.settings import unreadable
from hoopfast.worker.approvals import DISCONNECTED, ApprovalDesk, Outcome
from hoopfast.worker.contexts import Context
from hoopfast.worker.enforced import Described, Sent, Stale, described, note, rewritten
from hoopfast.worker.flags import standing_flags
from hoopfast.worker.labels import NOTHING, flag, label, placeholders, protection, protection_unread, recorded
from hoopfast.worker.origins import check_origins, copy_plan
from hoopfast.worker.refusals import (
    Denied,
    Gone,
    LastWord,
    denied_by,
    not_approved,
    refusal,
    too_long,
    unjudged,
    unparsable,
    warning,
    without_position,
)

log = logging.getLogger(__name__)

REJUDGE_MAX = 8                 # how often policy or catalog may change under one statement
CATALOG_WAIT_S = 5.0
CATALOG_STEP_S = 0.02
LOCAL_NAMES_MAX = 10_000
THREADS = 2

Answer = TypeVar("Answer")


class Work(msgspec.Struct):
    """One verdict that is being made."""

    session: Any
    serial: int
    kind: str
    text: str
    types: bytes
    bind: bytes
    utf8: bool = True
    statements: tuple[Statement, ...] = ()
    facts: tuple[model.StatementFacts, ...] = ()
    protect: model.Protect = EVERYTHING
    approved: Outcome | None = None
    ruling: model.Ruling | None = None          # under which it was approved
    unknown: str = ""                           # a name that the last catalog looked at does not have
    known: dict[str, Described] = {}            # what the server said of its texts
    called: dict[str, Any] = {}                 # what a FunctionCall calls, for the label


class Pass(msgspec.Struct, frozen=True):
    """What the relay is told of a statement that may run."""

    action: int
    flags: int
    zero_origin: int
    copy_plan: bytes
    masks: tuple[str, ...]
    cache: bool
    ruling: model.Ruling
    sent: Sent | None = None                    # goes upstream in place of the text


class VerdictDesk:
    """`relay` is the core's Relay (or a fake of it); `clock` gives unix seconds; `function` is Functions.describe."""

    def __init__(
        self, relay: Any, approvals: ApprovalDesk, function: Any, clock: Callable[[], float] = time.time
    ) -> None:
        self._relay = relay
        self._function = function
        self._clock = clock
        self._approvals = approvals
        self._probes: dict[tuple[int, int], asyncio.Future[bytes]] = {}
        self._local: dict[int, set[str]] = {}
        self._stale: dict[str, int] = {}        # by connection: the last catalog that a newer one was asked for
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="analysis")

    # ------------------------------------------------------------ called by the front

    async def verdict(
        self, session: Any, serial: int, kind: str, text: bytes, types: bytes, bind: bytes, status: bytes
    ) -> None:
        """Judge one statement and answer `Relay.decide`. Never raises, apart from cancellation.

        `kind` is "Q", "P", "B" (of an ACTION_ASK statement) or "F"; `status` the transaction state, b"I", b"T" or b"E".
        """
        work = Work(session, serial, kind, "", types, bind)
        try:
            # An aborted transaction refuses everything but its end by itself; only the verdict is ours.
            del status
            answer = await self._judge(work, text)
            self._release(work, answer)
        except (Gone, asyncio.CancelledError) as end:
            if work.approved is not None:
                self._approvals.dropped(work.approved)
            if isinstance(end, asyncio.CancelledError):
                raise
        except Denied as denied:
            self._deny(work, denied.frame, denied.reason, denied.rule, cache=denied.cache, echo=denied.echo)
        except Unparsable as error:
            self._deny(work, unparsable(error), error.reason, echo=True)
        except Exception:
            log.exception("a statement of session %x could not be judged", session.id)
            self._deny(work, unjudged(), "internal error", cache=False)

    def probe_answered(self, session: Any, serial: int, frames: bytes) -> None:
        """The relay's "probe" event."""
        waiting = self._probes.get((session.id, serial))
        if waiting is not None and not waiting.done():
            waiting.set_result(frames)

    def withdrawn(self, session: Any, serial: int) -> None:
        """The relay's "withdrawn" event: the client of a parked statement went away."""
        self._approvals.withdrawn(session.id, serial)
        waiting = self._probes.get((session.id, serial))
        if waiting is not None and not waiting.done():
            waiting.set_exception(Gone())

    def cancel(self, session: Any) -> bool:
        """A CancelRequest. True when it withdrew a waiting approval; otherwise it is the server's business."""
        return self._approvals.cancel(session.id)

    def session_closed(self, session: Any) -> None:
        """Forget the session. The front cancels the tasks that judge its statements."""
        self._local.pop(session.id, None)

    def close(self) -> None:
        """Let the threads end; used when the worker stops."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ judging

    async def _judge(self, work: Work, raw: bytes) -> Pass:
        if work.kind == "F":
            work.called = await self._function(work.session.connection, raw)
            return self._function_call(work)
        work.text = decode(raw, any_encoding=work.session.context.closure is None)
        work.utf8 = len(work.text.encode()) == len(raw)
        try:
            work.statements, work.facts = await self._run(len(raw), functools.partial(_read, work.text))
        except Unparsable as error:
            work.protect = protection_unread(work.text, work.session.context.sensitive)
            raise await self._misread(work, raw, error) from None
        _check_reading(work.statements)
        for _ in range(REJUDGE_MAX):
            context: Context = work.session.context
            # A verdict must not be kept under a context it was not made in.
            try:
                answer = await self._judge_in(work, context, len(raw))
            except LastWord:
                raise
            except Denied:
                if work.session.context is context or work.approved is not None:
                    raise
                continue
            if answer is not None and work.session.context is context:
                return answer
        if work.unknown:
            raise _not_known(work.unknown)      # what changed all the time did not bring the name
        raise Denied(refusal("policy and catalog of this connection keep changing", "Try again."),
                     "contexts keep changing", cache=False)

    async def _judge_in(self, work: Work, context: Context, size: int) -> Pass | None:
        """The verdict in one context; None to judge again, because the context has changed."""
        work.protect = await self._run(size, functools.partial(
            protection, work.text, work.statements, context.sensitive, utf8=work.utf8))
        ruling = self._rule(work, context, work.facts)
        if ruling.action == "deny":
            raise Denied(denied_by(ruling), ruling.reason, ruling.rule, cache=not ruling.timed)
        judgement = Judgement(outcome=gate.CLEAN)
        if context.closure is not None and work.statements:
            local = frozenset(self._local.get(work.session.id, ()))
            if size > limits.ANALYSE_MAX_BYTES:
                raise Denied(refusal(
                    f"statements longer than {limits.ANALYSE_MAX_BYTES} bytes cannot be analysed while columns are "
                    "hidden from you", "Use COPY FROM STDIN, or split the statement.", "54000"), "too long")
            judgement = await self._run(size, functools.partial(gate.judge, work.statements, context.closure, local))
        if judgement.outcome == gate.UNKNOWN:
            await self._unknown(work, context, judgement)
            return None
        work.unknown = ""
        if judgement.outcome == gate.REFUSED:
            ruling = _held_because(work, context, judgement, ruling)
            answer = _unread(work, ruling)
        else:
            answer = await self._described(work, context, judgement, ruling)
            if context.shields is not None and work.kind in "QP":
                answer = await self._enforced(work, context, judgement, answer)
        if ruling.action == "approve":
            if work.kind == "P":
                return msgspec.structs.replace(answer, action=model.ACTION_ASK)
            # An approval counts for the rule it was given under, not for one that replaced it meanwhile.
            if work.approved is not None and ruling != work.ruling:
                self._approvals.dropped(work.approved)
                work.approved = None
            if work.approved is None:
                work.approved, work.ruling = await self._hold(work, context, ruling), ruling
                self._still_in_time(work, context, ruling)
        self._remember(work, judgement)
        if work.kind == "P" and _each_time(ruling):
            # Parse is no run: the relay asks again for each Bind, which is when people are warned and time counts.
            return msgspec.structs.replace(answer, action=model.ACTION_ASK)
        return answer

    def _rule(self, work: Work, context: Context, facts: tuple[model.StatementFacts, ...]) -> model.Ruling:
        session = work.session
        return context.snapshot.decide(session.identity, session.connection, facts, session.client, self._clock())

    def _still_in_time(self, work: Work, context: Context, ruling: model.Ruling) -> None:
        """An approval may come when a rule no longer lets the statement run."""
        later = self._rule(work, context, work.facts) if ruling.timed else ruling
        if later.action == "deny":
            raise LastWord(denied_by(later), later.reason, later.rule, cache=False)

    def _function_call(self, work: Work) -> Pass:
        context: Context = work.session.context
        work.protect = msgspec.structs.replace(EVERYTHING, literals=())
        ruling = self._rule(work, context, function_call_facts())
        if ruling.action in ("deny", "approve"):
            # Its message has no text that an approver could read.
            raise Denied(denied_by(ruling), ruling.reason or "function calls cannot be approved", ruling.rule,
                         cache=not ruling.timed)
        if context.closure is not None:
            raise Denied(refusal("function calls without SQL are not allowed while columns are hidden from you",
                                  "Call the function with SELECT."), "function call", "masking")
        return Pass(model.ACTION_ALLOW, model.FLAG_CATALOG, 0, b"", (), not _each_time(ruling), ruling)

    async def _run(self, size: int, call: Callable[[], Answer]) -> Answer:
        """Short texts at once, long ones in a thread: the event loop is shared by all logins."""
        if size <= limits.PARSE_INLINE_MAX_BYTES:
            return call()
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _remember(self, work: Work, judgement: Judgement) -> None:
        """Tables made in this session: until the catalog shows them, they are known to be the session's own."""
        for one in judgement.statements:
            if one.creates:
                names = self._local.setdefault(work.session.id, set())
                if len(names) < LOCAL_NAMES_MAX:
                    names.update(one.creates)

    # ------------------------------------------------------------ masks

    async def _described(self, work: Work, context: Context, judgement: Judgement, ruling: model.Ruling) -> Pass:
        """Check the origins of all output columns before anything runs, and pack the flags."""
        flags = standing_flags(work.facts, work.statements)
        if context.closure is not None and context.closure.knobs.errors == "strict":
            flags |= model.FLAG_STRICT
        zero_origin = 0
        plan = b""
        masked: dict[str, None] = {}
        for one in judgement.statements:
            if one.scrub:
                flags |= model.FLAG_SCRUB
            if one.outcome != gate.TOUCHED:
                continue
            flags |= model.FLAG_TOUCHED | (model.FLAG_REDACT if one.redact else 0)
            if one.zero_origin is None or len(judgement.statements) > 1:
                flags |= model.FLAG_ANY_ZERO
            # A Bind was described when its statement was parsed; only the rows of COPY need the columns again.
            if one.probe and (work.kind != "B" or one.copy is not None):
                fields = await self._probe(work, one)
                zero_origin = max(zero_origin, check_origins(fields, one, context))
                origins = [(field.table_oid, field.attnum) for field in fields]
                masked.update((context.names[origin], None) for origin in origins if origin in context.names)
                if one.copy is not None:
                    flags |= model.FLAG_COPY_OUT
                    plan = copy_plan(one, fields, context)
            else:
                zero_origin = max(zero_origin, one.zero_origin or 0)
        local = any(one.used_local for one in judgement.statements)
        cache = not local and (work.kind == "P" or not _each_time(ruling))
        return Pass(model.ACTION_ALLOW, flags, zero_origin, plan, tuple(masked), cache, ruling)

    async def _enforced(self, work: Work, context: Context, judgement: Judgement, answer: Pass) -> Pass:
        """The session's role may not read hidden columns: what reads them is sent in other words."""
        async def ask(text: str, types: bytes) -> bytes:
            return await self._ask(work, text.encode(), types or work.types)

        try:
            sent = await rewritten(
                context, work.statements, judgement.statements, work.known, ask, prepared=work.kind == "P")
        except Refused as refused:
            if isinstance(refused, Stale) and self._stale.get(work.session.connection) != context.epoch:
                self._stale[work.session.connection] = context.epoch
                self._approvals.send(model.CatalogWanted(connection=work.session.connection, changed=True))
            raise Denied(refusal(refused.reason, refused.hint), refused.reason, "masking", cache=False) from None
        if sent is None:
            return answer
        zeros = max(answer.zero_origin, sent.zeros)
        return msgspec.structs.replace(answer, sent=sent, zero_origin=zeros, cache=answer.cache and sent.shared)

    async def _probe(self, work: Work, one: StatementJudgement) -> list[messages.Field]:
        """The columns of a statement, from the server. Its error is the client's answer: it would have been anyway."""
        own = len(work.statements) == 1 and one.probe == work.statements[0].text
        found = described(await self._ask(work, (work.text if own else one.probe).encode()))
        if found.error:
            frame = messages.frame(b"E", found.error) if own else without_position(found.error)
            raise Denied(frame, "the server refused it", cache=False, echo=True)
        work.known[one.probe] = found
        return found.fields

    async def _misread(self, work: Work, raw: bytes, error: Unparsable) -> Exception:
        """What to raise for a text that is no SQL here. The server's own error is the answer a client knows; a text
        that the server does take, in a dialect newer than ours, is refused: it was only parsed there."""
        if error.sqlstate != sqlstate.SYNTAX_ERROR or work.kind == "B":
            return error
        for kind, body in messages.iter_frames(await self._ask(work, raw)):
            if kind == b"E":
                return Denied(messages.frame(b"E", body), error.reason, cache=False, echo=True)
        return error

    async def _ask(self, work: Work, sql: bytes, types: bytes | None = None) -> bytes:
        key = (work.session.id, work.serial)
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._probes[key] = waiting
        try:
            self._relay.probe(*key, sql, work.types if types is None else types)
            return await waiting
        finally:
            del self._probes[key]

    async def _unknown(self, work: Work, context: Context, judgement: Judgement) -> None:
        """A name the catalog does not have: the server's own error, or a relation that is newer than the catalog."""
        names: list[str] = []
        for one in judgement.statements:
            names += one.unknown
            if one.probe and work.kind != "B":
                await self._probe(work, one)
        work.unknown = names[0]
        if work.session.context is context:
            self._approvals.send(model.CatalogWanted(connection=work.session.connection, changed=True))
            for _ in range(int(CATALOG_WAIT_S / CATALOG_STEP_S)):
                if work.session.context is not context:
                    return
                await asyncio.sleep(CATALOG_STEP_S)
            raise _not_known(names[0])

    # ------------------------------------------------------------ approval

    async def _hold(self, work: Work, context: Context, ruling: model.Ruling) -> Outcome:
        parameters: tuple[str | None, ...] = ()
        if work.kind == "B":
            bind = typed.parse_bind(work.bind)
            values = typed.decode_parameters(typed.type_oids(work.types), bind.formats, bind.values)
            parameters = tuple(value.hex if isinstance(value, typed.Raw) else value for value in values)
        outcome = await self._approvals.hold(
            self._relay, work.session, work.serial, ruling, work.text, parameters, context.epoch,
            placeholders(work.text, parameters, work.protect))
        if outcome.how == DISCONNECTED:
            raise Gone
        if outcome.how != "approved":
            raise LastWord(not_approved(outcome, ruling), outcome.how, ruling.rule, cache=False)
        return outcome

    # ------------------------------------------------------------ answering

    def _release(self, work: Work, answer: Pass) -> None:
        # What was approved is found by `audit search --verdict approve`, however it came.
        verdict = "approve" if work.approved is not None else answer.ruling.action
        extra = {"approval": work.approved.approval, "reviewer": work.approved.reviewer} if work.approved else {}
        cache = answer.cache and work.approved is None
        ruling, sent = answer.ruling, answer.sent
        limit_s = ruling.limit_s if answer.action == model.ACTION_ALLOW else 0.0
        for warned in ruling.warnings if answer.action == model.ACTION_ALLOW else ():
            self._relay.notice(work.session.id, warning(warned), held=False)
        kept = self._recorded(work, echo=not answer.flags & model.FLAG_SCRUB)
        self._relay.decide(
            work.session.id, work.serial, answer.action, answer.flags | flag(kept),
            label=label(work.facts, verdict, ruling.rule, answer.masks, ruling.reason, kept, **work.called, **extra),
            zero_origin=answer.zero_origin, copy_plan=answer.copy_plan, cache=cache, limit_s=limit_s,
            error=too_long(ruling) if limit_s else b"",
            free_constants=_free_constants(work) if cache and answer.action == model.ACTION_ALLOW and not sent else b"",
            **({"sent": sent.text.encode(), "sent_types": sent.types} if sent is not None else {}),
        )
        if sent is not None:
            self._relay.note(work.session.id, note(work.text, sent, kept))
        if work.approved is not None:
            self._approvals.used(work.approved)

    def _recorded(self, work: Work, *, echo: bool) -> model.Protect:
        context: Context = work.session.context
        return recorded(work.protect, echo=echo, sees=context.sees) if context.sensitive is not None else NOTHING

    def _deny(
        self, work: Work, frame: bytes, reason: str, rule: str = "", *, cache: bool = True, echo: bool = False,
    ) -> None:
        if work.approved is not None:
            self._approvals.dropped(work.approved)
            cache = False
        kept = self._recorded(work, echo=echo)
        self._relay.decide(
            work.session.id, work.serial, model.ACTION_DENY, flag(kept),
            label=label(work.facts, "deny", rule, (), reason, kept), error=frame, cache=cache and work.kind != "B",
        )


def _read(text: str) -> tuple[tuple[Statement, ...], tuple[model.StatementFacts, ...]]:
    statements = parse(text)
    return statements, facts(statements)


def _check_reading(statements: tuple[Statement, ...]) -> None:
    """Raises Denied for a setting with which the gateway could not tell any more what later statements are."""
    for statement in statements:
        if statement.tag != "VariableSetStmt":
            continue
        name, value = assigned(statement.node)
        if hint := unreadable(name, value):
            raise Denied(refusal(f'"{name}" cannot be "{value}" in a session through the gateway', hint,
                                  sqlstate.FEATURE_NOT_SUPPORTED),
                         "setting")


def _free_constants(work: Work) -> bytes:
    """For Relay.decide. Places in a text that was not read as UTF-8 would be those of another text."""
    if work.kind not in "QP" or not work.utf8 or len(work.text) > limits.TEMPLATE_MAX_BYTES:
        return b""
    return array("I", free_constants(work.text, work.statements)).tobytes()


def _not_known(name: str) -> Denied:
    return Denied(refusal(
        f'hoopfast does not know relation "{name}" yet, so it cannot tell whether it shows hidden columns',
        "If it was created in a transaction that is still open, commit first; otherwise try again in a moment.",
    ), "unknown relation", "masking", cache=False)


def _held_because(work: Work, context: Context, judgement: Judgement, ruling: model.Ruling) -> model.Ruling:
    """The approval that a statement refused because of hidden columns waits for. Raises Denied where there is none:
    alone it has to be, or what stands beside it would pass unseen."""
    closure = context.closure
    held = closure.knobs.approvals.get(judgement.knob) if closure is not None and len(work.statements) == 1 else None
    if held is None or work.statements[0].tag == "CopyStmt":
        raise Denied(refusal(judgement.reason, judgement.hint), judgement.reason, "masking")
    both = also_held(ruling, msgspec.structs.replace(held, reason=judgement.reason))
    if both.action == "deny":
        raise Denied(denied_by(both), both.reason, both.rule, cache=not both.timed)
    return both


def _unread(work: Work, ruling: model.Ruling) -> Pass:
    """Of a statement that people have let pass: plain hidden columns are masked, and what it computes is shown."""
    flags = model.FLAG_TOUCHED | model.FLAG_ANY_ZERO | model.FLAG_SCRUB | standing_flags(work.facts, work.statements)
    return Pass(model.ACTION_ALLOW, flags, 0, b"", (), False, ruling)


def _each_time(ruling: model.Ruling) -> bool:
    """Whether each run needs a judgement of its own, so that no verdict may be remembered."""
    return ruling.action == "approve" or bool(ruling.warnings) or ruling.timed
