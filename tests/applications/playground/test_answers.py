from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

import tiny
from scifm.applications.playground.problems import Answer, field_from_bytes, field_to_bytes
from scifm.errors import DataError
from scifm.evaluation.pointwise import max_error, relative_l2
from scifm.fields.grid import Grid

GRID = Grid.square(32)


@pytest.mark.parametrize("name", tiny.STEADY)
def test_an_answer_is_that_of_the_python_interface(name, playgrounds):
    playground = playgrounds[name]
    played = playground.systems[0]
    values = {dial.name: dial.high if dial.unit != "rad" else 1.0 for dial in played.dials}
    forcing = played.draw_forcing(GRID, 3)
    made = played.answer(playground.operator, forcing, values, GRID)
    batch, _ = played.pose(forcing, values, GRID)
    prediction, reference = playground.operator.predict(batch).targets, played.system.solve(batch).targets
    assert torch.equal(made.prediction, prediction[0, 0, 0])
    assert torch.equal(made.reference, reference[0, 0, 0])
    assert made.relative_l2 == float(relative_l2(prediction, reference))
    assert made.max_error == float(max_error(prediction, reference))
    assert made.reference.dtype == torch.float64
    assert made.network_seconds > 0
    assert made.solver_seconds > 0
    assert made.trained == {dial.name: dial.unit == "rad" for dial in played.dials}


def test_what_was_done_to_the_forcing_is_told(playgrounds):
    playground = playgrounds["poisson"]
    played = playground.systems[0]
    forcing = played.draw_forcing(GRID, 3)
    values = {"anisotropy": 2.0, "angle": 0.5}
    plain, raised = (played.answer(playground.operator, forcing + level, values, GRID) for level in (0, 0.125))
    assert plain.notes == ()
    assert "the mean, 0.125, was taken away" in raised.notes[0]
    assert raised.relative_l2 == pytest.approx(plain.relative_l2, rel=1e-4)


def test_a_problem_the_sampler_would_reject_is_told(playgrounds):
    playground = playgrounds["helmholtz"]
    played = playground.systems[0]
    forcing = 50 * played.draw_forcing(GRID, 3)
    made = played.answer(playground.operator, forcing, {"wavenumber_shift": 2.0}, GRID)
    assert "throws a problem like this one away" in made.notes[0]
    assert f"{float(made.reference.abs().max()):.3g}" in made.notes[0]


def test_the_form_on_the_wire():
    fields = torch.arange(6.0, dtype=torch.float64).view(2, 3), -torch.ones(2, 3, dtype=torch.float64)
    made = Answer(*fields, float("inf"), 0.5, 0.001, 0.002, 0.0, {"é": True}, ("ω",))
    content = made.to_bytes()
    (length,) = struct.unpack("<I", content[:4])
    assert length % 4 == 0
    told = json.loads(content[4 : 4 + length])
    assert told["relative_l2"] is None
    assert (told["max_error"], told["network_ms"], told["solver_ms"]) == (0.5, 1.0, 2.0)
    assert (told["trained"], told["notes"]) == ({"é": True}, ["ω"])
    arrays = np.frombuffer(content[4 + length :], dtype="<f4").reshape(2, 2, 3)
    assert np.array_equal(arrays, torch.stack(fields).numpy())


def test_a_field_goes_there_and_back():
    field = torch.randn(32, 32)
    assert torch.equal(field_from_bytes(field_to_bytes(field), GRID), field)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1.1e6])
def test_a_field_that_is_none(bad):
    field = torch.zeros(32, 32)
    field[3, 4] = bad
    with pytest.raises(DataError, match="finite"):
        field_from_bytes(field_to_bytes(field), GRID)


@pytest.mark.parametrize("length", [0, 4, 4 * 32 * 32 - 1, 4 * 32 * 32 + 4])
def test_a_field_of_another_length(length):
    with pytest.raises(DataError, match="4096 bytes"):
        field_from_bytes(b"\0" * length, GRID)
