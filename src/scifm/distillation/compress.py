"""Compress a model into a folder of its own, with what that costs and saves, measured and written beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from scifm.config import named_settings
from scifm.data.sample_recipe import SampleRecipe
from scifm.distillation import COMPRESSIONS
from scifm.distillation.compression import Compression
from scifm.errors import DataError, RunError
from scifm.evaluation.evaluate import origin_of, ratio_of_means
from scifm.evaluation.pointwise import relative_l2, undefined_of
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding
from scifm.findings.part import Part
from scifm.models.folder import FILES, digest, find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator, save_operator
from scifm.plugins import Catalog, fault_of_settings
from scifm.runs import Run
from scifm.wording import plural

__all__ = ["CompressRecipe", "CompressionRecord", "compress", "measure_answers"]

MOST_GROWTH = 1.05
"""Errors after over errors before up to which a compression is good news."""

_FROM_A_STORE = 512  # samples, read once
_RECORD = "compression.json"
_CATALOG: Catalog[Compression] = Catalog(
    "scifm.compressions", "compression", COMPRESSIONS, fault_of_settings(Compression)
)


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


class CompressRecipe(SampleRecipe):
    """How a model is made smaller, and what that is measured on.

    Args:
        num_samples: samples drawn of a system.
        to: name of a compression, or a table of its name and settings.
    """

    num_samples: int = Field(128, ge=1)
    to: Annotated[
        SerializeAsAny[Compression], BeforeValidator(lambda value: named_settings(value, Compression, _CATALOG.find))
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
    way = _CATALOG.find(to)() if isinstance(to, str) else to
    source = ""
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(operator, Operator):
            folder = Path(scratch)
            save_operator(operator, folder)
        else:
            model = find_model(operator)
            folder, source = model.folder, str(model.path)
            operator = load_operator(folder)
        digested, before = digest(folder), (folder / FILES[2]).stat().st_size
    out, settings = Path(out), {"name": way.name, **way.to_dict()}
    _require_free(out, digested, settings)
    batch = samples.in_memory(_FROM_A_STORE)
    smaller = way.compress(operator)
    parent = Path(source).name
    # what was scored is the larger one
    smaller.provenance = replace(operator.provenance, scores=(), parent=parent, parent_digest=digested)
    smaller.calibration = None  # its answers are others
    changes = measure_answers(operator, smaller, batch, generator=generator_for(seed, "distillation", way.name))
    save_operator(smaller, out, codec=way.codec)
    after = (out / FILES[2]).stat().st_size
    smaller_file = Finding(
        name="bytes",
        said=f"The weights take {after / before:.2f} of the bytes.",
        evidence=f"model.safetensors on disk: {before:,} bytes before, {after:,} after.",
        good=after < before,
        statistic=after / before,
        threshold=1.0,
        unit="bytes after over before",
    )
    record = CompressionRecord(
        compression=settings,
        source=source,
        source_digest=digested,
        origin=origin_of(samples) if origin is None else origin,
        findings=(*changes, smaller_file),
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


def measure_answers(
    before: Operator, after: Operator, samples: Batch, *, generator: torch.Generator
) -> tuple[Finding, Finding]:
    """Return by how much answers changed, and what errors against the truth became.

    The first finding: mean over samples of ‖N'(f) − N(f)‖₂/‖N(f)‖₂, good below the mean error of the operator before,
    because then its own error is the larger one. The second: mean relative L2 error after over before, with a bootstrap
    interval over samples, good up to `MOST_GROWTH`.

    Raises:
        SignatureError: if the samples do not fit, or have no targets.
        DataError: if an answer is not finite, or the truth or the answers vanish in all samples.
    """
    names = before.signature.common(samples.signature)
    known = before.align(samples).without_absent(names)
    truth, valid = known.require_targets(), known.valid_targets
    old, new = (operator.answers(samples).without_absent(names).require_targets() for operator in (before, after))
    old, new = (answer if valid is None else torch.where(valid, answer, 0.0) for answer in (old, new))
    if not (old.isfinite().all() and new.isfinite().all()):
        raise DataError("The operator's answers to these samples are not finite, before or after: nothing to compare.")
    change = relative_l2(new, old, samples.grid, valid=valid)
    change = change[~undefined_of("relative_l2", old, valid)].double()
    counts = ~undefined_of("relative_l2", truth, valid)
    errors = [relative_l2(answer, truth, samples.grid, valid=valid)[counts].double() for answer in (old, new)]
    if not len(change) or not counts.any():
        raise DataError("The truth or the answers are zero in all samples: there are no relative errors to compare.")
    own, changed = float(errors[0].mean()), float(change.mean())
    ratio, low, high = ratio_of_means(errors[1], errors[0], generator=generator)
    grown = ratio if high is None else high
    number = plural(samples.num_samples, "sample")
    return (
        Finding(
            name="answers",
            said=f"Answers changed by {changed:.2g}.",
            evidence=f"Mean relative L2 over {number}, at most {float(change.max()):.2g}; the operator's own error is "
            f"{own:.3g}.",
            good=changed < own,
            statistic=changed,
            threshold=own,
            unit="relative L2",
        ),
        Finding(
            name="errors",
            said=f"Errors became {ratio:.4g} times as large.",
            evidence=f"Mean relative L2 against the truth on {number}: {own:.4g} before, "
            f"{float(errors[1].mean()):.4g} after.",
            good=grown <= MOST_GROWTH,
            statistic=ratio,
            low=low,
            high=high,
            threshold=MOST_GROWTH,
            unit="error after over before",
        ),
    )
