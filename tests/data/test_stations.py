"""Samples that are seen at stations alone: which, that they stay, who takes them, what is refused."""

from __future__ import annotations

import pytest
import torch

from scifm.config import build_config
from scifm.data.generate import generate
from scifm.data.sample_recipe import SampleRecipe
from scifm.data.store import Store
from scifm.data.tensor_samples import TensorSamples
from scifm.errors import ConfigError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.grid import Grid
from scifm.fields.stations import drawn_stations, places_of_stations
from scifm.fields.window import Window
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.systems.acoustic import Acoustic
from scifm.systems.media import RandomMedium
from scifm.training.pretrain import PretrainRecipe, pretrain

WAVES = Acoustic(num_frames=7, medium=RandomMedium(max_wave=4))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    counts = {"train": 4, "valid": 2, "test": 2}
    return generate(WAVES, num_samples=counts, path=tmp_path_factory.mktemp("stations") / "waves", grid=Grid((10, 12)))


def test_as_many_points_as_asked_for_are_seen_on_the_places_there_are():
    grid = Grid((6, 8))
    seen = drawn_stations(5, 2, grid, [0, 7, 7, 9])
    assert seen.flatten(1).sum(1).tolist() == [5] * 4
    assert not seen[:, 1::2].any()
    assert not seen[:, :, 1::2].any()
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[1], seen[3])
    assert places_of_stations(grid, 4).tolist() == [0, 4, 32, 36]
    everywhere = drawn_stations(48, 1, grid, range(2))
    assert everywhere.all()


def test_a_window_is_seen_at_its_own_stations_in_all_its_frames(store):
    window = Window(2, 3, stations=6, station_spacing=2)
    whole, split = store.split("train", Window(2, 3)), store.split("train", window)
    batch, plain = split.batch([1, 5, 1]), whole.batch([1, 5, 1])
    seen = batch.valid_inputs
    assert seen.flatten(3).sum(-1).unique().tolist() == [6]
    assert torch.equal(seen, seen[:, :1, :1].expand_as(seen))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(batch.inputs, torch.where(seen, plain.inputs, 0.0))
    assert torch.equal(batch.targets, plain.targets)
    assert batch.valid_targets is None
    assert torch.equal(split.batch(slice(5, 6)).valid_inputs[0], seen[1])
    assert window.record() == {"stride": 1, "history": 2, "horizon": 3, "stations": 6, "station_spacing": 2}
    assert Window.of(window.record()) == window


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stations": -1}, "0 for all of them"),
        ({"station_spacing": 2}, "say how many"),
        ({"stations": 3, "observed": True}, "Leave one of them out"),
        ({"stations": 121}, "121 stations do not fit on the grid of 10 × 12 points: 120 at most"),
        ({"stations": 31, "station_spacing": 2}, "of which one of 2 along each axis has a place for one: 30 at most"),
    ],
)
def test_what_means_nothing_is_refused(store, settings, told):
    with pytest.raises(ConfigError, match=told):
        store.split("train", Window(2, 3, **settings))


def test_a_loader_without_masks_refuses_them(store):
    split = store.split("train", Window(1, 1, stations=6))
    assert TensorSamples(split)[0]["valid_inputs"].flatten(1).sum(1).unique().tolist() == [6]
    with pytest.raises(ConfigError, match="has no masks"):
        TensorSamples(split, form="xy")


def test_whoever_is_trained_on_stations_is_scored_on_them_and_marches_from_them(store, tmp_path):
    tree = {
        "name": "waves",
        "model": {
            "kind": "conv_recurrent",
            "network": {"width": 8, "halvings": 1, "stations": 2, "mask_channels": True},
        },
        "data": {"store": str(store.path), "history": 2, "horizon": 3, "stations": 6, "station_spacing": 2},
        "training": {"num_steps": 4, "batch_size": 2, "objective": "huber"},
    }
    run = pretrain(build_config(PretrainRecipe, tree, source="test"), out=tmp_path)
    model = load_operator(run.path)
    assert model.num_masks == len(store.signature.inputs)  # it is told where it sees
    place = find_model(run.path)
    assert SampleRecipe().origin_for(place).window == Window(2, 3, stations=6, station_spacing=2)
    everywhere = SampleRecipe(stations=0).origin_for(place).window
    assert everywhere == Window(2, 3)
    sparse = evaluate(run, store.split("test", SampleRecipe().origin_for(place).window), record=False)
    dense = evaluate(run, store.split("test", everywhere), record=False)
    assert not torch.equal(sparse.values["relative_l2"], dense.values["relative_l2"])
