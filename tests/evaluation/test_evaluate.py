from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, RunError, SignatureError
from scifm.evaluation.evaluate import Scores, evaluate
from scifm.evaluation.pointwise import METRICS
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.neighbours import NeighbourCorrection, corrected
from scifm.models.operator import Operator, OperatorConfig
from scifm.report.page import page
from scifm.report.records import read_run
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson


class Louder(Operator):
    """Answers with the forcing, doubled: an error that can be told beforehand."""

    def __init__(self) -> None:
        super().__init__(Poisson.signature, OperatorConfig())
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def network(self, encoded):
        return encoded.inputs * self.weight


@pytest.fixture
def batch() -> Batch:
    samples = tiny.batch(5)
    return samples.with_targets(samples.inputs.clone())


def test_every_sample_is_scored_in_its_place(batch):
    batch.require_targets()[3] *= 2
    scores = evaluate(Louder(), batch, batch_size=2)
    assert scores.channels == ("solution",)
    assert scores.num_samples == 5
    assert scores.values["relative_l2"].flatten().tolist() == pytest.approx([1, 1, 1, 0, 1])
    assert scores.mean() == pytest.approx(0.8)
    assert scores.quantile(0.5) == pytest.approx(1)
    assert scores.quantile(0) == pytest.approx(0)


def test_a_truth_that_vanishes_is_told_and_only_then(batch):
    batch.require_targets()[3] = 0
    batch.require_targets()[1] = 2.0  # does not vary: no vrmse
    scores = evaluate(Louder(), batch, metrics=("relative_l2", "vrmse", "rmse"), batch_size=2)
    assert [scores.undefined_samples(name) for name in scores.values] == [[3], [1, 3], []]
    assert scores.mean() == float("inf"), "the definition stays"
    assert scores.defined().numel() == 4
    assert scores.defined().isfinite().all()
    batch.require_targets()[0] = float("nan")  # no truth at all is not one that vanishes
    spoilt = evaluate(Louder(), batch, metrics=("relative_l2",))
    assert spoilt.undefined_samples("relative_l2") == [3]
    assert spoilt.defined().isnan().any()


def test_all_metrics_equal_the_metrics_themselves(batch):
    operator = tiny.operator()
    scores = evaluate(operator, batch, metrics=METRICS, batch_size=3)
    prediction = operator.predict(batch).require_targets()
    for name, metric in METRICS.items():
        torch.testing.assert_close(scores.values[name], metric(prediction, batch.require_targets()))


def test_names_in_another_order_are_scored_alike(batch):
    operator = tiny.operator()
    names = Poisson.signature.coefficients
    turned = type(Poisson.signature)(("forcing",), names[::-1], ("solution",))
    other = Batch(turned, batch.grid, batch.inputs, batch.coefficients.flip(1), batch.targets)
    assert torch.equal(evaluate(operator, other).values["rmse"], evaluate(operator, batch).values["rmse"])


def test_nan_in_one_answer_is_nan_in_the_mean(batch):
    batch.require_targets()[2, 0, 0, 0, 0] = float("nan")
    scores = evaluate(Louder(), batch)
    assert scores.values["relative_l2"].isnan().flatten().tolist() == [False, False, True, False, False]
    assert scores.mean() != scores.mean()
    assert scores.quantile(0.5) != scores.quantile(0.5)


def test_a_finished_run_and_its_folder_are_scored_alike(tmp_path):
    run = tiny.finished_run(tmp_path)
    batch = tiny.batch(3)
    assert torch.equal(evaluate(run, batch).values["rmse"], evaluate(str(run.path), batch).values["rmse"])
    run.set_status("running")
    with pytest.raises(RunError, match="not complete"):
        evaluate(run, batch)


def test_unknown_metrics_and_nothing_to_score_are_refused(batch):
    with pytest.raises(ConfigError, match="Did you mean 'vrmse'"):
        evaluate(Louder(), batch, metrics=["vrms"])
    with pytest.raises(ConfigError, match="Did you mean 'rmse'"):
        evaluate(Louder(), batch).mean("rms")
    with pytest.raises(DataError, match="nothing to score"):
        evaluate(Louder(), batch.select([]))
    with pytest.raises(DataError, match="nothing to score"):
        evaluate(Louder(), batch, metrics=[])
    with pytest.raises(SignatureError, match="no targets"):
        evaluate(Louder(), batch.with_targets(None))


def test_samples_of_another_system_are_refused():
    foreign = Helmholtz().sample(2, tiny.GRID, generator_for(0, "foreign"))
    with pytest.raises(SignatureError, match="also hold"):
        evaluate(tiny.operator(), foreign)


def test_scores_go_round_through_parquet(tmp_path):
    values = torch.arange(12, dtype=torch.float32).view(2, 3, 2) / 7
    scores = Scores({"rmse": values, "mae": values.double() * 2}, ("u", "v"))
    scores.write(tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet").to_pydict()
    assert list(table) == ["sample", "frame", "channel", "rmse", "mae"]
    assert len(table["sample"]) == 12
    for s, f, c, rmse, mae in zip(*table.values(), strict=True):
        index = (s, f, "uv".index(c))
        assert rmse == values[index].item()
        assert mae == values.double()[index].item() * 2


def test_scores_that_cannot_be_written_are_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        Scores({"rmse": torch.zeros(1, 1, 1)}, ("u",)).write(tmp_path / "file" / "scores.parquet")


def test_a_run_of_ones_own_keeps_its_scores_with_their_origin(tmp_path):
    run, batch = tiny.finished_run(tmp_path), tiny.batch(3)
    scores = evaluate(run, batch)
    assert scores.path is not None
    assert run.score_files == [scores.path]
    about = json.loads(pq.read_schema(scores.path).metadata[b"scifm"])
    assert about["origin"] == scores.origin
    assert about["origin"]["systems"] == ["poisson"]
    assert set(about["origin"]["coefficients"]) == set(batch.signature.coefficients)
    assert evaluate(run, batch).path == scores.path, "the same samples, the same file"
    assert evaluate(run, tiny.batch(3, purpose="other")).path != scores.path
    assert evaluate(run, batch, record=False).path is None
    assert evaluate(run.path, batch, record=tmp_path / "own.parquet").path == tmp_path / "own.parquet"
    assert len(run.score_files) == 2


def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path, monkeypatch):
    run, batch = tiny.finished_run(tmp_path), tiny.batch(3)
    assert run.is_own
    monkeypatch.setattr("os.geteuid", lambda: run.path.stat().st_uid + 1)
    assert not run.is_own
    assert evaluate(run, batch).path is None
    assert run.score_files == []
    assert evaluate(tmp_path / run.path.name / "model", batch).path is None


def test_a_store_that_was_moved_is_the_same_one(tmp_path):
    counts = {"train": 4, "valid": 1, "test": 2}
    store = generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path / "one")

    run = tiny.finished_run(tmp_path / "runs")
    path = evaluate(run, store.split("test")).path
    (tmp_path / "one").rename(tmp_path / "moved")
    assert (
        evaluate(run, Store.open(tmp_path / "moved").split("test")).path.name.rpartition("-")[2]
        == (path.name.rpartition("-")[2])
    )


def test_the_scores_of_some_metrics_do_not_replace_those_of_all(tmp_path):
    run, batch = tiny.finished_run(tmp_path), tiny.batch(3)
    assert evaluate(run, batch, metrics=["rmse"]).path != evaluate(run, batch).path
    assert [set(own.means) >= {"rmse"} for own in read_run(run.path).score_sets] == [True, True]
    assert page(run.path).is_file()


def test_answers_that_demonstrations_correct_are_scored_beside_the_operators_own(tmp_path):
    batch = tiny.batch(5)
    batch = batch.with_targets(torch.randn(batch.inputs.shape, generator=generator_for(0, "truth")))
    shown, how = batch.select([0, 1]), NeighbourCorrection(neighbours=1)
    scores = evaluate(Louder(), batch, demonstrations=shown, correction=how, beside=True)
    assert scores.beside["without demonstrations"] == pytest.approx(evaluate(Louder(), batch).mean())
    own = corrected(Louder(), shown, how)
    assert torch.equal(scores.values["rmse"], evaluate(own, batch).values["rmse"])
    assert scores.corrected == own.tally.share
    assert evaluate(own, batch.select([0])).corrected == corrected_share(shown, how, batch.select([0]))
    assert scores.origin["demonstrations"]["count"] == 2
    assert evaluate(Louder(), batch).corrected is None
    scores.write(tmp_path / "scores.parquet")
    about = json.loads(pq.read_schema(tmp_path / "scores.parquet").metadata[b"scifm"])
    assert about["corrected"] == scores.corrected
    with pytest.raises(ConfigError, match="A correction is by demonstrations"):
        evaluate(Louder(), batch, correction=how)


def corrected_share(shown: Batch, how: NeighbourCorrection, batch: Batch) -> float:
    own = corrected(Louder(), shown, how)
    own.predict(batch)
    return own.tally.share
