"""Overfit one batch, persistence and shift equivariance: hand-made cases, and where they do not apply."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import networks
import tiny
from scifm.errors import SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.module_operator import ModuleOperator
from scifm.systems.poisson import Poisson
from scifm.trust.overfit import OverfitOneBatch
from scifm.trust.persistence import Persistence, trivial_answers
from scifm.trust.shift_equivariance import ShiftEquivariance


def ask(check, operator, batch):
    return check(operator, batch, generator=generator_for(0, "test"))


def exact(**how: float) -> ModuleOperator:
    return ModuleOperator.wrap(networks.ExactPoisson(**how), Poisson.signature)


class Keeps(nn.Module):
    """Answers a multiple of what it is given."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return x[:, :1] * self.gain


# --- overfit ----------------------------------------------------------------------------------------------------------


def test_weights_that_training_never_moves_are_named():
    from scifm.models.module_operator import ModuleConfig

    arguments = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
    config = ModuleConfig(target="networks:Idle", arguments=arguments)
    told = ask(OverfitOneBatch(num_steps=2), ModuleOperator(Poisson.signature, config), tiny.batch(4))
    assert "module.idle.weight" in told.evidence
    assert "module.map.weight" not in told.evidence


def test_a_network_wrapped_from_an_object_is_not_trained():
    told = ask(OverfitOneBatch(num_steps=2), exact(), tiny.batch(4))
    assert told.good is None
    assert "built anew" in told.said


def test_nothing_is_learned_without_solutions():
    with pytest.raises(SignatureError, match="no targets"):
        ask(OverfitOneBatch(num_steps=2), tiny.operator(), tiny.batch(4).with_targets(None))


# --- persistence ------------------------------------------------------------------------------------------------------


def test_trivial_answers_of_a_steady_problem_by_hand():
    names = Signature(("f",), (), ("u",), 1)
    grid = Grid.square(4, num_spatial_dims=1)
    inputs = torch.tensor([[1.0, 0, -1, 0], [0, 2, 0, -2]]).view(2, 1, 1, 4)
    targets = torch.tensor([[3.0, 1, -3, 1], [0, 6, 0, -6]]).view(2, 1, 1, 4)
    answers = trivial_answers(Batch(names, grid, inputs, torch.zeros(2, 0), targets))
    assert set(answers) == {"zero", "mean field", "multiple of the input"}
    assert answers["zero"].abs().max() == 0
    assert answers["mean field"][1].flatten().tolist() == [1.5, 3.5, -1.5, -2.5]
    torch.testing.assert_close(answers["multiple of the input"], 3 * inputs.double())


def test_the_last_frame_is_the_trivial_answer_of_what_evolves():
    names = Signature(("u",), (), ("u",), 2, evolves=True)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 1, 1, 8, 8, generator=generator)
    targets = inputs + 0.1 * torch.randn(8, 1, 1, 8, 8, generator=generator)
    batch = Batch(names, Grid.square(8), inputs, torch.zeros(8, 0), targets)
    still = ModuleOperator.wrap(Keeps(0.0), names)  # a state is answered as its change: nothing moves
    told = ask(Persistence(), still, batch)
    assert told.good is False
    assert told.statistic == pytest.approx(1)
    assert "'last frame'" in told.said


def test_few_samples_show_nothing_and_interval_holds_the_ratio():
    assert ask(Persistence(), exact(), tiny.batch(3)).good is None
    told = ask(Persistence(), exact(gain=0.9), tiny.batch(16))
    assert told.good is True
    assert told.low <= told.statistic <= told.high < 1
    assert len(told.figure.panels[0].series[0].x) == 16


def test_samples_whose_truth_is_zero_are_left_out():
    batch = tiny.batch(8)
    targets = batch.targets.clone()
    targets[2] = 0
    told = ask(Persistence(), exact(gain=0.9), batch.with_targets(targets))
    assert told.good is True
    assert "7 samples" in told.evidence
    nothing = ask(Persistence(), exact(), batch.with_targets(torch.zeros_like(targets)))
    assert (nothing.good, nothing.statistic) == (None, None)


def test_on_a_box_with_walls_its_errors_are_those_of_the_metric():
    names, grid = Signature(("f",), (), ("u",), 1), Grid((9,), (1.0,), (False,))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 1, 1, 9, generator=generator)
    targets = inputs.clone()
    targets[..., 0] += 1  # wrong on a wall alone, where a point counts half
    batch = Batch(names, grid, inputs, torch.zeros(16, 0), targets)
    operator = ModuleOperator.wrap(Keeps(1.0), names)
    own = evaluate(operator, batch).mean()
    told = ask(Persistence(), operator, batch)
    assert f"operator {own:.3g}," in told.evidence


# --- shift equivariance -----------------------------------------------------------------------------------------------


def test_on_a_box_with_walls_nothing_can_be_rolled():
    names, grid = Signature(("f",), (), ("u",)), Grid((8, 8), (1.0, 1.0), (False, False))
    batch = Batch(names, grid, torch.ones(2, 1, 1, 8, 8), torch.zeros(2, 0), torch.ones(2, 1, 1, 8, 8))
    told = ask(ShiftEquivariance(), ModuleOperator.wrap(Keeps(2.0), names), batch)
    assert (told.good, told.statistic) == (None, None)
    assert "no periodic axis" in told.said


def test_only_periodic_axes_are_rolled():
    """What tells the places along the axis with walls apart is no defect; along the periodic one it is."""
    names = Signature(("f",), (), ("u",))
    inputs = torch.randn(2, 1, 1, 8, 9, generator=torch.Generator().manual_seed(0))

    class Ramp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.gain * x * torch.arange(1.0, x.shape[-2] + 1, dtype=x.dtype).view(-1, 1)

    def told(periodic):
        return ask(
            ShiftEquivariance(),
            ModuleOperator.wrap(Ramp(), names),
            Batch(names, Grid((8, 9), (1.0, 1.0), periodic), inputs, torch.zeros(2, 0)),
        )

    # walls along y would be extended to a period by the operator, which reads places there: rolled along x alone
    assert told((True, True)).good is None, "the equation is not known"
    assert told((True, True)).statistic > 0.1


def test_a_place_that_counts_is_bad_where_the_equation_is_known_to_be_the_same_everywhere():
    batch = tiny.batch(4)
    assert ask(ShiftEquivariance(), exact(added=0.3), batch).good is False
    foreign = replace(batch, systems=())
    told = ask(ShiftEquivariance(), exact(added=0.3), foreign)
    assert told.good is None
    assert "not known" in told.evidence


def test_shifts_of_half_the_box_are_held_to_round_off():
    """A defect far below that of aliasing is found where a network has no excuse for it."""
    told = ask(ShiftEquivariance(), exact(added=0.003), tiny.batch(4))
    assert told.good is False
    assert "half the box" in told.said
    assert told.threshold == 1e-4
    assert ask(ShiftEquivariance(), exact(), tiny.batch(4, dtype=torch.float64)).good is True


def test_a_path_without_any_gradient_cannot_be_trained(monkeypatch):
    from scifm.models.module_operator import ModuleConfig

    monkeypatch.setattr(networks.Severed, "forward", lambda self, x: self.body(x).detach())
    arguments = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
    operator = ModuleOperator(Poisson.signature, ModuleConfig(target="networks:Severed", arguments=arguments))
    told = ask(OverfitOneBatch(num_steps=2), operator, tiny.batch(4))
    assert told.good is False
    assert "cannot be trained" in told.said
