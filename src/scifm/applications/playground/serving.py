"""The page and its server: a fixed set of files, what the run is, forcings and answers, or states and marches.

What a browser may send: a system and a resolution out of a list, numbers for the knobs, a seed, a number of steps, and
float32 fields of a size known beforehand. No path, no address, nothing that is unpickled or run. A refusal is
``{"error": sentence}``; only a foreign Host header gets a plain line. The address is loopback unless asked otherwise,
and checked first. Nothing else is served.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import ipaddress
import json
import math
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scifm.applications.playground.marching import PlayedEvolution
from scifm.applications.playground.problems import PlayedSystem, field_from_bytes, field_to_bytes, fields_from_bytes
from scifm.applications.playground.trained import Playground
from scifm.errors import ConfigError, DataError, SciFMError
from scifm.fields.grid import Grid
from scifm.systems.system import System

__all__ = ["HEADERS", "create_application", "host_names", "is_loopback", "listen", "serve"]

_SCRIPTS = ("asking", "dials", "page", "painting", "pictures", "posing")
_PAGES = {False: ("steady", _SCRIPTS), True: ("march", (*_SCRIPTS, "lines", "player"))}
"""Of steady systems and of those that evolve: what page and script are called, and what the script imports."""
_ELSEWHERE = {"player": "scifm.report"}  # the rooms whose scripts these are
_ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#00598c"/>'
    b'<path d="M2 9c2-6 4-6 6-1s4 5 6-1" fill="none" stroke="#fff" stroke-width="1.8"/></svg>'
)
_ROOM = "scifm.applications.playground"
_COLOR_MAPS = ("cividis", "viridis", "RdBu_r")  # forcing; prediction and reference; error: as on the report's pages
_MOST_PARAMETERS = 32
_BINARY = "application/octet-stream"
_SECONDS_TO_FINISH = 3
_ANY = ("0.0.0.0", "::")  # all addresses of this machine

HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Sent with every response."""


def _require_extra() -> None:
    """Raise a `ConfigError` that says how to install the packages of the extra if they are not here."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"The playground needs '{error.name}': pip install 'scifm[play]'.") from error


def create_application(playground: Playground, *, host_names: Sequence[str] = ("127.0.0.1", "localhost")) -> Any:
    """Return the ASGI application of one run.

    Args:
        playground: the run.
        host_names: what the Host header may say. Anything else is refused, so that a foreign page cannot reach this
            one by letting its own name point here.

    Returns:
        A `fastapi.FastAPI`.

    Raises:
        ConfigError: if FastAPI is not installed.
    """
    _require_extra()
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import BaseRoute, Route

    service = _Service(playground)
    page, parts = _PAGES[playground.marches]
    files = {"/": (_html(page), "text/html; charset=utf-8"), "/icon.svg": (_ICON, "image/svg+xml")}
    files |= {"/playground.css": (_text("playground.css"), "text/css; charset=utf-8"), "/colors": (_colors(), _BINARY)}
    files |= {
        f"/{name}.js": (_text(f"{name}.js", _ELSEWHERE.get(name, _ROOM)), "text/javascript") for name in (page, *parts)
    }
    routes: list[BaseRoute] = [Route(path, _fixed(*content)) for path, content in files.items()]
    routes += [Route("/run", service.run)]
    if playground.marches:
        routes += [Route("/state", service.state), Route("/march", service.march, methods=["POST"])]
    else:
        routes += [Route("/forcing", service.forcing), Route("/answer", service.answer, methods=["POST"])]
    return FastAPI(
        title="SciFM playground",
        routes=routes,
        openapi_url=None,  # its pages would be fetched from elsewhere
        middleware=[
            Middleware(_with_headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(host_names), www_redirect=False),
        ],
        exception_handlers={SciFMError: _refuse, HTTPException: _refuse_http, Exception: _fail},
    )


class _Service:
    """Answers one request at a time, in one thread: times mean something, and torch keeps one team of threads."""

    def __init__(self, playground: Playground) -> None:
        self.playground = playground
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="playground")

    async def run(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse(self.playground.to_dict())

    async def forcing(self, request: Any) -> Any:
        given = _parameters(request, ("system", "num_points", "seed"))
        played = self.playground.system(given["system"])
        assert isinstance(played, PlayedSystem), "the route is of steady systems"
        grid = self.playground.grid(given["num_points"])
        seed = _seed(given["seed"])
        return await self._bytes(lambda: field_to_bytes(played.draw_forcing(grid, seed)))

    async def answer(self, request: Any) -> Any:
        given = _parameters(request, ("system", "num_points"), more=True)
        played = self.playground.system(given.pop("system"))
        assert isinstance(played, PlayedSystem), "the route is of steady systems"
        grid = self.playground.grid(given.pop("num_points"))
        values = played.values(given)
        content = await _fields_sent(request, grid, 1, "forcing")

        def work() -> bytes:
            return played.answer(self.playground.operator, field_from_bytes(content, grid), values, grid).to_bytes()

        return await self._bytes(work)

    async def state(self, request: Any) -> Any:
        played, grid, given = self._evolution(request, "seed")
        seed = _seed(given.pop("seed"))
        values = played.values(given)
        return await self._bytes(lambda: field_to_bytes(played.draw_state(grid, seed, values)))

    async def march(self, request: Any) -> Any:
        played, grid, given = self._evolution(request, "steps")
        steps = _count(given.pop("steps"), "The number of steps")
        values, count = played.values(given), len(played.system.signature.inputs)
        content = await _fields_sent(request, grid, count, "state")

        def work() -> bytes:
            state = fields_from_bytes(content, grid, count, "state")
            return played.march(self.playground.operator, state, values, grid, steps).to_bytes()

        return await self._bytes(work)

    def _evolution(self, request: Any, name: str) -> tuple[PlayedEvolution, Grid, dict[str, str]]:
        """Return system, grid and the rest of the query, in which `name` stands."""
        given = _parameters(request, ("system", "num_points", name), more=True)
        played = self.playground.system(given.pop("system"))
        assert isinstance(played, PlayedEvolution), "the route is of systems that evolve"
        return played, self.playground.grid(given.pop("num_points")), given

    async def _bytes(self, work: Callable[[], bytes]) -> Any:
        from starlette.responses import Response

        made = await asyncio.get_running_loop().run_in_executor(self._worker, work)
        return Response(made, media_type=_BINARY)


def _with_headers(app: Any) -> Any:
    """Return an application that sends `HEADERS` with every response, refusals included."""
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await app(scope, receive, with_headers)

    return guarded


def _parameters(request: Any, names: Sequence[str], *, more: bool = False) -> dict[str, str]:
    """Return the query as text by name: these names, each once, and others only where `more` is allowed."""
    pairs = request.query_params.multi_items()
    given = dict(pairs)
    if len(pairs) > _MOST_PARAMETERS or len(given) != len(pairs):
        raise ConfigError("Each parameter may be given once.")
    missing = [name for name in names if name not in given]
    unknown = [] if more else [name for name in given if name not in names]
    if missing or unknown:
        raise ConfigError(f"The parameters needed are {', '.join(names)}.")
    return given


def _seed(text: str) -> int:
    return _count(text, "A seed")


def _count(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):  # what a browser's numbers hold exactly
        raise ConfigError(f"{what} is a whole number of at most 15 digits; got '{text[:40]}'.")
    return int(text)


async def _fields_sent(request: Any, grid: Grid, num_fields: int, what: str) -> bytes:
    """Return the body if it says to be exactly as long as so many fields; nothing longer is ever held."""
    expected = 4 * num_fields * math.prod(grid.num_points)
    if request.headers.get("content-type") != _BINARY:  # also what a foreign page cannot send without asking first
        raise DataError(f"A {what} is sent as {_BINARY}.")
    if request.headers.get("content-length") != str(expected):
        raise DataError(f"A {what} on {grid.num_points} points is sent as {expected} bytes of float32.")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > expected:
            raise DataError(f"A {what} on {grid.num_points} points has {expected} bytes; more were sent.")
    return bytes(content)


def _text(name: str, room: str = _ROOM) -> bytes:
    return (importlib.resources.files(room) / name).read_bytes()


def _html(page: str) -> bytes:
    """Return a page from its template, which says what it has besides or instead of ``page.html``."""
    import jinja2

    loader = jinja2.FunctionLoader(lambda name: _text(name).decode())
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True, loader=loader
    )
    return environment.get_template(f"{page}.html").render().encode()


def _fixed(content: bytes, media_type: str) -> Callable[[Any], Awaitable[Any]]:
    async def respond(request: Any) -> Any:
        from starlette.responses import Response

        return Response(content, media_type=media_type)

    return respond


def _colors() -> bytes:
    """Return the color maps one after the other, 256 colors each of red, green, blue."""
    import numpy as np
    from matplotlib import colormaps

    places = np.linspace(0, 1, 256)
    return b"".join(colormaps[name](places, bytes=True)[:, :3].tobytes() for name in _COLOR_MAPS)


def _error(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Any:
    from starlette.responses import Response

    content = json.dumps({"error": sentence}).encode()
    return Response(content, status, headers, media_type="application/json")


async def _refuse(request: Any, error: SciFMError) -> Any:
    return _error(" ".join(str(error).split()), 400)


async def _refuse_http(request: Any, error: Any) -> Any:
    return _error(f"{error.detail}: {request.method} {request.url.path[:80]}", error.status_code, error.headers)


async def _fail(request: Any, error: Exception) -> Any:
    # Answered outside of all middleware, hence the headers.
    return _error(f"The server failed ({type(error).__name__}); its terminal shows where.", 500, HEADERS)


# --- the server -------------------------------------------------------------------------------------------------------


def serve(
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8017,
    system: System | None = None,
    grid: Grid | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve the playground of a run or a model until Ctrl-C.

    Args:
        path: folder of a finished run or of a model, or ``hf:name/model``.
        host: address to listen on.
        port: where; 0 takes a free one.
        system: to ask about, instead of what the run was trained on.
        grid: of its problems; see `Playground.open`.
        announce: called with the page's address once it can be opened.

    Raises:
        ConfigError: if the extra is not installed, or the address cannot be listened on.
        RunError: if the run cannot be played with.
    """
    _require_extra()
    import uvicorn

    with listen(host, port) as listener:
        application = create_application(Playground.open(path, system=system, grid=grid), host_names=host_names(host))
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
        if announce is not None:
            announce(_address(listener))
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return  # the usual way to end


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this address.

    Raises:
        ConfigError: if the port is taken or the address is not one of this machine.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"A port is a number from 0 to 65535, 0 for any free one; got {port}.")
    if not host:
        raise ConfigError("A host is the name or number of an address, for example 127.0.0.1; got nothing.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on port {port} of '{host}': {error.strerror or error}. Give another --port, or --port 0 "
            "for any free one; --host is 127.0.0.1 unless others are to see the page."
        ) from error
    # Connections inherit it. asyncio would set it only on sockets that name their protocol; without it answers wait for
    # the other side's delayed acknowledgement: 50 ms instead of 10.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_names(host: str) -> tuple[str, ...]:
    """Return the names the page may be asked for by: loopback, `host`, and for "any address" this machine's."""
    names = ["127.0.0.1", "localhost", host]
    if host in _ANY:
        import psutil

        names += [socket.gethostname(), socket.getfqdn()]
        names += [entry.address.partition("%")[0] for own in psutil.net_if_addrs().values() for entry in own]
    names += [f"[{name}]" for name in names if ":" in name]
    return tuple(dict.fromkeys(name.lower() for name in names))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = socket.gethostname() if host in _ANY else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
