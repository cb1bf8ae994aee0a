"""Networks of different kinds in one study: compared as such, each with gains and laws of its own, never over size."""

from __future__ import annotations

import csv
import json
import re
import statistics
from dataclasses import replace

import pytest

import networks
import tiny
from scifm.errors import DataError, RunError
from scifm.findings.study import Analysis, JointScaling, Scaling, Size
from scifm.models.registry import save_operator
from scifm.report.page import page
from scifm.studies.analysis import analyze
from scifm.studies.architectures import versus
from scifm.studies.networks import first_of_each
from scifm.studies.planner_calibration import priors_from_study
from scifm.studies.recipe import StudyRecipe
from scifm.studies.scaling import scaling_findings
from scifm.studies.study import estimate, plan_jobs, study
from scifm.studies.table import Row, ScoredTable, read_table, write_table
from study_table import NAMED, make_row, make_rows

UNET = {"width": 4, "levels": 2, "blocks": 1, "kernel_size": 3, "projection_width": 4, "condition_width": 4}
SIZES = [
    Size(name="small", num_params=1_000, kind="fno", architecture="fno", seconds_per_step=0.01),
    Size(name="large", num_params=4_000, kind="fno", architecture="fno", seconds_per_step=0.02),
    Size(name="mine", num_params=2_000, kind="module", architecture="mine", seconds_per_step=0.04),
]
FNO = {8: (0.2, 0.22), 32: (0.1, 0.11)}


def scaled(factor: float) -> dict[int, tuple[float, ...]]:
    return {count: tuple(factor * error for error in errors) for count, errors in FNO.items()}


def rows_of(factors: dict[str, float]) -> list[Row]:
    """Errors of each network are so many times those of an FNO, fine-tuned; from scratch all are twice that."""
    rows = []
    for size, factor in factors.items():
        rows += make_rows("zero_shot", {0: tuple(0.5 * factor * one for one in (1.0, 1.1))}, size=size)
        rows += make_rows("few_shot", scaled(factor), size=size)
        rows += make_rows("from_scratch", scaled(2 * factor), size=size)
    return rows


def analyzed(factors: dict[str, float], sizes=SIZES) -> Analysis:
    return analyze(rows_of(factors), **{**NAMED, "sizes": sizes})


def test_every_network_is_set_beside_every_one_of_the_first_architecture():
    table = ScoredTable(rows_of({"small": 1.0, "large": 0.5, "mine": 0.75}), **{**NAMED, "sizes": SIZES})
    found = {(v.kind, v.size, v.other, v.num_samples): v for v in versus(table)}
    wanted = [("zero_shot", 0), *((kind, n) for kind in ("few_shot", "from_scratch") for n in (8, 32))]
    assert set(found) == {(kind, "mine", other, n) for kind, n in wanted for other in ("small", "large")}
    for (_, _, other, _), pair in found.items():
        assert pair.ratio == pytest.approx(0.75 if other == "small" else 1.5)
        assert pair.low == pytest.approx(pair.ratio), "paired by seed, and the ratio of each seed is the same"
        assert pair.high == pytest.approx(pair.ratio)


def test_sizes_of_one_architecture_are_no_comparison_and_a_study_of_before_has_none():
    former = [Size(name=size.name, num_params=size.num_params) for size in SIZES]
    for sizes in (SIZES[:2], former):
        rows = rows_of(dict.fromkeys([size.name for size in sizes], 1.0))
        analysis = analyze(rows, **{**NAMED, "sizes": sizes})
        assert analysis.versus == ()
        assert len(analysis.architectures) == 1
        assert analysis.verdict[0].name == "worth of pre-training"


def test_the_verdict_compares_and_then_speaks_of_each_architecture_for_itself():
    analysis = analyzed({"small": 1.0, "large": 0.5, "mine": 0.75})
    assert {name: [size.name for size in own] for name, own in analysis.architectures.items()} == {
        "fno": ["small", "large"], "mine": ["mine"],
    }  # fmt: skip
    beside = analysis.verdict[0]
    assert beside.name == "mine beside fno"
    assert beside.said == (
        "After equal optimizer steps, mine has the smaller error than fno in 5 of 10 comparisons on as many samples, "
        "the larger in 5, and 0 are undecided. It has 0.50 to 2.0 times the weights, and takes 2.0 to 4.0 times the "
        "time a step."
    )
    assert beside.statistic == pytest.approx((0.75 * 1.5) ** 0.5)
    assert "fine-tuned 1.1 (0.75 to 1.5)" in beside.evidence
    rest = analysis.verdict[1:]
    assert all(finding.name.endswith((", fno", ", mine")) for finding in rest)
    for finding in rest:
        architecture = finding.name.rpartition(", ")[2]
        assert finding.said.startswith(f"{architecture}: ")
        other = {"fno": "mine", "mine": "fno"}[architecture]
        assert other not in finding.said + finding.evidence
    worth = {f.name: f.said for f in rest if f.name.startswith("worth")}
    assert worth["worth of pre-training, fno"].endswith("in all 4 comparisons, on as many samples.")
    assert worth["worth of pre-training, mine"].endswith("in all 2 comparisons, on as many samples.")
    over_size = [f for f in rest if f.name.startswith("gain and size")]
    assert [f.name for f in over_size] == ["gain and size, fno"], "one network has no axis of size"
    assert "over a factor of 4 in weights" in over_size[0].said


def test_one_seed_gives_no_interval_and_other_steps_are_told():
    sizes = [SIZES[0], SIZES[2].model_copy(update={"steps_factor": 0.25, "pretrain_seconds": 1.0})]
    sizes[0] = sizes[0].model_copy(update={"pretrain_seconds": 2.0})
    rows = [row for row in rows_of({"small": 1.0, "mine": 0.5}) if row.seed == 0]
    said = analyze(rows, **{**NAMED, "sizes": sizes}).verdict[0].said
    assert said.startswith("After 0.25 times the optimizer steps, mine has the smaller error than fno in 5 of 5")
    assert "without an interval" in said
    assert said.endswith("takes 4.0 times the time a step and 0.50 times the time of a pre-training.")


def test_networks_that_share_no_task_cannot_be_compared():
    rows = rows_of({"small": 1.0}) + [replace(r, target="helmholtz-1-5", size="mine") for r in rows_of({"mine": 1.0})]
    analysis = analyze(rows, **{**NAMED, "sizes": [SIZES[0], SIZES[2]]})
    assert analysis.verdict[0].said == (
        "mine and fno could not be compared: they share no task, number of samples and seed."
    )


def test_shift_is_ranked_of_the_first_architecture_and_said_of_it_alone():
    analysis = analyzed({"small": 1.0, "large": 0.5, "mine": 0.75})
    assert analysis.shift.size == "large", "the largest of the first architecture, though mine is there as often"
    assert [f.name for f in analysis.verdict if f.name.startswith("errors and shift")] == ["errors and shift, fno"]


# --- laws and plans ---------------------------------------------------------------------------------------------------


def test_a_law_is_fitted_to_points_of_one_architecture_only(monkeypatch):
    """The U-Net's errors lie far above the FNO's: a law through both would be of neither."""
    models = {f"f{i}": {"network": {**tiny.NETWORK, "width": 4 + i}} for i in range(3)}
    models |= {f"u{i}": {"kind": "unet", "network": {**UNET, "width": 4 + i}} for i in range(3)}
    models["mine"] = {"kind": "module", "network": {"target": f"{networks.__name__}:Shift"}}
    scaling = {"source": "poisson", "sizes": list(models), "num_steps": [375, 750]}
    recipe = StudyRecipe.read(tiny.graph_study(sizes=["f0"], models=models, scaling=scaling))
    rows = []
    for size in models:
        num_params = 10_000 * 4 ** (int(size[1]) if size != "mine" else 1)
        for step in (375, 750):
            for seed in (0, 1):
                error = (30.0 if size.startswith("u") else 2.0) * num_params**-0.5
                row = make_row("in_distribution", error, seed=seed, source=f"poisson+{step}", target="own", size=size)
                flops = 6.0 * num_params * 32 * step
                rows.append(replace(row, num_params=num_params, num_pretrain_samples=32 * step, flops=flops))

    def joint(cells):
        return JointScaling(told=" ".join(sorted({cell.size for cell in cells})))

    monkeypatch.setattr("scifm.studies.scaling._joint", joint)
    found = scaling_findings(recipe, rows)
    fitted = [(one.architecture, one.told) for one in found.joints]
    assert fitted == [("fno", "f0 f1 f2"), ("unet", "u0 u1 u2"), ("mine", "mine")]
    by_size = {axis.architecture: axis for axis in found.axes if axis.axis == "size"}
    assert set(by_size) == {"fno", "unet"}, "one network is no axis of size"
    for name, level in (("fno", 2.0), ("unet", 30.0)):
        assert [point.x for point in by_size[name].points] == [10_000 * 4**i for i in range(3)]
        assert by_size[name].points[0].values == pytest.approx((level / 100, level / 100))
        assert by_size[name].label == f"weights, 24,000 samples seen, {name}"
    labels = [axis.label for axis in found.axes if axis.axis == "samples"]
    assert labels[0] == "samples seen in pre-training, size f0, fno"
    assert labels[2] == "samples seen in pre-training, mine"


def test_a_document_of_before_with_one_joint_law_is_read():
    former = {"axes": [{"axis": "size", "label": "weights"}], "joint": {"text": "a law", "told": "one"}}
    assert [joint.text for joint in Scaling.model_validate(former).joints] == ["a law"]
    assert Scaling.model_validate({"axes": [], "joint": None}).joints == ()
    again = Scaling.model_validate(former)
    assert Scaling.model_validate_json(again.model_dump_json()) == again


def test_a_plan_takes_what_to_expect_from_networks_of_its_own_kind(tmp_path):
    """Curves of the FNO fall fast, those of the other hardly: what is expected of an FNO must not be their mean."""
    save_operator(tiny.operator(), model := tmp_path / "model")
    steep = {n: [n**-1.2, 1.1 * n**-1.2] for n in (4, 16, 64, 256)}
    flat = {n: [n**-0.05, 1.1 * n**-0.05] for n in (4, 16, 64, 256)}
    own, others = (make_rows("from_scratch", e, size=s) for e, s in ((steep, "small"), (flat, "mine")))
    write_table([*own, *others], tmp_path / "table.parquet")
    together = priors_from_study(tmp_path, model)["from_scratch"].slope[0]
    analyze([*own, *others], **{**NAMED, "sizes": [SIZES[0], SIZES[2]]}).write(tmp_path / "analysis.json")
    alone = priors_from_study(tmp_path, model)["from_scratch"].slope[0]
    assert alone > together + 0.1
    analyze(others, **{**NAMED, "sizes": [SIZES[2]]}).write(tmp_path / "analysis.json")
    write_table(others, tmp_path / "table.parquet")
    with pytest.raises(DataError, match=r"of other kinds of operators only \(module\); the model is of kind 'fno'"):
        priors_from_study(tmp_path, model)
    (tmp_path / "analysis.json").write_text("{")
    with pytest.raises(RunError, match=r"analysis.json' cannot be read"):
        priors_from_study(tmp_path, model)


# --- a whole study ----------------------------------------------------------------------------------------------------


def tree_of_two() -> dict:
    tree = tiny.graph_study(few_shot=[4], from_scratch=[4], scaling=None, num_test_samples=4)
    tree["models"] = {
        "toy": {"network": tiny.NETWORK},
        "mine": {
            "kind": "module",
            "network": {
                "target": f"{networks.__name__}:SmallConv",
                "arguments": {"channels_in": "{in_channels}", "channels_out": "{out_channels}"},
            },
            "normalization": "joint",
            "steps_factor": 0.5,
        },
    }
    del tree["sizes"]
    tree["sources"] = tree["sources"][:1]
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return study(StudyRecipe.read(tree_of_two()), out=tmp_path_factory.mktemp("studies") / "kinds")


def test_each_is_pretrained_moved_and_trained_from_scratch_within_its_steps(folder):
    rows = read_table(folder / "table.parquet")
    for kind in ("zero_shot", "few_shot", "from_scratch"):
        places = {size: {(r.target, r.num_samples, r.seed) for r in rows if (r.kind, r.size) == (kind, size)}
                  for size in ("toy", "mine")}  # fmt: skip
        assert places["toy"] == places["mine"] != set()
    steps = {size: {r.num_steps for r in rows if r.size == size and not r.num_samples} for size in ("toy", "mine")}
    assert steps == {"toy": {6}, "mine": {3}}
    scratch = {size: {r.num_steps for r in rows if r.size == size and r.kind == "from_scratch"} for size in steps}
    assert scratch == {"toy": {3}, "mine": {2}}


def test_the_document_knows_what_each_is_and_what_it_took(folder):
    analysis = Analysis.model_validate_json((folder / "analysis.json").read_bytes())
    rows = read_table(folder / "table.parquet")
    toy, mine = analysis.sizes
    assert (toy.kind, toy.architecture, toy.normalization, toy.steps_factor) == ("fno", "toy", "homogeneous", 1.0)
    assert (mine.kind, mine.architecture, mine.normalization, mine.steps_factor) == ("module", "mine", "joint", 0.5)
    for size in (toy, mine):
        runs = {r.run: r for r in rows if r.size == size.name}.values()
        taken = [r.seconds for r in runs if not r.num_samples]
        assert size.pretrain_seconds == pytest.approx(statistics.median(taken))
        assert size.seconds_per_step == pytest.approx(size.pretrain_seconds / (6 * size.steps_factor))
        assert size.num_params == next(iter(runs)).num_params
    for pair in analysis.versus:

        def errors(size, pair=pair):
            own = [r for r in rows if (r.kind, r.target, r.num_samples, r.size)
                   == (pair.kind, pair.target, pair.num_samples, size)]  # fmt: skip
            return {r.seed: r.relative_l2 for r in own}

        ours, theirs = errors("mine"), errors("toy")
        ratios = [ours[seed] / theirs[seed] for seed in ours]
        assert pair.ratio == pytest.approx(statistics.median(ratios), rel=1e-6)


def test_the_page_and_the_files_for_a_paper_show_them_side_by_side(folder, tmp_path):
    text = page(folder, out=tmp_path / "page.html", figures=tmp_path / "paper").read_text()
    assert 'id="figure-architectures"' in text
    assert 'id="figure-size"' not in text, "no line over size joins two kinds"
    assert "Optimizer steps over those of the study: toy 1.0, mine 0.50" in text
    for form in ("pdf", "svg"):
        assert (tmp_path / "paper" / f"architectures.{form}").stat().st_size > 2000
    with (tmp_path / "paper" / "architectures.csv").open() as file:
        entries = list(csv.DictReader(file))
    assert [(row["network"], row["kind"]) for row in entries] == [
        ("toy", "fno homogeneous"), ("mine", "module joint"), ("toy", "fno homogeneous"), ("mine", "module joint"),
    ]  # fmt: skip
    written = json.loads((folder / "analysis.json").read_text())
    curve = next(c for c in written["curves"] if (c["kind"], c["target"], c["size"]) == ("few_shot", "near", "mine"))
    shown = float(re.match(r"[\d.]+", entries[1]["fine-tuned on 4"])[0])
    assert shown == pytest.approx(curve["points"][0]["median"], rel=5e-3)
    latex = (tmp_path / "paper" / "architectures.tex").read_text()
    assert latex.count(r"\\") == 5


def test_what_each_takes_is_measured_before(tmp_path):
    plan = plan_jobs(StudyRecipe.read(tree_of_two()), tmp_path)
    speeds = estimate(plan, num_workers=1).speeds
    assert list(speeds) == ["toy", "mine"]
    assert [speed.steps_factor for speed in speeds.values()] == [1.0, 0.5]
    assert all(speed.seconds > 0 for speed in speeds.values())


def test_the_best_budget_from_scratch_is_given_to_the_first_network_of_each_architecture(tmp_path):
    tree = tree_of_two()
    tree["models"]["toy-wide"] = {"network": {**tiny.NETWORK, "width": 6}}
    tree["convergence"] = {"targets": ["near"], "num_samples": [4], "max_doublings": 1}
    recipe = StudyRecipe.read(tree)
    assert recipe.converged_sizes == ["toy", "mine"]
    long = [name for name in plan_jobs(recipe, tmp_path).tasks if name.startswith("from_scratch_converged")]
    assert {name.split("@")[2] for name in long} == {"toy", "mine"}
    assert [recipe.most_scratch_steps(size, 4) for size in ("toy", "mine")] == [6, 4]


def test_the_first_of_each_keeps_the_order():
    assert first_of_each(["b", "a", "c"], {"a": "x", "b": "x", "c": "y"}) == ["b", "c"]
