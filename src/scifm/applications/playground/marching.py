"""Evolving problems made by hand: sliders and an initial state become a start, from which network and solver march.

On the wire an answer is a 32-bit length, that many bytes of JSON, then two float32 arrays (prediction, reference) of
shape ``(step, field, *space)``, all little-endian; the JSON is padded with blanks so that they start at a multiple of
four. What one request may cost is bounded: steps by `PlayedEvolution.most_steps`, the solver by `SOLVER_SECONDS`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.applications.playground.problems import Dial, Played, packed
from scifm.errors import ConfigError, DataError, RunError
from scifm.evaluation.pointwise import relative_l2
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.models.rollout import BOUND, rollout
from scifm.systems.evolving import Evolving
from scifm.systems.system import System
from scifm.wording import plural

__all__ = ["SOLVER_SECONDS", "March", "PlayedEvolution"]

SOLVER_SECONDS = 20.0
"""After so long the solver is stopped between two frames, and the rest of the reference is missing."""

_MOST_STEPS = 60
_MOST_NUMBERS = 2_000_000  # of prediction or reference: 8 MB on the wire each


@dataclass(frozen=True)
class March:
    """What the page shows of one march."""

    prediction: Float[Tensor, "step field *space"]  # NaN from where it left every bound
    reference: Float[Tensor, "step field *space"]  # solved in float64; NaN where the solver was stopped
    times: tuple[float, ...]  # of each step, from the last input frame
    errors: tuple[float, ...]  # relative L2, mean over fields
    still: tuple[float, ...]  # the same of an answer in which nothing changes
    network_seconds: float
    solver_seconds: float
    trained: Mapping[str, bool]  # for each knob, whether training can have met its value
    notes: tuple[str, ...]  # sentences on what is special about this march

    def to_bytes(self) -> bytes:
        """Return the form on the wire; an error that is not finite is null."""

        def plain(values: tuple[float, ...]) -> list[float | None]:
            return [value if math.isfinite(value) else None for value in values]

        return packed(
            {
                "times": self.times,
                "errors": plain(self.errors),
                "still": plain(self.still),
                "network_ms": 1e3 * self.network_seconds,
                "solver_ms": 1e3 * self.solver_seconds,
                "trained": dict(self.trained),
                "notes": self.notes,
            },
            self.prediction,
            self.reference,
        )


@dataclass(frozen=True)
class PlayedEvolution(Played):
    """An evolving system whose knobs are the ranges a run was trained on, marched as far apart as it was trained."""

    system: Evolving
    interval: float  # physical time of one step of the operator

    @classmethod
    def of(cls, system: System, operator: Operator) -> PlayedEvolution:
        """Return a system to play with.

        Raises:
            RunError: if the page cannot show it.
        """
        if not isinstance(system, Evolving) or system.signature.num_spatial_dims > 2:
            raise RunError(
                f"The playground shows what evolves in one or two dimensions; '{system.name}' does in "
                f"{system.signature.num_spatial_dims}. Look at this run with 'scifm rollout' and 'scifm report'."
            )
        step = operator.domain.lead_times[0] if operator.domain.lead_times is not None else system.save_interval
        return cls(tuple(Dial.of(system, name) for name in system.knobs), system, step)

    def most_steps(self, grid: Grid) -> int:
        """Return how many steps one request may ask for on a grid."""
        each = len(self.system.signature.outputs) * math.prod(grid.num_points)
        return max(1, min(_MOST_STEPS, _MOST_NUMBERS // each))

    def draw_state(self, grid: Grid, seed: int, values: Mapping[str, float]) -> Tensor:
        """Return the input fields ``(field, *space)`` of a problem as training draws them at these knobs, float32.

        Raises:
            ConfigError: if the seed or a knob is not valid.
            DataError: if the solver, which marches to the attractor first where the system asks for it, cannot.
            SignatureError: if the system is not defined on this grid.
        """
        system = replace(self.system.where(**values), num_frames=2)  # type: ignore[type-var]
        return system.sample(1, grid, generator_for(seed, "playground")).inputs[0, 0]

    def pose(self, state: Tensor, values: Mapping[str, float], grid: Grid, steps: int) -> Batch:
        """Return the problem with these knobs that begins with a state ``(field, *space)``, in float64.

        Raises:
            ConfigError: if there are too many steps or the system does not allow a value.
            DataError: if the state is the same everywhere.
            SignatureError: if the system is not defined on this grid.
        """
        if not 1 <= steps <= self.most_steps(grid):
            raise ConfigError(f"A march here has 1 to {self.most_steps(grid)} steps; got {steps}.")
        system, names = self.system.where(**values), self.system.signature
        system.require_grid(grid)
        fields = state.to(torch.float64)
        moving = torch.stack([fields[names.inputs.index(name)] for name in names.outputs]).flatten(1)
        if bool((moving == moving[:, :1]).all()):
            raise DataError("The initial state is the same everywhere: paint something on it or redraw it.")
        # what is drawn beside the state, at knobs that are fixed, is the coefficients they mean
        _, coefficients = system.initial(1, grid, generator_for(0, "playground"), torch.device("cpu"))
        times = self.interval * torch.arange(1, steps + 1, dtype=torch.float64)
        return Batch(names, grid, fields[None, None], coefficients, None, (system.name,), times[None])

    def march(
        self, operator: Operator, state: Tensor, values: Mapping[str, float], grid: Grid,
        steps: int,
    ) -> March:  # fmt: skip
        """Let network and solver march from the problem of `pose`, which says what is asked and raised.

        Raises:
            DataError: also if an operator that takes several frames gets none, because the solver fails.
        """
        system, names = self.system.where(**values), self.system.signature
        before = operator.history - 1
        start = self.pose(state, values, grid, steps)
        begun = time.perf_counter()
        frames, notes = self._solved(system, start, before + steps)
        solver_seconds = time.perf_counter() - begun
        if before:
            if bool(frames[:before].isnan().any()):
                raise DataError(f"The operator takes {before + 1} frames, and the solver fails on the way. {notes[0]}")
            start = self._with_history(start, frames[:before])
            word = plural(before + 1, "frame")
            notes.append(f"The operator takes {word}: the state you see and what the solver makes of it.")
        reference = frames[before:]
        begun = time.perf_counter()
        march = rollout(operator, start, steps)
        answers = [torch.stack([frame.target(name)[0, 0] for name in names.outputs]) for frame in march]
        network_seconds = time.perf_counter() - begun
        answers += [torch.full_like(answers[0], torch.nan)] * (steps - len(answers))
        prediction = torch.stack(answers)
        if lost := int(march.lost_at[0]):
            notes.append(
                f"The prediction left every bound at step {lost}: it is {BOUND:g} times as large as its start."
            )
        last = torch.stack([start.field(name)[0, -1] for name in names.outputs])
        errors, still = (
            relative_l2(fields[None].double(), reference[None], grid)[0].mean(1).tolist()
            for fields in (prediction, last.expand_as(reference))
        )
        return March(
            prediction=prediction,
            reference=reference,
            times=tuple(start.lead_time[0].tolist()) if start.lead_time is not None else (),
            errors=tuple(errors),
            still=tuple(still),
            network_seconds=network_seconds,
            solver_seconds=solver_seconds,
            trained={dial.name: dial.is_trained(values[dial.name]) for dial in self.dials},
            notes=tuple(notes),
        )

    def _solved(self, system: Evolving, start: Batch, num_frames: int) -> tuple[Tensor, list[str]]:
        """Return the solver's frames ``(frame, field, *space)``, NaN behind where it fails or takes too long."""
        names, made = system.signature, list[Tensor]()
        state = start.inputs[:, 0].clone()
        places = names.state_places
        deadline, why = time.monotonic() + SOLVER_SECONDS, ""
        while len(made) < num_frames and not why:
            try:
                frame = system.advance(state, start.coefficients, start.grid, interval=self.interval, num_frames=1)
            except DataError as error:
                why = f"The reference ends at step {len(made)}. {error}"
                break
            made.append(frame[0, 0])
            state[:, places] = frame[:, 0]
            if time.monotonic() > deadline and len(made) < num_frames:
                why = f"The solver was stopped after {SOLVER_SECONDS:g} seconds, at step {len(made)}."
        missing = state.new_full((num_frames - len(made), len(places), *state.shape[2:]), torch.nan)
        return torch.cat([torch.stack(made), missing]) if made else missing, [why] if why else []

    def _with_history(self, start: Batch, frames: Tensor) -> Batch:
        places = self.system.signature.state_places
        following = start.inputs.repeat(1, len(frames), *(1,) * (start.inputs.dim() - 2))
        following[:, :, places] = frames
        return replace(start, inputs=torch.cat([start.inputs, following], dim=1))

    def to_dict(self) -> dict[str, Any]:
        names = self.system.signature
        return {
            **super().to_dict(),
            "inputs": list(names.inputs),
            "outputs": list(names.outputs),
            "interval": self.interval,
        }
