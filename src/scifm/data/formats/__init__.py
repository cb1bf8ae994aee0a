"""Import routes: one file each, one registry."""

from __future__ import annotations

from scifm.data.formats.format import Format
from scifm.data.formats.well_files import WellFormat

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {
    WellFormat.name: WellFormat(),
}  # from the most to the least particular
