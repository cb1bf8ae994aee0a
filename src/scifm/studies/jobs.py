"""The jobs of a study: pre-train, fine-tune, train from scratch; each ends in rows of the table.

A job is a few plain values, so that it can be sent to another process, which draws its samples itself. It leaves its
rows in the run folder before it tidies up, so whatever interrupts it, nothing is done twice. Beside the jobs stands
which of their answers are kept to be looked at.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scifm.data.origins import DownstreamPool, Origin
from scifm.data.store import Store
from scifm.evaluation.evaluate import evaluate, origin_of
from scifm.fields.batch import Batch
from scifm.models.folder import holds_operator
from scifm.models.registry import load_operator
from scifm.runs import Run, write_atomically, write_json
from scifm.studies.recipe import SourceConfig, StudyRecipe, TargetConfig
from scifm.studies.table import Row
from scifm.training.choice import AdaptRecipe, Candidate
from scifm.training.costs import training_flops
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import PretrainRecipe, pretrain

__all__ = ["Adaptation", "Effort", "Pretraining", "Task", "draw_test", "example_jobs", "pool_of", "write_examples"]

Result = dict[str, Any]


def draw_test(recipe: StudyRecipe, name: str, origin: Origin) -> Batch:
    """Return the unseen samples of the task called `name`: the same ones whoever asks."""
    return origin.test(recipe.num_test_samples, name)


def pool_of(recipe: StudyRecipe, target: TargetConfig) -> DownstreamPool:
    """Return the samples that the subsets of a target are taken from."""
    return recipe.origin(target).pool(recipe.pool_size)


@dataclass(frozen=True)
class Effort:
    """What a job takes.

    Args:
        num_steps: optimizer steps in all.
        batch_size: samples of each.
        keeps_weights: whether its run keeps its operator.
        num_drawn: samples that are drawn and solved while it trains.
    """

    num_steps: int
    batch_size: int
    keeps_weights: bool
    num_drawn: int = 0


@dataclass(frozen=True)
class Pretraining:
    """Pre-train; score on the source's own systems and, without an example, on every target.

    Args:
        source: what to pre-train on.
        size: name of the network.
        seed: of weights and samples.
        num_steps: for the laws of scaling another length; then the rows call the source ``name+steps``.
    """

    source: SourceConfig
    size: str
    seed: int
    num_steps: int | None = None

    @property
    def name(self) -> str:
        """What the graph calls it."""
        kind, steps = ("pretrain", "") if self.num_steps is None else ("scaling", f"@{self.num_steps}steps")
        return f"{kind}@{self.source.name}@{self.size}{steps}@seed{self.seed}"

    @property
    def group(self) -> str:
        """What a progress display puts it under."""
        return f"pre-training {self.source.name}" if self.num_steps is None else "scaling"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs that come first."""
        return ()

    def effort(self, recipe: StudyRecipe) -> Effort:
        """Return what it takes."""
        training = self._settings(recipe).training
        seen, distinct = (
            training.num_steps * training.batch_size,
            recipe.data.num_samples,
        )  # None: every step draws its own
        drawn = 0 if self.source.store is not None else min(seen, distinct or seen)
        return Effort(training.num_steps, training.batch_size, keeps_weights=True, num_drawn=drawn)

    def _settings(self, recipe: StudyRecipe) -> PretrainRecipe:
        return recipe.pretraining(self.source, self.size, self.seed, self.num_steps)

    def carry_out(self, recipe: StudyRecipe, folder: Path) -> Result:
        """Return the run's folder, relative to the study's, and its rows as plain dictionaries."""
        settings = self._settings(recipe)
        run = pretrain(settings, out=folder / "runs")
        if (before := _result_of(run)) is not None:
            return before
        steps, seen = settings.training.num_steps, settings.training.num_steps * settings.training.batch_size
        distinct = recipe.data.num_samples  # None: every step draws its own
        if self.source.store is not None:
            distinct = Store.open(self.source.store).splits["train"]
        about: dict[str, Any] = {
            "source": self.source.name if self.num_steps is None else f"{self.source.name}+{steps}",
            "source_systems": recipe.origin(self.source).name,
            "size": self.size,
            "seed": self.seed,
            "num_pretrain_samples": min(seen, distinct or seen),
            "num_samples": 0,
            "method": "",
            "coefficients": "",
            "learning_rate": settings.training.learning_rate,
            "num_trials": 1,
            "trial_steps": 0,
            "num_steps": steps,
            "seconds": run.seconds,
        }
        tasks: list[tuple[str, Origin, str]]
        tasks = [(f"{self.source.name}+{o.name}", o, "in_distribution") for o in recipe.origins(self.source)]
        asked = [target for target in recipe.targets_of(self.source) if recipe.knows(self.source, target)]
        tasks += [(target.name, recipe.origin(target), "zero_shot") for target in asked]
        rows = []
        for task, origin, kind in tasks:
            test = draw_test(recipe, task, origin)
            scored = _scored(run, folder, test, task, origin=origin, num_trained=seen)
            rows.append(Row(kind=kind, target=task, **_task(origin), **about, **scored))
        return _finish(run, folder, rows, keeps_weights=True)


@dataclass(frozen=True)
class Adaptation:
    """Fine-tune a pre-trained operator on a target's samples, or train from scratch on them; score on its test samples.

    Args:
        source: the parent's; None from scratch.
        target: the task.
        size: name of the network.
        num_samples: downstream samples; of a store of trajectories, whole ones.
        seed: which samples, and first weights from scratch.
        parent_seed: of the pre-training.
        to_convergence: from scratch, whether it trains until its held-out error stops falling.
    """

    source: SourceConfig | None
    target: TargetConfig
    size: str
    num_samples: int
    seed: int
    parent_seed: int = 0
    to_convergence: bool = False

    @property
    def kind(self) -> Literal["few_shot", "from_scratch", "from_scratch_converged"]:
        """The kind of its row."""
        if self.source is not None:
            return "few_shot"
        return "from_scratch_converged" if self.to_convergence else "from_scratch"

    @property
    def name(self) -> str:
        """What the graph calls it."""
        source = "" if self.source is None else f"@{self.source.name}"
        return f"{self.kind}{source}@{self.target.name}@{self.size}@{self.num_samples}@seed{self.seed}"

    @property
    def group(self) -> str:
        """What a progress display puts it under."""
        return "from scratch" if self.source is None else f"fine-tuning {self.source.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs that come first."""
        return () if self.source is None else (Pretraining(self.source, self.size, self.parent_seed).name,)

    def effort(self, recipe: StudyRecipe) -> Effort:
        """Return what it takes, trials of learning rates included."""
        settings = self._settings(recipe)
        batch = min(settings.training.batch_size, self.num_samples * recipe.origin(self.target).windows)
        longest = 2**settings.max_doublings * settings.training.num_steps
        rates = settings.learning_rates
        ways = tuple(map(Candidate, rates)) if self.source is None else settings.candidates(fits=True)
        keeps = recipe.keep_weights == "all" or self in example_jobs(recipe).values()
        return Effort(settings.steps_of_trials(ways) + longest, batch, keeps_weights=keeps)

    def _settings(self, recipe: StudyRecipe) -> AdaptRecipe:
        kind: Literal["few_shot", "from_scratch"] = "few_shot" if self.source is not None else "from_scratch"
        windows = recipe.origin(self.target).windows
        model = recipe.model(self.size)
        settings = recipe.adapt.recipe(kind, self.num_samples, self.seed, windows=windows, model=model)
        if not self.to_convergence:
            return settings
        assert recipe.convergence is not None
        return settings.model_copy(update={"max_doublings": recipe.convergence.max_doublings})

    def carry_out(self, recipe: StudyRecipe, folder: Path, parent: Result | None = None) -> Result:
        """Return the run's folder, relative to the study's, and its row as a plain dictionary."""
        settings, pool, out = self._settings(recipe), pool_of(recipe, self.target), folder / "runs" / self.target.name
        if parent is None:
            run = from_scratch(recipe.model(self.size).plain(), pool, settings, out=out)
        else:
            run = finetune(folder / parent["run"], pool, settings, out=out)
        if (before := _result_of(run)) is not None:
            return before
        origin = recipe.origin(self.target)
        test = draw_test(recipe, self.target.name, origin)
        outcome = run.read_json("outcome.json")
        pretrained = parent["rows"][0] if parent is not None else {}
        num_seen = outcome["samples_seen"]
        scored = _scored(run, folder, test, self.target.name, origin=origin, num_trained=num_seen)
        earlier = pretrained.get("flops", 0.0)
        scored["flops"] = None if None in (scored["flops"], earlier) else scored["flops"] + earlier
        row = Row(
            kind=self.kind,
            source=self.source.name if self.source is not None else "",
            source_systems=recipe.origin(self.source).name if self.source is not None else "",
            target=self.target.name,
            size=self.size,
            num_pretrain_samples=pretrained.get("num_pretrain_samples", 0),
            num_samples=self.num_samples,
            seed=self.seed,
            method=settings.method.method,
            coefficients=outcome.get("coefficients", ""),
            **{name: outcome[name] for name in ("learning_rate", "num_trials", "trial_steps", "num_steps", "seconds")},
            **_task(origin),
            **scored,
        )
        return _finish(run, folder, [row], keeps_weights=self.effort(recipe).keeps_weights)


Task = Pretraining | Adaptation


def example_jobs(recipe: StudyRecipe) -> dict[str, Task]:
    """Return by kind the jobs whose answers are drawn: those of the first source that is moved to the first task.

    Their weights are kept until that is done. Empty where nothing is to be drawn, or cannot be.
    """
    target = recipe.targets[0]
    movable = (s for s in recipe.sources if target in recipe.targets_of(s) and recipe.knows(s, target))
    source = next(movable, None)
    if not recipe.num_examples or source is None or not recipe.can_be_drawn:
        return {}
    few_shot, scratch = recipe.counts_of(source)
    counts = sorted({*few_shot} & {*scratch}) or sorted(few_shot) or sorted(scratch)
    size, seed, parent = recipe.sizes_of(source)[0], recipe.seeds[0], (source.seeds or recipe.seeds)[0]
    jobs: dict[str, Task] = {"zero_shot": Pretraining(source, size, parent)}
    if counts:
        count = counts[len(counts) // 2]
        if count in few_shot:
            jobs["few_shot"] = Adaptation(source, target, size, count, seed, parent)
        if count in scratch:
            jobs["from_scratch"] = Adaptation(None, target, size, count, seed)
    return jobs


def write_examples(recipe: StudyRecipe, folder: Path, results: dict[str, Any]) -> None:
    """Write ``examples.npz`` into a study's folder, where it is not there yet, and drop weights kept for it alone.

    It holds the first test samples of the first task, answered by every kind of operator: fine-tuned on the number of
    samples in the middle of those tried, beside training from scratch on as many.

    Args:
        recipe: of the study.
        folder: of the study.
        results: of its jobs, by name.

    Raises:
        RunError: if an operator cannot be read or the file cannot be written.
    """
    jobs = example_jobs(recipe)
    models = {kind: folder / results[job.name]["run"] / "model" for kind, job in jobs.items()}
    file = folder / "examples.npz"
    if jobs and not file.is_file():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **_examples(recipe, jobs, models))
        write_atomically(file, buffer.getvalue())
    if recipe.keep_weights == "pretrained":
        for kind in models.keys() - {"zero_shot"}:
            shutil.rmtree(models[kind], ignore_errors=True)


def _examples(recipe: StudyRecipe, jobs: dict[str, Task], models: dict[str, Path]) -> dict[str, Any]:
    target = recipe.targets[0]
    some = draw_test(recipe, target.name, recipe.origin(target)).select(slice(0, recipe.num_examples))
    count = max((job.num_samples for job in jobs.values() if isinstance(job, Adaptation)), default=0)
    arrays: dict[str, Any] = {
        "forcing": some.field("forcing")[:, 0].numpy(),
        "truth": some.require_targets()[:, 0, 0].numpy(),
        "coefficients": some.coefficients.numpy(),
        "coefficient_names": np.array(some.signature.coefficients),
        "few_shot_label": np.array(f"fine-tuned on {count}"),
        "from_scratch_label": np.array(f"from scratch on {count}"),
        "extent": np.array(some.grid.extent),
    }
    for kind, model in models.items():
        if holds_operator(model):  # of a study made before there were examples, weights may be gone
            operator = load_operator(model)
            arrays[kind] = operator.answers(some).require_targets()[:, 0, 0].numpy()
            arrays[f"sample_error_{kind}"] = evaluate(operator, some).values["relative_l2"][:, 0, 0].numpy()
    return arrays


def _result_of(run: Run) -> Result | None:
    return run.read_json("rows.json") if run.is_complete and (run.path / "rows.json").is_file() else None


def _task(origin: Origin) -> dict[str, Any]:
    return {"system": origin.name, "knobs": json.dumps(origin.ranges())}


def _scored(run: Run, folder: Path, test: Batch, task: str, *, origin: Origin, num_trained: int) -> dict[str, Any]:
    """Score a run, keep every score in the task's file, and return what its row says of errors and effort."""
    operator = load_operator(run)
    about = {"task": task, "label": origin.label, "knobs": origin.ranges(), **origin_of(test)}
    scores = evaluate(operator, test, record=run.scores_file(task), origin=about)
    flops = training_flops(operator, test)
    return {
        "relative_l2": scores.mean(),
        "relative_l2_median": scores.quantile(0.5),
        "relative_l2_p90": scores.quantile(0.9),
        "num_params": operator.num_params,
        "flops": None if flops is None else num_trained * flops,
        "run": run.path.relative_to(folder).as_posix(),
    }


def _finish(run: Run, folder: Path, rows: list[Row], *, keeps_weights: bool) -> Result:
    """Write the rows into the run's folder, then drop what is not needed any more."""
    result = {"run": run.path.relative_to(folder).as_posix(), "rows": [asdict(row) for row in rows]}
    write_json(run.path / "rows.json", result)
    shutil.rmtree(run.path / "state", ignore_errors=True)
    if not keeps_weights:
        shutil.rmtree(run.path / "model", ignore_errors=True)
    return result
