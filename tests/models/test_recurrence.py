"""Long Expressive Memory: the compiled steps are those of torch, at every width, and those of its equations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scifm.models.parts import native
from scifm.models.parts.recurrence import LEM

at_every_width = pytest.mark.usefixtures("lanes")
needs_kernels = pytest.mark.skipif(native.library() is None, reason="no compiled kernels here")


def everything(cell: LEM, steps: int, batch: int, *, dtype: torch.dtype, seed: int) -> list[torch.Tensor]:
    """Return states and all gradients of a random weighing of them."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    x = drawn(steps, batch, cell.inputs.in_features).requires_grad_()
    states = drawn(batch, cell.width).requires_grad_(), drawn(batch, cell.width).requires_grad_()
    slow, last = cell(x, states)
    parts = [slow, *last]
    sum((part * drawn(*part.shape)).sum() for part in parts).backward()
    return [
        *(part.detach() for part in parts),
        x.grad,
        *(state.grad for state in states),
        *(weight.grad for weight in cell.parameters()),
    ]


@needs_kernels
@at_every_width
@settings(max_examples=25)
@given(
    st.sampled_from([1, 2, 7, 20]), st.sampled_from([1, 3, 33]), st.integers(1, 3),
    st.sampled_from([1, 5, 8, 16, 33, 64]), st.sampled_from([1.0, 0.3]), st.integers(0, 99),
)  # fmt: skip
def test_all_steps_at_once_are_those_of_torch(steps, batch, num_inputs, width, time_step, seed):
    torch.manual_seed(seed)
    ours = LEM(num_inputs, width, time_step=time_step)
    exact = LEM(num_inputs, width, time_step=time_step, plain=True).double()
    exact.load_state_dict(ours.state_dict())
    got = everything(ours, steps, batch, dtype=torch.float32, seed=seed)
    for own, expected in zip(got, everything(exact, steps, batch, dtype=torch.float64, seed=seed), strict=True):
        scale = max(1.0, float(expected.abs().max()))
        assert float((own - expected).abs().max()) < 2e-5 * scale


def test_a_step_is_the_published_one():
    """Four sums, two gates, and the new fast state in the slow one's update."""
    cell = LEM(2, 3, time_step=0.4, plain=True).double()
    u, z, y = torch.randn(1, 5, 2).double(), torch.randn(5, 3).double(), torch.randn(5, 3).double()
    v, b = cell.inputs.weight.split(3), (cell.inputs.bias + torch.cat([cell.slow.bias, cell.fast.bias])).split(3)
    w = cell.slow.weight.split(3)
    of_input = [u[0] @ own.T + bias for own, bias in zip(v, b, strict=True)]
    g, h = (0.4 * torch.sigmoid(y @ w[i].T + of_input[i]) for i in range(2))
    fast = (1 - g) * z + g * torch.tanh(y @ w[2].T + of_input[2])
    slow = (1 - h) * y + h * torch.tanh(fast @ cell.fast.weight.T + of_input[3])
    got, (last_fast, last_slow) = cell(u, (z, y))
    assert torch.allclose(got[0], slow, atol=1e-14)
    assert torch.equal(got[-1], last_slow)
    assert torch.allclose(last_fast, fast, atol=1e-14)


@needs_kernels
@at_every_width
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_number_is_not_hidden(value):
    x = torch.randn(4, 3, 2)
    x[1, 1, 0] = value
    slow, _ = LEM(2, 8)(x)
    assert bool(slow[0].isfinite().all())
    assert bool(slow[:, [0, 2]].isfinite().all())
    if value != value:  # saturated gates and tanh of what is infinite are numbers
        assert bool(slow[1:, 1].isnan().any(-1).all())


@needs_kernels
@at_every_width
def test_the_functions_over_the_whole_line_of_numbers():
    """Gates and tanh of large and small numbers, by cells whose states are these: small ones keep their digits."""
    cell, exact = LEM(1, 1), LEM(1, 1, plain=True).double()
    with torch.no_grad():
        for weight in cell.parameters():
            weight.zero_()
        cell.inputs.weight.copy_(torch.tensor([[0.0], [0.0], [1.0], [0.0]]))
        cell.inputs.bias.copy_(torch.tensor([100.0, 0.0, 0.0, 0.0]))  # the whole step to tanh(x)
    exact.load_state_dict(cell.state_dict())
    x = torch.cat([torch.logspace(-30, 3, 500), -torch.logspace(-30, 3, 500), torch.linspace(-3, 3, 999)])[
        None, :, None
    ]
    with torch.no_grad():
        got, expected = cell(x)[1][0], exact(x.double())[1][0]
    assert float(((got - expected).abs() / expected.abs().clamp(min=1e-37)).max()) < 1e-6


@pytest.mark.parametrize(
    ("num_inputs", "width", "num_outputs", "count"),
    [(1, 16, 1, 1_233), (2, 128, 1, 67_713), (1, 128, 10, 68_362), (6, 32, 5, 5_285)],
    ids=["a nerve", "adding", "digits", "worms"],
)
def test_it_has_as_many_weights_as_the_published_ones(num_inputs, width, num_outputs, count):
    parts = LEM(num_inputs, width), torch.nn.Linear(width, num_outputs)
    assert sum(weight.numel() for part in parts for weight in part.parameters()) == count
