"""What every check promises; joining `CHECKS` earns these tests. `scifm.trust.contract` holds them for all."""

from __future__ import annotations

import pytest
import torch

import descended
import exact as answers
import networks
import planted
import tiny
from scifm.models.module_operator import ModuleConfig, ModuleOperator
from scifm.models.operator import Operator
from scifm.systems.poisson import Poisson
from scifm.trust import CHECKS
from scifm.trust.contract import CheckContract


def exact(**how: float) -> Operator:
    return ModuleOperator.wrap(networks.ExactPoisson(**how), Poisson.signature)


def of_class(cls: type) -> Operator:
    arguments = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
    config = ModuleConfig(target=f"{networks.__name__}:{cls.__name__}", arguments=arguments)
    torch.manual_seed(0)
    return ModuleOperator(Poisson.signature, config)


def without_waves() -> Operator:
    """Return an operator whose spectral block is dead: its layers mix channels and no points."""
    operator = tiny.operator()
    with torch.no_grad():
        for name, weight in operator.named_parameters():
            if "spectral" in name:
                weight.zero_()
    return operator


def one_layer_without_waves() -> Operator:
    """Return an operator that has lost the waves of one layer, and answers well enough to be believed."""
    operator = tiny.operator()
    with torch.no_grad():
        operator.get_parameter("layers.1.spectral_weight").mul_(1e-12)
    return operator


def ruled() -> Operator:
    """Return an operator with one weight so large that its layer is nothing else."""
    operator = tiny.operator(width=12)
    with torch.no_grad():
        operator.get_parameter("layers.0.skip.weight")[3, 5] = 100.0
    return operator


def rippled() -> Operator:
    """Return an operator whose error rises and falls many times as its weights move."""
    return ModuleOperator.wrap(networks.Rippled(), Poisson.signature)


def able() -> Operator:
    """Return a fresh FNO with modes enough for the samples."""
    return tiny.operator(width=8, modes=6, latent_points=12)


PAIRS = {
    "receptive_field": (tiny.operator, [without_waves, lambda: of_class(networks.Idle), lambda: exact(gain=0.0)]),
    "overfit_one_batch": (able, [lambda: of_class(networks.Severed), lambda: of_class(networks.Idle)]),
    "persistence": (exact, [lambda: exact(gain=0.0), lambda: exact(gain=-1.0), tiny.operator]),
    "shift_equivariance": (exact, [lambda: exact(added=0.2), lambda: exact(added=1.0)]),
    "shuffled_truths": (exact, [lambda: exact(gain=0.0), lambda: exact(gain=-1.0)]),
    "scales": (exact, [lambda: exact(gain=-1.0), lambda: exact(gain=2.5)]),
    "resolution": (answers.poisson, [lambda: answers.poisson(points=16)]),
    "waves": (answers.poisson, [lambda: answers.poisson(points=16), answers.in_stairs, lambda: exact(gain=0.0)]),
    "extrapolation": (answers.poisson, [lambda: answers.poisson(anisotropy=5)]),
    "lead_times": (answers.forecaster, [lambda: answers.forecaster(0.0), lambda: answers.forecaster(kick=1e3)]),
    "coverage": (answers.calibrated, [lambda: answers.calibrated(gain=1.2), lambda: answers.calibrated(gain=-1.0)]),
    "spread": (answers.doubting, [lambda: answers.doubting(apart=0.01), lambda: answers.doubting(gain=3.0)]),
    "abstention": (answers.doubting, [lambda: answers.doubting(knows=-1.0), lambda: answers.doubting(knows=0.0)]),
    "weight_spectra": (tiny.operator, [without_waves, one_layer_without_waves, ruled]),
    "curvature": (descended.ended, [tiny.operator, lambda: descended.stopped(2), lambda: descended.stopped(5)]),
    "landscape": (descended.ended, [rippled]),
    "conservation": (answers.forecaster, [lambda: answers.forecaster(kick=0.05), lambda: answers.forecaster(kick=1e3)]),
    "continuity": (lambda: answers.turning("rk4"), [lambda: answers.turning("euler")]),
    "probe": (planted.sees, [lambda: planted.sees(gain=0.0), planted.passes_on]),
}
"""For each check how to make an operator that is good by it, and some that are bad."""

QUICK = {
    "overfit_one_batch": {"num_samples": 2, "num_steps": 100, "learning_rate": 0.03},
    "curvature": {"num_runs": 1, "num_steps": 25},
    "landscape": {"num_points": 15, "num_samples": 2},
}
"""Settings that tell these operators apart in less time."""


SAMPLES = {
    "probe": planted.samples,
    "lead_times": answers.windows,
    "conservation": answers.windows,
    "continuity": answers.turns,
}
"""Samples that ask something of these operators; for the others those of Poisson do."""

ORIGINS = {"lead_times": answers.of_burgers, "conservation": answers.of_burgers, "continuity": lambda: None}
"""Where they come from; the others from Poisson's equation."""


@pytest.fixture(scope="module", params=CHECKS)
def contract(request) -> CheckContract:
    assert request.param in PAIRS, f"tell this file operators that are good and bad by '{request.param}'"
    good, bad = PAIRS[request.param]

    class Held(CheckContract):
        check = CHECKS[request.param](**QUICK.get(request.param, {}))

        def samples(self):
            return SAMPLES.get(request.param, lambda: tiny.batch(8))()

        def origin(self):
            return ORIGINS.get(request.param, answers.of_poisson)()

        def good(self):
            return good()

        def bad(self):
            return [make() for make in bad]

    return Held()


@pytest.mark.parametrize("promise", [name for name in vars(CheckContract) if name.startswith("test_")])
def test_promise(contract, promise):
    getattr(contract, promise)()


@pytest.mark.parametrize("name", CHECKS)
def test_the_registry_names_it_as_it_names_itself(name):
    assert CHECKS[name].name == name
