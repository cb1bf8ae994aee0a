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
from scifm.errors import ConfigError, DataError
from scifm.evaluation.evaluate import Scores, evaluate
from scifm.execution.graph import Graph, Job
from scifm.fields.gaps import require_whole
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.findings.plan import Kind, Outlook, Plan, Point, SamplesNeeded, Verdict
from scifm.models.folder import ModelPlace, digest, find_model, pace_of
from scifm.runs import Run
from scifm.studies.learning_curves import FEW_SHOT, FROM_SCRATCH, Curve, CurveDraws, Prior
from scifm.studies.statistics import check_level
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loggers import require_loggers
from scifm.training.loop import DivergedError, Observer, TrainingConfig
from scifm.training.processes import require_alone
from scifm.wording import KIND_NAMES, count_in_words, plural

__all__ = ["KINDS", "PRIORS", "PlanRecipe", "advise", "plan"]

KINDS: tuple[Kind, ...] = ("few_shot", "from_scratch")
PRIORS: Mapping[Kind, Prior] = {"few_shot": FEW_SHOT, "from_scratch": FROM_SCRATCH}
_MIN_SAMPLES = 6
_MIN_TRAINED = 2  # the fewest samples that can choose a learning rate: one to train on, one to score
_MIN_EFFECTIVE_DRAWS = 50.0
_WIDE = 30.0  # an interval whose ends differ by more than this factor names no number
_FAR = 100.0  # times the samples at hand; beyond, two decades of extrapolation from less than one
_SURE = 0.9
_NUM_DRAWN = 40  # places at which a predicted curve is drawn


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
        priors: beliefs about learning curves by kind; see `scifm.studies.calibration.priors_from_table`.
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
        SignatureError: if the samples hold names the operator does not know.
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
    each = _errors(few, evaluate(place.folder, few, rename=recipe.adapt.rename, record=False))
    zero_shot, num_samples = float(np.mean(each)), few.num_trajectories
    if not math.isfinite(zero_shot):
        raise DataError(f"The pre-trained operator's error on the samples is {zero_shot}: look for NaN in its weights.")
    work = Run.claim(out, _record(recipe, place, store))
    with work.locked():
        work.set_status("running")
        points: tuple[Point, ...] = ()
        if zero_shot > target_error:  # else nothing is left to find out
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
            figure=_figure(points, known, target_error, num_samples, level, zero_shot),
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
    pool = DownstreamPool(samples.chosen(rest), origin, store.homogeneities)
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

    `zero_shot` are the errors of the operator as it is, sample by sample: a point at no cost for every repeat. Points
    of a repeat were scored on the same samples, hard or easy ones.
    """
    ours = _measured(points, kind)
    counts = {count for count, *_ in ours}
    if len(counts) < 2:
        return None
    curve = [(count, error, p.repeat) for count, error, p in ours]
    if prior.head_start is not None:
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


# --- what to do, in words and as a figure -------------------------------------------------------------------------


def advise(
    outlooks: Mapping[Kind, Outlook],
    draws: Mapping[Kind, CurveDraws],
    target: float,
    num_samples: int,
    zero_shot: float,
) -> tuple[Verdict, Finding]:
    """Say what to do: in a word or three, and as a finding with the need it rests on.

    Args:
        outlooks: of both kinds.
        draws: possible learning curves of those kinds that could be measured.
        target: error wanted.
        num_samples: samples there are.
        zero_shot: error of the pre-trained operator as it is.
    """
    if zero_shot <= target:
        how = f"without any training the pre-trained operator's error on your {plural(num_samples, 'sample')}"
        return _reached(f"{how} is {zero_shot:.3g}")
    ways: dict[Kind, str] = {"few_shot": "fine-tuned", "from_scratch": "trained from scratch"}
    for way, how in ways.items():
        own = outlooks[way]
        if own.current_error is not None and own.current_error <= target:
            how = f"{how} on {own.num_trained_samples} of your samples, the error on those held out"
            return _reached(f"{how} is {own.current_error:.3g}")
    kind: Kind = "few_shot"
    name = "Fine-tuning"
    probability, worth = _worth(draws, outlooks["from_scratch"].need, target, num_samples)
    if probability is not None and probability <= 1 - _SURE:
        kind, name = "from_scratch", "Training from scratch"
    need, why = outlooks[kind].need, _why_not(outlooks[kind], target, name)
    if need is None or why:
        return "cannot be told", _finding("How many samples are needed cannot be told.", why, good=False)
    return _collect(need, name, num_samples, worth)


def _reached(how: str) -> tuple[Verdict, Finding]:
    return "reached", _finding(f"The target is already reached: {how}. No more samples are needed.", good=True)


def _finding(said: str, why: str = "", need: SamplesNeeded | None = None, good: bool | None = None) -> Finding:
    numbers: dict[str, Any] = {}
    if need is not None:
        numbers = {"statistic": need.median, "low": need.low, "high": need.high, "unit": "samples"}
    return Finding(name="samples needed", said=said, evidence=why, good=good, **numbers)


def _why_not(outlook: Outlook, target: float, name: str) -> str:
    """Return why no number can be said; empty where one can."""
    if outlook.need is None or outlook.effective_draws is None:
        return f"{name} diverged at too many of the sizes tried. Give smaller learning rates."
    if outlook.effective_draws < _MIN_EFFECTIVE_DRAWS:
        return (
            "The measured errors do not look like a learning curve as they are known (they jump, rise with more "
            "samples, or stay what they are). Look at the points in plan.json. If fine-tuning stays at the zero-shot "
            "error, no training beat the pre-trained operator: train longer, or at larger learning rates (--set "
            "adapt.training.num_steps=1000, --set adapt.learning_rates=[1e-2,3e-2]). Else collect some more samples "
            "and ask again."
        )
    if outlook.need.median is None:
        return (
            f"{name} reaches {target:g} at no number of samples in {100 * (1 - outlook.need.reachable):.0f} % of the "
            "learning curves that agree with what was measured. A larger or longer trained operator, or one "
            "pre-trained nearer to your system, may help more than samples."
        )
    return ""


def _collect(need: SamplesNeeded, name: str, num_samples: int, worth: str) -> tuple[Verdict, Finding]:
    median, low, high = (_further(count, num_samples) for count in (need.median, need.low, need.high))
    between = f"{100 * need.level:.0f} % interval {count_in_words(low)} to {count_in_words(high)}"
    if median < 1:
        return "collect", _finding(f"Nearly there: a few more samples should do ({between}). {worth}", need=need)
    if high <= _WIDE * max(low, num_samples) and median <= _FAR * num_samples:
        return "collect", _finding(
            f"Collect about {count_in_words(median)} more samples ({between}). {worth}", need=need
        )
    said = (
        f"{name} may need about {count_in_words(median)} more samples ({between}), too wide to plan by. Collect "
        f"{count_in_words(max(low, num_samples))} more first, and ask again with them. {worth}"
    )
    return "collect and ask again", _finding(said, need=need)


def _further(needed: float | None, num_samples: int) -> float:
    return math.inf if needed is None else max(0.0, math.ceil(needed) - num_samples)


def _worth(
    draws: Mapping[Kind, CurveDraws], scratch_need: SamplesNeeded | None, target: float, num_samples: int
) -> tuple[float | None, str]:
    """Return how probably fine-tuning needs fewer samples than training from scratch, and a sentence about it."""
    if scratch_need is None or len(draws) < 2:
        return None, "Training from scratch could not be measured beside it."
    ours, theirs = draws["few_shot"].needed(target), draws["from_scratch"].needed(target)
    decided = ~(np.isinf(ours) & np.isinf(theirs))
    if not decided.any():
        return None, "Neither fine-tuning nor training from scratch seems to reach it."
    probability = float((ours < theirs)[decided].mean())
    scratch = "more than can be told, if it gets there at all"
    if scratch_need.median is not None:
        scratch = f"about {count_in_words(_further(scratch_need.median, num_samples))} more"
    if probability >= _SURE:
        return probability, f"Pre-training is worth it: from scratch it takes {scratch}."
    if probability <= 1 - _SURE:
        return probability, f"Pre-training is not worth it here: train from scratch, which takes {scratch}."
    doubt = f"Whether pre-training needs fewer samples is not sure (probability {probability:.2f})"
    return probability, f"{doubt}: from scratch it takes {scratch}."


def _figure(
    points: Sequence[Point],
    draws: Mapping[Kind, CurveDraws],
    target: float,
    num_samples: int,
    level: float,
    zero_shot: float,
) -> Figure | None:
    """Return the errors measured, those predicted for more samples and the target; None where none was measured."""
    measured = [point for point in points if point.relative_l2 is not None]
    if not measured:
        return None
    counts = np.geomspace(min(point.num_samples for point in measured), _FAR * num_samples, _NUM_DRAWN)
    shares = (0.5, (1 - level) / 2, (1 + level) / 2)
    series = []
    for place, kind in enumerate(KINDS):
        name = KIND_NAMES[kind]
        ours = [point for point in measured if point.kind == kind]
        x, y = tuple(float(p.num_samples) for p in ours), tuple(p.relative_l2 for p in ours)
        series.append(Series(label=f"{name}, measured", x=x, y=y, joined=False, place=place))
        if kind in draws:
            center, low, high = np.array([np.quantile(draws[kind].errors(n), shares) for n in counts]).T.tolist()
            curve = {"x": counts.tolist(), "y": center, "low": low, "high": high}
            series.append(Series(label=f"{name}, predicted", **curve, marked=False, place=place))
    panel = Panel(
        x=Axis(label="number of samples trained on", scale="log", form="count"),
        y=Axis(label="relative L2 error", scale="log"),
        series=tuple(series),
        rules=(
            Rule(at=target, label=f"error wanted, {target:g}", place=3),
            Rule(at=zero_shot, label="zero-shot (no sample)", line="dashed", place=2),
            Rule(at=num_samples, crosses="x", label=plural(num_samples, "sample") + " at hand", line="dotted", place=4),
        ),
    )
    caption = (
        f"Errors on held-out samples, and those of the next training on more: median and {100 * level:.0f} % interval "
        "of the learning curves that agree with what was measured."
    )
    return Figure(caption=caption, panels=(panel,))
