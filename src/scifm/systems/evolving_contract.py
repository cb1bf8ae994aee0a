"""What every evolving system promises beyond `SystemContract`: that its march is one of the equation it writes down.

In a test file of your own package::

    from scifm.systems.evolving_contract import EvolvingContract

    class TestMyWave(EvolvingContract):
        system = MyWave()
        tolerance = 1e-6
"""

from __future__ import annotations

import math
import unittest
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import spread_of
from scifm.systems.contract import SystemContract, require, size_of, twice_as_fine
from scifm.systems.evolving import Evolving
from scifm.systems.made_once import once
from scifm.systems.system import System

__all__ = ["EvolvingContract"]

_EXACT = 1e-12  # of a solver that has no error in time, relative to the state


class EvolvingContract(SystemContract):
    """All promises of an evolving system.

    Attributes:
        order_tolerance: by how much the observed order of the solver may miss the one it says.
        order_refined: divides the solver's own step before its order is looked at: more than 1 for stiff equations, of
            which schemes show their order at short steps only.
        tendency_tolerance: largest difference between the rate at which the solver's state changes and the right-hand
            side, over the latter; what the solver leaves out, such as modes beyond those it keeps, counts in.
        short: the time over which that rate is seen, in parts of `save_interval`.
    """

    system: Evolving
    points: ClassVar[Mapping[int, tuple[tuple[int, ...], ...]]] = {
        **SystemContract.points,
        1: ((130,), (128,), (95,)),
    }  # fronts are thin
    scaling: ClassVar[float] = 1.25  # the solver's step follows the knobs, not the state
    order_tolerance: ClassVar[float] = 0.2
    order_refined: ClassVar[int] = 1
    tendency_tolerance: ClassVar[float] = 1e-3
    short: ClassVar[float] = 1e-4

    def quick(self, system: System) -> System:
        """Return the system with trajectories of two frames and next to no time between them."""
        time = self.short * self.system.save_interval
        return replace(system, save_interval=time, num_frames=2)  # type: ignore[type-var]

    def problem(self, num: int = 3, *, fine: bool = False) -> tuple[Tensor, Tensor, Grid]:
        """Return developed states ``(num, inputs, *space)``, coefficients and the grid, the first or twice as fine.

        Made once for all promises; none of them changes it.
        """
        return once(self, "problem", lambda: self._problem(num, fine=fine), self.boxes()[0], num, fine)

    def _problem(self, num: int, *, fine: bool) -> tuple[Tensor, Tensor, Grid]:
        grid, system = self.boxes()[0], self.system
        grid = twice_as_fine(grid) if fine else grid
        device = torch.device("cpu")
        inputs, coefficients = system.initial(num, grid, generator_for(0, "contract"), device)
        frames = system.advance(inputs, coefficients, grid, interval=system.save_interval, num_frames=1)
        inputs = inputs.clone()
        for place, name in enumerate(system.signature.outputs):
            inputs[:, system.signature.inputs.index(name)] = frames[:, -1, place]
        return inputs, coefficients, grid

    def test_trajectories_say_their_times(self) -> None:
        """A sample is a trajectory: `num_frames` frames, `save_interval` apart, the first at time 0 as input."""
        batch, system = self.sample(2), self.system
        require(batch.num_frames == system.num_frames - 1, f"a trajectory has {batch.num_frames + 1} frames")
        assert batch.lead_time is not None
        steps = torch.full_like(batch.lead_time, system.save_interval).cumsum(1)
        require(torch.allclose(batch.lead_time, steps), f"frames are at {batch.lead_time[0].tolist()}")

    def test_budgets_are_met_by_solutions_and_not_by_others(self) -> None:
        """What it says of the integral of an output at every frame holds for its solutions, and for no wrong field."""
        batch = self.tried()
        for name, values in self.system.budgets(batch).items():
            require(name in batch.signature.outputs, f"'{name}' is no output, and has a budget")
            require(values.dtype == torch.float64, f"the budget of '{name}' is in float64; got {values.dtype}")
            field = batch.target(name)
            require(values.shape == field.shape[:2], f"the budget of '{name}' is {tuple(values.shape)}")
            size = integral(field.abs(), batch.grid)
            off = float(((integral(field, batch.grid) - values).abs() / size).max())
            require(off < 0.1 * self.tolerance, f"the solver misses the budget of '{name}' by {off:.3g} of its size")
            other = float(
                (
                    (
                        integral(
                            1.01 * field + 0.01 * size.view(*size.shape, *(1,) * batch.grid.num_spatial_dims),
                            batch.grid,
                        )
                        - values
                    ).abs()
                    / size
                ).min()
            )
            require(other > 1e-4, f"a wrong field meets the budget of '{name}'")

    def test_what_has_no_divergence_is_told(self) -> None:
        """Of the fields that it calls solenoidal solutions have no divergence, and others have."""
        names, batch = self.system.solenoidal, self.tried()
        if not names:
            raise unittest.SkipTest("it says of no field that it has no divergence")
        require(set(names) <= set(self.system.signature.outputs), f"{names} are not all outputs")
        require(len(names) == batch.grid.num_spatial_dims, f"{names} are not one component an axis")
        off = float(spread_of([batch.target(name) for name in names], batch.grid).max())
        require(off < 1e-12, f"the divergence of solutions is {off:.3g} of their gradient")
        other = float(spread_of([batch.target(name).flip(-1) for name in names], batch.grid).min())
        require(other > 1e-3, "a wrong field has no divergence either")

    def test_the_march_follows_the_equation(self) -> None:
        """The rate at which the state changes is the right-hand side, which is written without the solver.

        On a grid twice as fine as the first, as fine as those in use: the two may differ in what a grid cannot hold.
        """
        inputs, coefficients, grid = self.problem(fine=True)
        system, time = self.system, self.short * self.system.save_interval
        frames = system.advance(inputs, coefficients, grid, interval=time, num_frames=4)
        outputs = system.signature.state_places
        frames = torch.cat([inputs[:, None, outputs], frames], dim=1)
        weights = torch.tensor([-25 / 12, 4, -3, 4 / 3, -1 / 4], dtype=torch.float64)  # a one-sided slope of order 4
        rate = torch.einsum("t,bt...->b...", weights / time, frames)
        right = system.tendency(inputs, coefficients, grid)
        require(right.shape == rate.shape, f"the tendency is {tuple(rate.shape)}; got {tuple(right.shape)}")
        off = float((size_of(rate - right) / size_of(right)).max())
        require(off < self.tendency_tolerance, f"the state changes otherwise than the right-hand side says: {off:.3g}")

    def test_the_forcing_is_the_right_hand_side(self) -> None:
        """What is added to an input called ``forcing`` is added to the rate at which the state changes."""
        names = self.system.signature
        if "forcing" not in names.inputs or len(names.outputs) != 1:
            raise unittest.SkipTest("no input is called forcing, or there are several equations")
        inputs, coefficients, grid = self.problem()
        index = names.inputs.index("forcing")
        other = inputs.clone()
        other[:, index] = inputs[:, names.inputs.index(names.outputs[0])]
        added = (other - inputs)[:, index : index + 1]
        change = self.system.tendency(other, coefficients, grid) - self.system.tendency(inputs, coefficients, grid)
        off = float((size_of(change - added) / size_of(added)).max())
        require(off < 1e-8, f"with d added to the forcing the rate does not gain d: off {off:.3g}")

    def test_halving_the_step_shows_the_order(self) -> None:
        """The error in time falls as the order says when the solver's step is halved; or there is none."""
        inputs, coefficients, grid = self.problem()
        system = self.system

        def marched(refine: int) -> Tensor:
            return system.advance(
                inputs, coefficients, grid, interval=system.save_interval, num_frames=1, refine=refine
            )

        coarse, fine, finest = (marched(self.order_refined * refine) for refine in (1, 2, 4))
        size = size_of(finest).clamp(min=1e-300)
        first, second = (float((size_of(one - other) / size).max()) for one, other in ((coarse, fine), (fine, finest)))
        if first < _EXACT:
            return
        order = math.log2(first / max(second, 1e-300))
        require(abs(order - system.order) < self.order_tolerance, f"the order is {order:.2f}, not {system.order}")
        own = first if self.order_refined == 1 else float((size_of(marched(1) - finest) / size).max())
        require(own < 1e-3, f"at its own step the solver errs by {own:.3g}: shorten it")

    def test_two_marches_are_one(self) -> None:
        """What is marched to a frame and on from there is what is marched at once."""
        inputs, coefficients, grid = self.problem()
        system = self.system
        whole = system.advance(inputs, coefficients, grid, interval=system.save_interval, num_frames=3)
        half = inputs.clone()
        for place, name in enumerate(system.signature.outputs):
            half[:, system.signature.inputs.index(name)] = whole[:, 0, place]
        rest = system.advance(half, coefficients, grid, interval=system.save_interval, num_frames=2)
        off = float((size_of(rest - whole[:, 1:]) / size_of(whole[:, 1:])).max())
        require(off < 1e-9, f"the march forgets or remembers: {off:.3g}")

    def test_a_sample_does_not_hang_on_the_others(self) -> None:
        """A trajectory is the same whatever is marched beside it."""
        inputs, coefficients, grid = self.problem()
        system, time = self.system, self.system.save_interval
        together = system.advance(inputs, coefficients, grid, interval=time, num_frames=1)
        alone = system.advance(inputs[1:2], coefficients[1:2], grid, interval=time, num_frames=1)
        off = float((size_of(together[1:2] - alone) / size_of(alone)).max())
        require(off < 1e-12, f"a trajectory changes by {off:.3g} when others are marched beside it")
