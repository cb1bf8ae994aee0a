"""Audits: whether a study's samples are what they are said to be. Each answer is a verdict with its numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from scifm.data.stream import BatchSource
from scifm.errors import DataError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding
from scifm.systems.knobs import Knob
from scifm.systems.system import System
from scifm.wording import plural

__all__ = [
    "audit_disjoint",
    "audit_held_out",
    "audit_knob_effects",
    "audit_knob_ranges",
    "audit_subsets",
    "audit_unseen",
    "sample_hashes",
]

_READ_AT_ONCE = 64  # samples of a store, while they are compared
_NO_EFFECT = 1e-3  # relative change of the solution below which a knob counts as doing nothing
_ROUNDING = 1e-3  # of a range's larger bound: how exactly knobs can be measured from float32 fields
_STOPS = (0.05, 0.35, 0.95)  # where in its range a knob is tried: no two half a turn apart, none along the grid


# --- which samples ----------------------------------------------------------------------------------------------------


def audit_subsets(
    subsets: Mapping[int, Mapping[int, Tensor | Sequence[int]]], num_available: int, *, task: str
) -> Finding:
    """Ask whether few-shot subsets hold distinct samples of the pool and each holds all smaller ones of its seed.

    Args:
        subsets: seed → number of samples → indices into the pool.
        num_available: samples in the pool.
        task: what the samples belong to.
    """
    faults = [
        f"seed {seed}: {fault}" for seed, by_count in subsets.items() for fault in _faults(by_count, num_available)
    ]
    counts = sorted({count for by_count in subsets.values() for count in by_count})
    subject = (
        f"{task}: subsets of {_listed(counts)} samples, seeds {_listed(subsets)}, from a pool of {num_available:,}"
    )
    ends = "; ".join(faults) if faults else "no sample comes twice in one, and each holds every smaller one of its seed"
    return Finding(name="subsets distinct and nested", good=bool(subsets) and not faults, said=f"{subject}: {ends}.")


def _faults(by_count: Mapping[int, Tensor | Sequence[int]], num_available: int) -> list[str]:
    index = {count: torch.as_tensor(by_count[count]).tolist() for count in sorted(by_count)}
    faults = []
    for count, chosen in index.items():
        if len(set(chosen)) != count or len(chosen) != count:
            faults.append(f"the subset of {count} holds {len(set(chosen))} distinct samples")
        if any(not 0 <= i < num_available for i in chosen):
            faults.append(f"the subset of {count} names samples the pool does not have")
    for small, large in pairwise(index):
        missing = len(set(index[small]) - set(index[large]))
        if missing:
            faults.append(f"{missing} of the subset of {small} are not in that of {large}")
    return faults


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def sample_hashes(batch: Batch) -> list[bytes]:
    """Return a hash of each problem: the exact bytes of its input fields and coefficients, with their names.

    A coefficient that is 0 and one that is absent are the same, so a sample keeps its hash in a batch with more names.
    """
    inputs = batch.inputs.cpu().contiguous().numpy()
    coefficients = batch.coefficients.cpu().contiguous().numpy()
    hashes = []
    for fields, numbers in zip(inputs, coefficients, strict=True):
        made = hashlib.sha256()
        for position, name in enumerate(batch.signature.inputs):
            made.update(name.encode() + b"\0" + fields[:, position].tobytes())
        present = sorted((n, x) for n, x in zip(batch.signature.coefficients, numbers, strict=True) if x != 0)
        for name, number in present:
            made.update(name.encode() + b"\0" + number.tobytes())
        hashes.append(made.digest())
    return hashes


def audit_disjoint(test: Batch, pool: Samples, *, task: str) -> Finding:
    """Ask whether any test sample is among those that may be trained on, by exact bytes of problem and coefficients.

    Args:
        test: samples that score.
        pool: samples that subsets are taken from; every one of them is compared.
        task: what they belong to.

    Raises:
        DataError: if they differ in grid or precision, where equal problems need not have equal bytes.
    """
    seen = {made for piece in pool.pieces(_READ_AT_ONCE) for made in sample_hashes(_comparable(piece, test))}
    shared, which = _shared(test, seen, task)
    said = f"{which} among the {plural(pool.num_samples, 'sample')} of its pool."
    return Finding(name="test disjoint", good=not shared, said=said)


def audit_held_out(seen: Sequence[str], task: Sequence[str], *, source: str, target: str) -> Finding:
    """Ask whether a pre-training saw none of the systems of a task that it is moved to as to a new one.

    Args:
        seen: names of the systems that made what it was pre-trained on.
        task: of those that made the task's samples.
        source, target: what the two are called.
    """
    shared = [name for name in task if name in seen]
    known = bool(seen) and bool(task)
    said = f"{target} (source {source}): pre-trained on {', '.join(seen) or 'systems nobody knows'}; "
    said += f"the task's is {', '.join(task) or 'not known'}"
    ends = f", which was seen: {', '.join(shared)}." if shared else ", which was not among them." if known else "."
    return Finding(name="a system never seen", good=not shared if known else None, said=said + ends)


def audit_unseen(test: Batch, source: BatchSource, *, num_steps: int, task: str, max_steps: int = 16) -> Finding:
    """Ask whether any test sample was trained on in pre-training, comparing steps chosen at random when there are many.

    Args:
        test: samples that score.
        source: of the pre-training.
        num_steps: steps that were trained.
        task: what the test samples belong to.
        max_steps: steps to compare, the first of a permutation drawn for ``"audit", "steps"``; all when there are no
            more.

    Raises:
        DataError: as for `audit_disjoint`, or if there are no steps.
    """
    if num_steps < 1 or max_steps < 1:
        raise DataError(f"Give at least 1 step to compare; got num_steps={num_steps}, max_steps={max_steps}.")
    chosen = torch.randperm(num_steps, generator=generator_for(0, "audit", "steps"))[:max_steps].tolist()
    seen: set[bytes] = set()
    num_compared = 0
    for step in sorted(chosen):
        batch = _comparable(source.batch(step), test)
        seen.update(sample_hashes(batch))
        num_compared += batch.num_samples
    shared, which = _shared(test, seen, task)
    steps = "all of them" if len(chosen) == num_steps else "drawn at random with seed 0"
    said = (
        f"{which} among {num_compared:,} samples of the pre-training, those of {len(chosen):,} of its {num_steps:,} "
        f"steps, {steps}."
    )
    return Finding(name="test unseen in pre-training", good=not shared, said=said)


def _comparable(batch: Batch, test: Batch) -> Batch:
    pairs = {"grid": (batch.grid, test.grid), "dtype": (batch.inputs.dtype, test.inputs.dtype)}
    for what, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise DataError(f"Samples are compared byte by byte, which needs one {what}; got {theirs} and {ours}.")
    return batch


def _shared(test: Batch, seen: set[bytes], task: str) -> tuple[int, str]:
    """Return how many test samples were seen, and the beginning of a sentence that says so."""
    shared = sum(made in seen for made in sample_hashes(test))
    of = f"{shared or 'none'} of {plural(test.num_samples, 'test sample')} of {task}"
    return shared, f"{of} {'is' if shared <= 1 else 'are'}"


# --- knobs ------------------------------------------------------------------------------------------------------------


def audit_knob_effects(system: System, grid: Grid, *, num_samples: int = 64) -> list[Finding]:
    """Ask of each knob whether it changes the solutions: turned with the same seed, so that all else stays as it was.

    A knob is tried at 5, 35 and 95 % of its range, an integer one at both ends. The change is ‖u − u_low‖/‖u_low‖ of
    each sample whose forcing is the same (one that was drawn again because it was rejected has another), averaged; the
    larger of the two counts, and below 1e-3 the knob fails. A stop at which the system can draw nothing, such as a
    resonance, is left out and told. The ends themselves are left out because they are special for angles: 0 and 2π are
    the same, and a flow straight along the grid cannot have every ratio.

    Args:
        system: whose knobs.
        grid: where to sample.
        num_samples: samples at each setting.
    """
    return [_effect(system, name, grid, num_samples) for name in system.knobs]


def _effect(system: System, name: str, grid: Grid, num_samples: int) -> Finding:
    knob, question = system.knobs[name], f"effect of {name}"
    if getattr(system, "spin_up", 0.0):  # behind it the states of two settings have nothing in common
        system = replace(system, spin_up=0.0)  # type: ignore[type-var]
    if knob.low == knob.high:
        said = f"{name} of {system.name} is fixed at {knob.low:g}: nothing to turn."
        return Finding(name=question, good=True, said=said)
    drawn, missing = [], []
    for part in (0.0, 1.0) if knob.integer else _STOPS:
        stop = knob.low + (knob.high - knob.low) * part
        try:
            drawn.append(
                (stop, system.where(**{name: stop}).sample(num_samples, grid, generator_for(0, "audit", "effect")))
            )
        except DataError:  # such as at a resonance
            missing.append(f"{stop:.4g}")
    unseen = f" No samples can be drawn at {' or '.join(missing)}." if missing else ""
    changes = [(*_change(drawn[0][1], other), stop) for stop, other in drawn[1:]]
    measured = [entry for entry in changes if entry[1]]
    if not measured:
        said = f"{name} of {system.name} could not be turned between samples with the same forcing.{unseen}"
        return Finding(name=question, good=False, said=said)
    change, count, stop = max(measured, key=lambda entry: (math.isnan(entry[0]), entry[0]))
    said = (
        f"turning {name} of {system.name} from {drawn[0][0]:.4g} to {stop:.4g} changes the solution by "
        f"{100 * change:.3g} % of its norm (mean over {plural(count, 'sample')} with the same forcing).{unseen}"
    )
    return Finding(name=question, good=change >= _NO_EFFECT, said=said)


def _change(first: Batch, other: Batch) -> tuple[float, int]:
    """Return the mean relative L2 change of the solution and over how many samples, those with equal inputs."""
    same = (first.inputs == other.inputs).flatten(1).all(1)
    before, after = (batch.require_targets()[same].flatten(1).to(torch.float64) for batch in (first, other))
    change = (after - before).norm(dim=1) / before.norm(dim=1)
    return float(change.mean()), int(same.sum())


def audit_knob_ranges(system: System, samples: Batch) -> list[Finding]:
    """Ask of each knob whether the samples lie in its range, by what the system can measure of them.

    A value may leave the range, or an integer its whole number, by 1e-3 of the range's larger bound: so much is
    rounding. A knob the system cannot measure does not pass: its range is not known to be kept.

    Args:
        system: that drew the samples; its knobs are the ranges.
        samples: with targets.
    """
    measured = system.measured_knobs(samples)
    return [_range(system, name, knob, measured.get(name)) for name, knob in system.knobs.items()]


def _range(system: System, name: str, knob: Knob, values: Tensor | None) -> Finding:
    question = f"range of {name}"
    declared = f"{knob.low:g} to {knob.high:g}{', whole' if knob.integer else ''}"
    if values is None:
        said = f"{name} of {system.name} cannot be measured from samples; declared is {declared}."
        return Finding(name=question, good=False, said=said)
    slack = _ROUNDING * max(abs(knob.low), abs(knob.high))
    fits = (values >= knob.low - slack) & (values <= knob.high + slack)
    if knob.integer:
        fits &= (values - values.round()).abs() <= slack
    outside = int((~fits).sum())
    low, middle, high = (float(values.quantile(share)) for share in (0.0, 0.5, 1.0))
    said = (
        f"{name} of {system.name} is {low:.4g} at least, {middle:.4g} in the median and {high:.4g} at most over "
        f"{plural(len(values), 'sample')}; declared is {declared}; {outside or 'none'} outside."
    )
    return Finding(name=question, good=not outside, said=said)
