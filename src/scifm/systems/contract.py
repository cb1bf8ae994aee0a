"""What every system promises, as tests that need nothing but the system.

In a test file of your own package::

    from scifm.systems.contract import SystemContract
    from scifm_plate import ThinPlate

    class TestThinPlate(SystemContract):
        system = ThinPlate()

and pytest runs all of them. Nothing here knows how a system samples or solves: only what `scifm.System` says is used.
Each promise is a method whose first line says what is promised; it raises AssertionError with a sentence that says what
was found. A promise that cannot be tried on this machine raises ``unittest.SkipTest``, which pytest shows as skipped.
"""

from __future__ import annotations

import math
import unittest
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.systems.form_contract import NUM_TRIED, PARTS, FormContract, part_of, require, size_of
from scifm.systems.knobs import Knob
from scifm.systems.system import System

__all__ = ["SystemContract"]


class SystemContract(FormContract):
    """All promises of a system; a subclass says which, as ``system = Mine()``. `FormContract` tells what can be set."""

    # --- the equation -------------------------------------------------------------------------------------------------

    def test_the_residual_vector_of_its_own_solution_vanishes(self) -> None:
        """On every grid the residual of what `sample` and `solve` give is zero as a vector, and only of that."""
        require(self.tolerance <= 1e-3, f"a tolerance of {self.tolerance:g} lets anything pass; 1e-3 is the most")
        for grid in self.boxes():
            batch = self.sample(grid=grid)
            for made, solved in (("sample", batch), ("solve", self.system.solve(batch.with_targets(None)))):
                worst = float(self.missed(solved).max())
                require(
                    worst < self.tolerance, f"{grid}: the residual of what `{made}` gives is {worst:.3g} of u = 0's"
                )

    def test_wrong_fields_do_not_pass(self) -> None:
        """−u, 1.01 u, u shifted by one point and u mirrored leave a residual."""
        batch = self.sample()
        right = batch.require_targets()
        least = max(5e-3, 5 * self.tolerance)
        wrongs = {
            "-u": -right,
            "1.01 u": 1.01 * right,
            "a shifted u": right.roll(1, -1),
            "a mirrored u": right.flip(-1),
        }
        for told, wrong in wrongs.items():
            left = float(self.missed(batch.with_targets(wrong)).min())
            require(left > least, f"{told} passes as a solution: its residual is {left:.3g} of u = 0's")

    def test_it_solves_the_problem_it_is_given(self) -> None:
        """`solve` uses the inputs and coefficients of the batch, every one of them, and so does `residual`."""
        batch = self.sample()
        signature = batch.signature
        others: dict[str, Batch] = {}
        for index, name in enumerate(signature.inputs):
            fields_ = batch.inputs.clone()
            fields_[:, :, index] = fields_[:, :, index].roll(1, 0)
            others[f"input '{name}'"] = Batch(signature, batch.grid, fields_, batch.coefficients)
        for index, name in enumerate(signature.coefficients):
            numbers = batch.coefficients.clone()
            numbers[:, index] *= 1.01
            others[f"coefficient '{name}'"] = Batch(signature, batch.grid, batch.inputs, numbers)
        for told, other in others.items():
            other = other.with_targets(batch.targets)  # what solved the old problem does not solve this one
            old = float(self.missed(other).max())
            require(old > 10 * self.tolerance, f"`residual` does not see another {told}")
            new = float(self.missed(self.system.solve(other)).max())
            require(new < self.tolerance, f"`solve` does not see another {told}: it leaves {new:.3g} of u = 0's")

    def test_the_forcing_is_the_right_hand_side(self) -> None:
        """The residual is left minus right: what is added to an input called ``forcing`` is taken from the residual."""
        batch = self.sample()
        if "forcing" not in batch.signature.inputs or len(batch.signature.outputs) != 1:
            raise unittest.SkipTest("no input is called forcing, or there are several equations")
        index = batch.signature.inputs.index("forcing")
        inputs = batch.inputs.clone()
        inputs[:, :, index] = inputs[:, :, index].roll(1, 0)
        added = (inputs - batch.inputs)[:, :, index : index + 1]
        other = Batch(batch.signature, batch.grid, inputs, batch.coefficients, batch.targets)
        change = self.system.residual(other) - self.system.residual(batch)
        off = float((size_of(change + added) / size_of(added)).max())
        require(
            off < max(1e-8, self.tolerance), f"with d added to the forcing the residual does not lose d: off {off:.3g}"
        )

    def test_the_residual_has_a_gradient(self) -> None:
        """The residual is differentiable with respect to the targets."""
        batch = self.sample()
        guess = (1.1 * batch.require_targets()).requires_grad_()
        loss = self.system.residual(batch.with_targets(guess)).square().sum()
        require(loss.requires_grad, "the residual carries no gradient to the targets")
        (slope,) = torch.autograd.grad(loss, guess)
        require(
            slope.isfinite().all() and (size_of(slope) > 0).all(), "the gradient of the residual is zero or not finite"
        )

    def test_invariants_hold_for_solutions_and_not_for_others(self) -> None:
        """Every balance is zero for solutions, and notices a wrong field or a wrong problem."""
        batch = self.sample()
        balances = self.system.invariants(batch)
        require(bool(balances), "it names no balance; the work u·(Lu − f) always is one")
        right, inputs = batch.require_targets(), batch.inputs
        wrongs = [
            batch.with_targets(1.1 * right + 0.1),
            batch.with_targets(-right),
            batch.with_targets(right.roll(1, 0)),
        ]
        wrongs.append(Batch(batch.signature, batch.grid, 1.1 * inputs + 0.1, batch.coefficients, right))
        told = [self.system.invariants(wrong) for wrong in wrongs]
        for name, value in balances.items():
            require(value.shape == (NUM_TRIED,), f"'{name}' is one number a sample; got {tuple(value.shape)}")
            require(value.dtype == torch.float64, f"'{name}' is computed in float64; got {value.dtype}")
            worst = float(value.abs().max())
            require(worst < 0.1 * self.tolerance, f"'{name}' is {worst:.3g} for solutions")
            noticed = max(float(other[name].abs().min()) for other in told)
            require(noticed > 1e-3, f"'{name}' is at most {noticed:.3g} for wrong fields and wrong problems alike")

    def test_declared_homogeneities_are_exact(self) -> None:
        """Every scaling that it declares turns solutions into solutions."""
        batch = self.sample()
        for homogeneity in self.system.homogeneities:
            require(isinstance(homogeneity, Homogeneity), f"{homogeneity!r} is no scifm.fields Homogeneity")
            scaled = _scaled(batch, homogeneity, 3.7)
            worst = float(self.missed(scaled).max())
            require(worst < self.tolerance, f"{homogeneity} leaves a residual of {worst:.3g} of u = 0's")
            grown = homogeneity.size(scaled) / homogeneity.size(batch)
            exact = torch.allclose(grown, torch.full_like(grown, 3.7), rtol=1e-7, atol=0)
            require(exact, f"{homogeneity}: its gauge grows by {grown.tolist()} instead of 3.7")

    def test_asking_changes_nothing(self) -> None:
        """Solving and judging leave the batch that was given as it was."""
        batch = self.sample()
        before = {name: part_of(batch, name).clone() for name in PARTS}
        asks: dict[str, Callable[[Batch], object]] = {
            "solve": self.system.solve,
            "residual": self.system.residual,
            "invariants": self.system.invariants,
            "measured_knobs": self.system.measured_knobs,
        }
        for told, ask in asks.items():
            ask(batch)
            for name in PARTS:
                same = torch.equal(before[name], part_of(batch, name))
                require(same, f"`{told}` changes the batch's {name} in place")

    # --- knobs --------------------------------------------------------------------------------------------------------

    def test_every_knob_has_an_effect_and_can_be_fixed(self) -> None:
        """Fixing a knob, at the lower end of its range or inside, keeps all else and gives other problems."""
        grid = self.boxes()[-1]
        base = self.sample(grid=grid)
        require(bool(self.system.knobs), "it has no knobs, so its physics cannot be shifted")
        for name, knob in self.system.knobs.items():
            require(knob.low < knob.high, f"give the contract a system with a range of '{name}', not one value")
            problems = [base]
            for value in (knob.low, _inside(knob)):
                fixed = self.system.where(**{name: [value, value]})
                require(type(fixed) is type(self.system), f"fixing '{name}' gives {type(fixed).__name__}")
                kept = fixed.knobs[name]
                require(kept.low == kept.high == value, f"'{name}' fixed at {value:g} becomes {kept}")
                require(kept.integer == knob.integer, f"'{name}' forgets whether it is whole when it is fixed")
                problems.append(self.sample(of=fixed, grid=grid))
            for first, second in ((0, 1), (1, 2)):
                pairs = [(part_of(problems[first], part), part_of(problems[second], part)) for part in PARTS]
                same = all(torch.equal(one, other) for one, other in pairs)
                require(not same, f"'{name}' has no effect: with other values it gives the same problems")

    def test_measured_knobs_lie_where_they_were_drawn(self) -> None:
        """What `measured_knobs` gives lies in the range drawn from, and fills it; it may leave knobs out."""
        for dtype, part in ((d, p) for d in (torch.float32, torch.float64) for p in (0.0, 0.4, 1.0)):
            narrow = self.system.where(**dict(_narrowed(self.system, part)))
            measured = narrow.measured_knobs(self.sample(64, of=narrow, grid=self.boxes()[-1], dtype=dtype))
            unknown = sorted(set(measured) - set(self.system.knobs))
            require(not unknown, f"`measured_knobs` gives {unknown}, which are no knobs")
            for name, values in measured.items():
                knob = narrow.knobs[name]
                require(values.shape == (64,), f"'{name}' is one number a sample; got {tuple(values.shape)}")
                low, high = float(values.amin()), float(values.amax())
                slack = 1e-3 * max(abs(knob.low), abs(knob.high))
                inside = low >= knob.low - slack and high <= knob.high + slack
                require(inside, f"'{name}' drawn from {knob.low:g} to {knob.high:g} is measured as {low:g} to {high:g}")
                filled = _width(knob, low, high) > 0.5 * min(_width(knob, knob.low, knob.high), 3.0)
                require(filled, f"'{name}' drawn from {knob.low:g} to {knob.high:g} only is {low:g} to {high:g}")

    def test_a_fixed_knob_is_measured_as_it_was_fixed(self) -> None:
        """A knob that is fixed and can be measured is measured as just that value."""
        for name, knob in self.system.knobs.items():
            value = _inside(knob)
            fixed = self.system.where(**{name: value})
            measured = fixed.measured_knobs(self.sample(of=fixed, grid=self.boxes()[-1])).get(name)
            if measured is not None:
                off = float((measured - value).abs().max())
                scale = abs(value) or knob.high - knob.low
                require(off < 1e-4 * scale, f"'{name}' fixed at {value:g} is off by {off:.3g}")

    # --- devices ------------------------------------------------------------------------------------------------------

    def test_batches_are_made_on_the_device(self) -> None:
        """Given a generator on a GPU, everything happens there."""
        if not torch.cuda.is_available():
            raise unittest.SkipTest("no CUDA device")
        generator = generator_for(0, device="cuda")
        batch = self.system.sample(NUM_TRIED, self.boxes()[0], generator, dtype=torch.float64)
        require(batch.require_targets().is_cuda, "the generator lives on a GPU, the samples do not")
        require((self.missed(batch) < self.tolerance).all(), "what is solved on a GPU leaves a residual")


def _scaled(batch: Batch, homogeneity: Homogeneity, factor: float) -> Batch:
    def factors(names: tuple[str, ...], num_dims: int) -> Tensor:
        values = [factor ** homogeneity.exponent(name) for name in names]
        return torch.tensor(values, dtype=torch.float64).view(-1, *(1,) * num_dims)

    signature = batch.signature
    dims = signature.num_spatial_dims
    return Batch(
        signature,
        batch.grid,
        batch.inputs * factors(signature.inputs, dims),
        batch.coefficients * factors(signature.coefficients, 0),
        batch.require_targets() * factors(signature.outputs, dims),
    )


def _inside(knob: Knob) -> float:
    return knob.high if knob.integer else knob.low + 0.37 * (knob.high - knob.low)


def _width(knob: Knob, low: float, high: float) -> float:
    return math.log(high / low) if knob.scale == "log" else high - low


def _narrowed(system: System, part: float) -> Iterator[tuple[str, object]]:
    """Yield ranges of 0.4 of the width of each knob, from the lower end (part 0) to the upper end (part 1)."""
    for name, knob in system.knobs.items():
        if knob.integer:
            yield name, knob
        elif knob.scale == "log":
            ratio = knob.high / knob.low
            low = knob.low * ratio ** (0.6 * part)
            yield name, [low, min(low * ratio**0.4, knob.high)]
        else:
            low = knob.low + 0.6 * part * (knob.high - knob.low)
            yield name, [low, min(low + 0.4 * (knob.high - knob.low), knob.high)]
