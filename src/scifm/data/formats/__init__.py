"""Import routes: one file each, one registry."""

from __future__ import annotations

from scifm.data.formats.arrays import Arrays
from scifm.data.formats.format import Format
from scifm.data.formats.labelled import Labelled

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {
    "xarray": Labelled(),
    "arrays": Arrays(),
}  # from the most to the least particular
