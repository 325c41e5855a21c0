"""What a provider publishes, read strictly: its discovery document and its key set (JWKS).

Pure: bytes in, usable verification keys out. Only asymmetric signature keys survive; a symmetric (`oct`) key in a
public key set would turn the public document into the signing secret. Called by `control/keys.py`, which fetches.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import jwt

from hoopfast import limits, units
from hoopfast.identity.strict_json import parse_object

# Every algorithm the gateway can be told to accept. HS* and none can never be added by configuration.
SUPPORTED_ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA", "PS256", "RS384", "RS512", "ES384", "ES512"})
_KEY_TYPES = ("RSA", "EC", "OKP")                   # a tuple: a hostile member need not be hashable


def check_url(url: str, *, development: bool) -> None:
    """Raise ValueError unless `url` may be asked for keys: https, or http on loopback for a development issuer."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if development and parts.scheme == "http" and units.is_loopback_address(parts.hostname or ""):
        return
    raise ValueError("the address for keys must be https")


def discovery_url(issuer: str) -> str:
    """Where OpenID Connect Discovery puts the issuer's document."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def parse_discovery(body: bytes, *, issuer: str, development: bool) -> str:
    """The `jwks_uri` of a discovery document. Raises ValueError when it is not the document of exactly this issuer."""
    document = parse_object(body)
    if document.get("issuer") != issuer:
        raise ValueError("the discovery document names another issuer")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise ValueError("the discovery document has no jwks_uri")  # noqa: TRY004 - a fault of the document, not of a caller
    check_url(uri, development=development)
    return uri


def parse_key_set(body: bytes) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JWKS by key id. Unusable members are skipped; ValueError when nothing usable is left."""
    members = parse_object(body).get("keys")
    if not isinstance(members, list):
        raise ValueError("the key set has no list of keys")  # noqa: TRY004 - a fault of the document, not of a caller
    if len(members) > limits.KEY_SET_MAX_KEYS:
        raise ValueError(f"the key set holds more than {limits.KEY_SET_MAX_KEYS} keys")
    keys: dict[str, jwt.PyJWK] = {}
    for member in members:
        key = _usable_key(member)
        if key is not None and key.key_id is not None:
            keys.setdefault(key.key_id, key)
    if not keys:
        raise ValueError("the key set holds no usable key")
    return keys


def _usable_key(member: Any) -> jwt.PyJWK | None:
    if not isinstance(member, dict) or member.get("kty") not in _KEY_TYPES:
        return None
    kid = member.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= limits.TOKEN_KID_MAX_CHARS:
        return None
    # `d` is a private key on a public page: whoever can read the page can sign.
    if "d" in member or not is_for_signatures(member.get("use"), member.get("key_ops")):
        return None
    try:
        key = jwt.PyJWK(member)
        too_short = key.Algorithm.check_key_length(key.key)
    except Exception:  # noqa: BLE001 - one strange key must not take the others with it, whatever its parser raises
        return None
    if too_short or key.algorithm_name not in SUPPORTED_ALGORITHMS:
        return None
    return key


def is_for_signatures(use: object, operations: object) -> bool:
    """Whether a JWK's `use` and `key_ops` allow checking a signature."""
    if use is not None and use != "sig":
        return False
    return operations is None or (isinstance(operations, list) and "verify" in operations)
