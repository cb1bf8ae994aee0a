"""Figures, tables and one self-contained page from what a run, a study or a plan left on disk. Never needs torch.

What is drawn is data (`scifm.findings.figure`): a function from what was found to a `Figure`; `drawing` draws any of
them, on a page or into a file (`write_figure`). A kind of page is a renderer and a line in ``PAGES`` (`page`). What may
not live here: arithmetic on results; a number is found elsewhere, written down, and only then told.
"""

from __future__ import annotations

from scifm.report.drawing import write_figure
from scifm.report.page import page

__all__ = ["page", "write_figure"]
