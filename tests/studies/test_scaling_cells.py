from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

import tiny
from scifm.findings.study import Scaling
from scifm.studies.recipe import StudyRecipe
from scifm.studies.scaling import cells_of, scaling_findings
from study_table import make_row

SIZES = {"w1": 1e4, "w2": 4e4, "w3": 1.6e5, "w4": 6.4e5}
STEPS = (375, 750, 1500, 3000)


def law(n: float, d: float) -> float:
    return 0.001 + 2.0 * n**-0.5 + 4.0 * d**-0.6


def grid(steps=STEPS, sizes=SIZES):
    for size, n in sizes.items():
        for step in steps:
            for seed in (0, 1):
                samples = 32 * step
                source = "poisson" if step == 3000 else f"poisson+{step}"
                base = make_row("in_distribution", law(n, samples), seed=seed, source=source, target="own", size=size)
                yield replace(
                    base, num_params=int(n), num_pretrain_samples=samples, num_samples=0, flops=6.0 * n * samples
                )


def recipe(**scaling) -> StudyRecipe:
    tree = tiny.graph_study(
        sizes=["w2"],
        models={size: {"network": tiny.NETWORK} for size in SIZES},
        scaling={"source": "poisson", "sizes": list(SIZES), "num_steps": list(STEPS), **scaling},
    )
    return StudyRecipe.read(tree)


def test_cells_hold_every_seed_once_and_average_the_systems_of_a_mixture():
    rows = [replace(r, relative_l2=r.relative_l2 * (1 + r.seed)) for r in grid(steps=(375,), sizes={"w1": 1e4})]
    twice = [*rows, *(replace(r, target="poisson+helmholtz", relative_l2=3 * r.relative_l2) for r in rows)]
    (cell,) = cells_of(twice, "poisson")
    assert cell.errors == pytest.approx([2 * r.relative_l2 for r in rows])
    assert cells_of(twice, "pois") == []


@pytest.fixture(scope="module")
def known() -> Scaling:
    return scaling_findings(recipe(), list(grid()))


def test_the_law_behind_the_cells_is_found_and_told(known):
    found = known
    axes = {axis.axis: axis for axis in found.axes}
    assert [point.x for point in axes["samples"].points] == [32 * s for s in STEPS]
    assert [point.x for point in axes["size"].points] == list(SIZES.values())
    assert axes["samples"].verdict == "not saturated"
    compute = axes["compute"].points
    assert all(a.values > b.values for a, b in pairwise(compute))
    joint = found.joints[0]
    assert joint.parameters["alpha"].value == pytest.approx(0.5, rel=1e-3)
    assert joint.parameters["beta"].value == pytest.approx(0.6, rel=1e-3)
    assert joint.held_out_error < 1e-3
    assert "16 cells" in joint.told
    budgets = [point.flops for point in joint.frontier]
    assert budgets == sorted(budgets)
    errors = [point.error for point in joint.frontier]
    assert errors == sorted(errors, reverse=True)


def test_too_few_cells_are_said_to_be_too_few():
    found = scaling_findings(recipe(), list(grid(steps=(375, 3000))))
    assert found.joints[0].text is None
    assert "together" in found.joints[0].told
    assert found.joints[0].frontier == ()


def test_nothing_is_said_where_nothing_was_asked():
    assert scaling_findings(StudyRecipe.read(tiny.graph_study(scaling=None)), list(grid())) == Scaling()


def test_where_operations_cannot_be_counted_nothing_is_said_about_compute(known):
    unknown = [replace(row, flops=None) for row in grid()]
    found = scaling_findings(recipe(), unknown)
    assert [axis.axis for axis in known.axes] == ["samples", "size", "compute"]
    assert [axis.axis for axis in found.axes] == ["samples", "size"]
    assert known.joints[0].frontier
    assert found.joints[0].frontier == ()
    assert "cannot be counted" in found.joints[0].told
    assert found.joints[0].parameters == known.joints[0].parameters
