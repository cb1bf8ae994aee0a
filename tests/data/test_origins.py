"""Where samples come from: one answer, with the samples of before, and a record that tells other data apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import evolving
import tiny
from scifm.config import read_toml
from scifm.data.generate import generate
from scifm.data.importing import import_data
from scifm.data.mixtures import MixtureOrigin
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.resolving import resolve_origin
from scifm.data.store import Store
from scifm.data.stream import Part
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.window import Window
from scifm.runs import Run
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import PretrainRecipe, pretrain, training_source

SYSTEM = {"name": "poisson", "knobs": {"anisotropy": [1, 5]}}
MIXTURE = [SYSTEM | {"weight": 2.0, "loss_weight": 0.5}, {"name": "helmholtz"}, {"name": "advection_diffusion"}]
DATA = {"num_points": 16, "num_validation_samples": 7, "num_normalization_samples": 9}
SHORT = {"num_validation_samples": 3, "num_normalization_samples": 9}


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Store]:
    root, counts = tmp_path_factory.mktemp("stores"), {"train": 12, "valid": 4, "test": 5}
    return {
        "steady": generate(Poisson(), num_samples=counts, num_points=16, path=root / "steady"),
        "evolving": evolving.store(root),
    }


def mark(batch: Batch) -> float:
    """Return a number that other samples, or the same in another order, do not have."""
    parts = (batch.inputs, batch.coefficients, batch.require_targets(), batch.loss_weights, batch.lead_time)
    flat = torch.cat([part.double().flatten() for part in parts if part is not None])
    return float((flat * torch.arange(1, len(flat) + 1).sqrt()).sum())


# measured when each of them was written by itself, before there were origins; hashes were compared then as well
PINNED = {
    "system": [120.660272, 168.768597, 69.0531883, 204.11717, 90.445664],
    "system, in blocks": [
        103.514615,
        163.162468,
        89.3370178,
        204.11717,
        90.445664,
    ],
    "system, finite": [
        142.957753,
        151.669907,
        147.017219,
        204.11717,
        90.445664,
    ],
    "store": [45.9886192, 151.718377, 133.989693, 121.646839, 48.0761567],
    "store of trajectories": [
        394.391193,
        382.734717,
        127.746826,
        665.286089,
        125.710751,
    ],
    "mixture": [-958.70711, 3929.45281, 1363.13349, 5052.88336, 1660.92707],
    "mixture, in blocks": [
        1594.9865,
        650.426513,
        1112.17387,
        5052.88336,
        1660.92707,
    ],
    "mixture, finite": [2240.41324, 815.655328, 120.174416, 5052.88336, 1660.92707],
    "of a system": [110.03971, 181.661174, 125.657808],
    "of a store, steady": [131.386816, 170.464735, 115.677729],
    "of a store, evolving": [464.474764, 2900.96406, 202.957861],
    "unseen": [100.529835],
    "pool": [198.124075],
}


def recipes(stores: dict[str, Store]) -> dict[str, PretrainRecipe]:
    trees = {
        "system": {"system": SYSTEM, "data": DATA},
        "system, in blocks": {"system": SYSTEM, "data": DATA | {"stream_blocks": 3}},
        "system, finite": {"system": SYSTEM, "data": DATA | {"num_samples": 10}},
        "store": {"data": SHORT | {"store": str(stores["steady"].path)}},
        "store of trajectories": {"data": SHORT | {"store": str(stores["evolving"].path), "stride": 2}},
        "mixture": {"mixture": MIXTURE, "data": DATA},
        "mixture, in blocks": {"mixture": MIXTURE, "data": DATA | {"stream_blocks": 2}},
        "mixture, finite": {"mixture": MIXTURE, "data": DATA | {"num_samples": 10}},
    }
    return {
        name: PretrainRecipe.read({"training": {"batch_size": 6}, "seed": 3, **tree}) for name, tree in trees.items()
    }


def marks_of(stores: dict[str, Store]) -> dict[str, list[float]]:
    found = {}
    for name, recipe in recipes(stores).items():
        source, origin = training_source(recipe), recipe.origin
        drawn = [source.batch(0), source.batch(5), source.batch(1, Part(1, 2))]
        drawn += [origin.fitting(9, 3), origin.validation(recipe.data.num_validation_samples, 3)]
        found[name] = [mark(batch) for batch in drawn]
    drawn = SystemOrigin(SystemConfig(**SYSTEM), tiny.GRID)
    others = {
        "of a system": drawn,
        **{f"of a store, {k}": StoreOrigin(s, Window(stride=1 + (k == "evolving"))) for k, s in stores.items()},
    }
    for name, origin in others.items():
        pool = origin.pool(9).samples.in_memory(1000)
        found[name] = [mark(origin.test(2, "t")), mark(pool), mark(origin.draw(4, "study", "shift", "a", 0))]
    unseen, _ = drawn.unseen(3, 1)
    return {**found, "unseen": [mark(unseen)], "pool": [mark(drawn.pool(12, 4).samples)]}


def test_the_same_seeds_give_the_samples_of_before(stores):
    found = marks_of(stores)
    assert found.keys() == PINNED.keys()
    for name, marks in PINNED.items():
        assert found[name] == pytest.approx(marks, rel=1e-4), name


def mixed(stores, *entries: dict, **data) -> MixtureOrigin:
    return resolve_origin(DataConfig(**data), mixture=[MixtureConfig(**entry) for entry in entries])


def test_a_mixture_of_a_system_and_a_store(stores):
    stored = {"store": str(stores["steady"].path), "loss_weight": 2.0}
    origin = mixed(stores, SYSTEM, stored)
    assert (origin.grid, origin.name) == (stores["steady"].grid, "poisson+store:steady")
    stream = origin.stream(8, 0)
    known = {row[0, 0, 0, 0].item() for row in stores["steady"].split("train").load().inputs}
    seen: list[float] = []
    for step in range(3):
        batch = stream.batch(step)
        assert batch.loss_weights.tolist() == [1.0] * 4 + [2.0] * 4
        sums = [row[0, 0, 0, 0].item() for row in batch.inputs]
        assert not set(sums[:4]) & known
        assert set(sums[4:]) <= known
        seen += sums[4:]
        parts = Batch.concatenate([stream.batch(step, Part(number, 3)) for number in range(3)])
        assert sorted(sums) == sorted(row[0, 0, 0, 0].item() for row in parts.inputs)
    assert len(set(seen)) == 12, "a round shows every sample once"
    assert origin.fitting(6, 0).num_samples == origin.validation(6, 0).num_samples == 6
    assert mark(stream.batch(2)) == mark(mixed(stores, SYSTEM, stored).stream(8, 0).batch(2))


def test_shares_that_are_no_whole_numbers_pass_over_a_sample_now_and_then(stores):
    stored = {"store": str(stores["steady"].path), "weight": 0.4}
    stream, seen = mixed(stores, SYSTEM, stored, num_samples=None).stream(5, 1), set()
    for step in range(60):
        batch = stream.batch(step)
        own = stream.counts(step)[1]
        assert own in (1, 2)
        seen |= {row[0, 0, 0, 0].item() for row in batch.inputs[5 - own :]}
    assert len(seen) == 12


def test_a_mixture_of_stores_of_trajectories(stores):
    stored = {"store": str(stores["evolving"].path)}
    origin = mixed(stores, stored, stored, stride=2)
    stream = origin.stream(4, 0)
    assert stream.lead_times == origin.members[0].origin.split("train").lead_times
    assert stream.batch(0).lead_time.shape == (4, 1)


def test_sizes_of_stores_weigh_in_as_the_temperature_says(stores, tmp_path):
    """Of 12 and 3 samples: 4 to 1 by size, 2 to 1 at temperature 2, and the weights alone where nothing is said."""
    small = generate(Poisson(), num_samples={"train": 3, "valid": 1}, num_points=16, path=tmp_path / "small")
    entries = {"store": str(stores["steady"].path)}, {"store": str(small.path), "weight": 3.0}
    for temperature, share in ((None, 1 / 3), (1.0, 4 / 3), (2.0, 2 / 3)):
        first, second = mixed(stores, *entries, temperature=temperature).members
        assert first.weight / second.weight == pytest.approx(share)
    with pytest.raises(ConfigError, match="'poisson' is drawn and has no size"):
        mixed(stores, SYSTEM, entries[0], temperature=1.0)
    for tree in ({"system": SYSTEM}, {"mixture": [SYSTEM, SYSTEM]}):
        with pytest.raises(ConfigError, match=r"data\.temperature = 2\.0 would have no effect"):
            PretrainRecipe.read({**tree, "data": {"temperature": 2.0}}).check()


def test_mixtures_that_cannot_be(stores, tmp_path):
    steady, moving = ({"store": str(stores[name].path)} for name in ("steady", "evolving"))
    with pytest.raises(SignatureError, match="all steady or all evolving: cannot join"):
        mixed(stores, steady, moving)
    fine = generate(Poisson(), num_samples={"train": 4, "valid": 1}, num_points=20, path=tmp_path / "fine")
    with pytest.raises(SignatureError, match="live on one grid"):
        mixed(stores, steady, {"store": str(fine.path)}).stream(4, 0)
    with pytest.raises(ConfigError, match="holds 12 training samples, fewer than the 20"):
        mixed(stores, steady, SYSTEM).stream(40, 0)
    for entry in ({}, {**SYSTEM, **steady}, {**steady, "knobs": {"anisotropy": [1, 2]}}):
        with pytest.raises(ValueError, match=r"needs either the name|would have no effect"):
            MixtureConfig(**entry)
    with pytest.raises(ConfigError, match=r"data\.num_points = 20 would have no effect: a store has its own grid"):
        PretrainRecipe.read({"mixture": [SYSTEM, steady], "data": {"num_points": 20}}).check()


def test_a_mixture_with_a_store_trains_and_is_adapted_from(stores, tmp_path):
    tree = {**tiny.recipe(training={"num_steps": 2}), "mixture": [SYSTEM, {"store": str(stores["steady"].path)}]}
    del tree["system"], tree["data"]
    run = pretrain(tree, out=tmp_path)
    assert run.config["origin"]["members"][1]["content"] == stores["steady"].content
    settings = {"num_samples": 2, "learning_rates": [1e-3], "training": {**tiny.ADAPTING, "num_steps": 2}}
    tuned = finetune(run, Poisson(), out=tmp_path, **settings)
    assert tuned.config["origin"]["grid"] == stores["steady"].grid.to_dict()


def test_runs_say_their_kind_and_origin(stores, tmp_path):
    run = pretrain(tiny.recipe(training={"num_steps": 2}), out=tmp_path)
    store, settings = stores["steady"], {"num_samples": 2, "training": {**tiny.ADAPTING, "num_steps": 2}}
    settings |= {"learning_rates": [1e-3]}
    tuned = finetune(run, store, out=tmp_path, **settings)
    fresh = from_scratch(run, SystemOrigin.of(Poisson(), tiny.GRID), out=tmp_path, **settings)
    assert [r.kind for r in (run, tuned, fresh)] == ["pretrain", "finetune", "from_scratch"]
    records = [r.config["origin"] for r in (run, tuned, fresh)]
    assert [record["kind"] for record in records] == ["system", "store", "system"]
    assert records[1]["content"] == store.content
    assert (
        PretrainRecipe.read(run.path / "config.toml").to_dict().items() <= read_toml(run.path / "config.toml").items()
    )
    with pytest.raises(ConfigError, match="the record of a run of kind 'finetune'"):
        PretrainRecipe.read(tuned.path / "config.toml")


def test_other_data_at_the_same_place_are_another_run(tmp_path, monkeypatch):
    """They were once taken for the finished run on the data of before."""
    foreign = evolving.in_place(tmp_path / "foreign", seed=0)
    place = tmp_path / "store"
    first = pretrain(evolving.recipe(), store=import_data(foreign.path, place, evolving.MAPPING), out=tmp_path)
    assert pretrain(evolving.recipe(), store=Store.open(place), out=tmp_path).path == first.path
    other = evolving.in_place(tmp_path / "other", seed=1)
    place.rename(tmp_path / "old")
    second = pretrain(evolving.recipe(), store=import_data(other.path, place, evolving.MAPPING), out=tmp_path)
    assert second.path != first.path
    assert (second.path / "model" / "model.safetensors").read_bytes() != (
        first.path / "model" / "model.safetensors"
    ).read_bytes()


def test_a_foreign_file_that_did_not_change_keeps_its_run(tmp_path):
    path = evolving.in_place(tmp_path / "foreign").path
    first = pretrain(evolving.recipe(), store=evolving.in_place(tmp_path / "foreign"), out=tmp_path)
    path.touch()
    stamp = (first.path / "metrics.jsonl").stat().st_mtime_ns
    again = pretrain(PretrainRecipe.read(first.config), out=tmp_path)
    assert again.path == first.path
    assert (again.path / "metrics.jsonl").stat().st_mtime_ns == stamp, "nothing was trained again"


def test_a_study_folder_of_before_is_gone_on_with_and_of_other_samples_refused(tmp_path):
    recipe = {"title": "x", "sources": ["a"]}
    Run.claim(tmp_path / "before", recipe)
    now = {"kind": "study", **recipe, "origin": {"contents": {"s": "1"}}}
    assert Run.claim(tmp_path / "before", now).kind == "study"
    Run.claim(tmp_path / "new", now)
    with pytest.raises(RunError, match="a study of samples that were others then"):
        Run.claim(tmp_path / "new", {**now, "origin": {"contents": {"s": "2"}}})
    with pytest.raises(RunError, match="a study with another recipe"):
        Run.claim(tmp_path / "before", {**now, "title": "y"})


def test_batches_and_splits_are_samples_alike(stores):
    split = stores["evolving"].split("train", stride=2)
    batch = split.load()
    for samples in (split, batch):
        assert isinstance(samples, Samples)
        assert mark(samples.batch([2, 0])) == mark(split.batch([2, 0]))
        assert samples.lead_times == pytest.approx(split.lead_times)
        assert mark(Batch.concatenate(samples.pieces(5))) == mark(batch)
    assert (split.num_problems, batch.num_problems) == (8, 24)
    assert mark(split.problems([1])) == mark(batch.batch(slice(3, 6)))
    assert (batch.in_memory(2).num_samples, split.in_memory(2).num_samples) == (24, 2)
    assert Path(split.describe()["store"]).name == "heat"
    assert "batch" in batch.describe()


@pytest.mark.parametrize("each", [1, 3])
def test_a_mixture_takes_as_many_windows_of_a_trajectory_as_it_is_told(each):
    """The setting had no effect in a mixture: every window came from a trajectory of its own."""
    data = DataConfig.model_validate({**DATA, "windows_per_trajectory": each})
    entries = [{"name": "burgers"}, {"name": "kdv"}]
    origin = resolve_origin(data, mixture=[MixtureConfig.model_validate(entry) for entry in entries])
    drawn = origin.stream(12, seed=0).batch(0)
    problems = {(name, *values) for name, values in zip(drawn.systems, drawn.coefficients.tolist(), strict=True)}
    assert len(problems) == 12 // each
