"""The transfer study: does pre-training help on a shifted system, and how many samples is it worth?

Pre-train once; score in distribution and, on the shifted system, with no example; then fine-tune on a few samples and
train from scratch on as many, under equal budgets: the same steps, the same learning rates tried, the same subsets.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field, model_validator

from scifm.config import Config, dump_toml
from scifm.errors import RunError
from scifm.evaluation.evaluate import Scores, evaluate
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.models.hub import load_operator
from scifm.runs import Run, describe_environment, write_atomically, write_json
from scifm.training.finetune import AdaptRecipe, DownstreamPool, downstream_pool, finetune, from_scratch
from scifm.training.loop import Observer, TrainingConfig
from scifm.training.pretrain import PretrainRecipe, pretrain
from scifm.training.recipe import DataConfig, ModelConfig, SystemConfig

__all__ = ["TransferRecipe", "transfer"]

_ADAPTATIONS = {"few_shot": finetune, "from_scratch": from_scratch}


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
        pool_size: downstream samples that the subsets are taken from.
        num_test_samples: unseen samples for every score.
        num_examples: samples drawn as pictures.
    """

    title: str = "Poisson, moved to stronger anisotropy"
    pretrain: PretrainRecipe = PretrainRecipe(
        system=SystemConfig(name="poisson", knobs={"anisotropy": [1, 5]}),
        data=DataConfig(num_points=64),
        model=ModelConfig(network=FNOConfig()),
        training=TrainingConfig(num_steps=3000),
    )
    downstream: SystemConfig = SystemConfig(name="poisson", knobs={"anisotropy": [5, 10]})
    few_shot: tuple[int, ...] = (16, 64, 256)
    from_scratch: tuple[int, ...] = (16, 64, 256, 1024)
    seeds: tuple[int, ...] = (0,)
    adapt: AdaptRecipe = AdaptRecipe()
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
        if self.pretrain.system is None:
            raise ValueError("a transfer study samples its systems: give pretrain.system")
        return self


@dataclass(frozen=True)
class _Row:
    """One scored operator; a row of results.parquet."""

    kind: str
    num_samples: int
    seed: int
    learning_rate: float | None
    num_trials: int
    num_steps: int
    relative_l2: float
    relative_l2_median: float
    relative_l2_p90: float
    seconds: float
    run: str | None


def transfer(recipe: TransferRecipe, *, out: str | Path, observe: Observer | None = None) -> Path:
    """Carry out the study, or go on with an interrupted one: complete runs are not run again.

    Args:
        recipe: what to do.
        out: folder of the study.
        observe: called with every event; ``stage`` events name what begins.

    Returns:
        The folder, holding summary.json, results.parquet, examples.npz, config.toml, environment.json and runs/.

    Raises:
        RunError: if the folder holds another study, is in use, or cannot be written.
    """
    folder = Path(out)
    _claim(folder, recipe)
    with Run(folder).locked():
        return _Study(recipe, folder, observe or _ignore).carry_out()


def _ignore(**event: Any) -> None:
    pass


def _claim(folder: Path, recipe: TransferRecipe) -> None:
    """Write the recipe into a new folder, or check that the folder holds this very study."""
    config = folder / "config.toml"
    text = dump_toml(recipe.to_dict())
    if config.is_file() and config.read_text(encoding="utf-8") != text:
        raise RunError(
            f"'{folder}' holds a study with another recipe. Choose another folder with --out, or delete this one first."
        )
    if not config.is_file():
        write_json(folder / "environment.json", describe_environment())
        write_atomically(config, text.encode())


class _Study:
    def __init__(self, recipe: TransferRecipe, folder: Path, observe: Observer) -> None:
        self.recipe, self.folder, self.observe = recipe, folder, observe
        self.runs = folder / "runs"
        self.system = recipe.downstream.build()
        self.grid = recipe.pretrain.data.grid(self.system.signature.num_spatial_dims)
        self.rows: list[_Row] = []
        self.seconds_by_part: dict[str, float] = {}

    def carry_out(self) -> Path:
        started = time.perf_counter()
        Run(self.folder).set_status("running")
        self.num_stages = 2 + len(self.recipe.seeds) * (len(self.recipe.few_shot) + len(self.recipe.from_scratch))
        self._announce("pre-training", self.recipe.pretrain.training.num_steps)
        parent = pretrain(self.recipe.pretrain, out=self.runs, observe=self.observe)
        self.seconds_by_part["pretrain"] = time.perf_counter() - started
        test = self._draw_test("downstream", self.recipe.downstream)
        self._score_parent(parent, test)
        pool = downstream_pool(
            self.system, grid=self.grid, num_samples=self.recipe.pool_size, seed=self.recipe.pretrain.seed
        )
        adapted = {
            kind: self._adapt_all(kind, counts, parent, pool, test)
            for kind, counts in (("few_shot", self.recipe.few_shot), ("from_scratch", self.recipe.from_scratch))
        }
        self._announce("examples and summary", 1)
        self._write_results()
        self._write_examples(parent, adapted, test)
        self._write_summary(parent, time.perf_counter() - started)
        Run(self.folder).set_status("complete")
        return self.folder

    def _announce(self, name: str, num_steps: int) -> None:
        self.observe(event="stage", name=name, num_steps=num_steps, num_stages=self.num_stages)

    def _draw_test(self, purpose: str, system: SystemConfig) -> Batch:
        generator = generator_for(self.recipe.pretrain.seed, purpose, "test")
        return system.build().sample(self.recipe.num_test_samples, self.grid, generator)

    def _score_parent(self, parent: Run, test: Batch) -> None:
        assert self.recipe.pretrain.system is not None
        familiar = self._draw_test("in_distribution", self.recipe.pretrain.system)
        config = self.recipe.pretrain.training
        for kind, samples in (("in_distribution", familiar), ("zero_shot", test)):
            scores = evaluate(parent, samples)
            scores.write(parent.path / f"scores-{kind}.parquet")
            seed, seconds = self.recipe.pretrain.seed, self.seconds_by_part["pretrain"]
            self._record(kind, 0, seed, config.learning_rate, 1, config.num_steps, scores, seconds, parent)

    def _adapt_all(
        self, kind: str, counts: tuple[int, ...], parent: Run, pool: DownstreamPool, test: Batch
    ) -> dict[tuple[int, int], Run]:
        started = time.perf_counter()
        runs = {}
        for count in counts:
            for seed in self.recipe.seeds:
                recipe = self.recipe.adapt.model_copy(update={"num_samples": count, "seed": seed})
                num_sittings = len(recipe.learning_rates) + (len(recipe.learning_rates) > 1)
                self._announce(
                    f"{kind.replace('_', ' ')} on {count}, seed {seed}", num_sittings * recipe.training.num_steps
                )
                run = _ADAPTATIONS[kind](parent, pool, recipe, out=self.runs, observe=self.observe)
                scores = evaluate(run, test)
                scores.write(run.path / "scores.parquet")
                told = run.read_json("outcome.json")
                self._record(
                    kind,
                    count,
                    seed,
                    told["learning_rate"],
                    told["num_trials"],
                    told["num_steps"],
                    scores,
                    told["seconds"],
                    run,
                )
                runs[count, seed] = run
        self.seconds_by_part[kind] = time.perf_counter() - started
        return runs

    def _record(
        self,
        kind: str,
        count: int,
        seed: int,
        rate: float,
        num_trials: int,
        num_steps: int,
        scores: Scores,
        seconds: float,
        run: Run,
    ) -> None:
        where = run.path.relative_to(self.folder).as_posix()
        middle, high = scores.quantile(0.5), scores.quantile(0.9)
        row = _Row(kind, count, seed, rate, num_trials, num_steps, scores.mean(), middle, high, seconds, where)
        self.rows.append(row)
        self.observe(event="scored", kind=kind, num_samples=count, seed=seed, relative_l2=row.relative_l2)

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
            "pretrain_system": r.pretrain.system.build().to_dict(),
            "downstream_system": self.system.to_dict(),
            "seconds_by_part": self.seconds_by_part,
            "num_params": load_operator(parent.path / "model").num_params,
        }
        write_json(self.folder / "summary.json", summary)

    def _write_examples(self, parent: Run, adapted: dict[str, dict[tuple[int, int], Run]], test: Batch) -> None:
        """Keep some fields to look at: the first test samples, answered by every kind of operator.

        The pictures show the count in the middle of the fine-tuned ones, beside training from scratch on as many.
        """
        counts = sorted(set(self.recipe.few_shot) & set(self.recipe.from_scratch)) or sorted(self.recipe.few_shot)
        count, seed = counts[len(counts) // 2], self.recipe.seeds[0]
        some = test.select(slice(0, self.recipe.num_examples))
        runs = {"zero_shot": parent, "few_shot": adapted["few_shot"].get((count, seed))}
        runs["from_scratch"] = adapted["from_scratch"].get((count, seed))
        arrays = {
            "forcing": some.field("forcing")[:, 0].numpy(),
            "truth": some.require_targets()[:, 0, 0].numpy(),
            "coefficients": some.coefficients.numpy(),
            "coefficient_names": np.array(some.signature.coefficients),
            "few_shot_label": np.array(f"fine-tuned on {count}"),
            "from_scratch_label": np.array(f"from scratch on {count}"),
            "extent": np.array(self.grid.extent),
        }
        for kind, run in runs.items():
            if run is None:
                continue
            operator = load_operator(run.path / "model")
            arrays[kind] = operator.predict(some).require_targets()[:, 0, 0].numpy()
            arrays[f"sample_error_{kind}"] = evaluate(operator, some).values["relative_l2"][:, 0, 0].numpy()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: _plain(array) for name, array in arrays.items()})
        write_atomically(self.folder / "examples.npz", buffer.getvalue())


def _plain(array: np.ndarray | torch.Tensor) -> np.ndarray:
    return np.asarray(array)
