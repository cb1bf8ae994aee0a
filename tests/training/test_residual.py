"""Pre-training by the equation: without a solution anywhere, with some, and what makes no sense."""

from __future__ import annotations

import pytest
import torch

import tiny
from scifm.errors import ConfigError
from scifm.fields.seeds import generator_for
from scifm.models.registry import load_operator
from scifm.objectives import MeanSquaredError, RelativeL2, Residual
from scifm.objectives.contract import ObjectiveContract
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import PretrainRecipe, fitting_samples, pretrain, training_source

HYBRID = {"name": "relative_l2", "residual": 0.5}


def tree(objective="residual", **data):
    return tiny.recipe(data=data, training={"objective": objective, "num_steps": 3})


def errors(run):
    return [event["relative_l2"] for event in run.metrics() if event["event"] == "valid"]


class TestHybridContract(ObjectiveContract):
    """With a residual a supervised objective keeps its promises, but for what is only true of the truth in float64."""

    objective = MeanSquaredError(residual=1.0)

    def batch(self, num_samples: int = 5):
        return tiny.batch(num_samples, dtype=torch.float64)

    def test_it_is_one_number_zero_at_the_truth_and_grows_with_the_error(self):
        assert self.loss(self.batch(), 0.0)[0] < 1e-10
        assert self.loss(self.batch(), 0.1)[0] < self.loss(self.batch(), 0.2)[0]


def test_it_is_the_sum_of_both():
    contract, batch = ObjectiveContract(), tiny.batch(6, dtype=torch.float64)
    parts = []
    for objective in (RelativeL2(), RelativeL2(residual=0.5), RelativeL2(residual=0.5, residual_norm="l2")):
        contract.objective = objective.on(batch)
        parts.append(float(contract.loss(batch)[0]))
    operator = contract.operator(batch)
    for norm, both in ((None, parts[1]), ("l2", parts[2])):
        asked = Residual(norm=norm).on(batch).equation.missed(operator(batch)).mean().detach()
        assert both == pytest.approx(parts[0] + 0.5 * float(asked), rel=1e-10)


def test_unsolved_samples_count_for_the_equation_alone():
    """Their targets change nothing, and without the equation they teach nothing."""
    recipe = PretrainRecipe.read(tree(HYBRID, num_samples=8, num_solved=2))
    batch = training_source(recipe).batch(0)
    operator = tiny.operator()
    generator = generator_for(0, "objective")
    found = {}
    for objective in (RelativeL2(residual=0.5), RelativeL2()):
        prepared = objective.on(batch)
        for number in (0.0, 1e6, float("nan")):
            given = batch.with_targets(torch.where(batch.valid_targets, batch.targets, number), batch.valid_targets)
            value = prepared(operator, given, step=0, generator=generator)
            found.setdefault(objective.residual, []).append(value.detach())
    for own in found.values():
        assert own[0] == own[1] == own[2]
    solved = RelativeL2().on(batch)(operator, batch.select([0, 2]), step=0, generator=generator)
    assert found[0.0][0] == pytest.approx(float(solved) / 2, rel=1e-5)
    assert found[0.5][0] > found[0.0][0]


@pytest.mark.parametrize("data", [{}, {"num_samples": 8}, {"num_samples": 8, "num_solved": 0}])
def test_nothing_is_solved_but_what_scores(data, tmp_path, monkeypatch):
    """Neither to train nor to fit the normalization: whatever solutions would be, the model is the same."""
    counted, sample = [], Poisson.sample

    def counting(self, num_samples, *args, **settings):
        counted.append(num_samples)
        return sample(self, num_samples, *args, **settings)

    monkeypatch.setattr(Poisson, "sample", counting)
    run = pretrain(tree(**data), out=tmp_path)
    assert counted == [4]  # those that validate
    assert errors(run)[-1] < 2.0


def test_a_guess_is_of_the_size_of_solutions():
    """The normalization that is fitted without solutions is that of solutions within a factor, of both kinds."""
    for settings in ({}, {"system": {"name": "burgers"}, "model": {"normalization": "constant"}}):
        recipe = PretrainRecipe.read({**tree(), **settings} if settings else tree())
        origin = recipe.origin
        guessed = fitting_samples(recipe, origin, training_source(recipe, origin))
        solved = origin.fitting(8, 0)
        change = [b.targets - (b.inputs[:, -1:] if origin.signature.evolves else 0) for b in (guessed, solved)]
        ratio = float(change[0].square().mean().sqrt() / change[1].square().mean().sqrt())
        assert 0.2 < ratio < 5


def test_what_evolves_learns_from_beginnings_alone(tmp_path, monkeypatch):
    small = {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8, "horizon": 2}
    settings = {**tree(), "system": {"name": "burgers", "options": {"num_frames": 4}}, "data": small}
    run = pretrain(settings, out=tmp_path)
    operator = load_operator(run.path / "model")
    assert operator.domain.lead_times == pytest.approx((0.05, 0.05))
    with pytest.raises(ConfigError, match="history = 2: frames before"):
        pretrain({**settings, "data": {**small, "history": 2}}, out=tmp_path)
    assert Burgers.name in next(event for event in run.metrics() if event["event"] == "floor")


def test_a_mixture_learns_by_its_equations_and_by_some_solutions(tmp_path):
    members = [{"name": "poisson"}, {"name": "helmholtz"}]
    mixed = {key: value for key, value in tree().items() if key != "system"} | {"mixture": members}
    floors = next(event for event in pretrain(mixed, out=tmp_path).metrics() if event["event"] == "floor")
    assert {"poisson", "helmholtz"} <= set(floors)
    mixed = {**mixed, "training": {**mixed["training"], "objective": HYBRID}}
    mixed["data"] = {**mixed["data"], "num_samples": 12, "num_solved": 4}
    assert errors(pretrain(mixed, out=tmp_path))[-1] < 2.0


def test_partly_solved_samples_leave_no_gaps_in_what_an_operator_says_of_itself(tmp_path):
    run = pretrain(tree(HYBRID, num_samples=8, num_solved=2), out=tmp_path)
    operator = load_operator(run.path / "model")
    assert not operator.domain.gaps
    assert operator.predict(tiny.batch(2)).valid_targets is None


@pytest.mark.parametrize(
    ("objective", "data", "told"),
    [
        ("relative_l2", {"num_samples": 8, "num_solved": 0}, "learns from solutions"),
        (HYBRID, {"num_samples": 8, "num_solved": 0}, "learns from solutions"),
        ("relative_l2", {"num_samples": 8, "num_solved": 4}, "learns nothing: give it a residual"),
        ("residual", {"num_samples": 8, "num_solved": 4}, "reads no solution"),
        ("masked", {"num_samples": 8, "num_solved": 4}, "reads no solution"),
        (HYBRID, {"num_solved": 4}, "fresh ones are endless"),
        (HYBRID, {"num_samples": 8, "num_solved": 9}, "more than data.num_samples"),
        ({"name": "relative_l2", "residual_norm": "l2"}, {}, "residual = 0 asks no equation"),
        (HYBRID, {"num_samples": 8, "num_solved": 4, "store": "somewhere"}, "num_samples draws from a system"),
    ],
)
def test_what_makes_no_sense_is_refused(objective, data, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        pretrain(tree(objective, **data), out=tmp_path)


def test_a_divergence_without_targets_is_told(tmp_path):
    from scifm.training.loop import DivergedError

    wild = tree()
    wild["training"] |= {"learning_rate": 1e30, "num_steps": 20, "schedule": "constant"}
    with pytest.raises(DivergedError):
        pretrain(wild, out=tmp_path)


def test_a_resumed_run_is_the_one_never_stopped(tmp_path):
    """With half of each batch unsolved, bit for bit."""
    settings = tree(HYBRID, num_samples=8, num_solved=3)
    settings["training"] |= {"num_steps": 6, "checkpoint_every": 2}
    whole = load_operator(pretrain(settings, out=tmp_path / "whole").path / "model")

    def stop(**event):
        if event["event"] == "step" and event["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, out=tmp_path / "parts", observe=stop)
    again = load_operator(pretrain(settings, out=tmp_path / "parts").path / "model")
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
