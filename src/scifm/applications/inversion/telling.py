"""What an inversion found, as an account: numbers with intervals, the solver's word, maps, searches."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scifm.applications.inversion.asking import Inversion, InvertRecipe
from scifm.fields.seeds import generator_for
from scifm.findings.account import Account, Chapter, KeyFigure, MapOf, Maps, Places, Rows
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.wording import number_text, plural

__all__ = ["account_of", "arrays_of", "fields_off", "intervals_of", "truths_of"]

_DRAWS_OF_FIELDS = 64
_DRAWS_OF_COVERAGE = 400
_NEARLY_ZERO = 0.01  # of the largest value


def account_of(made: Inversion, recipe: InvertRecipe, *, model: str, data: str) -> Account:
    """Return the account of an inversion.

    Args:
        made: what was found.
        recipe: how it was asked for.
        model: what was asked.
        data: where the recordings are from.
    """
    rows, truths = intervals_of(made, recipe), truths_of(made)
    places = plural(len(made.seen.places), "receiver")
    places += f" in {made.num_files} recordings" if made.num_files > 1 else ""
    first = [
        f"{name} = {number_text(row[1])} ({number_text(row[0])} to {number_text(row[2])})" for name, row in rows.items()
    ]
    through = "the network, then the solver" if made.refined is not None else f"the {recipe.through}"
    headline = Finding(
        name="answer",
        said=f"From {places}: {'; '.join(first[:6])}{'; …' if len(first) > 6 else ''}.",
        evidence=f"By {through}, {data}, {model}; in brackets the central {100 * recipe.level:g} %.",
    )
    findings = [headline, *_solver_says(made), _starts(made), *_against_truth(rows, truths, recipe)]
    findings += [_field_against_truth(name, *own, recipe) for name, own in fields_off(made, recipe).items()]
    chapters = [
        Chapter(title="The unknowns", figures=(_beliefs(made, rows, truths),), tables=(_table(rows, truths, recipe),)),
        Chapter(title="Maps", maps=_maps(made)),
        Chapter(title="The searches", figures=(_paths(made),)),
    ]
    return Account(
        application="inversion",
        question=f"What was it, that {places} recorded so?",
        findings=tuple(findings),
        key_figures=_key_figures(made),
        chapters=tuple(chapters),
        definitions=(
            "Misfit: the mean squared difference between what was recorded and what would be, in units of the noise; "
            f"about 1 for the truth, up to {made.content:.2f} for what noise makes of it.",
            "Intervals take what is believed around the answer for a normal distribution (Laplace); beliefs beforehand "
            "are those of problems like the training's.",
        ),
        limits=(
            "Another answer far away may fit as well: see how many starts agree.",
            "Unknowns unlike those of the training are believed to be unlikely, and a network does not know them.",
        ),
    )


def intervals_of(made: Inversion, recipe: InvertRecipe) -> dict[str, tuple[float, float, float]]:
    """Return lower end, answer and upper end of each number that is asked for."""
    told = made.unknown.told(torch.cat([made.best[None], made.draws]))  # together: places near the best one
    ends = torch.tensor([0.5 - recipe.level / 2, 0.5 + recipe.level / 2], dtype=torch.float64)
    rows = {}
    for name, values in told.items():
        low, high = torch.quantile(values[1:].double(), ends).tolist()
        rows[name] = (low, float(values[0]), high)
    return rows


def fields_off(made: Inversion, recipe: InvertRecipe) -> dict[str, tuple[float, float]]:
    """Return of each field that was asked for and is known its relative error, and which part of it intervals hold.

    Places count where the field is not nearly zero, as a medium is in the open.
    """
    ends, told = torch.tensor([0.5 - recipe.level / 2, 0.5 + recipe.level / 2], dtype=torch.float64), {}
    with torch.no_grad():
        found = {name: own[0] for name, own in made.unknown.of(made.best[None]).items() if own.dim() == 3}
        drawn = made.unknown.of(made.draws[:_DRAWS_OF_COVERAGE])
    for name, own in found.items():
        if name in made.seen.truth:
            true = made.seen.truth[name]
            low, high = torch.quantile(drawn[name], ends, dim=0)
            there = true.abs() > _NEARLY_ZERO * true.abs().max()
            held = ((true >= low) & (true <= high))[there].double().mean()
            told[name] = float((own - true).norm() / true.norm()), float(held)
    return told


def truths_of(made: Inversion) -> dict[str, float]:
    """Return the numbers that are asked for of the truth, as far as the file has it; of sources nobody knows them."""
    truths = {name: float(own) for name, own in made.seen.truth.items() if own.dim() == 0}
    for name, own in made.seen.truth.items():
        if own.dim() == 2:
            truths |= {f"{name}, mean": float(own.mean()), f"{name}, largest": float(own.max())}
    return truths


def arrays_of(made: Inversion, recipe: InvertRecipe) -> Mapping[str, NDArray[np.floating]]:
    """Return the maps of the account, and draws of the unknowns."""
    best = made.best
    arrays: dict[str, Tensor] = {"draws": made.draws, "z": best}
    with torch.no_grad():
        answered = made.forward.answers(made.found.best.z[None])
        by_solver = None if _asks_solver(made) else made.solver.answers(best[None])  # type: ignore[union-attr]
        fields = {n: f[0] for n, f in made.unknown.of(best[None]).items() if f.dim() == 3}
        drawn = made.unknown.of(made.draws[:_DRAWS_OF_FIELDS])
    for name, own in fields.items():
        arrays |= {f"{name} found": own, f"{name} spread": drawn[name].std(0)}
        if name in made.seen.truth:
            arrays |= {f"{name} true": made.seen.truth[name], f"{name} off": own - made.seen.truth[name]}
    for name in made.seen.values:
        arrays[f"{name} answered"] = answered.field(name)[0, 0]
        if by_solver is not None:
            arrays[f"{name} by solver"] = by_solver.field(name)[0, 0]
            arrays[f"{name} difference"] = arrays[f"{name} answered"] - arrays[f"{name} by solver"]
    return {name: own.detach().double().numpy() for name, own in arrays.items()}


def _asks_solver(made: Inversion) -> bool:
    """Return whether there is no solver's answer beside the one that was searched through."""
    return made.solver is None or made.forward is made.solver


# --- findings ---------------------------------------------------------------------------------------------------------


def _solver_says(made: Inversion) -> list[Finding]:
    if made.solver_misfit is None:
        if made.solver is None:
            return [Finding(name="solver", said="No solver is known of what the run was trained on: nobody checked.")]
        return []
    ours, theirs = made.found.misfit, made.solver_misfit
    good = theirs <= made.content
    told = f"Misfit {ours:.3g} by the network, {theirs:.3g} by the solver; noise makes up to {made.content:.3g}."
    if made.refined is not None:
        moved = float((made.refined.best.z - made.found.best.z).norm())
        told += (
            f" The solver's own search from there ends at {made.refined.misfit:.3g} (noise alone), {moved:.2g} away in "
        )
        told += "units of what was believed."
    if made.adversarial:
        said = "The network is content with its answer and the solver is not: the answer fits the network's error."
    elif good:
        said = "The solver agrees with what the network made of the recordings."
    else:
        said = "Neither the network nor the solver is content: the unknowns asked for cannot explain the recordings."
    advice = (
        ""
        if good
        else "Take the solver's answer (refine), or more starts; look whether the problem is like the training's."
    )
    return [
        Finding(
            name="solver", said=said, evidence=told, good=good, statistic=theirs, threshold=made.content, advice=advice
        )
    ]


def _starts(made: Inversion) -> Finding:
    agreeing, count = made.found.agreeing, len(made.found.places)
    good = None if count == 1 else agreeing >= max(2, count // 4)
    by_solver = "."
    if made.refined is not None:
        by_solver = f", and {made.refined.num_asked:,} by the solver in {made.seconds[1]:.3g} s."
    return Finding(
        name="starts", statistic=float(agreeing), good=good,
        said=f"{agreeing} of {plural(count, 'start')} end at an answer as good as the best one.",
        evidence=f"{made.found.num_asked:,} problems were answered in {made.seconds[0]:.3g} s"
        + by_solver,
        advice="" if good is not False else "Give more starts (--set num_starts=…): there may be many valleys.",
    )  # fmt: skip


def _against_truth(
    rows: Mapping[str, tuple[float, float, float]], truths: Mapping[str, float], recipe: InvertRecipe
) -> list[Finding]:
    known = [name for name in rows if name in truths]
    if not known:
        return []
    held = sum(rows[name][0] <= truths[name] <= rows[name][2] for name in known)
    off = [abs(rows[name][1] - truths[name]) / max(abs(truths[name]), 1e-300) for name in known]
    return [Finding(
        name="truth", statistic=float(np.median(off)),
        said=f"The truth is known: answers are {100 * float(np.median(off)):.2g} % off in the median, "
        f"{100 * max(off):.2g} % at most.",
        evidence=f"{held} of {len(known)} lie in their intervals of {100 * recipe.level:g} %.",
    )]  # fmt: skip


def _field_against_truth(name: str, off: float, held: float, recipe: InvertRecipe) -> Finding:
    return Finding(
        name=f"truth of {name}", statistic=off,
        said=f"The field '{name}' is {100 * off:.2g} % off, relative to its size.",
        evidence=f"{100 * held:.0f} % of its places lie in their intervals of {100 * recipe.level:g} %.",
    )  # fmt: skip


def _key_figures(made: Inversion) -> tuple[KeyFigure, ...]:
    figures = [KeyFigure(label="Misfit", value=f"{made.found.misfit:.3g}", note=f"up to {made.content:.3g} is noise")]
    if made.solver_misfit is not None:
        figures.append(KeyFigure(label="By the solver", value=f"{made.solver_misfit:.3g}", note="of the same answer"))
    figures.append(KeyFigure(label="Starts that agree", value=f"{made.found.agreeing} of {len(made.found.places)}"))
    for name, part in made.network_error.items():
        figures.append(KeyFigure(label="Network's own error", value=f"× {part:.2g}", note=f"of the noise in {name}"))
    return tuple(figures)


# --- figures, maps, tables --------------------------------------------------------------------------------------------


def _beliefs(made: Inversion, rows: Mapping[str, tuple[float, float, float]], truths: Mapping[str, float]) -> Figure:
    """Return what was believed before and after, each in units of what was believed before."""
    drawn = torch.randn(4000, made.unknown.size, dtype=torch.float64, generator=generator_for(0, "believed"))
    before = made.unknown.told(drawn)
    names = list(rows)
    middle = {name: float(before[name].median()) for name in names}
    size = {name: float(before[name].std()) or 1.0 for name in names}

    def placed(name: str, value: float) -> float:
        return (value - middle[name]) / size[name]

    ends = {
        name: torch.quantile(before[name], torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist() for name in names
    }
    x = tuple(float(k) for k in range(len(names)))
    series = [
        Series(label="before", x=tuple(k - 0.12 for k in x), y=(0.0,) * len(x), interval="bar", joined=False,
               hollow=True,
               low=tuple(placed(n, ends[n][0]) for n in names), high=tuple(placed(n, ends[n][1]) for n in names)),
        Series(label="after", x=tuple(k + 0.12 for k in x), y=tuple(placed(n, rows[n][1]) for n in names),
               interval="bar",
               low=tuple(placed(n, rows[n][0]) for n in names), high=tuple(placed(n, rows[n][2]) for n in names),
               joined=False),
    ]  # fmt: skip
    known = [k for k, name in enumerate(names) if name in truths]
    if known:
        y = tuple(placed(names[k], truths[names[k]]) for k in known)
        series.append(Series(label="truth", x=tuple(float(k) for k in known), y=y, joined=False))
    panel = Panel(
        x=Axis(label="", categories=tuple(names)), y=Axis(label="in units of what was believed"), series=tuple(series)
    )
    caption = (
        "What was believed of each number before the recordings and after them, with intervals; zero is the median and "
    )
    return Figure(caption=caption + "one the standard deviation of what was believed before.", panels=(panel,))


def _paths(made: Inversion) -> Figure:
    series = tuple(
        Series(label="best" if k == 0 else "other starts", x=tuple(float(i) for i in range(1, len(own.path) + 1)),
               y=tuple(value if math.isfinite(value) and value > 0 else None for value in own.path), marked=False,
               line="solid" if k == 0 else "faint", place=0 if k == 0 else 5)
        for k, own in enumerate(made.found.places)
    )  # fmt: skip
    panel = Panel(
        x=Axis(label="times asked", form="count", low=0.0),
        y=Axis(label="½ misfit² + ½ |z|²", scale="log"),
        series=series,
    )
    return Figure(caption="How searches from each start went down; the best one in front.", panels=(panel,))


def _maps(made: Inversion) -> tuple[Maps, ...]:
    extent = (float(made.seen.grid.extent[0]), float(made.seen.grid.extent[1]))
    places = (
        Places(label="receivers", x=tuple(made.seen.places[:, 1].tolist()), y=tuple(made.seen.places[:, 0].tolist())),
    )
    drawn = []
    fields = [n for n, f in made.unknown.of(made.found.best.z[None]).items() if f.dim() == 3]
    for name in fields:
        row = [MapOf(array=f"{name} found", title=f"{name}, found")]
        if name in made.seen.truth:
            row = [MapOf(array=f"{name} true", title=f"{name}, true"), *row,
                   MapOf(array=f"{name} off", title="found − true", kind="error")]  # fmt: skip
        row.append(MapOf(array=f"{name} spread", title="spread of what is believed", kind="asked", low=0.0))
        caption = f"The unknown {name}, and how far it is left open."
        drawn.append(Maps(caption=caption, rows=(tuple(row),), extent=extent,
                          places=places))  # fmt: skip
    for name in made.seen.values:
        through = "solver" if made.forward is made.solver else "network"
        answers = [MapOf(array=f"{name} answered", title=f"{name}, by the {through}")]
        if not _asks_solver(made):
            answers += [MapOf(array=f"{name} by solver", title="by the solver"),
                        MapOf(array=f"{name} difference", title="network − solver", kind="error")]  # fmt: skip
        caption = f"What the answer makes of {name}, and where it was recorded."
        drawn.append(Maps(caption=caption, rows=(tuple(answers),), extent=extent, places=places))
    return tuple(drawn)


def _table(rows: Mapping[str, tuple[float, float, float]], truths: Mapping[str, float], recipe: InvertRecipe) -> Rows:
    told = tuple(
        (
            name,
            number_text(low),
            number_text(value),
            number_text(high),
            number_text(truths[name]) if name in truths else "–",
        )
        for name, (low, value, high) in rows.items()
    )
    caption = f"Answers with their central intervals of {100 * recipe.level:g} %, and the truth where the file has it."
    return Rows(name="unknowns", caption=caption, headers=("unknown", "low", "answer", "high", "truth"), rows=told)
