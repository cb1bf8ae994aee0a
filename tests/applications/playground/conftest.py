"""A tiny trained run for every system, and a caller of ASGI applications: no HTTP client is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny
from scifm.applications.playground.application import create_application
from scifm.applications.playground.trained import Playground
from scifm.training.pretrain import pretrain


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


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A complete run on each system, by name."""
    pytest.importorskip("fastapi", reason="the extra 'play' is not installed")
    root = tmp_path_factory.mktemp("played")
    made = {}
    for name in ("poisson", "advection_diffusion", "helmholtz"):
        tree = tiny.recipe(name=name, system={"name": name, "knobs": {}}, training={"num_steps": 2})
        made[name] = pretrain(tree, out=root).path
    return made


@pytest.fixture(scope="session")
def playgrounds(runs) -> dict[str, Playground]:
    return {name: Playground.open(path) for name, path in runs.items()}


@pytest.fixture(scope="session")
def request_to(playgrounds) -> Callable[..., Response]:
    """Return a function that sends a request to the page of one system."""
    applications = {name: create_application(playground) for name, playground in playgrounds.items()}

    def send(method: str, target: str, body: bytes = b"", *, of: str = "poisson", **headers: str) -> Response:
        return call(applications[of], method, target, body, **headers)

    return send
