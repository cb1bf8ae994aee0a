from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scifm.data.statistics import Statistics, summarize
from scifm.errors import DataError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid


def test_a_case_by_hand():
    grid = Grid.square(2)
    forcing = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 4], [3, 3, 3, 3]]).view(3, 1, 1, 2, 2)
    batch = Batch(Signature(("f",), ("c",), ("u",)), grid, forcing, torch.tensor([[-2.0], [1.0], [4.0]]), -forcing)
    statistics = summarize([batch])
    f, u, c = statistics["f"], statistics["u"], statistics["c"]
    assert (f.mean, f.min, f.max) == (20 / 12, 0, 4)
    assert f.rms == pytest.approx((56 / 12) ** 0.5)
    assert f.std == pytest.approx((56 / 12 - (20 / 12) ** 2) ** 0.5)
    assert f.median_rms == 2.0  # of 1, 2, 3
    assert (u.mean, u.min, u.max) == (-20 / 12, -4, 0)
    assert (c.mean, c.min, c.max, c.median_rms) == (1, -2, 4, 2)
    assert c.std == pytest.approx(6**0.5)


@given(cut=st.integers(0, 11))
def test_chunks_do_not_matter(toy_store, cut):
    batch = toy_store.split("train").load()
    whole = summarize([batch])
    parts = summarize([batch.select(slice(cut)), batch.select(slice(cut, None))])
    for name in ("forcing", "solution", "stiffness"):
        for row in ("mean", "std", "rms", "min", "max", "median_rms"):
            assert getattr(parts[name], row) == pytest.approx(getattr(whole[name], row), rel=1e-12)


def test_a_large_mean_does_not_eat_the_spread():
    grid = Grid.square(2)
    values = 1e8 + torch.arange(8, dtype=torch.float64).view(2, 1, 1, 2, 2)
    batch = Batch(Signature(("f",), (), ("u",)), grid, values, torch.zeros(2, 0, dtype=torch.float64), values)
    parts = [batch.select([0]), batch.select([1])]
    assert summarize(parts)["f"].std == pytest.approx(5.25**0.5, rel=1e-9)


def test_float32_is_summed_in_float64():
    grid = Grid.square(64)
    values = torch.full((100, 1, 1, 64, 64), 0.1)
    batch = Batch(Signature(("f",), (), ("u",)), grid, values, torch.zeros(100, 0), values)
    assert summarize([batch])["f"].mean == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)


def test_statistics_of_a_store_are_of_its_training_split(toy_store):
    train = toy_store.split("train").load()
    assert toy_store.statistics["forcing"].mean == pytest.approx(float(train.inputs.double().mean()), rel=1e-12)
    assert toy_store.statistics["solution"].max == float(train.require_targets().max())


def test_file_is_in_the_wells_layout(toy_store):
    entries = yaml.safe_load((toy_store.path / "stats.yaml").read_text())
    for row in ("mean", "std", "rms"):
        assert set(entries[row]) == {"forcing", "solution"}
        assert entries[f"{row}_delta"] == {"solution": entries[row]["solution"]}
    assert Statistics.from_dict(entries) == toy_store.statistics


def test_unknown_name(toy_store):
    with pytest.raises(SignatureError, match="Did you mean 'stiffness'"):
        toy_store.statistics["stifness"]


def test_nothing_to_summarize(toy_store):
    with pytest.raises(DataError, match="at least one sample"):
        summarize([])
    with pytest.raises(DataError, match="at least one sample"):
        summarize([toy_store.split("train").batch([])])


def test_signatures_must_agree(toy_store):
    batch = toy_store.split("train").load()
    other = replace(batch, signature=replace(batch.signature, outputs=("pressure",)))
    with pytest.raises(SignatureError, match="one signature"):
        summarize([batch, other])


GROWTH = """
import torch
from scifm.data.statistics import summarize
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid

def resident():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024

fields = torch.rand(32, 1, 1, 128, 128)
names = Signature(("u",), (), ("u",), evolves=True)
batch = Batch(names, Grid.square(128), fields, torch.zeros(32, 0), fields + 1)
summarize([batch] * 3)
before = resident()
summarize([batch] * 30)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory of a process")
def test_memory_does_not_grow_with_the_number_of_batches():
    answer = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 64, "megabytes; it was 250 when one small tensor a batch was kept"
