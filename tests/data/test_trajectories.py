"""Trajectories that a system draws: into stores, into memory and into streams, cut into windows."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from scifm.data.generate import generate
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.split import windows_of
from scifm.data.store import Store
from scifm.data.stream import Part
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.systems.burgers import Burgers

NUM_FRAMES = 6
SYSTEM = Burgers(num_frames=NUM_FRAMES, save_interval=0.125)
GRID = Grid.square(16, num_spatial_dims=1)
COUNTS = {"train": 5, "valid": 1, "test": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return generate(SYSTEM, num_samples=COUNTS, num_points=16, path=tmp_path_factory.mktemp("made") / "burgers")


@pytest.fixture
def drawn():
    return SYSTEM.sample(3, GRID, generator_for(0, "drawn"), dtype=torch.float64)


def test_a_store_holds_what_the_system_draws(store):
    split = store.split("test", Window(horizon=NUM_FRAMES - 1))
    assert split.num_samples == 2
    drawn = SYSTEM.sample(2, GRID, generator_for(0, "store", "test", 0, device="cpu"))
    read = split.load()
    for part in ("inputs", "coefficients", "targets", "lead_time"):
        assert torch.equal(getattr(read, part), getattr(drawn, part)), part
    assert store.card.times == tuple(0.125 * frame for frame in range(NUM_FRAMES))
    assert store.homogeneities == SYSTEM.homogeneities
    assert SYSTEM.residual(read).abs().max() < 1e-6


def test_a_store_made_in_two_goes_has_the_same_bytes(store, tmp_path):
    again = generate(SYSTEM, num_samples=COUNTS, num_points=16, path=tmp_path / "burgers")
    (again.path / "card.json").unlink()
    (again.path / "data" / "train" / "chunk-00000.hdf5").unlink()
    again = generate(SYSTEM, num_samples=COUNTS, num_points=16, path=tmp_path / "burgers")
    assert {name: entry.sha256 for name, entry in again.card.files.items()} == {
        name: entry.sha256 for name, entry in store.card.files.items()
    }


@pytest.mark.parametrize("window", [Window(), Window(2, 1, 2), Window(1, 3, 1), Window(3, 2, 1)])
def test_windows_are_the_frames_they_say(drawn, window):
    frames = torch.cat([drawn.inputs, drawn.targets], dim=1)
    windows = windows_of(drawn, window)
    assert windows.windows_per_trajectory == NUM_FRAMES - window.span + 1
    assert windows.num_problems == 3
    for place in range(windows.num_samples):
        row, first = divmod(place, windows.windows_per_trajectory)
        sample = windows[place]
        assert torch.equal(sample.inputs[0], frames[row, [first + k for k in window.inputs]])
        assert torch.equal(sample.targets[0], frames[row, [first + k for k in window.targets()]])
        steps = 0.125 * window.stride * torch.arange(1, window.horizon + 1, dtype=torch.float64)
        torch.testing.assert_close(sample.lead_time[0], steps)


@pytest.mark.parametrize("window", [Window(leads=5), Window(2, 1, 1, 3), Window(1, 1, 2, 2)])
def test_all_pairs_of_frames_are_samples(drawn, window):
    frames = torch.cat([drawn.inputs, drawn.targets], dim=1)
    windows = windows_of(drawn, window)
    expected = [
        (row, first, lead)
        for row in range(3)
        for lead in range(1, window.leads + 1)
        for first in range(NUM_FRAMES - window.stride * (window.history - 1 + lead))
    ]
    assert windows.num_samples == len(expected)
    whole = windows.load()
    for place, (row, first, lead) in enumerate(expected):
        last = first + (window.history - 1) * window.stride
        assert torch.equal(whole.inputs[place, -1], frames[row, last])
        assert torch.equal(whole.targets[place, 0], frames[row, last + lead * window.stride])
        assert float(whole.lead_time[place, 0]) == pytest.approx(0.125 * window.stride * lead)
    shuffled = torch.randperm(len(expected)).tolist()
    assert torch.equal(windows.batch(shuffled).targets, whole.targets[shuffled])
    assert windows.lead_times == pytest.approx((0.125 * window.stride, 0.125 * window.stride * window.leads))


def test_windows_in_memory_and_on_disk_are_the_same(store):
    window = Window(2, 2)
    whole = store.split("train", Window(horizon=NUM_FRAMES - 1)).load()
    in_memory, on_disk = windows_of(whole, window), store.split("train", window)
    index = [3, 0, 11, 7, 7]
    for part in ("inputs", "coefficients", "targets", "lead_time"):
        assert torch.equal(getattr(in_memory.batch(index), part), getattr(on_disk.batch(index), part)), part
    assert on_disk.num_bytes == sum(
        getattr(on_disk.load(), part).nbytes for part in ("inputs", "coefficients", "targets")
    )


def test_trajectories_that_fit_are_read_once(store, monkeypatch):
    window = Window(2, 1)
    split, order = store.split("train", window), [7, 2, 11, 2, 0, 19]
    kept = split.kept()
    first, again = kept.batch(order), kept.batch(order)
    asked = []
    read = type(split.reader).read
    monkeypatch.setattr(type(split.reader), "read", lambda self, *given: (asked.append(given), read(self, *given))[1])
    third = kept.batch(order)
    assert not asked
    from_disk = split.batch(order)
    assert asked
    for part in ("inputs", "coefficients", "targets", "lead_time"):
        for batch in (first, again, third):
            assert torch.equal(getattr(batch, part), getattr(from_disk, part)), part
    for part in ("inputs", "targets"):
        assert torch.equal(getattr(kept.load(), part), getattr(split.load(), part))
    monkeypatch.setattr("scifm.data.split._IN_MEMORY_BYTES", 100)
    assert split.kept() is split


def test_frames_unevenly_spaced_take_no_history(drawn):
    lead_time = drawn.lead_time.clone()
    lead_time[:, -1] += 0.5
    uneven = type(drawn)(drawn.signature, drawn.grid, drawn.inputs, drawn.coefficients, drawn.targets, (), lead_time)
    assert windows_of(uneven, Window()).lead_times == pytest.approx((0.125, 0.625))
    for window in (Window(history=2), Window(horizon=2)):
        with pytest.raises(ConfigError, match=r"unevenly spaced, 0\.125 to 0\.625 apart"):
            windows_of(uneven, window)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"history": 0}, "history counts frames and is at least 1; got 0"),
        ({"history": 5, "horizon": 2}, "history 5, horizon 2, stride 1 spans 7 frames, and a trajectory has 6"),
        ({"leads": 6}, "stride 1, leads 6 spans 7 frames"),
        ({"horizon": 2, "leads": 2}, "give leads = 2 or horizon = 2, not both"),
    ],
)
def test_windows_that_do_not_fit_are_refused(drawn, window, message):
    with pytest.raises(ConfigError, match=message):
        windows_of(drawn, Window(**window))


def test_a_steady_batch_has_no_windows(drawn):
    silent = type(drawn)(drawn.signature, drawn.grid, drawn.inputs, drawn.coefficients, drawn.targets)
    with pytest.raises(SignatureError, match="does not say its lead_time"):
        windows_of(silent, Window())


def test_nan_is_found_with_its_frame(store, tmp_path):
    again = generate(SYSTEM, num_samples=COUNTS, num_points=16, path=tmp_path / "burgers")
    with h5py.File(again.path / "data" / "train" / "chunk-00000.hdf5", "r+") as file:
        file["t0_fields"]["velocity"][3, 4, 0] = np.nan
    with pytest.raises(DataError, match="'velocity' holds NaN or infinity in sample 3, frame 4, of"):
        Store.open(again.path).split("train").load()


def test_fresh_windows_are_of_several_trajectories():
    origin = SystemOrigin.of(SYSTEM, GRID, Window(2, 1))
    stream = origin.stream(6, 0)
    batch = stream.batch(3)
    assert batch.inputs.shape == (6, 2, 1, 16)
    assert len(set(batch.coefficients[:, 0].tolist())) == 2  # four windows of each
    assert len({row.numpy().tobytes() for row in batch.inputs}) == 6
    assert stream.lead_times == pytest.approx((0.125, 0.125))
    assert torch.equal(stream.batch(3).inputs, batch.inputs)
    assert not torch.equal(stream.batch(4).inputs, batch.inputs)
    halves = [stream.batch(3, Part(number, 2)).inputs for number in range(2)]
    assert torch.equal(torch.cat(halves), batch.inputs)


def test_downstream_problems_are_trajectories():
    pool = SystemOrigin.of(SYSTEM, GRID, Window(2, 1)).pool(4, 0)
    assert (pool.num_problems, pool.samples.num_samples) == (4, 4 * (NUM_FRAMES - 2))
    assert pool.window == Window(2, 1)
    chosen = pool.samples.problems([2])
    assert chosen.num_samples == NUM_FRAMES - 2
    assert len(set(chosen.batch(slice(None)).coefficients[:, 0].tolist())) == 1


def test_a_store_and_its_system_say_the_same_of_their_windows(store):
    window = Window(2, 3)
    stored, drawn = StoreOrigin(store, window), SystemOrigin.of(SYSTEM, GRID, window)
    for said in (stored.describe(), drawn.describe()):
        assert Window.of(said) == window
    assert stored.windows == drawn.windows == 2
    assert stored.lead_times == pytest.approx(drawn.lead_times)
    assert stored.framed(Window(1, 1, 2)).split("test").windows_per_trajectory == 4
