"""Optimizers by name: each trains, is resumed bit for bit, and refuses what it has no use for."""

from __future__ import annotations

import pytest
import torch

import tiny
from scifm.config import build_config
from scifm.data.stream import Epochs, Stream
from scifm.errors import ConfigError
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import TrainingConfig, train
from scifm.training.optimizers import OPTIMIZERS, flattened_state, restored_state
from scifm.training.pretrain import PretrainRecipe
from scifm.training.validation import sample_errors
from scifm.training.weights import ParameterGroup

SAMPLES = tiny.batch(6, purpose="few")


def config(name, **changes) -> TrainingConfig:
    rate = 1.0 if "lbfgs" in str(name) else 1e-2
    settings = {
        "num_steps": 6, "batch_size": 6, "learning_rate": rate, "schedule": "constant",
        "checkpoint_every": 3, "accelerator": "cpu", "optimizer": name, **changes,
    }  # fmt: skip
    return build_config(TrainingConfig, settings)


def trained(name: str, folder=None, **changes):
    operator, checkpoint = tiny.operator(), None if folder is None else Checkpoint(folder)
    train(operator, Epochs(SAMPLES, batch_size=6, seed=0), config=config(name, **changes), checkpoint=checkpoint)
    return operator


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns(name):
    before = float(sample_errors(tiny.operator(), SAMPLES).mean())
    assert float(sample_errors(trained(name, num_steps=20), SAMPLES).mean()) < 0.95 * before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_resumed_bit_for_bit(name, tmp_path):
    straight = trained(name, tmp_path / "straight")
    trained(name, tmp_path / "state", num_steps=3)
    resumed = trained(name, tmp_path / "state")
    for key, weight in straight.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[key]), key


def test_quasi_newton_steps_go_farther_and_come_in_pieces():
    far = float(sample_errors(trained("lbfgs", num_steps=5, precision="64-true"), SAMPLES).mean())
    assert far < 0.8 * float(sample_errors(trained("adamw", num_steps=5, precision="64-true"), SAMPLES).mean())
    pieces, whole = (trained("lbfgs", num_steps=2, precision="64-true", micro_batches=n) for n in (2, 1))
    assert float(sample_errors(pieces, SAMPLES).mean()) == pytest.approx(
        float(sample_errors(whole, SAMPLES).mean()), rel=1e-4
    )


def test_quasi_newton_steps_need_the_whole_set():
    source = Stream(Poisson(), tiny.GRID, batch_size=4, seed=0)
    for narrow in (source, Epochs(SAMPLES, batch_size=4, seed=0)):
        with pytest.raises(ConfigError, match="'lbfgs' compares its steps, so each must see all samples"):
            train(tiny.operator(), narrow, config=config("lbfgs"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"weight_decay": 0.1}, "no decay of weights"), ({"gradient_clip": 1.0}, "line search")],
)
def test_what_it_has_no_use_for_is_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        config("lbfgs", **changes)


def test_weights_that_train_unlike_are_refused():
    groups = [ParameterGroup((torch.nn.Parameter(torch.ones(1)),)) for _ in range(2)]
    with pytest.raises(ConfigError, match="moves all weights alike"):
        OPTIMIZERS["lbfgs"]().build(groups, learning_rate=1.0, weight_decay=0.0)


def test_the_usual_one_is_not_written_down():
    """So that a recipe of before finds its run folder again."""
    assert "optimizer" not in TrainingConfig().to_dict()
    assert "validation_metric" not in PretrainRecipe().to_dict()["training"]
    assert config("nadam").to_dict()["optimizer"] == "nadam"
    table = {"name": "lbfgs", "history": 4}
    again = build_config(TrainingConfig, config(table).to_dict())
    assert again.optimizer == OPTIMIZERS["lbfgs"](history=4)
    with pytest.raises(ConfigError, match=r"'adam' is unknown.*Allowed: adamw"):
        config("adam")


def test_what_is_remembered_comes_back():
    state = {"moment": torch.ones(2), "count": 3, "rate": 0.5, "pairs": [torch.ones(1), torch.zeros(1)], "empty": []}
    scratch = {"scratch": [None, None], "nothing": None}
    again = restored_state(dict(flattened_state({**state, **scratch})))
    assert repr(again) == repr(state)


def test_the_best_state_goes_by_the_metric_of_the_recipe():
    events = []
    settings = config("adamw", validation_metric="max_error", validate_every=2)
    position = train(
        tiny.operator(), Epochs(SAMPLES, batch_size=6, seed=0), config=settings, validation=SAMPLES,
        observe=lambda **event: events.append(event),
    )  # fmt: skip
    valid = [event for event in events if event["event"] == "valid"]
    assert position.best_score == min(event["max_error"] for event in valid)
    assert all(0 < event["relative_l2"] != event["max_error"] for event in valid)
    with pytest.raises(ConfigError, match="Did you mean 'max_error'"):
        config("adamw", validation_metric="max_eror")
