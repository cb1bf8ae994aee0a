"""Score an operator on samples it has not seen; nothing is reduced but space."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor

from scifm.data.asked import SampleRecipe
from scifm.errors import ConfigError, DataError, suggest
from scifm.evaluation.origin import identity_of, name_of, origin_of
from scifm.evaluation.pointwise import METRICS
from scifm.fields.samples import Samples
from scifm.models.hub import find_model, load_operator
from scifm.models.operator import Operator
from scifm.models.surgery import renamed
from scifm.runs import Run, write_atomically

__all__ = ["EvaluateRecipe", "Scores", "evaluate", "undefined_of"]


class EvaluateRecipe(SampleRecipe):
    """What a model is scored on.

    Args:
        rename: new name → name the operator knows.
    """

    rename: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """Errors per sample, frame and channel.

    Args:
        values: for each metric a tensor ``(sample, time, channel)``.
        channels: names of the output fields.
        origin: in plain values, which samples they are of; see `scifm.evaluation.origin`.
        path: the file they were recorded in; None where they were not.
        undefined: for each metric where the truth leaves it undefined, such as a relative error of what is zero.
    """

    values: dict[str, Tensor]
    channels: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    undefined: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        return next(iter(self.values.values())).shape[0]

    def mean(self, metric: str = "relative_l2") -> float:
        """Return the mean over samples, frames and channels: one number, NaN if any error is NaN."""
        return float(self._metric(metric).double().mean())

    def quantile(self, level: float, metric: str = "relative_l2") -> float:
        """Return a quantile over samples, frames and channels; `level` from 0 to 1."""
        return float(self._metric(metric).double().flatten().quantile(level))

    def defined(self, metric: str = "relative_l2") -> Tensor:
        """Return the errors of a metric where the truth defines it, one after the other: those of `undefined` left out.

        Raises:
            ConfigError: if there is no such metric.
        """
        values = self._metric(metric)
        return values[~self.undefined[metric]] if metric in self.undefined else values.flatten()

    def undefined_samples(self, metric: str) -> list[int]:
        """Return the samples whose truth leaves a metric undefined, in some frame and channel."""
        if metric not in self.undefined:
            return []
        return [int(place) for place in self.undefined[metric].flatten(1).any(dim=1).nonzero().flatten()]

    def _metric(self, name: str) -> Tensor:
        if name not in self.values:
            raise ConfigError(suggest(name, self.values))
        return self.values[name]

    def write(self, path: str | Path) -> None:
        """Write a row for each sample, frame and channel, a column for each metric, as Parquet.

        The file's own metadata hold the origin, the time and by metric the rows in which the truth leaves it undefined,
        as JSON under the key ``scifm``.

        Raises:
            RunError: if the file cannot be written.
        """
        num_samples, num_frames, num_channels = next(iter(self.values.values())).shape
        index = torch.cartesian_prod(
            torch.arange(num_samples), torch.arange(num_frames), torch.arange(num_channels)
        ).view(-1, 3)
        columns: dict[str, pa.Array] = {
            "sample": pa.array(index[:, 0].tolist(), pa.int64()),
            "frame": pa.array(index[:, 1].tolist(), pa.int64()),
            "channel": pa.array([self.channels[i] for i in index[:, 2].tolist()], pa.string()),
        }
        columns |= {name: pa.array(value.double().flatten().tolist()) for name, value in self.values.items()}
        buffer = io.BytesIO()
        about = {"origin": dict(self.origin), "recorded": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        places = {name: where.flatten().nonzero().flatten().tolist() for name, where in self.undefined.items()}
        about |= {"undefined": {name: rows for name, rows in places.items() if rows}}
        pq.write_table(pa.table(columns, metadata={"scifm": json.dumps(about, allow_nan=False)}), buffer)
        write_atomically(Path(path), buffer.getvalue())


def evaluate(
    operator: Operator | Run | str | Path,
    samples: Samples,
    *,
    metrics: Iterable[str] = ("relative_l2", "vrmse", "rmse", "max_error"),
    batch_size: int = 64,
    rename: Mapping[str, str] | None = None,
    record: bool | str | Path = True,
    origin: Mapping[str, Any] | None = None,
) -> Scores:
    """Score an operator; the scores of a run of one's own are recorded in its folder, beside those on other samples.

    Args:
        operator: an operator, or where one lies: a run, its folder, that of a model, ``hf:name/model``.
        samples: a batch with targets, or a split of a store, read piece by piece.
        metrics: names in ``scifm.evaluation.METRICS``.
        batch_size: samples answered at a time.
        rename: new name → name the operator knows, for channels that the samples only call otherwise; an operator that
            is given as such is renamed in place.
        record: True: in the folder of the run, where `operator` is a complete one and this user's; nothing is written
            for a model alone, or into anybody else's folder. A path: into this file. False: nowhere.
        origin: what the record says of the samples, where they do not say all themselves.

    Returns:
        One error for each metric, sample, frame and channel.

    Raises:
        ConfigError: if a metric or a name in `rename` is unknown.
        DataError: if there are no samples.
        SignatureError: if the samples do not fit the operator.
        RunError: if there is no readable operator in the run, or the scores cannot be written.
    """
    run = None
    if not isinstance(operator, Operator):
        place = find_model(operator)
        run, operator = place.run, load_operator(place.folder)
    if rename:
        operator = renamed(operator, rename)
    names = list(metrics)
    for name in names:
        if name not in METRICS:
            raise ConfigError(suggest(name, METRICS))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    undefined: dict[str, list[Tensor]] = {name: [] for name in names}
    for piece in samples.pieces(batch_size):
        target = operator.align(piece).require_targets()
        prediction = operator.predict(piece, batch_size=batch_size).require_targets()
        for name in names:
            parts[name].append(METRICS[name](prediction, target, piece.grid))
            undefined[name].append(undefined_of(name, target))
    if not parts or not parts[names[0]]:
        raise DataError("There is nothing to score: give at least one sample and one metric.")
    about = {**(origin_of(samples) if origin is None else origin), **({"rename": dict(rename)} if rename else {})}
    scores = Scores(
        {name: torch.cat(values) for name, values in parts.items()},
        operator.signature.outputs,
        about,
        undefined={name: torch.cat(where) for name, where in undefined.items()},
    )
    return _recorded(scores, run, record)


def undefined_of(metric: str, target: Tensor) -> Tensor:
    """Return where a truth has no error by this metric: its own, which else is zero, is no number."""
    return METRICS[metric](target, target).isnan() & target.isfinite().flatten(3).all(dim=-1)


def _recorded(scores: Scores, run: Run | None, record: bool | str | Path) -> Scores:
    if not isinstance(record, bool):
        file = Path(record)
    elif record and run is not None and run.is_own:
        file = run.scores_file(name_of(scores.origin), {**identity_of(scores.origin), "metrics": list(scores.values)})
    else:
        return scores
    scores.write(file)
    return replace(scores, path=file)
