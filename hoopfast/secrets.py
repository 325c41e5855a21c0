"""Secret references: where a secret lives, never what it is.

The configuration holds `env:NAME`, `file:/path`, `exec:command` or `vault:path#key`; the process that needs the secret
calls `resolve` at the moment of use (it may block for some seconds: off the event loop). No error repeats a secret.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

from hoopfast.errors import GatewayError

SCHEMES = ("env", "file", "exec", "vault")
FORMS = "env:NAME, file:/path, exec:command or vault:path#key"
SECRET_MAX_BYTES = 64 * 1024
TIMEOUT_S = 10.0


class SecretError(GatewayError):
    """A reference that does not lead to a secret. The text names the reference and the cause, never the secret."""


def looks_like_reference(text: str) -> bool:
    """Whether `text` has one of the forms; says nothing about whether it can be resolved."""
    scheme, colon, rest = text.partition(":")
    return bool(colon) and scheme in SCHEMES and bool(rest.strip())


def resolve(reference: str) -> str:
    """The secret behind a reference; "" for "". Raises SecretError. Blocks for up to TIMEOUT_S."""
    if not reference:
        return ""
    if not looks_like_reference(reference):
        raise SecretError(f"a secret must be a reference ({FORMS}), not the value itself")
    scheme, _, rest = reference.partition(":")
    sources = {"env": _env, "file": _file, "exec": _exec, "vault": _vault}
    secret = sources[scheme](rest.strip())
    if not secret:
        raise SecretError(f"{_shown(scheme, rest)} is empty")
    if "\0" in secret:
        raise SecretError(f"{_shown(scheme, rest)} contains a NUL character, which no password can have")
    return secret


def _shown(scheme: str, rest: str) -> str:
    """The reference as errors show it: a command's arguments may hold secrets of their own."""
    return f"{scheme}:{rest.strip().split(None, 1)[0]}" if scheme == "exec" else f"{scheme}:{rest.strip()}"


def _text(data: bytes, shown: str) -> str:
    if len(data) > SECRET_MAX_BYTES:
        raise SecretError(f"{shown} is larger than {SECRET_MAX_BYTES} bytes")
    # Raised outside the handler: the decoder's error holds the bytes and must not travel along as context.
    text: str | None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise SecretError(f"{shown} is not UTF-8 text")
    return text.rstrip("\r\n")


def _env(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SecretError(f"env:{name}: the environment variable is not set")
    return value


def _file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_MAX_BYTES + 1)
    except (OSError, ValueError) as e:
        raise SecretError(f"file:{path}: {getattr(e, 'strerror', None) or 'not a path'}") from None
    return _text(data, f"file:{path}")


def _exec(command: str) -> str:
    try:
        arguments = shlex.split(command)
    except ValueError as e:
        raise SecretError(f"{_shown('exec', command)}: {str(e).lower()}") from None
    shown = f"exec:{arguments[0]}"
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)
    except (OSError, ValueError) as e:
        raise SecretError(f"{shown}: {getattr(e, 'strerror', None) or 'cannot be run'}") from None
    with process:
        try:
            data = _output(process, shown)
        except SecretError:
            # Not reaped yet, so the number is still its own; its children may hold the pipe, so the whole group goes.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise SecretError(f"{shown}: ended with status {process.returncode} (run it by hand to see why)")
    return _text(data, shown)


def _output(process: subprocess.Popen[bytes], shown: str) -> bytes:
    """All of the command's output, bounded in time and size; waits for its exit too."""
    assert process.stdout is not None
    deadline = time.monotonic() + TIMEOUT_S
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(data) <= SECRET_MAX_BYTES:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise SecretError(f"{shown}: gave no answer within {TIMEOUT_S:g} s")
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            data += chunk
        else:
            raise SecretError(f"{shown} is larger than {SECRET_MAX_BYTES} bytes")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise SecretError(f"{shown}: did not end within {TIMEOUT_S:g} s") from None
    return data


def _vault(target: str) -> str:
    """HashiCorp Vault, KV version 2. VAULT_ADDR and VAULT_TOKEN are needed; VAULT_NAMESPACE, VAULT_CACERT are used."""
    shown = f"vault:{target}"
    path, _, key = target.partition("#")
    parts = path.strip("/").split("/")
    if parts[1:2] == ["data"]:
        del parts[1]
    if not key or len(parts) < 2 or any(part in {"", ".", ".."} for part in parts):
        raise SecretError(f"{shown}: write vault:mount/path#key")
    address, token = os.environ.get("VAULT_ADDR", ""), os.environ.get("VAULT_TOKEN", "")
    if not address or not token:
        raise SecretError(f"{shown}: VAULT_ADDR and VAULT_TOKEN must be set")
    url = urlsplit(address)
    if url.scheme != "https" and not (url.scheme == "http" and url.hostname in {"127.0.0.1", "::1", "localhost"}):
        raise SecretError(f"{shown}: VAULT_ADDR must be an https:// address")
    where = f"{address.rstrip('/')}/v1/{quote(parts[0])}/data/{quote('/'.join(parts[1:]))}"
    return _vault_get(where, key, token, shown)


def _vault_get(url: str, key: str, token: str, shown: str) -> str:
    # Late: few installations use Vault, and the client is slow to import.
    import ssl  # noqa: PLC0415

    import httpx  # noqa: PLC0415

    headers = {"X-Vault-Token": token}
    if os.environ.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = os.environ["VAULT_NAMESPACE"]
    fault = ""
    value: object = None
    try:
        verify = ssl.create_default_context(cafile=os.environ.get("VAULT_CACERT") or None)
        answer = httpx.get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=False, verify=verify)
        if answer.status_code != 200:
            fault = f"Vault answered {answer.status_code}"
        else:
            value = answer.json()["data"]["data"].get(key)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as e:
        fault = f"Vault cannot be reached ({type(e).__name__})"
    except (ValueError, KeyError, TypeError, AttributeError):
        fault = "the answer is not that of a KV version 2 engine"
    if fault:
        raise SecretError(f"{shown}: {fault}")
    if not isinstance(value, str):
        raise SecretError(f"{shown}: there is no such key, or it is not text")
    return value
