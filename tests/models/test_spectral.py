"""Two engines and a textbook: three ways to the same layer, in values and in gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scifm.errors import ConfigError, SignatureError
from scifm.models.parts.kernels import analyze_axis, synthesize_axis
from scifm.models.parts.spectral import (
    FourierLayer,
    analyze_lines,
    choose_engine,
    synthesize_lines,
    transform_matrices,
)
from scifm.models.parts.workspace import Workspace


def textbook(layer: FourierLayer, x: torch.Tensor) -> torch.Tensor:
    """The layer as papers write it: full spectrum, complex weights on its corners, and back."""
    dims = len(layer.modes)
    channels_first = x.permute(dims, dims + 1, *range(dims))
    axes = tuple(range(2, 2 + dims))
    spectrum = torch.fft.rfftn(channels_first, dim=axes, norm="ortho")
    sizes = [2 * m for m in layer.modes[:-1]] + [layer.modes[-1]]
    weight = torch.complex(layer.spectral_weight[0], layer.spectral_weight[1])
    weight = weight.reshape(*sizes, *weight.shape[1:])
    out = torch.zeros(x.shape[dims], weight.shape[-1], *spectrum.shape[2:], dtype=spectrum.dtype)
    letters = "xyz"[:dims]
    for corner in range(2 ** (dims - 1)):
        ours, theirs = [], []
        for axis, m in enumerate(layer.modes[:-1]):
            negative = corner >> axis & 1
            ours.append(slice(m, 2 * m) if negative else slice(0, m))
            theirs.append(slice(-m, None) if negative else slice(0, m))
        ours.append(slice(0, layer.modes[-1]))
        theirs.append(slice(0, layer.modes[-1]))
        product = torch.einsum(f"bi{letters},{letters}io->bo{letters}", spectrum[:, :, *theirs], weight[*ours])
        out[:, :, *theirs] += product
    mixed = torch.fft.irfftn(out, s=x.shape[:dims], dim=axes, norm="ortho")
    skip = torch.einsum("bi...,oi->bo...", channels_first, layer.skip.weight)
    answer = mixed + skip + layer.skip.bias.view(1, -1, *[1] * dims)
    return answer.permute(*axes, 0, 1)


@st.composite
def layers(draw):
    dims = draw(st.integers(1, 3))
    modes = tuple(draw(st.integers(1, 3 if dims == 3 else 5)) for _ in range(dims))
    space = tuple(2 * m + draw(st.integers(0, 5)) for m in modes)
    channels = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return modes, space, draw(st.integers(1, 3)), channels, draw(st.integers(0, 10_000))


def analyzed(field: torch.Tensor, matrices, workspace: Workspace) -> torch.Tensor:
    """The kept modes of ``(*space, rest)`` fields."""
    *space, rest = field.shape
    lines = analyze_axis(matrices.forward, field.reshape(-1, space[-1], rest), workspace)
    return analyze_lines(lines, tuple(space), matrices.others, workspace)


def answers(function, layer: FourierLayer, x: torch.Tensor, probe: torch.Tensor) -> list[torch.Tensor]:
    """Return the value and the gradients with respect to the input and every weight."""
    x = x.clone().requires_grad_()
    out = function(x)
    wanted = [x, layer.spectral_weight, layer.skip.weight, layer.skip.bias]
    return [out.detach(), *torch.autograd.grad((out * probe).sum(), wanted)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@settings(max_examples=40)
@given(drawn=layers())
def test_engines_agree_with_each_other_and_with_the_textbook(dtype, tolerance, drawn):
    modes, space, batch, (num_in, num_out), seed = drawn
    torch.manual_seed(seed)
    layer = FourierLayer(num_in, num_out, modes).to(dtype)
    x = torch.randn(*space, batch, num_in, dtype=dtype)
    probe = torch.randn(*space, batch, num_out, dtype=dtype)
    expected = answers(lambda t: textbook(layer, t), layer, x, probe)
    for engine in ("gemm", "fft"):
        layer.engine = engine
        for index, (got, truth) in enumerate(zip(answers(layer, layer, x, probe), expected, strict=True)):
            assert got.shape == truth.shape
            scale = max(float(truth.abs().max()), 1.0)
            assert float((got - truth).abs().max()) <= tolerance * scale, (engine, index)


@pytest.mark.parametrize("space", [(7,), (4, 5), (4, 2, 3)])
@pytest.mark.parametrize("engine", ["gemm", "fft"])
def test_gradients_are_those_of_finite_differences(engine, space):
    modes = (2, 2, 1)[: len(space)] if len(space) < 3 else (2, 1, 1)
    layer = FourierLayer(2, 3, modes, engine=engine).double()
    x = torch.randn(*space, 2, 2, dtype=torch.float64, requires_grad=True)
    weights = [layer.spectral_weight, layer.skip.weight, layer.skip.bias]

    def call(x, *values):
        names = ("spectral_weight", "skip.weight", "skip.bias")
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *weights))


@pytest.mark.parametrize("engine", ["gemm", "fft"])
def test_mixed_precision_is_the_same_layer_to_three_digits(engine):
    layer = FourierLayer(8, 8, (4, 4), engine=engine)
    x = torch.randn(12, 16, 2, 8)
    probe = torch.randn(12, 16, 2, 8)
    expected = answers(lambda t: textbook(layer, t), layer, x, probe)

    def mixed(t: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(t.to(torch.bfloat16))

    for index, (got, truth) in enumerate(zip(answers(mixed, layer, x, probe), expected, strict=True)):
        assert float((got - truth).norm() / truth.norm()) < 2e-2, index
    assert mixed(x).dtype == torch.bfloat16


@pytest.mark.parametrize("engine", ["gemm", "fft"])
def test_an_input_that_is_a_view_is_no_trouble(engine):
    layer = FourierLayer(3, 3, (2, 2), engine=engine).double()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64).permute(2, 3, 0, 1)
    torch.testing.assert_close(layer(x), textbook(layer, x), rtol=1e-12, atol=1e-12)


def test_input_without_gradient_still_trains_the_weights():
    layer = FourierLayer(2, 2, (2, 2), engine="gemm")
    layer(torch.randn(6, 6, 1, 2)).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in layer.parameters())


def test_analysis_gives_the_fourier_coefficients():
    """A wave a·cos(2π(2y + x) + φ) has one kept mode, (2, 1), of value a/2·exp(iφ)."""
    space, modes = (8, 10), (3, 2)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in space), indexing="ij")
    wave = 3 * torch.cos(2 * math.pi * (2 * y + x) + 0.4)
    matrices = transform_matrices(space, modes, torch.float64, torch.device("cpu"))
    kept = analyzed(wave[..., None], matrices, Workspace())
    kept = torch.complex(*kept).view(6, 2)
    expected = torch.zeros(6, 2, dtype=torch.complex128)
    expected[2, 1] = 1.5 * torch.exp(torch.tensor(0.4j, dtype=torch.complex128))
    torch.testing.assert_close(kept, expected, rtol=1e-12, atol=1e-12)


def test_synthesis_undoes_analysis_below_the_cut():
    """At the cut itself, mode −m has no partner +m; a real field keeps half of it, in every code of this kind."""
    space, modes = (9, 8, 7), (2, 3, 2)
    matrices = transform_matrices(space, modes, torch.float64, torch.device("cpu"))
    z, y, x = torch.meshgrid(*(2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in space), indexing="ij")
    field = (torch.cos(z - 2 * y + x + 0.3) + 0.5 * torch.sin(z) * torch.cos(2 * y) - 2)[..., None]
    kept = analyzed(field, matrices, Workspace())
    lines = synthesize_lines(kept, space, matrices.others, Workspace())
    again = synthesize_axis(matrices.inverse, lines, torch.zeros(len(lines), space[-1], 1).double(), Workspace())
    torch.testing.assert_close(again.view_as(field), field, rtol=1e-12, atol=1e-12)


def test_the_answer_does_not_depend_on_the_number_of_points():
    """The layer of a band-limited field, read at common points, is the same on both grids."""
    layer = FourierLayer(1, 1, (3, 3)).double()

    def answer(n: int) -> torch.Tensor:
        y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for _ in range(2)), indexing="ij")
        field = torch.cos(2 * math.pi * (2 * y - x)) + torch.sin(2 * math.pi * x) + 0.3
        return layer(field[..., None, None])

    torch.testing.assert_close(answer(24)[::2, ::2], answer(12), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["auto", "gemm", "fft"])
@pytest.mark.parametrize(("modes", "space"), [((4,), (7,)), ((4, 4), (8, 7)), ((4, 4), (7, 8))])
def test_too_few_points_are_refused(engine, modes, space):
    layer = FourierLayer(1, 1, modes, engine=engine)
    with pytest.raises(SignatureError, match=r"at least twice as many points per axis; the grid has .*Use a finer"):
        layer(torch.zeros(*space, 1, 1))


@pytest.mark.parametrize("modes", [(), (0,), (3, -1)])
def test_modes_must_be_positive(modes):
    with pytest.raises(ConfigError, match="at least one mode per axis"):
        FourierLayer(1, 1, modes)


def test_unknown_engine_is_refused():
    with pytest.raises(ConfigError, match="engine must be"):
        FourierLayer(1, 1, (2,), engine="fast")


def test_matrices_first_built_in_inference_still_train():
    space = (18, 14)  # a grid no other test uses, so that the matrices are made here
    transform_matrices.cache_clear()
    layer = FourierLayer(2, 2, (3, 3), engine="gemm")
    with torch.inference_mode():
        layer(torch.randn(*space, 1, 2))
    layer(torch.randn(*space, 1, 2)).sum().backward()
    assert layer.spectral_weight.grad is not None


def test_matrices_are_built_once():
    transform_matrices.cache_clear()
    layer = FourierLayer(1, 1, (2, 2), engine="gemm")
    for _ in range(3):
        layer(torch.zeros(8, 8, 1, 1))
    assert transform_matrices.cache_info().misses == 1


def test_the_cost_rule_prefers_matrices_for_few_modes_and_transforms_for_many():
    assert choose_engine((64, 64), (12, 12)) == "gemm"
    assert choose_engine((2048, 2048), (512, 512)) == "fft"
    assert choose_engine((4096,), (256,)) == "fft"
    assert choose_engine((4096,), (256,), folded=True) == "gemm"
    assert choose_engine((4096,), (1024,), folded=True) == "fft"
