"""Foreign files as stores: opened where they lie, or copied into a store of our own.

How trajectories are dealt out where a file is not split: in the order of one seeded permutation, the first to
``valid``, the next to ``test``, the rest to ``train``, by the shares of the mapping. Windows of one trajectory never
part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from scifm.config import build_config
from scifm.data.card import CARD_NAME, Card, Source, hash_file
from scifm.data.declared import size_of
from scifm.data.formats.contents import Contents
from scifm.data.formats.find import find_format, format_named
from scifm.data.formats.known_system import known_system
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.precision import tell_precision
from scifm.data.formats.reader import MappedReader, check_mapping, frame_times, grid_of, trajectory_count
from scifm.data.store import Store
from scifm.data.well import Reader, read_provenance
from scifm.data.well_layout import Layout
from scifm.data.writing import chunk_name, finish_store, refuse_other, require_space, reserved
from scifm.errors import DataError, StoreError
from scifm.fields.seeds import generator_for
from scifm.runs import describe_environment

__all__ = ["import_data", "open_data", "open_store"]

Progress = Callable[[int, int], None]
_SPLITS = ("train", "valid", "test")
_CHUNK_BYTES = 128 * 1024 * 1024  # of one file of the store
_BLOCK_BYTES = 32 * 1024 * 1024  # in memory at a time


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
    parts = _parts(contents, mapping)
    signature, grid = mapping.signature, grid_of(contents, mapping)
    card = Card(
        name=path.resolve().stem,
        equation=mapping.equation or (system.equation if system is not None else ""),
        homogeneities=[scaling.to_dict() for scaling in system.homogeneities] if system is not None else [],
        grid=grid.to_dict(),
        signature=signature.to_dict(),
        splits={split: len(rows) for split, (_, rows) in parts.items()},
        times=frame_times(contents, mapping),
        dtype=mapping.dtype,
        source=Source(
            format=mapping.format,
            files={_name_in(path, file): size_of(file) for file in contents.files},
            mapping=mapping.to_dict(),
        ),
        environment=describe_environment(),
        known_defects=_known_defects(contents, mapping),
        files={},
    )
    readers: dict[str, Callable[[], Reader]] = {
        split: partial(MappedReader, contents, part, mapping, rows) for split, (part, rows) in parts.items()
    }
    return Store(path, card, readers)


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


def _name_in(path: Path, file: Path) -> str:
    return str(file.relative_to(path.parent))


def _with_contents(card: Card, path: Path) -> Card:
    """Return the card of what is to be copied with hashes of the files: content decides whether a store is of these."""
    assert card.source is not None
    hashes = {name: hash_file(path.parent / name) for name in card.source.files}
    return card.model_copy(update={"source": card.source.model_copy(update={"contents": hashes})})


def _refuse_changed(folder: Path, theirs: dict[str, Any], ours: Card) -> None:
    """Raise StoreError if files of the same names held something else when the store was made."""
    assert ours.source is not None
    there = theirs.get("contents") or {}
    changed = [name for name, own in ours.source.contents.items() if there.get(name) != own]
    if changed and ours.source.files.keys() == theirs.get("files", {}).keys():
        raise StoreError(
            f"The store '{folder}' was made when '{changed[0]}' held something else, or before contents were noted; "
            f"{len(changed)} of {len(ours.source.files)} files differ. Nothing was overwritten. Remove the store to "
            "have it made anew, or choose another folder with --out."
        )


def _parts(contents: Contents, mapping: DataMapping) -> dict[str, tuple[str, np.ndarray]]:
    """Return for each split which part of the contents it lies in, and which trajectories of it."""
    counts = {part: trajectory_count(arrays, mapping) for part, arrays in contents.parts.items()}
    if len(counts) > 1:
        return {split: (split, np.arange(counts[split])) for split in _SPLITS if counts.get(split)}
    (part, count), shares = next(iter(counts.items())), mapping.splits
    held_out = {split: max(1, round(shares[split] * count)) for split in ("valid", "test") if shares.get(split)}
    num_train = count - sum(held_out.values())
    if num_train < 1:
        raise DataError(
            f"{count} trajectories are too few for the splits {shares}: each split needs at least one. Add data, or "
            "leave splits out with splits = { train = 1.0 }."
        )
    order = torch.randperm(count, generator=generator_for(mapping.seed, "import")).numpy()
    ends = np.cumsum([0, *held_out.values(), num_train])
    dealt = {split: np.sort(order[a:b]) for split, a, b in zip([*held_out, "train"], ends[:-1], ends[1:], strict=True)}
    return {split: (part, dealt[split]) for split in _SPLITS if split in dealt}


def _known_defects(contents: Contents, mapping: DataMapping) -> list[str]:
    told = [*contents.remarks, *mapping.known_defects, *tell_precision(contents, mapping)]
    count = trajectory_count(contents.arrays, mapping)
    if len(contents.parts) == 1 and not mapping.splits.get("valid"):
        some = "The only trajectory is" if count == 1 else f"All {count} trajectories are"
        told.append(
            f"{some} for training and none is held out: pre-training needs a split valid, and fine-tuning at least 2 "
            "trajectories. Trajectories are never parted: cut a long one along time into several and import those, or "
            "give more."
        )
    times = frame_times(contents, mapping)
    if times is not None:
        steps = np.diff(times)
        if steps.max() > 1.001 * steps.min():
            told.append(
                f"Frames are not equally spaced: lead times run from {steps.min():g} to {steps.max():g}, and a model "
                "of one step is not told which it is."
            )
    return told


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
        DataError: if a number is NaN or infinite; says the field and the trajectory.
    """
    source, folder = open_data(path, mapping), Path(out).expanduser()
    card = _with_contents(source.card.model_copy(update={"name": folder.resolve().name}), Path(path).expanduser())
    if (folder / CARD_NAME).is_file():
        _refuse_changed(folder, Card.read(folder).request, card)
        refuse_other(str(folder), Card.read(folder).request, card.request)
        return Store.open(folder)
    with reserved(folder):
        _Copy(source, folder, card, progress).carry_out()
    return Store.open(folder)


@dataclass(frozen=True)
class _Chunk:
    """One file to write."""

    split: str
    number: int
    rows: range

    @property
    def name(self) -> str:
        return chunk_name(self.split, self.number)


class _Copy:
    """One import."""

    def __init__(self, source: Store, folder: Path, card: Card, progress: Progress | None) -> None:
        self.source, self.folder, self.card, self.progress = source, folder, card, progress
        self.signature, self.dtype = source.signature, np.dtype(card.dtype)
        self.num_frames = len(card.times) if card.times is not None else 1
        self.frame_bytes = int(np.prod(source.grid.num_points)) * self.dtype.itemsize
        outputs, others = len(self.signature.outputs), len(self.signature.fields) - len(self.signature.outputs)
        self.trajectory_bytes = self.frame_bytes * (outputs * self.num_frames + others)

    def carry_out(self) -> None:
        chunks = self._chunks()
        pending = [chunk for chunk in chunks if not self._is_done(chunk)]
        require_space(self.folder, sum(len(chunk.rows) for chunk in pending) * self.trajectory_bytes)
        total = sum(len(chunk.rows) for chunk in chunks)
        done = total - sum(len(chunk.rows) for chunk in pending)
        for chunk in pending:
            self._write(chunk)
            done += len(chunk.rows)
            if self.progress is not None:
                self.progress(done, total)
        finish_store(self.folder, self.card, {chunk.name: len(chunk.rows) for chunk in chunks})

    def _chunks(self) -> list[_Chunk]:
        size = max(1, _CHUNK_BYTES // self.trajectory_bytes)
        return [
            _Chunk(split, number, range(first, min(first + size, count)))
            for split, count in self.card.splits.items()
            for number, first in enumerate(range(0, count, size))
        ]

    def _origin(self, chunk: _Chunk) -> dict[str, Any]:
        return {**self.card.request, "split": chunk.split, "chunk": chunk.number}

    def _is_done(self, chunk: _Chunk) -> bool:
        if not (self.folder / chunk.name).is_file():
            return False
        theirs = read_provenance(self.folder / chunk.name)
        _refuse_changed(self.folder, theirs, self.card)
        refuse_other(str(self.folder / chunk.name), theirs, self._origin(chunk))
        return True

    def _write(self, chunk: _Chunk) -> None:
        target = self.folder / chunk.name
        aside = target.with_name(f".{target.name}.{os.getpid()}.part")
        layout = Layout(self.card.name, self.signature, self.source.grid, len(chunk.rows), self.dtype, self.card.times)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(aside, "w") as file:
                layout.create(file, self._origin(chunk))
                self._fill(file, layout, chunk)
            with aside.open("rb") as handle:
                os.fsync(handle.fileno())
            aside.replace(target)
        except (OSError, RuntimeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"Cannot write '{target}': {getattr(error, 'strerror', None) or error}. Free some space or choose "
                "another folder with --out; give the same command again to go on, what is finished is kept."
            ) from error
        finally:
            aside.unlink(missing_ok=True)

    def _fill(self, file: h5py.File, layout: Layout, chunk: _Chunk) -> None:
        reader = self.source.readers[chunk.split]()
        for name in self.signature.coefficients:
            layout.fill(file, name, reader.read(name, slice(chunk.rows.start, chunk.rows.stop), None))
        frames_at_once = max(1, _BLOCK_BYTES // self.frame_bytes)
        for row in chunk.rows:
            place, rows = row - chunk.rows.start, slice(row, row + 1)
            for name in self.signature.fields:
                if self.card.times is None or name not in self.signature.outputs:
                    layout.fill(file, name, reader.read(name, rows, None), first=place)
                    continue
                for frame in range(0, self.num_frames, frames_at_once):
                    block = slice(frame, min(frame + frames_at_once, self.num_frames))
                    layout.fill(file, name, reader.read(name, rows, block), first=place, frame=frame)
