"""The files that `hoopfast login` keeps for PostgreSQL clients, and nobody else's lines in them.

In a folder per gateway below ~/.config/hoopfast (or $XDG_CONFIG_HOME): `pgpass` with the secret, `login.json` with what
is known of it. And a marked block of sections in ~/.pg_service.conf (or $PGSERVICEFILE), so that `psql service=NAME`
needs nothing set. Every file is written whole beside the old one, mode 0600, then renamed: libpq reads them at each
connection, so a running pool finds the new secret too. Used by cli/login.py.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

_SECTION: Final = re.compile(r"^\s*\[([^\]]*)\]", re.MULTILINE)


class Login(msgspec.Struct, frozen=True):
    """What a terminal was given. `server` is the URL of the console; `host` and `port` are PostgreSQL's."""

    server: str
    id: str
    user: str
    host: str
    port: int
    tls: bool
    expires_at: float
    connections: tuple[str, ...]
    ca: str = ""


def home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hoopfast"


def folder(server: str) -> Path:
    """Where the files of the gateway at this URL are; its host and port name it."""
    place = server.partition("://")[2].partition("/")[0]
    return home() / "".join(c if c.isalnum() or c in ".-" else "_" for c in place)


def service_file() -> Path:
    return Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")


def known() -> list[Login]:
    """Every login that has files here, by the gateway's URL."""
    found = []
    for path in sorted(home().glob("*/login.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Login))
        except (OSError, msgspec.MsgspecError):
            continue
    return found


def keep(login: Login, secret: str) -> tuple[list[str], list[str]]:
    """Write the files. (services that work from now on, names that other people's sections have already)"""
    at = folder(login.server)
    at.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Without a database: cancel requests and tools that connect to `postgres` first are the same person.
    line = ":".join(_passfile(part) for part in (login.host, str(login.port))) + f":*:*:{secret}\n"
    _write(at / "pgpass", line)
    _write(at / "login.json", msgspec.json.encode(login).decode())
    path = service_file()
    others = _without_block(_text(path), login.server)
    taken = set(_SECTION.findall(others))
    mine = [name for name in login.connections if name not in taken and _fits(name)]
    _write(path, others + _block(login, mine, at / "pgpass"))
    return mine, [name for name in login.connections if name not in mine]


def forget(server: str) -> None:
    """Remove the files and the block. Harmless when there are none."""
    path = service_file()
    text = _text(path)
    rest = _without_block(text, server)
    if rest != text:
        if rest.strip():
            _write(path, rest)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder(server), ignore_errors=True)


def secret_of(login: Login) -> str:
    """The secret in the passfile; "" when it is gone."""
    return _text(folder(login.server) / "pgpass").strip().rpartition(":")[2]


def _block(login: Login, names: Iterable[str], passfile: Path) -> str:
    settings = [f"host={login.host}", f"port={login.port}", f"user={login.user}", f"passfile={passfile}"]
    if login.tls:
        settings += ["sslmode=verify-full", *([f"sslrootcert={login.ca}"] if login.ca else [])]
    sections = [f"[{name}]\ndbname={name}\n" + "\n".join(settings) + "\n" for name in names]
    begin, end = _marks(login.server)
    return f"{begin}\n" + "\n".join(sections) + f"{end}\n" if sections else ""


def _marks(server: str) -> tuple[str, str]:
    return f"# >>> hoopfast {server} (written by `hoopfast login`)", f"# <<< hoopfast {server}"


def _without_block(text: str, server: str) -> str:
    begin, end = _marks(server)
    before, found, rest = text.partition(begin + "\n")
    if found and end + "\n" in rest:
        text = before + rest.partition(end + "\n")[2]
    return text if not text or text.endswith("\n") else text + "\n"


def _fits(name: str) -> bool:
    """libpq's service files have no way to quote."""
    return name.isprintable() and not set(name) & set("[]\\") and name == name.strip() and bool(name)


def _passfile(value: str) -> str:
    return value.replace("\\", "\\\\").replace(":", "\\:")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    # A link (dotfiles in a repository) stays one: what it points to is replaced.
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
