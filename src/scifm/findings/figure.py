"""`Figure`: what is to be drawn, as data. The report knows how; whoever finds something says only what.

A figure is panels, a panel is axes and series, a series is points. Numbers only: no colors, no sizes, no pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from scifm.findings.part import Number, Part

__all__ = ["Axis", "Cells", "Figure", "Note", "Panel", "Rule", "Series"]

Line = Literal["solid", "dashed", "dotted", "faint"]


class Axis(Part):
    """An axis of a panel.

    Args:
        label: what it measures, with its unit.
        scale: how values are placed along it.
        categories: names in place of numbers; a point's number is then a place in them, counted from 0, and intervals
            run along the other axis.
        form: how its numbers are written; counts as ``1,024`` or ``1.2 M``.
        ticks: places to mark, where those chosen by themselves would be worse.
        low: where it begins; None: just before the smallest value.
        high: where it ends; None: just after the largest.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    categories: tuple[str, ...] = ()
    form: Literal["number", "count"] = "number"
    ticks: tuple[float, ...] = ()
    low: Number = None
    high: Number = None


class Series(Part):
    """Points that belong together.

    Args:
        label: name in the key; series of one label, in several panels too, look alike.
        variant: a second name in the key: what differs between series of one label, see `Figure`.
        x: places; None leaves a gap.
        y: values; None leaves a gap.
        low: lower ends of intervals, as many as points or none.
        high: upper ends.
        singles: the values that each point sums up, as many as points or none.
        joined: whether a line joins the points.
        marked: whether each point has a mark.
        told: what is said of each point where it is pointed at, as many as points or none.
        notes: a few letters beside each point where there is room, as many as points or none.
        line: how the line that joins them looks; a faint one stays behind.
        interval: how intervals are drawn.
        hollow: whether marks are not filled.
        bar: width of a bar under each point, from the foot of the panel up to it, in units of the horizontal axis;
            None: no bars.
        place: place in the palette, so that one thing looks alike in several figures; None: the next free one.
    """

    label: str = ""
    variant: str = ""
    x: tuple[Number, ...]
    y: tuple[Number, ...]
    low: tuple[Number, ...] = ()
    high: tuple[Number, ...] = ()
    singles: tuple[tuple[Number, ...], ...] = ()
    joined: bool = True
    marked: bool = True
    told: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    line: Line = "solid"
    interval: Literal["band", "bar"] = "band"
    hollow: bool = False
    bar: float | None = Field(None, gt=0)
    place: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Series:
        for name in ("y", "low", "high", "singles", "told", "notes"):
            own = getattr(self, name)
            if len(own) != len(self.x) and (own or name == "y"):
                raise ValueError(f"{len(self.x)} points have as many {name}; these are {len(own)}")
        return self

    @classmethod
    def of(cls, points: Sequence[Mapping[str, Any]], **looks: Any) -> Series:
        """Return the series of points that each say their own `x`, `y`, `told` and so on, all the same entries."""
        names = points[0] if points else ("x", "y")
        return cls(**{name: tuple(point[name] for point in points) for name in names}, **looks)


class Rule(Part):
    """A line across a panel: a threshold, or where two things are equal.

    Args:
        at: its value on the axis it crosses.
        crosses: which axis that is.
        label: what it is, a name in the key; empty: a line in the color of the text.
        told: what is said of it where it is pointed at.
        line: how it looks; a dotted one is a landmark only.
        place: place in the palette, as that of `Series`.
    """

    at: float
    crosses: Literal["x", "y"] = "y"
    label: str = ""
    told: str = ""
    line: Line = "solid"
    place: int | None = Field(None, ge=0)


class Cells(Part):
    """A table of numbers between two axes of categories, each told by a shade and written into its cell.

    Args:
        values: row by row, one row a category of the vertical axis; None leaves a cell empty.
        told: what is said of each where it is pointed at, as many as values or none.
        low: the number that has no shade.
        high: the number that has the full one.
    """

    values: tuple[tuple[Number, ...], ...]
    told: tuple[tuple[str, ...], ...] = ()
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _a_table(self) -> Cells:
        widths = {len(row) for row in (*self.values, *self.told)}
        if len(widths) > 1 or (self.told and len(self.told) != len(self.values)):
            raise ValueError("the rows of a table, and of what is told of it, are alike in length")
        return self


class Note(Part):
    """A few letters above a panel.

    Args:
        at: place on the horizontal axis.
        text: what stands there.
        good: whether it is good news; None where it is neither.
    """

    at: float
    text: str
    good: bool | None = None


class Panel(Part):
    """One pair of axes.

    Args:
        x: the horizontal axis.
        y: the vertical axis.
        series: what is drawn.
        rules: lines across.
        cells: a table of numbers, where both axes have categories.
        title: stands above it; what follows a ``^`` is raised.
        notes: above it, each over a place of the horizontal axis.
        beneath: a lower panel on the same horizontal axis.
        group: heading under which it stands; panels of one group are drawn together.
    """

    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    rules: tuple[Rule, ...] = ()
    cells: Cells | None = None
    title: str = ""
    notes: tuple[Note, ...] = ()
    beneath: Panel | None = None
    group: str = ""


class Figure(Part):
    """Panels with one caption.

    Args:
        caption: what is shown and how to read it.
        panels: from left to right, row by row.
        shared: axes that have one range in all panels of a group, for each label of an axis.
        ordered: whether the labels of its series are steps of one quantity, to be told by shades.
        variants_by: how variants of a label are told apart: by the shape of their marks, or by filled and hollow ones.
    """

    caption: str
    panels: tuple[Panel, ...] = Field(min_length=1)
    columns: int = Field(0, ge=0)
    shared: tuple[Literal["x", "y"], ...] = ()
    ordered: bool = False
    variants_by: Literal["shape", "filling"] = "shape"
