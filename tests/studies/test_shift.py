from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from scifm.applications.early_warning.making import EventRecipe, make_events
from scifm.config import build_config
from scifm.errors import DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.studies.analysis import _shift_values
from scifm.studies.recipe import StudyRecipe
from scifm.studies.shift import SHIFT_MEASURES, Population, measure_shift
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

GRID = Grid.square(32)
TASKS = {
    "poisson": (Poisson(), "anisotropy", [(1, 2.5), (2.5, 7.5), (5, 10), (10, 20)]),
    "advection_diffusion": (
        AdvectionDiffusion(),
        "advection_diffusion_ratio",
        [(0.2, 0.4), (0.4, 1.6), (1, 2), (2, 5)],
    ),
    "helmholtz": (Helmholtz(), "wavenumber_shift", [(1, 5), (5, 10), (10, 15), (15, 20)]),
}
every_measure = pytest.mark.parametrize("name", SHIFT_MEASURES)


def measured(name: str, pretrain, downstream: Population) -> float | None:
    """Return one measure; the others are not computed."""
    return SHIFT_MEASURES[name][1]([pretrain] if isinstance(pretrain, Population) else pretrain, downstream)


def draw(system: System, num: int = 128, *, seed: int = 0, grid: Grid = GRID) -> Population:
    return Population(system, system.sample(num, grid, generator_for(seed, "shift")))


def fake(values: list[float], name: str = "wavenumber_shift", field: float = 1.0) -> Population:
    """Helmholtz samples with these ω and D = 1, and one wave along x as forcing and solution."""
    wave = (2 * math.pi * torch.arange(32, dtype=torch.float64) / 32).cos().expand(32, 32)
    wave = wave + (4 * math.pi * torch.arange(32, dtype=torch.float64) / 32).cos()
    fields = wave.expand(len(values), 1, 1, 32, 32)
    numbers = torch.tensor([[1.0, v] for v in values], dtype=torch.float64)
    return Population(Helmholtz(), Batch(Helmholtz.signature, GRID, fields, numbers, field * fields))


@pytest.fixture(scope="module")
def shifts() -> dict[str, list[dict[str, float | None]]]:
    """Every measure for the mild to the strong tasks of each system."""
    return {
        name: [measure_shift(draw(base, 256), draw(base.where(**{knob: list(pair)}), 256, seed=1)) for pair in ranges]
        for name, (base, knob, ranges) in TASKS.items()
    }


@every_measure
@pytest.mark.parametrize("system", [Poisson(), AdvectionDiffusion(), Helmholtz()], ids=lambda s: s.name)
def test_the_same_samples_are_at_no_distance(name, system):
    population = draw(system)
    assert measured(name, population, population) == 0


@every_measure
@pytest.mark.parametrize("system", ["poisson", "advection_diffusion", "helmholtz"])
def test_stronger_shifts_are_farther(name, system, shifts):
    """Where a task lies inside the pre-training range, two-sided measures see a corner, not a shift."""
    values = [shift[name] for shift in shifts[system]]
    inside = system == "helmholtz" or (system, name) == ("advection_diffusion", "coefficients")
    compared = values[1:] if inside else values
    assert all(a <= b for a, b in pairwise(compared)), values
    assert values[-1] > 1.2 * values[-2] > 0


@pytest.mark.parametrize("name", ["knobs", "novelty"])
def test_a_task_within_the_range_is_nothing_new(name, shifts):
    inside = [shifts["poisson"][0], shifts["advection_diffusion"][0], *shifts["helmholtz"][:2]]
    assert max(shift[name] for shift in inside) < 0.05
    outside = [*shifts["poisson"][1:], *shifts["advection_diffusion"][1:], *shifts["helmholtz"][2:]]
    assert min(shift[name] for shift in outside) > 0.06
    assert min(shifts[system][-1][name] for system in shifts) > 0.4


@every_measure
def test_another_draw_of_the_same_system_is_near(name, shifts):
    for system, (base, _, _) in TASKS.items():
        again = measured(name, draw(base, 256), draw(base, 256, seed=1))
        assert again < 0.5 * shifts[system][-1][name]


@every_measure
def test_the_units_of_a_problem_do_not_count(name):
    near = draw(Poisson(), seed=1)
    scaled = near.samples
    scaled = Batch(
        scaled.signature, scaled.grid, 5 * scaled.inputs, 7 * scaled.coefficients, 5 / 7 * scaled.require_targets()
    )
    expected = measured(name, draw(Poisson()), near)
    found = measured(name, draw(Poisson()), Population(Poisson(), scaled))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["coefficients", "spectra", "fields", "responses", "novelty"])
def test_resolution_hardly_counts(name):
    far = Poisson(anisotropy=[10, 20])
    coarse, fine = (measured(name, draw(Poisson(), grid=g), draw(far, grid=g)) for g in (GRID, Grid.square(48)))
    assert coarse == pytest.approx(fine, rel=5e-3)


def test_knobs_are_counted_in_log_units_beyond_the_range():
    pretrain, task = draw(Helmholtz()), fake([5, 10, 20, 40])
    expected = (0 + 0 + math.log(2) + math.log(4)) / 4
    assert measured("knobs", pretrain, task) == pytest.approx(expected)
    assert measured("knobs", draw(Poisson()), task) is None
    assert measured("knobs", [draw(Poisson()), pretrain], task) == pytest.approx(expected)


def test_angles_half_a_turn_apart_are_the_same_range():
    first, second = (draw(Poisson(angle=[low, low + 0.5])) for low in (0.2, 0.2 + math.pi))
    assert measured("knobs", first, second) == pytest.approx(0, abs=1e-3)
    assert measured("knobs", first, draw(Poisson(angle=[1.2, 1.7]))) > 0.5


def test_coefficients_are_compared_in_spreads_of_the_pretraining():
    pretrain = fake([1, 3])  # mean 2, spread 1
    assert measured("coefficients", pretrain, fake([4, 6])) == pytest.approx(3)
    assert measured("coefficients", pretrain, fake([2, 2, 2])) == pytest.approx(1)
    assert measured("coefficients", fake([2, 2]), fake([3, 3])) == pytest.approx(1)  # its own measure
    assert measured("coefficients", fake([2, 2]), fake([2, 2, 2])) == 0


def test_spectra_are_the_log_energy_of_the_solution_over_the_forcing():
    pretrain = draw(Poisson(anisotropy=1))
    weaker = draw(Poisson(anisotropy=1))
    halved = Population(weaker.system, weaker.samples.with_targets(weaker.samples.require_targets() / 2))
    assert measured("spectra", pretrain, halved) == pytest.approx(math.log(4), rel=1e-3)
    assert measured("fields", pretrain, halved) == pytest.approx(0, abs=1e-3)  # sees shares of energy only


def test_directions_are_seen_in_fields_and_not_in_spectra():
    upright, tilted = (draw(Poisson(anisotropy=5, angle=angle)) for angle in (0, math.pi / 2))
    same = draw(Poisson(anisotropy=5, angle=0), seed=1)
    for name in ("fields", "responses"):
        assert measured(name, upright, tilted) > 5 * measured(name, upright, same)
    assert measured("spectra", upright, tilted) < 0.3


@every_measure
def test_a_mixture_that_holds_the_system_is_nearer_than_one_without(name):
    poisson, helmholtz, transport = draw(Poisson()), draw(Helmholtz()), draw(AdvectionDiffusion())
    with_it = measured(name, [poisson, helmholtz], draw(Helmholtz(), seed=1))
    without = measured(name, [poisson, transport], draw(Helmholtz(), seed=1))
    assert (name == "knobs" and without is None) or with_it < 0.8 * without


@pytest.mark.parametrize("name", ["spectra", "fields", "responses", "novelty"])
@pytest.mark.parametrize("broken", ["pretrain", "downstream"])
def test_nan_stays_nan(name, broken):
    populations = {"pretrain": draw(Poisson()), "downstream": draw(Poisson(), seed=1)}
    system, samples = populations[broken].system, populations[broken].samples
    targets = samples.require_targets().clone()
    targets[3, 0, 0, 2, 2] = math.nan
    populations[broken] = Population(system, samples.with_targets(targets))
    assert math.isnan(measured(name, **populations))


def test_other_sides_and_grids_are_allowed():
    values = measure_shift(draw(Poisson(), grid=Grid((20, 48), (0.5, 1.0), (True, True))), draw(Poisson(), seed=1))
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("seen", [[], ["anisotropy"]])
def test_knobs_that_are_not_all_measured_are_no_distance(seen):
    class Coy(Poisson):
        def measured_knobs(self, batch):
            return {name: values for name, values in super().measured_knobs(batch).items() if name in seen}

    shift = measure_shift(draw(Coy()), draw(Coy(), seed=1))
    assert shift.pop("knobs") is None
    assert all(math.isfinite(value) for value in shift.values())


def test_what_cannot_be_measured_is_said():
    batch = Poisson().sample(4, GRID, generator_for(0))
    with pytest.raises(SignatureError, match="no targets"):
        Population(Poisson(), batch.with_targets(None))
    with pytest.raises(DataError, match="at least 2 samples"):
        Population(Poisson(), batch.select([0]))
    with pytest.raises(DataError, match="at least one population"):
        measure_shift([], Population(Poisson(), batch))
    coarse = Batch(Poisson.signature, Grid.square(4), *(torch.ones(2, *s) for s in ((1, 1, 4, 4), (3,), (1, 1, 4, 4))))
    with pytest.raises(DataError, match="at least 2 waves"):
        measured("spectra", Population(Poisson(), coarse), Population(Poisson(), batch))


def test_a_study_of_fields_with_open_ends_says_no_shift(tmp_path):
    """The measures are of periodic boxes; a study of others is told all the same."""
    settings = {
        "num_points": 24,
        "absorbing_layer": 4.0,
        "num_frames": 4,
        "num_events": {"train": 2, "valid": 1, "test": 2},
    }
    store = make_events(build_config(EventRecipe, settings, source="test"), tmp_path / "events")
    recipe = StudyRecipe.read({
        "sources": [{"name": "there", "store": str(store.path)}],
        "targets": [{"name": "here", "store": str(store.path)}],
        "few_shot": [1], "from_scratch": [1], "num_test_samples": 2,
    })  # fmt: skip
    assert _shift_values(recipe, {"here": store.split("test").load()}) == {}
