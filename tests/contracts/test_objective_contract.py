"""What every objective promises: joining `OBJECTIVES` earns these tests; and the contract finds what breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

import pinn
import tiny
from scifm.fields.batch import Batch, Signature
from scifm.objectives import OBJECTIVES, Residual, Supervised
from scifm.objectives.contract import ObjectiveContract

PROMISES = [name for name in vars(ObjectiveContract) if name.startswith("test_")]


OTHERS = {"relative_change": Signature(("u", "g"), ("a",), ("u", "v"), evolves=True)}
"""Names of the samples of those that are not for any."""
WHOLE = {"masked": {"ratio": 0.0}}
"""Settings of those that draw something for each sample, with which they draw nothing: parts then add up."""


def solved(num_samples: int) -> Batch:
    """Return problems of Poisson that weigh differently, as those ask for that read no solution."""
    batch = tiny.batch(num_samples, purpose="objective contract", dtype=torch.float64)
    return replace(batch, loss_weights=torch.linspace(1, 2, num_samples, dtype=torch.float64))


class OfCoordinates(ObjectiveContract):
    """What a network of coordinates alone can be asked: one problem, and a network that is its solution, bent."""

    objective = OBJECTIVES["collocation"](num_points=40)

    def batch(self, num_samples=1):
        return pinn.convection(dtype=torch.float64)

    def operator(self, batch, size=0.1, truth=None):
        return pinn.Bent(batch, size=size)


OWN: dict[str, type[ObjectiveContract]] = {"collocation": OfCoordinates}
"""How those are tried that ask operators of one kind alone."""


def tried(kind: type) -> ObjectiveContract:
    if (own := OWN.get(kind.name)) is not None:
        return own()

    class Tried(ObjectiveContract):
        objective = kind(**WHOLE.get(kind.name, {}))
        signature = OTHERS.get(kind.name, ObjectiveContract.signature)

        def batch(self, num_samples=5):
            return super().batch(num_samples) if kind.needs_solutions else solved(num_samples)

    return Tried()


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_promises(name, promise):
    assert OBJECTIVES[name].name == name
    getattr(tried(OBJECTIVES[name]), promise)()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_does_not_depend_on_the_order_of_samples(name):
    contract = tried(OBJECTIVES[name])
    batch = contract.batch()
    if not contract.objective.adds_up:
        pytest.skip("it is asked about one problem")
    turned = batch.select([3, 1, 4, 0, 2])
    torch.testing.assert_close(contract.loss(batch)[0], contract.loss(turned)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_down_the_gradient_lowers_it(name):
    contract = tried(OBJECTIVES[name])
    batch = contract.batch()
    loss, gradient = contract.loss(batch)
    operator = contract.operator(batch)
    with torch.no_grad():
        operator.wrong -= 1e-3 * loss / gradient.square().sum() * gradient
    shown = contract.shown(batch)
    assert contract.objective(operator, shown, step=0, generator=torch.Generator()).item() < loss.item()


class Sum(Supervised):
    name: ClassVar[str] = "sum"

    def compare(self, prediction, truth):
        return (prediction.require_targets() - truth.require_targets()).square().sum()


class Off(Sum):
    def compare(self, prediction, truth):
        return 1 + super().compare(prediction, truth)


class Blind(Sum):
    def compare(self, prediction, truth):
        return (prediction.require_targets() - truth.require_targets()).nan_to_num().square().mean()


class Divided(Sum):
    def compare(self, prediction, truth):
        error, targets = prediction.require_targets() - truth.require_targets(), truth.require_targets()
        return (error.flatten(1).norm(dim=1) / targets.flatten(1).norm(dim=1)).mean()


class Stopped(Sum):
    def compare(self, prediction, truth):
        error = prediction.require_targets() - truth.require_targets()
        return (error * error.detach()).mean()


class Reading(Residual):
    """Says that it needs no solutions, and looks at them."""

    name: ClassVar[str] = "reading"

    def __call__(self, operator, batch, *, step, generator):
        found = super().__call__(operator, batch, step=step, generator=generator)
        return found if batch.targets is None else found * (1 + batch.targets.isnan().any())


@pytest.mark.parametrize(
    ("kind", "promise", "told"),
    [
        (Reading, "solutions_that_it_does_not_need", "it reads solutions"),
        (Sum, "micro_batches_add_up", "no mean over samples"),
        (Off, "it_is_one_number", "at the truth it is 1"),
        (Blind, "nan_in", "with NaN among the targets"),
        (Divided, "finite_where", "the loss is inf"),
        (Stopped, "gradient_is_that", "differences"),
    ],
)
def test_what_breaks_a_promise_is_found(kind, promise, told):
    (name,) = [name for name in PROMISES if promise in name]
    with pytest.raises(AssertionError, match=told):
        getattr(tried(kind), name)()
