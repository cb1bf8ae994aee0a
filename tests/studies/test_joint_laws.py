from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from scifm.errors import ConfigError, DataError
from scifm.studies.joint_laws import PARAMETERS, JointLaw, bootstrap_joint_law, fit_joint_law, held_out_error
from scifm.studies.laws import huber

# The constants of the replication of Chinchilla's approach 3, arXiv 2404.10102, and the ranges of its data.
PUBLISHED = {"E": 1.8172, "A": 477.86, "B": 2143.4, "alpha": 0.3473, "beta": 0.3672}
LAW = JointLaw(**PUBLISHED)


def parameters(law):
    return {name: getattr(law, name) for name in PUBLISHED}


def grid(num=5, seeds=1):
    n, d = np.meshgrid(np.geomspace(5.7e7, 1.6e10, num), np.geomspace(2.5e8, 3.2e11, num))
    return np.repeat(n.ravel(), seeds), np.repeat(d.ravel(), seeds)


def scattered(std=0.005, seed=0):
    """As many points as published, over the published ranges, with about the published misfit."""
    random = np.random.default_rng(seed)
    n = np.exp(random.uniform(np.log(5.7e7), np.log(1.6e10), 240))
    d = np.exp(random.uniform(np.log(2.5e8), np.log(3.2e11), 240))
    return n, d, LAW(n, d) * np.exp(std * random.standard_normal(240))


def test_the_law_by_hand():
    law = JointLaw(1.0, 8.0, 9.0, 0.5, 1.0)
    assert law(16, 3) == 1 + 2 + 3
    assert law([16, 64], 3).tolist() == [6, 5]
    assert law.text == "1 + 8·N^−0.5 + 9·D^−1"


def test_published_constants_come_back_from_noiseless_data():
    n, d = grid()
    law = fit_joint_law(n, d, LAW(n, d))
    assert parameters(law) == pytest.approx(PUBLISHED, rel=1e-6)
    assert law.at_bound == ()


def test_published_constants_come_back_from_noisy_data():
    """Within two of the published standard errors: E 0.026, A 125, B 1293, α 0.015, β 0.021."""
    law = fit_joint_law(*scattered())
    for name, tolerance in {"E": 0.052, "A": 250, "B": 2586, "alpha": 0.03, "beta": 0.042}.items():
        assert getattr(law, name) == pytest.approx(PUBLISHED[name], abs=tolerance)
    assert law.objective < huber(np.log(LAW(*scattered()[:2]) / scattered()[2]), 1e-3)


def test_a_few_outliers_do_not_carry_it_away():
    n, d, y = scattered()
    y[np.argsort(y)[-5:]] *= 1.5
    assert abs(fit_joint_law(n, d, y).alpha - 0.3473) < 0.03
    assert abs(fit_joint_law(n, d, y, delta=10.0).alpha - 0.3473) > 0.03, "least squares is carried away"


def test_averaging_the_loss_stops_early():
    """The trap: at default tolerance L-BFGS takes an averaged loss of 1e-6 for a finished one."""
    n, d, y = scattered()

    def mean_loss(theta):
        e, a, b, alpha, beta = theta
        terms = np.stack([np.full_like(n, e), a - alpha * np.log(n), b - beta * np.log(d)])
        total = np.logaddexp.reduce(terms, axis=0)
        residuals = total - np.log(y)
        shares = np.exp(terms - total)
        slopes = np.stack([*shares, -shares[1] * np.log(n), -shares[2] * np.log(d)])
        return huber(residuals, 1e-3) / len(n), slopes @ np.clip(residuals, -1e-3, 1e-3) / len(n)

    starts = [(e, a, b, x, x) for e in (0.0, 0.5) for a in (5.0, 10.0) for b in (5.0, 10.0) for x in (0.5, 1.0)]
    ends = [minimize(mean_loss, start, jac=True, method="L-BFGS-B") for start in starts]
    stopped = min(ends, key=lambda end: end.fun)
    law = fit_joint_law(n, d, y)
    assert stopped.success
    assert stopped.fun * len(n) > 1.05 * law.objective
    assert abs(stopped.x[3] - law.alpha) > 0.05


def test_a_law_without_floor_gets_none():
    n, d = grid()
    law = JointLaw(**PUBLISHED | {"E": 0.0})
    floor = fit_joint_law(n, d, law(n, d)).E
    assert floor == pytest.approx(0.0, abs=1e-8)


def test_bounds_can_be_set_and_are_told():
    n, d = grid()
    law = fit_joint_law(n, d, LAW(n, d), alpha_bounds=(0.0, 0.2))
    assert law.alpha == pytest.approx(0.2, abs=1e-6)
    assert law.at_bound == ("alpha",)


def test_the_bootstrap_holds_the_truth_and_its_own_fit():
    n, d = grid(seeds=2)
    y = LAW(n, d) * np.exp(0.005 * np.random.default_rng(3).standard_normal(n.shape))
    law = fit_joint_law(n, d, y)
    samples = bootstrap_joint_law(n, d, y, law, num_replicates=20)
    ends = np.quantile(samples, [0.01, 0.99], axis=0).T
    for name, (low, high) in zip(PARAMETERS, ends, strict=True):
        assert low <= PUBLISHED[name] <= high
        assert low <= getattr(law, name) <= high
        assert low < high


def test_the_bootstrap_draws_cells_and_repeats():
    n, d = grid(3)
    y = LAW(n, d) * np.exp(0.01 * np.random.default_rng(0).standard_normal(n.shape))
    first, second = (bootstrap_joint_law(n, d, y, LAW, num_replicates=20, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    # Nine cells drawn nine times hold about six different ones, and a fit needs seven.
    assert 2 <= len(first) < 20


def test_copies_of_a_seed_do_not_narrow_the_intervals():
    n, d = grid(4)
    y = LAW(n, d) * np.exp(0.01 * np.random.default_rng(0).standard_normal(n.shape))
    once = bootstrap_joint_law(n, d, y, LAW, num_replicates=6)
    thrice = bootstrap_joint_law(*(np.repeat(v, 3) for v in (n, d, y)), LAW, num_replicates=6)
    assert thrice[:, 3] == pytest.approx(once[:, 3], rel=1e-3)


def test_held_out_errors_by_hand():
    n, d = grid()
    y = LAW(n, d)
    assert held_out_error(n, d, y) == pytest.approx(0.0, abs=1e-9)
    y[-1] *= np.e
    assert held_out_error(n, d, y) == pytest.approx(1.0, rel=1e-6)


def test_what_cannot_be_fitted_is_told():
    n, d = grid(3)
    with pytest.raises(DataError, match=r"needs 7 cells .* there are 6 with 3 and 2"):
        fit_joint_law(n[:6], d[:6], LAW(n[:6], d[:6]))
    with pytest.raises(DataError, match="loss holds nan"):
        fit_joint_law(n, d, np.where(n == n[0], np.nan, 1.0))
    with pytest.raises(DataError, match="equal length"):
        fit_joint_law(n, d[:3], n)
    with pytest.raises(ConfigError, match="at least 2"):
        bootstrap_joint_law(n, d, n, LAW, num_replicates=1)
