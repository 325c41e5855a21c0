"""Logging in as a client: SCRAM-SHA-256 and -PLUS (RFC 5802, 7677), md5. Pure: the nonce is passed in.

`net/upstream.py` drives it. The one slow step, `salt_password`, is a function of its own so that the caller can run it
in a thread (it releases the GIL). A server that breaks the exchange raises ScramError, whose text holds no secret.

    client = ScramClient(password, nonce)
    send client.first()           <- server-first
    challenge = client.challenge(server_first)
    send client.final(salt_password(client.password, challenge.salt, challenge.iterations))   <- server-final
    client.verify(server_final)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Final, NamedTuple

from hoopfast.errors import GatewayError

MECHANISM: Final = "SCRAM-SHA-256"
MECHANISM_PLUS: Final = "SCRAM-SHA-256-PLUS"
# Fewer iterations make a captured exchange cheap to guess from; more are a way to burn our processor (CVE-2026-6665).
ITERATIONS_MIN: Final = 4096
ITERATIONS_MAX: Final = 1_000_000
SERVER_NONCE_MAX: Final = 1024
SALT_MAX_BYTES: Final = 1024
_PROHIBITED: Final = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9, stringprep.in_table_a1,
)


class ScramError(GatewayError):
    """The server's side of the exchange is wrong: not the server that knows the password, or a broken one."""


class Challenge(NamedTuple):
    salt: bytes
    iterations: int


class ScramClient:
    """One exchange. `binding` is the tls-server-end-point data (see `end_point`), b"" without TLS.

    `plus` chooses -PLUS. Binding data without `plus` means that the server did not offer it: it is told so (gs2 flag
    y) and can notice that somebody removed -PLUS from its offer.
    """

    def __init__(self, password: str, nonce: str, *, binding: bytes = b"", plus: bool = False) -> None:
        if plus and not binding:
            raise ValueError("channel binding without binding data")
        self.password = prepare_password(password)
        self.mechanism = MECHANISM_PLUS if plus else MECHANISM
        self._nonce = nonce
        self._binding = binding if plus else b""
        self._gs2 = b"p=tls-server-end-point,," if plus else (b"y,," if binding else b"n,,")
        self._bare = f"n=,r={nonce}".encode()       # PostgreSQL takes the user from the startup packet
        self._server_first = b""
        self._server_nonce = ""
        self._server_signature = b""

    def first(self) -> bytes:
        return self._gs2 + self._bare

    def challenge(self, server_first: bytes) -> Challenge:
        """Check server-first-message and take what the key derivation needs."""
        attributes = _attributes(server_first)
        if [name for name, _ in attributes[:3]] != ["r", "s", "i"]:
            raise ScramError("the server's first SCRAM message is malformed")
        nonce, salt_text, iterations_text = (value for _, value in attributes[:3])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ScramError("the server's SCRAM nonce does not continue ours")
        if len(nonce) > len(self._nonce) + SERVER_NONCE_MAX:
            raise ScramError("the server's SCRAM nonce is too long")
        salt = _decode(salt_text, "salt")
        if not 1 <= len(salt) <= SALT_MAX_BYTES:
            raise ScramError("the server's SCRAM salt has an impossible length")
        if not (iterations_text.isascii() and iterations_text.isdigit() and len(iterations_text) <= 9):
            raise ScramError("the server's SCRAM iteration count is not a number")
        iterations = int(iterations_text)
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
            raise ScramError(
                f"the server asks for {iterations} SCRAM iterations, outside {ITERATIONS_MIN}..{ITERATIONS_MAX}"
            )
        self._server_first, self._server_nonce = server_first, nonce
        return Challenge(salt, iterations)

    def final(self, salted: bytes) -> bytes:
        """client-final-message; `salted` comes from `salt_password`."""
        without_proof = b"c=" + base64.b64encode(self._gs2 + self._binding) + b",r=" + self._server_nonce.encode()
        signed = self._bare + b"," + self._server_first + b"," + without_proof
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """Check that the server knows the password too; ScramError if not."""
        attributes = _attributes(server_final)
        name, value = attributes[0]
        if name == "e":
            raise ScramError(f"the server refused the SCRAM exchange: {value[:100]}")
        if name != "v" or not self._server_signature:
            raise ScramError("the server's final SCRAM message is malformed")
        if not hmac.compare_digest(_decode(value, "signature"), self._server_signature):
            raise ScramError("the server could not prove that it knows the password")


def salt_password(password: bytes, salt: bytes, iterations: int) -> bytes:
    """SaltedPassword. Takes milliseconds at 4096 iterations and a second at the maximum."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


def md5_password(user: str, password: str, salt: bytes) -> bytes:
    """The answer to AuthenticationMD5Password."""
    inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


def prepare_password(password: str) -> bytes:
    """SASLprep (RFC 4013) in UTF-8; a password that it forbids is used as it is, as PostgreSQL does."""
    raw = password.encode()
    if password.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(forbidden(c) for c in prepared for forbidden in _PROHIBITED) or not _is_bidi_sound(prepared):
        return raw
    return prepared.encode()


def _is_bidi_sound(text: str) -> bool:
    right_to_left = [stringprep.in_table_d1(c) for c in text]
    if not any(right_to_left):
        return True
    return right_to_left[0] and right_to_left[-1] and not any(stringprep.in_table_d2(c) for c in text)


def end_point(certificate: bytes) -> bytes:
    """tls-server-end-point data (RFC 5929) of a DER certificate; empty where none is defined (Ed25519)."""
    if not certificate:
        return b""
    # Imported here: workers that never see SCRAM-PLUS need not hold it.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415

    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return b""
    if algorithm is None:
        return b""
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return hashlib.new(name, certificate).digest() if name in hashlib.algorithms_guaranteed else b""


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _decode(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramError(f"the server's SCRAM {what} is not base64") from None


def _attributes(message: bytes) -> list[tuple[str, str]]:
    """Attributes of a SCRAM message in order: one letter, "=", value."""
    try:
        parts = message.decode("utf-8").split(",")
    except UnicodeDecodeError:
        raise ScramError("the server's SCRAM message is not UTF-8") from None
    if any(len(part) < 2 or part[1] != "=" for part in parts):
        raise ScramError("the server's SCRAM message is malformed")
    return [(part[0], part[2:]) for part in parts]
