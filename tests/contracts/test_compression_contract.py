"""What every compression promises: joining `COMPRESSIONS` earns these tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import networks
import tiny
from scifm.distillation import COMPRESSIONS
from scifm.errors import DataError
from scifm.models.module_operator import ModuleConfig, ModuleOperator
from scifm.models.operator import Operator
from scifm.models.registry import load_operator, save_operator
from scifm.systems.poisson import Poisson

every_compression = pytest.mark.parametrize("name", COMPRESSIONS)


def of_anyone() -> Operator:
    arguments = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
    torch.manual_seed(0)
    return ModuleOperator(Poisson.signature, ModuleConfig(target="networks:GlobalNet", arguments=arguments))


OPERATORS: dict[str, Callable[[], Operator]] = {
    "fno": tiny.operator,
    "float64": lambda: tiny.operator().double(),
    "module": of_anyone,
    "complex and tied": lambda: ModuleOperator(Poisson.signature, ModuleConfig(target=f"{networks.__name__}:Tied")),
}
every_operator = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)


def answers(operator: Operator) -> torch.Tensor:
    weight = next(operator.parameters())
    batch = tiny.batch(3, dtype=weight.dtype if weight.is_floating_point() else torch.float32)
    if not isinstance(operator.config, ModuleConfig) or "Tied" not in str(operator.config.target):
        return operator.predict(batch).require_targets()
    return torch.cat(
        [torch.view_as_real(p).flatten() if p.is_complex() else p.flatten() for p in operator.parameters()]
    )


@every_compression
def test_the_registry_names_it_as_it_names_itself(name):
    assert COMPRESSIONS[name].name == name


@every_compression
@every_operator
def test_it_answers_finitely_under_the_same_names_and_leaves_the_operator(name, make):
    operator = make()
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    smaller = COMPRESSIONS[name]().compress(operator)
    assert smaller is not operator
    assert smaller.signature == operator.signature
    assert answers(smaller).isfinite().all()
    assert all(torch.equal(value, before[key]) for key, value in operator.state_dict().items())


@every_compression
@every_operator
def test_what_is_saved_and_loaded_answers_as_what_was_measured(name, make, tmp_path):
    way = COMPRESSIONS[name]()
    smaller = way.compress(make())
    save_operator(smaller, tmp_path, codec=way.codec)
    again = load_operator(tmp_path)
    assert torch.equal(answers(again), answers(smaller))
    assert again.describe() == smaller.describe()


@every_compression
@every_operator
def test_it_changes_nothing_the_second_time(name, make):
    once = COMPRESSIONS[name]().compress(make())
    twice = COMPRESSIONS[name]().compress(once)
    other = twice.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in once.state_dict().items())


@every_compression
def test_it_is_smaller_on_disk(name, tmp_path):
    operator = tiny.operator(width=16)
    save_operator(operator, tmp_path / "before")
    way = COMPRESSIONS[name]()
    save_operator(way.compress(operator), tmp_path / "after", codec=way.codec)
    before, after = ((tmp_path / folder / "model.safetensors").stat().st_size for folder in ("before", "after"))
    assert after < 0.5 * before


@every_compression
def test_weights_that_are_not_finite_are_refused(name):
    operator = tiny.operator()
    with torch.no_grad():
        next(operator.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(DataError, match="NaN"):
        COMPRESSIONS[name]().compress(operator)


@every_compression
def test_its_settings_can_be_written_down(name):
    way = COMPRESSIONS[name]()
    assert type(way).model_validate(way.to_dict()) == way
