"""The page of a plan: how many samples a target error needs, the curves behind the answer, every point measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scifm.findings.finding import Finding
from scifm.findings.plan import Kind, Outlook, Plan
from scifm.report.files import read_object, read_text, unreadable
from scifm.report.study_view import KIND_NAMES
from scifm.report.tables import DASH, Cell, Table, cells
from scifm.report.template import Numbered, Tile, environment_entries, render
from scifm.wording import count_in_words, count_text, duration_text, number_text, plural

__all__ = ["render_plan"]

_REMEDY = "Give the command that made the plan again: what is complete is not repeated."
_KINDS: tuple[Kind, ...] = ("few_shot", "from_scratch")


def render_plan(folder: Path) -> str:
    """Return the page of a plan as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    tree = read_object(folder / "plan.json", remedy=_REMEDY) or {}
    plan, numbered = _plan(folder / "plan.json", tree), Numbered()
    first, *others = plan.findings or (Finding(said=str(tree.get("recommendation") or plan.verdict)),)
    return render(
        "plan.html",
        title=folder.resolve().name,
        headline=first.said,
        remarks=[first.evidence] if first.evidence else [],
        question=f"How many samples does a mean relative L2 error of {plan.target_error:g} need?",
        tiles=_tiles(plan),
        curves=numbered("curves", plan.figure),
        findings=[(finding, numbered(f"finding-{i}", finding.figure)) for i, finding in enumerate(others)],
        needs=_need_table(plan),
        points=_point_table(plan) if plan.points else None,
        plan=plan,
        environment=environment_entries(read_object(folder / "environment.json")),
        recipe=read_text(folder / "config.toml"),
    )


def _plan(path: Path, tree: dict[str, Any]) -> Plan:
    try:
        return Plan.model_validate({name: value for name, value in tree.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise unreadable(path, f"'{place}' is not as expected ({first['msg']})", remedy=_REMEDY) from error


def _count(value: float | None) -> str:
    return count_in_words(math.inf if value is None else value)


def _tiles(plan: Plan) -> list[Tile]:
    tiles = [
        Tile("Error wanted", number_text(plan.target_error), "mean relative L2"),
        Tile("Samples at hand", count_text(plan.num_samples)),
        Tile("Zero-shot", number_text(plan.zero_shot), "no training at all"),
    ]
    for kind in _KINDS:
        own = plan.outlook(kind)
        if own.need is not None:
            between = f"{own.need.level:.0%}: {_count(own.need.low)} to {_count(own.need.high)}"
            tiles.append(Tile(f"Need, {KIND_NAMES[kind]}", _count(own.need.median), between))
    return [*tiles, Tile("Plan", duration_text(plan.seconds), plural(len(plan.points), "training"))]


def _need_row(name: str, own: Outlook) -> tuple[Cell, ...]:
    if own.need is None or own.current_error is None:
        return cells(name, "not measured", DASH, DASH, DASH, DASH)
    now = f"{number_text(own.current_error)} on {count_text(own.num_trained_samples)}"
    draws = DASH if own.effective_draws is None else f"{own.effective_draws:,.0f}"
    between = f"{_count(own.need.low)} to {_count(own.need.high)}"
    return cells(name, now, _count(own.need.median), between, f"{100 * own.need.reachable:.0f} %", draws)


def _need_table(plan: Plan) -> Table:
    level = "" if plan.level is None else f" of {plan.level:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    caption = (
        f"Samples to train on, in all, for the error wanted: median and interval{level} over the learning curves that "
        "agree with the points; the share of them that reach it at any number; how many curves carry this (few mean "
        "that the points look like no learning curve)."
    )
    rows = tuple(_need_row(KIND_NAMES[kind], plan.outlook(kind)) for kind in _KINDS)
    return Table("needs", caption, ("way", "error now", "need", "interval", "reachable", "curves"), rows)


def _point_table(plan: Plan) -> Table:
    """Return every training of the plan."""
    rows = tuple(
        cells(
            KIND_NAMES[point.kind],
            count_text(point.num_samples),
            str(point.repeat),
            "diverged" if point.relative_l2 is None else number_text(point.relative_l2),
            ", ".join(map(number_text, point.errors)) or DASH,
            ", ".join(map(str, point.held_out)) or DASH,
            point.run or DASH,
        )
        for point in plan.points
    )
    headers = ("way", "trained on", "repeat", "mean error", "errors of those held out", "which", "run")
    caption = "Every training: how many samples it had, its error on those held out, each of them, and its folder."
    return Table("points", caption, headers, rows, wordy=(0, 4, 5, 6))
