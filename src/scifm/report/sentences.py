"""The result in words, computed from the numbers, the same whether they flatter or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scifm.report.records import MODEL_ALONE, RunRecord, Summary
from scifm.report.tables import Group, count_text, gains, number_text, summarize_scores
from scifm.wording import plural

__all__ = ["budget_sentence", "headline", "headline_count", "remarks", "run_headline", "run_remarks"]


def _known(errors: Mapping[int, float | None]) -> dict[int, float]:
    return {count: error for count, error in errors.items() if error is not None and math.isfinite(error) and error > 0}


def headline_count(summary: Summary) -> int | None:
    """Return the number of samples the headline speaks about: the middle one of those both ways were trained on."""
    shared = sorted(_known(summary.few_shot).keys() & _known(summary.from_scratch).keys())
    return shared[len(shared) // 2] if shared else None


def _short(value: float) -> str:
    return number_text(value, digits=2)


def _factor(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def _overtaken(error: float, scratch: Mapping[int, float], count: int) -> int | None:
    """Return the largest number of samples up to which training from scratch stays above `error`."""
    best = None
    for other in sorted(n for n in scratch if n > count):
        if scratch[other] <= error:
            break
        best = other
    return best


def headline(summary: Summary) -> str:
    """Return the finding of a study in one sentence.

    The gain is the error from scratch over the error fine-tuned on the same samples. A gain that rounds to 1.0 is
    called none, one below it negative transfer.
    """
    count = headline_count(summary)
    if count is None:
        return _headline_without_pair(summary)
    tuned, scratch = _known(summary.few_shot)[count], _known(summary.from_scratch)
    gain = scratch[count] / tuned
    start = f"ith {count_text(count)} downstream samples, fine-tuning reaches a relative L2 error of {_short(tuned)}"
    if _factor(gain) == "1.0":
        return (
            f"No gain: w{start}, as good as equal to training from scratch on the same samples "
            f"({_short(scratch[count])})."
        )
    if gain < 1:
        worse = _factor(1 / gain)
        return (
            f"Negative transfer: w{start}, {worse} times higher than training from scratch on the same samples "
            f"({_short(scratch[count])})."
        )
    sentence = f"W{start}, {_factor(gain)} times lower than training from scratch on the same samples"
    more = _overtaken(tuned, scratch, count)
    return sentence + (f", and lower than from scratch on {count_text(more)}." if more else ".")


def _headline_without_pair(summary: Summary) -> str:
    tuned, scratch = _known(summary.few_shot), _known(summary.from_scratch)
    tail = "so no gain can be stated."
    if tuned:
        count = max(tuned)
        return (
            f"Fine-tuned on {count_text(count)} downstream samples the relative L2 error is {_short(tuned[count])}; "
            f"no model trained from scratch on the same number has a usable error, {tail}"
        )
    if scratch:
        return f"No fine-tuned model has a usable error, {tail}"
    if summary.zero_shot is not None and math.isfinite(summary.zero_shot):
        error = _short(summary.zero_shot)
        return f"Without any downstream sample the relative L2 error is {error}; nothing was fine-tuned."
    return "No error was recorded, so there is nothing to conclude."


def remarks(summary: Summary, groups: Sequence[Group]) -> list[str]:
    """Return what must be said beside the headline: other counts, the two reference levels, overlapping seeds."""
    said = []
    if summary.zero_shot is not None and summary.in_distribution is not None:
        said.append(
            f"With no downstream sample (zero-shot) the error is {number_text(summary.zero_shot, digits=2)}; on the "
            f"system it was pre-trained on it is {number_text(summary.in_distribution, digits=2)}."
        )
    by_count = gains(groups)
    chosen = headline_count(summary)
    hurt = [count for count, gain in sorted(by_count.items()) if gain < 1 and count != chosen]
    if hurt:
        counts = ", ".join(f"{count_text(n)} ({_factor(1 / by_count[n])} times higher)" for n in hurt)
        said.append(f"Fine-tuning is worse than training from scratch on {counts}.")
    worse = _worse_than_zero_shot(summary)
    if worse:
        said.append(f"Fine-tuning on {', '.join(worse)} samples is worse than not adapting at all.")
    overlap = [count_text(count) for count in sorted(by_count) if _overlap(groups, count)]
    if overlap:
        said.append(
            f"On {', '.join(overlap)} samples the seeds' ranges of the two overlap: the difference there may be chance."
        )
    broken = sum(error is not None and not math.isfinite(error) for group in groups for error in group.errors)
    if broken:
        said.append(f"{broken} of the models evaluated have an error that is not finite; they cannot be drawn.")
    return said


def _worse_than_zero_shot(summary: Summary) -> list[str]:
    level = summary.zero_shot
    return [count_text(n) for n, error in _known(summary.few_shot).items() if level is not None and error > level]


def _overlap(groups: Sequence[Group], count: int) -> bool:
    ranges = {g.kind: g for g in groups if g.num_samples == count and len(g.errors) > 1}
    tuned, scratch = ranges.get("few_shot"), ranges.get("from_scratch")
    if tuned is None or scratch is None or not tuned.finite or not scratch.finite:
        return False
    return max(min(tuned.finite), min(scratch.finite)) <= min(max(tuned.finite), max(scratch.finite))


_WAYS = ("few_shot", "from_scratch")
_SPENT = {"num_steps": "optimizer steps", "trial_steps": "steps of all trials before"}


def budget_sentence(groups: Sequence[Group], *, tried_zero_shot: bool = False) -> str:
    """Say whether both ways had the same optimizer steps, in trials and in the last training, by what was recorded.

    They are compared where both had as many samples. Where `tried_zero_shot`, fine-tuning could keep the pre-trained
    weights, at no step: that is told by itself and not compared. How many candidates shared the steps of the trials may
    differ.
    """
    ways = {kind: {group.num_samples: group for group in groups if group.kind == kind} for kind in _WAYS}
    shared = [count for count in ways["few_shot"] if count in ways["from_scratch"]]
    if not shared:
        return "Whether fine-tuning and training from scratch had the same budget is not recorded."
    pairs = {name: [_spent(name, ways, count) for count in shared] for name in _SPENT}
    if tried_zero_shot:  # what was not trained is no step the other way would have to match
        steps = [(tuned - {0}, scratch) for tuned, scratch in pairs["num_steps"] if tuned != {0}]
        pairs["num_steps"] = steps or pairs["num_steps"]
    each = "each model trained" if tried_zero_shot else "each model"
    said = []
    for name, noun in _SPENT.items():
        tuned, scratch = (set().union(*side) for side in zip(*pairs[name], strict=True))
        listed = [" or ".join(map(count_text, sorted(values))) for values in (tuned, scratch)]
        if not tuned or not scratch:
            said.append(f"{noun}: not recorded")
        elif all(one == other for one, other in pairs[name]):
            said.append(f"{noun}: {listed[0]} for {each}, both ways")
        else:
            said.append(f"{noun}: {listed[0]} fine-tuning, {listed[1]} from scratch")
    same = all(one == other and one for pair in pairs.values() for one, other in pair)
    verdict = "The budgets are equal" if same else "The budgets are not shown to be equal"
    kept = _kept_sentence(list(ways["few_shot"].values())) if tried_zero_shot else ""
    return f"{verdict}: {'; '.join(said)}.{kept}"


def _spent(name: str, ways: Mapping[str, Mapping[int, Group]], count: int) -> tuple[set[int], set[int]]:
    """Return what fine-tuning and training from scratch spent on `count` samples, over the seeds."""
    tuned, scratch = (set(getattr(ways[kind][count], name)) for kind in _WAYS)
    return tuned, scratch


def _kept_sentence(tuned: Sequence[Group]) -> str:
    where = [count_text(group.num_samples) for group in tuned if 0 in group.learning_rates]
    did = f"it did, for one seed or more, on {', '.join(where)} samples" if where else "it never did"
    return f" Fine-tuning could also keep the pre-trained weights, at no step: {did}."


def run_headline(record: RunRecord) -> str:
    """Return what a single run reached, in one sentence."""
    name = f"The {'model' if record.status == MODEL_ALONE else 'run'} {record.path.resolve().name}"
    scored = next((scores for scores in record.score_sets if scores.errors), None)
    if scored is not None:
        told = ", ".join(f"{number_text(c.mean, digits=2)} ({c.channel})" for c in summarize_scores(scored))
        over = f"mean over {plural(scored.num_samples, 'sample')}"
        return f"{name} reaches a relative L2 error of {told}, {over}: {scored.text}."
    if record.curve.errors:
        step = count_text(record.curve.valid_steps[-1])
        error = number_text(record.curve.errors[-1], digits=2)
        return f"{name} has a validation relative L2 error of {error} at step {step}; it holds no test scores."
    if record.kept is not None:
        return f"{name} kept the pre-trained weights; it holds no test scores."
    if record.status == MODEL_ALONE:
        return f"{name} holds no scores: they stay with the run, or where 'scifm evaluate --out' put them."
    return f"{name} has recorded no error yet; 'scifm evaluate' records one."


def run_remarks(record: RunRecord) -> list[str]:
    """Return what must be said beside the headline of a run: that it is not complete, or that nothing was trained."""
    said = []
    if len(record.score_sets) > 1:
        said.append(f"It was scored on {len(record.score_sets)} sets of samples; the headline tells the latest.")
    if record.status not in ("complete", MODEL_ALONE):
        said.append(f"The run is not complete; its status: {record.status}.")
    if record.kept is not None:
        said.append(f"Nothing was trained. Fine-tuning kept {record.kept}.")
    return said
