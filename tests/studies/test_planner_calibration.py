from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import study_table
from scifm.errors import DataError
from scifm.studies.learning_curves import FEW_SHOT, FROM_SCRATCH, Prior
from scifm.studies.planner_calibration import calibrate_planner, curves_of, priors_from_table, widened_level

COUNTS = (4, 8, 16, 32, 64, 128, 256)


def study(prior: Prior, *, num_curves: int = 20, systems: tuple[str, ...] = ("poisson", "helmholtz", "advection")):
    """Rows of curves from scratch as `prior` draws them, shared out among systems."""
    random = np.random.default_rng(0)
    draws = prior.draw(num_curves * len(systems), seed=1)
    rows = []
    for i in range(len(draws.slope)):
        target = f"{systems[i % len(systems)]}-{i}"
        for n in COUNTS:
            clean = draws.level[i] + math.log(draws.floor[i] + (n / 16) ** -draws.slope[i])
            error = math.exp(clean + draws.noise[i] * random.standard_normal())
            rows.append(study_table.make_row("from_scratch", error, n, target=target))
    return rows


def test_curves_of_a_table():
    rows = [
        study_table.make_row("zero_shot", 0.5),
        *study_table.make_rows("few_shot", {16: [0.2, 0.21], 4: [0.4, 0.41]}),
        *study_table.make_rows("from_scratch", {4: [0.9], 16: [0.8]}),
    ]
    curves = {(c.kind, c.seed): c for c in curves_of(rows)}
    assert set(curves) == {("few_shot", 0), ("few_shot", 1), ("from_scratch", 0)}
    assert curves["few_shot", 1].curve.num_samples == (0, 4, 16), "zero-shot first"
    assert curves["few_shot", 1].curve.errors == (0.5, 0.41, 0.21)
    assert curves["from_scratch", 0].curve.num_samples == (4, 16)
    assert curves["few_shot", 1].up_to(15) is None, "zero-shot is no training"


def test_the_number_that_reached_an_error():
    (curve,) = curves_of(study_table.make_rows("from_scratch", {4: [0.4], 16: [0.2], 64: [0.1], 256: [0.15]}))
    reached = curve.reached(16)
    assert [error for error, _ in reached] == [0.1, 0.15]
    assert reached[0][1] == 64
    assert reached[1][1] == pytest.approx(16 * 4 ** (math.log(0.2 / 0.15) / math.log(2))), "on the way down to 0.1"
    assert curve.reached(64) == [], "0.15 had been passed before"
    assert curve.up_to(16).errors == (0.4, 0.2)
    assert curve.up_to(15) is None


def test_right_beliefs_are_calibrated():
    result = calibrate_planner(study(FROM_SCRATCH, num_curves=14), few=16)
    assert len(result.cases) > 120
    assert 0.7 <= result.coverage["all"] <= 0.9
    assert result.coverage["from_scratch"] == result.coverage["all"]
    assert "few_shot" not in result.coverage
    assert list(result.coverages) == sorted(result.coverages)
    apart = [abs(level - found) for level, found in zip(result.levels, result.coverages, strict=True)]
    assert max(apart) < 0.15
    for case in result.cases:
        inside = (case.need.low or 0) <= case.needed <= (math.inf if case.need.high is None else case.need.high)
        assert inside == (case.depth <= 0.8) or case.depth == pytest.approx(0.8, abs=1e-3)


def test_surprises_beyond_the_samples_seen_are_widened_for():
    """Clean points, then jumps: no curve of the family does that. Too narrow, until they are widened."""
    random = np.random.default_rng(0)
    rows = []
    for i, system in enumerate(("poisson", "helmholtz", "advection") * 5):
        for n in COUNTS:
            noise = 0.7 if n > 16 else 0.01
            error = n**-0.6 * math.exp(noise * random.standard_normal())
            rows.append(study_table.make_row("from_scratch", error, n, target=f"{system}-{i}"))
    result = calibrate_planner(rows, few=16, levels=(0.5, 0.8))
    assert result.coverages[1] < 0.7
    assert result.level_to_ask["from_scratch"] > 0.85
    assert 0.7 <= result.widened_coverages[1] <= 0.95


def test_what_is_left_out_is_left_out():
    """The numbers of one system change nothing of what its own prior believes."""
    rows = study(FROM_SCRATCH, num_curves=3)
    before = [c for c in calibrate_planner(rows, few=16).cases if c.curve.system == "poisson"]
    changed = [
        dataclasses.replace(r, relative_l2=0.5 * r.relative_l2) if r.system == "poisson" and r.num_samples > 16 else r
        for r in rows
    ]
    after = [
        c
        for c in calibrate_planner(changed, few=16).cases
        if c.curve.system == "poisson" and c.error in {r.relative_l2 for r in changed}
    ]
    of_64 = {c.curve.target: c for c in after if c.needed == 256}
    pairs = [(c, of_64[c.curve.target]) for c in before if c.needed == 256 and c.curve.target in of_64]
    assert pairs
    for ours, theirs in pairs:
        assert theirs.error == pytest.approx(0.5 * ours.error)
        assert theirs.share <= ours.share, "the same curves, asked for half the error"


def test_priors_for_the_planner():
    steep = dataclasses.replace(FROM_SCRATCH, slope=(1.2, 0.05), no_floor=1.0, noise=(0.02, 0.1))
    priors = priors_from_table(study(steep, num_curves=5))
    assert priors["from_scratch"].slope[0] > 0.9
    assert priors["few_shot"] == FEW_SHOT
    with pytest.raises(DataError, match="no learning curve"):
        priors_from_table([study_table.make_row("zero_shot", 0.5)])


def test_a_study_of_one_system_stands_on_the_starting_prior_and_is_not_widened():
    result = calibrate_planner(study(FROM_SCRATCH, systems=("poisson",)), few=16)
    assert set(result.widened_coverages) == {None}


def test_nothing_to_check_is_said():
    rows = study_table.make_rows("from_scratch", {16: [0.4], 64: [0.2]})
    with pytest.raises(DataError, match="No prediction can be checked"):
        calibrate_planner(rows, few=16)


def test_the_level_to_ask_for():
    depths = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert widened_level(depths, 0.8) == 0.8
    assert widened_level(depths, 0.5) == 0.5
    assert widened_level([0.9] * 9, 0.5) == 0.9
    assert widened_level(depths, 0.95) is None
    assert widened_level([], 0.5) is None
