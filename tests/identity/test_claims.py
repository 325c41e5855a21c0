"""Who a verified token speaks of: addresses only when vouched for, groups only when whole."""

from __future__ import annotations

from typing import Any

import pytest

from hoopfast.config import Claims
from hoopfast.errors import AuthenticationFailed
from hoopfast.identity.claims import REASONS, identity_of
from hoopfast.model import Identity
from tests.identity.minting import claims, issuer


def identity(by: Any = None, **changes: Any) -> Identity:
    return identity_of(claims(**changes), by or issuer(), expires_at=99.0)


def refusal(by: Any = None, **changes: Any) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        identity(by, **changes)
    assert caught.value.reason in REASONS
    assert caught.value.hint
    return caught.value


def by_groups(*path: str) -> Any:
    return issuer(claims=Claims(groups=path))


def test_identity() -> None:
    assert identity() == Identity(
        user="ana@example.com", subject="u1", issuer="okta", groups=("engineering",), method="token", credential="j1",
        expires_at=99.0,
    )


# ---------------------------------------------------------------- user

@pytest.mark.parametrize("flag", [None, False, "false", "yes", 1, [], "True"])
def test_unverified_address(flag: Any) -> None:
    assert "not verified" in refusal(email_verified=flag).message


def test_who_may_vouch_for_an_address() -> None:
    assert identity(email_verified="true").user == "ana@example.com", "some providers send texts"
    assert identity(issuer(trust_email=True), email_verified=None).user == "ana@example.com"


def test_nested_address_needs_verification_too() -> None:
    by = issuer(claims=Claims(user=("profile", "email")))
    assert identity(by, profile={"email": "a@example.com"}).user == "a@example.com"
    assert refusal(by, profile={"email": "a@example.com"}, email_verified=None)


def test_other_user_claims() -> None:
    assert identity(issuer(claims=Claims(user="sub"))).user == "u1"
    by = issuer(claims=Claims(user=("ext", "login")))
    assert identity(by, ext={"login": "ana"}, email_verified=None).user == "ana"


@pytest.mark.parametrize("value", [None, "", 5, ["a@b.test"], "x" * 256, "a\nb", "a\x00", " ana", "ana ", "\u202e"])
def test_unusable_user(value: Any) -> None:
    failure = refusal(email=value)
    assert failure.reason == "claims"
    assert '"email"' in failure.message


@pytest.mark.parametrize("between", [None, "text", 5, ["login"], {}])
def test_broken_path_to_the_user(between: Any) -> None:
    assert '"ext.login"' in refusal(issuer(claims=Claims(user=("ext", "login"))), ext=between).message


# ---------------------------------------------------------------- subject and token id

def test_subject_of_entra_is_the_object_id() -> None:
    by = issuer(issuer="https://login.microsoftonline.com/t1/v2.0")
    assert identity(by, oid="object-1").subject == "object-1"
    assert identity(by).subject == "u1"
    assert identity(oid="object-1").subject == "u1", "others may put anything into a claim of that name"


@pytest.mark.parametrize("jti", [None, "", "x" * 300, "a\nb"])
def test_unusable_token_ids_are_left_out(jti: Any) -> None:
    assert identity(jti=jti).credential == ""


# ---------------------------------------------------------------- groups

def test_groups_keep_their_order_once_each() -> None:
    assert identity(groups=["b", "a", "b", ""]).groups == ("b", "a")


def test_a_string_is_one_group() -> None:
    assert identity(groups="dba").groups == ("dba",)


@pytest.mark.parametrize("value", [None, [], 5, True, {"dba": True}, ["dba", 5], [["dba"]], [None]])
def test_wrong_types_give_no_groups(value: Any) -> None:
    assert identity(groups=value).groups == ()


def test_nested_groups() -> None:
    by = by_groups("realm_access", "roles")
    assert identity(by, realm_access={"roles": ["dba"]}).groups == ("dba",)
    assert identity(by, realm_access=["roles"]).groups == ()
    assert identity(by).groups == ()
    # A list of keys, not a dotted text: a claim may have dots in its name.
    assert identity(by_groups("https://example.com/roles"), **{"https://example.com/roles": ["x"]}).groups == ("x",)
    assert identity(by_groups("realm_access.roles"), realm_access={"roles": ["dba"]}).groups == ()


def test_names_are_not_touched() -> None:
    names = ("/Company/DBA", "dba ", "DBA", "größe", "a,b", "' OR 1=1")
    assert identity(groups=list(names)).groups == names


@pytest.mark.parametrize("mark", [
    {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.example.com"}}},
    {"hasgroups": True},
    {"hasgroups": "true"},
])  # fmt: skip
def test_overage_is_unknown_not_none(mark: dict[str, Any]) -> None:
    assert refusal(groups=None, **mark).reason == "groups_unknown"
    assert refusal(**mark).reason == "groups_unknown", "what came with it may be a part"
    # App roles, the way out that the hint names, are whole whatever the groups are.
    assert identity(by_groups("roles"), roles=["dba"], **mark).groups == ("dba",)


def test_too_many_or_strange_groups() -> None:
    assert len(identity(groups=[f"g{n}" for n in range(2000)]).groups) == 2000
    assert refusal(groups=[f"g{n}" for n in range(2001)]).reason == "groups_unknown"
    assert identity(groups=["x" * 256]).groups
    for name in ("x" * 257, "a\nb", "a\x00b", "\u202eabd"):
        assert refusal(groups=["dba", name]).reason == "groups_unknown"
