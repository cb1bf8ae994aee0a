"""PDEBench's layouts, made small and with a different length on every axis; every expectation is written by hand."""

from __future__ import annotations

import pickle
import resource
import time

import h5py
import numpy as np
import pytest

from hollow import sparse_array
from scifm.data.formats.pdebench import PDEBenchFormat
from scifm.data.importing import import_data, open_data
from scifm.errors import ConfigError, DataError, StoreError

NUM, FRAMES, X, Y, Z = 4, 3, 8, 10, 9
ALL = {"train": 1.0}


def numbered(*shape, start=0):
    """Return numbers that tell their place."""
    return np.arange(start, start + np.prod(shape), dtype="f4").reshape(shape)


def centers(num, length=1.0):
    return (np.arange(num) + 0.5) * length / num


def nodes(num, length=1.0):
    return np.linspace(0, length, num)


def write(path, arrays, **attributes):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        file.attrs.update(attributes)
    return path


def scalar(num=NUM, frames=FRAMES, x=X):
    return {
        "tensor": numbered(num, frames, x),
        "x-coordinate": centers(x, 2.0).astype("f4"),
        "t-coordinate": np.arange(frames + 1, dtype="f4") * 0.5,
    }


def flow(num_space):
    lengths = (X, Y, Z)[:num_space]
    arrays = {
        name: numbered(NUM, FRAMES, *lengths, start=10_000 * place)
        for place, name in enumerate(["density", "pressure", "Vx", "Vy", "Vz"][: 2 + num_space])
    }
    axes = {f"{axis}-coordinate": centers(n) for axis, n in zip("xyz", lengths, strict=False)}
    return arrays | axes | {"t-coordinate": np.arange(FRAMES + 1) * 0.1}


def proposed(path, **changes):
    form = PDEBenchFormat()
    return form.propose(form.read(path)).model_copy(update={"splits": ALL, **changes})


def opened(path, **changes):
    return open_data(path, proposed(path, **changes))


def same(first, second):
    one, two = first.load(), second.load()
    for name in ("inputs", "coefficients", "targets", "lead_time"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert (ours is None and theirs is None) or np.array_equal(ours, theirs)
    assert one.grid == two.grid
    assert one.signature == two.signature


def test_scalar_in_one_dimension(tmp_path):
    path = write(tmp_path / "1D_Advection_Sols_beta0.4.hdf5", scalar(), beta=0.4, note="words", broken=np.nan)
    store = opened(path, boundary={"x": "periodic"}, extent={"x": 2.0})
    assert store.signature.inputs == store.signature.outputs == ("solution",)
    assert store.signature.coefficients == ("beta",)
    assert store.card.times == (0.0, 0.5, 1.0)
    assert store.grid.num_points == (X,)
    assert PDEBenchFormat().read(path).coordinates == {"x": "x-coordinate", "time": "t-coordinate"}
    split = store.split("train")
    batch = split.load()
    assert batch.num_samples == NUM * (FRAMES - 1)
    # trajectory 2, frame 1 -> 2: window 2 * 2 + 1; the array counts (2 * 3 + 1) * 8 + 5 = 61 numbers before it
    assert batch.inputs[5, 0, 0, 5] == 61
    assert batch.targets[5, 0, 0, 5] == 61 + X
    assert batch.lead_time[5] == 0.5
    assert batch.coefficients[5, 0] == np.float32(0.4)
    same(import_data(path, tmp_path / "store", proposed(path)).split("train"), opened(path).split("train"))


def test_darcy_is_steady_and_bounded(tmp_path):
    arrays = {
        "nu": numbered(NUM, X, Y),
        "tensor": numbered(NUM, 1, X, Y, start=5000),
        "x-coordinate": centers(X),
        "y-coordinate": centers(Y, 3.0),
    }
    path = write(tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5", arrays, beta=1.0)
    store = opened(path)
    assert not store.signature.evolves
    assert (store.signature.inputs, store.signature.outputs) == (("diffusivity",), ("solution",))
    assert store.grid.num_points == (Y, X)
    assert store.grid.boundary == ("bounded", "bounded")
    assert store.grid.extent == pytest.approx((3.0 * 9 / 10, 7 / 8))
    assert any("centers of cells" in line for line in store.card.known_defects)
    batch = store.split("train").load()
    assert batch.inputs[3, 0, 0, 7, 2] == 3 * X * Y + 2 * Y + 7  # [sample, …, y, x] of nu[sample, x, y]
    assert batch.targets[3, 0, 0, 7, 2] == 5000 + 3 * X * Y + 2 * Y + 7
    same(import_data(path, tmp_path / "store", proposed(path)).split("train"), store.split("train"))


@pytest.mark.parametrize(("word", "boundary"), [("trans", "open"), ("reflect", "wall"), ("Rand_periodic", "periodic")])
def test_the_published_name_tells_the_ends(word, boundary, tmp_path):
    path = write(tmp_path / f"1D_CFD_Shock_{word}_Train.hdf5", flow(1), eta=0.1, zeta=0.2, M=1.0)
    assert opened(path).grid.boundary == (boundary,)


@pytest.mark.parametrize("num_space", [1, 2, 3])
def test_compressible_flow(num_space, tmp_path):
    path = write(tmp_path / f"{num_space}D_CFD_Rand_periodic_Train.hdf5", flow(num_space), eta=0.1, zeta=0.2, M=1.0)
    store = opened(path)
    names = ("density", "pressure", "velocity_x", "velocity_y", "velocity_z")[: 2 + num_space]
    assert store.signature.inputs == store.signature.outputs == names
    assert set(store.signature.coefficients) == {"eta", "zeta", "M"}
    assert store.grid.num_points == (Z, Y, X)[3 - num_space :]
    assert store.grid.periodic == (True,) * num_space
    assert store.grid.extent == pytest.approx((1.0,) * num_space)
    batch = store.split("train").load()
    lengths, point = (X, Y, Z)[:num_space], (5, 6, 7)[:num_space]  # x, y, z
    for channel in range(len(names)):
        flat = np.ravel_multi_index((2, 1, *point), (NUM, FRAMES, *lengths)) + 10_000 * channel
        assert batch.inputs[(5, 0, channel, *point[::-1])] == flat
        flat = np.ravel_multi_index((2, 2, *point), (NUM, FRAMES, *lengths)) + 10_000 * channel
        assert batch.targets[(5, 0, channel, *point[::-1])] == flat
    same(import_data(path, tmp_path / "store", proposed(path)).split("train"), store.split("train"))


def test_compressible_flow_without_a_component_is_refused(tmp_path):
    arrays = flow(2)
    del arrays["Vy"]
    with pytest.raises(ConfigError, match="lacks Vy"):
        open_data(write(tmp_path / "flow_periodic.hdf5", arrays))


def write_seeds(path, shape, axes, config="", num=NUM):
    with h5py.File(path, "w") as file:
        for seed in range(num):
            group = file.create_group(f"{seed:04d}")
            group["data"] = numbered(*shape, start=seed * 1_000_000)
            for axis, points in axes.items():
                group[f"grid/{axis}"] = points.astype("f4")
            group.attrs["config"] = config.format(seed=seed)
    return path


def test_groups_by_seed(tmp_path):
    axes = {"x": centers(X, 5.0) - 2.5, "y": centers(Y, 5.0) - 2.5, "t": np.arange(FRAMES) * 0.01}
    config = "sim:\n  dam_radius: 0.{seed}\n  gravity: 1.0\n  seed: {seed}\n  T_end: 1.0\n"
    path = write_seeds(tmp_path / "2D_rdb_NA_NA.h5", (FRAMES, X, Y, 1), axes, config)
    store = opened(path)
    assert store.signature.outputs == ("solution",)
    assert set(store.signature.coefficients) == {"dam_radius", "gravity"}
    assert store.grid.num_points == (Y, X)
    assert store.grid.boundary == ("bounded", "bounded")
    assert store.grid.extent == pytest.approx((4.5, 35 / 8), rel=1e-5)
    assert store.card.times == pytest.approx((0, 0.01, 0.02))
    batch = store.split("train").load()
    place = np.ravel_multi_index((1, 6, 9, 0), (FRAMES, X, Y, 1))
    assert batch.inputs[2 * 2 + 1, 0, 0, 9, 6] == 2_000_000 + place
    np.testing.assert_allclose(batch.coefficient("dam_radius")[::2], [0.0, 0.1, 0.2, 0.3])
    same(import_data(path, tmp_path / "store", proposed(path)).split("train"), store.split("train"))


def test_groups_of_one_dimension_with_two_channels(tmp_path):
    axes = {"x": centers(X), "t": np.arange(FRAMES)}
    store = opened(write_seeds(tmp_path / "a.h5", (FRAMES, X, 2), axes))
    assert store.signature.outputs == ("channel_0", "channel_1")
    batch = store.split("train").load()
    assert batch.targets[0, 0, 1, 4] == np.ravel_multi_index((1, 4, 1), (FRAMES, X, 2))


@pytest.mark.parametrize(
    ("shape", "config", "y_first"),
    [
        ((FRAMES, Y, X, 2), "", True),  # the coordinates decide
        ((FRAMES, X, Y, 2), "sim:\n  Du: 1E-3\n", False),
        ((FRAMES, X, X, 2), "sim:\n  Du: 1E-3\n", True),  # the generator of diffusion–reaction
        ((FRAMES, X, X, 2), "", False),
    ],
)
def test_which_axis_of_a_seed_is_x(shape, config, y_first, tmp_path):
    num_y = Y if Y in shape else X
    axes = {"x": centers(X), "y": centers(num_y), "t": np.arange(FRAMES)}
    store = opened(write_seeds(tmp_path / "a.h5", shape, axes, config))
    assert store.grid.num_points == (num_y, X)
    place = (0, 6, 7, 0) if y_first else (0, 7, 6, 0)
    assert store.split("train").load().inputs[0, 0, 0, 6, 7] == np.ravel_multi_index(place, shape)


def incompressible(num=2, start=0):
    return {
        "velocity": numbered(num, FRAMES, X, Y, 2, start=start),
        "particles": numbered(num, FRAMES, X, Y, 1, start=50_000 + start),
        "force": numbered(num, X, Y, 2, start=90_000 + start),
        "t": np.tile(np.arange(FRAMES) * 0.2, (num, 1)),
    }


@pytest.mark.parametrize(
    ("setting", "boundary"), [("PERIODIC", "periodic"), ("ZERO", "wall"), ("BOUNDARY", "open"), ("ONE", "bounded")]
)
def test_settings_of_a_solver_tell_the_ends(setting, boundary, tmp_path):
    config = f"NU: 0.01\nvelocity_extrapolation: {setting}\nDT: 0.1\n"
    path = write(tmp_path / "ns_incom_inhom_2d_512-0.h5", incompressible(), config=config, latestIndex=FRAMES - 1)
    assert opened(path).grid.boundary == (boundary, boundary)


def test_incompressible_flow_in_several_files(tmp_path):
    config = "NU: 0.01 #(kinematic viscosity)\nvelocity_extrapolation: ZERO\nDT: 0.1\n"
    for number in range(2):
        arrays = incompressible(start=number * 1000)
        write(tmp_path / f"ns_incom_inhom_2d_512-{number}.h5", arrays, config=config, latestIndex=FRAMES - 1)
    store = opened(tmp_path)
    assert store.signature.inputs == ("velocity_x", "velocity_y", "particles", "force_x", "force_y")
    assert store.signature.outputs == ("velocity_x", "velocity_y", "particles")
    assert store.signature.coefficients == ("NU",)
    assert store.grid.num_points == (Y, X)
    assert store.grid.boundary == ("wall", "wall")
    assert store.grid.extent == (Y - 1, X - 1)
    assert store.splits == {"train": 4}
    assert any("cell of its solver has length 1" in line for line in store.card.known_defects)
    batch = store.split("train").load()
    window = 3 * 2 + 1  # trajectory 3 is the second of the second file
    place = 1000 + np.ravel_multi_index((1, 1, 6, 9, 1), (2, FRAMES, X, Y, 2))
    assert batch.inputs[window, 0, 1, 9, 6] == place
    place = 90_000 + 1000 + np.ravel_multi_index((1, 6, 9, 0), (2, X, Y, 2))
    assert batch.inputs[window, 0, 3, 9, 6] == place
    assert batch.targets[window, 0, 2, 9, 6] == 51_000 + np.ravel_multi_index((1, 2, 6, 9, 0), (2, FRAMES, X, Y, 1))
    same(import_data(tmp_path, tmp_path.parent / "s", proposed(tmp_path)).split("train"), store.split("train"))


def test_constants_that_differ_between_files_are_told_by_trajectory(tmp_path):
    for number, beta in enumerate((0.1, 7.0)):
        write(tmp_path / f"beta{number}_Train.hdf5", scalar(num=2 + number), beta=beta, rho=3.0)
    batch = opened(tmp_path).split("train").load()
    np.testing.assert_allclose(batch.coefficient("beta")[::2], [0.1, 0.1, 7, 7, 7])
    np.testing.assert_allclose(batch.coefficient("rho"), 3.0)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path / "a.hdf5", scalar())
    other = scalar() | {"x-coordinate": centers(X, 3.0)}
    write(tmp_path / "b.hdf5", other)
    with pytest.raises(DataError, match="'x-coordinate' differs between"):
        open_data(tmp_path)
    write(tmp_path / "b.hdf5", flow(1))
    with pytest.raises(DataError, match="of its own"):
        open_data(tmp_path)
    write(tmp_path / "b.hdf5", scalar(x=X + 1))
    with pytest.raises(DataError, match="differs between"):
        open_data(tmp_path)


def test_a_test_file_beside_a_training_file_becomes_the_test_split(tmp_path):
    write(tmp_path / "flow_periodic_Train.hdf5", flow(1))
    write(tmp_path / "flow_periodic_Test.hdf5", flow(1))
    assert open_data(tmp_path).splits == {"train": NUM, "test": NUM}
    (tmp_path / "flow_periodic_Test.hdf5").unlink()
    assert open_data(tmp_path).splits == {"train": 2, "valid": 1, "test": 1}


def waves(points, periodic):
    """Return smooth samples that do or do not wrap around."""
    number = np.arange(1, NUM + 1)[:, None, None]
    phase = 2 * np.pi * points / (1.0 if periodic else 1.7) + 0.3 * number + 0.1 * np.arange(FRAMES)[:, None]
    return np.sin(phase)


@pytest.mark.parametrize("periodic", [True, False])
def test_the_box_follows_from_coordinates_and_samples(periodic, tmp_path):
    points = centers(64)
    arrays = {"tensor": waves(points, periodic), "x-coordinate": points, "t-coordinate": np.arange(FRAMES)}
    store = open_data(write(tmp_path / "a.hdf5", arrays))
    assert store.grid.periodic == (periodic,)
    assert store.grid.extent == pytest.approx((1.0 if periodic else 63 / 64,))
    told = " ".join(store.card.known_defects)
    assert "a guess from samples" in told
    assert ("centers of cells" in told) is not periodic


def test_a_last_point_that_repeats_the_first_is_left_out(tmp_path):
    points = nodes(65)
    arrays = {"tensor": waves(points, periodic=True), "x-coordinate": points, "t-coordinate": np.arange(FRAMES)}
    store = open_data(write(tmp_path / "a.hdf5", arrays))
    assert store.grid.num_points == (64,)
    assert store.grid.extent == pytest.approx((1.0,))


def test_edges_of_cells_tell_the_same_box_as_centers(tmp_path):
    arrays = {"tensor": waves(centers(64), periodic=True), "x-coordinate": nodes(65), "t-coordinate": np.arange(FRAMES)}
    store = open_data(write(tmp_path / "a.hdf5", arrays))
    assert (store.grid.num_points, store.grid.extent) == ((64,), pytest.approx((1.0,)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tensor": numbered(NUM, X, FRAMES)}, ConfigError, "'t-coordinate' has 4 entries and the time axis 8"),
        ({"tensor": numbered(X, FRAMES, NUM)}, ConfigError, "'x-coordinate' has 8 entries and the x axis 4"),
        ({"tensor": numbered(FRAMES, NUM + 2, X)}, ConfigError, "'t-coordinate' has 4 entries and the time axis 6"),
        ({"tensor": numbered(NUM, X)}, ConfigError, "3 axes are usual"),
        ({"tensor": np.empty((0, FRAMES, X))}, DataError, "is empty"),
        ({"x-coordinate": np.arange(X) ** 2.0}, ConfigError, "not equally spaced"),
        ({"x-coordinate": np.full(X, np.nan)}, ConfigError, "not equally spaced"),
        ({"x-coordinate": np.zeros((X, 2))}, ConfigError, "'x-coordinate' has 2 entries and the x axis 8"),
        ({"t-coordinate": np.array([0, 1, np.nan])}, DataError, "must be finite and increase"),
        ({"t-coordinate": np.array([0, 2, 1])}, DataError, "must be finite and increase"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(change, error, message, tmp_path):
    with pytest.raises(error, match=message) as told:
        open_data(write(tmp_path / "a.hdf5", scalar() | change))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("odd", [np.full((NUM, FRAMES, X), b"ab"), np.full((NUM, FRAMES, X), 1j), np.float32(1)])
def test_arrays_that_hold_no_real_numbers_are_not_ours(odd, tmp_path):
    path = write(tmp_path / "a.hdf5", scalar() | {"tensor": odd})
    assert PDEBenchFormat().sniff(path) is None
    with pytest.raises(StoreError, match="none of PDEBench's five layouts; it holds t-coordinate, tensor"):
        PDEBenchFormat().read(path)
    with pytest.raises(ConfigError, match="tells no times"):
        open_data(write(tmp_path / "b.hdf5", scalar() | {"t-coordinate": np.full(FRAMES, b"ab")}))


def test_missing_times_are_asked_for(tmp_path):
    arrays = scalar()
    del arrays["t-coordinate"]
    with pytest.raises(ConfigError, match="tells no times"):
        open_data(write(tmp_path / "a.hdf5", arrays))


def test_seeds_of_different_shapes_are_refused(tmp_path):
    path = write_seeds(tmp_path / "a.h5", (FRAMES, X, 1), {"x": centers(X), "t": np.arange(FRAMES)})
    with h5py.File(path, "a") as file:
        del file["0002/data"]
        file["0002/data"] = numbered(FRAMES, X + 1, 1)
    with pytest.raises(DataError, match="'0002/data' has shape"):
        open_data(path)


def test_seeds_with_different_times_are_refused(tmp_path):
    path = write_seeds(tmp_path / "a.h5", (FRAMES, X, 1), {"x": centers(X), "t": np.arange(FRAMES)})
    with h5py.File(path, "a") as file:
        file["0002/grid/t"][1] = 1.5
    with pytest.raises(DataError, match="differ between trajectories"):
        open_data(path)


def test_a_hundred_gigabytes_are_opened_at_once_and_read_in_pieces(tmp_path):
    shape = (25, 101, 1024, 2560)  # four times 26 GB of float32 that are there, and that the disk need not hold
    path = tmp_path / "2D_CFD_periodic_Train.hdf5"
    with h5py.File(path, "w") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            sparse_array(file, name, shape)
        file["x-coordinate"], file["y-coordinate"] = centers(1024), centers(2560)
        file["t-coordinate"] = np.arange(102) * 0.1
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    store = open_data(path)
    assert time.perf_counter() - start < 5
    assert store.num_samples == 25 * 100
    batch = store.split("train").batch([3])
    assert batch.targets.shape == (1, 1, 4, 2560, 1024)
    assert not batch.targets.any()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1024 * 1024  # KiB: one window of eight frames, never the trajectory's 4 GB


def test_an_open_file_travels_to_another_process(tmp_path):
    split = opened(write(tmp_path / "a.hdf5", scalar())).split("train")
    expected = split.load()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(split)).load().inputs, expected.inputs)
