"""A fake relay, a session and a policy for the tests of the verdict desk and of approvals."""

from __future__ import annotations

import asyncio
import struct
from array import array
from types import SimpleNamespace
from typing import Any

import orjson

from hoopfast.analysis.catalog import Catalog, Column, Relation
from hoopfast.knobs import Knobs
from hoopfast.model import MASK_REDACT, Client, Identity, MaskSpec, Ruling, StatementFacts
from hoopfast.policy.snapshot import ColumnMask
from hoopfast.protocol.messages import frame, parse_fields
from hoopfast.worker.approvals import ApprovalDesk
from hoopfast.worker.contexts import Contexts
from hoopfast.worker.verdicts import VerdictDesk

ANN = Identity(user="ann@example.com", subject="1", issuer="test")
HERE = Client(peer="192.0.2.1:5", application="psql")
CUSTOMERS, NEW = 100, 300
SSN = ("public", "customers", "ssn")


def catalog(epoch: int = 1, *known: str) -> Catalog:
    columns = tuple(
        Column(name=name, attnum=number, type_oid=25, policy=(SSN,) if name == "ssn" else ())
        for number, name in enumerate(("id", "name", "ssn"), 1)
    )
    customers = Relation(oid=CUSTOMERS, schema="public", name="customers", kind="r", columns=columns)
    return Catalog(epoch=epoch, relations=(customers,), known=frozenset({"orders", *known}))


class Policy:
    """Stands for policy.snapshot.Snapshot: approves deletes, denies drops, masks customers.ssn when asked."""

    def __init__(self, version: int = 1, *, masked: bool = True, rules: dict[str, Ruling] | None = None) -> None:
        self.version = version
        self.masked = masked
        self.knobs = Knobs()
        self.rules = rules if rules is not None else {
            "delete": Ruling(
                action="approve", rule="deletes", reason="rows are gone for good", approver_groups=("dba",)),
            "drop": Ruling(action="deny", rule="no-drop", reason="tables are managed in Terraform"),
            "function_call": Ruling(action="allow"),
        }

    def identity_class(self, identity: Identity, connection: str, client: Client) -> str:
        return "1"

    def masks_for(self, identity: Identity, connection: str) -> tuple[ColumnMask, ...]:
        return (ColumnMask("public", "customers", "ssn", MaskSpec(kind=MASK_REDACT)),) if self.masked else ()

    def knobs_for(self, identity: Identity, connection: str) -> Knobs:
        return self.knobs

    def masked_columns(self, connection: str) -> tuple[ColumnMask, ...]:
        return (ColumnMask("public", "customers", "ssn", MaskSpec(kind=MASK_REDACT)),)

    def decide(
        self, identity: Identity, connection: str, facts: tuple[StatementFacts, ...], client: Client, now: float
    ) -> Ruling:
        for statement in facts:
            for kind in statement.kinds:
                if kind in self.rules:
                    return self.rules[kind]
        return Ruling(action="allow")


class FakeRelay:
    """Writes down what it is told; answers probes from `describe` (SQL text: frames)."""

    def __init__(self) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.probes: list[tuple[str, bytes]] = []
        self.notices: list[dict[str, str]] = []
        self.notes: list[dict[str, Any]] = []
        self.contexts: dict[int, tuple[Any, Any]] = {}
        self.aliases: dict[int, Any] = {}
        self.dropped: list[int] = []
        self.describe: dict[str, bytes] = {}
        self.desk: VerdictDesk | None = None
        self.session: Any = None

    def define_context(
        self, number: int, masks: Any, columns: Any, types: bytes = b"", aliases: Any = ()
    ) -> None:
        self.contexts[number] = (masks, columns)
        self.aliases[number] = aliases

    def drop_context(self, number: int) -> None:
        self.dropped.append(number)

    def decide(self, session: int, serial: int, action: int, flags: int, *, label: bytes, error: bytes = b"",
               zero_origin: int = 0, copy_plan: bytes = b"", cache: bool = True,
               free_constants: bytes = b"", limit_s: float = 0.0, sent: bytes = b"", sent_types: bytes = b"") -> None:
        self.decisions.append({
            "session": session, "serial": serial, "action": action, "flags": flags, "label": orjson.loads(label),
            "error": parse_fields(error[5:]) if error else {}, "zero": zero_origin, "plan": copy_plan, "cache": cache,
            "free": array("I", free_constants).tolist(), "limit": limit_s,
            "sent": sent.decode(), "sent_types": sent_types})

    def probe(self, session: int, serial: int, sql: bytes, types: bytes = b"") -> None:
        self.probes.append((sql.decode(), types))
        answer = self.describe.get(sql.decode())
        if answer is not None:
            assert self.desk is not None
            asyncio.get_running_loop().call_soon(self.desk.probe_answered, self.session, serial, answer)

    def notice(self, session: int, body: bytes, *, held: bool = True) -> None:
        self.notices.append(parse_fields(body[5:]) | {"held": str(held)})

    def note(self, session: int, payload: bytes) -> None:
        self.notes.append(orjson.loads(payload))


def described(*fields: tuple[str, int, int]) -> bytes:
    """Frames of a probe: (name, table OID, attribute number) per column."""
    body = struct.pack("!H", len(fields)) + b"".join(
        name.encode() + b"\0" + struct.pack("!IhIhih", oid, attnum, 25, -1, -1, 0) for name, oid, attnum in fields)
    return frame(b"1", b"") + frame(b"t", b"\0\0") + frame(b"T", body) + frame(b"3", b"")


class Bench:
    """Everything together; `sent` is what went to the supervisor."""

    def __init__(self, policy: Any = None, known: Catalog | None = None) -> None:
        self.relay = FakeRelay()
        self.sent: list[Any] = []
        self.approvals = ApprovalDesk(self.sent.append)
        self.now = 0.0
        self.desk = self.relay.desk = VerdictDesk(self.relay, self.approvals, self.called, lambda: self.now)
        self.contexts = Contexts(self.relay)
        self.policy = policy or Policy()
        self.session = self.relay.session = SimpleNamespace(
            id=7, identity=ANN, connection="shop", client=HERE,
            opened=SimpleNamespace(peer="192.0.2.1:5", application="psql", role="app"),
            context=self.contexts.obtain(ANN, "shop", self.policy, known or catalog(), HERE))

    async def called(self, connection: str, call: bytes) -> dict[str, Any]:
        return {"function": f"{connection}.f{call.decode().rpartition(' ')[2]}()", "arguments": []}

    async def ask(
        self, sql: str | bytes, kind: str = "Q", bind: bytes = b"", types: bytes = b"", serial: int = 1
    ) -> dict[str, Any]:
        raw = sql if isinstance(sql, bytes) else sql.encode()
        before = len(self.relay.decisions)
        await self.desk.verdict(self.session, serial, kind, raw, types, bind, b"I")
        assert len(self.relay.decisions) == before + 1, "every verdict is answered once"
        return self.relay.decisions[-1]
