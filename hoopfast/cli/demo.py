"""`hoopfast demo`: the whole product on an embedded database, with a guided tour. What `make demo` calls."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hoopfast.demo.show import Show
    from hoopfast.demo.stage import Stage

PACE_S = 4.5


@click.command(name="demo")
@click.option("--tour-only", is_flag=True, help="End after the tour; status 0 only if everything in it was verified.")
@click.option("--no-tour", is_flag=True, help="Only start everything, and say how to use it.")
@click.option("--pace", type=click.FloatRange(0, 60), default=None,
              help=f"Seconds to read each step (Enter goes on).  [default: {PACE_S:g} in a terminal, otherwise 0]")
def command(tour_only: bool, no_tour: bool, pace: float | None) -> None:
    """Start PostgreSQL, a development issuer and the gateway on loopback, and show what the gateway does.

    Nothing outside a temporary directory is touched, and nothing is left at the end.
    """
    from hoopfast.demo.postgres import NoPostgres
    from hoopfast.demo.settings import NotADemo
    from hoopfast.demo.show import Show
    from hoopfast.demo.stage import Stage, StageFault
    from hoopfast.errors import ConfigError

    if tour_only and no_tour:
        raise click.UsageError("--tour-only and --no-tour leave nothing to do")
    show = Show()
    show.pace = pace if pace is not None else PACE_S if show.console.is_terminal and not tour_only else 0.0
    show.banner("hoopfast demo: throwaway keys, a sign-in without passwords, everything on this machine only")
    stage = Stage()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    verified = True
    try:
        stage.start(show.note)
        show.note(f"{stage.rows} rows of a small shop are loaded; everything lives in {stage.directory}")
        verified = no_tour or _tour(stage, show)
        if not tour_only:
            _stay(stage, show)
    except KeyboardInterrupt:
        show.note("\ninterrupted")
        verified = verified and not tour_only
    except (NoPostgres, NotADemo, StageFault) as failure:
        raise click.ClickException(str(failure)) from failure
    except ConfigError as broken:
        raise click.ClickException("\n".join(map(str, broken.problems))) from broken
    finally:
        # A second Ctrl-C must not leave processes and files behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stage.stop()
    show.note("everything is stopped and removed")
    sys.exit(0 if verified else 1)


def _tour(stage: Stage, show: Show) -> bool:
    from hoopfast.demo.tour import run

    verified = run(stage, show)
    if not verified:
        show.note(f"the gateway's log ends with:\n{stage.log_tail()}")
    return verified


def _stay(stage: Stage, show: Show) -> None:
    from hoopfast.demo.farewell import farewell

    farewell(stage, show)
    while stage.alive:
        time.sleep(0.5)
    raise click.ClickException(f"the gateway ended by itself:\n{stage.log_tail()}")


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
