"""The reference paper's checkpoint files; its weights alone are tested beside the FNO."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from reference_network import ReferenceModule, write_checkpoint
from scifm.errors import SignatureError
from scifm.fields.batch import Signature
from scifm.models.foreign_files import import_reference_weights, read_state_dict

SIGNATURE = Signature(("forcing",), ("k11", "k22", "k12"), ("solution",))


@pytest.fixture
def checkpoint(tmp_path) -> tuple[ReferenceModule, Path]:
    torch.manual_seed(0)
    network = ReferenceModule()
    write_checkpoint(network, tmp_path / "ckpt.tar")
    return network, tmp_path / "ckpt.tar"


@pytest.mark.parametrize("space", [(16, 16), (12, 15)])
def test_a_checkpoint_answers_as_its_network(checkpoint, space):
    network, file = checkpoint
    operator = import_reference_weights(read_state_dict(file), SIGNATURE)
    forcing, coefficients = torch.randn(3, 1, *space), torch.randn(3, 3)
    images = coefficients.view(3, 3, 1, 1).expand(-1, -1, *space)
    with torch.no_grad():
        expected = network(torch.cat([forcing, images], dim=1))
        got = operator.network(tiny.encoded(forcing[:, None], coefficients))[:, 0]
    assert float((got - expected).norm() / expected.norm()) < 1e-5


def test_imported_weights_are_copies_and_train(checkpoint):
    network, _ = checkpoint
    operator = import_reference_weights(network.state_dict(), SIGNATURE)
    before = network.fc0.weight.detach().clone()
    with torch.no_grad():
        for parameter in operator.parameters():
            assert parameter.requires_grad
            parameter += 1
    assert torch.equal(network.fc0.weight, before)


def test_weights_of_nothing_are_named(checkpoint):
    state = {**checkpoint[0].state_dict(), "fc3.weight": torch.ones(1)}
    with pytest.raises(SignatureError, match=r"'fc3\.weight' belongs to nothing"):
        import_reference_weights(state, SIGNATURE)


def test_a_file_cannot_make_us_take_more_memory_than_it_has(checkpoint):
    state = checkpoint[0].state_dict()
    state["fc0.weight"] = torch.ones(1, 1).expand(10**6, 4)  # one number that claims to be a width of a million
    with pytest.raises(SignatureError, match="do not fit"):
        import_reference_weights(state, SIGNATURE)
