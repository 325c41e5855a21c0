"""One recorded session on its connection: sends its statements the way they came, within the limits asked for.

With `in_transaction` everything happens in one transaction that is never committed. The session's own transactions are
savepoints in it, and each statement outside of them has a savepoint of its own, so that its failure ends nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from hoopfast.errors import GatewayError
from hoopfast.replay import treat
from hoopfast.replay.compare import Answer
from hoopfast.replay.link import Ask, Link
from hoopfast.replay.order import Unit
from hoopfast.replay.recorded import Recorded

CANCEL_AT_LEAST_S = 0.02
_FORGETTING = frozenset({"deallocate", "discard"})
_TRANSACTION, _STEP, _CHECK = "hoopfast_transaction", "hoopfast_step", "hoopfast_check"


class Escaped(GatewayError):
    """Something ended the transaction that was to be rolled back."""


class Mode(msgspec.Struct, frozen=True):
    read_only: bool = False
    in_transaction: bool = False


class Played(msgspec.Struct):
    """A statement and what became of it; `answer` is None when it was not run."""

    one: Recorded
    plan: treat.Plan
    answer: Answer | None = None


class Player:
    """Plays the units of one session, one at a time."""

    def __init__(self, link: Link, mode: Mode) -> None:
        self.link = link
        self._mode = mode
        self._own = False               # in_transaction: a transaction of the session's own is open

    async def begin(self) -> None:
        if self._mode.in_transaction:
            await self._must("BEGIN READ ONLY" if self._mode.read_only else "BEGIN")

    async def leave(self) -> None:
        await self.link.leave()         # what is open is rolled back by the server

    async def play(self, unit: Unit) -> list[Played]:
        """Raises Lost when the connection is gone, Escaped when the transaction is."""
        played = [
            Played(one, treat.plan(one, read_only=self._mode.read_only, in_transaction=self._mode.in_transaction))
            for one in unit.statements
        ]
        cancelling = self._cancelling(played)
        try:
            if not self._mode.in_transaction:
                await self._locked()
                await self._run(played)
            elif any(each.plan.adapt for each in played):
                for each in played:
                    await self._within([each])
            else:
                await self._within(played)
        finally:
            if cancelling is not None:
                cancelling.cancel()
        for each in played:
            if each.answer is not None and not each.answer.sqlstate and _FORGETTING.intersection(each.one.kinds):
                self.link.forget(treat.facts_of(each.one.sql).forgets)
        return played

    # ------------------------------------------------------------ plain

    async def _run(self, played: Sequence[Played]) -> None:
        asks = []
        in_block = self.link.status == b"T" and (self._own or not self._mode.in_transaction)
        for each in played:
            one = each.one
            if not each.plan.why:
                try:
                    ask = Ask(one, kept=one.results[1] if one.results else 0)
                except ValueError as failure:
                    each.plan = treat.Plan(str(failure), treat.NO_TEXT)
                    continue
                each.answer = ask.answer
                asks.append(ask)
            elif each.plan.kind == treat.REFUSED and (in_block or len(played) > 1):
                # The refusal failed the transaction then: it has to fail now.
                asks.append(Ask(one, fails=True))
        if asks:
            await self.link.run(asks)

    async def _locked(self) -> None:
        """Read-only stays read-only, whatever a function did to the setting."""
        if self._mode.read_only and self.link.status == b"I" and self.link.parameters.get(
            "default_transaction_read_only", "on",
        ) != "on":
            await self._must("SET default_transaction_read_only = on")

    def _cancelling(self, played: Sequence[Played]) -> asyncio.Task[None] | None:
        """What was cancelled then is cancelled now, after the same time."""
        cancelled = [each.one for each in played if each.one.sqlstate == "57014" and not each.plan.why]
        if not cancelled:
            return None
        seconds = max((cancelled[0].end - played[0].one.begin) / 1e9, CANCEL_AT_LEAST_S)
        return asyncio.create_task(self._cancel_after(seconds))

    async def _cancel_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.link.cancel()

    # ------------------------------------------------------------ within the transaction

    async def _within(self, played: Sequence[Played]) -> None:
        adapt = played[0].plan.adapt
        if adapt:
            played[0].answer = await self._adapt(adapt, chained=treat.facts_of(played[0].one.sql).chained)
        elif self._own:
            await self._run(played)
        elif any(not each.plan.why for each in played):
            await self._must(f"SAVEPOINT {_STEP}")
            await self._run(played)
            undo = f"ROLLBACK TO {_STEP}; " if self.link.status == b"E" else ""
            await self._must(f"{undo}RELEASE {_STEP}")
        if self.link.status == b"I":
            raise Escaped("a statement ended the transaction that --in-transaction was to roll back; stopped")

    async def _adapt(self, what: str, *, chained: bool) -> Answer:
        if what == treat.BEGINS:
            if not self._own:
                await self._must(f"SAVEPOINT {_TRANSACTION}")
                self._own = True
            return Answer(state="complete")
        if not self._own:
            return Answer(state="complete")
        failed = Answer(state="complete")
        if what == treat.COMMITS and self.link.status == b"T":
            # A COMMIT checks what was deferred. The check is undone, so that what is deferred stays so.
            await self._must(f"SAVEPOINT {_CHECK}")
            failed = await self.link.command("SET CONSTRAINTS ALL IMMEDIATE")
            if not failed.sqlstate:
                await self._must(f"ROLLBACK TO {_CHECK}; RELEASE {_CHECK}; RELEASE {_TRANSACTION}")
        if what == treat.ROLLS_BACK or self.link.status == b"E":
            await self._must(f"ROLLBACK TO {_TRANSACTION}; RELEASE {_TRANSACTION}")
        self._own = False
        if chained:
            await self._must(f"SAVEPOINT {_TRANSACTION}")
            self._own = True
        return failed

    async def _must(self, sql: str) -> None:
        answer = await self.link.command(sql)
        if answer.sqlstate:
            raise Escaped(f"{sql} failed in the sandbox: {answer.sqlstate} {answer.message}")
