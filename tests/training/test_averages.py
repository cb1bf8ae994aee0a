from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from scifm.data.stream import Epochs
from scifm.errors import RunError
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import TrainingConfig, train
from scifm.training.validation import sample_errors
from scifm.training.weights import MovingAverage


def test_it_is_the_sum_it_says():
    """Against the definition, step by step; the first steps look back less far."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    average = MovingAverage(nn.ParameterDict({"w": weight}), [weight], 0.8)
    expected = weight.detach().clone()
    for step in range(1, 60):
        with torch.no_grad():
            weight += torch.tensor([0.1, 0.3]) * step
        average.follow(step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    assert torch.allclose(average.values["w"], expected, rtol=1e-13)
    kept = weight.detach().clone()
    with average.in_place():
        assert torch.equal(weight, average.values["w"])
    assert torch.equal(weight, kept)
    average.put()
    assert torch.equal(weight, average.values["w"])


def test_weights_come_back_after_an_error():
    weight = nn.Parameter(torch.ones(2))
    average = MovingAverage(nn.ParameterDict({"w": weight}), [weight], 0.5)
    with torch.no_grad():
        weight.fill_(3.0)
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert torch.equal(weight, torch.full((2,), 3.0))


def settings(**changes) -> TrainingConfig:
    return TrainingConfig(**{**tiny.TRAINING, "schedule": "constant", "learning_rate": 0.1, "num_steps": 40, **changes})


def test_training_ends_with_the_average_and_scores_it(tmp_path):
    operator, samples, scores = tiny.operator(), tiny.batch(3, purpose="valid"), []

    def observe(**event) -> None:
        if event["event"] == "valid":
            scores.append(event["relative_l2"])

    train(
        operator,
        Epochs(tiny.batch(6), batch_size=4, seed=0),
        config=settings(ema_decay=0.9),
        validation=samples,
        checkpoint=Checkpoint(tmp_path),
        observe=observe,
    )
    assert float(sample_errors(operator, samples).mean()) == pytest.approx(scores[-1], rel=1e-6)
    last = tiny.operator()
    train(last, Epochs(tiny.batch(6), batch_size=4, seed=0), config=settings(), validation=samples)
    assert not torch.equal(next(operator.parameters()), next(last.parameters()))
    assert scores[-1] < float(sample_errors(last, samples).mean()), (
        "a constant learning rate jitters; its average does not"
    )


def test_averages_of_other_weights_are_refused(tmp_path):
    checkpoint, source = Checkpoint(tmp_path), Epochs(tiny.batch(6), batch_size=4, seed=0)
    train(tiny.operator(), source, config=settings(num_steps=2, ema_decay=0.9), checkpoint=checkpoint)
    with pytest.raises(RunError, match=r"moving average of \d+ weights, and 0 are to be averaged now"):
        train(tiny.operator(), source, config=settings(num_steps=4), checkpoint=checkpoint)


def test_only_weights_that_train_are_averaged():
    operator = tiny.operator()
    first = next(operator.parameters())
    assert len(MovingAverage(operator, [first], 0.9).values) == 1
    assert not MovingAverage(operator, [first], None).values
