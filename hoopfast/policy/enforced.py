"""Which role of the database somebody logs in with, in enforced mode. Pure; for logins, contexts and `provision`."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from hoopfast.config import Connection, Enforced, Upstream
from hoopfast.errors import ClientFault
from hoopfast.model import Identity
from hoopfast.policy.snapshot import ColumnMask, Snapshot
from hoopfast.protocol import sqlstate


class Entry(NamedTuple):
    """How somebody enters a connection: `role` is None without enforced mode, and when nothing is hidden from them.
    `masks` are what the role hides, which may be more than the policy hides from this person."""

    role: Enforced | None
    masks: tuple[ColumnMask, ...]

    def target(self, connection: Connection) -> Upstream:
        """The upstream with the role's credential."""
        if self.role is None:
            return connection.upstream
        return msgspec.structs.replace(connection.upstream, user=self.role.user, password=self.role.password)


def masks_of(role: Enforced, snapshot: Snapshot, name: str) -> tuple[ColumnMask, ...]:
    """What a role hides: what the policy hides from somebody who is in its groups, and known for nothing else."""
    return snapshot.masks_for(Identity(user="", subject="", issuer="", groups=role.groups), name)


def entry_for(connection: Connection, snapshot: Snapshot, identity: Identity, name: str) -> Entry:
    """The role that hides everything the policy hides from this person, and as little beyond it as can be had.

    Raises ClientFault 42501 when no role hides enough.
    """
    masks = snapshot.masks_for(identity, name)
    if not masks or not connection.enforced:
        return Entry(None, masks)
    wanted = {_column(mask) for mask in masks}
    best: Entry | None = None
    for role in connection.enforced:
        hidden = masks_of(role, snapshot, name)
        if wanted <= {_column(mask) for mask in hidden} and (best is None or len(hidden) < len(best.masks)):
            best = Entry(role, hidden)
    if best is None:
        raise ClientFault(
            sqlstate.INSUFFICIENT_PRIVILEGE,
            "columns are hidden from you here, and no role of the database hides them all",
            hint="Tell the operators of the gateway: connections.*.enforced lacks a role for your groups.")
    return best


def _column(mask: ColumnMask) -> tuple[str, str, str]:
    return mask.schema, mask.table, mask.column
