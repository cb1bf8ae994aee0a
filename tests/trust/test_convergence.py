"""The test of convergence against closed forms and published tables; what training makes of it, and what SINDy does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scifm.errors import ConfigError, DataError
from scifm.models.parts.ode import SCHEMES, solve
from scifm.trust.convergence import RATIOS, convergence_of, follow, learned_generator, observed_order

TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
START = torch.tensor([1.0, 0.0], dtype=torch.float64)
DT, T = 0.1, 10.0
TRUTH = torch.linalg.matrix_exp(TURN * T) @ START

# ‖error‖ at T of fields that fit every step of DT exactly, by h/DT, and in the limit: eigenvalues ±i in closed form
SHORT = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)


def closed_form(scheme: str, ratio: float, *, learned: bool) -> float:
    """Return the error at T: a step multiplies the complex amplitude by the Taylor polynomial of exp, at z = λ h."""
    order = {"euler": 1, "midpoint": 2, "rk4": 4}[scheme]
    factors = [1 / math.factorial(power) for power in range(order, -1, -1)]
    rate = 1j
    if learned:
        roots = np.roots([*factors[:-1], factors[-1] - np.exp(1j * DT)])
        rate = roots[np.abs(roots - 1j * DT).argmin()] / DT
    if ratio == 0:
        return float(abs(np.exp(rate * T) - np.exp(1j * T)))
    h = ratio * DT
    return float(abs(np.polyval(factors, rate * h) ** round(T / h) - np.exp(1j * T)))


@pytest.mark.parametrize("scheme", ["euler", "midpoint", "rk4"])
def test_the_oscillator_has_its_closed_form(scheme):
    for learned in (True, False):
        field = learned_generator(TURN, DT, scheme) if learned else TURN
        found = convergence_of(
            lambda u, g=field: u @ g.T, START, step=DT, until=T, truth=TRUTH, schemes=[scheme], ratios=SHORT
        )[scheme]
        for ratio, error in zip(SHORT, found.errors, strict=True):
            assert error == pytest.approx(closed_form(scheme, ratio, learned=learned), abs=1e-10)
            assert found.at(ratio) == error
        assert found.plateau == pytest.approx(closed_form(scheme, 0, learned=learned), abs=1e-9)


@pytest.mark.parametrize(
    ("scheme", "table", "plateau"),
    [
        ("euler", (3.624e-1, 3.297e-1, 2.213e-1, 0, 6.431e-1, 3.188), 0.39343),
        ("midpoint", (1.641e-2, 1.591e-2, 1.243e-2, 0, 4.997e-2, 2.573e-1), 1.6571e-2),
        ("rk4", (8.332e-6, 8.319e-6, 7.812e-6, 0, 1.250e-4, 2.121e-3), 8.3325e-6),
    ],
)
def test_the_table_of_fields_that_fit_a_step_exactly(scheme, table, plateau):
    field = learned_generator(TURN, DT, scheme)
    found = convergence_of(lambda u: u @ field.T, START, step=DT, until=T, truth=TRUTH, ratios=SHORT)[scheme]
    assert found.errors == pytest.approx(table, rel=4e-4, abs=1e-12)
    assert found.plateau == pytest.approx(plateau, rel=3e-5)
    assert found.at(1.0) < 1e-13


def test_what_is_learned_with_euler_is_damped():
    found = learned_generator(TURN, DT, "euler")
    assert found.tolist() == [
        pytest.approx([-0.04995835, 0.99833417], abs=5e-9), pytest.approx([-0.99833417, -0.04995835], abs=5e-9)
    ]  # fmt: skip
    off = {name: float((learned_generator(TURN, DT, name) - TURN).norm()) for name in ("euler", "midpoint", "rk4")}
    assert off == pytest.approx({"euler": 7.0691e-2, "midpoint": 2.3449e-3, "rk4": 1.178e-6}, rel=5e-4)


def test_a_generator_that_has_no_basis_of_eigenvectors_is_learned_too():
    """Uniform motion: every scheme is exact on it but Euler's, which is exact as well, and nothing is spurious."""
    motion = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    for scheme in ("euler", "midpoint", "rk4"):
        torch.testing.assert_close(learned_generator(motion, 0.5, scheme), motion)
    damped = motion - torch.eye(2, dtype=torch.float64)
    found = learned_generator(damped, 0.5, "midpoint") * 0.5
    one = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(one + found + found @ found / 2, torch.linalg.matrix_exp(damped * 0.5))


def test_a_step_too_long_for_any_field_near_the_right_one_is_refused():
    """1 + z + z²/2 is nowhere below 1/2, and exp(−2) is."""
    decay = torch.tensor([[-2.0]], dtype=torch.float64)
    with pytest.raises(ConfigError, match="in one step of midpoint"):
        learned_generator(decay, 1.0, "midpoint")
    assert float(learned_generator(decay, 1.0, "euler")) == pytest.approx(math.exp(-2) - 1)


@pytest.mark.parametrize(
    ("generator", "scheme", "error", "words"),
    [
        (TURN, "heun", ConfigError, "heun"),
        (TURN[0], "euler", DataError, "square matrix"),
        (TURN.float(), "euler", DataError, "float64"),
    ],
)
def test_a_generator_that_is_none_is_refused(generator, scheme, error, words):
    with pytest.raises(error, match=words):
        learned_generator(generator, DT, scheme)


def pendulum(u: Tensor) -> Tensor:
    return torch.stack([u[1], -9.81 * u[0].sin()])


def test_the_true_pendulum_has_its_published_errors():
    """θ'' = −9.81 sin θ from 3π/4 at rest, at time 2: errors of the schemes themselves, and their orders."""
    start = torch.tensor([0.75 * math.pi, 0.0], dtype=torch.float64)
    truth = follow(pendulum, start, 2.0, "rk4", 4000)
    assert truth.tolist() == pytest.approx([-1.5166699, 3.86456686], abs=5e-8)
    ratios = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0)
    found = convergence_of(pendulum, start, step=0.01, until=2.0, truth=truth, ratios=ratios)
    published = {
        "euler": (0.098, 0.524, 1.13, 3.27, 6.90, 11.2),
        "midpoint": (2.36e-6, 7.38e-5, 3.69e-4, 3.71e-3, 2.43e-2, 1.78e-1),
        "rk4": (2.5e-11, 5.72e-9, 8.35e-8, 2.36e-6, 1.57e-5, 5.85e-4),
    }
    for name, errors in published.items():
        assert found[name].errors == pytest.approx(errors, rel=6e-3, abs=2e-11)  # what is left of round-off
        assert found[name].plateau < 1e-9


def test_observed_orders_are_those_of_the_schemes_with_an_interval():
    found = convergence_of(lambda u: u @ TURN.T, START, step=DT, until=T, truth=TRUTH, ratios=RATIOS)
    for name, order in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        seen = found[name].order
        assert seen.num_points >= 3
        assert seen.low <= seen.value <= seen.high
        assert seen.value == pytest.approx(order, abs=0.06)
    assert found["rk4"].growth < 1e-5


def test_an_order_needs_three_distances_that_say_something():
    steps = (0.1, 0.2, 0.4, 0.8)
    seen = observed_order(steps, [3 * h**2 for h in steps], size=100.0)
    assert (seen.value, seen.num_points) == (pytest.approx(2), 4)
    assert seen.high - seen.low < 1e-9
    assert observed_order(steps, [1e-15, 1e-14, 0.1, 80.0], size=1.0) is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"ratios": (0.3,)}, ConfigError, r"Steps of 0.03 do not divide the time 10.*until = 9.99"),
        ({"ratios": ()}, ConfigError, "at least one ratio"),
        ({"schemes": ["rk5"]}, ConfigError, "Did you mean 'rk4'"),
        ({"schemes": []}, ConfigError, "at least one scheme"),
        ({"step": -0.1}, ConfigError, "positive and finite"),
        ({"truth": torch.ones(3, dtype=torch.float64)}, DataError, "shape of the start"),
        ({"truth": TRUTH.float()}, DataError, "in float64"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        convergence_of(
            lambda u: u @ TURN.T, START, **{"step": DT, "until": T, "truth": TRUTH, "ratios": (1.0,), **changes}
        )


def test_a_field_that_leaves_every_bound_is_no_answer():
    with pytest.raises(DataError, match="Give an earlier time"):
        convergence_of(lambda u: u**3, START + 2, step=DT, until=T, truth=TRUTH, ratios=(1.0,))
    stiff = torch.tensor([[-60.0]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    found = convergence_of(lambda u: u @ stiff.T, one, step=1.0, until=60.0, truth=0 * one, ratios=(0.02, 1.0))
    assert found["rk4"].errors[0] < 1e-9
    assert found["rk4"].at(1.0) == math.inf
    with pytest.raises(ConfigError, match="No step of 2 times"):
        found["rk4"].at(2.0)


# --- what is learned from data ----------------------------------------------------------------------------------------


def trained(scheme: str, *, seed: int = 0, num_steps: int = 400) -> nn.Module:
    """Return a field, 2 → 50 tanh → 2, of which one step of a scheme was fitted to the oscillator."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2)).double()
    turn = torch.linalg.matrix_exp(TURN * DT)
    states = [START]
    for _ in range(round(T / DT)):
        states.append(turn @ states[-1])
    now, then = torch.stack(states[:-1]), torch.stack(states[1:])
    optimizer = torch.optim.LBFGS(
        net.parameters(), max_iter=num_steps, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe",
        history_size=50,
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (
            solve(lambda y, _: net(y), now, DT, scheme=SCHEMES[scheme], num_steps=1) - then
        ).square().mean() / DT**2
        value.backward()
        return value

    optimizer.step(loss)
    return net


@pytest.mark.slow
def test_a_network_trained_by_euler_learns_its_step_and_one_trained_by_rk4_the_equation():
    found = {}
    for scheme in ("euler", "rk4"):
        found[scheme] = convergence_of(
            trained(scheme), START, step=DT, until=T, truth=TRUTH, schemes=[scheme], ratios=RATIOS
        )[scheme]
    euler, rk4 = found["euler"], found["rk4"]
    assert euler.at(0.1) / euler.at(1.0) > 10
    assert rk4.at(0.1) / rk4.at(1.0) < 3
    assert euler.plateau == pytest.approx(0.39343, rel=0.2)
    assert rk4.plateau < 0.05


def test_sindy_learns_the_step_of_its_derivatives():
    """Forward differences are Euler's step: what is found is its generator. Central ones are off by the square."""
    pysindy = pytest.importorskip("pysindy")
    times = DT * np.arange(101)
    data = np.stack([np.cos(times), -np.sin(times)], axis=1)
    off = {}
    for name, order in (("euler", 1), ("central", 2)):
        derivative = pysindy.FiniteDifference(order=order, drop_endpoints=True)
        model = pysindy.SINDy(
            differentiation_method=derivative,
            feature_library=pysindy.PolynomialLibrary(degree=1, include_bias=False),
            optimizer=pysindy.STLSQ(threshold=1e-3, alpha=0),
        )
        model.fit(data, t=DT)
        off[name] = torch.from_numpy(np.asarray(model.coefficients()))
    torch.testing.assert_close(off["euler"], learned_generator(TURN, DT, "euler"), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(off["central"], TURN * math.sin(DT) / DT, rtol=1e-9, atol=1e-9)
