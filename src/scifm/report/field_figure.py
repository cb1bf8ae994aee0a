"""Fields side by side: what was asked, what is true, what each model answered, and where it errs.

The one figure that matplotlib draws, since it is made of color maps.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from scifm.report.examples import Examples
from scifm.report.study_view import KIND_NAMES
from scifm.wording import number_text

__all__ = ["field_svg", "fields_side_by_side", "sample_error"]

_INK, _GRID = "#1b1d21", "#d3d7dd"
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": _INK,
    "axes.facecolor": "none",
    "axes.labelcolor": _INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.titlecolor": _INK,
    "axes.titlesize": 9.5,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 9.0,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "lines.linewidth": 1.8,
    "savefig.bbox": None,
    "savefig.facecolor": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "scifm",
    "text.color": _INK,
    "text.parse_math": False,  # names come from users: a $ is a dollar sign
    "text.usetex": False,
    "xtick.color": _INK,
    "xtick.labelsize": 9.0,
    "ytick.color": _INK,
    "ytick.labelsize": 9.0,
}

_THEME = (
    "<style>svg{--ink:#1b1d21;--grid:#d3d7dd}"
    "@media screen and (prefers-color-scheme:dark){svg{--ink:#e4e6ea;--grid:#3b4048}}</style>"
)

_KINDS = ("zero_shot", "few_shot", "from_scratch")
_WIDTH, _GAP, _BAR, _TICKS = 1.5, 0.13, 0.09, 0.56  # inches
_MOST_LINES = 12
_NATIVE_POINTS = 200  # finer grids are resampled to the figure's resolution to keep the page small


@dataclass(frozen=True)
class _Sheet:
    """Where panels stand, in inches, so that every panel has the true shape of the domain."""

    figure: Figure
    width: float
    height: float
    panel: tuple[float, float]
    foot: float

    def column(self, index: int) -> float:
        """Left edge of column 0 (forcing), then 1 to 4 behind the forcing's color bar."""
        left = 0.55
        if index == 0:
            return left
        return left + self.panel[0] + 0.06 + _BAR + _TICKS + (index - 1) * (self.panel[0] + _GAP)

    def row(self, index: int) -> float:
        return self.foot + (1 - index) * (self.panel[1] + 0.42)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def field(self, row: int, column: int) -> Axes:
        return self.axes(self.column(column), self.row(row), *self.panel)

    def bar(self, row: int, column: int, image: AxesImage) -> None:
        """Draw the color bar right of a panel."""
        target = self.axes(self.column(column) + self.panel[0] + 0.06, self.row(row), _BAR, self.panel[1])
        bar = self.figure.colorbar(image, cax=target)
        if bar.solids is not None:
            bar.solids.set_rasterized(True)  # hundreds of slivers otherwise
        bar.outline.set_linewidth(0.6)
        bar.locator = MaxNLocator(5 if self.panel[1] > 1 else 3)
        bar.formatter = FuncFormatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
        bar.update_ticks()
        target.tick_params(labelsize=8, length=2.5, pad=2)


def _sheet(extent: tuple[float, float]) -> _Sheet:
    tallest = 3 * _WIDTH
    height = min(_WIDTH * extent[0] / extent[1], tallest)
    panel = (height * extent[1] / extent[0], height)
    foot = max(0.42, 1.95 - height)  # a flat domain still leaves room for the label in the corner
    whole = (0.55 + 5 * panel[0] + 3 * _GAP + 2 * (0.06 + _BAR + _TICKS), foot + 2 * height + 2 * 0.42)
    return _Sheet(Figure(figsize=whole), *whole, panel, foot)


def _show(axes: Axes, field: NDArray[np.floating], extent: tuple[float, float], **scale: object) -> AxesImage:
    interpolation = "none" if max(field.shape) <= _NATIVE_POINTS else "auto"
    image = axes.imshow(
        field,
        origin="lower",
        extent=(0.0, extent[1], 0.0, extent[0]),
        interpolation=interpolation,
        aspect="auto",  # the panel already has the shape of the domain
        **scale,  # type: ignore[arg-type]
    )
    axes.set_facecolor(_GRID)  # shows where a value is not finite
    axes.set_xticks([0, extent[1] / 2, extent[1]], ["", "", ""])
    axes.set_yticks([0, extent[0] / 2, extent[0]], ["", "", ""])  # the outer panels get their numbers later
    axes.tick_params(length=2.5, width=0.6)
    axes.spines[:].set_linewidth(0.6)
    return image


def _label_sides(axes: Axes, extent: tuple[float, float], *, x: bool, y: bool) -> None:
    if x:
        axes.set_xticks([0, extent[1] / 2, extent[1]], [f"{v:.3g}" for v in (0, extent[1] / 2, extent[1])], size=8)
        axes.set_xlabel("x", labelpad=0)
    if y:
        axes.set_yticks([0, extent[0] / 2, extent[0]], [f"{v:.3g}" for v in (0, extent[0] / 2, extent[0])], size=8)
        axes.set_ylabel("y", labelpad=3)


def sample_error(examples: Examples, kind: str, index: int) -> float | None:
    """Return the relative L2 error of one example: the stored one, else ‖prediction − truth‖₂ / ‖truth‖₂.

    None if the model's prediction was not stored either; NaN where truth is zero.
    """
    if kind in examples.sample_errors:
        return float(examples.sample_errors[kind][index])
    if kind not in examples.predictions:
        return None
    truth = examples.truth[index].astype(np.float64)
    size = float(np.linalg.norm(truth))
    return float(np.linalg.norm(examples.predictions[kind][index] - truth)) / size if size else float("nan")


def _limits(fields: list[NDArray[np.floating]]) -> tuple[float, float]:
    """Return the range of all finite values, widened where it has no width."""
    finite = np.concatenate([field[np.isfinite(field)].ravel() for field in fields])
    if finite.size == 0:
        return -1.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _write_absence(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", style="italic")


def _coefficient_lines(examples: Examples, index: int) -> list[str]:
    if examples.coefficients is None:
        return []
    values = np.atleast_1d(examples.coefficients[index])
    names = examples.coefficient_names or tuple(f"coefficient {i + 1}" for i in range(len(values)))
    lines = [f"{name[:24]} = {value:.3g}".replace("-", "−") for name, value in zip(names, values, strict=False)]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _write_label(sheet: _Sheet, examples: Examples, index: int) -> None:
    """Write which example this is and its coefficients in the free corner under forcing and truth."""
    height = sheet.row(0) - 0.6  # below the numbers of the upper panels
    corner = sheet.axes(0.2, 0.12, sheet.column(2) - 0.65, height)
    corner.set_axis_off()
    corner.text(0, 1, f"example {index + 1}", va="top", weight="bold", size=10)
    lines = _coefficient_lines(examples, index)
    half = _MOST_LINES // 2
    for column in range(0, len(lines), half):
        text = "\n".join(lines[column : column + half])
        corner.text(0.55 * column / half, 1 - 0.26 / height, text, va="top", size=9, linespacing=1.4)
    corner.text(0, 0, "right: prediction − truth", va="bottom", style="italic", size=8.5)


def fields_side_by_side(examples: Examples, index: int) -> Figure:
    """Return one example: forcing, truth and predictions above, prediction − truth below.

    Truth and all predictions share one color scale, all errors another one symmetric about zero; the forcing has its
    own. Values that are not finite are gray.

    Args:
        examples: fields of shape (example, y, x).
        index: which example.

    Raises:
        ValueError: if there is no such example.
    """
    if not 0 <= index < examples.num_examples:
        raise ValueError(f"There is no example {index}; there are {examples.num_examples}.")
    extent, sheet = examples.extent, _sheet(examples.extent)
    truth, forcing = examples.truth[index], examples.forcing[index]
    answers = {kind: examples.predictions[kind][index] for kind in _KINDS if kind in examples.predictions}
    low, high = _limits([truth, *answers.values()])
    errors = {kind: answer - truth for kind, answer in answers.items()}
    reach = max(map(abs, _limits(list(errors.values())))) if errors else 1.0

    first = sheet.field(0, 0)
    first.set_title("forcing", pad=5)
    image = _show(first, forcing, extent, cmap="cividis")
    _label_sides(first, extent, x=True, y=True)
    sheet.bar(0, 0, image)
    second = sheet.field(0, 1)
    second.set_title("truth", pad=5)
    shared = _show(second, truth, extent, cmap="viridis", vmin=low, vmax=high)
    _label_sides(second, extent, x=True, y=False)
    difference = None
    for column, kind in enumerate(_KINDS, start=2):
        above, below = sheet.field(0, column), sheet.field(1, column)
        above.set_title(examples.labels.get(kind, KIND_NAMES[kind]), pad=5)
        if kind not in answers:
            _write_absence(above)
            _write_absence(below)
            continue
        _show(above, answers[kind], extent, cmap="viridis", vmin=low, vmax=high)
        below.set_title(f"rel. L2 error {number_text(sample_error(examples, kind, index))}", pad=5, size=9)
        difference = _show(below, errors[kind], extent, cmap="RdBu_r", vmin=-reach, vmax=reach)
        _label_sides(below, extent, x=True, y=column == 2)
    sheet.bar(0, 4, shared)
    if difference is not None:
        sheet.bar(1, 4, difference)
    _write_label(sheet, examples, index)
    return sheet.figure


def field_svg(examples: Examples, index: int) -> bytes:
    """Return `fields_side_by_side` as SVG whose ink and grid follow the reader's color scheme.

    Equal fields give equal bytes. Settings of matplotlib hold only while it is drawn.
    """
    target = io.StringIO()
    with mpl.rc_context(_STYLE):  # its hash salt: identifiers that do not change from one time to the next
        fields_side_by_side(examples, index).savefig(
            target, format="svg", dpi=130, metadata={"Date": None, "Creator": None}
        )
    text = target.getvalue()
    for name, color in (("ink", _INK), ("grid", _GRID)):
        text = text.replace(f": {color}", f": var(--{name}, {color})")
    start = text.index(">", text.index("<svg")) + 1
    return (text[:start] + _THEME + text[start:]).encode()
