"""The operators that terms of equations name, on periodic boxes: so a declaration of terms is a claim to be checked.

=====================  =========================================================================================
``one``                1, of no field
``value``              u
``square``, ``cube``   u², u³
``product``            of all fields, one that stands there twice squared
``derivative_x``       ∂u/∂x; any letters of x, y, z: ``derivative_xxx`` is ∂³u/∂x³, ``derivative_xy`` is ∂²u/∂x∂y
``laplacian``          Δu
``bilaplacian``        Δ²u
``advection``          Σⱼ vⱼ ∂u/∂xⱼ of the fields u, v₁, v₂, …, as many velocities as dimensions, along x, y, z
``vorticity_advection``  v·∇ω in two dimensions, v the velocity of zero mean and divergence that has the vorticity ω
=====================  =========================================================================================

An operator of another name may stand in a term as well; it is then not known here, and nothing checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.spectral import gradient, laplacian, wavenumbers
from scifm.fields.term import Term

__all__ = ["TERM_OPERATORS", "is_known", "right_hand_side"]

_DERIVATIVE = "derivative_"
Applied = Callable[[Sequence[Tensor], Grid], Tensor]


def _advection(fields: Sequence[Tensor], grid: Grid) -> Tensor:
    carried, *velocity = fields
    slopes = gradient(carried, grid)[::-1]  # along x, y, z
    return torch.stack([v * slope for v, slope in zip(velocity, slopes, strict=True)]).sum(0)


def _vorticity_advection(fields: Sequence[Tensor], grid: Grid) -> Tensor:
    (vorticity,) = fields
    square = torch.stack(torch.broadcast_tensors(*(wave**2 for wave in wavenumbers(grid)))).sum(0)
    square[0, 0] = 1.0  # the mean, which has no velocity
    stream = torch.fft.irfftn(torch.fft.rfftn(vorticity, dim=(-2, -1)) / square, s=grid.num_points, dim=(-2, -1))
    along_y, along_x = gradient(stream, grid)  # −Δψ = ω, v = (∂ψ/∂y, −∂ψ/∂x)
    return _advection([vorticity, along_y, -along_x], grid)


def _on_one(act: Callable[[Tensor, Grid], Tensor]) -> Applied:
    def applied(fields: Sequence[Tensor], grid: Grid) -> Tensor:
        (field,) = fields
        return act(field, grid)

    return applied


def _derivative(axes: str) -> Applied:
    def along(field: Tensor, grid: Grid) -> Tensor:
        spectrum = torch.fft.rfftn(field, dim=grid.axes_of(field))
        for axis, letter in enumerate("xyz"[: grid.num_spatial_dims][::-1]):
            if order := axes.count(letter):
                wave = wavenumbers(grid, odd=order % 2 == 1, dtype=field.dtype, device=field.device)[axis]
                spectrum = spectrum * (1j * wave) ** order
        return torch.fft.irfftn(spectrum, s=grid.num_points, dim=grid.axes_of(field))

    return _on_one(along)


TERM_OPERATORS: dict[str, Applied] = {
    "one": lambda fields, grid: torch.ones(grid.num_points, dtype=torch.float64),
    "value": _on_one(lambda field, grid: field),
    "square": _on_one(lambda field, grid: field**2),
    "cube": _on_one(lambda field, grid: field**3),
    "product": lambda fields, grid: math.prod(fields[1:], start=fields[0]),
    "laplacian": _on_one(laplacian),
    "bilaplacian": _on_one(lambda field, grid: laplacian(laplacian(field, grid), grid)),
    "advection": _advection,
    "vorticity_advection": _vorticity_advection,
}
"""What each does to fields ``(…, *space)`` on a periodic grid; derivatives by their letters are known beside these."""


def is_known(operator: str) -> bool:
    """Return whether an operator of this name can be computed here."""
    letters = operator.removeprefix(_DERIVATIVE)
    return operator in TERM_OPERATORS or (letters != operator and bool(letters) and set(letters) <= set("xyz"))


def right_hand_side(
    terms: Sequence[Term], fields: Mapping[str, Tensor], coefficients: Mapping[str, Tensor], grid: Grid
) -> dict[str, Tensor]:
    """Return the sum of the terms of each equation, by the field it is of, ``(batch, …, *space)``.

    Args:
        terms: of all equations.
        fields: by name, ``(batch, …, *space)``.
        coefficients: by name, ``(batch,)``.
        grid: periodic.

    Raises:
        SignatureError: if an operator is not known here, or the grid is not periodic.
    """
    sums: dict[str, Tensor] = {}
    for term in terms:
        if not is_known(term.operator):
            raise SignatureError(f"Nobody here knows how to compute the operator '{term.operator}' of {term.told}.")
        act = TERM_OPERATORS.get(term.operator) or _derivative(term.operator.removeprefix(_DERIVATIVE))
        value = act([fields[name] for name in term.fields], grid).to(fields[term.of]) * term.factor
        if term.coefficient is not None:
            value = value * coefficients[term.coefficient].view(-1, *(1,) * (fields[term.of].dim() - 1))
        sums[term.of] = sums.get(term.of, torch.zeros_like(fields[term.of])) + value
    return sums
