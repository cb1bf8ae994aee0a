"""Inline SVG from a few parts: elements, scales with ticks, frames with axes, marks told apart without color.

Colors are left to the page's style sheet (classes ``tone-…``), so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

__all__ = [
    "MARKS",
    "TITLE_SIZE",
    "Frame",
    "Scale",
    "band",
    "column",
    "element",
    "fitted_ticks",
    "formula",
    "join",
    "mark",
    "path_through",
    "spaced",
    "svg",
    "text_width",
    "wrapped",
]

TITLE_SIZE = 14.5
"""Size to measure a title with: 13 pixels, and some more since it is bold."""

MARKS = ("circle", "square", "diamond", "triangle", "down", "cross")
_SHAPES = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "square": "M-3.6,-3.6h7.2v7.2h-7.2Z",
    "diamond": "M0,-5.2L5.2,0L0,5.2L-5.2,0Z",
    "triangle": "M0,-4.9L4.8,3.6H-4.8Z",
    "down": "M0,4.9L4.8,-3.6H-4.8Z",
    "cross": "M-1.6,-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3Z",
}
_POWER = re.compile(r"\^([−-]?[\d.]+)")
_GAP = 8.0  # between labels beside one another
_WIDE, _NARROW = frozenset("mwMW—@%"), frozenset("iljtfrI.,:;|!'()[] ")


def _attribute(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; text is escaped, Markup is not.

    ``class_`` is class, any other ``_`` becomes ``-``, an attribute of None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(children)
    return Markup(
        f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"
    )  # inside is escaped by join


def join(parts: Iterable[object]) -> Markup:
    """Return the parts one after another, text escaped."""
    return Markup("").join(parts)  # type: ignore[arg-type]  # Markup's join escapes what is not Markup


def svg(width: float, height: float, label: str, *children: object) -> Markup:
    """Return an inline drawing of a size in CSS pixels that shrinks with its container; screen readers hear `label`."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_attribute(float(width))} {_attribute(float(height))}",
        width=float(width),
        role="group",
        aria_label=label,
        class_="drawing",
    )


@dataclass(frozen=True)
class Scale:
    """A map of values in [low, high] to [start, end], logarithmic or linear."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, log: bool = True, margin: float = 0.06
    ) -> Scale:
        """Return a scale over all values with a share of its length left free at both ends.

        Raises:
            ValueError: if there is no value.
        """
        placed = [math.log(value) if log else value for value in values]
        low, high = min(placed), max(placed)
        reach = high - low or (math.log(2) if log else abs(high) or 1.0)
        low, high = low - margin * reach, high + margin * reach
        return cls(math.exp(low), math.exp(high), start, end) if log else cls(low, high, start, end, log=False)

    def __call__(self, value: float) -> float:
        """Return the place of `value`."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        share = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether `value` lies on the scale."""
        return self.low <= value <= self.high


def _log_ticks(low: float, high: float, subs: Sequence[float], every: int = 1) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [sub * 10.0**power for power in range(first, last + 1) if power % every == 0 for sub in subs]
    return [tick for tick in ticks if low <= tick <= high]


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((s * power for s in (1, 2, 5) if s * power >= rough), 10 * power)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def fitted_ticks(scale: Scale, most: int) -> list[float]:
    """Return the densest round ticks of which at most `most` lie on the scale, at least two where it can be."""
    if not scale.log:
        return _linear_ticks(scale.low, scale.high, most)
    dense = ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
    choices = [_log_ticks(scale.low, scale.high, subs) for subs in dense]
    choices += [_log_ticks(scale.low, scale.high, (1.0,), every) for every in (2, 3, 5)]
    fitting = next((ticks for ticks in choices if 2 <= len(ticks) <= most), None)
    return fitting or [tick for tick in _linear_ticks(scale.low, scale.high, most) if tick > 0]


def text_width(text: str, size: float = 12.0) -> float:
    """Return about how wide a text is, in the units of its size: generous, since the reader's font is not known."""
    return size * sum(0.9 if c in _WIDE else 0.36 if c in _NARROW else 0.6 for c in text)


def wrapped(text: str, width: float, *, size: float = 12.0, lines: int = 2) -> list[str]:
    """Return a text broken at spaces into at most `lines` lines of about `width`, cut by an ellipsis within."""
    rows = _filled(text, width, size)
    if len(rows) > lines:
        rows = [*rows[: lines - 1], " ".join(rows[lines - 1 :])]
    elif len(rows) > 1:  # as even as it goes: no last line of one digit
        narrower = (width * share / 20 for share in range(10, 20))
        rows = next(
            (
                even
                for narrow in narrower
                if len(even := _filled(text, narrow, size)) == len(rows)
                and all(text_width(row, size) <= width for row in even)
            ),
            rows,
        )
    return [_shortened(row, width, size) for row in rows]


def _filled(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text, each filled with words as long as they fit."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if not rows[-1] or text_width(longer, size) <= width:
            rows[-1] = longer
        else:
            rows.append(word)
    return rows


def _shortened(line: str, width: float, size: float) -> str:
    """Return a line with its middle cut out where it does not fit: the end tells tasks apart as often as the start."""
    if text_width(line, size) <= width:
        return line
    for length in range(len(line) - 1, 0, -1):
        tail = length * 2 // 5
        cut = f"{line[: length - tail].rstrip(' ,')}…{line[len(line) - tail :].lstrip()}"
        if text_width(cut, size) <= width:
            return cut
    return "…"


def spaced(values: Sequence[float], scale: Scale, labels: Sequence[str]) -> list[float]:
    """Return the values whose labels can stand beside one another; the first stays, and the last if it can."""
    chosen: list[int] = []
    order = [0, len(values) - 1, *range(1, len(values) - 1)] if len(values) > 1 else list(range(len(values)))
    for i in order:
        room = (
            abs(scale(values[i]) - scale(values[k])) - (text_width(labels[i]) + text_width(labels[k])) / 2
            for k in chosen
        )
        if all(space >= _GAP for space in room):
            chosen.append(i)
    return [values[i] for i in sorted(chosen)]


class Frame:
    """A rectangle with a horizontal and a vertical scale; x runs over [left, right], y over [bottom, top]."""

    def __init__(self, x: Scale, y: Scale) -> None:
        self.x, self.y = x, y
        self.left, self.right, self.top, self.bottom = x.start, x.end, y.end, y.start

    def grid(self, axis: Literal["x", "y"], ticks: Sequence[float], labels: Sequence[str] | None = None) -> Markup:
        """Return lines across at `ticks` of an axis and, where given, their labels beneath or to the left."""
        parts = []
        for i, tick in enumerate(ticks):
            if axis == "x":
                x1 = x2 = x = self.x(tick)
                y1, y2, y, style = self.bottom, self.top, self.bottom + 16, "tick mid"
            else:
                y1 = y2 = self.y(tick)
                x1, x2, x, y, style = self.left, self.right, self.left - 7, y1 + 4, "tick end"
            parts.append(element("line", x1=x1, x2=x2, y1=y1, y2=y2, class_="grid"))
            parts += [element("text", labels[i], x=x, y=y, class_=style)] if labels is not None else []
        return join(parts)

    def edges(self) -> Markup:
        """Return the left and the lower edge."""
        points = f"M{_attribute(self.left)},{_attribute(self.top)}V{_attribute(self.bottom)}H{_attribute(self.right)}"
        return element("path", d=points, class_="edge")

    def title(self, text: str, *, above: float = 9.0) -> Markup:
        """Return a title above the panel, its last line next to the panel, cut where it does not fit."""
        lines, rows = wrapped(text, self.right - self.left, size=TITLE_SIZE), []
        for i, line in enumerate(lines):
            y = self.top - above - 15 * (len(lines) - 1 - i)
            rows.append(element("text", formula(line, "tspan"), x=self.left, y=y, class_="title"))
        return element("g", element("title", text), *rows) if "…" in "".join(lines) else join(rows)

    def x_name(self, text: str) -> Markup:
        """Return the name of the horizontal axis, centered beneath."""
        return element("text", text, x=(self.left + self.right) / 2, y=self.bottom + 34, class_="name mid")

    def y_name(self, text: str, *, before: float) -> Markup:
        """Return the name of the vertical axis, upright, `before` the left edge."""
        x, y = self.left - before, (self.top + self.bottom) / 2
        turn = f"rotate(-90 {_attribute(x)} {_attribute(y)})"
        return element("text", text, x=x, y=y, transform=turn, class_="name mid")


def formula(text: str, raised: str) -> Markup:
    """Return a text with the number that follows each ``^`` raised, by the element `raised`: ``tspan`` or ``sup``."""
    parts: list[object] = []
    for i, piece in enumerate(_POWER.split(text)):
        if i % 2 == 0:
            parts.append(piece)
        elif raised == "sup":
            parts.append(element("sup", piece))
        else:  # up, and down again with what follows: baseline-shift is not known everywhere
            parts += [element("tspan", piece, dy=-5, font_size="78%"), element("tspan", "\N{ZERO WIDTH SPACE}", dy=5)]
    return join(parts)


def mark(shape: str, x: float, y: float, *, hollow: bool = False) -> Markup:
    """Return a mark of one of `MARKS`, filled or hollow."""
    place = f"translate({_attribute(x)} {_attribute(y)})"
    return element("path", d=_SHAPES[shape], transform=place, class_="mark hollow" if hollow else "mark")


def column(x: float, top: float, foot: float, width: float) -> Markup:
    """Return a bar that stands on its foot, none of it beneath."""
    high = max(0.0, foot - top)
    return element("rect", x=x - width / 2, y=foot - high, width=width, height=high, class_="column")


def path_through(points: Iterable[tuple[float, float]], *, style: str = "line") -> Markup:
    """Return a line through points (x, y)."""
    places = "L".join(f"{_attribute(float(x))},{_attribute(float(y))}" for x, y in points)
    return element("path", d="M" + places, class_=style)


def band(points: Sequence[tuple[float, float, float]]) -> Markup:
    """Return the band through points (x, lower y, upper y); a single point becomes a bar."""
    if len(points) == 1:
        x, low, high = points[0]
        return element("line", x1=x, x2=x, y1=low, y2=high, class_="bar")
    outline = [(x, high) for x, _, high in points] + [(x, low) for x, low, _ in reversed(points)]
    return path_through(outline, style="band")
