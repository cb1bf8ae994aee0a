from __future__ import annotations

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity

FORCING = Homogeneity((("f", 1), ("u", 1)), ("f",), "rms")
TENSOR = Homogeneity((("xx", 1), ("yy", 1), ("xy", 1), ("u", -1)), ("xx", "yy", "xy"), "geometric_mean")
VALUE = Homogeneity((("xx", 1), ("u", -1)), ("xx",), "value")


@pytest.fixture
def batch() -> Batch:
    signature = Signature(("f",), ("xx", "yy", "xy"), ("u",))
    inputs = torch.tensor([3.0, 4.0, 0.0, 0.0, -1.0, 1.0, 1.0, -1.0], dtype=torch.float64).view(2, 1, 1, 2, 2)
    coefficients = torch.tensor([[5.0, 2.0, 1.0], [8.0, 2.0, 0.0]], dtype=torch.float64)
    return Batch(signature, Grid.square(2), inputs, coefficients)


@pytest.mark.parametrize(("homogeneity", "sizes"), [(FORCING, [2.5, 1.0]), (VALUE, [5.0, 8.0]), (TENSOR, [3.0, 4.0])])
def test_sizes_by_hand(batch, homogeneity, sizes):
    torch.testing.assert_close(homogeneity.size(batch), torch.tensor(sizes, dtype=torch.float64))


def test_the_geometric_mean_is_that_of_the_eigenvalues_whatever_the_angle(batch):
    for angle in (0.0, 0.3, 2.0):
        c, s = torch.cos(torch.tensor(angle)).double(), torch.sin(torch.tensor(angle)).double()
        turn = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        tensor = turn @ torch.diag(torch.tensor([9.0, 4.0], dtype=torch.float64)) @ turn.T
        row = torch.stack([tensor[0, 0], tensor[1, 1], tensor[0, 1]]).expand(2, 3)
        size = TENSOR.size(Batch(batch.signature, batch.grid, batch.inputs, row))
        torch.testing.assert_close(size, torch.full((2,), 6.0, dtype=torch.float64))


def test_names_left_out_do_not_change():
    assert (TENSOR.exponent("u"), TENSOR.exponent("xx"), TENSOR.exponent("f")) == (-1, 1, 0)


@pytest.mark.parametrize(
    ("exponents", "gauge", "measure", "words"),
    [
        ((("f", 1),), ("f", "g"), "rms", "does not fit the gauge"),
        ((("f", 1),), ("f",), "geometric_mean", "does not fit the gauge"),
        ((("f", 1),), ("f",), "loudness", "does not fit the gauge"),
        ((("f", 2),), ("f",), "rms", "exponent 1"),
        ((("u", 1),), ("f",), "rms", "exponent 1"),
    ],
)
def test_a_gauge_that_makes_no_sense_is_refused(exponents, gauge, measure, words):
    with pytest.raises(SignatureError, match=words):
        Homogeneity(exponents, gauge, measure)


@pytest.mark.parametrize("homogeneity", [FORCING, TENSOR, VALUE])
def test_goes_round_through_plain_values(homogeneity):
    again = Homogeneity.from_dict(homogeneity.to_dict())
    assert again == homogeneity
