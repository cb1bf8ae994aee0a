"""Answers corrected by demonstrations: exact where they can be, and beside the published rule written out in loops."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import scifm
import tiny
from scifm.data.split import windows_of
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.models.fno import FNO, FNOConfig
from scifm.models.neighbours import NeighbourCorrection, corrected
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import save_operator
from scifm.models.rollout import rollout
from scifm.systems.burgers import Burgers
from scifm.systems.helmholtz import Helmholtz

TWO = Signature(("f",), ("a", "b"), ("u", "v"))
WAYS = [
    {},
    {"way": "checked"},
    {"passes": 2, "neighbours": 3.0},
    {"passes": 2, "cosine": True, "seed": 3},
    {"way": "checked", "passes": 3, "drop": 0.5},
]
every_way = pytest.mark.parametrize("settings", WAYS, ids=str)


class Factor(Operator):
    """Answers every output with the first input times a number: it errs everywhere alike."""

    def __init__(self, signature: Signature, factor: float) -> None:
        super().__init__(signature, OperatorConfig())
        self.weight = torch.nn.Parameter(torch.tensor(factor))

    def network(self, encoded):
        return encoded.inputs[:, -1:, :1].expand(-1, -1, len(self.signature.outputs), *encoded.grid.num_points) * (
            self.weight
        )


def solved(num_samples: int = 5, *, purpose: str = "test") -> Batch:
    """Return problems whose solution is the forcing, of which no two values are equal."""
    batch = tiny.batch(num_samples, purpose=purpose)
    forcing = torch.randn(batch.inputs.shape, generator=generator_for(0, "forcing", purpose))
    return replace(batch, inputs=forcing, targets=forcing.clone())


def of_two(num_samples: int, *, seed: int = 0, points: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = (torch.randn(num_samples, 1, c, points, points, generator=generator) for c in (1, 2))
    return Batch(TWO, Grid.square(points), inputs, torch.randn(num_samples, 2, generator=generator), targets)


def two_outputs() -> Operator:
    torch.manual_seed(0)
    return FNO(TWO, FNOConfig(**tiny.NETWORK)).eval()


def error_of(operator: Operator, batch: Batch) -> float:
    return evaluate(operator, batch, metrics=["relative_l2"]).mean()


# --- identities -------------------------------------------------------------------------------------------------------


@every_way
def test_without_demonstrations_it_is_the_operator(settings):
    operator, batch = two_outputs(), of_two(3)
    plain = corrected(operator, batch.select([]), **settings)
    assert torch.equal(plain.predict(batch).require_targets(), operator.predict(batch).require_targets())
    assert plain.tally.answered == 0
    assert math.isnan(plain.tally.share)


@pytest.mark.parametrize("factor", [1.0, 2.0, -0.3])
def test_one_neighbour_of_the_same_problem_is_its_truth_exactly(factor):
    """Whatever the operator says: what it said there is nearest to itself. With factor 1 it is perfect."""
    batch = solved(1)
    exact = corrected(Factor(batch.signature, factor), batch, neighbours=1)
    assert torch.equal(exact.predict(batch).require_targets(), batch.require_targets())
    assert exact.tally.share == 1


@pytest.mark.parametrize("settings", [{}, {"way": "checked"}, {"way": "checked", "passes": 3}], ids=str)
def test_what_a_perfect_operator_says_stays_right(settings):
    """Of other problems neighbours are the nearest values, and an error that is zero everywhere is no error."""
    batch, shown = solved(3), solved(4, purpose="shown")
    exact = corrected(Factor(batch.signature, 1.0), shown, **settings, neighbours=1)
    answer, truth = exact.predict(batch).require_targets(), batch.require_targets()
    if settings:
        assert torch.equal(answer, truth)
        return
    given = shown.require_targets().flatten().double()
    gaps = (truth.flatten().double()[:, None] - given).abs()
    assert exact.how.count(4) == 2
    expected = given[gaps.topk(2, largest=False).indices].mean(1).view_as(truth)
    changed = answer != truth
    torch.testing.assert_close(answer[changed].double(), expected[changed], rtol=1e-5, atol=1e-6)
    assert changed.float().mean() > 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("settings", [{}, {"passes": 4}, {"passes": 4, "cosine": True}], ids=str)
def test_demonstrations_that_hold_the_problem_itself_move_answers_towards_the_truth(seed, settings):
    batch, operator = tiny.batch(3), tiny.operator(seed=seed)
    shown = Batch.concatenate([batch, tiny.batch(2, purpose="shown")])
    assert error_of(corrected(operator, shown, neighbours=2, **settings), batch) < 0.9 * error_of(operator, batch)


@pytest.mark.parametrize("way", ["published", "checked"])
def test_an_error_that_is_the_same_everywhere_is_taken_away(way):
    batch, shown = solved(4), solved(16, purpose="shown")
    operator = Factor(batch.signature, 2.0)
    assert error_of(operator, batch) == pytest.approx(1, abs=1e-5)
    assert error_of(corrected(operator, shown, way=way), batch) < {"published": 0.3, "checked": 0.05}[way]


def test_what_demonstrations_do_not_confirm_is_left_alone():
    """Errors without any law: the published rule takes the mean of the truth, which is no answer."""
    operator = two_outputs()
    shown, batch = of_two(12), of_two(6, seed=1)
    said = operator.predict(shown).require_targets()
    noise = torch.randn(said.shape, generator=torch.Generator().manual_seed(5)) * said.std()
    shown = shown.with_targets(said + noise)
    truth = operator.predict(batch).require_targets()
    batch = batch.with_targets(truth + 1e-3)
    own = error_of(operator, batch)
    assert error_of(corrected(operator, shown, neighbours=2, way="published"), batch) > 20 * own
    checked = corrected(operator, shown, neighbours=2, way="checked")
    assert checked._parts.max() < 0.2
    assert error_of(checked, batch) < error_of(corrected(operator, shown, neighbours=2), batch) / 4


def test_one_demonstration_cannot_check_itself():
    operator, batch = two_outputs(), of_two(2)
    checked = corrected(operator, of_two(1, seed=1), way="checked")
    assert torch.equal(checked.predict(batch).require_targets(), operator.predict(batch).require_targets())
    assert checked.tally.changed == 0
    assert checked.tally.answered == 2 * 2 * 64


def test_the_part_that_is_taken_is_the_best_one_for_demonstrations_corrected_by_the_others():
    """Beside a search: the part of least error, over demonstrations each corrected by all others."""
    shown, operator = tiny.batch(4), tiny.operator()
    checked = corrected(operator, shown, way="checked", neighbours=3)
    said, truth = operator.predict(shown).require_targets(), shown.require_targets()
    added = []
    for place in range(4):
        others = shown.select([other for other in range(4) if other != place])
        whole = corrected(operator, others, way="checked", neighbours=3)
        whole._parts = torch.ones(1)
        added.append(whole.predict(shown.select([place])).require_targets() - said[place : place + 1])
    parts = torch.linspace(0, 1, 2001).view(-1, 1, 1, 1, 1, 1)
    left = said + parts * torch.cat(added) - truth
    loss = (left.square().sum((-1, -2)) / truth.square().sum((-1, -2))).sqrt().flatten(1).mean(1)
    assert float(checked._parts) == pytest.approx(float(parts.flatten()[loss.argmin()]), abs=2e-3)
    assert 0.02 < float(checked._parts) <= 1


# --- what it does not hang on -----------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("memory", [1e-6, 0.01, 0.3, 100.0])
def test_the_size_of_chunks_changes_no_answer(settings, memory):
    operator, shown, batch = two_outputs(), of_two(4), of_two(3, seed=1)
    first, second = (corrected(operator, shown, **settings, memory=mb).predict(batch) for mb in (5.0, memory))
    if settings.get("cosine"):  # a product of matrices, whose last digits hang on their sizes
        torch.testing.assert_close(first.targets, second.targets, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(first.require_targets(), second.require_targets())


@every_way
def test_the_order_of_demonstrations_changes_no_answer(settings):
    operator, shown, batch = two_outputs(), of_two(5), of_two(2, seed=1)
    turned = shown.select([3, 0, 4, 2, 1])
    first, second = (corrected(operator, own, **settings).predict(batch).targets for own in (shown, turned))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_points_that_are_equally_near_are_chosen_by_their_values():
    """A field at rest: all features are equal, and what stands first in memory must not decide."""
    batch, shown = of_two(1), of_two(4, seed=1)
    operator = Factor(TWO, 0.0)
    first, second = (corrected(operator, own).predict(batch).targets for own in (shown, shown.select([2, 3, 1, 0])))
    assert torch.equal(first, second)


@every_way
def test_no_sample_hangs_on_those_beside_it(settings):
    operator, shown, batch = two_outputs(), of_two(4), of_two(3, seed=1)
    own = corrected(operator, shown, **settings)
    together = own.predict(batch).require_targets()
    alone = torch.cat([own.predict(batch.select([place])).require_targets() for place in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


# --- the published rule, in loops -------------------------------------------------------------------------------------


def by_loops(said, shown_said, truth, count: int, cosine: bool) -> np.ndarray:
    """Correct one sample: ``said`` (point, feature) and ``shown_said``, ``truth`` (point, output), (point, output)."""
    means, varies = np.zeros((len(said), truth.shape[1])), np.zeros((len(said), truth.shape[1]))
    for place, query in enumerate(said):
        gaps = np.linalg.norm((query - shown_said) ** 2 / query**2, axis=1)
        if cosine:
            lengths = np.linalg.norm(shown_said, axis=1) * np.linalg.norm(query)
            gaps = gaps * (1 - shown_said @ query / lengths)
        near = truth[np.argsort(gaps)[:count]]
        means[place], varies[place] = near.mean(0), np.abs(near.std(0) / near.mean(0))
    return np.where(varies <= varies.mean(0), means, np.nan)


@pytest.mark.parametrize(("num_shown", "neighbours"), [(1, 20.0), (3, 20.0), (4, 1.5)])
@pytest.mark.parametrize(("cosine", "outputs"), [(False, 1), (False, 2), (True, 2)])
def test_it_is_the_published_rule(num_shown, neighbours, cosine, outputs):
    operator = two_outputs() if outputs == 2 else tiny.operator().eval()
    make = of_two if outputs == 2 else (lambda n, seed=0: tiny.batch(n, purpose=f"of {seed}"))
    operator, shown, batch = operator.double(), make(num_shown).to(dtype=torch.float64), make(2, seed=1)
    batch = batch.to(dtype=torch.float64)
    answer = corrected(operator, shown, neighbours=neighbours, cosine=cosine).predict(batch).require_targets()
    own = operator.predict(batch).require_targets()
    rows = lambda fields: fields[:, 0].flatten(2).transpose(1, 2).numpy()  # noqa: E731
    units = operator.predict(shown).require_targets().square().mean((0, 1, 3, 4)).sqrt().numpy() if cosine else 1.0
    theirs, truth = (rows(fields).reshape(-1, outputs) for fields in (operator.predict(shown).targets, shown.targets))
    for place, said in enumerate(rows(own)):
        count = int(neighbours * math.sqrt(num_shown))
        expected = by_loops(said / units, theirs / units, truth, count, cosine)
        expected = np.where(np.isnan(expected), said, expected)
        np.testing.assert_allclose(rows(answer)[place], expected, rtol=1e-9, atol=1e-12)


def test_passes_are_answers_to_inputs_with_holes_that_all_samples_share():
    operator, shown, batch = tiny.operator().double(), tiny.batch(2), tiny.batch(1, purpose="asked")
    shown, batch = shown.to(dtype=torch.float64), batch.to(dtype=torch.float64)
    answer = corrected(operator, shown, passes=3, drop=0.25, seed=7).predict(batch).require_targets()
    features = []
    for number in range(3):
        holes = torch.rand(shown.inputs.shape[1:], generator=generator_for(7, "drop", number)) < 0.25
        both = Batch.concatenate([batch, shown])
        dropped = Batch(both.signature, both.grid, torch.where(holes, 0.0, both.inputs) / 0.75, both.coefficients)
        features.append(operator.predict(dropped).require_targets().flatten(1))
    said = torch.stack(features, dim=-1).numpy()
    own = operator.predict(batch).require_targets().flatten().numpy()
    truth = shown.require_targets().flatten().numpy()[:, None]
    expected = by_loops(said[0], said[1:].reshape(-1, 3), truth, int(20 * math.sqrt(2)), False)[:, 0]
    np.testing.assert_allclose(answer.flatten().numpy(), np.where(np.isnan(expected), own, expected), rtol=1e-9)


# --- where numbers would break ----------------------------------------------------------------------------------------


@every_way
def test_answers_that_are_zero_break_nothing(settings):
    shown, batch = of_two(3), of_two(2, seed=1)
    inputs = batch.inputs.clone()
    inputs[:, :, :, :4] = 0
    batch = Batch(TWO, batch.grid, inputs, batch.coefficients)
    assert corrected(Factor(TWO, 2.0), shown, **settings).predict(batch).require_targets().isfinite().all()


def test_truths_that_are_zero_agree():
    shown = of_two(2)
    shown = shown.with_targets(torch.zeros_like(shown.require_targets()))
    own = corrected(two_outputs(), shown)
    assert not own.predict(of_two(2, seed=1)).require_targets().any()
    assert own.tally.share == 1


def test_an_answer_that_is_lost_stays_lost():
    batch = of_two(2)
    inputs = batch.inputs.clone()
    inputs[1, :, :, 0, 0] = math.nan
    own = corrected(Factor(TWO, 2.0), of_two(3, seed=1))
    answer = own.predict(Batch(TWO, batch.grid, inputs, batch.coefficients)).require_targets()
    assert answer.isnan().sum() == 2
    assert answer[1, :, :, 0, 0].isnan().all()


def test_missing_points_of_demonstrations_teach_nothing():
    operator, shown, batch = two_outputs(), of_two(3), of_two(2, seed=1)
    valid = torch.rand(shown.require_targets().shape, generator=torch.Generator().manual_seed(2)) > 0.3
    answers = []
    for junk in (0.0, 1e6):
        targets = torch.where(valid, shown.require_targets(), junk)
        answers.append(corrected(operator, shown.with_targets(targets, valid)).predict(batch).require_targets())
    assert torch.equal(*answers)
    assert answers[0].abs().max() < 1e3
    nowhere = shown.with_targets(shown.require_targets(), torch.zeros_like(valid))
    with pytest.raises(DataError, match="no point at which all outputs are known"):
        corrected(operator, nowhere)


# --- as an operator ---------------------------------------------------------------------------------------------------


def decaying(num_samples: int, num_frames: int = 4, *, purpose: str = "test", lead: float = 0.1) -> Batch:
    """Return trajectories of a field that falls to 0.9 of itself in every step."""
    signature = Signature(("u",), (), ("u",), 1, evolves=True)
    start = torch.randn(num_samples, 1, 1, 32, generator=generator_for(0, purpose))
    steps = torch.arange(1, num_frames + 1)
    times = (lead * steps).expand(num_samples, -1)
    targets = start * (0.9**steps).view(1, -1, 1, 1)
    return Batch(signature, Grid((32,), (1.0,), (True,)), start, start.new_zeros(num_samples, 0), targets, (), times)


class Resting(Operator):
    """Answers that the state falls to 0.8 of itself."""

    def __init__(self) -> None:
        super().__init__(decaying(1).signature, OperatorConfig())
        self.weight = torch.nn.Parameter(torch.tensor(-0.2))

    def network(self, encoded):  # of an increment
        return encoded.inputs * self.weight


@pytest.mark.parametrize("way", ["published", "checked"])
def test_a_march_is_corrected_step_by_step(way):
    batch, shown = decaying(3), windows_of(decaying(40, purpose="shown"), Window()).load()
    operator = Resting()
    own = corrected(operator, shown, way=way, neighbours=2)
    errors = [error_of(each, batch) for each in (operator, own)]
    assert errors[1] < errors[0] / {"published": 2, "checked": 20}[way]
    answer, state = own.predict(batch).require_targets(), batch.inputs
    for step in range(4):
        one = Batch(batch.signature, batch.grid, state, batch.coefficients, None, (), batch.lead_time[:, :1])
        state = own.predict(one).require_targets()
        torch.testing.assert_close(answer[:, step : step + 1], state, rtol=1e-5, atol=1e-6)
    frames = [frame.require_targets() for frame in rollout(own, batch, 4)]
    torch.testing.assert_close(torch.cat(frames, dim=1), answer)


def test_it_is_left_as_it_was_and_can_be_copied():
    operator, shown, batch = two_outputs().train(), of_two(3), of_two(2, seed=1)
    weights = copy.deepcopy(operator.state_dict())
    own = corrected(operator, shown)
    answer = own.predict(batch).require_targets()
    assert operator.training
    assert all(torch.equal(weights[name], tensor) for name, tensor in operator.state_dict().items())
    assert torch.equal(copy.deepcopy(own).predict(batch).require_targets(), answer)
    assert own.double().predict(batch.to(dtype=torch.float64)).require_targets().dtype == torch.float64
    assert scifm.corrected is corrected


def test_gradients_go_through_its_own_answers():
    batch = of_two(2)
    inputs = batch.inputs.clone().requires_grad_()
    own = corrected(two_outputs(), of_two(2, seed=1))
    answer = own(Batch(TWO, batch.grid, inputs, batch.coefficients)).require_targets()
    (gradient,) = torch.autograd.grad(answer.sum(), inputs)
    assert gradient.abs().sum() > 0


# --- what is refused --------------------------------------------------------------------------------------------------


def test_demonstrations_that_cannot_teach_are_refused():
    operator, shown = two_outputs(), of_two(2)
    with pytest.raises(SignatureError, match="these have no targets"):
        corrected(operator, shown.with_targets(None))
    bad = shown.require_targets().clone()
    bad[1, 0, 0, 0, 0] = math.nan
    with pytest.raises(DataError, match=r"NaN or infinite targets \(sample 1\)"):
        corrected(operator, shown.with_targets(bad))
    with pytest.raises(SignatureError, match="one step; these have 4 target frames"):
        corrected(Resting(), decaying(2))
    with pytest.raises(SignatureError, match="knows inputs"):
        corrected(operator, tiny.batch(2))


def test_samples_that_demonstrations_are_not_of_are_refused():
    own = corrected(two_outputs(), of_two(2))
    with pytest.raises(SignatureError, match=r"16 × 16 points.*8 × 8 points"):
        own.predict(of_two(1, points=16))
    operator, batch = tiny.operator(), tiny.batch(2)
    other = replace(batch, systems=("laboratory",) * 2)
    with pytest.raises(SignatureError, match="asked about, laboratory; these are of poisson"):
        corrected(operator, batch).predict(other)
    nameless = replace(batch, systems=())
    assert corrected(operator, batch).predict(nameless).num_samples == 2
    shown = windows_of(decaying(4), Window()).load()
    with pytest.raises(SignatureError, match=r"0\.2; these reach 0\.1"):
        corrected(Resting(), shown).predict(decaying(2, 1, lead=0.2))


def test_demonstrations_of_a_mixture_are_refused_and_those_of_a_member_are_taken():
    burgers = Burgers(num_frames=3)
    grid = Grid((16,), (1.0,), (True,))
    one = windows_of(burgers.sample(2, grid, generator_for(0, "one")), Window()).load()
    names = Signature(("velocity", "heat"), one.signature.coefficients, ("velocity", "heat"), 1, evolves=True)
    operator = FNO(names, FNOConfig(width=4, modes=3, num_layers=1, projection_width=4, latent_points=8))
    operator.domain = replace(operator.domain, forms=(("velocity",), ("velocity", "heat")))
    own = corrected(operator, one)
    answer = own.predict(one)
    assert not answer.target("heat").any()
    assert own.tally.answered == one.num_samples * 16
    both = operator.align(one)
    whole = replace(both, present=torch.ones_like(both.present))
    with pytest.raises(SignatureError, match="mixture of systems with other fields"):
        corrected(operator, Batch.concatenate([both, whole]))
    with pytest.raises(SignatureError, match="these have others: velocity"):
        own.predict(whole)


def test_a_system_that_the_operator_does_not_know_is_refused():
    with pytest.raises(SignatureError, match="also hold"):
        corrected(tiny.operator(), Helmholtz().sample(2, tiny.GRID, generator_for(0, "foreign")))


def test_settings_that_cannot_be():
    operator, shown = tiny.operator(), tiny.batch(2)
    with pytest.raises(ConfigError, match="here is one feature"):
        corrected(operator, shown, cosine=True)
    assert corrected(operator, shown, cosine=True, passes=2).how.passes == 2
    with pytest.raises(ConfigError, match="drop would have no effect without passes"):
        corrected(operator, shown, drop=0.1)
    with pytest.raises(ConfigError, match="seed would have no effect without passes"):
        corrected(operator, shown, seed=1)
    with pytest.raises(ConfigError, match="published"):
        corrected(operator, shown, way="best")
    with pytest.raises(ConfigError, match="not both: passes"):
        corrected(operator, shown, NeighbourCorrection(), passes=2)


def test_it_is_no_model_of_its_own(tmp_path):
    own = corrected(tiny.operator(), tiny.batch(2))
    for save in (own.save_pretrained, lambda path: save_operator(own, path)):
        with pytest.raises(ConfigError, match="no model of its own"):
            save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
