"""What the console reads of a request: forms, and the address by which people reach it."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request

from hoopfast.config import Config
from hoopfast.control.principal import Refused

FORM_MAX_BYTES = 64 * 1024


def base_url(request: Request, config: Config) -> str:
    """How people reach the console, without a slash at the end."""
    return config.admin.public_url.rstrip("/") or f"{request.url.scheme}://{request.headers.get('host', '')}"


async def form_of(request: Request) -> dict[str, str]:
    """The last value of each field of a URL-encoded form. Raises Refused(413)."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > FORM_MAX_BYTES:
            raise Refused(413, "the form is too large")
    fields = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
    return {name: values[-1] for name, values in fields.items()}
