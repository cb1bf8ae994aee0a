"""The card of a store: its birth certificate, ``card.json``.

It says what was asked for, what came out, where and how, and lists every other file with its size and hash, so that a
truncated or exchanged file is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from scifm.config import Config, build_config
from scifm.data.labels import Labels
from scifm.errors import ConfigError, StoreError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity

__all__ = ["CARD_NAME", "Card", "FileEntry", "Generation", "Source", "hash_file"]

CARD_NAME = "card.json"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and hashes of all files in a folder, as hexadecimal digits.

    Raises:
        StoreError: if it cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = "\n".join(f"{file.relative_to(path).as_posix()} {hash_file(file)}" for file in files)
        return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"Cannot read '{path}': {error.strerror or error}.") from error


_Scaling = Annotated[
    Homogeneity,
    BeforeValidator(lambda given: given if isinstance(given, Homogeneity) else Homogeneity.from_dict(given)),
    PlainSerializer(Homogeneity.to_dict),
]


class FileEntry(Config):
    """One file of a store.

    Args:
        num_bytes: its size.
        sha256: its hash.
        num_samples: samples it holds; None for a file without samples.
    """

    num_bytes: int
    sha256: str
    num_samples: int | None = None


class Generation(Config):
    """How samples were made from a system.

    Args:
        system: ``System.to_dict()``: name, knobs, options.
        seed: seed of every draw.
        chunk_size: samples a file; the draws depend on it.
        device: kind of device that drew the samples.
        num_drawn: samples drawn, accepted or not.
        num_rejected: samples drawn and rejected.
        rejection_rate: num_rejected / num_drawn: how far the stored distribution is from the one asked for.
        seconds: wall time of the last call that made samples; an earlier, interrupted call is not in it.
        num_generated: samples made in those seconds.
    """

    system: dict[str, Any]
    seed: int
    chunk_size: int
    device: str
    num_drawn: int
    num_rejected: int
    rejection_rate: float
    seconds: float
    num_generated: int

    @field_validator("system")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("a system is told by its 'name', a text, and its settings")
        return value


class Source(Config):
    """Which files samples were imported from, and how these were read.

    Args:
        format: key in ``scifm.data.formats.FORMATS``.
        files: their names with their sizes in bytes; of a folder that is one data set, of all that lies in it.
        contents: SHA-256 of what they held when they were copied; none where they are read in place.
        mapping: which array is which field, which axis is what: ``DataMapping.to_dict()``.
    """

    format: str
    files: dict[str, int]
    contents: dict[str, str] = Field(default_factory=dict)
    mapping: dict[str, Any]


class Card(Config):
    """What a store is and how it came to be.

    Args:
        name: name of the data set: its folder's name when it was made.
        equation: the equation, signs included; empty when nobody told.
        homogeneities: each exact scaling of the system; none where no system is known.
        grid: where every field lives.
        signature: the names of every batch.
        splits: number of trajectories by split; of a steady problem a trajectory is one sample.
        times: physical times of the stored frames; None for steady problems.
        units: as files told them, by name of a field, a coefficient or an axis, and of ``time``; none are checked.
        labels: what else they say in words, and where their axes begin; None for generated data.
        dtype: precision of the stored numbers (of generated ones also of the solver that made them).
        generation: how a system made them; None for imported data.
        source: which files they were imported from; None for generated data.
        environment: versions, hardware, command.
        known_defects: what a user must know before trusting the data.
        gaps: fields of which points are missing, and say so; see `scifm.fields.batch.Batch`.
        files: every other file of the store by its path inside the folder.
        format_version: of this card.
    """

    name: str
    equation: str
    homogeneities: tuple[_Scaling, ...]
    grid: Grid
    signature: Signature
    splits: dict[str, int]
    times: tuple[float, ...] | None = None
    units: dict[str, str] = Field(default_factory=dict)
    labels: Labels | None = None
    dtype: Literal["float32", "float64"]
    generation: Generation | None = None
    source: Source | None = None
    environment: dict[str, Any]
    known_defects: list[str]
    files: dict[str, FileEntry]
    gaps: tuple[str, ...] = ()
    format_version: Literal[2] = 2

    @field_validator("files")
    @classmethod
    def _inside(cls, value: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in value:
            place = PurePosixPath(name)
            if place.is_absolute() or ".." in place.parts or "\\" in name or "\0" in name or not place.parts:
                raise ValueError(f"every file lies inside the folder of the store, and '{name[:80]}' does not")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out gaps where there are none: versions of before read such a card too."""
        entries: dict[str, Any] = handler(self)
        return entries if self.gaps else {name: value for name, value in entries.items() if name != "gaps"}

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for: two stores with the same request hold the same samples."""
        settings: dict[str, Any] = {key: getattr(self, key) for key in ("name", "splits", "dtype")}
        settings["grid"] = self.grid.to_dict()
        if self.generation is not None:
            settings |= {key: getattr(self.generation, key) for key in ("system", "seed", "chunk_size", "device")}
        return settings | (self.source.to_dict() if self.source is not None else {})

    @property
    def meanings(self) -> dict[str, str]:
        """What files said the numbers are, in words, by name of a field, a coefficient, an axis or ``time``."""
        labels, meanings = self.labels or Labels(), {}
        for name in (*self.signature.names, *self.grid.axis_names, "time"):
            texts, unit = labels.attributes(name), self.units.get(name, "")
            words = [texts.get("long_name") or texts.get("standard_name", ""), f"[{unit}]" if unit else ""]
            if name in labels.lines:
                first, spacing = labels.lines[name]
                words.append(f"{labels.name(name)} from {first:g} by {spacing:g} {texts.get('units', '')}".strip())
            if name == "time" and labels.dates is not None:
                dates = labels.dates
                words.append(f"first frame {dates.first:g} {dates.units} {dates.calendar}".strip())
            if any(words):
                meanings[name] = " ".join(filter(None, words))
        return meanings

    @property
    def system_name(self) -> str:
        """What its samples are called: the system's name, or that of imported data."""
        return str(self.generation.system["name"]) if self.generation is not None else self.name

    @property
    def knobs(self) -> dict[str, Any]:
        """The ranges the knobs were drawn from; empty where none are known."""
        return dict(self.generation.system["knobs"]) if self.generation is not None else {}

    @classmethod
    def read(cls, folder: Path) -> Card:
        """Read the card of the store in `folder`.

        Raises:
            StoreError: if there is no store, or its card is truncated, foreign, or of a newer format.
        """
        file = folder / CARD_NAME
        if not os.path.isdir(folder):
            raise StoreError(
                f"No store at '{folder}': there is no such folder. Make one with 'scifm generate' or 'scifm import', "
                "or say where it went."
            )
        if not os.path.isfile(file):
            raise StoreError(
                f"'{folder}' is not a finished store: it holds no {CARD_NAME}. If its generation was interrupted, run "
                "the same 'scifm generate' again to finish it; otherwise give the folder that 'scifm generate' printed."
            )
        try:
            return build_config(cls, json.loads(file.read_text(encoding="utf-8")), source=f"'{file}'")
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, ConfigError) as error:
            raise StoreError(
                f"The card '{file}' is truncated or not a card of a store ({error}). Restore it from a copy, or remove "
                "it and run the same 'scifm generate' or 'scifm import' again: finished data files are kept."
            ) from error

    def check_sizes(self, folder: Path) -> None:
        """Compare every file's size with the card.

        Raises:
            StoreError: if a file is missing or its size differs; says which.
        """
        inside = folder.resolve()
        for name, entry in self.files.items():
            if not (folder / name).resolve().is_relative_to(inside):
                raise StoreError(
                    f"'{folder / name}' is a link that leads out of the store, which is not followed. Copy the file "
                    "into the store."
                )
            try:
                size = (folder / name).stat().st_size
            except OSError as error:
                raise StoreError(
                    f"The store '{folder}' lacks its file '{name}' ({error.strerror}). Run the same "
                    "'scifm generate' or 'scifm import' again: only what is missing is made anew."
                ) from error
            if size != entry.num_bytes:
                raise StoreError(
                    f"'{folder / name}' has {size} bytes and should have {entry.num_bytes}: it is truncated or was "
                    "changed. Run the same 'scifm generate' again: only damaged files are made anew."
                )

    def check_hashes(self, folder: Path) -> None:
        """Compare every file's content with the card; reads the whole store.

        Raises:
            StoreError: if a file is missing or differs; says which.
        """
        self.check_sizes(folder)
        changed = [name for name, entry in self.files.items() if hash_file(folder / name) != entry.sha256]
        if changed:
            raise StoreError(
                f"In the store '{folder}' the content of {', '.join(changed)} is not what the card says. Remove these "
                "files and run the same 'scifm generate' again: only they are made anew."
            )
