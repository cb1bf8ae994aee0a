"""The whole document, and what it says when the table is poor."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from scifm.errors import DataError
from scifm.findings.finding import Finding
from scifm.findings.study import Analysis, Scaling, ScalingAxis, ScalingPoint, Target
from scifm.studies.analysis import analyze
from study_table import NAMED, SIZES, make_row, make_rows

NOISE = (1.0, 1.05, 0.95)
TASKS = [t.name for t in NAMED["targets"][:2]]
MORE = {"title": "A study", "num_test_samples": 256}


def make_study():
    """Fine-tuned 0.4/√n, from scratch 1.6/√n: a gain of 4, and 16 times fewer samples, on every task."""
    rows = []
    for target in TASKS:
        for kind, error in (("few_shot", 0.4), ("from_scratch", 1.6)):
            counts = (16, 64, 256) if kind == "few_shot" else (16, 64, 1024)
            rows += make_rows(kind, {n: [error * f / math.sqrt(n) for f in NOISE] for n in counts}, target=target)
        rows.append(make_row("zero_shot", 0.3, target=target))
    return [*rows, make_row("in_distribution", 0.02, target="poisson-1-5")]


def said(found):
    return [sentence.said for sentence in found.verdict]


def find(found, words):
    (sentence,) = [s for s in found.verdict if words in s.said]
    assert sentence.name
    return sentence


def test_the_document_has_its_parts_and_is_json(tmp_path):
    found = analyze(
        make_study(), **NAMED, **MORE,
        shift_values={("poisson", TASKS[0]): {"spectra": np.float32(1)}, ("poisson", TASKS[1]): {"spectra": math.nan}},
        scaling=Scaling(axes=(ScalingAxis(axis="size", points=(ScalingPoint(x=1.0, values=(0.1, math.inf)),)),)),
        audits=(Finding(name="disjoint", good=True, said="it is"),),
    )  # fmt: skip
    found.write(tmp_path / "analysis.json")
    written = json.loads((tmp_path / "analysis.json").read_text())
    assert list(written) == [
        "title", "num_test_samples", "num_seeds", "level", "verdict", "targets", "sources", "sizes", "curves", "gains",
        "versus", "needs", "worths", "converged", "crossovers", "shift", "mixing", "scaling", "audits", "seconds",
        "seconds_by_part",
    ]  # fmt: skip
    json.dumps(written, allow_nan=False)
    assert (found.title, found.num_test_samples, found.num_seeds, found.level) == ("A study", 256, 3, 0.9)
    assert written["targets"][0]["knobs"] == {"anisotropy": [5, 10]}
    assert written["scaling"]["axes"][0]["points"] == [{"x": 1.0, "values": [0.1, None]}]
    assert found.shift.tasks[0].values == {"spectra": 1.0}
    assert written["shift"]["tasks"][1]["values"] == {"spectra": None}
    assert len(found.curves) == 2 + 2 + 2 + 1
    assert Analysis.model_validate(written).verdict == found.verdict


def test_numbers_and_verdict_of_a_clear_study():
    found = analyze(make_study(), **NAMED, **MORE)
    assert [g.gain for g in found.gains] == pytest.approx([4.0] * 4)
    assert [n.ratio for n in found.needs] == pytest.approx([16.0] * 2)
    assert 3 <= len(found.verdict) <= 6
    worth = find(found, "Pre-training is worth it: fine-tuning beats training from scratch in all 4 comparisons")
    assert worth.good is True
    assert "4 [90 %: 4 to 4]" in worth.evidence
    saved = find(found, "To match training from scratch on 1,024 samples, fine-tuning needs 16 times fewer")
    assert saved.good is True
    assert "64 samples" in saved.evidence
    assert (saved.statistic, saved.low, saved.high) == pytest.approx((16, 16, 16))
    assert (worth.statistic, worth.threshold) == pytest.approx((4, 1))
    assert find(found, "None of 4 comparisons shows negative transfer, and").good is True
    assert "no measure of shift was given" in find(found, "follow the shift could not be measured").said
    assert find(found, "How the gain depends on size could not be measured").good is None


def test_negative_transfer_is_said():
    rows = [replace(r, relative_l2=8 * r.relative_l2) if r.kind == "few_shot" else r for r in make_study()]
    found = analyze(rows, **NAMED, **MORE)
    hurts = find(found, "Pre-training hurts (negative transfer) in 4 of 4 comparisons")
    assert hurts.good is False
    assert "2 times the error from scratch" in hurts.said
    assert "5 % would be called so by chance" in hurts.evidence
    assert find(found, "loses in 4").good is False
    needs = find(found, "more than the 256 measured (less than 4 times fewer)")
    assert needs.good is None


def test_zero_shot_above_one_and_bounds_are_said():
    rows = [replace(r, relative_l2=1.4) if r.kind == "zero_shot" and r.target == TASKS[1] else r for r in make_study()]
    rows = [replace(r, relative_l2=0.01) if r.kind == "zero_shot" and r.target == TASKS[0] else r for r in rows]
    found = analyze(rows, **NAMED, **MORE)
    assert find(found, "Zero-shot is worse than answering zero everywhere on 1 of 2 tasks").good is None
    saved = find(found, "at least 64 times fewer at best")
    assert "16 times fewer at worst (poisson → poisson-10-20)" in saved.said
    assert "zero-shot alone already reaches it for poisson → poisson-5-10" in saved.evidence


def test_ends_that_do_not_differ_are_told_once():
    rows = [replace(r, relative_l2=0.01) if r.kind == "zero_shot" else r for r in make_study()]
    said = find(analyze(rows, **NAMED, **MORE), "To match").said
    assert "at least 64 times fewer for all 2 pairs of source and target" in said
    assert "at best" not in said


def test_broken_runs_are_said_and_left_blank():
    rows = make_study()
    rows[0] = replace(rows[0], relative_l2=math.nan)
    found = analyze(rows, **NAMED, **MORE)
    first = found.verdict[0]
    assert first.said.startswith(f"1 of {len(rows)} scores are not finite")
    assert first.good is False
    assert rows[0].run in first.evidence
    assert found.curves[0].points[0].median is None
    assert [g.gain is None for g in found.gains].count(True) == 1


def test_one_seed_is_never_called_certain():
    found = analyze([row for row in make_study() if row.seed == 0], **NAMED, **MORE)
    assert found.num_seeds == 1
    assert {s.good for s in found.verdict} == {None}
    assert "nothing is certain" in find(found, "smaller error in 4 of 4").said
    find(found, "Negative transfer cannot be judged, since there is no interval")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({"zero_shot"}, "nothing was fine-tuned"),
        ({"few_shot", "zero_shot"}, "nothing was trained from scratch"),
        ({"from_scratch"}, "nothing was fine-tuned"),
        ({"in_distribution"}, "nothing was fine-tuned"),
    ],
)
def test_what_is_missing_is_said(kinds, words):
    found = analyze([row for row in make_study() if row.kind in kinds], **NAMED, **MORE)
    assert (found.gains, found.needs, found.mixing) == ((), (), ())
    assert sum(words in text for text in said(found)) == 3
    assert {s.good for s in found.verdict} == {None}


def test_nothing_at_all_is_an_error():
    with pytest.raises(DataError, match="no rows"):
        analyze([], **NAMED, **MORE)


@pytest.mark.parametrize(
    ("factor", "words", "good"),
    [
        (2.0, "The gain grows with size: from 4 to 8", True),
        (0.5, "The gain shrinks with size: from 4 to 2", False),
        (1.0, "The gain does not clearly depend on size", None),
    ],
)
def test_size_is_judged_by_intervals_that_do_not_overlap(factor, words, good):
    rows = make_study()
    large = [replace(row, size="large", run=f"large/{row.run}") for row in rows]
    large = [replace(r, relative_l2=r.relative_l2 / factor) if r.kind == "few_shot" else r for r in large]
    sentence = find(analyze([*rows, *large], **NAMED, **MORE), words)
    assert sentence.good is good
    assert "10,000,000 weights" in sentence.evidence
    assert "factor of 10" in sentence.said


def test_bounds_are_rounded_so_that_they_stay_true():
    found = analyze(
        make_rows("few_shot", {4: [0.010, 0.011]}) + make_rows("from_scratch", {4: [0.5, 0.5], 1027: [0.02, 0.02]}),
        title="t", num_test_samples=8, **NAMED,
    )  # fmt: skip
    assert find(found, "at least 256 times fewer")


@pytest.mark.parametrize("others", [(), ("of a scaling law alone",)])
def test_growth_seen_in_one_comparison_says_so(others):
    rows = [
        row
        for size, error in (("small", 0.05), ("large", 0.02))
        for row in make_rows("few_shot", {4: [error, error * 1.01]}, size=size)
        + make_rows("from_scratch", {4: [0.1, 0.101]}, size=size)
    ]
    sizes = [*SIZES, *(SIZES[0].model_copy(update={"name": name, "num_params": 1}) for name in others)]
    found = analyze(rows, title="t", num_test_samples=8, **(NAMED | {"sizes": sizes}))
    assert find(found, "The gain grows with size, in the one comparison that has all sizes")


def test_one_size_has_no_sentence_about_size():
    found = analyze(make_study(), **(NAMED | {"sizes": SIZES[:1]}), **MORE)
    assert not any("size" in text for text in said(found))


def shifted(errors):
    names = [f"poisson-{i}" for i in range(len(errors))]
    targets = [Target(name=name, system="poisson", label=name) for name in names]
    rows = [make_row("zero_shot", e, target=n) for e, n in zip(errors, names, strict=True)]
    values = {("poisson", name): {"spectra": float(i)} for i, name in enumerate(names)}
    return analyze(rows, **(NAMED | {"targets": targets}), **MORE, shift_values=values)


def test_shift_is_judged_by_its_p_value():
    found = find(shifted([0.1, 0.2, 0.3, 0.4, 0.5]), "Stronger shifts give larger zero-shot errors")
    assert found.good is True
    assert "rank correlation 1.00 over 5 tasks" in found.said
    assert (round(found.statistic, 9), found.unit) == (1, "rank correlation")
    assert find(shifted([0.5, 0.4, 0.3, 0.2, 0.1]), "Zero-shot errors fall").good is False
    assert find(shifted([0.1, 0.2, 0.3]), "do not clearly follow the shift: at best rank correlation 1.00").good is None
    find(shifted([0.1, 0.2]), "no measure has three tasks")


@pytest.mark.parametrize(
    ("factor", "words", "good"), [(0.5, "beats the specialist in 3 of 3", True), (2, "loses in 3", False)]
)
def test_mixture_against_specialist(factor, words, good):
    rows = make_study()
    few = [row for row in rows if row.kind == "few_shot" and row.target == TASKS[0]]
    for name, by in (("mixture", factor), ("others", 3)):
        rows += [replace(r, source=name, relative_l2=by * r.relative_l2, run=f"{name}/{r.run}") for r in few]
    sentence = find(analyze(rows, **NAMED, **MORE), words)
    assert sentence.good is good
    assert "never saw the target's system against its specialist: 3, geometric mean" in sentence.evidence


def test_other_methods_are_named_and_kept_out_of_the_headline():
    rows = make_study()
    part = [
        replace(r, method="head", run=f"head/{r.run}", relative_l2=3 * r.relative_l2)
        for r in rows
        if r.kind == "few_shot"
    ]
    found = analyze([*rows, *part], **NAMED, **MORE)
    assert len(found.needs) == 4
    assert "16 times fewer for all 2 pairs" in find(found, "To match").said
    assert "by head" not in find(found, "To match").said
    assert "poisson → poisson-5-10 by head, small, 16 samples" in find(found, "Pre-training is worth it").evidence


def test_one_seed_is_not_certain_about_a_bound_either():
    rows = make_rows("few_shot", {16: [0.1]}) + make_rows("from_scratch", {256: [0.2]})
    assert find(analyze(rows, **NAMED, **MORE), "at least 16 times fewer").good is None


def test_growth_in_a_minority_of_comparisons_is_not_called_growth():
    rows = make_study()
    large = [replace(row, size="large", run=f"large/{row.run}") for row in rows]
    large = [
        replace(r, relative_l2=r.relative_l2 / 2)
        if (r.kind, r.num_samples, r.target) == ("few_shot", 16, TASKS[0])
        else r
        for r in large
    ]
    sentence = find(analyze([*rows, *large], **NAMED, **MORE), "The gain does not clearly depend on size")
    assert "in 1 of 4 (1 larger, 0 smaller)" in sentence.evidence
