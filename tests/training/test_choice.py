from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

import tiny
from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.origins import SystemOrigin
from scifm.errors import RunError
from scifm.models.registry import load_operator
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.systems.system import Knob
from scifm.training import loop
from scifm.training.choice import AdaptRecipe, Candidate, Trial, choose, rounds
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import pretrain

UNTRAINED = Candidate(0.0, "pretrained")
LONG: dict[str, Any] = {"num_steps": 40, "learning_rate": 1e-2, "validate_every": 20, "checkpoint_every": 40}


def trial(candidate: Candidate, *errors: float, steps: int = 1) -> Trial:
    return Trial(**vars(candidate), num_steps=steps, num_splits=1, samples_seen=steps, errors=errors or None)


# --- rounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "planned"),
    [(1, [(1, 200)]), (2, [(2, 200)]), (3, [(3, 66), (2, 100)]), (6, [(6, 33), (2, 100)]), (400, [(400, 1), (2, 100)])],
)
def test_the_budget_does_not_grow_with_the_number_of_candidates(candidates, planned):
    assert rounds(candidates, 200, 2.0) == planned
    assert sum(count * steps for count, steps in planned) <= max(2 * 200, 400 + 200)


def test_two_candidates_need_no_second_round():
    assert rounds(2, 200, 1.0) == [(2, 100)]
    assert rounds(3, 200, 1.0) == [(3, 33), (2, 50)]


def test_no_trial_is_longer_than_the_training_it_stands_for():
    assert rounds(5, 10, 100.0) == [(5, 10)]
    assert all(steps <= 10 for _, steps in rounds(5, 10, 4.9))


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_the_worse_are_ruled_out_early_and_the_best_of_the_long_trials_is_chosen():
    ways = [Candidate(rate) for rate in (1.0, 2.0, 3.0, 4.0)]
    short, long = {1.0: 0.4, 2.0: 0.3, 3.0: 0.2, 4.0: 0.9}, {2.0: 0.1, 3.0: 0.2}
    asked = []

    def attempt(way: Candidate, steps: int) -> Trial:
        asked.append((way.learning_rate, steps))
        return trial(way, (short if steps == 25 else long)[way.learning_rate], steps=steps)

    best, trials = choose(ways, attempt, num_steps=100, budget=2.0)
    assert asked == [(1.0, 25), (2.0, 25), (3.0, 25), (4.0, 25), (3.0, 50), (2.0, 50)]
    assert best.candidate == ways[1]
    assert len(trials) == 6
    again, repeated = choose(ways, attempt, num_steps=100, budget=2.0, done=trials[:5])
    assert (again, repeated) == (best, trials)
    assert asked[6:] == [(2.0, 50)], "what an interrupted sitting tried is not tried again"


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ({10: 0.5, 20: 0.4, 40: 0.3, 80: 0.2}, 80),
        ({10: 0.5, 20: 0.4, 40: 0.395}, 20),  # less than 2 % better: no longer falling
        ({10: 0.5, 20: 0.6}, 10),
    ],
)
def test_steps_are_doubled_as_long_as_the_error_falls(errors, chosen):
    rates = (1.0, 2.0)

    def attempt(way: Candidate, steps: int) -> Trial:
        return trial(way, errors[steps] if way.learning_rate == 2.0 else 0.9, steps=steps)

    best, trials = choose([Candidate(r) for r in rates], attempt, num_steps=10, budget=2.0, max_doublings=3)
    assert (best.candidate.learning_rate, best.num_steps) == (2.0, chosen)
    assert [t.num_steps for t in trials] == [10, *errors]
    with pytest.raises(ValueError, match=r"max_doublings = .* takes two learning rates"):
        AdaptRecipe(learning_rates=(1e-3,), max_doublings=1)


def test_before_doubling_the_best_is_tried_at_the_length_that_is_doubled():
    def attempt(way: Candidate, steps: int) -> Trial:
        return trial(way, 1.0 / (steps * way.learning_rate), steps=steps)

    best, trials = choose([Candidate(r) for r in (1.0, 2.0, 3.0)], attempt, num_steps=30, budget=2.0, max_doublings=1)
    assert [t.num_steps for t in trials] == [10, 10, 10, 15, 15, 30, 60]
    assert best.num_steps == 60


def test_the_best_with_either_constants_goes_on():
    ways = [Candidate(rate, which) for which in ("pretrained", "refitted") for rate in (1.0, 2.0, 3.0)]
    short = dict(zip(ways, (0.5, 0.3, 0.4, 0.9, 0.8, 0.7), strict=True))  # all refitted ones are behind at first

    def attempt(way: Candidate, steps: int) -> Trial:
        return trial(way, short[way] if steps < 10 else 0.2 - 0.1 * (way.coefficients == "refitted"), steps=steps)

    best, trials = choose(ways, attempt, num_steps=20, budget=2.0)
    assert [t.candidate for t in trials[6:]] == [ways[1], ways[5]]
    assert best.candidate == ways[5]


def test_a_candidate_that_diverges_goes_no_further():
    def attempt(way: Candidate, steps: int) -> Trial:
        return trial(way, steps=steps) if way.learning_rate < 3 else trial(way, 0.5, steps=steps)

    best, trials = choose([Candidate(r) for r in (1.0, 2.0, 3.0)], attempt, num_steps=30, budget=2.0)
    assert best.candidate == Candidate(3.0)
    assert [t.candidate.learning_rate for t in trials] == [1, 2, 3, 3]


def test_where_all_diverge_no_second_round_is_made():
    ways = [Candidate(r) for r in (1.0, 2.0, 3.0)]
    best, trials = choose(ways, lambda way, steps: trial(way), num_steps=30, budget=2.0)
    assert best.errors is None
    assert len(trials) == 3
    ways = [UNTRAINED, *(Candidate(r, "pretrained") for r in (1.0, 2.0, 3.0))]
    best, _ = choose(ways, lambda way, _: trial(way, *((0.5,) * (way == UNTRAINED))), num_steps=30, budget=2.0)
    assert best.candidate == UNTRAINED


@pytest.mark.parametrize("text", ["[{", "{}x", '[{"learning_rate": 1.0}]', "[1]", '{"a": 1}'])
def test_what_are_no_trials_is_told(text, tmp_path):
    file = tmp_path / "trials.json"
    assert Trial.read_all(file) == []
    file.write_text(text)
    with pytest.raises(RunError, match=r"trials\.json' cannot be read as trials .* Delete it"):
        Trial.read_all(file)


@pytest.mark.parametrize(
    ("gains", "trains"),
    [
        ((0.1, 0.1, 0.1, 0.1), True),
        ((0.3, 0.0, 0.1, 0.2), True),
        ((0.9, -0.1, -0.2, -0.1), False),  # one sample speaks for it, three against
        ((0.0, 0.0, 0.0, 0.0), False),
        ((-0.1, -0.1, -0.1, -0.1), False),
        ((0.01,), True),
    ],
)
def test_not_to_train_is_left_for_what_is_better_beyond_doubt(gains, trains):
    errors = {0.0: (1.0,) * len(gains), 1e-3: tuple(1 - gain for gain in gains)}
    best, _ = choose(
        [UNTRAINED, Candidate(1e-3, "pretrained")],
        lambda way, steps: trial(way, *errors[way.learning_rate]),
        num_steps=10,
        budget=2.0,
    )
    assert (best.candidate != UNTRAINED) is trains


def test_a_trial_goes_through_json(tmp_path):
    made = [trial(Candidate(1e-3, "refitted"), 0.1, 0.2), trial(Candidate(1.0)), trial(UNTRAINED, 0.3)]
    (tmp_path / "trials.json").write_text(json.dumps([one.to_dict() for one in made]))
    assert Trial.read_all(tmp_path / "trials.json") == made
    assert trial(Candidate(1.0)).to_dict()["relative_l2"] is None
    assert math.isinf(trial(Candidate(1.0)).score)


# --- what is chosen from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 1e-2), (1e-3, 3e-3, 1e-2)])
@pytest.mark.parametrize("refit", ["never", "try", "always"])
def test_candidates_and_their_steps(rates, refit):
    recipe = AdaptRecipe(learning_rates=rates, refit_coefficients=refit, num_samples=64, training={"num_steps": 60})
    ways = recipe.candidates(fits=True)
    which = {"never": ["pretrained"], "try": ["pretrained", "refitted"], "always": ["refitted"]}[refit]
    if len(rates) == 1:
        assert ways == (Candidate(1e-3, which[0]),)
        assert recipe.steps_of_trials(ways) == 0
    else:
        assert ways == (UNTRAINED, *(Candidate(rate, one) for one in which for rate in rates))
        assert recipe.steps_of_trials(ways) == 2 * 120, "64 samples: two splits hold out 26"
    without = recipe.candidates(fits=True, has_coefficients=False)
    assert {way.coefficients for way in without} == {"pretrained"}, "there is nothing to refit"
    surgery = recipe.candidates(fits=False)
    assert {way.coefficients for way in surgery} == {"refitted"}, "channels of its own: all constants are fitted"


def test_few_samples_are_held_out_in_turns():
    assert len(AdaptRecipe(num_samples=4).splits) == 4
    assert len(AdaptRecipe(num_samples=16).splits) == 5
    assert len(AdaptRecipe(num_samples=256).splits) == 1
    assert len(AdaptRecipe(num_samples=4, min_scored=1).splits) == 1
    for left, held_out in AdaptRecipe(num_samples=16).splits:
        assert sorted([*left.tolist(), *held_out.tolist()]) == list(range(16))
    scored = [place for _, held_out in AdaptRecipe(num_samples=16).splits for place in held_out.tolist()]
    assert len(scored) == len(set(scored)) == 15


# --- weights between ------------------------------------------------------------------------------------------------


def test_weights_between_are_between_and_the_best_share_is_chosen(tmp_path):
    parent = pretrain(tiny.recipe(training=LONG), out=tmp_path)
    far = SystemOrigin.of(Poisson(anisotropy=Knob(5, 10)), tiny.GRID).pool(16, 0)
    settings: dict[str, Any] = {
        "num_samples": 16,
        "training": {"num_steps": 16, "batch_size": 8, "checkpoint_every": 100},
        "refit_coefficients": "never",
    }
    alone = {"learning_rates": (3e-2,), **settings}
    whole = finetune(parent, far, out=tmp_path, **alone)
    half = finetune(parent, far, out=tmp_path, interpolation=(0.5,), **alone)
    zero, one, between = (dict(load_operator(run.path / "model").named_parameters()) for run in (parent, whole, half))
    for name, weight in between.items():
        torch.testing.assert_close(weight, (zero[name] + one[name]) / 2)
    assert half.read_json("outcome.json")["interpolation"] == 0.5
    assert "interpolation" not in whole.read_json("outcome.json")

    several = {"learning_rates": (3e-2, 1e-1), "try_zero_shot": False, **settings}
    by_share = {
        share: finetune(parent, far, out=tmp_path, interpolation=(share,), **several).read_json("trials.json")
        for share in (0.25, 0.5, 1.0)
    }
    chosen = finetune(parent, far, out=tmp_path, interpolation=(0.25, 0.5, 1.0), **several)
    for place, trial in enumerate(chosen.read_json("trials.json")):
        ways = {share: trials[place]["relative_l2"] for share, trials in by_share.items()}
        assert trial["relative_l2"] == pytest.approx(min(ways.values()), rel=1e-5), "none costs a step"
        assert ways[trial["interpolation"]] == min(ways.values())
    best = min(chosen.read_json("trials.json"), key=lambda trial: trial["furthest"])
    assert best["furthest"] == pytest.approx(min(trial["relative_l2"] for trial in by_share[1.0]), rel=1e-5)
    assert chosen.read_json("outcome.json").get("interpolation", 1.0) == best["interpolation"]


@pytest.mark.parametrize("wrong", [(), (0.0,), (1.5,)])
def test_a_share_of_the_way_is_above_nothing_and_at_most_all(wrong):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        AdaptRecipe(interpolation=wrong)


def test_several_shares_take_held_out_samples():
    with pytest.raises(ValueError, match="two learning rates or more"):
        AdaptRecipe(interpolation=(0.5, 1.0), learning_rates=(1e-3,))


# --- constants of coefficients ----------------------------------------------------------------------------------------


def test_refitted_coefficients_are_spread_about_zero_and_nothing_else_moves():
    near, far = Helmholtz(), Helmholtz().where(wavenumber_shift=[10, 15])
    before = fit_normalization(near.sample(64, tiny.GRID, torch.Generator().manual_seed(0)), near.homogeneities)
    batch = far.sample(64, tiny.GRID, torch.Generator().manual_seed(1))
    after = refit_coefficients(before, near.signature, batch)
    place = near.signature.coefficients.index("wavenumber_shift")
    column = after.encode(batch).coefficients[:, place]
    assert float(column.mean()) == pytest.approx(0, abs=1e-5)
    assert float(column.std(correction=0)) == pytest.approx(1, rel=1e-4)
    assert float(before.encode(batch).coefficients[:, place].mean()) > 1.5
    constant = near.signature.coefficients.index("diffusivity")
    assert after.coefficient_scale[constant] == before.coefficient_scale[constant], "it does not vary"
    assert torch.equal(after.encode(batch).inputs, before.encode(batch).inputs)
    assert torch.equal(after.encode(batch).output_scale, before.encode(batch).output_scale)


def test_coefficients_the_samples_lack_keep_their_constants():
    systems = [Poisson(), Helmholtz()]
    mixture = MixtureOrigin(tuple(Member(SystemOrigin.of(system, tiny.GRID)) for system in systems))
    signature = mixture.signature
    parts = [
        s.sample(32, tiny.GRID, torch.Generator().manual_seed(i)).aligned(signature) for i, s in enumerate(systems)
    ]
    whole = type(parts[0]).concatenate(parts)
    before = fit_normalization(whole, mixture.homogeneities)
    after = refit_coefficients(before, signature, Helmholtz().sample(8, tiny.GRID, torch.Generator().manual_seed(5)))
    for place, name in enumerate(signature.coefficients):
        if name.startswith("diffusion_"):
            assert after.coefficient_shift[place] == before.coefficient_shift[place]
            assert after.coefficient_scale[place] == before.coefficient_scale[place]


def test_fine_tuning_can_choose_to_refit_and_says_so(tmp_path):
    parent = pretrain(
        {**tiny.recipe(training=LONG), "system": {"name": "helmholtz"}},
        out=tmp_path,
    )
    far = SystemOrigin.of(Helmholtz().where(wavenumber_shift=[30, 40]), tiny.GRID).pool(16, 0)
    settings = {
        "num_samples": 16,
        "learning_rates": (1e-3, 1e-2),
        "training": {"num_steps": 16, "batch_size": 8, "checkpoint_every": 100},
    }
    forced = finetune(parent, far, out=tmp_path, refit_coefficients="always", **settings)
    before, after = (load_operator(run.path / "model").normalization for run in (parent, forced))
    assert after.coefficient_shift != before.coefficient_shift
    assert after.input_scale == before.input_scale
    assert {t["coefficients"] for t in forced.read_json("trials.json")} == {"pretrained", "refitted"}  # not to train
    chosen = finetune(parent, far, out=tmp_path, **settings)
    outcome, trials = chosen.read_json("outcome.json"), chosen.read_json("trials.json")
    assert {t["coefficients"] for t in trials} == {"pretrained", "refitted"}
    assert outcome["num_trials"] == 5
    assert outcome["trial_steps"] == sum(t["num_steps"] * t["num_splits"] for t in trials) == 5 * (4 * 4 + 2 * 8)
    last = [t for t in trials if t["num_steps"] == max(t["num_steps"] for t in trials)]
    assert outcome["coefficients"] == min(last, key=lambda t: t["relative_l2"])["coefficients"]
    scratch = from_scratch(parent, far, out=tmp_path, **settings).read_json("outcome.json")
    assert scratch["trial_steps"] == outcome["trial_steps"], "an equal budget, whatever is tried"
    assert "coefficients" not in scratch


def test_memory_is_measured_once_for_all_trials_and_once_for_the_training(tmp_path, monkeypatch):
    measured = []
    need = loop.measure_need

    def counted(module, loss_of, batch, **about):
        measured.append(batch.num_samples)
        return need(module, loss_of, batch, **about)

    monkeypatch.setattr(loop, "measure_need", counted)
    settings = {"learning_rates": (1e-3, 1e-2), "num_samples": 8}
    training = {"num_steps": 4, "batch_size": 4, "checkpoint_every": 4}
    pool = SystemOrigin.of(Poisson(), tiny.GRID).pool(8, 0)
    run = from_scratch(tiny.finished_run(tmp_path), pool, out=tmp_path, training=training, **settings)
    assert len(run.read_json("trials.json")) > 1
    assert len(measured) == 2
