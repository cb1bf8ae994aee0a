"""The one engine of figures: any `Figure` becomes inline SVG with a key, for pages and for files.

What is drawn, a figure says; where and how large, this file says; colors, the page's style sheet says (``tone-…``,
``shade-…``). Every point that tells something answers to pointer and keyboard by the page's script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.report.looks import Key, Looks, slug, stack
from scifm.report.svg import (
    Frame,
    Scale,
    band,
    element,
    fitted_ticks,
    join,
    mark,
    path_through,
    point_group,
    spaced,
    svg,
    text_width,
    title_room,
    wrapped,
)
from scifm.wording import count_text, plain_number, plural, short_count

__all__ = ["Block", "Drawn", "draw"]

_WIDTH = 960.0  # of a full drawing, in CSS pixels
_LEFT, _CATEGORIES, _GAP, _BETWEEN = 66.0, 236.0, 16.0, 14.0
_SLOT = 17.0  # height of one line of a category
_NOTE_ROOM = 17.0
_MOST_COLUMNS = 4
_LARGEST = 1e300  # beyond, scales and ticks would overflow


@dataclass(frozen=True)
class Block:
    """Panels drawn together, with the heading above them."""

    heading: str
    picture: Markup
    width: float
    height: float


@dataclass(frozen=True)
class Drawn:
    """A figure as SVG: blocks under one key.

    Args:
        kind: ``many`` panels across the page, a ``single`` one, or blocks set in a ``pair`` beside each other.
    """

    blocks: tuple[Block, ...]
    keys: tuple[Key, ...]
    caption: str
    kind: str


def draw(figure: Figure) -> Drawn:
    """Draw a figure.

    Panels of one group are drawn together and share the ranges of the axes named in ``shared``; panels that share
    nothing are drawn each by itself. What has no place on an axis (absent, not finite, or not positive on a logarithmic
    one) is left out, and a line breaks there.
    """
    looks = Looks(figure)
    if figure.shared or len(figure.panels) == 1:
        groups = [list(panels) for _, panels in groupby(figure.panels, key=lambda panel: panel.group)]
    else:
        groups = [[panel] for panel in figure.panels]
    columns = figure.columns or max(_columns(len(panels), panels[0]) for panels in groups)
    kind = "many" if columns > 1 else "single" if len(groups) == 1 or figure.shared else "pair"
    sheets = [_Sheet(figure, panels, columns, kind) for panels in groups]
    return Drawn(tuple(sheet.block(looks) for sheet in sheets), looks.keys(), figure.caption, kind)


def _columns(num_panels: int, panel: Panel) -> int:
    """Return how many panels stand side by side: at most four, lines about equally full; of categories all."""
    if panel.y.categories:
        return num_panels
    return math.ceil(num_panels / math.ceil(num_panels / _MOST_COLUMNS))


# --- places: panels of one group on one sheet -------------------------------------------------------------------------


def _fits(value: float | None, axis: Axis) -> bool:
    return value is not None and abs(value) <= _LARGEST and (axis.scale == "linear" or value >= 1 / _LARGEST)


def _values(panel: Panel, name: str) -> Iterator[float]:
    """Yield all that must have a place on the axis `name` of a panel."""
    axis = panel.x if name == "x" else panel.y
    measured = "x" if panel.y.categories else "y"
    for series in panel.series:
        own = [series.x if name == "x" else series.y]
        if name == measured:
            own += [series.low, series.high, *series.singles]
        yield from (value for values in own for value in values if value is not None and _fits(value, axis))
    yield from (rule.at for rule in panel.rules if rule.crosses == name and _fits(rule.at, axis))


class _Sheet:
    """One SVG: where its panels stand, how large they are, which ranges they share."""

    def __init__(self, figure: Figure, panels: Sequence[Panel], columns: int, kind: str) -> None:
        self.panels, self.shared = panels, figure.shared
        self.columns = columns
        first = panels[0]
        names = [name for part in stack(first) for name in part.y.categories]
        self.left = min(_CATEGORIES, max([_LEFT, *(text_width(name) + 20 for name in names)]))
        self.gap = _GAP if "y" in figure.shared else _LEFT
        limit = {"single": 630.0, "pair": 382.0}.get(kind, 440.0 if columns == 2 else 340.0)
        self.wide = min((_WIDTH - self.left - 10 - (columns - 1) * self.gap) / columns, limit)
        self.heights = self._heights(first, kind)
        titled = any(panel.title for panel in panels)
        self.noted = _NOTE_ROOM if any(panel.notes for panel in panels) else 0.0
        self.room = self.noted + (title_room((panel.title for panel in panels), self.wide) if titled else 8.0)
        labels = {panel.x.label for panel in panels}
        self.x_name = labels.pop() if len(labels) == 1 else None
        below = 30.0 if self.x_name is not None else 46.0
        self.step = self.room + sum(self.heights) + _BETWEEN * (len(self.heights) - 1) + below
        self.scales: dict[tuple[str, str], list[float]] = {}
        for panel in (part for whole in panels for part in stack(whole)):
            for name, axis in (("x", panel.x), ("y", panel.y)):
                self.scales.setdefault((name, axis.label), []).extend(_values(panel, name))

    def _heights(self, first: Panel, kind: str) -> list[float]:
        parts = stack(first)
        many = 230.0 if self.columns == 2 else 190.0 if len(parts) == 1 else 150.0
        upper = {"single": 320.0, "pair": 210.0}.get(kind, many)
        return [self._category_height(p) if p.y.categories else 110.0 if i else upper for i, p in enumerate(parts)]

    def _category_height(self, panel: Panel) -> float:
        """Return the height for as many lines as the fullest category has."""
        series = [s for whole in self.panels for part in stack(whole) if part.y == panel.y for s in part.series]
        places = {y for one in series for y in one.y if y is not None}
        lines = max((sum(round(y) == i for y in places) for i in range(len(panel.y.categories))), default=1)
        return len(panel.y.categories) * (_SLOT * max(1, lines) + 9.0)

    def _scale(self, panel: Panel, name: str, start: float, end: float) -> Scale | None:
        axis = panel.x if name == "x" else panel.y
        if axis.categories:
            low, high = -0.6, len(axis.categories) - 0.4
            return Scale(*((low, high) if name == "x" else (high, low)), start, end, log=False)
        values = self.scales[name, axis.label] if name in self.shared else list(_values(panel, name))
        values = values + [end for end in (axis.low, axis.high) if end is not None]
        if not values:
            return None
        fitted = Scale.over(values, start, end, log=axis.scale == "log", margin=0.07)
        low = fitted.low if axis.low is None else axis.low
        return Scale(low, fitted.high if axis.high is None else axis.high, start, end, log=fitted.log)

    def _frames(self, place: int, panel: Panel) -> list[tuple[Panel, Frame | None]]:
        left = self.left + (place % self.columns) * (self.wide + self.gap)
        top = self.room + (place // self.columns) * self.step
        found: list[tuple[Panel, Frame | None]] = []
        for part, high in zip(stack(panel), self.heights, strict=False):
            x = self._scale(part, "x", left, left + self.wide)
            y = self._scale(part, "y", top + high, top)
            found.append((part, Frame(x, y) if x is not None and y is not None else None))
            top += high + _BETWEEN
        return found

    def block(self, looks: Looks) -> Block:
        parts: list[Markup] = []
        for place, panel in enumerate(self.panels):
            first = place % self.columns == 0 or "y" not in self.shared
            drawn = self._panel(looks, place, panel, first=first)
            label = panel.title or f"{panel.y.label} against {panel.x.label}"
            parts.append(element("g", *drawn, class_="panel", role="group", aria_label=label))
        right = self.left + min(self.columns, len(self.panels)) * (self.wide + self.gap) - self.gap
        bottom = self.step * math.ceil(len(self.panels) / self.columns)
        if self.x_name:
            parts.append(element("text", self.x_name, x=(self.left + right) / 2, y=bottom + 6, class_="name mid"))
        first_panel = self.panels[0]
        told = f"{', '.join(part.y.label or 'values' for part in stack(first_panel))} against {first_panel.x.label}"
        told = f"{first_panel.group}: {told}" if first_panel.group else told
        width = _WIDTH if self.columns > 1 else right + 24
        picture = svg(width, bottom + 16, f"{told}, {plural(len(self.panels), 'panel')}", *parts)
        return Block(first_panel.group, picture, width, bottom + 16)

    def _panel(self, looks: Looks, place: int, panel: Panel, *, first: bool) -> list[Markup]:
        parts: list[Markup] = []
        frames = self._frames(place, panel)
        for part, frame in frames:
            if frame is None:
                left = self.left + (place % self.columns) * (self.wide + self.gap)
                top = self.room + (place // self.columns) * self.step
                empty = Frame(Scale(0, 1, left, left + self.wide, log=False), Scale(0, 1, top + 1, top, log=False))
                middle = {"x": left + self.wide / 2, "y": top + self.heights[0] / 2}
                parts += [empty.title(panel.title), element("text", "not recorded", **middle, class_="name mid")]
                continue
            last = part is frames[-1][0]
            parts += _axes(part, frame, numbers=first, named=last)
            if part is panel:
                parts += _notes(panel, frame)
                parts += [frame.title(panel.title, above=9.0 + self.noted)] if panel.title else []
            if first and part.y.label:
                parts.append(frame.y_name(part.y.label, before=52 if not part.y.categories else self.left - 14))
            if last and self.x_name is None:
                parts.append(frame.x_name(part.x.label))
            parts += _content(looks, part, frame)
        return parts


# --- axes -------------------------------------------------------------------------------------------------------------


def _written(values: Sequence[float], axis: Axis) -> list[str]:
    """Return numbers of an axis in one notation."""
    most = max(values, default=0.0)
    if axis.form == "count" and min(values, default=0.0) >= 0 and most < 1e12:
        return [count_text(round(v)) if most < 1e5 else short_count(v) for v in values]
    return [plain_number(value) for value in values]


def _axes(panel: Panel, frame: Frame, *, numbers: bool, named: bool) -> list[Markup]:
    wide, high = frame.right - frame.left, frame.bottom - frame.top
    if panel.y.categories:
        heights = sorted({y for series in panel.series for y in series.y if y is not None})
        parts = [_across(frame, frame.y(y), "grid") for y in heights]
        parts += _category_names(panel.y, frame) if numbers else []
    else:
        ticks = list(panel.y.ticks) or fitted_ticks(frame.y, 8 if high >= 300 else 6 if high >= 180 else 5)
        written = _written(ticks, panel.y)
        parts = [frame.grid_y(ticks, written if numbers else None)]
    if panel.x.categories:
        places = [float(i) for i in range(len(panel.x.categories))]
        names = [wrapped(name, wide / len(places), lines=1)[0] for name in panel.x.categories]
        return [*parts, frame.grid_x(places, names if named else None), frame.edges()]
    crossed = [rule.at for rule in panel.rules if rule.crosses == "x" and frame.x.holds(rule.at)]
    places = sorted(panel.x.ticks) or _fitting_ticks(panel.x, frame, crossed)
    named_places = spaced(places, frame.x, _written(places, panel.x))
    parts.append(frame.grid_x([place for place in places if place not in named_places and panel.x.ticks]))
    parts.append(frame.grid_x(named_places, _written(named_places, panel.x) if named else None))
    return [*parts, frame.edges()]


def _fitting_ticks(axis: Axis, frame: Frame, crossed: Sequence[float]) -> list[float]:
    """Return the densest ticks whose labels all find room, where rules cross among them."""
    places: list[float] = []
    for most in range(8, 1, -1):
        apart = [t for t in fitted_ticks(frame.x, most) if all(abs(frame.x(t) - frame.x(c)) > 24 for c in crossed)]
        places = sorted((*crossed, *apart))
        if len(spaced(places, frame.x, _written(places, axis))) == len(places):
            break
    return places


def _across(frame: Frame, y: float, style: str) -> Markup:
    return element("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_=style)


def _category_names(axis: Axis, frame: Frame) -> list[Markup]:
    room = abs(frame.y(1.0) - frame.y(0.0))
    found = []
    for place, name in enumerate(axis.categories):
        lines = wrapped(name, frame.left - 18, lines=2 if room > 25 else 1)
        middle = frame.y(float(place)) + 4 - 7 * (len(lines) - 1)
        rows = [
            element("text", line, x=frame.left - 12, y=middle + 14 * i, class_="tick end")
            for i, line in enumerate(lines)
        ]
        found.append(element("g", element("title", name), *rows))
    return found


def _notes(panel: Panel, frame: Frame) -> list[Markup]:
    places = [note.at for note in panel.notes]
    kept = spaced(places, frame.x, [note.text for note in panel.notes])
    styles = {True: "above mid", False: "above bad mid", None: "above soft mid"}
    return [
        element("text", note.text, x=frame.x(note.at), y=frame.top - 7, class_=styles[note.good])
        for note in panel.notes
        if note.at in kept
    ]


# --- series and rules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    ends: tuple[float, float] | None
    singles: tuple[float, ...]
    told: str
    note: str


def _dots(series: Series, panel: Panel, frame: Frame) -> list[_Dot | None]:
    """Return the points of a series at their places, None for one that has none."""
    sideways = bool(panel.y.categories)
    axis, scale = (panel.x, frame.x) if sideways else (panel.y, frame.y)

    def at(values: Sequence[float | None], i: int) -> float | None:
        value = values[i] if values else None
        return scale(value) if value is not None and _fits(value, axis) else None

    found: list[_Dot | None] = []
    for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        if x is None or y is None or not (_fits(x, panel.x) and _fits(y, panel.y)):
            found.append(None)
            continue
        low, high = at(series.low, i), at(series.high, i)
        ends = (low, high) if low is not None and high is not None else None
        singles = tuple(
            scale(v) for v in (series.singles[i] if series.singles else ()) if v is not None and _fits(v, axis)
        )
        told, note = (texts[i] if texts else "" for texts in (series.told, series.notes))
        found.append(_Dot(frame.x(x), frame.y(y), ends, singles, told, note))
    return found


def _stretches(dots: Sequence[_Dot | None]) -> list[list[_Dot]]:
    return [[dot for dot in run if dot] for there, run in groupby(dots, key=lambda dot: dot is not None) if there]


def _bars(dot: _Dot, *, sideways: bool) -> list[Markup]:
    if dot.ends is None:
        return []
    a, b = dot.ends
    place = {"x1": a, "x2": b, "y1": dot.y, "y2": dot.y} if sideways else {"x1": dot.x, "x2": dot.x, "y1": a, "y2": b}
    return [element("line", **place, class_="bar")]


def _bands(dots: Sequence[_Dot]) -> list[Markup]:
    runs = [[dot for dot in run if dot.ends] for there, run in groupby(dots, key=lambda dot: bool(dot.ends)) if there]
    return [band([(dot.x, *dot.ends) for dot in run if dot.ends]) for run in runs]


def _series(looks: Looks, series: Series, panel: Panel, frame: Frame) -> Markup:
    dots, sideways, shape = _dots(series, panel, frame), bool(panel.y.categories), looks.shape(series)
    parts: list[Markup] = []
    for stretch in _stretches(dots):
        bands = series.interval == "band" and series.joined and not sideways
        parts += _bands(stretch) if bands else [bar for dot in stretch for bar in _bars(dot, sideways=sideways)]
        if series.joined and len(stretch) > 1:
            parts.append(path_through(((dot.x, dot.y) for dot in stretch), style=looks.line(series)))
        for dot in stretch:
            parts += [element("circle", cx=dot.x, cy=value, r=1.7, class_="one") for value in dot.singles]
        for dot in stretch if series.marked or len(stretch) == 1 else ():
            drawn = mark(shape, dot.x, dot.y, hollow=series.hollow)
            hit = element("circle", cx=dot.x, cy=dot.y, r=9, class_="hit")
            parts.append(point_group(dot.told, drawn, hit=hit) if dot.told else drawn)
    inner = element("g", *parts, data_series=slug(series.variant)) if series.variant else join(parts)
    return element("g", inner, class_=looks.tone(series), data_series=slug(series.label) if series.label else None)


def _rule(looks: Looks, rule: Rule, frame: Frame) -> Markup:
    scale = frame.y if rule.crosses == "y" else frame.x
    if not (rule.at > 0 or not scale.log) or not scale.holds(rule.at):
        return Markup("")
    at = scale(rule.at)
    ends = {"x1": frame.left, "x2": frame.right, "y1": at, "y2": at}
    if rule.crosses == "x":
        ends = {"x1": at, "x2": at, "y1": frame.top, "y2": frame.bottom}
    if not rule.label:
        return element("line", **ends, class_="reference" if rule.line == "solid" else f"reference {rule.line}")
    line = element("line", **ends, class_=looks.line(rule))
    drawn = point_group(rule.told, line, hit=element("line", **ends, class_="hit wide")) if rule.told else line
    return element("g", drawn, class_=looks.tone(rule), data_series=slug(rule.label))


def _content(looks: Looks, panel: Panel, frame: Frame) -> list[Markup]:
    """Return rules, then series, the first one on top, and the notes of points where there is room beside them."""
    parts = [_rule(looks, rule, frame) for rule in panel.rules]
    parts += [_series(looks, series, panel, frame) for series in reversed(panel.series)]
    dots = [dot for series in panel.series for dot in _dots(series, panel, frame) if dot is not None]
    return [*parts, *_beside(dots)] if any(dot.note for dot in dots) else parts


def _beside(dots: Sequence[_Dot]) -> list[Markup]:
    """Return a note beside each mark that has one, where one of four sides is free; none where none is."""
    taken = [(dot.x - 6, dot.y - 6, dot.x + 6, dot.y + 6) for dot in dots]
    found = []
    for dot in dots:
        if not dot.note:
            continue
        x, y, wide = dot.x, dot.y, text_width(dot.note, 11)
        for left, base in ((x + 8, y + 4), (x - 8 - wide, y + 4), (x - wide / 2, y - 9), (x - wide / 2, y + 18)):
            box = (left, base - 9, left + wide, base + 1)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                found.append(element("text", dot.note, x=left, y=base, class_="note"))
                break
    return found
