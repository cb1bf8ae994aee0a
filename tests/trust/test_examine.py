"""Asking checks of operators, runs and models, and what is left in the folder of a run."""

from __future__ import annotations

import json
import shutil

import pytest

import tiny
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.findings.finding import Finding, read_findings, record_findings
from scifm.findings.provenance import Provenance
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.systems.helmholtz import Helmholtz
from scifm.trust import CHECKS
from scifm.trust.examine import check_operator
from scifm.trust.overfit import OverfitOneBatch

QUICK = ["receptive_field", "persistence", "shift_equivariance"]


@pytest.fixture
def run(tmp_path):
    return tiny.finished_run(tmp_path / "runs")


def test_findings_of_a_run_lie_in_its_folder(run):
    findings = check_operator(run, tiny.batch(8), QUICK)
    assert [found.name for found in findings] == QUICK
    assert read_findings(run.path / "findings.json") == findings
    json.loads((run.path / "findings.json").read_text(), parse_constant=pytest.fail)


def test_what_was_found_stands_on_the_page_of_the_model_where_nobody_else_wrote(run):
    operator = load_operator(run)
    operator.provenance = Provenance(made="pretrain", recipe="tiny")
    operator.save_pretrained(run.path / "model")
    check_operator(run, tiny.batch(8), QUICK)
    (again,) = check_operator(run, tiny.batch(5), ["persistence"])
    page = (run.path / "model" / "README.md").read_text()
    assert "## Can it be trusted" in page
    assert page.count("| persistence | red |") == 1
    assert again.said in page
    assert again.measured in page
    assert [check.name for check in load_operator(run).provenance.checks] == QUICK
    (run.path / "model" / "README.md").write_text("My own words.")
    check_operator(run, tiny.batch(4), ["persistence"])
    assert (run.path / "model" / "README.md").read_text() == "My own words."


def test_one_that_is_asked_again_replaces_its_own_finding_alone(run):
    check_operator(run, tiny.batch(8), QUICK)
    (again,) = check_operator(run, tiny.batch(5), ["persistence"])
    stored = read_findings(run.path / "findings.json")
    assert [found.name for found in stored] == QUICK
    assert stored[1] == again


def test_a_model_alone_and_a_run_of_somebody_else_are_left_as_they_are(run, tmp_path, monkeypatch):
    model = shutil.copytree(run.path / "model", tmp_path / "model")
    names = sorted(model.iterdir())
    found = [check_operator(asked, tiny.batch(8), QUICK) for asked in (model, load_operator(run))]
    first, second = ([one.model_copy(update={"seconds": None}) for one in each] for each in found)
    assert first == second
    assert sorted(model.iterdir()) == names
    monkeypatch.setattr(type(run), "is_own", property(lambda self: False))
    check_operator(run.path, tiny.batch(8), QUICK)
    assert not (run.path / "findings.json").exists()


def test_settings_of_ones_own_and_all_checks_by_default(run):
    (told,) = check_operator(run, tiny.batch(4), [OverfitOneBatch(num_steps=1)], record=False)
    assert told.good is False
    assert not (run.path / "findings.json").exists()
    findings = check_operator(run, tiny.batch(4), record=False)
    assert [found.name for found in findings] == [name for name, check in CHECKS.items() if not check.on_request]
    assert all(found.seconds is not None for found in findings)


def test_a_split_of_a_store_is_asked_too(run, tmp_path):
    from scifm.data.generate import generate
    from scifm.systems.poisson import Poisson

    counts = {"train": 4, "valid": 2, "test": 6}
    store = generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path / "store")
    (told,) = check_operator(run, store.split("test"), ["persistence"])
    assert "6 samples" in told.evidence


@pytest.mark.parametrize("name", ["persistence", "shuffled_truths", "scales"])
def test_samples_are_answered_once_and_no_more_of_them_than_are_looked_at(name, monkeypatch):
    asked = []
    answers = Operator.answers

    def counted(self, batch, *rest, **more):
        asked.append(batch.num_samples)
        return answers(self, batch, *rest, **more)

    monkeypatch.setattr(Operator, "answers", counted)
    check_operator(tiny.operator(), tiny.batch(12), [CHECKS[name](num_samples=5)])
    assert asked == [5]


def test_what_does_not_fit_is_refused(run):
    with pytest.raises(ConfigError, match="Did you mean 'persistence'"):
        check_operator(run, tiny.batch(2), ["persistance"])
    with pytest.raises(SignatureError, match="diffusivity"):
        check_operator(run, Helmholtz().sample(2, tiny.GRID), ["persistence"])
    with pytest.raises(SignatureError, match="at least one sample"):
        check_operator(run, tiny.batch(2).select([]), ["persistence"])
    assert not (run.path / "findings.json").exists()


def test_a_figure_whose_points_do_not_fit_each_other_is_damaged(tmp_path):
    file = tmp_path / "findings.json"
    series = {"x": [1, 2], "y": [1, 2, 3]}
    panel = {"x": {"label": "a"}, "y": {"label": "b"}, "series": [series]}
    for wrong in ({}, {"y": [1, 2], "told": ["one"]}, {"y": [1, 2], "low": [0.5]}):
        own = panel | {"series": [series | wrong]}
        file.write_text(json.dumps([{"said": "So.", "figure": {"caption": "c", "panels": [own]}}]))
        with pytest.raises(RunError, match="cannot be read"):
            read_findings(file)


def test_damaged_findings_are_named(tmp_path):
    file = tmp_path / "findings.json"
    file.write_text("[{")
    with pytest.raises(RunError, match="Remove it"):
        record_findings(file, [Finding(said="x", name="x")])


OWN_CHECK = """
from scifm.findings import Finding
from scifm.trust import Check

class Silent(Check):
    name = "silent"
    question = "Is it?"

    def ask(self, case):
        return Finding(said=f"{len(case.samples)} seen", good=True)
"""


def test_a_check_of_another_package_is_found_by_its_entry_point(run, tmp_path, monkeypatch):
    (tmp_path / "own_checks.py").write_text(OWN_CHECK)
    home = tmp_path / "own_checks-1.0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: own-checks\nVersion: 1.0\n")
    (home / "entry_points.txt").write_text("[scifm.checks]\nsilent = own_checks:Silent\nloud = own_checks:Silent\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (told,) = check_operator(run, tiny.batch(3), ["silent"], record=False)
    assert (told.name, told.said, told.good) == ("silent", "3 seen", True)
    with pytest.raises(ConfigError, match="it calls itself 'silent'"):
        check_operator(run, tiny.batch(3), ["loud"], record=False)
