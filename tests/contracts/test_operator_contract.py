"""What every operator promises: joining `OPERATORS` earns these tests."""

from __future__ import annotations

import pytest
import torch

from kinds import SMALL
from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models import OPERATORS
from scifm.models.operator import Operator
from scifm.models.registry import load_operator, save_operator

SIGNATURE = Signature(("f",), ("a", "b"), ("u", "v"))
IDLE = {"in_context": "reader."}
"""Weights that have nothing to do where no solved examples are shown."""
LOCAL = {"recurrent"}
"""Those whose answer at a point hangs on nothing that lies elsewhere."""

every_operator = pytest.mark.parametrize("name", OPERATORS)
of_many_problems = pytest.mark.parametrize("name", [n for n, c in OPERATORS.items() if not c.knows_one_problem])
of_one_problem = pytest.mark.parametrize("name", [n for n, c in OPERATORS.items() if c.knows_one_problem])
"""One that `knows_one_problem` cannot promise that its answer hangs on what it is told: it promises the contrary."""


def make(name: str) -> Operator:
    assert name in SMALL, f"tell tests/kinds.py how to make a small '{name}'"
    torch.manual_seed(0)
    return OPERATORS[name](SIGNATURE, SMALL[name])


def problems(space: tuple[int, ...] = (12, 16), num_samples: int = 3, dtype: torch.dtype = torch.float32) -> Batch:
    grid = Grid(space, (1.0,) * len(space), (True,) * len(space))
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num_samples, 1, 1, *space, generator=generator, dtype=dtype)
    coefficients = torch.randn(num_samples, 2, generator=generator, dtype=dtype)
    return Batch(SIGNATURE, grid, inputs, coefficients)


@every_operator
def test_the_registry_names_it_as_it_names_itself(name):
    assert OPERATORS[name].config_class.kind == name
    assert make(name).kind == name


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_precision(name, dtype):
    batch = problems(dtype=dtype)
    answer = make(name).to(dtype)(batch)
    assert answer.require_targets().shape == (3, 1, 2, 12, 16)
    assert answer.require_targets().dtype == dtype
    assert answer.signature == SIGNATURE
    assert answer.grid == batch.grid
    assert torch.equal(answer.inputs, batch.inputs)


def remembered(name: str) -> Operator:
    """Return one that takes frames of a history, which weights of a memory are for."""
    torch.manual_seed(0)
    names = Signature(("f", "u"), ("a", "b"), ("u",), evolves=True)
    return OPERATORS[name](names, SMALL[name].model_copy(update={"history": 3}))


@every_operator
def test_every_parameter_has_a_gradient(name):
    operator, batch = make(name), problems()
    if operator.remembers:
        operator, frames = remembered(name), batch.inputs.expand(-1, 3, 2, -1, -1)
        times = torch.tensor([[0.1, 0.2]]).expand(3, -1)  # two steps, the second of which goes on from the first
        batch = Batch(operator.signature, batch.grid, frames.clone(), batch.coefficients, lead_time=times)
    operator(batch).require_targets().square().sum().backward()
    idle = [n for n, p in operator.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]
    assert [n for n in idle if not n.startswith(IDLE.get(name, "-"))] == []


@of_many_problems
def test_one_pixel_and_every_coefficient_matter(name):
    operator = make(name).double()
    batch = problems(num_samples=1, dtype=torch.float64)
    base = operator.predict(batch).require_targets()
    poked = batch.inputs.clone()
    poked[..., 3, 5] += 1
    everywhere = torch.ones(12, 16, dtype=torch.bool)
    there = torch.zeros_like(everywhere)
    there[3, 5] = True
    others = [(Batch(SIGNATURE, batch.grid, poked, batch.coefficients), there if name in LOCAL else everywhere)]
    for index in range(2):
        row = batch.coefficients.clone()
        row[:, index] += 1
        others.append((Batch(SIGNATURE, batch.grid, batch.inputs, row), everywhere))
    for other, where in others:
        change = (operator.predict(other).require_targets() - base).abs()
        assert torch.equal((change > 0).all(dim=(0, 1, 2)), where)
        assert torch.equal((change > 0).any(dim=(0, 1, 2)), where)


@of_one_problem
def test_what_knows_one_problem_answers_it_whatever_it_is_told(name):
    answer = make(name).predict(problems()).require_targets()
    assert torch.equal(answer, answer[:1].expand_as(answer))
    assert answer.std((-2, -1)).min() > 0


@every_operator
def test_samples_do_not_see_each_other(name):
    operator = make(name).double()
    batch = problems(num_samples=4, dtype=torch.float64)
    turned = operator.predict(batch.select([3, 1, 0, 2])).require_targets()
    torch.testing.assert_close(turned, operator.predict(batch).require_targets()[[3, 1, 0, 2]])


@every_operator
def test_the_same_question_has_the_same_answer(name):
    operator = make(name)
    batch = problems()
    assert torch.equal(operator.predict(batch).require_targets(), operator.predict(batch).require_targets())


@every_operator
def test_another_resolution_is_answered(name):
    operator = make(name)
    for space in ((16, 16), (20, 13), (32, 24)):
        assert operator.predict(problems(space)).require_targets().shape == (3, 1, 2, *space)


@every_operator
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    operator = make(name)
    save_operator(operator, tmp_path)
    again = load_operator(tmp_path)
    assert type(again) is type(operator)
    assert again.describe() == operator.describe()
    assert torch.equal(again.predict(problems()).require_targets(), operator.predict(problems()).require_targets())


@of_many_problems
def test_nan_is_not_swallowed(name):
    batch = problems()
    batch.inputs[0, ..., 0, 0] = float("nan")
    answer = make(name).predict(batch).require_targets()
    assert answer[0].isnan().any()
    assert not answer[1:].isnan().any()


@every_operator
def test_a_field_it_does_not_know_is_refused(name):
    batch = problems()
    foreign = Batch(Signature(("pressure",), ("a", "b"), ("u", "v")), batch.grid, batch.inputs, batch.coefficients)
    with pytest.raises(SignatureError, match="pressure"):
        make(name)(foreign)


@every_operator
def test_it_counts_its_parameters(name):
    operator = make(name)
    assert operator.num_params == sum(t.numel() for t in operator.state_dict().values())
