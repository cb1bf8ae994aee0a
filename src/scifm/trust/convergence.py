"""The test of convergence: is a right-hand side one of an equation, or of the step that it was fitted with?

A field f that was fitted so that one step of a scheme of length `step` meets the data is followed by the same and by
other schemes in shorter and longer steps h, and its error E(h) at a time is set beside h, as is done for a numerical
scheme. What is right for h = step alone is a map of that step: a network trained by Euler's scheme learns
(exp(L·step) − 1)/step in place of L, whose spurious damping is what Euler's scheme lacks. Krishnapriyan, Queiruga,
Erichson, Mahoney, arXiv:2202.08494.

For linear equations all of it has a closed form (`learned_generator`), which needs no training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError, DataError, suggest
from scifm.models.parts.ode import SCHEMES, places, runge_kutta

__all__ = ["RATIOS", "Convergence", "Order", "convergence_of", "follow", "learned_generator", "observed_order"]

Field = Callable[[Tensor], Tensor]
"""A right-hand side that does not hang on the time: states to their rates of change, of the same shape."""

RATIOS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Steps that are looked at, over that of the training."""

_WHOLE = 1e-6  # by which part a number of steps may miss a whole one
_ASYMPTOTIC = 0.1  # of the size of the state: a larger distance says nothing of an order
_ROUNDING = 1e4  # round-offs of the size of the state: a smaller distance neither


@dataclass(frozen=True)
class Order(Plain):
    """A power of the step, by least squares of logarithms.

    Args:
        value: the power.
        low, high: ends of its 95 % interval, from the scatter about the line by Student's t; it tells how straight the
            line is, for nothing here is drawn at random.
        num_points: steps that it was fitted through.
    """

    value: float
    low: float
    high: float
    num_points: int


@dataclass(frozen=True)
class Convergence(Plain):
    """A field followed by one scheme in steps of several lengths, and where it arrives.

    Args:
        scheme: name in `SCHEMES`.
        step: that of the training.
        steps: h, the shortest first.
        errors: ‖u_h − truth‖, Euclidean over all that a state has, in its units; infinite where it left every bound.
        distances: ‖u_h − u_0‖ to where the field itself leads, in the limit of short steps.
        plateau: ‖u_0 − truth‖: the error of the field, whatever the scheme.
        order: of the distances; None where fewer than three of them say anything of it.
    """

    scheme: str
    step: float
    steps: tuple[float, ...]
    errors: tuple[float, ...]
    distances: tuple[float, ...]
    plateau: float
    order: Order | None

    def at(self, ratio: float) -> float:
        """Return the error in steps of so many times that of the training.

        Raises:
            ConfigError: if it was not looked at.
        """
        for h, error in zip(self.steps, self.errors, strict=True):
            if math.isclose(h, ratio * self.step, rel_tol=1e-9):
                return error
        told = ", ".join(f"{h / self.step:g}" for h in self.steps)
        raise ConfigError(f"No step of {ratio:g} times that of the training was looked at; there are {told}.")

    @property
    def growth(self) -> float:
        """The error in the shortest steps over that in steps of the training: about one, or less, of what converges."""
        return self.errors[0] / self.at(1.0)


def convergence_of(
    field: Field,
    start: Tensor,
    *,
    step: float,
    until: float,
    truth: Tensor,
    schemes: Sequence[str] = tuple(SCHEMES),
    ratios: Sequence[float] = RATIOS,
) -> dict[str, Convergence]:
    """Follow a field from one time to another in steps of several lengths, by each scheme.

    Give ``step`` as the difference of two times of the data: 1000 times from 0 to 50 are 50/999 apart. Where a solution
    returns to where it was, ask from other starts than those of the training too.

    Args:
        field: the right-hand side, learned or known.
        start: a state of any shape, or several; in float64, so that round-off does not hide what is asked.
        step: between the times of the data that it was fitted to.
        until: the time at which it is judged, counted from the start.
        truth: the state there, known from elsewhere: an exact solution or data.
        schemes: names in `SCHEMES`.
        ratios: steps over `step`; each has to divide `until`.

    Returns:
        What was found, by scheme.

    Raises:
        ConfigError: if there is no such scheme, or steps do not divide the time.
        DataError: if the start is not in float64, shapes differ, or the field leaves every bound in the shortest steps.
    """
    if start.dtype != torch.float64 or truth.dtype != torch.float64:
        raise DataError(f"Convergence is looked at in float64; got a start in {start.dtype}, a truth in {truth.dtype}.")
    if truth.shape != start.shape:
        raise DataError(f"The truth is of the shape of the start, {tuple(start.shape)}; got {tuple(truth.shape)}.")
    unknown = next((name for name in schemes if name not in SCHEMES), None)
    if unknown is not None or not schemes:
        raise ConfigError("Give at least one scheme." if unknown is None else f"Scheme {suggest(unknown, SCHEMES)}")
    counts = [_whole(until, step * ratio) for ratio in sorted(ratios)]
    if not counts:
        raise ConfigError("Give at least one ratio of steps.")
    fine, finer = (follow(field, start, until, "rk4", counts[0] * factor) for factor in (1, 2))
    flow = finer + (finer - fine) / (2 ** SCHEMES["rk4"].order - 1)
    if not flow.isfinite().all():
        raise DataError("Even in the shortest steps the field leaves every bound. Give an earlier time.")
    steps, plateau = tuple(until / count for count in counts), float(torch.linalg.vector_norm(flow - truth))
    size = max(float(torch.linalg.vector_norm(state)) for state in (start, flow))
    found = {}
    for name in schemes:
        ends = [follow(field, start, until, name, count) for count in counts]
        errors, distances = (tuple(_distance(end, other) for end in ends) for other in (truth, flow))
        order = observed_order(steps, distances, size=size)
        found[name] = Convergence(name, step, steps, errors, distances, plateau, order)
    return found


def _distance(one: Tensor, other: Tensor) -> float:
    distance = float(torch.linalg.vector_norm(one - other))
    return distance if math.isfinite(distance) else math.inf


def _whole(until: float, step: float) -> int:
    if not (math.isfinite(until) and until > 0 and math.isfinite(step) and step > 0):
        raise ConfigError(f"Times and steps are positive and finite; got steps of {step:g} until {until:g}.")
    count = until / step
    if round(count) < 1 or abs(count - round(count)) > _WHOLE * count:
        near = max(1, round(count)) * step
        raise ConfigError(
            f"Steps of {step:g} do not divide the time {until:g}: it would end elsewhere. Give until = {near:g}, or "
            "other ratios."
        )
    return round(count)


@torch.no_grad()
def follow(field: Field, start: Tensor, until: float, scheme: str, num_steps: int) -> Tensor:
    """Return the state at a time, after so many equal steps of a scheme."""
    tableau, state = SCHEMES[scheme], start
    stages = places(tableau, 1)[0]  # where in time does not matter
    for _ in range(num_steps):
        (state,) = runge_kutta(lambda y, _: (field(y[0]),), (state,), until / num_steps, tableau, stages)
    return state


def observed_order(steps: Sequence[float], distances: Sequence[float], *, size: float) -> Order | None:
    """Return the power of the step that distances grow with, where they are small and no round-off.

    Args:
        steps: lengths.
        distances: for each step, from what is reached in the limit.
        size: of what they are distances of: those above a tenth of it, and below 10⁴ round-offs of float64, are left
            out.
    """
    from scipy import stats

    low, high = _ROUNDING * np.finfo(np.float64).eps * size, _ASYMPTOTIC * size
    pairs = [(h, d) for h, d in zip(steps, distances, strict=True) if low < d < high]
    if len(pairs) < 3:
        return None
    line = stats.linregress(*np.log(pairs).T)
    half = float(stats.t.ppf(0.975, len(pairs) - 2) * line.stderr)
    return Order(float(line.slope), float(line.slope) - half, float(line.slope) + half, len(pairs))


def learned_generator(generator: Tensor, step: float, scheme: str) -> Tensor:
    """Return what a field fitted without error learns of u' = L u: the G whose one step by a scheme is exp(L step).

    By Newton's method from L on: of all such G the one that L is the limit of.

    Args:
        generator: L, ``(n, n)``, in float64 or complex128.
        step: between the times of the data.
        scheme: name in `SCHEMES`.

    Raises:
        ConfigError: if there is no such scheme, or it cannot reach exp(L step) near L: the step is too long.
        DataError: if L is no square matrix in double precision.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"Scheme {suggest(scheme, SCHEMES)}")
    if generator.dim() != 2 or generator.shape[0] != generator.shape[1]:
        raise DataError(f"A generator is a square matrix; got the shape {tuple(generator.shape)}.")
    if generator.dtype not in (torch.float64, torch.complex128):
        raise DataError(f"A generator is given in float64 or complex128; got {generator.dtype}.")
    whole = torch.linalg.matrix_exp(generator * step)
    # of a linear equation a step is the Taylor polynomial of exp, up to the order of the scheme
    factors = [1 / math.factorial(power) for power in range(SCHEMES[scheme].order + 1)]
    found = generator * step
    for _ in range(100):  # G commutes with L, so that of matrices Newton's method is that of numbers
        value, slope = _polynomial(factors, found), _polynomial(factors[:-1], found)
        try:
            change = torch.linalg.solve(slope, value - whole)
        except RuntimeError:  # a singular slope, torch.linalg.LinAlgError
            break
        found = found - change
        if not found.isfinite().all():
            break
        if float(change.abs().max()) <= 1e-15 * max(1.0, float(found.abs().max())):
            break
    off = float((_polynomial(factors, found) - whole).abs().max())
    if not off <= 1e-12 * max(1.0, float(whole.abs().max())):
        raise ConfigError(f"No field near L makes exp(L·{step:g}) in one step of {scheme}. Give a shorter step.")
    return found / step


def _polynomial(factors: Sequence[float], matrix: Tensor) -> Tensor:
    """Return Σ factor · matrix^power; a derivative of the polynomial of exp is the one of a degree less."""
    one = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    value = torch.zeros_like(one)
    for factor in reversed(factors):
        value = value @ matrix + factor * one
    return value
