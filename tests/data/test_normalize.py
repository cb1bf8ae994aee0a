from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.split import windows_of
from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.systems.burgers import Burgers
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes

GRID = Grid((12, 8), (1.0, 0.5), (True, True))


def draw(name: str, num_samples: int = 10):
    return tiny.STEADY[name]().sample(num_samples, GRID, generator_for(0, "fit", name), dtype=torch.float64)


@pytest.mark.parametrize("num_samples", [9, 10])
@pytest.mark.parametrize("name", tiny.STEADY)
def test_joint_is_the_rule_of_the_reference(name, num_samples):
    """Every channel over (‖f‖·hx·hy / its median); then each coefficient over the median of its magnitude."""
    batch = draw(name, num_samples)
    normalization = fit_normalization(batch, tiny.STEADY[name].homogeneities, kind="joint")
    unseen = tiny.STEADY[name]().sample(3, GRID, generator_for(1, "unseen"), dtype=torch.float64)
    cell = GRID.spacing[0] * GRID.spacing[1]

    def norm(forcing: np.ndarray) -> np.ndarray:
        return np.sqrt((forcing**2).sum(axis=(1, 2))) * cell

    median = np.median(norm(batch.field("forcing")[:, 0].numpy()))
    coefficient_medians = np.median(np.abs(batch.coefficients.numpy()), axis=0)
    scaling = norm(unseen.field("forcing")[:, 0].numpy()) / median
    encoded = normalization.encode(unseen)
    np.testing.assert_allclose(
        encoded.inputs[:, 0, 0].numpy(), unseen.field("forcing")[:, 0].numpy() / scaling[:, None, None], rtol=1e-12
    )
    np.testing.assert_allclose(
        encoded.coefficients.numpy(), unseen.coefficients.numpy() / scaling[:, None] / coefficient_medians, rtol=1e-12
    )
    assert torch.equal(encoded.output_scale, torch.ones_like(encoded.output_scale)), "targets are not scaled"


@pytest.mark.parametrize("name", tiny.STEADY)
def test_homogeneous_brings_every_training_sample_to_one_size(name):
    batch = draw(name)
    system = tiny.STEADY[name]()
    normalization = fit_normalization(batch, system.homogeneities)
    assert normalization.kind == "homogeneous"
    encoded = normalization.encode(batch)
    sizes = encoded.inputs.flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(sizes, torch.ones_like(sizes))
    answers = batch.require_targets() / encoded.output_scale
    assert float(answers.square().mean().sqrt()) == pytest.approx(1.0)
    torch.testing.assert_close(encoded.coefficients.mean(0), torch.zeros(encoded.coefficients.shape[1]).double())
    spread = encoded.coefficients.std(0, correction=0)
    assert all(float(s) == pytest.approx(1.0) or float(s) < 1e-6 for s in spread), spread


@pytest.mark.parametrize("grid", [Grid.square(32), Grid((20, 36), (0.6, 2.0), (True, True))], ids=str)
@pytest.mark.parametrize("ratio", [(0.05, 0.1), (1, 2), (2, 5), (10, 20)])
def test_diffusion_and_velocity_stay_in_range_at_ratios_far_from_those_fitted_to(ratio, grid):
    system = tiny.STEADY["advection_diffusion"]()
    batch = system.sample(256, grid, generator_for(0))
    normalization = fit_normalization(batch, system.homogeneities)
    far = system.where(advection_diffusion_ratio=list(ratio)).sample(256, grid, generator_for(1))
    largest = [normalization.encode(samples).coefficients.abs().amax(0) for samples in (batch, far)]
    assert (largest[1] < 3 * largest[0]).all(), largest


def test_constant_is_the_same_for_all_samples():
    batch = draw("poisson")
    normalization = fit_normalization(batch, tiny.STEADY["poisson"].homogeneities, kind="constant")
    assert normalization.homogeneities == ()
    assert normalization.input_scale[0] == pytest.approx(float(batch.inputs.square().mean().sqrt()))
    assert normalization.output_scale[0] == pytest.approx(float(batch.require_targets().square().mean().sqrt()))
    assert normalization.coefficient_shift[0] == pytest.approx(float(batch.coefficients[:, 0].mean()))
    assert normalization.coefficient_scale[0] == pytest.approx(float(batch.coefficients[:, 0].std(correction=0)))


def test_a_coefficient_that_never_varies_is_divided_by_its_size():
    batch = draw("helmholtz")
    normalization = fit_normalization(batch, kind="constant")
    assert normalization.coefficient_scale[0] == pytest.approx(0.01)
    assert float(normalization.encode(batch).coefficients[:, 0].abs().max()) < 1e-9


def test_unknown_kind_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'homogeneous'"):
        fit_normalization(draw("poisson"), kind="homogenous")


def test_joint_keeps_the_parts_of_the_gauge_it_takes():
    batch = draw("advection_diffusion")
    operator = tiny.STEADY["advection_diffusion"].homogeneities[1]
    (joint,) = fit_normalization(batch, (operator,), kind="joint").homogeneities
    assert joint == operator


def test_joint_needs_a_declared_scaling():
    with pytest.raises(ConfigError, match="declares none"):
        fit_normalization(draw("poisson"), (), kind="joint")


FITTED = [("homogeneous", "targets"), ("constant", "targets")]  # joint leaves targets alone
FITTED += [(kind, part) for kind in ("homogeneous", "joint", "constant") for part in ("inputs", "coefficients")]


@pytest.mark.parametrize(("kind", "part"), FITTED)
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_numbers_that_cannot_be_fitted_are_refused(kind, part, value):
    batch = draw("poisson")
    batch = replace(batch, **{part: torch.full_like(getattr(batch, part), value)})
    homogeneities = tiny.STEADY["poisson"].homogeneities
    gauged = {"homogeneous": ("inputs", "coefficients"), "joint": ("inputs",), "constant": ()}[kind]
    if value == 0 and part not in gauged:
        with pytest.warns(UserWarning, match="never changes"):
            normalization = fit_normalization(batch, homogeneities, kind=kind)
        assert 1.0 in (*normalization.input_scale, *normalization.coefficient_scale, *normalization.output_scale)
        assert torch.isfinite(normalization.encode(batch).inputs).all()
        return
    with pytest.raises(DataError, match="Cannot normalize"):
        fit_normalization(batch, homogeneities, kind=kind)


def test_a_positive_coefficient_that_spans_magnitudes_counts_by_its_logarithm():
    """A viscosity in units of each sample's velocity is heavy-tailed: by its value all small ones were one."""
    system = Burgers(num_frames=2)
    batch = system.sample(256, Grid.square(32, num_spatial_dims=1), generator_for(0, "spread"), dtype=torch.float64)
    calm = torch.linspace(0, 4, 256, dtype=torch.float64).exp().view(-1, 1, 1, 1)
    batch = replace(batch, inputs=batch.inputs / calm, targets=batch.targets / calm)
    fitted = fit_normalization(batch, system.homogeneities)
    (floor,) = fitted.coefficient_floor
    assert floor > 0
    column = fitted.encode(batch).coefficients[:, 0]
    assert float(column.mean()) == pytest.approx(0, abs=1e-6)
    assert float(column.std(correction=0)) == pytest.approx(1, rel=1e-6)
    halves = [fitted.encode(replace(batch, coefficients=f * batch.coefficients)).coefficients[:, 0] for f in (0.5, 2)]
    torch.testing.assert_close(column - halves[0], halves[1] - column)
    assert Normalization.from_dict(fitted.to_dict()) == fitted
    # nothing at all is far below what was seen, and no further: an answer to it is bad, not absurd
    none = fitted.encode(replace(batch, coefficients=torch.zeros_like(batch.coefficients))).coefficients[:, 0]
    assert float(column.min()) - 10 < float(none.max()) < float(column.min())
    one = batch.select([0])
    size = system.homogeneities[0].size(one) / fitted.gauge_sizes[0]
    again = fitted.coefficients_of(fitted.encode(one).coefficients)
    torch.testing.assert_close(again, one.coefficients / size.view(-1, 1))


@pytest.mark.parametrize("values", [[-1.0, 1e3], [0.0, 1e3], [1.0, 5.0]])
def test_others_count_by_their_value(values):
    batch = draw("poisson", 10)
    spread = torch.linspace(*values, 10, dtype=torch.float64)
    changed = replace(batch, coefficients=torch.cat([spread[:, None], batch.coefficients[:, 1:]], dim=1))
    assert fit_normalization(changed, kind="constant").coefficient_floor == ()
    assert "coefficient_floor" not in fit_normalization(changed, kind="constant").to_dict()


def test_what_one_trajectory_shares_is_divided_by_its_size_and_not_by_its_frames_wobble():
    """Its viscosity in units of each frame's pressure varies by a percent: others were 100 of such percents away."""
    gas = CompressibleNavierStokes(num_frames=9)
    trajectories = gas.sample(5, Grid.square(16), generator_for(0, "one trajectory"))
    windows = windows_of(trajectories, Window())
    one, all_ = windows.batch(range(8)), windows.batch(range(40))
    alone = fit_normalization(one, gas.homogeneities)
    scaled = replace(alone, coefficient_shift=(0.0,) * 3, coefficient_scale=(1.0,) * 3).encode(one).coefficients
    place = one.signature.coefficients.index("viscosity")
    assert 1e-4 < scaled[:, place].std() / scaled[:, place].mean() < 0.1, "it does wobble"
    assert alone.coefficient_scale[place] == pytest.approx(float(scaled[:, place].abs().max()))
    assert alone.encode(all_).coefficients.abs().max() < 10
    again = refit_coefficients(fit_normalization(all_, gas.homogeneities), one.signature, one)
    assert again.encode(all_).coefficients.abs().max() < 10


def test_a_fixed_coefficient_tells_samples_apart_where_their_sizes_differ():
    """A viscosity that is one number is another one for slow flows than for fast ones."""
    burgers = Burgers(num_frames=2)
    batch = windows_of(burgers.sample(6, Grid((32,)), generator_for(0, "fixed")), Window()).batch(range(6))
    fixed = replace(
        batch,
        coefficients=torch.full_like(batch.coefficients, 0.01),
        inputs=batch.inputs * torch.logspace(-1, 0, 6).view(-1, 1, 1, 1),
    )
    normalization = fit_normalization(fixed, burgers.homogeneities)
    assert normalization.encode(fixed).coefficients.std() == pytest.approx(1.0, rel=0.2)
