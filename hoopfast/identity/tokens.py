"""Whether a JWT proves something to this gateway, now. Pure: bytes, issuer, key, time in; claims or a refusal out.

The order is the safety: size, shape and header first (nothing believed), then the signature with the issuer's own key,
then what the token says. `precheck` does the first part and names the issuer and key to look up; `verify` does the
rest. Called by `control/gate.py`.

pyjwt checks signature, issuer and audience. Its checks of times use its own clock and take strings and the year 9999,
so they are switched off and done here with the time passed in. A refusal says why only in `reason`, which never goes on
the wire; help is added to the message only where it tells no more than the sender knows: about the input's own shape,
or after the signature was verified.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from hoopfast import limits
from hoopfast.config import Issuer
from hoopfast.errors import AuthenticationFailed
from hoopfast.identity.keyset import SUPPORTED_ALGORITHMS, is_for_signatures
from hoopfast.identity.strict_json import parse_object
from hoopfast.model import Frozen

# Every reason `precheck` and `verify` give; metrics count by them.
REASONS = frozenset({
    "expired", "not_yet_valid", "wrong_issuer", "wrong_audience", "unsigned", "algorithm", "unknown_key", "signature",
    "malformed", "too_large", "truncated_by_terminal", "claims", "bound_token", "type",
})

HINT = "Get a new token from your identity provider, or a secret from the gateway's administrator, and connect again."

_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_FORBIDDEN_HEADERS = ("crit", "b64", "zip", "enc")
_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
_TERMINAL_LINE_BYTES = (4095, 1023)             # Linux, macOS: a longer line typed at a prompt is cut without a word
_MICROSOFT_HOSTS = frozenset({
    "login.microsoftonline.com", "sts.windows.net", "login.microsoftonline.us", "login.partner.microsoftonline.cn",
})
_GRAPH_AUDIENCES = frozenset({"00000003-0000-0000-c000-000000000000", "https://graph.microsoft.com"})
# How providers name the client that asked for the token: OpenID Connect, RFC 9068, Okta, Entra v1.
_PARTY_CLAIMS = ("azp", "client_id", "cid", "appid")


class Unverified(Frozen, frozen=True):
    """A token that has the right shape. Nothing in it is true yet; it only says which issuer and key to try."""

    token: bytes
    algorithm: str
    kid: str
    type: str                       # lower case, "" when absent
    issuer: str
    claims: dict[str, Any]


def precheck(token: bytes) -> Unverified:
    """Refuse what no issuer could make good. Raises AuthenticationFailed."""
    if len(token) > limits.CREDENTIAL_MAX_BYTES:
        raise AuthenticationFailed(
            "too_large",
            f"the token has more than {limits.CREDENTIAL_MAX_BYTES} bytes",
            hint="Ask the identity provider's administrator to send only the groups that the gateway needs.",
        )
    try:
        return _read(token)
    except AuthenticationFailed as failed:
        if len(token) in _TERMINAL_LINE_BYTES and token.startswith(b"eyJ"):
            raise _cut_by_terminal(len(token)) from failed
        raise


def verify(unverified: Unverified, issuer: Issuer, key: jwt.PyJWK, now: float) -> dict[str, Any]:
    """The claims of a token that `issuer` signed with `key` for us and that is valid at `now` (unix seconds).

    `key` must come from the key set of `issuer` and nowhere else. Raises AuthenticationFailed.
    """
    if unverified.issuer != issuer.issuer:
        raise AuthenticationFailed("wrong_issuer", hint=HINT)
    _check_key(unverified, issuer, key)
    try:
        claims = jwt.decode(
            unverified.token,
            key,
            algorithms=[unverified.algorithm],
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=limits.TOKEN_LEEWAY_S,
            options={
                "require": _REQUIRED,
                "enforce_minimum_key_length": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except Exception as error:  # noqa: BLE001 - ValueError, RecursionError and OSError have come through pyjwt before
        refusal = _refusal(error, issuer)
        if refusal.reason in {"signature", "malformed"} and len(unverified.token) in _TERMINAL_LINE_BYTES:
            raise _cut_by_terminal(len(unverified.token)) from None     # the cut went through the signature
        raise refusal from None
    if claims != unverified.claims:
        raise AuthenticationFailed("malformed", hint=HINT)
    _check_times(claims, now)
    _check_subject(claims)
    _check_parties(claims, issuer)
    _check_microsoft(claims, issuer)
    _check_kind(unverified.type, claims, issuer)
    if "cnf" in claims:
        raise AuthenticationFailed(
            "bound_token",
            "this token is bound to a key of its holder and no PostgreSQL client can prove it has that key",
            hint="Ask for a plain bearer token (without DPoP and without a client certificate).",
        )
    return claims


def is_microsoft(issuer: str) -> bool:
    """Whether the issuer is a Microsoft Entra tenant, whose tokens have rules of their own."""
    return urlsplit(issuer).hostname in _MICROSOFT_HOSTS


# ---------------------------------------------------------------- before the signature

def _read(token: bytes) -> Unverified:
    segments = token.split(b".")
    if len(segments) != 3:
        raise _malformed()
    header = _decode_object(segments[0])
    algorithm = header.get("alg")
    if not segments[2] or (isinstance(algorithm, str) and algorithm.lower() == "none"):
        raise AuthenticationFailed("unsigned", hint=HINT)
    if not isinstance(algorithm, str) or algorithm not in SUPPORTED_ALGORITHMS:
        raise AuthenticationFailed("algorithm", hint=HINT)
    if any(name in header for name in _FORBIDDEN_HEADERS):
        raise _malformed()
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= limits.TOKEN_KID_MAX_CHARS:
        raise AuthenticationFailed("unknown_key", hint=HINT)
    claims = _decode_object(segments[1])
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise AuthenticationFailed("wrong_issuer", hint=HINT)
    return Unverified(
        token=token, algorithm=algorithm, kid=kid, type=_header_type(header), issuer=issuer, claims=claims
    )


def _header_type(header: dict[str, Any]) -> str:
    if "typ" not in header:
        return ""
    value = header["typ"]
    # A logout token is signed by the same key for the same audience; only its type says that it is no login.
    if not isinstance(value, str) or value.lower() not in _TYPES:
        raise AuthenticationFailed("type", hint=HINT)
    return value.lower()


def _decode_object(segment: bytes) -> dict[str, Any]:
    try:
        # Strict where binascii is lax: padding, and characters outside the alphabet, which it would skip.
        data = base64.b64decode(segment + b"=" * (-len(segment) % 4), altchars=b"-_", validate=True)
        if base64.urlsafe_b64encode(data).rstrip(b"=") != segment:
            raise _malformed()
        return parse_object(data)
    except (ValueError, binascii.Error):
        raise _malformed() from None


def _malformed() -> AuthenticationFailed:
    return AuthenticationFailed(
        "malformed", "this is not a whole token", hint="Copy it again, from its first character to its last."
    )


def _cut_by_terminal(length: int) -> AuthenticationFailed:
    return AuthenticationFailed(
        "truncated_by_terminal",
        f"your terminal cut the token after {length} bytes",
        hint="Put the token into PGPASSWORD or a passfile instead of typing it, or use a gateway secret (hf_...).",
    )


# ---------------------------------------------------------------- the key and the signature

def _check_key(unverified: Unverified, issuer: Issuer, key: jwt.PyJWK) -> None:
    if unverified.algorithm not in issuer.algorithms or unverified.algorithm not in SUPPORTED_ALGORITHMS:
        raise AuthenticationFailed("algorithm", hint=HINT)
    if key.key_type not in ("RSA", "EC", "OKP") or key.algorithm_name != unverified.algorithm:
        raise AuthenticationFailed("algorithm", hint=HINT)
    if key.key_id != unverified.kid or not is_for_signatures(key.public_key_use, None):
        raise AuthenticationFailed("unknown_key", hint=HINT)


def _refusal(error: Exception, issuer: Issuer) -> AuthenticationFailed:
    # pyjwt looks at the claims only after the signature was good, so the last four may explain themselves.
    match error:
        case jwt.InvalidSignatureError():
            return AuthenticationFailed("signature", hint=HINT)
        case jwt.InvalidAlgorithmError():
            return AuthenticationFailed("algorithm", hint=HINT)
        case jwt.InvalidKeyError():
            return AuthenticationFailed("unknown_key", hint=HINT)
        case jwt.InvalidIssuerError():
            return AuthenticationFailed("wrong_issuer", hint=HINT)
        case jwt.InvalidAudienceError():
            return _wrong_audience(issuer)
        case jwt.MissingRequiredClaimError():
            return _claims(f'the token has no claim "{error.claim}"')
        case InvalidSubjectError() | InvalidJTIError():
            return _claims("the token's claims sub and jti must be texts")
        case _:
            return AuthenticationFailed("malformed", hint=HINT)


# ---------------------------------------------------------------- after the signature

def _claims(message: str, hint: str = HINT) -> AuthenticationFailed:
    return AuthenticationFailed("claims", message, hint=hint)


def _wrong_audience(issuer: Issuer) -> AuthenticationFailed:
    return AuthenticationFailed(
        "wrong_audience",
        "the token was issued for another application",
        hint=f'Ask the identity provider for a token with the audience "{issuer.audience}".',
    )


def _check_times(claims: dict[str, Any], now: float) -> None:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    leeway = limits.TOKEN_LEEWAY_S
    if expires <= now - leeway:
        raise AuthenticationFailed("expired", f"the token expired at {clock_text(expires)}", hint=HINT)
    if issued > now + leeway or ("nbf" in claims and _time(claims, "nbf") > now + leeway):
        raise AuthenticationFailed(
            "not_yet_valid",
            "the token is not valid yet",
            hint="The clocks of the gateway and of the identity provider differ, or the token was made for later.",
        )
    if expires - issued > limits.TOKEN_LIFETIME_MAX_S:
        raise _claims(
            "the token lives longer than 24 hours",
            "Ask the identity provider's administrator for a shorter life; one hour is usual.",
        )
    if now - issued > limits.TOKEN_LIFETIME_MAX_S:
        raise AuthenticationFailed("expired", "the token was issued more than 24 hours ago", hint=HINT)


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    # bool is an int to Python; infinity and numbers that no clock shows are no times.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise _claims(f'the token\'s claim "{name}" is not a time')
    return float(value)


def clock_text(moment: float) -> str:
    """A moment (unix seconds) as people read it in an error."""
    return datetime.fromtimestamp(max(moment, 0.0), UTC).strftime("%H:%M UTC on %Y-%m-%d")


def _check_subject(claims: dict[str, Any]) -> None:
    subject = claims["sub"]
    if not 0 < len(subject) <= limits.TOKEN_SUBJECT_MAX_CHARS or not subject.isprintable():
        raise _claims('the token\'s claim "sub" is empty, too long or not printable')


def _check_parties(claims: dict[str, Any], issuer: Issuer) -> None:
    """Who asked for the token, and for how many: another application's token must not be a login here."""
    allowed = issuer.authorized_parties or ((issuer.client_id,) if issuer.client_id else ())
    named = [claims[name] for name in ("azp", "client_id") if name in claims]
    parties = [claims[name] for name in _PARTY_CLAIMS if name in claims]
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if several and not named:
        raise AuthenticationFailed(
            "wrong_audience", "the token is for several applications and does not say which one asked for it", hint=HINT
        )
    if issuer.authorized_parties and not parties:
        raise AuthenticationFailed("wrong_audience", "the token does not say which application asked for it", hint=HINT)
    if allowed:
        refused = any(party not in allowed for party in (parties if issuer.authorized_parties else named))
    else:
        # Nothing configured: an audience of our own is enough, unless others can replay the token here.
        refused = several and any(party != issuer.audience for party in named)
    if refused:
        raise AuthenticationFailed(
            "wrong_audience",
            "the application that asked for this token may not use it here",
            hint="Name its client id under `authorized_parties` of this issuer in the gateway's configuration.",
        )


def _check_microsoft(claims: dict[str, Any], issuer: Issuer) -> None:
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if _GRAPH_AUDIENCES.intersection(audience.rstrip("/") for audience in audiences):
        raise _wrong_audience(issuer)
    if not is_microsoft(issuer.issuer):
        return
    # The tenant stands in the issuer's path: https://login.microsoftonline.com/<tenant>/v2.0
    if claims.get("tid") not in urlsplit(issuer.issuer).path.split("/")[1:2]:
        raise AuthenticationFailed("wrong_issuer", "the token belongs to another tenant", hint=HINT)


def _check_kind(header_type: str, claims: dict[str, Any], issuer: Issuer) -> None:
    """ID tokens and access tokens look alike; these are the marks that providers leave on one and not on the other."""
    marked_access = header_type in _ACCESS_TYPES
    if issuer.accept == "id_token" and (marked_access or "scope" in claims or "scp" in claims):
        raise AuthenticationFailed("type", "this is an access token; this issuer's ID tokens are accepted", hint=HINT)
    marked_id = "at_hash" in claims or "c_hash" in claims or claims.get("typ") == "ID"
    if issuer.accept == "access_token" and marked_id and not marked_access:
        raise AuthenticationFailed("type", "this is an ID token; this issuer's access tokens are accepted", hint=HINT)
