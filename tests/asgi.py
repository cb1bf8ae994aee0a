"""One request to an ASGI application, without a server and without an HTTP client."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Response", "call"]


@dataclass
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def error(self) -> str:
        """The sentence of a refusal, which is all that its body holds."""
        entries = json.loads(self.content)
        assert list(entries) == ["error"]
        assert "\n" not in entries["error"]
        return entries["error"]


def call(application: Any, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
    """Send one request to an ASGI application."""
    path, _, query = target.partition("?")
    named = {"host": "127.0.0.1:8017", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8017),
    }  # fmt: skip
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    begun = sent[0]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Response(begun["status"], {k.decode(): v.decode() for k, v in begun["headers"]}, content)
