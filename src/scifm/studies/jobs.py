"""The jobs of a study: pre-train, fine-tune, train from scratch; each ends in rows of the table.

Every job is a function of plain values, so that it can be sent to another process, which draws its samples itself. It
leaves its rows in the run folder before it tidies up, so whatever interrupts it, nothing is done twice.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.flops import training_flops
from scifm.models.hub import load_operator
from scifm.runs import Run, write_json
from scifm.studies.recipe import SourceConfig, StudyRecipe, TargetConfig
from scifm.studies.table import Row
from scifm.systems.system import System
from scifm.training.finetune import DownstreamPool, downstream_pool, finetune, from_scratch
from scifm.training.pretrain import pretrain
from scifm.training.recipe import ModelConfig, SystemConfig

__all__ = ["adapt_job", "draw_test", "pool_of", "pretrain_job"]

Result = dict[str, Any]

POOL_SEED = 0


def draw_test(recipe: StudyRecipe, name: str, system: SystemConfig) -> Batch:
    """Return the unseen samples of the task called `name`: the same ones whoever asks."""
    built: System = system.build()
    return built.sample(recipe.num_test_samples, recipe.grid, generator_for(POOL_SEED, "study", "test", name))


def pool_of(recipe: StudyRecipe, target: TargetConfig) -> DownstreamPool:
    """Return the samples that the subsets of a target are taken from."""
    return downstream_pool(target.system.build(), grid=recipe.grid, num_samples=recipe.pool_size, seed=POOL_SEED)


def _kept(run: Run) -> Result | None:
    return run.read_json("rows.json") if run.is_complete and (run.path / "rows.json").is_file() else None


def _finish(run: Run, folder: Path, rows: list[Row], *, weights: bool) -> Result:
    """Write the rows into the run's folder, then drop what is not needed any more."""
    result = {"run": run.path.relative_to(folder).as_posix(), "rows": [asdict(row) for row in rows]}
    write_json(run.path / "rows.json", result)
    shutil.rmtree(run.path / "state", ignore_errors=True)
    if not weights:
        shutil.rmtree(run.path / "model", ignore_errors=True)
    return result


def _knobs(system: SystemConfig) -> str:
    return json.dumps({name: [knob.low, knob.high] for name, knob in system.build().knobs.items()})


def pretrain_job(
    recipe: StudyRecipe, folder: Path, source: SourceConfig, size: str, seed: int, num_steps: int | None = None
) -> Result:
    """Pre-train; score on the source's own systems and, without an example, on every target.

    Args:
        recipe: the study's.
        folder: of the study.
        source: what to pre-train on.
        size: name of the size.
        seed: of weights and samples.
        num_steps: for the laws of scaling another length; then the source is called ``name+steps``.

    Returns:
        The run's folder, relative, and its rows as plain dictionaries.
    """
    settings = recipe.pretraining(source, size, seed, num_steps)
    run = pretrain(settings, out=folder / "runs")
    if (kept := _kept(run)) is not None:
        return kept
    operator = load_operator(run.path / "model")
    label = source.name if num_steps is None else f"{source.name}+{settings.training.num_steps}"
    own = [(f"{source.name}+{s.name}", s, "in_distribution") for s in source.systems]
    moved = [(target.name, target.system, "zero_shot") for target in recipe.targets_of(source)]
    seen = settings.training.num_steps * settings.training.batch_size
    distinct = min(seen, recipe.data.num_samples or seen)
    last = run.metrics()[-1]
    rows = []
    for name, system, kind in own + moved:
        test = draw_test(recipe, name, system)
        scores = evaluate(run, test)
        scores.write(run.path / f"scores-{name}.parquet")
        rows.append(
            Row(
                kind=kind,
                source=label,
                source_systems="+".join(s.name for s in source.systems),
                target=name,
                system=system.name,
                knobs=_knobs(system),
                size=size,
                num_params=operator.num_params,
                num_pretrain_samples=distinct,
                num_samples=0,
                seed=seed,
                method="",
                learning_rate=settings.training.learning_rate,
                num_trials=1,
                num_steps=settings.training.num_steps,
                relative_l2=scores.mean(),
                relative_l2_median=scores.quantile(0.5),
                relative_l2_p90=scores.quantile(0.9),
                flops=seen * training_flops(operator, test),
                seconds=float(last.get("seconds", 0.0)),
                run=run.path.relative_to(folder).as_posix(),
            )
        )
    return _finish(run, folder, rows, weights=True)


def adapt_job(
    recipe: StudyRecipe,
    folder: Path,
    kind: Literal["few_shot", "from_scratch"],
    source: SourceConfig | None,
    target: TargetConfig,
    size: str,
    num_samples: int,
    seed: int,
    parent: Result | None = None,
) -> Result:
    """Fine-tune the parent on a target's samples, or train from scratch on them; score on its test samples.

    Args:
        recipe: the study's.
        folder: of the study.
        kind: which of the two.
        source: the parent's; None from scratch.
        target: the task.
        size: name of the size.
        num_samples: downstream samples.
        seed: which samples, and first weights from scratch.
        parent: result of the pre-training.

    Returns:
        The run's folder, relative, and its row as a plain dictionary.
    """
    settings = recipe.adapt.recipe(kind, num_samples, seed)
    pool = pool_of(recipe, target)
    if parent is None:
        model = ModelConfig(network=recipe.network(size), normalization=recipe.normalization)
        run = from_scratch(model, pool, settings, out=folder / "runs" / target.name)
    else:
        run = finetune(folder / parent["run"], pool, settings, out=folder / "runs" / target.name)
    if (kept := _kept(run)) is not None:
        return kept
    test = draw_test(recipe, target.name, target.system)
    scores = evaluate(run, test)
    scores.write(run.path / "scores.parquet")
    told = run.read_json("outcome.json")
    operator = load_operator(run.path / "model")
    before = parent["rows"][0] if parent is not None else {}
    batch = min(settings.training.batch_size, num_samples)
    seen = batch * told["num_steps"] * (told["num_trials"] + (told["num_trials"] > 1))
    row = Row(
        kind=kind,
        source=source.name if source is not None else "",
        source_systems="+".join(s.name for s in source.systems) if source is not None else "",
        target=target.name,
        system=target.system.name,
        knobs=_knobs(target.system),
        size=size,
        num_params=operator.num_params,
        num_pretrain_samples=before.get("num_pretrain_samples", 0),
        num_samples=num_samples,
        seed=seed,
        method=settings.method.method if kind == "few_shot" else "all",
        learning_rate=told["learning_rate"],
        num_trials=told["num_trials"],
        num_steps=told["num_steps"],
        relative_l2=scores.mean(),
        relative_l2_median=scores.quantile(0.5),
        relative_l2_p90=scores.quantile(0.9),
        flops=before.get("flops", 0.0) + seen * training_flops(operator, test),
        seconds=told["seconds"],
        run=run.path.relative_to(folder).as_posix(),
    )
    return _finish(run, folder, [row], weights=recipe.keep_weights == "all")
