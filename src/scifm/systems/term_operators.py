"""The operators that terms of equations name: an equation put together from its terms, whatever differentiates.

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
``solenoidal_x``       the component along x of the part of a field (a_x, a_y, …) without divergence and mean; last
                       components that are not named are zero. ``solenoidal_y``, ``_z`` alike
``solenoidal_advection_x``  the same of v·∇v, v = (v_x, v_y, …): what a flow carries once pressure has acted
=====================  =========================================================================================

An operator of another name may stand in a term as well; it is then not known here, and nothing checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.derivatives import Derivatives, SpectralDerivatives
from scifm.fields.spectral import wavenumbers, without_divergence
from scifm.fields.term import Term
from scifm.wording import plural

__all__ = ["TERM_OPERATORS", "is_known", "right_hand_side"]

_DERIVATIVE = "derivative_"
_LETTERS = "xyz"
Applied = Callable[[Derivatives, Sequence[str]], Tensor]


def _laplacian(fields: Derivatives, names: Sequence[str]) -> Tensor:
    (name,) = names
    return torch.stack([fields.along(name, 2 * letter) for letter in _LETTERS[: fields.num_spatial_dims]]).sum(0)


def _bilaplacian(fields: Derivatives, names: Sequence[str]) -> Tensor:
    (name,), letters = names, _LETTERS[: fields.num_spatial_dims]
    return torch.stack([fields.along(name, 2 * one + 2 * other) for one in letters for other in letters]).sum(0)


def _advection(fields: Derivatives, names: Sequence[str]) -> Tensor:
    carried, *velocity = names
    pairs = zip(velocity, _LETTERS[: fields.num_spatial_dims], strict=True)
    return torch.stack([fields.value(name) * fields.along(carried, letter) for name, letter in pairs]).sum(0)


def _whole(fields: Derivatives, operator: str, why: str) -> SpectralDerivatives:
    if not isinstance(fields, SpectralDerivatives):
        raise SignatureError(f"The operator '{operator}' needs whole fields on a periodic grid: {why}.")
    return fields


def _vorticity_advection(fields: Derivatives, names: Sequence[str]) -> Tensor:
    (name,) = names
    fields = _whole(fields, "vorticity_advection", "the velocity at a point hangs on the vorticity everywhere")
    spectrum = fields.spectrum(name)
    dtype, device = spectrum.real.dtype, spectrum.device
    full_y, full_x = wavenumbers(fields.grid, dtype=dtype, device=device)
    wave_y, wave_x = wavenumbers(fields.grid, odd=True, dtype=dtype, device=device)
    square = full_y**2 + full_x**2
    square[0, 0] = 1.0  # the mean, which has no velocity
    stream = spectrum / square  # −Δψ = ω, v = (∂ψ/∂y, −∂ψ/∂x)
    v_x, v_y = fields.on_grid(1j * wave_y * stream), fields.on_grid(-1j * wave_x * stream)
    return v_x * fields.along(name, "x") + v_y * fields.along(name, "y")


def _solenoidal(fields: Derivatives, components: Sequence[Tensor], along: str, operator: str) -> Tensor:
    """Return one component of what is left of a vector field without its divergence and its mean."""
    grid = _whole(fields, operator, "what pressure does at a point hangs on the flow everywhere").grid
    dims = grid.num_spatial_dims
    if not 1 <= len(components) <= dims or along not in _LETTERS[:dims]:
        raise SignatureError(
            f"'{operator}' of {plural(len(components), 'component')} has no meaning in {plural(dims, 'dimension')}."
        )
    absent = [torch.zeros_like(components[0])] * (dims - len(components))
    part = without_divergence([*components, *absent][::-1], grid)[::-1][_LETTERS.index(along)]
    return part - part.mean(grid.axes_of(part), keepdim=True)


def _solenoidal_part(along: str) -> Applied:
    operator = f"solenoidal_{along}"
    return lambda fields, names: _solenoidal(fields, [fields.value(name) for name in names], along, operator)


def _solenoidal_advection(along: str) -> Applied:
    operator = f"solenoidal_advection_{along}"
    return lambda fields, names: _solenoidal(
        fields, [_advection(fields, (name, *names)) for name in names], along, operator
    )


def _product(fields: Derivatives, names: Sequence[str]) -> Tensor:
    first, *others = (fields.value(name) for name in names)
    return math.prod(others, start=first)


def _power(exponent: int) -> Applied:
    def applied(fields: Derivatives, names: Sequence[str]) -> Tensor:
        (name,) = names
        return fields.value(name) ** exponent

    return applied


def _derivative(axes: str) -> Applied:
    def along(fields: Derivatives, names: Sequence[str]) -> Tensor:
        (name,) = names
        return fields.along(name, axes)

    return along


TERM_OPERATORS: dict[str, Applied] = {
    "one": lambda fields, names: torch.ones(()),
    "value": _power(1),
    "square": _power(2),
    "cube": _power(3),
    "product": _product,
    "laplacian": _laplacian,
    "bilaplacian": _bilaplacian,
    "advection": _advection,
    "vorticity_advection": _vorticity_advection,
    **{f"solenoidal_{along}": _solenoidal_part(along) for along in _LETTERS},
    **{f"solenoidal_advection_{along}": _solenoidal_advection(along) for along in _LETTERS},
}
"""What each does to fields of these names; derivatives by their letters are known beside these."""


def is_known(operator: str) -> bool:
    """Return whether an operator of this name can be computed here."""
    letters = operator.removeprefix(_DERIVATIVE)
    return operator in TERM_OPERATORS or (letters != operator and bool(letters) and set(letters) <= set(_LETTERS))


def right_hand_side(
    terms: Sequence[Term], fields: Derivatives, coefficients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the sum of the terms of each equation, by the field it is of, ``(batch, …)``.

    Args:
        terms: of all equations.
        fields: with their derivatives, ``(batch, …)`` each.
        coefficients: by name, ``(batch,)``.

    Raises:
        SignatureError: if an operator is not known here, or needs more than derivatives at points.
    """
    sums: dict[str, Tensor] = {}
    for term in terms:
        if not is_known(term.operator):
            raise SignatureError(f"Nobody here knows how to compute the operator '{term.operator}' of {term.told}.")
        act = TERM_OPERATORS.get(term.operator) or _derivative(term.operator.removeprefix(_DERIVATIVE))
        solved = fields.value(term.of)
        value = act(fields, term.fields).to(solved) * term.factor
        if term.coefficient is not None:
            value = value * coefficients[term.coefficient].to(solved).view(-1, *(1,) * (solved.dim() - 1))
        sums[term.of] = sums.get(term.of, torch.zeros_like(solved)) + value
    return sums
