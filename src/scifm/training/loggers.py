"""Loggers by name: who is told, besides ``metrics.jsonl``, how a training goes.

A recipe writes them so::

    loggers = ["tensorboard", { name = "wandb", project = "poisson" }]

They are told the numbers of every event that ``metrics.jsonl`` holds, by names such as ``train/loss``, and change
nothing of a result: so they are no part of the configuration that a run is known by, and may differ between sittings.
`scifm.training.recording` opens them, tells them, and goes on without one that fails. Each package is used directly:
Lightning's loggers delete what an earlier sitting wrote (CSV), or only pass on to the same packages.
"""

from __future__ import annotations

import abc
import csv
import json
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from scifm.config import Config, named_settings, told_by_name
from scifm.errors import ConfigError, suggest
from scifm.runs import Run, write_json

__all__ = [
    "CSV", "LOGGERS", "Log", "Logger", "MLflow", "NamedLoggers", "TensorBoard", "WeightsAndBiases", "numbers_of",
    "require_loggers",
]  # fmt: skip

_MLFLOW_LONGEST = 500  # characters of a parameter: what every version takes


def numbers_of(event: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an event as ``train/loss``: its kind, and what it says; neither words nor the step."""
    numbers = {key: value for key, value in event.items() if key != "step" and type(value) in (int, float)}
    return {f"{event['event']}/{key}": value for key, value in numbers.items()}


class Log(abc.ABC):
    """What a logger opened for one run. It may raise what it likes; training goes on without it."""

    def held(self, name: str) -> int:
        """Return the last step of which it has the number `name` from an earlier sitting; −1: of none."""
        return -1

    @abc.abstractmethod
    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of an event, by names such as ``train/loss``."""

    def flush(self) -> None:  # noqa: B027 - some have nothing to do
        """Bring to the disk what was taken: a state of the training is about to be saved."""

    def close(self, *, complete: bool) -> None:  # noqa: B027
        """End this sitting; `complete`: training came to its end."""


class Logger(Config, abc.ABC):
    """Where else the events of a training go.

    Attributes:
        name: in `LOGGERS`.
        package: what has to be installed for it; None: nothing.
    """

    name: ClassVar[str]
    package: ClassVar[str | None] = None

    def require(self) -> None:
        """Check that it can be used here, without asking any server.

        Raises:
            ConfigError: if its package is missing.
        """
        if self.package is not None and find_spec(self.package) is None:
            raise ConfigError(
                f"The logger '{self.name}' needs the package '{self.package}', which is not installed: "
                "pip install 'scifm[track]', or take it out of training.loggers."
            )

    @abc.abstractmethod
    def open(self, run: Run, *, step: int) -> Log:
        """Return what takes the numbers of a run.

        Args:
            run: whose folder it may write into, but not into files of ours.
            step: that training goes on from; what it has of later steps will be told again.
        """


def _kept(run: Run, name: str) -> dict[str, Any]:
    """Return what a logger noted in the run's folder; empty where it is new there."""
    return dict(run.read_json("loggers.json").get(name, {})) if (run.path / "loggers.json").is_file() else {}


def _keep(run: Run, name: str, entries: dict[str, Any]) -> None:
    file = run.path / "loggers.json"
    write_json(file, {**(run.read_json(file.name) if file.is_file() else {}), name: entries})


# --- CSV --------------------------------------------------------------------------------------------------------------


class CSV(Logger):
    """A table, ``metrics.csv`` in the run's folder: a row an event, a column a number, empty where it says none."""

    name: ClassVar[str] = "csv"

    def open(self, run: Run, *, step: int) -> Log:
        return _Table(run.path / "metrics.csv")


class _Table(Log):
    def __init__(self, file: Path) -> None:
        self.file, self.columns = file, ["step"]
        self._rewrite([])  # it is told all there was before again

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        if new := [name for name in numbers if name not in self.columns]:
            with self.file.open(newline="", encoding="utf-8") as handle:
                before = list(csv.DictReader(handle))
            self.columns += new
            self._rewrite(before)
        with self.file.open("a", newline="", encoding="utf-8") as handle:
            csv.DictWriter(handle, self.columns).writerow({"step": step, **numbers})

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        aside = self.file.with_name(f".{self.file.name}.part")
        with aside.open("w", newline="", encoding="utf-8") as handle:
            table = csv.DictWriter(handle, self.columns)
            table.writeheader()
            table.writerows(rows)
        aside.replace(self.file)


# --- TensorBoard ------------------------------------------------------------------------------------------------------


class TensorBoard(Logger):
    """Scalars and the configuration, in ``tensorboard/`` of the run's folder: ``tensorboard --logdir runs``."""

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str | None] = "tensorboard"

    def open(self, run: Run, *, step: int) -> Log:
        return _Board(run, step)


class _Board(Log):
    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        files = [file.name for file in folder.glob("events.out.tfevents.*")]
        self.before = step if files else -1
        if any(f".{int(time.time())}." in name for name in files):
            time.sleep(1)  # files are read in the order of their names, which tell the second
        # by a mark of restart a reader passes over what it met of later steps
        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if self.before >= 0 else None)
        if self.before < 0:
            self.writer.add_text("config", f"```toml\n{(run.path / 'config.toml').read_text(encoding='utf-8')}\n```")

    def held(self, name: str) -> int:
        return self.before

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self.writer.flush()

    def close(self, *, complete: bool) -> None:
        self.writer.close()


# --- Weights & Biases -------------------------------------------------------------------------------------------------


class WeightsAndBiases(Logger):
    """A run of Weights & Biases, named as the folder.

    With ``WANDB_MODE=offline`` every sitting writes a folder of its own under ``wandb/`` of the run's; the newest holds
    the whole run, whatever became of those before.

    Args:
        project: it belongs to.
        entity: user or team; W&B's own default when left out.
        group: under which it is listed, such as that of a study.
    """

    name: ClassVar[str] = "wandb"
    package: ClassVar[str | None] = "wandb"

    project: str = "scifm"
    entity: str | None = None
    group: str | None = None

    def open(self, run: Run, *, step: int) -> Log:
        return _Wandb(self, run)


class _Wandb(Log):
    def __init__(self, settings: WeightsAndBiases, run: Run) -> None:
        import wandb

        before = _kept(run, settings.name).get("id")
        self.run: Any = wandb.init(
            project=settings.project,
            entity=settings.entity,
            group=settings.group,
            name=run.path.name,
            dir=str(run.path),
            config=run.config,
            id=before,
            resume="allow",
            reinit="create_new",  # a study has several in one process
            settings=wandb.Settings(console="off", silent=True),  # the terminal is ours
        )
        _keep(run, settings.name, {"id": self.run.id, "project": settings.project})
        # only a server says how far it is; files may lack what came seconds before a kill
        self.before = -1 if self.run.offline else self.run.step - 1

    def held(self, name: str) -> int:
        return self.before

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=step)

    def close(self, *, complete: bool) -> None:
        self.run.finish(exit_code=0 if complete else 1)


# --- MLflow -----------------------------------------------------------------------------------------------------------


class MLflow(Logger):
    """A run of MLflow, named as the folder; the configuration is its parameters.

    Args:
        experiment: it belongs to; made where there is none.
        tracking_uri: a server, a database (``sqlite:///mlflow.db``, for which the whole package ``mlflow`` is needed)
            or a folder; when left out ``MLFLOW_TRACKING_URI``, or MLflow's own default.
    """

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str | None] = "mlflow"

    experiment: str = "scifm"
    tracking_uri: str | None = None

    def require(self) -> None:
        super().require()
        self.client()

    def client(self) -> Any:
        """Return a client of the place of tracking, which is not asked anything yet.

        Raises:
            ConfigError: if the installed MLflow cannot use such a place.
        """
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.exceptions import MlflowException

        place = self.tracking_uri or get_tracking_uri()
        if urlsplit(place).scheme in ("", "file"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # who names a folder asks for one
        try:
            return MlflowClient(tracking_uri=place)
        except MlflowException as error:
            raise ConfigError(
                f"The logger 'mlflow' cannot use '{place}' ({' '.join(str(error).split())[:160]}…). Give it a server "
                'or a folder ({ name = "mlflow", tracking_uri = "mlruns" }, or MLFLOW_TRACKING_URI); a database needs '
                "pip install mlflow."
            ) from error

    def open(self, run: Run, *, step: int) -> Log:
        return _Mlflow(self, run)


class _Mlflow(Log):
    def __init__(self, settings: MLflow, run: Run) -> None:
        self.client, self.last = settings.client(), {}
        before = _kept(run, settings.name).get("run_id")
        if before is not None:
            self.id: str = before
            self.client.update_run(self.id, status="RUNNING")
            for name in self.client.get_run(self.id).data.metrics:
                self.last[name] = max(number.step for number in self.client.get_metric_history(self.id, name))
            return
        known = self.client.get_experiment_by_name(settings.experiment)
        experiment = known.experiment_id if known else self.client.create_experiment(settings.experiment)
        made = self.client.create_run(experiment, run_name=run.path.name, tags={"scifm.run": str(run.path.resolve())})
        self.id = made.info.run_id
        _keep(run, settings.name, {"run_id": self.id, "experiment": settings.experiment})
        self._tell_settings(run.config)

    def _tell_settings(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        parts = [Param(key, value[:_MLFLOW_LONGEST]) for key, value in _flattened(config).items()]
        for first in range(0, len(parts), 100):  # at most in one call
            self.client.log_batch(self.id, params=parts[first : first + 100])

    def held(self, name: str) -> int:
        return int(self.last.get(name, -1))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def close(self, *, complete: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if complete else "KILLED")


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


# --- by name ----------------------------------------------------------------------------------------------------------

LOGGERS: dict[str, type[Logger]] = {cls.name: cls for cls in (CSV, MLflow, TensorBoard, WeightsAndBiases)}


def _find(name: str) -> type[Logger]:
    if name not in LOGGERS:
        raise ConfigError(f"Logger {suggest(name, LOGGERS)}")
    return LOGGERS[name]


def _listed(value: Any) -> Any:
    if isinstance(value, str | Mapping):
        raise ValueError('write a list, such as ["tensorboard"]')
    return value


def _each_once(loggers: tuple[Logger, ...]) -> tuple[Logger, ...]:
    names = [logger.name for logger in loggers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"'{twice}' is there twice")
    return loggers


_NamedLogger = Annotated[
    Logger,
    BeforeValidator(lambda value: named_settings(value, Logger, _find)),
    PlainSerializer(told_by_name),
]
NamedLoggers = Annotated[tuple[_NamedLogger, ...], BeforeValidator(_listed), AfterValidator(_each_once)]
"""A list of loggers, each once: names, or tables of their names and settings."""


def require_loggers(loggers: tuple[Logger, ...]) -> None:
    """Check that all can be used here, before anything is trained.

    Raises:
        ConfigError: if one cannot; says what to install.
    """
    for logger in loggers:
        logger.require()
