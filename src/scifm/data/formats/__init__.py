"""Import routes: one file each, one registry."""

from __future__ import annotations

from scifm.data.formats.format import Format
from scifm.data.formats.pdebench import PDEBenchFormat
from scifm.data.formats.transfer import TransferFormat

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {
    TransferFormat.name: TransferFormat(),
    PDEBenchFormat.name: PDEBenchFormat(),
}  # from the most to the least particular
