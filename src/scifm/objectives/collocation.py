"""`Collocation`: train a network of coordinates by its equation alone, at points; what is known as a PINN.

With r what the network leaves of the equation at N points, Raissi, Perdikaris & Karniadakis (J. Comput. Phys. 378,
2019)::

    loss = w_e mean r² + w_i mean (u(x, 0) − u₀(x))² + w_s mean (u(0, t) − u(L, t))²

The last two stand there only where the network does not meet them by construction, see `scifm.models.coordinate`; the
last also holds the first derivative where the equation has a second one. Solutions are never looked at. A small loss is
no small error: with ``points = "fixed"`` it can vanish at the points and nowhere else.

Points are places of the grid of the samples, where their fields are known, at any times.

References: Krishnapriyan et al., arXiv:2109.01050 (points fixed; time in slabs); Subramanian et al., arXiv:2207.04084
(points by the residual).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.term import Term
from scifm.models.coordinate import Coordinate
from scifm.models.operator import Operator
from scifm.models.parts.jets import Passed
from scifm.models.parts.points import Asked, PointDerivatives, Points
from scifm.objectives.objective import Objective
from scifm.objectives.squares import Rows, Squares
from scifm.systems.catalog import evolving_of
from scifm.systems.term_operators import right_hand_side
from scifm.wording import plural

__all__ = ["Collocation"]

_LETTERS = "xyz"
_POOL = 8  # candidates for each point that is drawn by the residual
_ANYHOW = 0.05  # of the mean square, what is added to every candidate's: as published


@dataclass(frozen=True)
class _Problem:
    """What is to be solved: the terms of an equation, and the derivatives that it asks for."""

    terms: tuple[Term, ...]
    derivatives: frozenset[str]

    def asked(self, batch: Batch) -> dict[str, Any]:
        """Return what it asks of an operator at points, as `Coordinate.ask` is told.

        An equation ∂u/∂t + Σ cⱼ ∂u/∂xⱼ = 0 is one derivative, along the way (c, 1).
        """
        names, first = batch.signature, {f"derivative_{letter}": letter for letter in _LETTERS}
        if not names.evolves or any(term.operator not in first or term.fields != names.outputs for term in self.terms):
            return {"derivatives": self.derivatives}
        way = {"t": 1.0}
        for term in self.terms:
            letter, number = first[term.operator], 1.0
            if term.coefficient is not None:
                number = float(batch.coefficients[0, names.coefficients.index(term.coefficient)])
            way[letter] = way.get(letter, 0.0) - term.factor * number
        return {"way": way}


@dataclass(frozen=True)
class _Kept:
    """What an operator is asked in a draw, and what that was found for.

    Args:
        equation: at its points.
        starts: where the slab starts, with what has to stand there, ``(output, point)``, if that is to be trained.
        seams: at both sides of those that are to be closed, with the derivatives that have to agree.
    """

    number: int
    slab: int
    operator: Coordinate
    batch: Batch
    equation: Asked
    starts: tuple[tuple[Asked, Tensor], ...]
    seams: tuple[tuple[Asked, tuple[str, ...]], ...]

    def serves(self, number: int, slab: int, operator: Coordinate, batch: Batch) -> bool:
        """Return whether they are those of a draw; of a curriculum, another problem may follow within one."""
        return (
            (self.number, self.slab) == (number, slab)
            and self.operator is operator
            and (self.batch.inputs.dtype, self.batch.inputs.device) == (batch.inputs.dtype, batch.inputs.device)
            and torch.equal(self.batch.inputs, batch.inputs)
            and torch.equal(self.batch.coefficients, batch.coefficients)
        )


class _Asked:
    """Derivatives that only remember which they were asked for."""

    def __init__(self, num_spatial_dims: int) -> None:
        self.num_spatial_dims, self.found = num_spatial_dims, set[str]()

    def value(self, name: str) -> Tensor:
        return torch.zeros(1, 1)

    def along(self, name: str, axes: str) -> Tensor:
        self.found.add("".join(sorted(axes)))
        return torch.zeros(1, 1)


class Collocation(Objective):
    """The mean square of what a network of coordinates leaves of its equation, and of what has to hold at its edges.

    Args:
        num_points: of the equation, N.
        points: ``fixed``, drawn once among the frames of the samples, as published; ``uniform``, drawn anew at any
            times; ``residual``, drawn anew where the square of the residual is large, besides some anywhere.
        every: steps between draws of ``uniform`` points; those by the residual are drawn at every step.
        cycle: of points by the residual, steps in which the share of those drawn anywhere falls from all to none along
            a cosine, again and again; absent: it is half.
        equation, initial, seam: weights of the three parts.
        slab_steps: of a network whose time is cut into slabs, steps that each is trained; the last to the end.
        seed: of the points.
    """

    name: ClassVar[str] = "collocation"
    sums_squares: ClassVar[bool] = True
    needs_solutions: ClassVar[bool] = False

    num_points: int = Field(1000, ge=1)
    points: Literal["fixed", "uniform", "residual"] = "uniform"
    every: int = Field(1, ge=1)
    cycle: int | None = Field(None, ge=1)
    equation: float = Field(1.0, gt=0, allow_inf_nan=False)
    initial: float = Field(1.0, gt=0, allow_inf_nan=False)
    seam: float = Field(1.0, gt=0, allow_inf_nan=False)
    slab_steps: int | None = Field(None, ge=1)
    seed: int = 0
    _problem: _Problem | None = PrivateAttr(None)
    _kept: _Kept | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Collocation:
        if self.every != 1 and self.points != "uniform":
            raise ValueError(f"every = {self.every} is for points = 'uniform'; {self.points} ones are not drawn by it")
        if self.cycle is not None and self.points != "residual":
            raise ValueError(f"cycle = {self.cycle} is for points = 'residual'; the points are {self.points}")
        return self

    # --- what it asks before ------------------------------------------------------------------------------------------

    @property
    def num_looked_at(self) -> int:
        return 1

    @property
    def adds_up(self) -> bool:
        return False  # one problem is no batch that could be parted

    def require_operator(self, cls: type[Operator]) -> None:
        if not issubclass(cls, Coordinate):
            raise ConfigError(
                f"The objective 'collocation' trains a network of coordinates, model.kind = 'coordinate'; one of kind "
                f"'{cls.config_class.kind or cls.__name__}' answers on grids. Choose training.objective = 'residual' "
                "for it."
            )

    def on(self, samples: Batch) -> Self:
        """Return this objective for the problem of a sample.

        Raises:
            ConfigError: if nobody says its equation, or it is not one of values and derivatives at points.
        """
        system = evolving_of(samples)
        if system is None or not system.terms:
            names = ", ".join(sorted(set(samples.systems))) or "of no system that is known"
            raise ConfigError(
                f"The objective 'collocation' asks for the terms of an equation in time, and of these samples "
                f"({names}) nobody says them. They have to be of one system that is installed, evolves and declares "
                "its terms ('scifm systems NAME' shows them)."
            )
        asked = _Asked(samples.grid.num_spatial_dims)
        numbers = {name: torch.zeros(1) for name in samples.signature.coefficients}
        try:
            right_hand_side(system.terms, asked, numbers)
        except SignatureError as error:
            raise ConfigError(f"'{system.name}' cannot be asked at points: {error}") from error
        prepared = self.model_copy()
        prepared._problem = _Problem(tuple(system.terms), frozenset({*asked.found, "t"}))
        prepared._kept = None
        return prepared

    def stage(self, operator: Operator, step: int) -> int:
        slabs = operator.config.slabs if isinstance(operator, Coordinate) else 1
        return 0 if self.slab_steps is None else min(step // self.slab_steps, slabs - 1)

    def draw(self, step: int) -> int:
        return {"fixed": 0, "uniform": step // self.every, "residual": step}[self.points]

    # --- the loss -----------------------------------------------------------------------------------------------------

    def __call__(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        return self._squares(operator, batch, step, told=False).loss

    def squares(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Squares:
        """Return what its loss is the sum of squares of.

        Raises:
            ConfigError: if the samples are of several problems.
        """
        return self._squares(operator, batch, step, told=True)

    def _squares(self, operator: Operator, batch: Batch, step: int, *, told: bool) -> Squares:
        """Return the terms of a step; `told`: with what they came through, which takes torch's own operations."""
        if not isinstance(operator, Coordinate):
            self.require_operator(type(operator))
        operator = cast(Coordinate, operator)
        batch = operator.align(batch)
        if batch.num_samples != 1:
            raise ConfigError(
                f"An operator of kind 'coordinate' knows one problem, and a step holds {batch.num_samples}. Set "
                "data.num_samples = 1 and data.horizon to all frames of its trajectory."
            )
        if (problem := self._problem) is None:
            return self.on(batch)._squares(operator, batch, step, told=told)
        kept = self._drawn(problem, operator, batch, step, self._slab(operator, step))
        several = [kept.equation, *(asked for asked, _ in kept.starts), *(asked for asked, _ in kept.seams)]
        passed: list[list[Passed]] = [[] for _ in several]
        if told:
            fields = [operator.answer(asked, maps) for asked, maps in zip(several, passed, strict=True)]
        else:
            fields = operator.answer_all(several)
        answered = iter(zip(fields, passed, strict=True))
        rows = self._of_equation(problem, batch, kept.equation, *next(answered))
        for _, start in kept.starts:
            rows += self._of_start(start, operator.signature.outputs, *next(answered))
        for _, first in kept.seams:
            rows += self._of_seam(first, operator.signature.outputs, *next(answered))
        return Squares(rows)

    def _slab(self, operator: Coordinate, step: int) -> int:
        slabs = operator.config.slabs
        if (slabs > 1) != (self.slab_steps is not None):
            raise ConfigError(
                f"The network has {plural(slabs, 'slab')} of time, and slab_steps of the objective, the steps that "
                f"each is trained, is {self.slab_steps}. Give both model.network.slabs and slab_steps, or neither."
            )
        return self.stage(operator, step)

    def _of_equation(
        self, problem: _Problem, batch: Batch, asked: Asked, fields: PointDerivatives, passed: list[Passed]
    ) -> list[Rows]:
        left = _left(problem, batch, fields, asked)
        factor = math.sqrt(self.equation / (len(asked.points) * len(left)))
        return [Rows(values[0] * factor, passed) for values in left]

    def _of_start(
        self, start: Tensor, names: Sequence[str], fields: PointDerivatives, passed: list[Passed]
    ) -> Iterator[Rows]:
        factor = math.sqrt(self.initial / start.numel())
        for name, values in zip(names, start, strict=True):
            yield Rows((fields.value(name)[0] - values) * factor, passed)

    def _of_seam(
        self, first: Sequence[str], names: Sequence[str], fields: PointDerivatives, passed: list[Passed]
    ) -> Iterator[Rows]:
        """Yield what the answer misses of closing at an axis that wraps, of its value and of these derivatives."""
        for name in names:
            for found in (fields.value(name)[0], *(fields.along(name, axes)[0] for axes in first)):
                one, other = found.chunk(2)
                of = torch.arange(len(one), device=one.device).repeat(2) if passed else None
                yield Rows((one - other) * math.sqrt(self.seam / (len(one) * len(names))), passed, of)

    # --- where it is asked --------------------------------------------------------------------------------------------

    def _drawn(self, problem: _Problem, operator: Coordinate, batch: Batch, step: int, slab: int) -> _Kept:
        """Return what is asked in a step; the same as often as a step asks."""
        number, kept = self.draw(step), self._kept
        if kept is not None and kept.serves(number, slab, operator, batch):
            return kept
        generator = generator_for(self.seed, "collocation", number, slab)
        with torch.no_grad():
            start = operator.start_of(batch, slab) if operator.signature.evolves else None
            if self.points == "fixed":
                points = _among_frames(batch, operator, slab, self.num_points, generator)
            elif self.points == "uniform":
                points = _anywhere(batch, operator, slab, self.num_points, generator)
            else:
                points = self._by_residual(problem, operator, batch, step, slab, start, generator)
            equation = operator.ask(batch, points, slab=slab, start=start, **problem.asked(batch))
            starts = tuple(self._asked_at_start(operator, batch, slab, start))
            seams = tuple(self._asked_at_seams(problem, operator, batch, slab, start))
        self._kept = _Kept(number, slab, operator, batch, equation, starts, seams)
        return self._kept

    def _asked_at_start(
        self, operator: Coordinate, batch: Batch, slab: int, start: Tensor | None
    ) -> Iterator[tuple[Asked, Tensor]]:
        """Yield what is asked where a slab starts, and what has to stand there, if that has to be trained."""
        if start is None or operator.config.initial != "soft":
            return
        places = self._spread(math.prod(batch.grid.num_points), batch)
        times = start.new_full((len(places),), slab / operator.config.slabs * operator.duration)
        yield operator.ask(batch, Points(places, times), slab=slab, start=start), start.flatten(1)[:, places]

    def _asked_at_seams(
        self, problem: _Problem, operator: Coordinate, batch: Batch, slab: int, start: Tensor | None
    ) -> Iterator[tuple[Asked, tuple[str, ...]]]:
        """Yield what is asked on one side of each seam, then on the other, with the derivatives that have to agree."""
        grid = batch.grid
        for axis in [a for a, wraps in enumerate(grid.periodic) if wraps and not operator.config.periodic]:
            letter = _LETTERS[grid.num_spatial_dims - 1 - axis]
            first = (letter,) if any(axes.count(letter) > 1 for axes in problem.derivatives) else ()
            places, times = self._along(grid, axis, batch, operator, slab)
            turns = places.new_zeros(2 * len(places), grid.num_spatial_dims)
            turns[len(places) :, axis] = 1
            both = Points(places.repeat(2), None if times is None else times.repeat(2), turns)
            yield operator.ask(batch, both, derivatives=first, slab=slab, start=start), first

    def _by_residual(
        self,
        problem: _Problem,
        operator: Coordinate,
        batch: Batch,
        step: int,
        slab: int,
        start: Tensor | None,
        generator: torch.Generator,
    ) -> Points:
        """Return points of which a share lies anywhere, and the others where the square of the residual is large."""
        share = 0.5 if self.cycle is None else 0.5 * (1 + math.cos(math.pi * (step % self.cycle) / self.cycle))
        free = _anywhere(batch, operator, slab, round(share * self.num_points), generator)
        if (rest := self.num_points - len(free)) == 0:
            return free
        pool = _anywhere(batch, operator, slab, _POOL * self.num_points, generator)
        asked = operator.ask(batch, pool, slab=slab, start=start, **problem.asked(batch))
        size = torch.cat(_left(problem, batch, operator.answer(asked), asked)).square().sum(0).double().cpu()
        if not bool(size.isfinite().all()) or not bool(size.sum() > 0):
            size = torch.ones_like(size)  # training is stopped by its loss where it is no number
        chosen = torch.multinomial(size + _ANYHOW * size.mean(), rest, generator=generator).to(pool.places.device)
        times = None if pool.times is None else torch.cat([cast(Tensor, free.times), pool.times[chosen]])
        return Points(torch.cat([free.places, pool.places[chosen]]), times)

    def _spread(self, count: int, batch: Batch) -> Tensor:
        """Return all of so many places or, of more than there are points of the equation, so many of them."""
        return _few(torch.arange(count), self.num_points, self.seed).to(batch.inputs.device)

    def _along(
        self, grid: Grid, axis: int, batch: Batch, operator: Coordinate, slab: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the places of the seam of an axis, with the times of all frames of a slab; of more some."""
        places = torch.arange(math.prod(grid.num_points)).view(grid.num_points).select(axis, 0).flatten()
        if not operator.signature.evolves:
            return _few(places, self.num_points, self.seed).to(batch.inputs.device), None
        frames = _frames_of(batch, operator, slab)
        pairs = _few(torch.cartesian_prod(torch.arange(len(frames)), places), self.num_points, self.seed)
        return pairs[:, 1].to(batch.inputs.device), frames[pairs[:, 0]].to(batch.inputs)


def _left(problem: _Problem, batch: Batch, fields: PointDerivatives, asked: Asked) -> list[Tensor]:
    """Return what is left of the equation of each output, ``(1, point)``."""
    names = batch.signature
    if asked.way is not None:
        return [fields.along_way(name) for name in names.outputs]
    numbers = {name: batch.coefficients[:, place] for place, name in enumerate(names.coefficients)}
    right = right_hand_side(problem.terms, fields, numbers)
    if not names.evolves:
        return [right[name] for name in names.outputs]
    return [fields.along(name, "t") - right[name] for name in names.outputs]


def _few(places: Tensor, most: int, seed: int) -> Tensor:
    if len(places) <= most:
        return places
    return places[torch.randperm(len(places), generator=generator_for(seed, "collocation", "edges"))[:most]]


def _frames_of(batch: Batch, operator: Coordinate, slab: int) -> Tensor:
    """Return the times of the frames in a slab, in float64; of one without a frame its end."""
    lead = cast(Tensor, batch.lead_time)[0].double().cpu()
    own = lead[operator.slab_of(lead) == slab]
    end = torch.tensor([(slab + 1) / operator.config.slabs * operator.duration], dtype=torch.float64)
    return own if len(own) else end


def _among_frames(batch: Batch, operator: Coordinate, slab: int, num_points: int, generator: torch.Generator) -> Points:
    """Return points of the grid in frames of a slab, none twice; fewer where there are not so many."""
    places, device = math.prod(batch.grid.num_points), batch.inputs.device
    if not operator.signature.evolves:
        return Points(torch.randperm(places, generator=generator)[:num_points].to(device))
    frames = _frames_of(batch, operator, slab)
    drawn = torch.randperm(places * len(frames), generator=generator)[:num_points]
    return Points((drawn % places).to(device), frames[drawn // places].to(batch.inputs))


def _anywhere(batch: Batch, operator: Coordinate, slab: int, num_points: int, generator: torch.Generator) -> Points:
    """Return points of the grid at any times of a slab."""
    places = torch.randint(math.prod(batch.grid.num_points), (num_points,), generator=generator)
    places = places.to(batch.inputs.device)
    if not operator.signature.evolves:
        return Points(places)
    share = (torch.rand(num_points, generator=generator, dtype=torch.float64) + slab) / operator.config.slabs
    return Points(places, (share * operator.duration).to(batch.inputs))
