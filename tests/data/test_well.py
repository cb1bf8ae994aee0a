from __future__ import annotations

from typing import get_args

import h5py
import numpy as np
import pytest
import torch

from scifm.data.well import describe_folder, encode_file, read_provenance
from scifm.errors import DataError, SignatureError, StoreError
from scifm.fields.grid import Boundary, Grid


@pytest.fixture
def file(toy_store):
    with h5py.File(toy_store.path / "data/train/chunk-00000.hdf5") as handle:
        yield handle


def booleans(node, *names):
    return all(isinstance(node.attrs[name], np.bool_) for name in names)


def test_root_says_what_the_well_asks_for(file):
    assert file.attrs["dataset_name"] == "toy"
    assert file.attrs["grid_type"] == "cartesian"
    assert (file.attrs["n_spatial_dims"], file.attrs["n_trajectories"]) == (2, 4)
    assert list(file.attrs["simulation_parameters"]) == []


def test_dimensions_are_in_array_order(file):
    assert list(file["dimensions"].attrs["spatial_dims"]) == ["y", "x"]
    assert file["dimensions/time"].shape == (2,)
    assert file["dimensions/time"].attrs["time_varying"]
    np.testing.assert_allclose(file["dimensions/y"][:], np.arange(6) / 6, rtol=1e-6)
    np.testing.assert_allclose(file["dimensions/x"][:], np.arange(4) / 8, rtol=1e-6)
    assert all(booleans(file["dimensions"][d], "sample_varying", "time_varying") for d in ("time", "y", "x"))


def test_solution_is_the_second_of_two_frames_and_the_first_takes_no_room(file):
    solution, forcing = file["t0_fields/solution"], file["t0_fields/forcing"]
    assert list(file["t0_fields"].attrs["field_names"]) == ["forcing", "solution"]
    assert (solution.shape, solution.chunks) == ((4, 2, 6, 4), (1, 1, 6, 4))
    assert (forcing.shape, forcing.chunks) == ((4, 6, 4), (1, 6, 4))
    assert solution.dtype == forcing.dtype == np.float32
    assert not solution[:, 0].any()
    stiffness = file["scalars/stiffness"][:].reshape(4, 1, 1)
    np.testing.assert_allclose(stiffness * solution[:, 1], forcing[:], rtol=1e-6)
    assert solution.id.get_storage_size() == forcing.id.get_storage_size()
    assert solution.attrs["time_varying"]
    assert not forcing.attrs["time_varying"]
    for field in (solution, forcing):
        assert booleans(field, "sample_varying", "time_varying")
        assert field.attrs["dim_varying"].dtype == bool
        assert list(field.attrs["dim_varying"]) == [True, True]
    for order in ("t1_fields", "t2_fields"):
        assert list(file[order].attrs["field_names"]) == []


def test_coefficients_are_scalars_that_vary_by_sample(file):
    assert list(file["scalars"].attrs["field_names"]) == ["stiffness", "offset"]
    for name in ("stiffness", "offset"):
        scalar = file["scalars"][name]
        assert scalar.shape == (4,)
        assert scalar.attrs["sample_varying"]
        assert not scalar.attrs["time_varying"]


BOUNDARIES = {"periodic": "PERIODIC", "wall": "WALL", "open": "OPEN", "bounded": "OPEN"}


def test_every_kind_of_ends_has_a_word_in_the_schema():
    assert set(BOUNDARIES) == set(get_args(Boundary))


@pytest.mark.parametrize(("boundary", "kind"), BOUNDARIES.items())
def test_boundary_masks_are_true_at_both_ends(toy, tmp_path, boundary, kind):
    """The Well's reader looks at the ends only; an all-false mask silently means OPEN."""
    grid = Grid((6, 4), 1.0, ("periodic", boundary))
    batch = toy.System().sample(2, grid)
    path = tmp_path / "file.hdf5"
    path.write_bytes(encode_file(batch, name="toy", provenance={}))
    with h5py.File(path) as file:
        assert sorted(file["boundary_conditions"]) == sorted(["y_periodic", f"x_{kind.lower()}"])
        node = file[f"boundary_conditions/x_{kind.lower()}"]
        assert node.attrs["bc_type"] == kind
        assert list(node.attrs["associated_dims"]) == ["x"]
        assert booleans(node, "sample_varying", "time_varying")
        mask = node["mask"][:]
        assert mask.shape == (4,)
        assert mask[0]
        assert mask[-1]


@pytest.mark.parametrize(
    "grid",
    [Grid((5,), (2.0,), (True,)), Grid((3, 4, 5), (1.0, 2.0, 3.0), (True, True, True))],
    ids=["1d", "3d"],
)
def test_other_dimensions_come_back(toy, tmp_path, grid):
    class System(toy.System):
        signature = toy.System.signature.from_dict(
            {**toy.System.signature.to_dict(), "num_spatial_dims": grid.num_spatial_dims}
        )

    store = toy.make(tmp_path / "store", System(), grid=grid, num_samples={"train": 3})
    batch = store.split("train").load()
    assert batch.grid == grid
    stiffness = batch.coefficient("stiffness").view(-1, 1, *(1 for _ in grid.num_points))
    torch.testing.assert_close(stiffness * batch.field("solution"), batch.field("forcing"))


def test_same_batch_same_bytes(toy):
    batch = toy.System().sample(3, toy.grid, torch.Generator().manual_seed(1))
    images = {encode_file(batch, name="toy", provenance={"a": 1}) for _ in range(2)}
    assert len(images) == 1


def test_provenance_comes_back(toy, tmp_path):
    entries = {"seed": 3, "system": {"name": "Gauß", "knobs": {}}}
    path = tmp_path / "file.hdf5"
    path.write_bytes(encode_file(toy.System().sample(1, toy.grid), name="toy", provenance=entries))
    assert read_provenance(path) == entries


def test_foreign_hdf5_has_no_provenance(tmp_path):
    with h5py.File(tmp_path / "foreign.hdf5", "w") as file:
        file["numbers"] = [1, 2]
    with pytest.raises(StoreError, match="not made by SciFM"):
        read_provenance(tmp_path / "foreign.hdf5")


def test_only_finite_numbers_are_stored(toy):
    with pytest.raises(DataError, match=r"'solution' holds NaN or infinity in sample 2 of "):
        encode_file(toy.System(broken_sample=2).sample(3, toy.grid), name="toy", provenance={})


def test_trajectories_that_say_no_times_are_refused(toy):
    with pytest.raises(SignatureError, match="and no lead_time"):
        encode_file(toy.Evolving().sample(1, toy.grid), name="toy", provenance={})


def test_problems_without_solution_are_refused(toy):
    with pytest.raises(SignatureError, match="no targets"):
        encode_file(toy.System().sample(1, toy.grid).with_targets(None), name="toy", provenance={})


def test_description_names_every_channel(toy_store):
    entries = describe_folder("toy", toy_store.signature, toy_store.grid, [4, 3])
    assert entries["spatial_resolution"] == [6, 4]
    assert entries["field_names"][0] == ["solution"]
    assert entries["constant_field_names"][0] == ["forcing"]
    assert entries["constant_scalar_names"] == ["stiffness", "offset"]
    assert entries["boundary_condition_types"] == ["PERIODIC"]
    assert (entries["n_files"], entries["n_trajectories_per_file"]) == (2, [4, 3])
