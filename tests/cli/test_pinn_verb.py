"""``scifm pinn``: one problem from its equation, scored against the solver, with words for what cannot be solved."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scifm.data.origin_config import Curriculum
from scifm.errors import ConfigError
from scifm.runs import Run
from scifm.training.pinn import Solved, problem_recipe, solve, stages_of

TINY = [
    "model.network.width=8", "model.network.num_layers=1", "training.num_steps=8", "training.objective.num_points=40",
    "data.num_points=16", "system.options.num_frames=12",
]  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def solved(out):
    return solve(problem_recipe("convection", {"speed": 2}, curriculum="1:2:0.5", overrides=TINY), out=out).to_dict()


def test_the_verb_says_what_python_does(scifm, solved, out):
    asked = ["pinn", "convection", "--knob", "speed=2", "--curriculum", "1:2:0.5", "--out", out]
    asked += [part for setting in TINY for part in ("--set", setting)]
    said = scifm(*asked, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out) == solved, "the run is found, and not trained again"
    told = scifm(*asked)
    assert "Convection, speed 2" in told.out
    assert f"{solved['error']:.3g} over all frames" in told.out


def test_it_trains_scores_and_keeps_a_forecast_over_all_frames(solved):
    run = Run.open(solved["run"])
    assert run.is_complete
    assert solved["problem"] == "Convection, speed 2"
    assert solved["curriculum"] == "speed 1, 1.5: 2 steps each, then 4 of the problem itself"
    assert run.config["data"]["horizon"] == 11
    assert len(list((run.path / "scores").glob("*.parquet"))) == 1
    (kept,) = run.forecast_files
    record = json.loads(kept.read_text())
    assert (record["num_samples"], record["steps"]) == (1, 11)
    with np.load(kept.with_suffix(".npz")) as frames:
        truth, answer = frames["truth"].astype(float), frames["prediction"].astype(float)
    assert np.linalg.norm(answer - truth) / np.linalg.norm(truth) == pytest.approx(solved["error"], rel=1e-4)
    assert solved["fresh_loss"] > 0


def test_its_page_shows_space_and_time(scifm, solved, tmp_path):
    said = scifm("report", solved["run"], "--out", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert said.status == 0, said.err
    assert "tracer over space and time: truth, prediction, error" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "figures" / "space-time-tracer.pdf").is_file()


def test_of_one_problem_one_trajectory_is_drawn_from_its_start(scifm, solved, tmp_path):
    own = json.loads(scifm("evaluate", solved["run"], "--json", "--out", tmp_path / "a.parquet").out)
    assert own["num_samples"] == 1
    assert own["relative_l2"]["mean"] == pytest.approx(solved["mean_error"], rel=1e-4)
    same = scifm("evaluate", solved["run"], "--system", "convection", "--knob", "speed=2", "--json", "--out",
                 tmp_path / "b.parquet")  # fmt: skip
    assert "another one" not in same.err
    assert json.loads(same.out)["num_samples"] == 1
    march = scifm("rollout", solved["run"], "--steps", 3, "--json")
    assert json.loads(march.out)["num_samples"] == 1


def test_another_problem_is_answered_with_a_warning(scifm, solved):
    said = scifm("rollout", solved["run"], "--system", "convection", "--knob", "speed=5", "--steps", 3, "--json")
    assert said.status == 0, said.err
    assert said.err.count("is asked about another one") == 1
    assert json.loads(said.out)["num_samples"] == 1


@pytest.mark.parametrize(
    ("text", "values", "steps"),
    [
        ("5:30:5", (5, 10, 15, 20, 25), 10),
        ("speed=10:30:20", (10,), 50),
        ("40:30:-4", (40, 36, 32), 16),
        ("29.7:30:0.1", (29.7, 29.8, 29.9), 16),
    ],
)
def test_stages_lead_to_the_problem_and_take_half_of_the_steps(text, values, steps):
    assert stages_of(text, {"speed": 30.0}, 100) == Curriculum(knob="speed", values=values, steps=steps)


@pytest.mark.parametrize(
    ("text", "knobs", "says"),
    [
        ("5:30", {"speed": 30}, "not of the form FIRST:LAST:STEP"),
        ("5:thirty:5", {"speed": 30}, "not of the form FIRST:LAST:STEP"),
        ("5:25:5", {"speed": 30}, "let it end there, 5:30:5"),
        ("5:30:-5", {"speed": 30}, "never gets from 5 to 30"),
        ("30:30:1", {"speed": 30}, "never gets"),
        ("1:30:0.01", {"speed": 30}, "there are 100: give more"),
        ("5:30:5", {}, "here it is none"),
        ("5:30:5", {"speed": 30, "rate": 2}, "here it is speed, rate"),
        ("rate=5:30:5", {"speed": 30}, "--knob rate=VALUE"),
    ],
)
def test_a_curriculum_that_leads_nowhere_is_refused(text, knobs, says):
    with pytest.raises(ConfigError, match=says):
        stages_of(text, knobs, 100)


@pytest.mark.parametrize(
    ("system", "more", "says"),
    [
        ("poisson", {}, "'poisson' is steady"),
        ("euler", {}, "declares no terms"),
        ("convection", {"knobs": {"speed": [1, 40]}}, r"is \[1, 40\], a range"),
        ("convection", {"knobs": {"speed": "fast"}}, "is fast, a range|is fast"),
        ("convection", {"knobs": {"spede": 3}}, "Did you mean 'speed'"),
        ("convection", {"knobs": {"speed": 30}, "curriculum": "-5:30:5"}, "data.curriculum: Knob 'speed'"),
        ("convection", {"recipe": "poisson-tiny"}, "training.objective = 'collocation'"),
        ("convection", {"overrides": ["data.boundary=wall"]}, "not told what holds at its ends"),
    ],
)
def test_what_cannot_be_solved_is_told_before_anything_starts(system, more, says):
    with pytest.raises(ConfigError, match=says):
        problem_recipe(system, **more)


def test_a_system_of_other_axes_has_a_box_of_its_own():
    flat = problem_recipe("allen_cahn")
    assert (flat.data.num_points, flat.data.extent, flat.data.horizon) == (64, 1.0, 20)
    line = problem_recipe("reaction", {"rate": 5})
    assert (line.data.num_points, line.data.horizon, line.name) == (256, 99, "pinn-reaction")
    own = problem_recipe("reaction", overrides=["data.extent=2.0", "data.stride=3"])
    assert (own.data.extent, own.data.horizon) == (2.0, 33)


def test_a_loss_that_holds_at_its_points_alone_is_told():
    about = {"run": None, "problem": "", "curriculum": "", "error": 0.9, "mean_error": 0.9}
    assert "338 times" in Solved(**about, loss=0.025, fresh_loss=8.45).remark
    assert Solved(**about, loss=0.025, fresh_loss=0.2).remark == ""
