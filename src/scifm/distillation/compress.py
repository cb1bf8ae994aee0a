"""Compress a model into a folder of its own, with what that changed, measured and written beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from scifm.config import named_settings
from scifm.data.asked import SampleRecipe
from scifm.distillation import COMPRESSIONS
from scifm.distillation.compression import Compression
from scifm.distillation.measure import measure_answers, measure_bytes
from scifm.errors import ConfigError, RunError, suggest
from scifm.evaluation.origin import origin_of
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding
from scifm.findings.part import Part
from scifm.models.folder import FILES
from scifm.models.hub import digest, find_model, load_operator, save_operator
from scifm.models.operator import Operator
from scifm.runs import Run

__all__ = ["CompressRecipe", "CompressionRecord", "compress"]

_FROM_A_STORE = 512  # samples, read once
_RECORD = "compression.json"


class CompressionRecord(Part):
    """``compression.json``, beside the model.

    Args:
        compression: its name and settings.
        source: where the operator was found; empty for one that was given as such.
        source_digest: SHA-256 of the model that was compressed.
        origin: of the samples it was measured on.
        findings: ``answers``, ``errors`` and ``bytes``.
    """

    compression: Mapping[str, Any]
    source: str = ""
    source_digest: str
    origin: Mapping[str, Any]
    findings: tuple[Finding, ...]


def _find(name: str) -> type[Compression]:
    if name not in COMPRESSIONS:
        raise ConfigError(f"Compression {suggest(name, COMPRESSIONS)}")
    return COMPRESSIONS[name]


class CompressRecipe(SampleRecipe):
    """How a model is made smaller, and what that is measured on.

    Args:
        num_samples: samples drawn of a system.
        to: name of a compression, or a table of its name and settings.
    """

    num_samples: int = Field(128, ge=1)
    to: Annotated[
        SerializeAsAny[Compression], BeforeValidator(lambda value: named_settings(value, Compression, _find))
    ] = Field("int8", validate_default=True)


def compress(
    operator: Operator | Run | str | Path,
    samples: Samples,
    out: str | Path,
    *,
    to: Compression | str = "int8",
    seed: int = 0,
    origin: Mapping[str, Any] | None = None,
) -> CompressionRecord:
    """Write a compressed model into a folder of its own, which `load_operator` reads, once it was measured.

    Args:
        operator: an operator, which stays as it was, or where one lies: a run, its folder, that of a model,
            ``hf:name/model``.
        samples: with targets; of a split of a store 512 samples from all over are read.
        out: the folder; new, or one that holds this very model compressed in this very way.
        to: how, by name or with settings of your own.
        seed: of the bootstrap.
        origin: what the record says of the samples, where they do not say all themselves.

    Returns:
        What was written to ``compression.json``: the measured changes as findings.

    Raises:
        ConfigError: if there is no such compression.
        SignatureError: if the samples do not fit the operator.
        DataError: if weights or answers are not finite.
        RunError: if there is no readable operator, or the folder holds something else or cannot be written.
    """
    way = _find(to)() if isinstance(to, str) else to
    source = ""
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(operator, Operator):
            folder = Path(scratch)
            save_operator(operator, folder)
        else:
            model = find_model(operator)
            folder, source = model.folder, str(model.path)
            operator = load_operator(folder)
        told, before = digest(folder), (folder / FILES[2]).stat().st_size
    out, settings = Path(out), {"name": way.name, **way.to_dict()}
    _require_free(out, told, settings)
    batch = samples.in_memory(_FROM_A_STORE)
    smaller = way.compress(operator)
    changes = measure_answers(
        operator, smaller.operator, batch, generator=generator_for(seed, "distillation", way.name)
    )
    smaller.save(out)
    record = CompressionRecord(
        compression=settings,
        source=source,
        source_digest=told,
        origin=origin_of(samples) if origin is None else origin,
        findings=(*changes, measure_bytes(before, (out / FILES[2]).stat().st_size)),
    )
    record.write(out / _RECORD)
    return record


def _require_free(out: Path, source_digest: str, settings: Mapping[str, Any]) -> None:
    """Check that a folder is new or empty, or holds what would be written into it."""
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
        before = CompressionRecord.model_validate_json((out / _RECORD).read_bytes())
    except (OSError, ValidationError):
        before = None
    if before is None or (before.source_digest, dict(before.compression)) != (source_digest, dict(settings)):
        raise RunError(f"'{out}' is there already and holds something else: give a new folder with --out.")
