"""Data that are said to be of a system are believed only where names and numbers say so too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from scifm.config import build_config
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import import_data, open_data
from scifm.data.normalize import fit_normalization
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.poisson import Poisson

GRID = Grid((16, 24), (1.0, 2.0), (True, True))
NUM = 6


def drawn(system, grid=GRID):
    return system.sample(NUM, grid, generator_for(0, "known"), dtype=torch.float64)


def write(path, batch, *, solution=None):
    """Write samples as arrays of other names."""
    solution = batch.require_targets().numpy() if solution is None else solution
    np.savez(path, f=batch.inputs[:, 0, 0].numpy(), u=solution[:, 0, 0], table=batch.coefficients.numpy())
    return path


def mapping_of(ours, **changes):
    def field(array, role):
        return {"array": array, "axes": ["trajectory", "y", "x"], "role": role}

    names = enumerate(ours.signature.coefficients)
    entries = {
        "format": "arrays",
        "system": ours.name,
        "fields": {"forcing": field("f", "input"), "solution": field("u", "output")},
        "coefficients": {name: {"array": "table", "channel": place} for place, name in names},
        "extent": {"y": 1.0, "x": 2.0},
        "boundary": {"y": "periodic", "x": "periodic"},
    }
    return build_config(DataMapping, {**entries, **changes}, source="a test")


@pytest.mark.parametrize("name", tiny.STEADY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_store_knows_what_a_generated_one_knows(name, dtype, tmp_path):
    system = tiny.STEADY[name]()
    path = write(tmp_path / "a.npz", drawn(system))
    store = Store.open(import_data(path, tmp_path / "store", mapping_of(system, dtype=dtype)).path)
    assert store.homogeneities == system.homogeneities
    assert store.card.equation == system.equation
    assert store.card.source.mapping["system"] == name
    samples = store.split("train").load()
    ours = fit_normalization(samples, store.homogeneities, kind="joint")
    assert ours == fit_normalization(samples, system.homogeneities, kind="joint")
    assert len(ours.homogeneities) == 1


def test_without_system_nothing_is_known(tmp_path):
    path = write(tmp_path / "a.npz", drawn(Poisson()))
    store = open_data(path, mapping_of(Poisson(), system=None))
    assert (store.homogeneities, store.card.equation) == ((), "")


def test_a_sentence_of_ones_own_stays(tmp_path):
    path = write(tmp_path / "a.npz", drawn(Poisson()))
    assert open_data(path, mapping_of(Poisson(), equation="heat, at rest")).card.equation == "heat, at rest"


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda u: -u, "2"),
        (lambda u: u * 1.1, "0.1"),
        (lambda u: np.concatenate([u[:1], np.zeros_like(u[1:])]), "1"),
    ],
)
def test_what_does_not_solve_the_equation_is_refused_with_how_much_is_left(change, left, tmp_path):
    batch = drawn(Poisson())
    path = write(tmp_path / "a.npz", batch, solution=change(batch.require_targets().numpy()))
    with pytest.raises(DataError, match=rf"sample [01] does not solve .* \(residual {left} of the forcing\)") as told:
        open_data(path, mapping_of(Poisson()))
    assert "\n" not in str(told.value)


def test_a_wrong_extent_is_noticed(tmp_path):
    path = write(tmp_path / "a.npz", drawn(Poisson()))
    with pytest.raises(DataError, match="Look at signs, units, the extent"):
        open_data(path, mapping_of(Poisson(), extent={"y": 1.0, "x": 1.0}))


def test_fine_grids_in_float32_are_believed(tmp_path):
    """A residual takes derivatives, so rounding of the solution alone leaves more the finer the grid is."""
    batch = Poisson().sample(1, Grid.square(1024), generator_for(1, "fine"))
    share = Poisson().residual(batch.to(dtype=torch.float64)).norm() / batch.inputs.norm()
    assert share > 0.02
    path = write(tmp_path / "a.npz", batch)
    box = {"extent": {"y": 1.0, "x": 1.0}, "splits": {"train": 1.0}}
    assert open_data(path, mapping_of(Poisson(), **box)).homogeneities
    write(path, batch, solution=-batch.require_targets().numpy())
    with pytest.raises(DataError, match="residual 2 of the forcing"):
        open_data(path, mapping_of(Poisson(), **box))


def test_nothing_driven_by_nothing_solves_it(tmp_path):
    batch = drawn(Poisson())
    silent = batch.with_targets(torch.zeros_like(batch.require_targets()))
    path = tmp_path / "a.npz"
    zeros = np.zeros((NUM, *GRID.num_points))
    np.savez(path, f=zeros, u=zeros, table=silent.coefficients.numpy())
    assert open_data(path, mapping_of(Poisson())).homogeneities


def test_names_have_to_be_those_of_the_system(tmp_path):
    path = write(tmp_path / "a.npz", drawn(Poisson()))
    with pytest.raises(ConfigError, match=r"which has inputs forcing, coefficients diffusion_xx.*the mapping has"):
        open_data(path, mapping_of(Poisson(), coefficients={"k": 1.0}))
    with pytest.raises(ConfigError, match="Did you mean 'poisson'"):
        open_data(path, mapping_of(Poisson(), system="poison"))


def test_a_box_that_the_system_is_not_defined_on_is_refused(tmp_path):
    path = write(tmp_path / "a.npz", drawn(Poisson()))
    with pytest.raises(SignatureError, match="periodic"):
        open_data(path, mapping_of(Poisson(), boundary={"y": "periodic", "x": "wall"}))


def test_numbers_that_are_none_are_told_with_their_place(tmp_path):
    batch = drawn(Poisson())
    solution = batch.require_targets().numpy().copy()
    solution[2, 0, 0, 3, 3] = np.nan
    with pytest.raises(DataError, match=r"'solution' holds NaN or infinity.*sample 2"):
        open_data(write(tmp_path / "a.npz", batch, solution=solution), mapping_of(Poisson()))
