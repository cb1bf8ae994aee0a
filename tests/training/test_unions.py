"""One operator of systems with different fields: what a sample has not changes nothing, and each answers as alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

import tiny
from scifm.data.mixtures import MixtureOrigin
from scifm.data.normalize import fit_normalization
from scifm.data.origin_config import DataConfig, MixtureConfig
from scifm.data.resolving import resolve_origin
from scifm.data.split import windows_of
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.evaluation.example import forecast_example
from scifm.evaluation.forecast import judge
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity, scalings_of_all
from scifm.fields.window import Window
from scifm.models.export import export_operator
from scifm.models.fno import FNO, FNOConfig
from scifm.models.registry import load_operator
from scifm.objectives import OBJECTIVES
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.systems.heat import Heat
from scifm.training.finetune import finetune
from scifm.training.pretrain import pretrain
from scifm.training.validation import sample_errors, validation_errors

GRID = Grid.square(16, num_spatial_dims=1)
BURGERS, HEAT = Burgers(num_frames=6), Heat(num_spatial_dims=1, num_frames=6)
MIXTURE = [{"name": "burgers"}, {"name": "heat", "options": {"num_spatial_dims": 1}, "loss_weight": 2.0}]
DATA = {"num_points": 16, "num_validation_samples": 6, "num_normalization_samples": 16}


def origin(**data) -> MixtureOrigin:
    made = resolve_origin(
        DataConfig.model_validate({**DATA, **data}), mixture=[MixtureConfig.model_validate(entry) for entry in MIXTURE]
    )
    assert isinstance(made, MixtureOrigin)
    return made


def operator(mixture: MixtureOrigin, **changes) -> FNO:
    torch.manual_seed(0)
    fitting = mixture.fitting(32, 0)
    config = FNOConfig(**tiny.NETWORK, lead_time=True, **changes)
    made = FNO(mixture.signature, config, normalization=fit_normalization(fitting, mixture.homogeneities))
    made.domain = replace(made.domain, forms=fitting.forms)
    return made


def with_rubbish(batch: Batch) -> Batch:
    """Return the batch with numbers where a sample has no field, as memory that nobody cleared holds."""
    noise = torch.Generator().manual_seed(5)
    given, asked = batch.has(batch.signature.inputs), batch.has(batch.signature.outputs)
    changed = {}
    for name, fields, there in (("inputs", batch.inputs, given), ("targets", batch.require_targets(), asked)):
        drawn = 3 * torch.randn(fields.shape, generator=noise)
        changed[name] = torch.where(there[:, None, :, None], fields, drawn)
    known = batch.has(batch.signature.coefficients)
    drawn = 3 * torch.randn(known.shape, generator=noise)
    return replace(batch, **changed, coefficients=torch.where(known, batch.coefficients, drawn))


ONE_PROBLEM = {"collocation"}
"""Objectives that ask about one problem, of which there is no mixture."""


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ONE_PROBLEM])
@pytest.mark.parametrize("horizon", [1, 2])
def test_what_is_absent_changes_no_loss_and_no_gradient(name, horizon):
    mixture = origin(horizon=horizon, history=2)
    network, batch = operator(mixture, history=2), mixture.stream(6, 0).batch(0)
    objective = OBJECTIVES[name]().on(network.align(batch)) if horizon == 1 else OBJECTIVES[name]()
    found = []
    for samples in (batch, with_rubbish(batch)):
        network.zero_grad()
        loss = objective(network, samples, step=0, generator=torch.Generator())
        loss.backward()
        found.append((loss.detach(), [weight.grad.clone() for weight in network.parameters()]))
    (loss, gradients), (other, others) = found
    assert torch.isfinite(loss)
    assert loss == other
    assert all(torch.isfinite(one).all() and torch.equal(one, two) for one, two in zip(gradients, others, strict=True))
    assert max(float(one.abs().max()) for one in gradients) > 0


def test_a_mean_over_what_is_there_is_that_of_the_parts():
    """The loss of a mixed batch is that of its systems alone, weighed; of one with several fields their mean."""
    mixture = origin()
    network, batch = operator(mixture), mixture.stream(6, 0).batch(0)
    objective = OBJECTIVES["relative_l2"]()
    parts = [batch.select([i]) for i in range(batch.num_samples)]
    each = [float(objective(network, part, step=0, generator=torch.Generator())) for part in parts]
    weights = batch.loss_weights.tolist()
    expected = sum(loss * weight for loss, weight in zip(each, weights, strict=True)) / sum(weights)
    assert float(objective(network, batch, step=0, generator=torch.Generator())) == pytest.approx(expected, rel=1e-5)
    errors = sample_errors(network, batch)
    assert errors.tolist() == pytest.approx(each, rel=1e-5)
    assert validation_errors(network, batch, ["relative_l2"])["relative_l2"] == pytest.approx(
        float(errors.mean()), rel=1e-5
    )


def test_fields_come_in_the_sizes_they_have_alone():
    mixture = origin()
    fitting = mixture.fitting(64, 0)
    joint = fit_normalization(fitting, mixture.homogeneities)
    for place, system in enumerate((BURGERS, HEAT)):
        mine = fitting.of_form(system.signature.fields)
        alone = fitting.select(mine.nonzero().flatten()).without_absent(system.signature)
        assert alone.present is None
        own = fit_normalization(alone, system.homogeneities)
        assert joint.input_scale[place] == pytest.approx(own.input_scale[0], rel=1e-5)
        assert joint.output_scale[place] == pytest.approx(own.output_scale[0], rel=1e-5)
        both, single = joint.encode(fitting.select(mine.nonzero().flatten())), own.encode(alone)
        torch.testing.assert_close(both.inputs[:, :, place], single.inputs[:, :, 0])
        torch.testing.assert_close(both.output_scale[:, :, place], single.output_scale[:, :, 0])
        torch.testing.assert_close(both.coefficients[:, place], single.coefficients[:, 0])
        assert float(both.inputs[:, :, 1 - place].abs().max()) == 0
        assert float(both.coefficients[:, 1 - place].abs().max()) == 0


def test_scalings_are_shared_as_far_as_they_leave_each_other_alone():
    """One that changes the time of a system and not of another with the same fields holds for neither in a mixture."""
    names = Signature(("u",), ("a",), ("u",), 1, evolves=True)
    larger = Homogeneity((("u", 1.0),), ("u",), "rms")
    faster = Homogeneity((("a", 1.0), ("lead_time", -1.0)), ("a",), "value")
    stiffer = Homogeneity((("a", 1.0),), ("a",), "value")
    assert scalings_of_all([(names, (larger, faster)), (names, (larger, faster))]) == (larger, faster)
    assert scalings_of_all([(names, (larger, faster)), (names, (larger, stiffer))]) == (larger,)
    other = Signature(("v",), ("a",), ("v",), 1, evolves=True)
    apart = scalings_of_all([(names, (larger, faster)), (other, (stiffer,))])
    assert apart == (replace(larger, fields=("u",)), replace(faster, fields=("u",)), replace(stiffer, fields=("v",)))


def test_kinds_that_cannot_be_are_refused():
    mixture = origin()
    with pytest.raises(ConfigError, match="kind='joint' is for systems with the same fields"):
        fit_normalization(mixture.fitting(8, 0), mixture.homogeneities, kind="joint")
    given = Signature(("velocity", "temperature"), (), ("temperature",), 1, evolves=True)
    told = Signature(("u",), ("velocity",), ("u",), 1, evolves=True)
    carried = Signature(("velocity",), (), ("velocity",), 1, evolves=True)
    with pytest.raises(SignatureError, match="'velocity' is a field in one and a coefficient in the other"):
        told.union(carried)
    with pytest.raises(SignatureError, match="'velocity' is given in one and asked for in the other"):
        BURGERS.signature.union(given)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    tree = tiny.recipe(data={"history": 2, "horizon": 2})
    tree.pop("system")
    return pretrain({**tree, "mixture": MIXTURE}, out=tmp_path_factory.mktemp("runs"))


def test_a_run_answers_each_system_alone(run, tmp_path):
    network = load_operator(run.path / "model")
    assert network.domain.forms == (("velocity",), ("temperature",))
    for system in (BURGERS, HEAT):
        samples, _ = resolve_origin(
            DataConfig.model_validate({**DATA, "history": 2, "horizon": 2}),
            system=MixtureConfig(name=system.name, options=MIXTURE[system is HEAT].get("options", {})),
        ).unseen(5)
        scores = evaluate(run, samples, record=False)
        assert scores.channels == system.signature.outputs
        assert torch.isfinite(scores.values["relative_l2"]).all()
        answer = network.predict(samples.batch([0, 2]))
        some = samples.batch([0, 2])
        arrays = {name: some.field(name) for name in some.signature.inputs}
        arrays |= {name: some.coefficient(name) for name in some.signature.coefficients}
        told = network.predict(arrays, num_steps=2)
        assert set(told) == set(scores.channels)
        for name, field in told.items():
            torch.testing.assert_close(field, answer.target(name), rtol=1e-4, atol=1e-5)
        absent = [name for name in network.signature.outputs if name not in scores.channels]
        assert all(float(answer.target(name).abs().max()) == 0 for name in absent)


def test_scores_of_a_mixed_batch_are_of_what_is_there(run, tmp_path):
    mixed = origin(history=2).draw(6, "test")
    scores = evaluate(run, mixed, record=tmp_path / "scores.parquet")
    assert torch.isfinite(torch.tensor(scores.mean()))
    assert scores.defined().numel() == 6
    assert scores.undefined_samples("relative_l2") == []
    rows = pq.read_table(tmp_path / "scores.parquet")
    assert rows.num_rows == 6
    assert set(rows["channel"].to_pylist()) == {"velocity", "temperature"}


def test_fields_it_never_saw_together_are_refused(run):
    network = load_operator(run.path / "model")
    lost = Batch(
        Signature(("velocity",), (), ("velocity", "temperature"), 1, evolves=True), GRID, torch.ones(2, 2, 1, 16),
        torch.ones(2, 0), lead_time=torch.full((2, 1), 0.05),
    )  # fmt: skip
    with pytest.raises(SignatureError, match="the data lack \\('temperature',\\)"):
        network.predict(lost)


def test_it_is_fine_tuned_on_one_of_them_as_it_is(run, tmp_path):
    tuning = {"num_samples": 3, "learning_rates": [1e-3], "training": {**tiny.ADAPTING, "num_steps": 2}}
    child = finetune(run, BURGERS.where(viscosity=[0.05, 0.1]), out=tmp_path, **tuning)
    assert not (child.path / "channels.json").exists()
    assert load_operator(child.path / "model").domain.forms == (("velocity",), ("temperature",))
    assert json.loads((child.path / "model" / "config.json").read_text())["domain"]["forms"] == [
        ["velocity"],
        ["temperature"],
    ]


def test_trajectories_of_both_are_marched_and_shown(run):
    """The frames for the page held the field of the other system too, all zero."""
    network = load_operator(run.path / "model")
    for system in (BURGERS, HEAT):
        windows = windows_of(system.sample(3, GRID, torch.Generator().manual_seed(3)), Window(2, 3))
        samples = windows.batch([0, 2])
        found = judge(network, samples, training=windows.some(4))
        assert found.channels == system.signature.outputs
        assert torch.isfinite(torch.tensor(found.curve())).all()
        assert forecast_example(network, found, samples).channels == system.signature.outputs


def test_it_is_not_exported_for_a_file_cannot_say_which_fields_a_sample_has(run, tmp_path):
    """The file took every sample for one that has all fields, and answered otherwise than the operator."""
    network = load_operator(run.path / "model")
    with pytest.raises(SignatureError, match=r"trained on samples with \{velocity\} and \{temperature\}"):
        export_operator(network, tmp_path, to="onnx", grid=GRID)
