"""How far are tasks by the six measures of `scifm.studies.shift`? What the page on them shows.

    python benchmarks/shift_measures.py --json benchmarks/results/shift-measures.csv --docs docs/concepts/shift.md

Of each pair of seeds one population is drawn for the pre-training and one for the task; told are mean, least and most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean

from harness import Row, argument_parser, publish, put_into
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.studies.shift import Population, measure_shift
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

MEASURES = ("knobs", "coefficients", "spectra", "fields", "responses", "novelty")
FAMILIES = {
    "Poisson, anisotropy": (Poisson(), "anisotropy", ((1, 5), (1, 2.5), (2.5, 7.5), (5, 10), (10, 20))),
    "Advection–diffusion, ratio": (
        AdvectionDiffusion(),
        "advection_diffusion_ratio",
        ((0.2, 1), (0.2, 0.4), (0.4, 1.6), (1, 2), (2, 5)),
    ),
    "Helmholtz, whole shift": (Helmholtz(), "wavenumber_shift", ((1, 10), (1, 5), (5, 10), (10, 15), (15, 20))),
}
"""A system, its knob, and ranges of it: the first is that of the pre-training."""


def population(system: System, seed: int, num_samples: int, num_points: int) -> Population:
    """Return samples of a system, drawn by a seed."""
    return Population(system, system.sample(num_samples, Grid.square(num_points), generator_for(seed, "shift")))


def table_of(found: Mapping[tuple[str, str], Mapping[str, Iterable[float]]]) -> str:
    """Return means over pairs of seeds as a table in Markdown."""
    lines = [f"| P | Q | {' | '.join(MEASURES)} |", "|---|---|" + "---|" * len(MEASURES)]
    before = ""
    for (family, task), values in found.items():
        numbers = [mean(values[name]) for name in MEASURES]
        told = " | ".join(f"{number:.2f}" if number else "0" for number in numbers)
        lines.append(f"| {'' if family == before else family} | {task} | {told} |")
        before = family
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="of seeds")
    parser.add_argument("--num-samples", type=int, default=256)
    parser.add_argument("--num-points", type=int, default=32, help="a side")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    asked = parser.parse_args()
    drawn = asked.num_samples, asked.num_points
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for family, (system, knob, ranges) in FAMILIES.items():
        whole = system.knobs[knob].integer
        tasks = [system.where(**{knob: Knob(low, high, integer=whole)}) for low, high in ranges]
        texts = [f"{low:g}–{high:g}" for low, high in ranges]
        for task, text in zip(tasks, texts, strict=True):
            case = (f"{family} {texts[0]}", f"{text}, drawn anew" if task is tasks[0] else text)
            for pair in range(asked.pairs):
                shift = measure_shift(population(tasks[0], 2 * pair, *drawn), population(task, 2 * pair + 1, *drawn))
                for name in MEASURES:
                    value = shift[name]
                    assert value is not None, "P holds the equation of Q"
                    found.setdefault(case, {}).setdefault(name, []).append(value)
    rows = []
    for (family, task), values in found.items():
        for name in MEASURES:
            of, own = f"{family} to {task}", values[name]
            rows += [Row(of, name, mean(own), "1"), Row(of, f"{name}, least", min(own), "1")]
            rows.append(Row(of, f"{name}, most", max(own), "1"))
    publish("How far tasks are", rows, asked.json)
    if asked.docs:
        put_into(asked.docs, "benchmarks/shift_measures.py", table_of(found))


if __name__ == "__main__":
    main()
