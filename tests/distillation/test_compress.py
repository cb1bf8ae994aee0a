"""Compressing a run into a folder: what is measured, what is written, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

import networks
import tiny
from scifm.distillation.compress import CompressionRecord, compress, measure_answers
from scifm.errors import ConfigError, DataError, RunError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.seeds import generator_for
from scifm.models.module_operator import ModuleOperator
from scifm.models.registry import load_operator
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson


@pytest.fixture
def run(tmp_path):
    return tiny.finished_run(tmp_path / "runs")


def test_what_is_measured_is_what_evaluate_says(run, tmp_path):
    batch, out = tiny.batch(8), tmp_path / "small"
    record = compress(run, batch, out)
    answers, errors, num_bytes = record.findings
    before, after = (evaluate(where, batch, record=False).values["relative_l2"].double() for where in (run, out))
    assert errors.statistic == pytest.approx(float(after.mean() / before.mean()))
    assert errors.low <= errors.statistic <= errors.high
    old, new = (load_operator(where).predict(batch).require_targets() for where in (run, out))
    change = torch.linalg.vector_norm((new - old).flatten(1), dim=1) / torch.linalg.vector_norm(old.flatten(1), dim=1)
    assert answers.statistic == pytest.approx(float(change.mean()), rel=1e-5)
    sizes = [(where / "model.safetensors").stat().st_size for where in (run.path / "model", out)]
    assert num_bytes.statistic == pytest.approx(sizes[1] / sizes[0])
    stored = CompressionRecord.model_validate_json((out / "compression.json").read_bytes())
    assert stored == record
    json.loads((out / "compression.json").read_text(), parse_constant=pytest.fail)
    assert stored.source == str(run.path)
    assert stored.origin["systems"] == ["poisson"]


def test_the_same_again_is_the_same_and_something_else_is_refused(run, tmp_path):
    out = tmp_path / "small"
    first = compress(run, tiny.batch(8), out)
    assert compress(run, tiny.batch(8), out) == first
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for place in (run.path, run.path / "model", tmp_path / "full", tmp_path / "full" / "letter.txt"):
        with pytest.raises(RunError, match="something else"):
            compress(run, tiny.batch(4), place)
    with pytest.raises(RunError, match="something else"):
        compress(tiny.operator(seed=5), tiny.batch(4), out)
    (tmp_path / "empty").mkdir()
    compress(run, tiny.batch(4), tmp_path / "empty")


def test_an_operator_in_memory_is_compressed_too(tmp_path):
    operator = tiny.operator()
    record = compress(operator, tiny.batch(4), tmp_path / "small")
    assert record.source == ""
    assert record.findings[2].statistic < 1


def test_nothing_is_written_for_what_is_refused(run, tmp_path):
    out = tmp_path / "small"
    with pytest.raises(SignatureError, match="diffusivity"):
        compress(run, Helmholtz().sample(2, tiny.GRID), out)
    with pytest.raises(SignatureError, match="no targets"):
        compress(run, tiny.batch(2).with_targets(None), out)
    with pytest.raises(ConfigError, match="Did you mean 'int8'"):
        compress(run, tiny.batch(2), out, to="int4")
    broken = tiny.operator()
    with torch.no_grad():
        broken.layers[0].spectral_weight[0, 0] = float("inf")
    with pytest.raises(DataError, match="spectral_weight"):
        compress(broken, tiny.batch(2), out)
    assert not out.exists()


def test_errors_that_grow_are_bad_news():
    exact, worse = (ModuleOperator.wrap(networks.ExactPoisson(gain=gain), Poisson.signature) for gain in (0.99, 0.9))
    answers, errors = measure_answers(exact, worse, tiny.batch(8), generator=generator_for(0, "test"))
    assert errors.good is False
    assert errors.statistic == pytest.approx(10, rel=0.01)
    assert answers.good is False
    assert answers.statistic == pytest.approx(0.09 / 0.99, rel=0.01)
    same, equal = measure_answers(exact, exact, tiny.batch(8), generator=generator_for(0, "test"))
    assert (same.statistic, equal.statistic) == (0, 1)
    assert same.good
    assert equal.good


def test_a_truth_that_is_zero_everywhere_leaves_nothing_to_compare():
    batch = tiny.batch(4)
    operator = tiny.operator()
    with pytest.raises(DataError, match="zero in all samples"):
        measure_answers(operator, operator, batch.with_targets(0 * batch.targets), generator=generator_for(0, "test"))
