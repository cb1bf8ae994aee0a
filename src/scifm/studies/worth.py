"""What a pre-training is worth on a task, counted in samples of the task: one source beside another."""

from __future__ import annotations

import math
from collections import defaultdict

from scifm.findings.finding import Finding
from scifm.findings.study import Analysis, Worth
from scifm.studies.statistics import LEVEL, log_interval
from scifm.studies.table import CurveKey, Points, ScoredTable, SeedRows
from scifm.studies.transfer_scores import by_params, first_reaching
from scifm.wording import plural

__all__ = ["worth_of_sources", "worths"]

_MOST_SENTENCES = 3


def worths(table: ScoredTable) -> list[Worth]:
    """Return on how many samples training from scratch comes to what fine-tuning reaches on fewer, or more.

    The curve from scratch is read as in `first_reaching`: with the bound ``"more than"`` it does not come down so far
    where it was measured, with ``"at most"`` it is there on the fewest samples already. The interval is of the numbers
    seed by seed; None when one of them is only a bound, or unknown.
    """
    return [
        _worth(table, key, points, count)
        for key, points in table.of_kind("few_shot")
        for count in points
        if table.scratch(key.target, key.size)
    ]


def _worth(table: ScoredTable, key: CurveKey, points: Points, count: int) -> Worth:
    scratch = table.scratch(key.target, key.size)
    counts, medians = list(scratch), [table.error(rows).center for rows in scratch.values()]
    reached = table.error(points[count]).center
    as_good_as, bound = first_reaching(counts, medians, reached)
    low, high = math.nan, math.nan
    if bound is None:
        low, high = log_interval(_by_seed(points[count], scratch), LEVEL)
    return Worth(
        **key.where,
        num_samples=count,
        as_good_as=as_good_as,
        low=min(low, as_good_as),  # min(NaN, x) is NaN: an interval that is missing stays missing
        high=max(high, as_good_as),
        bound=bound,
    )


def _by_seed(rows: SeedRows, scratch: Points) -> list[float]:
    errors = [{row.seed: row.relative_l2 for row in own} for own in scratch.values()]
    found = []
    for row in rows:
        if all(row.seed in each for each in errors):
            number, bound = first_reaching(list(scratch), [each[row.seed] for each in errors], row.relative_l2)
            found.append(math.nan if bound else number)
    return found


def worth_of_sources(analysis: Analysis) -> Finding | None:
    """Return which pre-training is worth most, where several are moved to one task; None where there is nothing to say.

    Of full fine-tuning of the largest network, at the fewest samples that all sources of the task share.
    """
    whole = [worth for worth in analysis.worths if worth.method in ("", "all")]
    order = [size.name for size in by_params(analysis.sizes) if any(worth.size == size.name for worth in whole)]
    tasks: dict[str, dict[str, dict[int, Worth]]] = defaultdict(lambda: defaultdict(dict))
    for worth in whole:
        if worth.size in order[-1:]:
            tasks[worth.target][worth.source][worth.num_samples] = worth
    sentences, ratios = [], []
    for task, by_source in tasks.items():
        shared = sorted(set.intersection(*(set(own) for own in by_source.values()))) if len(by_source) > 1 else []
        known = {source: own[shared[0]] for source, own in by_source.items() if shared and own[shared[0]].as_good_as}
        if len(known) < 2:
            continue
        ranked = sorted(known.items(), key=lambda entry: -(entry[1].as_good_as or 0))
        told = ", ".join(f"{source} {_told(worth)}" for source, worth in ranked)
        sentences.append(f"on {task}, {plural(shared[0], 'sample')} of it after pre-training are as good as {told}")
        ratios.append((ranked[0][1].as_good_as or math.nan) / shared[0])
    if not sentences:
        return None
    more = f" (and {len(sentences) - _MOST_SENTENCES} more tasks)" if len(sentences) > _MOST_SENTENCES else ""
    said = f"Counted in samples from scratch: {'; '.join(sentences[:_MOST_SENTENCES])}{more}."
    evidence = "Read from the curves of medians over seeds; ≥ and ≤ where a curve does not reach so far."
    return Finding(
        said=said,
        evidence=evidence,
        statistic=max(ratios),
        threshold=1.0,
        unit="samples from scratch over samples fine-tuned, of the best source",
    )


def _told(worth: Worth) -> str:
    number = worth.as_good_as or math.nan
    return f"{worth.sign}{number:,.3g}" if number < 10 else f"{worth.sign}{number:,.0f}"
