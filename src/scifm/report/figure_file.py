"""A figure as a file of its own: one SVG with key and headings, for documents and slides."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from scifm.findings.figure import Figure
from scifm.report.drawing import draw
from scifm.report.svg import element, svg, text_width
from scifm.report.template import stored_text
from scifm.runs import write_atomically

__all__ = ["write_figure"]

_WIDTH, _HALF = 976.0, 488.0


def write_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as SVG, in the look of the pages and with their colors, light or dark as the reader has it.

    Args:
        figure: what to draw.
        path: the file, ``.svg``.

    Raises:
        RunError: if it cannot be written.
    """
    drawn, parts = draw(figure), []
    x, top = 8.0, 4.0
    for key in drawn.keys:
        wide = 40 + text_width(key.label) + 18
        x, top = (8.0, top + 22) if x + wide > _WIDTH and x > 8.0 else (x, top)
        parts += [_placed(key.picture, x, top), element("text", key.label, x=x + 40, y=top + 11)]
        x += wide
    top += 28.0 if drawn.keys else 0.0
    columns = 2 if drawn.kind == "pair" else 1
    for i in range(0, len(drawn.blocks), columns):
        row = drawn.blocks[i : i + columns]
        for place, block in enumerate(row):
            parts.append(element("text", block.heading, x=_HALF * place + 8, y=top + 14, class_="title"))
            parts.append(_placed(block.picture, _HALF * place + 8, top + 22, height=block.height))
        top += 26 + max(block.height for block in row)
    style = element(
        "style", Markup(stored_text("style.css") + "svg { font-family: sans-serif; background: var(--paper); }")
    )
    text = str(svg(_WIDTH, top, figure.caption, style, *parts)).replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1
    )
    target = Path(path)
    write_atomically(target, text.encode())
    return target


def _placed(picture: Markup, x: float, y: float, *, height: float | None = None) -> Markup:
    """Return an SVG at a place within another one."""
    high = "" if height is None else f' height="{height:g}"'
    return Markup(str(picture).replace("<svg ", f'<svg x="{x:g}" y="{y:g}"{high} ', 1))  # escaped where it was made
