"""The compiled kernels give what torch gives, for every shape."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scifm.models.parts import kernels, native, pointwise
from scifm.models.parts.kernels import LayerEnd, RealAxis
from scifm.models.parts.spectral import real_axis, transform_matrices
from scifm.models.parts.workspace import Workspace

pytestmark = pytest.mark.skipif(native.library() is None, reason="the C kernels need Linux and a C compiler")
at_every_width = pytest.mark.usefixtures("lanes")
SIZES = st.sampled_from([1, 2, 3, 7, 12, 13, 16, 17, 31, 32, 33, 48, 70])
LONG = st.sampled_from([1, 5, 12, 40, 129, 257, 300])


def both(function):
    """Return what C and what torch answer, as flat lists of tensors."""

    def flat(answer) -> list[torch.Tensor]:
        return [t for t in (answer if isinstance(answer, tuple) else (answer,)) if t is not None]

    compiled = [t.clone() for t in flat(function())]
    with pytest.MonkeyPatch.context() as patch:
        for told_twice in (kernels, pointwise):
            patch.setattr(told_twice, "native_for", lambda tensor: None)
        return compiled, flat(function())


def assert_same(function) -> None:
    compiled, through_torch = both(function)
    assert len(compiled) == len(through_torch) > 0
    for index, (got, expected) in enumerate(zip(compiled, through_torch, strict=True)):
        assert got.shape == expected.shape
        scale = float(expected.abs().max().clamp(min=1.0))
        assert float((got - expected).abs().max()) < 1e-5 * scale, index


@at_every_width
@settings(max_examples=40)
@given(st.integers(1, 3), SIZES, LONG, LONG, st.booleans())
def test_plain_products(batch, rows, depth, columns, adds):
    a, b, c = (
        torch.randn(rows, depth) / depth**0.5,
        torch.randn(batch, depth, columns),
        torch.randn(batch, rows, columns),
    )
    expected = a @ b + c if adds else a @ b
    strides = (0, depth, 1, b, depth * columns, columns, c, rows * columns, columns)
    native.library().call("product", batch, rows, columns, depth, a, *strides, int(adds))
    torch.testing.assert_close(c, expected, rtol=1e-5, atol=1e-5)


@st.composite
def axes(draw, most_modes: int = 150) -> RealAxis:
    """Matrices of a periodic axis, odd wavenumbers apart as often as its points allow, or less often."""
    levels = draw(st.integers(0, 4))
    modes, step = draw(st.integers(1, most_modes)), 2 ** (levels + 1) if levels else 1
    points = -(-(2 * modes + draw(st.integers(0, 40))) // step) * step
    scale = points**-0.5
    axis = real_axis(modes, points, zero=scale / 2, others=scale, levels=levels)
    return RealAxis(axis.whole.float(), levels, axis.tables.float())


@at_every_width
@settings(max_examples=100)
@given(st.integers(1, 4), axes(), LONG, st.integers(0, 99))
def test_transforms_of_a_real_axis(lines, axis, rest, seed):
    torch.manual_seed(seed)
    kept, points = axis.whole.shape
    fields, spectrum, workspace = torch.randn(lines, points, rest), torch.randn(lines, kept, rest), Workspace()
    assert_same(lambda: kernels.analyze_axis(axis, fields, workspace))
    assert_same(lambda: kernels.synthesize_axis(axis, spectrum, fields.clone(), workspace))


@at_every_width
@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 140), st.integers(0, 20), st.integers(1, 70), st.integers(0, 99))
def test_transforms_of_a_complex_axis(lead, modes, more, rest, seed):
    torch.manual_seed(seed)
    points, workspace = 2 * modes + more, Workspace()
    (axis,) = transform_matrices((points, 2), (modes, 1), torch.float32, torch.device("cpu")).others
    fields, spectrum = torch.randn(lead, 2 * points, rest), torch.randn(lead, 4 * modes, rest)
    assert_same(lambda: axis.analyze(fields / points**0.5, workspace))
    assert_same(lambda: axis.synthesize(spectrum / modes**0.5, workspace))


@at_every_width
@settings(max_examples=40)
@given(st.integers(1, 6), SIZES, SIZES, SIZES, st.integers(0, 99))
def test_mixing_and_its_gradients(modes, batch, num_in, num_out, seed):
    torch.manual_seed(seed)
    x, weight = torch.randn(2, modes, batch, num_in), torch.randn(2, modes, num_in, num_out) / num_in**0.5
    grad, workspace = torch.randn(2, modes, batch, num_out) / (num_out * batch) ** 0.5, Workspace()
    assert_same(lambda: kernels.mix(x, weight, workspace))
    for needed in ((True, True), (True, False), (False, True)):
        assert_same(lambda needed=needed: kernels.mix_gradients(x, weight, grad, needed, workspace))


@at_every_width
@settings(max_examples=40)
@given(
    st.sampled_from([1, 2, 5]), axes(60), st.integers(1, 3), SIZES, SIZES, st.booleans(), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_the_end_of_a_layer_and_its_gradient(lines, last, batch, num_in, num_out, activation, residual, seed):
    torch.manual_seed(seed)
    num_out = num_in if residual else num_out
    assert_same_end(LayerEnd(activation, residual, Workspace()), lines, last, batch, num_in, num_out)


@at_every_width
@pytest.mark.parametrize(("points", "batch", "width"), [(1024, 3, 33), (2052, 5, 12)])
@pytest.mark.parametrize("activation", [True, False])
def test_the_end_of_a_long_layer(points, batch, width, activation):
    """Of so many points that a line is worked on piece by piece, its transform apart."""
    torch.manual_seed(0)
    axis = real_axis(20, points, zero=points**-0.5, others=points**-0.5)
    last = RealAxis(axis.whole.float(), axis.levels, axis.tables.float())
    for residual in (True, False):
        assert_same_end(LayerEnd(activation, residual, Workspace()), 2, last, batch, width, width)


def assert_same_end(end: LayerEnd, lines: int, last: RealAxis, batch: int, num_in: int, num_out: int) -> None:
    kept, points = last.whole.shape
    x, skip = torch.randn(lines, points, batch, num_in), torch.randn(num_out, num_in) / num_in**0.5
    modes = torch.randn(lines, kept, batch * num_out) / kept**0.5
    above = torch.randn(lines, points, batch, num_out)
    before = torch.randn_like(above) * 3 if end.activation else None
    for keep in (True, False):
        assert_same(lambda keep=keep: end.value(x, skip, last, modes, keep=keep))
    for needs_x in (True, False):
        assert_same(lambda needs_x=needs_x: end.gradient(above, before, x, skip, last, needs_x=needs_x))


@at_every_width
@settings(max_examples=40)
@given(LONG, st.integers(1, 5), st.integers(1, 3), SIZES, st.integers(0, 99))
def test_the_lift(points, batch, num_fields, width, seed):
    torch.manual_seed(seed)
    x, weight, bias = torch.randn(points, batch, num_fields), torch.randn(width, num_fields), torch.randn(batch, width)
    workspace = Workspace()
    assert_same(lambda: pointwise.lift_fields(x, weight, bias, workspace))


@at_every_width
@settings(max_examples=40)
@given(LONG, SIZES, SIZES, st.integers(1, 3), st.integers(0, 99))
def test_the_projection_and_its_gradients(points, num_in, hidden, num_out, seed):
    torch.manual_seed(seed)
    x, first, first_bias = torch.randn(points, num_in), torch.randn(hidden, num_in), torch.randn(hidden)
    last, last_bias = torch.randn(num_out, hidden) / hidden**0.5, torch.randn(num_out)
    grad, workspace = torch.randn(points, num_out) / points**0.5, Workspace()
    assert_same(lambda: pointwise.projection(x, first, first_bias, last, last_bias))
    for needs_x in (True, False):
        args = (x, first, first_bias, last, grad, workspace)
        assert_same(lambda args=args, needs_x=needs_x: pointwise.projection_gradients(*args, needs_x=needs_x))


@at_every_width
def test_gelu_over_the_whole_line_of_numbers():
    """Against float64: to round-off in the middle, zero far left, the identity far right, NaN stays NaN."""
    x = torch.cat([torch.linspace(-12, 12, 9_601), torch.tensor([-1e30, -90.0, 90.0, 1e30])])
    x = x[: len(x) // 5 * 5].view(1, -1, 1, 5)
    end, skip = LayerEnd(True, False, Workspace()), torch.eye(5)
    axis = real_axis(1, x.shape[1], zero=1.0, others=1.0)
    nothing = RealAxis(axis.whole.float(), axis.levels, axis.tables.float()), torch.zeros(1, 2, 5)
    value, before = end.value(x, skip, *nothing, keep=True)
    exact = torch.nn.functional.gelu(x.double())
    assert float((value - exact).abs().div(exact.abs().clamp(min=1.0)).max()) < 5e-7
    _, slope, _ = end.gradient(torch.ones_like(x), before, x, skip, nothing[0], needs_x=True)
    wide = x.double().requires_grad_()
    (exact_slope,) = torch.autograd.grad(torch.nn.functional.gelu(wide).sum(), wide)
    assert float((slope - exact_slope).abs().max()) < 1e-6
    broken, _ = end.value(torch.full_like(x, float("nan")), skip, *nothing, keep=False)
    assert bool(broken.isnan().all())


@at_every_width
def test_the_same_bits_every_time():
    """On the same number of threads, of products whose sums several threads share."""
    torch.manual_seed(0)
    x, first, bias, last = torch.randn(501, 17), torch.randn(40, 17), torch.randn(40), torch.randn(2, 40)
    grad, workspace = torch.randn(501, 2), Workspace()
    runs = [
        [t.clone() for t in pointwise.projection_gradients(x, first, bias, last, grad, workspace, needs_x=True)]
        for _ in range(4)
    ]
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
