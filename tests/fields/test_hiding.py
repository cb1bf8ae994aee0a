"""What is hidden: exactly so many points, of all fields the same; blurs against plain sums; names and scalings."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding, scalings_of_whole, signature_of_whole
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import generator_for
from scifm.wording import hidden_text

NAMES = signature_of_whole(Signature(("f", "g"), ("a",), ("u",)))


def samples(grid: Grid, num_samples: int = 5, *, dtype=torch.float64, names: Signature | None = None) -> Batch:
    names = names or replace(NAMES, num_spatial_dims=grid.num_spatial_dims)
    shape = (num_samples, 1, len(names.inputs), *grid.num_points)
    fields = torch.randn(shape, generator=generator_for(0, "hiding", *shape), dtype=dtype)
    return Batch(names, grid, fields, torch.ones(num_samples, len(names.coefficients), dtype=dtype), fields.clone())


@pytest.mark.parametrize(
    ("points", "ratio", "patch", "count"),
    [
        ((16, 12), 0.6, 1, 115),  # 0.6 · 192 = 115.2
        ((16, 12), 0.3, 4, 3 * 16),  # 0.3 · 12 = 3.6
        ((100,), 0.29, 1, 29),  # 0.29 · 100 is 28.999999999999996 in binary digits
        ((100,), 0.9, 10, 90),
        ((4, 6, 8), 0.5, 2, 12 * 8),
    ],
)
def test_exactly_so_many_points_are_hidden_the_same_ones_of_all_fields(points, ratio, patch, count):
    grid, hiding = Grid(points), Hiding(ratio, patch)
    batch = samples(grid)
    asked = hiding.of(batch, generator_for(0, "mask"))
    hidden = ~asked.valid_inputs
    assert hidden.flatten(3).sum(-1).unique().tolist() == [count] == [hiding.num_hidden(grid)]
    assert torch.equal(hidden[:, :, :1].expand_as(hidden), hidden)
    assert torch.equal(asked.valid_targets, hidden)  # what is hidden is asked for, and nothing else
    assert torch.equal(asked.inputs, batch.inputs)
    assert torch.equal(asked.require_targets(), batch.require_targets())
    assert len(hidden[:, 0, 0].flatten(1).unique(dim=0)) > 1  # each sample has its own
    pieces = hidden[:, 0, 0]
    for axis in range(1, len(points) + 1):  # patches are hidden whole
        pieces = pieces.unfold(axis, patch, patch)
    assert set(pieces.flatten(1 + len(points)).double().mean(-1).unique().tolist()) <= {0.0, 1.0}


def test_every_point_is_hidden_as_often_as_any_other():
    grid = Grid((8,))
    asked = Hiding(0.5).of(samples(grid, 4000), generator_for(0, "mask"))
    shares = (~asked.valid_inputs)[:, 0, 0].double().mean(0)
    assert ((shares - 0.5).abs() < 4 * math.sqrt(0.25 / 4000)).all()


def test_nothing_hidden_is_asked_for_everywhere():
    batch = samples(Grid((8, 8)))
    asked = Hiding().of(batch, generator_for(0, "mask"))
    assert asked.valid_inputs is None
    assert asked.valid_targets is None
    assert torch.equal(asked.inputs, batch.inputs)


@pytest.mark.parametrize("boundary", list(product(("periodic", "wall"), repeat=2)))
def test_the_blur_is_the_plain_sum(boundary):
    grid, width = Grid((7, 6), boundary=boundary), 0.8
    batch = samples(grid, 2)
    asked = Hiding(blur=(width, width)).of(batch, generator_for(0, "blur"))
    reach = math.ceil(4 * width)
    away = range(-reach, reach + 1)
    weights = {step: math.exp(-0.5 * (step / width) ** 2) for step in away}
    total = sum(weights.values())

    def place(index: int, points: int, end: str) -> int:
        if end == "periodic":
            return index % points
        while not 0 <= index < points:  # mirrored at the point that stands at the end
            index = -index if index < 0 else 2 * (points - 1) - index
        return index

    expected = torch.zeros_like(batch.inputs)
    for y, x, dy, dx in product(range(7), range(6), away, away):
        other = place(y + dy, 7, boundary[0]), place(x + dx, 6, boundary[1])
        expected[..., y, x] += weights[dy] * weights[dx] / total**2 * batch.inputs[..., other[0], other[1]]
    torch.testing.assert_close(asked.inputs, expected, rtol=1e-12, atol=1e-13)
    assert torch.equal(asked.require_targets(), batch.require_targets())  # whole and sharp


def test_a_blur_is_drawn_for_each_sample_between_its_ends_and_keeps_a_constant():
    grid = Grid((32,))
    wave = torch.cos(2 * math.pi * torch.arange(32, dtype=torch.float64) / 8)
    names = Signature(("f", "g"), (), ("f_whole", "g_whole"), num_spatial_dims=1)
    fields = torch.stack([wave, torch.full_like(wave, 3.0)]).expand(200, 1, 2, 32).clone()
    batch = Batch(names, grid, fields, torch.zeros(200, 0, dtype=torch.float64), fields.clone())
    asked = Hiding(blur=(1.0, 2.0)).of(batch, generator_for(0, "blur")).inputs
    torch.testing.assert_close(asked[:, :, 1], fields[:, :, 1], rtol=1e-14, atol=0)
    kept = asked[:, 0, 0, 0]  # of a wave of k radians a point a Gaussian leaves exp(−σ²k²/2)
    widths = (-2 * kept.log()).sqrt() / (math.pi / 4)
    assert 1.0 - 1e-3 < float(widths.min()) < 1.03
    assert 1.97 < float(widths.max()) < 2.0 + 1e-3
    assert torch.equal(Hiding(blur=(0, 0)).of(batch, generator_for(0, "blur")).inputs, fields)


def test_points_that_are_missing_are_not_smeared_over_others_and_never_asked_for():
    grid = Grid((16, 16))
    batch = samples(grid, 3)
    valid = torch.rand(batch.inputs.shape, generator=generator_for(0, "missing")) > 0.3
    found = []
    for number in (0.0, 1e6):
        fields = torch.where(valid, batch.inputs, number)
        there = replace(batch, inputs=fields, targets=fields, valid_inputs=valid, valid_targets=valid)
        found.append(Hiding(0.5, blur=(1, 1)).of(there, generator_for(0, "mask")))
        assert not (found[-1].valid_targets & ~valid).any()
        assert not (found[-1].valid_inputs & ~valid).any()
        assert not (found[-1].valid_inputs & found[-1].valid_targets).any()
    assert torch.equal(*(torch.where(valid, asked.inputs, 0.0) for asked in found))
    assert torch.equal(found[0].valid_inputs, found[1].valid_inputs)


def test_of_a_field_that_is_zero_almost_everywhere_something_is_left_to_see():
    grid = Grid((16, 16))
    batch = samples(grid, 64)
    spot = torch.zeros(16, 16, dtype=torch.float64)
    spot[4:6, 4:6] = 1.0
    batch = replace(batch, inputs=batch.inputs * spot)
    asked = Hiding(0.75, patch=4).of(batch, generator_for(0, "mask"))
    seen = torch.where(asked.valid_inputs, batch.inputs, 0.0).square().flatten(3).sum(-1)
    assert (seen > 0).double().mean() > 0.98  # without drawing again it would be a quarter of them
    whole = Homogeneity((("f", 1), ("f_whole", 1)), ("f",), "rms")
    single = replace(batch, inputs=torch.where(torch.arange(256).view(16, 16) == 0, 1.0, 0.0).expand_as(batch.inputs))
    size = whole.size(Hiding(0.9375, patch=4).of(single.select([0]), torch.Generator().manual_seed(1)))
    assert bool((size > 0).all())  # also where nothing could be left


def test_what_is_hidden_of_samples_that_score_hangs_on_their_number_alone():
    batch, hiding = samples(Grid((8, 8)), 6), Hiding(0.5, blur=(0, 1))
    all_of_them = hiding.of_each(batch, range(6))
    some = hiding.of_each(batch.select([4, 1]), [4, 1])
    assert torch.equal(some.valid_inputs, all_of_them.valid_inputs[[4, 1]])
    assert torch.equal(some.inputs, all_of_them.inputs[[4, 1]])


def test_hidden_points_stand_at_what_the_normalization_takes_as_zero():
    batch = samples(Grid((8, 8)))
    asked = Hiding(0.5).of(batch, generator_for(0, "mask"))
    plain = Normalization.identity(num_inputs=2, num_coefficients=1, num_outputs=2)
    encoded = replace(plain, input_shift=(2.0, -1.0)).encode(asked).inputs
    assert (encoded[~asked.valid_inputs] == 0).all()
    seen = asked.valid_inputs[:, 0, 0]
    assert torch.equal(encoded[:, 0, 0][seen], (batch.inputs[:, 0, 0] - 2)[seen])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ratio": 1.0}, "from 0 to less than 1; got 1"),
        ({"ratio": -0.1}, "got -0.1"),
        ({"patch": 0}, "at least 1; got 0"),
        ({"blur": (2, 1)}, "the lower one first; got 2 and 1"),
        ({"blur": (-1, 1)}, "got -1 and 1"),
        ({"blur": (0, math.inf)}, "got 0 and inf"),
    ],
)
def test_numbers_that_are_not_allowed(settings, told):
    with pytest.raises(ConfigError, match=told):
        Hiding(**settings)


@pytest.mark.parametrize(
    ("hiding", "told"),
    [
        (Hiding(0.5, 5), "patch = 5 does not divide the 12 points"),
        (Hiding(0.01, 4), "of 12 patches of 4 points a side hides none"),
        (Hiding(blur=(0, 40)), "A blur of 40 points is wider than the grid of 12 × 16 points"),
    ],
)
def test_what_does_not_fit_a_grid(hiding, told):
    with pytest.raises(ConfigError, match=told):
        hiding.require_grid(Grid((12, 16)))


def test_told_and_written_down():
    assert Hiding().told == "nothing hidden"
    assert Hiding(0.6, blur=(0, 1)).told == "60 % of the points hidden, blurred by 0 to 1 points"
    assert Hiding(0.29, 8).told == "29 % of the patches of 8 points hidden"
    for hiding in (Hiding(0.6, 2, (0, 1)), Hiding(0.3)):
        assert Hiding.from_dict(hiding.to_dict()) == hiding
        assert None not in hiding.to_dict().values()
        assert hidden_text(**hiding.to_dict()) == hiding.told


def test_names_and_scalings_of_whole_fields():
    names = Signature(("u", "medium"), ("nu",), ("u",), evolves=True)
    whole = signature_of_whole(names)
    assert whole == Signature(("u", "medium"), ("nu",), ("u_whole", "medium_whole"))
    size = Homogeneity((("u", 1), ("nu", 1), ("lead_time", -1)), ("u",), "rms")
    both = replace(size, measure="sum", gauge=(), parts=(size,))
    (scaling,) = scalings_of_whole([both], names)
    assert scaling.exponents == (("u", 1), ("nu", 1), ("u_whole", 1))
    assert scaling.parts[0].exponents == scaling.exponents
    with pytest.raises(SignatureError, match="must differ"):
        signature_of_whole(Signature(("u", "u_whole"), (), ("v",)))
