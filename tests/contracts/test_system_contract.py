"""What every system promises; joining `SYSTEMS` earns these tests."""

from __future__ import annotations

import inspect
import json
import sys

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import SYSTEMS, system_from_dict
from scifm.systems.system import SamplingRecord

every_system = pytest.mark.parametrize("system", [make() for make in SYSTEMS.values()], ids=list(SYSTEMS))
UNEQUAL = Grid((40, 66), (0.7, 1.9), (True, True))
SQUARE = Grid.square(64)
TEMPLATE = (
    "Equation",
    "Sign convention",
    "Domain and boundary",
    "Fields",
    "Coefficients",
    "Knobs",
    "Dimensionless groups",
    "Exact solution",
    "Solver and order",
    "Good values",
    "Where it breaks",
    "References",
)


def sample(system, num=6, grid=UNEQUAL, seed=0, dtype=torch.float64, **others):
    return system.sample(num, grid, generator_for(seed, "contract"), dtype=dtype, **others)


def size(tensor):
    return tensor.flatten(1).norm(dim=1)


@every_system
def test_samples_have_the_promised_form(system):
    record = SamplingRecord()
    batch = sample(system, dtype=torch.float32, record=record)
    assert batch.signature == system.signature
    assert batch.grid == UNEQUAL
    assert batch.systems == (system.name,) * 6
    assert SYSTEMS[system.name] is type(system)
    for part in (batch.inputs, batch.coefficients, batch.targets):
        assert part.dtype == torch.float32
        assert part.isfinite().all()
        assert not part.requires_grad
    assert record.drawn - record.rejected == 6


@every_system
@pytest.mark.parametrize("grid", [UNEQUAL, SQUARE, Grid((33, 47), (1.0, 1.0), (True, True))], ids=str)
def test_the_residual_vector_of_its_own_solution_vanishes(system, grid):
    batch = sample(system, grid=grid)
    for solved in (batch, system.solve(batch.with_targets(None))):
        residual = system.residual(solved)
        assert residual.shape == solved.targets.shape
        assert (size(residual) / size(batch.inputs)).max() < 1e-10


@every_system
def test_wrong_fields_do_not_pass(system):
    batch = sample(system)
    for wrong in (-batch.targets, 1.01 * batch.targets, batch.targets.roll(1, -1), batch.targets.flip(-1)):
        relative = size(system.residual(batch.with_targets(wrong))) / size(batch.inputs)
        assert relative.min() > 5e-3


@every_system
def test_invariants_hold_for_solutions_and_not_for_others(system):
    batch = sample(system)
    balances = system.invariants(batch)
    assert balances
    for value in balances.values():
        assert value.shape == (6,)
        assert value.dtype == torch.float64
        assert value.abs().max() < 1e-11
    wrong = system.invariants(batch.with_targets(1.1 * batch.targets + 0.1))
    for name, value in wrong.items():
        if name != "mean_balance" or not system.zero_mean:  # without a zeroth-order term mean(Lu) is 0 for every u
            assert value.abs().min() > 1e-3, name


@every_system
def test_same_seed_same_bytes_and_other_seed_other_samples(system):
    first, again, other = (sample(system, seed=seed, dtype=torch.float32) for seed in (0, 0, 1))
    for part in ("inputs", "coefficients", "targets"):
        mine, same = getattr(first, part), getattr(again, part)
        assert mine.numpy().tobytes() == same.numpy().tobytes()
    assert (first.inputs != other.inputs).any(dim=(1, 2, 3, 4)).all()
    assert len({row.numpy().tobytes() for row in first.inputs}) == 6


@every_system
def test_the_global_generator_is_used_only_without_one(system):
    before = torch.get_rng_state()
    sample(system)
    assert torch.equal(before, torch.get_rng_state())
    system.sample(1, SQUARE)
    assert not torch.equal(before, torch.get_rng_state())


@every_system
def test_declared_homogeneities_are_exact(system):
    batch = sample(system)
    for homogeneity in system.homogeneities:
        assert isinstance(homogeneity, Homogeneity)
        scaled = scale(batch, homogeneity, 3.7)
        assert (size(system.residual(scaled)) / size(scaled.inputs)).max() < 1e-10
        torch.testing.assert_close(homogeneity.size(scaled), 3.7 * homogeneity.size(batch))


def scale(batch, homogeneity, factor):
    def factors(names, dims):
        values = [factor ** homogeneity.exponent(name) for name in names]
        return torch.tensor(values, dtype=torch.float64).view(-1, *(1,) * dims)

    signature = batch.signature
    return Batch(
        signature,
        batch.grid,
        batch.inputs * factors(signature.inputs, 2),
        batch.coefficients * factors(signature.coefficients, 0).flatten(),
        batch.targets * factors(signature.outputs, 2),
    )


@every_system
def test_every_knob_changes_the_coefficients_and_can_be_fixed(system):
    base = sample(system, grid=SQUARE)
    assert system.knobs
    for name, knob in system.knobs.items():
        fixed = system.where(**{name: [knob.low, knob.low]})
        assert fixed.knobs[name].low == fixed.knobs[name].high == knob.low
        assert fixed.knobs[name].integer == knob.integer
        assert type(fixed) is type(system)
        moved = sample(fixed, grid=SQUARE)
        assert not torch.equal(moved.coefficients, base.coefficients), name


@every_system
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_knob_can_be_measured_and_lies_where_it_was_drawn(system, dtype):
    for part in (0.0, 0.4, 1.0):
        width = {name: knob.high - knob.low for name, knob in system.knobs.items()}
        ranges = {
            name: knob
            if knob.integer
            else [knob.low + 0.6 * part * width[name], knob.low + (0.4 + 0.6 * part) * width[name]]
            for name, knob in system.knobs.items()
        }
        narrow = system.where(**ranges)
        measured = narrow.measured_knobs(sample(narrow, num=64, grid=SQUARE, dtype=dtype))
        assert set(measured) == set(system.knobs)
        for name, values in measured.items():
            knob = narrow.knobs[name]
            assert values.shape == (64,)
            slack = 1e-3 * knob.high
            assert values.amin() >= knob.low - slack, name
            assert values.amax() <= knob.high + slack, name
            assert values.amax() - values.amin() > 0.5 * min(knob.high - knob.low, 3.0), name


@every_system
def test_a_fixed_knob_is_measured_as_it_was_fixed(system):
    for name, knob in system.knobs.items():
        value = knob.high if knob.integer else knob.low + 0.37 * (knob.high - knob.low)
        fixed = system.where(**{name: value})
        measured = fixed.measured_knobs(sample(fixed, grid=SQUARE))[name]
        assert (measured - value).abs().max() < 1e-4 * value, name


@every_system
def test_unknown_knobs_are_refused_with_a_suggestion(system):
    name = next(iter(system.knobs))
    with pytest.raises(ConfigError, match=f"Did you mean '{name}'"):
        system.where(**{name + "s": [1, 2]})


@every_system
def test_the_dictionary_form_is_plain_and_complete(system):
    entries = system.to_dict()
    assert set(entries) == {"name", "knobs", "options"}
    assert system_from_dict(json.loads(json.dumps(entries))) == system
    assert hash(system_from_dict(entries)) == hash(system)


@every_system
def test_the_file_follows_the_physics_template(system):
    text = inspect.getdoc(sys.modules[type(system).__module__])
    lines = [line for line in text.splitlines() if line and not line[0].isspace()]
    positions = [next(i for i, line in enumerate(lines) if line.startswith(heading)) for heading in TEMPLATE]
    assert positions == sorted(positions)
    assert "arXiv:2306.00258" in text
    assert "\n" not in system.equation
    for name in (*system.signature.coefficients, *system.knobs):
        assert name in text, f"{name} is not described"


@pytest.mark.gpu
@every_system
def test_batches_are_made_on_the_device(system):
    generator = generator_for(0, device="cuda")
    batch = system.sample(6, UNEQUAL, generator, dtype=torch.float64)
    assert batch.targets.is_cuda
    assert (size(system.residual(batch)) / size(batch.inputs)).max() < 1e-10
