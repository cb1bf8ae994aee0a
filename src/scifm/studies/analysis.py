"""What a study found, as one JSON document: ``analysis.json``, which the report draws."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scifm.studies.scored_table import ScoredTable
from scifm.studies.table import Row
from scifm.studies.transfer_scores import ShiftValues, converged, crossovers, curves, gains, mixing, needs, shift
from scifm.studies.verdict import verdict

__all__ = ["analyze"]


def analyze(
    rows: Iterable[Row],
    *,
    targets: Sequence[Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    sizes: Sequence[Mapping[str, Any]],
    title: str,
    num_test_samples: int,
    level: float = 0.9,
    shift_values: ShiftValues | None = None,
    scaling: Mapping[str, Any] | None = None,
    audits: Iterable[Mapping[str, Any]] = (),
    shift_labels: Mapping[str, str] | None = None,
    reference_samples: int | None = None,
    sample_errors: Callable[[Row], ArrayLike] | None = None,
    most_steps: Callable[[int], int] = lambda num_samples: sys.maxsize,
) -> dict[str, Any]:
    """Compute every score of transfer and say in words what they amount to.

    The order of the rows does not matter; the lists come out in the order of `targets`, `sources` and `sizes`.

    Args:
        rows: of the study's table.
        targets: ``name``, ``system``, ``knobs``, ``label`` of each, by system and then mildest shift first.
        sources: ``name``, ``systems``, ``label``, ``num_pretrain_samples`` of each.
        sizes: ``name`` and ``num_params`` of each.
        title: of the study.
        num_test_samples: each error is a mean over.
        level: of every interval.
        shift_values: for ``(source, target)`` the value of each measure of shift by name, larger for a stronger one.
        scaling: as it goes into the document; no axes by default.
        audits: as they go into the document.
        shift_labels: what to call the measures of shift.
        reference_samples: number from scratch that `needs` refers to; the largest by default.
        sample_errors: the errors of a row's run on the test samples, see `ScoredTable`.
        most_steps: the longest training from scratch that was allowed on a number of samples, see `converged`.

    Returns:
        Plain dicts, lists, strings and numbers; None wherever a number could not be computed or is not finite.

    Raises:
        DataError: if there are no rows, a run comes twice, or names do not fit together.
        ConfigError: if `level` is not between 0 and 1.
    """
    named: dict[str, Any] = {"targets": targets, "sources": sources, "sizes": sizes}
    table = ScoredTable(rows, **named, level=level, sample_errors=sample_errors)
    found = {
        "title": title,
        "num_test_samples": num_test_samples,
        "num_seeds": table.num_seeds,
        "level": level,
        "verdict": [],
        **named,
        "curves": curves(table),
        "gains": gains(table),
        "needs": needs(table, reference_samples),
        "converged": converged(table, most_steps),
        "crossovers": crossovers(table),
        "shift": shift(table, shift_values, labels=shift_labels),
        "mixing": mixing(table),
        "scaling": scaling if scaling is not None else {"axes": []},
        "audits": list(audits),
    }
    found["verdict"] = verdict(found)
    plain: dict[str, Any] = _plain(found)
    return plain


def _plain(value: Any) -> Any:
    """Turn what callers gave into what JSON knows: no tuples, no numpy, no NaN."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
