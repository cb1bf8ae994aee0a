"""Weights of neuraloperator, taken or refused."""

from __future__ import annotations

import pytest
import torch

import tiny
from neuralop_networks import answer_of, distance, neuralop, question, signature, theirs
from scifm.errors import SignatureError
from scifm.fields.batch import Signature
from scifm.models.foreign_files import import_neuralop_weights, neuralop_dims

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_more_weights_than_modes_in_use():
    """A network grown mode by mode holds weights of `max_n_modes` and uses the middle ones."""
    network = theirs((4, 4), max_n_modes=(8, 5))
    operator = import_neuralop_weights(network.state_dict(), signature(2))
    assert operator.config.n_modes == (4, 4)
    inputs = question((12, 14))
    assert distance(operator.network(tiny.encoded(*inputs))[:, 0], answer_of(network, *inputs)) < 1e-5
    state = {name: value for name, value in network.state_dict().items() if name != "_metadata"}
    told = import_neuralop_weights(state, signature(2), n_modes=(4, 4))
    assert torch.equal(told.network(tiny.encoded(*inputs)), operator.network(tiny.encoded(*inputs)))


def test_without_their_record_the_weights_tell_nearly_everything():
    network = theirs((6, 6), norm="group_norm")
    whole = import_neuralop_weights(network.state_dict(), signature(2))
    state = {f"module._orig_mod.{k}": v for k, v in network.state_dict().items() if k != "_metadata"}
    read = import_neuralop_weights(state, signature(2))
    assert read.config == whole.config
    assert neuralop_dims(state) == 2


def test_what_leaves_no_trace_has_to_be_told():
    state = theirs((6, 6), fno_skip="identity").state_dict()
    del state["_metadata"]
    with pytest.raises(SignatureError, match="whether fno_skip was 'identity' or None: say fno_skip="):
        import_neuralop_weights(state, signature(2))
    assert import_neuralop_weights(state, signature(2), fno_skip="identity").config.fno_skip == "identity"
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
    operator.network(tiny.encoded(*question((12, 12)))).square().sum().backward()
    before = network.lifting.fcs[0].weight.clone()
    with torch.no_grad():
        for parameter in operator.parameters():
            assert parameter.grad is not None
            assert not parameter.is_complex()
            parameter += 1
    assert torch.equal(network.lifting.fcs[0].weight, before)


@pytest.mark.parametrize("settings", [{"non_linearity": torch.nn.functional.relu}, {"conv_module": "Other"}])
def test_other_activations_and_convolutions_are_refused_where_the_record_tells_them(settings):
    state = theirs((4, 4)).state_dict()
    name, value = next(iter(settings.items()))
    state["_metadata"] = {**state["_metadata"], name: value if callable(value) else type(value, (), {})}
    with pytest.raises(SignatureError, match=f"{name} = (relu|Other) is not supported"):
        import_neuralop_weights(state, signature(2))
