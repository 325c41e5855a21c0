"""Secret references: each form, its failures, and that no error shows a secret."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hoopfast import secrets

SECRET = "hunter2"


def refused(reference: str) -> str:
    """The whole traceback as text, which is what would reach a log."""
    with pytest.raises(secrets.SecretError) as caught:
        secrets.resolve(reference)
    context = caught.value.__context__
    assert context is None or SECRET not in repr(vars(context)) + repr(context.args)
    text = "".join(traceback.format_exception(caught.value, chain=True)).split("SecretError")[-1]
    assert SECRET not in text
    return text


def test_empty_is_empty() -> None:
    assert secrets.resolve("") == ""


@pytest.mark.parametrize("text", ["env:X", "file:/x", "exec:pass show x", "vault:kv/a#b"])
def test_references_are_recognised(text: str) -> None:
    assert secrets.looks_like_reference(text)


@pytest.mark.parametrize("text", ["", SECRET, f"env:{' '}", "env", "ENV:X", f"http:{SECRET}", f" env:{SECRET}", ":x"])
def test_anything_else_is_a_value_and_not_repeated(text: str) -> None:
    assert not secrets.looks_like_reference(text)
    if text:
        assert "env:NAME" in refused(text)


def test_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TEST_SECRET", f"{SECRET} ")
    assert secrets.resolve("env:HF_TEST_SECRET") == f"{SECRET} "
    monkeypatch.setenv("HF_TEST_SECRET", "")
    assert "env:HF_TEST_SECRET is empty" in refused("env:HF_TEST_SECRET")
    monkeypatch.delenv("HF_TEST_SECRET")
    assert "not set" in refused("env:HF_TEST_SECRET")


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\r\n\n")
    assert secrets.resolve(f"file:{path}") == SECRET
    path.write_text(f" {SECRET} inside\nlines\n")
    assert secrets.resolve(f"file:{path}") == f" {SECRET} inside\nlines"
    path.write_text("\n")
    assert "is empty" in refused(f"file:{path}")
    path.write_bytes(SECRET.encode() + b"\xff")
    assert "not UTF-8" in refused(f"file:{path}")
    path.write_bytes(SECRET.encode() + b"\0x")
    assert "NUL" in refused(f"file:{path}")
    path.write_bytes(SECRET.encode() * 10000)
    assert "larger" in refused(f"file:{path}")
    assert "No such file" in refused(f"file:{tmp_path}/none")
    assert "directory" in refused(f"file:{tmp_path}")
    assert "not a path" in refused("file:/a\0b")


def python(code: str) -> str:
    return f'exec:{sys.executable} -c "{code}"'


def test_exec(tmp_path: Path) -> None:
    assert secrets.resolve(f"exec:printf %s {SECRET}") == SECRET
    assert secrets.resolve("exec:echo 'two words' $HOME") == "two words $HOME"
    assert "No such file" in refused(f"exec:{tmp_path}/none --password {SECRET}")
    assert "status 3" in refused(python(f"import sys; print('{SECRET}'); sys.exit(3)"))
    assert "larger" in refused(python(f"print('{SECRET}' * 20000)"))
    assert "is empty" in refused("exec:true")
    assert "quotation" in refused(f"exec:echo '{SECRET}")


def test_exec_keeps_quiet_about_what_the_command_complains(capfd: pytest.CaptureFixture[str]) -> None:
    refused(python(f"import sys; sys.exit('{SECRET}')"))
    assert capfd.readouterr() == ("", "")


def test_exec_is_ended_with_its_children_when_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "TIMEOUT_S", 0.3)
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\nsleep 30 &\necho $! > child\necho started\nwait\n")
    script.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    assert "no answer" in refused(f"exec:{script}")
    assert time.monotonic() - started < 5
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_exec_that_closes_its_output_but_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "TIMEOUT_S", 0.5)
    assert "did not end" in refused(python("import os, time; os.close(1); time.sleep(30)"))


# ---------------------------------------------------------------- vault

Answer = Callable[[str, dict[str, str]], tuple[int, Any]]


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A small Vault: `answers` maps path to (status, body); `seen` are the requests' headers."""
    state: dict[str, Any] = {"answers": {}, "seen": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["seen"].append((self.path, dict(self.headers)))
            status, body = state["answers"].get(self.path, (404, {"errors": []}))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("VAULT_TOKEN", "s.token")
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("VAULT_NAMESPACE", "VAULT_CACERT"):
        monkeypatch.delenv(name, raising=False)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_vault(vault: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    vault["answers"]["/v1/kv/data/gw/orders"] = 200, {"data": {"data": {"password": SECRET, "n": 5}, "metadata": {}}}
    assert secrets.resolve("vault:kv/gw/orders#password") == SECRET
    monkeypatch.setenv("VAULT_NAMESPACE", "team")
    assert secrets.resolve("vault:/kv/data/gw/orders#password") == SECRET
    _, headers = vault["seen"][-1]
    assert headers["X-Vault-Token"] == "s.token"
    assert headers["X-Vault-Namespace"] == "team"
    assert "no such key" in refused("vault:kv/gw/orders#other")
    assert "not text" in refused("vault:kv/gw/orders#n")


@pytest.mark.parametrize(("status", "body", "word"), [
    (403, {"errors": [SECRET]}, "answered 403"),
    (307, {}, "answered 307"),
    (200, SECRET.encode(), "not that of a KV"),
    (200, {"data": {"password": SECRET}}, "not that of a KV"),
    (200, {"data": {"data": None}}, "not that of a KV"),
    (200, [SECRET], "not that of a KV"),
])
def test_vault_says_no(vault: dict[str, Any], status: int, body: Any, word: str) -> None:
    vault["answers"]["/v1/kv/data/x"] = status, body
    text = refused("vault:kv/x#password")
    assert word in text
    assert "s.token" not in text


@pytest.mark.parametrize("target", ["kv#x", "kv/x", "kv/x#", "kv/../sys/x#y", "kv//x#y"])
def test_vault_paths(vault: dict[str, Any], target: str) -> None:
    assert "mount/path#key" in refused(f"vault:{target}")
    assert vault["seen"] == []


def test_vault_needs_its_surroundings(vault: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://vault.example.com")
    assert "https" in refused("vault:kv/x#y")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    assert "cannot be reached" in refused("vault:kv/x#y")
    monkeypatch.setenv("VAULT_CACERT", "/does/not/exist")
    assert "cannot be reached" in refused("vault:kv/x#y")
    monkeypatch.delenv("VAULT_TOKEN")
    assert "must be set" in refused("vault:kv/x#y")
