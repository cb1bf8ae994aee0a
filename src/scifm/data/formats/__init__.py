"""Import routes: one file each, one registry."""

from __future__ import annotations

from scifm.data.formats.format import Format

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {}  # from the most to the least particular
