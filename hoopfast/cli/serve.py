"""`hoopfast serve`: run the gateway. Joins the supervisor with its neighbours, the worker and the console."""

from __future__ import annotations

from pathlib import Path

import click

WORKER_MODULE = "hoopfast.worker.main"


@click.command(name="serve")
@click.option("-c", "--config", "file", envvar="HOOPFAST_CONFIG", default="hoopfast.yaml", show_default=True,
              type=click.Path(path_type=Path), help="The configuration; it names the policy.")
def command(file: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C: once drains, twice ends everything now. SIGHUP reloads."""
    import uvloop

    from hoopfast.console.pages import Console
    from hoopfast.errors import ConfigError
    from hoopfast.supervisor.main import serve
    from hoopfast.supervisor.processes import start_fork_server
    from hoopfast.worker.main import run

    _set_limits()
    start_fork_server((WORKER_MODULE,))
    try:
        uvloop.run(serve(file.absolute(), worker=run, console=Console))
    except ConfigError as broken:
        for problem in broken.problems:
            click.echo(str(problem), err=True)
        raise click.ClickException("the gateway cannot start with this configuration (see above)") from None


def _set_limits() -> None:
    """Of this process and, because it comes before the fork server, of all workers."""
    import resource

    # Memory holds tokens and rows. The hard limit stays, so that `prlimit --core` can allow a dump on purpose.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    # Two descriptors per session: the usual soft limit of 1024 is for programs that use select().
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
