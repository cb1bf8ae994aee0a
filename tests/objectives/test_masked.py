"""`Masked` against its closed form; what teaches where nothing is hidden; which fields weigh what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scifm.config import build_config
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding, signature_of_whole
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator, OperatorConfig
from scifm.objectives import Masked
from scifm.objectives.contract import Nearly, ObjectiveContract
from scifm.training.loop import TrainingConfig

GRID = Grid((8, 6))
NAMES = signature_of_whole(Signature(("f", "g"), ("a",), ("u",)))


def batch(num_samples: int = 5, *, sizes=(1.0, 100.0), offset=(0.0, 1000.0)) -> Batch:
    shape = (num_samples, 1, 2, *GRID.num_points)
    fields = torch.randn(shape, generator=generator_for(0, "masked", num_samples), dtype=torch.float64)
    by_channel = [torch.tensor(numbers, dtype=torch.float64).view(1, 1, 2, 1, 1) for numbers in (sizes, offset)]
    fields = fields * by_channel[0] + by_channel[1]
    return Batch(NAMES, GRID, fields, torch.zeros(num_samples, 1, dtype=torch.float64), fields.clone())


class Same(Operator):
    """Answers one number everywhere, for each field its own."""

    def __init__(self, numbers=(0.0, 0.0)) -> None:
        super().__init__(NAMES, OperatorConfig())
        self.numbers = torch.nn.Parameter(torch.tensor(numbers, dtype=torch.float64))

    def forward(self, batch: Batch, *, through: int | None = None) -> Batch:
        self.asked = batch
        answer = self.numbers.view(1, 1, -1, 1, 1).expand_as(batch.require_targets())
        return batch.with_targets(answer)


def loss(objective: Masked, operator: Operator, samples: Batch, seed: int = 0) -> torch.Tensor:
    return objective(operator, samples, step=0, generator=generator_for(seed, "objective"))


@pytest.mark.parametrize("settings", [{"ratio": 0.6}, {"ratio": 0.5, "patch": 2, "blur": (0, 1)}, {"ratio": 0.0}])
def test_it_is_its_closed_form(settings):
    samples, operator = batch(), Same((0.5, 900.0))
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    samples = replace(samples, loss_weights=weights)
    objective = Masked(**settings).on(samples)
    value = loss(objective, operator, samples)
    hidden = Hiding(**settings).of(samples, generator_for(0, "objective")).valid_targets
    hidden = torch.ones_like(samples.inputs, dtype=torch.bool) if hidden is None else hidden
    by_sample = []
    for row in range(5):
        by_field = []
        for channel, said in enumerate((0.5, 900.0)):
            variance = samples.inputs[:, 0, channel].var(correction=0)
            at = hidden[row, 0, channel]
            by_field.append((said - samples.inputs[row, 0, channel][at]).square().mean() / variance)
        by_sample.append(sum(by_field) / 2)
    expected = (torch.stack(by_sample) * weights).sum() / weights.sum()
    assert value.item() == pytest.approx(float(expected), rel=1e-12)


def test_where_nothing_is_hidden_all_points_teach():
    """The published code multiplies by a mask of zeros there, and nothing is learned from a blur alone."""
    samples, operator = batch(), Same()
    value = loss(Masked(ratio=0, blur=(0.5, 1)).on(samples), operator, samples)
    (gradient,) = torch.autograd.grad(value, operator.numbers)
    assert value.item() > 0
    assert (gradient != 0).all()
    assert operator.asked.valid_inputs is None
    assert not torch.equal(operator.asked.inputs, samples.inputs)  # blurred, and asked for sharp
    assert torch.equal(operator.asked.require_targets(), samples.inputs)


def test_the_mean_answered_everywhere_has_a_loss_of_one_and_fields_weigh_alike():
    samples = batch(400)
    objective = Masked(ratio=0.5).on(samples)
    means = samples.inputs[:, 0].mean(dim=(0, 2, 3)).tolist()
    assert loss(objective, Same(means), samples).item() == pytest.approx(1, abs=0.02)
    for off in ((1.0, 0.0), (0.0, 100.0)):  # one standard deviation of either field adds half
        numbers = [mean + more for mean, more in zip(means, off, strict=True)]
        assert loss(objective, Same(numbers), samples).item() == pytest.approx(1.5, abs=0.05)


def test_a_field_that_does_not_vary_is_divided_by_its_own_power_and_one_of_zeros_by_one():
    samples = batch(sizes=(0.0, 0.0), offset=(3.0, 0.0))
    objective = Masked(ratio=0.5).on(samples)
    assert loss(objective, Same((4.5, 0.0)), samples).item() == pytest.approx(0.5 * 1.5**2 / 9)
    assert loss(objective, Same((3.0, 0.5)), samples).item() == pytest.approx(0.5 * 0.25)


def test_a_field_that_a_sample_lacks_adds_nothing():
    samples = batch()
    present = torch.ones(5, len(NAMES.names), dtype=torch.bool)
    for name in ("g", "g_whole"):
        present[[1, 3], NAMES.names.index(name)] = False
    number = 1e6
    lacking = samples.inputs.clone()
    lacking[[1, 3], :, 1] = number
    there = replace(samples, present=present, inputs=lacking, targets=lacking)
    objective = Masked(ratio=0.5).on(there)
    zero = lacking.clone()
    zero[[1, 3], :, 1] = 0
    other = replace(there, inputs=zero, targets=zero)
    assert torch.equal(objective._variances, Masked().on(other)._variances)
    operator = Same((0.5, 900.0))
    value = loss(objective, operator, there)
    assert value.item() == pytest.approx(loss(objective, operator, other).item(), rel=1e-12)
    assert math.isfinite(value.item())
    assert value.item() < 10


def test_its_gradient_is_that_of_differences_with_points_hidden():
    contract = Contract()
    contract.test_its_gradient_is_that_of_differences()
    contract.test_numbers_at_missing_points_count_for_nothing()


class Contract(ObjectiveContract):
    objective = Masked(ratio=0.5, blur=(0, 1))

    def _require_adding_up(self, batch: Batch) -> None:
        """Parts hide other points than the whole; see below."""


def test_parts_of_a_batch_add_up_where_each_hides_what_the_whole_did():
    """In training every part of a batch draws masks of its own; with the same masks the loss is a mean over samples."""
    samples, objective = batch(6), Masked(ratio=0.5)
    asked = objective.hiding.of(samples, generator_for(0, "mask"))
    operator = Nearly(NAMES, GRID, size=0.1)
    whole = objective.compare(operator(asked), asked)
    parts = [asked.select(slice(0, 2)), asked.select(slice(2, 6))]
    each = [objective.compare(operator(part), part) for part in parts]
    assert (each[0] * 2 + each[1] * 4).item() / 6 == pytest.approx(whole.item(), rel=1e-12)


def test_the_same_step_hides_the_same_and_another_one_other_points():
    samples, operator, objective = batch(), Same(), Masked(ratio=0.5)
    assert torch.equal(loss(objective, operator, samples), loss(objective, operator, samples))
    assert not torch.equal(loss(objective, operator, samples, seed=1), loss(objective, operator, samples))


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ({"ratio": 1.0}, "ratio is the part of the points that is hidden, from 0 to less than 1; got 1"),
        ({"ratio": float("nan")}, "ratio"),
        ({"patch": 0}, "patch counts points a side and is at least 1"),
        ({"blur": [2, 1]}, "the lower one first; got 2 and 1"),
        ({"blur": [-1, 1]}, "0 or more"),
        ({"blur": 1}, "blur"),
        ({"ratio": 0, "patch": 4}, "patch = 4 would have no effect: ratio = 0 hides nothing"),
        ({"ratios": 0.5}, "ratios"),
    ],
)
def test_settings_that_are_not_allowed(objective, told):
    with pytest.raises(ConfigError, match=told):
        build_config(TrainingConfig, {"objective": {"name": "masked", **objective}})


def test_a_recipe_holds_it():
    config = build_config(TrainingConfig, {"objective": {"name": "masked", "ratio": 0.9, "blur": [0, 1]}})
    assert config.objective == Masked(ratio=0.9, blur=(0, 1))
    assert build_config(TrainingConfig, config.to_dict()).objective == config.objective
    assert build_config(TrainingConfig, {"objective": "masked"}).objective == Masked(ratio=0.6)
