"""The page of a study: verdict, figures that answer to pointer and keyboard, tables; whole without scripts.

Its words are computed from its numbers, the same whether they flatter or not: headline, key figures, budgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scifm.findings.study import Gain, Target
from scifm.report.fields import Examples, field_drawing
from scifm.report.parts import Numbered, Page, Tile, environment_entries, render
from scifm.report.plates import plates_of_examples
from scifm.report.study import Study, drawable, interval_text, read_study
from scifm.report.study_errors import undrawn_points
from scifm.report.study_figures import STUDY_FIGURES, best_measure
from scifm.report.study_tables import STUDY_TABLES, correlation_words, run_table, settings_table
from scifm.wording import MISSING, count_text, duration_text, factor_text, number_text, plural

__all__ = ["TaskErrors", "budget_sentence", "headline", "remarks", "render_study"]

_MOST_EXAMPLES = 3
_WAYS = ("few_shot", "from_scratch")
_SPENT = {"num_steps": "optimizer steps", "trial_steps": "steps of all trials before"}


def render_study(folder: Path) -> Page:
    """Return the page of a study as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    study, numbered = read_study(folder), Numbered()
    analysis = study.analysis
    tables = {name: made if made.rows else None for name, make in STUDY_TABLES.items() for made in [make(study)]}
    alone = TaskErrors.of(study, analysis.targets[0]) if len(analysis.targets) == 1 else None
    several = len(analysis.architectures) > 1
    adapt = study.settings.get("adapt")
    adapt = adapt if isinstance(adapt, Mapping) else {}
    return render(
        "study.html",
        title=analysis.title or folder.resolve().name,
        facts=_facts(study),
        headline=f"{study.main_size}: {headline(alone)}" if alone and several else headline(alone) if alone else None,
        remarks=remarks(alone) if alone else [],
        tiles=_tiles(study, alone) if alone else [],
        verdict=analysis.verdict,
        error_remarks=_error_remarks(study),
        shift_sentence=_shift_sentence(study),
        audits=sorted(analysis.audits, key=lambda audit: bool(audit.good)),
        audit_sentence=_audit_sentence(study),
        joints=analysis.scaling.joints,
        main=study.main_size if several else "",
        num_seeds=analysis.num_seeds,
        level=_level(study),
        num_params={size.name: size.num_params for size in study.sizes},
        seconds=analysis.seconds,
        settings=settings_table(study.settings),
        budget=budget_sentence(study.rows or (), tried_zero_shot=adapt.get("try_zero_shot") is True),
        learning_rates=adapt.get("learning_rates") or [],
        scratch_learning_rates=adapt.get("scratch_learning_rates") or [],
        environment=environment_entries(study.environment),
        recipe=study.recipe,
        fields=_fields(study.examples),
        plates=plates_of_examples(study.examples, _MOST_EXAMPLES),
        figures={name: numbered(name, make(study)) for name, make in STUDY_FIGURES.items()},
        runs=run_table(study.rows) if study.rows else None,
        **tables,
    )


def _fields(examples: Examples | None) -> list[tuple[Markup, str]]:
    """Return the drawings of the first examples, each with its caption."""
    if examples is None:
        return []
    drawings = []
    for i in range(min(_MOST_EXAMPLES, examples.num_examples)):
        errors = ", ".join(f"{examples.label(k)} {number_text(examples.error(k, i))}" for k in examples.predictions)
        label = f"Example {i + 1}: maps of forcing, truth, predictions and their errors. Relative L2 errors: {errors}."
        drawings.append((field_drawing(examples, i, label), f"Example {i + 1}. Relative L2 error: {errors}."))
    return drawings


def _audit_sentence(study: Study) -> str:
    audits = study.analysis.audits
    failed = sum(not audit.good for audit in audits)
    if failed:
        return f"{failed} of {plural(len(audits), 'audit')} did not pass: read the results with that in mind."
    return f"All {len(audits)} audits passed." if len(audits) > 1 else "The audit passed."


def _level(study: Study) -> str:
    """Return the level of the intervals, empty where there are none."""
    return "" if study.analysis.level is None else f"{100 * study.analysis.level:g}\N{NO-BREAK SPACE}%"


def _facts(study: Study) -> list[str]:
    """Return how much was done, in a few words each."""
    analysis = study.analysis
    systems = {target.system for target in analysis.targets}
    facts = [plural(len(systems), "system"), plural(len(analysis.targets), "task")]
    several = len(analysis.architectures) > 1
    facts += [plural(len(analysis.architectures), "architecture")] if several else []
    if not several or len(analysis.sizes) > len(analysis.architectures):
        facts += [plural(len(analysis.sizes), "network" if several else "size")] if analysis.sizes else []
    facts += [plural(analysis.num_seeds, "seed")] if analysis.num_seeds is not None else []
    if analysis.num_test_samples is not None:
        facts.append(f"{plural(analysis.num_test_samples, 'test sample')} a task")
    return [*facts, f"intervals of {_level(study)}"] if analysis.level else facts


# --- the only task of a study -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskErrors:
    """Medians over seeds on one task, its main source and size, with the gains on as many samples."""

    tuned: Mapping[int, float]
    scratch: Mapping[int, float]
    gains: Mapping[int, Gain]
    zero_shot: float | None
    in_distribution: float | None

    @classmethod
    def of(cls, study: Study, target: Target) -> TaskErrors:
        """Return those of a task; what is not finite or not positive is left out."""
        source, size = study.main_sources[target.name], study.main_size

        def medians(kind: str, method: str | None, source: str | None) -> dict[int, float]:
            curves = study.curves((kind,), target=target.name, size=size, source=source, method=method)
            points = [point for curve in curves for point in curve.points]
            return {p.num_samples: p.median for p in points if p.median is not None and drawable(p.median)}

        zero_shot, in_distribution = (study.level_of(kind, target) for kind in ("zero_shot", "in_distribution"))
        return cls(
            tuned=medians("few_shot", study.main_method, source) if source else {},
            scratch=medians("from_scratch", None, None),
            gains={gain.num_samples: gain for gain in study.gains(target, size) if drawable(gain.gain)},
            zero_shot=zero_shot.median if zero_shot else None,
            in_distribution=in_distribution.median if in_distribution else None,
        )

    @property
    def count(self) -> int | None:
        """The number of samples spoken about: the middle one of those both ways were trained on."""
        shared = sorted(self.tuned.keys() & self.scratch.keys() & self.gains.keys())
        return shared[len(shared) // 2] if shared else None


def _short(value: float) -> str:
    return number_text(value, digits=2)


def headline(errors: TaskErrors) -> str:
    """Return the finding on one task in one sentence.

    A gain that rounds to 1.0 is called none, one below it negative transfer.
    """
    count = errors.count
    if count is None:
        return _headline_without_pair(errors)
    tuned, scratch, gain = errors.tuned[count], errors.scratch[count], errors.gains[count].gain or math.nan
    start = f"ith {count_text(count)} downstream samples, fine-tuning reaches a relative L2 error of {_short(tuned)}"
    same = f"training from scratch on the same samples ({_short(scratch)})."
    if f"{gain:.1f}" == "1.0":
        return f"No gain: w{start}, as good as equal to {same}"
    if gain < 1:
        return f"Negative transfer: w{start}, {factor_text(1 / gain)} times higher than {same}"
    beaten = takewhile(lambda other: errors.scratch[other] > tuned, sorted(n for n in errors.scratch if n > count))
    more = max(beaten, default=None)
    end = f", and lower than from scratch on {count_text(more)}." if more else "."
    return f"W{start}, {factor_text(gain)} times lower than training from scratch on the same samples{end}"


def _headline_without_pair(errors: TaskErrors) -> str:
    tail = "so no gain can be stated."
    if errors.tuned:
        count = max(errors.tuned)
        return (
            f"Fine-tuned on {count_text(count)} downstream samples the relative L2 error is "
            f"{_short(errors.tuned[count])}; no model trained from scratch on the same number has a usable error, "
            f"{tail}"
        )
    if errors.scratch:
        return f"No fine-tuned model has a usable error, {tail}"
    if errors.zero_shot is not None:
        error = _short(errors.zero_shot)
        return f"Without any downstream sample the relative L2 error is {error}; nothing was fine-tuned."
    return "No error was recorded, so there is nothing to conclude."


def remarks(errors: TaskErrors) -> list[str]:
    """Return what must be said beside the headline: the two landmarks, where fine-tuning hurts, what may be chance."""
    sentences = []
    if errors.zero_shot is not None and errors.in_distribution is not None:
        sentences.append(
            f"With no downstream sample (zero-shot) the error is {_short(errors.zero_shot)}; on the system it was "
            f"pre-trained on it is {_short(errors.in_distribution)}."
        )
    hurt = {n: 1 / gain.gain for n, gain in errors.gains.items() if gain.gain and gain.gain < 1 and n != errors.count}
    if hurt:
        counts = ", ".join(f"{count_text(n)} ({factor_text(more)} times higher)" for n, more in hurt.items())
        sentences.append(f"Fine-tuning is worse than training from scratch on {counts}.")
    level = errors.zero_shot
    worse = [count_text(n) for n, error in errors.tuned.items() if level is not None and error > level]
    if worse:
        sentences.append(f"Fine-tuning on {', '.join(worse)} samples is worse than not adapting at all.")
    unsure = [n for n, g in errors.gains.items() if g.low is not None and g.high is not None and g.low <= 1 <= g.high]
    if unsure:
        counts = ", ".join(map(count_text, unsure))
        sentences.append(f"On {counts} samples the interval of the gain holds 1: the difference there may be chance.")
    return sentences


def _tiles(study: Study, errors: TaskErrors) -> list[Tile]:
    """Return the key figures of a study with one task."""
    tested, count = study.analysis.num_test_samples, errors.count
    on_test = f"mean over {count_text(tested)} unseen samples" if tested is not None else "mean over test samples"
    tiles = [
        Tile("In distribution", number_text(errors.in_distribution), "on the pre-training system"),
        Tile("Zero-shot", number_text(errors.zero_shot), "shifted system, no sample"),
    ]
    if count is not None:
        samples, gain = count_text(count), errors.gains[count]
        interval = interval_text(gain.low, gain.high, factor_text)
        span = f", {_level(study)}: {interval}" if interval else ""
        tiles += [
            Tile(f"Fine-tuned on {samples}", number_text(errors.tuned[count]), on_test),
            Tile(f"From scratch on {samples}", number_text(errors.scratch[count]), "same samples, same test"),
            Tile(f"Gain on {samples}", f"{factor_text(gain.gain)}×", f"scratch error ÷ fine-tuned{span}"),
        ]
    points = sum(len(curve.points) for curve in study.analysis.curves)
    return [*tiles, Tile("Whole study", duration_text(study.analysis.seconds), plural(points, "result"))]


# --- beside the first figure ------------------------------------------------------------------------------------------


def _error_remarks(study: Study) -> list[str]:
    """Return what must be said beside the errors: what is missing, shown otherwise, or could not be drawn."""
    sentences = []
    if not study.curves(("from_scratch",)):
        sentences.append("No model was trained from scratch, so nothing here says what pre-training is worth.")
    foreign = [
        f"{study.target_label(target.name)} from {study.source_label(name)}"
        for target in study.analysis.targets
        if (name := study.main_sources[target.name]) is not None and study.source(name).systems != (target.system,)
    ]
    if foreign:
        sentences.append(
            f"Without a pre-training on their own system alone, these tasks are shown otherwise: {'; '.join(foreign)}."
        )
    lost = undrawn_points(study)
    if lost:
        sentences.append(f"{plural(lost, 'point has', 'points have')} no finite error; a line breaks there.")
    return sentences


def _shift_sentence(study: Study) -> str:
    """Return how well the best measure of the shift orders the tasks; empty where there is none."""
    measure = best_measure(study)
    if measure is None:
        return ""
    counted = f" over {plural(measure.num_tasks, 'task')}" if measure.num_tasks is not None else ""
    name, words = measure.label or measure.name, correlation_words(measure)
    if measure.rank_correlation is None:
        return f"Shown is {name}; {words}."
    sentence = f"By {name} and by zero-shot error the tasks stand in {words}{counted}"
    others = len(study.analysis.shift.measures) > 1
    return f"{sentence}; of the measures tried it orders them best." if others else f"{sentence}."


# --- budgets ----------------------------------------------------------------------------------------------------------


def _spent(rows: Iterable[Mapping[str, Any]], name: str) -> list[tuple[set[int], set[int]]]:
    """Return what fine-tuning and training from scratch spent, wherever both had as many samples of a task and size."""
    spent: dict[tuple[Any, ...], dict[str, set[int]]] = {}
    for row in rows:
        own = spent.setdefault((row["target"], row["size"], row["num_samples"]), {}).setdefault(row["kind"], set())
        value = row.get(name)
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            own.add(int(value))
    return [(own["few_shot"], own["from_scratch"]) for own in spent.values() if len(own) == len(_WAYS)]


def _by_network(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether networks trained from scratch on as many samples of a task spent unequally."""
    spent: dict[tuple[Any, ...], dict[str, set[Any]]] = {}
    for row in rows:
        if row["kind"] == "from_scratch":
            spent.setdefault((row["target"], row["num_samples"]), {}).setdefault(row["size"], set()).add(row.get(name))
    return any(one != other for by_size in spent.values() for one, other in pairwise(by_size.values()))


def budget_sentence(rows: Sequence[Mapping[str, Any]], *, tried_zero_shot: bool = False) -> str:
    """Say whether both ways had the same optimizer steps, in trials and in the last training, by what was recorded.

    They are compared where both had as many samples of a task. Where `tried_zero_shot`, fine-tuning could keep the
    pre-trained weights, at no step: that is told by itself and not compared. How many candidates shared the steps of
    the trials may differ.
    """
    adapted = [row for row in rows if row["kind"] in _WAYS]
    pairs = {name: _spent(adapted, name) for name in _SPENT}
    if not pairs["num_steps"]:
        return "Whether fine-tuning and training from scratch had the same budget is not recorded."
    if tried_zero_shot:  # what was not trained is no step the other way would have to match
        steps = [(tuned - {0}, scratch) for tuned, scratch in pairs["num_steps"] if tuned != {0}]
        pairs["num_steps"] = steps or pairs["num_steps"]
    each = "each model trained" if tried_zero_shot else "each model"
    sentences = []
    for name, noun in _SPENT.items():
        tuned, scratch = (set().union(*side) for side in zip(*pairs[name], strict=True))
        listed = [" or ".join(map(count_text, sorted(values))) for values in (tuned, scratch)]
        if not tuned or not scratch:
            sentences.append(f"{noun}: {MISSING}")
        elif all(one == other for one, other in pairs[name]) and len(tuned) == 1:
            sentences.append(f"{noun}: {listed[0]} for {each}, both ways")
        elif all(one == other for one, other in pairs[name]):
            by = "by network and number of samples" if _by_network(adapted, name) else "by the number of samples"
            sentences.append(f"{noun}: {listed[0]} {by}, the same both ways")
        else:
            sentences.append(f"{noun}: {listed[0]} fine-tuning, {listed[1]} from scratch")
    same = all(one == other and one for pair in pairs.values() for one, other in pair)
    verdict = "The budgets are equal" if same else "The budgets are not shown to be equal"
    if not tried_zero_shot:
        return f"{verdict}: {'; '.join(sentences)}."
    counts = {row["num_samples"] for row in adapted if row["kind"] == "few_shot" and row.get("learning_rate") == 0}
    where = ", ".join(map(count_text, sorted(counts)))
    did = f"it did, for one seed or more, on {where} samples" if counts else "it never did"
    unchanged = f"Fine-tuning could also keep the pre-trained weights, at no step: {did}."
    return f"{verdict}: {'; '.join(sentences)}. {unchanged}"
