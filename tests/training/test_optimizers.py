"""Optimizers by name: each trains, is resumed bit for bit, and refuses what it has no use for."""

from __future__ import annotations

import os
import signal

import pytest
import torch

import pinn
import tiny
from scifm.config import build_config
from scifm.data.staged import Staged
from scifm.data.stream import Epochs, Stream
from scifm.errors import ConfigError
from scifm.models.parts.jets import Jets, of_network
from scifm.objectives.squares import Rows, Squares
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import TrainingConfig, train
from scifm.training.optimizers import OPTIMIZERS, LevenbergMarquardtSteps, flattened_state, restored_state
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


OF_SAMPLES = [name for name, kind in OPTIMIZERS.items() if not kind.takes_squares]
"""The others ask an objective for what it is the sum of squares of; see below."""


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_it_learns(name):
    before = float(sample_errors(tiny.operator(), SAMPLES).mean())
    assert float(sample_errors(trained(name, num_steps=20), SAMPLES).mean()) < 0.95 * before


@pytest.mark.parametrize("name", OF_SAMPLES)
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


# --- Levenberg–Marquardt ----------------------------------------------------------------------------------------------


def fit(layers: list[torch.nn.Linear], inputs: torch.Tensor, targets: torch.Tensor) -> Squares:
    """Return by how much a network of one output misses targets."""
    passed = []
    jets = of_network(layers, "tanh", Jets(inputs[None], {}), passed)
    return Squares([Rows(jets.value[:, 0] - targets, passed)])


def stepped(layers, inputs, targets, *, steps: int, rate: float = 1.0, damping: float = 1e-3) -> list[float]:
    weights = [weight for layer in layers for weight in layer.parameters()]
    optimizer = LevenbergMarquardtSteps([{"params": weights}], rate, damping, tries=6)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = fit(layers, inputs, targets).loss
        loss.backward()
        losses.append(float(loss.detach()))
        reached = optimizer.step(lambda: fit(layers, inputs, targets))
        assert reached == pytest.approx(float(fit(layers, inputs, targets).loss.detach()), rel=1e-9, abs=1e-20)
    return [*losses, reached]


@pytest.mark.parametrize("count", [3, 20])
def test_a_linear_problem_is_solved_in_a_few_steps(count):
    """With fewer terms than weights, and with more: by either of the two systems of equations."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(count, 5).double(), torch.randn(count).double()
    layers = [torch.nn.Linear(5, 1).double()]
    losses = stepped(layers, inputs, targets, steps=12)
    table = torch.cat([inputs, torch.ones(count, 1).double()], dim=1)
    solved = torch.linalg.lstsq(table, targets[:, None]).solution
    best = float((table @ solved - targets[:, None]).square().sum())
    assert losses[-1] == pytest.approx(best, rel=1e-9, abs=1e-12)
    if count > 6:
        torch.testing.assert_close(
            torch.cat([layers[0].weight[0], layers[0].bias]).detach(), solved[:, 0], rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("damping", [1e-3, 1e-12])
def test_a_step_never_raises_the_loss(damping):
    torch.manual_seed(1)
    inputs, targets = torch.randn(30, 2).double(), torch.sign(torch.randn(30)).double()
    losses = stepped(
        [torch.nn.Linear(2, 4).double(), torch.nn.Linear(4, 1).double()], inputs, targets, steps=40, damping=damping
    )
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


def test_what_no_try_makes_better_stays_and_the_next_is_more_careful():
    torch.manual_seed(2)
    layers = [torch.nn.Linear(3, 1).double()]
    inputs, targets = torch.randn(9, 3).double(), torch.randn(9).double()
    weights = list(layers[0].parameters())
    optimizer = LevenbergMarquardtSteps([{"params": weights}], -1.0, 1e-3, tries=3)  # steps go uphill
    fit(layers, inputs, targets).loss.backward()
    before = [weight.detach().clone() for weight in weights]
    loss = optimizer.step(lambda: fit(layers, inputs, targets))
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
    assert loss == pytest.approx(float(fit(layers, inputs, targets).loss.detach()))
    assert optimizer.state[weights[0]]["damping"] == pytest.approx(1e-3 * 4**3)


def test_least_squares_need_an_objective_that_says_its_terms_and_all_of_them_at_once():
    with pytest.raises(
        ConfigError, match=r"needs an objective that says what it is the sum of squares of.*'relative_l2'"
    ):
        config("levenberg_marquardt")
    for name, value in (("micro_batches", 2), ("gradient_clip", 1.0), ("weight_decay", 0.1)):
        with pytest.raises(ConfigError, match=f"{name} = "):
            config("levenberg_marquardt", objective="collocation", **{name: value})
    groups = [ParameterGroup((torch.nn.Parameter(torch.ones(1)),)) for _ in range(2)]
    with pytest.raises(ConfigError, match="moves all weights alike"):
        OPTIMIZERS["levenberg_marquardt"]().build(groups, learning_rate=1.0, weight_decay=0.0)


# --- by an equation alone, in stages ----------------------------------------------------------------------------------

SPEEDS = [pinn.convection(speed=speed) for speed in (1.0, 2.0)]
OPEN = {"initial": "soft", "periodic": False}
WAYS = {
    "lbfgs with slabs": ({"slabs": 3}, {"name": "lbfgs", "iterations": 4}, {"points": "fixed", "slab_steps": 2}, 1),
    "lbfgs, points drawn anew": ({}, {"name": "lbfgs", "iterations": 4}, {"every": 2}, 1),
    "lbfgs with a curriculum": ({}, {"name": "lbfgs", "iterations": 4}, {"points": "fixed"}, 2),
    "levenberg_marquardt": ({}, "levenberg_marquardt", {}, 1),
    "levenberg_marquardt with slabs": ({"slabs": 2}, "levenberg_marquardt", {"slab_steps": 3}, 1),
    "levenberg_marquardt, points by the residual": ({}, "levenberg_marquardt", {"points": "residual", "cycle": 4}, 1),
    "adamw, points by the gradient": ({}, "adamw", {"points": "gradient", "cycle": 4}, 1),
    "adamw with a curriculum": ({}, "adamw", {"points": "residual"}, 2),
    "lbfgs, balanced": (OPEN, {"name": "lbfgs", "iterations": 4}, {"points": "fixed", "balance": True}, 1),
    "levenberg_marquardt, balanced": (OPEN, "levenberg_marquardt", {"balance": True}, 1),
}


def taught(way: str, *, folder=None, seed: int = 0, observe=None):
    """Train a network by its equation for six steps."""
    network, optimizer, objective, stages = WAYS[way]
    operator = pinn.network(SPEEDS[-1], seed=seed, **network)
    source = Staged([Epochs(batch, batch_size=1, seed=0) for batch in SPEEDS[-stages:]], 3)
    settings = config(
        optimizer, batch_size=1, num_steps=6, checkpoint_every=100, precision="64-true", validate_every=100,
        learning_rate=1e-2 if optimizer == "adamw" else 1.0,
        objective={"name": "collocation", "num_points": 25, **objective},
    )  # fmt: skip

    def watch(**event) -> None:
        if observe is not None:
            observe(event)

    checkpoint = None if folder is None else Checkpoint(folder)
    train(operator, source, config=settings, checkpoint=checkpoint, observe=watch)
    return operator


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
@pytest.mark.parametrize("way", WAYS)
def test_what_an_equation_teaches_is_resumed_bit_for_bit(way, stop, tmp_path):
    straight, told = taught(way), []
    operator = pinn.network(SPEEDS[-1], **WAYS[way][0])
    assert any(not torch.equal(a, b) for a, b in zip(straight.parameters(), operator.parameters(), strict=True))
    interrupted(way, stop, tmp_path)
    again = taught(way, folder=tmp_path, seed=7, observe=told.append)
    assert {"event": "resumed", "step": stop} in told
    for name, weight in straight.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def interrupted(way: str, stop: int, folder) -> None:
    def ask(event) -> None:
        if event["event"] == "step" and event["step"] == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        taught(way, folder=folder, observe=ask)


@pytest.mark.parametrize(
    ("way", "begins"),
    [("lbfgs with slabs", {2, 4}), ("lbfgs with a curriculum", {3}), ("lbfgs, points drawn anew", {2, 4})],
)
def test_what_compares_its_steps_forgets_where_they_are_of_another_loss(way, begins, monkeypatch):
    from scifm.training import optimizers

    known, step = [], optimizers._LBFGS.step

    def watched(self, closure):
        known.append(bool(self.state))
        return step(self, closure)

    monkeypatch.setattr(optimizers._LBFGS, "step", watched)
    taught(way)
    assert [place for place, remembers in enumerate(known) if not remembers] == [0, *sorted(begins)]


def test_slabs_train_one_after_the_other():
    first = taught("lbfgs with slabs")
    fresh = pinn.network(SPEEDS[-1], slabs=3)
    for name, weight in first.named_parameters():
        assert not torch.equal(weight, fresh.state_dict()[name]), name


def test_a_curriculum_needs_the_whole_set_in_every_stage():
    stages = [Epochs(SAMPLES, batch_size=6, seed=0), Epochs(SAMPLES, batch_size=4, seed=0)]
    with pytest.raises(ConfigError, match="must see all samples"):
        train(tiny.operator(), Staged(stages, 2), config=config("lbfgs"))
