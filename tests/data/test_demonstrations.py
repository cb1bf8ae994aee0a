"""Solved examples to show: of one step, none of them among what is scored, larger choices holding smaller ones."""

from __future__ import annotations

import pytest
import torch

import evolving
import tiny
from scifm.data.demonstrations import demonstrations_of, some_demonstrations
from scifm.data.generate import generate
from scifm.data.origin_config import DataConfig, MixtureConfig
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.resolving import resolve_origin
from scifm.data.subsets import nested_subsets
from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    counts = {"train": 6, "valid": 2, "test": 4}
    return generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path_factory.mktemp("stores") / "poisson")


def rows_of(batch, pool) -> list[int]:
    """Return where in a pool each sample of a batch stands."""
    return [int((pool.inputs == own).flatten(1).all(1).nonzero()) for own in batch.inputs]


def test_those_of_a_store_are_of_its_training_split_and_nest(steady):
    pool = steady.split("train").load()
    chosen = [rows_of(demonstrations_of(StoreOrigin(steady), count, seed=3), pool) for count in (2, 5, 6)]
    assert chosen[0] == chosen[1][:2] == chosen[2][:2]
    assert sorted(chosen[2]) == list(range(6))
    assert chosen[2] != rows_of(demonstrations_of(StoreOrigin(steady), 6, seed=4), pool)
    assert chosen[1] == nested_subsets(6, [5], 3)[5].tolist(), "those that fine-tuning takes"
    with pytest.raises(ConfigError, match=r"7 demonstrations were asked for.*there are 6"):
        demonstrations_of(StoreOrigin(steady), 7)


def test_those_of_a_system_never_meet_what_is_scored():
    origin = SystemOrigin.of(Poisson(), tiny.GRID)
    shown, again = demonstrations_of(origin, 8, seed=0), demonstrations_of(origin, 8, seed=0)
    scored, _ = origin.unseen(8, seed=0)
    assert torch.equal(shown.inputs, again.inputs)
    assert not (shown.inputs[:, None] == scored.batch(slice(None)).inputs).flatten(2).all(2).any()
    assert not torch.equal(shown.inputs, demonstrations_of(origin, 8, seed=1).inputs)


@pytest.mark.parametrize("window", [Window(), Window(history=2, horizon=2), Window(stride=2)])
def test_of_trajectories_each_gives_one_step(window, tmp_path):
    origin = StoreOrigin(evolving.store(tmp_path), window)
    shown = demonstrations_of(origin, 6, seed=0)
    assert shown.num_frames == 1
    assert shown.inputs.shape[1] == window.history
    assert shown.lead_times == pytest.approx((0.1 * window.stride,) * 2)
    rates = shown.coefficient("rate")
    assert len(rates.unique()) == 6, "each is of a trajectory of its own"
    pool = origin.framed(Window(window.history, 1, window.stride)).split("train")
    rows = [row % pool.windows_per_trajectory for row in rows_of(shown, pool.load())]
    assert len(set(rows)) > 1 or pool.windows_per_trajectory == 1, "from anywhere in them"


def test_of_an_evolving_system():
    origin = SystemOrigin.of(Burgers(num_frames=4), Grid((16,), (1.0,), (True,)), Window(history=2, horizon=2))
    shown = demonstrations_of(origin, 3, seed=0)
    assert shown.inputs.shape[:2] == (3, 2)
    assert shown.num_frames == 1
    assert len(shown.coefficient("viscosity").unique()) == 3


def test_those_of_a_mixture_are_refused():
    entries = [MixtureConfig(name="poisson"), MixtureConfig(name="helmholtz")]
    with pytest.raises(ConfigError, match="these samples are of a mixture"):
        demonstrations_of(resolve_origin(DataConfig(num_points=16), mixture=entries), 2)


def test_a_batch_in_memory_gives_some_of_its_samples():
    batch = tiny.batch(5)
    assert sorted(rows_of(some_demonstrations(batch, 5), batch)) == list(range(5))
