"""Maps side by side as they stand on a page: pictures with sides, places and a bar of colors for each kind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scifm.findings.account import MapOf, Maps
from scifm.report.fields import color_bar, limits_of, picture, sides
from scifm.report.plates import COLORS, Picture, Plate
from scifm.report.svg import MARKS, element, join, mark, svg, text_width, wrapped

__all__ = ["plate_drawing", "plate_of"]

_LEFT, _TOP, _GAP, _BELOW, _BAR_AND_TICKS, _WIDEST, _TALLEST = 44.0, 24.0, 14.0, 46.0, 72.0, 230.0, 420.0
_ROOM = 860.0  # for all maps of a row
_NOTE = 15.0


def plate_of(maps: Maps, arrays: Mapping[str, NDArray[np.floating]]) -> Plate:
    """Return maps with their fields; those of one kind share one scale."""
    shown = [one for row in maps.rows for one in row if one is not None]
    shared = {kind: _shared([one for one in shown if one.kind == kind], arrays) for kind in {one.kind for one in shown}}

    def made(one: MapOf | None) -> Picture | None:
        if one is None:
            return None
        low, high = shared[one.kind]
        limits = (low if one.low is None else one.low, high if one.high is None else one.high)
        return Picture(one.title, one.kind, arrays[one.array].astype(np.float64), limits, one.note)

    rows = tuple(tuple(map(made, row)) for row in maps.rows)
    places = tuple((own.label, own.x, own.y) for own in maps.places)
    return Plate(maps.caption, rows, maps.extent, places=places)


def _shared(shown: list[MapOf], arrays: Mapping[str, NDArray[np.floating]]) -> tuple[float, float]:
    """Return the range of colors of maps of one kind that do not say their own."""
    open_ended = [arrays[one.array] for one in shown if one.low is None or one.high is None]
    low, high = limits_of(open_ended)
    if shown[0].kind != "error":
        return low, high
    reach = max(abs(low), abs(high))
    return -reach, reach


def plate_drawing(plate: Plate, label: str) -> Markup:
    """Return the maps of a plate as a drawing; `label` is what is heard.

    Each map has the shape of the plane. To the right of each row stands a bar of colors for every scale in it, and
    beneath all what the marks are.
    """
    columns = len(plate.rows[0])
    wide = min(_WIDEST, (_ROOM - _LEFT) / columns - _GAP, _TALLEST * plate.extent[1] / plate.extent[0])
    high = wide * plate.extent[0] / plate.extent[1]
    noted = any(one is not None and one.note for row in plate.rows for one in row)
    top = _TOP + (_NOTE if noted else 0.0)
    parts, width = list[Markup](), 0.0
    for i, row in enumerate(plate.rows):
        y = top + i * (high + _BELOW + top - 8)
        for j, one in enumerate(row):
            if one is not None:
                parts.append(_one(one, plate, _LEFT + j * (wide + _GAP), y, wide, high, left=j == 0))
        x = _LEFT + columns * (wide + _GAP) - _GAP + 8
        for kind, limits in dict.fromkeys((one.kind, one.limits) for one in row if one is not None):
            parts.append(color_bar(limits, COLORS[kind], x, y, high))
            x += _BAR_AND_TICKS
        width = max(width, x)
    bottom = top + len(plate.rows) * (high + _BELOW + top - 8) - top + 8
    if plate.places:
        parts.append(_key(plate, bottom + 10))
        bottom += 26
    # a few maps stay as small as they are, many shrink no further than to this
    return element("div", svg(width, bottom, label, *parts), style=f"--least: {min(width, 860):.0f}px")


def _one(one: Picture, plate: Plate, x: float, y: float, wide: float, high: float, *, left: bool) -> Markup:
    """Return one map with its title, its sides and what is marked on it."""
    title = wrapped(one.title, wide + 10, lines=1)[0]
    lines = [element("text", title, x=x + wide / 2, y=y - (22 if one.note else 7), class_="name mid")]
    if one.note:
        lines.append(element("text", one.note, x=x + wide / 2, y=y - 7, class_="tick mid"))
    shown = picture(one.values, one.limits, COLORS[one.kind], x, y, wide, high)
    marks = [
        element("g", mark(MARKS[k % len(MARKS)], x + u / plate.extent[1] * wide, y + (1 - v / plate.extent[0]) * high),
                class_="place")
        for k, (_, along, up) in enumerate(plate.places)
        for u, v in zip(along, up, strict=True)
    ]  # fmt: skip
    return join([*lines, shown, *marks, sides(plate.extent, x, y, wide, high, left=left)])


def _key(plate: Plate, y: float) -> Markup:
    """Return what the marks on the maps are, in one line."""
    parts, x = list[Markup](), _LEFT
    for k, (label, _, _) in enumerate(plate.places):
        parts.append(element("g", mark(MARKS[k % len(MARKS)], x + 5, y - 4), class_="place"))
        parts.append(element("text", label, x=x + 15, y=y, class_="name"))
        x += 36 + text_width(label)
    return join(parts)
