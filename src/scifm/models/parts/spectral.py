"""The Fourier layer: keep a few low modes, mix their channels, come back; three engines, one set of weights.

Layout inside a network is ``(*space, batch, channel)``. With space first and channels last every step below is a plain
matrix product on contiguous memory, and nothing is ever transposed.

Modes kept for ``modes = m`` along an axis: the last axis keeps 0 … m−1 (the field is real, so the rest follows), every
other axis keeps 0 … m−1 and −m … −1, in this order. These are the modes of the reference network.

Engine ``gemm`` never forms a full spectrum. It multiplies by small cosine and sine matrices, built once in float64;
real and imaginary parts are stacked, so everything stays real. Engine ``fft`` is the textbook route, kept for the
regime where it wins and as the oracle of the other. Engine ``plain`` is the first one told in torch's own operations:
it has derivatives of every order, serves `torch.func`, and is what exported programs hold. All use ortho-normalized
transforms, which makes the layer independent of the number of points. Reference: Li et al., Fourier Neural Operator,
arXiv:2010.08895, eq. 4–5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scifm.errors import ConfigError, SignatureError
from scifm.models.parts.kernels import (
    ComplexAxis,
    LayerEnd,
    RealAxis,
    analyze_axis,
    mix,
    mix_gradients,
    synthesize_axis,
)
from scifm.models.parts.matrices import Matrices, wavenumbers_of
from scifm.models.parts.native import is_exporting, native_for
from scifm.models.parts.workspace import Workspace

__all__ = [
    "Engine", "FourierLayer", "TransformMatrices", "analyze_lines", "choose_engine", "mix_by_matrices",
    "real_axis", "synthesize_lines", "transform_matrices",
]  # fmt: skip

Engine = Literal["auto", "gemm", "fft", "plain"]
_WORTH_HALVING = 1 << 13  # points times modes of an axis; with fewer, passes over its columns cost what products save


@dataclass(frozen=True)
class TransformMatrices:
    """Cosine and sine matrices of one grid.

    Args:
        forward: of the last axis, divided by the number of points of the grid.
        inverse: of the last axis, times the weight of a mode and its conjugate: 1 for wavenumber zero, else 2.
        others: one for each of the other axes.
    """

    forward: RealAxis
    inverse: RealAxis
    others: tuple[ComplexAxis, ...]


def _cosines_and_sines(modes: list[int], num_points: int) -> tuple[Tensor, Tensor]:
    angle = torch.outer(torch.tensor(modes, dtype=torch.float64), torch.arange(num_points, dtype=torch.float64))
    angle *= 2 * math.pi / num_points
    return angle.cos(), angle.sin()


def real_axis(modes: int, num_points: int, *, zero: float, others: float, levels: int | None = None) -> RealAxis:
    """Return the matrices, float64, of a real axis, times `zero` for wavenumber zero and `others` for all others.

    Args:
        levels: how often odd wavenumbers are done apart, in C; when left out, as often as it pays. Each time the number
            of points must be a multiple of four.
    """
    if levels is None:
        levels, m, n = 0, modes, num_points
        while not is_exporting() and n % 4 == 0 and n * m >= _WORTH_HALVING:
            levels, m, n = levels + 1, (m + 1) // 2, n // 2
    tables, m, n = [], modes, num_points
    for _ in range(levels):
        turns = _cosines_and_sines([1], n)
        shared = _cosines_and_sines(list(range(m // 4 + 1)), n // 4)
        tables += [turn[0, : n // 4] for turn in turns]
        tables += [others * wave[:, : n // 8 + 1].flatten() for wave in shared]
        m, n = (m + 1) // 2, n // 2
    cos, sin = _cosines_and_sines(list(range(modes)), num_points)
    whole = torch.cat([cos, -sin]) * others
    whole[[0, modes]] *= zero / others
    left = whole.view(2, modes, num_points)[:, :: 2**levels, :n]  # of the wavenumbers that stay even
    return RealAxis(whole, levels, torch.cat([*tables, left.flatten()]) if levels else whole)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first built during inference must still serve training later
def transform_matrices(
    num_points: tuple[int, ...], modes: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> TransformMatrices:
    """Build (once) the matrices of a grid with `num_points` per axis and `modes` kept per axis.

    Raises:
        SignatureError: if an axis has fewer than ``2·modes`` points.
    """
    if any(2 * m > n for m, n in zip(modes, num_points, strict=True)):
        raise SignatureError(
            f"The operator keeps {modes} modes and needs at least twice as many points per axis; the grid has "
            f"{num_points}. Use a finer grid, or an operator with fewer modes."
        )
    *others, last = zip(modes, num_points, strict=True)

    def settle(matrix: Tensor) -> Tensor:
        return matrix.to(dtype=dtype, device=device).contiguous()

    axes = []
    for m, n in others:
        cos, sin = _cosines_and_sines([*range(m), *range(-m, 0)], n)
        columns = torch.stack([torch.cat([cos, -sin]), torch.cat([sin, cos])], dim=-1)
        folded = torch.cat(_cosines_and_sines(list(range(m + 1)), n))
        axes.append(ComplexAxis(settle(columns.flatten(1)), settle(folded)))
    share = 1 / math.prod(num_points)
    forward, inverse = (
        RealAxis(settle(axis.whole), axis.levels, settle(axis.tables))
        for axis in (real_axis(*last, zero=share, others=share), real_axis(*last, zero=1.0, others=2.0))
    )
    return TransformMatrices(forward, inverse, tuple(axes))


def analyze_lines(
    lines: Float[Tensor, "lines kept rest"],
    space: tuple[int, ...],
    others: tuple[ComplexAxis, ...],
    workspace: Workspace,
) -> Float[Tensor, "2 modes rest"]:
    """Return the kept modes of real fields whose last axis `analyze_axis` transformed already.

    Works from the last axis to the first. Real and imaginary parts stand right behind the axis that comes next, so
    every step is one matrix product on memory as it lies.

    Args:
        lines: ``(points of the other axes, 2·modes of the last axis, rest)``.

    Returns:
        ``(2, modes in all, rest)``: real and imaginary parts.
    """
    result = lines
    for index in range(len(others) - 1, -1, -1):
        lead = math.prod(space[:index])
        result = others[index].analyze(result.view(lead, 2 * space[index], -1), workspace)
    return result.view(2, -1, lines.shape[-1])


def synthesize_lines(
    modes: Float[Tensor, "2 modes rest"], space: tuple[int, ...], others: tuple[ComplexAxis, ...], workspace: Workspace
) -> Float[Tensor, "lines kept rest"]:
    """Undo `analyze_lines` by the adjoint (same matrices); arguments and result are its result and arguments.

    The last step is `synthesize_axis`; with the weighted matrix this is the inverse transform.
    """
    rest, result, lead = modes.shape[-1], modes, 1
    for n, axis in zip(space[:-1], others, strict=True):
        result = axis.synthesize(result.view(lead, len(axis.whole), -1), workspace)
        lead *= n
    return result.view(lead, -1, rest)


class _GemmLayer(torch.autograd.Function):
    """Spectral mixing plus pointwise skip, and what follows them: activation and residual.

    The inverse transform accumulates onto the skip's product. Saved for the backward pass: the input, its kept modes
    and, where there is an activation, what went into it. All but the activation is linear, so the backward pass is the
    forward pass with the two transforms exchanged.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, skip: Tensor, bias: Tensor, matrices: TransformMatrices, end: LayerEnd
    ) -> Tensor:
        *space, batch, channels = x.shape
        width = len(skip)
        lines = analyze_axis(matrices.forward, x.view(-1, space[-1], batch * channels), end.workspace)
        modes = analyze_lines(lines, tuple(space), matrices.others, end.workspace).view(2, -1, batch, channels)
        mixed = mix(modes, weight, end.workspace)
        mixed[0, 0] += bias  # a constant over space is the real part of the mode of wavenumber zero
        lines = synthesize_lines(mixed.view(2, -1, batch * width), tuple(space), matrices.others, end.workspace)
        in_lines = x.view(len(lines), space[-1], batch, channels)
        out, before = end.value(in_lines, skip, matrices.inverse, lines, keep=any(ctx.needs_input_grad))
        ctx.matrices, ctx.end = matrices, end
        ctx.save_for_backward(x, modes, weight, skip, before)
        return out.view(*x.shape[:-1], width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, modes, weight, skip, before = ctx.saved_tensors
        matrices, end = ctx.matrices, ctx.end
        *space, batch, channels = x.shape
        needs_x, needs_weight, needs_skip, needs_bias, *_ = ctx.needs_input_grad
        above = grads[0].reshape(-1, space[-1], batch, len(skip)).contiguous()
        spectrum, grad_x, grad_skip = end.gradient(
            above, before, x.view(*above.shape[:-1], channels), skip, matrices.inverse, needs_x=needs_x
        )
        spectrum = analyze_lines(spectrum, tuple(space), matrices.others, end.workspace).view(2, -1, batch, len(skip))
        back, grad_weight = mix_gradients(modes, weight, spectrum, (needs_x, needs_weight), end.workspace)
        if grad_x is not None and back is not None:
            back = back.view(2, -1, batch * channels)
            lines = synthesize_lines(back, tuple(space), matrices.others, end.workspace)
            synthesize_axis(matrices.forward, lines, grad_x.view(len(lines), space[-1], -1), end.workspace)
            grad_x = grad_x.view(x.shape)
        grad_bias = spectrum[0, 0].sum(0) if needs_bias else None
        return grad_x, grad_weight, grad_skip if needs_skip else None, grad_bias, None, None


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _low_modes(space: tuple[int, ...], modes: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Return (once) where the kept modes stand in a full spectrum, an index for each axis."""
    rows = [[*range(m), *range(n - m, n)] for m, n in zip(modes[:-1], space[:-1], strict=True)]
    axes = (torch.tensor(row, device=device) for row in (*rows, [*range(modes[-1])]))
    return torch.meshgrid(*axes, indexing="ij")


def _fft_mixing(x: Tensor, weight: Tensor, modes: tuple[int, ...]) -> Tensor:
    """Return the spectral half of the layer through full fast Fourier transforms."""
    *space, _, _ = x.shape
    axes, low_modes = tuple(range(len(space))), _low_modes(tuple(space), modes, x.device)
    spectrum = torch.fft.rfftn(x, dim=axes, norm="ortho")
    low = spectrum[low_modes]
    mixed = torch.einsum(
        "...bi,...io->...bo", low, torch.complex(weight[0], weight[1]).view(*low.shape[:-2], *weight.shape[-2:])
    )
    full = spectrum.new_zeros(*spectrum.shape[:-1], weight.shape[-1])
    full = full.index_put(low_modes, mixed)
    return torch.fft.irfftn(full, s=tuple(space), dim=axes, norm="ortho")


def mix_by_matrices(x: Tensor, weight: Tensor, axes: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the spectral half as products that torch differentiates again, and every format of programs knows.

    Args:
        x: ``(*space, batch, in)``.
        weight: ``(2, modes in all, in, out)``.
        axes: what analyzes and what synthesizes each axis; real and imaginary parts beside each other but for the
            points of the last one.
    """
    *space, batch, channels = x.shape
    lines = x.reshape(-1, space[-1], batch * channels)
    for index in range(len(space) - 1, -1, -1):
        lines = axes[index][0] @ lines  # (points before, 2·modes, whatever stands behind)
        if index:
            lines = lines.reshape(math.prod(space[: index - 1]), 2 * space[index - 1], -1)
    real, imaginary = lines.reshape(2, -1, batch, channels)
    mixed = torch.stack([real @ weight[0] - imaginary @ weight[1], real @ weight[1] + imaginary @ weight[0]])
    lines, lead = mixed.flatten(2), 1
    for n, (_, back) in zip(space, axes, strict=True):
        lines = back @ lines.reshape(lead, back.shape[1], -1)
        lead *= n
    return lines.view(*space, batch, -1)


def choose_engine(
    num_points: tuple[int, ...], modes: tuple[int, ...], *, folded: bool = False
) -> Literal["gemm", "fft"]:
    """Return the engine expected to be faster, from a count of operations per channel.

    A transform by matrices costs 2·k·n a line and runs at the speed of matrix products; a fast transform costs about
    2.5·n·log₂ n a line but is bound by memory, so each of its operations counts many times: 12.5 against torch's
    products, 25 against the compiled ones. Modes are mixed at the same cost by both. ``benchmarks/engines.py`` times
    both: over its shapes the compiled engine's choice was never slower than the other, torch's at worst 1.4 times.

    Args:
        folded: whether the compiled kernels run, which fold points and modes in pairs: half the products along the last
            axis, a quarter along the others.
    """
    gemm, lines = 0.0, math.prod(num_points)
    for index, (k, n) in enumerate(reversed(list(zip(modes, num_points, strict=True)))):
        is_last = index == 0
        rows = k if is_last else 2 * k
        lines = lines // n
        products = 2.0 * (2 if is_last else 4) * rows * n * lines
        gemm += products / (2 if is_last else 4) if folded else products
        lines *= rows
    total = math.prod(num_points)
    fft = 2.5 * total * math.log2(total) * (25.0 if folded else 12.5)
    return "gemm" if gemm <= fft else "fft"


class FourierLayer(nn.Module):
    """``x ↦ F⁻¹(R·F x) + W x + b``, then GELU and the input added where asked, on ``(*space, batch, channel)``.

    Args:
        engine: ``auto`` picks by `choose_engine`.
        residual: whether the input is added at the end; needs as many channels out as in.
        workspace: where large tensors come from; its own when left out, best shared by the layers of a network.

    Attributes:
        spectral_weight: ``(2, modes in all, in, out)``, real and imaginary parts: no complex parameters, so that
            saving, quantization and distributed training need no special case.
        skip: the pointwise map.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: tuple[int, ...],
        *,
        engine: Engine = "auto",
        activation: bool = False,
        residual: bool = False,
        workspace: Workspace | None = None,
    ) -> None:
        super().__init__()
        if not modes or any(m < 1 for m in modes):
            raise ConfigError(f"A Fourier layer needs at least one mode per axis; got {modes}.")
        if engine not in get_args(Engine):
            raise ConfigError(f"engine must be one of {', '.join(get_args(Engine))}; got '{engine}'.")
        if residual and in_channels != out_channels:
            raise ConfigError(f"A residual needs as many channels out as in; got {in_channels} and {out_channels}.")
        self.modes = tuple(modes)
        self.engine = engine
        self.end = LayerEnd(activation, residual, workspace or Workspace())
        num_modes = modes[-1] * math.prod(2 * m for m in modes[:-1])
        self.spectral_weight = nn.Parameter(torch.empty(2, num_modes, in_channels, out_channels))
        self.skip = nn.Linear(in_channels, out_channels)
        nn.init.normal_(self.spectral_weight, std=1 / math.sqrt(2 * in_channels))

    def matrices(self) -> Matrices:
        """Return one complex matrix a mode, ``(mode, in, out)``; the skip is a layer of its own."""
        real, imaginary = self.spectral_weight.detach()
        axes = [[*range(m), *range(-m, 0)] for m in self.modes[:-1]] + [[*range(self.modes[-1])]]
        return Matrices("spectral_weight", torch.complex(real, imaginary), wavenumbers_of(axes))

    def forward(self, x: Float[Tensor, "*space batch in"]) -> Float[Tensor, "*space batch out"]:
        """Map ``(*space, batch, in)`` to ``(*space, batch, out)``.

        Raises:
            SignatureError: if an axis has fewer than twice as many points as modes.
        """
        space = tuple(x.shape[:-2])
        build = transform_matrices.__wrapped__ if is_exporting() else transform_matrices
        matrices = build(space, self.modes, x.dtype, x.device)
        engine: str = "plain" if is_exporting() else self.engine
        if engine == "auto":
            engine = choose_engine(space, self.modes, folded=native_for(x) is not None)
        if engine != "gemm":
            if engine == "plain":
                axes = [(axis.whole, axis.whole.T) for axis in matrices.others]
                mixed = mix_by_matrices(
                    x, self.spectral_weight, [*axes, (matrices.forward.whole, matrices.inverse.whole.T)]
                )
            else:
                wide = x if x.dtype in (torch.float32, torch.float64) else x.float()  # fast transforms know no bf16
                mixed = _fft_mixing(wide, self.spectral_weight, self.modes).to(x.dtype)
            out = mixed + self.skip(x)
            out = functional.gelu(out) if self.end.activation else out
            return x + out if self.end.residual else out
        # under autocast the input comes in bf16 and the weights do not: everything follows the input
        weights = (w.to(x.dtype).contiguous() for w in (self.spectral_weight, self.skip.weight, self.skip.bias))
        layer: Tensor = _GemmLayer.apply(x.contiguous(), *weights, matrices, self.end)
        return layer
