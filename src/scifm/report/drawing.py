"""The one engine of figures: any `Figure` becomes inline SVG with a key, for pages and for files.

What is drawn, a figure says; where and how large, this file says; colors, the page's style sheet says (``tone-…``,
``shade-…``). One label, one color; one variant, one mark: looks are told apart without color as well. Every point that
tells something answers to pointer and keyboard by the page's script.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.report.cells import draw_cells
from scifm.report.svg import (
    MARKS,
    TITLE_SIZE,
    Frame,
    Scale,
    band,
    column,
    element,
    fitted_ticks,
    join,
    mark,
    path_through,
    spaced,
    svg,
    text_width,
    wrapped,
)
from scifm.runs import write_atomically
from scifm.wording import count_text, plain_number, plural, short_count

__all__ = ["Block", "Drawn", "Key", "Looks", "draw", "stack", "write_figure", "written_numbers"]

_WIDTH = 960.0  # of a full drawing, in CSS pixels
_LEFT, _CATEGORIES, _GAP, _BETWEEN = 66.0, 236.0, 16.0, 14.0
_SLOT, _NOTE_ROOM, _CELLS = 17.0, 17.0, 210.0  # heights: one line of a category, notes, a table of numbers at least
_MOST_COLUMNS = 4
_LARGEST = 1e300  # beyond, scales and ticks would overflow
_NUM_TONES, _NUM_SHADES = 6, 6


@dataclass(frozen=True)
class Key:
    """An entry of the key: the series it names, its picture, its words."""

    series: str
    picture: Markup
    label: str


@dataclass(frozen=True)
class Block:
    """Panels drawn together, with the heading above them."""

    heading: str
    picture: Markup
    height: float


@dataclass(frozen=True)
class Drawn:
    """A figure as SVG: blocks under one key."""

    blocks: tuple[Block, ...]
    keys: tuple[Key, ...]
    caption: str
    kind: str  # ``many`` panels across the page, a ``single`` one, or blocks set in a ``pair`` beside each other
    name: str = ""  # of its place on a page
    figure: Figure | None = None  # what was drawn


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
    # side by side at most four, lines about equally full; of categories all
    lines = (1 if panels[0].y.categories else math.ceil(len(panels) / _MOST_COLUMNS) for panels in groups)
    columns = max(math.ceil(len(panels) / rows) for panels, rows in zip(groups, lines, strict=True))
    kind = "many" if columns > 1 else "single" if len(groups) == 1 or figure.shared else "pair"
    sheets = [_Sheet(looks, panels, columns, kind) for panels in groups]
    return Drawn(tuple(sheet.block() for sheet in sheets), looks.keys(), figure.caption, kind, figure=figure)


def write_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as SVG, in the look of the pages and with their colors, light or dark as the reader has it.

    Raises:
        RunError: if it cannot be written.
    """
    drawn, parts = draw(figure), []
    width, half, x, top = _WIDTH + 16, _WIDTH / 2 + 8, 8.0, 4.0
    for key in drawn.keys:
        wide = 40 + text_width(key.label) + 18
        x, top = (8.0, top + 22) if x + wide > width and x > 8.0 else (x, top)
        parts += [_placed(key.picture, x, top), element("text", key.label, x=x + 40, y=top + 11)]
        x += wide
    top += 28.0 if drawn.keys else 0.0
    columns = 2 if drawn.kind == "pair" else 1
    for i in range(0, len(drawn.blocks), columns):
        row = drawn.blocks[i : i + columns]
        for place, block in enumerate(row):
            parts.append(element("text", block.heading, x=half * place + 8, y=top + 14, class_="title"))
            parts.append(_placed(block.picture, half * place + 8, top + 22, height=block.height))
        top += 26 + max(block.height for block in row)
    colors = Markup(
        Path(__file__).with_name("style.css").read_text(encoding="utf-8")
        + "svg { font-family: sans-serif; background: var(--paper); }"
    )
    text = str(svg(width, top, figure.caption, element("style", colors), *parts))
    target = Path(path)
    write_atomically(target, text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode())
    return target


def _placed(picture: Markup, x: float, y: float, *, height: float | None = None) -> Markup:
    high = "" if height is None else f' height="{height:g}"'
    return Markup(str(picture).replace("<svg ", f'<svg x="{x:g}" y="{y:g}"{high} ', 1))  # escaped where it was made


# --- looks ------------------------------------------------------------------------------------------------------------


def stack(panel: Panel) -> list[Panel]:
    """Return a panel and those beneath it."""
    return [panel] if panel.beneath is None else [panel, *stack(panel.beneath)]


class Looks:
    """How the series of a figure look, and the key that says so."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.items: list[Series | Rule] = []
        for panel in (part for whole in figure.panels for part in stack(whole)):
            self.items += [*panel.series, *panel.rules]
        self.labels = list(dict.fromkeys(item.label for item in self.items if item.label))
        if figure.ordered:  # whichever of the steps the first panel lacks
            self.labels.sort(key=_leading_number)
        placed = {item.label for item in self.items if item.place is not None}
        self.free = [label for label in self.labels if label not in placed]
        self.variants = list(dict.fromkeys(i.variant for i in self.items if isinstance(i, Series) and i.variant))

    def place(self, item: Series | Rule) -> int:
        """Return the place in the palette."""
        if item.place is not None:
            return item.place
        return self.free.index(item.label) if item.label in self.free else 0

    def tone(self, item: Series | Rule) -> str:
        """Return the class of its color."""
        if isinstance(item, Rule) and not item.label:
            return "tone-ink"
        if self.figure.ordered and item.label and item.place is None:
            return f"shade-{round((_NUM_SHADES - 1) * self.free.index(item.label) / max(1, len(self.free) - 1))}"
        return f"tone-{self.place(item) % _NUM_TONES}"

    def shape(self, series: Series) -> str:
        """Return the shape of its marks."""
        if series.variant and self.figure.variants_by == "shape":
            return MARKS[self.variants.index(series.variant) % len(MARKS)]
        return MARKS[0 if self.figure.ordered else self.place(series) % len(MARKS)]

    def line(self, item: Series | Rule) -> str:
        """Return the classes of its line."""
        thin = "thin" if isinstance(item, Series) and item.variant else ""
        return " ".join(filter(None, ("line", thin, "" if item.line == "solid" else item.line)))

    def keys(self) -> tuple[Key, ...]:
        """Return the key: labels by color, then variants by mark."""
        keys = []
        by_shape = self.figure.variants_by == "shape"
        for label in self.labels:
            item = next(item for item in self.items if item.label == label)
            line, shape, hollow = self.line(item).replace(" thin", ""), "", False
            if isinstance(item, Series):
                shape = self.shape(item) if item.marked and not (item.variant and by_shape) else ""
                line = line if item.joined and not (item.line == "faint" and shape) else ""
                hollow = item.hollow and by_shape
            keys.append(Key(_slug(label), _key_picture(self.tone(item), shape, line, hollow=hollow), label))
        for variant in self.variants:
            own = next(item for item in self.items if isinstance(item, Series) and item.variant == variant)
            shape = self.shape(own) if by_shape else "circle"
            picture = _key_picture("tone-ink", shape, hollow=own.hollow and not by_shape)
            keys.append(Key(_slug(variant), picture, variant))
        return tuple(keys)


def _key_picture(tone: str, shape: str, line: str = "", *, hollow: bool = False) -> Markup:
    """Return the small picture beside a legend's words: a line, a mark, or both."""
    drawn = [element("line", x1=1, x2=29, y1=7, y2=7, class_=line)] if line else []
    drawn += [mark(shape, 15, 7, hollow=hollow)] if shape else []
    return element("svg", *drawn, viewBox="0 0 30 14", width=30, height=14, aria_hidden="true", class_=tone)


def _leading_number(label: str) -> float:
    found = re.match(r"[\d,.]*\d(e[+-]?\d+)?", label)
    return float(found[0].replace(",", "")) if found else math.inf


def _slug(label: str) -> str:
    """Return a label as a name for scripts and style sheets."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "series"


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

    def __init__(self, looks: Looks, panels: Sequence[Panel], columns: int, kind: str) -> None:
        self.looks, self.panels, self.columns = looks, panels, columns
        self.shared = looks.figure.shared
        first = stack(panels[0])
        names = [name for part in first for name in part.y.categories]
        self.left = min(_CATEGORIES, max([_LEFT, *(text_width(name) + 20 for name in names)]))
        self.gap = _GAP if "y" in self.shared else _LEFT
        many = (440.0, 230.0) if columns == 2 else (340.0, 190.0 if len(first) == 1 else 150.0)
        widest, upper = {"single": (630.0, 320.0), "pair": (382.0 + _LEFT - self.left, 210.0), "many": many}[kind]
        self.wide = min((_WIDTH - self.left - 10 - (columns - 1) * self.gap) / columns, widest)
        self.heights = [
            self._category_height(part) if part.y.categories else 110.0 if i else upper for i, part in enumerate(first)
        ]
        titles = [len(wrapped(panel.title, self.wide, size=TITLE_SIZE)) for panel in panels if panel.title]
        self.noted = _NOTE_ROOM if any(panel.notes for panel in panels) else 0.0
        self.room = self.noted + (10.0 + 15.0 * max(titles) if titles else 8.0)
        labels = {panel.x.label for panel in panels}
        self.x_name = labels.pop() if len(labels) == 1 else None
        below = 30.0 if self.x_name is not None else 46.0
        self.step = self.room + sum(self.heights) + _BETWEEN * (len(self.heights) - 1) + below
        self.ranges: dict[tuple[str, str], list[float]] = {}
        for panel in (part for whole in panels for part in stack(whole)):
            for name, axis in (("x", panel.x), ("y", panel.y)):
                self.ranges.setdefault((name, axis.label), []).extend(_values(panel, name))

    def _category_height(self, panel: Panel) -> float:
        """Return the height for as many lines as the fullest category has."""
        series = [s for whole in self.panels for part in stack(whole) if part.y == panel.y for s in part.series]
        places = {y for one in series for y in one.y if y is not None}
        lines = max((sum(round(y) == i for y in places) for i in range(len(panel.y.categories))), default=1)
        least = 0.0 if panel.cells is None else _CELLS
        return max(least, len(panel.y.categories) * (_SLOT * max(1, lines) + 9.0))

    def _scale(self, panel: Panel, name: str, start: float, end: float) -> Scale | None:
        axis = panel.x if name == "x" else panel.y
        if axis.categories:
            low, high = -0.6, len(axis.categories) - 0.4
            return Scale(*((low, high) if name == "x" else (high, low)), start, end, log=False)
        values = self.ranges[name, axis.label] if name in self.shared else list(_values(panel, name))
        values = values + [end for end in (axis.low, axis.high) if end is not None]
        if not values:
            return None
        fitted = Scale.over(values, start, end, log=axis.scale == "log", margin=0.07)
        low = fitted.low if axis.low is None else axis.low
        return Scale(low, fitted.high if axis.high is None else axis.high, start, end, log=fitted.log)

    def block(self) -> Block:
        """Draw the panels."""
        parts: list[Markup] = []
        for place, panel in enumerate(self.panels):
            label = panel.title or f"{panel.y.label} against {panel.x.label}"
            parts.append(element("g", *self._panel(place, panel), class_="panel", role="group", aria_label=label))
        right = self.left + min(self.columns, len(self.panels)) * (self.wide + self.gap) - self.gap
        bottom = self.step * math.ceil(len(self.panels) / self.columns)
        if self.x_name:
            parts.append(element("text", self.x_name, x=(self.left + right) / 2, y=bottom + 6, class_="name mid"))
        first = self.panels[0]
        label = f"{', '.join(part.y.label or 'values' for part in stack(first))} against {first.x.label}"
        label = f"{first.group}: {label}" if first.group else label
        width = _WIDTH if self.columns > 1 else right + 24
        picture = svg(width, bottom + 16, f"{label}, {plural(len(self.panels), 'panel')}", *parts)
        return Block(first.group, picture, bottom + 16)

    def _panel(self, place: int, panel: Panel) -> list[Markup]:
        left = self.left + (place % self.columns) * (self.wide + self.gap)
        top = self.room + (place // self.columns) * self.step
        first = place % self.columns == 0 or "y" not in self.shared
        parts: list[Markup] = []
        whole = stack(panel)
        for part, high in zip(whole, self.heights, strict=False):
            x, y = self._scale(part, "x", left, left + self.wide), self._scale(part, "y", top + high, top)
            if x is None or y is None:
                empty = Frame(Scale(0, 1, left, left + self.wide, log=False), Scale(0, 1, top + 1, top, log=False))
                text = element("text", "not recorded", x=left + self.wide / 2, y=top + high / 2, class_="name mid")
                parts += [empty.title(panel.title), text] if part is panel else [text]
            else:
                frame, last = Frame(x, y), part is whole[-1]
                parts += _axes(part, frame, numbers=first, named=last)
                if part is panel:
                    parts += _notes(panel, frame)
                    parts += [frame.title(panel.title, above=9.0 + self.noted)] if panel.title else []
                if first and part.y.label:
                    parts.append(frame.y_name(part.y.label, before=52 if not part.y.categories else self.left - 14))
                if last and self.x_name is None:
                    parts.append(frame.x_name(part.x.label))
                parts += _content(self.looks, part, frame)
            top += high + _BETWEEN
        return parts


# --- axes -------------------------------------------------------------------------------------------------------------


def written_numbers(values: Sequence[float], axis: Axis) -> list[str]:
    """Return numbers of an axis in one notation."""
    most = max(values, default=0.0)
    if axis.form == "count" and min(values, default=0.0) >= 0 and most < 1e12:
        return [count_text(round(v)) if most < 1e5 else short_count(v) for v in values]
    return [plain_number(value) for value in values]


def _axes(panel: Panel, frame: Frame, *, numbers: bool, named: bool) -> list[Markup]:
    wide, high = frame.right - frame.left, frame.bottom - frame.top
    if panel.y.categories:
        heights = sorted({y for series in panel.series for y in series.y if y is not None})
        parts = [frame.grid("y", heights), *(_category_names(panel.y, frame) if numbers else [])]
    else:
        ticks = list(panel.y.ticks) or fitted_ticks(frame.y, 8 if high >= 300 else 6 if high >= 180 else 5)
        parts = [frame.grid("y", ticks, written_numbers(ticks, panel.y) if numbers else None)]
    if panel.x.categories:
        places = [float(i) for i in range(len(panel.x.categories))]
        names = [wrapped(name, wide / len(places), lines=1)[0] for name in panel.x.categories]
        return [*parts, frame.grid("x", places, names if named else None), frame.edges()]
    crossed = [rule.at for rule in panel.rules if rule.crosses == "x" and frame.x.holds(rule.at)]
    places = sorted(panel.x.ticks) or _fitting_ticks(panel.x, frame, crossed)
    named_places = spaced(places, frame.x, written_numbers(places, panel.x))
    parts.append(frame.grid("x", [place for place in places if place not in named_places and panel.x.ticks]))
    parts.append(frame.grid("x", named_places, written_numbers(named_places, panel.x) if named else None))
    return [*parts, frame.edges()]


def _fitting_ticks(axis: Axis, frame: Frame, crossed: Sequence[float]) -> list[float]:
    """Return the densest ticks whose labels all find room, where rules cross among them."""
    places: list[float] = []
    for most in range(8, 1, -1):
        apart = [t for t in fitted_ticks(frame.x, most) if all(abs(frame.x(t) - frame.x(c)) > 24 for c in crossed)]
        places = sorted((*crossed, *apart))
        if len(spaced(places, frame.x, written_numbers(places, axis))) == len(places):
            break
    return places


def _category_names(axis: Axis, frame: Frame) -> list[Markup]:
    room, x, names = abs(frame.y(1.0) - frame.y(0.0)), frame.left - 12, []
    for place, name in enumerate(axis.categories):
        lines = wrapped(name, frame.left - 18, lines=2 if room > 25 else 1)
        first = frame.y(float(place)) + 4 - 7 * (len(lines) - 1)
        rows = [element("text", line, x=x, y=first + 14 * i, class_="tick end") for i, line in enumerate(lines)]
        names.append(element("g", element("title", name), *rows))
    return names


def _notes(panel: Panel, frame: Frame) -> list[Markup]:
    places = spaced([note.at for note in panel.notes], frame.x, [note.text for note in panel.notes])
    styles = {True: "above mid", False: "above bad mid", None: "above soft mid"}
    return [
        element("text", note.text, x=frame.x(note.at), y=frame.top - 7, class_=styles[note.good])
        for note in panel.notes
        if note.at in places
    ]


# --- series and rules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    ends: tuple[float, float] | None
    singles: tuple[float, ...]
    text: str
    note: str


def _dots(series: Series, panel: Panel, frame: Frame) -> list[_Dot | None]:
    """Return the points of a series at their places, None for one that has none."""
    axis, scale = (panel.x, frame.x) if panel.y.categories else (panel.y, frame.y)

    def placed(values: Sequence[float | None]) -> list[float]:
        return [scale(value) for value in values if value is not None and _fits(value, axis)]

    dots: list[_Dot | None] = []
    for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        if x is None or y is None or not (_fits(x, panel.x) and _fits(y, panel.y)):
            dots.append(None)
            continue
        ends = placed([series.low[i], series.high[i]]) if series.low and series.high else []
        singles = tuple(placed(series.singles[i])) if series.singles else ()
        text, note = (texts[i] if texts else "" for texts in (series.told, series.notes))
        both = (ends[0], ends[1]) if len(ends) == 2 else None
        dots.append(_Dot(frame.x(x), frame.y(y), both, singles, text, note))
    return dots


def _intervals(dots: Sequence[_Dot], *, bands: bool, sideways: bool) -> Iterator[Markup]:
    """Yield the intervals of points that follow one another: bands through those that have one, or a bar each."""
    for there, run in groupby(dots, key=lambda dot: dot.ends is not None):
        ends = [(dot, *dot.ends) for dot in run if dot.ends is not None] if there else []
        if bands and ends:
            yield band([(dot.x, a, b) for dot, a, b in ends])
        for dot, a, b in () if bands else ends:
            across = {"x1": a, "x2": b, "y1": dot.y, "y2": dot.y}
            upright = {"x1": dot.x, "x2": dot.x, "y1": a, "y2": b}
            yield element("line", **(across if sideways else upright), class_="bar")


def _series(looks: Looks, series: Series, panel: Panel, frame: Frame) -> Markup:
    dots, sideways, shape = _dots(series, panel, frame), bool(panel.y.categories), looks.shape(series)
    parts: list[Markup] = []
    for there, run in groupby(dots, key=lambda dot: dot is not None):
        stretch = [dot for dot in run if dot is not None] if there else []
        bands = series.interval == "band" and series.joined and not sideways
        parts += _intervals(stretch, bands=bands, sideways=sideways)
        if series.joined and len(stretch) > 1:
            parts.append(path_through(((dot.x, dot.y) for dot in stretch), style=looks.line(series)))
        if series.bar is not None:
            wide = frame.x(series.bar) - frame.x(0.0)
            parts[:0] = [column(dot.x, dot.y, frame.bottom, wide) for dot in stretch]
        for dot in stretch:
            parts += [element("circle", cx=dot.x, cy=value, r=1.7, class_="one") for value in dot.singles]
        for dot in stretch if series.marked or len(stretch) == 1 else ():
            drawn = mark(shape, dot.x, dot.y, hollow=series.hollow)
            hit = element("circle", cx=dot.x, cy=dot.y, r=9, class_="hit")
            parts.append(_point(dot.text, drawn, hit))
    inner = element("g", *parts, data_series=_slug(series.variant)) if series.variant else join(parts)
    return element("g", inner, class_=looks.tone(series), data_series=_slug(series.label) if series.label else None)


def _point(text: str, drawn: Markup, hit: Markup) -> Markup:
    """Return something the reader can point at, where something is told of it, one line a fact.

    Without scripts that is the browser's own tooltip; the page's script turns it into its own and adds the keyboard.
    """
    return element("g", element("title", text), drawn, hit, class_="point") if text else drawn


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
    drawn = _point(rule.told, line, element("line", **ends, class_="hit wide"))
    return element("g", drawn, class_=looks.tone(rule), data_series=_slug(rule.label))


def _content(looks: Looks, panel: Panel, frame: Frame) -> list[Markup]:
    """Return cells, rules, series, the first one on top, and the notes of points where there is room beside them."""
    parts = [*draw_cells(panel, frame), *(_rule(looks, rule, frame) for rule in panel.rules)]
    parts += [_series(looks, series, panel, frame) for series in reversed(panel.series)]
    dots = [dot for series in panel.series for dot in _dots(series, panel, frame) if dot is not None]
    taken = [(dot.x - 6, dot.y - 6, dot.x + 6, dot.y + 6) for dot in dots]
    for dot in (dot for dot in dots if dot.note):
        x, y, wide = dot.x, dot.y, text_width(dot.note, 11)
        for left, base in ((x + 8, y + 4), (x - 8 - wide, y + 4), (x - wide / 2, y - 9), (x - wide / 2, y + 18)):
            box = (left, base - 9, left + wide, base + 1)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                parts.append(element("text", dot.note, x=left, y=base, class_="note"))
                break
    return parts
