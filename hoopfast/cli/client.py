"""The admin API as the command line uses it: over the gateway's admin socket, or over HTTPS with a token.

Owns the choice between the two, and turns every failure into a sentence that says what to do next. Used by the verbs
that talk to a running gateway (`secret`, `approvals`, `sessions`, `audit`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import click
import httpx
import msgspec
import yaml

from hoopfast import units
from hoopfast.cli.table import clean

TIMEOUT_S = 30.0
SOCKET_NAME = "admin.sock"
DEFAULT_CONFIG = "hoopfast.yaml"    # in the working directory, as for `serve`

F = TypeVar("F", bound=Callable[..., Any])


class AdminClient:
    """Blocking client of one gateway's admin API. Paths are given without the `/api/v1` prefix, e.g. `/sessions`.

    Every method raises click.ClickException, with the server's own explanation where it gave one.
    """

    def __init__(self, *, socket_path: str = "", server: str = "", token: str = "", ca: str = "") -> None:
        if bool(socket_path) == bool(server):
            raise click.UsageError("say which gateway: either its configuration (-c) or --server with --token")
        self._where = socket_path or server
        self._local = bool(socket_path)
        transport = httpx.HTTPTransport(uds=socket_path) if socket_path else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        verify: Any = _trust(ca) if ca else True
        # On the socket the host name means nothing, and a proxy of the environment has no business.
        self._http = httpx.Client(
            base_url="http://gateway/api/v1" if socket_path else server.rstrip("/") + "/api/v1",
            transport=transport, headers=headers, timeout=TIMEOUT_S, verify=verify, trust_env=not socket_path,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """GET; parameters that are None or "" are left out. Returns the decoded JSON."""
        return self._call("GET", path, params=_present(params))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST a JSON body. Returns the decoded JSON."""
        return self._call("POST", path, json=body or {})

    def delete(self, path: str, **params: Any) -> Any:
        """DELETE. Returns the decoded JSON, or None for an empty answer."""
        return self._call("DELETE", path, params=_present(params))

    def stream(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """GET an answer of JSON lines, one dict at a time as they arrive; may never end (`/audit/tail`)."""
        for line in self.lines(path, **params):
            with self._explained():
                event = msgspec.json.decode(line, type=dict[str, Any])
            yield event

    def lines(self, path: str, **params: Any) -> Iterator[bytes]:
        """The same, each line as it came, without its end."""
        # A tail is silent for as long as nobody does anything.
        timeout = httpx.Timeout(TIMEOUT_S, read=None)
        with self._explained(), self._http.stream("GET", path, params=_present(params), timeout=timeout) as response:
            if response.is_error:
                response.read()
                self._refuse(response)
            rest = b""
            for data in response.iter_bytes():
                # Not iter_lines: it takes other signs for ends of lines, which JSON may contain.
                *whole, rest = (rest + data).split(b"\n")
                yield from filter(None, whole)
            if rest:
                yield rest

    def _call(self, method: str, path: str, **options: Any) -> Any:
        with self._explained():
            response = self._http.request(method, path, **options)
            if response.is_error:
                self._refuse(response)
            return msgspec.json.decode(response.content) if response.content else None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            if self._local:
                os.stat(self._where)        # the client library leaves its socket open when it cannot connect
            yield
        except OSError as failure:
            raise click.ClickException(self._unreachable(failure)) from failure
        except httpx.TimeoutException as failure:
            raise click.ClickException(f"the gateway at {self._where} did not answer in time ({failure})") from failure
        except httpx.TransportError as failure:
            raise click.ClickException(self._unreachable(failure)) from failure
        except msgspec.DecodeError as failure:
            raise click.ClickException(f"what answers at {self._where} is not this gateway's admin API") from failure

    def _unreachable(self, failure: Exception) -> str:
        if not self._local:
            return f"cannot reach the gateway at {self._where}: {failure}. Check --server and the network."
        if "Permission denied" in str(failure):
            return (
                f"{self._where} belongs to the gateway's service user: run this as that user, "
                "or use --server with --token."
            )
        why = "there is no" if isinstance(failure, FileNotFoundError) else "nobody listens on"
        return (
            f"no gateway runs with this configuration: {why} {self._where}.\n"
            "Start it with `hoopfast serve`, or use --server and --token for a gateway elsewhere."
        )

    def _refuse(self, response: httpx.Response) -> None:
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.MsgspecError:
            answer = {}
        said = str(answer.get("error", "")) or f"HTTP {response.status_code}"
        if response.status_code == 401:
            said += "\nGive a valid token with --token or HOOPFAST_TOKEN."
        if hint := str(answer.get("hint", "")):
            said += f"\n{hint}"
        raise click.ClickException(clean(said, newlines=True))


def admin_options(function: F) -> F:
    """Decorator for verbs: adds -c, --server, --token and --ca, and passes an open AdminClient as `client`."""

    @click.option("-c", "--config", envvar="HOOPFAST_CONFIG",
                  help="Configuration of a gateway on this machine.  [default: hoopfast.yaml, if there is one]")
    @click.option("--server", envvar="HOOPFAST_SERVER", help="URL of the admin API, instead of the socket.")
    @click.option("--token", envvar="HOOPFAST_TOKEN", default="", help="OIDC token or gateway secret, for --server.")
    @click.option("--ca", envvar="HOOPFAST_CA", default="", help="Private CA of the server's certificate.")
    @functools.wraps(function)
    def wrapped(*args: Any, config: str | None, server: str | None, token: str, ca: str, **options: Any) -> Any:
        with connect(config=config or "", server=server or "", token=token, ca=ca) as client:
            return function(*args, client=client, **options)

    return wrapped  # type: ignore[return-value]  # click replaces the parameters, which a TypeVar cannot say


def connect(*, config: str = "", server: str = "", token: str = "", ca: str = "") -> AdminClient:
    """The client for what the person asked for; --server wins over a configuration that only the environment names."""
    if server:
        if not token:
            raise click.UsageError("--server needs --token (or HOOPFAST_TOKEN)")
        if not server.startswith("https://") and not is_loopback_server(server):
            raise click.UsageError(f"{server}: a token may only travel over https (or to this machine itself)")
        return AdminClient(server=server, token=token, ca=ca)
    if config or Path(DEFAULT_CONFIG).exists():
        return AdminClient(socket_path=str(admin_socket(config or DEFAULT_CONFIG)))
    raise click.UsageError(
        f"say which gateway: -c FILE (or HOOPFAST_CONFIG; here is no {DEFAULT_CONFIG}), or --server URL --token TOKEN"
    )


def segment(name: str) -> str:
    """A name from the command line as one segment of a path."""
    return quote(name, safe="")


def admin_socket(config_path: str) -> Path:
    """The admin socket of the gateway that runs with this file. Reads `state_dir` only: the rest may be broken."""
    try:
        content = yaml.safe_load(Path(config_path).read_text())
    except OSError as failure:
        raise click.ClickException(f"cannot read {config_path}: {failure.strerror}") from failure
    except yaml.YAMLError as failure:
        raise click.ClickException(f"{config_path} is not YAML: {failure}") from failure
    state_dir = content.get("state_dir", "/var/lib/hoopfast") if isinstance(content, dict) else "/var/lib/hoopfast"
    return Path(config_path).resolve().parent / str(state_dir) / SOCKET_NAME


def _trust(ca: str) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as failure:
        raise click.ClickException(f"cannot use {ca} as CA: {failure}") from failure


def is_loopback_server(server: str) -> bool:
    """Whether this URL's host can only be this machine."""
    # Not by its first characters: 127.example.com is somebody's machine.
    return units.is_loopback(httpx.URL(server).host)


def _present(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and value != ""}
