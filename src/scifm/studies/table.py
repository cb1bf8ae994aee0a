"""The table of a study: a row for each operator scored on a task, tidy, on disk as Parquet."""

from __future__ import annotations

import io
import typing
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scifm.errors import RunError
from scifm.runs import write_atomically

__all__ = ["KINDS", "Row", "read_table", "write_table"]

KINDS = ("in_distribution", "zero_shot", "few_shot", "from_scratch", "from_scratch_converged")


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
        size: name of the architecture's size.
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
