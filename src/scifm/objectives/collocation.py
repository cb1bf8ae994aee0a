"""`Collocation`: train a network of coordinates by its equation alone, at points; what is known as a PINN.

With r what the network leaves of the equation at N points, Raissi, Perdikaris & Karniadakis (J. Comput. Phys. 378,
2019)::

    loss = w_e mean r² + w_i mean (u(x, 0) − u₀(x))² + w_s mean (u(0, t) − u(L, t))² + w_w mean (u(0, t) − g)²

The last three stand there only where the network does not meet them by construction, see `scifm.models.coordinate`. The
seam, of axes that wrap around, also holds the first derivative where the equation has a second one. What holds at the
ends of other axes has to be said (`scifm.objectives.walls`): values, slopes, or that they are free. Solutions are never
looked at. A small loss is no small error: with ``points = "fixed"`` it can vanish at the points and nowhere else.

Points are places of the grid of the samples, where their fields are known, at any times.

References: Krishnapriyan et al., arXiv:2109.01050 (points fixed; time in slabs); Subramanian et al., arXiv:2207.04084
(points by the residual and by its gradient).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.coordinate import Coordinate
from scifm.models.operator import Operator
from scifm.models.parts.jets import Passed
from scifm.models.parts.points import Asked, PointDerivatives, Points
from scifm.objectives.balancing import balance_of
from scifm.objectives.collocating import PointEquation, along_edge, among_frames, anywhere, few, slope_of
from scifm.objectives.objective import Objective
from scifm.objectives.squares import Rows, Squares
from scifm.objectives.walls import Condition, Walls, conditions_at, require_kept, require_walls
from scifm.systems.catalog import evolving_of
from scifm.wording import plural

__all__ = ["Collocation"]

_LETTERS = "xyz"
_ADAPTIVE = ("residual", "gradient")
_POOL = 8  # candidates for each point that is drawn by the residual or its gradient
_ANYHOW = 0.05  # of the mean square, what is added to every candidate's: as published


@dataclass(frozen=True)
class _Kept:
    """What an operator is asked in a draw, and what that was found for.

    Args:
        equation: at its points.
        starts: where the slab starts, with what has to stand there, ``(output, point)``, if that is to be trained.
        seams: at both sides of those that are to be closed, with the derivatives that have to agree.
        walls: at each end of an axis where something has to hold that the network does not meet, with that and the
            letter of the axis.
    """

    number: int
    slab: int
    operator: Coordinate
    batch: Batch
    equation: Asked
    starts: tuple[tuple[Asked, Tensor], ...]
    seams: tuple[tuple[Asked, tuple[str, ...]], ...]
    walls: tuple[tuple[Asked, str, tuple[Condition, ...]], ...]

    @property
    def several(self) -> list[Asked]:
        """All that is asked, one after the other."""
        edges = (self.starts, self.seams, self.walls)
        return [self.equation, *(asked for several in edges for asked, *_ in several)]

    def serves(self, number: int, slab: int, operator: Coordinate, batch: Batch) -> bool:
        """Return whether they are those of a draw; of a curriculum, another problem may follow within one."""
        return (
            (self.number, self.slab) == (number, slab)
            and self.operator is operator
            and (self.batch.inputs.dtype, self.batch.inputs.device) == (batch.inputs.dtype, batch.inputs.device)
            and torch.equal(self.batch.inputs, batch.inputs)
            and torch.equal(self.batch.coefficients, batch.coefficients)
        )


class Collocation(Objective):
    """The mean square of what a network of coordinates leaves of its equation, and of what has to hold at its edges.

    Args:
        num_points: of the equation, N.
        points: ``fixed``, drawn once among the frames of the samples, as published; ``uniform``, drawn anew at any
            times; ``residual``, drawn anew where the square of the residual is large, besides some anywhere;
            ``gradient``, where |∂r²/∂x| + … + |∂r²/∂t| is, by differences between neighbouring places of the grid and
            between times, see `scifm.objectives.collocating.slope_of`, at 2 (d + 1) times the cost of such a draw.
        every: steps between draws of ``uniform`` points; those by the residual are drawn at every step.
        cycle: of points by the residual or its gradient, steps in which the share of those drawn anywhere falls from
            all to none along a cosine, again and again; absent: it is half.
        walls: what holds at the ends of axes that do not wrap around, see `scifm.objectives.walls`.
        equation, initial, seam, wall: weights of the four parts.
        balance: multiply the last three by what brings their gradients to that of the equation, see
            `scifm.objectives.balancing`; found where a step begins, and the same as often as the step asks, at the cost
            of about one more loss and its gradient. Unlike the published way nothing is averaged over steps, so that a
            step hangs on its weights alone; and each factor is of a part as it is before its own weight.
        slab_steps: of a network whose time is cut into slabs, steps that each is trained; the last to the end.
        seed: of the points.
    """

    name: ClassVar[str] = "collocation"
    sums_squares: ClassVar[bool] = True
    needs_solutions: ClassVar[bool] = False

    num_points: int = Field(1000, ge=1)
    points: Literal["fixed", "uniform", "residual", "gradient"] = "uniform"
    every: int = Field(1, ge=1)
    cycle: int | None = Field(None, ge=1)
    equation: float = Field(1.0, gt=0, allow_inf_nan=False)
    initial: float = Field(1.0, gt=0, allow_inf_nan=False)
    seam: float = Field(1.0, gt=0, allow_inf_nan=False)
    wall: float = Field(1.0, gt=0, allow_inf_nan=False)
    walls: Walls | None = None
    balance: bool = False
    slab_steps: int | None = Field(None, ge=1)
    seed: int = 0
    _problem: PointEquation | None = PrivateAttr(None)
    _kept: _Kept | None = PrivateAttr(None)
    _balance: tuple[_Kept, dict[str, float]] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Collocation:
        if self.every != 1 and self.points != "uniform":
            raise ValueError(f"every = {self.every} is for points = 'uniform'; {self.points} ones are not drawn by it")
        if self.cycle is not None and self.points not in _ADAPTIVE:
            raise ValueError(
                f"cycle = {self.cycle} is for points = 'residual' or 'gradient'; the points are {self.points}"
            )
        if self.wall != 1.0 and not self.walls:
            raise ValueError(f"wall = {self.wall:g} weighs what holds at walls: say it by walls, or leave it out")
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

    def require_grid(self, grid: Grid) -> None:
        require_walls(self.walls, grid)

    def on(self, samples: Batch) -> Self:
        """Return this objective for the problem of a sample.

        Raises:
            ConfigError: if nobody says its equation, or it is not one of values and derivatives at points; or if it is
                not said what holds at the ends of its axes, see `scifm.objectives.walls`.
        """
        self.require_grid(samples.grid)
        tuple(conditions_at(self.walls, samples.grid, samples.signature.outputs))
        system = evolving_of(samples)
        if system is None or not system.terms:
            names = ", ".join(sorted(set(samples.systems))) or "of no system that is known"
            raise ConfigError(
                f"The objective 'collocation' asks for the terms of an equation in time, and of these samples "
                f"({names}) nobody says them. They have to be of one system that is installed, evolves and declares "
                "its terms ('scifm systems NAME' shows them)."
            )
        prepared = self.model_copy()
        try:
            prepared._problem = PointEquation.of(system.terms, samples.signature)
        except SignatureError as error:
            raise ConfigError(f"'{system.name}' cannot be asked at points: {error}") from error
        prepared._kept = prepared._balance = None
        return prepared

    def stage(self, operator: Operator, step: int) -> int:
        slabs = operator.config.slabs if isinstance(operator, Coordinate) else 1
        return 0 if self.slab_steps is None else min(step // self.slab_steps, slabs - 1)

    def draw(self, step: int) -> int:
        return step if self.balance else self._draw_of_points(step)

    def _draw_of_points(self, step: int) -> int:
        return {"fixed": 0, "uniform": step // self.every}.get(self.points, step)

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
        several = kept.several
        passed: list[list[Passed]] = [[] for _ in several]
        if told:
            fields = [operator.answer(asked, maps) for asked, maps in zip(several, passed, strict=True)]
        else:
            fields = operator.answer_all(several)
        parts = self._parts(problem, operator, batch, kept, list(zip(fields, passed, strict=True)))
        if self.balance:
            factors = self._balanced(problem, operator, batch, kept)
            parts = {name: [rows.scaled(factors.get(name, 1.0)) for rows in part] for name, part in parts.items()}
        return Squares([rows for part in parts.values() for rows in part])

    def _balanced(self, problem: PointEquation, operator: Coordinate, batch: Batch, kept: _Kept) -> dict[str, float]:
        """Return by what the terms of each part are multiplied in a step, found when it asks first."""
        if self._balance is None or self._balance[0] is not kept:
            with torch.enable_grad():
                none: list[Passed] = []
                fields = [(operator.answer(asked), none) for asked in kept.several]
                parts = self._parts(problem, operator, batch, kept, fields)
                own = {"equation": 1.0, "initial": self.initial, "seam": self.seam, "wall": self.wall}
                bare = {name: [rows.scaled(own[name] ** -0.5) for rows in part] for name, part in parts.items()}
                found = balance_of(bare, list(operator.networks[kept.slab].parameters()))
            self._balance = kept, {name: math.sqrt(number) for name, number in found.items()}
        return self._balance[1]

    def _parts(
        self,
        problem: PointEquation,
        operator: Coordinate,
        batch: Batch,
        kept: _Kept,
        fields: Sequence[tuple[PointDerivatives, list[Passed]]],
    ) -> dict[str, list[Rows]]:
        """Return the terms of each part of the loss; fields are those of all that is asked."""
        names, answered = operator.signature.outputs, iter(fields)
        parts = {"equation": self._of_equation(problem, batch, kept.equation, *next(answered))}
        parts["initial"] = [rows for _, start in kept.starts for rows in self._of_start(start, names, *next(answered))]
        parts["seam"] = [rows for _, first in kept.seams for rows in self._of_seam(first, names, *next(answered))]
        parts["wall"] = [
            rows for _, letter, hold in kept.walls for rows in self._of_wall(letter, hold, names, *next(answered))
        ]
        return parts

    def _slab(self, operator: Coordinate, step: int) -> int:
        slabs = operator.config.slabs
        if (slabs > 1) != (self.slab_steps is not None):
            raise ConfigError(
                f"The network has {plural(slabs, 'slab')} of time, and slab_steps of the objective, the steps that "
                f"each is trained, is {self.slab_steps}. Give both model.network.slabs and slab_steps, or neither."
            )
        return self.stage(operator, step)

    def _of_equation(
        self, problem: PointEquation, batch: Batch, asked: Asked, fields: PointDerivatives, passed: list[Passed]
    ) -> list[Rows]:
        left = problem.left(batch, fields, asked)
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

    def _of_wall(
        self,
        letter: str,
        conditions: Sequence[Condition],
        names: Sequence[str],
        fields: PointDerivatives,
        passed: list[Passed],
    ) -> Iterator[Rows]:
        """Yield what the answer misses of what holds at an end of an axis."""
        for one in conditions:
            found = (fields.along(one.output, letter) if one.slope else fields.value(one.output))[0]
            yield Rows((found - one.number) * math.sqrt(self.wall / (len(found) * len(names))), passed)

    # --- where it is asked --------------------------------------------------------------------------------------------

    def _drawn(self, problem: PointEquation, operator: Coordinate, batch: Batch, step: int, slab: int) -> _Kept:
        """Return what is asked in a step; the same as often as a step asks."""
        number, kept = self.draw(step), self._kept
        if kept is not None and kept.serves(number, slab, operator, batch):
            return kept
        generator = generator_for(self.seed, "collocation", self._draw_of_points(step), slab)
        with torch.no_grad():
            start = operator.start_of(batch, slab) if operator.signature.evolves else None
            if self.points == "fixed":
                points = among_frames(batch, operator, slab, self.num_points, generator)
            elif self.points == "uniform":
                points = anywhere(batch, operator, slab, self.num_points, generator)
            else:
                points = self._by_residual(problem, operator, batch, step, slab, start, generator)
            equation = operator.ask(batch, points, slab=slab, start=start, **problem.asked(batch))
            starts = tuple(self._asked_at_start(operator, batch, slab, start))
            seams = tuple(self._asked_at_seams(problem, operator, batch, slab, start))
            walls = tuple(self._asked_at_walls(operator, batch, slab, start))
        self._kept = _Kept(number, slab, operator, batch, equation, starts, seams, walls)
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
        self, problem: PointEquation, operator: Coordinate, batch: Batch, slab: int, start: Tensor | None
    ) -> Iterator[tuple[Asked, tuple[str, ...]]]:
        """Yield what is asked on one side of each seam, then on the other, with the derivatives that have to agree."""
        grid = batch.grid
        for axis in [a for a, wraps in enumerate(grid.periodic) if wraps and not operator.config.periodic]:
            letter = _LETTERS[grid.num_spatial_dims - 1 - axis]
            first = (letter,) if any(axes.count(letter) > 1 for axes in problem.derivatives) else ()
            places, times = self._edge(grid, axis, 0, batch, operator, slab)
            turns = places.new_zeros(2 * len(places), grid.num_spatial_dims)
            turns[len(places) :, axis] = 1
            both = Points(places.repeat(2), None if times is None else times.repeat(2), turns)
            yield operator.ask(batch, both, derivatives=first, slab=slab, start=start), first

    def _asked_at_walls(
        self, operator: Coordinate, batch: Batch, slab: int, start: Tensor | None
    ) -> Iterator[tuple[Asked, str, tuple[Condition, ...]]]:
        """Yield what is asked at each end of an axis, its letter, and what has to hold there and is not met."""
        grid = batch.grid
        for axis, end, conditions in conditions_at(self.walls, grid, operator.signature.outputs):
            letter = grid.axis_names[axis]
            if operator.keeps(letter, end):
                require_kept(conditions, operator.signature.outputs, cast(Tensor, start), axis, end, letter)
                conditions = tuple(one for one in conditions if one.slope)
            if conditions:
                places, times = self._edge(grid, axis, end, batch, operator, slab)
                first = (letter,) if any(one.slope for one in conditions) else ()
                points = Points(places, times)
                yield operator.ask(batch, points, derivatives=first, slab=slab, start=start), letter, conditions

    def _by_residual(
        self,
        problem: PointEquation,
        operator: Coordinate,
        batch: Batch,
        step: int,
        slab: int,
        start: Tensor | None,
        generator: torch.Generator,
    ) -> Points:
        """Return points of which a share lies anywhere, and the others where the residual or its slope is large."""
        share = 0.5 if self.cycle is None else 0.5 * (1 + math.cos(math.pi * (step % self.cycle) / self.cycle))
        free = anywhere(batch, operator, slab, round(share * self.num_points), generator)
        if (rest := self.num_points - len(free)) == 0:
            return free
        pool = anywhere(batch, operator, slab, _POOL * self.num_points, generator)

        def square(points: Points) -> Tensor:
            asked = operator.ask(batch, points, slab=slab, start=start, **problem.asked(batch))
            return torch.cat(problem.left(batch, operator.answer(asked), asked)).square().sum(0)

        slope = self.points == "gradient"
        size = slope_of(square, pool, batch.grid, operator.lasts(slab)) if slope else square(pool)
        size = size.double().cpu()
        if not bool(size.isfinite().all()) or not bool(size.sum() > 0):
            size = torch.ones_like(size)  # training is stopped by its loss where it is no number
        chosen = torch.multinomial(size + _ANYHOW * size.mean(), rest, generator=generator).to(pool.places.device)
        times = None if pool.times is None else torch.cat([cast(Tensor, free.times), pool.times[chosen]])
        return Points(torch.cat([free.places, pool.places[chosen]]), times)

    def _spread(self, count: int, batch: Batch) -> Tensor:
        """Return all of so many places or, of more than there are points of the equation, so many of them."""
        return few(torch.arange(count), self.num_points, self.seed).to(batch.inputs.device)

    def _edge(
        self, grid: Grid, axis: int, end: int, batch: Batch, operator: Coordinate, slab: int
    ) -> tuple[Tensor, Tensor | None]:
        return along_edge(grid, axis, end, batch, operator, slab, most=self.num_points, seed=self.seed)
