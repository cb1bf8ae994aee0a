"""`Reconstruction`: the problem of giving back the input fields of a system, of which no solution is asked.

Equation
    u = f for every input field f, its answer u called ``<field>_whole``; nothing is hidden here: who trains hides.

Of a steady system inputs are drawn and not solved. Of one that evolves every frame of a trajectory is a sample, and
which of them follow each other is of no account.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.hiding import scalings_of_whole, signature_of_whole, whole_name
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.evolving import Evolving
from scifm.systems.knobs import Knob
from scifm.systems.system import SamplingRecord, System

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class Reconstruction(System):
    """The inputs of a system as a problem of their own. It is no entry of a catalog: it is made of one.

    Args:
        base: the system.
        per_trajectory: frames that are taken of each trajectory, of one that evolves.
    """

    base: System
    per_trajectory: int = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the system."""
        return self.base.name

    @property
    def title(self) -> str:  # type: ignore[override]
        """That of the system."""
        return self.base.title

    @property
    def equation(self) -> str:  # type: ignore[override]
        """That its answers are its inputs, and of which equation these are."""
        return f"u = f for the input fields f of: {self.base.equation}"

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names of its inputs, of its coefficients, and of its inputs as a whole."""
        return signature_of_whole(self.base.signature)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """Those of the system: whole fields scale as the fields do."""
        return scalings_of_whole(self.base.homogeneities, self.base.signature)

    @property
    def knobs(self) -> dict[str, Knob]:
        return self.base.knobs

    def where(self, **knobs: Any) -> Reconstruction:
        return replace(self, base=self.base.where(**knobs))

    def to_dict(self) -> dict[str, Any]:
        """Return what makes the system again whose inputs these are."""
        return self.base.to_dict()

    def require_grid(self, grid: Grid) -> None:
        self.base.require_grid(grid)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
        record: SamplingRecord | None = None,
    ) -> Batch:
        if not isinstance(self.base, Evolving):
            drawn = self.base.sample_inputs(num_samples, grid, generator, dtype=dtype, device=device)
            return self._whole(drawn, drawn.inputs)
        self.require_sampling(num_samples, grid, generator, dtype, device)
        each = min(self.per_trajectory, self.base.num_frames)
        count = -(-num_samples // each)
        drawn = self.base.sample(count, grid, generator, dtype=dtype, device=device, record=record)
        where = None if generator is None else generator.device
        places = torch.rand(count, self.base.num_frames, generator=generator, device=where).argsort(dim=1)[:, :each]
        frames = _frames(drawn).flatten(0, 1)  # trajectory by trajectory
        starts = torch.arange(count, device=frames.device)[:, None] * self.base.num_frames
        index = (starts + places.to(frames.device)).T.flatten()[:num_samples]  # one of each first
        of = index // self.base.num_frames
        return self._whole(drawn.select(of), frames[index].unsqueeze(1))

    def _whole(self, drawn: Batch, inputs: Tensor) -> Batch:
        about: dict[str, Any] = {"targets": inputs.clone(), "systems": (self.name,) * len(inputs)}
        return Batch(self.signature, drawn.grid, inputs, drawn.coefficients, **about)

    def solve(self, batch: Batch) -> Batch:
        return batch.with_targets(self._given(batch))

    def residual(self, batch: Batch) -> Tensor:
        return batch.require_targets() - self._given(batch)

    def invariants(self, batch: Batch) -> dict[str, Tensor]:
        batch.require_targets()
        return {}

    def _given(self, batch: Batch) -> Tensor:
        names = batch.signature
        wanted = {whole_name(name): name for name in self.signature.inputs}
        if names.missing_from(self.signature) or set(names.outputs) != set(wanted):
            raise SignatureError(
                f"The reconstruction of '{self.name}' needs a batch with {self.signature}; got {names}."
            )
        return torch.stack([batch.field(wanted[name]) for name in names.outputs], dim=2)


def _frames(drawn: Batch) -> Tensor:
    """Return all frames of trajectories, ``(trajectory, frame, input, *space)``; what does not evolve is in each."""
    names, later = drawn.signature, drawn.require_targets()
    first = drawn.inputs[:, -1:]
    following = first.expand(-1, later.shape[1], *first.shape[2:]).clone()
    for place, name in enumerate(names.inputs):
        if name in names.outputs:
            following[:, :, place] = later[:, :, names.outputs.index(name)]
    return torch.cat([first, following], dim=1)
