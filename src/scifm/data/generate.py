"""`generate`: sample a system into a store, chunk by chunk, so that an interruption costs one chunk at most.

Each chunk is one file, drawn from its own generator made of (seed, split, chunk number): what a chunk holds does not
depend on when, or in how many attempts, it was made. Calling `generate` again with the same settings finishes an
interrupted store, repairs a damaged one and returns a finished one as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scifm.data.card import CARD_NAME, Card, Generation
from scifm.data.store import Store
from scifm.data.well import read_provenance
from scifm.data.well_layout import encode_file, require_steady
from scifm.data.writing import DTYPES, chunk_name, finish_store, refuse_other, require_space, reserved, write_part
from scifm.errors import ConfigError, StoreError, suggest
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.runs import describe_environment
from scifm.systems.system import SamplingRecord, System

__all__ = ["generate"]

Progress = Callable[[int, int], None]

_SPLITS = ("train", "valid", "test")
_HELD_OUT = 8  # one validation and one test sample for every 8 training samples, as in the reference study


@dataclass(frozen=True)
class _Chunk:
    """One file to make."""

    split: str
    number: int
    num_samples: int

    @property
    def name(self) -> str:
        return chunk_name(self.split, self.number)


@dataclass(frozen=True)
class _Job:
    """Everything that decides what a store will hold, and where it goes."""

    system: System
    path: Path
    grid: Grid
    splits: dict[str, int]
    seed: int
    dtype: torch.dtype
    chunk_size: int
    device: torch.device

    @property
    def request(self) -> dict[str, Any]:
        entries = {
            "name": self.path.resolve().name,
            "system": self.system.to_dict(),
            "grid": self.grid.to_dict(),
            "splits": self.splits,
            "seed": self.seed,
            "dtype": DTYPES[self.dtype],
            "chunk_size": self.chunk_size,
            "device": self.device.type,
        }
        return dict(json.loads(json.dumps(entries)))  # as it will be read back: lists, not tuples

    def chunks(self) -> list[_Chunk]:
        return [
            _Chunk(split, number, min(self.chunk_size, count - number * self.chunk_size))
            for split, count in self.splits.items()
            for number in range(-(-count // self.chunk_size))
        ]

    def origin(self, chunk: _Chunk) -> dict[str, Any]:
        """What decides the content of one chunk, as written into its file."""
        return {**self.request, "split": chunk.split, "chunk": chunk.number}

    def num_bytes(self, chunk: _Chunk) -> int:
        """Estimated size of a chunk's file: HDF5 adds some 30 kB a file and some hundred bytes a sample."""
        signature, num_points = self.system.signature, 1
        for n in self.grid.num_points:
            num_points *= n
        numbers = num_points * (len(signature.inputs) + len(signature.outputs)) + len(signature.coefficients)
        return 32 * 1024 + chunk.num_samples * (numbers * self.dtype.itemsize + 256)


def generate(
    system: System,
    *,
    num_samples: int | Mapping[str, int],
    path: str | Path,
    grid: Grid | None = None,
    num_points: int | None = None,
    seed: int = 0,
    chunk_size: int = 1024,
    dtype: torch.dtype = torch.float32,
    device: Any = "cpu",
    make_executor: Callable[[], Executor] | None = None,
    progress: Progress | None = None,
) -> Store:
    """Sample `system` into a store at `path`, or finish, repair or just open the one that is there.

    Args:
        system: what to sample; its knobs are the ranges drawn from.
        num_samples: training samples (validation and test then get an eighth each, at least one), or the exact number
            by split, ``{"train": …, "valid": …, "test": …}``, of which valid and test may be left out.
        path: folder of the store; its name becomes the name of the data set.
        grid: where the fields live.
        num_points: instead of `grid`: points a side of the periodic unit box.
        seed: seed of every draw.
        chunk_size: samples a file. The draws depend on it. A chunk is held in memory about three times.
        dtype: torch.float32 or torch.float64, for solver and files.
        device: where to sample. The draws depend on its kind.
        make_executor: makes the executor that chunks are sampled and written on, each by one worker, which must see
            this file system; see ``scifm.execution.workers`` and ``scifm.execution.cluster``. None: here, one by one.
        progress: called with (samples done, samples in all) at the start and after every chunk.

    Returns:
        The finished store.

    Raises:
        ConfigError: if an argument is not allowed.
        SignatureError: if the system evolves in time or does not live on this grid.
        DataError: if the system made a number that is NaN or infinite.
        StoreError: if the folder holds another store or foreign data, is in use, cannot be written, or the disk is
            full; finished files are kept.
    """
    require_steady(system.signature)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be torch.float32 or torch.float64; got {dtype}.")
    if chunk_size < 1:
        raise ConfigError(f"chunk_size must be at least 1; got {chunk_size}.")
    splits, grid = _splits(num_samples), _grid(system, grid, num_points)
    job = _Job(system, Path(path).expanduser(), grid, splits, seed, dtype, chunk_size, torch.device(device))
    if not _is_finished(job):
        with reserved(job.path):
            _finish(job, *_make(job, _pending(job), make_executor, progress))
    return Store.open(job.path)


def _splits(num_samples: int | Mapping[str, int]) -> dict[str, int]:
    if isinstance(num_samples, Mapping):
        for name in num_samples:
            if name not in _SPLITS:
                raise ConfigError(f"Split: {suggest(name, _SPLITS)}")
        wanted = {name: num_samples[name] for name in _SPLITS if name in num_samples}
    else:
        held_out = max(1, num_samples // _HELD_OUT)
        wanted = {"train": num_samples, "valid": held_out, "test": held_out}
    if wanted.get("train", 0) < 1 or min(wanted.values()) < 0:
        raise ConfigError(f"A store needs at least 1 training sample and no negative number; got {wanted}.")
    return {name: count for name, count in wanted.items() if count}


def _grid(system: System, grid: Grid | None, num_points: int | None) -> Grid:
    if (grid is None) == (num_points is None):
        raise ConfigError("Give either grid= or num_points=, and not both.")
    if grid is None:
        assert num_points is not None
        return Grid.square(num_points, num_spatial_dims=system.signature.num_spatial_dims)
    return grid


def _card(job: _Job) -> Card | None:
    """Return the card that is there, if it is the one of this job."""
    if not (job.path / CARD_NAME).is_file():
        return None
    card = Card.read(job.path)
    refuse_other(str(job.path), card.request, job.request)
    return card


def _pending(job: _Job) -> list[_Chunk]:
    """Return the chunks still to make.

    Raises:
        StoreError: if the folder holds anything else than a part of this very store.
    """
    card = _card(job)
    chunks = {job.path / chunk.name: chunk for chunk in job.chunks()}
    present = {file for pattern in ("*.hdf5", "*.h5") for file in (job.path / "data").glob(f"*/{pattern}")}
    pending = []
    for file, chunk in chunks.items():
        entry = card.files.get(chunk.name) if card is not None else None
        if file not in present or (entry is not None and file.stat().st_size != entry.num_bytes):
            pending.append(chunk)
        elif entry is None:
            refuse_other(str(file), read_provenance(file), job.origin(chunk))
    foreign = sorted(present - set(chunks))
    if foreign:
        raise StoreError(
            f"'{foreign[0]}' is not part of the store to be made ({len(foreign)} such files). Nothing was overwritten. "
            "Choose another folder, or move these files away."
        )
    return pending


def _is_finished(job: _Job) -> bool:
    """Tell whether nothing is left to do. Needs no right to write: a finished store may be shared and read-only."""
    if _card(job) is None:
        return False
    try:
        Store.open(job.path)
    except StoreError:
        return False
    return True


def _make(
    job: _Job, pending: list[_Chunk], make_executor: Callable[[], Executor] | None, progress: Progress | None
) -> tuple[float, int]:
    """Make the missing chunks; return the seconds this took and the samples made."""
    require_space(job.path, sum(map(job.num_bytes, pending)))
    total = sum(job.splits.values())
    done = total - sum(chunk.num_samples for chunk in pending)
    start = time.perf_counter()
    if progress is not None:
        progress(done, total)
    for num_samples in _made(job, pending, make_executor):
        done += num_samples
        if progress is not None:
            progress(done, total)
    return time.perf_counter() - start, sum(chunk.num_samples for chunk in pending)


def _made(job: _Job, pending: list[_Chunk], make_executor: Callable[[], Executor] | None) -> Iterator[int]:
    """Yield the number of samples of each chunk as it is done."""
    if make_executor is None or not pending:
        yield from (_make_chunk(job, chunk) for chunk in pending)
        return
    with make_executor() as executor:
        try:
            for future in as_completed([executor.submit(_make_chunk, job, chunk) for chunk in pending]):
                yield future.result()
        except BrokenExecutor as error:
            raise StoreError(
                f"A process that samples into '{job.path}' died; is there enough memory for chunks of {job.chunk_size} "
                "samples? What is finished is kept: give the same command again."
            ) from error


def _make_chunk(job: _Job, chunk: _Chunk) -> int:
    record = SamplingRecord()
    generator = generator_for(job.seed, "store", chunk.split, chunk.number, device=job.device)
    batch = job.system.sample(chunk.num_samples, job.grid, generator, dtype=job.dtype, device=job.device, record=record)
    origin = {**job.origin(chunk), "drawn": record.drawn, "rejected": record.rejected}
    write_part(job.path / chunk.name, encode_file(batch, name=job.request["name"], provenance=origin))
    return chunk.num_samples


def _finish(job: _Job, seconds: float, num_generated: int) -> None:
    chunks, request = job.chunks(), job.request
    origins = [read_provenance(job.path / chunk.name) for chunk in chunks]
    drawn, rejected = (sum(int(origin[key]) for origin in origins) for key in ("drawn", "rejected"))
    generation = Generation(
        **{key: request.pop(key) for key in ("system", "seed", "chunk_size", "device")},
        num_drawn=drawn,
        num_rejected=rejected,
        rejection_rate=rejected / drawn if drawn else 0.0,
        seconds=seconds,
        num_generated=num_generated,
    )
    card = Card(
        **request,
        equation=job.system.equation,
        homogeneities=[h.to_dict() for h in job.system.homogeneities],
        signature=job.system.signature.to_dict(),
        generation=generation,
        environment=describe_environment(),
        known_defects=_known_defects(drawn, rejected),
        files={},
    )
    finish_store(job.path, card, {chunk.name: chunk.num_samples for chunk in chunks})


def _known_defects(drawn: int, rejected: int) -> list[str]:
    if not rejected:
        return []
    return [
        f"{rejected} of {drawn} drawn samples were rejected, so the stored ones are not distributed as the knobs alone "
        "say; the system's page tells which are rejected."
    ]
