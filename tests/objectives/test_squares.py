"""Sums of squares: their Jacobian against torch's own, whatever the terms hang on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import functional_call

import pinn
from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.models.coordinate import Coordinate
from scifm.objectives.collocation import Collocation
from scifm.objectives.squares import Rows, Squares

RING = pinn.convection(points=8, frames=5)
FRONT = pinn.problem("reaction_diffusion", Grid((12,), (6.0,), (True,)), num_frames=5)
PLANE = pinn.problem("heat", Grid((12, 11), (2.0, 3.0), (True, True)), num_spatial_dims=2, num_frames=3)
CASES = [
    (RING, {}, {}),
    (RING, {"initial": "soft", "periodic": False, "activation": "sin"}, {"seam": 3.0, "initial": 5.0}),
    (RING, {"slabs": 2, "frequencies": 2}, {"slab_steps": 1}),
    (FRONT, {"initial": "soft", "periodic": False}, {"points": "fixed"}),
    (PLANE, {"periodic": False, "initial": "soft"}, {"points": "residual"}),
    (RING, {"initial": "soft", "periodic": False}, {"balance": True, "seam": 3.0}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_jacobian_of_a_problem_is_torchs_own(case):
    batch, settings, about = CASES[case]
    operator = pinn.network(batch, width=4, **settings)
    objective, step = Collocation(num_points=9, **about).on(batch), 1 if "slab_steps" in about else 0
    asked: dict[str, Any] = {"step": step, "generator": torch.Generator()}
    squares = objective.squares(operator, batch, **asked)
    weights = dict(operator.named_parameters())

    def values(*tensors: torch.Tensor) -> torch.Tensor:
        def terms(module: Coordinate) -> torch.Tensor:
            return objective.squares(module, batch, **asked).values

        return functional_call(Called(operator, terms), dict(zip((f"of.{n}" for n in weights), tensors, strict=True)))

    expected = torch.autograd.functional.jacobian(values, tuple(weights.values()))
    expected = torch.cat([part.flatten(1) for part in expected], dim=1)
    found = squares.jacobian(list(weights.values()))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    loss = objective(operator, batch, **asked)
    torch.testing.assert_close(squares.loss, loss)
    torch.testing.assert_close(squares.values.square().sum(), loss)
    few = [weights["networks.0.0.weight"], weights["networks.0.2.bias"]]
    names = list(weights)
    columns = torch.cat([torch.full((weights[n].numel(),), i) for i, n in enumerate(names)])
    chosen = [names.index(n) for n in ("networks.0.0.weight", "networks.0.2.bias")]
    torch.testing.assert_close(squares.jacobian(few), torch.cat([found[:, columns == i] for i in chosen], dim=1))


class Called(torch.nn.Module):
    """A function of an operator as a module, so that torch can put other weights into it."""

    def __init__(self, of: Coordinate, terms: Any) -> None:
        super().__init__()
        self.of, self.terms = of, terms

    def forward(self) -> torch.Tensor:
        return self.terms(self.of)


def test_terms_times_a_number_have_slopes_times_it():
    operator = pinn.network(RING)
    (rows,) = Collocation(num_points=5).on(RING).squares(operator, RING, step=0, generator=torch.Generator()).rows
    weights = list(operator.parameters())
    torch.testing.assert_close(rows.scaled(3.0).slopes(weights), 3 * rows.slopes(weights))
    assert float(rows.slopes(weights).abs().max()) > 0


def test_terms_that_came_from_nowhere_have_no_slopes():
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ConfigError, match="do not say what they came through"):
        Squares([Rows(weight * 2)]).jacobian([weight])
