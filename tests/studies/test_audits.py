from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from scifm.data.origins import SystemOrigin
from scifm.data.stream import Epochs, Stream
from scifm.data.subsets import nested_subsets
from scifm.errors import DataError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.studies.audits import (
    audit_disjoint,
    audit_knob_effects,
    audit_knob_ranges,
    audit_subsets,
    audit_unseen,
    sample_hashes,
)
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from scifm.systems.poisson import Poisson

GRID = Grid.square(32)


def draw(purpose: str, num: int = 16, system=None) -> Batch:
    return (system or Poisson()).sample(num, GRID, generator_for(0, purpose))


# --- subsets ----------------------------------------------------------------------------------------------------------


def test_the_subsets_of_the_library_are_distinct_and_nested():
    audit = audit_subsets({seed: nested_subsets(100, [4, 16], seed) for seed in (0, 1)}, 100, task="poisson-5-10")
    assert audit.good
    assert "subsets of 4, 16 samples, seeds 0, 1, from a pool of 100" in audit.said


@pytest.mark.parametrize(
    ("subsets", "said"),
    [
        ({0: {2: [1, 5], 4: [1, 5, 7, 7]}}, "seed 0: the subset of 4 holds 3 distinct samples"),
        ({0: {2: [1, 5]}, 3: {2: [1, 5], 4: [2, 5, 6, 7]}}, "seed 3: 1 of the subset of 2 are not in that of 4"),
        ({0: {2: [1, 10]}}, "names samples the pool does not have"),
        ({0: {3: [1, 2]}}, "the subset of 3 holds 2 distinct samples"),
        ({}, "seeds none"),
    ],
)
def test_faulty_subsets_are_told(subsets, said):
    audit = audit_subsets(subsets, 10, task="task")
    assert not audit.good
    assert said in audit.said


# --- disjoint ---------------------------------------------------------------------------------------------------------


def test_the_test_samples_are_not_in_the_pool():
    pool = SystemOrigin.of(Poisson(), GRID).pool(32, 0).samples
    audit = audit_disjoint(draw("test"), pool, task="poisson-5-10")
    assert audit.good
    assert audit.said == "none of 16 test samples of poisson-5-10 is among the 32 samples of its pool."


def test_leaked_samples_are_found_wherever_they_lie():
    test = draw("test")
    pool = Batch.concatenate([draw("pool"), test.select([7, 2]), draw("more")])
    audit = audit_disjoint(test, pool, task="task")
    assert not audit.good
    assert audit.said.startswith("2 of 16 test samples of task are among the 34")


def test_a_sample_is_its_forcing_and_its_coefficients():
    batch = draw("test", 2)
    assert len(set(sample_hashes(batch))) == 2
    assert sample_hashes(replace(batch, targets=None)) == sample_hashes(batch)
    touched = batch.inputs.clone()
    touched[0, 0, 0, 3, 3] = touched[0, 0, 0, 3, 3].nextafter(torch.tensor(9.0))
    assert sample_hashes(replace(batch, inputs=touched))[0] != sample_hashes(batch)[0]
    assert sample_hashes(replace(batch, inputs=touched))[1] == sample_hashes(batch)[1]
    coefficients = batch.coefficients.roll(1, 1)
    assert not set(sample_hashes(replace(batch, coefficients=coefficients))) & set(sample_hashes(batch))


def test_a_sample_is_known_again_in_a_batch_with_more_names():
    batch = draw("test", 3)
    union = Helmholtz.signature.union(batch.signature)
    zeros = torch.zeros(3, 2)
    wide = Batch(union, GRID, batch.inputs, torch.cat([zeros, batch.coefficients], 1), batch.targets)
    assert sample_hashes(wide) == sample_hashes(batch)
    assert sample_hashes(replace(wide, coefficients=wide.coefficients + 1)) != sample_hashes(batch)


def test_other_precision_or_grid_is_refused_for_comparison():
    with pytest.raises(DataError, match="one dtype"):
        audit_disjoint(draw("test"), draw("pool").to(dtype=torch.float64), task="task")
    with pytest.raises(DataError, match="one grid"):
        audit_disjoint(draw("test"), Poisson().sample(2, Grid.square(16)), task="task")


def test_a_stream_does_not_hold_the_test_samples():
    stream = Stream(Poisson(), GRID, batch_size=4, seed=0)
    some = audit_unseen(draw("test"), stream, num_steps=1000, max_steps=5, task="task")
    assert some.good
    assert (
        "among 20 samples of the pre-training, those of 5 of its 1,000 steps, drawn at random with seed 0" in some.said
    )
    every = audit_unseen(draw("test"), stream, num_steps=3, task="task")
    assert every.good
    assert "12 samples of the pre-training, those of 3 of its 3 steps, all of them" in every.said


def test_a_sample_trained_on_is_found():
    stream = Stream(Poisson(), GRID, batch_size=4, seed=0)
    test = Batch.concatenate([draw("test", 3), stream.batch(6).select([1])])
    audit = audit_unseen(test, stream, num_steps=8, task="task")
    assert not audit.good
    assert audit.said.startswith("1 of 4 test samples of task is among 32 samples")
    assert audit_unseen(test, stream, num_steps=6, task="task").good  # steps 0 to 5
    rounds = Epochs(Batch.concatenate([draw("train", 7), test.select([0])]), batch_size=4, seed=0)
    assert not audit_unseen(test, rounds, num_steps=2, task="task").good
    with pytest.raises(DataError, match="at least 1 step"):
        audit_unseen(test, stream, num_steps=0, task="task")


# --- knobs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Idle(Poisson):
    """Poisson with a knob that does nothing."""

    idle: Knob = Knob(1, 2)


@dataclass(frozen=True)
class Careless(Poisson):
    """Poisson that draws other anisotropies than it says."""

    factor: float = 2.0

    def coefficients_for(self, drawn, spectrum, grid):
        return super().coefficients_for({**drawn, "anisotropy": self.factor * drawn["anisotropy"]}, spectrum, grid)


@dataclass(frozen=True)
class Silent(Poisson):
    """Poisson that cannot measure its knobs."""

    name: ClassVar[str] = "silent"

    def measured_knobs(self, batch):
        return {}


@pytest.mark.parametrize(
    "system",
    [
        Poisson(),
        Poisson(anisotropy=[10, 20]),
        AdvectionDiffusion(),
        AdvectionDiffusion(advection_diffusion_ratio=[2, 5]),
        Helmholtz(),
        Helmholtz(wavenumber_shift=Knob(15, 20, integer=True)),
    ],
    ids=str,
)
def test_every_knob_has_an_effect_and_is_drawn_as_declared(system):
    effects, ranges = audit_knob_effects(system, GRID), audit_knob_ranges(system, draw("test", 64, system))
    assert [audit.name for audit in effects] == [f"effect of {name}" for name in system.knobs]
    assert [audit.name for audit in ranges] == [f"range of {name}" for name in system.knobs]
    for audit in (*effects, *ranges):
        assert audit.good, audit.said


def test_a_knob_without_effect_fails():
    audits = {audit.name: audit for audit in audit_knob_effects(Idle(), GRID)}
    assert not audits["effect of idle"].good
    assert "from 1.05 to" in audits["effect of idle"].said
    assert "by 0 % of its norm" in audits["effect of idle"].said
    assert audits["effect of anisotropy"].good


def test_the_effect_is_measured_on_samples_with_the_same_forcing_only():
    """At ω = 4 two in three Helmholtz draws are rejected, and drawn again with another forcing."""
    audit = audit_knob_effects(Helmholtz(wavenumber_shift=[4, 5]), GRID)[0]
    assert audit.good
    count = int(audit.said.split("mean over ")[1].split()[0])
    assert 0 < count < 64


def test_a_fixed_knob_has_nothing_to_turn():
    audit = audit_knob_effects(Poisson(anisotropy=3), GRID)[0]
    assert audit.good
    assert "fixed at 3" in audit.said


def test_a_stop_that_cannot_be_drawn_is_left_out_and_told():
    """At 95 % of this range lies the resonance of the waves with |k|² = 50 (2π)²."""
    audit = audit_knob_effects(Helmholtz(wavenumber_shift=[15, 20]), GRID, num_samples=8)[0]
    assert audit.good
    assert "from 15.25 to 16.75" in audit.said
    assert audit.said.endswith("No samples can be drawn at 19.75.")


def test_a_knob_that_cannot_be_turned_fails():
    fixed = AdvectionDiffusion(advection_diffusion_ratio=[1e4, 2e4], direction=0)
    audit = audit_knob_effects(fixed, GRID)[0]
    assert not audit.good
    assert "could not be turned" in audit.said


def test_states_on_an_attractor_are_compared_from_their_start():
    """Behind the time that leads there the states of two settings differed, so no knob of a chaotic system passed."""
    system = KuramotoSivashinsky(spin_up=5.0, num_frames=3, save_interval=1.0)
    audits = audit_knob_effects(system, Grid.square(32, num_spatial_dims=1), num_samples=4)
    assert [audit.good for audit in audits] == [True, True]
    assert "4 samples with the same forcing" in audits[0].said


def test_samples_outside_the_declared_range_fail():
    system = Careless()
    audits = {audit.name: audit for audit in audit_knob_ranges(system, draw("test", 64, system))}
    assert not audits["range of anisotropy"].good
    assert "declared is 1 to 5" in audits["range of anisotropy"].said
    assert audits["range of angle"].good
    assert audit_knob_ranges(Careless(factor=1.0), draw("test", 64, Careless(factor=1.0)))[0].good


def test_a_fraction_fails_an_integer_knob_and_numbers_are_told():
    batch = draw("test", 3, Helmholtz())
    given = batch.coefficients.clone()
    given[:, 1] = torch.tensor([1.0, 4.0, 9.0])
    whole = audit_knob_ranges(Helmholtz(), replace(batch, coefficients=given))[0]
    assert whole.good
    assert whole.said == (
        "wavenumber_shift of helmholtz is 1 at least, 4 in the median and 9 at most over 3 samples; "
        "declared is 1 to 10, whole; none outside."
    )
    given[1, 1] = 4.5
    broken = audit_knob_ranges(Helmholtz(), replace(batch, coefficients=given))[0]
    assert not broken.good
    assert "1 outside" in broken.said


def test_what_cannot_be_measured_does_not_pass():
    audits = audit_knob_ranges(Silent(), draw("test", 4))
    assert [audit.good for audit in audits] == [False, False]
    assert "cannot be measured" in audits[0].said


def test_nan_does_not_pass():
    batch = draw("test", 4)
    given = batch.coefficients.clone()
    given[2, 0] = float("nan")
    assert not audit_knob_ranges(Poisson(), replace(batch, coefficients=given))[0].good
