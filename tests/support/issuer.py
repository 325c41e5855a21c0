"""An OpenID Connect issuer for tests: discovery, JWKS, and tokens of every kind, the forged ones included.

Small and separate from hoopfast.demo.issuer on purpose: tests must be able to mint what no honest issuer would.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE = "hoopfast-test"
GROUPS = {
    "alice": ["engineering"],
    "bob": ["engineering", "dba"],
    "carol": ["engineering", "dba", "hoopfast-admin"],
    "dora": ["support-leads", "engineering"],
    "mallory": ["visitors"],
}


class TestIssuer:
    """Serves on a loopback port from a thread. `requests` counts what the gateway asked for, by path."""

    __test__ = False

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = "k1"
        self.requests: dict[str, int] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests[self.path] = outer.requests.get(self.path, 0) + 1
                document = outer.documents().get(self.path)
                self.send_response(200 if document is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(document or {}).encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def documents(self) -> dict[str, dict[str, Any]]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url, "jwks_uri": f"{self.url}/jwks", "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token", "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/jwks": {"keys": [public | {"kid": self.kid, "use": "sig", "alg": "RS256"}]},
        }

    def configuration(self, **extra: Any) -> dict[str, Any]:
        """This issuer as an item of `identity:` in hoopfast.yaml."""
        return {"name": "test", "issuer": self.url, "audience": AUDIENCE, "development": True, **extra}

    # ---------------------------------------------------------------- tokens

    def claims(self, person: str, **changes: Any) -> dict[str, Any]:
        """Claims of a good token; a change to None removes a claim."""
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": AUDIENCE, "sub": f"sub-{person}", "email": f"{person}@example.com",
            "email_verified": True, "groups": GROUPS.get(person, []), "iat": now, "nbf": now, "exp": now + 3600,
            "jti": uuid.uuid4().hex,
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def mint(self, person: str, **changes: Any) -> str:
        """A token of `person`, signed as it should be."""
        return jwt.encode(self.claims(person, **changes), self.key, algorithm="RS256", headers={"kid": self.kid})

    def forged(self, person: str) -> dict[str, str]:
        """Bad tokens by the name of what is wrong with them."""
        now = int(time.time())
        good = self.mint(person)
        head, body, signature = good.split(".")
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {
            "expired": self.mint(person, exp=now - 600, iat=now - 4200, nbf=now - 4200),
            "not yet valid": self.mint(person, nbf=now + 600),
            "no expiry": self.mint(person, exp=None),
            "wrong issuer": self.mint(person, iss="https://issuer.elsewhere.test"),
            "wrong audience": self.mint(person, aud="somebody-else"),
            "unsigned": f"{_encode({'alg': 'none', 'typ': 'JWT'})}.{body}.",
            "signature cut off": f"{head}.{body}.",
            "signature of a stranger": jwt.encode(
                self.claims(person), self.stranger, algorithm="RS256", headers={"kid": self.kid}
            ),
            "key confusion": _hs256(self.claims(person), pem, self.kid),
            "unknown key": jwt.encode(self.claims(person), self.stranger, algorithm="RS256", headers={"kid": "k9"}),
            "claims changed": f"{head}.{_encode(self.claims('carol'))}.{signature}",
            "huge": self.mint(person, padding="x" * 60_000),
            "not a token": "swordfish",
            "empty": "",
        }


def _encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _hs256(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """By hand: PyJWT refuses to sign with a PEM as an HMAC secret, which is the very attack."""
    import hashlib
    import hmac

    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{_encode(claims)}"
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
