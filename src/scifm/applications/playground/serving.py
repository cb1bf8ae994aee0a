"""Serving the playground: an address that is checked first, loopback unless asked otherwise, quiet at the end."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

from scifm.applications.playground.application import create_application, require_extra
from scifm.applications.playground.trained import Playground
from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.systems.system import System

__all__ = ["host_names", "is_loopback", "listen", "serve"]

_SECONDS_TO_FINISH = 3
_ANY = ("0.0.0.0", "::")  # all addresses of this machine


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
    require_extra()
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
    """Return the names under which the page may be asked for: loopback, `host`, and for "any address" this machine's.

    Args:
        host: address to listen on.
    """
    names = ["127.0.0.1", "localhost", host]
    if host in _ANY:
        import psutil

        names += [socket.gethostname(), socket.getfqdn()]
        names += [entry.address.partition("%")[0] for found in psutil.net_if_addrs().values() for entry in found]
    names += [f"[{name}]" for name in names if ":" in name]
    return tuple(dict.fromkeys(name.lower() for name in names))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = socket.gethostname() if host in _ANY else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
