"""SCRAM against the vector of RFC 7677, the guards against hostile servers, SASLprep, md5."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from hoopfast.protocol import scram
from tests.support.certs import Certificates

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def exchanged() -> tuple[scram.ScramClient, bytes]:
    client = scram.ScramClient("pencil", NONCE)
    # RFC 7677 names the user in the message; PostgreSQL clients leave it empty, so the vector needs it put in.
    client._bare = b"n=user,r=" + NONCE.encode()
    challenge = client.challenge(SERVER_FIRST)
    return client, client.final(scram.salt_password(client.password, challenge.salt, challenge.iterations))


def test_rfc_7677_vector() -> None:
    client, final = exchanged()
    assert final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    client.verify(SERVER_FINAL)


def test_first_message_and_flags() -> None:
    assert scram.ScramClient("x", "abc").first() == b"n,,n=,r=abc"
    assert scram.ScramClient("x", "abc", binding=b"hash").first() == b"y,,n=,r=abc"
    plus = scram.ScramClient("x", "abc", binding=b"hash", plus=True)
    assert plus.first() == b"p=tls-server-end-point,,n=,r=abc"
    assert plus.mechanism == "SCRAM-SHA-256-PLUS"
    plus.challenge(b"r=abcdef,s=c2FsdA==,i=4096")
    bound = plus.final(b"s" * 32).split(b",")[0]
    assert base64.b64decode(bound.removeprefix(b"c=")) == b"p=tls-server-end-point,,hash"
    with pytest.raises(ValueError):
        scram.ScramClient("x", "abc", plus=True)


@pytest.mark.parametrize(
    "message",
    [
        b"", b"r", b"r=", b"\xff\xff=", b"s=W22Z,r=%sX,i=4096", b"r=%s,s=W22Z,i=4096", b"r=otherX,s=W22Z,i=4096",
        b"r=%sX,s=,i=4096", b"r=%sX,s=***,i=4096", b"r=%sX,s=W22Z,i=0", b"r=%sX,s=W22Z,i=4095",
        b"r=%sX,s=W22Z,i=1000001", b"r=%sX,s=W22Z,i=1000000000", b"r=%sX,s=W22Z,i=9999999999999", b"r=%sX,s=W22Z,i=-1",
        b"r=%sX,s=W22Z,i= 4096", b"r=%sX,s=W22Z", b"m=ext,r=%sX,s=W22Z,i=4096",
        b"r=%s" + b"X" * 2000 + b",s=W22Z,i=4096",
    ],
)
def test_hostile_first_messages(message: bytes) -> None:
    with pytest.raises(scram.ScramError) as caught:
        scram.ScramClient("pencil", NONCE).challenge(message.replace(b"%s", NONCE.encode()))
    assert "pencil" not in str(caught.value)


@pytest.mark.parametrize("message", [b"v=AAAA", b"v=***", b"e=invalid-proof", b"x=1", b"", b"v=" + b"A" * 43 + b"="])
def test_hostile_final_messages(message: bytes) -> None:
    client, _ = exchanged()
    with pytest.raises(scram.ScramError):
        client.verify(message)


def test_final_before_challenge_proves_nothing() -> None:
    with pytest.raises(scram.ScramError):
        scram.ScramClient("pencil", NONCE).verify(b"v=")


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("pencil", b"pencil"),
        ("I\u00adX", b"IX"),                    # soft hyphen maps to nothing
        ("\u2168", b"IX"),                      # NFKC
        ("\u00aa", b"a"),
        ("a\u00a0b", b"a b"),                   # another space
        ("\u0007é", "\u0007é".encode()),        # prohibited: taken as it is
        ("\u06271", "\u06271".encode()),        # right-to-left that ends otherwise: as it is
        ("\u00ad", "\u00ad".encode()),          # nothing would be left
    ],
)
def test_saslprep(password: str, prepared: bytes) -> None:
    assert scram.prepare_password(password) == prepared


def test_md5() -> None:
    inner = hashlib.md5(b"secret" + b"user").hexdigest().encode()
    assert scram.md5_password("user", "secret", b"\1\2\3\4") == b"md5" + hashlib.md5(
        inner + b"\1\2\3\4"
    ).hexdigest().encode()


def test_end_point_is_the_hash_of_the_certificate(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = Certificates(tmp_path).cert.read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert scram.end_point(der) == hashlib.sha256(der).digest()
    assert scram.end_point(b"") == b""
    assert scram.end_point(b"not a certificate") == b""
