"""Score an operator on samples it has not seen; nothing is reduced but space."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from scifm.data.split import StoreSplit
from scifm.errors import ConfigError, DataError, suggest
from scifm.evaluation.pointwise import METRICS
from scifm.fields.batch import Batch
from scifm.models.hub import holds_operator, load_operator
from scifm.models.operator import Operator
from scifm.models.surgery import renamed
from scifm.runs import Run, write_atomically

__all__ = ["Scores", "evaluate", "pieces"]


@dataclass(frozen=True)
class Scores:
    """Errors per sample, frame and channel.

    Args:
        values: for each metric a tensor ``(sample, time, channel)``.
        channels: names of the output fields.
    """

    values: dict[str, Tensor]
    channels: tuple[str, ...]

    @property
    def num_samples(self) -> int:
        return next(iter(self.values.values())).shape[0]

    def mean(self, metric: str = "relative_l2") -> float:
        """Return the mean over samples, frames and channels: one number, NaN if any error is NaN."""
        return float(self._metric(metric).double().mean())

    def quantile(self, level: float, metric: str = "relative_l2") -> float:
        """Return a quantile over samples, frames and channels; `level` from 0 to 1."""
        return float(self._metric(metric).double().flatten().quantile(level))

    def _metric(self, name: str) -> Tensor:
        if name not in self.values:
            raise ConfigError(suggest(name, self.values))
        return self.values[name]

    def write(self, path: str | Path) -> None:
        """Write a row for each sample, frame and channel, a column for each metric, as Parquet.

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
        pq.write_table(pa.table(columns), buffer)
        write_atomically(Path(path), buffer.getvalue())


def evaluate(
    operator: Operator | Run | str | Path,
    samples: Batch | StoreSplit,
    *,
    metrics: Iterable[str] = ("relative_l2", "vrmse", "rmse", "max_error"),
    batch_size: int = 64,
    rename: Mapping[str, str] | None = None,
) -> Scores:
    """Score an operator.

    Args:
        operator: an operator, the run (or its folder) that holds one, or the folder of a model.
        samples: a batch with targets, or a split of a store, read piece by piece.
        metrics: names in ``scifm.evaluation.METRICS``.
        batch_size: samples answered at a time.
        rename: new name → name the operator knows, for channels that the samples only call otherwise; an operator that
            is given as such is renamed in place.

    Returns:
        One error for each metric, sample, frame and channel.

    Raises:
        ConfigError: if a metric or a name in `rename` is unknown.
        DataError: if there are no samples.
        SignatureError: if the samples do not fit the operator.
        RunError: if there is no readable operator in the run.
    """
    if isinstance(operator, str | Path) and holds_operator(operator):
        operator = load_operator(operator)
    if not isinstance(operator, Operator):
        run = operator if isinstance(operator, Run) else Run.open(operator)
        run.require_complete()
        operator = load_operator(run.path / "model")
    if rename:
        operator = renamed(operator, rename)
    names = list(metrics)
    for name in names:
        if name not in METRICS:
            raise ConfigError(suggest(name, METRICS))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for piece in pieces(samples, batch_size):
        target = operator.align(piece).require_targets()
        prediction = operator.predict(piece, batch_size=batch_size).require_targets()
        for name in names:
            parts[name].append(METRICS[name](prediction, target))
    if not parts or not parts[names[0]]:
        raise DataError("There is nothing to score: give at least one sample and one metric.")
    return Scores({name: torch.cat(values) for name, values in parts.items()}, operator.signature.outputs)


def pieces(samples: Batch | StoreSplit, batch_size: int) -> Iterator[Batch]:
    """Yield samples a piece at a time: a split is read `batch_size` by `batch_size`, a batch comes whole."""
    if isinstance(samples, StoreSplit):
        yield from samples.batches(batch_size)
    elif samples.num_samples:
        yield samples
