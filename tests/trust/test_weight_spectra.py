"""The check of weights' spectra: what is broken, what only looks so, and what training began with."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

import networks
import tiny
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO
from scifm.models.folder import find_model
from scifm.models.module_operator import ModuleOperator
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson
from scifm.training.beginning import operator_before
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import ModelConfig, pretrain
from scifm.trust.examine import check_operator
from scifm.trust.spectra import compare
from scifm.trust.weight_spectra import WeightSpectra


def ask(operator, check=None, batch=None, **about):
    return (check or WeightSpectra())(
        operator, tiny.batch(2) if batch is None else batch, generator=generator_for(0, "test"), **about
    )


def changed(name, change, **network):
    operator = tiny.operator(**network)
    with torch.no_grad():
        change(operator.get_parameter(name))
    return operator


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("layers.1.spectral_weight", torch.Tensor.zero_, "all its weights are zero"),
        ("layers.0.skip.weight", torch.Tensor.zero_, "all its weights are zero"),
        ("layers.0.skip.weight", lambda weight: weight.fill_(0.25), "the same number"),
        ("layers.1.spectral_weight", lambda weight: weight.mul_(1e-9), "below the round-off"),
    ],
)
def test_a_dead_layer_is_named_with_the_reason(name, change, why):
    told = ask(changed(name, change))
    assert (told.good, told.light, told.statistic) == (False, "red", 1.0)
    assert told.said == f"1 layer is broken: {name}."
    assert f"{name}: " in told.evidence
    assert why in told.evidence
    assert "learning rate" in told.advice


def test_all_layers_dead_are_counted():
    operator = tiny.operator()
    with torch.no_grad():
        for weight in operator.parameters():
            weight.zero_()
    told = ask(operator)
    assert (told.good, told.statistic) == (False, 7.0)
    assert "and 3 more" in told.said


def test_a_layer_that_hangs_on_single_entries_is_broken_and_one_with_a_large_entry_is_told():
    def put(value):
        def change(weight):
            weight[3, 5] = value * weight.square().mean().sqrt()

        return ask(changed("layers.0.skip.weight", change, width=32))

    ruled, large, plain = put(100.0), put(15.0), put(1.0)
    assert ruled.good is False
    assert "single entries hold 91% of its squares" in ruled.evidence
    assert (large.good, large.light, large.statistic) == (None, "amber", 0.0)
    assert "stand out in layers.0.skip.weight" in large.said
    assert plain.good is True
    strict = ask(
        changed("layers.0.skip.weight", lambda weight: weight[3, 5].mul_(0).add_(2.5), width=32),
        WeightSpectra(most_permuted=1.1),
    )
    assert strict.good is False
    assert "times that of noise" in strict.evidence


def test_a_good_network_of_the_zoo_with_large_single_entries_is_not_called_broken():
    from scifm.systems.helmholtz import Helmholtz

    operator = load_operator("scifm/helmholtz-nano")
    told = ask(operator, batch=Helmholtz().sample(2, operator.domain.grid or tiny.GRID))
    assert (told.good, told.statistic) == (None, 0.0)
    assert "layers.1.spectral_weight" in told.said


def test_what_fresh_weights_are_too_is_no_death():
    """Maps that modulate begin at zero, and stay there where no coefficient varies."""
    from scifm.models.fno import FNOConfig

    operator = FNO(Poisson.signature, FNOConfig(**{**tiny.NETWORK, "conditioning": "layers"}))
    told = ask(operator)
    assert told.good is True
    assert "Zero, as in fresh weights: modulations.0.weight, modulations.1.weight." in told.evidence
    with torch.no_grad():
        operator.get_parameter("layers.0.skip.weight").zero_()
    assert ask(operator).statistic == 1.0


def test_exponents_are_told_beside_those_of_fresh_weights_and_never_judged():
    told = ask(tiny.operator(width=12))
    assert "told without a verdict" in told.evidence
    assert "of fresh weights" in told.evidence
    names = [panel.group for panel in told.figure.panels]
    assert names == ["Tails", "Exponents", "Modes"]
    labels = {series.label for series in told.figure.panels[1].series}
    assert labels == {"as it is", "modes over their mean", "fresh weights"}


def test_of_a_network_that_cannot_be_built_anew_there_is_nothing_beside():
    operator = ModuleOperator.wrap(
        networks.GlobalNet(len(Poisson.signature.inputs) + 3, 1, width=16), Poisson.signature
    )
    told = ask(operator)
    assert told.good is True
    assert "fresh" not in told.evidence
    assert ask(ModuleOperator.wrap(networks.Shift(), Poisson.signature)).light == "none"


def test_a_weight_that_is_no_number_is_found_where_answers_do_not_show_it():
    operator = ModuleOperator.wrap(networks.Idle(len(Poisson.signature.inputs) + 3, 1), Poisson.signature)
    with torch.no_grad():
        operator.get_parameter("module.idle.weight").fill_(math.inf)
    told = ask(operator)
    assert (told.good, "no finite numbers" in told.said) == (False, True)
    assert "module.idle.weight" in told.evidence


# --- what training began with -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A run whose weights hardly moved: what they were can be read off them."""
    tree = tiny.recipe(training={"num_steps": 1, "learning_rate": 1e-9, "validate_every": 1, "checkpoint_every": 1})
    return pretrain(tree, out=tmp_path_factory.mktemp("beginning"))


def _largest(before, after):
    return max(own.relative for own in compare(before, after))


def test_first_weights_are_drawn_again_from_the_seed_of_the_run(parent):
    place = find_model(parent)
    operator = load_operator(place.folder)
    first, told = operator_before(place, operator)
    assert told == "its first weights, seed 1"
    assert _largest(first, operator) < 1e-6
    assert _largest(tiny.operator(), operator) > 0.1, "another seed"
    (found,) = check_operator(parent, tiny.batch(2), ["weight_spectra"], record=False)
    assert "Distance from its first weights, seed 1:" in found.evidence


def test_those_of_training_from_scratch_too(parent, tmp_path):
    model = ModelConfig(network=load_operator(parent).config)
    few = {"num_samples": 4, "seed": 3, "learning_rates": (1e-9,), "training": {**tiny.ADAPTING, "num_steps": 1}}
    run = from_scratch(model, tiny_origin(), out=tmp_path, **few)
    place = find_model(run)
    operator = load_operator(place.folder)
    first, told = operator_before(place, operator)
    assert told == "its first weights, seed 3"
    assert _largest(first, operator) < 1e-6


def tiny_origin():
    from scifm.data.origins import SystemOrigin

    return SystemOrigin.of(Poisson(), tiny.GRID)


def test_of_a_run_that_was_fine_tuned_it_is_the_parent(parent, tmp_path):
    home = shutil.copytree(parent.path, tmp_path / parent.path.name)
    few = {"num_samples": 4, "learning_rates": (1e-2,), "training": {**tiny.ADAPTING, "num_steps": 5}}
    run = finetune(home, tiny_origin(), out=tmp_path, try_zero_shot=False, **few)
    (found,) = check_operator(run, tiny.batch(2), ["weight_spectra"], record=False)
    assert f"Distance from '{home.name}', which it was fine-tuned from:" in found.evidence
    place = find_model(run)
    before, _ = operator_before(place, load_operator(place.folder))
    assert _largest(before, load_operator(home)) == 0
    shutil.rmtree(home)
    assert operator_before(place, load_operator(place.folder)) is None
    (found,) = check_operator(run, tiny.batch(2), ["weight_spectra"], record=False)
    assert "Distance" not in found.evidence


def test_a_model_without_its_run_does_not_tell(parent, tmp_path):
    model = shutil.copytree(parent.path / "model", tmp_path / "model")
    assert operator_before(find_model(model), load_operator(model)) is None
