from __future__ import annotations

import os
import signal

import pytest
import torch

import tiny
from scifm.config import build_config, dump_toml, read_toml
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.data.stream import Epochs
from scifm.errors import ConfigError
from scifm.models.axial_transformer import AxialTransformer, AxialTransformerConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.poisson import Poisson
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loop import TrainingConfig, train
from scifm.training.methods import METHODS, FinetuneMethod, finish, prepare

every_method = pytest.mark.parametrize("name", sorted(METHODS))
ADAPTERS = ("affine", "low_rank")
SETTINGS = {
    "num_samples": 8,
    "learning_rates": (1e-2,),
    "training": {"num_steps": 6, "batch_size": 4, "log_every": 2, "checkpoint_every": 2, "accelerator": "cpu"},
}
# What the tiny operator has, counted by hand: 2 layers of width 4 with 3 x 6 modes, 1 field and 3 coefficients in.
SPECTRAL, SKIPS, LIFT, PROJECTION = 2 * (2 * 18 * 4 * 4), 2 * (4 * 4 + 4), 4 * 4 + 4, 4 * 8 + 8 + 8 + 1
POINTWISE = SKIPS + LIFT + PROJECTION  # in 2·2 + 2 + 4 = 10 tensors
TRAINABLE = {  # numbers and tensors
    "all": (SPECTRAL + POINTWISE, 12),
    "split": (SPECTRAL + POINTWISE, 12),
    "frozen_spectral": (POINTWISE, 10),
    "projection": (PROJECTION, 4),
    "affine": (POINTWISE + 2 * 3 * 4 * 4, 10 + 2 * 2),
    "low_rank": (POINTWISE + 2 * 2 * (4 + 4 + 2 * 18), 10 + 2 * 3),
}


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Run:
    return tiny.finished_run(tmp_path_factory.mktemp("parents"))


@pytest.fixture(scope="module")
def pool() -> DownstreamPool:
    return SystemOrigin.of(Poisson().where(anisotropy=[5, 10]), tiny.GRID).pool(8, 0)


def method(name: str, **settings) -> FinetuneMethod:
    return FinetuneMethod(method=name, **({"rank": 2} if name == "low_rank" else {}), **settings)


def weights(operator: Operator) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in operator.state_dict().items()}


def trained(name: str, *, precision: str = "32-true", **settings) -> tuple[Operator, dict[str, torch.Tensor], list]:
    """Return a tiny operator trained by a method, its weights before, and the losses."""
    operator = tiny.operator()
    before = weights(operator)
    samples = tiny.batch(4)
    samples = samples.with_targets(samples.require_targets() / samples.require_targets().std())
    losses: list[float] = []
    config = TrainingConfig(num_steps=40, batch_size=4, learning_rate=1e-2, log_every=1, precision=precision)

    def note(**event) -> None:
        if event["event"] == "train":
            losses.append(event["loss"])

    groups = prepare(operator, method(name, **settings), seed=0)
    train(operator, Epochs(samples, batch_size=4, seed=0), config=config, groups=groups, observe=note)
    finish(operator)
    return operator, before, losses


# --- what trains ------------------------------------------------------------------------------------------------------


@every_method
def test_every_method_lowers_the_loss(name):
    _, _, losses = trained(name)
    assert losses[-1] < 0.99 * losses[0]


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_train_in_every_precision(name, precision):
    operator, _, losses = trained(name, precision=precision, l2_sp=0.1)
    assert losses[-1] < losses[0]
    assert all(p.dtype == (torch.float64 if precision == "64-true" else torch.float32) for p in operator.parameters())


@every_method
def test_frozen_weights_keep_every_bit_and_the_others_move(name):
    operator, before, _ = trained(name)
    after = weights(operator)
    assert set(after) == set(before), "a plain operator again"
    frozen = {
        "frozen_spectral": lambda key: "spectral" in key,
        "projection": lambda key: not key.startswith("projection"),
    }.get(name, lambda key: False)
    for key in before:
        assert torch.equal(before[key], after[key]) == frozen(key), key
    assert all(p.requires_grad for p in operator.parameters())


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_weights_beneath_an_adapter_keep_every_bit(name):
    operator = tiny.operator()
    beneath = [layer.spectral_weight.detach().clone() for layer in operator.layers]
    samples = tiny.batch(4)
    groups = prepare(operator, method(name), seed=0)
    config = TrainingConfig(num_steps=5, batch_size=4, weight_decay=0.1)
    train(operator, Epochs(samples, batch_size=4, seed=0), config=config, groups=groups)
    for weight, layer in zip(beneath, operator.layers, strict=True):
        assert torch.equal(layer.parametrizations["spectral_weight"].original, weight)
        assert not torch.equal(layer.spectral_weight, weight)


@every_method
def test_prepared_it_answers_as_before_bit_for_bit(name):
    operator, batch = tiny.operator(), tiny.batch()
    before = operator.predict(batch).require_targets()
    prepare(operator, method(name), seed=0)
    assert torch.equal(operator.predict(batch).require_targets(), before)


@every_method
def test_only_what_trains_has_gradients_and_what_trains_is_counted(name):
    operator = tiny.operator()
    groups = prepare(operator, method(name), seed=0)
    assert sum(group.num_params for group in groups) == TRAINABLE[name][0]
    assert sum(len(group.parameters) for group in groups) == TRAINABLE[name][1]
    operator(tiny.batch()).require_targets().square().sum().backward()
    trained = {id(p) for group in groups for p in group.parameters}
    for parameter in operator.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad == (id(parameter) in trained)


def test_all_is_what_training_does_without_groups():
    samples = Epochs(tiny.batch(6), batch_size=4, seed=0)
    config = TrainingConfig(**tiny.TRAINING)
    plain, by_method = tiny.operator(), tiny.operator()
    train(plain, samples, config=config)
    train(by_method, samples, config=config, groups=prepare(by_method, FinetuneMethod(), seed=0))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), by_method.parameters(), strict=True))


@pytest.mark.parametrize("factor", [10.0, 0.5])
def test_split_moves_the_ends_faster_by_its_factor(factor):
    """The first step of Adam moves every weight by the learning rate, whatever the gradient."""
    operator = tiny.operator()
    before = weights(operator)
    config = TrainingConfig(num_steps=1, batch_size=4, learning_rate=1e-3, schedule="constant")
    groups = prepare(operator, FinetuneMethod(method="split", ends_factor=factor), seed=0)
    train(operator, Epochs(tiny.batch(4), batch_size=4, seed=0), config=config, groups=groups)
    for name, tensor in weights(operator).items():
        expected = 1e-3 if name.startswith("layers") else 1e-3 * factor
        assert float((tensor - before[name]).abs().max()) == pytest.approx(expected, rel=1e-2), name


def test_split_goes_with_an_operator_without_spectral_weights():
    operator = AxialTransformer(Poisson.signature, AxialTransformerConfig(width=8, num_heads=2, num_blocks=1, patch=4))
    body, ends = prepare(operator, method("split"), seed=0)
    assert (body.learning_rate_factor, ends.learning_rate_factor) == (1.0, 10.0)
    assert len({id(p) for p in (*body.parameters, *ends.parameters)}) == len(list(operator.parameters()))
    assert {id(p) for p in body.parameters} == {id(p) for p in operator.groups()["pointwise"]}


def test_spectral_weights_are_frozen_where_there_are_some():
    operator = AxialTransformer(Poisson.signature, AxialTransformerConfig(width=8, num_heads=2, num_blocks=1, patch=4))
    with pytest.raises(ConfigError, match="kind 'axial_transformer' has none: all of it would train"):
        prepare(operator, method("frozen_spectral"), seed=0)


def test_a_method_that_would_train_nothing_is_refused():
    class Blocks(AxialTransformer):
        parts = {"blocks": "inner"}  # noqa: RUF012

    operator = Blocks(Poisson.signature, AxialTransformerConfig(width=8, num_heads=2, num_blocks=1, patch=4))
    with pytest.raises(ConfigError, match=r"trains projection, and of its parts an .* of kind .* tells pointwise"):
        prepare(operator, method("projection"), seed=0)


def test_the_schedule_moves_all_groups_together():
    operator = tiny.operator()
    groups = prepare(operator, method("split"), seed=0)
    rates, step = [], torch.optim.AdamW.step

    def spy(optimizer, *args, **kwargs):
        rates.append(tuple(group["lr"] for group in optimizer.param_groups))
        return step(optimizer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        config = TrainingConfig(num_steps=5, batch_size=4)
        train(operator, Epochs(tiny.batch(4), batch_size=4, seed=0), config=config, groups=groups)
    assert len({body for body, _ in rates}) > 2, "it is a schedule"
    assert all(ends == pytest.approx(10 * body) for body, ends in rates)


# --- the pull towards the start ---------------------------------------------------------------------------------------


def test_one_step_with_l2_sp_by_hand():
    """With 2ηλ = 1 a step is half of what it is without; the factor of a group counts."""
    config = TrainingConfig(num_steps=1, batch_size=4, learning_rate=1e-2, schedule="constant")
    moved = {}
    for penalty in (0.0, 50.0):
        operator = tiny.operator()
        before = weights(operator)
        groups = prepare(operator, FinetuneMethod(method="split", l2_sp=penalty), seed=0)
        train(operator, Epochs(tiny.batch(4), batch_size=4, seed=0), config=config, groups=groups)
        moved[penalty] = {name: tensor - before[name] for name, tensor in weights(operator).items()}
    for name, free in moved[0.0].items():
        share = 1 / 2 if name.startswith("layers") else 1 / 11
        torch.testing.assert_close(moved[50.0][name], share * free, rtol=1e-3, atol=1e-6)


@every_method
def test_a_strong_penalty_keeps_the_operator_where_it_was(name):
    operator, before, _ = trained(name, l2_sp=1e9)
    for key, tensor in weights(operator).items():
        torch.testing.assert_close(tensor, before[key], rtol=0, atol=1e-6)


# --- in a run ---------------------------------------------------------------------------------------------------------


@every_method
def test_a_run_keeps_a_plain_operator_and_the_memory_it_took(name, parent, pool, tmp_path):
    run = finetune(parent, pool, out=tmp_path, **SETTINGS, method=method(name).to_dict())
    outcome = run.read_json("outcome.json")
    numbers, tensors = TRAINABLE[name]
    assert outcome["num_trainable"] == numbers
    assert outcome["gradient_bytes"] == 4 * numbers
    assert outcome["optimizer_bytes"] == 2 * 4 * numbers + 4 * tensors, "two moments each, a counter a tensor"
    plain, tuned = load_operator(parent.path / "model"), load_operator(run.path / "model")
    assert list(plain.state_dict()) == list(tuned.state_dict())
    assert not torch.equal(plain.predict(pool.samples).targets, tuned.predict(pool.samples).targets)
    assert run.config["method"]["method"] == name


@pytest.mark.parametrize("name", ["low_rank", "affine"])
@pytest.mark.parametrize("stop", [3, 6])
def test_interrupted_it_ends_the_same(name, stop, parent, pool, tmp_path):
    settings = {**SETTINGS, "method": method(name, l2_sp=1.0)}
    straight = finetune(parent, pool, out=tmp_path / "a", **settings)

    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        finetune(parent, pool, out=tmp_path / "b", observe=interrupt, **settings)
    resumed = finetune(parent, pool, out=tmp_path / "b", **settings)
    place = "model/model.safetensors"
    assert (resumed.path / place).read_bytes() == (straight.path / place).read_bytes()
    ours, theirs = straight.read_json("outcome.json"), resumed.read_json("outcome.json")
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}, "memory too, when no step was left to take"


def test_learning_rates_are_tried_with_the_method(parent, pool, tmp_path):
    settings = {**SETTINGS, "learning_rates": (1e-12, 1e-2), "refit_coefficients": "never"}
    run = finetune(parent, pool, out=tmp_path, **settings, method="projection")
    before, after = load_operator(parent.path / "model"), load_operator(run.path / "model")
    assert [trial["learning_rate"] for trial in run.read_json("trials.json")] == [0, 1e-12, 1e-2]
    for key, tensor in weights(before).items():
        assert key.startswith("projection") or torch.equal(tensor, weights(after)[key])


def test_from_scratch_trains_everything_and_is_one_run_whatever_the_method(parent, pool, tmp_path):
    plain = from_scratch(parent, pool, out=tmp_path, **SETTINGS)
    asked = from_scratch(parent, pool, AdaptRecipe(**SETTINGS, method="projection"), out=tmp_path)
    assert plain.path == asked.path
    assert plain.read_json("outcome.json")["num_trainable"] == TRAINABLE["all"][0]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_complete_and_go_round_through_toml(tmp_path):
    assert FinetuneMethod(method="low_rank").rank == 4
    assert FinetuneMethod(method="split").ends_factor == 10
    assert FinetuneMethod().to_dict() == {"method": "all", "l2_sp": 0.0}
    for name in METHODS:
        recipe = AdaptRecipe(method=method(name, l2_sp=0.5))
        (tmp_path / "recipe.toml").write_text(dump_toml(recipe.to_dict()))
        assert build_config(AdaptRecipe, read_toml(tmp_path / "recipe.toml")) == recipe


def test_the_name_alone_will_do():
    assert build_config(AdaptRecipe, {"method": "low_rank"}).method == FinetuneMethod(method="low_rank", rank=4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("afine", r"'afine' is unknown\. Did you mean 'affine'\? Allowed: affine, all, "),
        ({"method": "lowrank", "rank": 2}, r"Did you mean 'low_rank'"),
        ({"method": "low_rank", "rank": 0}, r"'method\.rank' = 0: .*greater than or equal to 1"),
        ({"method": "affine", "rank": 2}, "rank belongs to method 'low_rank', not to 'affine'"),
        ({"ends_factor": 2.0}, "ends_factor belongs to method 'split', not to 'all'"),
        ({"method": "split", "ends_factor": 0.0}, "greater than 0"),
        ({"l2_sp": -1.0}, "greater than or equal to 0"),
        ({"l2_sp": float("nan")}, "finite|greater"),
        ({"method": "low_rank", "ranks": 2}, "Did you mean 'rank'"),
        (3, "FinetuneMethod"),
    ],
)
def test_wrong_settings_are_one_clear_line(given, told, parent, pool, tmp_path):
    with pytest.raises(ConfigError, match=told) as caught:
        finetune(parent, pool, out=tmp_path, **SETTINGS, method=given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_rank_beyond_the_width_is_a_clear_error(parent, pool, tmp_path):
    with pytest.raises(ConfigError, match="from 1 to the channels of the layer, 4 here; got 5"):
        finetune(parent, pool, out=tmp_path, **SETTINGS, method={"method": "low_rank", "rank": 5})


class Pointwise(Operator):
    kind = "pointwise"

    def __init__(self) -> None:
        super().__init__(Poisson.signature, OperatorConfig())
        self.map = torch.nn.Linear(1, 1)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "all"])
def test_methods_that_name_parts_refuse_operators_that_tell_none(method):
    told = f"'{method}' trains some parts .* 'pointwise' does not tell .* Use method 'all'"
    with pytest.raises(ConfigError, match=told):
        prepare(Pointwise(), FinetuneMethod(method=method), seed=0)


def test_all_weights_train_whatever_the_kind():
    operator = Pointwise()
    (group,) = prepare(operator, FinetuneMethod(l2_sp=0.1), seed=0)
    assert set(map(id, group.parameters)) == set(map(id, operator.parameters()))
    assert group.l2_sp == 0.1
    assert all(parameter.requires_grad for parameter in operator.parameters())


@pytest.mark.parametrize("method", [[], {}, None, 3])
def test_a_method_that_is_no_word_is_refused(method):
    with pytest.raises(ConfigError, match="method"):
        build_config(FinetuneMethod, {"method": method, "rank": 2})
