"""The probe: what was planted is found, noise is not, and what a network was told it does not count as seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import networks
import planted
import tiny
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.models.module_operator import ModuleOperator
from scifm.systems.burgers import Burgers
from scifm.trust.probe import FEATURES, FRESH, RAW, Probe, input_statistics
from scifm.trust.ridge import PENALTIES, _predictions, folds_of, held_out, varies


def ask(operator, samples, **settings):
    return Probe(**settings)(operator, samples, generator=generator_for(0, "probe"))


def r2(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> float:
    folds = folds_of(np.arange(len(y)) if groups is None else groups, 5, seed=0)
    predicted, trivial = held_out(x, y, folds)
    return 1 - np.square(predicted - y).mean() / np.square(trivial - y).mean()


# --- the regression ---------------------------------------------------------------------------------------------------


def test_a_planted_linear_relation_is_found_exactly():
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 12)) * np.logspace(-3, 3, 12) + 5
    assert r2(x, x @ random.normal(size=12) + 3) > 1 - 1e-9


def test_noise_is_told_by_nothing_and_by_more_columns_than_samples_neither():
    random = np.random.default_rng(1)
    told = [
        r2(random.normal(size=(60, columns)), random.normal(size=60)) for columns in (5, 40, 200) for _ in range(10)
    ]
    assert abs(np.mean(told)) < 0.1
    assert max(told) < 0.3


def test_with_noise_it_tells_as_much_as_there_is():
    random = np.random.default_rng(2)
    x = random.normal(size=(400, 10))
    y = x[:, 0] + random.normal(size=400)  # half of the variance
    assert r2(x, y) == pytest.approx(0.5, abs=0.1)


def test_predictions_are_of_fits_that_never_saw_them():
    random = np.random.default_rng(3)
    x, y, folds = random.normal(size=(40, 3)), random.normal(size=40), np.arange(40) % 5
    before, trivial = held_out(x, y, folds)
    other = y.copy()
    other[folds == 2] += 100
    after, _ = held_out(x, other, folds)
    np.testing.assert_array_equal(after[folds == 2], before[folds == 2])
    assert trivial[0] == pytest.approx(y[folds != 0].mean())


def test_a_ridge_by_its_normal_equations():
    random = np.random.default_rng(4)
    x, y = random.normal(size=(30, 4)), random.normal(size=30)
    centered = (x - x.mean(0)) / x.std(0)
    for place in (0, 20, len(PENALTIES) - 1):
        weights = np.linalg.solve(
            centered.T @ centered + 30 * PENALTIES[place] * np.eye(4), centered.T @ (y - y.mean())
        )
        np.testing.assert_allclose(_predictions(x, y, x)[:, place], y.mean() + centered @ weights, rtol=1e-8)


def test_groups_are_dealt_out_whole_and_evenly():
    groups = np.repeat(np.arange(11), 4)
    folds = folds_of(groups, 5, seed=0)
    assert all(len(set(folds[groups == group])) == 1 for group in range(11))
    assert sorted(np.bincount(folds)) == [8, 8, 8, 8, 12]
    assert (folds_of(groups, 5, seed=1) != folds).any()
    assert varies(np.array([[1.0, 2.0, 0.0], [1.0 + 1e-9, 3.0, 0.0]])).tolist() == [False, True, False]


# --- what a glance at the inputs tells --------------------------------------------------------------------------------


def test_input_statistics_by_hand():
    x = 2 * np.pi * torch.arange(16, dtype=torch.float64) / 16
    field = 3 + 2 * torch.cos(x) + torch.cos(3 * x) + 0.5 * torch.cos(6 * x)
    names = Signature(("u",), (), ("u",), 1, evolves=True)
    batch = Batch(names, Grid.square(16, num_spatial_dims=1), field.view(1, 1, 1, 16), torch.zeros(1, 0))
    mean, size, *bands = input_statistics(batch)[0].tolist()
    assert mean == pytest.approx(3)
    assert size == pytest.approx((9 + 2 + 0.5 + 0.125) ** 0.5)
    assert np.exp(bands) == pytest.approx([2, 0.5, 0.125, 1e-10 * size**2])
    nothing = replace(batch, inputs=torch.zeros(1, 1, 1, 16, dtype=torch.float64))
    assert input_statistics(nothing).isfinite().all()


# --- the check --------------------------------------------------------------------------------------------------------


def test_what_only_the_network_sees_is_good_news_and_the_better_baseline_counts():
    told = ask(planted.sees(), planted.samples())
    assert told.good is True
    assert "sees the knobs in the fields, though they are hidden from it" in told.said
    assert told.high < 1
    left, right = told.figure.panels
    values = {series.label: series.x[0] for series in left.series}
    assert set(values) == {FEATURES, RAW}  # one wrapped from an object cannot be built anew
    assert values[FEATURES] > 0.8
    assert values[RAW] < 0.2
    assert left.y.categories == ("diffusion_xy",)
    assert "1 coefficient" not in told.evidence
    assert "with 3 coefficients hidden" in told.evidence
    assert len(right.series[0].x) == len(planted.samples())


def test_what_a_network_is_told_does_not_count_as_seen():
    """A network that passes its coefficients on and looks at no field has them inside, until they are hidden."""
    told = ask(planted.passes_on(), planted.samples())
    assert told.good is False  # nothing is left that differs
    assert "the same for all samples" in told.said


def test_features_that_know_less_than_the_inputs_are_no_bad_news():
    samples = planted.samples()
    scaled = replace(samples, inputs=samples.inputs * (2 + samples.coefficients[:, 2]).view(-1, 1, 1, 1, 1))
    told = ask(planted.sees(power=0), scaled)
    assert told.good is None
    assert "The features tell nothing of the knobs" in told.said
    assert "need not read them" in told.said


def test_where_the_inputs_know_nothing_nothing_is_told():
    told = ask(tiny.operator(), tiny.batch(60))
    assert (told.good, told.statistic, told.light) == (None, None, "none")
    assert "nothing can be told" in told.said
    assert {series.label for series in told.figure.panels[0].series} == {FEATURES, RAW, FRESH}
    assert set(told.figure.panels[0].y.categories) > {"anisotropy", "angle"}


def test_windows_of_one_trajectory_are_one_problem():
    """Every trajectory has waves of its own, by which a probe knows it again; that tells nothing of the others."""
    random = torch.Generator().manual_seed(0)
    names, grid = Signature(("u",), ("viscosity",), ("u",), 1, evolves=True), Grid.square(16, num_spatial_dims=1)
    inputs = torch.randn(30, 1, 1, 16, generator=random).repeat_interleave(6, 0)
    inputs = inputs + 0.01 * torch.randn(180, 1, 1, 16, generator=random)
    viscosity = torch.rand(30, 1, generator=random).repeat_interleave(6, 0)
    batch = Batch(names, grid, inputs, viscosity, inputs, lead_time=torch.ones(180, 1))
    torch.manual_seed(0)
    told = ask(FNO(names, FNOConfig(**{**tiny.NETWORK, "width": 16})), batch)
    assert "30 problems, 120 samples" in told.evidence
    assert told.figure.panels[0].series[0].x[0] < 0.3


def test_a_number_over_magnitudes_is_taken_by_its_logarithm():
    samples = planted.samples()
    spread = samples.coefficients.clone()
    spread[:, 0] = torch.logspace(-3, 1, len(samples))
    spread[:, 1] = torch.linspace(0.01, 1, len(samples))  # as far, but even
    told = ask(planted.sees(), replace(samples, coefficients=spread))
    assert told.figure.panels[0].y.categories == ("log diffusion_xx", "diffusion_yy", "diffusion_xy")


def test_where_it_does_not_apply_it_says_why():
    few = ask(planted.sees(), planted.samples().select(slice(0, 19)))
    assert (few.good, few.said) == (None, "19 problems are too few to probe.")
    assert "at least 20" in few.evidence
    same = planted.samples()
    same = replace(same, coefficients=torch.ones_like(same.coefficients))
    assert "No coefficient and no known knob varies" in ask(planted.sees(), same).said
    closed = ask(ModuleOperator.wrap(networks.ExactPoisson(), same.signature), tiny.batch(30))
    assert (closed.good, closed.said) == (None, "Nobody can look into this network, so it was not probed.")
    assert "no parts to look between" in closed.evidence
    assert "no stage 7" in ask(tiny.operator(), tiny.batch(30), stage=7).evidence


def test_a_viscosity_is_seen_in_developed_frames():
    """After some time thin shocks tell a small viscosity; even an untrained network has them inside."""
    system = Burgers(num_frames=12)
    drawn = system.sample(60, Grid.square(64, num_spatial_dims=1), generator_for(0, "seen"))
    late = replace(
        drawn, inputs=drawn.targets[:, 8:9], targets=drawn.targets[:, 9:10], lead_time=drawn.lead_time[:, :1]
    )
    torch.manual_seed(0)
    operator = FNO(system.signature, FNOConfig(width=16, modes=16, latent_points=64, num_layers=2))
    told = ask(operator, late)
    raw = next(series for series in told.figure.panels[0].series if series.label == RAW)
    assert raw.x[0] > 0.5
    assert told.good is not False


@pytest.mark.parametrize("seed", [0, 1])
def test_it_hangs_on_the_generator_alone(seed):
    samples = tiny.batch(30)
    first, again = (Probe()(tiny.operator(), samples, generator=generator_for(seed, "a")) for _ in range(2))
    assert first == again
