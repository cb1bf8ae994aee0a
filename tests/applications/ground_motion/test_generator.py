"""The generator: its bound by hand, its training in seconds, what it makes, and an account of how true that is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from pages import read
from scifm.applications.ground_motion import (
    AssessRecipe,
    ImitateRecipe,
    RecordsRecipe,
    ShakeRecipe,
    StochasticMotion,
    assess,
    imitate,
    make_records,
    shake,
)
from scifm.applications.ground_motion.imitating import spectrograms_of
from scifm.applications.ground_motion.network import MotionConfig, MotionGenerator, divergence
from scifm.applications.ground_motion.shaking import load_generator
from scifm.applications.ground_motion.spectrograms import Frames
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.errors import ConfigError, OutsideWarning, RunError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.seeds import generator_for
from scifm.report.page import page
from scifm.runs import Run
from scifm.systems.poisson import Poisson

MOTION = StochasticMotion(num_samples=256, distance=(5.0, 20.0), onset=1.5)
SMALL = {
    "frames": {"window": 64, "hop": 16},
    "embedding": 4,
    "posterior_width": 8,
    "latent": 2,
    "state": 8,
    "width": 16,
}
QUICK = {"num_steps": 12, "batch_size": 8, "validate_every": 6, "checkpoint_every": 4, "log_every": 4}


def recipe(store, **more) -> ImitateRecipe:
    tree = {"store": str(store), "network": SMALL, "training": {"learning_rate": 5e-3, **QUICK}, **more}
    return build_config(ImitateRecipe, tree, source="test")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_records(RecordsRecipe(num_events=16, motion=MOTION), tmp_path_factory.mktemp("motion") / "records")


@pytest.fixture(scope="module")
def run(store) -> Run:
    return imitate(recipe(store.path), out=store.path.parent / "runs")


# --- stores -----------------------------------------------------------------------------------------------------------


def test_a_split_holds_whole_events(store):
    assert store.splits == {"train": 64, "valid": 8, "test": 8}
    batch = store.split("train").load()
    events, counts = batch.coefficient("event").unique(return_counts=True)
    assert events.tolist() == list(range(16))
    assert counts.tolist() == [4] * 16
    assert torch.equal(
        batch.coefficient("magnitude").view(16, 4), batch.coefficient("magnitude")[::4, None].expand(16, 4)
    )
    again = make_records(RecordsRecipe(num_events=16, motion=MOTION), store.path)
    assert again.content == store.content


# --- the bound --------------------------------------------------------------------------------------------------------


def small(**settings) -> MotionGenerator:
    config = MotionConfig(**{**SMALL, "frames": Frames(**SMALL["frames"]), "num_samples": 256, **settings})
    torch.manual_seed(0)
    return MotionGenerator(Signature(("log_amplitude",), ("magnitude", "distance"), ("level",), 2), config).double()


def spectrogram(generator: MotionGenerator, count: int = 3, seed: int = 0) -> Batch:
    grid = generator.config.grid
    drawn = torch.randn(count, 1, 1, *grid.num_points, generator=generator_for(seed, "levels"), dtype=torch.float64)
    told = torch.randn(count, 2, generator=generator_for(seed, "conditions"), dtype=torch.float64)
    return Batch(generator.signature, grid, drawn, told)


def test_the_divergence_is_that_of_normal_laws():
    drawn = torch.randn(4, 5, generator=generator_for(0, "laws"), dtype=torch.float64)
    first, second = (torch.distributions.Normal(drawn[k], (0.5 * drawn[k + 1]).exp()) for k in (0, 2))
    ours = divergence(drawn[0], drawn[1], drawn[2], drawn[3])
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(first, second))


def test_every_weight_counts_and_an_answer_is_no_draw():
    generator = small()
    batch = spectrogram(generator)
    parts = generator.bound(batch, generator_for(0, "bound"))
    (parts.misfit + parts.divergence).sum().backward()
    assert [name for name, own in generator.named_parameters() if own.grad is None or not bool(own.grad.any())] == []
    assert torch.equal(generator.predict(batch).require_targets(), generator.predict(batch).require_targets())


def test_z_is_drawn_with_the_deviation_that_its_divergence_takes():
    generator = small()
    with torch.no_grad():
        for own in generator.posterior.parameters():
            own.zero_()
        generator.posterior[-1].bias[2:] = -3.0  # ln variance
    seen = {}
    states = generator.states

    def watched(latent, conditions):
        seen["latent"] = latent
        return states(latent, conditions)

    generator.states = watched
    generator.bound(spectrogram(generator, count=400), generator_for(0, "bound"))
    assert abs(float(seen["latent"].detach().std()) / math.exp(-1.5) - 1) < 0.02


def test_the_prior_is_conditioned_on_what_the_posterior_drew():
    laws = {}
    for prior in ("posterior", "own"):
        generator = small(prior=prior, static=0)
        found = []
        expected = generator.expected
        generator.expected = lambda states, told, f=found, e=expected: f.append(e(states, told)) or f[-1]
        for seed in (0, 1):
            found.clear()
            batch = spectrogram(generator, seed=seed)
            batch = Batch(batch.signature, batch.grid, batch.inputs, torch.zeros_like(batch.coefficients))
            generator.bound(batch, generator_for(0, "bound"))
            laws[prior, seed] = torch.cat([law[0] for law in found], dim=1)
    assert not torch.equal(laws["posterior", 0], laws["posterior", 1])
    assert torch.equal(laws["own", 0], laws["own", 1]), "its own draws know nothing of the record"


def test_the_best_level_of_noise_is_its_root_mean_square():
    generator = small()
    amplitudes = generator.config.frames.amplitudes(
        2 * torch.randn(200, 256, generator=generator_for(0, "noise"), dtype=torch.float64)
    )[:, 4:-4, 4:-4]
    levels, power = amplitudes.log(), amplitudes.square().mean()
    misfits = []
    for off in (-0.2, 0.0, 0.2):
        u = 2 * (levels - 0.5 * power.log() - off)
        misfits.append(float((u.exp() - u - 1).mean()))
    assert misfits[1] == min(misfits)
    assert abs(misfits[1] - 0.5772) < 0.02


# --- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_and_its_numbers_are_those_of_the_training_records(run, store):
    events = run.metrics()
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert losses[-1] < 0.85 * losses[0]
    assert [event["step"] for event in events if event["event"] == "bound"] == [6, 12]
    generator = load_generator(run)
    records = store.split("train").load()
    normalization = generator.normalization
    assert math.isclose(
        normalization.coefficient_shift[1], float(records.coefficient("distance").double().log().mean())
    )
    told = generator.encoded_conditions(torch.tensor([[3.0, 10.0]]))
    assert math.isclose(
        float(told[0, 1]), (math.log(10) - normalization.coefficient_shift[1]) / normalization.coefficient_scale[1],
        rel_tol=1e-5,
    )  # fmt: skip
    batch = spectrograms_of(records, generator.config, ("magnitude", "distance"))
    left = batch.inputs[:, 0, 0] - generator._linear(generator.encoded_conditions(batch.coefficients))
    assert float((left.mean(dim=0) + 0.5 * 0.57722).abs().max()) < 1e-4


def test_a_stopped_training_goes_on_bit_for_bit(run, store, tmp_path):
    def stop(**event):
        if event["event"] == "step" and event["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imitate(recipe(store.path), out=tmp_path, observe=stop)
    again = imitate(recipe(store.path), out=tmp_path)
    assert again.path.name == run.path.name
    theirs = load_generator(run).state_dict()
    assert all(torch.equal(own, theirs[name]) for name, own in load_generator(again).state_dict().items())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"conditions": ["depth"]}, "'depth' is unknown"),
        ({"training": {"patience": 3}}, "would have no effect"),
        ({"network": {"rate": 20.0}}, "the store says it"),
    ],
)
def test_what_does_not_fit_is_refused(store, tmp_path, more, said):
    with pytest.raises(ConfigError, match=said):
        imitate(recipe(store.path, **more), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_store_of_something_else_is_refused(tmp_path):
    other = generate(Poisson(), num_samples=2, num_points=8, path=tmp_path / "poisson")
    with pytest.raises(SignatureError, match="holds no records"):
        imitate(recipe(other.path), out=tmp_path / "runs")


# --- asking -----------------------------------------------------------------------------------------------------------


def test_records_are_made_for_conditions(run, tmp_path):
    pytest.importorskip("librosa", reason="librosa is of the extra seismic")
    asked = ShakeRecipe(conditions={"magnitude": 3.0, "distance": 10.0}, num_records=3, iterations=2)
    made = np.load(shake(run, asked, out=tmp_path / "made.npz"))
    assert made["velocity"].shape == (3, 256)
    assert float(made["rate"]) == 50.0
    assert made["magnitude"].tolist() == [3.0] * 3
    again = np.load(shake(run, asked, out=tmp_path / "again.npz"))
    assert np.array_equal(made["velocity"], again["velocity"])
    other = np.load(shake(run, asked.model_copy(update={"seed": 1}), out=tmp_path / "other.npz"))
    assert not np.allclose(made["velocity"], other["velocity"])


def test_questions_that_make_no_sense_are_refused(run, tmp_path):
    asked = ShakeRecipe(conditions={"magnitude": 3.0, "distance": 10.0}, num_records=1, iterations=1)
    with pytest.raises(ConfigError, match="asked by magnitude, distance; given are magnitude"):
        shake(run, asked.model_copy(update={"conditions": {"magnitude": 3.0}}), out=tmp_path / "made.npz")
    with pytest.raises(ConfigError, match=r"written as .npz"):
        shake(run, asked, out=tmp_path / "made.txt")
    far = asked.model_copy(update={"conditions": {"magnitude": 7.0, "distance": 10.0}, "strict": True})
    with pytest.raises(SignatureError, match="magnitude is 7"):
        shake(run, far, out=tmp_path / "made.npz")
    pytest.importorskip("librosa", reason="librosa is of the extra seismic")
    with pytest.warns(OutsideWarning, match="What it makes there is a guess"):
        shake(run, far.model_copy(update={"strict": False}), out=tmp_path / "made.npz")


def test_an_account_says_how_true_they_are(run, tmp_path):
    pytest.importorskip("librosa", reason="librosa is of the extra seismic")
    asked = AssessRecipe(
        num_records=24, frequencies=(2.0, 15.0), num_frequencies=3, iterations=2, discriminator_steps=2
    )
    account = assess(run, asked, out=tmp_path / "account")
    names = [finding.name for finding in account.findings]
    assert names[:4] == ["median spectrum", "slope in magnitude", "slope in ln distance", "scatter"]
    kept = np.load(tmp_path / "account" / "account.npz")
    ratio = np.log10(kept["spectra made"] / kept["spectra true"]).mean(axis=0)
    assert math.isclose(account.findings[0].statistic, np.abs(ratio).max(), rel_tol=1e-9)
    sigma = []
    for kind in ("true", "made"):
        regressors = [np.ones(24), kept["condition magnitude"], np.log(kept["condition distance"])]
        left = np.linalg.lstsq(np.stack(regressors, 1), np.log(kept[f"spectra {kind}"]), rcond=None)[1]
        sigma.append(np.sqrt(left / 21))
    assert math.isclose(account.findings[3].statistic, np.abs(sigma[1] / sigma[0] - 1).max(), rel_tol=1e-6)
    assert assess(run, asked, out=tmp_path / "account").findings == account.findings
    with pytest.raises(RunError, match="Choose another folder"):
        assess(run, asked.model_copy(update={"seed": 1}), out=tmp_path / "account")
    shown = read(page(tmp_path / "account"))
    assert "Waveforms" in str(shown)


def test_the_verbs_work_one_after_the_other(scifm, run, store, tmp_path):
    pytest.importorskip("librosa", reason="librosa is of the extra seismic")
    settings = [f"motion.{name}={value}" for name, value in (("num_samples", 256), ("onset", 1.5))]
    sets = [word for text in (*settings, "motion.distance=[5.0, 20.0]") for word in ("--set", text)]
    said = scifm("records", "--num-events", 16, *sets, "--out", store.path, "--json")
    assert json.loads(said.out)["splits"] == store.splits, said.err
    said = scifm("imitate", store.path, "--set", "network.hold.x=1")
    assert said.status == 2
    said = scifm("shake", run.path, "--magnitude", 3, "--condition", "distance=9", "--num-records", 2, "--set",
                 "iterations=2", "--out", tmp_path / "made.npz")  # fmt: skip
    assert said.status == 0, said.err
    assert "magnitude 3" in said.out
    said = scifm("shake", run.path, "--condition", "distance", "--out", tmp_path / "made.npz")
    assert said.status == 2
    assert "not of the form NAME=VALUE" in said.err
    words = ("--set", "num_frequencies=2", "--set", "iterations=2", "--set", "discriminator_steps=0")
    said = scifm("assess", run.path, "--num-records", 16, *words, "--set", "frequencies=[2.0, 15.0]", "--out",
                 tmp_path / "account")  # fmt: skip
    assert said.status == 0, said.err
    assert "scifm report" in said.out
