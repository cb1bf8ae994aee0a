"""Foreign files as stores: opened where they lie, or copied into a store of our own.

How trajectories are dealt out where a file is not split: in the order of one seeded permutation, the first to
``valid``, the next to ``test``, the rest to ``train``, by the shares of the mapping. Windows of one trajectory never
part.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from scifm.config import build_config
from scifm.data.card import Card, Source, hash_file
from scifm.data.declared import size_of
from scifm.data.formats import FORMATS
from scifm.data.formats.format import Contents, Format, read_whole
from scifm.data.formats.kinds import refuse_foreign
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.reader import (
    MappedReader,
    check_mapping,
    frame_times,
    grid_of,
    known_system,
    labels_of,
    tell_precision,
    trajectory_count,
    units_of,
)
from scifm.data.new_file import written
from scifm.data.split import ChosenRows
from scifm.data.store import Chunk, Making, Store
from scifm.data.well import Layout, Reader
from scifm.errors import ConfigError, DataError, StoreError, suggest
from scifm.fields.seeds import generator_for
from scifm.runs import describe_environment
from scifm.wording import plural

__all__ = ["find_format", "format_named", "import_data", "open_data", "open_store"]

Progress = Callable[[int, int], None]
_SPLITS = ("train", "valid", "test")
_CHUNK_BYTES = 128 * 1024 * 1024  # of one file of the store
_MOST_TOLD = 10  # trajectories that are named
_METRES_A_DEGREE = 6.371e6 * math.pi / 180  # along a great circle
_BLOCK_BYTES = 32 * 1024 * 1024  # in memory at a time


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
    if not os.path.exists(path):
        raise StoreError(f"There is nothing at '{path}'. Give a file, or a folder of files that belong together.")
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise StoreError(f"'{path}' is neither a file nor a folder. Give one of them.")
    for form in FORMATS.values():
        if form.sniff(path) is not None:
            return form
    refuse_foreign(path)
    known = "; ".join(f"{form.name}: {form.title}" for form in FORMATS.values())
    raise StoreError(f"'{path}' is of no format that can be imported. Known are {known}.")


def open_data(path: str | Path, mapping: DataMapping | None = None) -> Store:
    """Open foreign data as a store, where they lie; nothing is copied, and only what has to be checked is read.

    Args:
        path: a file, or a folder of files that belong together.
        mapping: what is what; what the format proposes when left out.

    Raises:
        StoreError: if the data are missing, damaged or of no known format.
        ConfigError: if the mapping does not fit them, or is needed and was not given.
        DataError: if there is nothing in them, or they are not of the system that the mapping names.
    """
    path = Path(path).expanduser()
    form = find_format(path) if mapping is None else format_named(mapping.format)
    contents = form.read(path)
    mapping = mapping if mapping is not None else form.propose(contents)
    check_mapping(contents, mapping)
    system = known_system(contents, mapping)
    parts, excluded = _parts(contents, mapping)
    card = Card(
        name=path.resolve().stem,
        equation=mapping.equation or (system.equation if system is not None else ""),
        homogeneities=system.homogeneities if system is not None else (),
        grid=grid_of(contents, mapping),
        signature=mapping.signature,
        splits={split: len(rows) for split, (_, rows) in parts.items()},
        times=frame_times(contents, mapping),
        units=units_of(contents, mapping),
        labels=labels_of(contents, mapping),
        dtype=mapping.dtype,
        source=Source(
            format=mapping.format,
            files={str(file.relative_to(path.parent)): size_of(file) for file in contents.files},
            mapping=mapping.to_dict(),
        ),
        environment=describe_environment(),
        known_defects=_known_defects(contents, mapping) + _gaps_told(mapping, excluded),
        gaps=mapping.masked,
        files={},
    )
    readers: dict[str, Callable[[], Reader]] = {
        split: partial(_reader_of, contents, part, mapping, rows) for split, (part, rows) in parts.items()
    }
    return Store(path, card, readers)


def _reader_of(contents: Contents, part: str, mapping: DataMapping, rows: np.ndarray) -> Reader:
    return ChosenRows(MappedReader(contents, part, mapping), rows)


def open_store(path: str | Path, mapping: Mapping[str, Any] | DataMapping | None = None) -> Store:
    """Open what a configuration names: a store of our own or, with a mapping, foreign data where they lie.

    Args:
        path: folder of a store; of foreign data the file or folder.
        mapping: how foreign data are read, see `Store.mapping`; None for a store.

    Raises:
        StoreError, DataError, ConfigError: as for `Store.open` and `open_data`.
    """
    if mapping is None:
        return Store.open(path)
    if not isinstance(mapping, DataMapping):
        mapping = build_config(DataMapping, mapping, source=f"the mapping of '{path}'")
    return open_data(path, mapping)


def _parts(contents: Contents, mapping: DataMapping) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, list[int]]]:
    """Return for each split which part of the contents it lies in, and which trajectories of it.

    And by part which trajectories are left out, because points of them are missing.
    """
    rows, excluded = dict[str, np.ndarray](), dict[str, list[int]]()
    for part, arrays in contents.parts.items():
        every = np.arange(trajectory_count(arrays, mapping))
        rows[part] = every
        if any(mapping.gap_rule(name).rule == "exclude" for name in mapping.fields):
            reader = MappedReader(contents, part, mapping)
            rows[part] = np.array([row for row in every.tolist() if reader.is_whole(row)], dtype=np.int64)
            excluded[part] = sorted(set(every.tolist()) - set(rows[part].tolist()))
            if len(every) and not len(rows[part]):
                raise DataError(
                    f"Every one of the {plural(len(every), 'trajectory', 'trajectories')} of '{contents.path}' has "
                    'missing points, so gaps = "exclude" leaves none. Say gaps = "mask", gaps = { fill = 0.0 } or '
                    'gaps = { fill = "interpolate" } in the map.'
                )
    if len(rows) > 1:
        return {split: (split, rows[split]) for split in _SPLITS if split in rows and len(rows[split])}, excluded
    (part, kept), shares = next(iter(rows.items())), mapping.splits
    count = len(kept)
    held_out = {split: max(1, round(shares[split] * count)) for split in ("valid", "test") if shares.get(split)}
    num_train = count - sum(held_out.values())
    if num_train < 1:
        raise DataError(
            f"{count} trajectories are too few for the splits {shares}: each split needs at least one. Add data, or "
            "leave splits out with splits = { train = 1.0 }."
        )
    order = torch.randperm(count, generator=generator_for(mapping.seed, "import")).numpy()
    ends = np.cumsum([0, *held_out.values(), num_train])
    dealt = {
        split: kept[np.sort(order[a:b])] for split, a, b in zip([*held_out, "train"], ends[:-1], ends[1:], strict=True)
    }
    return {split: (part, dealt[split]) for split in _SPLITS if split in dealt}, excluded


def _gaps_told(mapping: DataMapping, excluded: Mapping[str, list[int]]) -> list[str]:
    """Return in sentences what became of missing points, for the card."""
    told = []
    for part, rows in excluded.items():
        if rows:
            which = ", ".join(map(str, rows[:_MOST_TOLD])) + (", …" if len(rows) > _MOST_TOLD else "")
            where = "" if len(excluded) == 1 else f" of {part}"
            told.append(f"Left out because points of them are missing: {len(rows)} trajectories{where} ({which}).")
    by_rule = dict[str, list[str]]()
    for name in mapping.fields:
        rule = mapping.gap_rule(name)
        if rule.rule in ("mask", "fill"):
            by_rule.setdefault(rule.told, []).append(name)
    return [*told, *(f"Missing points of {', '.join(names)} are {what}." for what, names in by_rule.items())]


def _known_defects(contents: Contents, mapping: DataMapping) -> list[str]:
    defects = [*contents.remarks, *mapping.known_defects, *tell_precision(contents, mapping)]
    count = trajectory_count(contents.arrays, mapping)
    if len(contents.parts) == 1 and not mapping.splits.get("valid"):
        some = "The only trajectory is" if count == 1 else f"All {count} trajectories are"
        defects.append(
            f"{some} for training and none is held out: pre-training needs a split valid, and fine-tuning at least 2 "
            "trajectories. Trajectories are never parted: cut a long one along time into several and import those, or "
            "give more."
        )
    defects += _tell_degrees(contents, mapping)
    times = frame_times(contents, mapping)
    if times is not None:
        steps = np.diff(times)
        if steps.max() > 1.001 * steps.min():
            defects.append(
                f"Frames are not equally spaced: lead times run from {steps.min():g} to {steps.max():g}, and a model "
                "of one step is not told which it is."
            )
    return defects


def _tell_degrees(contents: Contents, mapping: DataMapping) -> list[str]:
    """Say that lengths are degrees where they are, and about how many metres these would be."""
    units = units_of(contents, mapping)
    axes = [axis for axis in mapping.space if units.get(axis, "").lower().startswith("degree")]
    if not axes:
        return []
    metres = {axis: _METRES_A_DEGREE * mapping.extent[axis] for axis in axes}
    if "x" in metres and "y" in metres:
        latitudes = read_whole(contents.arrays[contents.coordinates["y"]])
        metres["x"] *= math.cos(math.radians(float(latitudes.min() + latitudes.max()) / 2))
    told = ", ".join(f"{axis} = {length:.3g}" for axis, length in sorted(metres.items()))
    return [
        f"Lengths along {' and '.join(sorted(axes))} are degrees, as the file tells, and the grid is taken as flat: a "
        "degree of longitude is as long as one of latitude only at the equator. For lengths in metres say so in a map "
        f"or with --set: extent = {{ {told} }} at the middle latitude."
    ]


def import_data(
    path: str | Path, out: str | Path, mapping: DataMapping | None = None, *, progress: Progress | None = None
) -> Store:
    """Copy foreign data into a store at `out`, or finish an interrupted import.

    Args:
        path: a file, or a folder of files that belong together.
        out: folder of the store; its name becomes the name of the data set.
        mapping: what is what; what the format proposes when left out.
        progress: called with (trajectories done, trajectories in all).

    Raises:
        StoreError: if the data are missing or damaged, or the folder holds something else, also what the files held
            before they were changed, is in use or cannot be written; finished files are kept.
        ConfigError: if the mapping does not fit the data.
        DataError: if a number is infinite, or missing where the mapping does not say what becomes of it; says the field
            and the trajectory.
    """
    source, folder = open_data(path, mapping), Path(out).expanduser()
    about = source.card.source
    assert about is not None, "foreign data have a source"
    hashes = {name: hash_file(Path(path).expanduser().parent / name) for name in about.files}  # content decides, too
    about = about.model_copy(update={"contents": hashes})
    card = source.card.model_copy(update={"name": folder.resolve().name, "source": about})
    frame_bytes = math.prod(source.grid.num_points) * np.dtype(card.dtype).itemsize
    outputs, num_frames = len(source.signature.outputs), 1 if card.times is None else len(card.times)
    trajectory_bytes = frame_bytes * (outputs * num_frames + len(source.signature.fields) - outputs)
    making = Making(folder, card.request, max(1, _CHUNK_BYTES // trajectory_bytes))
    return making.carry_out(
        lambda pending: (_copy(source, making, chunk, max(1, _BLOCK_BYTES // frame_bytes)) for chunk in pending),
        lambda chunk: len(chunk.rows) * trajectory_bytes,
        lambda *_: card.model_copy(update={"gaps": _with_gaps(making, card.gaps)}),
        progress,
    )


def _with_gaps(making: Making, masked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields of which points are missing in some file: masks that hide nothing were never written."""
    found = set[str]()
    for chunk in making.chunks if masked else ():
        with h5py.File(making.path / chunk.name, "r") as file:
            found |= {name for name in masked if file["valid"][name].id.get_storage_size()}
    return tuple(name for name in masked if name in found)


def _copy(source: Store, making: Making, chunk: Chunk, frames_at_once: int) -> int:
    """Write one file, block by block; return how many trajectories it holds."""
    target, card = making.path / chunk.name, source.card
    dtype = np.dtype(card.dtype)
    names = source.signature
    layout = Layout(making.request["name"], names, source.grid, len(chunk.rows), dtype, card.times, card.gaps)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written(target) as half, h5py.File(half, "w") as file:
            layout.create(file, making.origin(chunk))
            _fill(file, layout, source.readers[chunk.split](), chunk.rows, frames_at_once, half.check)
    except (OSError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"Cannot write '{target}': {getattr(error, 'strerror', None) or error}. Free some space or choose "
            "another folder with --out; give the same command again to go on, what is finished is kept."
        ) from error
    return len(chunk.rows)


def _fill(
    file: h5py.File, layout: Layout, reader: Reader, rows: range, frames_at_once: int, check: Callable[[], None]
) -> None:
    names = layout.signature
    for name in names.coefficients:
        layout.fill(file, name, reader.read(name, slice(rows.start, rows.stop), None))
    for place, row in enumerate(rows):
        for name in names.fields:
            if layout.times is None or name not in names.outputs:
                layout.fill(file, name, reader.read(name, slice(row, row + 1), None), first=place)
                continue
            for frame in range(0, layout.num_frames, frames_at_once):
                block = slice(frame, min(frame + frames_at_once, layout.num_frames))
                layout.fill(file, name, reader.read(name, slice(row, row + 1), block), first=place, frame=frame)
                check()
        check()
