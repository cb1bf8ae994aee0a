"""Fit a `Normalization` on training data."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from scifm.errors import ConfigError, DataError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization, NormalizationKind
from scifm.fields.observed import one_step_samples

__all__ = ["fit_normalization", "refit_coefficients"]

_LOGARITHMIC = 10.0  # ratio of the 95th to the 5th percentile from which a positive coefficient counts by its logarithm
_FLOOR = 1e-2  # part of the smallest one that was seen below which it is not told apart
_VARIES = 1e-6  # a smaller spread, relative to the largest value, is rounding
_TINY = 1e-300
_SAYS = 0.1  # what a coefficient that is one number in all samples has to vary by, once scaled, to tell them apart


def fit_normalization(
    batch: Batch, homogeneities: tuple[Homogeneity, ...] = (), *, kind: NormalizationKind = "homogeneous"
) -> Normalization:
    """Fit the numbers of a normalization.

    Args:
        batch: training samples with targets; a few hundred are enough.
        homogeneities: what the system declares; empty when nothing is known.
        kind: ``homogeneous`` fixes the size of every declared group (the default where there is one);
            ``joint`` fixes only the forcing's, all declared groups scaling together, and leaves targets and the zero of
            coefficients alone, as the reference paper does; ``constant`` uses one set of numbers for all samples;
            ``none`` leaves numbers as they are, and what evolves is answered itself and not as its change.

    Raises:
        ConfigError: if `kind` is unknown, or ``joint`` is asked of a system that declares nothing, or of several with
            different fields.
        DataError: if a size is NaN or infinite, or the gauge of a declared scaling vanishes.

    What is zero in all samples is scaled by 1, and a warning names it.
    """
    if kind not in get_args(NormalizationKind):
        raise ConfigError(f"Normalization {suggest(kind, get_args(NormalizationKind))}")
    if kind == "joint" and not homogeneities:
        raise ConfigError("kind='joint' needs the homogeneities of a system; this data set declares none.")
    if kind == "joint" and any(scaling.fields for scaling in homogeneities):
        raise ConfigError("kind='joint' is for systems with the same fields; choose 'homogeneous' or 'constant'.")
    batch = one_step_samples(batch) if batch.observed else batch
    joint = homogeneities and (_joined(homogeneities),)
    chosen = {"homogeneous": homogeneities, "constant": (), "joint": joint, "none": ()}[kind]
    gauge_sizes = tuple(_positive(_middle(_sizes(h, batch)), "the gauge of a homogeneity") for h in chosen)
    names = batch.signature
    blank = Normalization.identity(
        num_inputs=len(names.inputs), num_coefficients=len(names.coefficients), num_outputs=len(names.outputs)
    )
    gauge = replace(blank, homogeneities=chosen, gauge_sizes=gauge_sizes, kind=kind)
    if kind == "none":
        return gauge
    if kind == "joint":
        # of the coefficients as they are, before the gauge: so the reference has it
        sizes = (_size(_middle(c.abs()), name) for c, name in _columns(batch.coefficients, names.coefficients))
        return replace(gauge, coefficient_scale=tuple(sizes))
    return _fit_constants(gauge, batch)


def refit_coefficients(normalization: Normalization, signature: Signature, batch: Batch) -> Normalization:
    """Return a normalization with the shift and scale of coefficients fitted on other samples, all else as it is.

    A network tells coefficients apart where they are spread about zero. Those of a shifted system may lie far from it
    and close together; refitted, they are spread again, at the price that the network takes each for another one it
    knows. A coefficient the samples lack keeps its constants, and one that does not vary in them its scale.

    Args:
        normalization, signature: of an operator.
        batch: samples of the shifted system; names as the operator knows them.

    Raises:
        SignatureError: if the samples hold a name the operator does not know.
    """
    whole = batch.aligned(signature)
    num_coefficients = len(signature.coefficients)
    bare = replace(
        normalization, coefficient_shift=(0.0,) * num_coefficients, coefficient_scale=(1.0,) * num_coefficients
    )
    shifts, scales = list(normalization.coefficient_shift), list(normalization.coefficient_scale)
    for place, (column, name) in enumerate(_columns(bare.encode(whole).coefficients, signature.coefficients)):
        if name in batch.signature.coefficients:
            shifts[place] = float(column.mean())
            own = whole.coefficients[:, place]
            scales[place] = float(column.std(correction=0)) if _tells(column, own) else scales[place]
    return replace(normalization, coefficient_shift=tuple(shifts), coefficient_scale=tuple(scales))


def _fit_constants(gauge: Normalization, batch: Batch) -> Normalization:
    """Return `gauge` with shifts and scales for what varies after it."""
    names, encoded = batch.signature, gauge.encode(batch)
    given, told, asked = (batch.has(part) for part in (names.inputs, names.coefficients, names.outputs))
    floors = tuple(_floor(c) for c, _ in _columns(encoded.coefficients, names.coefficients, told))
    if any(floors):
        gauge = replace(gauge, coefficient_floor=floors)
        encoded = gauge.encode(batch)
    answers = batch.require_targets()[:, :1]  # later frames are answers to answers
    known, valid = batch.valid_inputs, _valid_changes(batch)
    if encoded.output_offset is not None:
        answers = answers - encoded.output_offset
    # a scaling law has its zero where the physics has it; without one, a field varies about its own mean
    field = _about_zero if gauge.homogeneities else _about_mean
    inputs = [field(values, name) for values, name in _fields(encoded.inputs, names.inputs, given, known)]
    outputs = [
        (_about_zero if name in names.state else field)(values, name)
        for values, name in _fields(answers / encoded.output_scale, names.outputs, asked, valid)
    ]
    columns = _columns(encoded.coefficients, names.coefficients, told)
    values = _columns(batch.coefficients, names.coefficients, told)
    return replace(
        gauge,
        input_shift=tuple(shift for shift, _ in inputs),
        input_scale=tuple(scale for _, scale in inputs),
        coefficient_shift=tuple(float(c.mean()) for c, _ in columns),
        coefficient_scale=tuple(
            _spread(c, n) if _tells(c, v) else _size(float(c.abs().max()), n)
            for (c, n), (v, _) in zip(columns, values, strict=True)
        ),
        output_shift=tuple(shift for shift, _ in outputs),
        output_scale=tuple(scale for _, scale in outputs),
        lead_time_scale=1.0 if encoded.lead_time is None else _positive(_middle(encoded.lead_time), "lead_time"),
    )


def _floor(column: Tensor) -> float:
    """Return what the logarithm of a coefficient starts from; 0 for one that counts by its value.

    It counts by its logarithm where it is positive in all samples and differs by orders of magnitude between them.
    """
    if not bool((column > 0).all()):
        return 0.0
    low, high = column.double().quantile(column.new_tensor([0.05, 0.95]).double()).tolist()
    return _FLOOR * float(column.min()) if high > _LOGARITHMIC * low else 0.0


def _sizes(homogeneity: Homogeneity, batch: Batch) -> Tensor:
    """Return the sizes of the samples that a scaling is of.

    Raises:
        DataError: if there is none.
    """
    sizes = homogeneity.size(batch)
    if not homogeneity.fields:
        return sizes
    mine = batch.of_form(homogeneity.fields)
    if not mine.any():
        raise DataError(f"No sample has the fields {homogeneity.fields}. Raise data.num_normalization_samples.")
    return sizes[mine]


def _valid_changes(batch: Batch) -> Tensor | None:
    """Return where the answer to the first frame counts; of a state where it was known before, too: it is a change."""
    names, known, valid = batch.signature, batch.valid_inputs, batch.valid_targets
    if known is None and valid is None:
        return None
    whole = torch.ones_like(batch.require_targets()[:, 0], dtype=torch.bool)
    columns = []
    for place, name in enumerate(names.outputs):
        own = whole[:, place] if valid is None else valid[:, 0, place]
        before = known[:, -1, names.inputs.index(name)] if known is not None and name in names.state else own
        columns.append(own & before)
    return torch.stack(columns, dim=1).unsqueeze(1)


def _fields(
    values: Tensor, names: tuple[str, ...], present: Tensor | None, valid: Tensor | None
) -> list[tuple[Tensor, str]]:
    """Return each field ``(sample, time, *space)`` of the samples that have it; with missing points the others, a row.

    Raises:
        DataError: if no point of a field is left.
    """
    columns = []
    for i, name in enumerate(names):
        own = values[:, :, i] if present is None else values[present[:, i], :, i]
        if valid is not None:
            where = valid[:, :, i] if present is None else valid[present[:, i], :, i]
            own = own if where.all() else own[where]
            if not own.numel():
                raise DataError(
                    f"Every point of '{name}' is missing in the {len(values)} samples that the normalization is fitted "
                    "on: leave the field out, or raise data.num_normalization_samples."
                )
        columns.append((own, name))
    return columns


def _about_zero(values: Tensor, name: str) -> tuple[float, float]:
    """Return the shift and scale of a field whose zero means something."""
    return 0.0, _size(float(values.square().mean().sqrt()), name)


def _about_mean(values: Tensor, name: str) -> tuple[float, float]:
    return float(values.mean()), _spread(values.flatten(), name)


def _joined(homogeneities: tuple[Homogeneity, ...]) -> Homogeneity:
    """Return the scaling under which all groups grow together; the first one's gauge stands for it."""
    names = dict.fromkeys(name for h in homogeneities for name in dict(h.exponents))
    return replace(homogeneities[0], exponents=tuple((n, sum(h.exponent(n) for h in homogeneities)) for n in names))


def _columns(values: Tensor, names: tuple[str, ...], present: Tensor | None = None) -> list[tuple[Tensor, str]]:
    """Return each coefficient ``(sample,)`` of the samples that have it."""
    return [(values[:, i] if present is None else values[present[:, i], i], name) for i, name in enumerate(names)]


def _middle(values: Tensor) -> float:
    """Return the median; of an even number of values the mean of the two in the middle (torch's is the lower one)."""
    return float(values.quantile(0.5))


def _tells(column: Tensor, values: Tensor) -> bool:
    """Return whether a coefficient tells samples apart.

    Frames of one trajectory share it; in units of the size of each frame it varies by what that size does, and a
    sample with another value would lie hundreds of such spreads away.

    Args:
        column: the coefficient in units of the samples' scalings.
        values: itself.
    """
    own, scaled = (float(v.double().std(correction=0)) / max(float(v.abs().max()), _TINY) for v in (values, column))
    return scaled > (_VARIES if own > _VARIES else _SAYS)


def _spread(column: Tensor, name: str) -> float:
    """Return the standard deviation, or the magnitude of a quantity that never varies."""
    deviation = float(column.std(correction=0))
    magnitude = _size(float(column.abs().max()), name)
    return deviation if deviation > _VARIES * magnitude else magnitude


def _size(value: float, name: str) -> float:
    """Return a size to divide by: 1 for what vanishes in all samples, which is told."""
    if value == 0.0:
        warnings.warn(
            f"'{name}' never changes: what is learned of it is zero in all samples that were looked at. It is scaled "
            "by 1. Leave it out of the data if that is not meant.",
            stacklevel=2,
        )
        return 1.0
    return _positive(value, name)


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        raise DataError(
            f"Cannot normalize {name}: its size over the training samples is {value}. Look for NaN or empty samples."
        )
    return value
