"""What HDF5 tells beside its arrays: labels, scales, attributes of groups, and MATLAB's order of axes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from scifm.data.formats.arrays import Arrays
from scifm.data.importing import open_data
from scifm.data.inspection import inspect_data

X, Y, T = np.arange(16) / 16 * 4 * np.pi, np.arange(12) / 12 * 2 * np.pi, np.arange(5) * 0.1
WAVE = np.sin(0.5 * (X[:, None] - T[:, None, None])) * np.cos(Y)


@pytest.mark.parametrize("labels", ["txy", ("", "", ""), ("time", "", "")])
def test_scales_tell_axes_lengths_and_times(tmp_path, labels):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        names = ("sim_time", "x", "y") if "x" not in labels else ("sim_time", "x_hash_ab12", "y_hash_ef34")
        for name, values in (*zip(names, (T, X, Y), strict=True), ("wall_time", T * 1000), ("timestep", T * 0 + 0.1)):
            file[f"scales/{name}"] = values
            file[f"scales/{name}"].make_scale(name)
        data = file.create_dataset("tasks/b", data=WAVE)
        for place, (label, name) in enumerate(zip(labels, names, strict=True)):
            data.dims[place].label = label
            data.dims[place].attach_scale(file[f"scales/{name}"])
        data.dims[0].attach_scale(file["scales/wall_time"])
        data.dims[0].attach_scale(file["scales/timestep"])
    store = open_data(tmp_path / "a.h5")
    assert (store.signature.outputs, store.signature.coefficients) == (("b",), ())
    np.testing.assert_allclose(store.grid.extent, (2 * np.pi, 4 * np.pi), rtol=1e-6)
    assert store.grid.num_points == (12, 16)
    np.testing.assert_allclose(store.card.times, T)


@pytest.mark.parametrize("many", [3, 300])
def test_of_many_remarks_that_are_alike_one_is_told(tmp_path, many):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(many):
            file[f"run_{number:03d}/u"] = np.full((4, 16), number)
            file[f"run_{number:03d}"].attrs["viscosity"] = f"0.{number + 1}"
    with closing(Arrays().read(tmp_path / "a.h5")) as contents:
        told = [remark for remark in contents.remarks if "'viscosity'" in remark]
    assert len(told) == (3 if many == 3 else 1)
    assert told[0].startswith("'viscosity' of 'run_000' is the text '0.1', no number; it is left out.")
    assert told[-1].endswith("as a coefficient." if many == 3 else "299 others are like it.")


def test_labels_without_points_leave_keys_to_fill_in(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("b", data=WAVE)
        for place, label in enumerate("txy"):
            data.dims[place].label = label
    assert "time = { start = 0.0, interval = 1.0 }" in inspect_data(tmp_path / "a.h5", read=False).mapping


@pytest.mark.parametrize("key", ["NAME", "DIMENSION_LIST", "DIMENSION_LABELS"])
def test_attributes_of_scales_need_not_have_the_form_they_should_have(tmp_path, key):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("b", data=WAVE)
        for place, (name, values) in enumerate((("t", T), ("y", X), ("x", Y))):
            file[name] = values
            file[name].make_scale(name)
            data.dims[place].label = name
            data.dims[place].attach_scale(file[name])
        damaged = file["x"] if key == "NAME" else data
        kind = h5py.vlen_dtype(h5py.ref_dtype) if key == "DIMENSION_LIST" else h5py.string_dtype()
        del damaged.attrs[key]
        entries = np.empty(9, object)
        entries[:] = [np.array([data.ref], h5py.ref_dtype)] * 9 if key == "DIMENSION_LIST" else ["long" * 50] * 9
        damaged.attrs.create(key, entries, dtype=kind)  # HDF5's own functions write nine where they made room for three
    store = open_data(tmp_path / "a.h5")
    assert store.grid.num_points == (16, 12)
    np.testing.assert_allclose(store.card.times, T)


def write_matlab(path: Path, **arrays: np.ndarray) -> None:
    """Write as MATLAB does: a block of its own in front, axes in reverse, no axis alone."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = np.atleast_2d(values).T
        file["note"] = np.frombuffer("words".encode("utf-16-le"), "u2")[:, None]
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/a"] = np.ones(3)
    with path.open("r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("name", ["ns.mat", "ns.h5", "ns"])
def test_matlab_is_told_in_its_own_order(tmp_path, name):
    speed = np.arange(1.0, 7)
    u = np.stack([np.sin(0.5 * (X - c * T[:, None])) for c in speed])
    write_matlab(tmp_path / name, u=u, t=T, x=X, speed=speed, nu=np.array([0.1]))
    contents = Arrays().read(tmp_path / name)
    assert {key: array.shape for key, array in contents.arrays.items()} == {
        "speed": (6,),
        "t": (5,),
        "u": (6, 5, 16),
        "x": (16,),
    }
    assert contents.attributes == {"nu": 0.1}
    np.testing.assert_array_equal(contents.arrays["u"][slice(1, 3), slice(0, 5), slice(2, 4)], u[1:3, :, 2:4])
    store = open_data(tmp_path / name)
    assert store.signature.coefficients == ("speed",)
    batch = store.split("test").batch([0])
    np.testing.assert_allclose(batch.inputs[0, 0, 0], u[int(batch.coefficients[0, 0]) - 1, 0], atol=1e-6)


def test_types_that_numpy_has_not_and_empty_attributes_harm_nothing_else(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"], file["t"], file["x"], file["y"] = WAVE, T, X, Y
        h5py.h5d.create(file.id, b"stamp", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((3,)))
        file["nothing"] = h5py.Empty("f4")
        file["u"].attrs.update({"units": h5py.Empty("S1"), "_FillValue": h5py.Empty("f4")})
    store = open_data(tmp_path / "a.h5")
    assert (store.signature.outputs, store.card.units) == (("u",), {})
    told = " ".join(store.card.known_defects)
    assert "'stamp' of 'a.h5' is of a type that NumPy has not" in told
    assert "'nothing' of 'a.h5' is empty" in told
