"""One version of configuration and policy as a worker uses it: decoded, compiled, with its TLS contexts.

Made by `worker/front.py` from each `ConfigUpdate`; a login keeps the plan it started with.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from hoopfast import config as configuration
from hoopfast import model
from hoopfast._wire import TlsContext
from hoopfast.net import upstream
from hoopfast.policy import source
from hoopfast.policy.snapshot import Snapshot, compile_policy

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """`server_tls` is None when no TLS is configured. `upstream_tls` lacks a connection whose context could not be
    made: it must not be used. A None in it means plaintext, on purpose."""

    config: configuration.Config
    snapshot: Snapshot
    server_tls: TlsContext | None
    upstream_tls: dict[str, TlsContext | None]


def make_plan(update: model.ConfigUpdate, mask_key: bytes, previous: Plan | None) -> Plan:
    """Decode and compile. Certificate files are read now; files that cannot be used leave the previous context in
    force, because a broken renewal must not lock everybody out. Raises what `compile_policy` raises."""
    config = configuration.from_builtins(update.config)
    snapshot = compile_policy(config, source.from_builtins(update.policy), update.version, mask_key)
    contexts: dict[str, TlsContext | None] = {}
    for name, connection in config.connections.items():
        try:
            contexts[name] = upstream.client_context(connection.upstream)
        except (ValueError, OSError) as fault:
            log.error("TLS files of connection %s cannot be used: %s", name, fault)
            # Only for the very same target: an old context may be one that checks less, or none at all.
            known = previous.config.connections.get(name) if previous is not None else None
            if previous is not None and known is not None and known.upstream == connection.upstream:
                if name in previous.upstream_tls:
                    contexts[name] = previous.upstream_tls[name]
    return Plan(config, snapshot, _server_tls(config, previous), contexts)


def _server_tls(config: configuration.Config, previous: Plan | None) -> TlsContext | None:
    tls = config.listen.tls
    if tls is None:
        return None
    try:
        return TlsContext(
            server=True, certificate=tls.cert, key=tls.key, ca=tls.client_ca or None,
            verify="ca" if tls.client_ca else "none", insist=bool(tls.client_ca) and tls.client_cert == "require",
            minimum=tls.min_version,
        )
    except (ValueError, OSError) as fault:
        kept = previous.server_tls if previous is not None else None
        log.error(
            "the listener's TLS files cannot be used: %s; %s", fault,
            "the previous certificate stays" if kept else "clients that need TLS cannot connect",
        )
        return kept
