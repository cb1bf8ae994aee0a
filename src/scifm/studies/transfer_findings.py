"""What a study found, in a few sentences, each with its evidence; never more than the intervals allow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from scifm.findings.finding import Finding
from scifm.findings.study import Analysis, ErrorCurve, Gain, Mixing, Need, ShiftMeasure
from scifm.studies.architectures import of_each, side_by_side
from scifm.studies.statistics import geometric_mean
from scifm.studies.transfer_scores import by_params, is_ahead
from scifm.studies.worth import worth_of_sources
from scifm.wording import plural, span

__all__ = ["transfer_findings"]

_NO_INTERVAL = "there is no interval"
_UNSURE = f"{_NO_INTERVAL}, since fewer than two seeds are shared"
_GAIN = {"threshold": 1.0, "unit": "error from scratch over fine-tuned"}


def transfer_findings(analysis: Analysis) -> tuple[Finding, ...]:
    """Return the sentences on top of a report.

    Is pre-training worth it · how many samples it saves · what each is worth (where several are moved to one task) ·
    where it stops helping or hurts · how the gain depends on size (where there are several) · whether errors follow the
    shift (where zero-shot was scored) · mixtures against specialists (where there are mixtures). A sentence before all
    of these tells of scores that are not finite. Of several architectures each has these sentences for itself, behind
    one about how it stands beside the first.

    Args:
        analysis: all but its ``verdict``.
    """
    broken = {"scores that are not finite": _broken}
    parts = {
        "worth of pre-training": _worth,
        "samples saved": _saved,
        "worth of each pre-training": worth_of_sources,
        "where pre-training stops helping": _limits,
        "gain and size": _by_size,
        "errors and shift": _by_shift,
        "mixture and specialist": _by_mixture,
    }
    several = len(analysis.architectures) > 1
    answers = {name: part(analysis) for name, part in (broken if several else broken | parts).items()}
    findings = [answer.model_copy(update={"name": name}) for name, answer in answers.items() if answer is not None]
    return (*findings, *side_by_side(analysis), *of_each(analysis, parts)) if several else tuple(findings)


def _say(said: str, evidence: str, good: bool | None = None, **numbers: Any) -> Finding:
    return Finding(said=said, evidence=evidence, good=good, **numbers)


def _known(value: float | None) -> float:
    assert value is not None, "what is not known was sorted out before"
    return value


def _broken(analysis: Analysis) -> Finding | None:
    points = [point for curve in analysis.curves for point in curve.points]
    runs = [pair for point in points for pair in zip(point.values, point.runs, strict=True)]
    bad = [str(run) for value, run in runs if value is None]
    if not bad:
        return None
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    said = f"{len(bad)} of {len(runs)} scores are not finite (NaN or infinite); every number they enter is left blank."
    return _say(said, f"Runs: {', '.join(bad[:3])}{more}.", False, statistic=len(bad), threshold=0, unit="scores")


def _gains(analysis: Analysis) -> list[Gain]:
    return [gain for gain in analysis.gains if gain.gain is not None]


def _worth(analysis: Analysis) -> Finding:
    known = _gains(analysis)
    if not known:
        return _say(f"Whether pre-training is worth it could not be measured: {_why_no_gain(analysis)}.", "No gains.")
    evidence = f"Gains on as many samples, error from scratch over fine-tuned: {_range(analysis, known)}."
    numbers: dict[str, Any] = {"statistic": geometric_mean([_known(g.gain) for g in known]), **_GAIN}
    judged = [g for g in known if g.high is not None]
    if not judged:
        ahead = sum(_known(g.gain) > 1 for g in known)
        said = f"Fine-tuning has the smaller error in {ahead} of {len(known)} comparisons on as many samples, but "
        return _say(f"{said}{_UNSURE}: nothing is certain.", evidence, **numbers)
    ahead, behind = sum(map(is_ahead, judged)), sum(_known(g.high) < 1 for g in judged)
    undecided = len(known) - ahead - behind
    if ahead == len(known):
        said = f"Pre-training is worth it: fine-tuning beats training from scratch in all {ahead} comparisons"
    elif ahead + behind == 0:
        said = f"Pre-training shows no clear gain: undecided in all {undecided} comparisons with training from scratch"
    else:
        said = (
            f"Fine-tuning beats training from scratch in {ahead} of {len(known)} comparisons, loses in {behind}, and "
            f"{undecided} are undecided"
        )
    good = False if behind > ahead else True if behind == 0 and 2 * ahead >= len(known) else None
    return _say(f"{said}, on as many samples.", evidence, good, **numbers)


def _why_no_gain(analysis: Analysis) -> str:
    kinds = {curve.kind for curve in analysis.curves}
    if "few_shot" not in kinds:
        return "nothing was fine-tuned"
    if "from_scratch" not in kinds:
        return "nothing was trained from scratch"
    if analysis.gains:
        return "no gain is finite, or no seed is shared by both"
    return "no number of samples is shared by both"


# --- samples saved ----------------------------------------------------------------------------------------------------


def _saved(analysis: Analysis) -> Finding:
    chosen, bounds = _headline(analysis), ("more than", None, "at most")
    known = sorted(
        (need for need in chosen if need.ratio is not None),
        key=lambda need: (_known(need.ratio), bounds.index(need.bound)),
    )
    if not known:
        both = {"few_shot", "from_scratch"} <= {curve.kind for curve in analysis.curves}
        why = "the errors are not finite" if chosen else "no target has both" if both else _why_no_gain(analysis)
        return _say(f"How many samples pre-training saves could not be measured: {why}.", "No needs.")
    worst, best = known[0], known[-1]
    to_match = f"To match training from scratch on {plural(best.reference_samples, 'sample')}, fine-tuning needs "
    said = f"{to_match}{_times_fewer(best)} ({_place(best)})."
    if len(known) > 1:
        said = f"{to_match}{_times_fewer(best)} at best ({_place(best)}) and {_times_fewer(worst)} at worst "
        said += f"({_place(worst)})."
    if len(known) > 1 and _times_fewer(best) == _times_fewer(worst):
        said = f"{to_match}{_times_fewer(best)} for all {plural(len(known), 'pair')} of source and target."
    clear, lost = [_saves(n) for n in known].count(True), [_saves(n) for n in known].count(False)
    good = True if clear == len(known) == len(chosen) else False if lost and not clear else None
    numbers: dict[str, Any] = {"statistic": best.ratio, "low": best.ratio_low, "high": best.ratio_high}
    evidence = _saved_evidence(analysis, known, chosen)
    good = good if (analysis.num_seeds or 0) > 1 else None
    return _say(said, evidence, good, threshold=1.0, unit="samples from scratch over samples fine-tuned", **numbers)


def _headline(analysis: Analysis) -> list[Need]:
    """Return the needs of the largest size, and of full fine-tuning where there is any."""
    whole = [need for need in analysis.needs if need.method == "all"] or list(analysis.needs)
    sizes = [size.name for size in by_params(analysis.sizes) if any(need.size == size.name for need in whole)]
    return [need for need in whole if need.size in sizes[-1:]]


def _saved_evidence(analysis: Analysis, known: list[Need], chosen: list[Need]) -> str:
    parts = [f"Ratios of samples, {plural(len(known), 'pair')} of source and target, network {known[0].size}"]
    for need in (known[-1], known[0])[: len(known)]:
        within = _interval(analysis, need.ratio_low, need.ratio_high, f"ratio {_number(_known(need.ratio))}, ")
        bound = f", a bound: {need.bound} {need.needed:,.0f}" if need.bound else within
        parts.append(f"{_place(need)}: {plural(round(_known(need.needed)), 'sample')}{bound}")
    unknown = f"{len(chosen) - len(known)} could not be computed" if len(known) < len(chosen) else ""
    zero_shot = {(c.source, c.target, c.size): c.points[0].median for c in _curves(analysis, "zero_shot")}
    beside = [(n, zero_shot.get((n.source, n.target, n.size)), n.reference_error) for n in known]
    there = [n for n, error, wanted in beside if error is not None and wanted is not None and error <= wanted]
    zero = f"zero-shot alone already reaches it for {', '.join(map(_place, there))}" if there else ""
    return "; ".join(filter(None, [*parts, zero, unknown])) + "."


def _times_fewer(need: Need) -> str:
    ratio = _known(need.ratio)
    if need.bound == "more than":
        return f"more than the {need.needed:,.0f} measured (less than {_rounded(ratio, math.ceil)} times fewer)"
    if need.bound == "at most":
        return f"at least {_rounded(ratio, math.floor)} times fewer"
    return f"{_number(ratio)} times fewer" if ratio >= 1 else f"{_number(1 / ratio)} times more"


def _saves(need: Need) -> bool | None:
    """Return True if fewer samples are enough beyond doubt, False if more are needed beyond doubt."""
    if need.bound is not None:
        return True if need.bound == "at most" and _known(need.ratio) > 1 else None
    if need.ratio_low is None:
        return None
    return True if need.ratio_low > 1 else False if _known(need.ratio_high) < 1 else None


# --- where it hurts ---------------------------------------------------------------------------------------------------


def _limits(analysis: Analysis) -> Finding:
    known, zero_shot = _gains(analysis), _curves(analysis, "zero_shot")
    worse = [z for z in zero_shot if (z.points[0].median or 0) > 1]
    zero = f" Zero-shot is worse than answering zero everywhere on {len(worse)} of {plural(len(zero_shot), 'task')}."
    zero = zero if worse else ""
    errors = "; ".join(f"{_place(z)}, {z.size}: error {_number(_known(z.points[0].median))}" for z in worse[:3])
    if not known:
        said = f"Where pre-training stops helping, or hurts, could not be measured: {_why_no_gain(analysis)}.{zero}"
        return _say(said, f"Zero-shot {errors}." if worse else "No gains.", False if worse else None)
    finding = _hurts(analysis, known)
    evidence = f"{finding.evidence} Zero-shot {errors}." if worse else finding.evidence
    good = None if worse and finding.good else finding.good
    return finding.model_copy(update={"said": finding.said + zero, "evidence": evidence, "good": good})


def _hurts(analysis: Analysis, known: list[Gain]) -> Finding:
    negative = [g for g in known if g.negative]
    judged = sum(g.negative is not None for g in known)
    chance = (
        f"Of comparisons between equals, about {50 * (1 - _known(analysis.level)):.2g} % would be called so by chance."
    )
    least = min(negative or known, key=lambda g: _known(g.gain))
    numbers: dict[str, Any] = {"statistic": least.gain, "low": least.low, "high": least.high, **_GAIN}
    if negative:
        said = (
            f"Pre-training hurts (negative transfer) in {len(negative)} of {judged} comparisons, most at "
            f"{_place(least)} on {plural(least.num_samples, 'sample')}: {_number(1 / _known(least.gain))} times the "
            "error from scratch."
        )
        return _say(said, f"Gain {_range(analysis, [least])}. {chance}", False, **numbers)
    if not judged:
        below = sum(_known(g.gain) < 1 for g in known)
        said = f"Negative transfer cannot be judged, since {_NO_INTERVAL}; the gain lies below 1 in "
        return _say(f"{said}{below} of {len(known)} comparisons.", f"Gains {_range(analysis, known)}.", **numbers)
    stops = [c for c in analysis.crossovers if c.num_samples is not None]
    blind = f" ({len(known) - judged} have no interval)" if judged < len(known) else ""
    said = f"None of {judged} comparisons shows negative transfer{blind}"
    if not stops:
        said = f"{said}, and fine-tuning is ahead wherever it was measured."
        return _say(said, chance, True if not blind else None, **numbers)
    first = min(stops, key=lambda c: _known(c.num_samples))
    said += (
        f", but fine-tuning stops being clearly ahead in {len(stops)} of {len(analysis.crossovers)} curves, first "
        f"at about {plural(round(_known(first.num_samples)), 'sample')} ({_place(first)})."
    )
    return _say(said, f"{_place(first)}: {first.told}. {chance}", **numbers)


# --- size, shift, mixtures --------------------------------------------------------------------------------------------


def _by_size(analysis: Analysis) -> Finding | None:
    if len(analysis.sizes) < 2:
        return None
    compared = {g.size for g in _gains(analysis)}  # not those that only cells of a scaling law were trained with
    sizes = [size for size in by_params(analysis.sizes) if size.name in compared]
    cells: dict[tuple[Any, ...], dict[str, Gain]] = defaultdict(dict)
    for g in _gains(analysis):
        if _known(g.gain) > 0:
            cells[g.source, g.target, g.method, g.num_samples][g.size] = g
    shared = [cell for cell in cells.values() if len(cell) == len(sizes)]
    if not shared or len(sizes) < 2:
        return _say("How the gain depends on size could not be measured: no comparison has all sizes.", "No gains.")
    means = [geometric_mean([_known(cell[size.name].gain) for cell in shared]) for size in sizes]
    ends = [(cell[sizes[0].name], cell[sizes[-1].name]) for cell in shared]
    judged = [(small, large) for small, large in ends if small.low is not None and large.low is not None]
    up = sum(_known(large.low) > _known(small.high) for small, large in judged)
    down = sum(_known(large.high) < _known(small.low) for small, large in judged)
    steps = [after > before for before, after in pairwise(means)]
    at_every = {True: "at every step", False: "though not at every step"}
    how = f"from {_number(means[0])} to {_number(means[-1])} over a factor of "
    how += f"{_number(sizes[-1].num_params / sizes[0].num_params)} in weights"
    over = (
        f"Geometric mean over {len(shared)} comparisons" if len(shared) > 1 else f"One comparison, {_place(ends[0][0])}"
    )
    listed = ", ".join(f"{_number(m)} at {s.num_params:,} weights" for m, s in zip(means, sizes, strict=True))
    evidence = f"{over}: {listed}. Largest against smallest size, intervals do not "
    evidence += f"overlap in {up + down} of {len(shared)} ({up} larger, {down} smaller)."
    said, good = f"The gain does not clearly depend on size: it goes {how}, mostly within the intervals.", None
    if 2 * up > len(shared):
        where = "" if len(shared) > 1 else ", in the one comparison that has all sizes"
        said, good = f"The gain grows with size{where}: {how}, {at_every[all(steps)]}.", True
    elif 2 * down > len(shared):
        said, good = f"The gain shrinks with size: {how}, {at_every[not any(steps)]}.", False
    growth = means[-1] / means[0]
    return _say(said, evidence, good, statistic=growth, threshold=1.0, unit="gain of the largest over the smallest")


def _by_shift(analysis: Analysis) -> Finding | None:
    tasks, measures = analysis.shift.tasks, analysis.shift.measures
    if not tasks:
        return None
    known = [m for m in measures if m.rank_correlation is not None]
    if not known:
        why = "no measure has three tasks that differ" if measures else "no measure of shift was given"
        return _say(
            f"Whether zero-shot errors follow the shift could not be measured: {why}.", f"{plural(len(tasks), 'task')}."
        )
    best = max(known, key=lambda m: abs(_known(m.rank_correlation)))
    order = _known(best.rank_correlation)
    how = f"rank correlation {order:.2f} over {plural(best.num_tasks or 0, 'task')} ({best.label})"
    evidence = "; ".join(_measure(m) for m in known) + "."
    if len(known) > 1:
        evidence += f" The best of {len(known)} was judged by its p-value times {len(known)}."
    numbers: dict[str, Any] = {"statistic": order, "threshold": 0.0, "unit": "rank correlation"}
    if _known(best.p_value) * len(known) >= 1 - _known(analysis.level):
        return _say(f"Zero-shot errors do not clearly follow the shift: at best {how}.", evidence, **numbers)
    if order > 0:
        return _say(f"Stronger shifts give larger zero-shot errors: {how}.", evidence, True, **numbers)
    return _say(f"Zero-shot errors fall where the shift is called stronger: {how}.", evidence, False, **numbers)


def _measure(measure: ShiftMeasure) -> str:
    within = ", ".join(f"{name} {rho:.2f}" for name, rho in measure.within.items() if rho is not None)
    text = f"{measure.label}: {measure.rank_correlation:.2f}, p = {measure.p_value:.2g}"
    return f"{text} (within {within})" if within else text


def _by_mixture(analysis: Analysis) -> Finding | None:
    if not any(len(source.systems) > 1 for source in analysis.sources):
        return None
    known = [m for m in analysis.mixing if m.ratio is not None]
    seen, unseen = ([m for m in known if m.contains_system is has] for has in (True, False))
    if not known:
        return _say("Mixture against specialist could not be measured: no pair shares samples and seeds.", "No pairs.")
    numbers: dict[str, Any] = {"threshold": 1.0, "unit": "error of mixtures over specialists"}
    numbers["statistic"] = geometric_mean([_known(m.ratio) for m in seen or unseen])
    without = f"mixtures that never saw the target's system against its specialist: {_spread(unseen)}" if unseen else ""
    if not seen:
        said = (
            f"Only mixtures without the target's system were measured: {_spread(unseen)} times the specialist's error."
        )
        return _say(said, f"Error over error, {without}.", **numbers)
    evidence = f"Error over error, mixtures against specialists: {_spread(seen)}"
    evidence = f"{evidence}; {without}." if without else f"{evidence}."
    judged = [m for m in seen if m.low is not None]
    if not judged:
        better = sum(_known(m.ratio) < 1 for m in seen)
        said = f"The mixture has the smaller error in {better} of {len(seen)} comparisons with the specialist, but "
        return _say(f"{said}{_UNSURE}.", evidence, **numbers)
    better, worse = sum(_known(m.high) < 1 for m in judged), sum(_known(m.low) > 1 for m in judged)
    said = (
        f"Pre-training on several systems at once beats the specialist in {better} of {len(seen)} comparisons, loses "
        f"in {worse}, and {len(seen) - better - worse} are undecided."
    )
    good = True if better and not worse else False if 2 * worse > len(seen) else None
    return _say(said, evidence, good, **numbers)


def _spread(pairs: Sequence[Mixing]) -> str:
    ratios = [_known(m.ratio) for m in pairs]
    mean = geometric_mean(ratios)
    return f"{span(_number(min(ratios)), _number(max(ratios)))}, geometric mean {_number(mean)} of {len(ratios)}"


# --- words ------------------------------------------------------------------------------------------------------------


def _curves(analysis: Analysis, kind: str) -> list[ErrorCurve]:
    return [curve for curve in analysis.curves if curve.kind == kind]


def _range(analysis: Analysis, gains: Sequence[Gain]) -> str:
    ordered = sorted(gains, key=lambda g: _known(g.gain))
    ends = ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]
    return " to ".join(
        f"{_number(_known(g.gain))}{_interval(analysis, g.low, g.high)} ({_place(g)}, {g.size}, "
        f"{plural(g.num_samples, 'sample')})"
        for g in ends
    )


def _interval(analysis: Analysis, low: float | None, high: float | None, before: str = "") -> str:
    if low is None or high is None:
        return ", no interval"
    return f" [{before}{100 * _known(analysis.level):.3g} %: {_number(low)} to {_number(high)}]"


def _place(entry: Any) -> str:
    """Return source and target of anything that has them, and what was trained if not all was."""
    partly = f" by {entry.method}" if entry.method not in ("", "all") else ""
    return f"{entry.source} → {entry.target}{partly}"


def _rounded(value: float, towards: Callable[[float], int]) -> str:
    """Return a bound rounded so that it stays true: whole from 10 on, else to a tenth."""
    return f"{towards(value):,}" if value >= 10 else f"{towards(round(10 * value, 6)) / 10:g}"


def _number(value: float) -> str:
    """Two digits that matter, none made up: 0.034, 4.8, 57, 1,200."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{float(f'{value:.2g}'):g}"
