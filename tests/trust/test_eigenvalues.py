"""Ends, trace and density of symmetric matrices whose eigenvalues are known."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from scifm.errors import ConfigError, DataError
from scifm.trust.eigenvalues import Density, Trace, density_of, ends_of, lanczos, trace_of


def matrix(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a symmetric matrix with these eigenvalues."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return basis @ np.diag(values) @ basis.T


WIDE = np.concatenate([[-7.0, -2.0], np.linspace(-0.01, 0.01, 194), [1.0, 3.0, 4.0, 5.0]])
"""More of its size below than above, and most of it about zero, as a loss has that is not at its minimum."""


@pytest.mark.parametrize("count", [200, 40], ids=["by products", "put together"])
def test_both_ends_are_found_each_in_its_order(count):
    values = np.sort(np.concatenate([WIDE[:2], WIDE[-(count - 2) :]]))
    dense = matrix(values)
    found = ends_of(aslinearoperator(dense), 3, 2, tolerance=1e-10)
    assert np.allclose(found.top, [5, 4, 3], rtol=0, atol=1e-9)
    assert np.allclose(found.bottom, [-7, -2], rtol=0, atol=1e-9)
    for values, vectors in ((found.top, found.top_vectors), (found.bottom, found.bottom_vectors)):
        assert np.allclose(vectors @ dense, values[:, None] * vectors, atol=1e-6)
        assert np.allclose(vectors @ vectors.T, np.eye(len(values)), atol=1e-8)


def test_one_end_alone_may_be_asked():
    dense = aslinearoperator(matrix(WIDE))
    assert len(ends_of(dense, 2, 0).bottom) == 0
    assert len(ends_of(dense, 0, 1).top) == 0
    assert ends_of(dense, 0, 1).bottom[0] == pytest.approx(-7)


def test_a_small_eigenvalue_at_the_lower_end_is_found_beside_a_large_one():
    values = np.concatenate([[-0.0017], np.linspace(-1e-3, 1e-3, 95), [29.2441]])
    found = ends_of(aslinearoperator(matrix(values)), 1, 1, tolerance=1e-9)
    assert found.bottom[0] == pytest.approx(-0.0017, rel=1e-4)


def test_a_probe_has_the_variance_of_hutchinsons_formula():
    dense = matrix(np.linspace(-1, 3, 30))
    probes = Trace(trace_of(aslinearoperator(dense), relative_error=1e-9, max_probes=4000).probes)
    variance = 2 * (np.square(dense).sum() - np.square(np.diag(dense)).sum())
    assert len(probes.probes) == 4000
    assert np.var(probes.probes, ddof=1) == pytest.approx(variance, rel=0.1)  # its own error is about 2.5 %
    assert probes.standard_error == pytest.approx(math.sqrt(variance / 4000), rel=0.05)
    assert abs(probes.value - 30) < 4 * probes.standard_error


def test_a_trace_stops_at_its_standard_error_and_a_diagonal_matrix_has_none():
    found = trace_of(aslinearoperator(matrix(np.linspace(0, 2, 50))), relative_error=0.01)
    assert found.standard_error <= 0.01 * found.value
    assert len(found.probes) < 1000
    assert abs(found.value - 50) < 4 * found.standard_error
    exact = trace_of(aslinearoperator(np.diag([1.0, 2.0, -4.0])))
    assert (exact.value, exact.standard_error, len(exact.probes)) == (-1.0, 0.0, 8)


def test_errors_of_the_trace_are_those_it_says():
    dense = aslinearoperator(matrix(np.linspace(-1, 3, 30)))
    found = [trace_of(dense, relative_error=1e-9, max_probes=40, seed=seed) for seed in range(200)]
    away = np.array([(own.value - 30) / own.standard_error for own in found])
    assert np.std(away) == pytest.approx(1, abs=0.15)


def test_a_density_has_weights_that_sum_to_one_and_the_moments_of_the_matrix():
    values = np.concatenate([np.linspace(-0.5, 0.5, 180), np.linspace(1, 6, 20)])
    found = density_of(aslinearoperator(matrix(values)), num_runs=40, num_steps=20)
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    assert found.is_whole
    for power in (0, 1, 2):
        value, error = found.moment(power)
        assert abs(value - np.mean(values**power)) <= 3 * error + 1e-12
    true = -values[values < 0].sum() / values[values > 0].sum()
    assert found.negative_mass == pytest.approx(true, rel=0.1)
    assert abs(found.trace.value - values.sum()) < 3 * found.trace.standard_error


def test_the_trace_of_a_density_is_hutchinsons_of_the_same_signs():
    dense = aslinearoperator(matrix(WIDE))
    probes = trace_of(dense, relative_error=1e-12, max_probes=8, seed=3).probes
    assert density_of(dense, 8, 3, seed=3).trace.probes == pytest.approx(probes, rel=1e-9)


def test_a_density_of_a_few_eigenvalues_is_exact():
    density = density_of(aslinearoperator(np.diag([1.0] * 30 + [-2.0] * 10)), num_runs=5, num_steps=20)
    assert set(np.round(density.nodes, 9)) == {-2.0, 1.0}
    assert density.share_above(np.array([-3.0, 0.0, 2.0])) == pytest.approx([1, 0.75, 0])
    assert density.negative_mass == pytest.approx(20 / 30)
    peak = 0.75 / (0.1 * math.sqrt(2 * math.pi))
    assert density.at(np.array([1.0]), 0.1) == pytest.approx([peak])
    values = np.linspace(-3, 2, 2001)
    assert np.trapezoid(density.at(values, 0.1), values) == pytest.approx(1)


def test_what_is_nowhere_positive_has_no_finite_ratio():
    assert Density(((np.array([-1.0]), np.array([1.0])),), 1).negative_mass == math.inf


def test_nodes_of_lanczos_lie_as_near_an_eigenvalue_as_they_say():
    values = np.sort(np.random.default_rng(5).standard_normal(120))
    start = np.random.default_rng(6).standard_normal(120)
    found = lanczos(aslinearoperator(matrix(values)), start, 25)
    nearest = np.abs(found.nodes[:, None] - values).min(1)
    assert (nearest <= found.bounds + 1e-10).all()
    assert found.nodes.min() >= values[0] - 1e-10
    assert found.nodes.max() <= values[-1] + 1e-10
    assert np.allclose(found.vectors @ found.vectors.T, np.eye(25), atol=1e-9)
    assert found.length == pytest.approx(np.linalg.norm(start))


def test_lanczos_keeps_its_vectors_orthogonal_and_ends_where_the_space_closes():
    start = np.array([1.0, 1.0, 0.0, 0.0])
    found = lanczos(aslinearoperator(np.diag([2.0, 5.0, 9.0, 9.0])), start, 4)
    assert found.is_whole
    assert found.nodes == pytest.approx([2, 5])
    assert found.parts == pytest.approx([0.5, 0.5])
    assert found.bounds == pytest.approx([0, 0], abs=1e-12)
    whole = lanczos(aslinearoperator(matrix(WIDE)), np.ones(200), 200)  # where plain Lanczos finds ghosts
    assert np.allclose(np.sort(whole.nodes)[[0, 1, -3, -2, -1]], [-7, -2, 3, 4, 5])
    assert (np.abs(whole.nodes - 5) < 0.5).sum() == 1


def test_the_zero_matrix_has_zero_everything():
    nothing = LinearOperator((5, 5), matvec=lambda v: 0 * v, dtype=float)
    density = density_of(nothing, 2, 3)
    assert density.moment(1) == (0.0, 0.0)
    assert set(density.nodes) == {0.0}


def test_what_has_no_time_left_is_not_whole():
    dense = aslinearoperator(matrix(WIDE))
    found = density_of(dense, 3, 10, until=time.monotonic() - 1)
    assert (len(found.runs), len(found.runs[0][0]), found.is_whole) == (1, 1, False)
    assert not lanczos(dense, np.ones(200), 10, until=time.monotonic() - 1).is_whole


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda m: ends_of(m, 0, 0), ConfigError, "0 from above and 0 from below"),
        (lambda m: ends_of(m, 201, 0), ConfigError, "There are 200 eigenvalues"),
        (lambda m: ends_of(m, -1, 2), ConfigError, "There are 200 eigenvalues"),
        (lambda m: trace_of(m, relative_error=0), ConfigError, "above 0"),
        (lambda m: trace_of(m, max_probes=1), ConfigError, "at least 2 probes"),
        (lambda m: density_of(m, 0), ConfigError, "at least one run"),
        (lambda m: density_of(m, 1, 0), ConfigError, "at least one step"),
        (lambda m: lanczos(m, np.zeros(200), 3), DataError, "not zero"),
        (lambda m: lanczos(m, np.full(200, np.nan), 3), DataError, "finite vector"),
    ],
)
def test_what_cannot_be_asked_is_said(ask, error, words):
    with pytest.raises(error, match=words):
        ask(aslinearoperator(matrix(WIDE)))


def test_what_does_not_converge_is_said():
    values = np.linspace(0, 1, 2000)
    diagonal = LinearOperator((2000, 2000), matvec=lambda v: values * v.reshape(-1), dtype=float)
    with pytest.raises(DataError, match="of 30 eigenvalues converged"):
        ends_of(diagonal, 30, 0, tolerance=1e-15, max_rounds=1)
