from __future__ import annotations

import numpy as np
import pytest

from scifm.errors import DataError
from scifm.studies.joint_laws import JointLaw, measured_frontier


def law(E=1.8172, A=477.86, B=2143.4, alpha=0.3473, beta=0.3672):
    return JointLaw(E, A, B, alpha, beta)


def test_a_frontier_by_hand():
    # Equal terms and exponents split the budget evenly: 6 · 100 · 100.
    sizes = np.geomspace(1, 1e4, 5)
    (best,) = measured_frontier(law(1.0, 5.0, 5.0, 0.5, 0.5), [60_000], sizes, 6 * sizes)
    assert best.num_params == pytest.approx(100, rel=0.01)
    assert best.num_samples == pytest.approx(100, rel=0.01)
    assert best.error == pytest.approx(2.0, rel=1e-4)


def test_costs_of_six_a_parameter_agree_with_the_published_optimum():
    """arXiv 2203.15556, eq. 4: N* = G (C/6)^(β/(α+β)), G = (αA/(βB))^(1/(α+β)); whatever the order of the sizes."""
    known, sizes = law(), np.geomspace(1e8, 1e12, 4)[::-1]
    total = known.alpha + known.beta
    ratio = (known.alpha * known.A / (known.beta * known.B)) ** (1 / total)
    for best in measured_frontier(known, [1e20, 5.76e23], sizes, 6 * sizes):
        num_params = ratio * (best.flops / 6) ** (known.beta / total)
        assert best.num_params == pytest.approx(num_params, rel=0.01)
        assert 6 * best.num_params * best.num_samples == pytest.approx(best.flops)
        assert best.error == pytest.approx(float(known(num_params, best.flops / 6 / num_params)), rel=1e-5)
        assert not best.at_edge


def test_no_other_split_is_better():
    sizes = np.geomspace(1e8, 1e12, 4)
    for best in measured_frontier(law(), [1e20, 5.76e23], sizes, 7 * sizes):
        for factor in (0.95, 1.05):
            assert law()(best.num_params * factor, best.num_samples / factor) > best.error


def test_an_optimum_outside_the_sizes_is_told():
    (best,) = measured_frontier(law(), [1e20], [1e10, 1e11], [6e10, 6e11])
    assert best.num_params == pytest.approx(1e10)
    assert best.at_edge


def test_dearer_large_networks_make_the_best_one_smaller():
    sizes = np.geomspace(1e8, 1e12, 5)
    (plain,) = measured_frontier(law(), [1e21], sizes, 6 * sizes)
    (dear,) = measured_frontier(law(), [1e21], sizes, 6 * sizes**1.2 / 1e9**0.2)
    assert dear.num_params < plain.num_params


def test_what_has_no_frontier_is_told():
    with pytest.raises(DataError, match="flops holds"):
        measured_frontier(law(), [0.0], [1e9, 1e10], [1e9, 1e10])
    with pytest.raises(DataError, match="at least two sizes"):
        measured_frontier(law(), [1e20], [1e9, 1e9], [1e9, 1e9])
