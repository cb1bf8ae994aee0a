"""Bands: they hold as often as they promise, whatever the operator; what is unlike is told; damage is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import networks
import tiny
from scifm.data.stream import Epochs
from scifm.distillation.compress import compress
from scifm.errors import ConfigError, OutsideWarning, RunError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.bands import bands, calibrate
from scifm.models.calibration import CALIBRATION, Calibration, FeatureSpace
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.fno import FNO, FNOConfig
from scifm.models.module_operator import ModuleOperator
from scifm.models.registry import load_operator
from scifm.systems.burgers import Burgers
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import pretrain


def drawn(count: int, stream: int, **knobs):
    return Poisson().where(**knobs).sample(count, tiny.GRID, generator_for(0, "bands", stream))


def of_scores(*scores: float) -> Calibration:
    own = torch.tensor(scores, dtype=torch.float64).view(-1, 1, 1)
    return Calibration(own, own)


def test_the_width_is_the_order_statistic_that_the_promise_needs():
    known = of_scores(*range(1, 10))
    assert known.widths(0.9).item() == 9.0, "⌈10 · 0.9⌉ = 9"
    assert known.widths(0.5).item() == 5.0
    assert known.widths(0.05).item() == 1.0
    for level in range(1, 10):  # whatever a product of floats is rounded to
        assert of_scores(*range(1, 10)).widths(level / 10).item() == level
    with pytest.raises(ConfigError, match=r"level of 0\.95 needs at least 19 samples.*there were 9"):
        known.widths(0.95)
    for level in (0.0, 1.0, 90.0):
        with pytest.raises(ConfigError, match="probability between 0 and 1"):
            known.widths(level)


@pytest.mark.parametrize("share", [1.0, 0.9])
@pytest.mark.parametrize("kind", ["alone", "ensemble"])
def test_bands_hold_as_often_as_they_promise(kind, share):
    """By exchangeability, with an operator that was never trained."""
    torch.manual_seed(0)
    member = FNOConfig(**tiny.NETWORK)
    several = Ensemble(Poisson.signature, EnsembleConfig(member=member, num_members=2))
    operator = several if kind == "ensemble" else tiny.operator()
    held = 0
    for place in range(30):
        samples = drawn(29, place)
        calibrate(operator, samples.select(slice(0, 19)), share=share)
        rest = samples.select(slice(19, 29))
        around = bands(operator, rest, 0.8)
        inside = ((rest.targets >= around.low) & (rest.targets <= around.high)).flatten(1).double().mean(1)
        held += int((inside >= share).sum())
    assert held / 300 == pytest.approx(0.8, abs=0.08)


def test_of_a_kind_it_was_not_calibrated_on_it_says_so():
    operator = load_operator("scifm/poisson-nano")
    grid = Grid.square(64)
    near = Poisson().where(anisotropy=Knob(1, 5)).sample(96, grid, generator_for(0, "near"))
    far = Poisson().where(anisotropy=Knob(12, 20)).sample(16, grid, generator_for(0, "far"))
    calibrate(operator, near.select(slice(0, 80)))
    assert (bands(operator, near.select(slice(80, 96))).p_values > 0.02).float().mean() > 0.8
    beyond = bands(operator, far)
    assert (beyond.p_values < 0.03).all()
    assert ((far.targets < beyond.low) | (far.targets > beyond.high)).any()


def test_each_step_of_a_forecast_has_a_band_of_its_own():
    torch.manual_seed(0)
    burgers = Burgers(num_frames=5, save_interval=0.05)
    samples = burgers.sample(24, Grid.square(16, num_spatial_dims=1), generator_for(0, "march"))
    operator = FNO(burgers.signature, FNOConfig(**tiny.NETWORK))
    known = calibrate(operator, samples)
    assert known.scores.shape == (24, 4, 1)
    one = replace(samples, targets=samples.targets[:, :1], lead_time=samples.lead_time[:, :1])
    torch.testing.assert_close(bands(operator, one).high, bands(operator, samples).high[:, :1])
    calibrate(operator, one)
    with pytest.raises(SignatureError, match=r"calibrated for 1 steps ahead, and 4 are asked for.*horizon=4"):
        bands(operator, samples)


def test_it_lies_beside_the_weights_and_goes_with_others(tmp_path):
    operator, samples = tiny.operator(), drawn(24, 0)
    calibrate(operator, samples, about="some problems")
    operator.save_pretrained(tmp_path)
    again = load_operator(tmp_path)
    assert (again.calibration.samples, again.calibration.num_samples) == ("some problems", 24)
    for ends in ("low", "high", "distances"):
        torch.testing.assert_close(getattr(bands(again, samples), ends), getattr(bands(operator, samples), ends))
    operator.calibration = None
    operator.save_pretrained(tmp_path)
    assert not (tmp_path / CALIBRATION).exists(), "it was of other weights"
    with pytest.raises(ConfigError, match="was not calibrated"):
        bands(load_operator(tmp_path), samples)


def test_a_damaged_file_is_refused_with_a_sentence(tmp_path):
    operator = tiny.operator()
    calibrate(operator, drawn(24, 0))
    operator.save_pretrained(tmp_path)
    whole = (tmp_path / CALIBRATION).read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], whole.replace(b"share", b"scare", 1)):
        (tmp_path / CALIBRATION).write_bytes(content)
        with pytest.raises(RunError, match=r"cannot be read.*calibrate the model again"):
            load_operator(tmp_path)


def test_arrays_by_name_come_with_their_bands():
    operator = load_operator("scifm/poisson-nano")
    samples = Poisson().where(anisotropy=Knob(1, 5)).sample(24, Grid.square(64), generator_for(0, "arrays"))
    calibrate(operator, samples)
    asked = {"forcing": samples.inputs[0, 0, 0].numpy()}
    asked |= {name: float(samples.coefficient(name)[0]) for name in samples.signature.coefficients}
    found = operator.predict(asked, level=0.8)
    assert set(found) == {"solution", "solution_low", "solution_high"}
    assert (found["solution_low"] < found["solution"]).all()
    above, below = found["solution_high"] - found["solution"], found["solution"] - found["solution_low"]
    np.testing.assert_allclose(above, below, rtol=1e-3)


def test_arrays_that_are_unlike_the_calibration_are_warned_of():
    operator, samples = tiny.operator(), drawn(40, 0, anisotropy=Knob(1, 1.01))
    calibrate(operator, samples)
    asked = {"forcing": samples.inputs[0, 0, 0].numpy()}
    asked |= {name: float(samples.coefficient(name)[0]) for name in samples.signature.coefficients}
    with pytest.warns(OutsideWarning, match=r"1 of 1 sample \(0\) are unlike"):
        operator.predict({**asked, "diffusion_xx": 5.0}, level=0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        operator.predict(asked, level=0.8)


def test_what_cannot_be_calibrated_is_said():
    operator, samples = tiny.operator(), drawn(4, 0)
    with pytest.raises(ConfigError, match="above 0 and at most 1; got 0"):
        calibrate(operator, samples, share=0.0)
    with pytest.raises(SignatureError, match=r"several samples.*got 1"):
        calibrate(operator, samples.select(slice(0, 1)))
    with pytest.raises(SignatureError):
        calibrate(operator, samples.with_targets(None))
    plain = ModuleOperator.wrap(networks.ExactPoisson(gain=1.1), Poisson.signature)
    known = calibrate(plain, samples)  # it has no features, and bands all the same
    assert known.space is None
    assert bands(plain, samples, 0.5).p_values is None


def test_a_field_that_no_sample_has_gets_no_band_and_hinders_no_other():
    names = Signature(("f", "g"), (), ("u", "v"))
    draw = torch.Generator().manual_seed(0)
    fields = torch.randn(2, 12, 1, 2, 16, 16, generator=draw) * torch.tensor([1.0, 0.0]).view(2, 1, 1)
    present = torch.tensor([True, False, True, False]).expand(12, -1)
    samples = Batch(names, tiny.GRID, fields[0], torch.zeros(12, 0), fields[1], present=present)
    torch.manual_seed(0)
    operator = FNO(names, FNOConfig(**tiny.NETWORK))
    known = calibrate(operator, samples)
    assert known.widths(0.9)[0].isnan().tolist() == [False, True]
    around = bands(operator, samples)
    assert (around.low[:, :, 0] < around.high[:, :, 0]).all()
    assert around.low[:, :, 1].isnan().all()


def test_training_and_compression_take_it_away(tmp_path):
    run = pretrain(tiny.recipe(training={"num_steps": 2}), out=tmp_path)
    operator = load_operator(run)
    calibrate(operator, drawn(12, 0))
    operator.save_pretrained(run.path / "model")
    assert load_operator(run).calibration is not None
    compress(run, drawn(4, 2), tmp_path / "small", to="int8")
    assert load_operator(tmp_path / "small").calibration is None
    train(operator, Epochs(drawn(4, 3), batch_size=4, seed=0), config=TrainingConfig(**tiny.TRAINING))
    assert operator.calibration is None


def test_an_exact_answer_has_a_band_of_no_width():
    exact, samples = ModuleOperator.wrap(networks.ExactPoisson(), Poisson.signature), drawn(12, 0)
    calibrate(exact, samples)
    around = bands(exact, samples)
    assert (around.high - around.low).abs().max() < 1e-5 * samples.targets.abs().max()


def test_distances_are_mahalanobis():
    draw = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    features = torch.randn(5000, 2, generator=draw, dtype=torch.float64) @ mixing.T + 3
    far = FeatureSpace.of(features).distances(torch.tensor([[3.0, 3.0], [5.0, 4.0]]))
    assert far[0] < 0.05
    assert far[1].item() == pytest.approx(1.0, abs=0.05), "one standard deviation along the first axis"
    assert FeatureSpace.of(torch.ones(4, 2)).distances(torch.ones(1, 2)).item() == 0
