"""Plates: fields for a paper, side by side, on the scales and in the colors of the page.

The page shows fields as pictures that a script moves; a paper takes one sheet of them: of a study each example, of a
forecast a few frames of each channel. matplotlib draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from scifm.findings.frames import ForecastFrames
from scifm.report.fields import Examples, scales
from scifm.report.films import SpaceTime, frame_scales
from scifm.wording import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

__all__ = ["COLORS", "Kind", "Picture", "Plate", "draw_plate", "plates_of_examples", "plates_of_frames"]

Kind = Literal["asked", "field", "error"]

COLORS: dict[Kind, str] = {"asked": "cividis", "field": "viridis", "error": "RdBu_r"}
_WIDTH, _MOST_ROWS = 7.0, 3  # inches: both columns of a paper; frames of a forecast
_INK, _TRUTH, _ANSWER, _ERROR = "#1b1d21", "#626975", "#0072b2", "#d55e00"


@dataclass(frozen=True)
class Picture:
    """One field: of a plane ``(y, x)``, or on a line one or two curves ``(curve, x)``, truth first.

    Args:
        title: what is above it.
        kind: which colors.
        values: what is shown.
        limits: of the colors, or of the axis.
        note: beneath the title.
    """

    title: str
    kind: Kind
    values: NDArray[np.floating]
    limits: tuple[float, float]
    note: str = ""


@dataclass(frozen=True)
class Plate:
    """Pictures in rows; None leaves a place free. Those of one kind share one scale.

    Args:
        caption: what it shows.
        rows: of equal length.
        extent: sides (y, x) of a plane, or of a line.
        x: places of the points of a line.
        left: what stands to the left of each row.
        names: of the axes (upward, to the right) of maps whose axes are unlike; none: both are lengths of a plane.
        starts: where those axes begin.
        places: what is marked on every map: what they are, and where along x and y.
        ends: what is written at both ends of the axes (upward, to the right) of a plane, if not 0 and its length.
    """

    caption: str
    rows: tuple[tuple[Picture | None, ...], ...]
    extent: tuple[float, ...]
    x: tuple[float, ...] = ()
    left: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    starts: tuple[float, ...] = (0.0, 0.0)
    ends: tuple[tuple[float, float], ...] = ()
    places: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = ()


def plates_of_examples(examples: Examples | None, most: int) -> dict[str, Plate]:
    """Return a plate for each of the first examples of a study: what was asked, truth and answers, errors beneath."""
    plates = {}
    for i in range(0 if examples is None else min(most, examples.num_examples)):
        assert examples is not None
        truth, (shared, reach) = examples.truth[i], scales(examples, i)
        asked = examples.forcing[i]
        ends = (float(np.nanmin(asked)), float(np.nanmax(asked)))
        above: list[Picture | None] = [
            Picture("asked", "asked", asked, ends if ends[0] < ends[1] else (ends[0] - 0.5, ends[0] + 0.5)),
            Picture("truth", "field", truth, shared),
        ]
        beneath: list[Picture | None] = [None, None]
        for kind, answers in examples.predictions.items():
            error = f"relative L2 {number_text(examples.error(kind, i))}"
            above.append(Picture(examples.label(kind), "field", answers[i], shared))
            beneath.append(Picture(error, "error", answers[i] - truth, reach))
        told = "what was asked, truth and answers on one scale; beneath, answer − truth on another."
        rows = (tuple(above), tuple(beneath))
        plates[f"example-{i + 1}"] = Plate(f"Example {i + 1}: {told}", rows, examples.extent)
    return plates


def plates_of_frames(frames: ForecastFrames | None, caption: str, maps: SpaceTime | None = None) -> dict[str, Plate]:
    """Return a plate for each channel of a forecast: truth, prediction and error at a few lead times.

    With `maps`, of frames on a line, another one over space and time.
    """
    if frames is None:
        return {}
    last = len(frames.steps) - 1
    chosen = sorted({round(share * last) for share in np.linspace(0, 1, min(_MOST_ROWS, last + 1))})
    plates = {}
    for place, name in enumerate(frames.channels):
        truth, answer = (part[:, place].astype(np.float64) for part in (frames.truth, frames.prediction))
        shared, reach, _ = frame_scales(truth, answer)
        rows = list[tuple[Picture | None, ...]]()
        for i in chosen:
            error = Picture("error", "error", answer[i] - truth[i], reach)
            if truth.ndim == 3:
                pair = (("truth", truth), ("prediction", answer))
                rows.append((*(Picture(title, "field", part[i], shared) for title, part in pair), error))
            else:
                both = np.stack([truth[i], answer[i]])
                rows.append((Picture("truth (gray) and prediction (blue)", "field", both, shared), error))
        left = tuple(f"t = {frames.times[i]:.3g}" for i in chosen)
        told = f"{name.replace('_', ' ')}. {caption}"
        plates[f"frames-{name}"] = Plate(told, tuple(rows), frames.extent, frames.x, left, ends=frames.ends)
        if maps is not None:
            plates[f"space-time-{name}"] = _over_time(frames, place, f"{name.replace('_', ' ')}. {maps.caption}")
    return plates


def _over_time(frames: ForecastFrames, channel: int, caption: str) -> Plate:
    truth, answer, (begin, end) = frames.over_time(channel)
    shared, reach, _ = frame_scales(truth, answer)
    pictures = (
        Picture("truth", "field", truth, shared),
        Picture("prediction", "field", answer, shared),
        Picture("prediction − truth", "error", answer - truth, reach),
    )
    return Plate(caption, (pictures,), (frames.extent[0], end - begin), names=("x", "t"), starts=(0.0, begin))


def draw_plate(plate: Plate) -> Sheet:
    """Draw a plate at the width of both columns of a paper; first row of a field at the bottom.

    What its marks are, `Plate.places`, its caption has to say.
    """
    from matplotlib.figure import Figure as Sheet

    columns, flat = len(plate.rows[0]), not plate.x or len(plate.extent) == 2
    wide = (_WIDTH - 1.2) / columns
    high = wide * (0.8 if plate.names else min(plate.extent[0] / plate.extent[-1], 3.0)) if flat else 1.1
    sheet = Sheet(figsize=(_WIDTH, len(plate.rows) * (high + 0.3) + 0.45), layout="constrained")
    axes: Any = sheet.subplots(len(plate.rows), columns, squeeze=False)
    drawn: dict[Kind, list[tuple[Axes, Any]]] = {}
    for i, row in enumerate(plate.rows):
        for j, picture in enumerate(row):
            own: Axes = axes[i, j]
            if picture is None:
                own.set_axis_off()
                continue
            titled = i == 0 or picture.title != (above.title if (above := plate.rows[0][j]) else "")
            if titled:
                own.set_title(picture.title, fontsize=7)
            draw = _map if flat else _curves
            last = i == len(plate.rows) - 1 or plate.rows[i + 1][j] is None
            mark = draw(own, plate, picture, outer=j == 0 or (not flat and bool(j)), bottom=last)
            drawn.setdefault(picture.kind, []).append((own, mark))
        if plate.left:
            axes[i, 0].set_ylabel("\n".join(filter(None, (plate.left[i], axes[i, 0].get_ylabel()))))
    for kind, marks in drawn.items() if flat else ():
        # frames stand in columns of one kind, examples in rows; what was asked has free room beneath
        beneath = bool(plate.left) or kind == "asked"
        beside = [own for own, _ in marks]
        beside = beside[-(len(marks) // len(plate.rows)) :] if plate.left else beside
        where: dict[str, Any] = {"location": "bottom" if beneath else "right", "aspect": 30 if beneath else 20}
        sheet.colorbar(marks[0][1], ax=beside, fraction=0.06, pad=0.02, **where)
    return sheet


def _map(own: Axes, plate: Plate, picture: Picture, *, outer: bool, bottom: bool) -> Any:
    from matplotlib import colormaps

    colors = colormaps[COLORS[picture.kind]].with_extremes(bad=(0.6, 0.6, 0.6, 1.0))
    (low_y, low_x), (side_y, side_x) = plate.starts, plate.extent
    sides = (low_x, low_x + side_x, low_y, low_y + side_y)
    low, high = picture.limits
    mark = own.imshow(
        np.ma.masked_invalid(picture.values), origin="lower", extent=sides, cmap=colors, vmin=low, vmax=high,
        interpolation="nearest", aspect="auto" if plate.names else "equal",
    )  # fmt: skip
    for shape, (_, along, up) in zip("osD^vP", plate.places, strict=False):
        own.plot(along, up, shape, color="white", markeredgecolor=_INK, markeredgewidth=0.5, markersize=3.2)
    own.grid(visible=False)
    for spine in own.spines.values():
        spine.set(visible=True, linewidth=0.4)
    if plate.names:
        own.set_xlim(min(0.0, low_x), low_x + side_x)
        own.locator_params(nbins=4)
        own.tick_params(labelbottom=bottom, labelleft=outer)
        own.set_xlabel(plate.names[1] if bottom else "")
        own.set_ylabel(plate.names[0] if outer else "")
        return mark
    name: Literal["x", "y"]
    ends = plate.ends or ((0.0, side_y), (0.0, side_x))
    for name, side, (first, last), shown in (("x", side_x, ends[1], bottom), ("y", side_y, ends[0], outer)):
        told = [f"{value:.3g}" for value in (first, (first + last) / 2, last)]
        getattr(own, f"set_{name}ticks")([0.0, side / 2, side], told)
        own.tick_params(axis=name, labelbottom=shown, labelleft=shown)
    return mark


def _curves(own: Axes, plate: Plate, picture: Picture, *, outer: bool, bottom: bool) -> Any:
    curves = np.atleast_2d(picture.values)
    tones = (_ERROR,) if picture.kind == "error" else (_TRUTH, _ANSWER)
    for i, (curve, tone) in enumerate(zip(curves, tones, strict=True)):
        own.plot(plate.x, curve, color=tone, linewidth=2.0 if len(curves) > 1 and i == 0 else 1.0)
    low, high = picture.limits
    own.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    own.set_xlim(plate.x[0], plate.x[-1])
    own.tick_params(labelbottom=bottom, labelleft=outer)
    if bottom:
        own.set_xlabel("x")
    return own
