"""Files of the reference transfer paper's code: Poisson, advection–diffusion, Helmholtz.

Layout (checked against the published generators and against the equations)
    ``fields``   (n, 2, ny, nx) float32: source f, solution u; x runs along the last axis
    ``tensor``   (n, columns) float32, every scale factor included:
                 3 columns  k11, k22, k12               Poisson              −∇·(K∇u) = f
                 5 columns  k11, k22, k12, v1, v2       advection–diffusion  −∇·(K∇u) + v·∇u = f
                 2 columns  D, ω                        Helmholtz            −D Δu − ω u = f
    ``other``    (n, 1), advection–diffusion only: the ratio of the two terms; not imported, u already tells it
    The box is the unit square and periodic. ``scales.npy`` beside the files holds medians and is not needed.

Files whose names hold the words ``train``, ``val`` (or ``valid``) and ``test``, together in one folder, become the
splits of that name; a file alone is parted by the mapping.

The proposed names are those of our systems (``diffusion_xx``, …) only if the first samples solve that system's
equation; otherwise columns are called ``coefficient_0``, … and the card says so.

References:
    Subramanian et al., "Towards Foundation Models for Scientific Machine Learning: Characterizing Scaling and Transfer
    Behavior", NeurIPS 2023, arXiv:2306.00258; code ShashankSubramanian/neuraloperators-TL-scaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py

from scifm.data.formats.format import Contents, Format, LazyArray, opening
from scifm.data.formats.hdf5 import Hdf5Array, holds_numbers, open_hdf5, sniff_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, required
from scifm.data.formats.mapping import CoefficientMapping, DataMapping, FieldMapping
from scifm.data.formats.pieces import Piece
from scifm.data.formats.reader import doubt
from scifm.data.well import OpenFiles
from scifm.errors import DataError, StoreError
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

__all__ = ["TransferFormat"]

_AXES = ("trajectory", "channel", "y", "x")
_ARRAYS = {"fields": _AXES, "tensor": ("trajectory", "channel")}
_SYSTEMS: Mapping[int, type[System]] = {3: Poisson, 5: AdvectionDiffusion, 2: Helmholtz}
_HELMHOLTZ_EQUATION = "-D lap u - w u = f on a periodic box"


def _is_ours(file: h5py.File) -> bool:
    fields, tensor = file.get("fields"), file.get("tensor")
    if not holds_numbers(fields) or fields.ndim != len(_AXES) or fields.shape[1] != 2:
        return False
    return tensor is None or (holds_numbers(tensor) and tensor.ndim == 2 and len(tensor) == len(fields))


class TransferFormat(Format):
    """HDF5 files with ``fields`` and ``tensor``."""

    name = "transfer"
    title = "HDF5 of the reference transfer paper (fields, tensor)"

    def sniff(self, path: Path) -> str | None:
        known = sniff_hdf5(data_sets_under(path, ("hdf5",)), lambda file: _is_ours(file) or None)
        return "HDF5 with 'fields' (n, 2, ny, nx) and 'tensor'" if known else None

    def read(self, path: Path) -> Contents:
        files, pool = required(path, ("hdf5",), "HDF5"), OpenFiles(open_hdf5)
        with opening(path, self.title):
            return join_pieces(path, files, [self._piece(file, pool) for file in files], close=pool.close)

    def _piece(self, path: Path, pool: OpenFiles) -> Piece:
        with open_hdf5(path) as file:
            if not _is_ours(file):
                raise StoreError(
                    f"'{path}' is not {self.title}: it needs 'fields' of shape (n, 2, ny, nx) and, if there is one, "
                    "'tensor' of shape (n, columns). Leave out format to have it looked up, or look with "
                    "'scifm inspect'."
                )
            held = {name: axes for name, axes in _ARRAYS.items() if name in file}
            arrays: dict[str, LazyArray] = {name: Hdf5Array.of(pool, path, file[name]) for name in held}
        return Piece(path, arrays, held, boundary={"y": "periodic", "x": "periodic"})

    def propose(self, contents: Contents) -> DataMapping:
        shape = tuple(contents.arrays["fields"].shape)
        if not shape[0] or min(shape[2:]) < 2:
            raise DataError(
                f"'{contents.path}' holds no samples, or fewer than 2 points along an axis: 'fields' has shape {shape}."
            )
        table = contents.arrays.get("tensor")
        if table is None:
            return self._mapping([])
        num_columns = table.shape[1]
        plain = self._mapping([f"coefficient_{column}" for column in range(num_columns)])
        system = _SYSTEMS[num_columns]() if num_columns in _SYSTEMS else None
        if system is None:
            reason: str | None = "no system known here has so many coefficients"
        else:
            equation = _HELMHOLTZ_EQUATION if isinstance(system, Helmholtz) else ""  # its own leaves a sign open
            named = self._mapping(system.signature.coefficients, system=system.name, equation=equation)
            try:
                reason = doubt(contents, named, system)
            except DataError as error:  # NaN: told here, and refused with its place when the samples are used
                reason = str(error).rstrip(".")
            if reason is None:
                return named
        defect = f"What the columns of 'tensor' mean is not known: {reason}."
        return plain.model_copy(update={"known_defects": (defect,)})

    def _mapping(self, coefficients: Sequence[str], *, system: str | None = None, equation: str = "") -> DataMapping:
        return DataMapping(
            format=self.name,
            fields={
                "forcing": FieldMapping(array="fields", axes=_AXES, role="input", channel=0),
                "solution": FieldMapping(array="fields", axes=_AXES, role="output", channel=1),
            },
            coefficients={name: CoefficientMapping(array="tensor", channel=i) for i, name in enumerate(coefficients)},
            extent={"y": 1.0, "x": 1.0},
            boundary={"y": "periodic", "x": "periodic"},
            system=system,
            equation=equation,
        )
