"""`embed`: samples as a model sees them, a row of numbers each, beside what is known of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from scifm.config import build_config
from scifm.data.equations import told_of
from scifm.data.origin_config import BOX_SETTINGS
from scifm.data.origins import SystemOrigin
from scifm.data.sample_recipe import SampleRecipe
from scifm.errors import ConfigError, SciFMError, SignatureError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.samples import Samples
from scifm.models.features import chosen_stage, feature_names, features_of
from scifm.models.folder import find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.prompt import Shown
from scifm.runs import Run, write_atomically
from scifm.systems.catalog import find_system
from scifm.wording import plural

__all__ = ["EmbedRecipe", "Embedding", "embed", "known_numbers"]

_KINDS = (".parquet", ".csv", ".npz")
_FRAMES = ("stride", "horizon", "seed")
_DIMENSIONS = "num_spatial_dims"


class EmbedRecipe(SampleRecipe):
    """Which samples are shown to a model, and where it is looked into.

    Args:
        num_samples: samples drawn of a system; of one that evolves, trajectories.
        beside: further systems, by name, and stores, by folder: each is a system of its own in the table.
        stage: which of the network's stages, from 0, or from −1 at the end; that of its kind when left out.
        blind: ask as if nobody knew the coefficients.
        batch_size: samples at a time.
    """

    num_samples: int = Field(128, ge=1)
    beside: tuple[str, ...] = ()
    stage: int | None = None
    blind: bool = False
    batch_size: int = Field(64, ge=1)

    def embedding(self, model: str | Path) -> Embedding:
        """Return these samples as a model sees them.

        Raises:
            ConfigError, RunError, SignatureError, StoreError: as for `sources` and `embed`.
        """
        how: dict[str, Any] = {"stage": self.stage, "blind": self.blind, "batch_size": self.batch_size}
        return embed(model, self.sources(model), **how)

    def sources(self, model: str | Path) -> dict[str, Samples]:
        """Return the samples by what they are called: what is asked for first, else what the model was trained on.

        A system that stands beside them is drawn on their box, unless `num_points` and the like say another one.

        Raises:
            ConfigError, RunError, StoreError: as for `SampleRecipe.samples_for`.
        """
        found: dict[str, Samples] = {}
        for name, recipe in self._recipes(model):
            samples = recipe.samples_for(model)[0]
            told = name or _name_of(samples)
            number = sum(other.partition(" #")[0] == told for other in found)
            found[f"{told} #{number + 1}" if number else told] = samples
        return found

    def _recipes(self, model: str | Path) -> Iterator[tuple[str, SampleRecipe]]:
        own = self.origin_for(find_model(model))
        told = own.label if self.system is None else SystemOrigin(self.system, own.grid).label  # with what is given
        yield told if own.name in self.beside else "", self  # the same system with other knobs
        given = {name: getattr(self, name) for name in self.model_fields_set if name in SampleRecipe.model_fields}
        for name in self.beside:
            place = Path(name).expanduser()
            if place.is_dir():
                kept: dict[str, Any] = {"store": str(place)}
                shared: tuple[str, ...] = _FRAMES
            else:
                system = {"name": name, "options": _dimensions(name, own.grid.num_spatial_dims)}
                box = {"num_points": own.grid.num_points, "extent": own.grid.extent, "boundary": own.grid.boundary}
                kept = {"system": system, "num_samples": self.num_samples, **box}
                shared = (*BOX_SETTINGS, *_FRAMES)
            kept |= {key: given[key] for key in shared if key in given}
            yield place.name, build_config(SampleRecipe, kept, source=f"what stands beside, '{name}',")


def _dimensions(name: str, count: int) -> dict[str, int]:
    """Return the option of a system that may be of several dimensions; none of one that is of its own."""
    return {_DIMENSIONS: count} if hasattr(find_system(name), _DIMENSIONS) else {}


def _name_of(samples: Samples) -> str:
    """Return what samples of one source are called: its store, or its systems."""
    about = samples.describe()
    return Path(str(about["store"])).name if "store" in about else "+".join(about.get("systems", ())) or "samples"


@dataclass(frozen=True, repr=False)
class Embedding(Shown):
    """Samples as a model sees them.

    Args:
        features: ``(sample, feature)``, dimensionless.
        names: of the features.
        systems: what each sample is of; of a store that names no system, the store.
        numbers: coefficients, and knobs that are none, by name, ``(sample,)``; NaN where a sample has no such.
        about: the stage, whether coefficients were hidden, and by name where samples come from.
    """

    features: Float[Tensor, "sample feature"]
    names: tuple[str, ...]
    systems: tuple[str, ...]
    numbers: Mapping[str, Float[Tensor, " sample"]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        rows = [("systems", counts), ("features", f"{self.features.shape[1]}: {self.names[0]} … {self.names[-1]}")]
        return f"Embedding: {plural(len(self), 'sample')}", [*rows, ("known", ", ".join(self.numbers))]

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    def counts(self) -> dict[str, int]:
        """How many samples there are of each system."""
        return {name: self.systems.count(name) for name in dict.fromkeys(self.systems)}

    def of(self, system: str) -> Float[Tensor, "sample feature"]:
        """Return the features of one system's samples.

        Raises:
            ConfigError: if there is none of that name.
        """
        if system not in self.systems:
            raise ConfigError(f"System of an embedding: {suggest(system, self.counts)}")
        return self.features[[own == system for own in self.systems]]

    def write(self, path: str | Path) -> Path:
        """Write a row for each sample: ``sample``, ``system``, what is known of it, its features.

        Args:
            path: a new file: Parquet (``.parquet``; its metadata hold `about` as JSON under the key ``scifm``), a table
                of text (``.csv``), both without a number where a sample has none, or NumPy's arrays (``.npz``: the
                matrix ``features``, its ``names``, ``system``, and what is known by name, NaN where there is none).

        Raises:
            ConfigError: if it ends otherwise.
            RunError: if it cannot be written.
        """
        target = Path(path).expanduser()
        require_kind(target)
        numbers = {name: values.double().numpy() for name, values in self.numbers.items()}
        features, raw, text = self.features.double().numpy(), io.BytesIO(), io.StringIO()
        if target.suffix.lower() == ".npz":
            arrays: dict[str, Any] = {"features": features, "names": np.array(self.names), **numbers}
            np.savez_compressed(raw, system=np.array(self.systems), **arrays)
            write_atomically(target, raw.getvalue())
            return target
        columns: dict[str, list[Any]] = {"sample": list(range(len(self))), "system": list(self.systems)}
        columns |= {name: [v if np.isfinite(v) else None for v in own.tolist()] for name, own in numbers.items()}
        columns |= {name: features[:, place].tolist() for place, name in enumerate(self.names)}
        if target.suffix.lower() == ".csv":
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
            write_atomically(target, text.getvalue().encode())
            return target
        types = {name: pa.float64() for name in numbers}
        table = pa.table({name: pa.array(own, type=types.get(name)) for name, own in columns.items()})
        about = json.dumps({**self.about, "features": list(self.names)}, allow_nan=False)
        pq.write_table(table.replace_schema_metadata({"scifm": about}), raw)
        write_atomically(target, raw.getvalue())
        return target


def require_kind(path: Path) -> None:
    """Check that features can be written into a file of such a name.

    Raises:
        ConfigError: if they cannot.
    """
    if path.suffix.lower() not in _KINDS:
        raise ConfigError(f"Features are written as {', '.join(_KINDS[:-1])} or {_KINDS[-1]}; got '{path.name}'.")


def embed(
    operator: Operator | Run | str | Path,
    samples: Samples | Mapping[str, Samples],
    *,
    stage: int | None = None,
    blind: bool = False,
    batch_size: int = 64,
) -> Embedding:
    """Return the features of samples, see `scifm.models.features.features_of`, and what is known of each.

    Args:
        operator: an operator, which stays as it was, or where one lies: a run, its folder, that of a model,
            ``hf:name/model``.
        samples: a batch, a split of a store, read piece by piece, or several of either by the names of what they are
            of, each on a grid of its own. Of one alone, or of a mixture, samples say themselves what they are of.
        stage: which of the network's stages; that of its kind when left out.
        blind: ask as if nobody knew the coefficients: are knobs seen in the fields?
        batch_size: samples at a time.

    Raises:
        ConfigError: if the operator has no such stage, or does not say where its hidden channels are.
        SignatureError: if samples do not fit the operator, or there are none.
        RunError: if there is no readable operator.
    """
    if not isinstance(operator, Operator):
        operator = load_operator(find_model(operator).folder)
    sources = samples if isinstance(samples, Mapping) else {"": samples}
    features: list[Tensor] = []
    systems: list[str] = []
    numbers: list[dict[str, Tensor]] = []
    for name, source in sources.items():
        called = name or _name_of(source)
        operator = told_of(operator, source.describe())
        for piece in source.pieces(batch_size):
            try:
                features.append(features_of(operator, piece, stage=stage, blind=blind, batch_size=batch_size).cpu())
            except SignatureError as error:
                raise SignatureError(f"{name}: {error}" if len(sources) > 1 else str(error)) from error
            told = piece.systems if len(sources) == 1 or len(set(piece.systems)) > 1 else ()
            systems += [own or called for own in told or [""] * len(piece)]
            numbers.append(known_numbers(piece))
    if not features:
        raise ConfigError("There is nothing to embed: give at least one sample.")
    rows = torch.cat(features)
    known = dict.fromkeys(name for own in numbers for name in own)
    joined = {
        name: torch.cat([own.get(name, torch.full((len(part),), torch.nan, dtype=torch.float64))
                         for own, part in zip(numbers, features, strict=True)])
        for name in known
    }  # fmt: skip
    origins = {name or _name_of(source): dict(source.describe()) for name, source in sources.items()}
    about = {"kind": operator.kind, "stage": chosen_stage(operator, stage), "blind": blind, "samples": origins}
    return Embedding(rows, feature_names(rows.shape[1]), tuple(systems), joined, about)


def known_numbers(batch: Batch) -> dict[str, Float[Tensor, " sample"]]:
    """Return the coefficients of samples, and the knobs that their systems measure, ``(sample,)`` float64 on the CPU.

    NaN where a sample has no such number. What only the system that drew them knows, and nobody can measure, is not
    there; nor are knobs of a system that no package which is installed has.
    """
    names, batch = batch.signature.coefficients, batch.to("cpu")
    there, nothing = batch.has(names), torch.full((len(batch),), torch.nan, dtype=torch.float64)
    found = {name: batch.coefficient(name).double() for name in names}
    if there is not None:
        found = {name: own.where(there[:, place], torch.nan) for place, (name, own) in enumerate(found.items())}
    for system in dict.fromkeys(batch.systems):
        rows = torch.tensor([own == system for own in batch.systems])
        own, measured = _told_by(system, batch.select(rows.nonzero().flatten()))
        for name in () if own is None else set(names) - set(own.coefficients):
            found[name] = found[name].where(~rows, torch.nan)  # in a mixture it is zero there, and means nothing
        for name in (name for name in measured if name not in names):
            found.setdefault(name, nothing.clone())[rows] = measured[name].double()
    return found


def _told_by(name: str, batch: Batch) -> tuple[Signature | None, dict[str, Tensor]]:
    """Return the names and the measured knobs of one system's samples; none where it is not known, or another here."""
    try:
        system = find_system(name)()
        return system.signature, system.measured_knobs(batch.without_absent(system.signature))
    except SciFMError:
        return None, {}
