"""Marches: what the page is told is what Python says, and one request costs no more than it may."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from scifm.applications.playground import marching
from scifm.applications.playground.marching import March, PlayedEvolution
from scifm.applications.playground.problems import field_to_bytes
from scifm.applications.playground.trained import Playground
from scifm.errors import ConfigError, DataError, RunError
from scifm.evaluation.pointwise import relative_l2
from scifm.fields.grid import Grid
from scifm.systems.burgers import Burgers
from scifm.systems.heat import Heat

BINARY = "application/octet-stream"


def case(playgrounds, name):
    playground = playgrounds[name]
    played = playground.systems[0]
    grid = playground.grids[playground.trained_points]
    values = {dial.name: dial.start for dial in played.dials}
    return playground, played, grid, values


def test_an_evolving_run_is_told_with_what_a_march_may_cost(playgrounds):
    flow = playgrounds["navier_stokes"]
    assert flow.marches
    assert not playgrounds["poisson"].marches
    assert flow.told.startswith(
        "Trained on samples of Navier–Stokes, viscosity 0.0005 to 0.005, force 0.1 to 0.2; 16 ×"
    )
    assert list(flow.grids) == [16, 32, 64, 128]
    assert list(playgrounds["burgers"].grids) == [64, 128, 256, 512]
    (entry,) = json.loads(json.dumps(flow.to_dict()))["systems"]
    assert (entry["inputs"], entry["outputs"], entry["interval"]) == (["vorticity", "forcing"], ["vorticity"], 0.25)
    assert entry["most_steps"] == {"16": 60, "32": 60, "64": 60, "128": 60}
    assert flow.systems[0].most_steps(Grid.square(512)) == 7


def test_network_and_solver_march_as_they_do_from_python(playgrounds):
    playground, played, grid, values = case(playgrounds, "navier_stokes")
    state = played.draw_state(grid, 3, values)
    made = played.march(playground.operator, state, values, grid, 4)
    fixed = replace(played.system.where(**values), num_frames=5)
    batch = played.pose(state, values, grid, 4)
    assert batch.coefficient("viscosity").tolist() == pytest.approx([values["viscosity"]])
    solved = fixed.solve(batch)
    torch.testing.assert_close(made.reference, solved.require_targets()[0], rtol=1e-10, atol=1e-12)
    answered = list(playground.operator.march(batch.to(dtype=torch.float32), 4))
    torch.testing.assert_close(made.prediction.float(), torch.cat(answered, dim=1)[0].detach(), rtol=1e-4, atol=1e-5)
    errors = relative_l2(made.prediction[None].double(), made.reference[None], grid)
    assert made.errors == pytest.approx(errors[0, :, 0].tolist())
    still = relative_l2(batch.inputs[:, :, :1].expand_as(solved.require_targets()), solved.require_targets(), grid)
    assert made.still == pytest.approx(still[0, :, 0].tolist())
    assert made.times == pytest.approx((0.25, 0.5, 0.75, 1.0))
    assert made.trained == {"viscosity": True, "force": True}
    assert made.notes == ()


def test_a_drawn_state_is_that_of_the_sampler(playgrounds):
    _, played, grid, values = case(playgrounds, "burgers")
    one, same, other = (played.draw_state(grid, seed, values) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (1, 64)


def test_an_operator_of_two_frames_begins_with_what_the_solver_makes_of_the_first(playgrounds):
    playground, played, grid, values = case(playgrounds, "burgers")
    assert playground.operator.history == 2
    state = played.draw_state(grid, 0, values)
    made = played.march(playground.operator, state, values, grid, 3)
    longer = replace(played.system.where(**values), num_frames=5).solve(played.pose(state, values, grid, 4))
    torch.testing.assert_close(made.reference, longer.require_targets()[0, 1:], rtol=1e-10, atol=1e-12)
    assert "takes 2 frames: the state you see and what the solver makes of it" in made.notes[0]
    second, third = longer.require_targets()[0, :2]
    assert made.still[0] == pytest.approx(float((second - third).norm() / third.norm()))  # not the first frame


def test_a_state_that_is_the_same_everywhere_is_refused(playgrounds):
    playground, played, grid, values = case(playgrounds, "navier_stokes")
    with pytest.raises(DataError, match="same everywhere: paint something"):
        played.march(playground.operator, torch.full((2, 16, 16), 0.5), values, grid, 3)


@pytest.mark.parametrize("steps", [0, 61, 10**9])
def test_more_steps_than_allowed_are_refused(playgrounds, steps):
    playground, played, grid, values = case(playgrounds, "navier_stokes")
    with pytest.raises(ConfigError, match="A march here has 1 to 60 steps"):
        played.march(playground.operator, played.draw_state(grid, 0, values), values, grid, steps)


def test_a_slow_solver_is_stopped_and_the_network_goes_on(playgrounds, monkeypatch):
    playground, played, grid, values = case(playgrounds, "navier_stokes")
    monkeypatch.setattr(marching, "SOLVER_SECONDS", 0.0)
    made = played.march(playground.operator, played.draw_state(grid, 0, values), values, grid, 4)
    assert made.notes == ("The solver was stopped after 0 seconds, at step 1.",)
    assert bool(made.reference[0].isfinite().all())
    assert bool(made.reference[1:].isnan().all())
    assert bool(made.prediction.isfinite().all())
    assert [math.isfinite(error) for error in made.errors] == [True, False, False, False]


def test_a_solver_that_fails_leaves_the_network_alone_on_the_page(playgrounds, monkeypatch):
    playground, played, grid, values = case(playgrounds, "navier_stokes")
    state = played.draw_state(grid, 0, values)

    def fail(*_, **__):
        raise DataError("Its step is too long.")

    monkeypatch.setattr(type(played.system), "advance", fail)
    made = played.march(playground.operator, state, values, grid, 3)
    assert made.notes == ("The reference ends at step 0. Its step is too long.",)
    assert bool(made.reference.isnan().all())
    assert bool(made.prediction.isfinite().all())
    playground, played, grid, values = case(playgrounds, "burgers")
    monkeypatch.setattr(type(played.system), "advance", fail)
    with pytest.raises(DataError, match="takes 2 frames, and the solver fails on the way"):
        played.march(playground.operator, torch.rand(1, 64), values, grid, 3)


def test_a_prediction_that_leaves_every_bound_is_told(playgrounds, monkeypatch):
    playground, played, grid, values = case(playgrounds, "navier_stokes")
    state = played.draw_state(grid, 0, values)
    march = playground.operator.march
    monkeypatch.setattr(playground.operator, "march", lambda *args, **more: (1e3 * a for a in march(*args, **more)))
    made = played.march(playground.operator, state, values, grid, 3)
    assert "The prediction left every bound at step 1" in made.notes[0]
    assert made.prediction.shape == (3, 1, 16, 16)
    assert bool(made.prediction.isnan().all())


def test_what_cannot_be_shown_is_told(playgrounds):
    operator = playgrounds["burgers"].operator
    with pytest.raises(RunError, match="'heat' does in 3"):
        PlayedEvolution.of(Heat(num_spatial_dims=3), operator)
    assert PlayedEvolution.of(Burgers(save_interval=0.5), operator).interval == operator.domain.lead_times[0]


def test_the_form_on_the_wire():
    fields = torch.arange(6.0, dtype=torch.float64).view(2, 1, 3), -torch.ones(2, 1, 3, dtype=torch.float64)
    made = March(*fields, (0.5, 1.0), (0.25, math.nan), (math.inf, 1.0), 0.001, 0.002, {"é": True}, ("ω",))
    content = made.to_bytes()
    (length,) = struct.unpack("<I", content[:4])
    assert length % 4 == 0
    told = json.loads(content[4 : 4 + length])
    assert (told["times"], told["errors"], told["still"]) == ([0.5, 1.0], [0.25, None], [None, 1.0])
    assert (told["network_ms"], told["trained"], told["notes"]) == (1.0, {"é": True}, ["ω"])
    arrays = np.frombuffer(content[4 + length :], dtype="<f4").reshape(2, 2, 1, 3)
    assert np.array_equal(arrays, torch.stack(fields).numpy())


# --- by requests ------------------------------------------------------------------------------------------------------


PLACE = "/march?system=0&num_points=16&steps=3&viscosity=0.001&force=0.1"


def test_a_march_comes_back(request_to, playgrounds):
    playground, played, grid, _ = case(playgrounds, "navier_stokes")
    asked = "system=0&num_points=16&seed=4&viscosity=0.001&force=0.1"
    drawn = request_to("GET", f"/state?{asked}", of="navier_stokes")
    values = {"viscosity": 0.001, "force": 0.1}
    state = played.draw_state(grid, 4, values)
    assert (drawn.status, drawn.content) == (200, field_to_bytes(state))
    headers = {"content_type": BINARY, "content_length": str(len(drawn.content))}
    response = request_to("POST", PLACE, drawn.content, of="navier_stokes", **headers)
    assert response.status == 200
    (length,) = struct.unpack("<I", response.content[:4])
    prediction, reference = np.frombuffer(response.content[4 + length :], "<f4").reshape(2, 3, 1, 16, 16)
    made = played.march(playground.operator, state, values, grid, 3)
    assert np.array_equal(prediction, made.prediction.float().numpy())
    assert np.array_equal(reference, made.reference.float().numpy())


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (PLACE.replace("steps=3", "steps=61"), "1 to 60 steps"),
        (PLACE.replace("steps=3", "steps=-1"), "The number of steps is a whole number"),
        (PLACE.replace("&steps=3", ""), "parameters needed are system, num_points, steps"),
        (PLACE.replace("&force=0.1", ""), "missing for force"),
        (PLACE.replace("force=0.1", "force=9"), "force must be a number from 0.05 to 0.4"),
        (PLACE.replace("num_points=16", "num_points=48"), "Resolution '48'"),
        (PLACE + "&store=/etc/passwd", "'store' is unknown"),
    ],
)
def test_what_cannot_be_asked(request_to, target, says):
    body = bytes(4 * 2 * 16 * 16)
    response = request_to("POST", target, body, of="navier_stokes", content_type=BINARY, content_length=str(len(body)))
    assert response.status == 400
    assert says in response.error


def test_a_state_of_another_size_is_refused(request_to):
    headers = {"content_type": BINARY, "content_length": "8"}
    assert "A state on (16, 16) points" in request_to("POST", PLACE, bytes(8), of="navier_stokes", **headers).error


def test_each_kind_of_page_has_its_own_files_and_no_others(request_to):
    for of, own, other in (
        ("navier_stokes", ("/march.js", "/lines.js", "/player.js"), ("/steady.js", "/forcing", "/answer")),
        ("poisson", ("/steady.js",), ("/march.js", "/player.js", "/state", "/march")),
    ):
        assert [request_to("GET", address, of=of).status for address in own] == [200] * len(own)
        assert [request_to("GET", address, of=of).status for address in other] == [404] * len(other)
        page = request_to("GET", "/", of=of).content.decode()
        identifiers = re.findall(r'id="([\w-]+)"', page)
        assert len(set(identifiers)) == len(identifiers)
        scripts, waiting = {}, [own[0]]
        while waiting:  # what it imports, and what that does
            address = waiting.pop()
            response = request_to("GET", address, of=of)
            assert response.status == 200, address
            scripts[address] = response.content.decode()
            waiting += {*re.findall(r'from "\.(/\w+\.js)"', scripts[address])} - scripts.keys()
        assert {"/page.js", "/posing.js", "/pictures.js"} < scripts.keys()
        asked = {name for script in scripts.values() for name in re.findall(r'(?:by|remark)\("([\w-]+)"', script)}
        assert len(asked) > 20
        assert asked <= set(identifiers)


def test_a_playground_asked_about_another_system(runs):
    playground = Playground.open(runs["burgers"], system=Burgers(), grid=Grid.square(64, num_spatial_dims=1))
    assert playground.told.startswith("Asked about samples of Burgers")
    assert playground.marches
