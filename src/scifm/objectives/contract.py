"""What every objective promises, as tests that need nothing but the objective.

In a test file of your own package::

    from scifm.objectives.contract import ObjectiveContract
    from my_package import Mine

    class TestMine(ObjectiveContract):
        objective = Mine()

and pytest runs all of them. Each promise is a method whose first line says what is promised; it raises AssertionError
with a sentence that says what was found.
"""

from __future__ import annotations

import unittest
import warnings
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator, OperatorConfig
from scifm.objectives.objective import Objective

__all__ = ["Nearly", "ObjectiveContract"]

_SIGNATURE = Signature(("f", "g"), ("a",), ("u", "v"))


class Nearly(Operator):
    """Answers with the truth, wrong by a field that trains, smaller or larger from sample to sample.

    Args:
        size: of what is wrong.
        truth: solutions of the samples it will be asked about, where these do not hold them.
    """

    def __init__(self, signature: Signature, grid: Grid, *, size: float, truth: Tensor | None = None) -> None:
        super().__init__(signature, OperatorConfig())
        self.truth = truth
        shape = (len(signature.outputs), *grid.num_points)
        drawn = torch.randn(shape, generator=generator_for(0, "nearly"), dtype=torch.float64)
        self.wrong = nn.Parameter(size * drawn)

    def forward(self, batch: Batch, *, through: int | None = None) -> Batch:
        each = 1 + batch.coefficients[:, :1].abs().view(-1, 1, 1, *(1,) * batch.grid.num_spatial_dims)
        truth = batch.require_targets() if self.truth is None else self.truth
        return batch.with_targets(truth + each * self.wrong)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


class ObjectiveContract:
    """All promises of an objective; a subclass says which, as ``objective = Mine()``.

    Attributes:
        objective: what is tried.
        grid: where it is tried.
        signature: of the samples it is tried on.
        floor: most that one which needs no solutions may be at the truth; others are zero there.
    """

    objective: ClassVar[Objective]
    floor: ClassVar[float] = 1e-9
    grid: ClassVar[Grid] = Grid((8, 6), (1.0, 1.0), (True, False))
    signature: ClassVar[Signature] = _SIGNATURE

    def batch(self, num_samples: int = 5) -> Batch:
        """Return samples in float64 that weigh differently; override where an objective needs others.

        One that needs no solutions is tried on solved problems of a system, and is not shown the solutions.
        """
        generator = generator_for(0, "objective contract")

        def drawn(*shape: int) -> Tensor:
            return torch.randn(num_samples, *shape, generator=generator, dtype=torch.float64)

        names, space = self.signature, self.grid.num_points
        weights = 1 + drawn().abs()
        fields = (drawn(1, len(part), *space) for part in (names.inputs, names.outputs))
        inputs, targets = fields
        return Batch(names, self.grid, inputs, drawn(len(names.coefficients)), targets, loss_weights=weights)

    def operator(self, batch: Batch, size: float = 0.1, truth: Tensor | None = None) -> Nearly:
        """Return an operator that answers a batch and is wrong by `size`, of `truth` where that is given.

        Its weights are called `wrong`. Override where an objective is asked of operators of one kind alone.
        """
        if truth is None and not self.objective.needs_solutions:
            truth = batch.require_targets()
        return Nearly(batch.signature, batch.grid, size=size, truth=truth)

    def shown(self, batch: Batch) -> Batch:
        """Return what the objective is given of a batch: NaN in place of solutions it does not need."""
        if self.objective.needs_solutions:
            return batch
        return batch.with_targets(torch.full_like(batch.require_targets(), float("nan")))

    def loss(
        self, batch: Batch, size: float = 0.1, objective: Objective | None = None, truth: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of an operator that is wrong by `size`, and its gradient."""
        operator = self.operator(batch, size, truth)
        objective = self.objective if objective is None else objective
        value = objective(operator, self.shown(batch), step=0, generator=generator_for(0, "objective"))
        (gradient,) = torch.autograd.grad(value, operator.wrong)
        return value.detach(), gradient

    def test_it_is_one_number_zero_at_the_truth_and_grows_with_the_error(self) -> None:
        """At the truth it is zero (or its floor, of one that asks the equation), and more the farther the answer is."""
        values = [self.loss(self.batch(), size)[0] for size in (0.0, 0.1, 0.2, 0.4)]
        _require(values[0].shape == (), f"it is of shape {tuple(values[0].shape)}; a scalar is asked for")
        losses = [float(value) for value in values]
        most = 0.0 if self.objective.needs_solutions else self.floor
        _require(losses[0] <= most, f"at the truth it is {losses[0]:g}")
        _require(losses == sorted(set(losses)), f"it does not grow with the error: {losses}")

    def test_its_gradient_is_that_of_differences(self) -> None:
        """A small step changes the loss by what the gradient says."""
        batch = self.batch()
        _, gradient = self.loss(batch)
        operator, shown = self.operator(batch), self.shown(batch)
        way = torch.randn(gradient.shape, generator=generator_for(1, "way"), dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                operator.wrong.add_(way, alpha=sign * 1e-5)
                ends.append(self.objective(operator, shown, step=0, generator=generator_for(0, "objective")))
                operator.wrong.sub_(way, alpha=sign * 1e-5)
        claimed, seen = float((gradient * way).sum()), float(ends[0] - ends[1]) / 2e-5
        near = abs(claimed - seen) <= 1e-5 * abs(seen) + 1e-9
        _require(near, f"the gradient says {claimed:.8g}, differences {seen:.8g}")

    def test_it_is_finite_where_a_truth_vanishes(self) -> None:
        """Prepared by a look at the samples, it has a value and a gradient where a truth is zero."""
        batch = self.batch()
        targets, inputs = batch.require_targets().clone(), batch.inputs.clone()
        targets[-1] = 0
        if not self.objective.needs_solutions:  # what it is measured by vanishes then
            inputs[-1] = 0
        batch = replace(batch, inputs=inputs, targets=targets)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepared = self.objective.on(self.shown(batch))
        value, gradient = self.loss(batch, objective=prepared)
        odd = int((~gradient.isfinite()).sum())
        _require(
            bool(value.isfinite()) and not odd, f"the loss is {float(value):g}, {odd} of its gradient are no number"
        )

    def test_micro_batches_add_up(self) -> None:
        """Two parts of a batch, weighed by their samples, have its loss and its gradient."""
        if not self.objective.adds_up:
            raise unittest.SkipTest("it needs all samples of a step together, and training in parts is refused")
        self._require_adding_up(self.batch())

    def _require_adding_up(self, batch: Batch) -> None:
        value, gradient = self.loss(batch)
        parts = [batch.select(slice(0, 2)), batch.select(slice(2, None))]
        weights = [float(p.num_samples if p.loss_weights is None else p.loss_weights.sum()) for p in parts]
        each = [self.loss(part) for part in parts]
        total = sum(weights)
        for whole, index in ((value, 0), (gradient, 1)):
            added = sum((pair[index] * (w / total) for pair, w in zip(each, weights, strict=True)), torch.zeros(()))
            apart = float((added - whole).abs().max() / whole.abs().max())
            _require(apart < 1e-10, f"parts differ from the whole by {apart:.2g} of it: it is no mean over samples")

    def test_numbers_at_missing_points_count_for_nothing(self) -> None:
        """An objective that says so leaves them out: in loss and gradient, to the last bit."""
        if not self.objective.leaves_out_gaps:
            raise unittest.SkipTest("it counts every point, and training on samples with missing ones is refused")
        batch = self.batch()
        targets = batch.require_targets()
        valid = torch.rand(targets.shape, generator=generator_for(0, "missing")) > 0.3
        valid[1, 0, 0], valid[2] = False, False  # a frame of a channel, and a sample, without a number
        found = []
        for number in (0.0, 1e6, -3.0):
            there = replace(batch, targets=torch.where(valid, targets, number), valid_targets=valid)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                prepared = self.objective.on(there)
            found.append(self.loss(there, objective=prepared, truth=targets))  # answers hang on no such number
            _require(bool(found[-1][0].isfinite()), f"with {number:g} at missing points it is {float(found[-1][0]):g}")
        same = all(torch.equal(one, other) for pair in found[1:] for one, other in zip(found[0], pair, strict=True))
        _require(same, "numbers at missing points change its loss or its gradient")
        gradient = found[0][1]
        _require(
            self.objective.teaches_unsolved or bool((gradient[~valid.any(dim=0)[0]] == 0).all()),
            "it pulls at points that are missing in all samples",
        )
        self._require_adding_up(replace(batch, valid_targets=valid))

    def test_nan_in_gives_nan_out(self) -> None:
        """What is no number, of what it reads, is not passed over."""
        batch = self.batch()
        role = "targets" if self.objective.needs_solutions else "inputs"
        fields = getattr(batch, role).clone()
        fields[-1, 0, 0, 2] = float("nan")
        value, _ = self.loss(replace(batch, **{role: fields}))
        _require(bool(value.isnan()), f"with NaN among the {role} it is {float(value):g}")

    def test_solutions_that_it_does_not_need_are_not_read(self) -> None:
        """Whatever stands in their place, or nothing at all: value and gradient are the same to the last bit."""
        if self.objective.needs_solutions:
            raise unittest.SkipTest("it compares answers with solutions")
        batch, found = self.batch(), []
        targets = batch.require_targets()
        for shown in (targets, torch.full_like(targets, float("nan")), torch.zeros_like(targets), None):
            operator, given = self.operator(batch), batch.with_targets(shown)
            value = self.objective.on(given)(operator, given, step=0, generator=generator_for(0, "objective"))
            found.append((value.detach(), *torch.autograd.grad(value, operator.wrong)))
        same = all(torch.equal(one, other) for own in found[1:] for one, other in zip(found[0], own, strict=True))
        _require(same, "it reads solutions, and says that it needs none")

    def test_its_settings_can_be_written(self) -> None:
        """What a recipe holds of it makes it again."""
        again = type(self.objective)(**self.objective.to_dict())
        _require(again == self.objective, f"{self.objective!r} is written down as {again!r}")
