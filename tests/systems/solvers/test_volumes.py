"""The compiled march gives what torch gives, for every equation, box and number of threads; subclasses keep theirs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest
import torch

import finite_volume_problems as problems
import scifm.native
from compiled_anew import emptied
from scifm.errors import DataError
from scifm.fields.grid import Grid
from scifm.systems import finite_volume_system
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes
from scifm.systems.euler import Euler
from scifm.systems.initial_cells import CellFields
from scifm.systems.shallow_water import ShallowWater
from scifm.systems.solvers import volumes

needs_compiled = pytest.mark.skipif(volumes.library(torch.float64) is None, reason="needs Linux and a C compiler")
SYSTEMS = (ShallowWater, Euler, CompressibleNavierStokes)


@pytest.fixture
def emulated_march(emulated, monkeypatch) -> None:
    """Let the march be that of a processor with NEON."""
    monkeypatch.setattr(volumes, "library", lambda dtype: emulated(volumes.sources(128, dtype)))


def through_torch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(finite_volume_system, "volumes_for", lambda tensor: None)


def both(system, grid, dtype=torch.float64, num_samples=3):
    """Return two frames as C and as torch make them; refined steps are among them."""
    inputs, numbers = (part.to(dtype) for part in problems.drawn(system, grid, num_samples))
    about = {"interval": 0.04, "num_frames": 2, "refine": 2}
    compiled = system.advance(inputs, numbers, grid, **about)
    with pytest.MonkeyPatch.context() as patch:
        through_torch(patch)
        return compiled, system.advance(inputs, numbers, grid, **about)


BOUNDARIES = ("periodic", "wall", "open")
BOXES = [
    *((points, boundary) for points in ((40,), (16, 20), (33, 7), (8, 10, 9)) for boundary in BOUNDARIES),
    ((70, 130), "wall"),
    *(pytest.param((70, 130), boundary, marks=pytest.mark.slow) for boundary in ("periodic", "open")),
    *(pytest.param((5, 6, 40), boundary, marks=pytest.mark.slow) for boundary in BOUNDARIES),
]


@needs_compiled
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("num_points", "boundary"), BOXES)
def test_it_is_what_torch_does(system, boundary, num_points):
    """Blocks of water and gas with jumps; the largest box is cut into several blocks along both axes."""
    assert_what_torch_does(system, boundary, num_points)


@pytest.mark.slow
@needs_compiled
@pytest.mark.usefixtures("emulated_march")
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("num_points", "boundary"), [((24,), "open"), ((10, 12), "periodic"), ((5, 6, 5), "wall")])
def test_with_neon_emulated_it_is_too(system, boundary, num_points):
    assert_what_torch_does(system, boundary, num_points)


def assert_what_torch_does(system, boundary, num_points) -> None:
    dims = len(num_points)
    ends = ["periodic" if axis == 1 else boundary for axis in range(dims)]
    grid = Grid(num_points, (1.1, 0.7, 1.9)[-dims:], ends)
    made = system(num_spatial_dims=dims, contrast=0.2, initial_state=CellFields("blocks"))
    several = 1 if num_points == (70, 130) else 3
    compiled, plain = both(made, grid, num_samples=several)
    assert not torch.equal(compiled, plain)  # two ways were gone, not one twice
    torch.testing.assert_close(compiled, plain, rtol=1e-12, atol=1e-12)
    assert (compiled[:, 0] - compiled[:, 1]).abs().max() > 1e-3
    compiled, plain = both(made, grid, torch.float32, several)
    assert compiled.dtype == torch.float32
    torch.testing.assert_close(compiled, plain, rtol=2e-5, atol=2e-5)


@needs_compiled
@pytest.mark.parametrize("system", SYSTEMS)
def test_it_does_not_depend_on_threads_or_on_who_else_is_there(system):
    """Samples are shared out where there are many, blocks of a sample where it is alone."""
    grid = Grid((96, 80), (1.0, 0.9), ("periodic", "wall"))
    inputs, numbers = problems.drawn(system(), grid, 3)
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(system().advance(inputs, numbers, grid, interval=0.01, num_frames=1))
            alone = system().advance(inputs[1:2], numbers[1:2], grid, interval=0.01, num_frames=1)
            torch.testing.assert_close(alone, found[-1][1:2], rtol=1e-14, atol=1e-14)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@needs_compiled
def test_near_a_vacuum_both_fall_back_to_the_first_order():
    states, grid, _ = problems.broken_states([1, -2, 0.4], [1, 2, 0.4], 100)
    system, ratio = Euler(num_spatial_dims=1), torch.full((1, 1), 1.4, dtype=torch.float64)
    compiled = system.advance(states, ratio, grid, interval=0.15, num_frames=1)
    with pytest.MonkeyPatch.context() as patch:
        through_torch(patch)
        plain = system.advance(states, ratio, grid, interval=0.15, num_frames=1)
    assert compiled[:, :, [0, -1]].min() > 0
    torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-9)


@needs_compiled
@pytest.mark.parametrize("where", [0, 7, 19])
def test_numbers_that_are_none_are_told_wherever_they_begin(where):
    system, grid = Euler(), Grid((16, 20), (1.0, 1.0), ("periodic", "wall"))
    inputs, numbers = problems.drawn(system, grid)
    inputs[0, -1, 5, where] = -1.0
    with pytest.raises(DataError, match="density, pressure must stay positive"):
        system.advance(inputs, numbers, grid, interval=0.1, num_frames=1)


@dataclass(frozen=True)
class Still(Euler):
    """Another equation: nothing flows."""

    def flux(self, before, behind, normal, coefficients):
        return torch.zeros_like(before)


def test_a_subclass_with_a_flux_of_its_own_is_marched_by_it():
    grid = Grid((16, 20), 1.0)
    inputs, numbers = problems.drawn(Still(), grid)
    later = Still().advance(inputs, numbers, grid, interval=0.1, num_frames=1)[:, 0]
    torch.testing.assert_close(later, inputs, rtol=1e-13, atol=1e-13)


def test_other_precisions_and_devices_go_through_torch():
    assert volumes.volumes_for(torch.zeros(1, dtype=torch.float16)) is None
    assert volumes.volumes_for(torch.zeros(1, device="meta")) is None
    assert volumes.volumes_for(torch.zeros(0)) is None


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    with emptied(monkeypatch, tmp_path, volumes.library) as folder:
        yield folder


@needs_compiled
def test_each_precision_is_compiled_once(fresh):
    for dtype in (torch.float32, torch.float64, torch.float32):
        assert volumes.library(dtype) is not None
    assert len(list((fresh / "scifm").iterdir())) == 2


def test_without_a_compiler_torch_marches_and_it_is_said_once(fresh, monkeypatch):
    monkeypatch.delenv("SCIFM_NATIVE", raising=False)
    monkeypatch.setattr(scifm.native.sys, "platform", "linux")
    monkeypatch.setattr(scifm.native.shutil, "which", lambda name: None)
    grid = Grid((12, 12), 1.0)
    inputs, numbers = problems.drawn(Euler(), grid)
    with pytest.warns(RuntimeWarning, match="no C compiler was found"):
        later = Euler().advance(inputs, numbers, grid, interval=0.01, num_frames=1)
    assert bool(torch.isfinite(later).all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Euler().advance(inputs.float(), numbers.float(), grid, interval=0.01, num_frames=1)


@needs_compiled
def test_without_wide_vectors_it_is_compiled_too(fresh, monkeypatch):
    """Plain C, as for a processor without AVX."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    system, grid = ShallowWater(), Grid((16, 20), (1.0, 1.0), ("periodic", "wall"))
    compiled, plain = both(system, grid)
    assert not torch.equal(compiled, plain)
    torch.testing.assert_close(compiled, plain, rtol=1e-12, atol=1e-12)
