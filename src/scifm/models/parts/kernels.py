"""The heavy steps of a Fourier layer, each told twice: through torch, and in C where that can be used.

Which one runs is decided by `native_for`: float32 on a CPU goes to C, everything else to torch. Both give
the same numbers to round-off (tested). Large results come from a `Workspace`.

Tensors handed to C must be contiguous; all that come here are, or are made so here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.models.parts.native import native_for
from scifm.models.parts.workspace import Workspace

__all__ = ["ComplexAxis", "LayerEnd", "RealAxis", "along", "analyze_axis", "mix", "mix_gradients", "synthesize_axis"]

_PIECE = 1 << 16  # numbers that stay in the second-level cache: a line of as many is never stored


def along(
    matrix: Float[Tensor, "rows depth"],
    fields: Float[Tensor, "lead depth rest"],
    workspace: Workspace,
    *,
    onto: Float[Tensor, "lead rows rest"] | None = None,
) -> Float[Tensor, "lead rows rest"]:
    """Multiply `matrix` into the middle axis by torch, and add the product to `onto` (in place) where that is given."""
    lead, _, rest = fields.shape
    if onto is not None:
        return onto.baddbmm_(matrix.expand(lead, -1, -1), fields)
    out = workspace.empty((lead, len(matrix), rest), fields)
    if lead == 1:
        torch.mm(matrix, fields[0], out=out[0])
        return out
    return torch.bmm(matrix.expand(lead, -1, -1), fields, out=out)


@dataclass(frozen=True)
class ComplexAxis:
    """Matrices of an axis whose numbers are complex by the time it is transformed: one transform, told twice.

    Args:
        whole: ``(2·2m, 2n)``, real form of a complex matrix; rows are all real parts, then all imaginary ones, of the
            modes 0 … m−1 and −m … −1; columns alternate between the parts.
        folded: ``(2·(m+1), n)``, cosines, then sines, of the wavenumbers 0 … m. The C kernel folds points and modes of
            both signs in pairs, which leaves a quarter of the products.
    """

    whole: Tensor
    folded: Tensor

    def analyze(
        self, fields: Float[Tensor, "lead twice_n rest"], workspace: Workspace
    ) -> Float[Tensor, "lead kept rest"]:
        """Return the modes of fields ``(lead, n·2, rest)``."""
        if native := native_for(fields):
            lead, rows, rest = fields.shape
            out = workspace.empty((lead, len(self.whole), rest), fields)
            sizes = (lead, rows // 2, rest, len(self.whole) // 4)
            native.call("analyze_complex_axis", *sizes, self.folded, fields, out)
            return out
        return along(self.whole, fields, workspace)

    def synthesize(
        self, modes: Float[Tensor, "lead kept rest"], workspace: Workspace
    ) -> Float[Tensor, "lead twice_n rest"]:
        """Return the adjoint of `analyze` applied to `modes`: the inverse transform, as the matrix is not scaled."""
        if native := native_for(modes):
            lead, rows, rest = modes.shape
            out = workspace.empty((lead, self.whole.shape[1], rest), modes)
            sizes = (lead, self.whole.shape[1] // 2, rest, rows // 4)
            native.call("synthesize_complex_axis", *sizes, self.folded, modes, out)
            return out
        return along(self.whole.T, modes, workspace)


@dataclass(frozen=True)
class RealAxis:
    """The matrix of an axis whose numbers are real; `real_axis` makes one.

    Args:
        whole: ``(2·m, n)``, cosines, then minus sines, of the wavenumbers 0 … m−1.
        levels: how often the C kernel does odd wavenumbers apart (``transforms.c``).
        tables: what it then multiplies by, one after the other; without levels `whole`, of which it folds points in
            pairs.
    """

    whole: Tensor
    levels: int
    tables: Tensor


def analyze_axis(
    axis: RealAxis, fields: Float[Tensor, "lines n rest"], workspace: Workspace
) -> Float[Tensor, "lines kept rest"]:
    """Multiply the matrix of an axis into the middle one of `fields`."""
    lines, n, rest = fields.shape
    if native := native_for(fields):
        out = workspace.empty((lines, len(axis.whole), rest), fields)
        native.call("analyze_axis", lines, n, rest, len(axis.whole), axis.levels, axis.tables, fields, out)
        return out
    return along(axis.whole, fields, workspace)


def synthesize_axis(
    axis: RealAxis,
    modes: Float[Tensor, "lines kept rest"],
    onto: Float[Tensor, "lines n rest"],
    workspace: Workspace,
) -> Float[Tensor, "lines n rest"]:
    """Add to `onto` the adjoint of `analyze_axis`."""
    if native := native_for(modes):
        native.call("synthesize_axis", *onto.shape, len(axis.whole), axis.levels, axis.tables, modes, onto)
        return onto
    return along(axis.whole.T, modes, workspace, onto=onto)


def mix(
    modes: Float[Tensor, "2 modes batch in"], weight: Float[Tensor, "2 modes in out"], workspace: Workspace
) -> Float[Tensor, "2 modes batch out"]:
    """Multiply complex ``(mode, batch, in)`` by complex ``(mode, in, out)`` in real arithmetic."""
    out = workspace.empty((*modes.shape[:-1], weight.shape[-1]), modes)
    if native := native_for(modes):
        native.call("mix", *modes.shape[1:], weight.shape[-1], modes, weight, out)
        return out
    torch.bmm(modes[0], weight[0], out=out[0])
    out[0].baddbmm_(modes[1], weight[1], alpha=-1)
    torch.bmm(modes[0], weight[1], out=out[1])
    out[1].baddbmm_(modes[1], weight[0])
    return out


def mix_gradients(
    modes: Float[Tensor, "2 modes batch in"],
    weight: Float[Tensor, "2 modes in out"],
    grad: Float[Tensor, "2 modes batch out"],
    needed: tuple[bool, bool],
    workspace: Workspace,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of `mix` with respect to its modes and its weight, each where `needed`."""
    grad_modes = workspace.empty(modes.shape, modes) if needed[0] else None
    grad_weight = workspace.empty(weight.shape, weight) if needed[1] else None
    if native := native_for(modes):
        shape = (*modes.shape[1:], weight.shape[-1])
        native.call("mix_gradients", *shape, modes, weight, grad, grad_modes, grad_weight)
        return grad_modes, grad_weight
    if grad_modes is not None:
        real, imaginary = weight[0].mT, weight[1].mT
        torch.bmm(grad[0], real, out=grad_modes[0])
        grad_modes[0].baddbmm_(grad[1], imaginary)
        torch.bmm(grad[1], real, out=grad_modes[1])
        grad_modes[1].baddbmm_(grad[0], imaginary, alpha=-1)
    if grad_weight is not None:
        real, imaginary = modes[0].mT, modes[1].mT
        torch.bmm(real, grad[0], out=grad_weight[0])
        grad_weight[0].baddbmm_(imaginary, grad[1])
        torch.bmm(real, grad[1], out=grad_weight[1])
        grad_weight[1].baddbmm_(imaginary, grad[0], alpha=-1)
    return grad_modes, grad_weight


@dataclass(frozen=True)
class LayerEnd:
    """The end of a Fourier layer: ``x W + last^T modes``, then GELU, then plus x; and the start of its gradient."""

    activation: bool
    residual: bool
    workspace: Workspace

    def value(
        self,
        x: Float[Tensor, "lines points batch in"],
        skip: Float[Tensor, "out in"],
        last: RealAxis,
        modes: Float[Tensor, "lines kept rest"],
        *,
        keep: bool,
    ) -> tuple[Float[Tensor, "lines points batch out"], Float[Tensor, "lines points batch out"] | None]:
        """Return the answer and, where there is an activation and `keep`, what went into it."""
        shape = (*x.shape[:-1], len(skip))
        out = self.workspace.empty(shape, x)
        before = self.workspace.empty(shape, x) if self.activation and keep else None
        if native := native_for(x):
            sizes = (*x.shape, len(skip), len(last.whole), last.levels)
            tensors = (x, skip.T.contiguous(), last.tables, modes, before, out)
            native.call("layer_end", *sizes, *tensors, self.activation, self.residual)
            return out, before
        at = out if before is None else before
        torch.mm(x.view(-1, x.shape[-1]), skip.T, out=at.view(-1, len(skip)))
        synthesize_axis(last, modes, at.view(shape[0], shape[1], -1), self.workspace)
        if self.activation:
            torch.ops.aten.gelu.out(at, out=out)
        return out.add_(x) if self.residual else out, before

    def gradient(
        self,
        above: Float[Tensor, "lines points batch out"],
        before: Float[Tensor, "lines points batch out"] | None,
        x: Float[Tensor, "lines points batch in"],
        skip: Float[Tensor, "out in"],
        last: RealAxis,
        *,
        needs_x: bool,
    ) -> tuple[Float[Tensor, "lines kept rest"], Tensor | None, Tensor]:
        """Return the gradients of modes, of x through skip and residual, and of `skip`."""
        lines, points, batch, channels = x.shape
        width, workspace = len(skip), self.workspace
        grad_x = workspace.empty(x.shape, x) if needs_x else None
        if native := native_for(x):
            grad_skip, short = torch.empty_like(skip), points * batch * width <= _PIECE
            spectrum = workspace.empty((lines, len(last.whole), batch * width), x)
            room = None if short else workspace.empty(above.shape, above)
            tensors = (above, before, x, skip, last.tables, room, spectrum, grad_x, grad_skip)
            sizes = (*x.shape, width, len(last.whole), last.levels)
            native.call("layer_end_gradient", *sizes, *tensors, self.residual)
            return spectrum, grad_x, grad_skip
        grad = above
        if before is not None:
            grad = workspace.empty(above.shape, above)
            torch.ops.aten.gelu_backward.grad_input(above, before, grad_input=grad)
        flat = grad.view(-1, width)
        grad_skip = flat.T @ x.view(-1, channels)
        if grad_x is not None:
            torch.mm(flat, skip, out=grad_x.view(-1, channels))
            if self.residual:
                grad_x += above
        return analyze_axis(last, grad.view(lines, points, -1), workspace), grad_x, grad_skip
