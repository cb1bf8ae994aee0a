"""Let SciFM read a file format that it does not know: text files of a laboratory, ``lab ROWS COLUMNS`` and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scifm.data.formats import FORMATS
from scifm.data.formats.format import Contents, Format, opening
from scifm.data.formats.kinds import WHOLE
from scifm.data.formats.mapping import DataMapping, FieldMapping


class LabFormat(Format):
    """Pairs of a load and the deflection it makes, one pair after the other, each row by row, on a periodic square."""

    name = "lab"
    title = "text of the laboratory (.lab)"

    def sniff(self, path: Path) -> str | None:
        return "a name that ends in .lab" if path.suffix == ".lab" else None

    def read(self, path: Path) -> Contents:
        with opening(path, self.title):  # what goes wrong inside is told in one line
            _, rows, columns, *numbers = path.read_text().split()
            pairs = np.array(numbers, float).reshape(-1, 2, int(rows), int(columns))
        return Contents(path, (path,), parts={WHOLE: {"pairs": pairs}})

    def propose(self, contents: Contents) -> DataMapping:
        axes, fields = ("trajectory", "channel", "y", "x"), {}
        for channel, (name, role) in enumerate({"load": "input", "deflection": "output"}.items()):
            fields[name] = FieldMapping(array="pairs", axes=axes, role=role, channel=channel)
        square = {"extent": {"x": 1.0, "y": 1.0}, "boundary": {"x": "periodic", "y": "periodic"}}
        return DataMapping(format=self.name, fields=fields, **square)


FORMATS[LabFormat.name] = LabFormat()  # from here on scifm.data.importing.open_data knows it, and
# scifm inspect|import FILE.lab --import examples/05_format.py
