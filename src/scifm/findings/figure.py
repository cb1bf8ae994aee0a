"""`Figure`: what is to be drawn, as data. The report knows how; whoever finds something says only what.

A figure is panels, a panel is axes and series, a series is points. Numbers only: no colors, no sizes, no pixels.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scifm.findings.part import Part

__all__ = ["Axis", "Figure", "Panel", "Rule", "Series"]


class Axis(Part):
    """An axis of a panel.

    Args:
        label: what it measures, with its unit.
        scale: how values are placed along it.
        categories: names in place of numbers; a point's number is then a place in them.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    categories: tuple[str, ...] = ()


class Series(Part):
    """Points that belong together.

    Args:
        label: name in the key; series of one label, in several panels too, look alike.
        x: places; None leaves a gap.
        y: values; None leaves a gap.
        low: lower ends of intervals, as many as points or none.
        high: upper ends.
        joined: whether a line joins the points.
        marked: whether each point has a mark.
        told: what is said of each point where it is pointed at, as many as points or none.
    """

    label: str = ""
    x: tuple[float | None, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    joined: bool = True
    marked: bool = True
    told: tuple[str, ...] = ()


class Rule(Part):
    """A line across a panel: a threshold, or where two things are equal.

    Args:
        at: its value on the axis it crosses.
        crosses: which axis that is.
        label: what it is.
    """

    at: float
    crosses: Literal["x", "y"] = "y"
    label: str = ""


class Panel(Part):
    """One pair of axes.

    Args:
        x: the horizontal axis.
        y: the vertical axis.
        series: what is drawn.
        rules: lines across.
        title: stands above it.
    """

    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    rules: tuple[Rule, ...] = ()
    title: str = ""


class Figure(Part):
    """Panels with one caption.

    Args:
        caption: what is shown and how to read it.
        panels: from left to right, row by row.
        columns: panels beside each other; 0: as many as fit.
        shared: axes that have one range in all panels.
    """

    caption: str
    panels: tuple[Panel, ...] = Field(min_length=1)
    columns: int = Field(0, ge=0)
    shared: tuple[Literal["x", "y"], ...] = ()
