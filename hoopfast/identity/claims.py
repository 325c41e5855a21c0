"""Who a verified token speaks of: claims in, model.Identity out. Pure; `control/gate.py` calls it.

Names and groups are data: never cut, repaired or guessed. An address is believed only when the provider vouches for it,
a list of groups only when it is whole: a person whose groups are unknown is refused, because "no groups" could be the
wrong side of a rule.
"""

from __future__ import annotations

from typing import Any

from hoopfast import limits
from hoopfast.config import Issuer
from hoopfast.errors import AuthenticationFailed
from hoopfast.identity.tokens import is_microsoft
from hoopfast.model import Identity

# Reasons given here, next to those of `tokens.REASONS`.
REASONS = frozenset({"claims", "groups_unknown"})

_USER_MAX_CHARS = 255


def identity_of(claims: dict[str, Any], issuer: Issuer, *, expires_at: float) -> Identity:
    """The identity that verified `claims` of `issuer` prove. Raises AuthenticationFailed with a reason of REASONS.

    `expires_at` (unix seconds) is when the session ends at the latest; the caller decides it.
    """
    identifier = claims.get("jti")
    return Identity(
        user=_user(claims, issuer),
        subject=_subject(claims, issuer),
        issuer=issuer.name,
        groups=_groups(claims, issuer),
        method="token",
        credential=identifier if isinstance(identifier, str) and _is_name(identifier, limits.GROUP_MAX_CHARS) else "",
        expires_at=expires_at,
    )


def _path(setting: str | tuple[str, ...]) -> tuple[str, ...]:
    return (setting,) if isinstance(setting, str) else setting


def _follow(claims: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = claims
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _is_name(value: str, longest: int) -> bool:
    return 0 < len(value) <= longest and value.isprintable()


def _user(claims: dict[str, Any], issuer: Issuer) -> str:
    path = _path(issuer.claims.user)
    shown = ".".join(path)
    value = _follow(claims, path)
    if not isinstance(value, str) or not _is_name(value, _USER_MAX_CHARS) or value != value.strip():
        raise AuthenticationFailed(
            "claims",
            f'the token does not say who you are: its claim "{shown}" is missing or not usable',
            hint="The provider's administrator can add it; the gateway's can choose another (identity.claims.user).",
        )
    # Some providers send the flag as a text.
    verified = claims.get("email_verified") is True or claims.get("email_verified") == "true"
    if path[-1] == "email" and not issuer.trust_email and not verified:
        raise AuthenticationFailed(
            "claims",
            "your e-mail address is not verified at the identity provider",
            hint="Verify it there. If the provider owns the domain, the gateway's administrator can trust it.",
        )
    return value


def _subject(claims: dict[str, Any], issuer: Issuer) -> str:
    # Entra's `sub` differs per application; the object id is the person, and the tenant is part of the issuer.
    if is_microsoft(issuer.issuer):
        object_id = claims.get("oid")
        if isinstance(object_id, str) and _is_name(object_id, limits.TOKEN_SUBJECT_MAX_CHARS):
            return object_id
    return str(claims["sub"])


def _groups(claims: dict[str, Any], issuer: Issuer) -> tuple[str, ...]:
    path = _path(issuer.claims.groups)
    elsewhere = claims.get("_claim_names")
    if (isinstance(elsewhere, dict) and path[0] in elsewhere) or (path[0] == "groups" and claims.get("hasgroups")):
        raise _unknown(
            "you are in more groups than the identity provider puts into a token",
            "Its administrator can send app roles, or only the groups assigned to the application.",
        )
    value = _follow(claims, path)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return ()
    if len(value) > limits.GROUPS_MAX:
        raise _unknown(
            f"the token names more than {limits.GROUPS_MAX} groups",
            "The identity provider's administrator can send only those that the gateway needs.",
        )
    if not all(_is_name(item, limits.GROUP_MAX_CHARS) for item in value if item):
        raise _unknown(
            f"the token names a group with unprintable characters or more than {limits.GROUP_MAX_CHARS} of them",
            "The identity provider's administrator can rename the group or leave it out of the token.",
        )
    return tuple(dict.fromkeys(item for item in value if item))


def _unknown(message: str, hint: str) -> AuthenticationFailed:
    return AuthenticationFailed("groups_unknown", message, hint=hint)
