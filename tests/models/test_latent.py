from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scifm.models.parts.grids import band_limited_resize, resize_matrix


def band_limited(space: tuple[int, ...], top: int, seed: int) -> torch.Tensor:
    """Return a random real field ``(2, *space)`` a sum of products of waves with wavenumbers up to `top`."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(2, *space, dtype=torch.float64)
    for _ in range(6):
        wave = torch.randn(2, *[1] * len(space), generator=generator, dtype=torch.float64)
        for axis, n in enumerate(space):
            k = int(torch.randint(0, top + 1, (1,), generator=generator))
            phase = float(torch.rand(1, generator=generator)) * 6
            line = torch.cos(2 * torch.pi * k * torch.arange(n, dtype=torch.float64) / n + phase)
            wave = wave * line.view([n if a == axis else 1 for a in range(len(space))])
        result = result + wave
    return result


@settings(max_examples=60)
@given(
    old=st.lists(st.integers(5, 14), min_size=1, max_size=3),
    new=st.lists(st.integers(5, 14), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_band_limited_fields_are_carried_exactly(old, new, seed):
    old, new = tuple(old), tuple(new[: len(old)])
    top = (min(*old, *new) - 1) // 2
    coarse, fine = band_limited(old, top, seed), band_limited(new, top, seed)
    resized = band_limited_resize(coarse, new)
    torch.testing.assert_close(resized, fine, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("old", "new"), [(16, 9), (9, 16), (16, 8), (8, 16), (7, 7)])
def test_high_modes_are_dropped_and_not_aliased(old, new):
    top = (min(old, new) - 1) // 2
    points = torch.arange(old, dtype=torch.float64) / old
    for k in range(top + 1, old // 2 + 1):
        wave = torch.cos(2 * torch.pi * k * points)
        expected = torch.zeros(new, dtype=torch.float64) if old != new else wave
        torch.testing.assert_close(band_limited_resize(wave, (new,)), expected, rtol=1e-12, atol=1e-12)


def test_the_same_grid_is_left_untouched():
    field = torch.randn(3, 8, 6)
    assert band_limited_resize(field, (8, 6)) is field


def test_down_is_the_adjoint_of_up_but_for_the_weight_of_a_point():
    up, down = (resize_matrix(*n, torch.float64, torch.device("cpu")) for n in ((6, 10), (10, 6)))
    torch.testing.assert_close(down, up.T * 6 / 10, rtol=1e-12, atol=1e-12)


def test_matrix_first_built_in_inference_still_trains():
    resize_matrix.cache_clear()
    with torch.inference_mode():
        band_limited_resize(torch.randn(1, 11), (7,))
    field = torch.randn(1, 11, requires_grad=True)
    band_limited_resize(field, (7,)).square().sum().backward()
    assert field.grad is not None
