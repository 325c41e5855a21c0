"""Keys and tokens of every kind for the identity tests. Keys are made once per run: making them is the slow part."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from hoopfast.config import Issuer

NOW = 1_800_000_000.0
ISSUER = "https://login.example.com"
AUDIENCE = "hoopfast"


@cache
def rsa_key(name: str = "k1", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str = "k1", **more: Any) -> dict[str, Any]:
    """The public half as a member of a key set."""
    algorithm: Any = jwt.algorithms.OKPAlgorithm
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = jwt.algorithms.RSAAlgorithm
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = jwt.algorithms.ECAlgorithm
    public = algorithm.to_jwk(key.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {**public, "kid": kid, **more}


def public(key: Any = None, kid: str = "k1", **more: Any) -> jwt.PyJWK:
    return jwt.PyJWK(jwk(key or rsa_key(), kid, **more))


def issuer(**changes: Any) -> Issuer:
    return Issuer(**{"name": "okta", "issuer": ISSUER, "audience": AUDIENCE, **changes})


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token at NOW; a change to None removes one."""
    good: dict[str, Any] = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "iat": NOW - 60, "exp": NOW + 3540, "jti": "j1",
        "email": "ana@example.com", "email_verified": True, "groups": ["engineering"],
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def mint(key: Any = None, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A token signed as it should be."""
    headers = {"kid": "k1", **(header or {})}
    return jwt.encode(claims(**changes), key or rsa_key(), algorithm=algorithm, headers=headers).encode()


def encode(data: bytes | dict[str, Any]) -> bytes:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def sign(header: bytes | dict[str, Any], payload: bytes | dict[str, Any]) -> bytes:
    """RS256 over exactly these bytes: what no library would write."""
    signed = encode(header) + b"." + encode(payload)
    return signed + b"." + encode(rsa_key().sign(signed, padding.PKCS1v15(), SHA256()))


HEADER = {"alg": "RS256", "kid": "k1", "typ": "JWT"}
