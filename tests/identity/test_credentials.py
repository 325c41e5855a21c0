"""Gateway secrets: form, strength, and what may be shown of them."""

from __future__ import annotations

import hashlib

import pytest

from hoopfast.identity import credentials


def test_form() -> None:
    secret = credentials.new_secret()
    assert secret.startswith("hf_")
    assert len(secret) == 46
    assert secret[3:].isalnum()
    assert secret.isascii()
    assert credentials.new_secret() != secret
    demo = credentials.new_secret(demo=True)
    assert demo.startswith("hfdemo_")
    assert len(demo) == 50


def test_encoding_keeps_every_bit() -> None:
    assert credentials.encode_secret(bytes(32)) == "hf_" + "0" * 43
    assert credentials.encode_secret(bytes(31) + b"\x3d") == "hf_" + "0" * 42 + "z"
    highest = credentials.encode_secret(b"\xff" * 32)[3:]
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for character in highest:
        number = number * 62 + alphabet.index(character)
    assert number == 2**256 - 1
    with pytest.raises(ValueError):
        credentials.encode_secret(b"short")


def test_digest() -> None:
    assert credentials.digest("hf_x") == credentials.digest(b"hf_x") == hashlib.sha256(b"hf_x").digest()


def test_display_shows_four_characters() -> None:
    secret = credentials.new_secret()
    assert credentials.display(secret) == secret[:7] + "..."
    assert credentials.display("hfdemo_abcdef") == "hfdemo_abcd..."
    assert "swordfish" not in credentials.display("swordfish-and-more")


def test_what_a_credential_looks_like() -> None:
    secret = credentials.new_secret().encode()
    demo = credentials.new_secret(demo=True).encode()
    assert credentials.looks_like_secret(secret)
    assert credentials.looks_like_secret(demo)
    assert credentials.is_demo_secret(demo)
    assert not credentials.is_demo_secret(secret)
    assert credentials.is_whole_secret(secret)
    assert credentials.is_whole_secret(demo)
    for broken in (secret[:-1], secret + b"0", secret[:-1] + b"-", secret[:-1] + b"\xff", b"hf_", b"", secret[3:],
                   b"HF_" + secret[3:], secret + b"\n", b"hfdemo_" + b"0" * 39):
        assert not credentials.is_whole_secret(broken)
    assert credentials.looks_like_token(b"eyJhbGciOi")
    assert not credentials.looks_like_token(b"swordfish")
    assert not credentials.looks_like_token(secret)
