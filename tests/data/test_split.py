"""Windows of trajectories: which frames meet, in which order, and that windows of one trajectory stay together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scifm.data.formats.format import Contents
from scifm.data.formats.kinds import WHOLE
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.reader import MappedReader
from scifm.data.split import StoreSplit
from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.window import Window

GRID = Grid((3, 4), (1.0, 2.0), (True, False))
TIMES = (0.0, 0.5, 1.0, 2.0, 4.0)


def split(stride: int = 1) -> StoreSplit:
    """Six trajectories; the state says which trajectory and frame it is, the mask which trajectory."""
    state = np.zeros((6, 5, 3, 4), np.float32) + 10 * np.arange(6).reshape(6, 1, 1, 1) + np.arange(5).reshape(5, 1, 1)
    mask = np.zeros((6, 3, 4), np.float32) + np.arange(6).reshape(6, 1, 1)
    arrays = {"u": state, "m": mask, "k": np.arange(6.0)}
    mapping = DataMapping.model_validate(
        {
            "format": "arrays",
            "fields": {
                "u": {"array": "u", "axes": ("trajectory", "time", "y", "x")},
                "mask": {"array": "m", "axes": ("trajectory", "y", "x"), "role": "input"},
            },
            "coefficients": {"k": "k"},
            "time": {"interval": 1.0},
            "extent": {"y": 1.0, "x": 2.0},
            "boundary": {"y": "periodic", "x": "wall"},
        }
    )
    contents = Contents(Path("nowhere"), (), {WHOLE: arrays})
    reader = MappedReader(contents, WHOLE, mapping)
    return StoreSplit(reader, mapping.signature, GRID, "toy", torch.float32, TIMES, Window(stride=stride))


def told(batch) -> list[tuple[float, float, float, float]]:
    """Return trajectory·10 + frame of input and target, the mask and the coefficient of each sample."""
    columns = (batch.field("u"), batch.target("u"), batch.field("mask"), batch.coefficients)
    return list(zip(*(c.flatten(1)[:, 0].tolist() for c in columns), strict=True))


@pytest.mark.parametrize("stride", [1, 3])
def test_windows_pair_a_frame_with_a_later_one(stride):
    windows = split(stride)
    assert windows.windows_per_trajectory == 5 - stride
    assert (windows.num_trajectories, windows.num_samples) == (6, 6 * (5 - stride))
    batch = windows.load()
    expected = [(10.0 * r + f, 10.0 * r + f + stride, r, r) for r in range(6) for f in range(5 - stride)]
    assert told(batch) == expected
    assert batch.inputs.shape == (len(expected), 1, 2, 3, 4)
    lead = [TIMES[f + stride] - TIMES[f] for _ in range(6) for f in range(5 - stride)]
    assert batch.lead_time.tolist() == [[time] for time in lead]


def test_any_order_of_windows_comes_as_asked():
    windows = split()
    whole, index = told(windows.load()), [23, 0, 7, 7, -1, 4]
    assert told(windows.batch(index)) == [whole[i] for i in index]


def test_chosen_trajectories_bring_all_their_windows():
    chosen = split(2).chosen([4, 1])
    assert told(chosen.load()) == [(10.0 * r + f, 10.0 * r + f + 2, r, r) for r in (4, 1) for f in range(3)]
    assert chosen.num_bytes == sum(t.numel() * 4 for t in (chosen.load().inputs, chosen.load().targets)) + 6 * 4
    with pytest.raises(DataError, match="Trajectories 6 to 6 were asked for"):
        split().chosen([6])


def test_some_are_spread_over_all_trajectories():
    assert {k for *_, k in told(split().some(6))} == set(range(6))
    assert split().some(1000).num_samples == 24


@pytest.mark.parametrize(("stride", "message"), [(0, "stride counts frames and is at least 1"), (5, "spans 6 frames")])
def test_a_stride_must_leave_a_window(stride, message):
    with pytest.raises(ConfigError, match=message):
        split(stride)
