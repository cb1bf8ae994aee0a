"""Networks of different kinds beside each other: as such, on the same tasks, samples and steps, never over size.

Every architecture is compared with the first one of the recipe. What a finding says of pre-training is said of each
architecture for itself: gains of different networks are answers to different questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scifm.findings.finding import Finding
from scifm.findings.study import Analysis, Size, Versus
from scifm.studies.statistics import geometric_mean
from scifm.studies.table import CurveKey, ScoredTable
from scifm.wording import KIND_NAMES, factor_text, number_text, plural

__all__ = ["of_each", "side_by_side", "versus"]

_WAYS = ("zero_shot", "few_shot", "from_scratch")


def versus(table: ScoredTable) -> list[Versus]:
    """Return error over error of every network of another architecture and every network of the first one.

    Compared are errors of the same kind on one task, from one source, by one method, on as many samples, paired by
    seed. Below 1: the network has the smaller error.
    """
    first = next((size.architecture for size in table.sizes), "")
    ours = [size.name for size in table.sizes if size.architecture == first]
    pairs = []
    for key, points in table.curves.items():
        if key.kind not in _WAYS or key.size in ours:
            continue
        for other in ours:
            beside = table.curves.get(CurveKey(key.kind, key.source, key.target, other, key.method), {})
            for count in sorted(points.keys() & beside.keys()):
                ratio, low, high = table.ratio(points[count], beside[count])
                where = {"kind": key.kind, **key.where, "num_samples": count}
                pairs.append(Versus(**where, other=other, ratio=ratio, low=low, high=high))
    return pairs


def side_by_side(analysis: Analysis) -> list[Finding]:
    """Return a sentence for every architecture but the first one: how often its error is smaller, and at what cost."""
    (first, reference), *others = analysis.architectures.items()
    return [_against(analysis, name, sizes, first, reference) for name, sizes in others]


def _against(analysis: Analysis, name: str, sizes: Sequence[Size], first: str, reference: Sequence[Size]) -> Finding:
    own = {size.name for size in sizes}
    known = [v for v in analysis.versus if v.size in own and v.ratio is not None]
    title = f"{name} beside {first}"
    if not known:
        said = f"{name} and {first} could not be compared: they share no task, number of samples and seed."
        return Finding(name=title, said=said, evidence="No pairs.")
    judged = [v for v in known if v.low is not None and v.high is not None]
    smaller = sum(v.high is not None and v.high < 1 for v in judged)
    larger = sum(v.low is not None and v.low > 1 for v in judged)
    total = f"in {smaller} of {plural(len(known), 'comparison')} on as many samples"
    said = f"has the smaller error than {first} {total}, the larger in {larger}, and "
    said += f"{len(known) - smaller - larger} are undecided"
    if not judged:
        below = sum((v.ratio or 0.0) < 1 for v in known)
        said = f"has the smaller error than {first} in {below} of {plural(len(known), 'comparison')} on as many "
        said += "samples, without an interval, since fewer than two seeds are shared"
    ratios = [v.ratio for v in known if v.ratio]
    return Finding(
        name=title,
        said=f"{_budget(sizes, reference)}, {name} {said}. {_cost(sizes, reference)}",
        evidence=f"Error of {name} over error of {first}: {_ratios(known)}.",
        statistic=geometric_mean(ratios) if ratios else None,
        threshold=1.0,
        unit=f"error of {name} over error of {first}",
    )


def _budget(sizes: Sequence[Size], reference: Sequence[Size]) -> str:
    shares = sorted({ours.steps_factor / theirs.steps_factor for ours in sizes for theirs in reference})
    if shares == [1.0]:
        return "After equal optimizer steps"
    return f"After {' or '.join(number_text(share, digits=2) for share in shares)} times the optimizer steps"


def _cost(sizes: Sequence[Size], reference: Sequence[Size]) -> str:
    """Return how many weights and how much time it takes, in units of the reference; of several sizes the spans."""
    costs = {
        "weights": [ours.num_params / theirs.num_params for ours in sizes for theirs in reference],
        "time a step": _shares("seconds_per_step", sizes, reference),
    }
    if any(ours.steps_factor != theirs.steps_factor for ours in sizes for theirs in reference):
        costs["time of a pre-training"] = _shares("pretrain_seconds", sizes, reference)
    words = [
        f"{factor_text(min(shares))}{f' to {factor_text(max(shares))}' if len(shares) > 1 else ''} times the {what}"
        for what, shares in costs.items()
        if shares
    ]
    return f"It has {words[0]}{', and takes ' if words[1:] else ''}{' and '.join(words[1:])}."


def _shares(name: str, sizes: Sequence[Size], reference: Sequence[Size]) -> list[float]:
    pairs = [(getattr(ours, name), getattr(theirs, name)) for ours in sizes for theirs in reference]
    return [one / other for one, other in pairs if one and other]


def _ratios(pairs: Sequence[Versus]) -> str:
    parts = []
    for kind in _WAYS:
        own = sorted(v.ratio for v in pairs if v.kind == kind and v.ratio)
        if own:
            span = f" ({factor_text(own[0])} to {factor_text(own[-1])})" if len(own) > 1 else ""
            parts.append(f"{KIND_NAMES[kind]} {factor_text(geometric_mean(own))}{span}")
    means = "geometric means, with the smallest and the largest" if len(pairs) > len(parts) else "one comparison each"
    return f"{'; '.join(parts)}: {means}" if parts else "no ratio is positive"


def of_each(analysis: Analysis, parts: Mapping[str, Callable[[Analysis], Finding | None]]) -> list[Finding]:
    """Return what each part finds in every architecture for itself, the name of the architecture before it."""
    findings = []
    for architecture, sizes in analysis.architectures.items():
        own = _restricted(analysis, {size.name for size in sizes})
        for name, part in parts.items():
            answer = part(own)
            if answer is not None:
                said = f"{architecture}: {answer.said}"
                findings.append(answer.model_copy(update={"name": f"{name}, {architecture}", "said": said}))
    return findings


def _restricted(analysis: Analysis, sizes: set[str]) -> Analysis:
    """Return what an analysis says of some networks alone; shift is ranked of one network, and stays with it."""
    lists = ("curves", "gains", "needs", "converged", "crossovers", "mixing")
    changes: dict[str, Any] = {
        name: tuple(entry for entry in getattr(analysis, name) if entry.size in sizes) for name in lists
    }
    changes["sizes"] = tuple(size for size in analysis.sizes if size.name in sizes)
    if analysis.shift.size not in sizes:
        changes["shift"] = type(analysis.shift)()
    return analysis.model_copy(update=changes)
