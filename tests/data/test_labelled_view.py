"""A split as labelled data: right numbers under right names, and nothing read that was not asked for."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
import xarray

from foreign_well import write_well_file
from scifm.data.importing import import_data, open_data
from scifm.errors import ConfigError

TIMES = np.array([0.0, 0.5, 1.0, 2.0])
DIMS = {"y": np.arange(3) / 3, "x": np.linspace(0, 1, 5)}


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in {"train": 4, "valid": 1, "test": 1}.items():
        fields = {
            "u": (0, rng.random((count, 4, 3, 5), dtype=np.float32), "st"),
            "mask": (0, rng.random((count, 3, 5), dtype=np.float32), "s"),
        }
        write_well_file(
            tmp_path / f"flow/data/{split}/a.h5",
            dims=DIMS, times=TIMES, num_trajectories=count, fields=fields,
            scalars={"speed": (np.arange(count) * 1.0, "s")}, boundaries={"y": "PERIODIC", "x": "WALL"},
        )  # fmt: skip
    return tmp_path / "flow"


@pytest.fixture(params=["copied", "where it lies"])
def evolving(request, source, tmp_path):
    return import_data(source, tmp_path / "store") if request.param == "copied" else open_data(source)


@pytest.fixture
def reads(monkeypatch):
    """Every block of a field or scalar that is read from a file."""
    asked = []
    original = h5py.Dataset.__getitem__

    def counting(self, index, *rest):
        values = original(self, index, *rest)
        asked.append((self.name, values.size))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    return asked


def test_names_sizes_coordinates_and_what_the_card_says(evolving):
    view = evolving.to_xarray()
    assert dict(view.sizes) == {"trajectory": 4, "time": 4, "y": 3, "x": 5}
    assert view.u.dims == ("trajectory", "time", "y", "x")
    assert (view.mask.dims, view.speed.dims) == (("trajectory", "y", "x"), ("trajectory",))
    np.testing.assert_array_equal(view.time, TIMES)
    np.testing.assert_allclose(view.x, DIMS["x"])
    np.testing.assert_allclose(view.y, DIMS["y"])
    assert (view.attrs["split"], view.attrs["extent"]) == ("train", "y: 1, x: 1")
    assert view.attrs["boundary"] == "y: periodic, x: wall"
    assert [view[name].attrs["role"] for name in ("u", "mask", "speed")] == ["state", "input", "coefficient"]
    assert view.u.dtype == view.mask.dtype == view.speed.dtype == np.float32


def test_numbers_are_those_of_the_batches(evolving):
    view, batch = evolving.to_xarray().load(), evolving.split("train").load()
    np.testing.assert_array_equal(view.u[:, :-1].values.reshape(12, 3, 5), batch.field("u")[:, 0])
    np.testing.assert_array_equal(view.u[:, 1:].values.reshape(12, 3, 5), batch.target("u")[:, 0])
    np.testing.assert_array_equal(np.repeat(view.mask, 3, axis=0), batch.field("mask")[:, 0])
    np.testing.assert_array_equal(np.repeat(view.speed, 3), batch.coefficients[:, 0])


def test_steady_solutions_have_no_time(toy_store):
    view, batch = toy_store.to_xarray("valid"), toy_store.split("valid").load()
    assert dict(view.sizes) == {"trajectory": 3, "y": 6, "x": 4}
    np.testing.assert_array_equal(view.solution, batch.target("solution")[:, 0])
    np.testing.assert_array_equal(view.forcing, batch.field("forcing")[:, 0])
    np.testing.assert_array_equal(view.stiffness, batch.coefficient("stiffness"))
    assert view.attrs["equation"] == toy_store.card.equation


@pytest.mark.parametrize(
    "select",
    [
        {"trajectory": 2},
        {"trajectory": -1, "time": [3, 0, 0]},
        {"trajectory": [3, 1, 1], "time": slice(None, None, 2)},
        {"time": slice(None, None, -1), "x": 4, "y": [2, 0]},
        {"trajectory": slice(1, 3), "time": 1, "y": slice(0, 0)},
        {"trajectory": []},
        {"trajectory": np.array([True, False, True, False]), "x": slice(3, 0, -2)},
    ],
    ids=str,
)
def test_every_kind_of_selection_gives_what_it_gives_in_memory(evolving, select):
    whole = evolving.to_xarray().load()
    xarray.testing.assert_identical(evolving.to_xarray().isel(select).load(), whole.isel(select))


def test_points_can_be_picked_by_labels(evolving):
    whole = evolving.to_xarray().load()
    places = {"trajectory": xarray.DataArray([0, 2], dims="p"), "time": xarray.DataArray([1, 3], dims="p")}
    xarray.testing.assert_identical(evolving.to_xarray().isel(places).load(), whole.isel(places))
    xarray.testing.assert_identical(evolving.to_xarray().sel(time=1.0).load(), whole.sel(time=1.0))


def test_nothing_is_read_before_it_is_asked_for_and_no_more(evolving, reads):
    view = evolving.to_xarray()
    part = view.u.isel(trajectory=2).isel(time=slice(1, 3)).isel(x=0)
    repr(view), part.shape
    assert not [name for name, _ in reads if "fields" in name]
    np.asarray(part)
    assert [(name, size) for name, size in reads if "fields" in name] == [("/t0_fields/u", 2 * 15)]
    reads.clear()
    np.asarray(view.mask.isel(trajectory=[0, 1, 3]))
    assert [size for _, size in reads] == [2 * 15, 15]


def test_dask_reads_it_by_chunks(evolving, reads):
    pytest.importorskip("dask")
    view = evolving.to_xarray().chunk({"trajectory": 1})
    assert not [name for name, _ in reads if "fields" in name]
    mean = view.u.mean(("time", "y", "x")).compute()
    assert [size for _, size in reads] == [4 * 15] * 4
    np.testing.assert_allclose(mean, evolving.to_xarray().u.mean(("time", "y", "x")), rtol=1e-6)


def test_it_can_be_changed_in_memory_sent_away_and_written(evolving, tmp_path):
    view = evolving.to_xarray()
    again = pickle.loads(pickle.dumps(view))
    xarray.testing.assert_identical(again.load(), evolving.to_xarray().load())
    view["u"][0, 0] = 7.0
    assert float(view.u[0, 0].min()) == 7.0
    assert float(evolving.to_xarray().u[0, 0].max()) < 1.0
    pytest.importorskip("h5netcdf")
    evolving.to_xarray().to_netcdf(tmp_path / "flow.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "flow.nc", engine="h5netcdf") as written:
        xarray.testing.assert_identical(written.load(), evolving.to_xarray().load())


def test_an_unknown_split_is_refused(toy_store):
    with pytest.raises(ConfigError, match="Split of the store"):
        toy_store.to_xarray("trian")
