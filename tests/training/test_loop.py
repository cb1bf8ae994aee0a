from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import tiny
from scifm.config import build_config
from scifm.data.stream import Epochs
from scifm.errors import ConfigError, RunError, StopRequested
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import DivergedError, TrainingConfig, product_precision, train
from scifm.training.validation import sample_errors


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{**tiny.TRAINING, **changes})


def source(seed: int = 0) -> Epochs:
    return Epochs(tiny.batch(6), batch_size=4, seed=seed)


class Diary(list):
    """Keeps every event that a log keeps, and every step, but no seconds."""

    def __call__(self, **event) -> None:
        if event["event"] == "saving":
            return
        self.append({k: v for k, v in event.items() if k != "seconds"})


def weights(operator) -> list[torch.Tensor]:
    return [p.detach().clone() for p in operator.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["relative_l2", "mean_squared_error", "summed_squared_error"])
def test_training_lowers_the_error(objective):
    samples = tiny.batch(4)
    scale = samples.require_targets().std()
    samples = samples.with_targets(samples.require_targets() / scale)
    operator = tiny.operator()
    before = float(sample_errors(operator, samples).mean())
    settings = config(num_steps=60, objective=objective, learning_rate=3e-2)
    train(operator, Epochs(samples, batch_size=4, seed=0), config=settings)
    assert float(sample_errors(operator, samples).mean()) < 0.5 * before
    assert not operator.training


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_every_precision_trains(precision):
    operator = tiny.operator()
    before = weights(operator)
    position = train(operator, source(), config=config(num_steps=3, precision=precision), validation=tiny.batch(2))
    assert position.step == 3
    assert 0 < position.best_score < float("inf")
    assert not any(torch.equal(a.to(b.dtype), b) for a, b in zip(before, weights(operator), strict=True))


def test_events_tell_what_happened():
    diary = Diary()
    train(tiny.operator(), source(), config=config(num_steps=7), validation=tiny.batch(2), observe=diary)
    assert diary[0] == {"event": "resumed", "step": 0}
    assert tiny.steps_of(diary, "step") == [1, 2, 3, 4, 5, 6, 7]
    assert tiny.steps_of(diary, "train") == [2, 4, 6, 7]
    assert tiny.steps_of(diary, "valid") == [4, 7]


def test_the_logged_loss_is_the_mean_since_the_line_before():
    each, every_other = Diary(), Diary()
    train(tiny.operator(), source(), config=config(num_steps=5, log_every=1), observe=each)
    train(tiny.operator(), source(), config=config(num_steps=5, log_every=2), observe=every_other)
    losses = [event["loss"] for event in each if event["event"] == "train"]
    means = [event["loss"] for event in every_other if event["event"] == "train"]
    assert means == pytest.approx([(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2, losses[4]])


def test_the_same_settings_give_the_same_weights_and_another_order_others():
    results = []
    for seed in (0, 0, 1):
        operator = tiny.operator()
        train(operator, source(seed), config=config())
        results.append(weights(operator))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_validation_changes_nothing():
    results = []
    for validation in (None, tiny.batch(2)):
        operator = tiny.operator()
        train(operator, source(), config=config(), validation=validation)
        results.append(weights(operator))
    assert same(*results)


def test_clipping_limits_the_gradient():
    steps = []
    for clip in (None, 1e-12):
        operator = tiny.operator()
        before = weights(operator)
        train(operator, source(), config=config(num_steps=1, gradient_clip=clip, schedule="constant"))
        steps.append(max(float((a - b).abs().max()) for a, b in zip(before, weights(operator), strict=True)))
    assert steps[1] < 0.1 * steps[0]


def test_settings_are_checked():
    for key, value in {
        "num_steps": 0,
        "learning_rate": 0,
        "schedule": "cosin",
        "objective": "l2",
        "patience": 0,
    }.items():
        with pytest.raises(ConfigError, match=key):
            build_config(TrainingConfig, {key: value})


# --- stopping early ---------------------------------------------------------------------------------------------------


def test_early_stopping_returns_the_weights_that_were_best():
    """Trained towards answers of the other sign, every validation after the first is worse."""
    samples = tiny.batch(6)
    upside_down = samples.with_targets(-samples.require_targets() * 10)
    settings = config(num_steps=40, validate_every=2, patience=3, schedule="constant")
    stopped, diary = tiny.operator(), Diary()
    train_source = Epochs(upside_down, batch_size=4, seed=0)
    position = train(stopped, train_source, config=settings, validation=samples, observe=diary)
    scores = [event["relative_l2"] for event in diary if event["event"] == "valid"]
    assert position.best_step == 2
    assert position.step == 8, "three validations without a better one"
    assert scores == sorted(scores)
    best = tiny.operator()
    train(best, train_source, config=settings.model_copy(update={"num_steps": 2}))
    assert same(weights(stopped), weights(best))
    assert float(sample_errors(stopped, samples).mean()) == pytest.approx(position.best_score)


def test_without_patience_the_last_weights_are_kept():
    samples = tiny.batch(6)
    upside_down = samples.with_targets(-samples.require_targets() * 10)
    operator = tiny.operator()
    settings = config(num_steps=10, validate_every=2, schedule="constant")
    position = train(operator, Epochs(upside_down, batch_size=4, seed=0), config=settings, validation=samples)
    assert position.step == 10
    assert float(sample_errors(operator, samples).mean()) > position.best_score


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patience", "ema_decay"), [(None, None), (2, None), (2, 0.9)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("stop", [1, 6, 12])
def test_interrupted_and_resumed_equals_never_stopped(tmp_path, stop, number, patience, ema_decay):
    settings, samples = config(patience=patience, ema_decay=ema_decay), tiny.batch(3, purpose="valid")
    straight, whole = tiny.operator(), Diary()
    alone = Checkpoint(tmp_path / "alone" / "state")
    end = train(straight, source(), config=settings, validation=samples, checkpoint=alone, observe=whole)
    handler = signal.getsignal(number)
    diary = Diary()

    def interrupt(**event) -> None:
        diary(**event)
        if event["event"] == "step" and event["step"] == stop:
            os.kill(os.getpid(), number)

    checkpoint = Checkpoint(tmp_path / "state")
    asked = KeyboardInterrupt if number == signal.SIGINT else StopRequested
    with pytest.raises(asked) as stopped:
        train(tiny.operator(), source(), config=settings, validation=samples, checkpoint=checkpoint, observe=interrupt)
    assert type(stopped.value) is asked
    assert str(stopped.value) == ("" if number == signal.SIGINT else number.name)
    assert signal.getsignal(number) is handler, "handlers are given back"
    again = tiny.operator(seed=5)
    torch.manual_seed(77)
    resumed_end = train(again, source(), config=settings, validation=samples, checkpoint=checkpoint, observe=diary)
    assert same(weights(again), weights(straight))
    assert replace(resumed_end, seconds=0) == replace(end, seconds=0)
    assert {"event": "resumed", "step": stop} in diary
    events = [event for event in diary if event["event"] != "resumed"]
    assert events == whole[1:], "each event occurs once, with the same numbers"


def test_a_second_interrupt_does_not_wait():
    def twice(**event) -> None:
        if event["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny.operator(), source(), config=config(), observe=twice)


def test_it_trains_in_a_thread_where_no_signal_can_be_heard():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, tiny.operator(), source(), config=config(num_steps=2)).result().step == 2


# --- divergence -------------------------------------------------------------------------------------------------------


class Spoiled:
    """A source whose batches hold NaN from some step on."""

    def __init__(self, first_bad: int) -> None:
        self.good, self.first_bad = source(), first_bad
        self.signature, self.grid, self.num_samples = self.good.signature, self.good.grid, 6

    def batch(self, step: int):
        batch = self.good.batch(step)
        return batch if step < self.first_bad else batch.with_targets(batch.require_targets() * float("nan"))


def test_divergence_is_told_and_the_state_before_is_kept(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    with pytest.raises(DivergedError, match=r"became nan at step 5 .*holds NaN.*targets.*the state of step 4 is kept"):
        train(tiny.operator(), Spoiled(5), config=config(checkpoint_every=2), checkpoint=checkpoint)
    assert json.loads((tmp_path / "failure.json").read_text())["not_finite_in_batch"] == ["targets"]
    operator, diary = tiny.operator(seed=3), Diary()
    train(operator, source(), config=config(checkpoint_every=2), checkpoint=checkpoint, observe=diary)
    assert not (tmp_path / "failure.json").exists(), "it told of the sitting before"
    assert diary[0] == {"event": "resumed", "step": 4}
    straight = tiny.operator()
    train(straight, source(), config=config())
    assert same(weights(operator), weights(straight))


def test_a_wild_learning_rate_diverges():
    with pytest.raises(DivergedError, match="with learning rate"):
        train(tiny.operator(), source(), config=config(learning_rate=1e30, schedule="constant"))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_move(tmp_path, clip):
    """The loss is fine; the backward pass of one layer overflows at the third step."""
    operator, before, calls = tiny.operator(), [], []
    first = next(operator.parameters())

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) < 3:
            return gradient
        before.extend(weights(operator))
        return gradient * float("inf")

    first.register_hook(spoil)
    checkpoint = Checkpoint(tmp_path / "state")
    settings = config(checkpoint_every=2, gradient_clip=clip)
    with pytest.raises(DivergedError, match=r"norm of the gradient became (nan|inf) at step 2 .*learning_rate"):
        train(operator, source(), config=settings, checkpoint=checkpoint)
    assert same(weights(operator), before)
    record = json.loads((tmp_path / "failure.json").read_text())
    assert record["step"] == 2
    assert record["batch"] == {"source": "Epochs", "step": 2, "seed": 0, "samples": source().index(2).tolist()}
    kept = load_file(tmp_path / "failure.safetensors")
    assert torch.equal(kept["targets"], source().batch(2).require_targets())


def test_a_full_disk_at_a_checkpoint_stops_and_what_was_saved_stays(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "state")

    def fill(**event) -> None:
        if event["event"] == "step" and event["step"] == 4:
            monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=70_000))

    with pytest.raises(RunError, match=r"is full: .* needed, 0\.1 MB are free"):
        train(tiny.operator(), source(), config=config(), checkpoint=checkpoint, observe=fill)
    monkeypatch.undo()
    operator, straight = tiny.operator(seed=2), tiny.operator()
    train(operator, source(), config=config(), checkpoint=checkpoint)
    train(straight, source(), config=config())
    assert same(weights(operator), weights(straight))


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(monkeypatch):
    from scifm.training import loop

    measure, needs = loop.measure_need, []

    def measured(*args, **settings):  # how much that is hangs on the kernels of the machine
        needs.append(measure(*args, **settings))
        return needs[-1]

    def enough_for_one(device):
        return int(needs[-1].optimizer + needs[-1].best + 0.3 * needs[-1].working)

    monkeypatch.setattr(loop, "measure_need", measured)
    monkeypatch.setattr(loop, "available_memory", enough_for_one)
    diary = Diary()
    with pytest.raises(RunError, match=r"batch_size, to 1 for example"):
        train(tiny.operator(), source(), config=config(), observe=diary)
    assert tiny.steps_of(diary, "step") == []


@pytest.mark.parametrize("make", [tiny.operator, tiny.dropping_operator])
def test_measuring_memory_changes_nothing(monkeypatch, make):
    """Trained with and without the measurement: the same weights, and the same numbers drawn afterwards."""
    from scifm.training import loop

    outcomes = []
    for measured in (True, False):
        if not measured:
            monkeypatch.setattr(loop._Loop, "_require_memory", lambda self: None)
        torch.manual_seed(3)
        operator = make()
        train(operator, source(), config=config(num_steps=3))
        outcomes.append([*weights(operator), torch.rand(2)])
    assert same(*outcomes)


# --- damaged states ---------------------------------------------------------------------------------------------------


def test_a_damaged_state_is_told_and_the_end_is_the_same(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    straight = tiny.operator()
    train(straight, source(), config=config(), checkpoint=checkpoint)
    newest, older = list(checkpoint.files())[:2]
    file = checkpoint.files()[newest]
    file.write_bytes(file.read_bytes()[:-3])
    diary, again = Diary(), tiny.operator(seed=4)
    train(again, source(), config=config(), checkpoint=checkpoint, observe=diary)
    assert diary[0] == {"event": "resumed", "step": older}
    assert diary[1]["event"] == "damaged"
    assert diary[1]["file"] == file.name
    assert same(weights(again), weights(straight))
    assert sorted(p.name for p in checkpoint.folder.iterdir()) == [f"step-{s:08d}.safetensors" for s in (older, newest)]


def test_the_best_state_is_kept_and_every_kth(tmp_path):
    samples = tiny.batch(6)
    upside_down = Epochs(samples.with_targets(-samples.require_targets() * 10), batch_size=4, seed=0)
    settings = config(num_steps=12, validate_every=1, checkpoint_every=2, keep_every=6, schedule="constant")
    checkpoint = Checkpoint(tmp_path / "state")
    position = train(tiny.operator(), upside_down, config=settings, validation=samples, checkpoint=checkpoint)
    assert position.best_step == 3, "no multiple of checkpoint_every: saved because it was the best"
    assert list(checkpoint.files()) == [12, 10, 6, 3]


# --- products ---------------------------------------------------------------------------------------------------------


def test_tf32_is_asked_for_on_gpus_only_and_torch_gets_its_setting_back():
    before = torch.get_float32_matmul_precision()
    with product_precision(True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
    seen = []
    settings = config(num_steps=1, tf32=True, accelerator="cpu")
    train(
        tiny.operator(),
        source(),
        config=settings,
        observe=lambda **event: seen.append(torch.get_float32_matmul_precision()),
    )
    assert set(seen) == {before}
