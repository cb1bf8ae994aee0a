from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.spectral import (
    diffusion_operator,
    divergence,
    gradient,
    laplacian,
    spread_of,
    wavenumbers,
    without_divergence,
)

BOXES = [
    Grid((16, 16), (1.0, 1.0), (True, True)),
    Grid((12, 20), (2.0, 0.5), (True, True)),
    Grid((15, 21), (0.7, 3.0), (True, True)),
    Grid((14, 17), (1.0, 5.0), (True, True)),
]


def wave(grid, ny=2, nx=-3):
    """Return phase, and wavenumbers along y and x, of one plane wave of the box."""
    y, x = grid.coordinates()
    q, p = 2 * math.pi * ny / grid.extent[0], 2 * math.pi * nx / grid.extent[1]
    return q * y[:, None] + p * x + 0.3, q, p


@pytest.mark.parametrize("grid", BOXES, ids=str)
def test_derivatives_of_a_plane_wave(grid):
    phase, q, p = wave(grid)
    field = torch.cos(phase).expand(2, 1, *grid.num_points)
    scale = q**2 + p**2
    along_y, along_x = gradient(field, grid)
    torch.testing.assert_close(along_y, (-q * torch.sin(phase)).expand_as(field), atol=1e-12 * scale, rtol=0)
    torch.testing.assert_close(along_x, (-p * torch.sin(phase)).expand_as(field), atol=1e-12 * scale, rtol=0)
    torch.testing.assert_close(laplacian(field, grid), -scale * field, atol=1e-12 * scale, rtol=0)
    torch.testing.assert_close(divergence((along_y, along_x), grid), -scale * field, atol=1e-12 * scale, rtol=0)


@pytest.mark.parametrize("grid", BOXES, ids=str)
def test_diffusion_operator_has_its_own_tensor_in_each_sample(grid):
    phase, q, p = wave(grid)
    field = torch.cos(phase).expand(2, *grid.num_points)
    xx, yy, xy = (
        torch.tensor([1.0, 3.0]).double(),
        torch.tensor([2.0, 0.5]).double(),
        torch.tensor([0.4, -0.7]).double(),
    )
    expected = -(xx * p**2 + yy * q**2 + 2 * xy * p * q)[:, None, None] * field
    made = diffusion_operator(field, grid, diffusion_xx=xx, diffusion_yy=yy, diffusion_xy=xy)
    torch.testing.assert_close(made, expected, atol=1e-11 * (q**2 + p**2), rtol=0)


def test_diffusion_operator_is_the_divergence_of_the_flux_below_nyquist():
    grid = Grid((9, 11), (1.0, 2.0), (True, True))
    field = torch.randn(9, 11, dtype=torch.float64)
    along_y, along_x = gradient(field, grid)
    flux = (2.0 * along_y + 0.3 * along_x, 1.5 * along_x + 0.3 * along_y)
    tensor = {
        f"diffusion_{name}": torch.tensor(v, dtype=torch.float64) for name, v in (("xx", 1.5), ("yy", 2.0), ("xy", 0.3))
    }
    torch.testing.assert_close(diffusion_operator(field, grid, **tensor), divergence(flux, grid))


def test_nyquist_has_no_slope_but_a_curvature():
    grid = Grid((8, 8), (1.0, 1.0), (True, True))
    sawtooth = torch.cos(math.pi * torch.arange(8, dtype=torch.float64)).expand(8, 8)
    assert gradient(sawtooth, grid)[1].abs().max() < 1e-12
    torch.testing.assert_close(laplacian(sawtooth, grid), -((8 * math.pi) ** 2) * sawtooth)


def test_wavenumbers_are_angular_and_broadcast():
    wave_y, wave_x = wavenumbers(Grid((4, 6), (2.0, 3.0), (True, True)))
    assert wave_y.shape == (4, 1)
    assert wave_x.shape == (1, 4)
    torch.testing.assert_close(wave_y.flatten(), math.pi * torch.tensor([0.0, 1, -2, -1], dtype=torch.float64))
    torch.testing.assert_close(wave_x.flatten(), 2 * math.pi / 3 * torch.tensor([0.0, 1, 2, 3], dtype=torch.float64))


def test_one_and_three_dimensions():
    line = Grid((16,), (2.0,), (True,))
    (x,) = line.coordinates()
    torch.testing.assert_close(gradient(torch.sin(math.pi * x), line)[0], math.pi * torch.cos(math.pi * x))
    cube = Grid((4, 6, 8), (1.0, 1.0, 2.0), (True, True, True))
    field = torch.cos(math.pi * cube.coordinates()[2]).expand(4, 6, 8)
    torch.testing.assert_close(laplacian(field, cube), -(math.pi**2) * field)


def test_open_boxes_and_foreign_fields_are_refused():
    with pytest.raises(SignatureError, match="periodic"):
        laplacian(torch.zeros(8, 8), Grid((8, 8), (1.0, 1.0), (True, False)))
    with pytest.raises(SignatureError, match=r"\(8, 8\)"):
        laplacian(torch.zeros(8, 9), BOXES[0].resized((8, 8)))
    with pytest.raises(SignatureError, match="2 components"):
        divergence([torch.zeros(16, 16)], BOXES[0])


@pytest.mark.parametrize(
    "grid", [Grid((12, 15), (0.7, 1.9), (True, True)), Grid((6, 5, 8), (1.0, 0.7, 1.3), (True,) * 3)]
)
def test_what_is_left_without_a_divergence_is_the_nearest_such_field(grid):
    """It is orthogonal to what was taken, which is a gradient; again it changes nothing, and means stay."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, *grid.num_points)
    field = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in grid.num_points]
    left = without_divergence(field, grid)
    assert divergence(left, grid).abs().max() < 1e-12 * divergence(field, grid).abs().max()
    again = without_divergence(left, grid)
    for one, other, given in zip(left, again, field, strict=True):
        assert (one - other).abs().max() < 1e-14
        assert (one.mean(grid.axes_of(one)) - given.mean(grid.axes_of(given))).abs().max() < 1e-15
    taken = [given - own for given, own in zip(field, left, strict=True)]
    together = sum((one * other).sum() for one, other in zip(left, taken, strict=True))
    assert abs(together) < 1e-11
    assert sum(float(part.square().sum()) for part in taken) > 1
    slope = gradient(torch.randn(shape, generator=generator, dtype=torch.float64), grid)
    assert max(part.abs().max() for part in without_divergence(slope, grid)) < 1e-12 * slope[0].abs().max()


def test_the_projection_holds_in_single_precision_and_has_gradients():
    grid = Grid.square(64)
    y, x = (2 * math.pi * axis for axis in torch.meshgrid(*grid.coordinates(), indexing="ij"))
    field = (torch.sin(x + 2 * y) + torch.cos(3 * y) + 0.4, torch.cos(x) * torch.sin(y))  # along y, x
    single = without_divergence([part.float() for part in field], grid)
    assert {part.dtype for part in single} == {torch.float32}
    assert spread_of([part.double() for part in single[::-1]], grid) < 1e-6 < 0.1 < spread_of(field[::-1], grid)
    small = Grid((4, 5), (0.7, 1.9), (True, True))
    given = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda both: torch.stack(without_divergence(tuple(both), small)), given)
    with pytest.raises(SignatureError, match="has 2 components here; got 1"):
        without_divergence(field[:1], grid)
    constant = [torch.ones(4, 5, dtype=torch.float64)] * 2
    assert spread_of(constant, small) == 0
