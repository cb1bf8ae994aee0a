"""Problems that share their knobs: groups of a stream, of a finite set, of trajectories and of mixtures."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.resolving import resolve_origin
from scifm.data.stream import WHOLE, Epochs, Part, Stream, Taking, drawn_problems
from scifm.errors import SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import SYSTEMS
from scifm.systems.evolving import Evolving
from scifm.systems.moving_front import MovingFront
from scifm.systems.poisson import Poisson

GRID, LINE = Grid.square(16), Grid((32,), (1.0,), (True,))


def groups_of(batch: Batch) -> dict[int, list[int]]:
    """Return the samples of each group."""
    assert batch.group is not None
    found: dict[int, list[int]] = {}
    for place, name in enumerate(batch.group.tolist()):
        found.setdefault(name, []).append(place)
    return found


def require_grouped(batch: Batch) -> None:
    """Samples of a group have the same coefficients and other fields; those of others have other coefficients."""
    rows = {name: batch.coefficients[places] for name, places in groups_of(batch).items()}
    for own in rows.values():
        assert bool((own == own[0]).all())
    assert len({tuple(own[0].tolist()) for own in rows.values()}) == len(rows)
    assert len(torch.unique(batch.inputs.flatten(1), dim=0)) == batch.num_samples


def test_so_many_one_behind_the_other_share_their_knobs():
    drawn = drawn_problems(Poisson(), 11, GRID, generator_for(0, "knobs"), same_knobs=4)
    assert list(groups_of(drawn).values()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    require_grouped(drawn)
    plain = drawn_problems(Poisson(), 3, GRID, generator_for(0, "knobs"))
    assert plain.group is None
    assert torch.equal(plain.inputs, Poisson().sample(3, GRID, generator_for(0, "knobs")).inputs)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_can_hold_its_knobs(name):
    system = SYSTEMS[name]()
    dims = system.signature.num_spatial_dims
    grid = Grid((20,) * dims, (1.0,) * dims, "open" if isinstance(system, MovingFront) else "periodic")
    if isinstance(system, Evolving):
        system = type(system)(num_frames=2)
    drawn = drawn_problems(system, 4, grid, generator_for(2, "every"), same_knobs=2)
    assert drawn.num_samples == 4
    assert list(groups_of(drawn).values()) == [[0, 1], [2, 3]]
    measured = system.measured_knobs(drawn)
    for knob, values in measured.items():
        inside = system.knobs[knob]
        scale = max(abs(inside.low), abs(inside.high))
        assert float((values[::2] - values[1::2]).abs().max()) < 5e-3 * scale  # some are measured of fields


def test_a_stream_is_a_function_of_seed_and_step():
    def made(step: int, part: Part = WHOLE) -> Batch:
        return Stream(Poisson(), GRID, batch_size=8, seed=3, taking=Taking(same_knobs=4)).batch(step, part)

    batch = made(5)
    require_grouped(batch)
    again = made(5)
    assert torch.equal(again.inputs, batch.inputs)
    assert torch.equal(again.group, batch.group)
    parts = Batch.concatenate([made(5, Part(0, 2)), made(5, Part(1, 2))])
    assert torch.equal(parts.group, batch.group)
    assert not set(groups_of(made(6))) & set(groups_of(batch))
    moved = batch.to(dtype=torch.float64).select([1, 5])
    assert moved.group.dtype == torch.int64
    assert torch.equal(moved.group, batch.group[[1, 5]])


def test_windows_of_one_trajectory_are_never_of_one_group():
    system = Burgers(num_frames=9)
    stream = Stream(system, LINE, batch_size=12, seed=1, taking=Taking(Window(2), 3, 2))
    batch = stream.batch(0)
    found = groups_of(batch)
    assert [len(places) for places in found.values()] == [2] * 6  # two groups of trajectories, three windows of each
    for places in found.values():
        assert bool((batch.coefficients[places] == batch.coefficients[places[0]]).all())
    # a trajectory is known by its place: of each its first window, then the second
    trajectories = torch.arange(12) % 4
    for places in found.values():
        assert len(set(trajectories[places].tolist())) == len(places)


def origin(mixture=(), system=None, **data):
    entries = tuple(MixtureConfig(name=name) for name in mixture)
    named = (
        None if system is None else SystemConfig(name=system, options={"num_frames": 6} if system == "burgers" else {})
    )
    return resolve_origin(DataConfig(num_points=16, same_knobs=4, **data), system=named, mixture=entries)


def test_a_finite_set_keeps_groups_together_and_shuffles_them():
    source = origin(system="poisson").stream(8, 0, num_samples=16)
    first, second = source.batch(0), source.batch(1)
    for batch in (first, second):
        require_grouped(batch)
        assert sorted(map(len, groups_of(batch).values())) == [4, 4]
    assert not set(groups_of(first)) & set(groups_of(second))
    orders = [tuple(groups_of(source.batch(2 * epoch))) for epoch in range(8)]
    assert len(set(orders)) > 1
    every = torch.cat([source.index(step) for step in (4, 5)])
    assert sorted(every.tolist()) == list(range(16))


def test_a_finite_set_of_trajectories_gives_one_window_of_each_at_a_time():
    source = origin(system="burgers", history=2).stream(4, 0, num_samples=8)
    windows = source.num_samples // 8
    assert windows == 4
    counts: Counter[int] = Counter()
    for step in range(source.num_samples // 4):
        index, batch = source.index(step), source.batch(step)
        assert len(groups_of(batch)) == 1
        assert len(set((index // windows).tolist())) == 4
        assert len(set((index // windows // 4).tolist())) == 1  # of the same knobs
        assert bool((batch.coefficients == batch.coefficients[0]).all())
        counts.update(len(set((index % windows).tolist())) > 1 for _ in (0,))
    assert counts[True] > 0, "all are of the same times"


@pytest.mark.parametrize("num_samples", [None, 32])
def test_mixtures_hold_groups_of_each_member(num_samples):
    source = origin(mixture=("poisson", "helmholtz")).stream(16, 0, num_samples=num_samples)
    batch = source.batch(0)
    found = groups_of(batch)
    for places in found.values():
        assert len({batch.systems[place] for place in places}) == 1
        assert bool((batch.coefficients[places] == batch.coefficients[places[0]]).all())
    assert len({batch.systems[places[0]] for places in found.values()}) == 2
    assert max(map(len, found.values())) == 4


def test_what_fits_and_what_scores_has_knobs_of_its_own():
    for batch in (origin(system="poisson").fitting(8, 0), origin(system="poisson").validation(8, 0)):
        assert batch.group is None
        assert len(torch.unique(batch.coefficients[:, 0])) == 8


def test_a_batch_checks_its_groups():
    batch = Poisson().sample(3, GRID, generator_for(0, "check"))
    with pytest.raises(SignatureError, match=r"group must have shape \(3,\); got \(2,\)"):
        Batch(batch.signature, GRID, batch.inputs, batch.coefficients, group=torch.zeros(2, dtype=torch.long))
    grouped = Batch(batch.signature, GRID, batch.inputs, batch.coefficients, group=torch.arange(3))
    with pytest.raises(SignatureError, match="or groups, and some have not"):
        Batch.concatenate([grouped, batch.with_targets(None)])
    assert Epochs(grouped, batch_size=3, seed=0).batch(0).group is not None
