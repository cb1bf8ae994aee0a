from __future__ import annotations

import json
import re
import struct
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from asgi import call
from scifm.applications.playground.problems import PlayedSystem, field_to_bytes
from scifm.applications.playground.serving import HEADERS, create_application
from scifm.errors import ConfigError
from scifm.evaluation.pointwise import relative_l2
from scifm.fields.grid import Grid

GRID = Grid.square(32)
PLACE = "/answer?system=0&num_points=32"
ASKED = PLACE + "&anisotropy=3&angle=1"
BINARY = "application/octet-stream"


def posted(request_to, target: str, body: bytes, **headers: str):
    named = {"content_type": BINARY, "content_length": str(len(body)), **headers}
    return request_to("POST", target, body, **{name: value for name, value in named.items() if value})


@pytest.fixture
def forcing(playgrounds) -> torch.Tensor:
    return playgrounds["poisson"].systems[0].draw_forcing(GRID, 4)


@pytest.fixture
def body(forcing) -> bytes:
    return field_to_bytes(forcing)


def test_an_answer_comes_back(request_to, playgrounds, forcing, body):
    response = posted(request_to, ASKED, body)
    assert response.status == 200
    assert response.headers["content-type"] == BINARY
    (length,) = struct.unpack("<I", response.content[:4])
    told = json.loads(response.content[4 : 4 + length])
    prediction, reference = np.frombuffer(response.content[4 + length :], "<f4").reshape(2, 32, 32)
    playground = playgrounds["poisson"]
    batch, _ = playground.systems[0].pose(forcing, {"anisotropy": 3.0, "angle": 1.0}, GRID)
    answer, solved = playground.operator.predict(batch).targets, playground.systems[0].system.solve(batch).targets
    assert np.array_equal(prediction, answer[0, 0, 0].float().numpy())
    assert np.array_equal(reference, solved[0, 0, 0].float().numpy())
    assert told["relative_l2"] == float(relative_l2(answer, solved))
    assert told["trained"] == {"anisotropy": True, "angle": True}


def test_a_forcing_comes_back(request_to, forcing):
    response = request_to("GET", "/forcing?system=0&num_points=32&seed=4")
    assert response.status == 200
    assert response.content == field_to_bytes(forcing)


def test_the_run_is_described(request_to):
    entries = json.loads(request_to("GET", "/run", of="helmholtz").content)
    assert entries["systems"][0]["knobs"][0]["integer"] is True
    assert "sign = code" in entries["systems"][0]["options"]
    assert entries["name"].startswith("helmholtz-")


def test_the_colors_are_those_of_the_reports(request_to):
    from matplotlib import colormaps

    maps = np.frombuffer(request_to("GET", "/colors").content, np.uint8).reshape(3, 256, 3)
    for made, name in zip(maps, ("cividis", "viridis", "RdBu_r"), strict=True):
        assert np.abs(made[[0, 128, 255]] / 255 - [colormaps[name](i)[:3] for i in (0, 128, 255)]).max() < 0.01


class Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.identifiers: list[str] = []
        self.labelled: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        entries = dict(attrs)
        self.attributes |= set(entries)
        self.found += [entries[name] for name in ("src", "href") if name in entries]
        self.identifiers += [entries["id"]] if "id" in entries else []
        self.labelled += [entries["for"]] if tag == "label" and "for" in entries else []

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_nothing_inline(request_to):
    response = request_to("GET", "/")
    assert response.headers["content-type"].startswith("text/html")
    page = Addresses()
    page.feed(response.content.decode())
    assert page.scripts == []
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    assert len(set(page.identifiers)) == len(page.identifiers)
    assert set(page.labelled) <= set(page.identifiers)
    assert all(re.fullmatch(r"/[\w.]+", address) for address in page.found)
    texts = [request_to("GET", address) for address in page.found]
    assert [text.status for text in texts] == [200] * len(texts)
    for name in ("steady", "asking", "dials", "page", "painting", "pictures", "posing"):
        script = request_to("GET", f"/{name}.js")
        assert script.headers["content-type"].startswith("text/javascript")
        texts.append(script)
    for text in texts:
        urls = re.findall(rb"(?:https?:)?//[\w.]+\.\w+|url\(|@import", text.content)
        assert [url for url in urls if url != b"http://www.w3.org"] == []


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/"), ("GET", "/run"), ("GET", "/forcing"), ("GET", "/nothing"), ("PUT", "/run")]
)
def test_every_response_is_guarded(request_to, method, target):
    response = request_to(method, target)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert "'self'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8017", "127.0.0.1.evil.example", "", "192.168.0.1"])
def test_a_foreign_host_name_is_refused(request_to, host):
    response = request_to("GET", "/run", host=host)
    assert response.status == 400
    assert b"poisson" not in response.content


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1"])
def test_the_names_of_this_machine_are_not(request_to, host):
    assert request_to("GET", "/run", host=host).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "/steady.html", "/page.html", "/application.py", "/docs",
        "/openapi.json", "/redoc", "/static/x", "//etc/passwd", "/run/",
    ],
)  # fmt: skip
def test_nothing_else_is_served(request_to, target):
    response = request_to("GET", target)
    assert response.status in (404, 307)
    assert b"import" not in response.content


def test_a_wrong_method_and_a_wrong_place_are_json(request_to):
    assert "Method Not Allowed" in request_to("GET", "/answer").error
    assert "Not Found" in request_to("GET", "/nothing").error


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/answer", "parameters needed are system, num_points"),
        (PLACE, "missing for anisotropy, angle"),
        (ASKED + "&angle=1", "given once"),
        (ASKED + "&store=/etc/passwd", "'store' is unknown"),
        (PLACE + "&anisotropy=nan&angle=1", "anisotropy must be a number"),
        (PLACE + "&anisotropy=1e9&angle=1", "from 1 to 10"),
        (PLACE + "&anisotropy=&angle=1", "anisotropy must be a number"),
        (ASKED.replace("system=0", "system=7"), "System '7'"),
        (ASKED.replace("32", "1000000"), "Resolution '1000000'"),
        (ASKED + "".join(f"&p{i}=1" for i in range(40)), "given once"),
    ],
)
def test_what_is_not_a_question_is_refused(request_to, body, target, says):
    response = posted(request_to, target, body)
    assert response.status == 400
    assert says in response.error


def test_whole_knobs_take_whole_numbers(request_to, body):
    response = posted(request_to, PLACE + "&wavenumber_shift=2.5", body, of="helmholtz")
    assert response.status == 400
    assert "whole" in response.error


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", "", "1" * 16, "٣"])
def test_what_is_no_seed(request_to, seed):
    from urllib.parse import quote

    response = request_to("GET", f"/forcing?system=0&num_points=32&seed={quote(seed)}")
    assert response.status == 400
    assert "seed is a whole number" in response.error


def test_a_forcing_of_another_size_is_refused_before_it_is_read(request_to, body):
    for wrong in (body[:-4], body + b"\0" * 4, b""):
        assert "4096 bytes" in posted(request_to, ASKED, wrong).error
    assert "4096 bytes" in posted(request_to, ASKED, body, content_length="1000000000").error
    assert "4096 bytes" in posted(request_to, ASKED, body, content_length="").error
    assert "more were sent" in posted(request_to, ASKED, body * 2, content_length=str(len(body))).error
    assert "4096 bytes" in posted(request_to, ASKED, body[:-4], content_length=str(len(body))).error


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_page_can_send_unasked_is_refused(request_to, body, kind):
    assert f"sent as {BINARY}" in posted(request_to, ASKED, body, content_type=kind).error


def test_numbers_that_are_none_and_nothing_to_solve(request_to):
    bad = torch.zeros(32, 32)
    assert "zero everywhere" in posted(request_to, ASKED, field_to_bytes(bad)).error
    bad[0, 0] = float("nan")
    assert "finite" in posted(request_to, ASKED, field_to_bytes(bad)).error


def test_a_defect_is_a_sentence_for_the_page_and_a_traceback_for_the_terminal(playgrounds, monkeypatch, body):
    def break_down(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(PlayedSystem, "answer", break_down)
    broken, raised = create_application(playgrounds["poisson"]), []

    async def observed(scope: dict, receive: object, send: object) -> None:
        try:
            await broken(scope, receive, send)
        except RuntimeError as error:
            raised.append(str(error))

    response = call(observed, "POST", ASKED, body, content_type=BINARY, content_length=str(len(body)))
    assert response.status == 500
    assert "RuntimeError" in response.error
    assert "secret" not in response.error
    assert raised == ["secret"]
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_without_the_extra_it_says_which(playgrounds, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ConfigError, match=r"'fastapi': pip install 'scifm\[play\]'"):
        create_application(playgrounds["poisson"])
