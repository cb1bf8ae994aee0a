"""The reference paper's files, made from its own arrays: what they mean is checked by the equations."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import tiny
from scifm.data.formats.transfer import TransferFormat
from scifm.data.importing import import_data, open_data
from scifm.errors import DataError, StoreError
from scifm.fields.grid import Grid

SMALL = Path(__file__).parents[2] / "systems" / "data" / "elliptic_64_small.npz"


def tables():
    """Return for each system the arrays that its published generator would have put into a file."""
    data = np.load(SMALL)
    fields = {
        name: np.stack([data[f"{prefix}_forcing"], data[f"{prefix}_solution"]], axis=1)
        for name, prefix in (("poisson", "poisson"), ("advection_diffusion", "advdiff"), ("helmholtz", "helmholtz"))
    }
    omega = data["helmholtz_omega"]
    columns = {
        "poisson": data["poisson_k11_k22_k12"],
        "advection_diffusion": np.concatenate([data["advdiff_k11_k22_k12"], data["advdiff_velocity"]], axis=1),
        "helmholtz": np.stack([np.full_like(omega, data["helmholtz_diffusion"]), omega], axis=1),
    }
    return {name: (fields[name], columns[name]) for name in fields}


def write(path, fields, tensor=None):
    with h5py.File(path, "w") as file:
        file.create_dataset("fields", data=fields, dtype="<f4")
        if tensor is not None:
            file.create_dataset("tensor", data=tensor, dtype="<f4")
    return path


def write_system(path, name, copies=6):
    fields, tensor = tables()[name]
    scale = np.linspace(1, 2, copies)
    repeated = np.concatenate([fields * factor for factor in scale])
    return write(path, repeated, np.concatenate([tensor] * copies))


@pytest.mark.parametrize("name", tiny.STEADY)
def test_imported_samples_solve_the_equation_they_are_said_to(name, tmp_path):
    system = tiny.STEADY[name]()
    store = import_data(write_system(tmp_path / "file.h5", name), tmp_path / "store")
    assert store.signature == system.signature
    assert store.grid == Grid.square(64)
    assert "f" in store.card.equation
    assert store.card.known_defects == []
    batch = store.split("train").load().to(dtype=torch.float64)
    residual = system.residual(batch)
    assert (residual.norm() / batch.inputs.norm()).item() < 2e-3  # what float32 leaves
    flipped = batch.with_targets(-batch.targets)
    assert (system.residual(flipped).norm() / batch.inputs.norm()).item() > 1
    assert store.card.equation.startswith(system.equation[:12])
    assert store.homogeneities == system.homogeneities
    assert store.card.source.mapping["system"] == name


@pytest.mark.parametrize("name", tiny.STEADY)
def test_every_number_lands_where_it_was(name, tmp_path):
    fields, tensor = tables()[name]
    store = open_data(write(tmp_path / "file.h5", np.concatenate([fields] * 3), np.concatenate([tensor] * 3)))
    batch = store.split("train").load()
    np.testing.assert_array_equal(batch.inputs[0, 0, 0], fields[0, 0].astype("f4"))
    np.testing.assert_array_equal(batch.targets[0, 0, 0], fields[0, 1].astype("f4"))
    np.testing.assert_array_equal(batch.coefficients[0], tensor[0].astype("f4"))


def test_the_last_axis_is_x(tmp_path):
    fields = np.arange(2 * 2 * 3 * 5, dtype=float).reshape(2, 2, 3, 5)
    store = open_data(tmp_path / "file.h5", flat_mapping(fields, tmp_path))
    batch = store.split("train").load()
    assert store.grid.num_points == (3, 5)
    assert batch.inputs[1, 0, 0, 2, 4] == fields[1, 0, 2, 4] == 44
    assert batch.targets[0, 0, 0, 1, 3] == fields[0, 1, 1, 3] == 23


def flat_mapping(fields, folder):
    form = TransferFormat()
    proposed = form.propose(form.read(write(folder / "file.h5", fields)))
    assert proposed.coefficients == {}
    return proposed.model_copy(update={"splits": {"train": 1.0}})


def test_files_named_for_splits_become_these(tmp_path):
    for part, copies in (("train", 4), ("val", 2), ("test", 3)):
        write_system(tmp_path / f"_{part}_k1_5_32k.h5", "poisson", copies)
    np.save(tmp_path / "train_k1_5_scales.npy", np.ones(7))
    store = open_data(tmp_path)
    assert store.splits == {"train": 4, "valid": 2, "test": 3}
    assert store.split("valid").load().num_samples == 2
    assert list(store.card.source.files) == [
        f"{tmp_path.name}/_{part}_k1_5_32k.h5" for part in ("test", "train", "val")
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, t: (f, t * 2), "does not solve"),
        (lambda f, t: (f * np.array([[[[1]], [[-1]]]]), t), "does not solve"),
        (lambda f, t: (f, np.tile(t, 3)), "no system known here has so many"),
    ],
)
def test_columns_are_not_named_where_the_equation_is_not_solved(change, reason, tmp_path):
    fields, tensor = change(*tables()["poisson"])
    store = open_data(write(tmp_path / "file.h5", np.repeat(fields, 3, 0), np.repeat(tensor, 3, 0)))
    assert store.signature.coefficients == tuple(f"coefficient_{i}" for i in range(tensor.shape[1]))
    assert (store.card.equation, store.homogeneities) == ("", ())
    assert any(reason in line for line in store.card.known_defects)


def test_swapped_axes_are_noticed(tmp_path):
    fields, tensor = tables()["poisson"]
    swapped = np.repeat(fields.swapaxes(2, 3), 3, 0)
    store = open_data(write(tmp_path / "file.h5", swapped, np.repeat(tensor, 3, 0)))
    assert store.signature.coefficients[0] == "coefficient_0"


def test_a_file_of_another_shape_is_not_ours(tmp_path):
    path = write(tmp_path / "file.h5", np.ones((4, 3, 8, 8)), np.ones((4, 3)))
    assert TransferFormat().sniff(path) is None
    with pytest.raises(StoreError, match="needs 'fields' of shape"):
        TransferFormat().read(path)


def test_an_empty_file_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no samples"):
        open_data(write(tmp_path / "file.h5", np.ones((0, 2, 8, 8)), np.ones((0, 3))))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="is or holds no HDF5"):
        TransferFormat().read(tmp_path / "empty")
