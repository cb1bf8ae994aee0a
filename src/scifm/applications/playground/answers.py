"""One answer: the network's, the solver's, how they differ, how long each took; and its form on the wire.

On the wire an answer is a 32-bit length, that many bytes of JSON, then two float32 fields (prediction, reference), all
little-endian; the JSON is padded with blanks so that the fields start at a multiple of four.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scifm.applications.playground.problems import PlayedSystem
from scifm.applications.playground.trained import Playground
from scifm.errors import DataError
from scifm.evaluation.pointwise import max_error, relative_l2
from scifm.fields.grid import Grid

__all__ = ["Answer", "answer", "field_from_bytes", "field_to_bytes"]

_LARGEST = 1e6  # far above any forcing, far below where float32 overflows inside a network


@dataclass(frozen=True)
class Answer:
    """What the page shows.

    Args:
        prediction: ``(ny, nx)`` float64.
        reference: ``(ny, nx)`` float64, solved in float64.
        relative_l2: ‖prediction − reference‖₂ / ‖reference‖₂.
        max_error: max |prediction − reference|.
        network_seconds: of `Operator.predict` alone.
        solver_seconds: of `System.solve` alone.
        removed_mean: what was taken away from the forcing.
        trained: for each knob, whether training can have met its value.
        notes: sentences on what is special about this problem.
    """

    prediction: Float[Tensor, "y x"]
    reference: Float[Tensor, "y x"]
    relative_l2: float
    max_error: float
    network_seconds: float
    solver_seconds: float
    removed_mean: float
    trained: Mapping[str, bool]
    notes: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Return the form on the wire; a number that is not finite is null."""
        errors = {"relative_l2": self.relative_l2, "max_error": self.max_error}
        told: dict[str, Any] = {
            **{name: value if math.isfinite(value) else None for name, value in errors.items()},
            "network_ms": 1e3 * self.network_seconds,
            "solver_ms": 1e3 * self.solver_seconds,
            "removed_mean": self.removed_mean,
            "trained": dict(self.trained),
            "notes": list(self.notes),
        }
        text = json.dumps(told, allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        return struct.pack("<I", len(text)) + text + field_to_bytes(self.prediction) + field_to_bytes(self.reference)


def answer(
    playground: Playground,
    played: PlayedSystem,
    grid: Grid,
    values: Mapping[str, float],
    forcing: Float[Tensor, "y x"],
) -> Answer:
    """Put one problem to network and solver.

    Args:
        playground: whose operator answers.
        played: the system.
        grid: where the forcing lives.
        values: of all knobs.
        forcing: as painted or drawn.

    Raises:
        ConfigError: if the system does not allow a value.
        DataError: if there is nothing to solve or no solution.
    """
    batch, removed_mean = played.pose(forcing, values, grid)
    begun = time.perf_counter()
    predicted = playground.operator.predict(batch)
    between = time.perf_counter()
    solved = played.system.solve(batch)
    ended = time.perf_counter()
    prediction, reference = predicted.require_targets(), solved.require_targets()
    notes = []
    if removed_mean:
        notes.append(
            f"This equation has solutions only for a forcing of zero mean: the mean, {removed_mean:.3g}, was "
            "taken away from the whole forcing before network and solver saw it, as the sampler does in training."
        )
    if played.is_rejected(solved):
        notes.append(
            f"The sampler throws a problem like this one away (max |u| is {float(reference.abs().max()):.3g}: too "
            "large, or near a resonance), so the network has met none in training."
        )
    return Answer(
        prediction=prediction[0, 0, 0],
        reference=reference[0, 0, 0],
        relative_l2=float(relative_l2(prediction, reference, grid)),
        max_error=float(max_error(prediction, reference, grid)),
        network_seconds=between - begun,
        solver_seconds=ended - between,
        removed_mean=removed_mean,
        trained={dial.name: dial.is_trained(values[dial.name]) for dial in played.dials},
        notes=tuple(notes),
    )


def field_to_bytes(field: Float[Tensor, "y x"]) -> bytes:
    """Return a field as little-endian float32, row by row."""
    return field.detach().cpu().numpy().astype("<f4").tobytes()


def field_from_bytes(content: bytes, grid: Grid) -> Float[Tensor, "y x"]:
    """Return the field that a browser sent.

    Raises:
        DataError: if it has not one float32 number for each point, or holds one that is not finite or huge.
    """
    expected = 4 * math.prod(grid.num_points)
    if len(content) != expected:
        raise DataError(f"A forcing on {grid.num_points} points has {expected} bytes of float32; got {len(content)}.")
    values = np.frombuffer(content, dtype="<f4").reshape(grid.num_points).astype(np.float32)
    if not (np.isfinite(values).all() and float(np.abs(values).max()) <= _LARGEST):
        raise DataError(f"Every value of a forcing must be finite and at most {_LARGEST:g} in size.")
    return torch.from_numpy(values)
