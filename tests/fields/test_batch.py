from __future__ import annotations

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.operator import Operator, OperatorConfig


@pytest.mark.parametrize("dims", [0, 4, 2_000_000, -1])
def test_space_has_one_to_three_dimensions(dims):
    with pytest.raises(SignatureError, match=f"must be 1, 2 or 3; got {dims}"):
        Signature(("f",), (), ("u",), num_spatial_dims=dims)


@pytest.mark.parametrize(
    "names",
    [
        {"inputs": ("f", "f"), "coefficients": (), "outputs": ("u",)},
        {"inputs": ("f",), "coefficients": ("f",), "outputs": ("u",)},
        {"inputs": ("u",), "coefficients": (), "outputs": ("u",)},
    ],
)
def test_names_differ_except_for_the_state_of_what_evolves(names):
    with pytest.raises(SignatureError, match="must differ from each other"):
        Signature(**names)
    state = Signature(("u", "f"), ("k",), ("u",), evolves=True)
    assert (state.state, state.fields) == (("u",), ("u", "f"))


def test_something_is_given_and_an_operator_answers_something():
    with pytest.raises(SignatureError, match="at least one input field"):
        Signature((), (), ("u",))
    alone = Signature(("f",), (), ())  # inputs whose solutions nobody knows
    batch = Batch(alone, Grid((4, 4)), torch.zeros(2, 1, 1, 4, 4), torch.zeros(2, 0))
    assert batch.with_targets(torch.zeros(2, 1, 0, 4, 4)).num_frames == 1
    with pytest.raises(SignatureError, match="at least one output field"):
        Operator(alone, OperatorConfig())


@pytest.mark.parametrize(
    ("evolves", "given", "told"),
    [
        (True, [0.5, 0.5], r"shape \(2, 1\), a time for each sample and target frame; got \(2,\)"),
        (True, [[0.5, 1.0], [0.5, 1.0]], r"shape \(2, 1\), a time for each sample and target frame; got \(2, 2\)"),
        (True, [[0.5], [0.0]], r"later for each frame than for the one before; got \[0\.0\]"),
        (True, [[float("nan")], [0.5]], r"positive and finite.*got \[nan\]"),
        (True, [[0.5], [float("inf")]], r"positive and finite.*got \[inf\]"),
        (False, [[0.5], [0.5]], "steady problem has no lead_time"),
    ],
)
def test_lead_times_are_checked_at_birth(evolves, given, told):
    signature = Signature(("u",), (), ("u",) if evolves else ("v",), evolves=evolves)
    fields = torch.zeros(2, 1, 1, 4, 4)
    parts = (signature, Grid.square(4), fields, torch.zeros(2, 0), fields)
    with pytest.raises(SignatureError, match=told):
        Batch(*parts, lead_time=torch.tensor(given))
    assert Batch(*parts).lead_times is None


def test_lead_times_are_told_from_the_shortest_to_the_longest():
    signature, fields = Signature(("u",), (), ("u",), evolves=True), torch.zeros(3, 1, 1, 4, 4)
    times = torch.tensor([[0.5], [0.25], [1.0]])
    batch = Batch(signature, Grid.square(4), fields, torch.zeros(3, 0), lead_time=times)
    assert (batch.num_frames, batch.lead_times) == (1, (0.25, 1.0))
    assert batch.select(slice(0, 0)).lead_times is None


def test_of_a_forecast_the_steps_between_its_frames_are_told():
    signature, fields = Signature(("u",), (), ("u",), evolves=True), torch.zeros(2, 1, 1, 4, 4)
    times = torch.tensor([[0.5, 1.0, 2.0], [0.5, 1.25, 2.0]])
    asked = Batch(signature, Grid.square(4), fields, torch.zeros(2, 0), lead_time=times)
    assert (asked.num_frames, asked.lead_times) == (3, (0.5, 1.0))
    assert asked.lead_steps.tolist() == [[0.5, 0.5, 1.0], [0.5, 0.75, 0.75]]
    with pytest.raises(SignatureError, match="later for each frame than for the one before"):
        Batch(signature, Grid.square(4), fields, torch.zeros(2, 0), lead_time=times.flip(1))
