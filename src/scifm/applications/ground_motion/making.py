"""Stores of records: `make_records` draws them by the stochastic method, or copies real ones.

A record is the input field ``velocity`` along its time, with the number of its event and its conditions as
coefficients. Splits part events and never records of one event: what two records of an earthquake have in common would
else be known from the one in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scifm.applications.ground_motion.records import Recorded, RecordFiles
from scifm.applications.ground_motion.synthesis import StochasticMotion
from scifm.config import Config, refuse_idle
from scifm.data.card import Card, Generation, Source
from scifm.data.generate import Progress
from scifm.data.store import Chunk, Making, Store, write_part
from scifm.data.well import encode_file
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.runs import describe_environment

__all__ = ["EVENT", "SYNTHETIC", "VELOCITY", "RecordsRecipe", "make_records", "rate_of"]

EVENT, VELOCITY = "event", "velocity"
SYNTHETIC = "stochastic_motion"
"""Name of what made a store of synthetic records, on its card."""

_EVENTS_A_FILE = 128
_HELD_OUT = 8
_EQUATION = "A(f) = C M0 2πf/(1 + (f/fc)²) · 1/R · exp(−πfR/(Qβ)) · exp(−πκf) · exp(δB + δW)"


class RecordsRecipe(Config):
    """Which records: drawn ones, or those of files.

    Args:
        num_events: training events that are drawn; validation and test get an eighth each. Or exact numbers by split.
        records_per_event: of each.
        motion: how they are drawn.
        files: real ones instead: which, and how they are cut.
        seed: of every draw; of real ones, of which events are held out.
    """

    num_events: int | dict[str, int] = 500
    records_per_event: int = Field(4, ge=1)
    motion: StochasticMotion = StochasticMotion()
    files: RecordFiles | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _every_setting_counts(self) -> RecordsRecipe:
        if self.files is not None:
            refuse_idle(self, ("num_events", "records_per_event", "motion"), "records are read from files")
        return self

    @property
    def splits(self) -> dict[str, int]:
        """Events drawn, by split.

        Raises:
            ConfigError: if there is none to train on.
        """
        given = self.num_events
        held = dict.fromkeys(("valid", "test"), max(1, given // _HELD_OUT)) if isinstance(given, int) else {}
        each = given if isinstance(given, dict) else {"train": given, **held}
        if set(each) - {"train", "valid", "test"} or each.get("train", 0) < 2 or min(each.values()) < 0:
            raise ConfigError(
                f"num_events is of the splits train, valid and test, two training events at least; got {each}."
            )
        return {name: each[name] for name in ("train", "valid", "test") if each.get(name)}


def make_records(recipe: RecordsRecipe, path: str | Path, *, progress: Progress | None = None) -> Store:
    """Make a store of records, or finish, repair or just open the one that is there.

    Args:
        recipe: which ones.
        path: its folder.
        progress: called with (records done, records in all).

    Raises:
        ConfigError: if the settings make no sense, or what reads records is not installed.
        DataError: if records or their conditions cannot be used.
        StoreError: if files cannot be read, or the folder holds something else or cannot be written.
    """
    folder = Path(path).expanduser()
    if recipe.files is None:
        return _drawn(recipe, folder, progress)
    return _copied(recipe, recipe.files.read(), folder, progress)


def rate_of(grid: Grid) -> float:
    """Return the samples a second of a grid of records [Hz]."""
    return (grid.num_points[0] - 1) / grid.extent[0]


def _grid(num_samples: int, rate: float) -> Grid:
    return Grid((num_samples,), ((num_samples - 1) / rate,), "open")


def _batch(signature: Signature, grid: Grid, velocity: Tensor, columns: Sequence[Tensor]) -> Batch:
    fields = velocity.float()[:, None, None]
    targets = fields[:, :, :0]
    return Batch(signature, grid, fields, torch.stack([column.float() for column in columns], dim=1), targets)


def _signature(conditions: Sequence[str]) -> Signature:
    return Signature((VELOCITY,), (EVENT, *conditions), (), 1)


# --- drawn ------------------------------------------------------------------------------------------------------------


def _drawn(recipe: RecordsRecipe, folder: Path, progress: Progress | None) -> Store:
    motion, each = recipe.motion, recipe.records_per_event
    grid, signature = _grid(motion.num_samples, motion.rate), _signature(("magnitude", "distance"))
    request = {
        "name": folder.resolve().name,
        "system": {"name": SYNTHETIC, "records_per_event": each, **motion.to_dict()},
        "grid": grid.to_dict(),
        "splits": {name: count * each for name, count in recipe.splits.items()},
        "seed": recipe.seed,
        "dtype": "float32",
        "chunk_size": _EVENTS_A_FILE * each,
        "device": "cpu",
    }
    making = Making(folder, request, _EVENTS_A_FILE * each)

    def made(pending: Sequence[Chunk]) -> Iterator[int]:
        yield 0
        for chunk in pending:
            generator = generator_for(recipe.seed, "records", chunk.split, chunk.number)
            events = range(chunk.rows.start // each, chunk.rows.stop // each)
            own = motion.draw(len(events), each, generator, first=events.start)
            batch = _batch(signature, grid, own.velocity, (own.event, own.magnitude, own.distance))
            _write(making, chunk, batch)
            yield len(chunk.rows)

    def card(seconds: float, count: int) -> Card:
        about = dict(making.request)
        kept = {key: about.pop(key) for key in ("system", "seed", "chunk_size", "device")}
        total = sum(about["splits"].values())
        generation = Generation(
            **kept, num_drawn=total, num_rejected=0, rejection_rate=0.0, seconds=seconds, num_generated=count
        )
        return _card(about, signature, generation=generation)

    return making.carry_out(made, partial(_bytes, grid), card, progress)


def _card(about: dict[str, Any], signature: Signature, **origin: Any) -> Card:
    units = {VELOCITY: "m/s", "magnitude": "1", "distance": "km", "x": "s"}
    known = {name: unit for name, unit in units.items() if name in (*signature.names, "x")}
    equation = _EQUATION if "generation" in origin else ""
    return Card(
        **{"generation": None, "source": None, "equation": equation, **about, **origin},
        homogeneities=(), signature=signature, times=None, units=known,
        environment=describe_environment(), known_defects=[], files={},
    )  # fmt: skip


def _write(making: Making, chunk: Chunk, batch: Batch) -> None:
    content = encode_file(batch, name=making.request["name"], provenance=making.origin(chunk))
    write_part(making.path / chunk.name, content)


def _bytes(grid: Grid, chunk: Chunk) -> int:
    return 32 * 1024 + len(chunk.rows) * (4 * grid.num_points[0] + 256)


# --- real -------------------------------------------------------------------------------------------------------------


def _copied(recipe: RecordsRecipe, real: Recorded, folder: Path, progress: Progress | None) -> Store:
    assert recipe.files is not None
    rows = _rows_by_split(real.event, recipe.seed)
    grid, signature = _grid(real.velocity.shape[1], real.rate), _signature(tuple(real.conditions))
    source = Source(format="obspy", files=real.files, contents=real.contents, mapping=recipe.files.to_dict())
    request = {
        "name": folder.resolve().name,
        "source": source.to_dict(),
        "grid": grid.to_dict(),
        "signature": signature.to_dict(),
        "splits": {name: len(own) for name, own in rows.items()},
        "dtype": "float32",
    }
    making = Making(folder, _requested(request, signature), 1024)

    def made(pending: Sequence[Chunk]) -> Iterator[int]:
        yield 0
        for chunk in pending:
            own = rows[chunk.split][chunk.rows.start : chunk.rows.stop]
            columns = [real.event[own], *(values[own] for values in real.conditions.values())]
            _write(making, chunk, _batch(signature, grid, real.velocity[own], columns))
            yield len(chunk.rows)

    def card(*_: Any) -> Card:
        about = {key: request[key] for key in ("name", "grid", "splits", "dtype")}
        return _card(about, signature, source=source)

    return making.carry_out(made, partial(_bytes, grid), card, progress)


def _requested(request: dict[str, Any], signature: Signature) -> dict[str, Any]:
    """Return what `Card.request` of the card says, so that a finished store is known again."""
    about = {key: request[key] for key in ("name", "grid", "splits", "dtype")}
    return _card(about, signature, source=Source(**request["source"])).request


def _rows_by_split(event: Tensor, seed: int) -> dict[str, Tensor]:
    """Return which records belong to each split: of every eight events one is for validation and one for the test.

    Raises:
        ConfigError: if there are too few events.
    """
    events = event.unique()
    if len(events) < 4:
        raise ConfigError(
            f"Events are parted into those to train on, to validate and to test; got {len(events)}, and four are the "
            "least. Give records of more events."
        )
    order = events[torch.randperm(len(events), generator=generator_for(seed, "split by event"))]
    held = max(1, len(events) // (_HELD_OUT + 2))
    parts = {"train": order[2 * held :], "valid": order[:held], "test": order[held : 2 * held]}
    return {name: torch.isin(event, own).nonzero().flatten() for name, own in parts.items()}
