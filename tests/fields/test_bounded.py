"""The nearest answers that meet bounds and hold quantities: by the conditions of Karush, Kuhn and Tucker."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.bounded import AtLeast, Bounded, Monotone, nearest
from scifm.fields.conserving import Dense, Deviations, Diagonal
from scifm.fields.seeds import generator_for

N = 12
ROW = torch.full((1, N), 1 / N, dtype=torch.float64)
TWO = torch.cat([ROW, torch.linspace(0, 1, N, dtype=torch.float64)[None] / N])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed, "bounded"), dtype=torch.float64)


MEAN = drawn(3, N)
VARIANCE = drawn(3, N, seed=1).square() + 0.1
SPREAD = drawn(3, 5, N, seed=2)
SPREAD = SPREAD - SPREAD.mean(-2, keepdim=True)
FORMS = {
    "diagonal": Diagonal(VARIANCE),
    "ensemble": Deviations(SPREAD, 0.05 * VARIANCE),
    "dense": Dense(Deviations(SPREAD, 0.05 * VARIANCE).dense()),
    "none": None,
}
BOUNDS = {
    "not negative": (AtLeast(0.0),),
    "rising": (Monotone(),),
    "falling above": (AtLeast(-0.2), Monotone(rising=False)),
}


def require_optimal(found, mean, covariance, rows, values, fields) -> int:
    """Assert the conditions of an optimum, which are sufficient here; returns how many inequalities bind.

    Σ⁻¹(m − μ) = Gᵀ λ + Aᵀ ν with ν ≥ 0, and ν = 0 where A m > c.
    """
    matrix = np.zeros((0, len(mean)))
    least = np.zeros(0)
    for field in fields:
        for bound in field.bounds:
            own, side = bound.rows(field.space)
            block = np.zeros((len(own), len(mean)))
            block[:, field.numbers] = own
            matrix, least = np.concatenate([matrix, block]), np.concatenate([least, side])
    np.testing.assert_allclose(rows.numpy() @ found.numpy(), values.numpy(), atol=1e-11)
    slack = matrix @ found.numpy() - least
    assert slack.min() > -1e-10
    binds = slack < 1e-9
    pulled = np.linalg.solve(covariance.numpy(), (found - mean).numpy())
    free = np.concatenate([rows.numpy(), -rows.numpy(), matrix[binds]])
    _, off = nnls(free.T, pulled)
    assert off < 1e-7 * max(1.0, np.abs(pulled).max()), off
    return int(binds.sum())


@pytest.mark.parametrize("rows", [ROW, TWO], ids=["sum", "two"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_nearest_answer_that_meets_its_bounds(form, bounds, rows):
    """One sample asks for more than it has, one for less, one for what it says itself."""
    fields, covariance = [Bounded((N,), BOUNDS[bounds])], FORMS[form]
    mass = torch.tensor([0.4, 0.1, 1.0], dtype=torch.float64)
    centre = 0.4 if bounds == "falling above" else 0.6  # where a field of its kind can have it
    values = torch.stack([mass, centre * mass], dim=1)[:, : len(rows)]
    found = nearest(MEAN, covariance, rows, values, fields)
    whole = torch.eye(N, dtype=torch.float64).expand(3, N, N) if covariance is None else covariance.dense()
    bind = [require_optimal(found[s], MEAN[s], whole[s], rows, values[s], fields) for s in range(3)]
    assert all(bind), "bounds that never bind try nothing"


def test_both_ways_of_solving_agree():
    for bounds in BOUNDS.values():
        fields, values = [Bounded((N,), bounds)], torch.full((3, 1), 0.3, dtype=torch.float64)
        one, other = (nearest(MEAN, f, ROW, values, fields) for f in (FORMS["diagonal"], Dense(VARIANCE.diag_embed())))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_along_an_axis_every_line_is_monotone_and_two_axes_are_done_too():
    space, mean = (3, 4), drawn(2, N, seed=4)
    variance = drawn(2, N, seed=5).square() + 0.1
    for bounds in (
        (Monotone(axis=0),),
        (Monotone(rising=False, axis=1), AtLeast(-0.5)),
        (Monotone(axis=0), Monotone()),
    ):
        fields, values = [Bounded(space, bounds)], torch.tensor([[0.2], [-0.1]], dtype=torch.float64)
        found = nearest(mean, Diagonal(variance), ROW, values, fields)
        for s in range(2):
            assert require_optimal(found[s], mean[s], variance[s].diag(), ROW, values[s], fields)
    assert (found.view(2, *space).diff(dim=1) > -1e-12).all()
    assert (found.view(2, *space).diff(dim=2) > -1e-12).all()


def test_two_fields_share_their_quantities():
    """Half of the numbers rises, half is not negative, and one sum is of both."""
    fields = [Bounded((6,), (Monotone(),)), Bounded((6,), (AtLeast(0.1),), 6)]
    values = torch.full((3, 1), 0.5, dtype=torch.float64)
    found = nearest(MEAN, FORMS["diagonal"], ROW, values, fields)
    for s in range(3):
        assert require_optimal(found[s], MEAN[s], VARIANCE[s].diag(), ROW, values[s], fields)


def test_bounds_alone_are_those_of_the_textbook():
    """Without a quantity: cutting off, and the average of neighbours in the wrong order weighed by their precision."""
    nothing, none = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    mean, variance = torch.tensor([[1.0, 4.0, 1.0]]).double(), Diagonal(torch.tensor([[1.0, 1.0, 0.5]]).double())
    rising = nearest(mean, variance, nothing, none, [Bounded((3,), (Monotone(),))])
    torch.testing.assert_close(rising, torch.tensor([[1.0, 2.0, 2.0]]).double())
    for form in (variance, Dense(variance.dense())):
        cut = nearest(mean, form, nothing, none, [Bounded((3,), (AtLeast(2.0),))])
        torch.testing.assert_close(cut, torch.tensor([[2.0, 4.0, 2.0]]).double())


def test_a_sharp_front_with_small_variances_is_solved_to_rounding():
    """Variances from 1e-6 to 1e-2, as of networks that are sure of themselves away from a front."""
    x = torch.linspace(0, 1, 201, dtype=torch.float64)
    row = torch.full((1, 201), 1 / 201, dtype=torch.float64)
    place = 0.3 + 0.05 * drawn(300, 1, seed=7)
    peak = torch.exp(-(((x - place) / 0.05) ** 2))
    mean = torch.sigmoid((place - x) / 0.01) + (1e-3 + 0.05 * peak) * drawn(300, 201, seed=8)
    variance = (1e-3 + 0.1 * peak).square()
    values = place + 0.03 * drawn(300, 1, seed=9)
    found = nearest(mean, Diagonal(variance), row, values, [Bounded((201,), (Monotone(rising=False),))])
    assert found.diff(dim=-1).max() < 1e-12
    assert ((found @ row.mT - values) / values).abs().max() < 1e-11


def test_what_fulfils_all_already_stays():
    mean = torch.linspace(0, 1, N, dtype=torch.float64)[None]
    for form in (None, Diagonal(VARIANCE[:1]), Deviations(SPREAD[:1])):
        found = nearest(mean, form, ROW, mean @ ROW.mT, [Bounded((N,), (AtLeast(0.0), Monotone()))])
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-12)


def test_an_answer_in_single_precision_comes_back_so():
    found = nearest(MEAN.float(), FORMS["diagonal"], ROW, torch.full((3, 1), 0.3), [Bounded((N,), (Monotone(),))])
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"values": torch.full((3, 1), -0.1)}, DataError, "No answer that meets these bounds .*AtLeast"),
        ({"values": torch.full((3, 1), -0.1), "covariance": FORMS["dense"]}, DataError, "No answer that meets"),
        ({"covariance": Deviations(SPREAD[:, :2] - SPREAD[:, :2].mean(1, keepdim=True))}, DataError, "No answer that"),
        ({"mean": MEAN * math.nan}, DataError, "The mean .* is NaN"),
        ({"covariance": Diagonal(0 * VARIANCE)}, DataError, "Variances are above zero here"),
        ({"rows": ROW[:, :5]}, SignatureError, "got rows \\(1, 5\\)"),
        ({"covariance": Diagonal(VARIANCE[:, :5])}, SignatureError, "is of 5 numbers, the mean of 12"),
        ({"fields": [Bounded((N,), (AtLeast(),), 1)]}, SignatureError, "reaches beyond the 12 numbers"),
        ({"fields": [Bounded((N,), (Monotone(axis=1),))]}, SignatureError, "1 axis has no axis 1"),
    ],
)
def test_what_cannot_be_is_refused(change, error, told):
    given = {
        "mean": MEAN, "covariance": FORMS["diagonal"], "rows": ROW, "values": torch.full((3, 1), 0.2),
        "fields": [Bounded((N,), (AtLeast(),))], **change,
    }  # fmt: skip
    with pytest.raises(error, match=told):
        nearest(*given.values())


def test_too_many_numbers_that_vary_together_are_refused():
    many = torch.zeros(1, 3000, dtype=torch.float64)
    row, values = torch.ones(1, 3000, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"3,000 numbers that vary together are too many to bound; 2,048 at most"):
        nearest(many, Deviations(drawn(1, 4, 3000)), row, values, [Bounded((3000,), (AtLeast(),))])
