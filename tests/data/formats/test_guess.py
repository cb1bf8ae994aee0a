from __future__ import annotations

import numpy as np
import pytest

from scifm.data.formats.guess import guess_periodic

NUM_POINTS, NUM_ROWS = 48, 12


def smooth(kind: str, *, repeated: bool = False, seed: int = 0) -> np.ndarray:
    """Random smooth fields that are known to be periodic, or to meet walls; ``(rows, points)``."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((NUM_ROWS, NUM_POINTS))
    periodic = kind == "periodic"
    x = np.linspace(0, 1, NUM_POINTS, endpoint=repeated or not periodic)
    for mode in range(1, 5):
        amplitude, phase = generator.normal(size=(NUM_ROWS, 1)) / mode, generator.uniform(0, 6.3, (NUM_ROWS, 1))
        if periodic:
            rows += amplitude * np.sin(2 * np.pi * mode * x + phase)
        else:
            rows += amplitude * (np.sin if kind == "dirichlet" else np.cos)(np.pi * mode * x)
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_what_wraps_around_is_seen_and_what_meets_walls_too(seed):
    assert guess_periodic(smooth("periodic", seed=seed)).periodic
    for kind in ("dirichlet", "neumann"):
        guess = guess_periodic(smooth(kind, seed=seed))
        assert not guess.periodic, (kind, guess)
        assert not guess.repeated_end


@pytest.mark.parametrize("seed", range(5))
def test_a_last_point_that_repeats_the_first_is_seen(seed):
    guess = guess_periodic(smooth("periodic", repeated=True, seed=seed))
    assert guess.periodic
    assert guess.repeated_end
    assert "repeats" in guess.reason


def test_a_jump_of_an_offset_is_a_wall_even_with_a_front_inside():
    x = np.linspace(0, 1, 64)
    fronts = np.stack([np.tanh((x - center) / 0.05) for center in np.linspace(0.3, 0.7, 8)])
    assert not guess_periodic(fronts).periodic
    assert guess_periodic(fronts * np.sin(np.pi * x)).sure


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (np.random.default_rng(0).normal(size=(20, 64)), "noise"),
        (np.ones((4, 32)), "do not vary"),
        (np.arange(12.0).reshape(3, 4), "too few"),
        (np.full((3, 32), np.nan), "NaN"),
        (np.exp(-((np.linspace(-5, 5, 64) / 0.5) ** 2))[None], "near its ends"),
    ],
    ids=["noise", "constant", "short", "nan", "bump"],
)
def test_what_cannot_be_told_is_bounded_and_says_so(block, reason):
    guess = guess_periodic(block)
    assert not guess.periodic
    assert not guess.sure
    assert "unsure" in guess.reason
    assert reason in guess.reason


def test_lines_with_nan_are_not_looked_at():
    rows = smooth("periodic")
    rows[3, 5] = np.nan
    assert guess_periodic(rows).periodic
