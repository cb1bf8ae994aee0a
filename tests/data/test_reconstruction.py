"""Origins of whole inputs: every frame of a store once, members of a mixture, scores that hide the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import evolving
import tiny
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import import_data, open_data
from scifm.data.mixtures import MixtureOrigin
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.reconstruction import reconstructing
from scifm.data.resolving import resolve_origin
from scifm.data.run_origin import RunOrigin
from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding
from scifm.fields.window import Window
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.wording import hidden_text

HALF = Hiding(0.5, blur=(0, 1))
INPUTS_ALONE = DataMapping.model_validate(
    {
        "format": "arrays",
        "fields": {
            name: {"array": name, "axes": ["trajectory", "y", "x"], "role": "input"} for name in ("medium", "source")
        },
        "coefficients": {"rate": "rate"},
        "extent": {"y": 1.0, "x": 1.0},
        "boundary": {"y": "periodic", "x": "wall"},
        "splits": {"train": 0.5, "valid": 0.25, "test": 0.25},
    }
)


def inputs_alone(folder, *, num_samples: int = 16):
    """Return a file of inputs without solutions."""
    random = np.random.default_rng(0)
    fields = {name: random.standard_normal((num_samples, 16, 16)).astype(np.float32) for name in ("medium", "source")}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "inputs.npz", **fields, rate=random.uniform(1, 2, num_samples))
    return folder / "inputs.npz"


@pytest.mark.parametrize("in_place", [False, True])
def test_every_frame_of_a_store_is_a_sample_once(tmp_path, in_place):
    store = evolving.in_place(tmp_path / "foreign") if in_place else evolving.store(tmp_path)
    origin = reconstructing(StoreOrigin(store), HALF)
    split = origin.split("train")
    assert (split.num_trajectories, split.windows_per_trajectory, split.num_samples) == (8, 5, 40)
    assert split.lead_times is None
    batch = split.load()
    pairs = store.split("train", Window(1, evolving.NUM_FRAMES - 1)).load()
    frames = torch.cat([pairs.inputs, pairs.require_targets()], dim=1).flatten(0, 1)
    assert torch.equal(batch.inputs[:, 0], frames)
    assert torch.equal(batch.require_targets()[:, 0], frames)
    assert torch.equal(batch.coefficients, pairs.coefficients.repeat_interleave(evolving.NUM_FRAMES, dim=0))
    assert (batch.signature.evolves, batch.signature.outputs) == (False, ("heat_whole",))
    some = [39, 0, 7, 7, 12]
    assert torch.equal(split.batch(some).inputs, batch.inputs[some])
    assert torch.equal(split.chosen([3, 1]).load().inputs[:5], batch.inputs[15:20])
    fitted = split.some(8)  # not all of one trajectory
    assert len(fitted.coefficients.unique()) >= 4
    assert origin.lead_times is None
    assert "stride" not in origin.describe()


def test_a_constant_input_of_what_evolves_is_in_every_frame(tmp_path):
    random = np.random.default_rng(0)
    u = random.standard_normal((6, 4, 8)).astype(np.float32)
    medium = random.standard_normal((6, 8)).astype(np.float32)
    np.savez(tmp_path / "both.npz", u=u, medium=medium)
    mapping = DataMapping.model_validate(
        {
            "format": "arrays",
            "fields": {
                "u": {"array": "u", "axes": ["trajectory", "time", "x"]},
                "medium": {"array": "medium", "axes": ["trajectory", "x"], "role": "input"},
            },
            "time": {"interval": 0.1},
            "extent": {"x": 1.0},
            "boundary": {"x": "wall"},
            "splits": {"train": 0.5, "valid": 0.25, "test": 0.25},
        }
    )
    store = open_data(tmp_path / "both.npz", mapping)
    batch = reconstructing(StoreOrigin(store), HALF).split("train").load()
    assert batch.signature.outputs == ("u_whole", "medium_whole")
    media = batch.target("medium_whole")[:, 0].unflatten(0, (-1, 4))
    assert all(torch.equal(media[:, 0], media[:, frame]) for frame in range(4))
    known = {tuple(row) for row in medium.tolist()}
    assert {tuple(row) for row in media[:, 0].tolist()} <= known
    states = {tuple(row) for row in u.reshape(-1, 8).tolist()}
    assert {tuple(row) for row in batch.target("u_whole")[:, 0].tolist()} <= states


def test_inputs_without_solutions_are_imported_and_opened(tmp_path):
    file = inputs_alone(tmp_path)
    for store in (import_data(file, tmp_path / "store", INPUTS_ALONE), open_data(file, INPUTS_ALONE)):
        assert store.signature.outputs == ()
        batch = reconstructing(StoreOrigin(store), HALF).fitting(8, 0)
        assert batch.signature.outputs == ("medium_whole", "source_whole")
        assert torch.equal(batch.require_targets(), batch.inputs)
        assert store.statistics.num_samples == 8


def test_scores_hide_the_same_points_every_time_and_say_so(tmp_path):
    for base in (StoreOrigin(evolving.store(tmp_path)), SystemOrigin.of(Poisson(), tiny.GRID)):
        origin = reconstructing(base, HALF)
        again = RunOrigin(origin.describe())
        assert again.hiding == HALF
        for other in (origin, again.resolved()):
            samples, about = other.unseen(6)
            batch = samples.batch(slice(0, 6))
            assert about["hiding"] == HALF.to_dict()
            assert batch.valid_targets.flatten(3).sum(-1).unique().tolist() == [128]
            assert torch.equal(batch.valid_inputs, ~batch.valid_targets)
        first = origin.unseen(6)[0].batch([4, 2])
        for name in ("inputs", "valid_targets"):
            assert torch.equal(getattr(first, name), getattr(batch, name)[[4, 2]])
        assert origin.validation(4, 0).valid_targets is not None
        assert origin.fitting(4, 0).valid_inputs is None  # sizes are those of whole fields
        assert origin.stream(4, 0).batch(0).valid_inputs is None  # the objective hides
    assert "50 % of the points hidden, blurred by 0 to 1 points" in again.told
    assert "without solutions" in again.told


def test_members_of_a_mixture_with_other_fields(tmp_path):
    data = DataConfig(num_points=16)
    entries = [MixtureConfig(name="poisson"), MixtureConfig(name="helmholtz", weight=2.0, loss_weight=3.0)]
    base = resolve_origin(data, mixture=entries)
    origin = reconstructing(base, HALF)
    assert isinstance(origin, MixtureOrigin)
    assert origin.signature.outputs == ("forcing_whole",)
    batch = origin.stream(6, 0).batch(0)
    assert sorted(set(batch.systems)) == ["helmholtz", "poisson"]
    assert sorted(batch.loss_weights.unique().tolist()) == [1.0, 3.0]
    assert torch.equal(batch.require_targets(), batch.inputs)
    assert origin.homogeneities[0].exponent("forcing_whole") == 1
    again = RunOrigin(origin.describe()).resolved()
    assert again.describe() == origin.describe()
    assert torch.equal(again.unseen(4)[0].inputs, origin.unseen(4)[0].inputs)
    entries = [MixtureConfig(name=name, options={"num_frames": 3}) for name in ("gray_scott", "fisher_kpp")]
    origin = reconstructing(resolve_origin(data, mixture=entries), Hiding(0.5))
    batch, names = origin.stream(8, 0).batch(0), origin.signature
    assert not names.evolves
    present = batch.has(names.outputs)
    assert sorted(present.sum(dim=1).unique().tolist()) == [1, 2]  # two species, and one density
    assert torch.equal(batch.has(names.inputs), present)
    assert (batch.require_targets()[:, 0][~present] == 0).all()
    assert all(scaling.fields for scaling in origin.homogeneities)


def test_a_mixture_of_stores(tmp_path):
    store = import_data(inputs_alone(tmp_path), tmp_path / "store", INPUTS_ALONE)
    entries = [MixtureConfig(store=str(store.path)), MixtureConfig(store=str(store.path), weight=2.0)]
    origin = reconstructing(resolve_origin(DataConfig(), mixture=entries), HALF)
    batch = origin.stream(6, 0).batch(3)
    whole = reconstructing(StoreOrigin(store), HALF).split("train").load().inputs
    assert batch.num_samples == 6
    assert all(any(torch.equal(own, known) for known in whole) for own in batch.inputs)


@pytest.mark.parametrize(
    ("hiding", "told"), [(Hiding(0.5, 5), "patch = 5 does not divide the 16"), (Hiding(0.001), "hides none")]
)
def test_what_cannot_be_hidden_on_the_grid(hiding, told):
    with pytest.raises(ConfigError, match=told):
        reconstructing(SystemOrigin.of(Poisson(), tiny.GRID), hiding)


def test_of_a_system_that_evolves_so_many_frames_a_trajectory():
    config = SystemConfig.of(Burgers(num_frames=4))
    origin = reconstructing(SystemOrigin(config, Grid((32,)), per_trajectory=2), HALF)
    batch = origin.stream(6, 0).batch(0)
    assert len(batch.coefficients.unique()) == 3
    assert origin.windows == 1
    assert origin.label == SystemOrigin(config, Grid((32,))).label
    assert origin.describe()["system"] == config.to_dict()


def test_hidden_text():
    assert hidden_text(0.0, 1, (0.5, 0.5)) == "blurred by 0.5 points"
