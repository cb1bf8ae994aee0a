"""Gaps of foreign data: refused, filled, excluded or masked, and what a store keeps of them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from scifm.config import build_config
from scifm.data.formats.mapping import DataMapping, GapRule
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import inspect_data
from scifm.data.missing import interpolated
from scifm.data.split import windows_of
from scifm.data.store import Store
from scifm.data.tensor_samples import TensorSamples
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.window import Window

NUM, FRAMES, Y, X = 10, 4, 5, 6
LAND = np.zeros((Y, X), dtype=bool)
LAND[1:3, 2:5] = True


def waves(*, clouds=True):
    u = np.random.default_rng(0).normal(size=(NUM, FRAMES, Y, X)) + 5
    u[:, :, LAND] = np.nan
    if clouds:
        u[3, 2, 4, :2] = np.nan
    return u


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "u.npz", u=waves(), t=np.arange(FRAMES) * 0.5, speed=np.arange(NUM) + 1.0)
    return tmp_path / "u.npz"


def mapping(**more):
    tree = {
        "format": "arrays",
        "fields": {"u": {"array": "u", "axes": ["trajectory", "time", "y", "x"]}},
        "coefficients": {"speed": "speed"},
        "time": "t",
        "extent": {"x": 1.0, "y": 1.0},
        "boundary": {"x": "periodic", "y": "wall"},
        "dtype": "float64",
    }
    return build_config(DataMapping, {**tree, **more})


def same(one: Batch, other: Batch) -> bool:
    names = ("inputs", "targets", "coefficients", "valid_inputs", "valid_targets")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


# --- what a mapping says ----------------------------------------------------------------------------------------------


def test_a_rule_is_a_word_or_a_table_and_is_written_as_it_was_given():
    for given in ("refuse", "exclude", "mask", {"fill": 0.5}, {"fill": "interpolate"}):
        assert mapping(gaps=given).to_dict()["gaps"] == given
    assert "gaps" not in mapping().to_dict()  # stores of before have the hash they had
    own = mapping(gaps="exclude", fields={"u": {**mapping().to_dict()["fields"]["u"], "gaps": "mask"}})
    assert own.masked == ("u",)
    assert own.gap_rule("u") == GapRule(rule="mask")


@pytest.mark.parametrize(
    "wrong", ["hide", {"fill": "nearest"}, {"fill": float("nan")}, "fill", {"rule": "mask", "fill": 1}]
)
def test_another_rule_is_refused(wrong):
    with pytest.raises(ConfigError, match="gaps"):
        mapping(gaps=wrong)


def test_data_of_a_system_cannot_be_masked():
    with pytest.raises(ConfigError, match=r"cannot be seen where points of u are masked: leave out system"):
        mapping(gaps="mask", system="burgers")


def test_gaps_are_refused_with_their_number_and_the_ways_out(file, tmp_path):
    with pytest.raises(DataError, match=r"'u' holds NaN or infinity in sample 0, frame 0,") as told:
        import_data(file, tmp_path / "store", mapping())
    missing = int(np.isnan(waves()).sum())
    for words in (
        f"Of {waves().size:,} numbers of the array 'u' {missing:,} are missing",
        '"mask"',
        '"exclude"',
        "fill",
    ):
        assert words in str(told.value)


def test_infinity_is_no_gap(tmp_path):
    u = waves()
    u[4, 0, 0, 0] = np.inf
    np.savez(tmp_path / "u.npz", u=u, t=np.arange(FRAMES) * 0.5, speed=np.arange(NUM) + 1.0)
    with pytest.raises(DataError, match="'u' holds infinity in sample 4, frame 0"):
        import_data(tmp_path / "u.npz", tmp_path / "store", mapping(gaps="mask"))


def test_inspect_asks_what_becomes_of_them_and_stops_asking(file):
    asked = inspect_data(file, mapping()).missing
    assert any("say what becomes of those points" in text for text in asked)
    assert inspect_data(file, mapping(gaps="mask")).missing == ()


# --- filled -----------------------------------------------------------------------------------------------------------


def test_a_number_fills(file):
    batch = open_data(file, mapping(gaps={"fill": -1.0})).split("train").load()
    assert batch.gaps == ()
    assert (batch.inputs[..., torch.from_numpy(LAND)] == -1).all()


def test_between_two_points_of_a_line_it_is_linear_and_beyond_the_last_constant():
    line = np.array([[np.nan, 1.0, np.nan, np.nan, 4.0, np.nan]])
    np.testing.assert_allclose(interpolated(line, [False]), [[1, 1, 2, 3, 4, 4]])
    np.testing.assert_allclose(interpolated(line, [True]), [[2, 1, 2, 3, 4, 3]])


def test_what_is_linear_in_space_is_filled_exactly_and_each_frame_by_itself():
    y, x = np.meshgrid(np.arange(7.0), np.arange(8.0), indexing="ij")
    frames = np.stack([2 * x - y, 3 * y + 1, x - 4])
    gaps = frames.copy()
    gaps[:2, 2:5, 3:6], gaps[2, 1, 1] = np.nan, np.nan
    np.testing.assert_allclose(interpolated(gaps, [False, False]), frames, atol=1e-12)
    assert interpolated(frames, [False, False]) is frames


def test_nothing_is_interpolated_from_nothing(tmp_path):
    u = waves()
    u[2, 1] = np.nan
    np.savez(tmp_path / "u.npz", u=u, t=np.arange(FRAMES) * 0.5, speed=np.arange(NUM) + 1.0)
    with pytest.raises(DataError, match="has no number at all"):
        open_data(tmp_path / "u.npz", mapping(gaps={"fill": "interpolate"})).whole().load()


# --- excluded ---------------------------------------------------------------------------------------------------------


def test_trajectories_with_gaps_are_left_out_and_counted(tmp_path):
    u = np.nan_to_num(waves(), nan=1.0)
    u[3, 2, 4, 0], u[7, 0, 0, 0] = np.nan, np.nan
    np.savez(tmp_path / "u.npz", u=u, t=np.arange(FRAMES) * 0.5, speed=np.arange(NUM) + 1.0)
    store = open_data(tmp_path / "u.npz", mapping(gaps="exclude"))
    assert sum(store.splits.values()) == 8
    assert "Left out because points of them are missing: 2 trajectories (3, 7)." in store.card.known_defects
    speeds = sorted(store.whole().load().coefficient("speed").unique().tolist())
    assert speeds == [1, 2, 3, 5, 6, 7, 9, 10]
    copied = import_data(tmp_path / "u.npz", tmp_path / "store", mapping(gaps="exclude"))
    assert same(copied.split("train").load(), store.split("train").load())


def test_if_every_one_has_gaps_none_is_left(file):
    with pytest.raises(DataError, match=r'Every one of the 10 trajectories .* gaps = "exclude" leaves none'):
        open_data(file, mapping(gaps="exclude"))


# --- masked -----------------------------------------------------------------------------------------------------------


def test_a_store_keeps_where_numbers_are(file, tmp_path):
    opened = open_data(file, mapping(gaps="mask"))
    store = import_data(file, tmp_path / "store", mapping(gaps="mask"))
    again = Store.open(tmp_path / "store")
    assert again.card.gaps == ("u",)
    assert "Missing points of u are marked" in " ".join(again.card.known_defects)
    for split in ("train", "valid", "test"):
        batch = again.split(split).load()
        assert same(batch, opened.split(split).load())
        assert batch.gaps == ("u",)
        assert not batch.valid_inputs[..., torch.from_numpy(LAND)].any()
        assert batch.inputs.isfinite().all()
    assert store.statistics.fields["u"].mean == pytest.approx(float(np.nanmean(_training(store))), rel=1e-12)
    view = again.to_xarray("train")["u"].values
    assert np.isnan(view[:, :, LAND]).all()


def _training(store):
    speeds = store.split("train").load().coefficient("speed").unique().long().tolist()
    return waves()[[speed - 1 for speed in sorted(speeds)]][:, :-1]


def test_masks_that_hide_nothing_take_no_room_and_are_forgotten(tmp_path):
    whole = np.nan_to_num(waves(), nan=1.0)
    np.savez(tmp_path / "u.npz", u=whole, t=np.arange(FRAMES) * 0.5, speed=np.arange(NUM) + 1.0)
    masked = import_data(tmp_path / "u.npz", tmp_path / "masked", mapping(gaps="mask"))
    plain = import_data(tmp_path / "u.npz", tmp_path / "plain", mapping())
    assert masked.card.gaps == ()
    assert "gaps" not in masked.card.to_dict()
    assert same(masked.split("train").load(), plain.split("train").load())
    assert masked.statistics == plain.statistics


def test_numbers_in_the_file_at_missing_points_are_never_read(file, tmp_path):
    store = import_data(file, tmp_path / "store", mapping(gaps="mask"))
    before = store.split("train").load()
    for name in store.card.files:
        if name.endswith(".hdf5"):
            with h5py.File(tmp_path / "store" / name, "r+") as data:
                valid, numbers = data["valid/u"][...], data["t0_fields/u"][...]
                data["t0_fields/u"][...] = np.where(valid, numbers, 1e9)
    assert same(Store.open(tmp_path / "store").split("train").load(), before)


def test_windows_in_memory_keep_the_masks(file):
    split = open_data(file, mapping(gaps="mask")).split("train", Window(horizon=FRAMES - 1))
    windows = windows_of(split.load(), Window())
    assert windows.gaps == ("u",)
    assert same(windows.load(), open_data(file, mapping(gaps="mask")).split("train").load())


def test_views_say_where_numbers_are_or_refuse(file):
    split = open_data(file, mapping(gaps="mask")).split("train")
    item = TensorSamples(split)[0]
    assert item["valid_inputs"].dtype == torch.bool
    assert not item["valid_targets"][0][torch.from_numpy(LAND)].any()
    with pytest.raises(ConfigError, match="The form 'xy' has no masks, and points of u are missing"):
        TensorSamples(split, form="xy")


def test_a_coefficient_cannot_be_missing(tmp_path):
    speed = np.arange(NUM) + 1.0
    speed[4] = np.nan
    np.savez(tmp_path / "u.npz", u=waves(), t=np.arange(FRAMES) * 0.5, speed=speed)
    with pytest.raises(DataError, match="'speed' holds NaN or infinity in sample 4"):
        open_data(tmp_path / "u.npz", mapping(gaps="mask")).whole().load()
