"""Log lines: one per record, nothing that looks like a credential, nothing a client can forge."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from hoopfast import logs

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl-_x"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"login with {JWT} refused", JWT),
        ("secret hf_abcdefghij_KLMNOP0123 revoked", "abcdefghij"),
        ("secret hfdemo_abcdefghij_KLMNOP0123 revoked", "abcdefghij"),
        ("Authorization: Bearer abc.def.ghi", "abc.def.ghi"),
        ("postgresql://svc:pa55word@db/orders", "pa55word"),
        ("connect password=hunter22 host=x", "hunter22"),
        (f"two {JWT} and hf_zzzzzzzzzz", "zzzzzz"),
    ],
)
def test_credentials_are_redacted(text: str, secret: str) -> None:
    cleaned = logs.redact(text)
    assert secret not in cleaned
    assert "[" in cleaned


def test_ordinary_text_stays() -> None:
    text = "worker 3 died (signal 9), 12 sessions; secret 8f3a revoked; SELECT 'eyJ'; bad token: signature expired"
    assert logs.redact(text) == text


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_one_line_per_record_with_redacted_fields_and_traceback(style: logs.Format) -> None:
    out = io.StringIO()
    logs.setup("info", style=style, process="w0", stream=out)
    log = logging.getLogger("hoopfast.test")
    try:
        raise ValueError(f"bad {JWT}")
    except ValueError:
        log.exception("failed\nlevel=error msg=forged", extra={"fields": {"user": "a b", "token_is": JWT, "n": 3}})
    log.debug("not shown")
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert JWT not in lines[0]
    assert "ValueError" in lines[0]
    if style == "json":
        record = json.loads(lines[0])
        assert record["n"] == 3
        assert record["process"] == "w0"
        assert record["msg"].startswith("failed\n")
    else:
        assert 'user="a b" token_is=' in lines[0]
        assert "process=w0 " in lines[0]


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_a_log_cannot_repaint_a_terminal(style: logs.Format) -> None:
    out = io.StringIO()
    logs.setup("info", style=style, stream=out)
    logging.getLogger("hoopfast.test").info("by %s", "a\x1b[2J\x9b2J\u202e\U000e0041ü")
    line = out.getvalue().rstrip("\n")
    assert line.isprintable()
    assert "ü" in line
    if style == "json":
        assert json.loads(line)["msg"] == "by a\x1b[2J\x9b2J\u202e\U000e0041ü"
