"""Gateway secrets: how they look, how they are made, shown and stored.

A secret is `hf_` and 32 random bytes in base62 (46 characters: it survives every password box, shell and URL); the
prefix lets secret scanners find it. Only its SHA-256 is stored: 256 random bits need no slow hash. Demo secrets start
with `hfdemo_`, which a production gateway refuses. No IO; used by `control/gate.py` and by whatever creates secrets.
"""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "hf_"
DEMO_PREFIX = "hfdemo_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ENTROPY_BYTES = 32
_BODY_CHARS = 43                    # 62**43 > 2**256


def new_secret(*, demo: bool = False) -> str:
    """A fresh secret. It is shown once; keep `digest` of it and nothing else."""
    return encode_secret(secrets.token_bytes(_ENTROPY_BYTES), demo=demo)


def encode_secret(entropy: bytes, *, demo: bool = False) -> str:
    """The secret for 32 given bytes; always the same length, so that a cut one can be told from a wrong one."""
    if len(entropy) != _ENTROPY_BYTES:
        raise ValueError(f"a secret is made of {_ENTROPY_BYTES} bytes")
    number = int.from_bytes(entropy)
    digits = []
    for _ in range(_BODY_CHARS):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return (DEMO_PREFIX if demo else PREFIX) + "".join(reversed(digits))


def digest(secret: str | bytes) -> bytes:
    """SHA-256 of the secret: what the store keeps and finds it by."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def display(secret: str) -> str:
    """How a secret may appear in lists and logs: `hf_ab12...`."""
    prefix = DEMO_PREFIX if secret.startswith(DEMO_PREFIX) else PREFIX
    return prefix + secret.removeprefix(prefix)[:4] + "..."


def looks_like_token(credential: bytes) -> bool:
    """Whether to read it as a JWT: every JWT starts with the base64 of `{"`."""
    return credential.startswith(b"eyJ")


def looks_like_secret(credential: bytes) -> bool:
    """Whether to read it as a gateway secret, whole or not."""
    return credential.startswith((PREFIX.encode(), DEMO_PREFIX.encode()))


def is_demo_secret(credential: bytes) -> bool:
    """Whether it was made by a demo gateway."""
    return credential.startswith(DEMO_PREFIX.encode())


def is_whole_secret(credential: bytes) -> bool:
    """Whether prefix, length and alphabet are those of a secret. Says nothing about whether it exists."""
    text = credential.decode("ascii", "replace")
    body = text.removeprefix(DEMO_PREFIX if text.startswith(DEMO_PREFIX) else PREFIX)
    return looks_like_secret(credential) and len(body) == _BODY_CHARS and all(c in _ALPHABET for c in body)
