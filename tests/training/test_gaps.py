"""Training, scores and forecasts on fields with missing points: nothing that stands there counts, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import h5netcdf
import numpy as np
import pytest
import torch
import xarray

import tiny
from scifm.config import build_config
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import choose_mapping
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Epochs
from scifm.distillation.compress import measure_answers
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.evaluate import evaluate, persistence
from scifm.evaluation.forecast import judge
from scifm.evaluation.predict_file import predict_file
from scifm.evaluation.rollouts import forecast
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.export import export_operator
from scifm.models.fno import FNOConfig
from scifm.models.registry import load_operator
from scifm.models.rollout import rollout
from scifm.models.unet import UNetConfig
from scifm.objectives.supervised import RelativeL2
from scifm.training.finetune import finetune
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import build_operator, pretrain
from scifm.training.validation import sample_errors, validation_errors
from scifm.trust.examine import check_operator

GRID = Grid((12, 10), (1.0, 1.0), (False, True))
NAMES = Signature(("u", "depth"), (), ("u",), evolves=True)
FNO = FNOConfig(**tiny.NETWORK, mask_channels=True, position=True)
UNET = UNetConfig(width=4, levels=2, blocks=1, kernel_size=3, projection_width=8, condition_width=4)


def samples(number=0.0, *, num_samples=6, history=1, horizon=1) -> Batch:
    """Return samples with land, and clouds that are elsewhere in every frame; `number` stands where they are."""

    def drawn(*shape):
        return torch.randn(shape, generator=generator_for(0, "gaps", *shape))

    def there(*shape):
        valid = torch.rand(shape, generator=generator_for(1, "gaps", *shape)) > 0.2
        valid[..., 3:6, 2:5] = False
        return valid

    space = GRID.num_points
    fields = {"inputs": (num_samples, history, 2, *space), "targets": (num_samples, horizon, 1, *space)}
    masks = {f"valid_{role}": there(*shape) for role, shape in fields.items()}
    numbers = {role: torch.where(masks[f"valid_{role}"], drawn(*shape), number) for role, shape in fields.items()}
    lead = torch.arange(1.0, horizon + 1).expand(num_samples, horizon)
    return Batch(NAMES, GRID, coefficients=drawn(num_samples, 0), lead_time=lead, **numbers, **masks)


def trained(batch: Batch, config=FNO, **training):
    config = config.on(GRID, history=batch.inputs.shape[1], lead_time=False)
    normalization = fit_normalization(batch)
    operator = build_operator(NAMES, config, normalization, seed=0)
    operator.domain = Domain.of(batch, normalization)
    settings = build_config(TrainingConfig, {**tiny.TRAINING, "num_steps": 4, **training})
    train(operator, Epochs(batch, batch_size=4, seed=0), config=settings, validation=batch, seed=0)
    return operator


@pytest.mark.parametrize(
    ("config", "frames"), [(FNO, (1, 1)), (FNO, (2, 2)), (UNET.model_copy(update={"mask_channels": True}), (1, 2))]
)
def test_numbers_at_missing_points_change_no_weight_and_no_score(config, frames):
    found = []
    for number in (0.0, 1e6):
        batch = samples(number, history=frames[0], horizon=frames[1])
        operator = trained(batch, config)
        weights = [tensor.tolist() for tensor in operator.state_dict().values()]
        scores = {name: values.tolist() for name, values in evaluate(operator, batch).values.items()}
        still = persistence(batch).values["relative_l2"].tolist()
        judged = judge(operator, batch, training=batch).to_dict()
        checked = [f.model_dump(exclude={"seconds"}) for f in check_operator(operator, batch, ["persistence"])]
        errors = validation_errors(operator, batch, ["relative_l2", "rmse"]), sample_errors(operator, batch).tolist()
        changed = measure_answers(operator, trained(samples(), config) if frames == (1, 1) else operator, batch,
                                  generator=generator_for(0, "distillation"))  # fmt: skip
        found.append((weights, scores, still, judged, checked, errors, changed))
    assert found[0] == found[1]


def test_a_mask_that_hides_nothing_trains_as_none():
    batch = samples()
    full = {f"valid_{role}": torch.ones_like(getattr(batch, role), dtype=torch.bool) for role in ("inputs", "targets")}
    one, other = (trained(replace(batch, **masks)) for masks in (full, dict.fromkeys(full)))
    for mine, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_micro_batches_train_as_the_whole():
    one, other = trained(samples()), trained(samples(), micro_batches=3)
    for mine, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_the_network_is_told_where_points_are_missing_if_that_is_wished():
    batch = samples()
    told, untold = trained(batch, num_steps=1), trained(batch, FNO.model_copy(update={"mask_channels": None}))
    assert (told.num_masks, untold.num_masks) == (2, 0)
    assert told.num_channels == untold.num_channels + 2
    normalization = told.normalization
    mean = torch.tensor(normalization.input_shift).view(1, 1, 2, 1, 1)
    filled = replace(batch, inputs=torch.where(batch.valid_inputs, batch.inputs, mean), valid_inputs=None)
    answers = [operator.answers(b).require_targets() for operator in (told, untold) for b in (batch, filled)]
    assert not torch.allclose(answers[0], answers[1])
    torch.testing.assert_close(answers[2], answers[3])


def test_an_objective_that_counts_every_point_is_refused():
    class Loud(RelativeL2):
        leaves_out_gaps = False

    batch = samples()
    operator = build_operator(NAMES, FNO.on(GRID, history=1), fit_normalization(batch), seed=0)
    settings = build_config(TrainingConfig, tiny.TRAINING).model_copy(update={"objective": Loud()})
    with pytest.raises(ConfigError, match="'relative_l2' counts every point, and points of u, depth are missing"):
        train(operator, Epochs(batch, batch_size=4, seed=0), config=settings)


def test_what_cannot_leave_points_out_says_so(tmp_path):
    batch = samples()
    operator = trained(batch)
    asked = {finding.name: finding for finding in check_operator(operator, batch, ["shift_equivariance"])}
    assert asked["shift_equivariance"].good is None
    assert "not asked where points are missing" in asked["shift_equivariance"].said
    found = judge(operator, samples(horizon=3), training=batch)
    assert set(found.errors) == {"relative_l2", "vrmse", "correlation"}
    assert not found.spectra
    assert "no errors by scale and no energy spectra" in found.remarks[0]
    assert "There is no linear model" in found.remarks[1]
    with pytest.raises(SignatureError, match="trained on samples with missing points of u, depth"):
        export_operator(operator, tmp_path, to="onnx", grid=GRID)


def test_land_is_missing_in_every_frame_of_a_forecast_and_its_numbers_lose_none():
    batch = samples(horizon=3)
    operator = trained(batch)
    land = ~batch.valid_targets.flatten(0, 2).any(dim=0)
    march = rollout(operator, batch, 5)
    frames = list(march)
    assert len(frames) == 5
    assert all(torch.equal(frame.valid_targets, ~land.expand(6, 1, 1, 12, 10)) for frame in frames)
    loud = replace(batch, inputs=torch.where(batch.valid_inputs, batch.inputs, 1e30))
    for one, other in zip(frames, rollout(operator, loud, 5), strict=True):
        assert torch.equal(one.targets, other.targets)
    answered = operator.predict(batch)
    assert torch.equal(answered.valid_targets[:, :1], ~land.expand(6, 1, 1, 12, 10))


def test_arrays_with_gaps_are_taken_by_a_model_that_knows_them_and_by_no_other():
    batch = samples()
    operator = trained(batch)
    arrays = {name: torch.where(batch.valid(name), batch.field(name), torch.nan)[:, 0].numpy() for name in NAMES.inputs}
    answer = operator.predict(arrays, extent=1.0, boundary=["bounded", "periodic"])["u"]
    land = ~batch.valid_targets.flatten(0, 2).any(dim=0).numpy()
    assert (np.isnan(answer) == land).all()
    expected = operator.answers(batch).require_targets()[:, 0, 0].numpy()
    np.testing.assert_allclose(answer[:, ~land], expected[:, ~land], rtol=1e-5, atol=1e-6)
    arrays["u"][0, 0, 0] = np.inf
    with pytest.raises(DataError, match="'u' is infinite at 1 of"):
        operator.predict(arrays)
    operator.domain = Domain(grid=GRID)
    arrays["u"][0, 0, 0] = np.nan
    with pytest.raises(
        DataError, match=r'a model that was trained on such a field with missing points \(gaps = "mask"\)'
    ):
        operator.predict(arrays)


@pytest.fixture
def sea(tmp_path):
    """Return a NetCDF file with land, units and degrees."""
    lon, lat, time = np.linspace(-10, 5, 16), np.linspace(30, 42, 13), np.arange(6) * 6.0
    phase = np.arange(8)[:, None, None, None]
    sst = 15 + np.sin(0.4 * lon - 0.1 * time[:, None, None] + phase) * np.cos(0.3 * lat[:, None])
    sst[:, :, 4:7, 5:9] = np.nan
    axes = {
        "lon": ("lon", lon, {"units": "degrees_east"}),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "time": ("time", time, {"units": "hours since 2020-01-01"}),
    }
    data = xarray.Dataset({"sst": (("member", "time", "lat", "lon"), sst, {"units": "degC"})}, axes)
    path = tmp_path / "sea.nc"
    data.to_netcdf(path, engine="h5netcdf", encoding={"sst": {"dtype": "float32", "_FillValue": -999.0}})
    return path


@pytest.mark.parametrize("copied", [True, False])
def test_from_a_file_with_land_to_a_prediction_with_land(sea, tmp_path, copied):
    mapping = choose_mapping(sea, None, ["gaps=mask"])
    store = import_data(sea, tmp_path / "store", mapping) if copied else open_data(sea, mapping)
    network = {**tiny.NETWORK, "modes": 2, "latent_points": 0}
    tree = {"name": "sea", "data": {"num_validation_samples": 4}, "model": {"network": network}}
    run = pretrain({**tree, "training": {**tiny.TRAINING, "num_steps": 8}}, store=store, out=tmp_path / "runs")
    scores = evaluate(run, store.split("test"))
    assert scores.mean() < 1
    settings = {"num_samples": 2, "training": {**tiny.ADAPTING, "num_steps": 4}, "out": tmp_path / "runs"}
    tuned = finetune(run, store, learning_rates=[1e-3], **settings)
    out = predict_file(tuned, sea, tmp_path / "out.nc", steps=2).path
    with xarray.open_dataset(out, engine="h5netcdf") as answer, xarray.open_dataset(sea, engine="h5netcdf") as given:
        assert answer["sst"].attrs["units"] == "degC"
        assert answer["lat"].attrs["units"] == "degrees_north"
        np.testing.assert_allclose(answer["lat"], given["lat"])
        assert (np.isnan(answer["sst"].values) == np.isnan(given["sst"].values[:, :2])).all()
    if copied:
        found, about = forecast(run, store=str(tmp_path / "store"), steps=3, out=tmp_path / "forecast.nc")
        assert found.curve()[0] == pytest.approx(evaluate(run, store.split("test")).values["relative_l2"][0].item())
        assert "linear" in found.baselines  # the same points in all frames
        with h5netcdf.File(tmp_path / "forecast.nc") as file:
            assert np.isnan(file["sst"][...]).sum() == np.isnan(file["sst"][0, 0]).sum() * file["sst"][..., 0, 0].size
        assert load_operator(run).domain.gaps.hidden_by == {"sst": ("sst",)}
        assert about["num_lost"] == 0
