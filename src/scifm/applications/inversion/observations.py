"""What a few receivers recorded, what is known beside it, and, of a problem that was made up, the truth.

One ``.npz`` file holds all of it, by names of the problem::

    x, y             where receivers stand, (receiver,), in units of the box
    solution         what each recorded of an output of that name, (receiver,)
    noise            its standard deviation, one number or (receiver,); may be left out
    forcing, …       inputs that are known, (y, x) on the grid of the question
    diffusion_xx, …  coefficients that are known, numbers
    extent           sides of the box (y, x); 1 where it is left out
    true_NAME        of what was made up: inputs, coefficients and numbers that nobody is told

What is neither recorded nor known is asked for.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.runs import write_atomically

__all__ = ["Observations", "observed", "read_observations"]

_PLACES = ("x", "y")


@dataclass(frozen=True)
class Observations:
    """Recordings in a plane; see the module.

    Args:
        places: of receivers along axes in array order (y, x), ``(receiver, 2)``.
        values: by output, ``(receiver,)``.
        noise: standard deviation by output, ``(receiver,)``; none: it is not told.
        known: inputs ``(y, x)`` and coefficients ``()`` that are known.
        truth: inputs and coefficients that were made up.
        grid: of the question.
    """

    places: Tensor
    values: Mapping[str, Tensor]
    grid: Grid
    noise: Mapping[str, Tensor] = field(default_factory=dict)
    known: Mapping[str, Tensor] = field(default_factory=dict)
    truth: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """How much each point of either axis counts at each receiver, ``(receiver, point)`` in float64."""
        return _weights(self.places[:, 0], self.grid, 0), _weights(self.places[:, 1], self.grid, 1)

    def read(self, fields: Tensor) -> Tensor:
        """Return fields ``(batch, y, x)`` at the receivers, ``(batch, receiver)``; differentiable.

        Along periodic axes by the waves that the grid holds, exactly; along others linearly between points.
        """
        along_y, along_x = (own.to(fields) for own in self.weights)
        return torch.einsum("byx,ry,rx->br", fields, along_y, along_x)

    def write(self, path: str | Path) -> None:
        """Write a file that `read_observations` reads.

        Raises:
            RunError: if it cannot be written.
        """
        arrays: dict[str, Any] = {"y": self.places[:, 0], "x": self.places[:, 1], **self.values, **self.known}
        arrays |= {"extent": np.asarray(self.grid.extent), "num_points": np.asarray(self.grid.num_points)}
        arrays |= {f"noise_{name}": own for name, own in self.noise.items()}
        arrays |= {f"true_{name}": own for name, own in self.truth.items()}
        target = io.BytesIO()
        np.savez(target, allow_pickle=False, **{name: np.asarray(own) for name, own in arrays.items()})
        write_atomically(Path(path), target.getvalue())


def _weights(places: Tensor, grid: Grid, axis: int) -> Tensor:
    """Return how much each point of an axis counts at each place, ``(receiver, point)`` in float64."""
    points, side, places = grid.num_points[axis], grid.extent[axis], places.double()
    own = grid.coordinates()[axis].double()
    if grid.periodic[axis]:
        off = 2 * torch.pi * (places[:, None] - own) / side
        waves = torch.arange(1, (points - 1) // 2 + 1)
        sums = 1 + 2 * torch.cos(off[..., None] * waves).sum(-1)
        if points % 2 == 0:
            sums = sums + torch.cos(off * (points // 2))
        return sums / points
    step = (places - own[0]) / grid.spacing[axis]
    return (1 - (step[:, None] - torch.arange(points)).abs()).clamp(min=0)


def observed(
    problem: Batch, num_receivers: int, noise: float, *, unknown: tuple[str, ...], seed: int = 0, margin: float = 0.0
) -> Observations:
    """Return what receivers at random places record of one solved problem.

    Args:
        problem: one sample in a plane, with its solution.
        num_receivers: how many.
        noise: standard deviation of normal noise, in parts of the root mean square of what they record.
        unknown: inputs and coefficients that are not told; the others are known.
        seed: of places and noise.
        margin: how far from the ends of each axis they stay, a part of the side.

    Raises:
        ConfigError: if a name is not one of the problem, or a number makes no sense.
        DataError: if the problem is not one sample of steady fields in a plane.
    """
    names, grid = problem.signature, problem.grid
    if len(problem) != 1 or names.evolves or names.num_spatial_dims != 2:
        raise DataError("Receivers record one sample at a time, of steady fields in a plane; see Batch.select.")
    given = (*names.inputs, *names.coefficients)
    for name in unknown:
        if name not in given:
            raise ConfigError(f"What is unknown is one of {', '.join(given)}; got '{name}'.")
    if num_receivers < 1 or not noise >= 0:
        raise ConfigError(f"Give at least one receiver and a noise of 0 or more; got {num_receivers} and {noise}.")
    generator = generator_for(seed, "receivers")
    share = margin + (1 - 2 * margin) * torch.rand(num_receivers, 2, generator=generator, dtype=torch.float64)
    places = share * torch.tensor(grid.extent, dtype=torch.float64)
    seen = Observations(places, {}, grid)
    values, sizes = {}, {}
    for name in names.outputs:
        clean = seen.read(problem.field(name)[:, 0].double())[0]
        size = float(noise * clean.square().mean().sqrt())
        values[name] = clean + size * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        sizes[name] = torch.full_like(clean, size)
    everything = {name: problem.field(name)[0, -1].double() for name in names.inputs}
    everything |= {name: problem.coefficient(name)[0].double() for name in names.coefficients}
    parts = ({n: v for n, v in everything.items() if (n in unknown) == hidden} for hidden in (False, True))
    known, truth = parts
    return replace(seen, values=values, noise=sizes if noise else {}, known=known, truth=truth)


def read_observations(path: str | Path, signature: Signature, grid: Grid) -> Observations:
    """Return what a file holds, checked against a problem.

    Args:
        path: of the file.
        signature: names of the problem.
        grid: where its fields live, if the file does not say other points.

    Raises:
        DataError: if the file cannot be read, lacks something, or holds what does not fit.
    """
    arrays = _arrays(Path(path))
    grid = _grid_of(arrays, grid, path)
    for name in _PLACES:
        if name not in arrays:
            raise DataError(f"'{path}' does not say where receivers stand: it has no '{name}'. Give x and y, one "
                            "number a receiver.")  # fmt: skip
    places = torch.stack([_vector(arrays, name, None, path) for name in ("y", "x")], dim=1)
    sides = torch.tensor(grid.extent, dtype=torch.float64)
    if not bool(((places >= 0) & (places <= sides)).all()):
        raise DataError(f"Receivers of '{path}' stand outside of the box, whose sides (y, x) are {grid.extent}: give "
                        "'extent' in the file, or mend the places.")  # fmt: skip
    outputs = [name for name in signature.outputs if name in arrays]
    if not outputs:
        raise DataError(f"'{path}' has none of the fields that are recorded: {', '.join(signature.outputs)}. Give what "
                        "each receiver recorded under that name.")  # fmt: skip
    values = {name: _vector(arrays, name, len(places), path) for name in outputs}
    noise = {}
    for name in outputs:
        said = f"noise_{name}" if f"noise_{name}" in arrays else "noise"
        if said in arrays:
            noise[name] = _vector(arrays, said, len(places), path)
            if not bool((noise[name] > 0).all()):
                raise DataError(f"'{said}' of '{path}' is a standard deviation, above 0; leave it out where it is not "
                                "known.")  # fmt: skip
    given = _given(signature)
    known = {n: _known(arrays, n, n, signature, grid, path) for n in given if n in arrays}
    truth = {n: _known(arrays, f"true_{n}", n, signature, grid, path) for n in given if f"true_{n}" in arrays}
    truth |= {
        name.removeprefix("true_"): torch.tensor(float(own), dtype=torch.float64)
        for name, own in arrays.items()
        if name.startswith("true_") and name.removeprefix("true_") not in given and own.shape == ()
    }
    unread = set(arrays) - {*_PLACES, *values, *known, "extent", "num_points", "noise"}
    unread -= {f"noise_{name}" for name in outputs} | {f"true_{name}" for name in truth}
    if unread:
        names = ", ".join((*_PLACES, *signature.outputs, *given, "noise", "extent"))
        raise DataError(f"'{path}' holds {', '.join(sorted(unread))}, which mean nothing here. Known names: "
                        f"{names}, and true_NAME.")  # fmt: skip
    return Observations(places, values, grid, noise, known, truth)


def _given(signature: Signature) -> tuple[str, ...]:
    return (*signature.inputs, *signature.coefficients)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, AttributeError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else f"it is no whole .npz file ({error})"
        raise DataError(f"Cannot read the recordings '{path}': {why}. Write them with numpy.savez.") from error


def _grid_of(arrays: Mapping[str, NDArray[Any]], grid: Grid, path: str | Path) -> Grid:
    sides = np.atleast_1d(arrays.get("extent", np.asarray(grid.extent))).astype(float)
    points = np.atleast_1d(arrays.get("num_points", np.asarray(grid.num_points)))
    if sides.shape != (2,) or not (np.isfinite(sides).all() and (sides > 0).all()):
        raise DataError(f"'extent' of '{path}' is two positive lengths (y, x); got {sides.tolist()}.")
    if points.shape != (2,) or not (points > 1).all():
        raise DataError(f"'num_points' of '{path}' is two numbers of points (y, x); got {points.tolist()}.")
    return Grid(tuple(int(n) for n in points), tuple(float(s) for s in sides), grid.boundary)


def _vector(arrays: Mapping[str, NDArray[Any]], name: str, count: int | None, path: str | Path) -> Tensor:
    """Return numbers of receivers; one number counts for all."""
    values = arrays[name]
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise DataError(f"'{name}' of '{path}' holds no numbers.")
    if count is not None and values.size == 1:
        values = np.broadcast_to(values.reshape(()), (count,))
    if values.ndim != 1 or not len(values) or (count is not None and len(values) != count):
        many = "one number a receiver" if count is None else f"{count} numbers, one a receiver"
        raise DataError(f"'{name}' of '{path}' is {many}; it has the shape {values.shape}.")
    if not np.isfinite(values).all():
        raise DataError(f"'{name}' of '{path}' holds NaN or infinity: leave such receivers out.")
    return torch.tensor(np.array(values), dtype=torch.float64)


def _known(
    arrays: Mapping[str, NDArray[Any]], key: str, name: str, signature: Signature, grid: Grid, path: str | Path
) -> Tensor:
    """Return a known input ``(y, x)``, or a known coefficient ``()``."""
    values = arrays[key]
    shape = grid.num_points if name in signature.inputs else ()
    values = values.reshape(()) if name in signature.coefficients and values.size == 1 else values
    if values.shape != tuple(shape) or not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        wanted = f"a field of {grid.told_points} (y, x)" if shape else "one number"
        raise DataError(f"'{key}' of '{path}' is {wanted}, finite; it has the shape {values.shape}.")
    return torch.tensor(np.array(values), dtype=torch.float64)
