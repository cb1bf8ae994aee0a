"""What every system promises; joining `SYSTEMS` earns these tests. `scifm.systems.contract` holds them for all."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from scifm.fields.grid import Grid
from scifm.systems.catalog import SYSTEMS
from scifm.systems.contract import SystemContract
from scifm.systems.evolving import Evolving
from scifm.systems.evolving_contract import EvolvingContract

ELSEWHERE = (
    "helmholtz_medium",
)  # has grids of its own, and no reference paper: tests/systems/test_helmholtz_medium.py
STEADY = [name for name, system in SYSTEMS.items() if not issubclass(system, Evolving) and name not in ELSEWHERE]
STIFF = {"kuramoto_sivashinsky": 16}  # divides their step until the solver's order shows
EVOLVING = [name for name, system in SYSTEMS.items() if issubclass(system, Evolving)]
SHORT = {
    "navier_stokes": 0.25,
    "incompressible_flow": 0.25,
    "allen_cahn": 0.25,
    "gray_scott": 0.25,
}  # parts of their time between frames
SHORT |= dict.fromkeys(("shallow_water", "euler", "compressible_navier_stokes"), 0.2)
SLOW = {"compressible_navier_stokes": pytest.mark.slow}  # its march is that of euler, and more of it


class TestOwnSystems(SystemContract):
    """The contract on each of ours, and what we promise of ours beyond it."""

    @pytest.fixture(autouse=True, params=STEADY)
    def choose(self, request):
        self.system = SYSTEMS[request.param]()

    @pytest.mark.gpu
    def test_batches_are_made_on_the_device(self):
        super().test_batches_are_made_on_the_device()

    def test_the_residual_is_small_beside_the_forcing(self):
        for grid in self.boxes():
            batch = self.sample(grid=grid)
            for solved in (batch, self.system.solve(batch.with_targets(None))):
                size = self.system.residual(solved).flatten(1).norm(dim=1)
                assert (size / batch.inputs.flatten(1).norm(dim=1)).max() < 1e-10

    def test_every_balance_but_that_of_the_mean_notices_one_wrong_field(self):
        batch = self.sample()
        wrong = self.system.invariants(batch.with_targets(1.1 * batch.targets + 0.1))
        for name, value in wrong.items():
            if name != "mean_balance" or not self.system.zero_mean:  # without a zeroth-order term mean(Lu) is always 0
                assert value.abs().min() > 1e-3, name

    def test_every_forcing_is_another_one(self):
        first, other = (self.sample(seed=seed, dtype=torch.float32) for seed in (0, 1))
        assert (first.inputs != other.inputs).any(dim=(1, 2, 3, 4)).all()
        assert len({row.numpy().tobytes() for row in first.inputs}) == len(first)

    def test_every_knob_changes_the_coefficients(self):
        base = self.sample(grid=self.boxes()[-1])
        for name, knob in self.system.knobs.items():
            fixed = self.system.where(**{name: [knob.low, knob.low]})
            assert not torch.equal(self.sample(of=fixed, grid=self.boxes()[-1]).coefficients, base.coefficients), name

    def test_every_knob_can_be_measured(self):
        for dtype in (torch.float32, torch.float64):
            assert set(self.system.measured_knobs(self.sample(dtype=dtype))) == set(self.system.knobs)

    def test_the_reference_paper_is_named(self):
        assert "arXiv:2306.00258" in inspect.getdoc(sys.modules[type(self.system).__module__])


# Finite volumes: small, for a step costs more than a spectral one; on grids this coarse they are off by this much in
# space. Their own tests see that fall at second order.
VOLUMES = {"shallow_water": 0.1, "euler": 0.1, "compressible_navier_stokes": 0.1}
FRONTS = ("porous_medium", "stefan", "advected_step", "burgers_ramp")  # on intervals with ends; a step is thin
LINES = tuple(Grid((num,), (side,), "open") for num, side in ((131, 1.3), (129, 1.0), (96, 1.0)))
_SHAPES = (((20, 30), (0.7, 1.1)), ((24, 24), (1.0, 1.0)), ((17, 21), (1.0, 1.0)))
SMALL = tuple(Grid(shape, sides, (True, True)) for shape, sides in _SHAPES)


@pytest.fixture(scope="class", params=[pytest.param(name, marks=SLOW.get(name, ())) for name in EVOLVING])
def chosen(request) -> str:
    """Of a class, so that all promises of a system stand beside each other and share what it samples."""
    return request.param


class TestOwnEvolvingSystems(EvolvingContract):
    """The contract on each of ours that evolves."""

    tolerance = 1e-5
    num_tried = 4
    points: ClassVar = {**EvolvingContract.points, 2: ((40, 66), (32, 32), (21, 27))}

    @pytest.fixture(autouse=True)
    def choose(self, chosen):
        self.system = SYSTEMS[chosen](num_frames=3)
        self.system = replace(self.system, save_interval=self.system.save_interval * SHORT.get(chosen, 1))
        self.order_refined = STIFF.get(chosen, 1)
        if chosen in VOLUMES:
            self.grids, self.tendency_tolerance = SMALL, VOLUMES[chosen]
        if chosen in FRONTS:
            self.grids = LINES

    @pytest.mark.gpu
    def test_batches_are_made_on_the_device(self):
        super().test_batches_are_made_on_the_device()
