"""Figures and tables for a paper: what a page shows, as PDF and SVG at column width, and every table as CSV and LaTeX.

What is drawn is the page's own `Figure`; here matplotlib draws it, in the page's colors, marks and ticks on white. PDF
holds its font; SVG holds text as outlines, so either stands alone.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.report.cells import cell_text, shade
from scifm.report.drawing import Looks, stack, written_numbers
from scifm.report.parts import Page, Table
from scifm.report.plates import draw_plate
from scifm.report.svg import MARKS, Scale, fitted_ticks, spaced, text_width, wrapped
from scifm.runs import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet
    from matplotlib.figure import SubFigure
    from matplotlib.lines import Line2D

__all__ = ["draw_sheet", "write_paper"]

_COLUMN, _PAGE = 3.4, 7.0  # inches: one column of a paper, both
_ROW, _LOWER, _SLOT = 2.1, 0.9, 0.2  # inches: a panel, one beneath it, a line of a category
_MOST_TICKS, _FEW_TICKS, _MOST_NOTED = 6, 3, 12
_FONT, _POINTS = 7.0, 72.0  # points; of an inch
_TONES = ("#0072b2", "#d55e00", "#007a5a", "#a8508a", "#a87400", "#626975")
_SHADES = ("#440154", "#414487", "#2a788e", "#22a884", "#54c568", "#7ad151")
_INK, _SOFT, _LINE = "#1b1d21", "#565c66", "#d3d7dd"
_SHAPES = dict(zip(MARKS, ("o", "s", "D", "^", "v", "P"), strict=True))
_STYLES = {"solid": "-", "dashed": "--", "dotted": ":", "faint": "-"}
_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure looks alike wherever it is made
    "font.size": _FONT,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "legend.frameon": False,
    "legend.fontsize": _FONT,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,  # TrueType inside, which journals ask for
    "svg.fonttype": "path",
    "svg.hashsalt": "scifm",  # the same figure, the same file
}
_IN_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "–": "--", "…": r"\dots{}"}
    | {raised: f"$^{digit}$" for raised, digit in zip("⁻⁰¹⁴⁵⁶⁷⁸⁹", "-01456789", strict=True)}
    | {"×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "²": "$^2$", "³": "$^3$", "ω": r"$\omega$"}
)


def write_paper(page: Page, folder: str | Path) -> list[Path]:
    """Write all figures and tables of a page, and ``captions.txt`` with what each shows.

    Args:
        page: what was rendered.
        folder: made if it is not there; files of the same names are replaced.

    Returns:
        The files, in the order of the page.

    Raises:
        RunError: if one cannot be written.
    """
    from matplotlib import rc_context

    settings: Any = _SETTINGS

    place, files, captions = Path(folder), list[Path](), list[str]()
    for name, figure in page.figures.items():
        with rc_context(settings):
            files += _drawn(place / name, draw_sheet(figure))
        captions.append(f"{name}: {figure.caption}")
    for name, plate in page.plates.items():
        with rc_context(settings):
            files += _drawn(place / name, draw_plate(plate))
        captions.append(f"{name}: {plate.caption}")
    for name, table in page.tables.items():
        files.append(_written(place / f"{name}.csv", _csv(table).encode()))
        files.append(_written(place / f"{name}.tex", _latex(table).encode()))
        captions.append(f"{name}: {table.caption}")
    if captions:
        files.append(_written(place / "captions.txt", ("\n\n".join(captions) + "\n").encode()))
    return files


def _drawn(place: Path, sheet: Sheet) -> list[Path]:
    files = []
    for form in ("pdf", "svg"):
        buffer = io.BytesIO()
        sheet.savefig(buffer, format=form, metadata={"CreationDate" if form == "pdf" else "Date": None})
        files.append(_written(place.with_name(f"{place.name}.{form}"), buffer.getvalue()))
    return files


def _written(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path


# --- figures ----------------------------------------------------------------------------------------------------------


def draw_sheet(figure: Figure) -> Sheet:
    """Draw a figure: one panel in the width of a column, several in that of a page; groups one below the other."""
    from matplotlib.figure import Figure as Sheet

    looks = Looks(figure)
    groups = [list(panels) for _, panels in groupby(figure.panels, key=lambda panel: panel.group)]
    if len(groups) == len(figure.panels) and not any(panel.y.categories for panel in figure.panels):
        groups = [[_headed(panel) for panel in figure.panels]]  # headings of one panel each are titles
    most = max(map(len, groups))
    columns = min(most, 3 if most > 4 or (most == 3 and figure.shared) else 2)
    columns = 1 if any(panel.y.categories for panel in figure.panels) else columns
    heights = [math.ceil(len(panels) / columns) * _height(panels[0]) for panels in groups]
    handles = _handles(looks)
    width = _COLUMN if len(figure.panels) == 1 and not figure.panels[0].y.categories else _PAGE
    wide = max((text_width(str(handle.get_label()), _FONT) / _POINTS + 0.45 for handle in handles), default=1.0)
    across = max(1, min(len(handles), int(width / wide)))
    sheet = Sheet(figsize=(width, sum(heights) + 0.16 * math.ceil(len(handles) / across) + 0.1), layout="constrained")
    if handles:
        sheet.legend(handles=handles, loc="outside upper left", ncols=across)
    parts = np.atleast_1d(np.asarray(sheet.subfigures(len(groups), 1, height_ratios=heights)))
    for part, panels in zip(parts, groups, strict=True):
        _draw_group(part, looks, panels, columns, width)
    return sheet


def _headed(panel: Panel) -> Panel:
    return panel.model_copy(update={"group": "", "title": ": ".join(filter(None, (panel.group, panel.title)))})


def _height(panel: Panel) -> float:
    parts = stack(panel)
    return sum(
        0.5 + _SLOT * _lines(part) if part.y.categories else _LOWER if i else _ROW for i, part in enumerate(parts)
    )


def _lines(panel: Panel) -> int:
    """Return how many lines the categories of a panel take."""
    places = [round(y) for series in panel.series for y in series.y if y is not None]
    return sum(max(1, places.count(i)) for i in range(len(panel.y.categories)))


def _draw_group(part: SubFigure, looks: Looks, panels: Sequence[Panel], columns: int, width: float) -> None:
    if panels[0].group:
        part.suptitle(panels[0].group, fontsize=8, fontweight="bold", x=0.01, ha="left")
    stacks = [stack(panel) for panel in panels]
    deep, rows = len(stacks[0]), math.ceil(len(panels) / columns)
    ratios = [0.5 + _SLOT * _lines(p) if p.y.categories else _LOWER if i else _ROW for i, p in enumerate(stacks[0])]
    grid = part.add_gridspec(rows * deep, columns, height_ratios=ratios * rows)
    wide = _POINTS * (width / columns - 0.6)
    drawn: list[tuple[Panel, Axes, int]] = []
    for place, parts in enumerate(stacks):
        row, column = divmod(place, columns)
        for i, own in enumerate(parts):
            axes = part.add_subplot(grid[row * deep + i, column])
            _draw_panel(axes, looks, own, wide, named=i == deep - 1)
            if column and "y" in looks.figure.shared:
                axes.set_ylabel("")
            drawn.append((own, axes, _FEW_TICKS if i else _MOST_TICKS))
    for name in ("x", "y"):
        shared: dict[str, list[tuple[float, float]]] = {}
        for panel, axes, _ in drawn:
            shared.setdefault(getattr(panel, name).label, []).append(getattr(axes, f"get_{name}lim")())
        for panel, axes, most in drawn:
            axis = getattr(panel, name)
            if name in looks.figure.shared and not axis.categories:
                ends = shared[axis.label]
                getattr(axes, f"set_{name}lim")(min(low for low, _ in ends), max(high for _, high in ends))
            _tick(axes, name, axis, _MOST_TICKS if name == "x" else most, wide)


def _draw_panel(axes: Axes, looks: Looks, panel: Panel, wide: float, *, named: bool) -> None:
    axes.set_axisbelow(True)
    for name, axis in (("x", panel.x), ("y", panel.y)):
        getattr(axes, f"set_{name}scale")(axis.scale)
    _draw_cells(axes, panel)
    for rule in panel.rules:
        _draw_rule(axes, looks, rule)
    for series in reversed(panel.series):
        _draw_series(axes, looks, series, panel)
    for name, axis in (("x", panel.x), ("y", panel.y)):
        low, high = getattr(axes, f"get_{name}lim")()
        low, high = (axis.low if axis.low is not None else low), (axis.high if axis.high is not None else high)
        getattr(axes, f"set_{name}lim")(low, high)
    axes.set_ylabel(_raised(panel.y.label))
    axes.tick_params(labelbottom=named)
    if named:
        axes.set_xlabel("\n".join(_raised(line) for line in wrapped(panel.x.label, wide, size=_FONT)))
    title = "\n".join(_raised(line) for line in wrapped(panel.title, wide, size=_FONT + 1, lines=3))
    if title:
        axes.set_title(title + ("\n" if panel.notes else ""), loc="left")
    for note in panel.notes:
        color = {True: "#00694d", False: "#a63f00", None: _SOFT}[note.good]
        over = axes.get_xaxis_transform()
        axes.text(note.at, 1.02, note.text, transform=over, ha="center", va="bottom", fontsize=6, color=color)


def _draw_cells(axes: Axes, panel: Panel) -> None:
    cells = panel.cells
    if cells is None:
        return
    axes.grid(visible=False)
    for row, values in enumerate(cells.values):
        for column, value in enumerate(values):
            if value is not None:
                ends = [column - 0.48, column + 0.48], row - 0.46, row + 0.46
                axes.fill_between(*ends, color=_TONES[0], alpha=shade(value, cells), linewidth=0)
                axes.text(column, row, cell_text(value), ha="center", va="center", fontsize=6, color=_INK)


def _draw_rule(axes: Axes, looks: Looks, rule: Rule) -> None:
    if rule.at <= 0 and (axes.get_yscale() if rule.crosses == "y" else axes.get_xscale()) == "log":
        return
    across = axes.axhline if rule.crosses == "y" else axes.axvline
    across(rule.at, color=_color(looks.tone(rule)), linestyle=_STYLES[rule.line], linewidth=0.9, zorder=1.5)


def _draw_series(axes: Axes, looks: Looks, series: Series, panel: Panel) -> None:
    x, y = _numbers(series.x, panel.x), _numbers(series.y, panel.y)
    color, faint, sideways = _color(looks.tone(series)), series.line == "faint", bool(panel.y.categories)
    if series.low and series.high:
        measured = panel.x if sideways else panel.y
        low, high = _numbers(series.low, measured), _numbers(series.high, measured)
        if series.interval == "band" and series.joined and not sideways:
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        elif sideways:
            axes.hlines(y, low, high, color=color, linewidth=1.1, alpha=0.75)
        else:
            axes.vlines(x, low, high, color=color, linewidth=1.1, alpha=0.75)
    if series.bar is not None:
        foot = panel.y.low if panel.y.low is not None else 0.0
        axes.bar(x, y - foot, series.bar, bottom=foot, color=color, alpha=0.32, linewidth=0)
    for i, values in enumerate(series.singles):
        own = _numbers(values, panel.x if sideways else panel.y)
        here = np.full(len(own), y[i] if sideways else x[i])
        axes.plot(*((own, here) if sideways else (here, own)), ".", color=color, alpha=0.55, markersize=2)
    known = int(np.isfinite(x * y).sum())
    if series.joined:
        (line,) = axes.plot(x, y, color=color, alpha=0.35 if faint else 1.0)
        line.set(linestyle=_STYLES[series.line], linewidth=0.8 if series.variant or faint else 1.2)
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=_SHAPES[looks.shape(series)] if series.marked or known == 1 else "",
        color=color,
        markerfacecolor="white" if series.hollow else color,
        markeredgecolor=color if series.hollow else "white",
        markeredgewidth=0.8 if series.hollow else 0.4,
    )
    for i, note in enumerate(series.notes if len(series.notes) <= _MOST_NOTED else ()):
        if note and math.isfinite(x[i] * y[i]):
            axes.annotate(note, (x[i], y[i]), (4, -2), textcoords="offset points", fontsize=6, color=_SOFT)


def _numbers(values: Sequence[float | None], axis: Axis) -> np.ndarray:
    """Return values with NaN for those that have no place on an axis."""
    numbers = np.array([math.nan if value is None else value for value in values], dtype=float)
    numbers[~np.isfinite(numbers) | (numbers <= 0 if axis.scale == "log" else False)] = math.nan
    return numbers


def _tick(axes: Axes, name: str, axis: Axis, most: int, wide: float) -> None:
    low, high = getattr(axes, f"get_{name}lim")()
    if axis.categories:
        ticks, labels = [float(i) for i in range(len(axis.categories))], list(axis.categories)
        ends = (-0.6, len(axis.categories) - 0.4)
        getattr(axes, f"set_{name}lim")(*(ends if name == "x" else ends[::-1]))
    else:
        scale = Scale(low, high, 0.0, wide * 12 / _FONT, log=axis.scale == "log")  # as large as letters are there
        ticks = [tick for tick in axis.ticks if low <= tick <= high] or fitted_ticks(scale, most)
        ticks = spaced(ticks, scale, written_numbers(ticks, axis)) if name == "x" else ticks
        labels = [_raised(label) for label in written_numbers(ticks, axis)]
    getattr(axes, f"set_{name}ticks")(ticks, labels)
    getattr(axes, f"{name}axis").minorticks_off()
    if not axis.categories:
        getattr(axes, f"set_{name}lim")(low, high)


def _handles(looks: Looks) -> list[Line2D]:
    """Return the entries of the key: labels by color, then variants by mark."""
    from matplotlib.lines import Line2D

    by_shape, handles = looks.figure.variants_by == "shape", []
    for label in looks.labels:
        item = next(item for item in looks.items if item.label == label)
        color, marker, style = _color(looks.tone(item)), "", _STYLES[item.line]
        hollow, name = False, _raised(label)
        if isinstance(item, Series):
            marker = _SHAPES[looks.shape(item)] if item.marked and not (item.variant and by_shape) else ""
            style, hollow = style if item.joined else "none", item.hollow and by_shape
        face = "white" if hollow else color
        handle = Line2D([], [], color=color, marker=marker, label=name, markerfacecolor=face)
        handle.set(linestyle=style)
        handles.append(handle)
    for variant in looks.variants:
        own = next(item for item in looks.items if isinstance(item, Series) and item.variant == variant)
        shape, hollow = _SHAPES[looks.shape(own)] if by_shape else "o", own.hollow and not by_shape
        face = "white" if hollow else _INK
        handles.append(Line2D([], [], color=_INK, linestyle="none", marker=shape, label=variant, markerfacecolor=face))
    return handles


def _color(tone: str) -> str:
    kind, _, place = tone.partition("-")
    return _INK if place == "ink" else (_SHADES if kind == "shade" else _TONES)[int(place)]


def _raised(text: str) -> str:
    """Return a text for matplotlib: what follows a ``^`` is raised, dollars are dollars."""
    return re.sub(r"\^([−-]?[\d.]+)", r"$^{\1}$", text.replace("$", r"\$"))


# --- tables -----------------------------------------------------------------------------------------------------------


def _text(cell: Any) -> str:
    if cell.share is not None:
        return f"{cell.share:.3g} %"
    return f"{cell.text} {cell.small}".strip()


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(table.headers)
    writer.writerows([_text(cell) for cell in row] for row in table.rows)
    return buffer.getvalue()


def _latex(table: Table) -> str:
    """Return a table for the package booktabs: words to the left, numbers to the right."""
    align = "".join("l" if i == 0 or header in table.wordy else "r" for i, header in enumerate(table.headers))
    rows = [" & ".join(_escaped(_text(cell)) for cell in row) + r" \\" for row in table.rows]
    head = " & ".join(map(_escaped, table.headers)) + r" \\"
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return f"% {table.caption}\n" + "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    # powers of several signs are one: 10$^{-6}$
    signs = re.compile(r"(?:\$\^[-\d]\$){2,}")
    return signs.sub(lambda run: f"$^{{{re.sub('[$^]', '', run[0])}}}$", text.translate(_IN_LATEX))
