"""What float32 would lose is kept in float64, or told."""

from __future__ import annotations

import numpy as np
import pytest

from scifm.data.formats.guess import lost_in_float32
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import inspect_data

X, T = np.arange(16) / 16, np.arange(4) * 0.1
WAVES = np.stack([np.sin(2 * np.pi * (X - t + i)) for i in range(5) for t in T]).reshape(5, 4, 16)


def saved(path, u, **more):
    np.savez(path, u=u, x=X, t=T, **more)
    return path


def test_the_part_that_is_lost_is_that_of_what_varies():
    half_step = np.finfo("f4").eps / 2
    lines = 1e5 + np.array([[-1.0, 1.0], [3.0, 3.0], [-1.0, np.nan]])  # of the others nothing varies, or is none
    assert lost_in_float32(lines) == pytest.approx(half_step * 1e5, rel=1e-4)
    assert lost_in_float32(lines[1:]) == 0
    assert lost_in_float32(np.zeros((2, 4))) == 0


def test_little_that_varies_far_from_zero_is_kept(tmp_path):
    store = import_data(saved(tmp_path / "p.npz", 101325 + 0.02 * WAVES), tmp_path / "store")
    assert store.card.dtype == "float64"
    got = store.to_xarray("train")["u"].values - 101325
    assert min(np.abs(got[0] - 0.02 * own).max() for own in WAVES) < 1e-10
    assert any("'u' lies far from zero" in defect and "64-true" in defect for defect in store.card.known_defects)


def test_a_map_that_asks_for_float32_is_obeyed_and_told(tmp_path):
    path = saved(tmp_path / "p.npz", 101325 + 0.02 * WAVES)
    mapping = open_data(path).card.source.mapping
    from scifm.config import build_config
    from scifm.data.formats.mapping import DataMapping

    mapping = build_config(DataMapping, {**mapping, "dtype": "float32"}, source="test")
    assert open_data(path, mapping).card.dtype == "float32"
    assert any('dtype = "float64" would keep it' in remark for remark in inspect_data(path, mapping).remarks)


@pytest.mark.parametrize("u", [300 + 10 * WAVES, (101325 + 0.02 * WAVES).astype("f4"), np.full_like(WAVES, 101325.0)])
def test_nothing_is_told_where_nothing_is_lost(tmp_path, u):
    store = open_data(saved(tmp_path / "p.npz", u))
    assert store.card.dtype == "float32"
    assert not any("far from zero" in defect for defect in store.card.known_defects)


def test_a_coefficient_far_from_zero_is_told(tmp_path):
    store = open_data(saved(tmp_path / "p.npz", WAVES, day=2459000.5 + 0.001 * np.arange(5)))
    assert store.signature.coefficients == ("day",)
    assert any("'day' lies far from zero" in defect for defect in store.card.known_defects)
