"""Fields of a study side by side: what was asked, what is true, what each model answered, and where it errs.

They come from ``examples.npz``, read without unpickling and checked against itself. Colors come from matplotlib's maps;
everything else is drawn as the other figures are.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scifm.report.records import AGAIN, read_arrays, unreadable
from scifm.report.svg import Scale, element, fitted_ticks, join, svg, wrapped
from scifm.wording import KIND_NAMES, number_text, signed

__all__ = ["Examples", "color_bar", "field_drawing", "limits_of", "picture", "read_examples", "scales", "sides"]

Field = NDArray[np.floating]
Limits = tuple[float, float]

_KINDS = ("zero_shot", "few_shot", "from_scratch")
_WIDTH, _LEFT, _GAP, _BAR, _TICKS, _TOP = 146.0, 44.0, 12.0, 9.0, 48.0, 22.0
_BETWEEN, _CORNER = 46.0, 128.0  # between the rows, and what the corner takes at least
_MOST_LINES, _LINES = 12, 6
_MOST_POINTS = 200  # a side; what is finer is averaged, to keep the page small
_NOT_FINITE = (0.6, 0.6, 0.6, 1.0)


@dataclass(frozen=True)
class Examples:
    """Fields of shape (example, y, x) for looking at."""

    forcing: Field
    truth: Field
    predictions: Mapping[str, Field]
    """By kind: ``zero_shot``, ``few_shot``, ``from_scratch``; a kind that was not stored is absent."""
    labels: Mapping[str, str]
    sample_errors: Mapping[str, Field]
    """Relative L2 error of shape (example,) by kind."""
    coefficients: Field | None
    coefficient_names: tuple[str, ...]
    extent: tuple[float, float]
    """Side lengths (y, x)."""

    @property
    def num_examples(self) -> int:
        return len(self.truth)

    def label(self, kind: str) -> str:
        """Return what the prediction of a kind is called."""
        return self.labels.get(kind, KIND_NAMES[kind])

    def error(self, kind: str, index: int) -> float | None:
        """Return the relative L2 error of one example: the stored one, else ‖prediction − truth‖₂ / ‖truth‖₂.

        None if the model's prediction was not stored either; NaN where truth is zero.
        """
        if kind in self.sample_errors:
            return float(self.sample_errors[kind][index])
        if kind not in self.predictions:
            return None
        truth = self.truth[index].astype(np.float64)
        size = float(np.linalg.norm(truth))
        return float(np.linalg.norm(self.predictions[kind][index] - truth)) / size if size else math.nan


def read_examples(path: Path) -> Examples | None:
    """Return the example fields of a file, None where there is no file.

    Raises:
        RunError: if it cannot be read, or its arrays do not fit together.
    """
    arrays = read_arrays(path, ("forcing", "truth"))
    if arrays is None:
        return None
    shape = arrays["truth"].shape
    for name in ("forcing", *_KINDS):
        if name in arrays and (len(shape) != 3 or arrays[name].shape != shape):
            why = f"'{name}' has shape {arrays[name].shape} and 'truth' {shape}; both should be (example, y, x)"
            raise unreadable(path, why, remedy=AGAIN)
    given = arrays.get("extent", np.ones(2))
    if given.shape != (2,) or not np.all(given > 0):
        raise unreadable(path, f"'extent' should be two positive lengths (y, x) and is {given}", remedy=AGAIN)
    for name in ("coefficients", *(f"sample_error_{kind}" for kind in _KINDS)):
        if name in arrays and arrays[name].shape[:1] != shape[:1]:
            why = f"'{name}' has shape {arrays[name].shape}, there are {shape[0]} examples"
            raise unreadable(path, why, remedy=AGAIN)
    return Examples(
        forcing=arrays["forcing"],
        truth=arrays["truth"],
        predictions={kind: arrays[kind] for kind in _KINDS if kind in arrays},
        labels={kind: str(arrays[f"{kind}_label"]) for kind in _KINDS if f"{kind}_label" in arrays},
        sample_errors={kind: arrays[f"sample_error_{kind}"] for kind in _KINDS if f"sample_error_{kind}" in arrays},
        coefficients=arrays.get("coefficients"),
        coefficient_names=tuple(str(name) for name in arrays.get("coefficient_names", np.empty(0, str))),
        extent=(float(given[0]), float(given[1])),
    )


# --- drawing ----------------------------------------------------------------------------------------------------------


def limits_of(fields: Iterable[Field]) -> Limits:
    """Return the range of all finite values, widened where it has no width."""
    finite = np.concatenate([field[np.isfinite(field)].ravel() for field in fields] or [np.empty(0)])
    if finite.size == 0:
        return -1.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def scales(examples: Examples, index: int) -> tuple[Limits, Limits]:
    """Return the range of colors that truth and all predictions share, and that of all errors, symmetric about zero."""
    truth = examples.truth[index]
    answers = [fields[index] for fields in examples.predictions.values()]
    reach = max(map(abs, limits_of(answer - truth for answer in answers)))
    return limits_of([truth, *answers]), (-reach, reach)


def _png(field: Field, limits: Limits, colors: str) -> str:
    """Return a field as the address of a picture, its first row at the bottom; what is not finite is gray."""
    from matplotlib import colormaps  # here, so that training does not wait for it
    from matplotlib.image import imsave

    step = math.ceil(max(field.shape) / _MOST_POINTS)
    rows, columns = (size // step for size in field.shape)
    blocks = field[: rows * step, : columns * step].reshape(rows, step, columns, step).mean(axis=(1, 3))
    shares = (blocks[::-1] - limits[0]) / (limits[1] - limits[0])
    target = io.BytesIO()
    painted = colormaps[colors].with_extremes(bad=_NOT_FINITE)(np.ma.masked_invalid(shares))
    imsave(target, painted, format="png", metadata={"Software": None})  # type: ignore[dict-item]  # None: left out
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def picture(field: Field, limits: Limits, colors: str, x: float, y: float, wide: float, high: float) -> Markup:
    """Return a field as a picture with an edge, its first row at the bottom; what is not finite is gray."""
    place = {"x": x, "y": y, "width": wide, "height": high}
    picture = element("image", href=_png(field, limits, colors), preserveAspectRatio="none", class_="map", **place)
    return join([picture, element("rect", **place, class_="edge")])


def color_bar(limits: Limits, colors: str, x: float, y: float, high: float) -> Markup:
    """Return a color bar with numbers to its right."""
    scale = Scale(*limits, y + high, y, log=False)
    ticks = fitted_ticks(scale, 5 if high > 100 else 3)
    gradient = np.linspace(*limits, 128)[:, None]
    numbers = [element("text", signed(tick), x=x + _BAR + 4, y=scale(tick) + 4, class_="tick") for tick in ticks]
    return join([picture(gradient, limits, colors, x, y, _BAR, high), *numbers])


def sides(extent: Sequence[float], x: float, y: float, wide: float, high: float, *, left: bool) -> Markup:
    """Return the numbers beneath a map, and those to its left where there is room."""
    parts = [element("text", "x", x=x + wide / 2, y=y + high + 28, class_="name mid")]
    parts += [element("text", "y", x=x - 34, y=y + high / 2 + 4, class_="name mid")] if left else []
    for share in (0.0, 0.5, 1.0):
        beneath = {"x": x + share * wide, "y": y + high + 14}
        parts.append(element("text", f"{share * extent[1]:.3g}", **beneath, class_="tick mid"))
        if left and (share != 0.5 or high > 60):
            beside = {"x": x - 5, "y": y + (1 - share) * high + 4}
            parts.append(element("text", f"{share * extent[0]:.3g}", **beside, class_="tick end"))
    return join(parts)


def _corner(examples: Examples, index: int, y: float, bottom: float) -> list[Markup]:
    """Return which example this is and its coefficients, in the free corner under forcing and truth."""
    parts = [element("text", f"example {index + 1}", x=4.0, y=y, class_="title")]
    values = () if examples.coefficients is None else np.atleast_1d(examples.coefficients[index])
    names = examples.coefficient_names or tuple(f"coefficient {i + 1}" for i in range(len(values)))
    lines = [f"{name[:24]} = {signed(value)}" for name, value in zip(names, values, strict=False)]
    lines = lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]
    for i, line in enumerate(lines):
        parts.append(element("text", line, x=4.0 + 186 * (i // _LINES), y=y + 20 + 15 * (i % _LINES)))
    return [*parts, element("text", "right: prediction − truth", x=4.0, y=bottom, class_="name")]


def field_drawing(examples: Examples, index: int, label: str) -> Markup:
    """Return one example: forcing, truth and predictions above, prediction − truth below; `label` is what is heard.

    Truth and all predictions share one color scale, all errors another one symmetric about zero; the forcing has its
    own. Every map has the shape of the domain.

    Raises:
        ValueError: if there is no such example.
    """
    if not 0 <= index < examples.num_examples:
        raise ValueError(f"There is no example {index}; there are {examples.num_examples}.")
    extent, truth, forcing = examples.extent, examples.truth[index], examples.forcing[index]
    high = min(_WIDTH * extent[0] / extent[1], 3 * _WIDTH)
    wide = high * extent[1] / extent[0]
    shared, reach = scales(examples, index)
    own = limits_of([forcing])
    second = _LEFT + wide + 6 + _BAR + _TICKS
    lower = _TOP + high + _BETWEEN
    bottom = max(lower + high + 34, lower + _CORNER)
    columns = [second + i * (wide + _GAP) for i in range(1 + len(_KINDS))]
    parts: list[Markup] = []

    def title(text: str, x: float, y: float) -> None:
        parts.append(element("text", wrapped(text, wide + 10, lines=1)[0], x=x + wide / 2, y=y - 7, class_="name mid"))

    def shown(text: str, field: Field, limits: Limits, colors: str, x: float, y: float) -> None:
        title(text, x, y)
        parts.append(picture(field, limits, colors, x, y, wide, high))

    shown("forcing", forcing, own, "cividis", _LEFT, _TOP)
    parts += [
        sides(extent, _LEFT, _TOP, wide, high, left=True),
        color_bar(own, "cividis", _LEFT + wide + 6, _TOP, high),
    ]
    shown("truth", truth, shared, "viridis", columns[0], _TOP)
    parts.append(sides(extent, columns[0], _TOP, wide, high, left=False))
    for x, kind in zip(columns[1:], _KINDS, strict=True):
        if kind not in examples.predictions:
            title(examples.label(kind), x, _TOP)
            middles = (_TOP + high / 2, lower + high / 2)
            parts += [element("text", "not recorded", x=x + wide / 2, y=y, class_="name mid") for y in middles]
            continue
        answer = examples.predictions[kind][index]
        shown(examples.label(kind), answer, shared, "viridis", x, _TOP)
        error = number_text(examples.error(kind, index))
        shown(f"rel. L2 error {error}", answer - truth, reach, "RdBu_r", x, lower)
        parts.append(sides(extent, x, lower, wide, high, left=x == columns[1]))
    end = columns[-1] + wide + 6
    parts.append(color_bar(shared, "viridis", end, _TOP, high))
    parts += [color_bar(reach, "RdBu_r", end, lower, high)] if examples.predictions else []
    parts += _corner(examples, index, lower + 4, bottom - 4)
    return svg(end + _BAR + _TICKS, bottom, label, *parts)
