"""How every figure looks, and how it becomes SVG that follows the page's light or dark colors.

Settings hold only inside `styled`; importing this file or drawing a figure leaves matplotlib as it was.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLORS", "GRID", "INK", "PAPER", "clean", "data_uri", "styled", "to_svg"]

INK, GRID, PAPER = "#1b1d21", "#d3d7dd", "#fdfdfe"

COLORS = {
    "few_shot": "#0072b2",
    "from_scratch": "#d55e00",
    "zero_shot": "#009e73",
    "in_distribution": "#cc79a7",
    "pretrain": "#0072b2",
    "other": "#8a8f98",
}
"""Okabe and Ito's palette, told apart with any color vision; each kind also has its own line style or marker."""

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 9.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "savefig.bbox": None,
    "savefig.facecolor": "none",
    "svg.fonttype": "path",
    "text.color": INK,
    "text.parse_math": False,  # names come from users: a $ is a dollar sign
    "text.usetex": False,
    "xtick.color": INK,
    "xtick.labelsize": 9.0,
    "ytick.color": INK,
    "ytick.labelsize": 9.0,
}

_THEME = (
    "<style>svg{--ink:#1b1d21;--grid:#d3d7dd;--paper:#fdfdfe}"
    "@media screen and (prefers-color-scheme:dark){svg{--ink:#e4e6ea;--grid:#3b4048;--paper:#1a1c20}}</style>"
)

FigureMaker = TypeVar("FigureMaker", bound=Callable[..., Any])


def styled(draw: FigureMaker) -> FigureMaker:
    """Run `draw` under the report's style and restore whatever held before."""

    @wraps(draw)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside  # type: ignore[return-value]


def clean(axes: Axes) -> None:
    """Keep the left and bottom spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major")


@styled
def to_svg(figure: Figure, *, dpi: int = 130) -> bytes:
    """Return `figure` as SVG whose ink, grid and paper follow the reader's color scheme; equal figures, equal bytes.

    Args:
        figure: what to write.
        dpi: resolution of what is embedded as pixels.
    """
    target = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "scifm"}):  # identifiers that do not change from one time to the next
        figure.savefig(target, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    for name, color in (("ink", INK), ("grid", GRID), ("paper", PAPER)):
        text = text.replace(f": {color}", f": var(--{name}, {color})")
    start = text.index(">", text.index("<svg")) + 1
    return (text[:start] + _THEME + text[start:]).encode()


def data_uri(svg: bytes) -> str:
    """Return `svg` as an address that holds the picture itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
