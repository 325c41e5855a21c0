"""Which role of the database somebody gets in enforced mode."""

from __future__ import annotations

from typing import Any

import pytest

from hoopfast.config import Connection, Enforced, Upstream
from hoopfast.errors import ClientFault
from hoopfast.model import Identity
from hoopfast.policy import source
from hoopfast.policy.enforced import entry_for
from hoopfast.policy.snapshot import compile_for

POLICY: dict[str, Any] = {
    "access": [{"users": ["*"], "connections": ["*"]}],
    "masks": [
        {"columns": ["public.people.ssn"], "with": "redact", "unless": {"groups": ["hr"]}},
        {"columns": ["public.people.email"], "with": "email", "unless": {"groups": ["support", "hr"]}},
    ],
}
ALL, SUPPORT = Enforced(user="all"), Enforced(user="sup", password="env:S", schema="s", groups=("support",))
SNAPSHOT = compile_for(["db"], source.from_builtins(POLICY), 1, bytes(32))


def connection(*roles: Enforced) -> Connection:
    return Connection(upstream=Upstream(host="h", database="d", user="gateway"), enforced=roles)


@pytest.mark.parametrize(("groups", "roles", "user", "hidden"), [
    ((), (ALL, SUPPORT), "all", {"ssn", "email"}),
    (("support",), (ALL, SUPPORT), "sup", {"ssn"}),
    (("support", "other"), (SUPPORT, ALL), "sup", {"ssn"}),
    (("support",), (ALL,), "all", {"ssn", "email"}),            # hides too much, never too little
    (("hr",), (ALL, SUPPORT), "gateway", set()),
    (("support",), (), "gateway", {"ssn"}),
])
def test_role(groups: tuple[str, ...], roles: tuple[Enforced, ...], user: str, hidden: set[str]) -> None:
    entry = entry_for(connection(*roles), SNAPSHOT, Identity(user="u", subject="u", issuer="i", groups=groups), "db")
    assert {mask.column for mask in entry.masks} == hidden
    assert entry.target(connection(*roles)).user == user


def test_nobody_enters_when_no_role_hides_enough() -> None:
    with pytest.raises(ClientFault) as refused:
        entry_for(connection(SUPPORT), SNAPSHOT, Identity(user="u", subject="u", issuer="i"), "db")
    assert refused.value.sqlstate == "42501"
