"""Operators that march: histories, lead times, gradients, and forecasts that leave every bound."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from scifm.data.normalize import fit_normalization
from scifm.data.split import windows_of
from scifm.errors import ConfigError, SignatureError
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import NEXT_FRAME, Window
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import load_operator, save_operator
from scifm.models.rollout import rollout
from scifm.objectives.supervised import MeanSquaredError
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import build_operator, settled

SYSTEM = Burgers(num_frames=7, save_interval=0.125)
GRID = Grid.square(16, num_spatial_dims=1)


def windows(window: Window = NEXT_FRAME, *, dtype=torch.float64):
    drawn = SYSTEM.sample(3, GRID, generator_for(0, "rollout"), dtype=dtype)
    return windows_of(drawn, window)


def operator_for(window: Window, **network) -> Operator:
    samples = windows(window)
    config = settled(
        FNOConfig(**{**tiny.NETWORK, **network}),
        SYSTEM.signature,
        GRID,
        window=window,
        lead_times=samples.lead_times,
        homogeneities=SYSTEM.homogeneities,
        origin={},
    )
    normalization = fit_normalization(samples.load(), SYSTEM.homogeneities)
    return build_operator(SYSTEM.signature, config, normalization, seed=0).double()


class Doubling(Operator):
    """Twice the last frame, so every number of a march can be said."""

    needs_periodic = False

    def network(self, encoded):
        return encoded.inputs[:, -1:] * 1.0  # the change, which is added to the last frame


def doubling() -> Doubling:
    operator = Doubling(SYSTEM.signature, FNOConfig(**tiny.NETWORK))
    operator.register_parameter("weight", torch.nn.Parameter(torch.ones(1, dtype=torch.float64)))
    return operator


@pytest.mark.parametrize("history", [1, 3])
def test_a_forecast_is_one_step_after_the_other(history):
    operator = operator_for(Window(history))
    batch = windows(Window(history, 3)).batch([0, 2, 5])
    whole = operator.predict(batch).require_targets()
    inputs, steps = batch.inputs, batch.lead_time[:, :1]
    for frame in range(3):
        answer = operator.predict(replace(batch, inputs=inputs, targets=None, lead_time=steps)).require_targets()
        torch.testing.assert_close(answer[:, 0], whole[:, frame])
        inputs = torch.cat([inputs[:, 1:], answer], dim=1)


def test_the_frames_of_a_history_are_told_apart():
    operator, batch = operator_for(Window(3)), windows(Window(3)).batch([0, 1])
    answer = operator.predict(batch).require_targets()
    for frame in range(3):
        changed = batch.inputs.clone()
        changed[:, frame] += 0.1 * changed[:, frame].roll(3, -1)
        assert not torch.allclose(operator.predict(replace(batch, inputs=changed)).require_targets(), answer)


def test_a_history_of_another_length_is_refused():
    with pytest.raises(SignatureError, match="takes 2 input frames; got 1"):
        operator_for(Window(2))(windows().batch([0]))
    with pytest.raises(ConfigError, match="takes 1 input frame; got a history of 2"):
        OperatorConfig().on(GRID, history=2)


def test_scalings_tell_every_sample_its_own_lead_time():
    """Burgers' equation looks the same twice as fast and half as long: so does the operator, exactly."""
    operator, batch = operator_for(Window()), windows().batch([0, 4, 9])
    assert operator.sees_lead_time
    faster = replace(
        batch,
        inputs=2 * batch.inputs,
        coefficients=2 * batch.coefficients,
        targets=None,
        lead_time=batch.lead_time / 2,
    )
    operator.domain = Domain()
    torch.testing.assert_close(
        operator.predict(faster).require_targets(), 2 * operator.predict(batch).require_targets()
    )
    with pytest.raises(SignatureError, match="told how far ahead it looks"):
        operator(replace(batch, lead_time=None))


@pytest.mark.parametrize("conditioning", ["lift", "layers"])
def test_history_and_lead_time_survive_a_folder(conditioning, tmp_path):
    operator, batch = operator_for(Window(2), conditioning=conditioning), windows(Window(2)).batch([1, 2])
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, dtype=parameter.dtype)
    save_operator(operator, tmp_path / "model")
    again = load_operator(tmp_path / "model")
    assert (again.history, again.sees_lead_time) == (2, True)
    assert torch.equal(again.predict(batch).require_targets(), operator.predict(batch).require_targets())


def test_conditions_in_every_layer_change_nothing_at_first_and_learn():
    batch = windows().batch([0, 3])
    lift, layers = (operator_for(Window(), conditioning=where) for where in ("lift", "layers"))
    layers.load_state_dict(lift.state_dict(), strict=False)
    torch.testing.assert_close(layers.predict(batch).require_targets(), lift.predict(batch).require_targets())
    layers(batch).require_targets().square().sum().backward()
    assert all(float(map_.weight.grad.abs().max()) > 0 for map_ in layers.modulations)


def test_a_rollout_gives_frames_and_their_times():
    operator, batch = doubling(), windows(Window(1, 2)).batch([0, 1])
    frames = list(rollout(operator, batch, 4))
    for step, frame in enumerate(frames, start=1):
        torch.testing.assert_close(frame.require_targets(), 2.0**step * batch.inputs)
        torch.testing.assert_close(frame.lead_time, torch.full((2, 1), 0.125 * step, dtype=torch.float64))


def test_what_leaves_every_bound_is_lost_and_the_others_go_on():
    operator, batch = doubling(), windows().batch([0, 1])
    small = batch.inputs.clone()
    small[1] = 0  # stays where it is
    march = rollout(operator, replace(batch, inputs=small), 6, bound=10.0)
    frames = [frame.require_targets() for frame in march]
    assert march.lost_at.tolist() == [4, 0]  # 16 times the start is beyond 10
    assert len(frames) == 6
    assert [bool(frame[0].isnan().all()) for frame in frames] == [False] * 3 + [True] * 3
    assert all(bool(frame[1].isfinite().all()) for frame in frames)
    assert len(list(rollout(operator, batch, 50, bound=10.0))) == 4  # all are lost: it ends


def test_a_rollout_is_differentiable_on_request():
    operator, batch = operator_for(Window()), windows().batch([0])
    *_, last = rollout(operator, batch, 3, differentiable=True)
    last.require_targets().sum().backward()
    assert all(parameter.grad is not None for parameter in operator.parameters())
    *_, last = rollout(operator, batch, 3)
    assert not last.require_targets().requires_grad


@pytest.mark.parametrize(("steps", "bound", "message"), [(0, 10.0, "at least 1 step"), (2, 1.0, "above 1; got 1")])
def test_wrong_arguments(steps, bound, message):
    with pytest.raises(ConfigError, match=message):
        rollout(doubling(), windows().batch([0]), steps, bound=bound)


def test_what_is_no_state_cannot_be_marched():
    operator, batch = tiny.operator(), tiny.batch(2)
    with pytest.raises(SignatureError, match="Only what is input and output can be marched"):
        list(operator.march(batch, 2))


@pytest.mark.parametrize(("through", "slope"), [(None, 4.0), (1, 0.0), (2, 4.0)])
def test_gradients_go_back_as_far_as_asked(through, slope):
    operator, batch = doubling(), windows(Window(1, 2)).batch([0])
    start = batch.inputs.clone().requires_grad_()
    second = operator(replace(batch, inputs=start), through=through).require_targets()[:, 1].sum()
    (gradient,) = torch.autograd.grad(second, start)  # of two doublings
    torch.testing.assert_close(gradient, torch.full_like(start, slope))


def test_noise_is_of_the_size_of_each_sample():
    operator, batch = doubling(), windows().batch([0, 5, 11])
    objective = MeanSquaredError(noise=0.1)
    noisy = objective._noisy(batch, torch.Generator().manual_seed(0))
    added = (noisy.inputs - batch.inputs).flatten(1).square().mean(1).sqrt()
    share = added / batch.inputs.flatten(1).square().mean(1).sqrt()
    assert ((share > 0.05) & (share < 0.2)).all()
    assert torch.equal(noisy.require_targets(), batch.require_targets())
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, again, other = (objective(operator, batch, step=0, generator=generator).item() for generator in generators)
    assert first == again != other
    with pytest.raises(SignatureError, match="for the states of an evolving problem"):
        objective(tiny.operator(), tiny.batch(2), step=0, generator=torch.Generator())
