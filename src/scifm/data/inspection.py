"""What a file or folder is, what it holds, what a store made of it would be, and what is missing for that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count, product
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from scifm.config import apply_overrides, build_config, read_recipe
from scifm.data.card import CARD_NAME
from scifm.data.formats import FORMATS
from scifm.data.formats.format import Contents, Format, LazyArray, opening, reading
from scifm.data.formats.kinds import WHOLE
from scifm.data.formats.mapping import DataMapping, TimeAxis
from scifm.data.formats.proposal import Proposal, mapping_toml
from scifm.data.importing import find_format, format_named, open_data
from scifm.data.store import Store
from scifm.errors import ConfigError, SciFMError
from scifm.runs import Run

__all__ = ["ArrayReport", "Inspection", "Outcome", "choose_mapping", "inspect_data", "measure"]

Progress = Callable[[int, int], None]
_BLOCK_BYTES = 32 * 1024 * 1024  # in memory at a time


@dataclass(frozen=True)
class ArrayReport:
    """One array. What was not read is None, and so is the range of an array without a finite number.

    Args:
        part: ``train``, ``valid``, ``test``, or ``all`` where the file is not split.
        name: of the array.
        shape: length of each axis.
        dtype: type of the numbers.
        axes: what each axis is, where the file tells it.
        minimum: smallest finite number.
        maximum: largest finite number.
        mean: of the finite numbers.
        num_nan: how many are not a number.
        num_infinite: how many are infinite.
    """

    part: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    num_nan: int | None = None
    num_infinite: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a store made by a mapping would be.

    Args:
        grid: points, extents and boundaries, ``Grid.to_dict()``.
        axes: names of the grid's axes.
        fields: role by name.
        coefficients: names.
        times: of the frames; None for steady problems.
        splits: trajectories by split.
        system: name of the system that made the samples or whose equation they solve; None where none is known.
        units: of fields, coefficients, axes and ``time``, by name, where files tell them.
        labels: what else they say in words, and where their axes begin; None: nothing.
    """

    grid: dict[str, list[Any]]
    axes: tuple[str, ...]
    fields: dict[str, str]
    coefficients: tuple[str, ...]
    times: tuple[float, ...] | None
    splits: dict[str, int]
    system: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Any] | None = None


@dataclass(frozen=True)
class Inspection:
    """What was found at a path.

    Args:
        path: where.
        kind: ``store``, ``run``, ``model``, or the format of foreign data.
        told: what it is and why that is believed.
        advice: what to do next, one line.
        others: reason by name of the other formats that would read it too.
        arrays: what lies in it.
        attributes: single numbers of the file.
        boundary: for each axis how it was decided what stands at its ends.
        outcome: what a store of it would be; None while something is missing.
        missing: what has to be told, or would be refused, a sentence each.
        remarks: what a user should know.
        mapping: the mapping that was used, or as much of one as is known, as TOML; empty for what needs none.
    """

    path: Path
    kind: str
    told: str
    advice: str
    others: dict[str, str]
    arrays: tuple[ArrayReport, ...] = ()
    attributes: dict[str, float] | None = None
    boundary: tuple[str, ...] = ()
    outcome: Outcome | None = None
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    mapping: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def choose_mapping(path: Path, file: Path | None, overrides: Iterable[str]) -> DataMapping | None:
    """Return the mapping of a TOML file or the proposed one, with ``a.b=c`` overrides; None: nothing was chosen.

    Raises:
        ConfigError: if the mapping is missing, not valid, or none can be proposed.
        StoreError: if the data cannot be read.
    """
    overrides = list(overrides)
    if file is None and not overrides:
        return None
    if file is not None:
        if not file.is_file():
            command = f"scifm inspect {quote(str(path))} --write-map {quote(str(file))}"
            raise ConfigError(f"No mapping at '{file}'. Let '{command}' write one.")
        mapping = read_recipe(DataMapping, file, "import", overrides=overrides)
    else:
        form = find_format(path)
        with opening(path, form.title):
            contents = form.read(path)
            tree = form.propose(contents).to_dict()
            contents.close()
        mapping = build_config(DataMapping, apply_overrides(tree, overrides), source=f"the mapping of '{path}'")
    format_named(mapping.format)
    return mapping


def _blocks(array: LazyArray) -> Iterator[tuple[slice, ...]]:
    """Yield indices of blocks that cover an array, each of bounded size."""
    sizes: list[int] = []
    room = max(1, _BLOCK_BYTES // array.dtype.itemsize)
    for length in array.shape[::-1]:
        sizes.append(max(1, min(length, room)))
        room //= sizes[-1]
    steps = zip(array.shape, sizes[::-1], strict=True)
    yield from product(*([slice(i, min(i + size, n)) for i in range(0, n, size)] for n, size in steps))


def measure(array: LazyArray, observe: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Return range, mean and the number of NaN and infinities of an array, read in blocks of bounded memory.

    `observe` is called after each block.
    """
    low, high, total, num_finite, num_nan, size = math.inf, -math.inf, 0.0, 0, 0, 0
    for index in _blocks(array):
        values = np.asarray(array[index])
        finite = values[np.isfinite(values)]
        size, num_finite, num_nan = size + values.size, num_finite + finite.size, num_nan + int(np.isnan(values).sum())
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total += float(finite.sum(dtype=np.float64))
        observe()
    known = {"minimum": low, "maximum": high, "mean": total / num_finite} if num_finite else {}
    return {**known, "num_nan": num_nan, "num_infinite": size - num_finite - num_nan}


def inspect_data(
    path: str | Path, mapping: DataMapping | None = None, *, read: bool = True, progress: Progress | None = None
) -> Inspection:
    """Say what lies at a path and what would become of it.

    Args:
        path: foreign data, a store, a run or a model.
        mapping: what is what; what the format proposes when left out.
        read: whether to read all numbers for their range, block by block; else only headers and a few samples.
        progress: called with (blocks read, blocks in all).

    Raises:
        StoreError: if there is nothing, or it is damaged or of no known kind.
        ConfigError: if a package to read it is missing.
    """
    path = Path(path).expanduser()
    own = _own(path)
    if own is not None:
        return own
    form = find_format(path) if mapping is None else format_named(mapping.format)
    with opening(path, form.title):
        contents = form.read(path)
    try:
        with opening(path, form.title):
            return _Inspecting(path, form, contents, mapping).carry_out(read, progress)
    finally:
        contents.close()


def _own(path: Path) -> Inspection | None:
    """Return what is told about a store, a run or a model of ours, or None."""
    if (path / CARD_NAME).is_file():
        return _describe_store(path)
    if (path / "config.toml").is_file() and (path / "STATUS").is_file():
        advice = f"Score it on a store: scifm evaluate {quote(str(path))} --store STORE"
        return Inspection(path, "run", f"a run folder, {Run(path).status}", advice, {})
    if (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        advice = f"Use it from Python: scifm.load_operator({str(path)!r})"
        return Inspection(path, "model", "a model folder", advice, {})
    return None


def _describe_store(path: Path) -> Inspection:
    store = Store.open(path)
    card, grid = store.card, store.grid
    arrays = tuple(
        ArrayReport(
            "train", name, grid.num_points, card.dtype, grid.axis_names,
            minimum=own.min, maximum=own.max, mean=own.mean, num_nan=0, num_infinite=0,
        )
        for name, own in store.statistics.fields.items()
    )  # fmt: skip
    origin = "generated" if card.source is None else f"imported from {card.source.format}"
    return Inspection(
        path, "store", f"a finished store of this library, {origin}",
        f"Train on it: scifm pretrain RECIPE --store {quote(str(path))}", {},
        arrays=arrays,
        outcome=_outcome(store),
        remarks=tuple(card.known_defects),
    )  # fmt: skip


def _outcome(store: Store) -> Outcome:
    card, grid, names = store.card, store.grid, store.signature
    roles = dict.fromkeys(names.inputs, "input") | dict.fromkeys(names.outputs, "output")
    roles |= dict.fromkeys(names.state, "state")
    system = card.source.mapping.get("system") if card.source is not None else card.system_name
    told = card.times, store.splits, system, card.units, card.labels.to_dict() if card.labels is not None else None
    return Outcome(grid.to_dict(), grid.axis_names, roles, names.coefficients, *told)


class _Inspecting:
    """One inspection of foreign data."""

    def __init__(self, path: Path, form: Format, contents: Contents, mapping: DataMapping | None) -> None:
        self.path, self.form, self.contents, self.mapping = path, form, contents, mapping
        self.given = mapping is not None
        self.missing: list[str] = []  # what a mapping can tell
        self.wrong: list[str] = []  # what has to be mended, in the data unless it says otherwise
        self.defects: list[str] = []  # of the store

    def carry_out(self, read: bool, progress: Progress | None) -> Inspection:
        reasons = {name: form.sniff(self.path) for name, form in FORMATS.items()}
        told = reasons.pop(self.form.name)
        proposal = Proposal(self.contents, self.form.name)
        text = self._choose(proposal)
        outcome = self._outcome()
        arrays = self._arrays(read, progress)
        before = len(self.missing)
        self._refuse_gaps(arrays)
        text = "".join(f"# TO DO: {what}\n" for what in self.missing[before:]) + text
        known = self.mapping.known_defects if self.mapping is not None else proposal.entries.get("known_defects", ())
        known_notes = proposal.notes if self.mapping is None else self._notes(proposal)
        guessed = outcome is None or not self.contents.boundary
        notes = known_notes.get("boundary", "").splitlines() if guessed else []
        return Inspection(
            self.path,
            self.form.name,
            f"{self.form.title}: {told or 'because the mapping says so'}",
            self._advice(),
            {name: reason for name, reason in reasons.items() if reason is not None},
            arrays=arrays,
            attributes=dict(self.contents.attributes),
            boundary=tuple(notes),
            outcome=outcome,
            missing=(*self.missing, *self.wrong),
            remarks=tuple(dict.fromkeys([*self.contents.remarks, *known, *self.defects])),
            mapping=text,
        )

    def _choose(self, proposal: Proposal) -> str:
        """Settle which mapping is meant; return it, or as much as is known, as TOML."""
        if self.mapping is None:
            try:
                self.mapping = self.form.propose(self.contents)
            except ConfigError as error:
                self.missing += proposal.missing or [str(error)]
                return proposal.toml
        notes = self._notes(proposal)
        entries = self.mapping.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        entries["coefficients"] = {
            name: next(iter(own.values())) if len(own) == 1 else own
            for name, own in entries.get("coefficients", {}).items()
        }
        fields = {name: {**own, "role": self.mapping.fields[name].role} for name, own in entries.pop("fields").items()}
        entries["splits"] = dict(self.mapping.splits)
        if isinstance(self.mapping.time, TimeAxis):  # also where it is the default: here it can be changed
            entries["time"] = self.mapping.time.model_dump()
        return mapping_toml({"format": self.form.name, **entries, "fields": fields}, notes)

    def _notes(self, proposal: Proposal) -> Mapping[str, str]:
        """Return the remarks of the proposal, or, if the mapping is another one, those that go with it too."""
        assert self.mapping is not None
        if not proposal.missing and proposal.complete() == self.mapping:
            return proposal.notes
        alike = proposal.entries["boundary"] == self.mapping.boundary
        return {"boundary": proposal.notes["boundary"]} if alike else {}

    def _outcome(self) -> Outcome | None:
        if self.mapping is None:
            return None
        try:
            store = open_data(self.path, self.mapping)
        except ConfigError as error:
            self.missing.append(str(error))
            return None
        except SciFMError as error:
            self.wrong.append(str(error))
            return None
        self.defects = store.card.known_defects
        return _outcome(store)

    def _arrays(self, read: bool, progress: Progress | None) -> tuple[ArrayReport, ...]:
        parts = self.contents.parts
        listed = [(part, name, array) for part, arrays in parts.items() for name, array in arrays.items()]
        total, done = sum(1 for _, _, array in listed for _ in _blocks(array)) if read else 0, count(1)

        def observe() -> None:
            if progress is not None:
                progress(next(done), total)

        reports = []
        for part, name, array in listed:
            with reading(self.path, name):
                measured = measure(array, observe) if read else {}
            axes = self._axes_of(name)
            reports.append(ArrayReport(part, name, tuple(array.shape), str(array.dtype), axes, **measured))
        return tuple(reports)

    def _axes_of(self, name: str) -> tuple[str, ...] | None:
        """Return an array's axes: as the mapping says, else as the file does."""
        along = tuple(axis for axis, array in self.contents.coordinates.items() if array == name)
        if self.mapping is not None:
            used = [entry.axes for entry in self.mapping.fields.values() if entry.array == name]
            if used:
                return used[0]
            if any(own.array == name and own.channel is None for own in self.mapping.coefficients.values()):
                return ("trajectory",) if len(self.contents.arrays[name].shape) == 1 else None
        return self.contents.axes.get(name) or along or None

    def _refuse_gaps(self, arrays: tuple[ArrayReport, ...]) -> None:
        """Say which arrays that are meant to be fields hold something else than finite numbers."""
        wanted = {entry.array for entry in self.mapping.fields.values()} if self.mapping else {a.name for a in arrays}
        for report in arrays:
            if report.name not in wanted or not (report.num_nan or report.num_infinite):
                continue
            where = "" if report.part == WHOLE else f" of {report.part}"
            if report.num_infinite:
                self.wrong.append(
                    f"'{report.name}'{where} holds {report.num_infinite:,} infinite numbers; only finite ones are "
                    "allowed: mend them, or leave those trajectories out."
                )
            if report.num_nan == math.prod(report.shape):
                self.wrong.append(f"'{report.name}'{where} holds no number at all: leave it out, or write it again.")
                continue
            rules = {"refuse"}
            if self.mapping is not None:
                named = [name for name, entry in self.mapping.fields.items() if entry.array == report.name]
                rules = {self.mapping.gap_rule(name).rule for name in named}
            if report.num_nan and "refuse" in rules:
                self.missing.append(
                    f"'{report.name}'{where} holds {report.num_nan:,} NaN of {math.prod(report.shape):,} numbers: say "
                    'what becomes of those points, gaps = "mask", gaps = "exclude", gaps = { fill = 0.0 } or gaps = { '
                    'fill = "interpolate" }.'
                )

    def _advice(self) -> str:
        path = quote(str(self.path))
        if self.wrong:
            return f"Mend what is missing, in the data unless it says otherwise, then scifm inspect {path} again"
        if not self.missing:
            if self.given:
                return f"Make a store of it by that mapping: scifm import {path} --map FILE --out STORE"
            return f"Make a store of it: scifm import {path} --out STORE"
        if self.given:
            return f"Change the mapping that was given, then look again: scifm inspect {path} --map FILE"
        return f"Complete the mapping: scifm inspect {path} --write-map map.toml, then use --map map.toml"
