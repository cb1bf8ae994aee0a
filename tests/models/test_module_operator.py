from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
import torch
from torch import nn

import networks
import tiny
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Signature
from scifm.fields.normalization import Normalization
from scifm.models.module_operator import ModuleConfig, ModuleOperator, module_class
from scifm.models.registry import load_operator, save_operator
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.costs import training_flops
from scifm.training.finetune import finetune, from_scratch
from scifm.training.optimizers import AdamW
from scifm.training.pretrain import pretrain
from scifm.training.weights import ParameterGroup

CONV = f"{networks.__name__}:SmallConv"
CHANNELS = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
NEURALOP = {
    "kind": "module",
    "network": {
        "target": "neuralop.models:FNO",
        "arguments": {
            "n_modes": [4, 4],
            "in_channels": "{in_channels}",
            "out_channels": "{out_channels}",
            "hidden_channels": 4,
            "n_layers": 2,
            "positional_embedding": "{none}",
        },
    },
}
USERS = {"kind": "module", "network": {"target": CONV, "arguments": CHANNELS}}
ADAPT: dict[str, Any] = {
    "num_samples": 8,
    "learning_rates": (1e-2,),
    "training": {"num_steps": 5, "batch_size": 4, "accelerator": "cpu"},
}


def in_channels() -> int:
    return len(Poisson.signature.inputs) + len(Poisson.signature.coefficients)


def recipe(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**tiny.recipe(**changes), "model": model}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("model", [NEURALOP, USERS], ids=["neuralop", "users"])
def test_it_goes_the_whole_way(model, tmp_path):
    """Pre-trained, resumed from a later step, fine-tuned, trained from scratch, scored: as an FNO of ours."""
    run = pretrain(recipe(model), out=tmp_path)
    losses = [event["loss"] for event in run.metrics() if event["event"] == "train"]
    assert losses[-1] < losses[0]
    pool = SystemOrigin.of(Poisson(), tiny.GRID).pool(12, 0)
    tuned = finetune(run, pool, out=tmp_path, **ADAPT)
    fresh = from_scratch(run, pool, out=tmp_path, **ADAPT)
    before, after, other = (load_operator(r.path / "model") for r in (run, tuned, fresh))
    for operator in (before, after, other):
        assert isinstance(operator, ModuleOperator)
        assert operator.config == before.config
    assert not torch.equal(next(before.parameters()), next(after.parameters()))
    scores = evaluate(tuned, tiny.batch(4))
    assert 0 < scores.mean() < 10
    assert tuned.read_json("outcome.json")["num_trainable"] == after.num_params


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_killed_run_goes_on_to_the_same_weights_complex_ones_too(tmp_path):
    """Eight steps in one go, and four, then eight of which four are restored."""
    whole = pretrain(recipe(NEURALOP, training={"num_steps": 8}), out=tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(**event: Any) -> None:
        if event["event"] == "step" and event["step"] == 5:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain(recipe(NEURALOP, training={"num_steps": 8}), out=tmp_path / "parts", observe=kill)
    resumed = pretrain(recipe(NEURALOP, training={"num_steps": 8}), out=tmp_path / "parts")
    weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_channels_come_in_the_order_of_the_names_with_coefficients_constant():
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x[:, :1] * self.gain

    batch = tiny.batch(3)
    answer = ModuleOperator.wrap(Spy(), Poisson.signature)(batch)
    (channels,) = seen
    assert torch.equal(channels[:, 0], batch.inputs[:, 0, 0])
    for index in range(batch.coefficients.shape[1]):
        expected = batch.coefficients[:, index, None, None].expand(3, 16, 16)
        assert torch.equal(channels[:, 1 + index], expected)
    assert torch.equal(answer.require_targets()[:, 0, 0], batch.inputs[:, 0, 0])


def test_a_wrapped_object_is_loaded_into_a_fresh_one(tmp_path):
    torch.manual_seed(0)
    make = lambda: networks.SmallConv(in_channels(), 1)  # noqa: E731
    numbers = Normalization.identity(num_inputs=1, num_coefficients=in_channels() - 1, num_outputs=1)
    operator = ModuleOperator.wrap(make(), Poisson.signature, numbers)
    save_operator(operator, tmp_path)
    assert 'load_operator("PATH", module=network)' in (tmp_path / "README.md").read_text()
    again = load_operator(tmp_path, module=make())
    assert torch.equal(again(tiny.batch(2)).require_targets(), operator(tiny.batch(2)).require_targets())
    with pytest.raises(RunError, match=r"wrapped from an object.*load_operator\(path, module=…\)") as caught:
        load_operator(tmp_path)
    assert "damaged" not in str(caught.value)
    with pytest.raises(RunError, match=r"'module.last.bias'|'module.last.weight'"):
        load_operator(tmp_path, module=networks.SmallConv(in_channels(), 2))


@pytest.mark.parametrize("reads_numbers", [False, True])
def test_what_lies_beside_the_weights_is_made_again(tmp_path, reads_numbers):
    """A buffer that is not saved, and a constructor that cannot be called without memory."""
    config = ModuleConfig(target=CONV, arguments={**CHANNELS, "reads_numbers": reads_numbers})
    operator = ModuleOperator(Poisson.signature, config)
    save_operator(operator, tmp_path)
    state = torch.get_rng_state()
    again = load_operator(tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    assert again.module.filter.device.type == "cpu"
    assert torch.equal(again(tiny.batch(2)).require_targets(), operator(tiny.batch(2)).require_targets())


def test_double_precision_weights_are_not_rounded(tmp_path):
    operator = ModuleOperator(Poisson.signature, ModuleConfig(target=CONV, arguments=CHANNELS)).double()
    save_operator(operator, tmp_path)
    batch = tiny.batch(2, dtype=torch.float64)
    assert torch.equal(load_operator(tmp_path)(batch).require_targets(), operator(batch).require_targets())


def test_tied_and_complex_weights_are_saved_and_stay_so(tmp_path):
    torch.manual_seed(0)
    signature = Signature(("f",), (), ("u",))
    operator = ModuleOperator.wrap(networks.Tied(), signature)
    assert operator.num_params == 1 + 1 + 1 + 2 * 3
    save_operator(operator, tmp_path)
    again = load_operator(tmp_path, module=networks.Tied())
    assert again.module.first.weight is again.module.second.weight
    assert torch.equal(again.module.turn, operator.module.turn)
    fine = ModuleOperator.wrap(networks.Tied().double(), signature)
    fine.module.turn.data = torch.randn(3, dtype=torch.complex128)
    save_operator(fine, tmp_path / "fine")
    found = load_operator(tmp_path / "fine", module=networks.Tied())
    assert torch.equal(found.module.turn, fine.module.turn)
    assert torch.equal(found.module.first.weight, fine.module.first.weight)
    assert found.module.first.weight is found.module.second.weight
    optimizer = AdamW().build([ParameterGroup(tuple(operator.parameters()))], learning_rate=0.1, weight_decay=0.0)
    operator.network(tiny.encoded(torch.randn(2, 1, 1, 8, 8), torch.zeros(2, 0))).square().sum().backward()
    optimizer.step()
    Checkpoint(tmp_path).save(operator, optimizer, Position(step=1), {})
    other = AdamW().build([ParameterGroup(tuple(again.parameters()))], learning_rate=0.1, weight_decay=0.0)
    Checkpoint(tmp_path).load(again, other)
    assert torch.equal(again.module.turn, operator.module.turn)
    moments = optimizer.state[operator.module.turn]["exp_avg"], other.state[again.module.turn]["exp_avg"]
    assert torch.equal(*moments)


def test_a_wrong_shape_is_told():
    operator = ModuleOperator.wrap(networks.WrongShape(in_channels()), Poisson.signature)
    channels = in_channels()
    told = rf"WrongShape was given \(3, {channels}, 16, 16\) and must answer \(3, 1, 16, 16\).*answered \(3, 1, 8, 8\)"
    with pytest.raises(SignatureError, match=told):
        operator(tiny.batch(3))


EVIL = ["os:system", "subprocess:Popen", "builtins:exec", "posix:system", "os.path:join", "__main__:X"]
EVIL += ["torch:save", "torch.hub:load", "not_installed_anywhere:Net", "pip._internal:x"]


@pytest.mark.parametrize("target", EVIL)
def test_a_config_names_a_network_or_nothing_happens(target, tmp_path, monkeypatch):
    """Neither called nor, unless it is installed, imported."""
    save_operator(ModuleOperator(Poisson.signature, ModuleConfig(target=CONV, arguments=CHANNELS)), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    entries = json.loads(file.read_text())
    entries["network"] = {"target": target, "arguments": {"command": f"touch {tmp_path}/ran"}}
    file.write_text(json.dumps(entries))
    monkeypatch.setattr(os, "system", lambda *_, **__: pytest.fail("it was called"))
    with pytest.raises(RunError) as caught:
        load_operator(tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_file_beside_us_is_not_imported(tmp_path, monkeypatch):
    """Neither a recipe nor a model may have it run, wherever Python would find it."""
    (tmp_path / "dropped.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"no module of an installed package\..*give --import dropped\.py, or import"):
        module_class("dropped:Net")
    with pytest.raises(ConfigError, match=r"give --import nets/dropped\.py, or"):
        ModuleConfig(target="dropped:Net", file="nets/dropped.py").require_known()
    assert not (tmp_path / "ran").exists()
    assert "dropped" not in sys.modules
    module_class("torch.nn:Conv2d")
    module_class("neuralop.models:FNO")


def test_numbers_that_do_not_fit_take_no_memory(tmp_path):
    config = ModuleConfig(target=CONV, arguments={**CHANNELS, "width": 4})
    save_operator(ModuleOperator(Poisson.signature, config), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"width": 4', '"width": 1000000000'))
    with pytest.raises(RunError, match=r"module\.last\.weight"):
        load_operator(tmp_path)


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"target": "networks"}, "package.module:ClassName"),
        ({"target": "a._b:C"}, "without leading underscores"),
        ({"target": CONV, "arguments": {"a": None}}, r'write "\{none\}"'),
        ({"target": CONV, "arguments": {"a": [1, {"b": None}]}}, r'write "\{none\}"'),
        ({"taget": CONV}, "Did you mean 'target'"),
    ],
)
def test_settings_that_are_not_valid_are_told(tree, told):
    with pytest.raises(ConfigError, match=told):
        build_config(ModuleConfig, tree)


@pytest.mark.parametrize(
    ("target", "arguments", "told"),
    [
        ("networks_of_nobody:Net", {}, "no module of an installed package"),
        ("torch.nn:Convolution", {}, "cannot be imported"),
        ("torch:save", {}, "must be a subclass of torch.nn.Module"),
        ("torch.nn:ReLU", {}, "no weights: there is nothing to train"),
        ("torch.nn:Conv2d", {"in_channels": 1}, "torch.nn:Conv2d refuses its arguments: TypeError"),
        (None, {}, "wrapped from an object"),
    ],
)
def test_networks_that_cannot_be_made_are_told(target, arguments, told, tmp_path):
    model = {"kind": "module", "network": {"arguments": arguments, **({"target": target} if target else {})}}
    with pytest.raises(ConfigError, match=told) as caught:
        pretrain(recipe(model), out=tmp_path)
    assert "\n" not in str(caught.value)


def test_words_in_braces_are_replaced_wherever_they_stand():
    signature = Signature(("f",), ("a",), ("u",), num_spatial_dims=1)
    config = ModuleConfig(
        target="torch.nn:Conv1d",
        arguments={
            "in_channels": "{in_channels}",
            "out_channels": "{out_channels}",
            "kernel_size": ["{num_spatial_dims}"],
            "device": "{none}",
        },
    )
    operator = ModuleOperator(signature, config)
    assert operator.module.weight.shape == (1, 2, 1)
    assert module_class("torch.nn:Conv1d") is nn.Conv1d


def test_operations_are_counted_or_not_known_and_never_zero():
    conv = ModuleOperator(Poisson.signature, ModuleConfig(target=CONV, arguments=CHANNELS))
    # three convolutions' worth (forward, by weight, and by input but for the first), at two operations a product
    assert training_flops(conv, tiny.batch(2)) > 2 * 2 * 16 * 16 * 4 * in_channels() * 9

    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * self.gain

    assert training_flops(ModuleOperator.wrap(Gain(), Poisson.signature), tiny.batch(2)) is None


def test_a_model_folder_is_scored_and_tuned_like_a_run(tmp_path):
    operator = ModuleOperator(Poisson.signature, ModuleConfig(target=CONV, arguments=CHANNELS))
    save_operator(operator, tmp_path / "model")
    batch = tiny.batch(4)
    assert evaluate(tmp_path / "model", batch).mean() == evaluate(operator, batch).mean()
    sizes = {"train": 10, "valid": 2, "test": 2}
    store = generate(Poisson(), num_samples=sizes, num_points=16, path=tmp_path / "store")
    tuned = finetune(tmp_path / "model", store, out=tmp_path / "runs", **ADAPT)
    assert tuned.parent == (tmp_path / "model").resolve()
    fresh = from_scratch(tmp_path / "model", store, out=tmp_path / "runs", **ADAPT)
    assert load_operator(fresh.path / "model").config == operator.config
    with pytest.raises(ConfigError, match="on which grid to sample the system"):
        finetune(tmp_path / "model", Poisson(), out=tmp_path / "runs", **ADAPT)
    with torch.no_grad():
        next(operator.parameters()).add_(1)
    save_operator(operator, tmp_path / "model")
    assert finetune(tmp_path / "model", store, out=tmp_path / "runs", **ADAPT).path != tuned.path
