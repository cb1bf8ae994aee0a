from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scifm.errors import ConfigError
from scifm.fields.seeds import generator_for
from scifm.systems.knobs import SCALES, Knob, Scale
from scifm.trust.extrapolation import beyond_range

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(NUMBERS, NUMBERS, st.sampled_from([torch.float32, torch.float64]))
def test_draws_stay_inside_in_every_precision(a, b, dtype):
    knob = Knob(min(a, b), max(a, b))
    values = knob.draw(64, generator_for(0), dtype=dtype)
    assert values.shape == (64,)
    assert values.dtype == dtype
    assert knob.contains(values).all()


def test_linear_log_and_integer_distributions():
    num = 20_000
    linear = Knob(2, 6).draw(num, generator_for(1), dtype=torch.float64)
    assert linear.mean().item() == pytest.approx(4, abs=0.05)
    assert linear.std().item() == pytest.approx(4 / math.sqrt(12), abs=0.05)
    log = Knob(0.01, 100, scale="log").draw(num, generator_for(1), dtype=torch.float64).log10()
    assert log.mean().item() == pytest.approx(0, abs=0.05)
    assert log.std().item() == pytest.approx(4 / math.sqrt(12), abs=0.05)
    counts = Knob(1, 10, integer=True).draw(num, generator_for(1)).long().bincount(minlength=11)
    assert counts[0] == 0
    assert len(counts) == 11
    assert counts[1:].min() > 0.9 * num / 10
    assert set(Knob(1, 4, scale="log", integer=True).draw(500, generator_for(1)).tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_is_a_line_on_which_values_are_uniform(name):
    line = SCALES[name]
    low, high = (0.5, 4.0) if line.above is None else (line.above + 0.5, line.above + 4.0)
    assert line.place(low) < line.place(high), "larger values stand higher"
    places = torch.linspace(line.place(low) - 1, line.place(high) + 1, 41, dtype=torch.float64)
    values = line.value(places)
    assert bool((values.diff() > 0).all()), "also beyond a range, where checks ask and sliders go"
    assert [line.place(float(value)) for value in values] == pytest.approx(places.tolist())
    assert line.at(line.place(low)) == pytest.approx(low)
    drawn = Knob(low, high, scale=name).draw(20_000, generator_for(2), dtype=torch.float64)
    first, last = line.place(low), line.place(high)
    shares = torch.tensor([(line.place(float(value)) - first) / (last - first) for value in drawn.sort().values])
    assert (shares - torch.linspace(0, 1, len(shares))).abs().max() < 0.015  # Kolmogorov and Smirnov, p = 2e-4
    if line.above is not None:
        with pytest.raises(ConfigError, match=f"needs low > {line.above:g}"):
            Knob(line.above, high, scale=name)


def test_another_distribution_is_a_line_here(monkeypatch):
    """One as every other: drawn, told, and known beyond its ends; here small values are the likely ones."""
    steep = Scale(lambda value: -1 / value, lambda place: -1 / place, above=0.0)
    monkeypatch.setitem(SCALES, "inverse", steep)
    knob = Knob.parse({"low": 1, "high": 4, "scale": "inverse"})
    assert knob.draw(20_000, generator_for(4), dtype=torch.float64).median().item() == pytest.approx(1.6, abs=0.03)
    assert [(k.scale, k.low, k.high) for _, k in beyond_range(knob, 0.2)] == [
        ("inverse", pytest.approx(1 / 1.15), 1.0), ("inverse", 4.0, pytest.approx(10.0)),
    ]  # fmt: skip


def test_precision_only_rounds():
    knob = Knob(0.2, 1)
    single, double = (knob.draw(50, generator_for(3), dtype=d) for d in (torch.float32, torch.float64))
    assert torch.equal(single, double.float())


def test_contains():
    knob = Knob(1, 3, integer=True)
    assert knob.contains(torch.tensor([1.0, 2.5, 3.0, 4.0])).tolist() == [True, False, True, False]
    assert bool(Knob(0.8, 0.8).contains(torch.tensor(0.8)))
    assert not bool(Knob(0, 1).contains(float("nan")))


def test_parse_and_table_form():
    assert Knob.parse([1, 5]) == Knob(1, 5)
    assert Knob.parse(3) == Knob(3, 3)
    assert Knob.parse({"low": 1, "high": 5, "scale": "log"}) == Knob(1, 5, "log")
    log = Knob(1, 5, "log", integer=True)
    assert Knob.parse(log.to_dict()) == log
    assert Knob.parse([2, 9], like=log) == Knob(2, 9, "log", integer=True)
    assert Knob.parse({"low": 2, "integer": False}, like=log) == Knob(2, 5, "log")


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        ([5, 1], "low <= high"),
        ([0, float("inf")], "finite"),
        ([float("nan"), 1], "finite"),
        ({"low": 0, "high": 1, "scale": "log"}, "low > 0"),
        ({"low": 0, "high": 1, "scale": "logg"}, "Did you mean 'log'"),
        ({"low": 0.5, "high": 1, "integer": True}, "whole"),
        ({"low": 0, "high": 1, "integer": 1}, "true or false"),
        ({"lo": 0, "high": 1}, "Did you mean 'low'"),
        ({"low": 0}, "both low and high"),
        ([1, 2, 3], "numbers"),
        ("1-5", "numbers"),
        ([True, 2], "numbers"),
        (["1", 2], "numbers"),
    ],
)
def test_bad_knobs_say_what_is_allowed(given_value, message):
    with pytest.raises(ConfigError, match=message):
        Knob.parse(given_value)
