"""The rows of a study, checked and put together by what is compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scifm.errors import DataError, suggest
from scifm.findings.study import Size, Source, Target
from scifm.studies.statistics import Estimate, check_level, median_estimate, paired_ratio, relative_spread
from scifm.studies.table import KINDS, Row

__all__ = ["CurveKey", "ScoredTable", "SeedRows", "shared_seeds"]

SeedRows = tuple[Row, ...]
"""Runs that differ in the seed only, in its order."""

_ORDER = ("few_shot", "from_scratch", "from_scratch_converged", "zero_shot", "in_distribution")
_SCRATCH = ("from_scratch", "from_scratch_converged")
# Mean of the errors by sample against the error of the row: float32 and the order of summation allow this much.
_SAME_MEAN = 1e-3


class CurveKey(NamedTuple):
    """What the points of one learning curve share."""

    kind: str
    source: str
    target: str
    size: str
    method: str


class ScoredTable:
    """A study's rows, by curve and number of samples.

    Args:
        rows: of the study, in any order.
        targets: in the order of the recipe.
        sources: of the rows.
        sizes: of the rows.
        level: of every interval.
        sample_errors: the errors of a row's run on the test samples ``(sample,)``, always in one order. Given, the
            intervals of errors and of ratios also cover the draw of the test samples.

    Attributes:
        curves: for each `CurveKey` the runs at each number of samples, fewest first.

    Raises:
        DataError: if there are no rows, a row comes twice, names something not listed, has an unknown kind, a negative
            error, or fewer than one sample where it was trained on some.
        ConfigError: if `level` is not between 0 and 1.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        *,
        targets: Sequence[Target],
        sources: Sequence[Source],
        sizes: Sequence[Size],
        level: float = 0.9,
        sample_errors: Callable[[Row], ArrayLike] | None = None,
    ) -> None:
        check_level(level)
        self.rows = tuple(rows)
        self.targets, self.sources, self.sizes, self.level = tuple(targets), tuple(sources), tuple(sizes), level
        self._sample_errors = sample_errors
        if not self.rows:
            raise DataError("The table of the study has no rows: nothing can be analyzed. Run the study first.")
        for row in self.rows:
            self._check(row)
        self.curves = self._group()
        self._scratch = self._only("from_scratch", lambda key: (key.target, key.size))
        self._zero_shot = self._only("zero_shot", lambda key: (key.source, key.target, key.size))

    @property
    def num_seeds(self) -> int:
        """Seeds of the runs that were trained on downstream samples, or of all where there are none."""
        return len({row.seed for row in self.rows if row.num_samples} or {row.seed for row in self.rows})

    @property
    def broken(self) -> tuple[Row, ...]:
        """Rows whose error is NaN or infinite, in the order of the table."""
        return tuple(row for row in self.rows if not math.isfinite(row.relative_l2))

    def few_shot(self) -> list[tuple[CurveKey, dict[int, SeedRows]]]:
        """Return the curves of fine-tuning, in the order of the recipe."""
        return [(key, points) for key, points in self.curves.items() if key.kind == "few_shot"]

    def scratch(self, target: str, size: str) -> dict[int, SeedRows]:
        """Return the runs from scratch at each number of samples; none is an empty dict."""
        return self._scratch.get((target, size), {})

    def converged(self) -> list[tuple[CurveKey, dict[int, SeedRows]]]:
        """Return the curves from scratch that trained until the held-out error stopped falling."""
        return [(key, points) for key, points in self.curves.items() if key.kind == "from_scratch_converged"]

    def zero_shot(self, source: str, target: str, size: str) -> SeedRows:
        """Return the zero-shot runs; none is an empty tuple."""
        return next(iter(self._zero_shot.get((source, target, size), {}).values()), ())

    def error(self, rows: SeedRows) -> Estimate:
        """Return the median error over seeds with its interval."""
        return median_estimate([row.relative_l2 for row in rows], self.level, spread=self._spread(rows))

    def ratio(self, above: SeedRows, below: SeedRows) -> Estimate:
        """Return error over error, paired by seed; seeds that one side lacks have no pair and are left out."""
        above, below = shared_seeds(above, below)
        spread = None
        if self._sample_errors is not None and above:
            up, down = self._spread(above), self._spread(below)
            assert up is not None
            assert down is not None
            if up.shape != down.shape:
                raise DataError(f"Runs {above[0].run} and {below[0].run} were scored on unequal numbers of samples.")
            spread = up - down
        up_errors, down_errors = ([row.relative_l2 for row in rows] for rows in (above, below))
        return paired_ratio(up_errors, down_errors, self.level, spread=spread)

    def _spread(self, rows: SeedRows) -> NDArray[np.float64] | None:
        if self._sample_errors is None or not rows:
            return None
        errors = [np.asarray(self._sample_errors(row), dtype=np.float64) for row in rows]
        for row, values in zip(rows, errors, strict=True):
            if values.ndim != 1 or values.size < 2 or values.shape != errors[0].shape:
                raise DataError(f"Run {row.run}: errors by sample must be (sample,), as many in each run, two or more.")
            if not np.isclose(values.mean(), row.relative_l2, rtol=_SAME_MEAN, atol=0, equal_nan=True):
                raise DataError(
                    f"Run {row.run}: the mean of its errors by sample is {values.mean():.4g}, the table says "
                    f"{row.relative_l2:.4g}. Both must come from one scoring; score the run again."
                )
        return relative_spread(np.stack(errors))

    def _check(self, row: Row) -> None:
        known = {"kind": (row.kind, KINDS), "size": (row.size, [x.name for x in self.sizes])}
        if row.kind not in _SCRATCH:
            known["source"] = (row.source, [x.name for x in self.sources])
        if row.kind != "in_distribution":  # those are scored where they were pre-trained, which need not be a target
            known["target"] = (row.target, [x.name for x in self.targets])
        for what, (given, allowed) in known.items():
            if given not in allowed:
                raise DataError(f"Run {row.run}: its {what} is not one of the study. {suggest(given, allowed)}")
        trained = row.kind in ("few_shot", *_SCRATCH)
        if row.relative_l2 < 0 or (row.num_samples < 1) is trained:
            raise DataError(
                f"Run {row.run} ({row.kind}): an error of {row.relative_l2} on {row.num_samples} samples cannot be. "
                "Errors are 0 or more; zero_shot and in_distribution use 0 samples, the others at least 1."
            )

    def _group(self) -> dict[CurveKey, dict[int, SeedRows]]:
        seen: dict[tuple[CurveKey, int, int], Row] = {}
        for row in self.rows:
            key = CurveKey(row.kind, row.source, row.target, row.size, row.method)
            place = (key, row.num_samples, row.seed)
            if place in seen:
                twin = seen[place]
                raise DataError(
                    f"The table holds one run twice ({', '.join(filter(None, key))}, {row.num_samples} samples, seed "
                    f"{row.seed}): {twin.run} and {row.run}. Keep one; two pre-trainings need names of their own."
                )
            seen[place] = row
        curves: dict[CurveKey, dict[int, SeedRows]] = defaultdict(dict)
        for key, count, seed in sorted(seen, key=self._place):
            curves[key][count] = (*curves[key].get(count, ()), seen[key, count, seed])
        return dict(curves)

    def _place(self, key: tuple[CurveKey, int, int]) -> tuple[Any, ...]:
        curve, count, seed = key
        places = [_ORDER.index(curve.kind)]
        for name, listed in ((curve.source, self.sources), (curve.target, self.targets), (curve.size, self.sizes)):
            names = [x.name for x in listed]
            places.append(names.index(name) if name in names else len(names))
        return (*places, curve.target, curve.method, count, seed)

    def _only(self, kind: str, place: Callable[[CurveKey], tuple[str, ...]]) -> dict[Any, dict[int, SeedRows]]:
        """Index the curves of a kind that must not come in several methods: there is one to compare with."""
        found: dict[tuple[str, ...], tuple[CurveKey, dict[int, SeedRows]]] = {}
        for key, points in self.curves.items():
            if key.kind != kind:
                continue
            twin, _ = found.setdefault(place(key), (key, points))
            if twin is not key:
                raise DataError(
                    f"{kind} on {key.target} comes with the methods (or sources) {twin.method or twin.source!r} and "
                    f"{key.method or key.source!r}; there must be one to compare with."
                )
        return {where: points for where, (_, points) in found.items()}


def shared_seeds(first: SeedRows, second: SeedRows) -> tuple[SeedRows, SeedRows]:
    """Return the rows of the seeds that both have, in the order of the seeds."""
    seeds = {row.seed for row in first} & {row.seed for row in second}
    return tuple(r for r in first if r.seed in seeds), tuple(r for r in second if r.seed in seeds)
