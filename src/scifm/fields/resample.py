"""Exact resampling of periodic fields: the trigonometric interpolant read off at other points of the same box."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.spectral import require_periodic

__all__ = ["resample"]


def _resample_last_axis(field: Tensor, num: int) -> Tensor:
    old = field.shape[-1]
    if num == old:
        return field
    kept = min(old, num)
    spectrum = torch.fft.rfft(field, dim=-1)[..., : kept // 2 + 1] * (num / old)
    if kept % 2 == 0:
        # A Nyquist cosine stands for the pair ±k: upwards both share its coefficient, downwards both fold into it.
        spectrum[..., -1] *= 0.5 if num > old else 2.0
    return torch.fft.irfft(spectrum, n=num, dim=-1)


def resample(field: Float[Tensor, "..."], grid: Grid, num_points: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Return a periodic field on a grid of the same box with another number of points.

    Fields without modes at or above the Nyquist wavenumber of either grid are carried over exactly, up and down. Going
    up, the result passes through the old values wherever points coincide; going up and down again is the identity.
    Going down, modes that the new grid cannot hold are removed, not aliased; the pair at its Nyquist wavenumber is kept
    as the cosine the grid can see.

    Args:
        field: ``(..., *grid.num_points)``.
        grid: the periodic grid the field lives on.
        num_points: points an axis of the new grid, in array order.

    Returns:
        ``(..., *num_points)``.

    Raises:
        SignatureError: if the grid is not periodic, the field does not live on it, or `num_points` does not fit it.
    """
    require_periodic(grid)
    dims = grid.num_spatial_dims
    if tuple(field.shape[-dims:]) != grid.num_points:
        raise SignatureError(f"The field's last axes must be {grid.num_points}; got shape {tuple(field.shape)}.")
    if len(num_points) != dims or any(num < 2 for num in num_points):
        raise SignatureError(f"Give {dims} numbers of points, each at least 2; got {tuple(num_points)}.")
    for axis, num in zip(range(-dims, 0), num_points, strict=True):
        field = _resample_last_axis(field.movedim(axis, -1), num).movedim(-1, axis)
    return field.contiguous()
