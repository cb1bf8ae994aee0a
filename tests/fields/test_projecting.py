"""Numbers brought to A u = b: the nearest there are, at any weights, with gradients, and what cannot hold."""

from __future__ import annotations

import pytest
import torch
from scipy import linalg, sparse

from scifm.errors import ConfigError, SignatureError
from scifm.fields.projecting import MOST_ROWS, Projection
from scifm.fields.seeds import generator_for

DRAWN = generator_for(0, "projecting")
ROWS = torch.randn(3, 12, generator=DRAWN, dtype=torch.float64)
VALUES = torch.randn(3, generator=DRAWN, dtype=torch.float64)
WEIGHTS = 0.2 + torch.rand(12, generator=DRAWN, dtype=torch.float64)
NUMBERS = torch.randn(4, 2, 12, generator=DRAWN, dtype=torch.float64)

forms = pytest.mark.parametrize("form", [lambda rows: rows, torch.Tensor.to_sparse], ids=["dense", "sparse"])


def by_kkt(numbers):
    """Return the nearest numbers by the equations of Karush, Kuhn and Tucker, solved densely."""
    whole = torch.zeros(15, 15, dtype=torch.float64)
    whole[:12, :12], whole[12:, :12], whole[:12, 12:] = WEIGHTS.diag(), ROWS, ROWS.T
    right = torch.cat([WEIGHTS * numbers, VALUES.expand(*numbers.shape[:-1], 3)], dim=-1)
    return torch.linalg.solve(whole, right.unsqueeze(-1)).squeeze(-1)[..., :12]


@forms
def test_the_nearest_numbers_that_fulfil_equations(form):
    projection = Projection(form(ROWS), VALUES, weights=WEIGHTS)
    moved = projection(NUMBERS)
    torch.testing.assert_close(moved, by_kkt(NUMBERS), rtol=0, atol=1e-13)
    torch.testing.assert_close(moved @ ROWS.T, VALUES.expand(4, 2, 3), rtol=0, atol=1e-13)
    torch.testing.assert_close(projection(moved), moved, rtol=0, atol=1e-14)
    # no other numbers that fulfil them are nearer: the way there is at right angles to all that is free
    free = torch.from_numpy(linalg.null_space(ROWS.numpy()))
    assert ((moved - NUMBERS) * WEIGHTS @ free).abs().max() < 1e-13
    assert projection.rank == 3


@forms
def test_it_has_derivatives_of_every_order(form):
    projection = Projection(form(ROWS), VALUES, weights=WEIGHTS)
    numbers = NUMBERS[:2, 0].clone().requires_grad_()
    asked = torch.randn(2, 3, generator=generator_for(1, "asked"), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(projection, (numbers,))
    assert torch.autograd.gradcheck(projection, (numbers, asked))
    assert torch.autograd.gradgradcheck(lambda u, b: projection(u, b).square(), (numbers, asked))


def test_values_may_differ_from_sample_to_sample():
    asked = torch.randn(4, 2, 3, generator=generator_for(1, "asked"), dtype=torch.float64)
    moved = Projection(ROWS)(NUMBERS, asked)
    torch.testing.assert_close(moved @ ROWS.T, asked, rtol=0, atol=1e-13)


def test_single_precision_is_met_as_well_as_it_can_be():
    moved = Projection(ROWS, VALUES)(NUMBERS.float())
    assert moved.dtype == torch.float32
    size = moved.double().square().mean().sqrt() * ROWS.abs().sum(1)
    assert ((moved.double() @ ROWS.T - VALUES).abs() / size).max() < 1e-7


def test_nearly_parallel_rows_are_met():
    rows = torch.stack([ROWS[0], ROWS[0] + 1e-4 * ROWS[1]])
    asked = torch.tensor([1.0, 2.0], dtype=torch.float64)  # which both hold only far away
    projection = Projection(rows, asked)
    moved = projection(NUMBERS)
    assert projection.rank == 2
    assert moved.abs().max() > 1e3
    torch.testing.assert_close(moved @ rows.T, asked.expand(4, 2, 2), rtol=0, atol=1e-10)


def test_rows_that_repeat_each_other_count_once():
    twice = Projection(torch.cat([ROWS, 2 * ROWS[:1]]), torch.cat([VALUES, 2 * VALUES[:1]]))
    assert twice.rank == 3
    torch.testing.assert_close(twice(NUMBERS), Projection(ROWS, VALUES)(NUMBERS))


def test_many_numbers_with_few_in_each_row():
    """Differences of neighbours, a thousand of a million numbers: nobody makes what is dense."""
    places = torch.arange(0, 10**6, 1000)
    index = torch.stack([torch.arange(1000).repeat(2), torch.cat([places, places + 1])])
    entries = torch.cat([torch.ones(1000), -torch.ones(1000)])
    rows = torch.sparse_coo_tensor(index, entries, (1000, 10**6), check_invariants=True)
    numbers = torch.randn(10**6, generator=generator_for(0, "many"))
    moved = Projection(rows, torch.zeros(1000))(numbers)
    assert torch.equal(moved[places], moved[places + 1])
    mean = (numbers[places] + numbers[places + 1]) / 2
    torch.testing.assert_close(moved[places], mean)
    assert int((moved != numbers).sum()) <= 2000


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        (
            lambda: Projection(torch.cat([ROWS, ROWS[:1]]), torch.cat([VALUES, VALUES[:1] + 1])),
            ConfigError,
            "contradicts itself: row 0, row 3 cannot have the values",
        ),
        (lambda: Projection(torch.zeros(1, 4), torch.ones(1)), ConfigError, "contradicts itself: row 0"),
        (lambda: Projection(torch.cat([ROWS, ROWS])), ConfigError, "differs from sample to sample"),
        (lambda: Projection(ROWS[:, :2]), ConfigError, "3 rows for 2 numbers cannot all be held"),
        (lambda: Projection(ROWS * float("nan")), ConfigError, "A row of what is held is NaN or infinite"),
        (lambda: Projection(ROWS, VALUES / 0), ConfigError, "A value of what is held is NaN or infinite"),
        (lambda: Projection(ROWS, VALUES, weights=WEIGHTS - 1), ConfigError, "Weights are above zero"),
        (lambda: Projection(ROWS, VALUES, weights=WEIGHTS[:3]), SignatureError, r"each of the 12 numbers; got \(3,\)"),
        (lambda: Projection(ROWS, VALUES[:2]), SignatureError, r"3 rows need as many values, \(3,\); got \(2,\)"),
        (lambda: Projection(ROWS[0], VALUES[:1]), SignatureError, r"Rows are \(k, n\)"),
        (lambda: Projection(ROWS, VALUES)(NUMBERS[..., :5]), SignatureError, r"Rows are of 12 numbers; got numbers"),
        (lambda: Projection(ROWS)(NUMBERS, VALUES[:2]), SignatureError, r"Values are \(…, 3\)"),
        (lambda: Projection(_identity(MOST_ROWS + 1)), ConfigError, "4,097 rows are too many"),
    ],
)
def test_what_cannot_hold_is_refused(made, error, told):
    with pytest.raises(error, match=told):
        made()


def _identity(count):
    eye = sparse.eye(count).tocoo()
    return torch.sparse_coo_tensor(
        torch.stack([torch.from_numpy(eye.row), torch.from_numpy(eye.col)]).long(),
        torch.from_numpy(eye.data),
        eye.shape,
        check_invariants=True,
    )
