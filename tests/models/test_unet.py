"""A U-Net: kernels against torch, ends of every kind, symmetries, sizes, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from scifm.config import build_config
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.parts.convnext import ConvNeXtBlock
from scifm.models.parts.depthwise import Depthwise, blurred, padded
from scifm.models.parts.native import library
from scifm.models.surgery import with_channels
from scifm.models.unet import UNET_SIZES, UNet, UNetConfig
from scifm.systems.initial import RandomWaves

SMALL = {"width": 4, "levels": 3, "blocks": 1, "kernel_size": 3, "condition_width": 8, "projection_width": 8}
SPACES = {1: (21,), 2: (12, 13), 3: (6, 5, 8)}
needs_kernels = pytest.mark.skipif(library() is None, reason="no compiled kernels here")
at_every_width = pytest.mark.usefixtures("lanes")


def unet(num_axes: int = 2, **settings) -> UNet:
    torch.manual_seed(0)
    signature = Signature(("f", "g"), ("a",), ("u",), num_axes)
    return UNet(signature, UNetConfig(**{**SMALL, **settings}))


def problems(operator: UNet, space: tuple[int, ...], *, wraps: bool = True, num: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    grid = Grid(space, (1.0,) * len(space), (wraps,) * len(space))
    inputs = torch.randn(num, 1, 2, *space, generator=generator)
    return Batch(operator.signature, grid, inputs, torch.randn(num, 1, generator=generator))


@pytest.mark.parametrize("wraps", [True, False])
def test_padding_is_a_period_or_the_last_value(wraps):
    x = torch.arange(10.0).view(1, 5, 2)
    longer = padded(x, 1, 2, 3, wraps=wraps)[0, :, 0]
    assert longer.tolist() == ([6, 8, 0, 2, 4, 6, 8, 0, 2, 4] if wraps else [0, 0, 0, 2, 4, 6, 8, 8, 8, 8])
    assert padded(x, 1, 7, 0, wraps=wraps)[0, :3, 0].tolist() == ([6, 8, 0] if wraps else [0, 0, 0])


@needs_kernels
@at_every_width
@pytest.mark.parametrize("kernel_size", [1, 5, 7, 9])
@pytest.mark.parametrize("channels", [5, 37])
@pytest.mark.parametrize("wraps", [(True,), (False,), (True, False), (False, True), (True, False, True)])
def test_the_depthwise_kernel_is_torchs_convolution(kernel_size, channels, wraps):
    torch.manual_seed(0)
    ours = Depthwise(channels, kernel_size, len(wraps))
    theirs = Depthwise(channels, kernel_size, len(wraps), plain=True).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, *(9, 11, 4)[: len(wraps)], channels, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    answer, right = ours(x, wraps), theirs(exact, wraps)
    grad = torch.randn_like(answer)
    answer.backward(grad)
    right.backward(grad.double())
    pairs = [(answer, right), (x.grad, exact.grad)]
    pairs += [(one.grad, other.grad) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for one, other in pairs:
        assert (one.double() - other).abs().max() < 2e-6 * other.abs().max().clamp(min=1)


@needs_kernels
@at_every_width
@pytest.mark.parametrize(
    ("space", "channels"), [((9, 11), 20), ((40,), 5), ((3, 4, 5), 33), ((16, 16), 32), ((1, 1), 4)]
)
def test_the_kernel_of_a_block_is_torchs(space, channels):
    torch.manual_seed(0)
    settings = {"kernel_size": 3, "expansion": 4, "condition_width": 6}
    ours = ConvNeXtBlock(channels, len(space), plain=False, **settings)
    theirs = ConvNeXtBlock(channels, len(space), plain=True, **settings).double()
    theirs.load_state_dict(ours.state_dict())
    x, told = torch.randn(3, *space, channels, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    others = [tensor.detach().double().requires_grad_() for tensor in (x, told)]
    wraps = (True,) * len(space)
    answer, right = ours(x, told, wraps), theirs(*others, wraps)
    grad = torch.randn_like(answer)
    answer.backward(grad)
    right.backward(grad.double())
    pairs = [(answer, right), (x.grad, others[0].grad), (told.grad, others[1].grad)]
    pairs += [(one.grad, other.grad) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for one, other in pairs:
        assert (one.double() - other).norm() < 3e-6 * other.norm()


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_a_periodic_box_has_no_first_point(num_axes):
    """Moved by what the levels halve, fields have their answers moved with them: nothing else marks a place."""
    operator = unet(num_axes).double()
    batch = problems(operator, (16, 8, 12)[:num_axes]).to(dtype=torch.float64)
    axes = tuple(range(-num_axes, 0))
    moved = replace(batch, inputs=batch.inputs.roll((4,) * num_axes, axes))
    answer, other = (operator.predict(part).require_targets() for part in (batch, moved))
    torch.testing.assert_close(other, answer.roll((4,) * num_axes, axes))


def test_between_pairs_of_points_the_answer_nearly_moves_too():
    """What comes up is no staircase, so that untrained networks miss a shift by one point by a small part alone."""
    waves = RandomWaves(max_wave=5, slope=1.0)
    for seed in range(3):
        torch.manual_seed(seed)
        operator = UNet(Signature(("f",), (), ("u",)), UNetConfig(width=16, projection_width=16))
        inputs = waves.draw(2, 1, Grid.square(32), torch.Generator().manual_seed(seed)).float()[:, None]
        batch = Batch(operator.signature, Grid.square(32), inputs, torch.zeros(2, 0))
        moved = replace(batch, inputs=inputs.roll((1, 1), (-2, -1)))
        answer, other = (operator.predict(part).require_targets() for part in (batch, moved))
        varies = answer - answer.mean(dim=(-2, -1), keepdim=True)
        assert (other - answer.roll((1, 1), (-2, -1))).norm() < 0.15 * varies.norm()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("wraps", [(True,), (False, True), (True, False, True)])
def test_a_blur_is_a_quarter_a_half_and_a_quarter(wraps, plain):
    x = torch.randn(2, *(6, 7, 4)[: len(wraps)], 5, requires_grad=True)
    right = x
    for axis, wrap in enumerate(wraps, start=1):
        longer, n = padded(right, axis, 1, 1, wraps=wrap), right.shape[axis]
        right = 0.5 * right + 0.25 * (longer.narrow(axis, 0, n) + longer.narrow(axis, 2, n))
    answer = blurred(x, wraps, plain=plain)
    torch.testing.assert_close(answer, right)
    grad = torch.randn_like(x)
    slopes = [torch.autograd.grad(value, x, grad)[0] for value in (answer, right)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
@pytest.mark.parametrize("wraps", [True, False])
def test_odd_and_tiny_grids_are_answered_whole(num_axes, wraps):
    operator = unet(num_axes, kernel_size=7)
    for space in (SPACES[num_axes], (5,) * num_axes, (2,) * num_axes):
        batch = problems(operator, space, wraps=wraps)
        answer = operator(batch).require_targets()
        assert answer.shape == (3, 1, 1, *space)
        answer.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())


def test_across_a_wall_nothing_is_seen_and_across_a_period_the_neighbour_is():
    operator = unet(1, levels=1).double()
    for wraps in (True, False):
        batch = problems(operator, (16,), wraps=wraps, num=1).to(dtype=torch.float64)
        other = batch.inputs.clone()
        other[..., -1] += 1
        change = operator(replace(batch, inputs=other)).require_targets() - operator(batch).require_targets()
        assert (change[..., 0].abs().max() > 1e-9) == wraps
        assert change[..., -2].abs().max() > 1e-9


@pytest.mark.parametrize("position", [False, True])
def test_only_positions_let_it_see_a_wall(position):
    """On a constant field a network without positions answers a constant; with them it need not."""
    operator = unet(position=position)
    grid = Grid((16, 12), (1.0, 2.0), (False, True))
    answer = operator(Batch(operator.signature, grid, torch.ones(2, 1, 2, 16, 12), torch.zeros(2, 1))).require_targets()
    spread = answer.std(dim=-2).max()
    assert (spread > 1e-3) if position else (spread < 1e-5)
    assert answer.std(dim=-1).max() < 1e-5


def test_positions_are_settled_by_walls():
    walls, period = Grid((4, 4), (1.0, 1.0), (True, False)), Grid.square(4)
    assert UNetConfig().on(walls).position is True
    assert UNetConfig().on(period).position is None
    assert UNetConfig(position=False).on(walls).position is False


def test_coefficients_reach_every_block():
    """With nothing but its own scale and shift, each block answers otherwise for other coefficients."""
    operator = unet()
    told = []
    for block in operator.stages():
        assert isinstance(block, ConvNeXtBlock)
        block.register_forward_hook(lambda module, given, answer: told.append((module, given)))
    batch = problems(operator, (12, 12))
    operator(batch)
    operator(replace(batch, coefficients=batch.coefficients + 1))
    half = len(told) // 2
    assert half == len(operator.stages()) == 5
    for (block, (x, before, wraps)), (_, (_, after, _)) in zip(told[:half], told[half:], strict=True):
        assert (block(x, before, wraps) - block(x, after, wraps)).abs().max() > 1e-4


@needs_kernels
@at_every_width
def test_the_plain_twin_is_the_same_operator():
    operator = unet()
    twin = operator.differentiable()
    batch = problems(operator, (12, 13))
    torch.testing.assert_close(twin(batch).targets, operator(batch).targets, rtol=1e-4, atol=1e-5)
    assert all(one is other for one, other in zip(twin.parameters(), operator.parameters(), strict=True))
    inputs = batch.inputs[:1].double().requires_grad_()
    exact = twin.double()

    def answer(x: torch.Tensor) -> torch.Tensor:
        return exact(replace(batch.select([0]).to(dtype=torch.float64), inputs=x)).require_targets().square().sum()

    (slope,) = torch.autograd.grad(answer(inputs), inputs, create_graph=True)
    (curve,) = torch.autograd.grad(slope.square().sum(), inputs)
    assert curve.abs().max() > 0


@needs_kernels
@at_every_width
@pytest.mark.parametrize("recompute", [False, True])
def test_its_gradients_are_those_of_torch(recompute):
    operator = unet(kernel_size=7).train()
    exact = unet(kernel_size=7, plain=True).double()
    exact.load_state_dict(operator.state_dict())
    operator.recompute = recompute
    batch = problems(operator, (20, 15), wraps=False)
    operator(batch).require_targets().square().mean().backward()
    exact(batch.to(dtype=torch.float64)).require_targets().square().mean().backward()
    for (name, one), other in zip(operator.named_parameters(), exact.parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 1e-4 * other.grad.norm() + 1e-9, name


def test_it_works_in_low_precision():
    operator = unet()
    batch = problems(operator, (12, 13))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = operator(batch).require_targets()
    exact = operator(batch).require_targets()
    assert (rounded - exact).norm() < 0.05 * exact.norm()


def test_surgery_keeps_what_lies_between():
    operator = unet()
    signature = Signature(("g", "h"), ("b", "a"), ("u", "v"))
    blank = UNet(signature, operator.config).normalization
    new, rows = with_channels(operator, signature, Grid.square(12), blank, generator=torch.Generator().manual_seed(0))
    became = {(row["role"], row["name"]): row["became"] for row in rows}
    assert became["input", "g"] == became["coefficient", "a"] == became["output", "u"] == "reused"
    assert torch.equal(new.lift.weight[:, 0], operator.lift.weight[:, 1])  # f g a → g h b a
    assert torch.equal(new.lift.weight[:, 3], operator.lift.weight[:, 2])
    for name, weight in operator.way_down.state_dict().items():
        assert torch.equal(new.way_down.state_dict()[name], weight)


def test_every_weight_has_a_part():
    operator = unet()
    groups = operator.groups()
    assert set(groups) == {"lift", "spectral", "pointwise", "projection"}
    assert all(any(p is conv for conv in groups["spectral"]) for p in operator.way_down[0][0].conv.parameters())
    assert sum(p.numel() for part in groups.values() for p in part) == operator.num_params


def test_the_dial_grows_the_model():
    counts = [UNet(unet().signature, UNetConfig.of_size(size)).num_params for size in ("tiny", "small", "base")]
    for small, large in pairwise(counts):
        assert large > 1.5 * small
    assert {UNetConfig.of_size(size).width for size in UNET_SIZES} == set(UNET_SIZES.values())
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        UNetConfig.of_size("smal")


def test_an_even_kernel_is_refused():
    with pytest.raises(ConfigError, match="odd number of taps, such as 5"):
        build_config(UNetConfig, {"kernel_size": 4}, source="the network")


def test_it_learns_to_move_a_field():
    """A field moved by three points and times the coefficient: what convolutions and coefficients are for."""
    operator = unet(1, width=12, levels=2)
    optimizer = torch.optim.Adam(operator.parameters(), lr=1e-2)
    batch = problems(operator, (32,), num=6)
    right = batch.inputs[:, :, :1].roll(3, -1) * batch.coefficients[:, :, None, None]
    losses = []
    for _ in range(80):
        loss = functional.mse_loss(operator(batch).require_targets(), right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
