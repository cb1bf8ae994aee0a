"""Spectral calculus of real fields on periodic boxes with any sides and any numbers of points.

Layout: fields are ``(..., *space)`` with x last; spectra are those of ``torch.fft.rfftn`` over the spatial axes.

The Nyquist wavenumber. On an axis with an even number of points the highest mode cannot tell +k from −k: it is a pure
cosine on the grid. Its odd derivatives are therefore zero on the grid and its even derivatives are those of the cosine:

* `gradient`, `divergence` and the cross term of `diffusion_operator` set the Nyquist wavenumber to zero;
* `laplacian` and the terms u_xx, u_yy of `diffusion_operator` keep it.

So ``divergence(gradient(u))`` differs from ``laplacian(u)`` in that one mode, and in no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.grid import Grid

__all__ = [
    "diffusion_operator", "divergence", "gradient", "laplacian", "require_periodic", "spread_of", "wavenumbers",
    "without_divergence",
]  # fmt: skip


_ROUNDING = 100.0  # times the precision, at the highest wavenumber: a gradient below that is rounding


def require_periodic(grid: Grid) -> None:
    """Check that spectral calculus is allowed on this grid.

    Raises:
        SignatureError: if an axis is not periodic.
    """
    if not all(grid.periodic):
        raise SignatureError(f"Spectral calculus needs a grid that is periodic on every axis; got {grid.told}.")


def wavenumbers(
    grid: Grid, *, odd: bool = False, dtype: torch.dtype = torch.float64, device: Any = None
) -> tuple[Tensor, ...]:
    """Return the angular wavenumbers 2πn/extent of each axis, shaped to broadcast over the half-spectrum.

    Args:
        grid: a periodic grid.
        odd: whether they are meant for odd derivatives; the Nyquist wavenumber is then 0 (else it is negative on
            full axes, as in ``fftfreq``, and positive on the half axis, as in ``rfftfreq``).

    Returns:
        One tensor an axis, in array order. In two dimensions ``(ny, 1)`` and ``(1, nx // 2 + 1)``; unit: 1/length.

    Raises:
        SignatureError: if an axis is not periodic.
    """
    require_periodic(grid)
    dims = grid.num_spatial_dims
    result = []
    for axis, (num, extent) in enumerate(zip(grid.num_points, grid.extent, strict=True)):
        make = torch.fft.rfftfreq if axis == dims - 1 else torch.fft.fftfreq
        values = make(num, 1.0 / num, dtype=torch.float64)
        if odd and num % 2 == 0:
            values[num // 2] = 0.0
        shape = [1] * dims
        shape[axis] = len(values)
        result.append((values * (2 * math.pi / extent)).view(shape).to(dtype=dtype, device=device))
    return tuple(result)


def _forward(field: Tensor, grid: Grid) -> Tensor:
    return torch.fft.rfftn(field, dim=grid.axes_of(field))


def _inverse(spectrum: Tensor, grid: Grid) -> Tensor:
    return torch.fft.irfftn(spectrum, s=grid.num_points, dim=tuple(range(-grid.num_spatial_dims, 0)))


def gradient(field: Float[Tensor, "*shape"], grid: Grid) -> tuple[Float[Tensor, "*shape"], ...]:
    """Return the partial derivatives, one ``(..., *space)`` an axis in **array order** (y, then x); unit: field/length.

    Raises:
        SignatureError: if the grid is not periodic or the field does not live on it.
    """
    waves = wavenumbers(grid, odd=True, dtype=field.dtype, device=field.device)
    spectrum = _forward(field, grid)
    return tuple(_inverse(spectrum * (1j * wave), grid) for wave in waves)


def divergence(components: Sequence[Float[Tensor, "*shape"]], grid: Grid) -> Float[Tensor, "*shape"]:
    """Return ∂_y a_y + ∂_x a_x for components in **array order**, each ``(..., *space)``; unit: component/length.

    Raises:
        SignatureError: if there is not one component an axis, the grid is not periodic, or shapes do not fit.
    """
    if len(components) != grid.num_spatial_dims:
        raise SignatureError(f"A divergence needs {grid.num_spatial_dims} components; got {len(components)}.")
    waves = wavenumbers(grid, odd=True, dtype=components[0].dtype, device=components[0].device)
    parts = [_forward(part, grid) * (1j * wave) for part, wave in zip(components, waves, strict=True)]
    return _inverse(torch.stack(parts).sum(0), grid)


def spread_of(components: Sequence[Float[Tensor, "*shape"]], grid: Grid) -> Float[Tensor, "*lead"]:
    """Return ‖∇·v‖ over ‖∇v‖ of vector fields, ``(...)``: 0 of one without divergence, at most √dims.

    0 too of one that is constant to rounding.

    Args:
        components: along **x, y, z**, as signatures name them, each ``(..., *space)``.
        grid: periodic.

    Raises:
        SignatureError: if there is not one component an axis, the grid is not periodic, or shapes do not fit.
    """
    axes = grid.axes_of(components[0])
    spread = divergence(components[::-1], grid).square().sum(axes)
    slopes = torch.stack([slope for part in components for slope in gradient(part, grid)]).square().sum(0).sum(axes)
    highest = max(math.pi * num / extent for num, extent in zip(grid.num_points, grid.extent, strict=True))
    size = torch.stack([part.square().sum(axes) for part in components]).sum(0)
    rounding = (_ROUNDING * torch.finfo(slopes.dtype).eps * highest) ** 2 * size
    return torch.where(slopes <= rounding, 0.0 * spread, spread / slopes).sqrt()


def without_divergence(
    components: Sequence[Float[Tensor, "*shape"]], grid: Grid
) -> tuple[Float[Tensor, "*shape"], ...]:
    """Return the nearest vector field whose `divergence` is zero, in **array order**: the projection of Leray, v − ∇φ.

    φ solves Δφ = ∇·v, so means stay as they are. It is computed in float64 and returned in the precision that came.
    Differentiable.

    Args:
        components: one an axis, in array order (y, then x), each ``(..., *space)``.
        grid: periodic.

    Raises:
        SignatureError: if there is not one component an axis, the grid is not periodic, or shapes do not fit.
    """
    if len(components) != grid.num_spatial_dims:
        raise SignatureError(f"A vector field has {grid.num_spatial_dims} components here; got {len(components)}.")
    device = components[0].device
    waves = torch.broadcast_tensors(*wavenumbers(grid, odd=True, device=device))
    square = torch.stack([wave * wave for wave in waves]).sum(0)
    # of waves along which nothing has a derivative, such as the mean, there is nothing to take
    inverse = torch.where(square > 0, 1 / square.where(square > 0, 1.0), 0.0)
    parts = [_forward(part.double(), grid) for part in components]
    spread = torch.stack([part * wave for part, wave in zip(parts, waves, strict=True)]).sum(0) * inverse
    return tuple(
        _inverse(part - wave * spread, grid).to(given.dtype)
        for part, wave, given in zip(parts, waves, components, strict=True)
    )


def laplacian(field: Float[Tensor, "*shape"], grid: Grid) -> Float[Tensor, "*shape"]:
    """Return Δ field, ``(..., *space)``; unit: field/length².

    Raises:
        SignatureError: if the grid is not periodic or the field does not live on it.
    """
    waves = wavenumbers(grid, dtype=field.dtype, device=field.device)
    square = torch.stack(torch.broadcast_tensors(*(wave * wave for wave in waves))).sum(0)
    return _inverse(_forward(field, grid) * -square, grid)


def diffusion_operator(
    field: Float[Tensor, " batch *shape"],
    grid: Grid,
    *,
    diffusion_xx: Float[Tensor, "#batch"] | Float[Tensor, ""],
    diffusion_yy: Float[Tensor, "#batch"] | Float[Tensor, ""],
    diffusion_xy: Float[Tensor, "#batch"] | Float[Tensor, ""],
) -> Float[Tensor, " batch *shape"]:
    """Return ∇·(K∇field) in two dimensions for a constant symmetric tensor K.

    Args:
        field: ``(batch, ..., ny, nx)``.
        grid: a periodic grid of two axes.
        diffusion_xx: ``(batch,)`` or a scalar tensor, multiplies u_xx.
        diffusion_yy: the same, multiplies u_yy.
        diffusion_xy: the same, multiplies 2 u_xy.

    Raises:
        SignatureError: if the grid is not periodic and two-dimensional or the field does not live on it.
    """
    if grid.num_spatial_dims != 2:
        raise SignatureError(f"The diffusion operator is written for two dimensions; got {grid.num_spatial_dims}.")
    wave_y, wave_x = wavenumbers(grid, dtype=field.dtype, device=field.device)
    odd_y, odd_x = wavenumbers(grid, odd=True, dtype=field.dtype, device=field.device)

    def per_sample(value: Tensor) -> Tensor:
        return value.view(-1, *(1,) * (field.dim() - 1)) if value.dim() else value

    symbol = (
        per_sample(diffusion_xx) * wave_x**2
        + per_sample(diffusion_yy) * wave_y**2
        + 2 * per_sample(diffusion_xy) * (odd_x * odd_y)
    )
    return _inverse(_forward(field, grid) * -symbol, grid)
