"""`Store`: samples on disk, with their card and statistics.

::

    <store>/
      card.json                        where everything came from, and every file's size and hash
      stats.yaml                       statistics of the training split
      <name>.yaml                      the folder as The Well's tools describe it
      data/{train,valid,test}/*.hdf5   samples in The Well's schema (`scifm.data.well`)

Nothing is read before it is asked for, and no more than that. A store is made by `Making`: the folder is held against
others, every file is written whole, and the card comes last, so whatever happens before leaves an unfinished one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from scifm.config import config_hash
from scifm.data.card import CARD_NAME, Card, FileEntry, hash_file
from scifm.data.split import StoreSplit
from scifm.data.statistics import Statistics, samples_at_once, summarize
from scifm.data.well import JoinedRows, OpenFiles, Reader, WellReader, describe_folder, read_provenance
from scifm.errors import ConfigError, RunError, SignatureError, StoreError, suggest
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.window import Window
from scifm.locks import exclusive
from scifm.prompt import Shown
from scifm.runs import write_atomically
from scifm.wording import plural, span

if TYPE_CHECKING:
    import xarray

__all__ = ["Chunk", "Making", "Store", "require_signature", "write_part"]

_STATISTICS_NAME = "stats.yaml"
_SPARE_BYTES = 1024 * 1024  # card, statistics, headers


def require_signature(store_signature: Signature, wanted: Signature) -> None:
    """Check that a store, which may hold more, offers every name that is wanted, in the same role.

    Raises:
        SignatureError: says what is missing.
    """
    missing = [
        f"{role[:-1]} '{name}'"
        for role in ("inputs", "coefficients", "outputs")
        for name in getattr(wanted, role)
        if name not in getattr(store_signature, role)
    ]
    for trait in ("num_spatial_dims", "evolves"):
        ours, theirs = getattr(store_signature, trait), getattr(wanted, trait)
        if ours != theirs:
            missing.append(f"{trait} = {theirs} (the store has {ours})")
    if missing:
        raise SignatureError(
            f"The store does not fit: missing are {', '.join(missing)}. It offers inputs "
            f"{list(store_signature.inputs)}, coefficients {list(store_signature.coefficients)}, outputs "
            f"{list(store_signature.outputs)}. Use a store of another system, or a model made for this one."
        )


@dataclass(frozen=True, repr=False)
class Store(Shown):
    """A finished store. Open one with `Store.open`; `generate` and `import_data` make them.

    Args:
        path: its folder, or the foreign file it reads.
        card: where everything came from.
        readers: make what reads the numbers of a split; each split asked for has a reader of its own.
    """

    path: Path
    card: Card
    readers: Mapping[str, Callable[[], Reader]]

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in the folder `path`; checks that every file is there and has its full length.

        Raises:
            StoreError: if there is no store, or a file is missing, truncated or foreign.
        """
        folder = Path(path).expanduser()
        card = Card.read(folder)
        card.check_sizes(folder)
        try:
            store = cls.unfinished(folder, card, {name: entry.num_samples or 0 for name, entry in card.files.items()})
            statistics = yaml.safe_load((folder / _STATISTICS_NAME).read_text(encoding="utf-8"))
            vars(store)["statistics"] = Statistics.from_dict(statistics)
        except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise StoreError(
                f"The store '{folder}' cannot be understood: '{_STATISTICS_NAME}' or the card does not hold what it "
                f"should ({error!r}). Remove '{_STATISTICS_NAME}' and run the same 'scifm generate' again."
            ) from error
        return store

    @classmethod
    def unfinished(cls, folder: Path, card: Card, chunks: Mapping[str, int]) -> Store:
        """Return a store whose card is not written yet: its data files with the trajectories each holds."""
        files = {
            split: [(folder / name, chunks[name]) for name in sorted(chunks) if name.startswith(f"data/{split}/")]
            for split in card.splits
        }
        return cls(folder, card, {split: partial(_reader_of, own, card.signature) for split, own in files.items()})

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        names, times = self.signature, self.card.times
        problems = "samples" if times is None else f"trajectories of {plural(len(times), 'frame')}"
        splits = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        rows = [("equation", self.card.equation), (problems, splits)]
        rows += [(role, ", ".join(getattr(names, role))) for role in ("inputs", "coefficients", "outputs")]
        rows += [("times", "" if times is None else span(f"{times[0]:g}", f"{times[-1]:g}")), ("grid", self.grid.told)]
        rows += [("missing points in", ", ".join(self.card.gaps))]
        return f"Store '{self.path}'", rows

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the training split; of a foreign file they are gathered when they are first asked for."""
        split = self.split("train")
        with closing(split):
            return summarize(split.batches(samples_at_once(self.signature, self.grid)))

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.card.name

    @property
    def signature(self) -> Signature:
        """The names of every batch."""
        return self.card.signature

    @property
    def grid(self) -> Grid:
        """The grid of every batch."""
        return self.card.grid

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        """The exact scalings of the system the samples are of; none where none is known."""
        return self.card.homogeneities

    @property
    def content(self) -> str:
        """A hash of its files, another one when the samples change; of a foreign file, of its size and mapping."""
        card = self.card
        if not card.files and card.source is not None:
            return config_hash(card.source.to_dict())
        return config_hash({name: entry.sha256 for name, entry in card.files.items()})

    @property
    def splits(self) -> dict[str, int]:
        """Number of trajectories by split."""
        return dict(self.card.splits)

    @property
    def mapping(self) -> dict[str, Any] | None:
        """How foreign data are read where they lie, a `DataMapping` as a tree; None for a store of our own."""
        return self.card.source.mapping if self.card.source is not None and not self.card.files else None

    @property
    def num_problems(self) -> int:
        """Drawn problems in all splits together: trajectories, or samples of a steady system."""
        return sum(self.splits.values())

    @property
    def num_samples(self) -> int:
        """Samples in all splits together; of trajectories, every window is one."""
        return sum(self.split(name).num_samples for name in self.card.splits)

    def split(self, name: str, window: Window | None = None, *, stride: int = 1) -> StoreSplit:
        """Return one split; nothing is read yet.

        Args:
            name: ``train``, ``valid`` or ``test``.
            window: of evolving systems, which frames make a sample.
            stride: where no window is given: one frame to one, so many frames later.

        Raises:
            ConfigError: if the store has no such split, or the window does not fit.
        """
        window = Window(stride=stride) if window is None else window
        if name not in self.card.splits:
            if name not in ("train", "valid", "test"):
                raise ConfigError(f"Split of the store '{self.path}': {suggest(name, self.card.splits)}")
            counts = self.card.splits.items()
            held = ", ".join(f"{plural(count, 'trajectory', 'trajectories')} in {split}" for split, count in counts)
            raise ConfigError(
                f"The store '{self.path}' has no split '{name}'; it holds {held}. Import or generate it with some "
                "trajectories held out: splits = { train = 0.8, valid = 0.1, test = 0.1 } in the map; of a single long "
                "trajectory, cut it along time into several first."
            )
        card, dtype = self.card, getattr(torch, self.card.dtype)
        origin: dict[str, Any] = {"store": str(self.path), "content": self.content, "split": name}
        origin |= {} if card.times is None else window.record()
        reader = self.readers[name]()
        about: dict[str, Any] = {"origin": origin, "gaps": card.gaps}
        return StoreSplit(reader, card.signature, card.grid, card.system_name, dtype, card.times, window, **about)

    def whole(self, window: Window | None = None) -> StoreSplit:
        """Return the trajectories of all splits, one split after the other; nothing is read yet.

        Raises:
            ConfigError: if the window does not fit.
        """
        return StoreSplit.joined([self.split(name, window) for name, count in self.splits.items() if count])

    def to_xarray(self, split: str = "train") -> xarray.Dataset:
        """Return one split with names on its axes: trajectory, time if it evolves, then space; nothing is read yet.

        Raises:
            ConfigError: if the store has no such split.
        """
        from scifm.data.labelled_view import labelled_view

        return labelled_view(self.card, self.split(split).reader, split)

    def verify(self) -> None:
        """Compare the content of every file with the card; reads the whole store.

        Raises:
            StoreError: says which files differ.
        """
        self.card.check_hashes(self.path)


def _reader_of(files: Sequence[tuple[Path, int]], signature: Signature) -> Reader:
    opened = OpenFiles()
    return JoinedRows([WellReader(path, count, signature, opened) for path, count in files])


# --- how a store is made ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunk:
    """One data file of a store: which of a split, counted from 0, and which trajectories of it."""

    split: str
    number: int
    rows: range

    @property
    def name(self) -> str:
        """Where it lies in the folder of its store."""
        return f"data/{self.split}/chunk-{self.number:05d}.hdf5"


class Making:
    """A store while it is made: the files it will hold, of at most `chunk_size` trajectories, and what decides them.

    Args:
        path: its folder.
        request: `Card.request` of the card it will have.
        chunk_size: trajectories a file.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], chunk_size: int) -> None:
        self.path = path
        self.request: dict[str, Any] = json.loads(json.dumps(request))  # as it will be read back: lists, not tuples
        self.chunks = [
            Chunk(split, number, range(first, min(first + chunk_size, count)))
            for split, count in self.request["splits"].items()
            for number, first in enumerate(range(0, count, chunk_size))
        ]

    def origin(self, chunk: Chunk) -> dict[str, Any]:
        """Return what decides the content of one file, as written into it."""
        return {**self.request, "split": chunk.split, "chunk": chunk.number}

    def carry_out(
        self,
        make: Callable[[Sequence[Chunk]], Iterable[int]],
        num_bytes: Callable[[Chunk], int],
        card: Callable[[float, int], Card],
        progress: Callable[[int, int], None] | None,
    ) -> Store:
        """Return the finished store: as it is, which needs no right to write, else after making what is missing.

        Args:
            make: makes files while it is gone through, and gives the trajectories that were done each time.
            num_bytes: that a file takes.
            card: makes the card, all but its ``files``, of the seconds it took and the trajectories that were made.
            progress: called with (trajectories done, trajectories in all).

        Raises:
            StoreError: if there is another store or anything else, the folder is in use, files do not fit on the disk,
                or one cannot be written.
            DataError: if a number is NaN or infinite, or too large for statistics.
        """
        if not self._is_finished():
            with _reserved(self.path):
                pending, start = self._pending(), time.perf_counter()
                self._require_room(sum(map(num_bytes, pending)))
                num_made, total = sum(len(chunk.rows) for chunk in pending), sum(self.request["splits"].values())
                done = total - num_made
                for count in make(pending):
                    done += count
                    if progress is not None:
                        progress(done, total)
                self._finish(card(time.perf_counter() - start, num_made))
        return Store.open(self.path)

    def _is_finished(self) -> bool:
        if self._card() is None:
            return False
        try:
            Store.open(self.path)
        except StoreError:
            return False
        return True

    def _card(self) -> Card | None:
        """Return the card that is there, if it is of this store."""
        if not (self.path / CARD_NAME).is_file():
            return None
        card = Card.read(self.path)
        _refuse_other(str(self.path), card.request, self.request)
        return card

    def _pending(self) -> list[Chunk]:
        """Return the files still to make; StoreError if the folder holds anything else than a part of this store."""
        card = self._card()
        chunks = {self.path / chunk.name: chunk for chunk in self.chunks}
        present = {file for pattern in ("*.hdf5", "*.h5") for file in (self.path / "data").glob(f"*/{pattern}")}
        pending = []
        for file, chunk in chunks.items():
            entry = card.files.get(chunk.name) if card is not None else None
            if file not in present or (entry is not None and file.stat().st_size != entry.num_bytes):
                pending.append(chunk)
            elif entry is None:
                _refuse_other(str(file), read_provenance(file), self.origin(chunk))
        foreign = sorted(present - set(chunks))
        if foreign:
            raise StoreError(
                f"'{foreign[0]}' is not part of the store to be made ({len(foreign)} such files). Nothing was "
                "overwritten. Choose another folder, or move these files away."
            )
        return pending

    def _require_room(self, num_bytes: int) -> None:
        needed, free = num_bytes + _SPARE_BYTES, shutil.disk_usage(self.path).free
        if needed > free:
            raise StoreError(
                f"The store '{self.path}' needs {needed / 1e6:.0f} MB more and {free / 1e6:.0f} MB are free. Free some "
                "space, choose another disk, or ask for fewer samples or points. Nothing was started."
            )

    def _finish(self, card: Card) -> None:
        """Write statistics, description and, last, the card."""
        path, chunks = self.path, {chunk.name: len(chunk.rows) for chunk in self.chunks}
        statistics = Store.unfinished(path, card, chunks).statistics.to_dict()
        num_frames = len(card.times) if card.times is not None else None
        description = describe_folder(card.name, card.signature, card.grid, list(chunks.values()), num_frames)
        for file, entries in ((_STATISTICS_NAME, statistics), (f"{card.name}.yaml", description)):
            write_part(path / file, yaml.safe_dump(entries, sort_keys=False).encode())
        names = {**chunks, _STATISTICS_NAME: None, f"{card.name}.yaml": None}
        files = {
            file: FileEntry(num_bytes=(path / file).stat().st_size, sha256=hash_file(path / file), num_samples=count)
            for file, count in names.items()
        }
        tree = card.model_copy(update={"files": files}).to_dict()
        text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False)
        write_part(path / CARD_NAME, (text + "\n").encode())


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
def _reserved(path: Path) -> Iterator[None]:
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


def _refuse_other(place: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise StoreError if what lies at `place` was made with other settings than ours, or of other files.

    Says which settings differ, or which files held something else.
    """
    contents = theirs.get("contents") or {}
    changed = [name for name, own in ours.get("contents", {}).items() if contents.get(name) != own]
    if changed and set(ours["files"]) == set(theirs.get("files", ())):
        raise StoreError(
            f"'{place}' was made when '{changed[0]}' held something else, or before contents were noted; "
            f"{len(changed)} of {len(ours['files'])} files differ. Nothing was overwritten. Remove the store to have "
            "it made anew, or choose another folder with --out."
        )
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
