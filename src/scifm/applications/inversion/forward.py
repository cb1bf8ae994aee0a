"""From unknowns to what receivers record: through an operator, or through the solver of its system.

Both are one function of z, differentiable where what they go through is: PyTorch's own derivatives are taken then,
differences else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.applications.inversion.observations import Observations
from scifm.applications.inversion.unknowns import Unknown
from scifm.errors import SciFMError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.models.architecture import evaluating
from scifm.models.operator import Operator
from scifm.systems.system import System

__all__ = ["Forward", "Through", "through_operator", "through_solver"]

_STEP = 1e-4  # of z, for differences
_REFUSED = 1e6  # what is recorded, in units of the noise, of unknowns that have no solution

Through = Callable[[Batch], Batch]
"""From problems without solutions to the same with answers."""


def through_operator(operator: Operator) -> Through:
    """Return a way through an operator, in double precision, with derivatives."""
    plain = deepcopy(operator.differentiable()).double().eval()  # the operator's own weights stay as they are
    for weight in plain.parameters():
        weight.requires_grad_(False)

    def answer(problems: Batch) -> Batch:
        with evaluating(plain):
            return plain(plain.align(problems))

    return answer


def through_solver(system: System) -> Through:
    """Return a way through a system's solver, in double precision."""
    return system.solve


@dataclass
class Forward:
    """Predictions of recordings.

    Args:
        through: an operator or a solver.
        unknown: what is asked for.
        seen: the recordings, and what is known beside them.
        signature: names of the problem.
        system: its name.
        noise: by output, standard deviations ``(receiver,)``.
        others: predictions of further recordings of the same unknowns, through the same; they count here too.
    """

    through: Through
    unknown: Unknown
    seen: Observations
    signature: Signature
    system: str
    noise: Mapping[str, Tensor]
    others: tuple[Forward, ...] = ()
    num_asked: int = 0
    """Problems that were answered so far, of all recordings."""

    @property
    def values(self) -> Tensor:
        """What was recorded, in units of the noise, ``(recording,)``."""
        own = [self.seen.values[name] / self.noise[name] for name in self.seen.values]
        return torch.cat([*own, *(other.values for other in self.others)])

    def problems(self, z: Float[Tensor, "batch size"]) -> Batch:
        """Return the problems that unknowns make, without solutions."""
        names, made = self.signature, self.unknown.of(z)
        count = len(z)

        def given(name: str) -> Tensor:
            if name in made:
                return made[name]
            own = self.seen.known[name].to(z)
            return own.expand(count, *own.shape)

        inputs = torch.stack([given(name) for name in names.inputs], dim=1)[:, None]
        columns = [given(name) for name in names.coefficients]
        coefficients = torch.stack(columns, dim=1) if columns else z.new_empty(count, 0)
        return Batch(names, self.seen.grid, inputs, coefficients, systems=(self.system,) * count)

    def answers(self, z: Float[Tensor, "batch size"]) -> Batch:
        """Return the problems with what they go through says of them; of further recordings none."""
        self.num_asked += len(z)
        return self.through(self.problems(z))

    def __call__(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch recording"]:
        """Return what would be recorded, in units of the noise."""
        if not self.others:
            return self._recorded(self.answers(z))
        everyone = (self, *self.others)
        problems = [own.problems(z) for own in everyone]
        self.num_asked += len(z) * len(everyone)
        # asked in one go: a solver may have one matrix for several of them
        answered = self.through(Batch.concatenate(problems)).batches(len(z))
        return torch.cat([own._recorded(one) for own, one in zip(everyone, answered, strict=True)], dim=1)

    def _recorded(self, answered: Batch) -> Tensor:
        """Return what its own receivers record of answers, in units of the noise, ``(batch, recording)``."""
        parts = [self.seen.read(answered.field(name)[:, 0]) / self.noise[name] for name in self.seen.values]
        return torch.cat(parts, dim=1)

    def refusing(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch recording"]:
        """Return the same; far from all that was recorded where a problem has no solution."""
        try:
            made = self(z)
        except SignatureError:
            raise
        except SciFMError:  # a solver refuses problems without a solution, and the search goes elsewhere
            if len(z) == 1:
                return z.new_full((1, len(self.values)), _REFUSED)
            return torch.cat([self.refusing(row) for row in z.split(1)])
        return torch.where(torch.isfinite(made), made, _REFUSED)

    def value_and_slope(self, z: Float[Tensor, " size"]) -> tuple[float, Tensor]:
        """Return half of the squared misfit and of |z|², and its slope."""
        free = z.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            made = self.refusing(free[None])[0]
        if made.requires_grad:
            loss = 0.5 * (made - self.values).square().sum() + 0.5 * free.square().sum()
            (slope,) = torch.autograd.grad(loss, free)
            return float(loss.detach()), slope
        missed = made - self.values
        slope = self.jacobian(z, made).T @ missed + z
        return float(0.5 * missed.square().sum() + 0.5 * z.square().sum()), slope

    def jacobian(self, z: Float[Tensor, " size"], here: Tensor | None = None) -> Float[Tensor, "recording size"]:
        """Return the derivatives of what is recorded by central differences; one-sided where it is known `here`."""
        steps = _STEP * torch.eye(len(z), dtype=z.dtype)
        with torch.no_grad():
            if here is not None:
                return ((self.refusing(z + steps) - here) / _STEP).T
            up, down = self.refusing(torch.cat([z + steps, z - steps])).chunk(2)
        return ((up - down) / (2 * _STEP)).T

    def misfit(self, z: Float[Tensor, " size"]) -> float:
        """Return the mean squared difference to what was recorded, in units of the noise: about 1 for the truth."""
        with torch.no_grad():
            return float((self.refusing(z[None])[0] - self.values).square().mean())
