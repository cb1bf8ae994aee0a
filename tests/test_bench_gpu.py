"""``make bench-gpu``: what it says where there is no GPU, and the way it takes, tried on a CPU."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest
import torch


def bench(project_root, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script as ``make bench-gpu`` does."""
    path = os.pathsep.join(filter(None, (str(project_root / "src"), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "scripts/bench_gpu.py", *words]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=project_root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(project_root, tmp_path):
    done = bench(project_root, "--out", str(tmp_path / "tables"))
    assert done.returncode == 1
    assert "sees no CUDA device here, so nothing was measured" in done.stderr
    assert "--device cpu" in done.stderr
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_its_way_on_a_cpu(project_root, tmp_path):
    tables = tmp_path / "tables"
    how = ("--device", "cpu", "--no-tests", "--no-compile", "--cases", "7", "--repeats", "1")
    done = bench(project_root, *how, "--train", "poisson-tiny", "--steps", "4", "--out", str(tables))
    assert done.returncode == 0, done.stderr
    with (tables / "step-float32.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"16x16, 4 modes, width 8, batch 2", "machine"} == {row["case"] for row in rows}
    assert all(row["processor"] and row["torch"] for row in rows)
    with (tables / "trainings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"].partition(",")[0] for row in rows} == {"poisson-tiny"}
    assert all(float(row["value"]) > 0 for row in rows)
