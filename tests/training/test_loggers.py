"""Loggers: told what metrics.jsonl holds, by the first process alone, whatever happens in between."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from scifm.config import build_config, dump_toml
from scifm.errors import ConfigError
from scifm.runs import Run
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import plan_jobs, study
from scifm.training import loggers
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loggers import CSV, LOGGERS, Log, Logger, numbers_of
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import PretrainRecipe, pretrain, training_source


def watched(*names: Any, **changes: Any) -> dict[str, Any]:
    return tiny.recipe(training={"loggers": list(names), **changes})


def numbers_in(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return what metrics.jsonl holds, by the names that loggers are told."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in run.metrics():
        for name, value in numbers_of(event).items():
            found.setdefault(name, []).append((event["step"], value))
    return found


def table_of(run: Run) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    with (run.path / "metrics.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            step = int(row.pop("step"))
            for name, text in row.items():
                if text:
                    found.setdefault(name, []).append((step, float(text)))
    return found


def board_of(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    return {name: [(e.step, e.value) for e in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def mlflow_of(run: Run, place: Path) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=str(place))
    known = run.read_json("loggers.json")["mlflow"]["run_id"]
    names = client.get_run(known).data.metrics
    return {name: [(m.step, m.value) for m in client.get_metric_history(known, name)] for name in names}


def records_of(file: Path) -> Iterator[bytes]:
    """Yield what a file of W&B holds: records in pieces, in blocks of 32 KiB as LevelDB's log has them."""
    data, place, record = file.read_bytes(), 7, b""
    while place < len(data):
        left = 32768 - place % 32768
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7]) if left >= 7 else (0, 0)
        if kind == 0:  # the end of a block that holds no further piece
            place += left
            continue
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield record
            record = b""


def wandb_of(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return what the newest of W&B's files on disk holds."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, list[tuple[int, float]]] = {}
    newest = max(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    for data in records_of(newest):
        history = wandb_internal_pb2.Record.FromString(data).history
        items = {item.key or item.nested_key[0]: item.value_json for item in history.item}
        step = int(items.get("_step", history.step.num))
        for name, text in items.items():
            if not name.startswith("_"):
                found.setdefault(name, []).append((step, json.loads(text)))
    return found


def same(found: dict[str, list[tuple[int, float]]], expected: dict[str, list[tuple[int, float]]]) -> None:
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        ours, theirs = [value for _, value in points], [value for _, value in found[name]]
        assert theirs == pytest.approx(ours, rel=1e-6, nan_ok=True), name


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "mlruns"


READERS = {"csv": table_of, "tensorboard": board_of, "wandb": wandb_of}


# --- what they are told -----------------------------------------------------------------------------------------------


def test_numbers_of_events_go_by_the_names_of_both():
    event = {"event": "train", "step": 3, "loss": 0.5, "seconds": 2, "file": "words", "good": True}
    assert numbers_of(event) == {"train/loss": 0.5, "train/seconds": 2.0}


def test_all_four_hold_what_the_log_holds(tmp_path, offline):
    run = pretrain(watched(*LOGGERS), out=tmp_path)
    expected = numbers_in(run)
    assert [step for step, _ in expected["train/loss"]] == [2, 4, 6, 8, 10, 12]
    assert [step for step, _ in expected["valid/relative_l2"]] == [4, 8, 12]
    for reader in READERS.values():
        same(reader(run), expected)
    same(mlflow_of(run, offline), expected)
    assert not [event for event in run.metrics() if event["event"] == "logger_failed"]


@pytest.mark.parametrize("name", LOGGERS)
@pytest.mark.parametrize(
    "stop", [2, pytest.param(7, marks=pytest.mark.slow)]
)  # before the first state is due, and behind one
def test_a_resumed_run_tells_every_step_once(tmp_path, offline, name, stop):
    """SIGKILL: what came after the last state is told again, and nothing is there twice."""
    recipe = watched(name, checkpoint_every=100, validate_every=5)  # a state at the best validation, step 5
    code = f"""
import json, os, signal, sys
from scifm.training.pretrain import pretrain
def die(**event):
    if event["event"] == "step" and event["step"] == {stop}:
        os.kill(os.getpid(), signal.SIGKILL)
pretrain(json.loads(sys.argv[1]), out=sys.argv[2], observe=die)
"""
    variables = {key: text for key, text in os.environ.items() if key != "WANDB_SERVICE"}  # else it outlives the kill
    command = [sys.executable, "-c", code, json.dumps(recipe), str(tmp_path)]
    done = subprocess.run(command, check=False, timeout=200, env=variables)
    assert done.returncode == -signal.SIGKILL
    seen = []
    run = pretrain(recipe, out=tmp_path, observe=lambda **event: seen.append(event))
    assert seen[0] == {"event": "resumed", "step": 5 if stop == 7 else 0}
    expected = numbers_in(run)
    assert [step for step, _ in expected["train/loss"]] == [2, 4, 6, 8, 10, 12]
    found = mlflow_of(run, offline) if name == "mlflow" else READERS[name](run)
    if name == "mlflow":  # told once, of the first sitting; the time a step takes is another in the second
        expected.pop("train/seconds"), found.pop("train/seconds")
    same(found, expected)


def test_a_logger_that_comes_later_is_told_what_was_before(tmp_path, offline):
    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny.RECIPE, out=tmp_path, observe=interrupt)
    run = pretrain(watched(*LOGGERS), out=tmp_path)
    for reader in READERS.values():
        same(reader(run), numbers_in(run))
    same(mlflow_of(run, offline), numbers_in(run))


def test_the_settings_of_the_run_are_told_too(tmp_path, offline):
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = pretrain(watched("tensorboard", {"name": "mlflow", "experiment": "shapes"}), out=tmp_path)
    client = MlflowClient(tracking_uri=str(offline))
    known = client.get_run(run.read_json("loggers.json")["mlflow"]["run_id"])
    assert known.data.params["training.learning_rate"] == "0.01"
    assert (known.info.run_name, known.info.status) == (run.path.name, "FINISHED")
    assert client.get_experiment(known.info.experiment_id).name == "shapes"
    reader = EventAccumulator(str(run.path / "tensorboard"))
    reader.Reload()
    text = reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "learning_rate = 0.01" in text


def test_adaptations_and_studies_are_watched_each_run_its_own(tmp_path):
    parent = tiny.finished_run(tmp_path / "parent")
    how = {"num_samples": 4, **{k: v for k, v in tiny.FEW_CHOICES.items() if k != "scratch_learning_rates"}}
    recipe = build_config(AdaptRecipe, {**how, "training": {**tiny.ADAPTING, "loggers": ["csv"]}})
    from scifm.systems.poisson import Poisson

    for run in (
        finetune(parent, Poisson(), recipe, out=tmp_path),
        from_scratch(parent, Poisson(), recipe, out=tmp_path),
    ):
        same(table_of(run), numbers_in(run))
        assert numbers_in(run)
        assert "loggers" not in run.config["training"]
    tree = tiny.graph_study(seeds=[0], scaling=None, from_scratch=[4])
    tree = {k: v for k, v in tree.items() if v is not None} | {"sources": tree["sources"][:1]}
    plain = StudyRecipe.read(tree)
    for table in (tree["training"], tree["adapt"]["training"]):
        table["loggers"] = ["csv"]
    watching = StudyRecipe.read(tree)
    assert plan_jobs(watching, tmp_path).record == plan_jobs(plain, tmp_path).record
    folder = study(watching, out=tmp_path / "study")
    runs = [Run.open(file.parent) for file in folder.glob("runs/**/config.toml")]
    assert {run.kind for run in runs} == {"pretrain", "finetune", "from_scratch"}
    for run in runs:
        same(table_of(run), numbers_in(run))


# --- what they are no part of -----------------------------------------------------------------------------------------


def test_a_logger_changes_neither_the_name_of_a_run_nor_its_weights(tmp_path):
    plain = pretrain(tiny.RECIPE, out=tmp_path / "plain")
    watching = pretrain(watched("csv"), out=tmp_path / "watched")
    assert watching.path.name == plain.path.name
    assert watching.config == plain.config
    one, other = ((run.path / "model" / "model.safetensors").read_bytes() for run in (plain, watching))
    assert one == other
    assert not (plain.path / "metrics.csv").exists()


def test_recipes_keep_them_and_records_do_not():
    settings = [{"name": "wandb", "project": "poisson"}, "csv"]
    recipe = PretrainRecipe.read(watched(*settings))
    assert recipe.to_dict()["training"]["loggers"] == settings
    assert PretrainRecipe.read(recipe.to_dict()) == recipe
    assert "loggers" not in recipe.to_record()["training"]
    assert recipe.to_record() == PretrainRecipe.read(tiny.RECIPE).to_dict()


@pytest.mark.slow
def test_only_the_first_process_tells_them(tmp_path):
    (tmp_path / "recipe.toml").write_text(dump_toml(watched("csv", num_steps=4)))
    command = ["pretrain", str(tmp_path / "recipe.toml"), "--out", str(tmp_path), "--devices", "2"]
    done = subprocess.run([sys.executable, "-m", "scifm", *command], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("tiny-*")
    same(table_of(Run.open(folder)), numbers_in(Run.open(folder)))


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Failing(Logger):
    """Raises where it is told to."""

    name = "failing"
    at: str = "write"

    def open(self, run: Run, *, step: int) -> Log:
        if self.at == "open":
            raise OSError("no route to host")
        return _FailingLog(self.at)


class _FailingLog(Log):
    def __init__(self, at: str) -> None:
        self.at = at

    def _fail(self, at: str) -> None:
        if self.at == at:
            raise OSError("no route to host")

    def write(self, step, numbers):
        if step > 3:
            self._fail("write")

    def flush(self):
        self._fail("flush")

    def close(self, *, complete):
        self._fail("close")


@pytest.mark.parametrize(("at", "step"), [("open", 0), ("write", 4), ("flush", 3), ("close", 12)])
def test_a_logger_that_fails_says_so_once_and_training_goes_on(tmp_path, monkeypatch, at, step):
    monkeypatch.setitem(LOGGERS, "failing", Failing)
    seen: list[dict[str, Any]] = []
    recipe = watched({"name": "failing", "at": at}, "csv")
    run = pretrain(recipe, out=tmp_path, observe=lambda **event: seen.append(event))
    assert run.is_complete
    failed = [event for event in run.metrics() if event["event"] == "logger_failed"]
    assert [(event["logger"], event["reason"]) for event in failed] == [("failing", "OSError: no route to host")]
    assert abs(failed[0]["step"] - step) <= 1
    assert [event for event in seen if event["event"] == "logger_failed"] == failed
    assert tiny.steps_of(run.metrics(), "train") == [2, 4, 6, 8, 10, 12]
    same(table_of(run), numbers_in(run))


class Hanging(Logger):
    """Never comes back from what it is told."""

    name = "hanging"

    def open(self, run: Run, *, step: int) -> Log:
        return _HangingLog()


class _HangingLog(Log):
    def write(self, step, numbers):
        threading.Event().wait()


def test_a_logger_that_hangs_is_left_behind_and_the_process_ends(tmp_path):
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_loggers
from scifm.training import recording
from scifm.training.pretrain import pretrain
recording._PATIENCE = 0.5
test_loggers.LOGGERS["hanging"] = test_loggers.Hanging
print(pretrain(json.loads(sys.argv[1]), out=sys.argv[2]).path)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, json.dumps(watched("hanging", "csv")), str(tmp_path)]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=variables)
    assert done.returncode == 0, done.stderr
    run = Run.open(done.stdout.strip())
    assert run.is_complete
    (failed,) = [event for event in run.metrics() if event["event"] == "logger_failed"]
    assert (failed["logger"], failed["reason"]) == ("hanging", "no answer within 0.5 seconds")
    same(table_of(run), numbers_in(run))


def test_without_an_observer_a_failure_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGERS, "failing", Failing)
    with pytest.warns(UserWarning, match="logger 'failing' failed at step 4 .*no route to host.* is complete"):
        pretrain(watched("failing"), out=tmp_path)


def test_what_fails_of_ours_is_no_fault_of_a_logger(tmp_path):
    def fail(**event: Any) -> None:
        if event["event"] == "valid":
            raise ZeroDivisionError("of the observer")

    with pytest.raises(ZeroDivisionError):
        pretrain(watched("csv"), out=tmp_path, observe=fail)
    (folder,) = tmp_path.glob("tiny-*")
    assert Run.open(folder).status.startswith("failed")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_missing_is_told_before_any_training(tmp_path, monkeypatch, name):
    monkeypatch.setattr(loggers, "find_spec", lambda package: None if package == name else object())
    said = rf"logger '{name}' needs the package '{name}'.*pip install 'scifm\[track\]'"
    with pytest.raises(ConfigError, match=said):
        pretrain(watched(name), out=tmp_path)
    with pytest.raises(ConfigError, match=said):
        finetune("nowhere", "nothing", training={"loggers": [name]})  # type: ignore[arg-type]
    tree = tiny.graph_study()
    tree["adapt"]["training"]["loggers"] = [name]
    with pytest.raises(ConfigError, match=said):
        study(StudyRecipe.read(tree), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_mlflow_cannot_use_is_told_before_any_training(tmp_path):
    with pytest.raises(ConfigError, match=r"logger 'mlflow' cannot use 'gopher://x'.*tracking_uri"):
        pretrain(watched({"name": "mlflow", "tracking_uri": "gopher://x"}), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["tensorbord"], "'tensorbord' is unknown. Did you mean 'tensorboard'"),
        (["csv", "csv"], "'csv' is there twice"),
        ("csv", 'write a list, such as \\["tensorboard"\\]'),
        ([{"name": "wandb", "projekt": "x"}], "projekt.*project"),
        ([{"project": "x"}], "has no name"),
    ],
)
def test_names_and_settings_that_do_not_exist(given, said):
    with pytest.raises(ConfigError, match=said):
        PretrainRecipe.read(tiny.recipe(training={"loggers": given}))


def test_a_training_that_is_no_run_refuses_them():
    recipe = PretrainRecipe.read(tiny.RECIPE)
    config = TrainingConfig(num_steps=1, loggers=(CSV(),))
    with pytest.raises(ConfigError, match=r"training\.loggers = .* would have no effect.*observer"):
        train(tiny.operator(), training_source(recipe), config=config)


def test_a_number_that_is_not_finite_stands_in_the_table(tmp_path):
    log = CSV().open(Run(tmp_path), step=0)
    log.write(1, {"spike/times_median": math.inf})
    log.write(2, {"train/loss": math.nan})
    assert (tmp_path / "metrics.csv").read_text().split() == [
        "step,spike/times_median,train/loss", "1,inf,", "2,,nan",
    ]  # fmt: skip
