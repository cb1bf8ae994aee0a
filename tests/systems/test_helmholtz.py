from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems import periodic_elliptic
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.system import SamplingRecord

GRID = Grid.square(32)


def test_whole_and_real_shifts():
    whole = Helmholtz().sample(300, GRID, generator_for(0)).coefficient("wavenumber_shift")
    assert set(whole.tolist()) <= set(range(1, 11))
    assert len(whole.unique()) >= 9
    real = Helmholtz(wavenumber_shift=Knob(1, 10)).sample(300, GRID, generator_for(0)).coefficient("wavenumber_shift")
    assert len(real.unique()) == 300
    assert Knob(1, 10).contains(real).all()


def test_signs_are_the_two_equations():
    code, slides = Helmholtz(sign="code"), Helmholtz(sign="slides")
    batch = code.sample(4, GRID, generator_for(0), dtype=torch.float64)
    shift = batch.coefficient("wavenumber_shift")[:, None, None, None, None]
    torch.testing.assert_close(slides.residual(batch) - code.residual(batch), 2 * shift * batch.targets)
    mean = batch.inputs.mean((-1, -2), keepdim=True) / shift
    torch.testing.assert_close(batch.targets.mean((-1, -2), keepdim=True), -mean)
    torch.testing.assert_close(slides.solve(batch).targets.mean((-1, -2), keepdim=True), mean)


def test_large_solutions_are_redrawn_and_counted():
    record = SamplingRecord()
    batch = Helmholtz().sample(512, GRID, generator_for(0), record=record)
    assert batch.targets.abs().max() <= 2
    assert record.drawn == 512 + record.rejected
    assert 0.1 < record.rejected / record.drawn < 0.22
    everything = SamplingRecord()
    free = Helmholtz(max_solution=math.inf).sample(512, GRID, generator_for(0), record=everything)
    assert everything == SamplingRecord(drawn=512, rejected=0)
    share = (free.targets.flatten(1).abs().amax(1) > 2).double().mean().item()
    assert share == pytest.approx(record.rejected / record.drawn, abs=0.06)


def test_kept_samples_are_not_touched_by_redraws():
    kept = Helmholtz().sample(64, GRID, generator_for(0))
    free = Helmholtz(max_solution=math.inf).sample(64, GRID, generator_for(0))
    small = free.targets.flatten(1).abs().amax(1) <= 2
    assert 32 < small.sum() < 64
    assert torch.equal(kept.targets[small], free.targets[small])


def test_resonances_are_redrawn():
    resonance = 0.01 * (2 * math.pi) ** 2 * 5
    record = SamplingRecord()
    system = Helmholtz(wavenumber_shift=Knob(0.98 * resonance, 1.02 * resonance), max_solution=math.inf)
    shift = system.sample(400, GRID, generator_for(0), record=record).coefficient("wavenumber_shift")
    assert ((shift - resonance).abs() > 0.999e-3 * resonance).all()
    assert record.rejected / record.drawn == pytest.approx(0.05, abs=0.03)


def test_an_impossible_knob_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(periodic_elliptic, "_MAX_ROUNDS", 5)
    with pytest.raises(DataError, match="Widen the knobs"):
        Helmholtz(max_solution=1e-6).sample(4, GRID, generator_for(0))


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'slides'"):
        Helmholtz(sign="slide")
    with pytest.raises(ConfigError, match="low > 0"):
        Helmholtz(wavenumber_shift=Knob(0, 1))
    with pytest.raises(ConfigError, match="max_solution"):
        Helmholtz(max_solution=0.0)
    with pytest.raises(ConfigError, match="whole"):
        Helmholtz().where(wavenumber_shift=[1.5, 3])
