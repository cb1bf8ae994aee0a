"""Conservation as a hard constraint: the algebra, beside systems that say the same otherwise."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import DataError, SignatureError
from scifm.fields.conserving import Dense, Deviations, Diagonal, conserve, integral_weights
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed, "conserving"), dtype=torch.float64)


def covariance(*batch: int, n: int = 12) -> torch.Tensor:
    root = drawn(*batch, n, n, seed=3)
    return root @ root.transpose(-1, -2) + 0.1 * torch.eye(n, dtype=torch.float64)


def seen(rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return (rows @ numbers.unsqueeze(-1)).squeeze(-1)


MEAN, ROWS, VALUES = drawn(4, 5, 12), drawn(3, 12, seed=1), drawn(4, 5, 3, seed=2)
SPREAD = covariance(4, 5)


def test_the_quantities_are_exact_and_the_answer_is_the_nearest_one():
    """It is the solution of the optimality system [[Σ⁻¹, Gᵀ], [G, 0]] [m, λ] = [Σ⁻¹ μ, b]."""
    found = conserve(MEAN, Dense(SPREAD), ROWS, VALUES)
    assert ((seen(ROWS, found.mean) - VALUES).abs() < 1e-12 * VALUES.abs()).all()
    inverse = torch.linalg.inv(SPREAD)
    zero = torch.zeros(4, 5, 3, 3, dtype=torch.float64)
    rows = ROWS.expand(4, 5, 3, 12)
    system = torch.cat([torch.cat([inverse, rows.mT], -1), torch.cat([rows, zero], -1)], -2)
    right = torch.cat([seen(inverse, MEAN), VALUES], -1)
    torch.testing.assert_close(found.mean, torch.linalg.solve(system, right)[..., :12], rtol=1e-9, atol=1e-9)


def test_what_is_left_to_vary_is_a_covariance_that_no_quantity_sees():
    found = conserve(MEAN, Dense(SPREAD), ROWS, VALUES)
    left = found.covariance()
    assert torch.equal(left, left.mT)
    assert torch.linalg.eigvalsh(left).min() > -1e-12
    assert (left @ ROWS.mT).abs().max() < 1e-11
    published = SPREAD - SPREAD @ ROWS.mT @ torch.linalg.solve(ROWS @ SPREAD @ ROWS.mT, ROWS @ SPREAD)
    torch.testing.assert_close(left, published, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.variance, published.diagonal(dim1=-2, dim2=-1), rtol=1e-9, atol=1e-10)
    noisy = conserve(MEAN, Dense(SPREAD), ROWS, VALUES, noise=0.5)
    assert (torch.logdet(noisy.covariance()) < torch.logdet(SPREAD)).all()


def test_twice_changes_nothing():
    found = conserve(MEAN, Dense(SPREAD), ROWS, VALUES)
    again = conserve(found.mean, Dense(found.covariance()), ROWS, VALUES)
    torch.testing.assert_close(again.mean, found.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(again.covariance(), found.covariance(), rtol=0, atol=1e-10)


def test_every_form_of_a_covariance_says_the_same():
    variance = drawn(4, 5, 12, seed=5).square() + 0.1
    deviations = drawn(4, 5, 6, 12, seed=6)
    deviations = deviations - deviations.mean(-2, keepdim=True)
    forms = [
        (Diagonal(variance), torch.diag_embed(variance)),
        (Deviations(deviations), deviations.mT @ deviations / 5),
        (Deviations(deviations, variance), deviations.mT @ deviations / 5 + torch.diag_embed(variance)),
    ]
    for form, matrix in forms:
        for noise in (0.0, 0.3):
            one, other = (conserve(MEAN, spread, ROWS, VALUES, noise=noise) for spread in (form, Dense(matrix)))
            torch.testing.assert_close(one.mean, other.mean, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(one.variance, other.variance, rtol=1e-8, atol=1e-9)
            torch.testing.assert_close(one.covariance(), other.covariance(), rtol=1e-8, atol=1e-9)
    found = conserve(MEAN, Deviations(deviations), ROWS, VALUES)
    moved = found.moved(deviations)
    assert seen(ROWS.unsqueeze(-3), moved).abs().max() < 1e-11  # every member conserves
    torch.testing.assert_close(Deviations(moved).dense(), found.covariance(), rtol=1e-8, atol=1e-9)


def test_without_a_spread_all_points_move_alike():
    found = conserve(MEAN, None, torch.ones(12, dtype=torch.float64), VALUES[..., 0])
    shift = found.mean - MEAN
    torch.testing.assert_close(shift, shift[..., :1].expand_as(shift), rtol=0, atol=1e-12)
    same = conserve(MEAN, Dense(torch.eye(12, dtype=torch.float64)), ROWS, VALUES)
    torch.testing.assert_close(conserve(MEAN, None, ROWS, VALUES).mean, same.mean, rtol=0, atol=1e-12)


def test_what_is_known_badly_moves_little():
    previous = math.inf
    for noise in (0.0, 1.0, 1e3, 1e12):
        found = conserve(MEAN, Dense(SPREAD), ROWS, VALUES, noise=noise)
        moved = float((found.mean - MEAN).norm())
        assert moved < previous
        previous = moved
    assert previous < 1e-8
    torch.testing.assert_close(found.variance, SPREAD.diagonal(dim1=-2, dim2=-1), rtol=1e-8, atol=0)


def test_rows_that_repeat_others_are_taken_where_they_agree():
    twice = torch.cat([ROWS, 2 * ROWS[:1]])
    agree = torch.cat([VALUES, 2 * VALUES[..., :1]], -1)
    found = conserve(MEAN, Dense(SPREAD), twice, agree)
    torch.testing.assert_close(found.mean, conserve(MEAN, Dense(SPREAD), ROWS, VALUES).mean, rtol=0, atol=1e-10)
    with pytest.raises(DataError, match="two rows ask for different things"):
        conserve(MEAN, Dense(SPREAD), twice, torch.cat([VALUES, VALUES[..., :1]], -1))


def test_single_precision_is_solved_in_double_and_returned_as_it_came():
    single = conserve(MEAN.float(), Dense(SPREAD.float()), ROWS, VALUES)
    assert single.mean.dtype == single.variance.dtype == single.covariance().dtype == torch.float32
    double = conserve(MEAN.float().double(), Dense(SPREAD.float().double()), ROWS, VALUES)
    assert torch.equal(single.mean, double.mean.float())


@pytest.mark.parametrize(
    "grid", [Grid((17,), 2.0, "open"), Grid((8, 9), (1.0, 0.7), ("periodic", "wall")), Grid((4, 5, 6), (1.0, 2.0, 0.5))]
)
def test_weights_are_those_of_the_house(grid):
    field = drawn(2, *grid.num_points)
    row = integral_weights(grid)
    torch.testing.assert_close(field.flatten(1) @ row, integral(field, grid), rtol=1e-13, atol=1e-14)
    assert row.sum() == pytest.approx(math.prod(grid.extent))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean": MEAN * torch.nan}, "The mean .* is NaN"),
        ({"values": VALUES * torch.inf}, "A value .* is NaN or infinite"),
        ({"covariance": Dense(SPREAD * torch.nan)}, "A covariance .* is NaN"),
        ({"covariance": Diagonal(-MEAN.square())}, "A variance is zero or above"),
        ({"covariance": Dense(SPREAD.triu())}, "differs from its transpose"),
        ({"covariance": Dense(-SPREAD)}, "no negative variance"),
        ({"covariance": Dense(SPREAD[..., :3])}, "is \\(…, n, n\\)"),
        ({"covariance": Diagonal(MEAN[..., :5].square())}, "is of 5 numbers, the mean of 12"),
        ({"covariance": Deviations(MEAN[..., :1, :])}, "two members or more"),
        ({"covariance": Diagonal(0 * MEAN)}, "no spread"),
        ({"rows": ROWS[:, :5]}, "got rows \\(3, 5\\)"),
        ({"values": VALUES[..., :2]}, "values \\(4, 5, 2\\)"),
        ({"noise": -1.0}, "zero or above and finite"),
    ],
)
def test_what_cannot_be_is_refused(change, told):
    given = {"mean": MEAN, "covariance": Dense(SPREAD), "rows": ROWS, "values": VALUES, **change}
    with pytest.raises((DataError, SignatureError), match=told):
        conserve(given.pop("mean"), given.pop("covariance"), given.pop("rows"), given.pop("values"), **given)


def test_a_spread_of_nothing_is_well_where_nothing_is_missed():
    found = conserve(MEAN, Diagonal(0 * MEAN), ROWS, seen(ROWS, MEAN))
    assert torch.equal(found.mean, MEAN)


def test_a_covariance_with_a_negative_eigenvalue_is_none():
    """Its diagonal does not tell."""
    matrix = torch.eye(12, dtype=torch.float64)
    matrix[0, 1] = matrix[1, 0] = 2.0
    with pytest.raises(DataError, match="no negative eigenvalues; the least of the one given is -1"):
        conserve(MEAN, Dense(matrix), ROWS, VALUES)


def test_members_are_not_moved_to_what_is_known_with_noise():
    deviations = drawn(4, 5, 6, 12, seed=6)
    found = conserve(MEAN, Deviations(deviations), ROWS, VALUES, noise=0.1)
    with pytest.raises(DataError, match="each of them would need a draw"):
        found.moved(deviations)


def test_the_root_of_every_form_is_one():
    deviations, variance = drawn(4, 5, 6, 12, seed=6), drawn(4, 5, 12, seed=5).square()
    for form in (Diagonal(variance), Dense(SPREAD), Deviations(deviations), Deviations(deviations, variance)):
        root = form.root()
        torch.testing.assert_close(root @ root.mT, form.dense(), rtol=1e-10, atol=1e-10)
