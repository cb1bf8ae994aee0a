"""`DataMapping`: which array of a file is which field, and which axis is what.

In TOML::

    format = "arrays"
    boundary = { x = "periodic", y = "wall" }
    extent = { x = 1.0, y = 1.0 }
    time = { start = 0.0, interval = 0.1 }      # or the name of an array; leave out for steady problems

    [fields.concentration]
    array = "u"
    axes = ["trajectory", "time", "y", "x"]     # in array order
    role = "state"                              # state | input | output

    [coefficients]
    diffusivity = "D"                           # one number a trajectory; or a number for all of them

Beside ``boundary`` may stand what becomes of missing points, ``gaps = "mask"``, and in the table of a field what
becomes of its own; see `GapRule`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from scifm.config import Config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Signature
from scifm.fields.grid import Boundary

__all__ = ["AXES", "CoefficientMapping", "DataMapping", "FieldMapping", "GapRule", "TimeAxis"]

SPACE = ("z", "y", "x")
AXES = ("trajectory", "time", *SPACE, "channel", "-")


class GapRule(Config):
    """What becomes of points without a number: NaN, or what a file masks, declares to be none or never wrote.

    In TOML and Python a word, or a table that says with what they are filled::

        gaps = "mask"
        gaps = { fill = 0.0 }
        gaps = { fill = "interpolate" }

    Args:
        rule: ``refuse`` them, with their place; ``exclude`` the trajectories that have some; ``mask`` them: such points
            count nowhere, in no loss, score or statistic; or ``fill`` them.
        fill: a number, or ``interpolate``: every frame smoothly from its neighbours in space.
    """

    rule: Literal["refuse", "exclude", "mask", "fill"] = "refuse"
    fill: float | Literal["interpolate"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, str):
            return {"rule": value}
        return {"rule": "fill", **value} if isinstance(value, Mapping) and "fill" in value else value

    @model_validator(mode="after")
    def _filled_with(self) -> GapRule:
        if (self.rule == "fill") != (self.fill is not None):
            raise ValueError('gaps are "refuse", "exclude", "mask", { fill = 0.0 } or { fill = "interpolate" }')
        if isinstance(self.fill, float) and not math.isfinite(self.fill):
            raise ValueError("what gaps are filled with must be a finite number")
        return self

    @model_serializer
    def _as_given(self) -> str | dict[str, float | str]:
        return self.rule if self.fill is None else {"fill": self.fill}

    @property
    def told(self) -> str:
        """What becomes of them, the end of a sentence."""
        fill = "interpolated from their neighbours" if self.fill == "interpolate" else f"filled with {self.fill}"
        return {"refuse": "refused", "exclude": "left out with their trajectory", "fill": fill}.get(
            self.rule, "marked: they count in no loss, score or statistic"
        )


class FieldMapping(Config):
    """One field.

    Args:
        array: name of the array that holds it.
        axes: what each axis of the array is, in array order: ``trajectory``, ``time``, ``x``, ``y``, ``z``,
            ``channel``, or ``-`` for an axis of length 1 that means nothing. Without x, y, z it is a series at a place.
        role: ``state`` evolves and is input and output; ``input`` is given; ``output`` is asked for.
        channel: position on the channel axis, if there is one.
        gaps: what becomes of its missing points; what the mapping says of all fields when left out.
    """

    array: str
    axes: tuple[str, ...]
    role: Literal["state", "input", "output"] = "state"
    channel: int | None = Field(None, ge=0)
    gaps: GapRule | None = None

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [axis for axis in value if axis not in AXES]
        named = [axis for axis in value if axis != "-"]
        if unknown or len(set(named)) != len(named):
            raise ValueError(f"every axis is one of {', '.join(AXES)}, each but '-' at most once")
        if not set(named) & {*SPACE, "time"}:
            raise ValueError("a field needs at least one of the axes x, y, z, or, where it is a series, time")
        return value

    @model_validator(mode="after")
    def _channel_and_axis(self) -> FieldMapping:
        if ("channel" in self.axes) != (self.channel is not None):
            raise ValueError("give channel (a position) exactly where axes hold 'channel'")
        return self

    @property
    def space(self) -> tuple[str, ...]:
        """Its axes of space, in the house's order: x last."""
        return tuple(axis for axis in SPACE if axis in self.axes)


class CoefficientMapping(Config):
    """One coefficient: an array, or one number for all trajectories.

    Args:
        array: name of an array with one number a trajectory, or of an attribute of the file.
        channel: column, of an array with several numbers a trajectory.
        value: the number itself.
    """

    array: str | None = None
    channel: int | None = Field(None, ge=0)
    value: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, str):
            return {"array": value}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {"value": value}
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> CoefficientMapping:
        if (self.array is None) == (self.value is None):
            raise ValueError("give either the name of an array or attribute, or a number")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError("the number must be finite")
        return self


class TimeAxis(Config):
    """Times of equally spaced frames.

    Args:
        start: of the first frame.
        interval: from one frame to the next.
    """

    start: float = 0.0
    interval: float = Field(1.0, gt=0, allow_inf_nan=False)


class DataMapping(Config):
    """How a foreign file becomes a store.

    Args:
        format: key in ``scifm.data.formats.FORMATS``.
        fields: by the name they shall have.
        coefficients: by the name they shall have.
        time: name of the array of times, or equally spaced times; absent for steady problems.
        extent: length of each axis of space; with walls from the first point to the last, periodic one spacing more.
        boundary: what stands at the ends of each axis of space: periodic, wall, open, or bounded where nobody knows.
            Formerly ``periodic``, true or false, which is still read.
        repeated_end: axes whose last point repeats the first; it is left out.
        every: keep every n-th frame.
        gaps: what becomes of missing points of the fields that do not say it themselves; refused when left out.
        dtype: precision of the numbers in the store.
        splits: share of the trajectories by split, for files that are not split already.
        seed: of the order in which trajectories are dealt out to splits.
        system: name of a system here whose data these are, such as ``poisson``: names must be those of the system and
            the first samples solve its equation, which is checked. Its exact scalings then serve the normalization.
        equation: the equation for the card, if it is known; that of the system when left out.
        known_defects: what a user must know before trusting the data, for the card.
    """

    format: str
    fields: dict[str, FieldMapping] = Field(min_length=1)
    coefficients: dict[str, CoefficientMapping] = Field(default_factory=dict)
    time: str | TimeAxis | None = None
    extent: dict[str, float] = Field(default_factory=dict)
    boundary: dict[str, Boundary] = Field(default_factory=dict)
    repeated_end: tuple[str, ...] = ()
    every: int = Field(1, ge=1)
    gaps: GapRule | None = None
    dtype: Literal["float32", "float64"] = "float32"
    splits: dict[str, float] = Field(default_factory=lambda: {"train": 0.8, "valid": 0.1, "test": 0.1})
    seed: int = 0
    system: str | None = None
    equation: str = ""
    known_defects: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, entries: Any) -> Any:
        if not isinstance(entries, Mapping) or not isinstance(entries.get("periodic"), Mapping):
            return entries
        if "boundary" in entries:
            raise ValueError("periodic was the name of boundary once: give boundary alone")
        boundary = {axis: "periodic" if wraps else "bounded" for axis, wraps in entries["periodic"].items()}
        return {**{name: entry for name, entry in entries.items() if name != "periodic"}, "boundary": boundary}

    @model_validator(mode="after")
    def _adds_up(self) -> DataMapping:
        spaces = {name: entry.space for name, entry in self.fields.items()}
        if len(set(spaces.values())) != 1:
            raise ValueError(f"all fields need the same axes of space; they have {spaces}")
        for key in ("extent", "boundary"):
            given = getattr(self, key)
            if set(given) != set(self.space):
                raise ValueError(f"{key} must be given for exactly {', '.join(self.space)}; it is for {list(given)}")
        if not set(self.repeated_end) <= {axis for axis in self.space if self.boundary[axis] == "periodic"}:
            raise ValueError(f"repeated_end names axes that are periodic; got {list(self.repeated_end)}")
        self._check_times()
        if self.system is not None and self.masked:
            raise ValueError(
                f"system = '{self.system}' is believed where samples solve its equation, which cannot be seen where "
                f"points of {', '.join(self.masked)} are masked: leave out system, or fill or exclude them"
            )
        shares = self.splits
        known = set(shares) <= {"train", "valid", "test"} and shares.get("train", 0) > 0 and min(shares.values()) >= 0
        if not known or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise ValueError(f"splits are shares of train, valid and test that sum to 1, train not 0; got {shares}")
        return self

    def _check_times(self) -> None:
        states = [name for name, entry in self.fields.items() if entry.role == "state"]
        if states and self.time is None:
            raise ValueError(f"{', '.join(states)} evolve, so 'time' is needed: an array's name, or start and interval")
        if self.time is not None and not states:
            raise ValueError("'time' is for fields of role 'state'; there is none")
        for name, entry in self.fields.items():
            if entry.role != "state" and self.time is None and "time" in entry.axes:
                raise ValueError(f"'{name}' has a time axis in a steady problem; call the axis '-' if it has length 1")
            if entry.role == "input" and self.time is not None and "time" in entry.axes:
                raise ValueError(f"'{name}' has a time axis, and an input does not change in time; make it a state")
            if entry.role != "input" and self.time is not None and "time" not in entry.axes:
                raise ValueError(f"'{name}' evolves and has no time axis in {list(entry.axes)}")

    def gap_rule(self, name: str) -> GapRule:
        """Return what becomes of the missing points of a field."""
        return self.fields[name].gaps or self.gaps or GapRule()

    @property
    def masked(self) -> tuple[str, ...]:
        """Names of the fields of which points may be missing in samples."""
        return tuple(name for name in self.fields if self.gap_rule(name).rule == "mask")

    @property
    def space(self) -> tuple[str, ...]:
        """Axes of space, in the house's order: x last; none where fields are series."""
        return next(iter(self.fields.values())).space

    @property
    def signature(self) -> Signature:
        """The names of every batch.

        Raises:
            ConfigError: if the names do not make a signature: nothing given, or nothing asked for.
        """
        roles = {
            role: tuple(name for name, entry in self.fields.items() if entry.role in (role, "state"))
            for role in ("input", "output")
        }
        try:
            evolves = self.time is not None
            return Signature(roles["input"], tuple(self.coefficients), roles["output"], len(self.space) or 1, evolves)
        except SignatureError as error:
            raise ConfigError(f"The mapping does not tell what is given and what is asked for: {error}") from error
