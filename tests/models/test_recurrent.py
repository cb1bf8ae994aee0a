"""Recurrent operators: they remember along a march, through whatever wraps them, and series are their home."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.memory import Memory
from scifm.fields.normalization import Normalization
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.fno import FNO, FNOConfig
from scifm.models.recurrent import Recurrent, RecurrentConfig
from scifm.models.registry import load_operator, save_operator
from scifm.models.rollout import rollout
from scifm.objectives.supervised import RelativeL2

NAMES = Signature(("u", "f"), ("a",), ("u",), 1, evolves=True)
cells = pytest.mark.parametrize("cell", ["lem", "lstm", "gru"])


def recurrent(cell: str = "lem", history: int = 3, names: Signature = NAMES, **settings) -> Recurrent:
    torch.manual_seed(0)
    config = RecurrentConfig(cell=cell, width=6, num_layers=2, history=history, **settings)
    fitted = replace(
        Normalization.identity(num_inputs=len(names.inputs), num_coefficients=1, num_outputs=1),
        input_shift=(0.3, -0.2), input_scale=(2.0, 0.5), output_scale=(0.7,), output_shift=(0.1,),
    )  # fmt: skip
    return Recurrent(names, config, normalization=fitted).double()


def windows(steps: int = 4, history: int = 3, *, grid: Grid | None = None, observed: bool = False) -> Batch:
    grid = grid or Grid((5,))
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = drawn(2, history, 2, *grid.num_points)
    inputs[:, :, 1] = inputs[:, -1:, 1]  # what is given does not change
    times = 0.1 * torch.arange(1, steps + 1, dtype=torch.float64).expand(2, -1)
    targets = drawn(2, steps, 1, *grid.num_points)
    return Batch(NAMES, grid, inputs, drawn(2, 1), targets, lead_time=times, observed=observed)


def longer(batch: Batch, answers: torch.Tensor) -> Batch:
    """Return the question with so many more frames behind its history."""
    later = batch.inputs[:, -1:].expand(-1, answers.shape[1], -1, *(-1,) * (answers.dim() - 3)).clone()
    later[:, :, :1] = answers
    return replace(
        batch, inputs=torch.cat([batch.inputs, later], dim=1), targets=None, lead_time=batch.lead_time[:, :1]
    )


@cells
def test_a_march_remembers_all_frames_since_its_beginning(cell):
    """The answer in the k-th step is that of one that was given all frames at once."""
    operator, batch = recurrent(cell), windows()
    frames = list(operator.march(batch, 4))
    for step, frame in enumerate(frames):
        whole = recurrent(cell, history=3 + step)
        whole.load_state_dict(operator.state_dict())
        asked = longer(batch, torch.cat([frames[0][:, :0], *frames[:step]], dim=1))
        assert torch.allclose(whole(asked).require_targets(), frame, atol=1e-12)


@cells
@pytest.mark.parametrize("history", [1, 3])
def test_observed_windows_are_answered_from_true_frames_in_one_pass(cell, history):
    operator, batch = recurrent(cell, history), windows(history=history, observed=True)
    answers = operator(batch).require_targets()
    for step in range(4):
        whole = recurrent(cell, history=history + step)
        whole.load_state_dict(operator.state_dict())
        asked = longer(batch, batch.require_targets()[:, :step])
        assert torch.allclose(whole(asked).require_targets(), answers[:, step : step + 1], atol=1e-12)
    assert not torch.allclose(operator(replace(batch, observed=False)).require_targets(), answers)


def test_what_has_no_memory_follows_observed_windows_step_by_step():
    batch = windows(observed=True)
    operator = FNO(NAMES, FNOConfig(width=4, modes=2, num_layers=1, history=3)).double()
    answers = operator(batch).require_targets()
    for step in range(4):
        frames = longer(batch, batch.require_targets()[:, :step]).inputs[:, -3:]
        asked = replace(batch, inputs=frames, targets=None, lead_time=batch.lead_time[:, :1], observed=False)
        assert torch.allclose(operator(asked).require_targets(), answers[:, step : step + 1], atol=1e-12)


@pytest.mark.parametrize("observed", [True, False])
def test_members_of_an_ensemble_remember_each_for_itself(observed):
    member = RecurrentConfig(width=6, history=3)
    torch.manual_seed(0)
    whole = Ensemble(NAMES, EnsembleConfig(member=member, num_members=2)).double()
    batch = windows(observed=observed)
    alone = []
    for place in range(2):
        single = Recurrent(NAMES, member).double()
        single.load_state_dict(whole._networks()[place].state_dict())
        alone.append(single(batch).require_targets())
    said = [answer.require_targets() for answer in whole.each(batch)]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(said, alone, strict=True))


def test_gradients_stop_where_they_are_told_to():
    operator, batch = recurrent(history=1), windows(history=1)
    asked = replace(batch, inputs=batch.inputs.clone().requires_grad_())
    last = operator(asked, through=2).require_targets()[:, 3]
    (grad,) = torch.autograd.grad(last.square().sum(), asked.inputs)
    assert not bool(grad[:, :, 0].any())  # the state of the beginning is two stops away
    whole = operator(asked).require_targets()[:, 3]
    (grad,) = torch.autograd.grad(whole.square().sum(), asked.inputs)
    assert bool(grad[:, :, 0].any())


def test_two_marches_at_once_do_not_mix_their_memories():
    operator = recurrent()
    batches = windows(), replace(windows(), inputs=windows().inputs * 2)
    apart = [torch.cat(list(operator.march(batch, 4)), dim=1) for batch in batches]
    both = zip(*(operator.march(batch, 4) for batch in batches), strict=True)
    together = [torch.cat(frames, dim=1) for frames in zip(*both, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(apart, together, strict=True))


def test_series_have_no_space():
    operator, batch = recurrent(), windows(grid=Grid.place())
    assert operator(batch).require_targets().shape == (2, 4, 1, 1)
    assert len(list(rollout(operator, batch, 6))) == 6
    loss = RelativeL2().on(batch)(operator, batch, step=0, generator=torch.Generator())
    loss.backward()
    assert bool(loss.isfinite())


@cells
def test_saved_and_loaded_it_is_the_same(cell, tmp_path):
    operator = recurrent(cell)
    save_operator(operator, tmp_path)
    batch = windows()
    assert torch.equal(load_operator(tmp_path)(batch).require_targets(), operator(batch).require_targets())


def test_settings_without_effect_are_refused():
    with pytest.raises((ConfigError, ValueError), match="time_step is of cell = 'lem'"):
        RecurrentConfig(cell="gru", time_step=0.5)


def test_only_states_can_be_observed_on_the_way():
    names = Signature(("u",), ("a",), ("v",), 1, evolves=True)
    operator = Recurrent(names, RecurrentConfig(width=4))
    batch = Batch(names, Grid((3,)), torch.zeros(1, 1, 1, 3), torch.zeros(1, 1), torch.zeros(1, 2, 1, 3), observed=True)
    with pytest.raises(SignatureError, match=r"Only what is input and output can be observed.*Leave observed out"):
        operator(batch)


def test_who_is_asked_twice_about_a_frame_begins_both_times_where_it_was():
    """And goes on from what it made of the first question, whatever the second was."""
    operator, batch, memory = recurrent(), windows(), Memory()
    first = replace(batch, targets=None, lead_time=batch.lead_time[:, :1], memory=memory)
    once = operator.next_frame(first)
    operator.next_frame(replace(first, inputs=first.inputs * 3))
    assert torch.equal(operator.next_frame(first), once)
    memory.turn()
    later = longer(batch, once).inputs[:, -1:]
    following = replace(first, inputs=later)
    expected = list(operator.march(batch, 2))[1]
    assert torch.allclose(operator.next_frame(following), expected, atol=1e-12)
    operator.next_frame(replace(following, inputs=later * 3))
    assert torch.allclose(operator.next_frame(following), expected, atol=1e-12)
