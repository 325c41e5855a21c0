"""The configuration file as frozen structs: unknown keys and wrong types are errors, impossible combinations too.

`load` reads hoopfast.yaml; `validate` finds every fault at once. Secrets are references (see hoopfast.secrets), never values.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hoopfast import limits


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every part of the file."""


class ServerTls(Section, kw_only=True):
    cert: str
    key: str
    client_ca: str = ""                             # ask for client certificates and check them against this


class Listen(Section, kw_only=True):
    address: str = "127.0.0.1:6432"                 # host:port, or unix:/path
    tls: ServerTls | None = None
    workers: int | Literal["auto"] = "auto"         # auto: one per core
    max_sessions: int = 10_000
    login_timeout: float = limits.LOGIN_TIMEOUT_S   # seconds, from accept to ReadyForQuery


class Admin(Section, kw_only=True):
    address: str = "127.0.0.1:8432"                 # admin API, console, /metrics; "" switches it off
    public_url: str = ""                            # how people reach it; used in links
    tls: ServerTls | None = None
    groups: tuple[str, ...] = ("hoopfast-admin",)   # may do everything
    auditors: tuple[str, ...] = ()                  # may read sessions and audit
    approvers: tuple[str, ...] = ()                 # may use the approvals API (each rule names who may decide)


class Claims(Section, kw_only=True):
    user: str | tuple[str, ...] = "email"           # claim, or path of keys
    groups: str | tuple[str, ...] = "groups"


class Issuer(Section, kw_only=True):
    name: str
    issuer: str
    audience: str
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


class Upstream(Section, kw_only=True):
    host: str                                       # name, address or directory of a Unix socket
    port: int = 5432
    database: str
    user: str
    password: str = ""                              # reference
    tls: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    ca: str = ""
    cert: str = ""
    key: str = ""
    connect_timeout: float = limits.UPSTREAM_CONNECT_TIMEOUT_S


class Connection(Section, kw_only=True):
    upstream: Upstream
    max_sessions: int = 0                           # 0: no limit of its own


class Sink(Section, kw_only=True):
    kind: Literal["sqlite", "jsonl"]
    path: str = ""                                  # relative to state_dir; default by kind


class Audit(Section, kw_only=True):
    durability: Literal["process", "disk"] = "process"
    results: str = "64KiB"                          # none | <size> | all
    max_bytes: str = "1GiB"                         # journal waiting to be shipped; then sessions pause
    sinks: tuple[Sink, ...] = (Sink(kind="sqlite"), Sink(kind="jsonl"))


class Webhook(Section, kw_only=True):
    url: str
    secret: str                                     # reference; signs the body (HMAC-SHA-256)


class Approvals(Section, kw_only=True):
    webhooks: tuple[Webhook, ...] = ()


class Sessions(Section, kw_only=True):
    max_duration: float = 8 * 3600.0                # seconds
    idle: float = 3600.0
    drain: float = 30.0                             # how long SIGTERM waits for transactions


class Config(Section, kw_only=True):
    listen: Listen = Listen()
    admin: Admin = Admin()
    state_dir: str = "/var/lib/hoopfast"
    store: str = "sqlite"
    identity: tuple[Issuer, ...] = ()
    connections: dict[str, Connection] = {}
    audit: Audit = Audit()
    approvals: Approvals = Approvals()
    sessions: Sessions = Sessions()
    policy: str = "policy.yaml"                     # relative to the configuration file
    log_level: Literal["debug", "info", "warning", "error"] = "info"
