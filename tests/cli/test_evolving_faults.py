"""What is wrong with trajectories is told in a sentence, whichever verb meets it, and costs nothing that was there."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import tiny
from scifm.config import dump_toml
from scifm.data.generate import generate
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import pretrain

COUNTS = {"train": 4, "valid": 2, "test": 2}
FEW = ("--num-samples", 2, "--set", "learning_rates=[1e-3]", "--set", "training.num_steps=2")
MAPPING = """
format = "arrays"
time = "t"
extent = { x = 1.0 }
periodic = { x = true }
splits = { train = 0.5, valid = 0.25, test = 0.25 }
[fields.velocity]
array = "u"
axes = ["trajectory", "time", "x"]
role = "state"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return pretrain({**tiny.EVOLVING, "training": {**tiny.TRAINING, "num_steps": 2}}, out=tmp_path_factory.mktemp("r"))


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Path]:
    """Trajectories as they should be, short ones, long ones, and some on another grid."""
    root, made = tmp_path_factory.mktemp("stores"), {}
    for name, num_frames, num_points in (("good", 5, 16), ("short", 2, 16), ("long", 40, 16), ("finer", 5, 20)):
        system = Burgers(num_frames=num_frames)
        made[name] = generate(system, num_samples=COUNTS, num_points=num_points, path=root / name).path
    return made


def tell(folder: Path, **changes: Any) -> Path:
    """Write a recipe for stores, of which nothing is drawn."""
    tree = {key: value for key, value in tiny.EVOLVING.items() if key != "system"}
    data = {"history": 2, "horizon": 2, "num_normalization_samples": 8, **changes.pop("data", {})}
    (folder / "recipe.toml").write_text(dump_toml({**tree, "data": data, **changes}))
    return folder / "recipe.toml"


def foreign(folder: Path, *, times: np.ndarray | None = None, nan: tuple[int, ...] | None = None) -> tuple[Path, Path]:
    """Write eight trajectories of 40 frames as somebody else would, and how they are to be read."""
    u = np.random.default_rng(0).standard_normal((8, 40, 16)).astype("f4")
    if nan is not None:
        u[nan] = np.nan
    np.savez(folder / "foreign.npz", u=u, t=0.05 * np.arange(40) if times is None else times)
    (folder / "mapping.toml").write_text(MAPPING)
    return folder / "foreign.npz", folder / "mapping.toml"


def said_by(scifm: Any, *words: object) -> str:
    """Return the one sentence, or few, that a refused command says, in one line without a traceback."""
    said = scifm(*words)
    assert said.status == 2, (said.out, said.err)
    assert "Traceback" not in said.err + said.out
    (line,) = (line for line in said.err.splitlines() if line.startswith("scifm: "))
    return line


def test_a_lead_time_never_trained(scifm, run, stores, tmp_path):
    for words in (
        ("evaluate", run.path, "--store", stores["good"]),
        ("rollout", run.path, "--store", stores["good"]),
        ("rollout", run.path, "--system", "burgers"),
        ("finetune", run.path, "--store", stores["good"], *FEW, "--out", tmp_path),
    ):
        told = said_by(scifm, *words, "--set", "stride=2")
        assert "trained at a lead time of 0.05, and 0.1 is asked for. Choose frames as far" in told


def test_a_history_longer_than_a_trajectory(scifm, run, stores, tmp_path):
    told = "spans 3 frames, and a trajectory has 2. Lower one of them."
    for words in (("evaluate", run.path), ("rollout", run.path), ("finetune", run.path, *FEW, "--out", tmp_path)):
        assert told in said_by(scifm, *words, "--store", stores["short"])
    recipe = tell(tmp_path, data={"store": str(stores["good"]), "history": 5})
    assert "history 5, horizon 2, stride 1 spans 7 frames" in said_by(scifm, "pretrain", recipe, "--out", tmp_path)


def test_frames_unevenly_spaced(scifm, run, tmp_path):
    times = 0.05 * np.arange(40)
    times[20:] += 0.3
    file, mapping = foreign(tmp_path, times=times)
    store = tmp_path / "uneven"
    assert scifm("import", file, "--map", mapping, "--out", store).status == 0
    told = "unevenly spaced, 0.05 to 0.35 apart"
    recipe = tell(tmp_path, data={"store": str(store)}, model={"network": tiny.NETWORK, "normalization": "constant"})
    for words in (
        ("pretrain", recipe, "--out", tmp_path),
        ("evaluate", run.path, "--store", store),
        ("rollout", run.path, "--store", store),
    ):
        assert told in said_by(scifm, *words)


def test_nan_in_frame_37(scifm, run, stores, tmp_path):
    file, mapping = foreign(tmp_path, nan=(2, 37, 5))
    words = ("import", file, "--map", mapping, "--out", tmp_path / "made")
    assert "'velocity' holds NaN or infinity in sample 2, frame 37, of" in said_by(scifm, *words)
    bad = Path(shutil.copytree(stores["long"], tmp_path / "bad"))
    for name in (bad / "data").rglob("*.hdf5"):
        with h5py.File(name, "r+") as data:
            data["t0_fields"]["velocity"][1, 37, 3] = np.nan
    for words in (
        ("pretrain", tell(tmp_path, data={"store": str(bad)}), "--out", tmp_path),
        ("evaluate", run.path, "--store", bad),
        ("rollout", run.path, "--store", bad, "--steps", 38),
        ("finetune", run.path, "--store", bad, *FEW, "--out", tmp_path),
    ):
        assert "'velocity' holds NaN or infinity in sample 1, frame 37, of" in said_by(scifm, *words)


def test_mixed_grids_and_dimensions(scifm, stores, tmp_path):
    good = {"store": str(stores["good"])}
    recipe = tell(tmp_path, mixture=[good, {"store": str(stores["finer"])}])
    told = said_by(scifm, "pretrain", recipe, "--out", tmp_path)
    assert "live on one grid, here 16 points on a box of 1, periodic along x; those of" in told
    assert "'burgers' live on 20 points on a box of 1" in told
    recipe = tell(tmp_path, mixture=[good, {"name": "navier_stokes"}])
    assert "cannot join" in said_by(scifm, "pretrain", recipe, "--out", tmp_path)


def test_a_time_step_beyond_stability(scifm, tmp_path):
    words = ("generate", "fitzhugh_nagumo", "--num-samples", 2, "--num-points", 16, "--num-frames", 6)
    long = ("--set", "system.options.max_step=5", "--save-interval", 5, "--out", tmp_path / "s")
    told = said_by(scifm, *words, *long)
    assert "The solver of 'fitzhugh_nagumo' left every bound on 16 × 16 points: its step is too long" in told
    assert "inhibitor_diffusivity 0.005 to 0.015, threshold 0 to 0.1." in told
    assert "max_step" in told


@pytest.mark.parametrize("many", [10**12, 10**30])
def test_more_frames_than_there_is_room_for(scifm, run, stores, tmp_path, many):
    told = said_by(scifm, "rollout", run.path, "--system", "burgers", "--steps", many)
    assert "32 trajectories of 1,000,000,000" in told
    assert "Ask for fewer frames" in told
    out = tmp_path / "forecast.nc"
    assert "MB are needed" in said_by(
        scifm, "rollout", run.path, "--store", stores["good"], "--steps", many, "--out", out
    )
    assert not list(tmp_path.iterdir())


@contextmanager
def small_disk(num_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a full disk does, from the file's side."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("num_bytes", [0, 4096, 20_000])
def test_a_forecast_that_finds_no_room_leaves_what_was_there(scifm, run, stores, tmp_path, num_bytes):
    out = tmp_path / "forecast.nc"
    words = ("rollout", run.path, "--store", stores["good"], "--steps", 100, "--out", out)
    out.write_bytes(b"an earlier one")
    with small_disk(num_bytes):
        told = said_by(scifm, *words)
    assert "Cannot write the forecast" in told
    assert out.read_bytes() == b"an earlier one"
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    assert scifm(*words).status == 0
    assert out.stat().st_size > 20_000
