"""Samples of which some have solutions: which ones, how often, and that the others are never solved."""

from __future__ import annotations

import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.origin_config import Curriculum, SystemConfig
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.partly_solved import PartlySolved, source_of, unsolved_samples
from scifm.data.stream import Part
from scifm.data.unsolved import UnsolvedSamples
from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson

STEADY = SystemOrigin.of(Poisson(), tiny.GRID)
LINE = Grid((16,))


def moving(**window: int) -> SystemOrigin:
    return SystemOrigin.of(Burgers(num_frames=6), LINE, Window(**window))


def test_every_batch_holds_as_many_of_either_kind():
    source = source_of(STEADY, 7, 3, num_samples=20, num_solved=3)
    assert isinstance(source, PartlySolved)
    assert source.num_samples == 20
    shown = []
    for step in range(6):
        batch = source.batch(step)
        solved = batch.valid_targets.flatten(1).all(dim=1)
        assert solved.tolist() == [True, False] * 3 + [True]
        assert not bool(batch.targets[~solved].any())
        shown.append(batch)
    pieces = [source.batch(4, Part(number, 3)) for number in range(3)]
    joined = type(shown[4]).concatenate(pieces)
    assert torch.equal(joined.inputs, shown[4].inputs)
    assert torch.equal(joined.valid_targets, shown[4].valid_targets)
    unsolved = torch.cat([batch.inputs[1::2] for batch in shown])[:17]
    assert len(unsolved.flatten(1).unique(dim=0)) == 17  # each once before one comes again


def test_solved_ones_are_those_of_a_training_on_that_many():
    source = source_of(STEADY, 4, 3, num_samples=10, num_solved=5)
    alone = STEADY.stream(4, 3, num_samples=5)
    assert torch.equal(source.solved.samples.inputs, alone.samples.inputs)
    assert torch.equal(source.solved.samples.targets, alone.samples.targets)
    assert source_of(STEADY, 4, 3, num_samples=5, num_solved=5).index(2).tolist() == alone.index(2).tolist()


@pytest.mark.parametrize("count", [None, 6])
def test_none_is_solved_where_none_is_asked_for(count, monkeypatch):
    drawn = STEADY.stream(4, 3, num_samples=None).batch(1)
    monkeypatch.setattr(Poisson, "sample", lambda *a, **k: pytest.fail("it was solved"))
    source = source_of(STEADY, 4, 3, num_samples=count, num_solved=0)
    batch = source.batch(1)
    assert batch.targets is None
    assert batch.num_samples == 4
    if count is None:
        assert torch.equal(batch.inputs, drawn.inputs)  # the same problems that are solved elsewhere


def test_what_evolves_begins_at_time_0_and_says_what_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(Burgers, "advance", lambda *a, **k: pytest.fail("it was marched"))
    batch = source_of(moving(horizon=3, stride=2), 4, 0, num_solved=0).batch(0)
    assert batch.targets is None
    torch.testing.assert_close(batch.lead_time, torch.tensor([[0.1, 0.2, 0.3]]).expand(4, 3))
    leads = source_of(moving(leads=3), 64, 0, num_solved=0).batch(0).lead_time[:, 0]
    assert sorted({round(float(t), 3) for t in leads}) == [0.05, 0.1, 0.15]
    with pytest.raises(ConfigError, match="history = 2: frames before"):
        source_of(moving(history=2), 4, 0, num_solved=0).batch(0)


def test_solved_trajectories_stand_beside_unsolved_beginnings():
    source = source_of(moving(horizon=2), 6, 0, num_samples=8, num_solved=2)
    batch = source.batch(0)
    assert batch.valid_targets.flatten(1).any(1).tolist() == [True, False] * 3
    assert batch.lead_time.shape == (6, 2)
    assert source.lead_times == pytest.approx((0.05, 0.05))


def test_a_mixture_is_left_unsolved_too_and_a_store_is_not_looked_at(tmp_path):
    store = generate(Poisson(), num_samples={"train": 8, "valid": 2}, num_points=16, path=tmp_path / "store")
    members = (Member(StoreOrigin(store)), Member(SystemOrigin(SystemConfig(name="helmholtz"), store.grid)))
    batch = source_of(MixtureOrigin(members), 6, 0, num_solved=0).batch(0)
    assert batch.targets is None
    assert set(batch.systems) == {"poisson", "helmholtz"}
    both = source_of(MixtureOrigin(members), 6, 0, num_samples=8, num_solved=4).batch(0)
    assert both.valid_targets.flatten(1).any(1).tolist() == [True, False] * 3
    read = unsolved_samples(StoreOrigin(store), 3, 0)
    assert (read.num_samples, read.some(2).targets) == (8, None)


def test_samples_whose_solutions_nobody_sees(tmp_path):
    batch = tiny.batch(5)
    hidden = UnsolvedSamples(batch)
    assert hidden.signature == batch.signature
    for given in (hidden.batch([1, 2]), hidden.some(2), hidden.in_memory(9), *hidden.pieces(3)):
        assert given.targets is None
    assert hidden.problems([3, 1]).num_samples == 2
    assert torch.equal(hidden.problems([3, 1]).batch([0]).inputs, batch.inputs[3:4])


def test_a_batch_of_one_cannot_hold_both():
    with pytest.raises(ConfigError, match="batch_size = 1"):
        source_of(STEADY, 1, 0, num_samples=4, num_solved=2)


def test_stages_of_a_curriculum_are_left_unsolved_too(monkeypatch):
    """Whatever comes first in training: nothing is solved that need not be, and halves stay halves."""
    easier = Curriculum(knob="anisotropy", values=((1.0, 2.0),), steps=2)
    origin = SystemOrigin(SystemConfig(name="poisson"), tiny.GRID, curriculum=easier)
    both = source_of(origin, 4, 0, num_samples=6, num_solved=2)
    for step in (0, 2):
        assert both.batch(step).valid_targets.flatten(1).any(1).tolist() == [True, False] * 2
    assert not torch.equal(both.sources[0].batch(0).coefficients, both.sources[1].batch(0).coefficients)
    monkeypatch.setattr(Poisson, "sample", lambda *a, **k: pytest.fail("it was solved"))
    none = source_of(origin, 4, 0, num_solved=0)
    assert [none.batch(step).targets for step in (0, 3)] == [None, None]
