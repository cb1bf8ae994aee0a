"""Sources that take turns: which stage a step is of, and what a curriculum of a recipe becomes."""

from __future__ import annotations

import pytest
import torch

import pinn
import tiny
from scifm.config import build_config
from scifm.data.origin_config import Curriculum, DataConfig, SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.data.staged import Staged, sees_all, stage_of
from scifm.data.stream import Epochs, Part, Stream
from scifm.errors import ConfigError
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import PretrainRecipe, training_source

SYSTEM = SystemConfig(name="poisson", knobs={"anisotropy": [1, 5]})
EASIER = Curriculum(knob="anisotropy", values=(1.5, [2, 3]), steps=4)


def streams(*seeds: int) -> list[Stream]:
    return [Stream(Poisson(), tiny.GRID, batch_size=4, seed=seed) for seed in seeds]


def test_each_source_has_its_steps_and_the_last_the_rest():
    sources = streams(0, 1, 2)
    staged = Staged(sources, 3)
    assert [staged.stage(step) for step in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [stage_of(staged, step) for step in (0, 3, 100)] == [0, 1, 2]
    assert stage_of(sources[0], 100) == 0
    for step, source, own in ((0, 0, 0), (2, 0, 2), (3, 1, 0), (5, 1, 2), (6, 2, 0), (20, 2, 14)):
        for part in (Part(0, 1), Part(1, 2)):
            got, expected = staged.batch(step, part), sources[source].batch(own, part)
            assert torch.equal(got.inputs, expected.inputs)
            assert torch.equal(got.coefficients, expected.coefficients)


def test_it_says_of_its_batches_what_they_are():
    staged = Staged(streams(0, 1), 3)
    assert (staged.signature, staged.grid, staged.num_samples) == (Poisson.signature, tiny.GRID, None)
    assert staged.lead_times is None
    rings = [pinn.convection(frames=frames) for frames in (11, 6)]
    together = Staged([Epochs(ring, batch_size=1, seed=0) for ring in rings], 3)
    assert together.num_samples == 1
    assert together.lead_times == pytest.approx((0.1, 0.2))


def test_whether_every_step_holds_all_there_is():
    all_, some = (Epochs(tiny.batch(4), batch_size=size, seed=0) for size in (4, 3))
    assert sees_all(all_)
    assert not sees_all(some)
    assert not sees_all(streams(0)[0])
    assert sees_all(Staged([all_, all_], 2))
    assert not sees_all(Staged([some, all_], 2))


def test_a_curriculum_changes_its_knob_alone_and_ends_with_the_system_itself():
    stages = [stage.to_dict()["knobs"]["anisotropy"] for stage in EASIER.stages(SYSTEM)]
    assert [list(value) if isinstance(value, list | tuple) else value for value in stages] == [1.5, [2, 3], [1, 5]]
    source = SystemOrigin(SYSTEM, tiny.GRID, curriculum=EASIER).stream(8, 0)
    own = SystemOrigin(SYSTEM, tiny.GRID).stream(8, 0)
    drawn = [source.batch(step) for step in (0, 3, 4, 7, 8)]
    plain = SystemOrigin(SystemConfig(name="poisson", knobs={"anisotropy": 1.5}), tiny.GRID).stream(8, 0)
    assert torch.equal(drawn[0].coefficients, plain.batch(0).coefficients)
    assert torch.equal(drawn[1].coefficients, plain.batch(3).coefficients)
    assert torch.equal(drawn[4].inputs, own.batch(0).inputs)
    assert torch.equal(drawn[4].coefficients, own.batch(0).coefficients)
    assert not torch.equal(drawn[2].coefficients, plain.batch(0).coefficients)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"knob": "anisotrpy"}, r"data\.curriculum: .*anisotropy"),
        ({"values": (-2.0,)}, r"data\.curriculum: .*anisotropy"),
        ({"values": ([3, 2],)}, r"data\.curriculum: A knob needs low <= high"),
    ],
)
def test_a_value_that_the_system_cannot_take_is_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        EASIER.model_copy(update=changes).stages(SYSTEM)


@pytest.mark.parametrize("table", [{"values": []}, {"steps": 0}])
def test_a_curriculum_of_nothing_is_refused(table):
    whole = {"knob": "anisotropy", "values": [1.5], "steps": 2, **table}
    with pytest.raises(ConfigError, match=next(iter(table))):
        build_config(DataConfig, {"curriculum": whole})


def test_a_recipe_without_one_is_written_as_before():
    assert "curriculum" not in PretrainRecipe.read(tiny.RECIPE).to_dict()["data"]


def test_a_problem_is_the_same_in_every_stage_but_for_its_knob():
    data = {**pinn.RECIPE["data"], "curriculum": {"knob": "speed", "values": [0.25, 0.5], "steps": 2}}
    source = training_source(PretrainRecipe.read({**pinn.RECIPE, "data": data}))
    speeds = [float(source.batch(step).coefficient("speed")) for step in range(6)]
    assert speeds == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert all(torch.equal(source.batch(step).inputs, source.batch(0).inputs) for step in (2, 4))
