from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny
from scifm.data.origin_config import SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.errors import RunError
from scifm.findings.study import Analysis
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies import analysis as analyzing
from scifm.studies.analysis import conclude
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import Row, read_table
from scifm.training.pretrain import training_source

RECIPE = StudyRecipe.read(tiny.graph_study())


@pytest.fixture
def folder(whole_study, tmp_path) -> Path:
    """A copy of the study, to be changed."""
    return Path(shutil.copytree(whole_study, tmp_path / "study"))


def rows(folder: Path) -> list[Row]:
    return read_table(folder / "table.parquet")


def failed(analysis: Analysis) -> list[str]:
    return [audit.name for audit in analysis.audits if not audit.good]


def read(folder: Path) -> Analysis:
    return Analysis.model_validate_json((folder / "analysis.json").read_bytes())


def test_a_study_ends_in_one_document_that_the_report_draws(folder):
    analysis = read(folder)
    assert failed(analysis) == []
    assert {audit.name.split(" of ")[0] for audit in analysis.audits} >= {
        "test disjoint",
        "test unseen in pre-training",
    }
    assert [target.label for target in analysis.targets] == [
        "Poisson, anisotropy 1 to 3",
        "Poisson, anisotropy 5 to 10",
    ]
    assert {source.name for source in analysis.sources} == {"poisson", "mixture"}
    assert {curve.source for curve in analysis.curves} == {"poisson", "mixture", ""}  # scaling is told elsewhere
    assert {task.target for task in analysis.shift.tasks} == {"near", "far"}
    near, far = (next(t.values for t in analysis.shift.tasks if t.target == name) for name in ("near", "far"))
    assert far["novelty"] > near["novelty"]
    assert analysis.verdict
    assert {axis.axis for axis in analysis.scaling.axes} == {"samples", "size", "compute"}
    assert 0 < analysis.seconds <= Run(folder).seconds
    of_runs = {row.run: row.seconds for row in rows(folder)}
    assert sum(analysis.seconds_by_part.values()) == pytest.approx(sum(of_runs.values()))
    assert min(analysis.seconds_by_part.values()) > 0
    text = page(folder).read_text()
    assert "Poisson, anisotropy 5 to 10" in text


def test_made_again_from_the_folder_it_is_the_same(folder):
    before = (folder / "analysis.json").read_text()
    conclude(RECIPE, folder, rows(folder), seconds=read(folder).seconds)
    assert (folder / "analysis.json").read_text() == before


def test_a_run_that_used_a_sample_twice_is_found_out(folder):
    for row in rows(folder):
        if row.target == "near" and row.num_samples == 4 and row.seed == 0:
            file = folder / row.run / "subset.json"
            entries = json.loads(file.read_text())
            entries["index"][0] = entries["index"][1]
            file.write_text(json.dumps(entries))
    assert failed(conclude(RECIPE, folder, rows(folder))) == ["subsets distinct and nested"]


def test_two_runs_of_one_seed_that_used_other_samples_end_it(folder):
    row = next(row for row in rows(folder) if row.kind == "from_scratch" and row.num_samples == 4)
    (folder / row.run / "subset.json").write_text(json.dumps({"index": [0, 1, 2, 3]}))
    with pytest.raises(RunError, match="with one seed used others"):
        conclude(RECIPE, folder, rows(folder))


@pytest.mark.parametrize("name", ["scores", "subset.json"])
def test_a_file_that_is_gone_is_named_with_the_remedy(folder, name):
    row = next(row for row in rows(folder) if row.num_samples)
    (Run(folder / row.run).scores_file(row.target) if name == "scores" else folder / row.run / name).unlink()
    with pytest.raises(RunError, match="Delete that run folder"):
        conclude(RECIPE, folder, rows(folder))


def test_systems_are_told_by_the_ranges_a_recipe_gives():
    ratio = SystemConfig(name="advection_diffusion", knobs={"advection_diffusion_ratio": [0.2, 1]})
    assert SystemOrigin(ratio, tiny.GRID).label == "Advection–diffusion, advection diffusion ratio 0.2 to 1"
    assert (
        SystemOrigin(SystemConfig(name="poisson", knobs={"anisotropy": 3}), tiny.GRID).label == "Poisson, anisotropy 3"
    )
    assert SystemOrigin(SystemConfig(name="helmholtz"), tiny.GRID).label == "Helmholtz"


def test_the_audit_looks_at_the_samples_that_were_trained_on(monkeypatch, tmp_path):
    """A fixed set of samples is compared, and a test sample that stands in it is found."""
    tree = tiny.graph_study(data={**tiny.RECIPE["data"], "num_samples": 5}, scaling=None, seeds=[0])
    recipe = StudyRecipe.read({**tree, "sources": tree["sources"][:1]})
    folder = study(recipe, out=tmp_path / "fixed")
    assert failed(read(folder)) == []
    leak = training_source(recipe.pretraining(recipe.sources[0], "toy", 0)).batch(0)
    monkeypatch.setattr(analyzing, "draw_test", lambda *_: leak)
    assert "test unseen in pre-training" in failed(conclude(recipe, folder, rows(folder)))
