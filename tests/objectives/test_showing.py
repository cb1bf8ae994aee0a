"""Samples that are shown to each other: who is shown to whom, what it is refused for, and that it trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from scifm.config import build_config
from scifm.data.stream import Part, Stream
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.in_context import InContext, InContextConfig, shown
from scifm.objectives import RelativeL2
from scifm.objectives.showing import shares_of, showing
from scifm.systems.poisson import Poisson
from scifm.training.loop import TrainingConfig
from scifm.training.pretrain import PretrainRecipe, pretrain
from scifm.training.processes import ALONE
from scifm.training.sharing import SharedGradient

NETWORK = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 4, "condition_width": 8, "context_blocks": 1}


def learner(signature: Signature = Poisson.signature) -> InContext:
    torch.manual_seed(0)
    return InContext(signature, InContextConfig(**NETWORK)).double()


def batch(num: int = 8, **named) -> Batch:
    return replace(Poisson().sample(num, tiny.GRID, generator_for(0, "shown"), dtype=torch.float64), **named)


def drawn(samples: Batch, most: int, times: int = 200) -> torch.Tensor:
    return torch.stack([shares_of(samples, most, generator_for(seed, "shares")) for seed in range(times)])


def test_nobody_is_shown_itself_or_another_groups_samples():
    group = torch.tensor([7, 7, 3, 3, 3, 9, 7, 3])
    shares = drawn(batch(group=group), 2)
    assert not shares.diagonal(dim1=1, dim2=2).any()
    assert not shares[:, group[:, None] != group].any()
    assert not shares[:, 5].any()  # alone in its group
    within = (group[:, None] == group) & ~torch.eye(8, dtype=torch.bool)
    assert bool((shares[:, within] > 0).any(0).all())


def test_examples_are_of_the_same_system_and_have_the_same_fields():
    systems = ("poisson", "poisson", "helmholtz", "poisson")
    shares = drawn(batch(4, systems=systems), 3)
    assert not shares[:, 2].any()
    assert not shares[:, :, 2].any()
    present = torch.ones(4, len(Poisson.signature.names), dtype=torch.bool)
    present[0, 0] = False
    shares = drawn(batch(4, present=present), 3)
    assert not shares[:, 0].any()
    assert not shares[:, :, 0].any()


def test_a_sample_that_comes_twice_is_not_its_own_example():
    samples = batch(5).select([0, 1, 2, 0, 3, 4, 1])
    shares = drawn(samples, 6)
    for one, other in ((0, 3), (1, 6)):
        assert not shares[:, one, other].any()
        assert not shares[:, other, one].any()
    assert bool((shares[:, 0, 1] > 0).any())


@pytest.mark.parametrize("most", [1, 3, 20])
def test_numbers_of_examples_are_alike_often_and_weigh_alike(most):
    shares = drawn(batch(), most, times=500)
    counts = (shares > 0).sum(2)
    sums = shares.sum(2)
    torch.testing.assert_close(sums, (counts > 0).float(), rtol=0, atol=1e-6)
    largest = min(most, 7)
    frequencies = torch.bincount(counts.flatten(), minlength=largest + 1) / counts.numel()
    assert len(frequencies) == largest + 1
    assert float((frequencies * (largest + 1) - 1).abs().max()) < 0.15
    for row in shares[:20].flatten(0, 1):
        assert len(row[row > 0].unique()) <= 1


def test_it_is_the_answer_of_an_operator_that_is_shown_them():
    operator, samples = learner(), batch(4)
    shares = shares_of(samples, 3, generator_for(4, "one"))
    assert (shares > 0).sum(1).unique().numel() > 1, "choose another seed: all are shown as many"
    with showing(operator, samples, 3, generator_for(4, "one")):
        together = operator(samples).require_targets()
    for place, row in enumerate(shares):
        own = shown(operator, samples.select(row.nonzero().flatten()))
        torch.testing.assert_close(own(samples.select([place])).require_targets()[0], together[place])
    alone = operator(samples).require_targets()  # nothing is kept
    torch.testing.assert_close(alone[(shares == 0).all(1)], together[(shares == 0).all(1)])


def test_the_loss_reaches_what_reads_and_draws_by_the_generator():
    operator, samples = learner(), batch()
    losses = [
        RelativeL2(shows=most)(operator, samples, step=0, generator=generator_for(seed, "loss"))
        for most, seed in ((4, 0), (4, 0), (4, 1), (0, 0))
    ]
    assert losses[0] == losses[1]
    assert len({float(loss.detach()) for loss in losses}) == 3
    losses[0].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in operator.reader.parameters())
    with pytest.raises(RuntimeError, match="boom"), showing(operator, samples, 4, generator_for(0, "boom")):
        raise RuntimeError("boom")
    assert operator._context is None


def test_of_a_march_the_first_step_is_shown():
    names = Signature(("u",), ("a",), ("u",), 1, evolves=True)
    grid = Grid((16,), (1.0,), (True,))
    generator = generator_for(0, "march")
    inputs, targets = (torch.randn(4, n, 1, 16, generator=generator, dtype=torch.float64) for n in (1, 2))
    lead = torch.tensor([[0.1, 0.2]], dtype=torch.float64).expand(4, 2)
    samples = Batch(names, grid, inputs, torch.zeros(4, 1, dtype=torch.float64), targets, lead_time=lead)
    operator = learner(names)
    objective = RelativeL2(shows=3)
    with pytest.raises(SignatureError, match=r"of different trajectories: draw them so \(data\.same_knobs = 8\)"):
        objective(operator, samples, step=0, generator=generator_for(0, "draw"))
    samples = replace(samples, group=torch.tensor([1, 1, 2, 2]))
    other = replace(samples, targets=torch.cat([targets[:, :1], targets[:, 1:] + 1], dim=1))
    contexts = []
    for one in (samples, other):
        with showing(operator, one, 3, generator_for(0, "draw")):
            contexts.append(operator._context)
    assert torch.equal(*contexts)
    assert bool(objective(operator, samples, step=0, generator=generator_for(0, "draw")).isfinite())


# --- what is refused --------------------------------------------------------------------------------------------------


def recipe(**training) -> dict:
    about = {"kind": "in_context", "network": NETWORK}
    tree = tiny.recipe(training={"objective": {"name": "relative_l2", "shows": 3}, **training})
    return {**tree, "model": about, "data": {**tree["data"], "same_knobs": 4}}


def test_operators_that_do_not_learn_to_use_examples_are_refused_before_anything_is_spent(tmp_path):
    tree = {**recipe(), "model": {"network": tiny.NETWORK}}
    with pytest.raises(ConfigError, match=r"shows = 3 of the objective .* kind 'fno' would not look at them"):
        pretrain(tree, out=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="kind 'fno' would not look"):
        RelativeL2(shows=3)(tiny.operator(), tiny.batch(), step=0, generator=generator_for(0, "draw"))
    with pytest.raises(ConfigError, match="shows"):
        build_config(TrainingConfig, {"objective": {"name": "relative_l2", "shows": -1}})


def test_a_coefficient_that_samples_do_not_have_cannot_be_hidden(tmp_path):
    tree = recipe()
    tree["model"] = {"kind": "in_context", "network": {**NETWORK, "hides": ["difusion_xx"]}}
    with pytest.raises(ConfigError, match=r"hides names coefficients of the samples: 'difusion_xx'.*diffusion_xx"):
        pretrain(tree, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_parts_of_a_step_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"needs all samples of a step together.*: train in one process, with training\.micro_batches"
    ):
        pretrain(recipe(micro_batches=2), out=tmp_path)
    assert RelativeL2().adds_up
    assert not RelativeL2(shows=1).adds_up
    stream = Stream(Poisson(), tiny.GRID, batch_size=4, seed=0)
    SharedGradient(learner(), RelativeL2(shows=2), stream, ALONE)
    with pytest.raises(ConfigError, match="micro_batches = 1"):
        SharedGradient(learner(), RelativeL2(shows=2), stream, ALONE, micro_batches=2)
    assert Part(0, 1) == SharedGradient(learner(), RelativeL2(), stream, ALONE).pieces[0]


# --- that it trains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["steady", "evolving"])
def test_a_recipe_trains_and_resumes_where_it_stopped(system, tmp_path):
    tree = recipe()
    if system == "evolving":
        tree["system"] = {"name": "burgers", "options": {"num_frames": 5}}
        tree["data"] |= {"history": 2, "windows_per_trajectory": 2}
        tree["training"] = {**tree["training"], "batch_size": 8}
    whole = pretrain(tree, out=tmp_path / "whole")

    def stopping(**event):
        if event["event"] == "step" and event["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(tree, out=tmp_path / "again", observe=stopping)
    again = pretrain(tree, out=tmp_path / "again")
    weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in (whole, again)]
    assert weights[0] == weights[1]
    plain = {**tree, "training": {**tree["training"], "objective": "relative_l2"}}
    other = pretrain(plain, out=tmp_path / "whole")
    assert (other.path / "model" / "model.safetensors").read_bytes() != weights[0]
    assert PretrainRecipe.read(tree).training.to_dict()["objective"] == {"name": "relative_l2", "shows": 3}
