"""The table of a study: a row for each operator scored on a task, on disk as Parquet and grouped for comparison."""

from __future__ import annotations

import io
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from scifm.errors import DataError, RunError, suggest
from scifm.findings.study import Size, Source, Target
from scifm.runs import write_atomically
from scifm.studies.statistics import LEVEL, Interval, median_estimate, paired_ratio, relative_spread

__all__ = ["KINDS", "CurveKey", "Points", "Row", "ScoredTable", "SeedRows", "read_table", "write_table"]

KINDS = ("in_distribution", "zero_shot", "few_shot", "from_scratch", "from_scratch_converged")
_ORDER = ("few_shot", "from_scratch", "from_scratch_converged", "zero_shot", "in_distribution")  # of curves
_SCRATCH = ("from_scratch", "from_scratch_converged")
# Mean of the errors by sample against the error of the row: float32 and the order of summation allow this much.
_SAME_MEAN = 1e-3


@dataclass(frozen=True)
class Row:
    """One operator, scored on the unseen test samples of one task.

    Args:
        kind: one of `KINDS`.
        source: name of the pre-training; empty from scratch.
        source_systems: its systems, joined by ``+``; empty from scratch.
        target: name of the task.
        system: the task's system.
        knobs: the task's ranges, JSON.
        size: name of the network: a size of an architecture, or an architecture of its own.
        num_params: weights of the operator.
        num_pretrain_samples: distinct samples seen in pre-training; 0 from scratch.
        num_samples: downstream samples; 0 for the first two kinds.
        seed: of samples and first weights.
        method: what was trained in fine-tuning, ``all`` unless said otherwise; empty for the first two kinds.
        coefficients: whether fine-tuning left the constants of coefficients as in pre-training, ``pretrained``, or
            fitted them anew, ``refitted``; empty for the other kinds.
        learning_rate: the one chosen; 0 where fine-tuning kept the pre-trained weights.
        num_trials: candidates tried, not to train included.
        trial_steps: optimizer steps of all trials together.
        num_steps: optimizer steps of the scored operator's last training.
        relative_l2: mean relative L2 error over samples, frames and channels.
        relative_l2_median: their median.
        relative_l2_p90: their 90 % quantile.
        flops: floating-point operations of all training behind the row, pre-training and trials included; None where
            they cannot be counted, see `training_flops`.
        seconds: wall time of the row's own run, over all of its sittings; scoring is not in it.
        run: folder of the run, relative to the study's; its scores lie in there sample by sample.
    """

    kind: str
    source: str
    source_systems: str
    target: str
    system: str
    knobs: str
    size: str
    num_params: int
    num_pretrain_samples: int
    num_samples: int
    seed: int
    method: str
    coefficients: str
    learning_rate: float
    num_trials: int
    trial_steps: int
    num_steps: int
    relative_l2: float
    relative_l2_median: float
    relative_l2_p90: float
    flops: float | None
    seconds: float
    run: str


_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "float | None": pa.float64()}
_SCHEMA = pa.schema([(field.name, _TYPES[typing.cast(str, field.type)]) for field in fields(Row)])


def write_table(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as Parquet, in the order given.

    Raises:
        RunError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMA), buffer)
    write_atomically(Path(path), buffer.getvalue())


def read_table(path: str | Path) -> list[Row]:
    """Read what `write_table` wrote.

    Raises:
        RunError: if the file is missing, damaged, or lacks a column.
    """
    try:
        table = pq.read_table(path)
        return [Row(**entries) for entries in table.select(_SCHEMA.names).to_pylist()]
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise RunError(
            f"The table '{path}' cannot be read ({type(error).__name__}: {error}). Run the study again: what is "
            "complete is not repeated, the table is written anew."
        ) from error


SeedRows = tuple[Row, ...]
"""Runs that differ in the seed only, in its order."""

Points = dict[int, SeedRows]
"""The runs at each number of samples, fewest first."""


class CurveKey(NamedTuple):
    """What the points of one learning curve share."""

    kind: str
    source: str
    target: str
    size: str
    method: str

    @property
    def where(self) -> dict[str, str]:
        """All but the kind, by name."""
        return {"source": self.source, "target": self.target, "size": self.size, "method": self.method}


class ScoredTable:
    """A study's rows, checked, by curve and number of samples.

    Args:
        rows: of the study, in any order.
        targets: in the order of the recipe.
        sources: of the rows.
        sizes: of the rows.
        sample_errors: the errors of a row's run on the test samples ``(sample,)``, always in one order. Given, the
            intervals of errors and of ratios also cover the draw of the test samples.

    Attributes:
        curves: for each `CurveKey` its points.

    Raises:
        DataError: if there are no rows, a row comes twice, names something not listed, has an unknown kind, a negative
            error, or fewer than one sample where it was trained on some.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        *,
        targets: Sequence[Target],
        sources: Sequence[Source],
        sizes: Sequence[Size],
        sample_errors: Callable[[Row], ArrayLike] | None = None,
    ) -> None:
        self.rows = tuple(rows)
        self.targets, self.sources, self.sizes = tuple(targets), tuple(sources), tuple(sizes)
        self._sample_errors = sample_errors
        if not self.rows:
            raise DataError("The table of the study has no rows: nothing can be analyzed. Run the study first.")
        self._names = [[entry.name for entry in listed] for listed in (self.sources, self.targets, self.sizes)]
        for row in self.rows:
            self._check(row)
        self.curves = self._group()
        self._compared = self._to_compare_with()

    @property
    def num_seeds(self) -> int:
        """Seeds of the runs that were trained on downstream samples, or of all where there are none."""
        return len({row.seed for row in self.rows if row.num_samples} or {row.seed for row in self.rows})

    def of_kind(self, kind: str) -> list[tuple[CurveKey, Points]]:
        """Return the curves of one kind, in the order of the recipe."""
        return [(key, points) for key, points in self.curves.items() if key.kind == kind]

    def scratch(self, target: str, size: str) -> Points:
        """Return the runs from scratch; none is an empty dict."""
        return self._compared.get(("from_scratch", "", target, size), {})

    def zero_shot(self, source: str, target: str, size: str) -> SeedRows:
        """Return the zero-shot runs; none is an empty tuple."""
        return self._compared.get(("zero_shot", source, target, size), {}).get(0, ())

    def error(self, rows: SeedRows) -> Interval:
        """Return the median error over seeds with its interval; NaN for no rows."""
        return median_estimate([row.relative_l2 for row in rows], LEVEL, spread=self._spread(rows))

    def ratio(self, above: SeedRows, below: SeedRows) -> Interval:
        """Return error over error, paired by seed; seeds that one side lacks have no pair and are left out."""
        seeds = {row.seed for row in above} & {row.seed for row in below}
        pairs = [tuple(row for row in rows if row.seed in seeds) for rows in (above, below)]
        up, down = map(self._spread, pairs)
        if up is not None and down is not None and up.shape != down.shape:
            raise DataError(f"Runs {above[0].run} and {below[0].run} were scored on unequal numbers of samples.")
        numerator, denominator = ([row.relative_l2 for row in rows] for rows in pairs)
        spread = None if up is None or down is None else up - down
        return paired_ratio(numerator, denominator, LEVEL, spread=spread)

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
        sources, targets, sizes = self._names
        known: dict[str, tuple[str, Sequence[str]]] = {"kind": (row.kind, KINDS), "size": (row.size, sizes)}
        if row.kind not in _SCRATCH:
            known["source"] = (row.source, sources)
        if row.kind != "in_distribution":  # those are scored where they were pre-trained, which need not be a target
            known["target"] = (row.target, targets)
        for what, (given, allowed) in known.items():
            if given not in allowed:
                raise DataError(f"Run {row.run}: its {what} is not one of the study. {suggest(given, allowed)}")
        trained = row.kind in ("few_shot", *_SCRATCH)
        if row.relative_l2 < 0 or (row.num_samples < 1) is trained:
            raise DataError(
                f"Run {row.run} ({row.kind}): an error of {row.relative_l2} on {row.num_samples} samples cannot be. "
                "Errors are 0 or more; zero_shot and in_distribution use 0 samples, the others at least 1."
            )

    def _group(self) -> dict[CurveKey, Points]:
        seen: dict[tuple[CurveKey, int, int], Row] = {}
        for row in self.rows:
            key = CurveKey(row.kind, row.source, row.target, row.size, row.method)
            twin = seen.get((key, row.num_samples, row.seed))
            if twin is not None:
                raise DataError(
                    f"The table holds one run twice ({', '.join(filter(None, key))}, {row.num_samples} samples, seed "
                    f"{row.seed}): {twin.run} and {row.run}. Keep one; two pre-trainings need names of their own."
                )
            seen[key, row.num_samples, row.seed] = row
        curves: dict[CurveKey, Points] = defaultdict(dict)
        for key, count, seed in sorted(seen, key=self._place):
            curves[key][count] = (*curves[key].get(count, ()), seen[key, count, seed])
        return dict(curves)

    def _place(self, run: tuple[CurveKey, int, int]) -> tuple[Any, ...]:
        key, count, seed = run
        named = zip((key.source, key.target, key.size), self._names, strict=True)
        places = (names.index(name) if name in names else len(names) for name, names in named)
        return (_ORDER.index(key.kind), *places, key.target, key.method, count, seed)

    def _to_compare_with(self) -> dict[tuple[str, str, str, str], Points]:
        """Index the curves of the kinds that others are compared with: there must be one for each place."""
        keys: dict[tuple[str, str, str, str], CurveKey] = {}
        for key in self.curves:
            if key.kind in ("from_scratch", "zero_shot"):
                source = key.source if key.kind == "zero_shot" else ""
                twin = keys.setdefault((key.kind, source, key.target, key.size), key)
                if twin is not key:
                    raise DataError(
                        f"{key.kind} on {key.target} comes with the methods (or sources) "
                        f"{twin.method or twin.source!r} and {key.method or key.source!r}; there must be one to "
                        "compare with."
                    )
        return {place: self.curves[key] for place, key in keys.items()}
