"""What a file by the climate and forecast conventions says, from the file to the card, the view and predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray

import tiny
from scifm.data.card import Card
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import choose_mapping, inspect_data
from scifm.data.labels import Dates, Labels
from scifm.data.store import Store
from scifm.evaluation.predict_file import predict_file
from scifm.evaluation.rollouts import forecast
from scifm.models.registry import load_operator
from scifm.report.films import read_frames
from scifm.report.page import page
from scifm.runs import Run
from scifm.training.finetune import finetune
from scifm.training.pretrain import pretrain

FRAMES, NY, NX = 8, 8, 16
LAT, LON = 30 + 1.25 * np.arange(NY), -20 + 2.5 * np.arange(NX)
HOURS = 24.0 * 58 + 6 * np.arange(FRAMES)  # from 28 February on: noleap goes on with 1 March
GLOBAL = {"title": "Made-up air", "institution": "Nowhere", "Conventions": "CF-1.8"}


def put(file: netCDF4.Dataset, name: str, dimensions: tuple[str, ...], values: object, **attributes: str) -> None:
    file.createVariable(name, np.asarray(values).dtype, dimensions)[...] = values
    file[name].setncatts(attributes)


def write(path: Path, seed: int = 0, *, lat: np.ndarray = LAT, start: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(size=(FRAMES, NY, NX)).astype(np.float32)
    wave = 5 * np.sin(2 * np.pi * (np.arange(NX) / NX - 0.05 * np.arange(FRAMES)[:, None, None] + 0.1 * seed))
    with netCDF4.Dataset(path, "w") as file:
        file.setncatts(GLOBAL)
        for name, length in {"time": None, "lat": NY, "lon": NX, "bnds": 2}.items():
            file.createDimension(name, length)
        hours = HOURS + start
        said = {"units": "hours since 2001-01-01", "calendar": "noleap", "standard_name": "time", "bounds": "time_bnds"}
        put(file, "time", ("time",), hours, **said)
        put(file, "time_bnds", ("time", "bnds"), np.stack([hours, hours + 6], 1))
        put(file, "lat", ("lat",), lat, units="degrees_north", standard_name="latitude", axis="Y")
        put(file, "lon", ("lon",), LON, units="degrees_east", standard_name="longitude", long_name="longitude")
        air = {"units": "K", "long_name": "Air temperature", "standard_name": "air_temperature", "grid_mapping": "crs"}
        put(file, "tas", ("time", "lat", "lon"), (wave + 0.1 * noise).astype(np.float32), **air)
        put(file, "crs", (), np.int32(0), grid_mapping_name="latitude_longitude")
        put(file, "station", ("bnds",), np.array([1.0, 2.0]), units="m", long_name="height of stations")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("cf") / "air"
    for number in range(6):
        write(place / f"air-{number}.nc", number)
    return place


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory) -> Store:
    return import_data(folder, tmp_path_factory.mktemp("stores") / "air")


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Run:
    tree = {key: own for key, own in tiny.recipe(training={"num_steps": 2}).items() if key != "system"}
    data = {"store": str(store.path), "num_validation_samples": 2, "num_normalization_samples": 8}
    return pretrain({**tree, "data": data}, out=tmp_path_factory.mktemp("runs"))


def test_the_card_keeps_them(store):
    labels = Card.read(store.path).labels
    assert labels == Labels(
        texts={
            "": GLOBAL,
            "tas": {"long_name": "Air temperature", "standard_name": "air_temperature"},
            "time": {"standard_name": "time"},
            "y": {"standard_name": "latitude", "units": "degrees_north"},
            "x": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"},
        },
        called={"y": "lat", "x": "lon"},
        lines={"y": (30.0, 1.25), "x": (-20.0, 2.5)},
        dates=Dates(units="hours since 2001-01-01", calendar="noleap", first=HOURS[0], seconds=3600.0),
        left_out=("station",),
    )
    assert store.card.units == {"tas": "K", "x": "degrees_east", "y": "degrees_north", "time": "s"}


def test_what_is_left_out_is_named_before_and_after(folder, store):
    found = inspect_data(folder, read=False)
    assert found.outcome is not None
    assert found.outcome.labels == store.card.labels.to_dict()
    for remarks in (found.remarks, store.card.known_defects):
        assert "'time_bnds' tells the ends of intervals; it is left out." in remarks
        assert "'crs' tells how the grid lies on the globe; it is left out." in remarks


def test_degrees_are_told_to_be_degrees_and_give_way_to_metres(folder):
    (said,) = [text for text in open_data(folder).card.known_defects if "degrees" in text]
    # 6371 km π/180 = 111.19 km a degree; 37.5° of longitude at 34.375°, 8.75° of latitude
    assert "extent = { x = 3.44e+06, y = 9.73e+05 }" in said
    mapping = choose_mapping(folder, None, ["extent.x=3.44e6", "extent.y=9.73e5"])
    card = open_data(folder, mapping).card
    assert not [text for text in card.known_defects if "degrees" in text]
    assert card.grid.extent == (9.73e5, 3.44e6)
    assert card.labels is not None
    assert card.labels.lines["y"] == (30.0, 1.25), "the points of the file stay what they are"


def test_part_of_a_circle_does_not_wrap(folder):
    assert open_data(folder).grid.boundary == ("bounded", "bounded")


def test_the_view_has_the_points_and_dates_of_the_file(store, folder, tmp_path):
    with store.to_xarray("train") as view:
        np.testing.assert_allclose(view["y"], LAT)
        np.testing.assert_allclose(view["x"], LON)
        np.testing.assert_allclose(view["time"], HOURS)
        assert view["tas"].attrs["long_name"] == "Air temperature"
        assert view["time"].attrs["calendar"] == "noleap"
        assert view.attrs["institution"] == "Nowhere"
        view.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    again = open_data(tmp_path / "again.nc").card
    assert (again.labels.dates, again.labels.lines) == (store.card.labels.dates, store.card.labels.lines)
    assert again.grid == store.card.grid


def check_coordinates(made: xarray.Dataset) -> None:
    np.testing.assert_allclose(made["lat"], LAT)
    np.testing.assert_allclose(made["lon"], LON)
    assert made["lat"].attrs["units"] == "degrees_north"
    assert made["lon"].attrs["standard_name"] == "longitude"
    assert made["tas"].attrs["units"] == "K"
    assert made["tas"].attrs["standard_name"] == "air_temperature"
    assert made.attrs["institution"] == "Nowhere"
    assert made["time"].attrs["units"] == "hours since 2001-01-01"
    assert made["time"].attrs["calendar"] == "noleap"


@pytest.mark.parametrize("source", ["file", "store"])
def test_a_prediction_goes_on_where_the_file_ends(run, folder, store, tmp_path, source):
    asked = folder / "air-0.nc" if source == "file" else store.path
    predict_file(run, asked, tmp_path / "next.nc", steps=2)
    with xarray.open_dataset(tmp_path / "next.nc", decode_times=False) as made:
        check_coordinates(made)
        np.testing.assert_allclose(made["time"], HOURS[-1] + [6, 12])
    with xarray.open_dataset(tmp_path / "next.nc") as made:
        assert str(made["time"].values[0]).startswith("2001-03-02 00:00")


def test_a_forecast_starts_behind_the_first_frame(run, store, tmp_path):
    forecast(run, store=str(store.path), steps=3, out=tmp_path / "ahead.nc")
    with xarray.open_dataset(tmp_path / "ahead.nc", decode_times=False) as made:
        check_coordinates(made)
        np.testing.assert_allclose(made["time"], HOURS[0] + [6, 12, 18])
        assert made["tas"].dims == ("trajectory", "time", "lat", "lon")


def test_the_model_its_card_and_the_page_of_the_run_tell_them(run):
    meant = {
        "tas": "Air temperature [K]",
        "y": "latitude [degrees_north] lat from 30 by 1.25 degrees_north",
        "x": "longitude [degrees_east] lon from -20 by 2.5 degrees_east",
        "time": f"time [s] first frame {HOURS[0]:g} hours since 2001-01-01 noleap",
    }
    assert load_operator(run).domain.meanings == meant
    readme = (run.path / "model" / "README.md").read_text()
    shown = page(run.path).read_text()
    for name, text in meant.items():
        assert f"| what {name} is | {text} |" in readme
        assert text in shown


def test_pictures_have_the_points_of_the_file_and_north_is_up(run, tmp_path):
    for number in range(6):
        write(tmp_path / "down" / f"{number}.nc", number, lat=LAT[::-1].copy())
    down = import_data(tmp_path / "down", tmp_path / "store")
    made = forecast(run, store=str(down.path), steps=3)[1]
    frames = read_frames(Path(made["file"]).with_suffix(".npz"))
    assert frames.sides == (("lat", LAT[0], LAT[-1]), ("lon", LON[0], LON[-1]))
    truth = down.to_xarray("test")["tas"].isel(trajectory=frames.sample).sortby("y")
    np.testing.assert_allclose(frames.truth[:, 0], truth.isel(time=list(frames.steps)), rtol=1e-6)
    shown = page(run.path).read_text()
    assert f"<span>{LAT[-1]:.3g}</span><span>lat</span><span>{LAT[0]:.3g}</span>" in shown


def test_a_model_that_moves_to_data_that_say_nothing_forgets_what_the_others_were(run, store, tmp_path):
    few = {"num_samples": 2, "learning_rates": [1e-3], "training": {"num_steps": 1, "batch_size": 2}}
    kept = finetune(run, store, out=tmp_path / "runs", **few)
    assert load_operator(kept).domain.meanings == store.card.meanings != {}
    card = json.loads((store.path / "card.json").read_text())
    silent = shutil.copytree(store.path, tmp_path / "silent")
    (silent / "card.json").write_text(json.dumps({**card, "units": {}, "labels": None}))
    moved = finetune(run, Store.open(silent), out=tmp_path / "others", **few)
    assert load_operator(moved).domain.meanings == {}


def test_lines_that_run_downward_stay_so(tmp_path):
    card = open_data(write(tmp_path / "down.nc", lat=LAT[::-1].copy())).card
    assert card.labels is not None
    np.testing.assert_allclose(card.labels.points("y", NY), LAT[::-1])


def test_trajectories_that_begin_at_other_dates_have_no_common_one(tmp_path):
    for number in range(3):
        write(tmp_path / "years" / f"air-{number}.nc", number, start=8760.0 * number)
    card = open_data(tmp_path / "years").card
    assert sum(card.splits.values()) == 3
    assert card.labels is not None
    assert card.labels.dates is None
    assert card.labels.lines["y"] == (30.0, 1.25)


def test_cards_of_before_have_none(store):
    card = store.card.to_dict()
    del card["labels"]
    assert Card(**card).labels is None
