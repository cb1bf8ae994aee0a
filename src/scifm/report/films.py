"""Frames of a forecast on a page: truth, prediction and error side by side, moved by a slider.

They come from the ``.npz`` beside a forecast's record, read without unpickling and checked against itself. Fields of a
plane are pictures in one strip a field, of which a window shows one frame; fields of a line are curves, and beside them
maps over space and time. Without scripts the first and the last frame are shown. The page's script adds the slider.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.frames import ForecastFrames
from scifm.report.records import AGAIN, read_arrays, unreadable
from scifm.report.svg import Frame, Scale, element, fitted_ticks, join, path_through, svg
from scifm.wording import plain_number, signed

__all__ = ["Film", "SpaceTime", "film_of", "frame_scales", "read_frames", "space_time_of"]

Fields = NDArray[np.floating]
Limits = tuple[float, float]

_ARRAYS = (
    "truth",
    "prediction",
    "steps",
    "times",
    "errors",
    "channels",
    "extent",
    "x",
    "num_points",
    "sample",
    "num_steps",
)
_LARGEST = 4_000_000  # numbers of one array: far above what `scifm rollout` keeps
_COLORS = {"truth": "viridis", "prediction": "viridis", "error": "RdBu_r"}
_LINES = {"truth": ("tone-5", "line broad"), "prediction": ("tone-0", "line"), "error": ("tone-1", "line")}
_NOT_FINITE = (153, 153, 153)
_WIDE, _HIGH, _LEFT, _BELOW, _ABOVE = 460.0, 262.0, 60.0, 44.0, 26.0  # of a panel of curves
_MOST_FRAMES = 24  # of a film
_FEWEST_COLUMNS = 4  # of a map over space and time
_MAP_WIDE, _MAP_HIGH, _MAP_LEFT, _MAP_TOP, _MAP_BELOW, _MAP_GAP, _MAP_BAR, _MAP_TICKS = (
    218.0, 190.0, 50.0, 24.0, 40.0, 14.0, 9.0, 54.0,
)  # fmt: skip
_MORE = 0.5  # by which share of its own range the truth's scale is widened at most for what is predicted


@dataclass(frozen=True)
class Film:
    """Frames as they stand on a page."""

    caption: str
    channels: tuple[tuple[str, Markup, Markup, Markup], ...]
    """Name, the frame that moves (at first the first one), the last frame, and the scales beneath both."""
    labels: tuple[str, ...]

    @property
    def told(self) -> str:
        """The labels for the page's script."""
        return json.dumps(self.labels)


@dataclass(frozen=True)
class SpaceTime:
    """Maps over space and time as they stand on a page: by name of a channel, its drawing."""

    caption: str
    channels: tuple[tuple[str, Markup], ...]


def read_frames(path: Path) -> ForecastFrames | None:
    """Return the frames of a file, None where there is no file.

    Raises:
        RunError: if it cannot be read, or its arrays do not fit together.
    """
    arrays = read_arrays(path, _ARRAYS)
    if arrays is None:
        return None
    shape, count = arrays["truth"].shape, len(np.atleast_1d(arrays["steps"]))
    axes = tuple(map(str, arrays.get("axes", ())))  # frames of before have none
    ends = np.reshape(arrays.get("ends", ()), (-1, 2)) if np.size(arrays.get("ends", ())) % 2 == 0 else np.empty((9, 2))
    fits = (
        len(shape) in (3, 4)
        and len(axes) == len(ends) in (0, len(shape) - 2)
        and arrays["prediction"].shape == shape
        and shape[0] == count == arrays["times"].size == arrays["errors"].size
        and shape[1] == arrays["channels"].size
        and arrays["extent"].size == len(shape) - 2
        and arrays["x"].size == shape[-1]
        and 0 < math.prod(shape) <= _LARGEST
        and all(np.issubdtype(arrays[name].dtype, np.floating) for name in ("truth", "prediction", "times", "errors"))
        and bool(np.isfinite(arrays["truth"]).any() and np.all(arrays["extent"] > 0))
        and not np.isinf(arrays["truth"]).any()
    )
    if not fits:
        raise unreadable(path, "its arrays do not fit together", remedy=AGAIN)
    return ForecastFrames(
        truth=arrays["truth"],
        prediction=arrays["prediction"],
        steps=tuple(map(int, arrays["steps"])),
        times=tuple(map(float, arrays["times"])),
        errors=tuple(map(float, arrays["errors"])),
        channels=tuple(map(str, arrays["channels"])),
        extent=tuple(map(float, arrays["extent"])),
        x=tuple(map(float, arrays["x"])),
        num_points=tuple(map(int, arrays["num_points"])),
        sample=int(arrays["sample"]),
        num_steps=int(arrays["num_steps"]),
        plane=str(arrays.get("plane", "")),
        left_out=tuple(map(str, arrays.get("left_out", ()))),
        axes=axes,
        ends=tuple((float(low), float(high)) for low, high in ends),
    )


def film_of(frames: ForecastFrames, num_samples: int) -> Film:
    """Return frames, a few of many, as a film; they are of one trajectory of `num_samples`."""
    frames = frames.few(_MOST_FRAMES)
    flat, parts, clipped = len(frames.extent) == 2, [], False
    for place, name in enumerate(frames.channels):
        truth, answer = (fields[:, place].astype(np.float64) for fields in (frames.truth, frames.prediction))
        shared, reach, cut = frame_scales(truth, answer)
        clipped |= cut
        draw = _maps if flat else _curves
        parts.append((name.replace("_", " "), *draw(frames, name, (truth, answer), (shared, reach))))
    kept = " × ".join(map(str, frames.truth.shape[2:]))
    grid = " × ".join(map(str, frames.num_points))
    caption = f"Truth, prediction and error (prediction − truth) by lead time, of {_which(frames, num_samples)}. "
    caption += "Truth and prediction share one scale, the error has its own, symmetric about zero; both hold for all "
    gaps = flat and bool(np.isnan(frames.truth).any())
    gone = ~np.isfinite(frames.prediction.reshape(len(frames.steps), -1))
    lost = flat and bool(gone.all(axis=1).any() if gaps else gone.any())
    gray = [text for text, told in (("points are missing", gaps), ("the forecast is lost", lost)) if told]
    caption += "frames" + (f"; gray: {' or '.join(gray)}. " if gray else ". ")
    caption += "What lies beyond a scale is drawn at its end. " if clipped else ""
    caption += f"Of {grid} points the plane {frames.plane} is shown" if frames.plane else ""
    if frames.truth.shape[2:] != frames.num_points and not frames.plane:
        caption += f"The {grid} points are averaged to {kept}"
    caption += ". " if not caption.endswith(". ") else ""
    caption += f"Not shown: {', '.join(frames.left_out)}." if frames.left_out else ""
    return Film(caption.strip(), tuple(parts), tuple(map(frames.label, range(len(frames.steps)))))


def _which(frames: ForecastFrames, num_samples: int) -> str:
    if num_samples == 1:
        return "the one trajectory"
    return f"trajectory {frames.sample + 1} of {num_samples}, the one whose error is the median"


def series_of(frames: ForecastFrames, num_samples: int) -> Figure | None:
    """Return what was and what was forecast at one place, lines over time; None of fields, which have a film."""
    if frames.num_points != (1,):
        return None
    panels = []
    for place, name in enumerate(frames.channels):
        values = (
            (part[:, place, 0].tolist(), label)
            for part, label in ((frames.prediction, "model"), (frames.truth, "truth"))
        )
        series = tuple(
            Series(
                label=label,
                x=frames.times,
                y=tuple(value if math.isfinite(value) else None for value in own),
                marked=False,
                line="dashed" if label == "truth" else "solid",
            )
            for own, label in values
        )
        panels.append(
            Panel(x=Axis(label="time since the last input frame"), y=Axis(label=name.replace("_", " ")), series=series)
        )
    caption = f"What was, dashed, and what was forecast, of {_which(frames, num_samples)}."
    return Figure(caption=caption, panels=tuple(panels), shared=("x",))


def space_time_of(frames: ForecastFrames, num_samples: int) -> SpaceTime | None:
    """Return frames of a line as maps over time and space; None of a plane, and of frames that are too few."""
    if len(frames.extent) != 1 or len(frames.steps) < _FEWEST_COLUMNS:
        return None
    parts, clipped, gone, errors = [], False, False, []
    for place, name in enumerate(frames.channels):
        truth, answer, ends = frames.over_time(place)
        shared, reach, cut = frame_scales(truth, answer)
        clipped, gone = clipped | cut, gone | bool(~np.isfinite(answer - truth).all())
        size = float(np.linalg.norm(truth))
        errors.append(float(np.linalg.norm(answer - truth)) / size if size else math.nan)
        shown = (
            ("truth", truth, shared),
            ("prediction", answer, shared),
            ("prediction − truth", answer - truth, reach),
        )
        parts.append((name.replace("_", " "), _over_time(frames, name.replace("_", " "), shown, ends)))
    told = ", ".join(
        f"{plain_number(float(f'{error:.2g}'))}" + (f" ({name})" if len(parts) > 1 else "")
        for (name, _), error in zip(parts, errors, strict=True)
        if math.isfinite(error)
    )
    caption = (
        f"Space and time: truth, prediction and error of {_which(frames, num_samples)}, time to the right, x upward. "
        "Truth and prediction share one scale, the error has its own, symmetric about zero."
    )
    caption += f" Relative L2 error over all that is shown: {told}." if told else ""
    caption += " Gray: points are missing, or the forecast is lost." if gone else ""
    caption += " What lies beyond a scale is drawn at its end." if clipped else ""
    return SpaceTime(caption, tuple(parts))


def _over_time(frames: ForecastFrames, name: str, shown: Sequence[tuple[str, Fields, Limits]], ends: Limits) -> Markup:
    """Return maps side by side on axes of time and space, a bar of colors behind the last one of each scale."""
    parts, x, bottom = list[Markup](), _MAP_LEFT, _MAP_TOP + _MAP_HIGH
    for i, (title, field, limits) in enumerate(shown):
        colors = _COLORS["error" if i == len(shown) - 1 else "truth"]
        across = Scale(min(0.0, ends[0]), ends[1], x, x + _MAP_WIDE, log=False)
        upwards = Scale(0.0, frames.extent[0], bottom, _MAP_TOP, log=False)
        place = {"x": x, "y": _MAP_TOP, "width": _MAP_WIDE, "height": _MAP_HIGH}
        strip, inside = (
            _strip(field[None], limits, colors),
            {"x": across(ends[0]), "width": x + _MAP_WIDE - across(ends[0])},
        )
        parts.append(element("image", href=strip, preserveAspectRatio="none", class_="map", **{**place, **inside}))
        parts.append(element("rect", **place, class_="edge"))
        parts.append(element("text", title, x=x + _MAP_WIDE / 2, y=_MAP_TOP - 8, class_="title mid"))
        parts.append(element("text", "t", x=x + _MAP_WIDE / 2, y=bottom + 34, class_="name mid"))
        for tick in fitted_ticks(across, 5):
            parts.append(element("line", x1=across(tick), x2=across(tick), y1=bottom, y2=bottom + 4, class_="edge"))
            parts.append(element("text", plain_number(tick), x=across(tick), y=bottom + 17, class_="tick mid"))
        for tick in fitted_ticks(upwards, 5):
            parts.append(element("line", x1=x - 4, x2=x, y1=upwards(tick), y2=upwards(tick), class_="edge"))
            if i == 0:
                parts.append(element("text", plain_number(tick), x=x - 7, y=upwards(tick) + 4, class_="tick end"))
        if i == 0:
            parts.append(element("text", "x", x=12.0, y=_MAP_TOP + _MAP_HIGH / 2 + 4, class_="name mid"))
        x += _MAP_WIDE
        if i > 0:
            parts.append(_upright_bar(limits, colors, x + 6))
            x += 6 + _MAP_BAR + _MAP_TICKS
        x += _MAP_GAP if i < len(shown) - 1 else 0.0
    return svg(x, bottom + _MAP_BELOW, f"{name} over space and time: truth, prediction, error", *parts)


def _upright_bar(limits: Limits, colors: str, x: float) -> Markup:
    """Return a color bar as high as a map, with numbers to its right."""
    scale = Scale(*limits, _MAP_TOP + _MAP_HIGH, _MAP_TOP, log=False)
    gradient = _png(np.arange(255, 0, -1, dtype=np.uint8)[:, None], _palette(colors))
    place = {"x": x, "y": _MAP_TOP, "width": _MAP_BAR, "height": _MAP_HIGH}
    parts = [element("image", href=gradient, preserveAspectRatio="none", class_="map", **place)]
    parts.append(element("rect", **place, class_="edge"))
    for tick in fitted_ticks(scale, 5):
        parts.append(element("text", signed(tick), x=x + _MAP_BAR + 4, y=scale(tick) + 4, class_="tick"))
    return join(parts)


def frame_scales(truth: Fields, answer: Fields) -> tuple[Limits, Limits, bool]:
    """Return the range of truth and prediction, that of the error, and whether something lies beyond.

    The range is the truth's, widened for the prediction by no more than `_MORE` of it: a forecast on its way to
    infinity must not make everything else one color.
    """
    there = truth[np.isfinite(truth)]  # in some channel a frame may hold no number
    low, high = float(there.min(initial=np.inf)), float(there.max(initial=-np.inf))
    low, high = (low, high) if high >= low else (0.0, 0.0)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    known = answer[np.isfinite(answer)]
    error = np.abs(answer - truth)
    largest = float(np.max(error[np.isfinite(error)], initial=0.0))
    widest = _MORE * (high - low)
    ends = (min(low, float(known.min())), max(high, float(known.max()))) if known.size else (low, high)
    shared = (max(ends[0], low - widest), min(ends[1], high + widest))
    reach = min(largest, shared[1] - shared[0]) or 1.0
    return shared, (-reach, reach), shared != ends or largest > reach


# --- fields of a plane: pictures --------------------------------------------------------------------------------------


def _png(codes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> str:
    """Return rows of places in a palette as the address of a picture (PNG, color type 3)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", codes.shape[1], codes.shape[0], 8, 3, 0, 0, 0)
    rows = np.pad(codes, ((0, 0), (1, 0)))  # every row begins with its filter: none
    parts = (b"IHDR", head), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _palette(colors: str) -> NDArray[np.uint8]:
    """Return what is not finite, then 255 colors."""
    from matplotlib import colormaps  # here, so that training does not wait for it

    known = colormaps[colors](np.linspace(0, 1, 255), bytes=True)[:, :3]
    return np.concatenate([np.array([_NOT_FINITE]), known]).astype(np.uint8)


def _strip(fields: Fields, limits: Limits, colors: str) -> str:
    """Return frames ``(frame, y, x)`` one beneath the other, y upwards in each, as the address of a picture."""
    shares = (fields[:, ::-1] - limits[0]) / (limits[1] - limits[0])
    known = np.isfinite(shares)
    codes = np.zeros(shares.shape, np.uint8)
    codes[known] = 1 + np.round(254 * np.clip(shares[known], 0, 1))
    return _png(codes.reshape(-1, fields.shape[-1]), _palette(colors))


def _maps(
    frames: ForecastFrames, name: str, pair: tuple[Fields, Fields], limits: tuple[Limits, Limits]
) -> tuple[Markup, Markup, Markup]:
    truth, answer = pair
    count, high, wide = truth.shape
    shown = {"truth": truth, "prediction": answer, "error": answer - truth}
    upright, across = frames.sides
    headings, first, last, beneath = [Markup("")], [_upright(*upright)], [_upright(*upright)], [Markup("")]
    shape = f"aspect-ratio: {frames.extent[1]:g} / {frames.extent[0]:g}"
    for kind, fields in shown.items():
        identifier = f"strip-{frames.channels.index(name)}-{kind}"
        strip = _strip(fields, limits[kind == "error"], _COLORS[kind])
        image = element("image", id=identifier, href=strip, width=wide, height=count * high, class_="map")
        looks = {"preserveAspectRatio": "none", "role": "img", "style": shape, "class_": "shot"}
        label = f"{name.replace('_', ' ')}, {kind}"
        headings.append(element("span", kind))
        first.append(element("svg", image, viewBox=f"0 0 {wide} {high}", aria_label=label, data_high=high, **looks))
        again = element("use", href=f"#{identifier}")
        place = f"0 {(count - 1) * high} {wide} {high}"
        last.append(element("svg", again, viewBox=place, aria_label=f"{label}, last frame", **looks))
        told = (f"{across[1]:.3g}", across[0], f"{across[2]:.3g}")
        beneath.append(element("span", *(element("span", text) for text in told)))

    def row(kind: str, parts: Sequence[Markup]) -> Markup:
        return element("div", *(part or Markup("<span></span>") for part in parts), class_=f"cells {kind}")

    names, ends = row("names", headings), row("ends", beneath)
    shared = fitted_ticks(Scale(*limits[0], 0.0, 1.0, log=False), 5)
    ends_of_error = [sign * _round(limits[1][1]) for sign in (-1, 0, 1)]
    bars = [Markup(""), _bar(limits[0], "viridis", "two", shared), _bar(limits[1], "RdBu_r", "one", ends_of_error)]
    return join([names, row("shots", first), ends]), join([row("shots", last), ends]), row("bars", bars)


def _upright(name: str, low: float, high: float) -> Markup:
    told = (f"{high:.3g}", name, f"{low:.3g}")
    return element("span", *(element("span", text) for text in told), class_="upright")


def _round(reach: float) -> float:
    """Return the largest of …, 0.1, 0.2, 0.5, 1, 2, 5, … that is not above `reach`."""
    power = 10.0 ** math.floor(math.log10(reach))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= reach * (1 + 1e-9))


def _bar(limits: Limits, colors: str, size: str, ticks: Sequence[float]) -> Markup:
    """Return a color bar with numbers beneath it."""
    scale = Scale(*limits, 0.0, 100.0, log=False)
    gradient = _png(np.arange(1, 256, dtype=np.uint8)[None], _palette(colors))
    image = element("image", href=gradient, width=255, height=1, preserveAspectRatio="none")
    picture = element("svg", image, viewBox="0 0 255 1", preserveAspectRatio="none", aria_hidden="true", class_="scale")
    numbers = []
    for tick in ticks:
        at = scale(tick)
        side = "first" if at < 10 else "last" if at > 90 else "mid"
        numbers.append(element("span", signed(tick), style=f"left: {at:.1f}%", class_=side))
    return element("span", picture, element("span", *numbers, class_="numbers"), class_=f"bar-of {size}")


# --- fields of a line: curves -----------------------------------------------------------------------------------------


def _curves(
    frames: ForecastFrames, name: str, pair: tuple[Fields, Fields], limits: tuple[Limits, Limits]
) -> tuple[Markup, Markup, Markup]:
    truth, answer = pair
    label = name.replace("_", " ")

    def panels(places: Sequence[int], extra: str) -> Markup:
        both = [{"truth": truth[i], "prediction": answer[i]} for i in places]
        off = [{"error": answer[i] - truth[i]} for i in places]
        drawn = (
            _panel(frames, (label, "truth and prediction"), extra, limits[0], both),
            _panel(frames, ("error", "prediction − truth"), extra, limits[1], off),
        )
        return element("div", *drawn, class_="cells curves")

    keys = [element("span", _key(kind), element("span", kind), class_="key-of") for kind in _LINES]
    count = len(frames.steps)
    return panels(range(count), ""), panels([count - 1], ", last frame"), element("p", *keys, class_="legend")


def _key(kind: str) -> Markup:
    tone, line = _LINES[kind]
    drawn = element("line", x1=1, x2=29, y1=7, y2=7, class_=line)
    return element("svg", drawn, viewBox="0 0 30 14", width=30, height=14, aria_hidden="true", class_=tone)


def _panel(
    frames: ForecastFrames, names: tuple[str, str], extra: str, limits: Limits, moments: Sequence[Mapping[str, Fields]]
) -> Markup:
    """Return axes and, of every moment, its curves; the first one is shown."""
    margin = 0.05 * (limits[1] - limits[0])
    across = Scale(0.0, frames.extent[0], _LEFT, _WIDE - 14, log=False)
    upwards = Scale(limits[0] - margin, limits[1] + margin, _HIGH - _BELOW, _ABOVE, log=False)
    frame, ticks, places = Frame(across, upwards), fitted_ticks(upwards, 5), fitted_ticks(across, 6)
    groups = []
    for i, curves in enumerate(moments):
        drawn = [_line(values, frames.x, frame, kind) for kind, values in curves.items()]
        groups.append(element("g", *drawn, class_="frame" if i == 0 else "frame off"))
    return svg(
        _WIDE,
        _HIGH,
        f"{names[0]}: {names[1]}{extra}",
        frame.grid("y", ticks, [signed(tick) for tick in ticks]),
        frame.grid("x", places, [plain_number(place) for place in places]),
        frame.edges(),
        frame.title(names[1]),
        frame.x_name("x"),
        frame.y_name(names[0], before=50),
        element("g", *groups, class_="frames"),
    )


def _line(values: Fields, x: Sequence[float], frame: Frame, kind: str) -> Markup:
    """Return a curve, broken where it is not finite."""
    tone, line = _LINES[kind]
    low, high = frame.y.low, frame.y.high
    parts, run = [], list[tuple[float, float]]()
    for place, value in zip([*x, 0.0], [*values.tolist(), math.nan], strict=True):
        if math.isfinite(value):
            run.append((round(frame.x(place), 1), round(frame.y(min(max(value, low), high)), 1)))
        elif run:
            parts.append(path_through(run, style=line))
            run = []
    return element("g", *parts, class_=tone)
