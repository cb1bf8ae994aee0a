from __future__ import annotations

import numpy as np
import pytest

from scifm.errors import DataError
from scifm.findings.study import ScalingAxis, ScalingPoint
from scifm.studies import scaling
from scifm.studies.scaling import saturation, scaling_axis

X = 1000 * 2.0 ** np.arange(7)
LONG = 1000 * 2.0 ** np.arange(10)
# Three seeds with fixed, symmetric scatter: verdicts must not hang on luck.
SEEDS = np.array([-1.0, 0.0, 1.0])


def local_slopes(x, values):
    return saturation(x, values).slopes


def seeds(y, scatter=0.02):
    return [value * np.exp(scatter * SEEDS) for value in np.asarray(y)]


def test_slopes_by_hand():
    # 8 → 4 in one doubling: 1. 4 → 1 in two doublings: 1 each. 1 → 2 in one: −1.
    slopes = local_slopes([1, 2, 8, 16], [[8.0], [2.0, 8.0], [1.0], [2.0]])
    assert [s.value for s in slopes] == pytest.approx([1, 1, -1])
    assert [(s.start, s.end) for s in slopes] == [(1, 2), (2, 8), (8, 16)]
    assert all(s.low is None and s.high is None for s in slopes)


def test_x_too_close_are_left_out():
    assert [s.start for s in local_slopes([1, 1.9, 2, 3.9, 4], seeds([5, 4, 4, 2, 2]))] == [1, 2]


def test_intervals_shrink_with_scatter_and_hold_the_slope():
    wide, narrow = (local_slopes(X, seeds(X**-0.5, scatter))[0] for scatter in (0.1, 0.01))
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
    assert (wide.high - wide.low) == pytest.approx(10 * (narrow.high - narrow.low), rel=1e-6)


def test_the_interval_is_as_wide_as_it_should_be(monkeypatch):
    """Twenty seeds: near that of a normal mean, ±1.645 s √(1/20 + 1/20)."""
    random = np.random.default_rng(0)
    logs = [random.standard_normal(20) for _ in range(2)]
    logs = [(row - row.mean()) / row.std(ddof=1) for row in logs]
    monkeypatch.setattr(scaling, "_NUM_DRAWS", 20_000)
    (slope,) = local_slopes([1, np.e], [np.exp(row) for row in logs])
    assert slope.high == pytest.approx(1.645 * np.sqrt(0.1), rel=0.05)
    assert slope.low == pytest.approx(-1.645 * np.sqrt(0.1), rel=0.05)


def test_a_power_law_is_not_saturated():
    result = saturation(X, seeds(5 * X**-0.5))
    assert result.verdict == "not saturated"
    assert result.law.form == "power law"
    assert result.gain == pytest.approx(1 - 2**-0.5, abs=1e-3)
    assert result.spread == pytest.approx(0.02)
    assert result.early_slope == pytest.approx(0.5)
    for number in ("32,000", "64,000", "−29 %", "90 % interval", "seeds scatter by 2 %"):
        assert number in result.told


def test_a_floor_that_is_reached_is_saturated():
    result = saturation(LONG, seeds(0.02 + 3e3 * LONG**-1.4))
    assert result.verdict == "saturated"
    assert result.law.parameters["floor"] == pytest.approx(0.02, rel=0.02)
    assert result.gain < result.spread


def test_a_fall_after_a_plateau_is_not_saturated():
    y = 2 / (1 + (X / 3e4) ** 2)
    assert saturation(X, seeds(y)).verdict == "not saturated"


def test_an_interval_that_holds_everything_shows_nothing():
    result = saturation(X, seeds(5 * X**-0.5, scatter=0.8))
    assert result.verdict == "cannot tell"


def test_slopes_and_law_may_disagree():
    """Still falling by 4 %, while seeds scatter by 10 %: twenty seeds see it, the next doubling is not worth it."""
    y = X**-0.06
    result = saturation(X, [value * np.exp(0.1 * np.linspace(-1.6, 1.6, 40)) for value in y])
    assert result.slopes[-1].low > 0
    assert result.verdict == "cannot tell"
    assert "less than the scatter" in result.told


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (seeds(5 * X[:2] ** -0.5), "three x"),
        ([[v] for v in 5 * X**-0.5], "one seed only"),
        (seeds(np.full(7, 0.3)), "nothing to compare with"),
    ],
)
def test_cannot_tell_says_why(values, why):
    result = saturation(X[: len(values)], values)
    assert result.verdict == "cannot tell"
    assert why in result.told


def test_three_x_can_show_a_fall_but_no_end_of_it():
    assert saturation(X[:3], seeds(X[:3] ** -0.5)).verdict == "not saturated"
    assert saturation(X[:3], seeds([0.1, 0.02, 0.02])).verdict == "cannot tell"


def test_verdicts_are_seldom_wrong(monkeypatch):
    """Over random seeds: never the opposite of the truth, and the truth more often than not."""
    monkeypatch.setattr(scaling, "_NUM_DRAWS", 500)
    random = np.random.default_rng(0)
    for y, truth in ((5 * LONG**-0.5, "not saturated"), (0.02 + 3e3 * LONG**-1.4, "saturated")):
        noisy = [[v * np.exp(0.03 * random.standard_normal(3)) for v in y] for _ in range(6)]
        verdicts = [saturation(LONG, values).verdict for values in noisy]
        assert set(verdicts) <= {truth, "cannot tell"}
        assert verdicts.count(truth) >= 3


def test_an_axis_of_the_analysis():
    points = [ScalingPoint(x=x, values=tuple(row)) for x, row in zip(X, seeds(0.01 + 5 * X**-0.6), strict=True)]
    axis = scaling_axis("samples", "pre-training samples", points[::-1])
    assert [point.x for point in axis.points] == X.tolist()
    law = axis.law
    assert law.form == "power law with floor"
    assert law.text == "0.01 + 5·x^−0.6"
    assert len(law.grid_x) == len(law.grid_y) == 50
    assert (law.grid_x[0], law.grid_x[-1]) == pytest.approx((1000, 128_000))
    assert law.grid_y[0] == pytest.approx(0.01 + 5 * 1000**-0.6)
    assert ScalingAxis.model_validate_json(axis.model_dump_json()) == axis


def test_an_axis_that_cannot_be_told_holds_no_law():
    axis = scaling_axis("size", "parameters", [ScalingPoint(x=1e6, values=(0.1, 0.1))])
    assert axis.law is None
    assert axis.verdict == "cannot tell"
    assert "three x" in axis.told


def test_what_is_wrong_is_told():
    with pytest.raises(DataError, match="one list of seeds"):
        scaling_axis("samples", "", [])
    with pytest.raises(DataError, match="none empty"):
        saturation([1, 2], [[1.0], []])
    with pytest.raises(DataError, match="got nan"):
        saturation([1, 2], [[1.0], [np.nan]])
    with pytest.raises(DataError, match="comes twice"):
        saturation([1, 1], [[1.0], [1.0]])
