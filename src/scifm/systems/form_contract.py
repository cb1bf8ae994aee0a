"""What a system promises about its form: how it is written down, found, drawn and named. `contract` has the rest."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import FrozenInstanceError, is_dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import find_system, system_from_dict
from scifm.systems.system import SamplingRecord, System

__all__ = ["NUM_TRIED", "PARTS", "TEMPLATE", "FormContract", "part_of", "require", "size_of"]

TEMPLATE = (
    "Equation",
    "Sign convention",
    "Domain and boundary",
    "Fields",
    "Coefficients",
    "Knobs",
    "Dimensionless groups",
    "Exact solution",
    "Solver and order",
    "Good values",
    "Where it breaks",
    "References",
)
"""The headings of a system's module, in this order."""

_POINTS = {1: ((66,), (64,), (47,)), 2: ((40, 66), (64, 64), (33, 47)), 3: ((12, 20, 18), (16, 16, 16), (15, 11, 17))}
_EXTENTS = (1.3, 0.7, 1.9)
NUM_TRIED = 6
PARTS = ("inputs", "coefficients", "targets")


def require(kept: bool | Tensor, message: str) -> None:
    """Raise AssertionError with the message if a promise is not kept; unlike ``assert`` also under ``python -O``.

    Raises:
        AssertionError: if `kept` is false.
    """
    if not bool(kept):
        raise AssertionError(message)


class FormContract:
    """The promises about form, and what trying any promise takes.

    Attributes:
        system: what is tried, with a range (low < high) for every knob.
        grids: where it is tried; by default three periodic boxes of its dimension: unequal sides, equal sides, and odd
            numbers of points. The first should have unequal sides.
        tolerance: largest residual of its own solution over that of no solution (u = 0), in float64. A solver that is
            exact on the grid keeps to the default; another states its own, 1e-3 at most.
    """

    system: System
    grids: ClassVar[tuple[Grid, ...]] = ()
    tolerance: ClassVar[float] = 1e-10

    def boxes(self) -> tuple[Grid, ...]:
        """Return the grids that are tried."""
        if self.grids:
            return self.grids
        dims = self.system.signature.num_spatial_dims
        sides = (_EXTENTS[-dims:], (1.0,) * dims, (1.0,) * dims)
        return tuple(Grid(n, side, (True,) * dims) for n, side in zip(_POINTS[dims], sides, strict=True))

    def sample(
        self,
        num: int = NUM_TRIED,
        *,
        of: System | None = None,
        grid: Grid | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        record: SamplingRecord | None = None,
    ) -> Batch:
        """Return problems to try, on the first grid if none is given."""
        drawn = generator_for(seed, "contract")
        return (of or self.system).sample(num, grid or self.boxes()[0], drawn, dtype=dtype, record=record)

    def missed(self, batch: Batch) -> Tensor:
        """Return the residual of each sample over that of u = 0, ``(batch,)``: 0 for a solution, near 1 for none."""
        residual = self.system.residual(batch)
        targets = batch.require_targets()
        require(residual.shape == targets.shape, f"a residual is {tuple(targets.shape)}; got {tuple(residual.shape)}")
        nothing = size_of(self.system.residual(batch.with_targets(torch.zeros_like(targets))))
        require((nothing > 0).all(), "the residual of u = 0 is zero, so nothing tells a solution from none")
        return size_of(residual) / nothing

    def test_it_is_a_frozen_dataclass_that_can_be_compared(self) -> None:
        """A system never changes: it is a frozen dataclass, equal to its copy, and can be a key."""
        system = self.system
        require(
            is_dataclass(system), f"{type(system).__name__} is no dataclass; write @dataclass(frozen=True) above it"
        )
        first = next(iter(system.knobs), None)
        require(first is not None, "it has no knobs, so its physics cannot be shifted")
        assert first is not None
        knob = getattr(system, first)
        try:
            setattr(system, first, knob)
        except FrozenInstanceError:
            pass
        else:
            raise AssertionError(f"'{first}' can be set on a finished system; write @dataclass(frozen=True)")
        require(system.where() == system, "a copy of the system is not equal to it")
        try:
            require(hash(system.where()) == hash(system), "equal systems have different hashes")
        except TypeError as error:
            raise AssertionError(f"it cannot be hashed ({error}); give options tuples, not lists") from error

    def test_it_is_found_by_its_name(self) -> None:
        """Recipes and the command line find the system by its name."""
        try:
            found: type[System] | str = find_system(self.system.name)
        except ConfigError as error:
            found = str(error)
        require(
            found is type(self.system),
            f"'{self.system.name}' is not found as {type(self.system).__name__}: {found}; declare it in pyproject.toml "
            'under [project.entry-points."scifm.systems"] and install the package: pip install -e .',
        )

    def test_samples_have_the_promised_form(self) -> None:
        """Samples are finite, in the precision asked for, on the grid asked for, named, and every draw is counted."""
        record = SamplingRecord()
        batch = self.sample(dtype=torch.float32, record=record)
        require(batch.signature == self.system.signature, f"samples have the signature {batch.signature}")
        require(batch.grid == self.boxes()[0], f"samples live on {batch.grid}, not on the grid asked for")
        require(batch.systems == (self.system.name,) * NUM_TRIED, f"samples say they come from {batch.systems}")
        for name in PARTS:
            part = part_of(batch, name)
            require(part.dtype == torch.float32, f"{name} were asked for in float32; got {part.dtype}")
            require(part.isfinite().all(), f"{name} hold NaN or infinity")
            require(not part.requires_grad, f"{name} carry a gradient")
        kept = record.drawn - record.rejected
        require(kept == NUM_TRIED, f"the record counts {kept} samples of {NUM_TRIED}; add to record.drawn")

    def test_unknown_knobs_are_refused_with_a_suggestion(self) -> None:
        """A knob that does not exist is refused, and the nearest one named."""
        name = next(iter(self.system.knobs))
        try:
            self.system.where(**{name + "s": [1, 2]})
        except ConfigError as error:
            require(f"Did you mean '{name}'" in str(error), f"the message does not suggest '{name}': {error}")
            return
        raise AssertionError(f"the unknown knob '{name}s' is taken")

    def test_the_dictionary_form_is_plain_and_complete(self) -> None:
        """`to_dict` survives JSON, and `system_from_dict` makes the same system from it."""
        entries = self.system.to_dict()
        require(set(entries) == {"name", "knobs", "options"}, f"the dictionary has the keys {sorted(entries)}")
        again = system_from_dict(json.loads(json.dumps(entries)))
        require(again == self.system, f"written and read again it is {again}")
        require(hash(system_from_dict(entries)) == hash(self.system), "written and read again its hash differs")

    def test_the_file_follows_the_physics_template(self) -> None:
        """The docstring of its module has every heading of `TEMPLATE`, in order, and tells every name."""
        text = inspect.getdoc(sys.modules[type(self.system).__module__]) or ""
        lines = [line for line in text.splitlines() if line and not line[0].isspace()]
        positions = []
        for heading in TEMPLATE:
            found = [i for i, line in enumerate(lines) if line.startswith(heading)]
            require(bool(found), f"the module's docstring has no heading '{heading}'")
            positions.append(found[0])
        require(positions == sorted(positions), f"the headings stand in another order than {', '.join(TEMPLATE)}")
        require(bool(text.partition("References")[2].strip(" :\n")), "no reference is given")
        require(bool(self.system.equation) and "\n" not in self.system.equation, "the equation is not on one line")
        signature = self.system.signature
        for name in (*signature.inputs, *signature.outputs, *signature.coefficients, *self.system.knobs):
            require(name in text, f"the module's docstring does not describe '{name}'")

    def test_same_seed_same_bytes_and_other_seed_other_samples(self) -> None:
        """One seed gives the same bytes each time; another seed, and each sample, is another problem."""
        first, again, other = (self.sample(seed=seed, dtype=torch.float32) for seed in (0, 0, 1))
        for name in PARTS:
            require(_bytes(part_of(first, name)) == _bytes(part_of(again, name)), f"one seed gives two sets of {name}")
        rows = [torch.cat([batch.inputs.flatten(1), batch.coefficients], 1) for batch in (first, other)]
        problems = [{_bytes(row) for row in part} for part in rows]
        require(not problems[0] & problems[1], "two seeds give some of the same problems")
        require(all(len(seen) == NUM_TRIED for seen in problems), "some samples of one batch are the same problem")

    def test_one_seed_is_one_set_of_problems_at_every_precision_and_resolution(self) -> None:
        """One seed draws the same problems in float32 and float64, and on a grid twice as fine."""
        coarse = self.sample()
        grid = coarse.grid
        twice = tuple(2 * n if wraps else 2 * n - 1 for n, wraps in zip(grid.num_points, grid.periodic, strict=True))
        others = {
            "in float32": (self.sample(dtype=torch.float32).to(dtype=torch.float64), 1, 1e-3),
            "on a grid twice as fine": (self.sample(grid=grid.resized(twice)), 2, 0.1),
        }
        for told, (other, stride, most) in others.items():
            for name in PARTS:
                mine, theirs = part_of(coarse, name), part_of(other, name)
                if name != "coefficients":
                    for axis in range(-grid.num_spatial_dims, 0):
                        theirs = theirs.index_select(axis, torch.arange(0, theirs.shape[axis], stride))
                off = float((size_of(mine - theirs) / size_of(mine).clamp(min=1e-300)).max())
                require(off < most, f"{told} one seed gives other {name}: they differ by {off:.3g} of their size")

    def test_the_global_generator_is_used_only_without_one(self) -> None:
        """torch's own generator is used when none is given, and left alone when one is."""
        before = torch.get_rng_state()
        self.sample()
        require(torch.equal(before, torch.get_rng_state()), "torch's global generator is used although one was given")
        self.system.sample(1, self.boxes()[0])
        require(not torch.equal(before, torch.get_rng_state()), "without a generator torch's global one must be used")


def part_of(batch: Batch, name: str) -> Tensor:
    """Return inputs, coefficients or targets of a batch by name."""
    return batch.require_targets() if name == "targets" else getattr(batch, name)


def size_of(fields_: Tensor) -> Tensor:
    """Return the norm of each sample, ``(batch,)``."""
    return fields_.flatten(1).norm(dim=1)


def _bytes(values: Tensor) -> bytes:
    return values.contiguous().numpy().tobytes()
