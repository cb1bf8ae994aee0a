"""How many more samples, and is pre-training worth it? Told from a handful of samples before more are paid for.

The few samples are split again and again into some to train on and some to score; training takes nested parts of the
former, fine-tuned and from scratch under equal budgets. The errors are the points of two learning curves, which
`scifm.studies.learning_curves` extrapolates. A sample is a problem: of a store of trajectories it is a whole one, and
windows of one trajectory are never on two sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator

from scifm.config import Config, config_hash, refuse_idle
from scifm.data.importing import open_store
from scifm.data.origins import DownstreamPool, Origin, StoreOrigin
from scifm.data.split import StoreSplit
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.evaluate import Scores, evaluate
from scifm.execution.graph import Graph, Job
from scifm.fields.gaps import require_whole
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.findings.plan import Kind, Outlook, Plan, Point
from scifm.models.folder import ModelPlace, digest, find_model, pace_of
from scifm.models.registry import load_operator
from scifm.models.surgery import fits, renamed
from scifm.runs import Run
from scifm.studies.learning_curves import FEW_SHOT, FROM_SCRATCH, Curve, CurveDraws, Prior
from scifm.studies.plan_advice import KINDS, advise, plan_figure
from scifm.studies.statistics import check_level
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loggers import require_loggers
from scifm.training.loop import DivergedError, Observer, TrainingConfig
from scifm.training.processes import require_alone
from scifm.wording import plural

__all__ = ["PRIORS", "PlanRecipe", "plan"]

PRIORS: Mapping[Kind, Prior] = {"few_shot": FEW_SHOT, "from_scratch": FROM_SCRATCH}
_MIN_SAMPLES = 6
_MIN_TRAINED = 2  # the fewest samples that can choose a learning rate: one to train on, one to score


class PlanRecipe(Config):
    """How the few samples are tried out.

    Args:
        num_repeats: splits into samples to train on and samples to score, each with other first weights.
        held_out: share of the samples that scores in each of them.
        seed: of all splits.
        adapt: how to adapt; num_samples and seed are the plan's own.
        scratch_learning_rates: candidates when training from scratch, as many as for fine-tuning; empty: the same.
    """

    num_repeats: int = Field(3, ge=1)
    held_out: float = Field(0.25, gt=0, lt=1)
    seed: int = Field(0, ge=0)
    adapt: AdaptRecipe = AdaptRecipe(
        # so large that few steps beat a good operator: it is kept as it is where no candidate does
        learning_rates=(1e-3, 3e-3, 1e-2),
        training=TrainingConfig(num_steps=200, validate_every=100, checkpoint_every=100),
    )
    scratch_learning_rates: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _equal_budgets(self) -> PlanRecipe:
        if len(self.scratch_learning_rates) not in (0, len(self.adapt.learning_rates)):
            raise ValueError("give as many scratch_learning_rates as adapt.learning_rates, for an equal budget")
        refuse_idle(self.adapt, ("num_samples", "seed"), "the plan chooses them itself", prefix="adapt.")
        return self

    def settings(self, kind: Kind, num_samples: int, repeat: int) -> AdaptRecipe:
        """Return how one operator is trained."""
        changes: dict[str, Any] = {"num_samples": num_samples, "seed": self.seed + repeat}
        if kind == "from_scratch" and self.scratch_learning_rates:
            changes["learning_rates"] = self.scratch_learning_rates
        return self.adapt.model_copy(update=changes)

    def split(self, num_samples: int, repeat: int) -> tuple[list[int], list[int]]:
        """Return which samples one repeat trains on and which it holds out.

        What is held out moves on through one permutation, so that repeats score on different samples as long as there
        are some.
        """
        count = min(max(2, round(self.held_out * num_samples)), num_samples - 2 * _MIN_TRAINED)
        order = torch.randperm(num_samples, generator=generator_for(self.seed, "plan", "held out")).tolist()
        held_out = sorted(order[(repeat * count + i) % num_samples] for i in range(count))
        return [i for i in range(num_samples) if i not in held_out], held_out

    def counts(self, num_samples: int) -> list[int]:
        """Return the nested numbers of samples to train on: all that are not held out, half and a quarter of them."""
        largest = len(self.split(num_samples, 0)[0])
        return sorted({n for n in (largest, largest // 2, largest // 4) if n >= _MIN_TRAINED})


def plan(
    parent: Run | str | Path,
    store: Store | str | Path,
    target_error: float,
    *,
    out: str | Path,
    recipe: PlanRecipe | None = None,
    priors: Mapping[Kind, Prior] = PRIORS,
    level: float = 0.8,
    make_executor: Callable[[], Executor] | None = None,
    observe: Observer | None = None,
) -> Plan:
    """Predict how many samples a target error needs, fine-tuned and from scratch.

    Runs already complete in `out` are not repeated; asking for another target, level or prior costs no training. Where
    the pre-trained operator reaches the target as it is, nothing is trained.

    Args:
        parent: a complete pre-trained run, its folder, the folder of a model, or ``hf:name/model``.
        store: the few samples; all splits of it are used.
        target_error: mean relative L2 error wanted, between 0 and 1.
        out: folder of the plan.
        recipe: how the samples are tried out; the defaults when left out.
        priors: beliefs about learning curves by kind; see `scifm.studies.planner_calibration.priors_from_table`.
        level: probability of the intervals.
        make_executor: makes the executor that trainings run on, see `worker_pool`; None: here, one after the other.
        observe: called with every event, for progress.

    Returns:
        The plan, also written to plan.json in `out`.

    Raises:
        ConfigError: if the target or the level is out of range, or a launcher started several processes.
        DataError: if there are fewer than 6 samples, or unusable ones.
        JobsFailedError: if trainings failed by other than diverging; the others are kept.
        RunError: if the parent is not complete, or the folder holds another plan, is in use, or cannot be written.
        SignatureError: if the samples have another number of dimensions.
        StoreError: if the store cannot be read.
    """
    require_alone("A plan")
    if not 0 < target_error < 1:
        raise ConfigError(
            f"The target error must lie strictly between 0 and 1; got {target_error}. It is a mean relative L2 error: "
            "0.02 is 2 %, and answering zero everywhere gives 1."
        )
    check_level(level)
    place, recipe = find_model(parent), recipe or PlanRecipe()
    require_loggers(recipe.adapt.training.loggers)
    store = store if isinstance(store, Store) else Store.open(store)
    require_whole(store.card.gaps, "A plan compares tables that count every point", "Fine-tune on the samples itself.")
    few = _samples(store, _origin(recipe, place.folder, store).window)
    each, num_samples = _zero_shot(place, few, recipe), few.num_trajectories
    zero_shot = float(np.mean(each)) if each else None
    if zero_shot is not None and not math.isfinite(zero_shot):
        raise DataError(f"The pre-trained operator's error on the samples is {zero_shot}: look for NaN in its weights.")
    work = Run.claim(out, _record(recipe, place, store))
    with work.locked():
        work.set_status("running")
        points: tuple[Point, ...] = ()
        if zero_shot is None or zero_shot > target_error:  # else nothing is left to find out
            points = _try_out(recipe, place, store, num_samples, work, make_executor, observe or (lambda **event: None))
        work.note_time()
        draws = {kind: _curves_through(points, kind, each, priors[kind]) for kind in KINDS}
        known = {kind: own for kind, own in draws.items() if own is not None}
        outlooks = {kind: _outlook(points, kind, draws[kind], target_error, level) for kind in KINDS}
        verdict, finding = advise(outlooks, known, target_error, num_samples, zero_shot)
        result = Plan(
            target_error=target_error,
            num_samples=num_samples,
            zero_shot=zero_shot,
            few_shot=outlooks["few_shot"],
            from_scratch=outlooks["from_scratch"],
            verdict=verdict,
            findings=(finding,),
            figure=plan_figure(points, known, target_error, num_samples, level, zero_shot),
            points=points,
            parent=str(place.path),
            store=str(store.path),
            level=level,
            priors={kind: asdict(priors[kind]) for kind in KINDS},
            seconds=work.seconds,
        )
        result.write(work.path / "plan.json")
        work.set_status("complete")
    return result


def _record(recipe: PlanRecipe, place: ModelPlace, store: Store) -> dict[str, Any]:
    """Return what the plan's folder says of it: its settings, and of which operator and samples it is."""
    parent = config_hash(place.run.config) if place.run is not None else digest(place.folder)
    origin = _origin(recipe, place.folder, store).describe()
    del origin["store"]  # samples that were moved are the same ones; plan.json says where they lie
    return {
        "kind": "plan",
        **recipe.to_record(),
        "about": {"parent": parent, "samples": store.content},
        "origin": origin,
    }


def _origin(recipe: PlanRecipe, model: Path, store: Store) -> Origin:
    """Return the user's store, with the frames of its trajectories that make a sample."""
    return recipe.adapt.framed(StoreOrigin(store), pace_of(model))


def _samples(store: Store, window: Window) -> StoreSplit:
    """Return the user's problems, of all splits one after the other; a trajectory is one."""
    if store.num_problems < _MIN_SAMPLES:
        what = "trajectories, each one sample" if store.signature.evolves else "samples"
        raise DataError(
            f"A plan needs at least {_MIN_SAMPLES} {what}, some to train on and some to score; the store "
            f"'{store.path}' holds {store.num_problems}. Add some."
        )
    return store.whole(window)


def _zero_shot(place: ModelPlace, few: StoreSplit, recipe: PlanRecipe) -> tuple[float, ...]:
    """Return the errors of the operator as it is; none where it does not know the names: it is given channels first."""
    operator = renamed(load_operator(place.folder), recipe.adapt.rename)
    ours, theirs = operator.signature.num_spatial_dims, few.signature.num_spatial_dims
    if ours != theirs:
        raise SignatureError(
            f"The operator answers problems in {plural(ours, 'dimension')}, and the samples have {theirs}: give "
            "samples of as many, or an operator that was trained on such."
        )
    if not fits(operator, few.signature, few.grid):
        return ()
    return _errors(few, evaluate(place.folder, few, rename=recipe.adapt.rename, record=False))


def _errors(samples: StoreSplit, scores: Scores) -> tuple[float, ...]:
    """Return one relative L2 error a problem, the mean over its windows, frames and channels."""
    values = scores.values["relative_l2"].double()
    return tuple(values.reshape(-1, samples.windows_per_trajectory * values[0].numel()).mean(dim=1).tolist())


def _train(kind: Kind, parent: Path, pool: DownstreamPool, settings: AdaptRecipe, out: Path) -> Run:
    """Train one operator: the only place that knows how."""
    return (finetune if kind == "few_shot" else from_scratch)(parent, pool, settings, out=out)


def _carry_out(
    trial: Point, recipe: PlanRecipe, parent: Path, place: Path, mapping: dict[str, Any] | None, folder: Path
) -> dict[str, Any]:
    """Train and score one operator; return the point, with its errors, as plain values.

    Any process can: it reads the samples itself.
    """
    store = open_store(place, mapping)
    samples = _samples(store, _origin(recipe, find_model(parent).folder, store).window)
    rest, held_out = recipe.split(samples.num_trajectories, trial.repeat)
    origin = {**StoreOrigin(store, samples.window).describe(), "index": rest}
    pool = DownstreamPool(samples.chosen(rest), origin, store.homogeneities, store.card.meanings)
    numbers: dict[str, Any] = {"held_out": tuple(held_out)}
    try:
        settings = recipe.settings(trial.kind, trial.num_samples, trial.repeat)
        run = _train(trial.kind, parent, pool, settings, folder / "runs")
    except DivergedError:
        return trial.model_copy(update=numbers).model_dump()
    task = f"{plural(len(held_out), 'sample')} held out of the plan"
    origin = {"task": task, "store": str(place), "index": held_out}
    scores = evaluate(run, samples.chosen(held_out), record=run.scores_file("held-out"), origin=origin)
    errors = _errors(samples, scores)
    numbers["run"] = run.path.relative_to(folder).as_posix()
    if all(map(math.isfinite, errors)):
        numbers |= {"relative_l2": scores.mean(), "errors": errors}
    return trial.model_copy(update=numbers).model_dump()


def _try_out(
    recipe: PlanRecipe,
    place: ModelPlace,
    store: Store,
    num_samples: int,
    work: Run,
    make_executor: Callable[[], Executor] | None,
    observe: Observer,
) -> tuple[Point, ...]:
    """Carry out what is not done yet; return the points by kind, number of samples and repeat."""
    trials = [
        Point(kind=kind, num_samples=count, repeat=repeat)
        for repeat in range(recipe.num_repeats)
        for kind in KINDS
        for count in recipe.counts(num_samples)
    ]
    about = (recipe, place.path, store.path, store.mapping, work.path)
    jobs = [Job(f"{t.kind}@{t.num_samples}@repeat{t.repeat}", partial(_carry_out, t, *about)) for t in trials]
    graph = Graph(jobs, work.path / "jobs")
    name = f"{plural(len(jobs), 'training')} on parts of {plural(num_samples, 'sample')}"
    observe(event="stage", name=name, num_steps=len(jobs), stage=1, num_stages=1)

    def finished(result: dict[str, Any]) -> None:
        observe(event="step")
        if result["relative_l2"] is not None:
            what = {"kind": result["kind"], "num_samples": result["num_samples"]}
            observe(event="scored", relative_l2=result["relative_l2"], seed=recipe.seed + result["repeat"], **what)

    before = graph.finished()
    for result in before.values():
        finished(result)

    def ended(job: Job, result: dict[str, Any]) -> None:
        work.note_time()  # a sitting that is killed ends with what it noted last
        finished(result)

    results = graph.carry_out(make_executor, on_end=ended, given=before)
    points = (Point.model_validate(result) for result in results.values())
    return tuple(sorted(points, key=lambda p: (KINDS.index(p.kind), p.num_samples, p.repeat)))


def _measured(points: Sequence[Point], kind: Kind) -> list[tuple[int, float, Point]]:
    return [(p.num_samples, p.relative_l2, p) for p in points if p.kind == kind and p.relative_l2 is not None]


def _curves_through(points: Sequence[Point], kind: Kind, zero_shot: Sequence[float], prior: Prior) -> CurveDraws | None:
    """Return the curves that agree with the points of one kind; None where these do not span two numbers of samples.

    `zero_shot` are the errors of the operator as it is, sample by sample: a point at no cost for every repeat; none
    where it cannot be asked. Points of a repeat were scored on the same samples, hard or easy ones.
    """
    ours = _measured(points, kind)
    counts = {count for count, *_ in ours}
    if len(counts) < 2:
        return None
    curve = [(count, error, p.repeat) for count, error, p in ours]
    if prior.head_start is not None and zero_shot:
        held_out = {p.repeat: p.held_out for *_, p in ours}
        curve += [(0, float(np.mean([zero_shot[i] for i in some])), r) for r, some in held_out.items()]
    largest = [p.errors for count, _, p in ours if count == max(counts)]
    errors = np.concatenate(largest)
    # how far, in log, a mean over one repeat's held-out samples lies from the mean over all there could be
    group_noise = float(errors.std(ddof=1) / errors.mean() / math.sqrt(len(largest[0])))
    return prior.condition(Curve(*zip(*curve, strict=True)), group_noise=group_noise)


def _outlook(points: Sequence[Point], kind: Kind, draws: CurveDraws | None, target: float, level: float) -> Outlook:
    if draws is None:
        return Outlook()
    ours = _measured(points, kind)
    largest = max(count for count, *_ in ours)
    return Outlook(
        num_trained_samples=largest,
        current_error=float(np.mean([error for count, error, _ in ours if count == largest])),
        need=draws.need(target, level=level),
        effective_draws=draws.effective,
    )
