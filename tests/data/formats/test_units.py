"""Units that files tell: kept on the card, in the labelled view; none are checked or converted but those of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray

from scifm.data.card import Card
from scifm.data.formats.axes import Times
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import choose_mapping, inspect_data

FRAMES, NY, NX = 4, 8, 12
TOLD = {"u": "m s-1", "D": "m2 s-1", "x": "km", "time": "hours since 2000-01-01"}


def write(path: Path, count: int = 6, **units: str) -> Path:
    """Trajectories with units; `units` replaces some, or with an empty text takes them away."""
    numbers = np.random.default_rng(0).normal(size=(count, FRAMES, NY, NX)).astype(np.float32)
    made = xarray.Dataset(
        {"u": (("sample", "time", "y", "x"), numbers), "D": ("sample", np.arange(count) + 1.0)},
        {"x": np.arange(NX) / NX, "y": np.linspace(0, 1, NY), "time": np.arange(FRAMES) * 0.5},
    )
    for name, unit in {**TOLD, **units}.items():
        made[name].attrs |= {"units": unit} if unit else {}
    path.parent.mkdir(exist_ok=True)
    made.to_netcdf(path, engine="h5netcdf")
    return path


def test_they_stand_on_the_card_and_in_the_labelled_view(tmp_path):
    store = import_data(write(tmp_path / "flow.nc"), tmp_path / "store")
    kept = {"u": "m s-1", "D": "m2 s-1", "x": "km", "time": "s"}
    assert store.card.units == Card.read(store.path).units == kept
    assert store.card.times == tuple(1800.0 * step for step in range(FRAMES))
    with store.to_xarray("train") as view:
        assert {name: view[name].attrs["units"] for name in kept} == {**kept, "time": TOLD["time"]}
        assert view["time"].values.tolist() == [0.0, 0.5, 1.0, 1.5]  # as the file told them
        assert "units" not in view["y"].attrs
        view.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    assert open_data(tmp_path / "again.nc").card.units == kept
    assert inspect_data(store.path, read=False).outcome.units == kept


def test_an_axis_that_a_map_stretches_has_no_unit(tmp_path):
    file = write(tmp_path / "flow.nc")
    mapping = choose_mapping(file, None, ["extent.x=1000.0"])
    assert mapping is not None
    assert open_data(file, mapping).card.units == {"u": "m s-1", "D": "m2 s-1", "time": "s"}


def test_a_store_of_before_has_none(tmp_path):
    store = import_data(write(tmp_path / "flow.nc"), tmp_path / "store")
    card = store.card.to_dict()
    del card["units"]
    assert Card(**card).units == {}


def test_files_that_differ_in_a_unit_are_told_of(tmp_path):
    for name, unit in (("a_1", "m s-1"), ("a_2", "km h-1"), ("a_3", "")):
        write(tmp_path / "flow" / f"{name}.nc", u=unit)
    card = open_data(tmp_path / "flow").card
    assert card.units == {"D": "m2 s-1", "x": "km", "time": "s"}
    (defect,) = [text for text in card.known_defects if "Units differ" in text]
    assert defect == "Units differ between files, numbers are taken as they are: u (km h-1, m s-1)."


@pytest.mark.parametrize(
    ("units", "unit"),
    [("hours since 2000-01-01", "s"), ("S", "s"), ("Myr", "Myr"), ("months since 2000-01-01", "months")],
)
def test_times_are_in_seconds_or_in_what_cannot_be_converted(units, unit):
    assert Times.of(np.arange(3.0), units, "", np.dtype(float)).unit == unit
