from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity

FORCING = Homogeneity((("f", 1), ("u", 1)), ("f",), "rms")
TENSOR = Homogeneity((("xx", 1), ("yy", 1), ("xy", 1), ("u", -1)), ("xx", "yy", "xy"), "geometric_mean")
VALUE = Homogeneity((("xx", 1), ("u", -1)), ("xx",), "value")
OPERATOR = tuple((name, 1) for name in ("xx", "yy", "xy", "vx", "vy"))
DIFFUSION = Homogeneity(OPERATOR, ("xx", "yy", "xy"), "geometric_mean")
TRANSPORT = Homogeneity(OPERATOR, ("vx", "vy"), "transport")
BOTH = Homogeneity(OPERATOR, (), "sum", (DIFFUSION, TRANSPORT))


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
        ((("f", 1),), ("f",), "loudness", "'loudness' is unknown.*Allowed: geometric_mean, rms, sum, transport, value"),
        ((("c", 1),), ("c",), "transport", r"takes the entries \(x, y\) of a velocity in two dimensions"),
        ((("x", 1), ("y", 2)), ("x", "y"), "transport", "exponent 1"),
        ((("f", 1),), (), "sum", "needs parts"),
        ((("f", 2),), ("f",), "rms", "exponent 1"),
        ((("u", 1),), ("f",), "rms", "exponent 1"),
    ],
)
def test_a_gauge_that_makes_no_sense_is_refused(exponents, gauge, measure, words):
    with pytest.raises(SignatureError, match=words):
        Homogeneity(exponents, gauge, measure)


def test_every_part_of_a_sum_grows_with_it():
    with pytest.raises(SignatureError, match=r"exponent 1; got gauge .*vx"):
        Homogeneity(OPERATOR[:3], (), "sum", (DIFFUSION, TRANSPORT))


def flow(*rows: list[float], extent: tuple[float, ...] = (1.0, 1.0), dtype: torch.dtype = torch.float64) -> Batch:
    """Return samples with these (xx, yy, xy, vx, vy) in a box with these sides."""
    signature = Signature(("f",), ("xx", "yy", "xy", "vx", "vy"), ("u",), num_spatial_dims=len(extent))
    grid = Grid((2,) * len(extent), extent, (True,) * len(extent))
    inputs = torch.ones(len(rows), 1, 1, *grid.num_points, dtype=dtype)
    return Batch(signature, grid, inputs, torch.tensor(rows, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("extent", "length"), [((1.0, 1.0), 1.0), ((4.0, 9.0), 6.0), ((9.0, 4.0), 6.0)])
def test_transport_is_the_speed_times_the_length_of_the_box(extent, length, dtype):
    batch = flow([1, 1, 0, 3, -4], [5, 2, 1, 0, 0], [0, 0, 0, 0, 2], extent=extent, dtype=dtype)
    transport = torch.tensor([5.0, 0.0, 2.0], dtype=dtype) * length / (2 * math.pi)
    torch.testing.assert_close(TRANSPORT.size(batch), transport)
    torch.testing.assert_close(BOTH.size(batch), torch.tensor([1.0, 3.0, 0.0], dtype=dtype) + transport)


def test_diffusion_and_transport_balance_in_the_longest_wave_of_a_square_box():
    wave = 2 * math.pi / 3.0
    diffusion, transport = (
        part.size(flow([0.5, 0.5, 0, 0.7, 0], extent=(3.0, 3.0))) for part in (DIFFUSION, TRANSPORT)
    )
    torch.testing.assert_close(transport / diffusion, torch.tensor([0.7 * wave / (0.5 * wave**2)], dtype=torch.float64))


def test_still_water_has_a_gradient():
    batch = flow([1, 1, 0, 0, 0])
    batch.coefficients.requires_grad_()
    BOTH.size(batch).sum().backward()
    assert batch.coefficients.grad.tolist() == [[0.5, 0.5, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("extent", [(1.0,), (1.0, 1.0, 1.0)])
def test_transport_needs_a_box_of_its_dimensions(extent):
    with pytest.raises(SignatureError, match=f"is for boxes of 2 dimensions; this one has {len(extent)}"):
        BOTH.size(flow([1, 1, 0, 3, -4], extent=extent))


def test_joining_counts_a_part_once():
    alone = Homogeneity((*OPERATOR[:3], ("u", -1)), DIFFUSION.gauge, "geometric_mean")
    shift = Homogeneity((("f", 1), ("w", 1)), ("w",), "value")
    for members in ([alone, BOTH], [BOTH, alone], [alone, BOTH, Homogeneity.joined([alone, BOTH])]):
        joined = Homogeneity.joined(members)
        assert {(part.gauge, part.measure) for part in joined.parts} == {
            (DIFFUSION.gauge, "geometric_mean"),
            (TRANSPORT.gauge, "transport"),
        }
        assert len(joined.parts) == 2
        assert dict(joined.exponents) == {**dict(OPERATOR), "u": -1}
        batch = flow([5, 2, 1, 3, -4], [5, 2, 1, 0, 0])
        assert torch.equal(joined.size(batch), BOTH.size(batch))
    nested = Homogeneity.joined([BOTH, shift])
    assert [part.measure for part in nested.parts] == ["geometric_mean", "transport", "value"], "flat"


def test_joining_one_part_that_scales_more_is_no_sum():
    joined = Homogeneity.joined([TENSOR, Homogeneity((*TENSOR.exponents, ("w", 1)), TENSOR.gauge, TENSOR.measure)])
    assert (joined.gauge, joined.measure, joined.parts) == (TENSOR.gauge, "geometric_mean", ())
    assert dict(joined.exponents) == {**dict(TENSOR.exponents), "w": 1}


def test_a_sum_that_was_saved_with_a_part_twice_keeps_its_size():
    """Mixtures saved before parts were counted once: their weights were trained with that size."""
    part = {"exponents": {"xx": 1.0, "yy": 1.0, "xy": 1.0}, "gauge": ["xx", "yy", "xy"], "measure": "geometric_mean"}
    other = {**part, "exponents": {**part["exponents"], "vx": 1.0, "vy": 1.0}}
    saved = Homogeneity.from_dict({**other, "gauge": [], "measure": "sum", "parts": [part, other]})
    assert saved.size(flow([5, 2, 1, 3, -4])).tolist() == [6.0]


@pytest.mark.parametrize("homogeneity", [FORCING, TENSOR, VALUE, TRANSPORT, BOTH, Homogeneity.joined([VALUE, BOTH])])
def test_goes_round_through_plain_values(homogeneity):
    again = Homogeneity.from_dict(homogeneity.to_dict())
    assert again == homogeneity
