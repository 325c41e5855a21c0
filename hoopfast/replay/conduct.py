"""One whole replay: connections with the recorded settings, the run itself, the report. Called by cli/replay.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import uvloop

from hoopfast.errors import GatewayError
from hoopfast.protocol.settings import application_name
from hoopfast.replay.link import Link
from hoopfast.replay.order import RUN, Stop, units_of
from hoopfast.replay.recorded import Session, Trail
from hoopfast.replay.report import Ran, Report, report
from hoopfast.replay.run import Options, Runner, Step
from hoopfast.replay.source import Rows
from hoopfast.replay.target import Sandbox

READ_ONLY_SINCE = 14                    # servers that report default_transaction_read_only


def conduct(
    trail: Trail, rows: Rows, sandbox: Sandbox, options: Options, *, stop: Stop | None = None, stop_at: str = "",
    on_step: Callable[[Step], None],
) -> Report:
    """Raises GatewayError when the sandbox cannot be used, play.Escaped when a rollback was in danger."""
    if options.mode.read_only and int(sandbox.identity.version.split(".")[0]) < READ_ONLY_SINCE:
        raise GatewayError(f"--read-only needs PostgreSQL {READ_ONLY_SINCE}; this is {sandbox.identity.version}")
    units = units_of(trail, stop=stop)
    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        on_step(step)

    async def connect(session: Session) -> Link:
        return await Link.connect(sandbox.upstream, sandbox.password, settings_of(session, sandbox, options))

    runner = Runner(trail, units, connect, rows.fetch, options, take)
    started, begun = time.time_ns(), time.monotonic()
    interrupted = False
    try:
        uvloop.run(runner.run())
    except KeyboardInterrupt:
        interrupted = True          # what was found so far is worth having
    ran = Ran(
        target=sandbox.shown, server=sandbox.identity.version, stop_at=stop_at, interrupted=interrupted,
        started=started, seconds=time.monotonic() - begun)
    return report(trail, units, steps, runner.stalls, runner.pace, options, ran)


def settings_of(session: Session, sandbox: Sandbox, options: Options) -> dict[str, str]:
    """What a session's startup packet asked for, as far as the trail has it, with what replay needs on top."""
    settings = {"options": sandbox.options} if sandbox.options else {}
    settings |= session.settings
    # The trail is UTF-8, whatever the client spoke.
    settings |= {
        "client_encoding": "UTF8",
        "application_name": application_name("hoopfast replay", session.id or "catalog"),
    }
    if options.mode.read_only:
        settings["default_transaction_read_only"] = "on"
    return settings


def statements_in(trail: Trail, stop: Stop | None) -> int:
    return sum(len(unit.statements) for unit in units_of(trail, stop=stop) if unit.what == RUN)
