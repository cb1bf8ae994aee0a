"""Report: figures, tables and one self-contained page from what a run or a study left on disk. Never needs torch."""

from __future__ import annotations

from scifm.report.page import page

__all__ = ["page"]
