"""Operations and bytes of one training step, counted from its shapes, and the rates of the machine they are held to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from scifm.models.parts import native

__all__ = ["Case", "Machine", "Part", "answer_parts_of", "floor_seconds", "measure_machine", "parts_of"]

Case = tuple[tuple[int, ...], int, int, int]  # grid, modes, width, batch
NUM_LAYERS, PROJECTION = 4, 128


@dataclass(frozen=True)
class Machine:
    """Measured rates: operations a second of a matrix product, bytes a second (read plus written) of a copy."""

    product: float
    copy: float


@dataclass(frozen=True)
class Part:
    """Operations and bytes of one part of a step, and the kernels that do it."""

    name: str
    operations: float
    bytes: float
    kernels: tuple[str, ...]

    def floor(self, machine: Machine) -> float:
        return max(self.operations / machine.product, self.bytes / machine.copy)


def best_seconds(run: Callable[[], object], repeats: int = 15) -> float:
    """Return the least seconds of a run: on one thread those of this process, which others do not disturb."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    run()
    seconds = []
    for _ in range(repeats):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


def measure_machine() -> Machine:
    """Measure the rates on as many threads as torch uses."""
    size = 2048
    a, b, c = (torch.randn(size, size) for _ in range(3))
    strides = (0, size, 1, b, 0, size, c, 0, size, 0)
    library = native.library()
    contestants = [lambda: torch.mm(a, b, out=c)]
    if library is not None:
        contestants.append(lambda: library.call("product", 1, size, size, size, a, *strides))
    product = 2 * size**3 / min(best_seconds(run) for run in contestants)
    source, target = torch.ones(1 << 26), torch.ones(1 << 26)
    return Machine(product, 2 * 4 * source.numel() / best_seconds(lambda: target.copy_(source)))


def real_axis_operations(points: int, modes: int) -> int:
    """Return the fewest operations known to us of a transform of one real line: points in pairs, odd wavenumbers apart.

    The layers do odd ones apart on long axes only, where it pays: the passes over memory it takes are not counted.
    """
    pairs = 2 * 2 * modes * (points // 2 + 1)
    if points % 4 or modes < 2:
        return pairs
    quarter = points // 4
    odd = 2 * (4 * (modes // 4 + 1) * (quarter // 2 + 1) + 4 * quarter)  # products, and turns
    return min(pairs, odd + real_axis_operations(points // 2, (modes + 1) // 2))


@dataclass(frozen=True)
class _Counts:
    """What parts are counted from: numbers of an activation, of weights; operations of transforms of one layer."""

    activation: int
    hidden: int
    weights: int
    last: int
    others: int
    moved: int


def _counts_of(space: tuple[int, ...], modes: int, width: int, batch: int) -> _Counts:
    points = math.prod(space)
    activation = points * batch * width
    num_modes = modes * (2 * modes) ** (len(space) - 1)
    weights = 2 * num_modes * width * width
    last = activation // space[-1] * real_axis_operations(space[-1], modes)
    others, moved, lines = 0, 0, points // space[-1] * 2 * modes * batch * width
    for n in reversed(space[:-1]):
        others += 2 * 2 * (modes + 1) * (n // 2 + 1) * (lines // n)  # modes of both signs folded too
        kept = lines // n * 2 * modes
        moved += lines + kept
        lines = kept
    return _Counts(activation, points * batch * PROJECTION, weights, last, others, moved)


def answer_parts_of(space: tuple[int, ...], modes: int, width: int, batch: int) -> list[Part]:
    """Count one answer (forward alone, nothing kept) of the benchmark's network."""
    n, layers = _counts_of(space, modes, width, batch), NUM_LAYERS
    transforms = ("analyze_axis", "analyze_complex_axis", "synthesize_complex_axis")
    moved = 4 * layers * (2 * n.moved + n.activation)
    ends = layers * (2 * width * n.activation + n.last)
    return [
        Part("transforms", layers * (n.last + 2 * n.others), moved, transforms),
        Part("mode mixing", layers * 4 * n.weights * batch, 4 * layers * n.weights, ("mix",)),
        Part("skip, last axis, activation", ends, 4 * layers * 2 * n.activation, ("layer_end",)),
        Part("projection", 2 * (width + 1) * n.hidden, 4 * n.activation, ("projection",)),
        Part("lift, Python", 0, 4 * n.activation, ()),
    ]


def parts_of(space: tuple[int, ...], modes: int, width: int, batch: int) -> list[Part]:
    """Count one step (forward and backward) of the benchmark's network; a multiply-add is two operations."""
    n = _counts_of(space, modes, width, batch)
    activation, weights, hidden, last, others, moved = n.activation, n.weights, n.hidden, n.last, n.others, n.moved
    layers, skip = NUM_LAYERS, 2 * width * activation
    params = layers * (weights + width * width) + (width + 1) * PROJECTION
    # x in, before and after the activation out; then the gradient, before and x in, the gradient of x out
    ends = 7 * layers - 2  # the last layer has no activation
    return [
        Part(
            "transforms",
            layers * (2 * last + 4 * others),
            4 * layers * (4 * moved + activation + 2 * activation),
            ("analyze_axis", "synthesize_axis", "analyze_complex_axis", "synthesize_complex_axis"),
        ),
        Part("mode mixing", layers * 3 * 4 * weights * batch, 4 * layers * 3 * weights, ("mix", "mix_gradients")),
        Part(
            "skip, last axis, activation",
            layers * (3 * skip + 2 * last),
            4 * ends * activation,
            ("layer_end", "layer_end_gradient"),
        ),
        Part(
            "projection",
            4 * 2 * width * hidden + 2 * 2 * hidden,
            4 * 3 * activation,
            ("projection", "projection_gradients"),
        ),
        Part("optimizer", 0, 4 * 7 * params, ()),
        Part("lift, loss, autograd, Python", 0, 4 * 2 * activation, ()),
    ]


def floor_seconds(case: Case, machine: Machine) -> float:
    """Return the floor of one whole step."""
    return sum(part.floor(machine) for part in parts_of(*case))
