from __future__ import annotations

import http.client
import socket

import pytest

from scifm.applications.playground.serving import host_names, is_loopback, listen
from scifm.errors import ConfigError


def test_loopback_is_known():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "localhost", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.0.1", "example.org", ""]))


def test_a_free_port_is_found_and_answers_at_once():
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.getsockname()[1] > 0
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_told():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Cannot listen on port {port} of '127.0.0.1'.*--port 0"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", -1), ("127.0.0.1", 65536), ("", 0), ("203.0.113.7", 0)])
def test_an_address_that_is_none(host, port):
    with pytest.raises(ConfigError):
        listen(host, port)


def test_the_page_has_the_names_of_its_addresses_and_no_others():
    assert host_names("127.0.0.1") == ("127.0.0.1", "localhost")
    assert "192.168.0.5" in host_names("192.168.0.5")
    assert "[::1]" in host_names("::1")
    everywhere = host_names("0.0.0.0")
    assert {"127.0.0.1", "localhost", socket.gethostname().lower()} <= set(everywhere)
    assert not [name for name in everywhere if "*" in name]


@pytest.fixture
def played(start_playing):
    return start_playing("poisson")


def test_a_real_server_answers_and_ctrl_c_ends_it_quietly(played):
    process, address = played
    assert address.startswith("http://127.0.0.1:")
    port = int(address.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/run")
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("server") is None
    response.read()
    connection.request("GET", "/run", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 400
    connection.close()
    import signal

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert (out, err) == ("", "")
