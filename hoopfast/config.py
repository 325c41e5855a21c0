"""The configuration file as frozen structs: unknown keys and wrong types are errors, impossible combinations too.

`load` reads hoopfast.yaml and raises every fault of it at once; `validate` judges a Config that was built in code.
Secrets are references (see hoopfast.secrets), never values. Used by every process; workers use `from_builtins`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from hoopfast import checks, config_sinks, document, limits, secrets, units
from hoopfast.config_sinks import Sink
from hoopfast.errors import ConfigError, Problem

size_bytes = units.size_bytes                       # "64KiB" -> 65536; ValueError

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=366 * 86400.0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every part of the file."""


class ServerTls(Section, frozen=True, kw_only=True):
    cert: Text                                      # PEM, with the chain
    key: Text                                       # PEM, not encrypted
    client_ca: str = ""                             # ask for client certificates and check them against this
    client_cert: Literal["require", "optional"] = "require"     # with client_ca: whether one may come without
    min_version: Literal["1.2", "1.3"] = "1.2"


class Listen(Section, frozen=True, kw_only=True):
    address: str = "127.0.0.1:6432"                 # host:port, or unix:/path
    tls: ServerTls | None = None
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] | Literal["auto"] = "auto"     # auto: one per core
    max_sessions: Count = 10_000
    login_timeout: Seconds = limits.LOGIN_TIMEOUT_S # seconds, from accept to ReadyForQuery
    public_address: str = ""                        # host:port as clients reach it; told to people who sign in


class Admin(Section, frozen=True, kw_only=True):
    address: str = "127.0.0.1:8432"                 # admin API, console, /metrics; "" switches it off
    public_url: str = ""                            # how people reach it; used in links
    tls: ServerTls | None = None
    groups: tuple[str, ...] = ("hoopfast-admin",)   # may do everything
    auditors: tuple[str, ...] = ()                  # may read sessions and audit
    approvers: tuple[str, ...] = ()                 # may use the approvals API (each rule names who may decide)


class Claims(Section, frozen=True, kw_only=True):
    user: str | tuple[str, ...] = "email"           # claim, or path of keys
    groups: str | tuple[str, ...] = "groups"


class Issuer(Section, frozen=True, kw_only=True):
    name: Text
    issuer: Text
    audience: Text
    client_id: str = ""
    client_secret: str = ""                         # reference
    authorized_parties: tuple[str, ...] = ()        # allowed azp / client_id; empty: the client_id, if set
    claims: Claims = Claims()
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    accept: Literal["id_token", "access_token", "any"] = "any"
    trust_email: bool = False                       # the issuer owns the domain: email_verified is not needed
    jwks_uri: str = ""                              # instead of discovery
    ca: str = ""                                    # private CA for https
    development: bool = False                       # set by `hoopfast demo` only; `check` refuses it


class Upstream(Section, frozen=True, kw_only=True):
    host: Text                                      # name, address or directory of a Unix socket
    port: Port = 5432
    database: Text
    user: Text
    password: str = ""                              # reference
    tls: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    ca: str = ""
    cert: str = ""
    key: str = ""
    channel_binding: Literal["disable", "prefer", "require"] = "prefer"     # SCRAM bound to the server's certificate
    connect_timeout: Seconds = limits.UPSTREAM_CONNECT_TIMEOUT_S


class Enforced(Section, frozen=True, kw_only=True):
    """A role of the database that may not read hidden columns, for people from whom columns are hidden."""

    user: Text
    password: str = ""                              # reference
    schema: Text = "hoopfast_masked"                # of its masking views
    groups: tuple[str, ...] = ()                    # it hides what is hidden from people of exactly these groups


class Connection(Section, frozen=True, kw_only=True):
    upstream: Upstream
    enforced: tuple[Enforced, ...] = ()             # empty: the gateway alone hides columns
    max_sessions: Annotated[int, msgspec.Meta(ge=0)] = 0    # 0: no limit of its own
    results: str = ""                               # none | <size> | all; empty: as audit.results
    # What the server gets: "ana@example.com psql", "psql ana@example.com" or "psql".
    application_name: Literal["person-first", "client-first", "client"] = "person-first"


class Audit(Section, frozen=True, kw_only=True):
    durability: Literal["process", "disk"] = "process"
    results: str = "64KiB"                          # none | <size> | all
    max_bytes: str = "1GiB"                         # journal waiting to be shipped; then sessions pause
    wait: Seconds = 30.0                            # so long; then they end with an error
    sinks: tuple[Sink, ...] = (Sink(kind="sqlite"), Sink(kind="jsonl"))
    # Values of masked columns in recorded statements: for auditors with the recovery key, for nobody, or for all.
    masked_values: Literal["sealed", "dropped", "plain"] = "sealed"
    masked_values_clear: Seconds = 30.0             # how long they may lie in the journal, before they are sealed
    checkpoints: str = ""                           # a file elsewhere that gets a copy of every checkpoint


class Webhook(Section, frozen=True, kw_only=True):
    url: Text
    secret: Text                                    # reference; signs the body (HMAC-SHA-256)


class Approvals(Section, frozen=True, kw_only=True):
    webhooks: tuple[Webhook, ...] = ()


class Sessions(Section, frozen=True, kw_only=True):
    max_duration: Seconds = 8 * 3600.0              # seconds
    idle: Seconds = 3600.0
    drain: Seconds = 30.0                           # how long SIGTERM waits for transactions


class SelfService(Section, frozen=True, kw_only=True):
    enabled: bool = True                            # people make their own secrets: console, or `hoopfast login`
    max_ttl: Seconds = 12 * 3600.0                  # seconds, counted from their sign-in with the identity provider
    max_secrets: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20      # that are good at the same time, per person


class Config(Section, frozen=True, kw_only=True):
    listen: Listen = Listen()
    admin: Admin = Admin()
    state_dir: Text = "/var/lib/hoopfast"
    store: str = "sqlite"                           # sqlite, postgresql://..., or a reference to such an address
    identity: tuple[Issuer, ...] = ()
    connections: dict[str, Connection] = {}
    audit: Audit = Audit()
    approvals: Approvals = Approvals()
    sessions: Sessions = Sessions()
    self_service: SelfService = SelfService()
    policy: Text = "policy.yaml"                    # relative to the configuration file
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    relay: Literal["auto", "epoll", "io_uring"] = "auto"    # auto: io_uring where the kernel allows it


# ---------------------------------------------------------------- reading

def load(path: Path, *, production: bool = False) -> Config:
    """Read and judge a configuration file. Raises ConfigError with every problem of the file.

    Relative paths come back absolute, counted from the file's folder (sinks' paths stay relative to `state_dir`).
    `production` refuses development issuers outright; otherwise they are accepted while everything stays on loopback.
    """
    base = Path(path).absolute().parent
    report = document.Report(str(path))
    raw = document.read(Path(path), report)
    config = document.decode(Config, raw, report, _rules(base, production))
    if config is None or report.problems:
        raise ConfigError(report.problems)
    return _resolved(config, base)


def validate(config: Config, file: str, *, production: bool = False) -> list[Problem]:
    """Every problem of a Config that exists already; `file` is the name shown in them. Looks at the files it names."""
    report = document.Report(file)
    document.recheck(config, report, _rules(Path.cwd(), production))
    return report.problems


def to_builtins(config: Config) -> dict[str, Any]:
    """Plain dicts and lists, for the link to the workers."""
    result: dict[str, Any] = msgspec.to_builtins(config)
    return result


def from_builtins(data: dict[str, Any]) -> Config:
    """The inverse of `to_builtins`; types are checked, rules are not (the sender did)."""
    return msgspec.convert(data, Config)


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Config)}


def result_bytes(text: str) -> int:
    """`audit.results` as bytes kept of each result: 0 for none, -1 for all. Raises ValueError."""
    words = {"none": 0, "all": -1}
    return words[text] if text in words else size_bytes(text)


def tls_files(config: Config) -> Iterator[str]:
    """Every file with a certificate, key or authority for PostgreSQL's protocol or the admin API."""
    for pair in (config.listen.tls, config.admin.tls):
        if pair is not None:
            yield from filter(None, (pair.cert, pair.key, pair.client_ca))
    for connection in config.connections.values():
        target = connection.upstream
        yield from filter(None, (target.ca, target.cert, target.key))


def secret_references(config: Config) -> Iterator[tuple[str, str]]:
    """(path, reference) of every secret the configuration refers to."""
    found = [(f"$.identity[{i}].client_secret", issuer.client_secret) for i, issuer in enumerate(config.identity)]
    found += [
        (document.child("$.connections", name) + ".upstream.password", connection.upstream.password)
        for name, connection in config.connections.items()
    ]
    found += [
        (f"{document.child('$.connections', name)}.enforced[{i}].password", role.password)
        for name, connection in config.connections.items() for i, role in enumerate(connection.enforced)
    ]
    found += [(f"$.approvals.webhooks[{i}].secret", hook.secret) for i, hook in enumerate(config.approvals.webhooks)]
    found += config_sinks.references(config.audit.sinks, "$.audit.sinks")
    found.append(("$.store", config.store))
    return ((path, text) for path, text in found if secrets.looks_like_reference(text))


def _resolved(config: Config, base: Path) -> Config:
    """The same with absolute paths."""
    def absolute(path: str) -> str:
        return str(base / path) if path else ""

    def address(text: str) -> str:
        return f"unix:{base / text.removeprefix('unix:')}" if text.startswith("unix:") else text

    def reference(text: str) -> str:
        return f"file:{base / text.removeprefix('file:').strip()}" if text.startswith("file:") else text

    change = msgspec.structs.replace

    def tls(pair: ServerTls | None) -> ServerTls | None:
        return pair and change(
            pair, cert=absolute(pair.cert), key=absolute(pair.key), client_ca=absolute(pair.client_ca))

    def upstream(u: Upstream) -> Upstream:
        return change(u, password=reference(u.password), ca=absolute(u.ca), cert=absolute(u.cert), key=absolute(u.key))

    return change(
        config,
        listen=change(config.listen, address=address(config.listen.address), tls=tls(config.listen.tls)),
        admin=change(config.admin, address=address(config.admin.address), tls=tls(config.admin.tls)),
        state_dir=absolute(config.state_dir),
        store=reference(config.store),
        identity=tuple(change(i, ca=absolute(i.ca), client_secret=reference(i.client_secret)) for i in config.identity),
        connections={n: change(c, upstream=upstream(c.upstream), enforced=tuple(
            change(e, password=reference(e.password)) for e in c.enforced)) for n, c in config.connections.items()},
        audit=change(config.audit, sinks=tuple(config_sinks.resolved(sink, str(base)) for sink in config.audit.sinks)),
        approvals=change(config.approvals, webhooks=tuple(
            change(w, secret=reference(w.secret)) for w in config.approvals.webhooks)),
        policy=absolute(config.policy),
    )


# ---------------------------------------------------------------- rules beyond the types

# What hoopfast.identity can check; none of them works with a shared secret.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA")
NAME_MAX_BYTES: Final = 63


def _rules(base: Path, production: bool) -> document.Checks:
    """The rules by struct type; `base` is where relative paths count from."""
    return {
        ServerTls: functools.partial(_check_tls, base),
        Listen: _check_listen,
        Admin: _check_admin,
        Claims: _check_claims,
        Issuer: functools.partial(_check_issuer, base, production),
        Upstream: functools.partial(_check_upstream, base),
        Connection: _check_connection,
        Audit: _check_audit,
        Sink: config_sinks.check,
        Webhook: _check_webhook,
        Config: functools.partial(_check_config, base),
    }


def _check_tls(base: Path, tls: ServerTls, path: str, report: document.Report) -> None:
    if tls.cert and tls.key:
        checks.check_pair(base, tls.cert, tls.key, path, report)
    if tls.client_ca:
        checks.certificates(base, tls.client_ca, f"{path}.client_ca", report)
    elif tls.client_cert == "optional":
        report.add(f"{path}.client_cert", "is of no use without `client_ca`: nobody is asked for a certificate")


def _check_listen(listen: Listen, path: str, report: document.Report) -> None:
    _check_address(listen.address, listen.tls, path, report, "credentials and data")
    if listen.public_address:
        try:
            if not units.parse_address(listen.public_address).host:
                report.add(f"{path}.public_address", "must name a host that people can reach")
        except ValueError as wrong:
            report.add(f"{path}.public_address", str(wrong))


def _check_admin(admin: Admin, path: str, report: document.Report) -> None:
    if admin.address:
        _check_address(admin.address, admin.tls, path, report, "administrators' tokens")
    elif admin.tls or admin.public_url:
        report.add(f"{path}.address", "is empty (no admin API), but `tls` or `public_url` is set")
    if admin.public_url:
        checks.check_url(admin.public_url, f"{path}.public_url", report)
    if admin.address and not admin.groups and not report.touches(f"{path}.groups"):
        report.add(f"{path}.groups", "is empty: nobody could administer the gateway")
    for name in ("groups", "auditors", "approvers"):
        if "" in getattr(admin, name):
            report.add(f"{path}.{name}", "has an empty group name")


def _check_address(text: str, tls: ServerTls | None, path: str, report: document.Report, what: str) -> None:
    try:
        address = units.parse_address(text)
    except ValueError as e:
        report.add(f"{path}.address", str(e))
        return
    if address.path and tls:
        report.add(f"{path}.tls", "cannot be used on a Unix socket")
    if tls is None and not address.local and not report.touches(f"{path}.tls"):
        report.add(f"{path}.address", f"is not loopback and has no `tls`, so {what} would cross the network in "
                   "the clear; add tls: {cert: ..., key: ...}")


def _check_claims(claims: Claims, path: str, report: document.Report) -> None:
    for name, claim in (("user", claims.user), ("groups", claims.groups)):
        bad = not claim or "" in (claim if isinstance(claim, tuple) else (claim,))
        if bad and not report.touches(f"{path}.{name}"):
            report.add(f"{path}.{name}", "has an empty name; write the claim, or the list of keys that lead to it")


def _check_issuer(base: Path, production: bool, issuer: Issuer, path: str, report: document.Report) -> None:
    if issuer.name == "gateway":
        report.add(f"{path}.name", "`gateway` stands for the gateway's own secrets; choose another name")
    if issuer.development and production:
        report.add(f"{path}.development", "is for `hoopfast demo` only; no real gateway may trust such an issuer")
    for name in ("issuer", "jwks_uri"):
        if url := getattr(issuer, name):
            local = issuer.development
            checks.check_url(url, f"{path}.{name}", report, loopback=local, must_be_local=local)
    if not issuer.algorithms and not report.touches(f"{path}.algorithms"):
        report.add(f"{path}.algorithms", "is empty: no token could be accepted")
    for algorithm in issuer.algorithms:
        if algorithm not in ALGORITHMS:
            report.add(f"{path}.algorithms", f"may only name signatures by key pairs: {', '.join(ALGORITHMS)}")
            break
    if "" in issuer.authorized_parties:
        report.add(f"{path}.authorized_parties", "has an empty name")
    if issuer.client_secret:
        checks.check_reference(issuer.client_secret, f"{path}.client_secret", report)
        if not issuer.client_id and not report.touches(f"{path}.client_id"):
            report.add(f"{path}.client_secret", "needs `client_id` beside it")
    if issuer.ca:
        checks.certificates(base, issuer.ca, f"{path}.ca", report)


def _check_upstream(base: Path, upstream: Upstream, path: str, report: document.Report) -> None:
    if upstream.password:
        checks.check_reference(upstream.password, f"{path}.password", report)
    local = upstream.host.startswith("/")
    if local and upstream.tls not in {"disable", "prefer"}:
        report.add(f"{path}.tls", f"`{upstream.tls}` is impossible on a Unix socket: PostgreSQL has no TLS there")
    if upstream.ca:
        if upstream.tls not in {"verify-ca", "verify-full"} and not report.touches(f"{path}.tls"):
            report.add(f"{path}.ca", f"is not looked at with tls: {upstream.tls}; use verify-full (or verify-ca)")
        checks.certificates(base, upstream.ca, f"{path}.ca", report)
    if upstream.channel_binding == "require" and upstream.tls in {"disable", "prefer"}:
        report.add(f"{path}.channel_binding", f"`require` needs TLS for certain, which tls: {upstream.tls} does not "
                   "give; use verify-full (or require)")
    if bool(upstream.cert) != bool(upstream.key):
        if not report.touches(f"{path}.cert") and not report.touches(f"{path}.key"):
            report.add(path, "`cert` and `key` are only useful together")
    elif upstream.cert:
        if upstream.tls == "disable":
            report.add(f"{path}.cert", "is not used with tls: disable")
        checks.check_pair(base, upstream.cert, upstream.key, path, report)


def _check_connection(connection: Connection, path: str, report: document.Report) -> None:
    if connection.results:
        try:
            result_bytes(connection.results)
        except ValueError as e:
            report.add(f"{path}.results", f"{e}, or none or all")
    if not connection.enforced:
        return
    users = [connection.upstream.user, *(role.user for role in connection.enforced)]
    if len(set(users)) < len(users):
        report.add(f"{path}.enforced", "every role needs a `user` of its own, other than the upstream's: rights differ")
    schemas = [role.schema for role in connection.enforced]
    if len(set(schemas)) < len(schemas):
        report.add(f"{path}.enforced", "every role needs a `schema` of its own: it sees other masking views")
    if not any(not role.groups for role in connection.enforced):
        report.add(f"{path}.enforced", "one role must be without `groups`: it is for everybody whom no other fits")
    for i, role in enumerate(connection.enforced):
        if role.schema.startswith("pg_") or role.schema in {"public", "information_schema"}:
            report.add(f"{path}.enforced[{i}].schema", "must be a schema of the masking views alone")
        if role.password:
            checks.check_reference(role.password, f"{path}.enforced[{i}].password", report)


def _check_audit(audit: Audit, path: str, report: document.Report) -> None:
    for name, parse in (("results", result_bytes), ("max_bytes", size_bytes)):
        try:
            size = parse(getattr(audit, name))
        except ValueError as e:
            report.add(f"{path}.{name}", f"{e}{', or none or all' if name == 'results' else ''}")
        else:
            if name == "max_bytes" and size < 2 * limits.JOURNAL_SEGMENT_BYTES:
                least = 2 * limits.JOURNAL_SEGMENT_BYTES >> 20
                report.add(f"{path}.{name}", f"must be at least {least}MiB, two segments of the journal")
    config_sinks.check_all(audit.sinks, f"{path}.sinks", report)


def _check_webhook(hook: Webhook, path: str, report: document.Report) -> None:
    if hook.url:
        checks.check_url(hook.url, f"{path}.url", report, shown=False)
    if hook.secret:
        checks.check_reference(hook.secret, f"{path}.secret", report)


def _check_config(base: Path, config: Config, path: str, report: document.Report) -> None:
    for what in ("name", "issuer"):
        seen: set[str] = set()
        for text in (getattr(issuer, what) for issuer in config.identity):
            if text in seen:
                report.add(f"{path}.identity", f"two issuers have the same `{what}`: {text}")
            seen.add(text)
    if not config.connections and not report.touches(f"{path}.connections"):
        report.add(f"{path}.connections", "names no database: there is nothing to connect to")
    for name in config.connections:
        where = document.child(f"{path}.connections", name)
        if not name or not name.isprintable() or name != name.strip() or len(name.encode()) > NAME_MAX_BYTES:
            report.add(where, f"a name has 1 to {NAME_MAX_BYTES} bytes, all printable, and no spaces around it")
    listen, admin = config.listen.address, config.admin.address
    if admin == listen and not listen.endswith(":0"):
        report.add(f"{path}.admin.address", "is the same as listen.address")
    _check_store(config.store, f"{path}.store", report)
    state = base / config.state_dir
    if state.exists() and not state.is_dir():
        report.add(f"{path}.state_dir", "is not a directory")
    if any(issuer.development for issuer in config.identity):
        _check_development(config, path, report)


def _check_store(store: str, path: str, report: document.Report) -> None:
    if store == "sqlite" or secrets.looks_like_reference(store):
        return
    parts = checks.split_url(store)
    if parts is None or parts[0] not in {"postgresql", "postgres"}:
        report.add(path, f"must be sqlite, postgresql://..., or a reference to such an address ({secrets.FORMS})")
    elif parts[2]:
        report.add(path, f"must not hold a password: put the whole address behind a reference ({secrets.FORMS})")


def _check_development(config: Config, path: str, report: document.Report) -> None:
    """A development issuer signs in anybody, so nothing that it guards may be reachable from, or lie, elsewhere."""
    why = "must be loopback, because a development issuer is configured (it signs in anybody)"
    for name, text in (("listen", config.listen.address), ("admin", config.admin.address)):
        try:
            local = not text or units.parse_address(text).local
        except ValueError:
            continue
        if not local:
            report.add(f"{path}.{name}.address", why)
    public = checks.split_url(config.admin.public_url)
    if public and public[1] and not units.is_loopback(public[1]):
        report.add(f"{path}.admin.public_url", why)
    for name, connection in config.connections.items():
        host = connection.upstream.host
        if not host.startswith("/") and not units.is_loopback(host):
            report.add(document.child(f"{path}.connections", name) + ".upstream.host", why)
