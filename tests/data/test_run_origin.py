"""Samples a run has not seen, of whatever it was trained on."""

from __future__ import annotations

import pytest
import torch

import evolving
import tiny
from scifm.config import build_config
from scifm.data.run_origin import RunOrigin
from scifm.data.sample_recipe import SampleRecipe
from scifm.data.split import StoreSplit
from scifm.errors import StoreError
from scifm.fields.grid import Grid
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune
from scifm.training.pretrain import pretrain


def unseen_samples(run, num_samples, seed=0):
    return RunOrigin.of(run).resolved().unseen(num_samples, seed)


SHORT = {"num_samples": 4, "learning_rates": (1e-3,), "training": {**tiny.ADAPTING, "num_steps": 1}}


def test_a_run_on_a_system_is_asked_about_other_samples_of_it(tmp_path):
    run = tiny.finished_run(tmp_path)
    batch, origin = unseen_samples(run, 6)
    assert (batch.num_samples, batch.grid) == (6, tiny.GRID)
    assert origin["system"]["name"] == "poisson"
    again, other = unseen_samples(run, 6)[0], unseen_samples(run, 6, seed=1)[0]
    assert torch.equal(again.inputs, batch.inputs)
    assert not torch.equal(other.inputs, batch.inputs)


def test_one_that_was_adapted_is_asked_about_the_shifted_system(tmp_path):
    tuned = finetune(tiny.finished_run(tmp_path), Poisson(anisotropy=(5, 10)), out=tmp_path, **SHORT)
    batch, origin = unseen_samples(tuned, 4)
    assert origin["system"]["knobs"]["anisotropy"]["low"] == 5
    load_operator(tuned).predict(batch)


def test_a_mixture_is_drawn_in_equal_parts(tmp_path):
    systems = [{"name": "poisson"}, {"name": "advection_diffusion"}]
    tree = {key: value for key, value in tiny.recipe(training={"num_steps": 1}).items() if key != "system"}
    run = pretrain({**tree, "mixture": systems}, out=tmp_path)
    batch, origin = unseen_samples(run, 5)
    assert sorted(batch.systems) == ["advection_diffusion"] * 3 + ["poisson"] * 3
    assert [entry["system"]["name"] for entry in origin["members"]] == ["poisson", "advection_diffusion"]
    load_operator(run).predict(batch)


def test_of_a_store_its_test_split_is_taken(tmp_path):
    store = evolving.store(tmp_path)
    run = pretrain(evolving.recipe(training={**tiny.TRAINING, "num_steps": 1}), store=store, out=tmp_path)
    split, origin = unseen_samples(run, 3)
    assert isinstance(split, StoreSplit)
    assert origin["split"] == "test"
    store.path.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        unseen_samples(run, 3)


def test_a_system_is_asked_about_on_the_grid_of_the_training_where_nothing_is_said(tmp_path):
    run = pretrain(tiny.recipe(training={"num_steps": 1}), out=tmp_path)
    place, trained = find_model(run), load_operator(run).domain.grid
    assert trained.num_points != (64, 64)
    poisson, burgers = {"system": {"name": "poisson"}}, {"system": {"name": "heat", "options": {"num_spatial_dims": 1}}}
    grids = [
        build_config(SampleRecipe, tree).origin_for(place).grid
        for tree in (poisson, {**poisson, "num_points": 20}, {**poisson, "extent": 2.0}, burgers)
    ]
    assert grids == [trained, Grid.square(20), Grid.square(64, extent=2.0), Grid.square(64, num_spatial_dims=1)]
