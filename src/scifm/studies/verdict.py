"""What a study found, in a few sentences, each with its evidence; never more than the intervals allow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from scifm.studies.statistics import geometric_mean
from scifm.studies.transfer_scores import by_params, is_ahead
from scifm.wording import plural, span

__all__ = ["verdict"]

Entry = Mapping[str, Any]
Sentence = dict[str, Any]

_NO_INTERVAL = "there is no interval"
_UNSURE = f"{_NO_INTERVAL}, since fewer than two seeds are shared"


def verdict(analysis: Entry) -> list[Sentence]:
    """Return the sentences on top of a report: ``said``, ``evidence`` and ``good`` (True, False, or None for neither).

    Is pre-training worth it · how many samples it saves · where it stops helping or hurts · how the gain depends on
    size (where there are several) · whether errors follow the shift (where zero-shot was scored) · mixtures against
    specialists (where there are mixtures). A sentence before all of these tells of scores that are not finite.

    Args:
        analysis: the document, all but its ``verdict``.
    """
    parts = (_broken, _worth, _saved, _limits, _by_size, _by_shift, _by_mixture)
    return [sentence for part in parts if (sentence := part(analysis)) is not None]


def _say(said: str, evidence: str, good: bool | None = None) -> Sentence:
    return {"said": said, "evidence": evidence, "good": good}


def _runs(point: Entry) -> Iterable[tuple[float | None, str]]:
    return zip(point["values"], point["runs"], strict=True)


def _broken(analysis: Entry) -> Sentence | None:
    runs = [(value, run) for c in analysis["curves"] for p in c["points"] for value, run in _runs(p)]
    bad = [run for value, run in runs if value is None]
    if not bad:
        return None
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    said = f"{len(bad)} of {len(runs)} scores are not finite (NaN or infinite); every number they enter is left blank."
    return _say(said, f"Runs: {', '.join(bad[:3])}{more}.", False)


def _worth(analysis: Entry) -> Sentence:
    known = [g for g in analysis["gains"] if g["gain"] is not None]
    if not known:
        return _say(f"Whether pre-training is worth it could not be measured: {_why_no_gain(analysis)}.", "No gains.")
    evidence = f"Gains on as many samples, error from scratch over fine-tuned: {_range(analysis, known, 'gain')}."
    judged = [g for g in known if g["low"] is not None]
    if not judged:
        ahead = sum(g["gain"] > 1 for g in known)
        said = f"Fine-tuning has the smaller error in {ahead} of {len(known)} comparisons on as many samples, but "
        return _say(f"{said}{_UNSURE}: nothing is certain.", evidence)
    ahead, behind = sum(map(is_ahead, judged)), sum(g["high"] < 1 for g in judged)
    undecided = len(known) - ahead - behind
    if ahead == len(known):
        said = f"Pre-training is worth it: fine-tuning beats training from scratch in all {ahead} comparisons"
    elif ahead + behind == 0:
        said = f"Pre-training shows no clear gain: undecided in all {undecided} comparisons with training from scratch"
    else:
        said = (
            f"Fine-tuning beats training from scratch in {ahead} of {len(known)} comparisons, loses in {behind}, and "
        )
        said += f"{undecided} are undecided"
    good = False if behind > ahead else True if behind == 0 and 2 * ahead >= len(known) else None
    return _say(f"{said}, on as many samples.", evidence, good)


def _why_no_gain(analysis: Entry) -> str:
    kinds = {curve["kind"] for curve in analysis["curves"]}
    for kind, words in (("few_shot", "nothing was fine-tuned"), ("from_scratch", "nothing was trained from scratch")):
        if kind not in kinds:
            return words
    if analysis["gains"]:
        return "no gain is finite, or no seed is shared by both"
    return "no number of samples is shared by both"


def _saved(analysis: Entry) -> Sentence:
    chosen = _headline(analysis, analysis["needs"])
    known = sorted((n for n in chosen if n["ratio"] is not None), key=_by_ratio)
    if not known:
        why = "the errors are not finite" if chosen else _why_no_needs(analysis)
        return _say(f"How many samples pre-training saves could not be measured: {why}.", "No needs.")
    worst, best = known[0], known[-1]
    to_match = f"To match training from scratch on {plural(best['reference_samples'], 'sample')}, fine-tuning needs "
    said = f"{to_match}{_times_fewer(best)} ({_place(best)})."
    if len(known) > 1:
        said = f"{to_match}{_times_fewer(best)} at best ({_place(best)}) and {_times_fewer(worst)} at worst "
        said += f"({_place(worst)})."
    if len(known) > 1 and _times_fewer(best) == _times_fewer(worst):
        said = f"{to_match}{_times_fewer(best)} for all {plural(len(known), 'pair')} of source and target."
    clear, lost = [_saves(n) for n in known].count(True), [_saves(n) for n in known].count(False)
    good = True if clear == len(known) == len(chosen) else False if lost and not clear else None
    return _say(said, _saved_evidence(analysis, known, chosen), good if analysis["num_seeds"] > 1 else None)


def _why_no_needs(analysis: Entry) -> str:
    kinds = {curve["kind"] for curve in analysis["curves"]}
    return _why_no_gain(analysis) if not {"few_shot", "from_scratch"} <= kinds else "no target has both"


def _saved_evidence(analysis: Entry, known: list[Entry], chosen: list[Entry]) -> str:
    parts = [f"Ratios of samples, {plural(len(known), 'pair')} of source and target, size {known[0]['size']}"]
    for entry in (known[-1], known[0])[: len(known)]:
        within = _interval(analysis, entry, "ratio_")
        bound = f", a bound: {entry['bound']} {entry['needed']:,.0f}" if entry["bound"] else within
        parts.append(f"{_place(entry)}: {plural(round(entry['needed']), 'sample')}{bound}")
    unknown = f"{len(chosen) - len(known)} could not be computed" if len(known) < len(chosen) else ""
    medians = {(c["source"], c["target"], c["size"]): c["points"][0]["median"] for c in _curves(analysis, "zero_shot")}
    there = [n for n in known if _at_most(medians.get((n["source"], n["target"], n["size"])), n["reference_error"])]
    zero = f"zero-shot alone already reaches it for {', '.join(map(_place, there))}" if there else ""
    return "; ".join(filter(None, [*parts, zero, unknown])) + "."


def _at_most(error: float | None, wanted: float) -> bool:
    return error is not None and error <= wanted


def _by_ratio(need: Entry) -> tuple[float, int]:
    return need["ratio"], ("more than", None, "at most").index(need["bound"])


def _times_fewer(need: Entry) -> str:
    ratio, bound = need["ratio"], need["bound"]
    if bound == "more than":
        return f"more than the {need['needed']:,.0f} measured (less than {_rounded(ratio, math.ceil)} times fewer)"
    if bound == "at most":
        return f"at least {_rounded(ratio, math.floor)} times fewer"
    return f"{_number(ratio)} times fewer" if ratio >= 1 else f"{_number(1 / ratio)} times more"


def _saves(need: Entry) -> bool | None:
    """Return True if fewer samples are enough beyond doubt, False if more are needed beyond doubt."""
    ratio, low, high = need["ratio"], need["ratio_low"], need["ratio_high"]
    if need["bound"] is not None:
        return True if need["bound"] == "at most" and ratio > 1 else None
    return None if low is None else True if low > 1 else False if high < 1 else None


def _limits(analysis: Entry) -> Sentence:
    known = [g for g in analysis["gains"] if g["gain"] is not None]
    zero_shot = _curves(analysis, "zero_shot")
    worse = [z for z in zero_shot if (z["points"][0]["median"] or 0) > 1]
    zero = f" Zero-shot is worse than answering zero everywhere on {len(worse)} of {plural(len(zero_shot), 'task')}."
    zero = zero if worse else ""
    errors = "; ".join(f"{_place(z)}, {z['size']}: error {_number(z['points'][0]['median'])}" for z in worse[:3])
    if not known:
        said = f"Where pre-training stops helping, or hurts, could not be measured: {_why_no_gain(analysis)}.{zero}"
        return _say(said, f"Zero-shot {errors}." if worse else "No gains.", False if worse else None)
    said, evidence, good = _hurts(analysis, known)
    return _say(said + zero, f"{evidence} Zero-shot {errors}." if worse else evidence, None if worse and good else good)


def _hurts(analysis: Entry, known: list[Entry]) -> tuple[str, str, bool | None]:
    negative = [g for g in known if g["negative"]]
    judged = sum(g["negative"] is not None for g in known)
    chance = f"Of comparisons between equals, about {50 * (1 - analysis['level']):.2g} % would be called so by chance."
    if negative:
        least = min(negative, key=lambda g: g["gain"])
        said = f"Pre-training hurts (negative transfer) in {len(negative)} of {judged} comparisons, most at "
        said += (
            f"{_place(least)} on {plural(least['num_samples'], 'sample')}: {_number(1 / least['gain'])} "
            "times the error "
        )
        return f"{said}from scratch.", f"Gain {_range(analysis, [least], 'gain')}. {chance}", False
    if not judged:
        below = sum(g["gain"] < 1 for g in known)
        said = f"Negative transfer cannot be judged, since {_NO_INTERVAL}; the gain lies below 1 in "
        return f"{said}{below} of {len(known)} comparisons.", f"Gains {_range(analysis, known, 'gain')}.", None
    stops = [c for c in analysis["crossovers"] if c["num_samples"] is not None]
    blind = f" ({len(known) - judged} have no interval)" if judged < len(known) else ""
    said = f"None of {judged} comparisons shows negative transfer{blind}"
    if not stops:
        return f"{said}, and fine-tuning is ahead wherever it was measured.", chance, True if not blind else None
    first = min(stops, key=lambda c: c["num_samples"])
    said += (
        f", but fine-tuning stops being clearly ahead in {len(stops)} of {len(analysis['crossovers'])} curves, first "
    )
    said += f"at about {plural(round(first['num_samples']), 'sample')} ({_place(first)})."
    return said, f"{_place(first)}: {first['told']}. {chance}", None


def _by_size(analysis: Entry) -> Sentence | None:
    if len(analysis["sizes"]) < 2:
        return None
    sizes = by_params(analysis["sizes"])
    cells: dict[tuple[Any, ...], dict[str, Entry]] = defaultdict(dict)
    for g in analysis["gains"]:
        if g["gain"] is not None and g["gain"] > 0:
            cells[g["source"], g["target"], g["method"], g["num_samples"]][g["size"]] = g
    shared = [cell for cell in cells.values() if len(cell) == len(sizes)]
    if not shared:
        return _say("How the gain depends on size could not be measured: no comparison has all sizes.", "No gains.")
    means = [geometric_mean([cell[size["name"]]["gain"] for cell in shared]) for size in sizes]
    ends = [(cell[sizes[0]["name"]], cell[sizes[-1]["name"]]) for cell in shared]
    judged = [(small, large) for small, large in ends if small["low"] is not None and large["low"] is not None]
    up = sum(large["low"] > small["high"] for small, large in judged)
    down = sum(large["high"] < small["low"] for small, large in judged)
    steps = [after > before for before, after in pairwise(means)]
    how = f"from {_number(means[0])} to {_number(means[-1])} over a factor of "
    how += f"{_number(sizes[-1]['num_params'] / sizes[0]['num_params'])} in weights"
    told = ", ".join(f"{_number(m)} at {s['num_params']:,} weights" for m, s in zip(means, sizes, strict=True))
    over = (
        f"Geometric mean over {len(shared)} comparisons" if len(shared) > 1 else f"One comparison, {_place(ends[0][0])}"
    )
    evidence = f"{over}: {told}. Largest against smallest size, intervals do not "
    evidence += f"overlap in {up + down} of {len(shared)} ({up} larger, {down} smaller)."
    if 2 * up > len(shared):
        where = "" if len(shared) > 1 else ", in the one comparison that has all sizes"
        return _say(f"The gain grows with size{where}: {how}, {_steps(all(steps))}.", evidence, True)
    if 2 * down > len(shared):
        return _say(f"The gain shrinks with size: {how}, {_steps(not any(steps))}.", evidence, False)
    return _say(f"The gain does not clearly depend on size: it goes {how}, mostly within the intervals.", evidence)


def _steps(monotone: bool) -> str:
    return "at every step" if monotone else "though not at every step"


def _by_shift(analysis: Entry) -> Sentence | None:
    tasks, measures = analysis["shift"]["tasks"], analysis["shift"]["measures"]
    if not tasks:
        return None
    known = [m for m in measures if m["rank_correlation"] is not None]
    if not known:
        why = "no measure has three tasks that differ" if measures else "no measure of shift was given"
        return _say(
            f"Whether zero-shot errors follow the shift could not be measured: {why}.", f"{plural(len(tasks), 'task')}."
        )
    best = max(known, key=lambda m: abs(m["rank_correlation"]))
    told = f"rank correlation {best['rank_correlation']:.2f} over {plural(best['num_tasks'], 'task')}"
    evidence = "; ".join(_measure(m) for m in known) + "."
    if len(known) > 1:
        evidence += f" The best of {len(known)} was judged by its p-value times {len(known)}."
    if best["p_value"] * len(known) >= 1 - analysis["level"]:
        return _say(f"Zero-shot errors do not clearly follow the shift: at best {told} ({best['label']}).", evidence)
    if best["rank_correlation"] > 0:
        return _say(f"Stronger shifts give larger zero-shot errors: {told} ({best['label']}).", evidence, True)
    return _say(f"Zero-shot errors fall where the shift is called stronger: {told} ({best['label']}).", evidence, False)


def _measure(measure: Entry) -> str:
    within = ", ".join(f"{name} {rho:.2f}" for name, rho in measure["within"].items() if rho is not None)
    text = f"{measure['label']}: {measure['rank_correlation']:.2f}, p = {measure['p_value']:.2g}"
    return f"{text} (within {within})" if within else text


def _by_mixture(analysis: Entry) -> Sentence | None:
    if not any(len(source["systems"]) > 1 for source in analysis["sources"]):
        return None
    known = [m for m in analysis["mixing"] if m["ratio"] is not None]
    seen, unseen = ([m for m in known if m["contains_system"] is has] for has in (True, False))
    if not known:
        return _say("Mixture against specialist could not be measured: no pair shares samples and seeds.", "No pairs.")
    without = f"mixtures that never saw the target's system against its specialist: {_spread(unseen)}" if unseen else ""
    if not seen:
        said = (
            f"Only mixtures without the target's system were measured: {_spread(unseen)} times the specialist's error."
        )
        return _say(said, f"Error over error, {without}.")
    evidence = f"Error over error, mixtures against specialists: {_spread(seen)}"
    evidence = f"{evidence}; {without}." if without else f"{evidence}."
    judged = [m for m in seen if m["low"] is not None]
    if not judged:
        better = sum(m["ratio"] < 1 for m in seen)
        said = f"The mixture has the smaller error in {better} of {len(seen)} comparisons with the specialist, but "
        return _say(f"{said}{_UNSURE}.", evidence)
    better, worse = sum(m["high"] < 1 for m in judged), sum(m["low"] > 1 for m in judged)
    said = (
        f"Pre-training on several systems at once beats the specialist in {better} of {len(seen)} comparisons, loses "
    )
    said += f"in {worse}, and {len(seen) - better - worse} are undecided."
    return _say(said, evidence, True if better and not worse else False if 2 * worse > len(seen) else None)


def _spread(pairs: Sequence[Entry]) -> str:
    ratios = [m["ratio"] for m in pairs]
    mean = geometric_mean(ratios)
    return f"{span(_number(min(ratios)), _number(max(ratios)))}, geometric mean {_number(mean)} of {len(ratios)}"


def _curves(analysis: Entry, kind: str) -> list[Entry]:
    return [curve for curve in analysis["curves"] if curve["kind"] == kind]


def _headline(analysis: Entry, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of the largest size, and of full fine-tuning where there is any."""
    whole = [e for e in entries if e["method"] == "all"] or list(entries)
    sizes = [s["name"] for s in by_params(analysis["sizes"]) if any(e["size"] == s["name"] for e in whole)]
    return [e for e in whole if e["size"] in sizes[-1:]]


def _range(analysis: Entry, entries: Sequence[Entry], name: str) -> str:
    ordered = sorted(entries, key=lambda entry: entry[name])
    ends = ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]
    return " to ".join(
        f"{_number(e[name])}{_interval(analysis, e)} ({_place(e)}, {e['size']}, {plural(e['num_samples'], 'sample')})"
        for e in ends
    )


def _interval(analysis: Entry, entry: Entry, prefix: str = "") -> str:
    low, high = entry[f"{prefix}low"], entry[f"{prefix}high"]
    if low is None or high is None:
        return ", no interval"
    ratio = f"ratio {_number(entry['ratio'])}, " if prefix else ""
    return f" [{ratio}{100 * analysis['level']:.3g} %: {_number(low)} to {_number(high)}]"


def _place(entry: Entry) -> str:
    partly = f" by {entry['method']}" if entry["method"] not in ("", "all") else ""
    return f"{entry['source']} → {entry['target']}{partly}"


def _rounded(value: float, towards: Callable[[float], int]) -> str:
    """Return a bound rounded so that it stays true: whole from 10 on, else to a tenth."""
    return f"{towards(value):,}" if value >= 10 else f"{towards(round(10 * value, 6)) / 10:g}"


def _number(value: float) -> str:
    """Two digits that matter, none made up: 0.034, 4.8, 57, 1,200."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{float(f'{value:.2g}'):g}"
