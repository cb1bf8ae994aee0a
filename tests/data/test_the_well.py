"""The Well's own package reads our stores: what `generate` and `import_data` write, as its reader sees it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from the_well.data import WellDataset
from the_well.data.datasets import WellMetadata
from the_well.data.normalization import RMSNormalization, ZScoreNormalization
from torch.utils.data import DataLoader

from foreign_well import write_well_file
from scifm.data.importing import import_data
from scifm.data.store import Store
from scifm.fields.grid import Grid
from well_rules import broken_rules

CODES = {"wall": 0.0, "open": 1.0, "periodic": 2.0}
POINTS, EXTENT = (3, 4, 5), (0.5, 1.0, 2.0)
SPLITS = ("train", "valid", "test")


def evolving_store(folder: Path, num_dims: int, periodic: tuple[bool, ...]) -> Store:
    """Import trajectories that others wrote: a state, a mask that does not change, one coefficient."""
    rng = np.random.default_rng(3)
    names = ("z", "y", "x")[-num_dims:]
    points = POINTS[-num_dims:]
    for split, count in zip(SPLITS, (3, 1, 2), strict=True):
        write_well_file(
            folder / f"source/data/{split}/a.h5",
            dims={name: np.linspace(0, 1, n) for name, n in zip(names, points, strict=True)},
            times=np.array([0.0, 0.5, 1.5, 2.0]),
            num_trajectories=count,
            fields={
                "u": (0, rng.normal(3, 2, (count, 4, *points)).astype(np.float32), "st"),
                "mask": (0, rng.random((count, *points)).astype(np.float32), "s"),
            },
            scalars={"speed": (rng.random(count), "s")},
            boundaries={n: "PERIODIC" if p else "WALL" for n, p in zip(names, periodic, strict=True)},
        )
    return import_data(folder / "source", folder / "imported")


CASES = [
    *((True, d, p) for d in (1, 2, 3) for p in ((True,) * d, (False,) * d)),
    *((False, d, p) for d in (1, 2, 3) for p in ((True,) * d, (False,) * d)),
    (True, 3, (True, False, True)),
    (False, 2, (False, True)),
]


@pytest.fixture(
    params=CASES, ids=lambda c: f"{'evolving' if c[0] else 'steady'}-{'p' * sum(c[2])}{'w' * (c[1] - sum(c[2]))}"
)
def store(request, toy, tmp_path):
    evolves, num_dims, periodic = request.param
    if evolves:
        return evolving_store(tmp_path, num_dims, periodic)
    boundary = ["periodic" if wraps else "open" for wraps in periodic]
    grid = Grid(POINTS[-num_dims:], EXTENT[-num_dims:], boundary)
    system = type("Toy", (toy.System,), {"signature": replace(toy.System.signature, num_spatial_dims=num_dims)})()
    return toy.make(tmp_path / "steady", system, grid=grid)


def reader(store: Store, split: str = "train", **changes) -> WellDataset:
    return WellDataset(path=str(store.path), well_split_name=split, **changes)


def test_every_file_keeps_the_rules(store):
    files = sorted(store.path.glob("data/*/*.hdf5"))
    assert len(files) >= 3
    assert [broken_rules(file) for file in files] == [[] for _ in files]


def test_every_number_arrives(store):
    for name in SPLITS:
        data, split = reader(store, name, normalize_time_grid=False), store.split(name)
        assert len(data) == split.num_samples
        names = store.signature
        constants = [n for n in names.inputs if n not in names.outputs]
        for item, batch in zip(data, split, strict=True):
            assert item["constant_fields"].shape == (*store.grid.num_points, len(constants))
            for place, field in enumerate(constants):
                torch.testing.assert_close(
                    item["constant_fields"][..., place], batch.field(field)[0, 0], rtol=0, atol=0
                )
            for place, field in enumerate(names.outputs):
                torch.testing.assert_close(
                    item["output_fields"][0, ..., place], batch.target(field)[0, 0], rtol=0, atol=0
                )
                before = batch.field(field)[0, 0] if names.evolves else torch.zeros(store.grid.num_points)
                assert torch.equal(item["input_fields"][0, ..., place], before)
            assert torch.equal(item["constant_scalars"], batch.coefficients[0])


def test_boundaries_points_and_times_arrive(store):
    item = reader(store, normalize_time_grid=False)[1]
    expected = [[CODES[ends]] * 2 for ends in store.grid.boundary]
    assert item["boundary_conditions"].tolist() == expected
    points = torch.stack(torch.meshgrid(*store.grid.coordinates(dtype=torch.float32), indexing="ij"), -1)
    torch.testing.assert_close(item["space_grid"], points)
    times = store.card.times or (0.0, 1.0)
    window = 1 if store.signature.evolves else 0
    assert (item["input_time_grid"].tolist(), item["output_time_grid"].tolist()) == (
        [times[window]],
        [times[window + 1]],
    )


def test_statistics_normalize_in_both_of_its_ways(store):
    train = store.split("train").load()
    for kind, place in product((ZScoreNormalization, RMSNormalization), (0, -1)):
        raw = reader(store)[place]
        data = reader(store, use_normalization=True, normalization_type=kind)[place]
        name = store.signature.outputs[0]
        values = train.field(name).double()
        if kind is ZScoreNormalization:
            expected = (raw["output_fields"] - values.mean()) / values.std(correction=0)
        else:
            expected = raw["output_fields"] / values.square().mean().sqrt()
        torch.testing.assert_close(data["output_fields"], expected.float(), rtol=1e-5, atol=1e-5)


def test_changes_have_the_statistics_its_delta_models_use(store):
    with (store.path / "stats.yaml").open() as handle:
        stats = yaml.safe_load(handle)
    name, train = store.signature.outputs[0], store.split("train").load()
    change = train.target(name) - (train.field(name) if store.signature.evolves else 0)
    normalization = ZScoreNormalization(stats, [name], [])
    expected = (change - change.mean()) / change.std(correction=0)
    torch.testing.assert_close(normalization.delta_normalize(change, name), expected, rtol=1e-4, atol=1e-5)


def test_the_description_of_the_folder_is_what_its_reader_finds(store):
    with (store.path / f"{store.name}.yaml").open() as handle:
        told = WellMetadata(**yaml.safe_load(handle))
    found = [reader(store, split).metadata for split in SPLITS]
    for name in ("dataset_name", "n_spatial_dims", "scalar_names", "constant_scalar_names", "field_names", "grid_type"):
        assert getattr(told, name) == getattr(found[0], name), name
    assert told.constant_field_names == found[0].constant_field_names
    assert tuple(told.spatial_resolution) == found[0].spatial_resolution
    assert set(told.boundary_condition_types) == set(found[0].boundary_condition_types)
    assert told.n_files == sum(meta.n_files for meta in found)
    assert sum(told.n_trajectories_per_file) == sum(sum(meta.n_trajectories_per_file) for meta in found)
    assert told.n_steps_per_trajectory == [step for meta in found for step in meta.n_steps_per_trajectory]
    assert told.sample_shapes["input_fields"] == found[0].sample_shapes["input_fields"]


def test_its_xarray_view_and_batches_of_its_loader_work(store):
    data = reader(store)
    assert data.to_xarray(backend="numpy").sizes["sample"] == store.splits["train"]
    batch = next(iter(DataLoader(data, batch_size=2)))
    assert batch["output_fields"].shape == (2, 1, *store.grid.num_points, len(store.signature.outputs))


def test_the_rules_notice_what_is_wrong(toy_store, tmp_path):
    source = toy_store.path / "data/train/chunk-00000.hdf5"
    changes = {
        "/dimensions/time: time_varying is a boolean": lambda f: f["dimensions/time"].attrs.pop("time_varying"),
        "/: dataset_name": lambda f: f.attrs.pop("dataset_name"),
        "/: holds": lambda f: f.pop("t2_fields"),
        "/t0_fields/solution: shape": lambda f: f.attrs.modify("n_trajectories", 5),
        "/boundary_conditions/x_periodic: names its dims": lambda f: f["boundary_conditions/x_periodic"].attrs.modify(
            "associated_dims", ["q"]
        ),
        "scalars/stiffness: 2 axes": lambda f: f["scalars/stiffness"].attrs.modify("time_varying", True),
    }
    for rule, change in changes.items():
        path = tmp_path / "broken.hdf5"
        path.write_bytes(source.read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        assert any(broken.startswith(rule) for broken in broken_rules(path)), rule
