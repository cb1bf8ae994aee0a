from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.resample import resample

SIZES = st.integers(min_value=8, max_value=21)


def smooth(grid):
    y, x = (2 * math.pi * c / e for c, e in zip(grid.coordinates(), grid.extent, strict=True))
    return torch.sin(3 * y)[:, None] * torch.cos(2 * x - 0.4) + torch.cos(y)[:, None] + 0.5


@given(SIZES, SIZES, SIZES, SIZES)
def test_smooth_fields_are_carried_over_exactly(ny, nx, my, mx):
    grid = Grid((ny, nx), (1.0, 2.5), (True, True))
    made = resample(smooth(grid).expand(2, 1, ny, nx), grid, (my, mx))
    torch.testing.assert_close(made[1, 0], smooth(grid.resized((my, mx))), atol=1e-12, rtol=0)


@given(SIZES, SIZES, st.integers(1, 9), st.integers(1, 9))
def test_up_and_down_again_is_the_identity(ny, nx, more_y, more_x):
    grid = Grid((ny, nx), (1.0, 1.0), (True, True))
    field = torch.randn(ny, nx, dtype=torch.float64)
    finer = grid.resized((ny + more_y, nx + more_x))
    again = resample(resample(field, grid, finer.num_points), finer, (ny, nx))
    torch.testing.assert_close(again, field, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [8, 9])
def test_doubling_keeps_the_old_values_even_at_nyquist(size):
    grid = Grid((size, size), (1.0, 1.0), (True, True))
    field = torch.randn(size, size, dtype=torch.float64)
    torch.testing.assert_close(resample(field, grid, (2 * size, 2 * size))[::2, ::2], field)


def test_modes_the_new_grid_cannot_hold_are_removed_not_aliased():
    grid = Grid((32, 32), (1.0, 1.0), (True, True))
    wave = torch.cos(2 * math.pi * 10 * grid.coordinates()[1]).expand(32, 32)
    assert resample(wave, grid, (32, 16)).abs().max() < 1e-12


def test_gradients_pass():
    field = torch.randn(8, 8, dtype=torch.float64, requires_grad=True)
    grid = Grid.square(8)
    assert torch.autograd.gradcheck(lambda f: resample(f, grid, (6, 12)), (field,))


def test_bad_requests_are_refused():
    grid = Grid.square(8)
    with pytest.raises(SignatureError, match="at least 2"):
        resample(torch.zeros(8, 8), grid, (8,))
    with pytest.raises(SignatureError, match=r"\(8, 8\)"):
        resample(torch.zeros(8, 9), grid, (8, 8))
    with pytest.raises(SignatureError, match="periodic"):
        resample(torch.zeros(8), Grid((8,), (1.0,), (False,)), (4,))
