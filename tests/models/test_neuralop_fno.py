"""Our neuraloperator FNO against neuraloperator's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.hub import load_operator, save_operator
from scifm.models.neuralop_fno import NeuralopFNO, NeuralopFNOConfig
from scifm.models.neuralop_weights import import_neuralop_weights, neuralop_dims

neuralop = pytest.importorskip("neuralop.models")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def signature(dims: int) -> Signature:
    return Signature(("f",), ("a", "b"), ("u", "v"), num_spatial_dims=dims)


def theirs(modes: tuple[int, ...], **settings: Any) -> torch.nn.Module:
    """Return a network of neuraloperator whose every weight, biases and gates too, is a number of its own."""
    torch.manual_seed(sum(modes))
    network = neuralop.FNO(
        n_modes=modes, in_channels=3, out_channels=2, **{"hidden_channels": 5, "n_layers": 3, **settings}
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.2 * torch.rand(parameter.shape)).add_(0.05 * torch.randn(parameter.shape))
    return network.eval()


def question(space: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 1, 1, *space, requires_grad=True), torch.randn(2, 2, requires_grad=True)


def answer_of(network: torch.nn.Module, fields: Tensor, coefficients: Tensor) -> Tensor:
    space = fields.shape[3:]
    constants = coefficients.view(2, 2, *(1,) * len(space)).expand(2, 2, *space)
    return network(torch.cat([fields[:, 0], constants], dim=1))


def distance(one: Tensor, other: Tensor) -> float:
    return float(((one - other).norm() / other.norm()).detach())


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
    there, here = answer_of(network, fields, coefficients), operator.network(fields, coefficients)[:, 0]
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
    there, here = answer_of(network, fields, coefficients), operator.network(fields, coefficients)[:, 0]
    exact = operator.double().network(fields.double(), coefficients.double())[:, 0]
    assert distance(here, exact) < 1e-5
    assert distance(there, exact) < 1e-5


def test_more_weights_than_modes_in_use():
    """A network grown mode by mode holds weights of `max_n_modes` and uses the middle ones."""
    network = theirs((4, 4), max_n_modes=(8, 5))
    operator = import_neuralop_weights(network.state_dict(), signature(2))
    assert operator.settings.n_modes == (4, 4)
    inputs = question((12, 14))
    assert distance(operator.network(*inputs)[:, 0], answer_of(network, *inputs)) < 1e-5
    state = {name: value for name, value in network.state_dict().items() if name != "_metadata"}
    told = import_neuralop_weights(state, signature(2), n_modes=(4, 4))
    assert torch.equal(told.network(*inputs), operator.network(*inputs))


def test_without_their_record_the_weights_tell_nearly_everything():
    network = theirs((6, 6), norm="group_norm")
    whole = import_neuralop_weights(network.state_dict(), signature(2))
    state = {f"module._orig_mod.{k}": v for k, v in network.state_dict().items() if k != "_metadata"}
    read = import_neuralop_weights(state, signature(2))
    assert read.settings == whole.settings
    assert neuralop_dims(state) == 2


def test_what_leaves_no_trace_has_to_be_told():
    state = theirs((6, 6), fno_skip="identity").state_dict()
    del state["_metadata"]
    with pytest.raises(SignatureError, match="whether fno_skip was 'identity' or None: say fno_skip="):
        import_neuralop_weights(state, signature(2))
    assert import_neuralop_weights(state, signature(2), fno_skip="identity").settings.fno_skip == "identity"
    with pytest.raises(SignatureError, match="fno_skip = 'linear'"):
        import_neuralop_weights(theirs((6, 6), fno_skip="soft-gating").state_dict(), signature(2), fno_skip="linear")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"domain_padding": 0.1}, "domain_padding"),
        ({"stabilizer": "tanh"}, "stabilizer"),
        ({"preactivation": True}, "preactivation"),
        ({"factorization": "tucker", "rank": 0.5}, "dense"),
        ({"resolution_scaling_factor": 2}, "resolution_scaling_factor"),
        ({"separable": True}, "dimensions"),
        ({"channel_mlp_dropout": 0.1}, "channel_mlp_dropout"),
    ],
)
def test_networks_we_do_not_know_are_refused_by_name(settings, word):
    network = neuralop.FNO(n_modes=(4, 4), in_channels=3, out_channels=2, hidden_channels=4, **settings)
    with pytest.raises(SignatureError, match=word) as caught:
        import_neuralop_weights(network.state_dict(), signature(2))
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_named():
    state = theirs((6, 6)).state_dict()
    with pytest.raises(SignatureError, match="takes 5 channels; the signature names 1"):
        import_neuralop_weights(state, Signature(("f",), (), ("u", "v")))
    with pytest.raises(SignatureError, match=r"'projection.fcs.1.weight' has shape"):
        import_neuralop_weights(state, Signature(("f",), ("a", "b"), ("u",)))
    with pytest.raises(SignatureError, match="for 2 dimensions; the signature has 1"):
        import_neuralop_weights(state, signature(1))
    with pytest.raises(SignatureError, match="'extra' belongs to nothing"):
        import_neuralop_weights({**state, "extra": torch.ones(1)}, signature(2))
    with pytest.raises(SignatureError, match=r"lack what we call 'blocks.1.conv.bias'"):
        import_neuralop_weights({k: v for k, v in state.items() if k != "fno_blocks.convs.1.bias"}, signature(2))
    with pytest.raises(SignatureError, match=r"'projection.fcs.0.weight'"):
        import_neuralop_weights({k: v for k, v in state.items() if k != "projection.fcs.0.weight"}, signature(2))
    with pytest.raises(SignatureError, match="'x' is no tensor"):
        import_neuralop_weights({**state, "x": 3}, signature(2))
    with pytest.raises(SignatureError, match="No key 'fno_blocks"):
        import_neuralop_weights({"lift.weight": torch.ones(1)}, signature(2))


def test_a_file_cannot_make_us_take_more_memory_than_it_has():
    state = theirs((6, 6)).state_dict()
    state["lifting.fcs.0.weight"] = torch.empty(10**9, 5, 1, device="meta")
    with pytest.raises(SignatureError):
        import_neuralop_weights(state, signature(2))


def test_imported_weights_are_copies_and_train():
    network = theirs((6, 6))
    operator = import_neuralop_weights(network.state_dict(), signature(2))
    operator.network(*question((12, 12))).square().sum().backward()
    before = network.lifting.fcs[0].weight.clone()
    with torch.no_grad():
        for parameter in operator.parameters():
            assert parameter.grad is not None
            assert not parameter.is_complex()
            parameter += 1
    assert torch.equal(network.lifting.fcs[0].weight, before)


def test_it_is_saved_where_neuraloperator_cannot_be(tmp_path):
    operator = import_neuralop_weights(theirs((6, 5), positional_embedding=None).state_dict(), signature(2))
    save_operator(operator, tmp_path)
    again = load_operator(tmp_path)
    assert isinstance(again, NeuralopFNO)
    assert again.settings == operator.settings
    assert again.settings.positional_embedding == "none"
    inputs = question((9, 12))
    assert torch.equal(again.network(*inputs), operator.network(*inputs))


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
    with pytest.raises(ConfigError, match="names 1 axes; the fields have 2"):
        NeuralopFNO(signature(2), NeuralopFNOConfig(n_modes=(4,), hidden_channels=3))
    grid = Grid((8, 8), (1.0, 1.0), (True, True))
    two = Batch(signature(2), grid, torch.zeros(1, 2, 1, 8, 8), torch.zeros(1, 2))
    with pytest.raises(SignatureError, match="one input frame; got 2"):
        NeuralopFNO(signature(2), NeuralopFNOConfig(n_modes=(4, 4), hidden_channels=3))(two)
