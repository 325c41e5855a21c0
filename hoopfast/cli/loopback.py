"""The port on this machine where `hoopfast login` waits for the browser to bring the code: one answer, then closed."""

from __future__ import annotations

import hmac
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<link rel="icon" href="data:,"><title>hoopfast</title><body style="font:16px system-ui;margin:20vh auto;'
    'max-width:30rem;text-align:center"><h1 style="font-size:1.4rem">%s</h1><p>%s</p></body></html>'
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Waiting:
    """Listens on 127.0.0.1 from the beginning; `port` goes into the address that the browser opens."""

    def __init__(self, state: str) -> None:
        self.answer: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                fields = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
                if not hmac.compare_digest(fields.get("state", "").encode(), state.encode()):
                    self._say(404, "Nothing here", "This is not the sign-in that your terminal waits for.")
                    return
                outer.answer = fields
                if "code" in fields:
                    self._say(200, "You are signed in", "Your terminal goes on by itself. You can close this page.")
                else:
                    self._say(200, "Nothing was given", "You said no. You can close this page.")

            def _say(self, status: int, title: str, text: str) -> None:
                body = (_PAGE % (title, text)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", _POLICY)
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                """Quiet: the code stands in the request line."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def wait(self, seconds: float) -> dict[str, str]:
        """What the browser brought; {} when it did not come in time."""
        ends_at = time.monotonic() + seconds
        with self._server as server:
            while not self.answer and (left := ends_at - time.monotonic()) > 0:
                server.timeout = min(left, 1.0)
                server.handle_request()
        return self.answer
