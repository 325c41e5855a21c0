"""Verdict contexts: what one class of people may see on one connection, under one policy and one catalog.

The relay knows a context by its number, caches verdicts under it and masks by its columns. Made for logins and after
every change of policy or catalog by `worker/front.py`; the verdict desk judges statements in the session's context.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from hoopfast._wire import pack_mask_types
from hoopfast.analysis.catalog import Catalog, Hidden, hide_for
from hoopfast.analysis.feeds import Sensitive
from hoopfast.analysis.flow import Closure
from hoopfast.analysis.rewrite import Shields
from hoopfast.analysis.shields import SYSTEM_NUMBERS, shields_of
from hoopfast.config import Enforced
from hoopfast.errors import UpstreamFault
from hoopfast.knobs import Knobs
from hoopfast.model import MASK_NULL, Client, Identity, MaskSpec
from hoopfast.policy.enforced import Entry
from hoopfast.policy.snapshot import ColumnMask, Snapshot
from hoopfast.protocol import sqlstate

log = logging.getLogger(__name__)

Key = tuple[str, str, int, int]


class Context(msgspec.Struct, frozen=True):
    """`closure` is None when nothing is masked for these people here. `names` are for people: "schema.table.column"."""

    number: int
    connection: str
    identity_class: str
    snapshot: Snapshot
    catalog: Catalog | None
    closure: Closure | None
    masks: dict[tuple[int, int], int]           # (table OID, attribute number): index of the mask
    names: dict[tuple[int, int], str]
    shields: Shields | None = None              # enforced mode: what statements are rewritten to
    aliases: dict[tuple[int, int], tuple[int, int]] = {}        # the table's column for one of a masking view
    redaction: int = -1                         # index of the mask for columns without origin, where there may be some
    sensitive: Sensitive | None = None          # None: nothing is masked for anybody here
    sees: bool = False                          # a column that is masked for others is shown to these people

    @property
    def epoch(self) -> int:
        return self.catalog.epoch if self.catalog is not None else 0


class Contexts:
    """Interned contexts. One that a newer policy or catalog replaces is dropped; the relay frees it when unused."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._live: dict[Key, Context] = {}
        self._next = 1

    def obtain(
        self, identity: Identity, connection: str, snapshot: Snapshot, catalog: Catalog | None, client: Client,
        entry: Entry | None = None,
    ) -> Context:
        """The context for these people at such clients, defined in the relay when it is new. `entry`: in enforced mode.

        Raises UpstreamFault 57P03 when columns are masked for them and there is no catalog to find them in.
        """
        masks = snapshot.masks_for(identity, connection) if entry is None else entry.masks
        role = entry.role if entry is not None else None
        if masks and catalog is None:
            raise UpstreamFault(
                sqlstate.CANNOT_CONNECT_NOW,
                "columns are hidden from you on this connection, but its catalog cannot be read",
                hint="Try again in a moment; if it stays so, tell the operators of the gateway.",
            )
        everybodys = snapshot.masked_columns(connection)
        if not everybodys:
            catalog = None
        epoch = catalog.epoch if catalog is not None else 0
        people = snapshot.identity_class(identity, connection, client)
        if role is not None:
            people = f"{people} {role.user} {role.schema}"
        key = (connection, people, snapshot.version, epoch)
        found = self._live.get(key)
        if found is not None:
            return found
        sensitive = self._sensitive(key, everybodys, catalog) if everybodys else None
        knobs = snapshot.knobs_for(identity, connection) if masks else Knobs()
        context = self._define(key, snapshot, catalog if masks else None, masks, knobs, role)
        # Whoever may see what is computed from masked columns, too.
        sees = len(masks) < len(everybodys) or knobs != Knobs() or context.redaction >= 0
        context = msgspec.structs.replace(context, sensitive=sensitive, sees=sees)
        self._live[key] = context
        self._retire(key)
        return context

    def _sensitive(self, key: Key, masks: tuple[ColumnMask, ...], catalog: Catalog | None) -> Sensitive:
        """The same for all people: one is made for each connection, policy and catalog."""
        place = (key[0], *key[2:])
        for live, context in self._live.items():
            if context.sensitive is not None and (live[0], *live[2:]) == place:
                return context.sensitive
        return Sensitive(catalog, [(mask.schema, mask.table, mask.column) for mask in masks])

    def _define(
        self, key: Key, snapshot: Snapshot, catalog: Catalog | None, masks: tuple[ColumnMask, ...], knobs: Knobs,
        role: Enforced | None,
    ) -> Context:
        hidden = hide_for(catalog, masks)
        shields, aliases = _shields(catalog, hidden, role)
        redacts = any(handling.derived == "redact" for handling in hidden.handling.values())
        # The relay redacts by the last mask there is.
        specs = (*hidden.specs, MaskSpec(kind=MASK_NULL)) if redacts else hidden.specs
        context = Context(
            number=self._next, connection=key[0], identity_class=key[1], snapshot=snapshot, catalog=catalog,
            closure=(Closure(catalog, hidden.columns, knobs, hidden.handling, unfit=hidden.unfit)
                     if catalog is not None else None),
            masks={(column.table_oid, column.attnum): column.mask for column in hidden.columns}, names=hidden.names,
            shields=shields, aliases=aliases, redaction=len(specs) - 1 if redacts else -1,
        )
        self._next += 1
        # A masking view's columns are masked as those of its table: what it shows is half a mask.
        shown = {view: context.masks[table] for view, table in aliases.items() if table in context.masks}
        origins = context.masks | shown
        self._relay.define_context(
            context.number,
            [(spec.kind, spec.keep, spec.constant, spec.key) for spec in specs],
            [(*column, mask) for column, mask in origins.items()],
            _packed(catalog),
            [(*view, *column) for view, column in aliases.items()],
        )
        return context

    def _retire(self, key: Key) -> None:
        """Drop what the new one replaces. Older epochs count within the same policy, older policies always."""
        for old in [k for k in self._live if k[0] == key[0] and _older(k, key)]:
            self._relay.drop_context(self._live.pop(old).number)


def _packed(catalog: Catalog | None) -> bytes:
    """The database's own types, as the relay reads them."""
    if catalog is None or not catalog.types:
        return b""
    return pack_mask_types([
        (one.oid, one.kind, one.part, one.typmod, one.delimiter,
         [label.encode() for label in one.labels] if one.kind == "e" else list(one.fields))
        for one in catalog.types
    ])


def _shields(
    catalog: Catalog | None, hidden: Hidden, role: Enforced | None
) -> tuple[Shields | None, dict[tuple[int, int], tuple[int, int]]]:
    """The masking views of a role, and for each of their columns the table's that it stands for."""
    if catalog is None or role is None:
        return None, {}
    found = shields_of(catalog, hidden, role.schema)
    there = {view.name: view for view in catalog.shields if view.schema == role.schema}
    aliases: dict[tuple[int, int], tuple[int, int]] = {}
    for shield in found:
        numbers = {column.name: column.attnum for column in shield.columns} | SYSTEM_NUMBERS
        for name in {shield.view(), shield.view(only=True)} & there.keys():
            view = there[name]
            aliases |= {(view.oid, attnum): (shield.oid, numbers[column]) for column, attnum in view.columns
                        if column in numbers}
    return Shields(catalog, found), aliases


def _older(old: Key, new: Key) -> bool:
    if old[2] != new[2]:
        return old[2] < new[2]
    # Epoch 0 is the context of people without masks while there is no catalog: sessions leave it when there is one.
    return 0 < old[3] < new[3]
