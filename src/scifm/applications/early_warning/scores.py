"""How far off forecasts of shaking were, event by event, and whom they warned."""

from __future__ import annotations

import math

from torch import Tensor

from scifm.applications.early_warning.forecasting import Forecasts, WarnRecipe
from scifm.applications.early_warning.peaks import by_lead, warning_times

__all__ = ["FELT", "by_event", "mean_peaks", "threshold_of"]

FELT = 0.05
"""Of the strongest peak of an event: where a place counts as shaken."""


def mean_peaks(found: Forecasts) -> Tensor:
    """Return the geometric mean of the peaks over draws, ``(event, y, x)``."""
    return found.draws.velocity.clamp(min=found.least).log().mean(0).exp()


def threshold_of(found: Forecasts, recipe: WarnRecipe) -> float:
    """Return the velocity from which a place is warned."""
    return float(found.peaks.velocity.median()) if recipe.threshold is None else recipe.threshold


def by_event(found: Forecasts, recipe: WarnRecipe) -> list[dict[str, float]]:
    """Return of each event how far off it was, and whom it warned.

    Returns:
        ``strongest``: its largest peak; ``factor``, ``error``: by which factor peaks were off in the median place that
        was shaken, and the relative error of their map; ``correlation``, ``wavefield``: of velocities, over all frames
        and places; ``late``: by how much the time of the peak was off; ``warned``, ``missed``, ``false``: parts of all
        places; ``ahead``: the median warning, NaN where there was none.
    """
    true, said = found.peaks.velocity, mean_peaks(found)
    ever, times = warning_times(found.true, found.lead_times, threshold_of(found, recipe))
    known, _ = warning_times(found.said, found.lead_times, threshold_of(found, recipe))
    correlation, _ = by_lead(found.said.flatten(1, 2)[:, None], found.true.flatten(1, 2)[:, None])
    rows = []
    for event in range(len(true)):
        felt = true[event] > FELT * true[event].max()
        ratio = (said[event] / true[event].clamp(min=found.least))[felt]
        late = (found.draws.time.mean(0)[event] - found.peaks.time[event])[felt].abs()
        size = true[event].double().norm()
        rightly, missed = ever[event] & known[event], ever[event] & ~known[event]
        rows.append({
            "strongest": float(true[event].max()),
            "factor": float(ratio.log().abs().median().exp()),
            "error": float((said[event].double() - true[event].double()).norm() / size),
            "correlation": float(correlation[event, 0]),
            "wavefield": float((found.said[event] - found.true[event]).norm() / found.true[event].norm()),
            "late": float(late.median()),
            "warned": float(rightly.float().mean()), "missed": float(missed.float().mean()),
            "false": float((known[event] & ~ever[event]).float().mean()),
            "ahead": float(times[event][rightly].median()) if bool(rightly.any()) else math.nan,
        })  # fmt: skip
    return rows
