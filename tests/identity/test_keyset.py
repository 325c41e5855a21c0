"""Key sets and discovery documents: only what can be used safely survives, and nothing usable is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hoopfast import limits
from hoopfast.identity.keyset import check_url, discovery_url, parse_discovery, parse_key_set
from tests.identity.minting import ISSUER, ec_key, ed_key, jwk, rsa_key


def kept(*members: Any) -> set[str]:
    """Key ids that survive beside one good key."""
    body = json.dumps({"keys": [*members, jwk(rsa_key(), "good")]}).encode()
    return set(parse_key_set(body)) - {"good"}


def test_key_types_we_use() -> None:
    assert kept(jwk(rsa_key(), "r"), jwk(ec_key(), "e"), jwk(ed_key(), "o", use="sig")) == {"r", "e", "o"}
    keys = parse_key_set(json.dumps({"keys": [jwk(rsa_key()), jwk(ec_key(ec.SECP384R1), "k2")]}).encode())
    assert (keys["k1"].algorithm_name, keys["k2"].algorithm_name) == ("RS256", "ES384")


SYMMETRIC = {"kty": "oct", "kid": "x", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}


@pytest.mark.parametrize("member", [
    SYMMETRIC,
    {**SYMMETRIC, "alg": "HS256"},
    jwk(rsa_key(), "x", alg="HS256"),
    jwk(rsa_key(), "x", alg="none"),
    jwk(rsa_key(), "x", alg="RSA-OAEP"),
    jwk(rsa_key(), "x", alg="ES256"),
    jwk(rsa_key(), "x", alg=5),
    jwk(rsa_key(), "x", use="enc"),
    jwk(rsa_key(), "x", key_ops=["encrypt"]),
    jwk(rsa_key(), "x", key_ops="verify"),
    jwk(rsa_key(), "x", d="AQAB"),
    jwk(rsa_key(), "x", n="AQAB"),
    jwk(rsa_key(), "x", n=5),
    jwk(rsa_key(), "x", n="!!"),
    jwk(rsa_key(), "x", e=None),
    jwk(rsa_key(), "x", e="AQ"),
    jwk(ec_key(), "x", x="AAAA"),
    jwk(ec_key(), "x", crv="P-384"),
    jwk(ec_key(ec.SECP256K1), "x"),
    jwk(ed_key(), "x", crv="X25519"),
    jwk(rsa_key("weak", 1024), "x"),
    {"kty": "RSA", "kid": "x"}, {"kty": ["RSA"], "kid": "x"}, {"kid": "x"}, "text", None, 5, [],
], ids=lambda m: json.dumps(m)[-40:])  # fmt: skip
def test_unusable_members_do_not_take_the_others_with_them(member: Any) -> None:
    assert kept(member) == set()


@pytest.mark.parametrize("kid", [None, "", 5, ["x"], "k" * 257])
def test_key_ids(kid: Any) -> None:
    assert kept({**jwk(rsa_key()), "kid": kid}) == set()


def test_first_of_two_with_one_id() -> None:
    keys = parse_key_set(json.dumps({"keys": [jwk(rsa_key()), jwk(ec_key())]}).encode())
    assert keys["k1"].key_type == "RSA"


@pytest.mark.parametrize("body", [
    b"", b"<html>", b"[]", b"{}", b'{"keys":[]}', b'{"keys":{}}', b'{"keys":null}', b'{"keys":[5]}', b"\xff",
    b"[" * 100_000,
    json.dumps({"keys": [SYMMETRIC]}).encode(),
    json.dumps({"keys": [jwk(rsa_key())]}).encode()[:-1] + b',"keys":[]}',
    json.dumps({"keys": [jwk(rsa_key(), f"k{n}") for n in range(limits.KEY_SET_MAX_KEYS + 1)]}).encode(),
], ids=lambda b: repr(b[:12]))  # fmt: skip
def test_nothing_usable(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_key_set(body)


# ---------------------------------------------------------------- discovery

def document(**changes: Any) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": "https://keys.example.com/jwks", **changes}).encode()


def test_discovery() -> None:
    assert parse_discovery(document(), issuer=ISSUER, development=False) == "https://keys.example.com/jwks"
    assert discovery_url("https://a.example.com/") == "https://a.example.com/.well-known/openid-configuration"
    assert discovery_url("https://a.example.com/x") == "https://a.example.com/x/.well-known/openid-configuration"


@pytest.mark.parametrize("body", [
    document(issuer=ISSUER + "/"), document(issuer="https://evil.example.com"), document(issuer=None),
    document(jwks_uri=None), document(jwks_uri=5), document(jwks_uri="http://keys.example.com/jwks"),
    document(jwks_uri="file:///etc/passwd"),
    document(jwks_uri="http://127.0.0.1/jwks"), document(jwks_uri="https:///jwks"), b"<html>", b"[]",
    document()[:-1] + b',"jwks_uri":"https://evil.example.com"}',
], ids=lambda b: repr(b[-40:]))  # fmt: skip
def test_discovery_refuses(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_discovery(body, issuer=ISSUER, development=False)


def test_plain_http_is_for_development_on_loopback() -> None:
    check_url("http://127.0.0.1:8080/jwks", development=True)
    check_url("http://[::1]:8080/jwks", development=True)
    for host in ("127.0.0.1.evil.example.com", "localhost", "10.0.0.1", "127.0.0.1@evil.test"):
        with pytest.raises(ValueError):
            check_url(f"http://{host}/", development=True)
