from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import pytest
import torch

from scifm.errors import ConfigError
from scifm.systems.solvers.etdrk import ETDRK, phi_functions


def phi_to_sixty_digits(z: complex, order: int) -> complex:
    """Return φ of one number by its series Σ z^n/(n + order)!, in 80 digits, so that nothing cancels."""
    with localcontext() as context:
        context.prec = 80
        x, y = Decimal(z.real), Decimal(z.imag)
        real, imag, total = Decimal(1), Decimal(0), [Decimal(0), Decimal(0)]
        for n in range(200):
            scale = Decimal(math.factorial(n + order))
            total = [total[0] + real / scale, total[1] + imag / scale]
            real, imag = real * x - imag * y, real * y + imag * x
        return complex(float(total[0]), float(total[1]))


# near 0, on both sides of the unit circle where the formulas change, and as far as is ever needed
SIZES = [0.0, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.999999, 1.0, 1.000001, 1.5, 3.0, 10.0, 30.0]


@pytest.mark.parametrize("direction", [-1, 1, 1j, -1j, (-0.6 + 0.8j)], ids=str)
def test_phi_functions_are_exact_to_round_off(direction):
    z = torch.tensor([size * complex(direction) for size in SIZES], dtype=torch.complex128)
    parts = phi_functions(z.real.clone() if complex(direction).imag == 0 else z)
    for order, values in enumerate(parts, start=1):
        exact = torch.tensor([phi_to_sixty_digits(complex(v), order) for v in z.tolist()], dtype=torch.complex128)
        assert ((values - exact).abs() / exact.abs()).max() < 1e-13, order


def test_phi_functions_agree_with_their_mean_over_a_contour():
    """Kassam and Trefethen's way to the same numbers."""
    z = torch.tensor([-0.3, -0.01, 0.0, 0.2], dtype=torch.complex128)
    circle = z[:, None] + 2 * torch.exp(2j * math.pi * (torch.arange(64, dtype=torch.float64) + 0.5) / 64)
    phi1 = (torch.exp(circle) - 1) / circle
    phi2 = (phi1 - 1) / circle
    phi3 = (phi2 - 0.5) / circle
    for mine, theirs in zip(phi_functions(z), (phi1, phi2, phi3), strict=True):
        assert (mine - theirs.mean(1)).abs().max() < 1e-13


SYMBOLS = {
    "real": torch.tensor([-8.0, -1.0, 0.0, 0.7], dtype=torch.float64),
    "imaginary": torch.tensor([-3j, 1j, 4j, 0j], dtype=torch.complex128),
    "complex": torch.tensor([-5 + 2j, -1 - 3j, 0.3 + 1j, -0.1 + 0j], dtype=torch.complex128),
}
START = torch.tensor([0.3 - 0.2j, -0.4 + 0.1j, 0.2 + 0.3j, -0.1 - 0.3j], dtype=torch.complex128)


def bernoulli(symbol, time):
    """Return what u' = Lu + u² makes of `START`."""
    growth, linear = torch.exp(symbol * time), symbol.to(torch.complex128)
    small = linear.abs() < 1e-12
    slope = torch.where(small, time + 0 * linear, (growth - 1) / torch.where(small, 1, linear))
    return START * growth / (1 - START * slope)


def marched(symbol, order, steps, *, dtype=torch.complex128, nonlinear=torch.square):
    step = ETDRK(symbol.view(1, 1, -1), 1.0 / steps, nonlinear, order=order, dtype=dtype)
    state = START.to(dtype).view(1, 1, -1)
    for _ in range(steps):
        state = step(state)
    return state.view(-1)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", SYMBOLS)
def test_the_error_falls_with_the_order(name, order):
    exact = bernoulli(SYMBOLS[name], 1.0)
    errors = [float((marched(SYMBOLS[name], order, steps) - exact).abs().max()) for steps in (40, 80, 160)]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert all(abs(seen - order) < 0.2 for seen in orders), (errors, orders)


@pytest.mark.parametrize("name", SYMBOLS)
def test_what_is_linear_or_constant_is_exact_at_any_step(name):
    symbol = SYMBOLS[name]
    linear = marched(symbol, 4, 1, nonlinear=None)
    torch.testing.assert_close(linear, START * torch.exp(symbol), rtol=1e-14, atol=1e-15)
    fed = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.complex128)
    exact = START * torch.exp(symbol) + fed * phi_functions(symbol)[0]
    for order, steps in itertools.product((2, 4), (1, 7)):
        made = marched(symbol, order, steps, nonlinear=lambda u: fed.view(1, 1, -1).expand_as(u).clone())
        torch.testing.assert_close(made, exact, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("order", [2, 4])
def test_a_real_symbol_acts_as_the_same_complex_one(order):
    real = SYMBOLS["real"]
    torch.testing.assert_close(
        marched(real, order, 5), marched(real.to(torch.complex128), order, 5), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", SYMBOLS)
def test_precision_is_that_of_the_state_and_the_state_stays(name, order):
    low, high = (marched(SYMBOLS[name], order, 5, dtype=dtype) for dtype in (torch.complex64, torch.complex128))
    assert low.dtype == torch.complex64
    assert (low - high).abs().max() < 1e-6
    step = ETDRK(SYMBOLS[name].view(1, 1, -1), 0.1, torch.square, order=order, dtype=torch.complex128)
    state = START.view(1, 1, -1).clone()
    first, again = step(state), step(state)
    assert torch.equal(state.view(-1), START)
    assert torch.equal(first, again)
    assert first.data_ptr() != again.data_ptr()


def test_each_sample_has_its_own_symbol():
    symbols = torch.stack([SYMBOLS["real"], 2 * SYMBOLS["real"]]).view(2, 1, -1)
    step = ETDRK(symbols, 0.1, torch.square, order=4, dtype=torch.complex128)
    both = step(START.expand(2, 1, -1))
    for sample in (0, 1):
        alone = ETDRK(symbols[sample : sample + 1], 0.1, torch.square, order=4, dtype=torch.complex128)
        assert torch.equal(both[sample : sample + 1], alone(START.view(1, 1, -1)))


def test_other_orders_are_refused():
    with pytest.raises(ConfigError, match="orders 2 and 4 here; got 3"):
        ETDRK(SYMBOLS["real"], 0.1, None, order=3, dtype=torch.complex128)
