"""Ensembles: members are the networks they say, heads cost one network, and what is saved comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import networks
import tiny
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import generator_for
from scifm.models.axial_transformer import AxialTransformerConfig
from scifm.models.ensemble import Ensemble, EnsembleConfig, apart
from scifm.models.fno import FNO, FNOConfig
from scifm.models.laplace import _posterior, laplace
from scifm.models.module_operator import ModuleOperator
from scifm.models.registry import load_operator
from scifm.models.unet import UNetConfig
from scifm.objectives.supervised import RelativeL2
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import pretrain

MEMBER = FNOConfig(**tiny.NETWORK)
MEMBERS = [
    MEMBER,
    UNetConfig(width=4, levels=2, blocks=1, projection_width=8),
    AxialTransformerConfig(width=16, num_heads=2, num_blocks=1, patch=4),
]
FOREIGN = {
    "kind": "module",
    "target": f"{networks.__name__}:GlobalNet",
    "arguments": {"channels_in": "{in_channels}", "channels_out": "{out_channels}"},
}
SEVERAL = [
    {"num_members": 2},
    {"num_members": 1, "num_heads": 3},
    {"num_members": 2, "num_heads": 2},
    {"num_members": 2, "num_heads": 2, "dropout": 0.3},
]
EVOLVES = Signature(("u",), ("a",), ("u",), 1, evolves=True)


def ensemble(seed: int = 0, **network) -> Ensemble:
    torch.manual_seed(seed)
    return Ensemble(Poisson.signature, EnsembleConfig(member=MEMBER, **network))


def trajectories(num_frames: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(0)
    frames = torch.randn(3, num_frames + 1, 1, 16, generator=draw)
    times = torch.arange(1, num_frames + 1).expand(3, -1) * 0.1
    return Batch(EVOLVES, Grid((16,)), frames[:, :1], torch.rand(3, 1, generator=draw), frames[:, 1:], lead_time=times)


def test_members_are_networks_of_their_own_and_the_answer_is_their_mean():
    whole, batch = ensemble(num_members=3), tiny.batch(4)
    members = whole.spread(batch)
    for place, network in enumerate(whole.networks):
        torch.testing.assert_close(members[place], network.answers(batch).targets)
    torch.testing.assert_close(whole.answers(batch).targets, members.mean(0))
    assert members.std(0).min() > 0
    assert whole.num_params == 3 * FNO(Poisson.signature, MEMBER).num_params


@pytest.mark.parametrize("member", MEMBERS, ids=lambda own: own.kind)
def test_heads_share_all_but_the_last_map_and_are_what_single_networks_with_those_rows_answer(member):
    torch.manual_seed(0)
    signature = Signature(("u", "v"), ("a",), ("u", "v"), 2, evolves=True)
    whole = Ensemble(signature, EnsembleConfig(member=member, num_members=1, num_heads=3))
    draw = torch.Generator().manual_seed(1)
    fields = torch.randn(2, 2, 2, 16, 16, generator=draw)
    times = torch.full((2, 1), 0.1)
    known = torch.rand(2, 1, generator=draw)
    batch = Batch(signature, Grid.square(16), fields[:, :1], known, fields[:, 1:], lead_time=times)
    members = whole.spread(batch)
    for place in range(3):
        alone = type(whole.networks[0])(signature, member)
        rows = {}
        for name, weight in whole.networks[0].state_dict().items():
            own = alone.state_dict()[name]
            rows[name] = weight if weight.shape == own.shape else weight.unflatten(0, (3, -1))[place]
        alone.load_state_dict(rows)
        torch.testing.assert_close(members[place], alone.answers(batch).targets, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda own: own.kind)
def test_with_dropout_heads_share_the_last_map_and_each_lacks_some_of_its_columns(member):
    torch.manual_seed(0)
    whole = Ensemble(Poisson.signature, EnsembleConfig(member=member, num_members=1, num_heads=4, dropout=0.5))
    alone = type(whole.networks[0])(Poisson.signature, member)
    assert whole.num_params == alone.num_params, "it costs one network"
    last = whole.networks[0].outer_maps().last
    shared, masks = last.parametrizations.weight.original, last.parametrizations.weight[0].mask
    assert masks.unique().tolist() == [0.0, 1.0]
    whole.eval()
    members = whole.spread(tiny.batch(2))
    for place in range(4):
        rows = {name: own for name, own in whole.networks[0].state_dict().items() if "parametrizations" not in name}
        name = next(key for key, own in alone.named_parameters() if own is alone.outer_maps().last.weight)
        columns = 2.0 * masks[place].view(1, -1, *(1,) * (shared.dim() - 2))  # those that stay make up for the others
        rows |= {name: shared * columns, name.removesuffix("weight") + "bias": last.parametrizations.bias.original}
        alone.load_state_dict(rows)
        torch.testing.assert_close(members[place], alone.answers(tiny.batch(2)).targets, rtol=1e-4, atol=1e-6)


def test_what_is_dropped_is_drawn_at_each_step_of_training_and_fixed_when_asked():
    whole, batch = ensemble(num_members=2, num_heads=3, dropout=0.4), tiny.batch(2)
    weights = whole.networks[0].outer_maps().last
    whole.train()
    seen = []
    draw = generator_for(0, "steps")
    for _ in range(200):
        whole.redraw(draw)
        seen.append(weights.weight.detach().clone())
    drawn = torch.stack(seen)
    assert (drawn == 0).float().mean().item() == pytest.approx(0.4, abs=0.03)
    torch.testing.assert_close(drawn.mean(0), weights.parametrizations.weight.original.repeat(3, 1), rtol=0.35, atol=0)
    once = torch.stack([own.targets for own in whole.each(batch)])
    assert torch.equal(once, torch.stack([own.targets for own in whole.each(batch)])), "until it is drawn again"
    whole.redraw(draw)
    assert not torch.equal(once, torch.stack([own.targets for own in whole.each(batch)]))
    whole.eval()
    assert torch.equal(whole.spread(batch), whole.spread(batch))


@pytest.mark.parametrize("network", SEVERAL)
def test_every_member_marches_by_itself(network):
    torch.manual_seed(0)
    whole, batch = Ensemble(EVOLVES, EnsembleConfig(member=MEMBER, **network)), trajectories()
    one = replace(batch, targets=batch.targets[:, :1], lead_time=batch.lead_time[:, :1])
    members, first = whole.spread(batch), whole.spread(one)
    torch.testing.assert_close(members[:, :, :1], first, rtol=1e-5, atol=1e-6)
    for place in range(whole.num_members):
        state = batch.inputs
        for step in range(4):  # each of its answers is its own next input
            asked = replace(batch, inputs=state, targets=None, lead_time=torch.full((3, 1), 0.1))
            state = whole.spread(asked)[place]
            torch.testing.assert_close(members[place, :, step : step + 1], state, rtol=1e-4, atol=1e-5)
    assert (whole.answers(batch).targets - members.mean(0)).abs().max() > 1e-6, "the mean marches otherwise"


@pytest.mark.parametrize("member", MEMBERS[:2], ids=lambda own: own.kind)
@pytest.mark.parametrize("network", SEVERAL)
def test_its_twin_with_derivatives_of_every_order_answers_the_same_with_the_same_weights(member, network):
    torch.manual_seed(0)
    whole, batch = Ensemble(Poisson.signature, EnsembleConfig(member=member, **network)).eval(), tiny.batch(2)
    twin = whole.differentiable()
    torch.testing.assert_close(twin.spread(batch), whole.spread(batch), rtol=1e-4, atol=1e-6)
    assert [id(own) for own in twin.parameters()] == [id(own) for own in whole.parameters()]
    loss = twin(batch).require_targets().square().mean()
    weights = [own for own in twin.parameters() if own.requires_grad]
    slope = torch.autograd.grad(loss, weights, create_graph=True)
    curved = torch.autograd.grad(sum(own.square().sum() for own in slope), weights)
    assert all(own.isfinite().all() for own in curved)


def test_what_is_saved_comes_back(tmp_path):
    for place, about in enumerate(SEVERAL):
        whole = ensemble(**about)
        whole.save_pretrained(tmp_path / str(place))
        again = load_operator(tmp_path / str(place))
        assert again.config == whole.config
        assert torch.equal(again.spread(tiny.batch(3)), whole.spread(tiny.batch(3)))


def test_trained_operators_become_one_with_the_numbers_each_was_fitted_on(tmp_path):
    numbers = [Normalization.identity(num_inputs=1, num_coefficients=3, num_outputs=1)]
    numbers.append(replace(numbers[0], output_scale=(2.0,)))
    torch.manual_seed(0)
    alone = [FNO(Poisson.signature, MEMBER, normalization=own) for own in numbers]
    whole, batch = Ensemble.of(alone), tiny.batch(3)
    whole.save_pretrained(tmp_path / "model")
    for each in (whole, load_operator(tmp_path / "model")):
        for place, operator in enumerate(alone):
            torch.testing.assert_close(each.spread(batch)[place], operator.answers(batch).targets)
    with torch.no_grad():
        next(alone[0].parameters()).zero_()
    assert not torch.equal(whole.spread(batch)[0], alone[0].answers(batch).targets), "weights are copies"


def test_what_cannot_be_one_is_said():
    alone = tiny.operator()
    with pytest.raises(ConfigError, match="at least two members; got 1"):
        Ensemble.of([alone])
    with pytest.raises(ConfigError, match=r"one architecture.*place 1"):
        Ensemble.of([alone, tiny.operator(width=8)])
    with pytest.raises(SignatureError, match="same names"):
        Ensemble.of([alone, FNO(Signature(("f",), (), ("u",)), MEMBER)])
    with pytest.raises(ConfigError, match="at least two answers"):
        _config(num_members=1)
    with pytest.raises(ConfigError, match=r"dropout = 0.2 is what heads differ in, and there is one; give num_heads"):
        _config(dropout=0.2)
    with pytest.raises(ConfigError, match="give num_heads"):
        _config(num_members=1, dropout=0.2)
    with pytest.raises(ConfigError, match="no ensemble"):
        _config(member={"kind": "ensemble"})
    with pytest.raises(ConfigError, match="does not tell where its answers leave it"):
        Ensemble(Poisson.signature, EnsembleConfig(member=FOREIGN, num_members=1, num_heads=2))
    wrapped = Ensemble.of([ModuleOperator.wrap(networks.ExactPoisson(), Poisson.signature) for _ in range(2)])
    with pytest.raises(ConfigError, match="wrapped from objects"):
        wrapped.save_pretrained("anywhere")


def _config(**settings):
    from scifm.config import build_config

    return build_config(EnsembleConfig, settings, source="the test")


def test_the_loss_is_the_mean_over_members_and_diversity_pushes_heads_apart():
    whole, batch = ensemble(num_members=2, num_heads=2), tiny.batch(4)
    about = {"step": 0, "generator": generator_for(0, "test")}
    loss = RelativeL2()(whole, batch, **about)
    parts = [RelativeL2().compare(batch.with_targets(own), batch) for own in whole.spread(batch)]
    torch.testing.assert_close(loss, torch.stack(parts).mean())
    assert (loss - RelativeL2().compare(whole(batch), batch)).abs() > 1e-4, "and not the loss of the mean"
    pushed = RelativeL2(diversity=0.5)(whole, batch, **about)
    rows = whole.head_weights()
    by_hand = torch.stack([(a - b).square().sum() for a, b in rows]).mean()
    torch.testing.assert_close(apart(whole), by_hand)
    torch.testing.assert_close(pushed, loss - 0.5 * by_hand)
    pushed.backward()
    assert whole.networks[0].outer_maps().last.weight.grad.isfinite().all()
    orthonormal = ensemble(num_members=1, num_heads=4)
    with torch.no_grad():
        orthonormal.networks[0].outer_maps().last.weight.copy_(torch.eye(8)[:4])
    assert apart(orthonormal).item() == pytest.approx(2.0), "of orthonormal heads"
    with pytest.raises(ConfigError, match="num_heads"):
        RelativeL2(diversity=0.5)(ensemble(num_members=2), batch, **about)
    with pytest.raises(ConfigError, match="without dropout"):
        RelativeL2(diversity=0.5)(ensemble(num_members=1, num_heads=3, dropout=0.5), batch, **about)
    with pytest.raises(ConfigError, match="kind 'fno' has none"):
        RelativeL2(diversity=0.5).require_operator(FNO)


def test_a_recipe_trains_one_and_goes_on_where_it_stopped(tmp_path):
    network = {"member": tiny.NETWORK, "num_members": 2, "num_heads": 2}
    tree = tiny.recipe(model={"kind": "ensemble", "network": network})
    tree["model"]["network"] = network
    tree["training"]["objective"] = {"name": "relative_l2", "diversity": 1e-4}
    run = pretrain(tree, out=tmp_path)
    whole = load_operator(run)
    assert whole.num_members == 4
    first = whole.spread(tiny.batch(3))
    assert first.std(0).min() > 0


def test_what_draws_while_it_trains_goes_on_bit_for_bit(tmp_path, monkeypatch):
    drawn = []
    redraw = Ensemble.redraw

    def noted(self, generator):
        redraw(self, generator)
        drawn.append(self.networks[0].outer_maps().last.weight.detach() == 0)

    monkeypatch.setattr(Ensemble, "redraw", noted)
    tree = tiny.recipe(name="dropped", model={"num_heads": 3, "dropout": 0.2})
    tree["training"] |= {"num_steps": 6, "checkpoint_every": 3}
    whole = load_operator(pretrain(tree, out=tmp_path / "whole"))
    assert len({mask.numpy().tobytes() for mask in drawn}) >= 6, "each step has others"

    def stopped(**event):
        if event["event"] == "step" and event["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(tree, out=tmp_path / "parts", observe=stopped)
    again = load_operator(pretrain(tree, out=tmp_path / "parts"))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_the_posterior_of_a_linear_map_is_the_closed_form():
    """Of y = φ·w + noise with a prior of precision τ the covariance of w is (ΦᵀΦ/σ² + τ)⁻¹."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(500, 4, generator=draw, dtype=torch.float64)
    trained = torch.tensor([1.0, -2.0, 0.5, 0.1], dtype=torch.float64)
    found = _posterior(features.T @ features, 0.04, trained)
    covariance = found.directions @ found.deviations.square().diag() @ found.directions.T
    gram = features.T @ features / 0.04
    values = torch.linalg.eigvalsh(gram)
    precision = 1.0
    for _ in range(500):
        precision = float((values / (values + precision)).sum() / trained.square().sum())
    exact = torch.linalg.inv(gram + precision * torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(covariance, exact, rtol=1e-4, atol=1e-12)


def test_draws_are_centered_and_as_wide_as_they_should_be():
    found = _posterior(torch.eye(3, dtype=torch.float64) * 1e4, 1.0, torch.ones(3, dtype=torch.float64))
    draws = found.draws(4, generator_for(0, "t"))
    torch.testing.assert_close(draws.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    many = torch.cat([found.draws(4, generator_for(seed, "t")) for seed in range(500)])
    assert many.square().mean().item() == pytest.approx(1e-4, rel=0.1)


def test_laplace_leaves_the_answer_and_doubts_where_no_sample_was():
    torch.manual_seed(0)
    operator, batch = tiny.operator(), tiny.batch(32)
    doubting = laplace(operator, batch, num_heads=8)
    torch.testing.assert_close(doubting.answers(batch).targets, operator.answers(batch).targets, rtol=1e-3, atol=1e-5)
    assert doubting.num_members == 8
    few = laplace(operator, batch.select(slice(0, 2)), num_heads=8)
    assert few.spread(batch).std(0).mean() > doubting.spread(batch).std(0).mean(), "less was seen"
    assert torch.equal(doubting.spread(batch), laplace(operator, batch, num_heads=8).spread(batch))


def test_what_laplace_cannot_do_is_said():
    operator, batch = tiny.operator(), tiny.batch(4)
    with pytest.raises(ConfigError, match="spread of its own"):
        laplace(ensemble(num_members=2), batch)
    with pytest.raises(ConfigError, match=r"at least 2.*got 1"):
        laplace(operator, batch, num_heads=1)
    with pytest.raises(SignatureError, match="have none"):
        laplace(operator, batch.with_targets(None))
    with pytest.raises(ConfigError, match=r"outer_maps\(\)"):
        laplace(ModuleOperator.wrap(networks.ExactPoisson(), Poisson.signature), batch)
