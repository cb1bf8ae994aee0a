"""The derivative along a way is the sum of its parts, and what is asked once serves every state of the weights."""

from __future__ import annotations

import pytest
import torch

import pinn
from scifm.errors import SignatureError
from scifm.models.coordinate import Points

RING = pinn.convection(3.0)


@pytest.mark.parametrize("settings", [{}, {"initial": "soft"}, {"periodic": False, "scaled": False}, {"slabs": 2}])
def test_along_a_way_is_the_sum_of_its_parts(settings):
    operator = pinn.network(RING, **settings)
    points = Points(torch.arange(9), torch.linspace(0.05, 0.45, 9, dtype=torch.float64))
    start = operator.start_of(RING, 0)
    apart = operator.at(RING, points, derivatives=["x", "t"], start=start)
    along = operator.answer(operator.ask(RING, points, way={"x": 3.0, "t": 1.0}, start=start)).along_way("tracer")
    torch.testing.assert_close(along, apart.along("tracer", "t") + 3.0 * apart.along("tracer", "x"))
    with pytest.raises(SignatureError, match="along a way was not asked for"):
        apart.along_way("tracer")


def test_what_is_asked_once_is_answered_by_the_weights_of_the_moment():
    operator = pinn.network(RING)
    points = Points(torch.arange(5), torch.full((5,), 0.3, dtype=torch.float64))
    start = operator.start_of(RING, 0)
    asked = [operator.ask(RING, points, derivatives=axes, start=start) for axes in ([], ["x"])]
    before = operator.answer_all(asked)[1].along("tracer", "x")
    with torch.no_grad():
        operator.networks[0][0].weight.mul_(2)
    after = operator.answer_all(asked)[1].along("tracer", "x")
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, operator.at(RING, points, derivatives=["x"], start=start).along("tracer", "x"))
