"""Our neuraloperator FNO against neuraloperator's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import tiny
from neuralop_networks import answer_of, distance, neuralop, question, signature, theirs
from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.models.foreign_files import import_neuralop_weights
from scifm.models.neuralop_fno import NeuralopFNO, NeuralopFNOConfig
from scifm.models.registry import load_operator, save_operator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


CASES = [
    ((6,), (12,)),
    ((7,), (13,)),
    ((16,), (9,)),  # more modes than the grid has
    ((1,), (8,)),
    ((6, 6), (12, 12)),
    ((6, 5), (12, 9)),
    ((6, 6), (9, 12)),  # odd where neuraloperator shifts
    ((7, 4), (8, 10)),
    ((12, 12), (8, 8)),
    ((5, 8), (9, 7)),
    ((4, 4, 4), (6, 7, 8)),
    ((3, 5, 4), (7, 5, 4)),
]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"positional_embedding": None, "use_channel_mlp": False},
    {"norm": "group_norm", "lifting_channel_ratio": 0, "channel_mlp_expansion": 1.3},
    {"fno_skip": "soft-gating", "channel_mlp_skip": "linear", "projection_channel_ratio": 1.7},
    {"fno_skip": "identity", "channel_mlp_skip": None, "n_layers": 1},
    {"fno_skip": None, "channel_mlp_skip": "identity", "lifting_channel_ratio": 0.7},
]


@pytest.mark.parametrize(("modes", "space"), CASES, ids=str)
@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_values_and_gradients_are_those_of_neuraloperator(modes, space, variant):
    network = theirs(modes, **VARIANTS[variant])
    operator = import_neuralop_weights(network.state_dict(), signature(len(modes)))
    fields, coefficients = question(space)
    there, here = answer_of(network, fields, coefficients), operator.network(tiny.encoded(fields, coefficients))[:, 0]
    assert distance(here, there) < 1e-5
    inputs = (fields, coefficients)
    gradients = [torch.autograd.grad(out.square().sum(), inputs, retain_graph=True) for out in (here, there)]
    for ours, their in zip(*gradients, strict=True):
        assert distance(ours, their) < 1e-5


@pytest.mark.parametrize(("modes", "space"), [((6,), (13,)), ((6, 6), (9, 12)), ((4, 4, 4), (6, 7, 8))], ids=str)
def test_instance_norm_is_theirs(modes, space):
    """Over its few points float32 loses digits in both; in float64 nothing hides behind that."""
    network = theirs(modes, norm="instance_norm")
    operator = import_neuralop_weights(network.state_dict(), signature(len(modes)))
    fields, coefficients = question(space)
    there, here = answer_of(network, fields, coefficients), operator.network(tiny.encoded(fields, coefficients))[:, 0]
    exact = operator.double().network(tiny.encoded(fields.double(), coefficients.double()))[:, 0]
    assert distance(here, exact) < 1e-5
    assert distance(there, exact) < 1e-5


def test_it_is_saved_where_neuraloperator_cannot_be(tmp_path):
    operator = import_neuralop_weights(theirs((6, 5), positional_embedding=None).state_dict(), signature(2))
    save_operator(operator, tmp_path)
    again = load_operator(tmp_path)
    assert isinstance(again, NeuralopFNO)
    assert again.config == operator.config
    assert again.config.positional_embedding == "none"
    inputs = question((9, 12))
    assert torch.equal(again.network(tiny.encoded(*inputs)), operator.network(tiny.encoded(*inputs)))


def test_fresh_weights_have_the_sizes_of_theirs():
    """Standard deviations of each kind of weight, of a network wide enough to measure them."""
    settings = {"n_modes": (8, 8), "hidden_channels": 32, "n_layers": 2}
    torch.manual_seed(0)
    ours = NeuralopFNO(signature(2), NeuralopFNOConfig(**settings))
    there = import_neuralop_weights(
        neuralop.FNO(in_channels=3, out_channels=2, **settings).state_dict(), signature(2)
    ).state_dict()
    for name, tensor in ours.state_dict().items():
        if tensor.numel() >= 1000:
            assert math.isclose(float(tensor.std()), float(there[name].std()), rel_tol=0.1), name


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({}, "'n_modes' is missing"),
        ({"n_modes": [4, 4], "hidden_chanels": 3}, "Did you mean 'hidden_channels'"),
        ({"n_modes": [4, 4], "hidden_channels": 3, "domain_padding": 0.2}, "domain_padding = 0.2 is not supported"),
        ({"n_modes": [4, 4], "hidden_channels": 3, "factorization": "tucker"}, "only None is: leave it out"),
        ({"n_modes": [0, 4], "hidden_channels": 3}, "from 1 to 8192 modes"),
        ({"n_modes": [4, 4], "hidden_channels": 3, "norm": "batch_norm"}, "group_norm"),
    ],
)
def test_settings_that_are_not_valid_are_told(tree, told):
    with pytest.raises(ConfigError, match=told):
        build_config(NeuralopFNOConfig, tree)


def test_none_may_be_written_as_neuraloperator_does():
    config = NeuralopFNOConfig(n_modes=(4,), hidden_channels=3, positional_embedding=None, fno_skip=None, norm=None)
    assert (config.positional_embedding, config.fno_skip, config.norm) == ("none", "none", "none")
    assert build_config(NeuralopFNOConfig, config.to_dict()) == config


def test_axes_must_agree():
    with pytest.raises(ConfigError, match="names 1 axis; the fields have 2"):
        NeuralopFNO(signature(2), NeuralopFNOConfig(n_modes=(4,), hidden_channels=3))
    grid = Grid((8, 8), (1.0, 1.0), (True, True))
    two = Batch(signature(2), grid, torch.zeros(1, 2, 1, 8, 8), torch.zeros(1, 2))
    with pytest.raises(SignatureError, match="1 input frame; got 2"):
        NeuralopFNO(signature(2), NeuralopFNOConfig(n_modes=(4, 4), hidden_channels=3))(two)
