from __future__ import annotations

import numpy as np
import pytest

from scifm.errors import ConfigError, DataError
from scifm.studies.frontier import compute_optimal, measured_frontier
from scifm.studies.joint_laws import JointLaw


def law(E=1.8172, A=477.86, B=2143.4, alpha=0.3473, beta=0.3672):
    return JointLaw(E, A, B, alpha, beta, 0.0, 1e-3, 0)


def test_a_frontier_by_hand():
    # Equal terms and exponents split the budget evenly: 6 · 100 · 100.
    best = compute_optimal(law(1.0, 5.0, 5.0, 0.5, 0.5), [60_000])
    assert best.num_params == pytest.approx([100])
    assert best.num_samples == pytest.approx([100])
    assert best.loss == pytest.approx([2.0])


def test_no_other_split_is_better_and_the_budget_is_kept():
    best = compute_optimal(law(), [1e20, 5.76e23], flops_per_param_sample=7.0)
    np.testing.assert_allclose(7 * best.num_params * best.num_samples, best.flops)
    for factor in (0.99, 1.01):
        assert (law()(best.num_params * factor, best.num_samples / factor) > best.loss).all()


def test_the_frontier_grows_with_the_published_power():
    best = compute_optimal(law(), [1e20, 1e21])
    assert np.log10(best.num_params[1] / best.num_params[0]) == pytest.approx(0.3672 / (0.3473 + 0.3672))


def test_measured_costs_of_six_a_parameter_agree():
    sizes = np.geomspace(1e8, 1e12, 4)[::-1]  # any order
    analytic, measured = (
        compute_optimal(law(), [1e20, 5.76e23]),
        measured_frontier(law(), [1e20, 5.76e23], sizes, 6 * sizes),
    )
    np.testing.assert_allclose(measured.num_params, analytic.num_params, rtol=0.01)
    np.testing.assert_allclose(measured.loss, analytic.loss, rtol=1e-5)
    assert not measured.at_edge.any()


def test_an_optimum_outside_the_sizes_is_told():
    best = measured_frontier(law(), [1e20], [1e10, 1e11], [6e10, 6e11])
    assert best.num_params == pytest.approx([1e10])
    assert best.at_edge.tolist() == [True]


def test_dearer_large_networks_make_the_best_one_smaller():
    sizes = np.geomspace(1e8, 1e12, 5)
    plain = measured_frontier(law(), [1e21], sizes, 6 * sizes)
    dear = measured_frontier(law(), [1e21], sizes, 6 * sizes**1.2 / 1e9**0.2)
    assert dear.num_params[0] < plain.num_params[0]


def test_what_has_no_frontier_is_told():
    with pytest.raises(DataError, match="does not fall"):
        compute_optimal(law(beta=0.0), [1e20])
    with pytest.raises(DataError, match="flops holds"):
        compute_optimal(law(), [0.0])
    with pytest.raises(DataError, match="at least two sizes"):
        measured_frontier(law(), [1e20], [1e9, 1e9], [1e9, 1e9])
    with pytest.raises(ConfigError, match="flops_per_param_sample"):
        compute_optimal(law(), [1e20], flops_per_param_sample=0.0)
