from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from foreign_well import write_well_file
from scifm.config import build_config
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import choose_mapping, inspect_data, measure
from scifm.errors import ConfigError, StoreError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.poisson import Poisson

COUNT, FRAMES, NY, NX = 6, 4, 16, 24


def waves() -> np.ndarray:
    x, y, t = np.arange(NX) / NX, np.linspace(0, 1, NY)[:, None], np.arange(FRAMES)[:, None, None]
    return np.stack([np.sin(2 * np.pi * (x - 0.1 * t) + i) * np.cos(np.pi * y) + np.cos(3 * y) for i in range(COUNT)])


def arrays(**changes) -> dict[str, np.ndarray]:
    coordinates = {"t": np.arange(FRAMES) * 0.5, "x": np.arange(NX) / NX, "y": np.linspace(0, 1, NY)}
    return {"u": waves(), "D": np.arange(COUNT) + 1.0, **coordinates, **changes}


@pytest.fixture
def file(tmp_path) -> Path:
    np.savez(tmp_path / "data.npz", **arrays())
    return tmp_path / "data.npz"


def mapping_in(text: str) -> DataMapping:
    return build_config(DataMapping, tomllib.loads(text))


def test_it_says_what_a_file_holds_and_what_would_become_of_it(file):
    found = inspect_data(file)
    assert found.kind == "arrays"
    assert found.missing == ()
    (report,) = (array for array in found.arrays if array.name == "u")
    assert report.axes == ("trajectory", "time", "y", "x")
    assert report.minimum == waves().min()
    assert report.maximum == waves().max()
    assert report.mean == pytest.approx(waves().mean())
    assert (report.num_nan, report.num_infinite) == (0, 0)
    assert found.outcome is not None
    assert found.outcome.splits == {"train": 4, "valid": 1, "test": 1}
    assert found.outcome.times == (0.0, 0.5, 1.0, 1.5)
    assert found.outcome.coefficients == ("D",)
    assert [told[:10] for told in found.boundary] == ["x periodic", "y bounded:"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_mapping_it_prints_is_the_one_it_would_use(file):
    assert mapping_in(inspect_data(file).mapping) == build_config(
        DataMapping, open_data(file).card.source.to_dict()["mapping"]
    )
    again = inspect_data(file, mapping_in(inspect_data(file).mapping))
    assert again.outcome == inspect_data(file).outcome


def test_what_is_missing_stands_in_the_draft(tmp_path):
    np.savez(tmp_path / "a.npz", a=waves()[:, 0], p=waves()[:, 1])
    found = inspect_data(tmp_path / "a.npz")
    assert found.outcome is None
    assert "which axis of 'a'" in found.missing[0]
    assert found.mapping.count("# TO DO:") == len(found.missing) == 3
    finished = mapping_in(found.mapping.replace('role = "output"', 'role = "input"', 2).replace("TO DO", ""))
    assert finished.fields["a"].axes == ("trajectory", "y", "x")
    assert finished.known_defects[0].startswith("The length of x is not known")


def test_names_of_any_kind_survive_in_the_mapping(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in arrays().items():
            file[f'gröup "1"/{name} [m/s]' if name in "uD" else name] = values
    found = inspect_data(tmp_path / "a.h5")
    assert mapping_in(found.mapping).fields
    assert found.missing == ()


def test_gaps_are_counted_and_said_to_be_refused(tmp_path):
    broken = waves()
    broken[1, 2, 3, 4:7], broken[0, 0, 0, 0] = np.nan, np.inf
    np.savez(tmp_path / "a.npz", **arrays(u=broken))
    found = inspect_data(tmp_path / "a.npz")
    assert "holds 3 NaN of" in found.missing[0]
    assert 'gaps = "mask"' in found.missing[0]
    assert "holds 1 infinite numbers" in found.missing[1]
    assert found.mapping.startswith("# TO DO: 'u' holds 3 NaN")
    assert found.outcome is not None
    json.dumps(found.to_dict(), allow_nan=False)
    assert inspect_data(tmp_path / "a.npz", read=False).missing == ()


def test_a_mapping_is_advised_where_one_helps_and_only_there(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays())
    np.savez(tmp_path / "gaps.npz", **arrays(u=np.full_like(waves(), np.nan)))
    np.savez(tmp_path / "still.npz", **arrays(t=np.zeros(FRAMES)))
    np.savez(tmp_path / "bare.npz", a=waves()[:, 0], p=waves()[:, 1])
    advice = {name: inspect_data(tmp_path / f"{name}.npz").advice for name in ("whole", "gaps", "still", "bare")}
    assert advice["whole"].startswith("Make a store of it")
    assert advice["bare"].startswith("Complete the mapping")
    for name in ("gaps", "still"):
        assert advice[name].startswith("Mend what is missing, in the data")
        assert "--write-map" not in advice[name]
    whole = mapping_in(inspect_data(tmp_path / "whole.npz").mapping)
    wrong = whole.model_copy(update={"time": "D"})
    assert inspect_data(tmp_path / "whole.npz", wrong).advice.startswith("Change the mapping that was given")


def test_numbers_are_read_in_blocks(monkeypatch, file):
    monkeypatch.setattr("scifm.data.inspection._BLOCK_BYTES", 1000)
    seen: list[tuple[int, int]] = []
    found = inspect_data(file, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen) > 50
    assert found.arrays[0].mean == pytest.approx(waves().mean())

    class Watched:
        shape, dtype = waves().shape, waves().dtype
        largest = 0

        def __getitem__(self, index):
            block = waves()[index]
            self.largest = max(self.largest, block.nbytes)
            return block

    watched = Watched()
    assert measure(watched)["maximum"] == waves().max()
    assert 0 < watched.largest <= 1000


def test_an_array_without_a_finite_number_has_no_range():
    assert measure(np.array([np.nan, np.inf])) == {"num_nan": 1, "num_infinite": 1}


def test_what_is_ours_is_recognized(toy_store, file, tmp_path):
    found = inspect_data(toy_store.path)
    assert found.kind == "store"
    assert "pretrain" in found.advice
    assert found.outcome.splits == toy_store.splits
    imported = inspect_data(import_data(file, tmp_path / "store").path)
    assert "imported from arrays" in imported.told
    assert imported.outcome.fields == {"u": "state"}
    for name, names in {"run": ("config.toml", "STATUS"), "model": ("config.json", "model.safetensors")}.items():
        (tmp_path / name).mkdir()
        for inner in names:
            (tmp_path / name / inner).write_text("complete")
        assert inspect_data(tmp_path / name).kind == name


def test_all_formats_that_would_read_it_are_named(tmp_path, file):
    (tmp_path / "b.nc").write_bytes(b"CDF\x01")
    assert "arrays" in inspect_data_of_both(tmp_path)


def inspect_data_of_both(folder: Path) -> dict[str, str]:
    import xarray

    made = xarray.Dataset({"u": (("time", "x"), waves()[0, :, 0])}, {"time": np.arange(FRAMES) * 0.5})
    made.to_netcdf(folder / "b.nc", engine="scipy")
    return inspect_data(folder).others


def test_a_mapping_comes_from_a_file_or_the_proposal_with_overrides(tmp_path, file):
    assert choose_mapping(file, None, []) is None
    assert choose_mapping(file, None, ["every=2"]).every == 2
    (tmp_path / "map.toml").write_text(inspect_data(file).mapping)
    assert choose_mapping(file, tmp_path / "map.toml", ["equation=heat"]).equation == "heat"
    with pytest.raises(ConfigError, match="No mapping at"):
        choose_mapping(file, tmp_path / "none.toml", [])
    with pytest.raises(ConfigError, match="Did you mean 'every'"):
        choose_mapping(file, None, ["evry=2"])
    with pytest.raises(ConfigError, match="'spread' is unknown"):
        choose_mapping(file, tmp_path / "map.toml", ["format=spread"])


def test_what_is_nothing_is_refused(tmp_path):
    with pytest.raises(StoreError, match="There is nothing at"):
        inspect_data(tmp_path / "none")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(StoreError, match="no format"):
        inspect_data(tmp_path / "a.txt")


def test_remarks_of_a_guess_do_not_stand_beside_what_a_file_tells(tmp_path):
    """The Well's files tell times and points; what a draft would have assumed without them is not said."""
    path = write_well_file(
        tmp_path / "flow.hdf5",
        dims={"x": np.arange(NX) / NX, "y": np.linspace(0, 1, NY)},
        times=np.arange(FRAMES) * 0.5,
        num_trajectories=COUNT,
        fields={"density": (0, waves().swapaxes(2, 3), "st")},
        boundaries={"x": "PERIODIC", "y": "WALL"},
    )
    found = inspect_data(path)
    assert "not told" not in found.mapping
    assert "x periodic: the file says so" in found.mapping
    assert mapping_in(found.mapping).time == "dimensions/time"
    axes = {report.name: report.axes for report in found.arrays}
    assert (axes["dimensions/x"], axes["dimensions/time"]) == (("x",), ("time",))


def test_remarks_of_a_guess_do_not_stand_beside_a_mapping_that_says_otherwise(file):
    mapping = mapping_in(inspect_data(file).mapping)
    other = mapping.model_copy(update={"boundary": {"x": "bounded", "y": "bounded"}})
    assert "x periodic" in inspect_data(file, mapping).mapping
    assert "x periodic" not in inspect_data(file, other).mapping
    assert inspect_data(file, mapping).boundary == inspect_data(file).boundary != ()
    assert inspect_data(file, other).boundary == ()


def test_what_to_do_next_repeats_the_mapping_that_was_given(file):
    found = inspect_data(file)
    assert found.advice == f"Make a store of it: scifm import {file} --out STORE"
    assert f"scifm import {file} --map FILE --out STORE" in inspect_data(file, mapping_in(found.mapping)).advice


def test_the_system_is_told_before_and_after_an_import(tmp_path):
    batch = Poisson().sample(6, Grid.square(16), generator_for(0, "inspected"))
    with h5py.File(tmp_path / "a.h5", "w") as held:
        held["fields"] = np.concatenate([batch.inputs[:, 0], batch.require_targets()[:, 0]], axis=1)
        held["tensor"] = batch.coefficients
    assert inspect_data(tmp_path / "a.h5").outcome.system == "poisson"
    import_data(tmp_path / "a.h5", tmp_path / "store")
    assert inspect_data(tmp_path / "store").outcome.system == "poisson"


def test_long_lists_of_a_mapping_are_broken_into_lines(tmp_path):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((4, 3, 16, 24)))
    text = inspect_data(tmp_path / "noise.npy").mapping
    assert len(tomllib.loads(text)["known_defects"]) > 2
    assert max(len(line) for line in text.splitlines() if not line.startswith("#")) <= 120


def test_what_is_advised_can_be_given_to_a_shell_as_it_stands(tmp_path):
    path = tmp_path / "a run's $HOME.npz"
    np.savez(path, **arrays())
    advised = inspect_data(path).advice
    assert shlex.split(advised)[-5:] == ["scifm", "import", str(path), "--out", "STORE"]
    import_data(path, tmp_path / "my store")
    assert shlex.split(inspect_data(tmp_path / "my store").advice)[-1] == str(tmp_path / "my store")
