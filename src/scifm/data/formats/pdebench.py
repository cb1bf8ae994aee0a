"""PDEBench's HDF5 files, all five layouts.

Layouts (N trajectories, T frames; x comes first among the axes of space and is brought to the end by the reader)
    scalar           ``tensor`` (N, T, X), ``x-coordinate``, ``t-coordinate``; more axes of space likewise
    Darcy            ``nu`` (N, X, Y) given, ``tensor`` (N, 1, X, Y) asked for: steady
    compressible     ``density``, ``pressure``, ``Vx``, ``Vy``, ``Vz`` (N, T, X[, Y[, Z]])
    groups by seed   ``0000/data`` (T, X[, Y], C), ``0000/grid/{x,y,t}``; diffusion–reaction, whose settings tell
                     ``Du``, is stored (T, Y, X, C) by its generator; lengths of the coordinates decide where they can
    incompressible   ``velocity`` (N, T, X, Y, 2), ``particles`` (N, T, X, Y, 1), ``force`` (N, X, Y, 2), ``t`` (N, T)

Many files in one folder are joined, if they have one layout and the same coordinates. Files with the words train,
valid, test in their names become those splits; where all are called train (the published ones are), or none says
anything, trajectories are dealt out by the seed of the mapping. That is neither of PDEBench's two own splits (its
loaders take the first or the last tenth for testing).

Names. Scalars and single channels are called ``solution``, further channels ``channel_0``, ``channel_1``, …,
Darcy's ``nu`` ``diffusivity``. Attributes that are finite numbers (beta, Nu, rho, eta, zeta, M) and constants of the
equation in a ``config`` (Du, dam_radius, …) become coefficients of that name; ones that differ between files or groups
are told by trajectory.

The box. Its length follows from the coordinates. With walls, points are mostly centres of cells: then the walls lie
half a cell beyond the first and the last point, and the extent here runs from point to point. Incompressible files
tell no coordinates; in their solver a cell has length 1, whatever ``domain_size`` in their settings says. Whether axes
wrap around is taken from the layout, the settings or the published file name (``periodic``, ``trans``), and otherwise
guessed from samples; the card quotes the guess. ``t-coordinate`` often tells one time more than there are frames; the
last is left out.

References:
    Takamoto et al., "PDEBench: An Extensive Benchmark for Scientific Machine Learning", NeurIPS 2022,
    arXiv:2210.07182; code pdebench/PDEBench.
"""

from __future__ import annotations

from pathlib import Path

from scifm.data.formats.axis_points import are_even, axis_length
from scifm.data.formats.contents import Contents, read_whole
from scifm.data.formats.draft import periodicity
from scifm.data.formats.format import Format, opening
from scifm.data.formats.hdf5 import sniff_hdf5
from scifm.data.formats.kinds import data_sets_under, required
from scifm.data.formats.mapping import CoefficientMapping, DataMapping, FieldMapping
from scifm.data.formats.pdebench_files import ARRAYS, COORDINATES, join_files, layout_of, layout_of_file
from scifm.errors import ConfigError, DataError

__all__ = ["PDEBenchFormat"]

_NAMES = {"Vx": "velocity_x", "Vy": "velocity_y", "Vz": "velocity_z", "nu": "diffusivity", "tensor": "solution"}
_VECTORS = ("velocity", "force")
_SPLIT_FROM = 3  # trajectories


class PDEBenchFormat(Format):
    """HDF5 files as PDEBench publishes them."""

    name = "pdebench"
    title = "PDEBench HDF5"

    def sniff(self, path: Path) -> str | None:
        layouts = sniff_hdf5(data_sets_under(path, ("hdf5",)), layout_of_file)
        return f"its layout {', '.join(sorted(layouts))}" if layouts else None

    def read(self, path: Path) -> Contents:
        files = required(path, ("hdf5",), "HDF5")
        with opening(path, self.title):
            return join_files(path, files)

    def propose(self, contents: Contents) -> DataMapping:
        return _Proposal(contents).mapping()


class _Proposal:
    """One proposal while it is made."""

    def __init__(self, contents: Contents) -> None:
        self.contents, self.arrays = contents, contents.arrays
        layout = layout_of(set(self.arrays))
        assert layout is not None, "only files of a known layout are read"
        self.layout = layout
        self.main = ARRAYS[layout][-1] if layout == "darcy" else ARRAYS[layout][0]
        self.defects: list[str] = []
        self._check_axes()
        self.space = tuple(axis for axis in ("x", "y", "z") if axis in contents.axes[self.main])

    def _check_axes(self) -> None:
        for name, axes in self.contents.axes.items():
            shape = tuple(self.arrays[name].shape)
            if len(shape) != len(axes):
                raise ConfigError(
                    f"'{name}' of '{self.contents.path}' has shape {shape}, and {len(axes)} axes are usual: "
                    f"({', '.join(axes)}). Give a mapping that names its axes, in array order."
                )
            for axis, length in zip(axes, shape, strict=True):
                if not length:
                    raise DataError(f"'{name}' of '{self.contents.path}' is empty: its shape is {shape}.")
                told = self._coordinate(axis)
                known = self.arrays[told].shape[-1] if told is not None else length
                if known not in (length, length + 1):
                    raise ConfigError(
                        f"'{name}' of '{self.contents.path}' has shape {shape}, usually ({', '.join(axes)}), but "
                        f"'{told}' has {known} entries and the {axis} axis {length}. If its axes are in another order, "
                        "give a mapping that names them."
                    )

    def _coordinate(self, axis: str) -> str | None:
        return next((name for name in COORDINATES.get(axis, ()) if name in self.arrays), None)

    def mapping(self) -> DataMapping:
        fields = self._fields()
        time = None
        if self.layout != "darcy":
            time = self._coordinate("time")
            if time is None:
                raise ConfigError(
                    f"'{self.contents.path}' tells no times: it has no 't-coordinate'. Give a mapping with "
                    "time = { start = …, interval = … }."
                )
        periodic, repeated_end = self._periodic()
        extent = {axis: self._extent(axis, periodic[axis], axis in repeated_end) for axis in self.space}
        count = self.arrays[self.main].shape[0]
        coefficients = [*self.contents.attributes, *self._by_trajectory()]
        parted = {"train": 0.8, "valid": 0.1, "test": 0.1} if count >= _SPLIT_FROM else {"train": 1.0}
        return DataMapping(
            format=PDEBenchFormat.name,
            fields=fields,
            coefficients={name: CoefficientMapping(array=name) for name in coefficients},
            time=time,
            extent=extent,
            periodic=periodic,
            repeated_end=repeated_end,
            splits=parted,
            known_defects=tuple(self.defects),
        )

    def _fields(self) -> dict[str, FieldMapping]:
        if self.layout == "compressible":
            self._require_velocities()
        fields = {}
        for array in ARRAYS[self.layout]:
            if array not in self.contents.axes:
                continue
            axes = self.contents.axes[array]
            role = {"nu": "input", "force": "input"}.get(array, "output" if self.layout == "darcy" else "state")
            for name, channel in self._channels(array, axes):
                fields[name] = FieldMapping.model_validate(
                    {"array": array, "axes": axes, "role": role, "channel": channel}
                )
        return fields

    def _require_velocities(self) -> None:
        missing = [f"V{axis}" for axis in self.space if f"V{axis}" not in self.arrays]
        if missing:
            raise ConfigError(
                f"'{self.contents.path}' is compressible flow along {', '.join(self.space)} and lacks "
                f"{', '.join(missing)}. Give a mapping of the arrays that are to be used."
            )

    def _channels(self, array: str, axes: tuple[str, ...]) -> list[tuple[str, int | None]]:
        """Return the names of the fields in an array, with their channels."""
        if "channel" not in axes:
            return [(_NAMES.get(array, array), None)]
        count = self.arrays[array].shape[axes.index("channel")]
        if array in _VECTORS and count == len(self.space):
            return [(f"{array}_{axis}", channel) for channel, axis in enumerate(self.space_order(array))]
        single = "solution" if array == "data" else array
        stem = "channel" if array == "data" else array
        return [(single, 0)] if count == 1 else [(f"{stem}_{channel}", channel) for channel in range(count)]

    def space_order(self, array: str) -> tuple[str, ...]:
        """Return the axes of space in the order of an array, which is that of its components."""
        return tuple(axis for axis in self.contents.axes[array] if axis in self.space)

    def _by_trajectory(self) -> list[str]:
        known = {*ARRAYS[self.layout], *(name for names in COORDINATES.values() for name in names)}
        return [name for name in self.arrays if name not in known]

    def _periodic(self) -> tuple[dict[str, bool], tuple[str, ...]]:
        told = self.contents.periodic
        periodic: dict[str, bool] = {axis: told[axis] for axis in self.space if axis in told}
        repeated_end: list[str] = []
        for axis in self.space:
            if axis in periodic:
                continue
            guess = periodicity(self.contents, self.main, self.contents.axes[self.main], axis)
            periodic[axis] = guess.periodic
            self.defects.append(f"Whether {axis} wraps around is a guess from samples: {guess.told}.")
            if guess.repeated_end:
                repeated_end.append(axis)
        return periodic, tuple(repeated_end)

    def _extent(self, axis: str, periodic: bool, repeated_end: bool) -> float:
        axes = self.contents.axes[self.main]
        num_points = self.arrays[self.main].shape[axes.index(axis)]
        wraps = periodic and not repeated_end
        told = self._coordinate(axis)
        if told is None and self.layout == "incompressible":
            self.defects.append(f"The length of {axis} is not in the file; a cell of its solver has length 1.")
            if not periodic:
                self._tell_centers(axis)
            return float(num_points if wraps else max(num_points - 1, 1))
        if told is None:
            raise ConfigError(
                f"'{self.contents.path}' does not tell the length of {axis}: it has no '{COORDINATES[axis][0]}'. Give "
                f"a mapping with extent = {{ {axis} = … }}."
            )
        return self._told_extent(axis, told, num_points, periodic=periodic, wraps=wraps)

    def _told_extent(self, axis: str, told: str, num_points: int, *, periodic: bool, wraps: bool) -> float:
        points = read_whole(self.arrays[told])
        if not are_even(points, self.arrays[told].dtype) or points[-1] < points[0]:
            raise ConfigError(
                f"The points of '{told}' in '{self.contents.path}' are not equally spaced and increasing, and grids "
                "here are. Resample the data, or give a mapping to take the points as equally spaced."
            )
        spacing = float(points[-1] - points[0]) / (len(points) - 1)
        off_node = abs((points[0] / spacing) % 1 - 0.5) < 0.05
        if not periodic and (off_node or len(points) > num_points):
            self._tell_centers(axis)
        return axis_length(points, num_points, self.arrays[told].dtype, wraps=wraps)

    def _tell_centers(self, axis: str) -> None:
        self.defects.append(
            f"Points along {axis} are centers of cells: the walls lie half a cell beyond the first and the last point, "
            "and the extent runs from point to point."
        )
