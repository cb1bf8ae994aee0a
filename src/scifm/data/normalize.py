"""Fit a `Normalization` on training data."""

from __future__ import annotations

from functools import reduce
from typing import get_args

from torch import Tensor

from scifm.errors import ConfigError, DataError, suggest
from scifm.fields.batch import Batch
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization, NormalizationKind

__all__ = ["fit_normalization"]


def fit_normalization(
    batch: Batch, homogeneities: tuple[Homogeneity, ...] = (), *, kind: NormalizationKind = "homogeneous"
) -> Normalization:
    """Fit the numbers of a normalization.

    Args:
        batch: training samples with targets; a few hundred are enough.
        homogeneities: what the system declares; empty when nothing is known.
        kind: ``homogeneous`` fixes the size of every declared group (the default where there is one);
            ``joint`` fixes only the forcing's, all declared groups scaling together, and leaves targets and the zero of
            coefficients alone, as the reference paper does; ``constant`` uses one set of numbers for all samples.

    Raises:
        ConfigError: if `kind` is unknown, or ``joint`` is asked of a system that declares nothing.
        DataError: if a field or every value of a coefficient vanishes.
    """
    if kind not in get_args(NormalizationKind):
        raise ConfigError(suggest(kind, get_args(NormalizationKind)))
    if kind == "joint" and not homogeneities:
        raise ConfigError("kind='joint' needs the homogeneities of a system; this data set declares none.")
    chosen = {
        "homogeneous": homogeneities,
        "constant": (),
        "joint": (_joined(homogeneities),) if homogeneities else (),
    }[kind]
    gauge_sizes = tuple(_median(h.size(batch)) for h in chosen)
    names = batch.signature
    gauged = Normalization(
        chosen,
        gauge_sizes,
        input_scale=(1.0,) * len(names.inputs),
        coefficient_shift=(0.0,) * len(names.coefficients),
        coefficient_scale=(1.0,) * len(names.coefficients),
        output_scale=(1.0,) * len(names.outputs),
        kind=kind,
    ).encode(batch)
    if kind == "joint":
        shift = (0.0,) * len(names.coefficients)
        # of the coefficients as they are, before the gauge: so the reference has it
        scale = tuple(_positive(_middle(c.abs()), name) for c, name in _columns(batch.coefficients, names.coefficients))
        unchanged = (1.0,) * len(names.inputs), (1.0,) * len(names.outputs)
        return Normalization(chosen, gauge_sizes, unchanged[0], shift, scale, unchanged[1], kind)
    answers = batch.require_targets() / gauged.output_scale
    return Normalization(
        chosen,
        gauge_sizes,
        tuple(_positive(_rms(gauged.inputs[:, :, i]), n) for i, n in enumerate(names.inputs)),
        tuple(float(c.mean()) for c, _ in _columns(gauged.coefficients, names.coefficients)),
        tuple(_spread(c, n) for c, n in _columns(gauged.coefficients, names.coefficients)),
        tuple(_positive(_rms(answers[:, :, i]), n) for i, n in enumerate(names.outputs)),
        kind,
    )


def _joined(homogeneities: tuple[Homogeneity, ...]) -> Homogeneity:
    """Return the scaling under which all groups grow together; the first one's gauge stands for it."""

    def join(a: Homogeneity, b: Homogeneity) -> Homogeneity:
        names = dict.fromkeys([*dict(a.exponents), *dict(b.exponents)])
        total = tuple((n, a.exponent(n) + b.exponent(n)) for n in names)
        return Homogeneity(total, a.gauge, a.measure)

    return reduce(join, homogeneities)


def _columns(values: Tensor, names: tuple[str, ...]) -> list[tuple[Tensor, str]]:
    return [(values[:, i], name) for i, name in enumerate(names)]


def _middle(values: Tensor) -> float:
    """Return the median; of an even number of values the mean of the two in the middle (torch's is the lower one)."""
    return float(values.quantile(0.5))


def _median(sizes: Tensor) -> float:
    return _positive(_middle(sizes), "the gauge of a homogeneity")


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _spread(column: Tensor, name: str) -> float:
    """Return the standard deviation, or the magnitude of a coefficient that never varies."""
    deviation = float(column.std(correction=0))
    magnitude = _positive(float(column.abs().max()), name)
    return deviation if deviation > 1e-6 * magnitude else magnitude


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        raise DataError(
            f"Cannot normalize {name}: its size over the training samples is {value}. Look for NaN or empty samples."
        )
    return value
