"""Reads an upstream's catalog for the analysis, and keeps it fresh. Used by the supervisor, the only reader.

The reader logs in with the gateway's own upstream credential and only looks at pg_catalog. What it makes is a value
(`analysis.catalog.Catalog`); the workers get it as `model.CatalogUpdate`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, LiteralString

import msgspec
import psycopg

from hoopfast import config as configuration
from hoopfast.analysis.catalog import Catalog, PolicyColumn, from_builtins, to_builtins
from hoopfast.control import shields
from hoopfast.control.announcements import listen
from hoopfast.control.closure import Loader, Reader
from hoopfast.errors import GatewayError
from hoopfast.model import CatalogUpdate

log = logging.getLogger(__name__)

STATEMENT_TIMEOUT_MS = 30_000
Judge = Callable[[str, Catalog], Iterable[str]]
UNTOLD_MAX = 3                          # loads of a catalog in a row that nobody hears of
# A row that changes gets another xmin, which need not be the highest: transactions end in any order.
DIGEST: LiteralString = """
select concat_ws(' ',
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_class),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_attribute),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_proc),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_type),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_enum),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_rewrite),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_inherits),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_trigger),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_constraint),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_operator),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_namespace),
(select concat(count(*), '/', sum(xmin::text::int8)) from pg_catalog.pg_attrdef))"""


async def load_catalog(
    connection: configuration.Connection, password: str, masked: Iterable[PolicyColumn], epoch: int
) -> Catalog:
    """A snapshot of the upstream's catalog. `masked` are all columns the policy masks for anybody on this connection.

    Raises psycopg.Error or OSError when the upstream cannot be asked.
    """
    reader = await connect(connection.upstream, password)
    try:
        await reader.execute("begin isolation level repeatable read read only")
        catalog = await Loader(reader, frozenset(masked), epoch).load()
        return await shields.complete(reader, catalog, tuple(role.schema for role in connection.enforced))
    finally:
        await reader.close()


async def connect(upstream: configuration.Upstream, password: str, *, search_path: str = "pg_catalog") -> Reader:
    """A connection for catalog queries, with the TLS settings of the configuration; `search_path` "": the role's."""
    options: dict[str, Any] = {
        "host": upstream.host, "port": upstream.port, "dbname": upstream.database, "user": upstream.user,
        "sslmode": upstream.tls, "channel_binding": upstream.channel_binding,
        "connect_timeout": max(2, int(upstream.connect_timeout)),
        "application_name": "hoopfast catalog", "client_encoding": "UTF8", "gssencmode": "disable",
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}" + (
            f" -c search_path={search_path}" if search_path else ""),
    }
    optional = {"password": password, "sslcert": upstream.cert, "sslkey": upstream.key,
                "sslrootcert": upstream.ca or ("system" if upstream.tls == "verify-full" else "")}
    options |= {name: value for name, value in optional.items() if value}
    return await psycopg.AsyncConnection.connect(autocommit=True, **options)


class CatalogKeeper:
    """The supervisor's catalogs: loaded on first use, one load at a time for each connection, reloaded on changes.

    Each belongs to the policy `version` whose masked columns it describes; `get` never answers with another's.
    `judge` says what is wrong with the masks. `on_change` gets every CatalogUpdate that `get` did not ask for.
    """

    def __init__(
        self,
        config: configuration.Config,
        version: int,
        masked_columns: Callable[[str], Iterable[PolicyColumn]],
        resolve_secret: Callable[[str], str],
        on_change: Callable[[CatalogUpdate], None],
        judge: Judge = lambda _, __: (),
    ) -> None:
        self._judge = judge
        self._config = config
        self._version = version
        self._masked_columns = masked_columns
        self._resolve = resolve_secret
        self._on_change = on_change
        self._epochs: dict[str, int] = {}
        self._current: dict[str, CatalogUpdate] = {}
        self._digests: dict[str, str] = {}
        self._told: dict[str, set[str]] = {}            # problems that are in the log already
        self._loading: dict[str, asyncio.Task[CatalogUpdate]] = {}
        self._reloading: set[str] = set()
        self._again: set[str] = set()
        self._listening: dict[str, tuple[configuration.Connection, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, connection_name: str) -> CatalogUpdate:
        """The catalog of a connection; an update with `error` when it cannot be had (tried again at the next call)."""
        current = self._current.get(connection_name)
        if current is not None and current.catalog is not None and connection_name not in self._loading and (
            current.policy == self._version
        ):
            return current
        while True:
            update = await self._load(connection_name)
            # A load that began under an older policy describes other tables; policies do not change without end.
            if update.policy == self._version:
                return update

    def changed(self, connection_name: str) -> None:
        """Something altered the schema: load anew and tell everybody. Many calls in a row make two loads, not many."""
        if not tuple(self._masked_columns(connection_name)):
            self._current.pop(connection_name, None)    # nobody needs it: DDL of such connections costs nothing
            return
        if connection_name in self._reloading or connection_name in self._loading:
            self._again.add(connection_name)
            if connection_name in self._reloading:
                return
        self._reloading.add(connection_name)
        self._spawn(self._reload(connection_name))

    async def poll(self) -> None:
        """Compare a cheap digest of every loaded catalog with the upstream's; reload those that differ."""
        for name in list(self._current):
            connection = self._config.connections.get(name)
            if connection is None:
                self._current.pop(name, None)       # removed while a load of it was under way
                continue
            try:
                digest = await self._digest(connection)
            except (psycopg.Error, OSError, GatewayError) as failure:
                log.warning("catalog of %s cannot be checked: %s", name, type(failure).__name__)
                continue
            if digest != self._digests.get(name):
                self.changed(name)

    def reload(
        self, config: configuration.Config, version: int, masked_columns: Callable[[str], Iterable[PolicyColumn]],
        judge: Judge = lambda _, __: (),
    ) -> None:
        """A new configuration or policy is in force: the closures may differ."""
        self._judge = judge
        self._config = config
        self._version = version
        self._masked_columns = masked_columns
        for name, (connection, task) in list(self._listening.items()):
            if config.connections.get(name) != connection:
                task.cancel()
        for name in list(self._current):
            if name in config.connections:
                self.changed(name)
            else:
                del self._current[name]

    def judged(self, judge: Judge) -> list[str]:
        """What is wrong with the masks of a policy that is not in force yet, as far as catalogs are known."""
        return [f"connection {name}: {text}" for name, update in sorted(self._current.items())
                if update.catalog is not None for text in judge(name, from_builtins(update.catalog))]

    def problems(self) -> dict[str, tuple[str, ...]]:
        """Per connection, what an operator should know."""
        found = {}
        for name, update in self._current.items():
            texts = (update.error,) if update.error else tuple((update.catalog or {}).get("problems", ()))
            if texts:
                found[name] = texts
        return found

    async def close(self) -> None:
        """Stop what is running."""
        tasks = [*self._tasks, *self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ loading

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reload(self, name: str) -> None:
        try:
            update, untold = await self._load(name), 1
            while name in self._again or update.policy != self._version:
                if untold >= UNTOLD_MAX and update.policy == self._version:
                    # Whoever keeps asking must not keep others from what is known by now.
                    self._on_change(update)
                    untold = 0
                self._again.discard(name)
                update, untold = await self._load(name), untold + 1
        finally:
            self._reloading.discard(name)
        self._on_change(update)

    async def _load(self, name: str) -> CatalogUpdate:
        task = self._loading.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(name))
            self._loading[name] = task
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(task)

    async def _read(self, name: str) -> CatalogUpdate:
        epoch = self._epochs[name] = self._epochs.get(name, 0) + 1
        # All of one version, and before the first wait: what it is read for must not change on the way.
        version, connection, masked = self._version, self._config.connections.get(name), self._masked_columns(name)
        judge = self._judge
        if connection is None:
            return CatalogUpdate(
                connection=name, policy=version, epoch=epoch, catalog=None, error=f"there is no connection {name}")
        try:
            # The digest comes first: a change in between then shows at the next poll.
            self._digests[name] = await self._digest(connection)
            catalog = await load_catalog(connection, await self._password(connection), masked, epoch)
            problems = (*catalog.problems, *judge(name, catalog))
            catalog = msgspec.structs.replace(catalog, problems=problems)
        except (psycopg.Error, OSError, GatewayError) as failure:
            log.error("catalog of %s cannot be read: %s", name, (str(failure).splitlines() or [""])[0])
            update = CatalogUpdate(connection=name, policy=version, epoch=epoch, catalog=None,
                                   error=f"the catalog cannot be read ({type(failure).__name__})")
        else:
            if catalog.partial:
                self._digests[name] = ""        # equal to none: the next poll loads again
            if catalog.announced and name not in self._listening:
                self._listening[name] = connection, self._spawn(self._listen(name, connection))
            for problem in set(catalog.problems) - self._told.get(name, set()):
                log.warning("connection %s: %s", name, problem)
            self._told[name] = set(catalog.problems)
            update = CatalogUpdate(connection=name, policy=version, epoch=epoch, catalog=to_builtins(catalog))
        self._current[name] = update
        return update

    async def _listen(self, name: str, connection: configuration.Connection) -> None:
        """Until the connection is lost, or belongs to another configuration; the next load listens again."""
        try:
            reader = await connect(connection.upstream, await self._password(connection))
            await listen(reader, lambda: self.changed(name))
        except (psycopg.Error, OSError, GatewayError) as failure:
            log.warning("announcements of %s are not heard any more: %s", name, type(failure).__name__)
        finally:
            self._listening.pop(name, None)

    async def _digest(self, connection: configuration.Connection) -> str:
        reader = await connect(connection.upstream, await self._password(connection))
        try:
            cursor = await reader.execute(DIGEST)
            row = await cursor.fetchone()
            return str(row[0]) if row else ""
        finally:
            await reader.close()

    async def _password(self, connection: configuration.Connection) -> str:
        reference = connection.upstream.password
        # Resolving may run a command or ask a vault.
        return await asyncio.to_thread(self._resolve, reference) if reference else ""
