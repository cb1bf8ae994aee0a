"""What others wrote in The Well's schema arrives as it was meant; expectations are worked out by hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from foreign_well import write_well_file
from scifm.data.formats.well_files import WellFormat
from scifm.data.importing import import_data, open_data
from scifm.errors import ConfigError, DataError, SignatureError, StoreError

X, Y = np.arange(3) * 0.5, np.linspace(-1, 1, 5)
TIMES = np.array([0.0, 0.25, 0.5, 0.75])
B, T, NX, NY = 2, 4, 3, 5


def numbers(*shape: int, first: int = 0) -> np.ndarray:
    """Return numbers that tell where they stand."""
    return (first + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


DENSITY, FORCE = numbers(B, T, NX, NY), numbers(NX, NY, first=500)
VELOCITY, STRESS = numbers(B, T, NX, NY, 2, first=1000), numbers(B, T, NX, NY, 2, 2, first=5000)
HEIGHT = numbers(B, NY, first=700)  # does not vary in x


def flow(path: Path, **changes) -> Path:
    """Write two trajectories of four frames on 3 × 5 points: walls in y, periodic in x, axes in the order x, y."""
    settings = {
        "dims": {"x": X, "y": Y},
        "times": TIMES,
        "num_trajectories": B,
        "fields": {
            "density": (0, DENSITY, "st"),
            "force": (0, FORCE, ""),
            "height": (0, HEIGHT, "sx"),
            "velocity": (1, VELOCITY, "st"),
            "stress": (2, STRESS, "st"),
        },
        "scalars": {
            "viscosity": (0.25, ""),
            "drag": (np.array([1.0, 2.0]), "s"),
            "heating": (np.arange(4.0), "t"),
            "pumping": (np.zeros((2, 4)), "st"),
        },
        "boundaries": {"x": "PERIODIC", "y": "WALL"},
    }
    return write_well_file(path, **{**settings, **changes})


@pytest.fixture
def file(tmp_path):
    return flow(tmp_path / "flow.hdf5")


ALL = {"splits": {"train": 1.0}}


def opened(path: Path):
    """Return the proposed store with every trajectory for training."""
    form = WellFormat()
    mapping = form.propose(form.read(path))
    return open_data(path, type(mapping).model_validate({**mapping.to_dict(), **ALL}))


def test_names_roles_and_coefficients(file):
    names = opened(file).signature
    states = ("density", "velocity_x", "velocity_y", "stress_xx", "stress_xy", "stress_yx", "stress_yy")
    assert names.outputs == states
    assert set(names.inputs) == {*states, "force", "height"}
    assert names.coefficients == ("viscosity", "drag")
    assert names.evolves


def test_axes_are_turned_into_the_houses_order_and_components_found(file):
    store = opened(file)
    batch = store.split("train").batch([1, 3])  # frame 1 of the first trajectory, frame 0 of the second
    for name, array in {
        "density": DENSITY,
        "velocity_x": VELOCITY[..., 0],
        "velocity_y": VELOCITY[..., 1],
        "stress_xy": STRESS[..., 0, 1],
        "stress_yx": STRESS[..., 1, 0],
    }.items():
        np.testing.assert_array_equal(batch.field(name)[:, 0], [array[0, 1].T, array[1, 0].T])
        np.testing.assert_array_equal(batch.target(name)[:, 0], [array[0, 2].T, array[1, 1].T])
    np.testing.assert_array_equal(batch.field("force")[:, 0], [FORCE.T, FORCE.T])
    np.testing.assert_array_equal(batch.field("height")[:, 0], [np.tile(h[:, None], (1, NX)) for h in HEIGHT])
    np.testing.assert_array_equal(batch.coefficients, [[0.25, 1.0], [0.25, 2.0]])
    np.testing.assert_array_equal(batch.lead_time, [[0.25], [0.25]])


def test_grid_and_times(file):
    store = opened(file)
    assert store.grid.num_points == (NY, NX)
    assert store.grid.boundary == ("wall", "periodic")
    assert store.grid.extent == pytest.approx((2.0, 1.5))
    assert store.card.times == tuple(TIMES)


def test_what_cannot_be_used_is_told(file):
    told = " ".join(opened(file).card.known_defects)
    assert "scalars/heating is left out: it changes in time" in told
    assert "scalars/pumping is left out" in told
    assert "boundaries" not in told


def test_a_copy_says_the_same(file, tmp_path):
    store = opened(file)
    copy = import_data(file, tmp_path / "copy", _mapping(file))
    ours, theirs = copy.split("train").load(), store.split("train").load()
    assert ours.signature == theirs.signature
    assert ours.grid == theirs.grid
    for one, other in ((ours.inputs, theirs.inputs), (ours.require_targets(), theirs.require_targets())):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)


def _mapping(path: Path):
    form = WellFormat()
    mapping = form.propose(form.read(path))
    return type(mapping).model_validate({**mapping.to_dict(), **ALL})


@pytest.fixture
def folder(tmp_path):
    """Two training files that differ in frames and constants, and one file in each other split."""
    flow(tmp_path / "set/data/train/a.hdf5")
    fields = {
        "density": (0, numbers(1, 6, NX, NY, first=50), "st"),
        "force": (0, FORCE + 1, ""),
        "height": (0, HEIGHT[:1] + 3, "sx"),
        "velocity": (1, numbers(1, 6, NX, NY, 2), "st"),
        "stress": (2, numbers(1, 6, NX, NY, 2, 2), "st"),
    }
    scalars = {"viscosity": (0.5, ""), "drag": (np.array([3.0]), "s")}
    more = {"fields": fields, "scalars": scalars, "num_trajectories": 1, "times": np.arange(6) * 0.25}
    flow(tmp_path / "set/data/train/b.h5", **more)
    flow(tmp_path / "set/data/valid/c.hdf5")
    flow(tmp_path / "set/data/test/d.hdf5")
    return tmp_path / "set"


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_data_set_keeps_its_splits_and_joins_files(folder, inner):
    store = open_data(folder / inner)
    assert store.splits == {"train": 3, "valid": 2, "test": 2}
    batch = store.split("train").load()
    assert len(batch) == 3 * 3
    np.testing.assert_array_equal(batch.field("density")[-3:, 0, 0, 0], [50, 65, 80])
    np.testing.assert_array_equal(batch.target("density")[-1, 0], numbers(1, 6, NX, NY, first=50)[0, 3].T)
    np.testing.assert_array_equal(batch.field("force")[[0, -1], 0], [FORCE.T, FORCE.T + 1])
    np.testing.assert_array_equal(batch.coefficients[[0, 3, -1]], [[0.25, 1], [0.25, 2], [0.5, 3]])
    assert any("first 4 of each are read" in told for told in store.card.known_defects)


def test_a_split_folder_and_a_file_are_dealt_out_by_shares(folder):
    assert open_data(folder / "data" / "train").splits == {"train": 1, "valid": 1, "test": 1}
    assert len(WellFormat().read(folder / "data/train/b.h5").files) == 1


def test_only_what_is_asked_for_is_read(file, monkeypatch):
    asked = []
    original = h5py.Dataset.__getitem__

    def counting(self, index, *rest):
        asked.append((self.name, index))
        return original(self, index, *rest)

    store = opened(file)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    store.split("train").batch([4])
    fields = [(name, index) for name, index in asked if "fields" in name]
    density = [index[:2] for name, index in fields if name == "/t0_fields/density"]
    assert density == [(slice(1, 2), slice(1, 2)), (slice(1, 2), slice(2, 3))]
    tensor = [index for name, index in fields if name == "/t2_fields/stress"]
    assert all(index[-1].stop - index[-1].start == index[-2].stop - index[-2].start == 1 for index in tensor)


def test_a_split_can_be_sent_to_another_process(file):
    split = opened(file).split("train")
    split.batch([0])
    again = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(again.batch([2]).inputs, split.batch([2]).inputs)


def test_symmetric_tensors_are_told_once_and_flat_ones_are_known(tmp_path):
    flat = STRESS.reshape(B, T, NX, NY, 4)
    fields = {"stress": (2, STRESS, "st"), "flat": (2, flat, "st")}
    store = opened(flow(tmp_path / "a.h5", fields=fields, symmetric=("stress",)))
    assert store.signature.outputs == (
        "stress_xx",
        "stress_xy",
        "stress_yy",
        *(f"flat_{c}" for c in ("xx", "xy", "yx", "yy")),
    )
    batch = store.split("train").batch([0])
    np.testing.assert_array_equal(batch.field("flat_yx")[0, 0], STRESS[0, 0, :, :, 1, 0].T)
    assert any("symmetric" in told for told in store.card.known_defects)


def test_other_axes_become_ours_in_array_order(tmp_path):
    values = numbers(1, 2, 3, 4, first=1)
    path = write_well_file(
        tmp_path / "polar.h5",
        dims={"theta": np.linspace(0, 1, 3), "phi": np.arange(4.0)},
        times=np.array([0.0, 1.0]),
        num_trajectories=1,
        fields={"h": (0, values, "st"), "v": (1, numbers(1, 2, 3, 4, 2, first=1), "st")},
        boundaries={"theta": "OPEN", "phi": "PERIODIC"},
        grid_type="spherical",
    )
    store = opened(path)
    assert store.signature.outputs == ("h", "v_theta", "v_phi")
    assert (store.grid.periodic, store.grid.extent) == ((False, True), (1.0, 4.0))
    np.testing.assert_array_equal(store.split("train").load().field("h")[0, 0], values[0, 0])
    told = " ".join(store.card.known_defects)
    assert "theta is y here, phi is x here" in told
    assert "spherical" in told


def test_three_axes_and_one(tmp_path):
    values = numbers(1, 2, 2, 3, 4, first=1)
    dims = {"x": np.arange(2.0), "y": np.arange(3.0), "z": np.arange(4.0)}
    path = write_well_file(
        tmp_path / "a.h5", dims=dims, times=np.arange(2.0), num_trajectories=1, fields={"u": (0, values, "st")}
    )
    store = opened(path)
    assert store.grid.num_points == (4, 3, 2)
    np.testing.assert_array_equal(store.split("train").load().field("u")[0, 0], values[0, 0].T)
    assert sum("Nothing is told about the boundaries" in told for told in store.card.known_defects) == 3
    path = write_well_file(
        tmp_path / "b.h5",
        dims={"r": np.arange(4.0)},
        times=np.tile(np.arange(3.0), (2, 1)),
        num_trajectories=2,
        fields={"u": (0, numbers(2, 3, 4), "st")},
    )
    assert opened(path).split("train").load().field("u").shape == (4, 1, 4)


@pytest.mark.parametrize("frames", [1, 2])
def test_steady_problems_have_one_frame_or_a_blank_one_before(tmp_path, frames):
    solution = np.zeros((B, frames, NX, NY), np.float32)
    solution[:, -1] = numbers(B, NX, NY, first=1)
    fields = {"source": (0, numbers(B, NX, NY), "s"), "u": (0, solution, "st")}
    store = opened(flow(tmp_path / "a.h5", fields=fields, times=np.arange(frames) * 1.0, scalars={}))
    assert not store.signature.evolves
    assert (store.signature.inputs, store.signature.outputs) == (("source",), ("u",))
    batch = store.split("train").load()
    np.testing.assert_array_equal(batch.target("u")[:, 0], solution[:, -1].transpose(0, 2, 1))
    assert any("steady" in told for told in store.card.known_defects) == (frames == 2)


def test_two_frames_of_something_that_moves_are_not_steady(tmp_path):
    fields = {"source": (0, numbers(B, NX, NY), "s"), "u": (0, numbers(B, 2, NX, NY), "st")}
    assert opened(flow(tmp_path / "a.h5", fields=fields, times=np.arange(2.0), scalars={})).signature.evolves


def test_parameters_told_only_as_attributes_are_coefficients(tmp_path):
    store = opened(flow(tmp_path / "a.h5", attributes={"gamma": 1.5, "scheme": "upwind"}))
    assert store.signature.coefficients == ("viscosity", "drag", "gamma")
    assert store.split("train").batch([0]).coefficients[0, 2] == 1.5
    assert any(told.startswith("scheme is left out") for told in store.card.known_defects)


def test_a_name_that_is_there_twice_is_told_apart(tmp_path):
    fields = {"v_x": (0, DENSITY, "st"), "v": (1, VELOCITY, "st")}
    store = opened(flow(tmp_path / "a.h5", fields=fields, scalars={"v_x": (2.0, "")}))
    assert store.signature.outputs == ("v_x", "t1_v_x", "v_y")
    assert store.signature.coefficients == ("v_x_scalar",)


def test_uneven_points_and_mixed_boundaries_are_told(tmp_path):
    dims, boundaries = {"x": X, "y": np.array([0, 1, 2, 3, 5.0])}, {"x": "OPEN"}
    store = opened(flow(tmp_path / "a.h5", dims=dims, boundaries=boundaries))
    assert store.grid.boundary[1] == "open"
    told = " ".join(store.card.known_defects)
    assert "axis y are not evenly spaced" in told


# --- what cannot be read


def test_sniffing_knows_its_own_and_no_other(file, folder, tmp_path):
    form = WellFormat()
    assert form.sniff(file)
    assert form.sniff(folder)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["u"] = np.zeros(3)
    (tmp_path / "text.h5").write_text("no")
    for path in (tmp_path / "other.h5", tmp_path / "text.h5", tmp_path / "nothing", tmp_path / "empty"):
        assert form.sniff(path) is None


def test_a_store_of_ours_is_not_imported(toy_store, toy_store_file, tmp_path):
    for path in (toy_store.path, toy_store_file):
        with pytest.raises(StoreError, match="needs no import"):
            import_data(path, tmp_path / "copy")


@pytest.fixture
def toy_store_file(toy_store):
    return toy_store.path / "data/train/chunk-00000.hdf5"


def test_a_truncated_file_is_named(folder):
    broken = folder / "data/train/b.h5"
    broken.write_bytes(broken.read_bytes()[:5000])
    with pytest.raises(StoreError, match=r"b\.h5.*truncated"):
        open_data(folder)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    values = DENSITY.copy()
    values[1, 2, 0, 0] = np.nan
    path = flow(tmp_path / "a.h5", fields={"density": (0, values, "st")})
    with pytest.raises(DataError, match=r"'density' holds NaN or infinity.*sample 1"):
        import_data(path, tmp_path / "copy", _mapping(path))


def damage(path: Path, how) -> Path:
    with h5py.File(path, "r+") as file:
        how(file)
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda f: f["t0_fields/density"].attrs.pop("time_varying"), "lacks the attribute 'time_varying'"),
        (lambda f: f["t0_fields"].pop("density"), "lists density and does not hold it"),
        (lambda f: f["t0_fields/density"].attrs.modify("sample_varying", False), "should be"),
        (lambda f: f["dimensions"].pop("x"), "cannot be read as HDF5 in The Well's schema"),
        (lambda f: f["scalars/heating"].attrs.modify("time_varying", False), "a number that does not change in time"),
        (lambda f: f["boundary_conditions/x_periodic"].attrs.modify("associated_dims", ["q"]), "'q'"),
    ],
)
def test_what_breaks_the_schema_is_named(file, how, message):
    with pytest.raises(StoreError, match=message):
        WellFormat().read(damage(file, how))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boundaries": {"x": "WALL", "y": "WALL"}}, "other boundaries"),
        ({"fields": {"density": (0, DENSITY, "st")}}, "other fields.*t0_fields/force"),
    ],
)
def test_files_that_do_not_go_together_are_refused(folder, changes, message):
    flow(folder / "data/train/e.h5", **changes)
    with pytest.raises(StoreError, match=rf"e\.h5.*{message}"):
        open_data(folder)


@pytest.mark.parametrize(
    ("split", "changes", "line"),
    [("train", {"dims": {"x": X * 2, "y": Y}}, "x"), ("test", {"times": TIMES * 2}, "time")],
)
def test_points_and_times_that_differ_are_refused(folder, split, changes, line):
    flow(folder / f"data/{split}/e.h5", **changes)
    with pytest.raises(DataError, match=rf"'dimensions/{line}' differs between .*e\.h5"):
        open_data(folder)


def test_times_that_differ_within_a_file_are_refused(tmp_path):
    with pytest.raises(DataError, match="differ between trajectories"):
        open_data(flow(tmp_path / "a.h5", times=np.stack([TIMES, TIMES * 2])))


def test_one_frame_does_not_go_with_many(folder):
    cut = {"density": (0, DENSITY[:, :1], "st"), "force": (0, FORCE, ""), "height": (0, HEIGHT, "sx")}
    cut |= {"velocity": (1, VELOCITY[:, :1], "st"), "stress": (2, STRESS[:, :1], "st")}
    scalars = {"viscosity": (0.25, ""), "drag": (np.ones(2), "s")}
    flow(folder / "data/test/e.h5", fields=cut, times=TIMES[:1], scalars=scalars)
    with pytest.raises(StoreError, match=r"e\.h5' holds one frame .* holds 6"):
        open_data(folder)


def test_an_axis_of_one_point_is_refused(tmp_path):
    dims, fields = {"x": X[:1], "y": Y}, {"density": (0, DENSITY[:, :, :1], "st")}
    with pytest.raises(SignatureError, match="at least 2 points"):
        open_data(flow(tmp_path / "a.h5", dims=dims, fields=fields))


def test_without_train_one_folder_has_to_be_chosen(folder):
    (folder / "data/train").rename(folder.parent / "elsewhere")
    with pytest.raises(DataError, match=r"No file of .* is for training"):
        open_data(folder)
    (folder.parent / "elsewhere").rename(folder / "elsewhere")
    with pytest.raises(DataError, match=r"elsewhere/\w+\.\w+' belongs to no split"):
        open_data(folder)


def test_a_folder_without_files_and_a_file_without_questions(tmp_path):
    with pytest.raises(StoreError, match="is or holds no HDF5"):
        WellFormat().read(tmp_path)
    path = flow(tmp_path / "a.h5", fields={"force": (0, FORCE, "")})
    with pytest.raises(ConfigError, match="Write a mapping with roles; there are force"):
        open_data(path)
