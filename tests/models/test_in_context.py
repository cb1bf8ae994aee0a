"""An operator that is shown solved examples: what changes no answer, what does, what is refused, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import scifm
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.models.export import export_operator
from scifm.models.fno import FNO, FNOConfig
from scifm.models.in_context import InContext, InContextConfig, helped, shown
from scifm.models.neighbours import Corrected, NeighbourCorrection, corrected
from scifm.models.registry import load_operator, save_operator
from scifm.models.rollout import rollout
from scifm.models.surgery import fits, renamed, with_channels

SMALL = {"width": 16, "num_heads": 2, "num_blocks": 2, "patch": 4, "condition_width": 8, "context_blocks": 1}
STEADY = Signature(("f",), ("a", "b"), ("u", "v"))
EVOLVES = Signature(("u", "f"), ("a",), ("u",), evolves=True)
GRID = Grid((12, 16), (1.0, 1.0), (True, True))


def learner(signature: Signature = STEADY, normalization=None, **settings) -> InContext:
    torch.manual_seed(0)
    return InContext(signature, InContextConfig(**{**SMALL, **settings}), normalization=normalization).double()


def samples(
    num: int, names: Signature = STEADY, *, seed: int = 1, frames: int = 1, grid: Grid = GRID, **named
) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(num, *shape, generator=generator, dtype=torch.float64)

    inputs, targets = (drawn(n, len(of), *grid.num_points) for n, of in ((frames, names.inputs), (1, names.outputs)))
    return Batch(names, grid, inputs, drawn(len(names.coefficients)), targets, **named)


def answers(operator, batch: Batch) -> torch.Tensor:
    return operator.answers(batch).require_targets()


# --- what changes no answer, and what does ----------------------------------------------------------------------------


def test_without_demonstrations_it_is_the_operator():
    operator, batch = learner(), samples(3)
    assert torch.equal(answers(shown(operator, batch.select([])), batch), answers(operator, batch))


@pytest.mark.parametrize(
    "settings", [{}, {"hides": ("a", "b")}, {"plain": True}, {"tokens": 2}, {"mask_channels": True}], ids=str
)
def test_demonstrations_are_heard_and_their_order_is_not(settings):
    operator, batch, examples = learner(**settings), samples(3), samples(5, seed=2)
    told = answers(shown(operator, examples), batch)
    assert float((told - answers(operator, batch)).abs().max()) > 1e-3
    turned = examples.select([3, 1, 4, 0, 2])
    torch.testing.assert_close(answers(shown(operator, turned), batch), told, rtol=0, atol=1e-12)
    twice = Batch.concatenate([examples, examples])
    torch.testing.assert_close(answers(shown(operator, twice), batch), told, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        answers(shown(operator, examples.select([2, 2, 2])), batch),
        answers(shown(operator, examples.select([2])), batch),
        rtol=0,
        atol=1e-12,
    )


def test_what_is_read_is_field_answer_and_coefficients_of_each():
    operator, examples = learner(hides=("b",)), samples(4)
    read = operator.tokens(examples)
    assert read.shape == (4, 16)
    for change, changes in (
        ({"inputs": examples.inputs + 1}, True),
        ({"targets": examples.targets + 1}, True),
        ({"coefficients": examples.coefficients + torch.tensor([1.0, 0.0])}, True),
        ({"coefficients": examples.coefficients + torch.tensor([0.0, 1.0])}, False),  # which is hidden
    ):
        other = operator.tokens(replace(examples, **change))
        assert torch.equal(other, read) is not changes
    torch.testing.assert_close(operator.tokens(examples.select([2, 0])), read[[2, 0]])


def test_the_context_is_the_mean_by_shares_and_zero_where_nothing_is_shown():
    operator, examples = learner(), samples(3)
    tokens = operator.tokens(examples)
    shares = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    context = operator.context(tokens, shares)
    torch.testing.assert_close(context[0], operator.reader.told((tokens[1] + tokens[2]) / 2))
    assert not context[1].any()
    torch.testing.assert_close(context[2], operator.reader.told(tokens[0]))


def test_examples_are_read_as_numbers_of_order_one():
    """By exact scalings a demonstration of ten times the size says the same, and units of the answer play no part."""
    linear = Homogeneity((("f", 1), ("u", 1), ("v", 1)), ("f",), "rms")
    examples = samples(6)
    normalization = fit_normalization(examples, (linear,))
    operator = learner(normalization=normalization)
    encoded = normalization.encode(examples)
    torch.testing.assert_close(encoded.decode(encoded.encode(examples.targets)), examples.targets)
    louder = replace(examples, inputs=10 * examples.inputs, targets=10 * examples.targets)
    torch.testing.assert_close(operator.tokens(louder), operator.tokens(examples))


def test_of_a_history_the_last_step_is_read_and_sizes_are_those_of_each_sample():
    operator = learner(EVOLVES, history=2, instance_norm="rms", lead_time=True)
    lead = torch.full((3, 1), 0.5, dtype=torch.float64)
    examples = samples(3, EVOLVES, frames=2, lead_time=lead)
    read = operator.tokens(examples)
    assert not torch.allclose(operator.tokens(replace(examples, lead_time=2 * lead)), read)
    batch = samples(2, EVOLVES, seed=3, frames=2, lead_time=lead[:2])
    assert not torch.allclose(answers(shown(operator, examples), batch), answers(operator, batch))


def test_missing_points_of_demonstrations_teach_nothing():
    operator, examples, batch = learner(), samples(2), samples(2, seed=5)
    valid = torch.rand(examples.targets.shape, generator=torch.Generator().manual_seed(4)) > 0.3
    with_gaps = [
        replace(examples, targets=torch.where(valid, examples.targets, number), valid_targets=valid)
        for number in (0.0, 1e6, float("nan"))
    ]
    told = [answers(shown(operator, own), batch) for own in with_gaps]
    assert torch.equal(told[0], told[1])
    assert torch.equal(told[0], told[2])


def test_fields_that_a_sample_lacks_are_not_read():
    operator = learner(Signature(("f", "g"), ("a", "b"), ("u", "v", "w")))
    operator.domain = replace(operator.domain, forms=(STEADY.fields, operator.signature.fields))
    examples = operator.align(samples(2))
    louder = replace(examples, targets=examples.targets.clone())
    louder.targets[:, :, 2] = 5.0
    assert torch.equal(operator.tokens(louder), operator.tokens(examples))


def test_it_marches_and_every_step_is_told():
    operator = learner(EVOLVES, history=1)
    lead = torch.tensor([[0.1]], dtype=torch.float64)
    examples = samples(3, EVOLVES, lead_time=lead.expand(3, 1))
    start = samples(1, EVOLVES, seed=3).with_targets(None)
    told = shown(operator, examples)
    (first, second) = (frame for frame in told.march(replace(start, lead_time=lead), 2))
    again = start.inputs.clone()
    again[:, :, 0] = first[:, :, 0]
    expected = answers(told, replace(start, inputs=again, lead_time=lead))
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-12)
    frames = [frame.require_targets().clone() for frame in rollout(told, replace(start, lead_time=lead), 2)]
    torch.testing.assert_close(torch.cat(frames, dim=1), torch.cat([first, second], dim=1), rtol=0, atol=1e-12)


def test_gradients_reach_what_reads():
    operator, examples = learner(), samples(4)
    told = operator.context(operator.tokens(examples), torch.full((2, 4), 0.25))
    with operator.told_by(told):
        operator(samples(2, seed=3)).require_targets().square().sum().backward()
    idle = [name for name, p in operator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert idle == []


def test_on_one_grid_or_another_and_with_walls():
    for grid in (Grid((9, 14), (1.0, 2.0), (False, True)), Grid((24, 8), (1.0, 1.0), (True, False))):
        operator = learner(position=True)
        told = shown(operator, samples(2, grid=grid))
        assert answers(told, samples(3, seed=4, grid=grid)).shape == (3, 1, 2, *grid.num_points)


# --- what is hidden ---------------------------------------------------------------------------------------------------


def test_hidden_coefficients_change_no_answer_and_may_be_left_out():
    operator, batch = learner(hides=("a",)), samples(3)
    plain = answers(operator, batch)
    for column, same in ((0, True), (1, False)):
        other = batch.coefficients.clone()
        other[:, column] += 1
        assert torch.equal(answers(operator, replace(batch, coefficients=other)), plain) is same
    less = replace(batch, signature=replace(STEADY, coefficients=("b",)), coefficients=batch.coefficients[:, 1:])
    assert torch.equal(answers(operator, less), plain)
    operator.domain = operator.domain.of(batch, operator.normalization)
    assert operator.outside(less) == []
    far = replace(less, coefficients=less.coefficients + 100)
    assert [told.partition(" ")[0] for told in operator.outside(far)] == ["b"]


def test_sizes_that_would_tell_what_is_hidden_are_not_used():
    names = Signature(("f",), ("a", "b"), ("u", "v"))
    by_field = Homogeneity((("f", 1), ("u", 1), ("v", 1)), ("f",), "rms")
    by_number = Homogeneity((("a", 1), ("u", -1), ("v", -1)), ("a",), "value")
    batch = replace(samples(4), coefficients=samples(4).coefficients.abs() + 1)
    normalization = fit_normalization(batch, (by_field, by_number))
    hiding = InContextConfig(**SMALL, hides=("a",))
    with pytest.raises(ConfigError, match=r"what is hidden, a: .* scaling of a\. Fit"):
        InContext(names, hiding, normalization=normalization)
    assert hiding.scalings((by_field, by_number)) == (by_field,)
    assert InContextConfig(**SMALL).scalings((by_field, by_number)) == (by_field, by_number)
    InContext(names, hiding, normalization=fit_normalization(batch, hiding.scalings((by_field, by_number))))
    with pytest.raises(ConfigError, match="hides names coefficients of the samples: 'c'"):
        learner(hides=("c",))


# --- kept, changed, exported ------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_told_the_same(tmp_path):
    operator, examples, batch = learner(hides=("b",)), samples(3), samples(2, seed=3)
    save_operator(operator, tmp_path)
    again = load_operator(tmp_path)
    assert again.config == operator.config
    assert torch.equal(answers(shown(again, examples), batch), answers(shown(operator, examples), batch))
    with pytest.raises(ConfigError, match=r"A prompted operator .* no model of its own"):
        shown(operator, examples).save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_renamed_channels_are_told_and_hidden_as_before(tmp_path):
    operator, examples = learner(hides=("b",)), samples(3)
    read = operator.tokens(examples)
    renamed(operator, {"beta": "b", "temperature": "u"})
    assert operator.config.hides == ("beta",)
    named = replace(examples, signature=operator.signature)
    assert torch.equal(operator.tokens(named), read)
    save_operator(operator, tmp_path)
    assert torch.equal(load_operator(tmp_path).tokens(named), read)


def test_other_channels_leave_what_was_read_of_the_others_as_it_was():
    operator, examples = learner(hides=("b",)), samples(3)
    more = Signature(("g", "f"), ("a",), ("w", "v", "u"))
    assert not fits(operator, more, GRID)
    grown, _ = with_channels(
        operator, more, GRID, learner(more).normalization, generator=torch.Generator().manual_seed(3)
    )
    grown = grown.double()
    assert grown.config.hides == ()
    grown.domain = replace(grown.domain, forms=(STEADY.fields, more.fields))
    less = replace(examples, signature=replace(STEADY, coefficients=("a",)), coefficients=examples.coefficients[:, :1])
    torch.testing.assert_close(grown.tokens(grown.align(less)), operator.tokens(examples), rtol=0, atol=1e-12)
    batch = samples(2, seed=4)
    asked = replace(batch, signature=less.signature, coefficients=batch.coefficients[:, :1])
    expected = answers(shown(operator, examples), batch)
    answer = answers(shown(grown, less), asked)[:, :, [2, 1]]
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-12)


def test_derivatives_of_every_order_are_those_of_the_same_weights():
    operator, examples, batch = learner(), samples(3), samples(2, seed=3)
    twin = shown(operator.differentiable(), examples)
    torch.testing.assert_close(answers(twin, batch), answers(shown(operator, examples), batch), rtol=0, atol=1e-10)


def test_it_is_exported_with_what_it_was_shown(tmp_path):
    operator = learner().float()
    examples, batch = samples(3).to(dtype=torch.float32), samples(2, seed=3).to(dtype=torch.float32)
    told = shown(operator, examples)
    (file,) = export_operator(told, tmp_path, to="torch-export", grid=GRID)  # which compares the answers
    program = torch.export.load(file.path).module()
    written = program(batch.inputs[:, 0], batch.coefficients)
    torch.testing.assert_close(written, answers(told, batch)[:, 0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(written, answers(operator, batch)[:, 0], rtol=1e-2)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_demonstrations_that_cannot_teach_are_refused():
    operator, examples = learner(EVOLVES), samples(3, EVOLVES)
    several = replace(examples, targets=examples.targets.repeat(1, 2, 1, 1, 1))
    odd = replace(examples, targets=examples.targets.clone())
    odd.targets[1, 0, 0, 0, 0] = float("nan")
    for bad, error, words in (
        (examples.with_targets(None), SignatureError, "have no targets"),
        (several, SignatureError, "have 2 target frames"),
        (odd, DataError, r"NaN or infinite targets \(sample 1\)"),
        (samples(2), SignatureError, "answers evolving problems"),
    ):
        with pytest.raises(error, match=words):
            shown(operator, bad)


def test_samples_that_demonstrations_are_not_of_are_refused():
    operator = learner(EVOLVES)
    lead = torch.full((2, 1), 0.1, dtype=torch.float64)
    examples = samples(2, EVOLVES, systems=("heat",) * 2, lead_time=lead)
    told = shown(operator, examples)
    for changes, words in (
        ({"systems": ("burgers",) * 2}, "asked about, burgers; these are of heat"),
        ({"grid": Grid((12, 16), (2.0, 1.0), (True, True))}, "on the grid that is asked about"),
        ({"lead_time": 2 * lead}, r"as far ahead as is asked, 0\.2; these reach 0\.1"),
    ):
        with pytest.raises(SignatureError, match=words):
            told.predict(replace(examples, **changes))


def test_operators_that_did_not_learn_to_use_them_are_named_and_corrected_instead():
    other = FNO(STEADY, FNOConfig(width=4, modes=3, num_layers=1, projection_width=4, latent_points=8)).double()
    examples = samples(3)
    with pytest.raises(ConfigError, match=r"kind 'fno' did not learn .*scifm\.corrected"):
        shown(other, examples)
    assert isinstance(helped(other, examples), Corrected)
    with pytest.raises(ConfigError, match="kind 'fno' did not learn"):
        helped(other, examples, NeighbourCorrection(way="learned"))
    operator = learner()
    assert torch.equal(answers(helped(operator, examples), examples), answers(shown(operator, examples), examples))
    assert helped(operator, examples, NeighbourCorrection(way="checked")).how.way == "checked"
    assert helped(operator, examples, NeighbourCorrection(neighbours=2)).how.way == "published"
    with pytest.raises(ConfigError, match=r"corrects nothing.*scifm\.shown"):
        corrected(operator, examples, way="learned")
    with pytest.raises(ConfigError, match=r"neighbours = 2.0 would have no effect"):
        corrected(operator, examples, way="learned", neighbours=2.0)


def test_scores_say_what_was_shown():
    operator, examples, batch = learner(), samples(3), samples(4, seed=3)
    scores = evaluate(operator, batch, demonstrations=examples, beside=True)
    assert scores.origin["demonstrations"]["way"] == "learned"
    assert scores.corrected is None
    assert scores.mean() == evaluate(shown(operator, examples), batch).mean()
    assert scores.beside["without demonstrations"] == evaluate(operator, batch).mean()


# --- that it learns ---------------------------------------------------------------------------------------------------

HIDDEN = ["diffusion_xx", "diffusion_yy", "diffusion_xy"]
LEARNS = {
    "name": "learns",
    "system": {"name": "poisson", "knobs": {"anisotropy": [1, 20]}},
    "data": {"num_points": 16, "same_knobs": 8, "num_validation_samples": 8},
    "model": {
        "kind": "in_context",
        "network": {"width": 48, "num_heads": 3, "num_blocks": 3, "patch": 4, "hides": HIDDEN},
    },
    "training": {
        "num_steps": 4000,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "objective": {"name": "relative_l2", "shows": 8},
    },
}


@pytest.mark.slow  # two minutes of one core
@pytest.mark.timeout(1800)
def test_what_is_not_told_it_learns_to_read_from_examples(tmp_path):
    operator = load_operator(scifm.pretrain(LEARNS, out=tmp_path).path)
    system, grid, generator = scifm.Poisson(anisotropy=[1, 20]), Grid.square(16), generator_for(3, "learns")
    alone, one, eight, strangers = [], [], [], []
    foreign = system.sample(8, grid, generator)
    for anisotropy, angle in ((4, 0.4), (8, 1.2), (15, 2.1), (19, 2.8)):
        fixed = system.where(anisotropy=anisotropy, angle=angle)
        examples, asked = fixed.sample(8, grid, generator), fixed.sample(32, grid, generator)
        for found, by in ((alone, 0), (one, 1), (eight, 8)):
            found.append(evaluate(shown(operator, examples.select(slice(by))), asked).mean())
        strangers.append(evaluate(shown(operator, foreign), asked).mean())
    means = [sum(found) / len(found) for found in (alone, one, eight, strangers)]
    assert means[2] < 0.4 * means[0]
    assert means[2] <= means[1] < means[0]
    assert means[3] > 2 * means[2]  # examples of other physics are not worth as much


def test_terms_would_tell_what_is_hidden():
    with pytest.raises(ValueError, match="hides = \\['a'\\] and terms contradict each other"):
        InContextConfig(hides=("a",), terms="beside")
