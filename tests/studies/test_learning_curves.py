from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from scifm.errors import ConfigError, DataError
from scifm.findings.plan import SamplesNeeded
from scifm.studies.learning_curves import FEW_SHOT, FROM_SCRATCH, Curve, CurveDraws, Prior


def predict_need(num_samples, errors, target, *, prior, zero_shot=None, level=0.8, seed=0) -> SamplesNeeded:
    """What the planner asks of a prior, in one call."""
    zero = [] if zero_shot is None else [zero_shot]
    curve = Curve((*[0 for _ in zero], *num_samples), (*zero, *errors))
    return prior.condition(curve, seed=seed).need(target, level=level)


def error_of(ratio: float) -> float:
    """Return the relative error where what is unexplained is `ratio` times what is explained."""
    return ratio / math.sqrt(1 + ratio**2)


def or_never(count: float | None) -> float:
    return math.inf if count is None else count


COUNTS = (4, 4, 4, 8, 8, 8, 12, 12, 12)


def one_curve(**changes: float) -> CurveDraws:
    """Return the single curve u = 0.4 [0.25 + (n / 16)^−0.5] without noise."""
    numbers = {
        "slope": 0.5,
        "floor": 0.25,
        "head_start": 0.0,
        "noise": 0.1,
        "level": math.log(0.4),
        "deviate": 0.0,
        **changes,
    }
    return CurveDraws(**{name: np.array([value]) for name, value in numbers.items()}, effective=1.0)


def measured(draws: CurveDraws, i: int, random: np.random.Generator, *, zero_shot: bool) -> Curve:
    """Return points as curve `i` would give them, each training with noise of its own."""
    one = dataclasses.replace(
        draws, **{f.name: getattr(draws, f.name)[[i]] for f in dataclasses.fields(draws) if f.name != "effective"}
    )

    def error(count: int) -> float:
        return float(dataclasses.replace(one, deviate=random.standard_normal(1)).errors(count)[0])

    counts = (0, *COUNTS) if zero_shot else COUNTS
    return Curve(counts, tuple(map(error, counts)))


def coverage(truth: Prior, belief: Prior, *, num_curves: int = 200, share: float = 0.4) -> float:
    """How often the 80 % interval holds the need, for curves of `truth` seen through `belief`."""
    random = np.random.default_rng(1)
    draws = truth.draw(num_curves, seed=2)
    inside = 0
    for i in range(num_curves):
        curve = measured(draws, i, random, zero_shot=belief.head_start is not None)
        target = share * float(np.mean(curve.errors[-3:]))
        need = belief.condition(curve, seed=i).need(target)
        inside += (need.low or 0) <= draws.needed(target)[i] <= or_never(need.high)
    return inside / num_curves


# --- the curve itself, by hand ----------------------------------------------------------------------------------------


def test_a_curve_by_hand():
    draws = one_curve()
    assert draws.errors(16)[0] == pytest.approx(error_of(0.5))
    assert draws.errors(64)[0] == pytest.approx(error_of(0.4 * (0.25 + 0.5)))
    assert draws.needed(error_of(0.3))[0] == pytest.approx(64)
    assert draws.needed(error_of(0.4 * (0.25 + 0.1)))[0] == pytest.approx(1600)
    assert draws.needed(0.09)[0] == math.inf
    assert draws.needed(error_of(0.1))[0] > 1e30, "the floor itself is not reached, but for rounding"


def test_the_noise_of_the_next_training_moves_the_target():
    assert one_curve(deviate=1.0).needed(error_of(0.3 * math.exp(0.1)))[0] == pytest.approx(64)
    assert one_curve(deviate=1.0).errors(64)[0] == pytest.approx(error_of(0.3 * math.exp(0.1)))


def test_a_head_start_is_samples_that_are_there_already():
    draws = one_curve(head_start=48.0, floor=0.0)
    assert draws.errors(16)[0] == pytest.approx(error_of(0.4))
    assert draws.errors(0)[0] == pytest.approx(error_of(0.4 * (48 / 64) ** -0.5))
    assert draws.needed(error_of(0.2))[0] == pytest.approx(4 * 64 - 48)
    assert draws.needed(0.9)[0] == 0, "never fewer than none"


def test_need_is_a_quantile_of_the_draws_and_infinite_ones_count():
    parts = [one_curve(floor=floor, slope=1.0, noise=0.0) for floor in (0.0, 0.0, 0.5, 2.0)]
    stacked = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(parts[0])[:-1]}
    draws = CurveDraws(**stacked, effective=4.0)
    need = draws.need(error_of(0.4), level=0.5)  # 16, 16, 32 and never
    assert (need.low, need.median, need.high) == pytest.approx((16, 16, 32))
    assert need.reachable == 0.75
    wide = draws.need(error_of(0.4), level=0.9)
    assert (wide.median, wide.low) == pytest.approx((16, 16))
    assert wide.high is None, "no number is enough"


# --- the prediction ---------------------------------------------------------------------------------------------------


def test_many_clean_points_leave_little_doubt():
    counts = [2**i for i in range(2, 11)] * 3
    noise = np.exp(0.05 * np.random.default_rng(0).standard_normal(len(counts)))
    errors = [error_of(2 * n**-0.5 * e) for n, e in zip(counts, noise, strict=True)]
    need = predict_need(counts, errors, 0.02, prior=FROM_SCRATCH)
    assert need.low <= 10_000 <= need.high
    assert need.high / need.low < 2.5
    assert need.reachable > 0.95


def test_a_floor_that_is_seen_is_not_passed():
    counts = [2**i for i in range(2, 13)] * 2
    errors = [0.05 + 2 * n**-1.0 for n in counts]
    assert predict_need(counts, errors, 0.04, prior=FROM_SCRATCH).reachable < 0.05
    assert predict_need(counts, errors, 0.04, prior=FROM_SCRATCH).median is None
    assert predict_need(counts, errors, 0.055, prior=FROM_SCRATCH).median == pytest.approx(400, rel=0.3)


@pytest.mark.parametrize("prior", [FEW_SHOT, FROM_SCRATCH])
def test_a_lower_target_needs_more(prior):
    draws = prior.condition(Curve((4, 8, 8), (0.2, 0.16, 0.15)))
    needs = [draws.need(target) for target in (0.15, 0.1, 0.05, 0.02, 0.005)]
    for easier, harder in itertools.pairwise(needs):
        ends = [[or_never(getattr(need, name)) for name in ("low", "median", "high")] for need in (easier, harder)]
        assert all(few <= many for few, many in zip(*ends, strict=True))
        assert easier.reachable >= harder.reachable
    assert needs[0].median < or_never(needs[-1].median)


def test_the_interval_grows_with_its_level_and_with_a_shared_error():
    curve = Curve((4, 8, 12), (0.2, 0.16, 0.13))
    needs = [FROM_SCRATCH.condition(curve).need(0.1, level=level) for level in (0.5, 0.8, 0.95)]
    assert needs[0].low > needs[1].low > needs[2].low
    assert needs[0].high < needs[1].high < needs[2].high
    doubtful = FROM_SCRATCH.condition(curve, group_noise=0.4).need(0.1, level=0.5)
    assert doubtful.high / doubtful.low > 1.5 * needs[0].high / needs[0].low


def test_points_of_a_group_share_an_error_that_the_slope_does_not_feel():
    """Three groups, each on a level of its own and all with one slope: noise to who does not know of groups."""
    counts = (4, 8, 16) * 3
    groups = (0, 0, 0, 1, 1, 1, 2, 2, 2)
    errors = tuple(error_of(0.3 * (n / 16) ** -0.6 * (0.6, 1.0, 1.6)[g]) for n, g in zip(counts, groups, strict=True))
    known = FROM_SCRATCH.condition(Curve(counts, errors, groups), group_noise=0.4)
    unknown = FROM_SCRATCH.condition(Curve(counts, errors))
    assert known.noise.mean() < 0.5 * unknown.noise.mean()
    assert known.slope.std() < unknown.slope.std()
    assert np.median(known.errors(16)) == pytest.approx(error_of(0.3), rel=0.1)
    assert known.level.std() > 0.1, "three groups leave the level in doubt"


def test_group_noise_by_direct_inversion():
    """The closed form beside the normal density with the full covariance."""
    curve = Curve((4, 8, 16, 4), (0.3, 0.2, 0.15, 0.4), (0, 0, 0, 1))
    prior = dataclasses.replace(FROM_SCRATCH, slope=(0.5, 1e-9), no_floor=1.0, noise=(0.2, 1e-9), level=(0.2, 1.0))
    draws = prior.condition(curve, group_noise=0.3)
    same = np.equal.outer(curve.groups, curve.groups)
    squares = np.array(curve.errors) ** 2
    steeper = (1 / (1 - squares)).mean()  # the logarithm of u than that of the error
    covariance = 0.04 * np.eye(4) + 0.09 * steeper**2 * same
    residuals = 0.5 * np.log(squares / (1 - squares)) + 0.5 * np.log(np.array(curve.num_samples) / 16)
    precision = 1 + np.linalg.inv(covariance).sum()
    mean = (math.log(0.2) + (np.linalg.inv(covariance) @ residuals).sum()) / precision
    assert draws.level.mean() == pytest.approx(mean, abs=0.02)
    assert draws.level.std() == pytest.approx(precision**-0.5, rel=0.05)


def test_more_points_narrow_the_interval():
    def width(counts: list[int]) -> float:
        need = predict_need(counts, [error_of(2 * n**-0.6) for n in counts], 0.2, prior=FROM_SCRATCH, level=0.5)
        return need.high / need.low

    assert width([4]) > width([4, 8]) > width([4, 8, 16, 32])


def test_the_zero_shot_error_tells_how_flat_the_beginning_is():
    """Flat from the start: pre-training was worth many samples, so a lower error is far away."""
    points = ([4, 8], [0.03, 0.0295])
    flat = predict_need(*points, 0.015, prior=FEW_SHOT, zero_shot=0.0305)
    steep = predict_need(*points, 0.015, prior=FEW_SHOT, zero_shot=0.3)
    assert flat.low > 20
    assert steep.low < flat.low


def test_the_same_seed_tells_the_same():
    given = ([4, 8], [0.2, 0.15], 0.1)
    assert predict_need(*given, prior=FROM_SCRATCH, seed=3) == predict_need(*given, prior=FROM_SCRATCH, seed=3)
    assert predict_need(*given, prior=FROM_SCRATCH, seed=3) != predict_need(*given, prior=FROM_SCRATCH, seed=4)


def test_points_that_are_no_learning_curve_are_noticed():
    """An error that jumps by a thousand between repeats is nothing the prior knows."""
    strange = FROM_SCRATCH.condition(Curve((4, 4, 8, 8), (1e-3, 1.0, 1.0, 1e-3)))
    usual = FROM_SCRATCH.condition(Curve((4, 4, 8, 8), (0.2, 0.22, 0.15, 0.16)))
    assert strange.effective < 100 < usual.effective
    assert np.median(strange.noise) > 0.5


# --- calibration on what the prior draws ------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [FEW_SHOT, FROM_SCRATCH], ids=["few_shot", "from_scratch"])
def test_intervals_hold_as_often_as_they_say(prior):
    assert 0.75 <= coverage(prior, prior) <= 0.85


_SLOWLY = [{"slope": (0.3, 0.2)}, {"floor": (0.2, 0.7)}, {"noise": (0.2, 0.5)}]


@pytest.mark.parametrize(
    "wrong",
    [{"slope": (0.9, 0.2)}, {"no_floor": 0.7}, *(pytest.param(own, marks=pytest.mark.slow) for own in _SLOWLY)],
    ids=lambda w: "-".join(w),
)
@pytest.mark.parametrize("prior", [FEW_SHOT, FROM_SCRATCH], ids=["few_shot", "from_scratch"])
def test_intervals_hold_under_a_prior_that_is_off(prior, wrong):
    assert 0.65 <= coverage(dataclasses.replace(prior, **wrong), prior, num_curves=80) <= 0.95


def test_a_wrong_and_sure_prior_would_be_found():
    """The test above can fail: believing steep curves of shallow ones is not covered."""
    sure = dataclasses.replace(FROM_SCRATCH, slope=(1.3, 0.05), no_floor=1.0)
    assert coverage(dataclasses.replace(FROM_SCRATCH, slope=(0.2, 0.1)), sure, num_curves=100) < 0.65


# --- priors from others' curves ---------------------------------------------------------------------------------------


def test_a_prior_learns_from_curves():
    truth = dataclasses.replace(FROM_SCRATCH, slope=(1.0, 0.1), no_floor=0.9, noise=(0.03, 0.2))
    random = np.random.default_rng(0)
    draws = truth.draw(40, seed=1)
    counts = tuple(2**i for i in range(3, 11))
    curves = []
    for i in range(40):
        errors = [
            error_of(
                math.exp(draws.level[i] + draws.noise[i] * random.standard_normal())
                * (draws.floor[i] + (n / 16) ** -draws.slope[i])
            )
            for n in counts
        ]
        curves.append(Curve(counts, tuple(errors)))
    learned = Prior.from_curves(curves)
    assert learned.slope[0] == pytest.approx(1.0, abs=0.12)
    assert learned.slope[1] < FROM_SCRATCH.slope[1]
    assert learned.noise[0] == pytest.approx(0.03, rel=0.5)
    assert learned.head_start is None


def test_one_curve_moves_a_prior_half_the_way_and_ten_of_the_same_family_no_further():
    counts = tuple(2**i for i in range(2, 11))
    curve = Curve(counts, tuple(n**-1.6 for n in counts))
    learned = Prior.from_curves([curve])
    assert learned.slope[0] == pytest.approx((FROM_SCRATCH.slope[0] + 1.6) / 2, abs=0.1)
    assert learned.slope[1] > 0.3
    same_system = Prior.from_curves([curve] * 10, families=["poisson"] * 10)
    assert same_system.slope == pytest.approx(learned.slope)
    assert same_system.noise == pytest.approx(learned.noise)
    assert Prior.from_curves([curve] * 10).slope[0] > 1.4, "ten systems alike do tell something"


# --- points that are bounds -------------------------------------------------------------------------------------------


def test_which_points_only_say_not_below():
    curve = Curve((0, 4, 16, 64), (0.2, 0.2 * (1 + 1e-7), 0.19, 0.96))
    assert curve.bounds == (False, True, False, True)
    by_group = Curve((0, 0, 4, 4), (0.2, 0.3, 0.3, 0.3), (0, 1, 0, 1))
    assert by_group.bounds == (False, False, False, True)
    assert Curve((4, 16), (0.5, 0.5)).bounds == (False, False), "from scratch nothing is ever left as it was"


def test_weights_left_as_they_were_prove_no_plateau():
    """Fine-tuned operators that stayed at the zero-shot error three times may still improve on many more samples."""
    curve = Curve((0, 4, 16, 64), (0.006, 0.006, 0.006, 0.006))
    draws = FEW_SHOT.condition(curve)
    assert draws.effective > 200
    need = draws.need(0.004)
    assert need.low < 1000 < or_never(need.high)
    assert need.low > 64, "they say that so many samples did not suffice"


def test_errors_near_one_are_no_sign_of_a_flat_curve():
    """As far apart as 0.1 and 0.072, but most of what was learned does not show yet: an error is at most 1."""
    hidden, shown = (FROM_SCRATCH.condition(Curve((16, 64), pair)) for pair in ((1.0, 0.72), (0.1, 0.072)))
    assert hidden.slope.mean() > shown.slope.mean() + 0.3
    assert np.all(hidden.errors(4) < 1), "answering zero has an error of 1"


def test_a_prior_from_curves_with_zero_shot_has_a_head_start():
    assert Prior.from_curves([Curve((0, 4, 8), (0.04, 0.03, 0.025))]).head_start is not None
    with pytest.raises(DataError, match="at least one learning curve with two different"):
        Prior.from_curves([Curve((4, 4), (0.1, 0.1))])


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_must_be_an_error(target):
    with pytest.raises(ConfigError, match="target error must be positive"):
        predict_need([4, 8], [0.2, 0.1], target, prior=FROM_SCRATCH)


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_level_must_be_a_probability(level):
    with pytest.raises(ConfigError, match="level of an interval"):
        predict_need([4, 8], [0.2, 0.1], 0.05, prior=FROM_SCRATCH, level=level)


@pytest.mark.parametrize(
    ("counts", "errors", "zero_shot", "told"),
    [
        ([4, 8], [0.1, math.nan], None, "positive and finite; got nan"),
        ([4, 8], [0.1, 0.0], None, "positive and finite; got 0"),
        ([4, 8], [0.1, 0.1], math.inf, "positive and finite; got inf"),
        ([-1, 8], [0.1, 0.1], None, "0 or more; got -1"),
        ([], [], None, "at least one"),
        ([4], [0.1, 0.2], None, "1 numbers, 2 errors"),
    ],
)
def test_points_must_be_points(counts, errors, zero_shot, told):
    with pytest.raises(DataError, match=told):
        predict_need(counts, errors, 0.05, prior=FEW_SHOT, zero_shot=zero_shot)


def test_a_prior_must_be_a_distribution():
    with pytest.raises(ConfigError, match="slope of a prior"):
        Prior(slope=(0.5, 0.0))
    with pytest.raises(ConfigError, match="no_floor"):
        Prior(no_floor=1.5)
    with pytest.raises(ConfigError, match="has no zero-shot error"):
        FROM_SCRATCH.condition(Curve((0, 4), (0.2, 0.1)))
    with pytest.raises(ConfigError, match="group_noise"):
        FROM_SCRATCH.condition(Curve((4,), (0.1,)), group_noise=math.nan)


def test_a_need_for_json_holds_no_infinity():
    need = SamplesNeeded(median=10.0, low=math.nan, high=math.inf, level=0.8, reachable=0.9)
    told = json.loads(need.model_dump_json(), parse_constant=pytest.fail)
    assert told == {"median": 10.0, "low": None, "high": None, "level": 0.8, "reachable": 0.9}
