"""What holds at the ends of axes that do not wrap around, said to an objective: values, slopes, or nothing.

In a recipe, for each axis its low end and its high end, or one for both::

    walls = { x = [{ value = 0.0 }, { slope = 0.0 }] }
    walls = { x = { value = { velocity = 0.0, height = "free" } }, y = "free" }

A slope is the derivative along the axis, ∂u/∂x, not along the normal that points outwards. Units are physical ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from scifm.config import Config, build_inside
from scifm.errors import ConfigError, suggest
from scifm.fields.grid import Grid

__all__ = ["Condition", "Wall", "Walls", "conditions_at", "require_kept", "require_walls"]

_ENDS = ("low", "high")
_SAME = 1e-5  # of the largest value, by which values in single precision differ
Number = Annotated[float, Field(allow_inf_nan=False)]


class Wall(Config):
    """What holds at one end of an axis; both may hold of an output whose equation has that many derivatives.

    Args:
        value: a number for all outputs; or one each, by name, and ``free`` for those of which nothing holds.
        slope: the same of the first derivative along the axis.
    """

    value: Number | dict[str, Number | Literal["free"]] | None = None
    slope: Number | dict[str, Number | Literal["free"]] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.value is None and self.slope is None:
            raise ValueError("a wall says a value or a slope; or write 'free' where nothing has to hold")
        return self


def _ends(given: Any) -> Any:
    """Return what was said of an axis as its low and its high end."""
    pair = tuple(given) if isinstance(given, list | tuple) else (given, given)
    if len(pair) != 2:
        raise ValueError(f"an axis has a low end and a high end; got {len(pair)} of them")
    for end in pair:
        if end != "free" and not isinstance(end, Wall | Mapping):
            raise ValueError(f"an end is a table with a value or a slope, or 'free'; got {end!r}")
    return tuple(build_inside(Wall, end) if isinstance(end, Mapping) else end for end in pair)


Ends = Annotated[tuple[Wall | Literal["free"], Wall | Literal["free"]], BeforeValidator(_ends)]
Walls = dict[Literal["x", "y", "z"], Ends]
"""By axis what holds at its low end and at its high end."""


@dataclass(frozen=True)
class Condition:
    """What one output has to be at an end of an axis.

    Args:
        output: its name.
        slope: whether it is of the derivative along the axis.
        number: what it has to be.
    """

    output: str
    slope: bool
    number: float


def require_walls(walls: Walls | None, grid: Grid) -> None:
    """Check that it is said what holds at the ends of all axes that do not wrap around, and of no others.

    Raises:
        ConfigError: if it is not.
    """
    said, ends = walls or {}, dict(zip(grid.axis_names, grid.boundary, strict=True))
    for axis, boundary in ends.items():
        if boundary != "periodic" and axis not in said:
            raise ConfigError(
                f"The axis {axis} does not wrap around (its boundary is '{boundary}'), and the objective is not told "
                "what holds at its ends, without which an equation has many solutions: say it in training.objective, "
                f"as in walls = {{ {axis} = [{{ value = 0.0 }}, {{ slope = 0.0 }}] }}, with 'free' for an end where "
                "nothing has to hold."
            )
    for axis in said:
        if axis not in ends:
            raise ConfigError(f"walls of the objective: axis {suggest(axis, grid.axis_names)}")
        if ends[axis] == "periodic":
            raise ConfigError(
                f"walls of the objective say what holds at the ends of {axis}, which wraps around and has none: leave "
                "it out, or take a grid with walls there (data.boundary)."
            )


def conditions_at(
    walls: Walls | None, grid: Grid, outputs: tuple[str, ...]
) -> Iterator[tuple[int, int, tuple[Condition, ...]]]:
    """Yield of each end that something is said of its axis, in the order of the grid, 0 or −1, and what has to hold.

    Of an end that is free nothing has to.

    Raises:
        ConfigError: if something is said of what is no output, or nothing of one at an end that is not free.
    """
    for letter, pair in (walls or {}).items():
        for name, place, end in zip(_ENDS, (0, -1), pair, strict=True):
            told = f"walls.{letter} of the objective, {name} end"
            yield grid.axis_names.index(letter), place, () if end == "free" else tuple(_of_end(end, outputs, told))


def _of_end(wall: Wall, outputs: tuple[str, ...], told: str) -> Iterator[Condition]:
    spoken = set[str]()
    for slope, said in ((False, wall.value), (True, wall.slope)):
        numbers = {} if said is None else said if isinstance(said, dict) else dict.fromkeys(outputs, said)
        for name, number in numbers.items():
            if name not in outputs:
                raise ConfigError(f"{told}: output {suggest(name, outputs)}")
            spoken.add(name)
            if number != "free":
                yield Condition(name, slope, float(number))
    if silent := [name for name in outputs if name not in spoken]:
        raise ConfigError(
            f"{told}: nothing is said of the output '{silent[0]}'; give it a value or a slope, or 'free' if nothing "
            "has to hold of it."
        )


def require_kept(
    conditions: Sequence[Condition], outputs: tuple[str, ...], start: Tensor, axis: int, end: int, letter: str
) -> None:
    """Check that what a network keeps at an end of an axis is what has to hold there.

    Args:
        conditions: what has to hold there.
        outputs: names of what is kept.
        start: what they are kept at, ``(output, *space)``.
        axis: in the order of the grid.
        end: 0 or −1.
        letter: of the axis.

    Raises:
        ConfigError: if another value has to hold there, or none of an output.
    """
    values, where = {one.output: one.number for one in conditions if not one.slope}, f"the {_ENDS[end]} end of {letter}"
    for name, field in zip(outputs, start, strict=True):
        own = field.select(axis, end)
        if name not in values:
            raise ConfigError(
                f"The network keeps '{name}' at {where} what it is in the input frame (kept), and walls of the "
                "objective say no value of it there: give the value, or leave the end out of model.network.kept."
            )
        off, size = float((own - values[name]).abs().max()), max(float(field.abs().max()), abs(values[name]))
        if off > _SAME * size:
            raise ConfigError(
                f"The network keeps '{name}' at {where} what it is in the input frame (kept), which is {off:.3g} off "
                f"the {values[name]:g} that walls of the objective say: give the value that stands there, or leave the "
                "end out of model.network.kept."
            )
