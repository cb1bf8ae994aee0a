"""What a Python prompt and a notebook show of an object: a line of what it is, and a few rows of what it holds."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Shown"]


class Shown:
    """An object that says in `_shown` what a prompt shows of it; a dataclass of it is made with ``repr=False``."""

    def _shown(self) -> tuple[str, Iterable[tuple[str, str]]]:
        """Return what it is, and by name what it holds; a row without a text is left out."""
        raise NotImplementedError

    def __repr__(self) -> str:
        head, rows = self._shown()
        told = [(name, text) for name, text in rows if text]
        width = max((len(name) for name, _ in told), default=0)
        return "\n".join([f"<{head}>", *(f"  {name:{width}}  {text}" for name, text in told)])

    def _repr_html_(self) -> str:
        head, rows = self._shown()
        cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows if text)
        style = "text-align: left; white-space: pre-wrap"
        body = "".join(cells).replace("<th>", f'<th style="{style}">').replace("<td>", f'<td style="{style}">')
        return f'<table><caption style="text-align: left"><b>{html.escape(head)}</b></caption>{body}</table>'
