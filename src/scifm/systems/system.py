"""`System`: the interface of every equation in the house.

A system knows its equation, draws problems from its knobs, solves them, and can tell by how much any field misses the
equation. It knows nothing of networks or training.
"""

from __future__ import annotations

import abc
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, SignatureError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term, told_equation
from scifm.prompt import Shown
from scifm.systems.knobs import Knob
from scifm.wording import plural, span

__all__ = ["SamplingRecord", "System"]


@dataclass
class SamplingRecord:
    """Counts what sampling threw away, because a rejection shifts the distribution that a card must describe."""

    drawn: int = 0  # problems, rejected or not
    rejected: int = 0  # thrown away and drawn again


class System(Shown, abc.ABC):
    """One equation with its knobs. Subclasses are frozen dataclasses; their fields are knobs and options.

    Class variables:
        name: by which recipes and the command line ask for it.
        title: its name as a person writes it; made of `name` where it is left out.
        equation: the equation on one line, with its signs.
        signature: names of fields and coefficients.
        homogeneities: exact scalings of the equation, applied in this order; none where nothing is said.
        terms: the terms of the equation, ∂u/∂t = Σ terms or 0 = Σ terms; none where they cannot be said so.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    signature: ClassVar[Signature]
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()
    terms: ClassVar[tuple[Term, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.name.replace("_", " ").capitalize()

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        options = {name: value for name, value in self.to_dict()["options"].items() if isinstance(value, int | float)}
        rows = [("equation", self.equation), ("knobs", self.told_knobs)]
        rows += [(role, ", ".join(getattr(self.signature, role))) for role in ("inputs", "coefficients", "outputs")]
        told = told_equation(self.terms, evolves=self.signature.evolves) or ["none declared"]
        rows += [("terms" if place == 0 else "", line) for place, line in enumerate(told)]
        return self.title, rows + [(name.replace("_", " "), f"{value:g}") for name, value in options.items()]

    @property
    def knobs(self) -> dict[str, Knob]:
        """The ranges this system draws from, by name."""
        values = {entry.name: getattr(self, entry.name) for entry in self._entries()}
        return {name: value for name, value in values.items() if isinstance(value, Knob)}

    @property
    def told_knobs(self) -> str:
        """The ranges in words: ``viscosity 0.01 to 0.1, force 2``."""
        return ", ".join(f"{name} {span(f'{k.low:g}', f'{k.high:g}')}" for name, k in self.knobs.items())

    def where(self, **knobs: Any) -> Self:
        """Return the same system with some knobs replaced: how physics is shifted.

        Args:
            **knobs: a `Knob`, a pair ``[low, high]`` (scale and integer stay as they are), a number, or a table.

        Raises:
            ConfigError: if a name is no knob of this system or a range is not valid.
        """
        ours = self.knobs
        for name in knobs:
            if name not in ours:
                raise ConfigError(f"Knob of '{self.name}': {suggest(name, ours)}")
        changes: dict[str, Any] = {name: Knob.parse(value, like=ours[name]) for name, value in knobs.items()}
        return replace(self, **changes)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"name", "knobs", "options"}``, plain numbers and strings only; `system_from_dict` reads it."""
        knobs = self.knobs
        options = {entry.name: getattr(self, entry.name) for entry in self._entries() if entry.name not in knobs}
        return {
            "name": self.name,
            "knobs": {name: knob.to_dict() for name, knob in knobs.items()},
            "options": {name: _plain(value) for name, value in options.items()},
        }

    @abc.abstractmethod
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
        """Draw problems and solve them.

        Args:
            num_samples: how many.
            grid: where the fields live; its sides may differ.
            generator: source of every random number; torch's global one when None. Problems are drawn in float64, so
                one seed means one set of problems at every resolution and precision.
            dtype: torch.float32 or torch.float64.
            device: where the batch is made; the generator's device when None, else the CPU.
            record: counts draws and rejections when given.

        Returns:
            A batch with targets: inputs ``(num_samples, 1, inputs, *space)``, coefficients
            ``(num_samples, coefficients)``, targets ``(num_samples, 1, outputs, *space)``.

        Raises:
            ConfigError: if `num_samples` or `dtype` is not allowed.
            SignatureError: if the system is not defined on this grid.
            DataError: if the knobs ask for problems that (almost) cannot be made.
        """

    def sample_inputs(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> Batch:
        """Draw problems and leave them unsolved: a batch without targets, of what evolves the first frames.

        They are those that `sample` draws where that rejects none; a rule that looks at solutions rejects nothing here.
        Left to itself it samples and drops the solutions: a system that can do without solving overrides it. Arguments
        and errors are those of `sample`.
        """
        drawn = self.sample(num_samples, grid, generator, dtype=dtype, device=device)
        return replace(drawn, targets=None, valid_targets=None, lead_time=None)

    @abc.abstractmethod
    def solve(self, batch: Batch) -> Batch:
        """Return the batch with targets solved from its own inputs and coefficients.

        Raises:
            SignatureError: if the batch is not one of this system.
            DataError: if a sample has no solution.
        """

    @abc.abstractmethod
    def residual(self, batch: Batch) -> Float[Tensor, "batch time output *space"]:
        """Return left side minus right side of the equation, ``(batch, time, outputs, *space)``; unit: the forcing's.

        Differentiable with respect to the targets.

        Raises:
            SignatureError: if the batch is not one of this system or has no targets.
        """

    def pinned_residual(self, batch: Batch) -> Float[Tensor, "batch time output *space"]:
        """Return `residual`, and in it what else fixes the solution where the equation leaves something open.

        It is zero for the solution and, where there is one solution, for nothing else: what is taught by it cannot
        drift. Left to itself it is `residual`; a system whose equation leaves a constant open adds what that misses.

        Raises:
            SignatureError: as for `residual`.
        """
        return self.residual(batch)

    @abc.abstractmethod
    def invariants(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return named dimensionless balances, each ``(batch,)``, that are zero for every exact solution.

        Raises:
            SignatureError: if the batch is not one of this system or has no targets.
        """

    def measured_knobs(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return what the knobs turned out to be, each ``(batch,)``, measured from coefficients and solutions.

        Where several values describe one problem, as two angles half a turn apart describe one diffusion tensor, the
        one nearest the middle of this system's range is given. A knob that cannot be told from a batch is left out.

        Raises:
            SignatureError: if the batch is not one of this system or lacks the targets that are needed.
        """
        return {}

    def require_sampling(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, dtype: torch.dtype, device: Any
    ) -> tuple[torch.device, torch.device]:
        """Check what `sample` was asked for; return where numbers are drawn and where samples are made.

        Raises:
            ConfigError: if `num_samples` or `dtype` is not allowed.
            SignatureError: if the system is not defined on this grid.
        """
        self.require_grid(grid)
        if num_samples < 1:
            raise ConfigError(f"Ask for at least 1 sample; got {num_samples}.")
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"Samples are made in torch.float32 or torch.float64; got {dtype}. Convert afterwards.")
        home = generator.device if generator is not None else torch.device("cpu" if device is None else device)
        return home, home if device is None else torch.device(device)

    def require_ours(self, batch: Batch) -> None:
        """Check that a batch is one of this system.

        Raises:
            SignatureError: says what it lacks.
        """
        absent = batch.signature.missing_from(self.signature)
        if absent or set(batch.signature.outputs) != set(self.signature.outputs):
            raise SignatureError(
                f"'{self.name}' needs a batch with {self.signature}; the given one has {batch.signature}"
                + (f" and lacks {', '.join(absent)}." if absent else ".")
            )
        self.require_grid(batch.grid)

    def require_grid(self, grid: Grid) -> None:
        """Check that the system is defined on a grid.

        Raises:
            SignatureError: if it is not.
        """
        if grid.num_spatial_dims != self.signature.num_spatial_dims:
            ours = plural(self.signature.num_spatial_dims, "dimension")
            raise SignatureError(f"'{self.name}' is written for {ours} here; the grid has {grid.num_spatial_dims}.")

    def _entries(self) -> tuple[Any, ...]:
        return tuple(entry for entry in fields(self) if entry.init)  # type: ignore[arg-type]


def _plain(option: Any) -> Any:
    """Return an option as a file can hold it."""
    if hasattr(option, "to_dict"):
        return option.to_dict()
    if is_dataclass(option) and not isinstance(option, type):
        return asdict(option)
    return list(option) if isinstance(option, tuple) else option
