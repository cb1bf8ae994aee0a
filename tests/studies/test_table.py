from __future__ import annotations

from dataclasses import replace

import pytest

from scifm.errors import RunError
from scifm.studies.table import Row, read_table, write_table

ROW = Row(
    kind="few_shot", source="a", source_systems="a+b", target="t", system="poisson", knobs="{}", size="small",
    num_params=10, num_pretrain_samples=20, num_samples=4, seed=1, method="all", coefficients="refitted",
    learning_rate=1e-3, num_trials=2, trial_steps=20,
    num_steps=5, relative_l2=0.25, relative_l2_median=0.2, relative_l2_p90=0.5, flops=1e12, seconds=1.5, run="runs/x",
)  # fmt: skip


def test_rows_come_back_as_they_went_and_nan_stays_nan(tmp_path):
    write_table([ROW, replace(ROW, relative_l2=float("nan"))], tmp_path / "table.parquet")
    first, second = read_table(tmp_path / "table.parquet")
    assert first == ROW
    assert second.relative_l2 != second.relative_l2


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_table(tmp_path / "table.parquet")
    write_table([ROW], tmp_path / "table.parquet")
    whole = (tmp_path / "table.parquet").read_bytes()
    (tmp_path / "table.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="Run the study again"):
        read_table(tmp_path / "table.parquet")
