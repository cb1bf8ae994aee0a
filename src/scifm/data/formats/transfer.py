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

The proposed names are those of our systems (``diffusion_xx``, …) only if the first sample solves that system's
equation; otherwise columns are called ``coefficient_0``, … and the card says so.

References:
    Subramanian et al., "Towards Foundation Models for Scientific Machine Learning: Characterizing Scaling and Transfer
    Behavior", NeurIPS 2023, arXiv:2306.00258; code ShashankSubramanian/neuraloperators-TL-scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch

from scifm.data.formats.contents import Contents, LazyArray
from scifm.data.formats.format import FOREIGN_ERRORS, Format, files_under, unreadable
from scifm.data.formats.hdf5 import Hdf5Array, holds_numbers, open_hdf5
from scifm.data.formats.mapping import CoefficientMapping, DataMapping, FieldMapping
from scifm.data.formats.members import group_by_split, join_arrays
from scifm.data.well import OpenFiles
from scifm.errors import DataError, StoreError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

__all__ = ["TransferFormat"]

_ENDINGS = (".h5", ".hdf5")
_ARRAYS = frozenset({"fields", "tensor"})
_AXES = ("trajectory", "channel", "y", "x")
_SYSTEMS: Mapping[int, type[System]] = {3: Poisson, 5: AdvectionDiffusion, 2: Helmholtz}
_HELMHOLTZ_EQUATION = "-D lap u - w u = f on a periodic box"
_SOLVES = 0.02  # residual over source; float32 leaves about 1e-3, a wrong sign or scale leaves 0.5 and more


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
        files = files_under(path, _ENDINGS)
        try:
            for file in files:
                with open_hdf5(file) as opened:
                    if not _is_ours(opened):
                        return None
        except FOREIGN_ERRORS:  # truncated or not HDF5: not for us to say
            return None
        return "HDF5 with 'fields' (n, 2, ny, nx) and 'tensor'" if files else None

    def read(self, path: Path) -> Contents:
        files = files_under(path, _ENDINGS)
        if not files:
            raise StoreError(f"'{path}' holds no file that ends in {' or '.join(_ENDINGS)}.")
        opened = OpenFiles(open_hdf5)
        try:
            arrays = {file: self._arrays(opened, file) for file in files}
        except (RuntimeError, KeyError, ValueError) as error:  # what h5py says of damaged parts of a file
            raise unreadable(path, self.title, error) from error
        parts = {
            part: join_arrays(own, [arrays[file] for file in own], along_first=_ARRAYS)
            for part, own in group_by_split(path, files).items()
        }
        return Contents(
            path=path,
            files=files,
            parts=parts,
            axes={"fields": _AXES, "tensor": ("trajectory", "channel")},
            periodic={"y": True, "x": True},
            close=opened.close,
        )

    def _arrays(self, opened: OpenFiles, path: Path) -> dict[str, LazyArray]:
        with open_hdf5(path) as file:
            if not _is_ours(file):
                raise StoreError(
                    f"'{path}' is not {self.title}: it needs 'fields' of shape (n, 2, ny, nx) and, if there is one, "
                    "'tensor' of shape (n, columns). Leave out format to have it looked up, or look with "
                    "'scifm inspect'."
                )
            return {name: Hdf5Array.of(opened, path, file[name]) for name in sorted(_ARRAYS) if name in file}

    def propose(self, contents: Contents) -> DataMapping:
        table = contents.arrays.get("tensor")
        num_columns = table.shape[1] if table is not None else 0
        system = _SYSTEMS[num_columns]() if num_columns in _SYSTEMS else None
        doubt = _doubt(contents, system) if num_columns else None
        known = system if doubt is None else None
        names = known.signature.coefficients if known is not None else [f"coefficient_{i}" for i in range(num_columns)]
        return DataMapping(
            format=self.name,
            fields={
                "forcing": FieldMapping(array="fields", axes=_AXES, role="input", channel=0),
                "solution": FieldMapping(array="fields", axes=_AXES, role="output", channel=1),
            },
            coefficients={name: CoefficientMapping(array="tensor", channel=i) for i, name in enumerate(names)},
            extent={"y": 1.0, "x": 1.0},
            periodic={"y": True, "x": True},
            equation=_equation(known) if known is not None else "",
            known_defects=(f"What the columns of 'tensor' mean is not known: {doubt}.",) if doubt else (),
        )


def _equation(system: System) -> str:
    return _HELMHOLTZ_EQUATION if isinstance(system, Helmholtz) else system.equation


def _doubt(contents: Contents, system: System | None) -> str | None:
    """Return why the first sample is not one of `system`, or None."""
    if system is None:
        return "no system known here has so many coefficients"
    fields, table = contents.arrays["fields"], contents.arrays["tensor"]
    if not fields.shape[0] or min(fields.shape[2:]) < 2:
        raise DataError(
            f"'{contents.path}' holds no samples, or fewer than 2 points along an axis: 'fields' has shape "
            f"{tuple(fields.shape)}."
        )
    try:
        sample = np.asarray(fields[tuple(slice(0, n) for n in (1, *fields.shape[1:]))], dtype=np.float64)
        row = np.asarray(table[tuple(slice(0, n) for n in (1, table.shape[1]))], dtype=np.float64)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise unreadable(contents.path, TransferFormat.title, error) from error
    forcing, solution = torch.from_numpy(sample)[:, :, None].split(1, dim=1)
    grid = Grid((sample.shape[2], sample.shape[3]), (1.0, 1.0), (True, True))
    batch = Batch(system.signature, grid, forcing, torch.from_numpy(row), solution)
    residual = (system.residual(batch).norm() / forcing.norm()).item()
    if residual < _SOLVES:
        return None
    return f"the first sample does not solve {_equation(system)} (residual {residual:.2g} of the source)"
