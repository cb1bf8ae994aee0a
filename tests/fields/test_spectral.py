from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.spectral import diffusion_operator, divergence, gradient, laplacian, wavenumbers

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
