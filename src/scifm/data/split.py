"""`StoreSplit`: one split of a store, read sample by sample.

`Batch` objects come from torch's loader too: ``DataLoader(split, batch_size=16, collate_fn=Batch.concatenate)``;
dictionaries of tensors by `scifm.data.tensor_samples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from scifm.config import config_hash
from scifm.data.well import JoinedRows, Reader, marked
from scifm.errors import ConfigError, DataError, SignatureError, StoreError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.stations import drawn_stations, require_stations
from scifm.fields.window import NEXT_FRAME, Window
from scifm.prompt import Shown
from scifm.wording import plural

__all__ = ["ChosenRows", "KeptRows", "StoreSplit", "grouped_windows", "windows_of"]

_EVEN = 1e-3  # of an interval, by which files round times
_IN_MEMORY_BYTES = 256 * 1024 * 1024  # a larger choice of problems is read as it is needed


class ChosenRows(Reader):
    """Some trajectories of a reader, in any order."""

    def __init__(self, reader: Reader, rows: np.ndarray) -> None:
        self.reader, self.rows = reader, rows

    @property
    def num_trajectories(self) -> int:
        return len(self.rows)

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        return self.reader.take(name, self.rows[rows], frames)

    def close(self) -> None:
        self.reader.close()


class KeptRows(Reader):
    """A reader of which every trajectory stays in memory, whole, once something of it was read by itself.

    A training that goes through windows in random order asks the files for each frame by itself, which takes as long as
    a step of a small network.

    Args:
        reader: where the numbers lie.
        num_frames: of a trajectory; None for steady problems.
    """

    def __init__(self, reader: Reader, num_frames: int | None) -> None:
        self.reader, self._frames = reader, None if num_frames is None else slice(0, num_frames)
        self._kept: dict[tuple[str, int, bool], np.ndarray] = {}

    @property
    def num_trajectories(self) -> int:
        return self.reader.num_trajectories

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        if rows.stop - rows.start != 1:  # many together are read as fast as they are copied
            return self.reader.read(name, rows, frames)
        key = name, rows.start, frames is None
        if key not in self._kept:
            self._kept[key] = self.reader.read(name, rows, None if frames is None else self._frames)
        whole = self._kept[key]
        return whole if frames is None else whole[:, frames]

    def close(self) -> None:
        self.reader.close()


@dataclass(frozen=True, repr=False)
class StoreSplit(Shown, Dataset):
    """One split of a store, read as needed. Also a plain map-style torch `Dataset` of batches of one.

    A sample of a steady problem is one trajectory. Of an evolving one it is a **window**: some frames as input and some
    behind them as targets, windows of one trajectory lying together. Threads need one split each; worker processes may
    share one.

    Args:
        reader: where the numbers lie.
        signature: the names of every batch.
        grid: where the fields live.
        system: name of the system every sample came from.
        dtype: of every batch.
        times: physical times of the frames; None for steady problems.
        window: which frames make a sample; `NEXT_FRAME` for steady problems.
        origin: in plain values, which samples they are: store, hash of its content, split, window.
        gaps: names of the fields of which points may be missing: where the reader gives NaN, and what is seen at
            stations alone.
    """

    reader: Reader
    signature: Signature
    grid: Grid
    system: str
    dtype: torch.dtype
    times: tuple[float, ...] | None = None
    window: Window = NEXT_FRAME
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)
    gaps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.times is None:
            for name, frames in self.window.not_usual().items():
                raise ConfigError(
                    f"The problems of this store are steady: {name}, which is of frames, means nothing here. "
                    f"Leave out {name} = {frames}."
                )
            return
        self.window.fits(len(self.times))
        if self.window.stations:
            require_stations(self.window.stations, self.window.station_spacing, self.grid)
            object.__setattr__(self, "gaps", tuple(dict.fromkeys((*self.gaps, *self.signature.inputs))))
        steps = np.diff(self.times)
        if self.window.history + self.window.horizon > 2 and not np.allclose(steps, steps[0], rtol=_EVEN):
            raise ConfigError(
                f"Frames of this store are unevenly spaced, {steps.min():g} to {steps.max():g} apart, so several input "
                "frames or several targets do not mean the same in every sample. Use history = 1 and horizon = 1, or "
                "interpolate the trajectories to even times first."
            )

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        of = f" of {plural(self.num_trajectories, 'trajectory', 'trajectories')}" if self.times is not None else ""
        window = "" if self.times is None else ", ".join(f"{k} {n}" for k, n in self.window.record().items())
        rows = [("from", str(self.origin.get("store", ""))), ("window", window)]
        rows += [(role, ", ".join(getattr(self.signature, role))) for role in ("inputs", "coefficients", "outputs")]
        head = f"Split {self.origin.get('split', '')}".strip()
        return f"{head}: {plural(self.num_samples, 'sample')}{of}", [*rows, ("grid", self.grid.told)]

    @property
    def num_trajectories(self) -> int:
        """Drawn problems, each of one or many samples."""
        return self.reader.num_trajectories

    @property
    def num_problems(self) -> int:
        """The same: what was drawn is a trajectory."""
        return self.num_trajectories

    @property
    def windows_per_trajectory(self) -> int:
        """Samples each trajectory gives."""
        return 1 if self.times is None else self.window.fits(len(self.times))

    @property
    def num_samples(self) -> int:
        """Samples in all trajectories together."""
        return self.num_trajectories * self.windows_per_trajectory

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest physical time from input to target; None for steady problems."""
        if self.times is None:
            return None
        times, stride, longest = np.asarray(self.times), self.window.stride, self.window.stride * self.window.leads
        return float((times[stride:] - times[:-stride]).min()), float((times[longest:] - times[:-longest]).max())

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Batch:
        """Return one sample as a batch of one; IndexError past the end, as iteration expects."""
        if not -self.num_samples <= index < self.num_samples:
            raise IndexError(f"Sample {index} of {self.num_samples} was asked for.")
        return self.batch([index % self.num_samples])

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(1)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all samples in order, `batch_size` at a time; the last batch may be smaller."""
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {batch_size}.")
        for start in range(0, self.num_samples, batch_size):
            yield self.batch(slice(start, start + batch_size))

    def load(self) -> Batch:
        """Return the whole split in memory."""
        return self.batch(slice(None))

    def some(self, count: int) -> Batch:
        """Return at most `count` samples: the first of independent ones, evenly spread ones of trajectories."""
        if self.windows_per_trajectory == 1 or count >= self.num_samples:
            return self.batch(slice(0, count))
        return self.batch(np.linspace(0, self.num_samples - 1, count).round().astype(np.int64).tolist())

    def in_memory(self, at_most: int) -> Batch:
        """Return `some` samples: none is in memory."""
        return self.some(at_most)

    def pieces(self, batch_size: int) -> Iterator[Batch]:
        """Yield all samples in order, as `batches` does."""
        return self.batches(batch_size)

    def problems(self, index: Sequence[int] | Tensor) -> Batch | StoreSplit:
        """Return all samples of some trajectories, in memory if they are not too large for it.

        Raises:
            DataError: if the index is out of range.
        """
        chosen = self.chosen(index)
        return chosen.load() if chosen.num_bytes <= _IN_MEMORY_BYTES else chosen

    def kept(self) -> StoreSplit:
        """Return the same samples, whose trajectories stay in memory once they are read, if all of them fit well."""
        if self.times is None or self.num_trajectories * self._bytes(1, len(self.times) - 1) > _IN_MEMORY_BYTES:
            return self
        return replace(self, reader=KeptRows(self.reader, len(self.times)))

    def describe(self) -> dict[str, Any]:
        """Return which samples these are: store, hash of its content, split, stride; else the system's name alone."""
        return dict(self.origin) or {"systems": [self.system]}

    @property
    def num_bytes(self) -> int:
        """Memory that all samples take when they are loaded."""
        return self.num_samples * self._bytes(self.window.history, self.window.horizon)

    def _bytes(self, history: int, horizon: int) -> int:
        """Return the memory of so many frames of inputs and of outputs, and the coefficients."""
        names, points = self.signature, int(np.prod(self.grid.num_points))
        numbers = points * (len(names.inputs) * history + len(names.outputs) * horizon) + len(names.coefficients)
        return numbers * self.dtype.itemsize

    def chosen(self, index: Sequence[int] | Tensor) -> StoreSplit:
        """Return the split of some trajectories, in the order of `index`; nothing is read yet.

        Raises:
            DataError: if the index is out of range.
        """
        rows = self._within(np.asarray(index), self.num_trajectories, "Trajectories")
        origin = {**self.origin, "chosen": config_hash({"rows": rows.tolist(), "of": self.origin.get("chosen", "")})}
        return replace(self, reader=ChosenRows(self.reader, rows), origin=origin)

    @classmethod
    def joined(cls, splits: Sequence[StoreSplit]) -> StoreSplit:
        """Return all trajectories of several splits of one store, one split after the other; nothing is read yet."""
        return replace(splits[0], reader=JoinedRows([split.reader for split in splits]))

    def batch(self, index: slice | Sequence[int] | Tensor) -> Batch:
        """Read some samples, in the order of `index`; one asked for twice comes twice.

        Args:
            index: a slice, or integers from ``-num_samples`` to ``num_samples - 1``.

        Raises:
            DataError: if a number read is NaN or infinite (says file, field, sample), or the index is out of range.
            StoreError: if a file is missing, truncated or damaged.
        """
        if isinstance(index, slice):
            wanted = np.arange(self.num_samples)[index]
        else:
            wanted = self._within(np.asarray(index), self.num_samples, "Samples")
        rows, places = np.unique(wanted, return_inverse=True)
        arrays = self._read(rows)
        if not np.array_equal(rows, wanted):
            arrays = tuple(array[places] for array in arrays)
        inputs, coefficients, targets = (torch.from_numpy(array) for array in arrays)
        about: dict[str, Any] = {
            f"valid_{role}": self._mask(fields, names)
            for role, fields, names in (
                ("inputs", inputs, self.signature.inputs),
                ("targets", targets, self.signature.outputs),
            )
        }
        systems = (self.system,) * len(wanted)
        lead_time = None if self.times is None else self._lead_times(wanted)
        about["observed"] = self.window.observed
        if self.window.stations:
            about["valid_inputs"] = self._seen(wanted, inputs, about["valid_inputs"])
        return Batch(self.signature, self.grid, inputs, coefficients, targets, systems, lead_time, **about)

    def _mask(self, fields: Tensor, names: tuple[str, ...]) -> Tensor | None:
        """Return where fields that were read have numbers, None where all have, and put zeros where they have none."""
        if not set(names) & set(self.gaps):
            return None
        missing = fields.isnan()
        if not missing.any():
            return None
        fields[missing] = 0.0
        return ~missing

    def _seen(self, samples: np.ndarray, inputs: Tensor, valid: Tensor | None) -> Tensor:
        """Return which points of the inputs are seen at the samples' stations, and put zeros where none stands."""
        window = self.window
        seen = drawn_stations(window.stations, window.station_spacing, self.grid, samples.tolist())
        seen = seen[:, None, None].expand_as(inputs)
        seen = seen & valid if valid is not None else seen.contiguous()
        inputs[~seen] = 0.0
        return seen

    def _lead_times(self, windows: np.ndarray) -> Tensor:
        times, (lead, first) = np.asarray(self.times), self._places(windows)
        later = np.asarray(self.window.targets()) + (lead * self.window.stride)[:, None]
        gaps = times[first[:, None] + later] - times[first + self.window.inputs[-1], None]
        return torch.from_numpy(gaps).to(self.dtype)

    def _places(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return of each window which lead it has, counted from 0, and its first frame."""
        assert self.times is not None
        own, ends = samples % self.windows_per_trajectory, np.cumsum(self.window.counts(len(self.times)))
        lead = np.searchsorted(ends, own, side="right")
        return lead, own - np.concatenate([[0], ends])[lead]

    @staticmethod
    def _within(given: np.ndarray, count: int, what: str) -> np.ndarray:
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise DataError(f"{what} are chosen by a slice or a list of integers; got {given.dtype} of {given.shape}.")
        if given.size and not (-count <= given.min() and given.max() < count):
            raise DataError(f"{what} {given.min()} to {given.max()} were asked for; this split holds 0 to {count - 1}.")
        return np.where(given < 0, given + count, given).astype(np.int64)

    def _read(self, samples: np.ndarray) -> tuple[np.ndarray, ...]:
        """Read `samples`, which increase."""
        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        names, space, window = self.signature, self.grid.num_points, self.window
        shapes = (
            (window.history, len(names.inputs), *space),
            (len(names.coefficients),),
            (window.horizon, len(names.outputs), *space),
        )
        try:
            inputs, coefficients, targets = (np.empty((len(samples), *shape), dtype) for shape in shapes)
        except (MemoryError, ValueError) as error:
            raise DataError(
                f"{len(samples)} samples of {space} points do not fit into memory. Read fewer at once, with batches()."
            ) from error
        for place, rows, frames, lead in self._runs(samples):
            for i, name in enumerate(names.inputs):
                inputs[place, :, i] = self._read_field(name, rows, frames, window.inputs)
            for i, name in enumerate(names.coefficients):
                coefficients[place, i] = self.reader.read(name, rows, None)
            for i, name in enumerate(names.outputs):
                targets[place, :, i] = self._read_field(name, rows, frames, window.targets(lead))
        return inputs, coefficients, targets

    def _read_field(self, name: str, rows: slice, frames: slice | None, later: range) -> np.ndarray:
        """Read a field of some windows, so many frames behind the first of each, ``(window, frame, *space)``.

        Without frames it is of what is steady.
        """
        if frames is None or name not in self.signature.outputs:
            values = self.reader.read(name, rows, None)[:, None]
        elif (span := later[-1] - later[0]) < 2 * len(later) or span < frames.stop - frames.start:  # all in between
            block = self.reader.read(name, rows, slice(frames.start + later[0], frames.stop + later[-1]))[0]
            values = block[np.arange(frames.stop - frames.start)[:, None] + np.asarray(later) - later[0]]
        else:
            each = (slice(frames.start + frame, frames.stop + frame) for frame in later)
            values = np.stack([self.reader.read(name, rows, where)[0] for where in each], axis=1)
        if values.shape[2:] != self.grid.num_points:
            raise StoreError(f"'{name}' has {values.shape[2:]} points where the grid has {self.grid.num_points}.")
        return values

    def _runs(self, samples: np.ndarray) -> Iterator[tuple[slice, slice, slice | None, int]]:
        """Yield pieces to read at once: where they go, which trajectories, first frames of windows, and their lead."""
        # reading row by row is 30 times faster than HDF5's own list of points
        gaps = np.diff(samples, prepend=samples[:1] - 2) != 1
        lead = first = np.zeros(0, np.int64)
        if self.times is not None:
            lead, first = self._places(samples)
            gaps |= first == 0
        for start, stop in pairwise([*np.flatnonzero(gaps).tolist(), len(samples)]):
            place, number = slice(start, stop), int(samples[start])
            if self.times is None:
                yield place, slice(number, number + stop - start), None, 1
            else:
                row, frame = number // self.windows_per_trajectory, int(first[start])
                yield place, slice(row, row + 1), slice(frame, frame + stop - start), int(lead[start]) + 1

    def close(self) -> None:
        """Close the files this process holds open; reading again opens them again."""
        self.reader.close()


class _Trajectories(Reader):
    """Trajectories in memory: a batch of whole ones, read as if they lay on disk."""

    def __init__(self, batch: Batch) -> None:
        names, batch = batch.signature, marked(batch)
        targets = batch.require_targets()
        self._arrays = {name: batch.field(name)[:, -1] for name in names.inputs if name not in names.state}
        self._arrays |= {
            name: torch.cat([batch.field(name)[:, -1:], targets[:, :, place]], dim=1)
            for place, name in enumerate(names.outputs)
        }
        self._arrays |= {name: batch.coefficient(name) for name in names.coefficients}
        self._count = batch.num_samples

    @property
    def num_trajectories(self) -> int:
        return self._count

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        values = self._arrays[name][rows]
        block: np.ndarray = (values if frames is None else values[:, frames]).numpy()
        return block

    def close(self) -> None:
        """There is nothing to close."""


def windows_of(batch: Batch, window: Window) -> StoreSplit:
    """Return the windows of whole trajectories in memory: the last input frame and all targets of each sample.

    Args:
        batch: of an evolving system; every field that is an output is a state, and all frames have the same times.
        window: which frames make a sample.

    Raises:
        ConfigError: if the window is longer than a trajectory.
        SignatureError: if the batch says no lead times, or has no targets.
    """
    if batch.lead_time is None:
        raise SignatureError("Windows are cut from trajectories; this batch is steady, or does not say its lead_time.")
    batch = batch.to("cpu")
    assert batch.lead_time is not None
    times = (0.0, *batch.lead_time[0].double().tolist())
    system = batch.systems[0] if batch.systems else ""
    reader = _Trajectories(batch)
    about: dict[str, Any] = {"origin": batch.describe(), "gaps": batch.gaps}
    return StoreSplit(reader, batch.signature, batch.grid, system, batch.inputs.dtype, times, window, **about)


def grouped_windows(groups: Tensor, count: int, seed: int) -> Tensor:
    """Return the groups of so many windows of each trajectory: in each there is one of a trajectory, at any time.

    Args:
        groups: of the trajectories, ``(trajectory,)``; what is returned is ``(trajectory · count,)``.
        count: windows of each.
        seed: of the times.
    """
    first = torch.randint(count, (len(groups), 1), generator=generator_for(seed, "pretrain", "turns"))
    turns = (first + torch.arange(count)) % count
    return (groups.cpu()[:, None] + turns).flatten()
