"""Import routes: one file each, one registry."""

from __future__ import annotations

from scifm.data.formats.arrays import Arrays, Labelled
from scifm.data.formats.format import Format
from scifm.data.formats.pdebench import PDEBenchFormat
from scifm.data.formats.transfer import TransferFormat
from scifm.data.formats.well_files import WellFormat

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {
    form.name: form for form in (WellFormat(), TransferFormat(), PDEBenchFormat(), Labelled(), Arrays())
}  # from the most to the least particular
