"""How the series of a figure look: one label, one color; one variant, one mark; and the key that says so.

Looks are told apart without color as well: by marks, by dashes, by filled and hollow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup

from scifm.findings.figure import Figure, Panel, Rule, Series
from scifm.report.svg import MARKS, key_picture

__all__ = ["Key", "Looks", "slug", "stack"]

_NUM_TONES, _NUM_SHADES = 6, 6


@dataclass(frozen=True)
class Key:
    """An entry of the key: the series it names, its picture, its words."""

    series: str
    picture: Markup
    label: str


def stack(panel: Panel) -> list[Panel]:
    """Return a panel and those beneath it."""
    return [panel] if panel.beneath is None else [panel, *stack(panel.beneath)]


class Looks:
    """The looks of one figure."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        panels = [part for panel in figure.panels for part in stack(panel)]
        self.items: list[Series | Rule] = []
        for panel in panels:
            self.items += [*panel.series, *panel.rules]
        labels = list(dict.fromkeys(item.label for item in self.items if item.label))
        free = [label for label in labels if all(i.place is None for i in self.items if i.label == label)]
        self.labels, self.free = labels, free
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
        found = []
        by_shape = self.figure.variants_by == "shape"
        for label in self.labels:
            item = next(item for item in self.items if item.label == label)
            marked = isinstance(item, Series) and item.marked and not (item.variant and by_shape)
            shape = self.shape(item) if marked and isinstance(item, Series) else ""
            joined = isinstance(item, Rule) or (item.joined and not (item.line == "faint" and marked))
            line = self.line(item).replace(" thin", "") if joined else ""
            hollow = isinstance(item, Series) and item.hollow and by_shape
            found.append(Key(slug(label), key_picture(self.tone(item), shape=shape, line=line, hollow=hollow), label))
        for variant in self.variants:
            own = next(item for item in self.items if isinstance(item, Series) and item.variant == variant)
            shape = self.shape(own) if by_shape else "circle"
            picture = key_picture("tone-ink", shape=shape, hollow=own.hollow and not by_shape)
            found.append(Key(slug(variant), picture, variant))
        return tuple(found)


def slug(label: str) -> str:
    """Return a label as a name for scripts and style sheets."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "series"
