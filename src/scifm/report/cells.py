"""A table of numbers as shades, with the numbers in it: how `Cells` of a panel are drawn as SVG."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from scifm.findings.figure import Cells, Panel
from scifm.report.svg import Frame, element, text_width

__all__ = ["DEEPEST", "cell_text", "draw_cells", "shade"]

DEEPEST = 0.6
"""Opacity of the full shade: the ink of a number stays readable on it, on light paper and on dark."""

_GAP = 2.0  # between cells


def shade(value: float, cells: Cells) -> float:
    """Return the opacity of a cell."""
    share = (value - cells.low) / (cells.high - cells.low) if cells.high > cells.low else 0.0
    return DEEPEST * min(1.0, max(0.0, share))


def cell_text(value: float) -> str:
    """Return a number as it stands in its cell: two digits behind the point, none of them of a negative zero."""
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def draw_cells(panel: Panel, frame: Frame) -> Iterator[Markup]:
    """Yield the cells of a panel, row by row; numbers are left out where cells are too narrow for them."""
    cells = panel.cells
    if cells is None:
        return
    wide, high = abs(frame.x(1.0) - frame.x(0.0)) - _GAP, abs(frame.y(1.0) - frame.y(0.0)) - _GAP
    for row, values in enumerate(cells.values):
        for column, value in enumerate(values):
            if value is None:
                continue
            x, y, text = frame.x(float(column)), frame.y(float(row)), cell_text(value)
            place = {"x": x - wide / 2, "y": y - high / 2, "width": wide, "height": high}
            drawn = [element("rect", **place, class_="blank")]  # over lines of the grid
            drawn += [element("rect", **place, class_="cell", fill_opacity=f"{shade(value, cells):.3f}")]
            drawn += [element("text", text, x=x, y=y + 4, class_="tick mid")] if text_width(text) <= wide else []
            told = [element("title", cells.told[row][column])] if cells.told else []
            hit = [element("rect", **place, class_="hit")] if told else []
            yield element("g", *told, *drawn, *hit, class_="point tone-0" if told else "tone-0")
