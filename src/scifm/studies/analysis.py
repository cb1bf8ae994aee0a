"""From the table of a finished study to what it means: shift, audits, scaling, scores of transfer, a verdict.

Everything here can be made again from the study's folder and its recipe; no run is needed.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from scifm.data.origins import StoreOrigin
from scifm.errors import RunError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.findings.finding import Finding
from scifm.findings.study import Analysis, Size, Source, Target
from scifm.runs import Run
from scifm.studies.architectures import versus
from scifm.studies.audits import (
    audit_disjoint,
    audit_held_out,
    audit_knob_effects,
    audit_knob_ranges,
    audit_subsets,
    audit_unseen,
)
from scifm.studies.jobs import draw_test, pool_of
from scifm.studies.recipe import SourceConfig, StudyRecipe, TargetConfig
from scifm.studies.scaling import scaling_findings
from scifm.studies.shift import Population, measure_shift
from scifm.studies.statistics import LEVEL
from scifm.studies.table import Row, ScoredTable
from scifm.studies.transfer_findings import transfer_findings
from scifm.studies.transfer_scores import ShiftValues, converged, crossovers, curves, gains, mixing, needs, shift
from scifm.studies.worth import worths
from scifm.training.pretrain import training_source

__all__ = ["analyze", "conclude"]

_NUM_SHIFT_SAMPLES = 256


def analyze(
    rows: Iterable[Row],
    *,
    targets: Sequence[Target],
    sources: Sequence[Source],
    sizes: Sequence[Size],
    shift_values: ShiftValues | None = None,
    sample_errors: Callable[[Row], ArrayLike] | None = None,
    most_steps: Callable[[str, int], int] = lambda size, num_samples: sys.maxsize,
    **parts: Any,
) -> Analysis:
    """Compute every score of transfer and say in words what they amount to.

    The order of the rows does not matter; the lists come out in the order of `targets`, `sources` and `sizes`.

    Args:
        rows: of the study's table.
        targets: by system and then mildest shift first.
        sources: of the rows.
        sizes: of the rows; those of one architecture follow each other, and the first architecture is the one that
            others are compared with.
        shift_values: for ``(source, target)`` the value of each measure of shift by name, larger for a stronger one.
        sample_errors: the errors of a row's run on the test samples, see `ScoredTable`.
        most_steps: the longest training from scratch that was allowed of a network on a number of samples, see
            `converged`.
        parts: of the `Analysis` that do not come from rows: ``title``, ``scaling``, ``audits``, ….

    Raises:
        DataError: if there are no rows, a run comes twice, or names do not fit together.
    """
    table = ScoredTable(rows, targets=targets, sources=sources, sizes=sizes, sample_errors=sample_errors)
    analysis = Analysis(
        num_seeds=table.num_seeds,
        level=LEVEL,
        targets=tuple(targets),
        sources=tuple(sources),
        sizes=tuple(sizes),
        curves=tuple(curves(table)),
        gains=tuple(gains(table)),
        versus=tuple(versus(table)),
        needs=tuple(needs(table)),
        worths=tuple(worths(table)),
        converged=tuple(converged(table, most_steps)),
        crossovers=tuple(crossovers(table)),
        shift=shift(table, shift_values),
        mixing=tuple(mixing(table)),
        **parts,
    )
    return analysis.model_copy(update={"verdict": transfer_findings(analysis)})


def conclude(recipe: StudyRecipe, folder: Path, rows: Sequence[Row], *, seconds: float | None = None) -> Analysis:
    """Write and return ``analysis.json`` of a study.

    Args:
        recipe: the study's.
        folder: of the study, with its runs.
        rows: its whole table.
        seconds: wall time it took.

    Raises:
        DataError: if the rows do not fit the recipe.
        RunError: if scores cannot be read or the file cannot be written.
    """
    origins = {target.name: recipe.origin(target) for target in recipe.targets}
    tests = {name: draw_test(recipe, name, origin) for name, origin in origins.items()}
    moved = [row for row in rows if "+" not in row.source]
    analysis = analyze(
        moved,
        targets=[
            Target(name=name, system=origin.name, knobs=origin.ranges(only_given=True), label=origin.label)
            for name, origin in origins.items()
        ],
        sources=_sources(recipe, moved),
        sizes=_sizes(recipe, rows),
        title=recipe.title,
        num_test_samples=recipe.num_test_samples,
        shift_values=_shift_values(recipe, tests),
        scaling=scaling_findings(recipe, rows),
        audits=tuple(_audits(recipe, folder, rows, tests)),
        sample_errors=cache(partial(_sample_errors, recipe, folder)),
        most_steps=recipe.most_scratch_steps,
        seconds=seconds,
        seconds_by_part=_seconds_by_part(rows),
    )
    analysis.write(folder / "analysis.json")
    return analysis


def _sources(recipe: StudyRecipe, rows: Sequence[Row]) -> list[Source]:
    """Return one for each name; sources that differ in size alone share it."""
    by_name: dict[str, Source] = {}
    for source in recipe.sources:
        if source.name not in by_name:
            by_name[source.name] = Source(
                name=source.name,
                systems=tuple(origin.name for origin in recipe.origins(source)),
                label=recipe.origin(source).label,
                num_pretrain_samples=max((r.num_pretrain_samples for r in rows if r.source == source.name), default=0),
            )
    return list(by_name.values())


def _sizes(recipe: StudyRecipe, rows: Sequence[Row]) -> list[Size]:
    """Return the networks by architecture, in the order of the recipe, and of each the smallest first.

    Each has the weights of the smallest operator of that name: those of a mixture have a few more, for the names they
    know beyond one system's.
    """
    architectures, order = recipe.architectures, list(dict.fromkeys(recipe.architectures.values()))
    sizes = []
    for name, architecture in architectures.items():
        runs = {row.run: row for row in rows if row.size == name}
        if not runs:
            continue
        model = recipe.model(name)
        pretrained = [row for row in runs.values() if not row.num_samples]
        sizes.append(
            Size(
                name=name,
                num_params=min(row.num_params for row in runs.values()),
                kind=model.kind,
                architecture=architecture,
                normalization=model.normalization,
                steps_factor=model.steps_factor,
                seconds_per_step=_median([row.seconds / row.num_steps for row in pretrained]),
                pretrain_seconds=_median([row.seconds for row in pretrained if "+" not in row.source]),
                adapt_seconds=_median([row.seconds for row in runs.values() if row.num_samples]),
            )
        )
    return sorted(sizes, key=lambda size: (order.index(size.architecture), size.num_params))


def _median(seconds: Sequence[float]) -> float | None:
    known = [value for value in seconds if value > 0]  # early versions wrote 0 of pre-trainings
    return float(np.median(known)) if known else None


def _seconds_by_part(rows: Sequence[Row]) -> dict[str, float]:
    """Return the wall time of all pre-trainings and of all adaptations, each run counted once."""
    parts: dict[str, dict[str, float]] = {"pretrain": {}, "adapt": {}}
    for row in rows:
        parts["adapt" if row.num_samples else "pretrain"][row.run] = row.seconds
    return {part: sum(runs.values()) for part, runs in parts.items()}


def _sample_errors(recipe: StudyRecipe, folder: Path, row: Row) -> NDArray[np.float64]:
    """Return one error a test problem, the mean over its windows and channels: windows of one are not independent."""
    file = Run(folder / row.run).scores_file(row.target)
    if not file.is_file():  # a study made before scores lay in a folder of their own
        old = file.parent.parent / (f"scores-{row.target}.parquet" if row.num_samples == 0 else "scores.parquet")
        file = old if old.is_file() else file
    try:
        column = pq.read_table(file, columns=["relative_l2"]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"The scores '{file}' cannot be read ({error}). Delete that run folder and give the "
            "study's command again to make it anew."
        ) from error
    errors: NDArray[np.float64] = np.asarray(column.to_numpy(), dtype=np.float64)
    return errors.reshape(recipe.num_test_samples, -1).mean(axis=1)


def _shift_values(recipe: StudyRecipe, tests: dict[str, Batch]) -> dict[tuple[str, str], dict[str, float | None]]:
    values: dict[tuple[str, str], dict[str, float | None]] = {}
    # the measures know two periodic axes; of others the verdict says that shift was not measured
    for source in recipe.sources:
        parts, origins = [], recipe.origins(source)
        if not all(_has_shift(origin.grid) for origin in origins):
            continue
        for place, origin in enumerate(origins):
            drawn = origin.draw(_NUM_SHIFT_SAMPLES, "study", "shift", source.name, place)
            parts.append(Population(origin.system, drawn, origin.homogeneities))
        for target in recipe.targets_of(source):
            if not recipe.knows(source, target) or not _has_shift(tests[target.name].grid):
                continue  # nothing to measure a shift of fields by that the source has not
            origin = recipe.origin(target)
            task = Population(origin.system, tests[target.name], origin.homogeneities)
            values[source.name, target.name] = measure_shift(parts, task)
    return values


def _has_shift(grid: Grid) -> bool:
    """Return whether the measures of shift are defined on a grid."""
    return grid.num_spatial_dims == 2 and all(grid.periodic)


# --- audits -----------------------------------------------------------------------------------------------------------


def _audits(recipe: StudyRecipe, folder: Path, rows: Sequence[Row], tests: dict[str, Batch]) -> list[Finding]:
    findings = []
    for target in recipe.targets:
        test, pool = tests[target.name], pool_of(recipe, target)
        findings.append(audit_subsets(_subsets(folder, rows, target), pool.num_problems, task=target.name))
        findings.append(audit_disjoint(test, pool.samples, task=target.name))
        system = recipe.origin(target).system
        findings += audit_knob_ranges(system, test) if system is not None else []
    for source in recipe.sources:
        seen = recipe.origin(source).systems
        for target in recipe.targets_of(source):
            if not recipe.knows(source, target):
                systems = recipe.origin(target).systems
                findings.append(audit_held_out(seen, systems, source=source.name, target=target.name))
        shared = [target for target in recipe.targets_of(source) if _could_share(recipe, source, target)]
        for target, seed in product(shared, source.seeds or recipe.seeds):
            every = [recipe.pretraining(source, size, seed) for size in recipe.sizes_of(source)]
            settings = max(every, key=lambda one: one.training.num_steps)  # all see the same samples, it the most
            steps, task = settings.training.num_steps, f"{target.name} (source {source.name}, seed {seed})"
            batches = training_source(settings)
            findings.append(audit_unseen(tests[target.name], batches, num_steps=steps, task=task))
        for origin in recipe.origins(source):
            findings += audit_knob_effects(origin.system, recipe.grid) if origin.system is not None else []
    return list(dict.fromkeys(findings))


def _could_share(recipe: StudyRecipe, source: SourceConfig, target: TargetConfig) -> bool:
    """Return whether a sample of the task may be one of the pre-training's, so that they must be compared.

    What a store holds may have been drawn by any system, so names do not tell; on other grids and in other precisions
    no two samples are equal.
    """
    task = recipe.origin(target)
    for origin in recipe.origins(source):
        stored = [side.store.card.dtype if isinstance(side, StoreOrigin) else None for side in (origin, task)]
        if stored == [None, None] and origin.name == task.name:
            return True
        if stored != [None, None] and origin.grid == task.grid and len({dtype or "float32" for dtype in stored}) == 1:
            return True
    return False


def _subsets(folder: Path, rows: Sequence[Row], target: TargetConfig) -> dict[int, dict[int, list[int]]]:
    """Return what the runs of a target say they were trained on: seed → number → indices into the pool."""
    subsets: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for row in rows:
        if row.target == target.name and row.num_samples:
            file = folder / row.run / "subset.json"
            try:
                index = json.loads(file.read_text(encoding="utf-8"))["index"]
            except (OSError, ValueError, KeyError) as error:
                raise RunError(f"'{file}' cannot be read ({error}). Delete that run folder to make it anew.") from error
            before = subsets[row.seed].setdefault(row.num_samples, index)
            if before != index:
                raise RunError(f"Two runs on {row.num_samples} samples of '{target.name}' with one seed used others.")
    return dict(subsets)
