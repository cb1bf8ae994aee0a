"""What is drawn for a training hangs on its seed alone: not on torch's global generator, and not on other threads."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import tiny
from scifm.data.stream import Epochs
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.models.module_operator import ModuleConfig
from scifm.models.neuralop_fno import NeuralopFNOConfig
from scifm.models.registry import OPERATORS
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import build_operator, pretrain

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import threads  # noqa: E402

CHANNELS = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
THEIRS = {"n_modes": [4, 4], "hidden_channels": 4, "in_channels": "{in_channels}", "out_channels": "{out_channels}"}
# sum of weights times their places, measured at 260c714, when they were drawn from the global generator
PINNED = {
    "fno": (FNOConfig(**tiny.NETWORK), 7049.116624349437),
    "reference": (FNOConfig.reference(width=4, modes=3), 73272.94513977645),
    "neuralop_fno": (
        NeuralopFNOConfig(n_modes=(4, 4), hidden_channels=4, n_layers=2, norm="group_norm"),
        21179.53630072088,
    ),
    "module": (ModuleConfig(target="networks:GlobalNet", arguments=CHANNELS), -1092.2587375957519),
    "theirs": (ModuleConfig(target="neuralop.models:FNO", arguments=THEIRS), 921.6215773392469),
}


def flat(operator) -> torch.Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in operator.state_dict().values()])


@pytest.mark.parametrize("name", PINNED)
def test_first_weights_are_what_they_have_always_been(name):
    """Pinned up to what processors round differently, and bit for bit those of a global generator in this state."""
    config, pinned = PINNED[name]
    before = torch.get_rng_state()
    weights = flat(build_operator(Poisson.signature, config, None, seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    places = torch.arange(1, len(weights) + 1, dtype=torch.float64)
    assert float(weights @ places) == pytest.approx(pinned, rel=1e-5)
    torch.set_rng_state(generator_for(3, "weights").get_state())
    assert torch.equal(weights, flat(OPERATORS[config.kind](Poisson.signature, config)))


def test_weights_are_drawn_on_the_host_wherever_torch_would_put_them():
    config, _ = PINNED["fno"]
    expected = flat(build_operator(Poisson.signature, config, None, seed=3))
    with torch.device("meta"):
        operator = build_operator(Poisson.signature, config, None, seed=3)
    assert torch.equal(flat(operator), expected)


@pytest.mark.parametrize("kind", threads.MODELS)
def test_threads_change_nothing(kind):
    """Some of what benchmarks/threads.py does with hundreds of trainings under load."""
    assert threads.differing(threads.MODELS[kind], num_runs=12, num_threads=8) == 0


# --- numbers drawn in every step --------------------------------------------------------------------------------------

SETTINGS = TrainingConfig(**tiny.TRAINING)


def trained(seed: int, **beside) -> torch.Tensor:
    operator = tiny.dropping_operator()
    train(operator, Epochs(tiny.batch(6), batch_size=4, seed=0), config=SETTINGS, seed=seed, **beside)
    return flat(operator)


def test_dropout_hangs_on_the_seed_alone():
    first = trained(1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(trained(1), first)
    assert not torch.equal(trained(2), first)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(found, first) for found in pool.map(trained, [1] * 8))


def test_dropout_goes_on_where_it_was_stopped(tmp_path):
    straight = trained(1)

    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(1, checkpoint=Checkpoint(tmp_path), observe=interrupt)
    torch.manual_seed(99)
    assert torch.equal(trained(1, checkpoint=Checkpoint(tmp_path)), straight)


def test_a_recipe_says_what_is_dropped(tmp_path):
    """Two pre-trainings of one recipe, one after the other, are one."""
    network = {"target": "networks:Dropping", "arguments": CHANNELS}
    recipe = tiny.recipe(model={"kind": "module", "network": network}, training={"num_steps": 4})
    found = []
    for folder in ("a", "b"):
        run = pretrain(recipe, out=tmp_path / folder)
        found.append(hashlib.sha256((run.path / "model" / "model.safetensors").read_bytes()).hexdigest())
    assert found[0] == found[1]
