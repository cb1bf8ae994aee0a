"""Centered modes against fast transforms."""

from __future__ import annotations

import pytest
import torch

from scifm.models.parts.centered_spectral import CenteredSpectral, centered_matrices, kept_slices


@pytest.mark.parametrize(
    ("num_points", "modes", "kept"),
    [
        ((12,), (4,), (slice(0, 4),)),
        ((5,), (9,), (slice(0, 3),)),
        ((8, 8), (4, 3), (slice(0, 4), slice(0, 3))),
        ((4, 8), (8, 5), (slice(2, 6), slice(0, 5))),
        ((4, 8), (7, 9), (slice(1, 5), slice(0, 5))),
    ],
)
def test_the_middle_of_the_weights_is_used_where_the_grid_is_coarse(num_points, modes, kept):
    assert kept_slices(num_points, modes) == kept


@pytest.mark.parametrize("space", [(8, 8), (6, 9), (4, 6, 8)])
def test_with_weights_of_one_kept_modes_pass_and_others_do_not(space):
    """Even sides but the last: what is kept comes back as it was, to round-off."""
    modes = (*(n - 2 for n in space[:-1]), space[-1] // 2)
    layer = CenteredSpectral(1, 1, modes).double()
    with torch.no_grad():
        layer.spectral_weight.zero_()
        layer.spectral_weight[0] = 1
        layer.bias.zero_()
    torch.manual_seed(0)
    x = torch.randn(*space, 3, 1, dtype=torch.float64)
    axes = tuple(range(len(space)))
    spectrum = torch.fft.rfftn(x, dim=axes)
    keep = torch.zeros(spectrum.shape[: len(space)], dtype=torch.bool)
    rows = [torch.arange(k) - k // 2 for k in modes[:-1]]
    keep[torch.meshgrid(*rows, torch.arange(modes[-1]), indexing="ij")] = True
    low = torch.fft.irfftn(spectrum * keep[..., None, None], s=space, dim=axes)
    torch.testing.assert_close(layer(x), low, rtol=1e-12, atol=1e-12)


def test_matrices_built_without_gradients_serve_training():
    with torch.inference_mode():
        centered_matrices((10, 10), (4, 3), torch.float32, torch.device("cpu"))
    layer = CenteredSpectral(2, 3, (4, 3))
    layer(torch.randn(10, 10, 2, 2)).square().sum().backward()
    assert layer.spectral_weight.grad is not None
    assert float(layer.spectral_weight.grad.abs().max()) > 0
