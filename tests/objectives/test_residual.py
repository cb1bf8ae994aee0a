"""The equation as a loss: what it is, of which samples, and where it is refused."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch

import evolving
import tiny
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Epochs
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import relative_l2
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.objectives import Residual
from scifm.objectives.contract import Nearly, ObjectiveContract
from scifm.objectives.equation import Equation, residual_floor
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import SYSTEMS
from scifm.systems.heat import Heat
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.training.loop import TrainingConfig, prepared, train
from scifm.training.pretrain import PretrainRecipe, build_operator, pretrain

LINE = Grid((32,))
BURGERS = Burgers(num_frames=4)


def drawn(system, grid, count=3) -> Batch:
    return system.sample(count, grid, generator_for(0, "residual"), dtype=torch.float64)


def wrong(batch: Batch, wave: int, size: float = 0.01) -> Batch:
    """Return answers that are wrong by one wave along x."""
    points = batch.grid.num_points[-1]
    more = torch.cos(2 * math.pi * wave * torch.arange(points, dtype=torch.float64) / points)
    return batch.with_targets(batch.require_targets() + size * more)


class TestContractOfFrames(ObjectiveContract):
    """The promises hold of what evolves too, up to what the steps between frames leave."""

    objective = Residual()
    floor = 0.02

    def batch(self, num_samples: int = 5) -> Batch:
        weights = torch.linspace(1, 2, num_samples, dtype=torch.float64)
        return replace(drawn(replace(BURGERS, save_interval=0.01), LINE, num_samples), loss_weights=weights)


@pytest.mark.parametrize(("norm", "power"), [("l2", 0), ("h-1", 1), ("h-2", 2)])
def test_it_is_its_closed_form(norm, power):
    """An error of one wave misses −∇·(K∇u) = f by Kxx k² of itself, weighed by what the norm makes of that wave."""
    batch = tiny.batch(3, dtype=torch.float64)
    for wave in (1, 5):
        square = (2 * math.pi * wave) ** 2
        weight = (1 + wave**2) ** (-power / 2)
        missed = batch.coefficient("diffusion_xx") * square * 0.01 * math.sqrt(0.5) * 16 * weight
        spectrum = torch.fft.fft2(batch.field("forcing")[:, 0]).abs()
        waves = torch.fft.fftfreq(16, 1 / 16, dtype=torch.float64)
        size = (spectrum * (1 + waves[:, None] ** 2 + waves**2) ** (-power / 2)).square().sum((1, 2)).sqrt() / 16
        found = Equation(norm).missed(wrong(batch, wave))[:, 0]
        torch.testing.assert_close(found, missed / size, rtol=1e-6, atol=0)


def test_a_weaker_norm_weighs_waves_as_they_do_in_a_solution():
    """Under h-2 the loss of a short wave over that of a long one is what it is in the error, but for the anisotropy."""
    batch = replace(tiny.batch(1, dtype=torch.float64))
    long, short = wrong(batch, 1), wrong(batch, 7)
    ratios = {n: float(Equation(n).missed(short) / Equation(n).missed(long)) for n in ("l2", "h-1", "h-2", None)}
    assert ratios["l2"] == pytest.approx(49, rel=1e-6)
    assert 1 < ratios["h-2"] < 2 < ratios["h-1"] < 10
    assert ratios[None] == ratios["h-1"]
    frames = drawn(BURGERS, LINE)
    torch.testing.assert_close(Equation().missed(frames), Equation("l2").missed(frames), rtol=0, atol=0)


def test_what_is_at_rest_is_divided_by_the_usual_size():
    batch = drawn(replace(BURGERS, num_frames=2), LINE)
    still = torch.zeros_like(batch.inputs)
    still[1:] = batch.inputs[1:]
    batch = replace(batch, inputs=still)
    equation = Equation().on(batch)
    found = equation.missed(wrong(batch, 1))
    assert bool(found.isfinite().all())
    assert not bool(Equation().missed(wrong(batch, 1)).isfinite().all())
    assert found[1:] == pytest.approx(Equation().missed(wrong(batch, 1))[1:])


def test_a_mixture_is_asked_system_by_system():
    """Samples of several systems, in the union of their names, count as they do by themselves."""
    parts = [drawn(system(), tiny.GRID) for system in (Poisson, Helmholtz)]
    names = parts[0].signature.union(parts[1].signature)
    both = Batch.concatenate(part.aligned(names) for part in parts).select([0, 3, 1, 4, 2, 5])
    each = [Equation().missed(wrong(part, 1)) for part in parts]
    found = Equation().missed(wrong(both, 1))
    torch.testing.assert_close(found, torch.stack(each, dim=1).flatten(0, 1), rtol=1e-10, atol=0)
    assert set(Equation().on(both).typical) == {"poisson", "helmholtz"}
    assert set(residual_floor(both)) == {"poisson", "helmholtz"}


def test_the_floor_is_what_solutions_miss():
    steady = residual_floor(tiny.batch(4, dtype=torch.float64))
    assert steady["poisson"] < 1e-10
    coarse, fine = (
        residual_floor(drawn(replace(Heat(num_spatial_dims=1), num_frames=2, save_interval=h), LINE))["heat"]
        for h in (0.2, 0.1)
    )
    assert 1e-4 < fine < coarse / 3
    single = tiny.batch(4)
    assert steady["poisson"] < residual_floor(single)["poisson"] < 1e-4  # rounding alone
    assert residual_floor(replace(single, systems=()), system="poisson") == {
        "poisson": residual_floor(single)["poisson"]
    }


def operator_for(batch: Batch) -> FNO:
    torch.manual_seed(0)
    return FNO(batch.signature, FNOConfig(**tiny.NETWORK)).to(torch.float64)


def test_gradients_of_a_march_may_be_cut():
    batch = drawn(BURGERS, LINE)
    operator, slopes = operator_for(batch), []
    for through in (None, 1):
        value = Residual(through=through)(operator, batch, step=0, generator=torch.Generator())
        slopes.append(torch.cat([s.flatten() for s in torch.autograd.grad(value, list(operator.parameters()))]))
        assert value == Residual()(operator, batch, step=0, generator=torch.Generator())
    assert not torch.allclose(*slopes)


def test_missing_points_of_solutions_are_of_no_account_and_those_of_inputs_are_refused():
    batch = tiny.batch(4)
    operator = tiny.operator()
    valid = torch.rand(batch.inputs.shape, generator=generator_for(0, "gaps")) > 0.2
    holes = replace(batch, valid_targets=valid)
    Residual().on(holes)
    prepared(Residual(), Epochs(holes, batch_size=4, seed=0), operator)
    with pytest.raises(ConfigError, match="counts every point, and points of forcing are missing"):
        prepared(Residual(), Epochs(replace(batch, valid_inputs=valid), batch_size=4, seed=0), operator)
    with pytest.raises(ConfigError, match="needs every point of its inputs"):
        Residual().on(replace(batch, valid_inputs=valid))


BETWEEN_ENDS = ("porous_medium", "stefan", "advected_step", "burgers_ramp")
WALLS = Grid((32,), 1.0, "wall")


@pytest.mark.parametrize(
    ("batch", "settings", "told"),
    [
        (replace(tiny.batch(2), systems=()), {}, "do not say of which system they are"),
        (replace(tiny.batch(2), systems=("nobody",) * 2), {}, "'nobody' has no residual here.*Allowed"),
        (replace(tiny.batch(2), systems=()), {"system": "burgers"}, "The objective asks|burgers"),
        (replace(drawn(BURGERS, LINE), grid=WALLS), {}, "has no residual here.*periodic"),
        (replace(drawn(BURGERS, LINE), grid=WALLS), {"norm": "h-1"}, "waves of a periodic box"),
    ],
)
def test_where_there_is_no_residual_it_is_refused(batch, settings, told):
    with pytest.raises(ConfigError, match=told):
        Residual(**settings).on(batch)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_that_is_made_on_a_periodic_box_has_a_residual(name):
    """It is found by the name alone, before anything is sampled; where it is not, that is said at once."""
    grid = Grid((32,) * SYSTEMS[name]().signature.num_spatial_dims)
    if name in BETWEEN_ENDS:
        with pytest.raises(ConfigError, match=f"The system '{name}' has no residual here"):
            Residual().require_systems([name], grid)
        return
    Residual().require_systems([name], grid)
    batch = drawn(SYSTEMS[name](), grid, 2)
    assert Residual().on(batch).equation.typical.keys() == {name}


def test_training_says_the_floor_and_warns_where_it_is_high(tmp_path):
    tree = tiny.recipe(training={"objective": "residual", "num_steps": 2})
    run = pretrain(tree, out=tmp_path)
    (event,) = [event for event in run.metrics() if event["event"] == "floor"]
    assert 0 < event["poisson"] < 1e-4
    frames = {"system": {"name": "burgers", "options": {"num_frames": 3, "save_interval": 0.3}}}
    with pytest.warns(UserWarning, match="Solutions of 'burgers' themselves miss the equation by [0-9]+%"):
        pretrain({**tree, **frames}, out=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrain(merged(tree, "relative_l2"), out=tmp_path)


def merged(tree, objective):
    return {**tree, "training": {**tree["training"], "objective": objective}}


def test_data_of_nobodys_system_are_refused_before_training(tmp_path):
    store = evolving.store(tmp_path)
    recipe = evolving.recipe(data={"store": str(store.path), "num_validation_samples": 4})
    tree = merged(recipe.to_dict(), "residual")
    with pytest.raises(ConfigError, match=r"do not say of which system|has no residual"):
        pretrain(PretrainRecipe.read(tree), out=tmp_path / "runs")


def test_an_operator_that_answers_the_truth_is_at_the_floor():
    batch = drawn(BURGERS, LINE)
    operator = Nearly(batch.signature, LINE, size=0.0, truth=batch.require_targets())
    value = Residual().on(batch)(operator, batch.with_targets(None), step=0, generator=torch.Generator()).detach()
    assert float(value) == pytest.approx(residual_floor(batch)["burgers"], rel=1e-12)


def test_training_by_it_alone_learns_solutions():
    """Without a single solution the error falls to a part of what it was, of unseen samples too."""
    given, unseen = (tiny.batch(16, purpose=purpose) for purpose in ("given", "unseen"))
    normalization = fit_normalization(given, Poisson.homogeneities)
    operator = build_operator(Poisson.signature, FNOConfig(**tiny.NETWORK), normalization, seed=0)
    config = TrainingConfig(objective=Residual(), num_steps=150, batch_size=8, learning_rate=1e-2, validate_every=999)

    def error() -> float:
        with torch.no_grad():
            return float(relative_l2(operator(unseen).require_targets(), unseen.require_targets()).mean())

    before = error()
    train(operator, Epochs(given.with_targets(None), batch_size=8, seed=0), config=config)
    assert error() < 0.3 * before
