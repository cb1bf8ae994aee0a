"""Making a store: the folder is held against others, every file is written whole, and the card comes last.

A folder with a card is a finished store, so whatever happens before leaves an unfinished one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from scifm.data.card import CARD_NAME, Card, FileEntry, hash_file
from scifm.data.statistics import samples_at_once, summarize
from scifm.data.store import STATISTICS_NAME, Store
from scifm.data.well_layout import describe_folder
from scifm.errors import RunError, StoreError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.locks import exclusive
from scifm.runs import write_atomically

__all__ = ["DTYPES", "chunk_name", "finish_store", "refuse_other", "require_space", "reserved", "write_part"]

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_SPARE_BYTES = 1024 * 1024  # card, statistics, headers


def chunk_name(split: str, number: int) -> str:
    """Return where a data file lies in the folder of its store."""
    return f"data/{split}/chunk-{number:05d}.hdf5"


def write_part(path: Path, content: bytes) -> None:
    """Write one file of a store atomically.

    Raises:
        StoreError: if it cannot be written.
    """
    try:
        write_atomically(path, content)
    except RunError as error:
        raise StoreError(f"{error} Then run the same command again: what is finished is kept.") from error


@contextmanager
def reserved(path: Path) -> Iterator[None]:
    """Hold the folder against a second writer, and clear away what a killed one left half written.

    Its LOCK stays: were it removed, one process could hold the old file and another one the new.

    Raises:
        StoreError: if it is in use, or cannot be written.
    """
    with ExitStack() as held:
        try:
            path.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(path))
        except OSError as error:
            raise StoreError(
                f"Cannot write a store into '{path}': {error.strerror or error}. Choose a folder that you may write "
                "to, with --out or path=."
            ) from error
        except RunError as error:
            raise StoreError(str(error)) from error
        for leftover in (*path.glob(".*.part"), *path.glob("data/*/.*.part")):
            leftover.unlink(missing_ok=True)
        yield


def require_space(path: Path, num_bytes: int) -> None:
    """Raise StoreError if the disk of the folder `path` has less than `num_bytes` and some for the card free."""
    needed, free = num_bytes + _SPARE_BYTES, shutil.disk_usage(path).free
    if needed > free:
        raise StoreError(
            f"The store '{path}' needs {needed / 1e6:.0f} MB more and {free / 1e6:.0f} MB are free. Free some "
            "space, choose another disk, or ask for fewer samples or points. Nothing was started."
        )


def refuse_other(place: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise StoreError if what lies at `place` was made with other settings than ours; says which differ."""
    differing = [key for key in ours if theirs.get(key) != ours[key]]
    if differing:
        pairs = {key: _differing(theirs.get(key), ours[key]) for key in differing}
        details = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, (there, here) in pairs.items())
        raise StoreError(
            f"'{place}' belongs to a store made with other settings: {details}. Nothing was overwritten. Choose "
            "another folder, remove the old store, or use its settings."
        )


def _differing(there: Any, here: Any) -> tuple[Any, Any]:
    """Return two settings; of two tables only the entries that differ."""
    if not (isinstance(there, Mapping) and isinstance(here, Mapping)):
        return there, here
    pairs = {key: _differing(there.get(key), here.get(key)) for key in {**there, **here}}
    odd = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    return {key: pair[0] for key, pair in odd.items()}, {key: pair[1] for key, pair in odd.items()}


def finish_store(path: Path, card: Card, chunks: Mapping[str, int]) -> None:
    """Write statistics, description and, last, the card.

    Args:
        path: folder of the store.
        card: all but its ``files``.
        chunks: the data files with the trajectories each holds.

    Raises:
        StoreError, DataError: if a file cannot be read back or written.
    """
    signature, grid = Signature.from_dict(card.signature), Grid.from_dict(card.grid)
    split = Store.unfinished(path, card, chunks).split("train")
    statistics = summarize(split.batches(samples_at_once(signature, grid))).to_dict()
    split.close()
    num_frames = len(card.times) if card.times is not None else None
    description = describe_folder(card.name, signature, grid, list(chunks.values()), num_frames)
    for file, entries in ((STATISTICS_NAME, statistics), (f"{card.name}.yaml", description)):
        write_part(path / file, yaml.safe_dump(entries, sort_keys=False).encode())
    names = {**chunks, STATISTICS_NAME: None, f"{card.name}.yaml": None}
    files = {
        file: FileEntry(num_bytes=(path / file).stat().st_size, sha256=hash_file(path / file), num_samples=count)
        for file, count in names.items()
    }
    text = json.dumps(card.model_copy(update={"files": files}).to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_part(path / CARD_NAME, (text + "\n").encode())
