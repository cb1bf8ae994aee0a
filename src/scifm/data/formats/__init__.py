"""Import routes: one file each, one registry, and which of them a file or folder is for."""

from __future__ import annotations

from pathlib import Path

from scifm.data.formats.arrays import Arrays
from scifm.data.formats.format import Format
from scifm.data.formats.kinds import refuse_foreign
from scifm.data.formats.labelled import Labelled
from scifm.data.formats.pdebench import PDEBenchFormat
from scifm.data.formats.transfer import TransferFormat
from scifm.data.formats.well_files import WellFormat
from scifm.errors import ConfigError, StoreError, suggest

__all__ = ["FORMATS", "find_format", "format_named"]

FORMATS: dict[str, Format] = {
    form.name: form for form in (WellFormat(), TransferFormat(), PDEBenchFormat(), Labelled(), Arrays())
}  # from the most to the least particular


def format_named(name: str) -> Format:
    """Return the format of a name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in FORMATS:
        raise ConfigError(f"Format: {suggest(name, FORMATS)}")
    return FORMATS[name]


def find_format(path: Path) -> Format:
    """Return the format of a file or folder.

    Raises:
        StoreError: if nothing is there, or no format knows it; says what is known, or that a file is damaged.
    """
    if not path.exists():
        raise StoreError(f"There is nothing at '{path}'. Give a file, or a folder of files that belong together.")
    for form in FORMATS.values():
        if form.sniff(path) is not None:
            return form
    refuse_foreign(path)
    known = "; ".join(f"{form.name}: {form.title}" for form in FORMATS.values())
    raise StoreError(f"'{path}' is of no format that can be imported. Known are {known}.")
