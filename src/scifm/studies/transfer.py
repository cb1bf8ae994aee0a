"""The transfer study: does pre-training help on a shifted system, and how many samples is it worth?

Pre-train once; score in distribution and, on the shifted system, with no example; then fine-tune on a few samples and
train from scratch on as many, under equal budgets: the same steps, the same learning rates tried, the same subsets.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from scifm.config import Config, refuse_idle
from scifm.data.origin_config import DataConfig, SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.evaluation.evaluate import Scores, evaluate
from scifm.evaluation.origin import origin_of
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.models.hub import load_operator
from scifm.runs import Run, write_atomically, write_json
from scifm.systems.system import System
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loop import Observer, TrainingConfig
from scifm.training.pretrain import PretrainRecipe, pretrain
from scifm.training.processes import require_alone
from scifm.training.recipe import ModelConfig
from scifm.wording import plural

__all__ = ["TransferRecipe", "transfer"]

_ADAPTATIONS: dict[str, Callable[..., Run]] = {"few_shot": finetune, "from_scratch": from_scratch}
_ORDER = ("in_distribution", "zero_shot", *_ADAPTATIONS)


class TransferRecipe(Config):
    """What to pre-train, where to move, and with how many samples. The defaults are the demo.

    Args:
        title: heading of the report.
        pretrain: the pre-training, complete.
        downstream: the shifted system.
        few_shot: numbers of downstream samples to fine-tune on.
        from_scratch: numbers of downstream samples to train from scratch on.
        seeds: each repeats every adaptation with other samples and other first weights.
        adapt: how to adapt; num_samples and seed are filled in.
        scratch_learning_rates: candidates when training from scratch, as many as for fine-tuning so that both get the
            same number of trials; empty: the same candidates.
        pool_size: downstream samples that the subsets are taken from.
        num_test_samples: unseen samples for every score.
        num_examples: samples drawn as pictures.
    """

    title: str = "Poisson, moved to stronger anisotropy"
    pretrain: PretrainRecipe = PretrainRecipe(
        system=SystemConfig(name="poisson", knobs={"anisotropy": [1, 5]}),
        data=DataConfig(num_points=64),
        model=ModelConfig(network=FNOConfig()),
        training=TrainingConfig(num_steps=6000, validate_every=500),
    )
    downstream: SystemConfig = SystemConfig(name="poisson", knobs={"anisotropy": [5, 10]})
    few_shot: tuple[int, ...] = (16, 64, 256)
    from_scratch: tuple[int, ...] = (16, 64, 256, 1024)
    seeds: tuple[int, ...] = (0, 1)
    adapt: AdaptRecipe = AdaptRecipe(
        learning_rates=(3e-4, 1e-3),
        min_scored=1,  # one split, to be done in minutes
        training=TrainingConfig(num_steps=200, validate_every=100, checkpoint_every=100),
    )
    scratch_learning_rates: tuple[float, ...] = (3e-3, 1e-2)
    pool_size: int = Field(1024, ge=2)
    num_test_samples: int = Field(512, ge=1)
    num_examples: int = Field(2, ge=1, le=8)

    @model_validator(mode="after")
    def _pool_holds_all(self) -> TransferRecipe:
        largest = max((*self.few_shot, *self.from_scratch), default=0)
        if largest > self.pool_size:
            raise ValueError(f"pool_size = {self.pool_size} is smaller than the largest subset, {largest}")
        if not self.seeds or not self.few_shot:
            raise ValueError("give at least one seed and one few_shot count")
        if len(self.scratch_learning_rates) not in (0, len(self.adapt.learning_rates)):
            raise ValueError("give as many scratch_learning_rates as adapt.learning_rates, for an equal budget")
        if self.pretrain.system is None:
            raise ValueError("a transfer study samples its systems: give pretrain.system")
        refuse_idle(self.adapt, ("num_samples", "seed"), "the study chooses them itself", prefix="adapt.")
        refuse_idle(self.adapt, ("stride",), "the systems here are steady", prefix="adapt.")
        refuse_idle(self.pretrain.training, ("strategy",), "one process pre-trains", prefix="pretrain.training.")
        self.pretrain.check()
        return self

    @property
    def grid(self) -> Grid:
        """Where every field of the study lives."""
        return self.pretrain.data.grid(self.downstream.build().signature.num_spatial_dims)

    def draw_test(self, which: str) -> Batch:
        """Return unseen samples of ``pretrain``'s system or of ``downstream``: the same ones whoever asks."""
        generator = generator_for(self.pretrain.seed, which, "test")
        return self.system_of(which).sample(self.num_test_samples, self.grid, generator)

    def system_of(self, which: str) -> System:
        """Return ``pretrain``'s system or that of ``downstream``."""
        config = self.pretrain.system if which == "pretrain" else self.downstream
        assert config is not None
        return config.build()


@dataclass(frozen=True)
class _Row:
    """One scored operator; a row of results.parquet."""

    kind: str
    num_samples: int
    seed: int
    coefficients: str
    learning_rate: float | None
    num_trials: int
    trial_steps: int
    num_steps: int
    relative_l2: float
    relative_l2_median: float
    relative_l2_p90: float
    seconds: float
    run: str | None


def transfer(
    recipe: TransferRecipe, *, out: str | Path, executor: Executor | None = None, observe: Observer | None = None
) -> Path:
    """Carry out the study, or go on with an interrupted one: complete runs are not run again.

    Args:
        recipe: what to do.
        out: folder of the study.
        executor: where adaptations run, several at a time, such as a `worker_pool`. None: here, one after the other.
        observe: called with every event; ``stage`` events name what begins.

    Returns:
        The folder, holding summary.json, results.parquet, examples.npz, config.toml, environment.json and runs/.

    Raises:
        ConfigError: if a launcher started several processes.
        RunError: if the folder holds another study, is in use, or cannot be written.
    """
    require_alone("A study")
    folder = Path(out)
    with Run.claim(folder, {"kind": "transfer", **recipe.to_dict()}).locked():
        return _Study(recipe, folder, executor, observe if observe is not None else _ignore).carry_out()


def _ignore(**event: Any) -> None:
    pass


@dataclass(frozen=True)
class _Adaptation:
    """One adaptation of the study: small enough to send to another process, which draws the samples itself."""

    kind: str
    num_samples: int
    seed: int

    def carry_out(self, recipe: TransferRecipe, parent: Path, folder: Path) -> tuple[_Row, Path]:
        """Adapt, score on the test samples, and return the row and where the run is."""
        settings = recipe.adapt.model_copy(update={"num_samples": self.num_samples, "seed": self.seed})
        if self.kind == "from_scratch" and recipe.scratch_learning_rates:
            settings = settings.model_copy(update={"learning_rates": recipe.scratch_learning_rates})
        pool = SystemOrigin(recipe.downstream, recipe.grid).pool(recipe.pool_size, recipe.pretrain.seed)
        run = _ADAPTATIONS[self.kind](parent, pool, settings, out=folder / "runs")
        scores = _scored(run, recipe, "downstream", "downstream")
        outcome = run.read_json("outcome.json")
        told = {name: outcome[name] for name in ("learning_rate", "num_trials", "trial_steps", "num_steps", "seconds")}
        told["coefficients"] = outcome.get("coefficients", "")
        return _row(self.kind, scores, run, folder, num_samples=self.num_samples, seed=self.seed, **told), run.path


def _scored(run: Run, recipe: TransferRecipe, system: str, name: str) -> Scores:
    """Score a run on the study's test samples and keep every score in a file called `name`."""
    test = recipe.draw_test(system)
    about = {"task": name.replace("_", " "), "system": recipe.system_of(system).to_dict(), **origin_of(test)}
    return evaluate(run, test, record=run.scores_file(name), origin=about)


def _row(kind: str, scores: Scores, run: Run, folder: Path, **told: Any) -> _Row:
    return _Row(
        kind=kind,
        relative_l2=scores.mean(),
        relative_l2_median=scores.quantile(0.5),
        relative_l2_p90=scores.quantile(0.9),
        run=run.path.relative_to(folder).as_posix(),
        **told,
    )


class _Study:
    def __init__(self, recipe: TransferRecipe, folder: Path, executor: Executor | None, observe: Observer) -> None:
        self.recipe, self.folder, self.executor, self.observe = recipe, folder, executor, observe
        self.rows: list[_Row] = []
        self.seconds_by_part: dict[str, float] = {}

    def carry_out(self) -> Path:
        study = Run(self.folder)
        study.set_status("running")
        self._announce(1, "pre-training", self.recipe.pretrain.training.num_steps)
        parent = pretrain(self.recipe.pretrain, out=self.folder / "runs", observe=self.observe)
        self.seconds_by_part["pretrain"] = parent.seconds
        self._score_parent(parent)
        adapted = self._adapt_all(parent)
        self._write_results()
        self._write_examples(parent, adapted)
        study.note_time()
        self.seconds_by_part["adapt"] = max(0.0, study.seconds - parent.seconds)
        self._write_summary(parent, study.seconds)
        study.set_status("complete")
        return self.folder

    def _announce(self, stage: int, name: str, num_steps: int) -> None:
        self.observe(event="stage", name=name, num_steps=num_steps, stage=stage, num_stages=2)

    def _score_parent(self, parent: Run) -> None:
        config = self.recipe.pretrain.training
        told: dict[str, Any] = {
            "num_samples": 0,
            "seed": self.recipe.pretrain.seed,
            "learning_rate": config.learning_rate,
        }
        told |= {
            "coefficients": "",
            "num_trials": 1,
            "trial_steps": 0,
            "num_steps": config.num_steps,
            "seconds": self.seconds_by_part["pretrain"],
        }
        for kind, system in (("in_distribution", "pretrain"), ("zero_shot", "downstream")):
            scores = _scored(parent, self.recipe, system, kind)
            self._record(_row(kind, scores, parent, self.folder, **told))

    def _adapt_all(self, parent: Run) -> dict[tuple[str, int, int], Path]:
        jobs = [
            _Adaptation(kind, count, seed)
            for seed in self.recipe.seeds
            for kind in _ADAPTATIONS
            for count in getattr(self.recipe, kind)
        ]
        self._announce(2, f"{plural(len(jobs), 'adaptation')}", len(jobs))
        runs: dict[tuple[str, int, int], Path] = {}
        for job, (row, path) in self._results(jobs, parent):
            self._record(row)
            self.observe(event="step", step=len(runs))
            runs[job.kind, job.num_samples, job.seed] = path
        self.rows.sort(key=lambda row: (list(_ORDER).index(row.kind), row.num_samples, row.seed))
        return runs

    def _results(self, jobs: list[_Adaptation], parent: Run) -> Iterator[tuple[_Adaptation, tuple[_Row, Path]]]:
        if self.executor is None:
            for job in jobs:
                yield job, job.carry_out(self.recipe, parent.path, self.folder)
            return
        futures = {self.executor.submit(job.carry_out, self.recipe, parent.path, self.folder): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()

    def _record(self, row: _Row) -> None:
        self.rows.append(row)
        told = {"kind": row.kind, "num_samples": row.num_samples, "seed": row.seed}
        self.observe(event="scored", relative_l2=row.relative_l2, **told)

    def _mean(self, kind: str, count: int = 0) -> float:
        return float(np.mean([r.relative_l2 for r in self.rows if (r.kind, r.num_samples) == (kind, count)]))

    def _write_results(self) -> None:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in self.rows]), buffer)
        write_atomically(self.folder / "results.parquet", buffer.getvalue())

    def _write_summary(self, parent: Run, seconds: float) -> None:
        r = self.recipe
        assert r.pretrain.system is not None
        summary: Mapping[str, Any] = {
            "in_distribution": self._mean("in_distribution"),
            "zero_shot": self._mean("zero_shot"),
            "few_shot": {str(n): self._mean("few_shot", n) for n in r.few_shot},
            "from_scratch": {str(n): self._mean("from_scratch", n) for n in r.from_scratch},
            "seconds": seconds,
            "title": r.title,
            "num_test_samples": r.num_test_samples,
            "num_seeds": len(r.seeds),
            "num_steps_adapt": r.adapt.training.num_steps,
            "learning_rates": list(r.adapt.learning_rates),
            "tried_zero_shot": r.adapt.try_zero_shot and r.adapt.chooses,
            "scratch_learning_rates": list(r.scratch_learning_rates or r.adapt.learning_rates),
            "pretrain_system": r.pretrain.system.build().to_dict(),
            "downstream_system": r.downstream.build().to_dict(),
            "seconds_by_part": self.seconds_by_part,
            "num_params": load_operator(parent).num_params,
        }
        write_json(self.folder / "summary.json", summary)

    def _write_examples(self, parent: Run, adapted: dict[tuple[str, int, int], Path]) -> None:
        """Keep some fields to look at: the first test samples, answered by every kind of operator.

        The pictures show the count in the middle of the fine-tuned ones, beside training from scratch on as many.
        """
        counts = sorted(set(self.recipe.few_shot) & set(self.recipe.from_scratch)) or sorted(self.recipe.few_shot)
        count, seed = counts[len(counts) // 2], self.recipe.seeds[0]
        some = self.recipe.draw_test("downstream").select(slice(0, self.recipe.num_examples))
        runs = {"zero_shot": parent.path}
        runs |= {kind: adapted[kind, count, seed] for kind in _ADAPTATIONS if (kind, count, seed) in adapted}
        arrays: dict[str, Any] = {
            "forcing": some.field("forcing")[:, 0].numpy(),
            "truth": some.require_targets()[:, 0, 0].numpy(),
            "coefficients": some.coefficients.numpy(),
            "coefficient_names": np.array(some.signature.coefficients),
            "few_shot_label": np.array(f"fine-tuned on {count}"),
            "from_scratch_label": np.array(f"from scratch on {count}"),
            "extent": np.array(self.recipe.grid.extent),
        }
        for kind, path in runs.items():
            operator = load_operator(path / "model")
            arrays[kind] = operator.predict(some).require_targets()[:, 0, 0].numpy()
            arrays[f"sample_error_{kind}"] = evaluate(operator, some).values["relative_l2"][:, 0, 0].numpy()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(self.folder / "examples.npz", buffer.getvalue())
