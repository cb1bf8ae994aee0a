"""The contract itself: systems that are wrong in one way must break just the promises that say so."""

from __future__ import annotations

import subprocess
import sys
import unittest
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

import tiny
from plugin import EXAMPLE
from scifm.errors import SciFMError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.catalog import SYSTEMS
from scifm.systems.contract import SystemContract
from scifm.systems.contract import _with_another_input as with_another_input
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.systems.system import System


def promises(contract: type[SystemContract]) -> list[str]:
    return [name for name in dir(contract) if name.startswith("test_")]


def broken(system: System, **settings: Any) -> dict[str, str]:
    """Return the promises that a system does not keep, with what is said of each."""
    contract = type("Tried", (SystemContract,), {"system": system, **settings})()
    found = {}
    for name in promises(SystemContract):
        try:
            getattr(contract, name)()
        except unittest.SkipTest:
            continue
        except (AssertionError, RuntimeError, SciFMError, TypeError) as error:
            found[name.removeprefix("test_")] = f"{type(error).__name__}: {error}"
    return found


@pytest.fixture
def known(monkeypatch) -> Callable[[type[System]], type[System]]:
    """Make a class known by its name and let it have a documented module: then all that is left is its physics."""

    def add(system: type[System], module: str = Poisson.__module__) -> type[System]:
        system.__module__ = module
        monkeypatch.setitem(SYSTEMS, system.name, system)
        return system

    return add


# --- what is right is left alone --------------------------------------------------------------------------------------


@pytest.fixture
def examples(monkeypatch):
    """The modules of the example package, unknown to the catalog."""
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))
    import scifm_plate
    import scifm_reaction

    yield scifm_plate.ThinPlate, scifm_reaction.CubicReaction
    del sys.modules["scifm_plate"], sys.modules["scifm_reaction"]


def test_what_is_not_installed_is_told_what_to_do(examples):
    for system in examples:
        found = broken(system())
        assert set(found) == {"it_is_found_by_its_name", "the_dictionary_form_is_plain_and_complete"}
        assert "pip install -e ." in found["it_is_found_by_its_name"]


@pytest.mark.parametrize("num_spatial_dims", [1, 2, 3])
def test_it_knows_no_dimension_and_no_solver_of_ours(examples, known, num_spatial_dims):
    @dataclass(frozen=True)
    class Anywhere(examples[1]):
        name = "anywhere"
        signature = Signature(("forcing",), ("length",), ("solution",), num_spatial_dims)

    points = {1: ((66,), (64,), (47,)), 2: ((24, 40), (32, 32), (17, 27)), 3: ((10, 14, 12), (12, 12, 12), (9, 7, 11))}
    system = known(Anywhere, examples[1].__module__)()
    assert broken(system, points=points, num_tried=3) == {}


def test_a_solver_that_is_not_exact_may_say_so(known):
    class Rough(Poisson):
        name = "rough"

        def solve(self, batch):
            solved = super().solve(batch)
            return solved.with_targets(solved.targets + 1e-6 * solved.targets.roll(1, -1))

        def sample(self, *args, **others):
            return self.solve(super().sample(*args, **others))

    rough = known(Rough)()
    assert "the_residual_vector_of_its_own_solution_vanishes" in broken(rough)
    found = broken(rough, tolerance=1e-4)
    assert not [name for name in found if "residual" in name or "solves" in name]
    assert "1e-3 is the most" in broken(rough, tolerance=0.5)["the_residual_vector_of_its_own_solution_vanishes"]


def test_a_field_that_begins_at_rest_is_tried_with_another_one():
    batch = tiny.batch(3)
    names = replace(batch.signature, inputs=("forcing", "rest"))
    still = replace(batch, inputs=torch.cat([batch.inputs, torch.zeros_like(batch.inputs)], 2), signature=names)
    moved = with_another_input(still, 1).inputs
    assert torch.equal(moved[:, :, 0], batch.inputs[:, :, 0])
    assert torch.equal(moved[:, :, 1], batch.inputs[:, :, 0])


def test_scalings_may_be_left_out_and_a_name_is_read_as_words(known):
    class SlowPoisson(Poisson):
        name = "slow_poisson"
        homogeneities = System.homogeneities

    assert SlowPoisson.homogeneities == ()
    assert SlowPoisson.title == "Slow poisson"
    assert broken(known(SlowPoisson)()) == {}


def test_other_grids_can_be_given(known):
    class OnlySquare(Poisson):
        name = "only_square"

        def sample(self, num_samples, grid, *args, **others):
            assert grid.num_points == (32, 32)
            return super().sample(num_samples, grid, *args, **others)

    found = broken(known(OnlySquare)(), grids=(Grid.square(32),))
    assert set(found) == {"one_seed_is_one_set_of_problems_at_every_precision_and_resolution"}


# --- what is wrong is found -------------------------------------------------------------------------------------------


class WrongSign(Poisson):
    def residual(self, batch):
        return super().residual(batch) + 2 * batch.inputs


class RightMinusLeft(Poisson):
    def residual(self, batch):
        return -super().residual(batch)


class AlwaysContent(Poisson):
    def residual(self, batch):
        return torch.zeros_like(batch.targets)


class NormOnly(Poisson):
    """Compares sizes, as codes do that are blind to sign."""

    def residual(self, batch):
        left = super().residual(batch) + batch.inputs
        return left.abs() - batch.inputs.abs()


class Detached(Poisson):
    @torch.no_grad()
    def residual(self, batch):
        return super().residual(batch)


class InPlace(Poisson):
    def residual(self, batch):
        residual = super().residual(batch)
        batch.targets.add_(1.0)
        return residual


def isotropic(batch):
    numbers = batch.coefficients.clone()
    numbers[:, 1] = numbers[:, 0]
    return replace(batch, coefficients=numbers)


class SolverForgets(Poisson):
    """Solves with one coefficient in the place of another."""

    def solve(self, batch):
        return batch.with_targets(super().solve(isotropic(batch)).targets)


class AllForget(SolverForgets):
    """Never looks at one of its coefficients, in sampling, solving and judging alike."""

    def sample(self, *args, **others):
        return self.solve(super().sample(*args, **others))

    def residual(self, batch):
        return super().residual(isotropic(batch))


class ReadsTheAnswer(Poisson):
    def solve(self, batch):
        return batch if batch.targets is not None else super().solve(batch)


class Forgetful(Poisson):
    """Solves what it sampled last, whatever it is asked."""

    def solve(self, batch):
        solved = super().solve(batch)
        solution = solved.targets[:1].expand_as(solved.targets)
        return batch.with_targets(solution)


@dataclass(frozen=True)
class IdleKnob(Poisson):
    idle: Knob = Knob(1, 2)


class Unseeded(Poisson):
    def sample(self, num_samples, grid, generator=None, **others):
        return super().sample(num_samples, grid, None, **others)


class AlwaysTheSame(Poisson):
    def sample(self, num_samples, grid, generator=None, **others):
        return super().sample(num_samples, grid, torch.Generator().manual_seed(0), **others)


class SeededByResolution(Poisson):
    def sample(self, num_samples, grid, generator=None, **others):
        torch.rand(grid.num_points, generator=generator)
        return super().sample(num_samples, grid, generator, **others)


class OneProblem(Poisson):
    def sample(self, num_samples, *args, **others):
        return super().sample(num_samples, *args, **others).select([0] * num_samples)


class Uncounted(Poisson):
    def sample(self, *args, record=None, **others):
        return super().sample(*args, **others)


class AlwaysDouble(Poisson):
    def sample(self, *args, dtype=torch.float32, **others):
        return super().sample(*args, dtype=torch.float64, **others)


class Anonymous(Poisson):
    def sample(self, *args, **others):
        return replace(super().sample(*args, **others), systems=())


class WrongScaling(Poisson):
    homogeneities = (Homogeneity((("forcing", 1), ("solution", 2)), gauge=("forcing",), measure="rms"),)


class EmptyBalance(Poisson):
    def invariants(self, batch):
        return {"nothing": torch.zeros(len(batch), dtype=torch.float64)}


class BrokenBalance(Poisson):
    def invariants(self, batch):
        return {"mean": batch.to(dtype=torch.float64).inputs.square().flatten(1).mean(1)}


class NoBalance(Poisson):
    def invariants(self, batch):
        return {}


class Mismeasured(Poisson):
    def measured_knobs(self, batch):
        return {"anisotropy": super().measured_knobs(batch)["anisotropy"] ** 2}


class Invented(Poisson):
    def measured_knobs(self, batch):
        return {"temperature": torch.zeros(len(batch))}


@dataclass(frozen=True)
class Listed(Poisson):
    """An option that cannot be part of a key."""

    stages: list[int] = field(default_factory=lambda: [1, 2])


@dataclass(frozen=True)
class HiddenOption(Helmholtz):
    """Tells less than it is."""

    def to_dict(self):
        entries = super().to_dict()
        del entries["knobs"]["wavenumber_shift"]
        return entries


WRONG = {
    WrongSign: {"the_residual_vector_of_its_own_solution_vanishes"},
    RightMinusLeft: {"the_forcing_is_the_right_hand_side"},
    AlwaysContent: {"the_residual_vector_of_its_own_solution_vanishes", "wrong_fields_do_not_pass"},
    NormOnly: {"wrong_fields_do_not_pass"},
    Detached: {"the_residual_has_a_gradient"},
    InPlace: {"asking_changes_nothing"},
    SolverForgets: {"the_residual_vector_of_its_own_solution_vanishes", "it_solves_the_problem_it_is_given"},
    AllForget: {"it_solves_the_problem_it_is_given"},
    ReadsTheAnswer: {"it_solves_the_problem_it_is_given"},
    Forgetful: {"it_solves_the_problem_it_is_given"},
    IdleKnob: {"every_knob_has_an_effect_and_can_be_fixed"},
    Unseeded: {"same_seed_same_bytes_and_other_seed_other_samples", "the_global_generator_is_used_only_without_one"},
    AlwaysTheSame: {"same_seed_same_bytes_and_other_seed_other_samples"},
    SeededByResolution: {"one_seed_is_one_set_of_problems_at_every_precision_and_resolution"},
    OneProblem: {"same_seed_same_bytes_and_other_seed_other_samples"},
    Uncounted: {"samples_have_the_promised_form"},
    AlwaysDouble: {"samples_have_the_promised_form"},
    Anonymous: {"samples_have_the_promised_form"},
    WrongScaling: {"declared_homogeneities_are_exact"},
    EmptyBalance: {"invariants_hold_for_solutions_and_not_for_others"},
    BrokenBalance: {"invariants_hold_for_solutions_and_not_for_others"},
    NoBalance: {"invariants_hold_for_solutions_and_not_for_others"},
    Mismeasured: {"measured_knobs_lie_where_they_were_drawn", "a_fixed_knob_is_measured_as_it_was_fixed"},
    Invented: {"measured_knobs_lie_where_they_were_drawn"},
    Listed: {"it_is_a_frozen_dataclass_that_can_be_compared", "the_dictionary_form_is_plain_and_complete"},
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda cls: cls.__name__)
def test_a_wrong_system_breaks_its_promise(wrong, known):
    found = broken(known(wrong)())
    assert set(found) >= WRONG[wrong], found
    assert all(":" in told and len(told) > 25 for told in found.values()), found


def test_a_system_that_can_be_changed_is_found(known):
    class Mutable(Poisson):
        name = "mutable"
        __setattr__ = object.__setattr__

    assert (
        "can be set on a finished system" in broken(known(Mutable)())["it_is_a_frozen_dataclass_that_can_be_compared"]
    )


def test_a_system_that_tells_less_than_it_is(known):
    class Shifted(HiddenOption):
        name = "shifted"

    system = known(Shifted, Helmholtz.__module__)(wavenumber_shift=Knob(1, 5, integer=True))
    assert set(broken(system)) == {"the_dictionary_form_is_plain_and_complete"}


def test_a_system_without_a_description(known):
    class Untold(Poisson):
        name = "untold"

    found = broken(known(Untold, __name__)())
    assert set(found) == {"the_file_follows_the_physics_template"}
    assert "no heading 'Equation'" in found["the_file_follows_the_physics_template"]


def test_fixed_knobs_cannot_be_tried(known):
    found = broken(SYSTEMS["poisson"](anisotropy=Knob(2, 2)))
    assert (
        "give the contract a system with a range of 'anisotropy'" in found["every_knob_has_an_effect_and_can_be_fixed"]
    )


def test_it_says_the_same_under_optimization():
    """``python -O`` drops assert statements; the promises are kept all the same."""
    code = (
        "from scifm.systems.contract import SystemContract as C\n"
        "from scifm.systems.poisson import Poisson\n"
        "class Wrong(Poisson):\n"
        "    def residual(self, batch): return super().residual(batch) + 2 * batch.inputs\n"
        "class T(C): system = Wrong()\n"
        "T().test_the_residual_vector_of_its_own_solution_vanishes()\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert "AssertionError: Grid(" in done.stderr


def test_the_module_needs_no_pytest():
    code = "import sys, scifm.systems.contract; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"
