"""By how much any answer misses the equation of a system: what can be asked without a solution.

Of a steady system it is `System.pinned_residual`. Of one that evolves it is the equation between frames: the change
from one frame to the next, over the time between them, less the mean of the right-hand side F (`Evolving.tendency`)
over that time. The mean is that of the polynomial through F at up to four frames around, whatever their times are:

========================  ===========================================  =====
frames behind the input   the mean is that of                          order
========================  ===========================================  =====
1                         a line: the trapezoidal rule                 2
2                         a parabola                                   3
3 and more                a cubic                                      4
========================  ===========================================  =====

The order is in the time between frames: a true solution misses the equation by so much, and no answer can be told from
another by less. In space derivatives are as exact as `tendency`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.on_device import in_a_row
from scifm.fields.spectral import wavenumbers
from scifm.systems.evolving import Evolving
from scifm.systems.system import System

__all__ = ["guess_of", "known_of", "residual_of", "weaker"]

_MOST = 4  # frames that a mean is taken from: of more, polynomials swing between evenly spaced ones


def residual_of(system: System, batch: Batch) -> Tensor:
    """Return what the targets of a batch miss of the equation, ``(batch, time, output, *space)``.

    Outputs are in the system's order; unit: the forcing's, or that of the state over time. Differentiable with respect
    to the targets. Of several input frames the last one is looked at.

    Raises:
        SignatureError: if the batch is not one of this system, has no targets, or F cannot be told on its grid.
    """
    if not isinstance(system, Evolving):
        return system.pinned_residual(batch)
    system.require_ours(batch)
    states, coefficients = _states(system, batch), _coefficients(system, batch)
    batch_size, num_frames = states.shape[:2]
    rates = system.tendency(states.flatten(0, 1), coefficients.repeat_interleave(num_frames, dim=0), batch.grid)
    rates = rates.unflatten(0, (batch_size, num_frames))
    steps, lead_time = batch.lead_steps, batch.lead_time
    assert steps is not None, "require_ours has looked"
    assert lead_time is not None
    weights = _weights(torch.cat([torch.zeros_like(lead_time[:, :1]), lead_time], dim=1).double()).to(rates)
    means = torch.einsum("bij,bj...->bi...", weights, rates)
    evolved = states[:, :, in_a_row(system.signature.state_places)]
    return evolved.diff(dim=1) / steps.to(rates).view(*steps.shape, *(1,) * (rates.dim() - 2)) - means


def known_of(system: System, batch: Batch) -> Tensor:
    """Return what a residual is measured by, ``(batch, 1, output, *space)``: no solution is asked for it.

    Of a steady system it is the residual of u = 0, which is the forcing of a linear one; of one that evolves F of the
    last input frame.

    Raises:
        SignatureError: as for `residual_of`.
    """
    if isinstance(system, Evolving):
        system.require_ours(batch)
        return system.tendency(_inputs(system, batch), _coefficients(system, batch), batch.grid)[:, None]
    shape = (batch.num_samples, 1, len(batch.signature.outputs), *batch.grid.num_points)
    return system.pinned_residual(batch.with_targets(batch.inputs.new_zeros(shape)))


def guess_of(system: System, batch: Batch) -> Tensor:
    """Return a first guess of the next frame's size and shape, ``(batch, 1, output, *space)``; nothing is solved.

    Of what evolves one step along F, no longer than the state is large. Of a steady system one step from u = 0 along
    the residual, whose short waves are damped as an operator of second order raises them (on a periodic box), as far as
    makes the residual least. It is for fitting a normalization where there are no solutions.

    Raises:
        SignatureError: as for `residual_of`.
    """
    known, dims = known_of(system, batch), tuple(range(-batch.grid.num_spatial_dims, 0))
    if isinstance(system, Evolving):
        steps = batch.lead_steps
        assert steps is not None, "known_of has looked"
        start = torch.stack([batch.field(name)[:, -1:] for name in system.signature.outputs], dim=2)
        change = known * steps[:, :1].to(known).view(-1, *(1,) * (known.dim() - 1))
        sizes = [part.square().mean(dims, keepdim=True).sqrt() for part in (change, start)]
        return start + change * (sizes[1] / sizes[0].clamp(min=torch.finfo(change.dtype).tiny)).clamp(max=1.0)

    def damped(fields: Tensor) -> Tensor:
        return weaker(fields, batch.grid, 2) if all(batch.grid.periodic) else fields

    way = damped(known)
    along = damped(system.pinned_residual(batch.with_targets(way)) - known)
    wanted = damped(known)
    far = (along * wanted).sum(dims, keepdim=True) / along.square().sum(dims, keepdim=True).clamp(min=1e-300)
    return -far * way


def weaker(fields: Tensor, grid: Grid, power: int) -> Tensor:
    """Return fields on a periodic box whose short waves are damped: û(k) (k₀² / (k₀² + |k|²))^(power/2).

    Args:
        fields: ``(…, *space)``.
        grid: periodic; k₀ is the wavenumber of its longest wave.
        power: 0 leaves fields as they are.
    """
    dims, longest = tuple(range(-grid.num_spatial_dims, 0)), 2 * math.pi / max(grid.extent)
    waves = torch.broadcast_tensors(*(wave.square() for wave in wavenumbers(grid, device=fields.device)))
    weight = (1 + torch.stack(waves).sum(0) / longest**2) ** (-power / 2)
    return torch.fft.irfftn(torch.fft.rfftn(fields, dim=dims) * weight.to(fields), s=grid.num_points, dim=dims)


def _inputs(system: Evolving, batch: Batch) -> Tensor:
    """Return the last input frame, ``(batch, input, *space)``, in the system's order."""
    return torch.stack([batch.field(name)[:, -1] for name in system.signature.inputs], dim=1)


def _coefficients(system: Evolving, batch: Batch) -> Tensor:
    columns = [batch.coefficient(name) for name in system.signature.coefficients]
    return torch.stack(columns, dim=1) if columns else batch.coefficients[:, :0]


def _states(system: Evolving, batch: Batch) -> Tensor:
    """Return the last input frame and all targets, ``(batch, 1 + time, input, *space)``; what is constant stays so."""
    first, count = _inputs(system, batch), batch.require_targets().shape[1]
    columns = []
    for place, name in enumerate(system.signature.inputs):
        start = first[:, None, place]
        later = batch.target(name) if name in system.signature.outputs else start.expand(-1, count, *start.shape[2:])
        columns.append(torch.cat([start, later], dim=1))
    if absent := [name for name in system.signature.outputs if name not in system.signature.inputs]:
        raise SignatureError(f"'{system.name}' does not say where '{absent[0]}' begins: it is an output and no input.")
    return torch.stack(columns, dim=2)


def _weights(times: Tensor) -> Tensor:
    """Return what F at each frame counts in its mean over each interval, ``(batch, interval, frame)``.

    They are exact for polynomials through the frames nearest to the interval, at most `_MOST` of them.

    Args:
        times: of the frames, ``(batch, frame)`` float64.
    """
    count = times.shape[1]
    num_nodes = min(_MOST, count)
    weights = times.new_zeros(len(times), count - 1, count)
    powers = torch.arange(num_nodes, device=times.device, dtype=times.dtype)
    for interval in range(count - 1):
        first = min(max(interval - (num_nodes - 2) // 2, 0), count - num_nodes)
        nodes = slice(first, first + num_nodes)
        start, end = times[:, interval, None], times[:, interval + 1, None]
        place = (times[:, nodes] - start) / (end - start)  # in units of the interval, from its start
        moments = (1 / (powers + 1)).expand(len(times), -1)
        matrix = place.unsqueeze(1) ** powers.view(1, -1, 1)
        weights[:, interval, nodes] = torch.linalg.solve(matrix, moments)
    return weights
