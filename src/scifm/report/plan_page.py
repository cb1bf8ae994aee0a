"""The page of a plan: how many samples a target error needs, the curves behind the answer, every point measured."""

from __future__ import annotations

from pathlib import Path

from scifm.findings.finding import Finding
from scifm.findings.plan import Kind, Plan
from scifm.report.parts import DASH, Cell, Numbered, Page, Table, Tile, environment_entries, render
from scifm.report.records import read_model, read_object, read_text
from scifm.wording import KIND_NAMES, count_in_words, count_text, duration_text, number_text, plural

__all__ = ["render_plan"]

_REMEDY = "Give the command that made the plan again: what is complete is not repeated."
_KINDS: tuple[Kind, ...] = ("few_shot", "from_scratch")


def render_plan(folder: Path) -> Page:
    """Return the page of a plan as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    plan, numbered = read_model(folder / "plan.json", Plan, remedy=_REMEDY), Numbered()
    early = (read_object(folder / "plan.json") or {}).get("recommendation")  # in place of findings, once
    first, *others = plan.findings or (Finding(said=str(early or plan.verdict)),)
    return render(
        "plan.html",
        title=folder.resolve().name,
        headline=first.said,
        remarks=[first.evidence] if first.evidence else [],
        question=f"How many samples does a mean relative L2 error of {plan.target_error:g} need?",
        tiles=_tiles(plan),
        curves=numbered("curves", plan.figure),
        findings=numbered.findings(others),
        needs=_need_table(plan),
        points=_point_table(plan) if plan.points else None,
        plan=plan,
        environment=environment_entries(read_object(folder / "environment.json")),
        recipe=read_text(folder / "config.toml"),
    )


def _tiles(plan: Plan) -> list[Tile]:
    tiles = [
        Tile("Error wanted", number_text(plan.target_error), "mean relative L2"),
        Tile("Samples at hand", count_text(plan.num_samples)),
        Tile("Zero-shot", DASH, "it does not know the names")
        if plan.zero_shot is None
        else Tile("Zero-shot", number_text(plan.zero_shot), "no training at all"),
    ]
    for kind in _KINDS:
        own = plan.outlook(kind)
        if own.need is not None:
            between = f"{own.need.level:.0%}: {count_in_words(own.need.low)} to {count_in_words(own.need.high)}"
            tiles.append(Tile(f"Need, {KIND_NAMES[kind]}", count_in_words(own.need.median), between))
    return [*tiles, Tile("Plan", duration_text(plan.seconds), plural(len(plan.points), "training"))]


def _need_table(plan: Plan) -> Table:
    level = "" if plan.level is None else f" of {plan.level:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    caption = (
        f"Samples to train on, in all, for the error wanted: median and interval{level} over the learning curves that "
        "agree with the points; the share of them that reach it at any number; how many curves carry this (few mean "
        "that the points look like no learning curve)."
    )
    headers = ("way", "error now", "need", "interval", "reachable", "curves")
    rows = []
    for kind in _KINDS:
        own = plan.outlook(kind)
        row = ["not measured", DASH, DASH, DASH, DASH]
        if own.need is not None and own.current_error is not None:
            row = [
                f"{number_text(own.current_error)} on {count_text(own.num_trained_samples)}",
                count_in_words(own.need.median),
                f"{count_in_words(own.need.low)} to {count_in_words(own.need.high)}",
                f"{100 * own.need.reachable:.0f} %",
                DASH if own.effective_draws is None else f"{own.effective_draws:,.0f}",
            ]
        rows.append(tuple(map(Cell, (KIND_NAMES[kind], *row))))
    return Table("needs", caption, headers, tuple(rows))


def _point_table(plan: Plan) -> Table:
    return Table.of(
        "points",
        "Every training: how many samples it had, its error on those held out, each of them, and its folder.",
        plan.points,
        {
            "way": lambda point: KIND_NAMES[point.kind],
            "trained on": lambda point: count_text(point.num_samples),
            "repeat": lambda point: str(point.repeat),
            "mean error": lambda p: "diverged" if p.relative_l2 is None else number_text(p.relative_l2),
            "errors of those held out": lambda point: ", ".join(map(number_text, point.errors)) or DASH,
            "which": lambda point: ", ".join(map(str, point.held_out)) or DASH,
            "run": lambda point: point.run or DASH,
        },
        wordy=("errors of those held out", "which", "run"),
    )
