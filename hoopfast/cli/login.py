"""`hoopfast login`, `logout`, `token` and `exec`: a person signs in once, and every PostgreSQL client just works.

The browser signs in with the organisation's provider on the gateway's own page; this side gets a gateway secret of some
hours and writes it where libpq looks at every connection (cli/credfiles.py). Tokens never come here.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import time
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from hoopfast.cli import credfiles
from hoopfast.cli.client import AdminClient, is_loopback_server
from hoopfast.cli.credfiles import Login
from hoopfast.cli.loopback import Waiting
from hoopfast.cli.table import clean, moment
from hoopfast.control.terminals import challenge_of

BROWSER_S = 300.0


@click.command()
@click.argument("server", required=False)
@click.option("--ttl", default="", help="How long it shall be good, e.g. 8h.  [default: the longest there is]")
@click.option("--no-browser", is_flag=True, help="Print an address and a code, for a machine without a browser.")
@click.option("--ca", envvar="HOOPFAST_CA", default="", help="Private CA of the gateway's certificates.")
def login(server: str | None, ttl: str, no_browser: bool, ca: str) -> None:
    """Sign in at the gateway's console, SERVER (https://...), and let psql and other clients in until tonight.

    Without SERVER: again at the gateway of the last time.
    """
    from hoopfast.units import duration_s

    url = (server or _only().server).rstrip("/")
    if not url.startswith(("https://", "http://")):
        url = f"https://{url}"
    if not url.startswith("https://") and not is_loopback_server(url):
        raise click.UsageError(f"{url}: a secret may only travel over https (or inside of this machine)")
    if ca:
        ca = str(Path(ca).resolve())
    try:
        ttl_s = duration_s(ttl) if ttl else 0.0
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param_hint="--ttl") from None
    verifier = secrets.token_urlsafe(48)
    with AdminClient(server=url, ca=ca) as gateway:
        way = _typed if no_browser else _by_browser
        made = way(gateway, url, verifier, ttl_s)
    given = Login(
        server=url, id=made["id"], user=made["user"], host=made["host"], port=made["port"], tls=made["tls"],
        expires_at=made["expires_at"], connections=tuple(made["connections"]),
        ca=(ca or _system_ca()) if made["tls"] else "",
    )
    services, taken = credfiles.keep(given, made["secret"])
    click.echo(f"Signed in as {clean(given.user)}, until {moment(given.expires_at, seconds=False)} UTC.")
    for name in services:
        click.echo(f"  psql service={clean(name)}")
    for name in taken:
        click.echo(f"  {clean(name)}: {credfiles.service_file()} has a section of this name, which was left alone;\n"
                   f'    hoopfast exec -- psql "host={given.host} port={given.port} dbname={clean(name)} '
                   f'user={clean(given.user)}"', err=True)


def _by_browser(gateway: AdminClient, url: str, verifier: str, ttl_s: float) -> dict[str, Any]:
    state = secrets.token_urlsafe(24)
    waiting = Waiting(state)
    asked = {"port": waiting.port, "state": state, "challenge": challenge_of(verifier), "name": _here()}
    if ttl_s:
        asked["ttl"] = f"{ttl_s:.0f}s"
    address = f"{url}/terminal?{urlencode(asked)}"
    opened = webbrowser.open(address)
    how = "Your browser shows where to go on. If it does not, open" if opened else "Open"
    click.echo(f"{how}\n\n  {address}\n", err=True)
    answer = waiting.wait(BROWSER_S)
    if not answer:
        raise click.ClickException("nobody came back from the browser within five minutes; run `hoopfast login` again")
    if "code" not in answer:
        raise click.ClickException("the sign-in was turned away in the browser")
    return dict(gateway.post("/login/redeem", {"code": answer["code"], "verifier": verifier}))


def _typed(gateway: AdminClient, url: str, verifier: str, ttl_s: float) -> dict[str, Any]:
    begun = gateway.post("/login/begin", {"challenge": challenge_of(verifier), "name": _here(), "ttl_s": ttl_s})
    letters = begun["letters"]
    click.echo(f"Open  {url}/terminal/code  in a browser and type  {letters[:4]}-{letters[4:]}", err=True)
    ends_at = time.monotonic() + float(begun["expires_in"])
    while time.monotonic() < ends_at:
        time.sleep(max(1.0, float(begun["interval"])))
        made = gateway.post("/login/redeem", {"code": begun["code"], "verifier": verifier})
        if not made.get("waiting"):
            return dict(made)
    raise click.ClickException("nobody typed the code within five minutes; run `hoopfast login` again")


@click.command()
@click.argument("server", required=False)
def logout(server: str | None) -> None:
    """Revoke what `login` was given, end its sessions, and remove its files."""
    given = _only(server)
    try:
        with AdminClient(server=given.server, token=credfiles.secret_of(given), ca=_private_ca(given)) as gateway:
            done = gateway.post(f"/me/secrets/{given.id}/revoke")
        click.echo(f"Signed out; {done['sessions']} sessions end now.")
    except click.ClickException as failure:
        # Gone from here in any case; what could not be revoked ends by itself.
        click.echo(f"The secret could not be revoked: {failure.message}", err=True)
        click.echo(f"It ends by itself at {moment(given.expires_at, seconds=False)} UTC.", err=True)
    credfiles.forget(given.server)


@click.command()
@click.argument("server", required=False)
def token(server: str | None) -> None:
    """Print the secret, for tools that ask a command for a password (pgAdmin's "password exec command")."""
    click.echo(credfiles.secret_of(_good(server)))


@click.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.option("--server", default=None, help="Which gateway, if you are signed in at several.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(server: str | None, command: tuple[str, ...]) -> None:
    """Run COMMAND with PGPASSFILE and PGSERVICEFILE set: `hoopfast exec -- pg_dump service=orders`."""
    given = _good(server)
    environment = os.environ | {
        "PGPASSFILE": str(credfiles.folder(given.server) / "pgpass"), "PGSERVICEFILE": str(credfiles.service_file()),
    }
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the person's own command, as they typed it
    except OSError as failure:
        raise click.ClickException(f"cannot run {command[0]}: {failure.strerror}") from failure


def _only(server: str | None = None) -> Login:
    """The login at this gateway, or the only one there is."""
    found = credfiles.known()
    if server:
        at = credfiles.folder(server if "://" in server else f"https://{server}")
        found = [each for each in found if credfiles.folder(each.server) == at]
    if len(found) == 1:
        return found[0]
    if found:
        raise click.UsageError("say which gateway: " + ", ".join(each.server for each in found))
    raise click.ClickException("you are not signed in here; run `hoopfast login https://YOUR.GATEWAY`")


def _good(server: str | None) -> Login:
    given = _only(server)
    if given.expires_at <= time.time():
        until = moment(given.expires_at, seconds=False)
        raise click.ClickException(f"your sign-in ended at {until} UTC; run `hoopfast login {given.server}`")
    return given


def _private_ca(given: Login) -> str:
    return given.ca if given.ca != _system_ca() else ""


def _system_ca() -> str:
    """A file, because libpq before 16 does not know `system`. "" where there is none."""
    return ssl.get_default_verify_paths().cafile or ""


def _here() -> str:
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or "somebody"
    return f"{user}@{socket.gethostname()}"

