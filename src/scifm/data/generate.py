"""`generate`: sample a system into a store, chunk by chunk, so that an interruption costs one chunk at most.

Each chunk is one file, drawn from its own generator made of (seed, split, chunk number): what a chunk holds does not
depend on when, or in how many attempts, it was made. Calling `generate` again with the same settings finishes an
interrupted store, repairs a damaged one and returns a finished one as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scifm.data.card import Card, Generation
from scifm.data.store import Chunk, Making, Store, write_part
from scifm.data.well import encode_file, read_provenance
from scifm.errors import ConfigError, SignatureError, StoreError, suggest
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.runs import describe_environment
from scifm.systems.evolving import Evolving
from scifm.systems.system import SamplingRecord, System

__all__ = ["generate"]

Progress = Callable[[int, int], None]

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_SPLITS = ("train", "valid", "test")
_CHUNK_SAMPLES = 1024
_CHUNK_NUMBERS = 2**25  # of trajectories: 128 MiB in float32
_HELD_OUT = 8  # one validation and one test sample for every 8 training samples, as in the reference study


@dataclass(frozen=True)
class _Draw:
    """What decides the samples of a store; sent to the workers that draw them."""

    system: System
    grid: Grid
    seed: int
    dtype: torch.dtype
    device: torch.device

    @property
    def evolves(self) -> bool:
        """Whether a sample is a trajectory."""
        return isinstance(self.system, Evolving)

    @property
    def num_numbers(self) -> int:
        """Numbers of one sample."""
        signature = self.system.signature
        frames = self.system.num_frames if isinstance(self.system, Evolving) else 1
        fields = len(set(signature.inputs) - set(signature.outputs)) + len(signature.outputs) * frames
        return math.prod(self.grid.num_points) * fields + len(signature.coefficients)

    def num_bytes(self, chunk: Chunk) -> int:
        """Estimated size of a chunk's file: HDF5 adds some 30 kB a file and some hundred bytes a frame of a sample."""
        frames = self.system.num_frames if isinstance(self.system, Evolving) else 1
        return 32 * 1024 + len(chunk.rows) * (self.num_numbers * self.dtype.itemsize + 256 * frames)

    def write(self, chunk: Chunk, path: Path, origin: Mapping[str, Any]) -> int:
        """Draw the samples of one chunk and write its file; return how many they are."""
        record, count = SamplingRecord(), len(chunk.rows)
        generator = generator_for(self.seed, "store", chunk.split, chunk.number, device=self.device)
        batch = self.system.sample(count, self.grid, generator, dtype=self.dtype, device=self.device, record=record)
        provenance = {**origin, "drawn": record.drawn, "rejected": record.rejected}
        write_part(path / chunk.name, encode_file(batch, name=origin["name"], provenance=provenance))
        return count


def generate(
    system: System,
    *,
    num_samples: int | Mapping[str, int],
    path: str | Path,
    grid: Grid | None = None,
    num_points: int | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: Any = "cpu",
    make_executor: Callable[[], Executor] | None = None,
    progress: Progress | None = None,
) -> Store:
    """Sample `system` into a store at `path`, or finish, repair or just open the one that is there.

    Args:
        system: what to sample; its knobs are the ranges drawn from.
        num_samples: training samples, of an evolving system trajectories (validation and test then get an eighth each,
            at least one), or the exact number by split, ``{"train": …, "valid": …, "test": …}``, of which valid and
            test may be left out.
        path: folder of the store; its name becomes the name of the data set.
        grid: where the fields live.
        num_points: instead of `grid`: points a side of the periodic unit box.
        seed: seed of every draw.
        chunk_size: samples a file. The draws depend on it. A chunk is held in memory about three times. When left out,
            1,024, of long or large trajectories fewer.
        dtype: torch.float32 or torch.float64, for solver and files.
        device: where to sample. The draws depend on its kind.
        make_executor: makes the executor that chunks are sampled and written on, each by one worker, which must see
            this file system; see ``scifm.execution.workers`` and ``scifm.execution.cluster``. None: here, one by one.
        progress: called with (samples done, samples in all) at the start and after every chunk.

    Returns:
        The finished store.

    Raises:
        ConfigError: if an argument is not allowed.
        SignatureError: if the system does not live on this grid, or evolves and is no `Evolving`.
        DataError: if the system made a number that is NaN or infinite.
        StoreError: if the folder holds another store or foreign data, is in use, cannot be written, or the disk is
            full; finished files are kept.
    """
    if system.signature.evolves and not isinstance(system, Evolving):
        raise SignatureError(
            f"'{system.name}' says that {', '.join(system.signature.state)} evolve, and not how: to be stored as "
            "trajectories it has to be a subclass of scifm.systems.evolving.Evolving."
        )
    if dtype not in _DTYPES:
        raise ConfigError(f"dtype must be torch.float32 or torch.float64; got {dtype}.")
    if chunk_size is not None and chunk_size < 1:
        raise ConfigError(f"chunk_size must be at least 1; got {chunk_size}.")
    if (grid is None) == (num_points is None):
        raise ConfigError("Give either grid= or num_points=, and not both.")
    if num_points is not None:
        grid = Grid.square(num_points, num_spatial_dims=system.signature.num_spatial_dims)
    assert grid is not None
    system.require_grid(grid)
    folder = Path(path).expanduser()
    draw = _Draw(system, grid, seed, dtype, torch.device(device))
    if chunk_size is None:
        chunk_size = min(_CHUNK_SAMPLES, max(1, _CHUNK_NUMBERS // draw.num_numbers)) if draw.evolves else _CHUNK_SAMPLES
    request = {
        "name": folder.resolve().name,
        "system": system.to_dict(),
        "grid": grid.to_dict(),
        "splits": _splits(num_samples),
        "seed": seed,
        "dtype": _DTYPES[dtype],
        "chunk_size": chunk_size,
        "device": draw.device.type,
    }
    making = Making(folder, request, chunk_size)
    make, card = partial(_made, draw, making, make_executor), partial(_card, draw, making)
    return making.carry_out(make, draw.num_bytes, card, progress)


def _splits(num_samples: int | Mapping[str, int]) -> dict[str, int]:
    if isinstance(num_samples, Mapping):
        for name in num_samples:
            if name not in _SPLITS:
                raise ConfigError(f"Split: {suggest(name, _SPLITS)}")
        wanted = {name: num_samples[name] for name in _SPLITS if name in num_samples}
    else:
        wanted = {"train": num_samples, **dict.fromkeys(("valid", "test"), max(1, num_samples // _HELD_OUT))}
    if wanted.get("train", 0) < 1 or min(wanted.values()) < 0:
        raise ConfigError(f"A store needs at least 1 training sample and no negative number; got {wanted}.")
    return {name: count for name, count in wanted.items() if count}


def _made(
    draw: _Draw, making: Making, make_executor: Callable[[], Executor] | None, pending: Sequence[Chunk]
) -> Iterator[int]:
    """Make the chunks; yield the number of samples of each as it is done, and before that none."""
    yield 0
    jobs = [(chunk, making.path, making.origin(chunk)) for chunk in pending]
    if make_executor is None or not pending:
        yield from (draw.write(*job) for job in jobs)
        return
    with make_executor() as executor:
        try:
            for future in as_completed([executor.submit(draw.write, *job) for job in jobs]):
                yield future.result()
        except BrokenExecutor as error:
            raise StoreError(
                f"A process that samples into '{making.path}' died; is there enough memory for chunks of "
                f"{making.request['chunk_size']} samples? What is finished is kept: give the same command again."
            ) from error


def _card(draw: _Draw, making: Making, seconds: float, num_generated: int) -> Card:
    origins, request = [read_provenance(making.path / chunk.name) for chunk in making.chunks], dict(making.request)
    drawn, rejected = (sum(int(origin[key]) for origin in origins) for key in ("drawn", "rejected"))
    defect = (
        f"{rejected} of {drawn} drawn samples were rejected, so the stored ones are not distributed as the knobs alone "
        "say; the system's page tells which are rejected."
    )
    generation = Generation(
        **{key: request.pop(key) for key in ("system", "seed", "chunk_size", "device")},
        num_drawn=drawn,
        num_rejected=rejected,
        rejection_rate=rejected / drawn if drawn else 0.0,
        seconds=seconds,
        num_generated=num_generated,
    )
    return Card(
        **request,
        equation=draw.system.equation,
        times=draw.system.times if isinstance(draw.system, Evolving) else None,
        homogeneities=draw.system.homogeneities,
        signature=draw.system.signature,
        generation=generation,
        environment=describe_environment(),
        known_defects=[defect] if rejected else [],
        files={},
    )
