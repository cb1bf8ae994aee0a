"""Inputs of a system as a problem of their own: nothing is solved where that is not needed, frames are as marched."""

from __future__ import annotations

import pytest
import torch

import tiny
from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import generator_for
from scifm.systems.acoustic import Acoustic
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import SYSTEMS
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.systems.reconstruction import Reconstruction

LINE = Grid((64,))


@pytest.mark.parametrize("system", [Poisson(), AdvectionDiffusion(), Helmholtz()], ids=lambda system: system.name)
@pytest.mark.parametrize("points", [16, 64])
def test_of_a_steady_system_nothing_is_solved(system, points, monkeypatch):
    whole = system.sample(40, Grid.square(points), generator_for(0, "inputs"))

    def refused(*given, **named):
        raise AssertionError("a solution was computed")

    for name in ("inverse_symbol", "divide", "solve_field"):
        monkeypatch.setattr(f"scifm.systems.periodic_elliptic.{name}", refused)
    batch = Reconstruction(system).sample(40, Grid.square(points), generator_for(0, "inputs"))
    assert batch.signature.outputs == ("forcing_whole",)
    assert torch.equal(batch.require_targets(), batch.inputs)
    assert batch.require_targets().data_ptr() != batch.inputs.data_ptr()
    if not isinstance(system, Helmholtz):  # which rejects by its solution
        assert torch.equal(batch.inputs, whole.inputs)
        assert torch.equal(batch.coefficients, whole.coefficients)


def test_what_a_rule_on_solutions_rejects_is_kept():
    system = Helmholtz(wavenumber_shift=Knob(2, 2, integer=True), max_solution=1e-3)  # no solution is that small
    assert Reconstruction(system).sample(4, Grid.square(16), generator_for(0, "inputs")).num_samples == 4


@pytest.mark.parametrize("system", [Burgers(num_frames=5), Acoustic(num_frames=4)], ids=lambda system: system.name)
def test_frames_of_what_evolves_are_samples_of_their_own(system):
    grid = LINE if system.signature.num_spatial_dims == 1 else Grid.square(32, extent=1.0)
    batch = Reconstruction(system, per_trajectory=3).sample(7, grid, generator_for(0, "frames"))
    drawn = system.sample(3, grid, generator_for(0, "frames"))  # 7 samples take 3 trajectories
    names = system.signature
    frames = []
    for place, name in enumerate(names.inputs):
        first = drawn.inputs[:, :, place]
        later = (
            drawn.target(name) if name in names.outputs else first.expand(-1, system.num_frames - 1, *grid.num_points)
        )
        frames.append(torch.cat([first, later], dim=1))
    known = torch.stack(frames, dim=2)  # (trajectory, frame, input, *space)
    assert (batch.signature.evolves, batch.lead_time, batch.num_samples) == (False, None, 7)
    assert batch.signature.outputs == tuple(f"{name}_whole" for name in names.inputs)
    found = []
    for row in range(7):
        same = (known == batch.inputs[row]).flatten(2).all(dim=2).nonzero().tolist()
        assert len(same) >= 1  # a frame, whole, of one trajectory
        found.append(tuple(same[0]))
        assert torch.equal(batch.coefficients[row], drawn.coefficients[same[0][0]])
    assert len(set(found)) == 7
    assert [trajectory for trajectory, _ in found[:3]] == [0, 1, 2]  # one of each first
    assert {frame for _, frame in found} & {0, system.num_frames - 1}  # the last frame is one as any other
    assert torch.equal(batch.require_targets(), batch.inputs)


@pytest.mark.parametrize("name", SYSTEMS)
def test_scalings_hold_for_whole_fields(name):
    """An answer that gives back what it is shown stays right when the problem is scaled."""
    system = Reconstruction(SYSTEMS[name]())
    names = system.signature
    for scaling in system.homogeneities:
        for field in names.inputs:
            assert scaling.exponent(f"{field}_whole") == scaling.exponent(field)
        assert scaling.exponent("lead_time") == 0
        assert not any(
            scaling.exponent(output) for output in system.base.signature.outputs if output not in names.inputs
        )


def test_it_is_the_problem_u_equals_f():
    system = Reconstruction(Poisson())
    batch = system.sample(3, tiny.GRID, generator_for(0, "inputs"), dtype=torch.float64)
    assert system.residual(batch).abs().max() == 0
    assert torch.equal(system.solve(batch.with_targets(None)).require_targets(), batch.inputs)
    assert system.invariants(batch) == {}
    assert system.residual(batch.with_targets(2 * batch.inputs)).equal(batch.inputs)
    with pytest.raises(SignatureError, match="needs a batch with"):
        system.residual(tiny.batch())


def test_it_says_of_itself_what_its_system_does():
    system = Reconstruction(Poisson(anisotropy=Knob(1, 20)), per_trajectory=2)
    assert (system.name, system.title, system.knobs) == ("poisson", "Poisson", system.base.knobs)
    assert system.to_dict() == system.base.to_dict()
    assert system.where(anisotropy=[5, 6]).base.anisotropy == Knob(5, 6)


@pytest.mark.parametrize(
    ("system", "asked", "told"),
    [
        (Reconstruction(Poisson()), {"num_samples": 0, "grid": tiny.GRID}, "at least 1 sample"),
        (Reconstruction(Burgers()), {"num_samples": 0, "grid": LINE}, "at least 1 sample"),
    ],
)
def test_no_samples_are_refused(system, asked, told):
    with pytest.raises(ConfigError, match=told):
        system.sample(**asked)


def test_an_evolving_system_draws_first_frames_without_marching(monkeypatch):
    system = Burgers()
    whole = system.sample(3, LINE, generator_for(0, "first"))
    monkeypatch.setattr(Burgers, "advance", lambda *given, **named: pytest.fail("it marched"))
    alone = system.sample_inputs(3, LINE, generator_for(0, "first"))
    assert torch.equal(alone.inputs, whole.inputs)
    assert (alone.targets, alone.lead_time) == (None, None)


def test_normalizations_are_fitted_on_them():
    from scifm.data.normalize import fit_normalization

    system = Reconstruction(Poisson())
    batch = system.sample(64, tiny.GRID, generator_for(0, "inputs"))
    fitted = fit_normalization(batch, system.homogeneities)
    assert isinstance(fitted, Normalization)
    encoded = fitted.encode(batch)
    answer = (batch.require_targets() / encoded.output_scale).square().mean()
    assert float(answer) == pytest.approx(1, rel=0.1)
