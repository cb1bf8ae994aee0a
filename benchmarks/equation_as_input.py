"""Does a network that is told the terms of an equation answer combinations of terms that it never saw together?

Three mixtures of one-dimensional equations for one field, each a choice of the terms of `ScalarEvolution`:

``strengths``: pairs of terms, whose coefficients are called alike in all of them; held out are other pairs and triples.
``own names``: the same pairs, each a system with names of its own for its coefficients, as data of many origins have.
In those held out each coefficient is called as in the first pair that has its term.
``names``: equations as the house has them, each with the names it gives its own coefficients: what multiplies ∂²u/∂x²
is a viscosity in one and a diffusivity in another, a viscosity multiplies ∂⁴u/∂x⁴ in a third, and u ∂u/∂x has no
coefficient at all. Held out are combinations of their terms, whose coefficients are called as in the nearest of them.

A small space–time transformer learns one step of each mixture, told ``coefficients``, ``terms`` instead of them,
``both`` or ``neither``; all else is the same: samples, steps, seeds. Errors are those of a step over its change
(1: nothing changes), root mean square over space, the mean over samples, of each equation; over equations the geometric
mean.

The numbers of each training stay in ``--folder``: started again, only what is missing is done. ``--kept`` trains
nothing.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import Row, argument_parser, publish, put_into
from scifm.config import config_hash
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Epochs
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.term import Equations, Term, renamed_equations
from scifm.models.axial_transformer import AxialTransformerConfig
from scifm.models.equations import taught
from scifm.systems.catalog import find_system
from scifm.systems.knobs import Knob
from scifm.systems.scalar_evolution import ScalarEvolution
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import build_operator

STRENGTHS = {
    "speed": Knob(0.2, 1.0),
    "steepening": Knob(0.3, 1.0),
    "diffusivity": Knob(0.002, 0.02, scale="log"),
    "dispersion": Knob(1e-4, 1e-3, scale="log"),
    "hyperdiffusivity": Knob(5e-6, 5e-5, scale="log"),
    "rate": Knob(0.5, 4.0),
}
TOLD = ("neither", "coefficients", "terms", "both")
PAIRS = (
    ("speed", "diffusivity"), ("speed", "rate"), ("steepening", "diffusivity"), ("steepening", "dispersion"),
    ("steepening", "hyperdiffusivity"), ("diffusivity", "dispersion"), ("dispersion", "rate"),
    ("hyperdiffusivity", "rate"),
)  # fmt: skip
FRAMES, INTERVAL = 5, 0.1
U = "amplitude"


@dataclass(frozen=True)
class Equation:
    """Some terms of `ScalarEvolution`, and what its coefficients are called.

    Args:
        name: what its samples are said to be of.
        knobs: the strengths that are not zero.
        called: new name of each coefficient that has one, and the sign it is given with.
        terms: of the equation, by those names.
    """

    name: str
    knobs: Mapping[str, Knob]
    called: Mapping[str, tuple[str, float]]
    terms: tuple[Term, ...]


def of_strengths(*names: str) -> Equation:
    """Return the equation of some terms, by the names that `ScalarEvolution` has for them."""
    return Equation("+".join(names), {name: STRENGTHS[name] for name in names}, {n: (n, 1.0) for n in STRENGTHS},
                    ScalarEvolution.terms)  # fmt: skip


def own_names(*names: str) -> Equation:
    """Return the equation of some terms, each coefficient called as in the first of the seen pairs that has it."""
    called = {}
    for own in names:
        pair = names if names in PAIRS else next(pair for pair in PAIRS if own in pair)
        called[own] = (f"{own} of {'+'.join(pair)}", 1.0)
    terms = [term for term in ScalarEvolution.terms if term.coefficient in names]
    renamed = tuple(replace(term, coefficient=called[str(term.coefficient)][0]) for term in terms)
    return Equation("+".join(names), {name: STRENGTHS[name] for name in names}, called, renamed)


def of_house(name: str, strengths: Mapping[str, str], *, steepens: bool = False, fed: bool = False) -> Equation:
    """Return an equation of the house, or one that is put together of the terms of several.

    Args:
        name: of the system; terms are its own, but for the name of the field.
        strengths: what `ScalarEvolution` calls each coefficient, by its name here.
        steepens: whether u ∂u/∂x is there, with no coefficient.
        fed: whether ∂²u/∂x² has the other sign.
    """
    knobs = {strength: STRENGTHS[strength] for strength in strengths.values()}
    if steepens:
        knobs["steepening"] = Knob(1.0, 1.0)
    if fed:
        knobs["diffusivity"] = Knob(-0.006, -0.002)
    called = {own: (name, -1.0 if fed and own == "diffusivity" else 1.0) for name, own in strengths.items()}
    if "+" not in name:
        system = find_system(name)()
        dims: dict[str, Any] = {"num_spatial_dims": 1} if hasattr(system, "num_spatial_dims") else {}
        terms = renamed_equations({name: replace(system, **dims).terms}, lambda own: U if own in FIELDS else own)[name]
    else:
        own = [t for t in ScalarEvolution.terms if t.coefficient in knobs]
        terms = tuple(replace(t, coefficient=called.get(str(t.coefficient), (None,))[0]) for t in own)
    return Equation(name, knobs, called, terms)


FIELDS = ("tracer", "temperature", "velocity", "phase")
HOUSE = (
    of_house("advection", {"velocity_x": "speed"}),
    of_house("heat", {"diffusivity": "diffusivity"}),
    of_house("burgers", {"viscosity": "diffusivity"}, steepens=True),
    of_house("kdv", {"dispersion": "dispersion"}, steepens=True),
    of_house("kuramoto_sivashinsky", {"antidiffusion": "diffusivity", "viscosity": "hyperdiffusivity"}, steepens=True,
             fed=True),
    of_house("allen_cahn", {"diffusivity": "diffusivity", "rate": "rate"}),
)  # fmt: skip
PARTS = {
    "seen": PAIRS,
    "held-out pairs": (
        ("speed", "dispersion"), ("speed", "hyperdiffusivity"), ("diffusivity", "rate"),
        ("diffusivity", "hyperdiffusivity"), ("dispersion", "hyperdiffusivity"),
    ),
    "held-out triples": (
        ("speed", "steepening", "diffusivity"), ("steepening", "diffusivity", "dispersion"),
        ("speed", "diffusivity", "rate"), ("steepening", "hyperdiffusivity", "rate"),
    ),
}  # fmt: skip
MIXTURES: dict[str, dict[str, tuple[Equation, ...]]] = {
    "strengths": {part: tuple(of_strengths(*terms) for terms in own) for part, own in PARTS.items()},
    "own names": {part: tuple(own_names(*terms) for terms in own) for part, own in PARTS.items()},
    "names": {
        "seen": HOUSE,
        "held-out pairs": (
            of_house("advection+heat", {"velocity_x": "speed", "diffusivity": "diffusivity"}),
            of_house("kdv+heat, no steepening", {"dispersion": "dispersion", "diffusivity": "diffusivity"}),
            of_house("advection+kdv, no steepening", {"velocity_x": "speed", "dispersion": "dispersion"}),
        ),
        "held-out triples": (
            of_house("advection+burgers", {"velocity_x": "speed", "viscosity": "diffusivity"}, steepens=True),
            of_house("kdv+burgers", {"dispersion": "dispersion", "viscosity": "diffusivity"}, steepens=True),
            of_house("advection+allen_cahn", {"velocity_x": "speed", "diffusivity": "diffusivity", "rate": "rate"}),
            of_house("burgers+allen_cahn", {"viscosity": "diffusivity", "rate": "rate"}, steepens=True),
        ),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One training."""

    mixture: str
    told: str
    seed: int


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    errors: dict[Cell, dict[str, float]] = {}
    for seed, mixture, told in product(range(options.seeds), options.mixtures, options.told):
        cell = Cell(mixture, told, seed)
        file = (
            options.folder / f"{mixture.replace(' ', '-')}-{told}-{seed}-{config_hash(settings_of(cell, options))}.json"
        )
        if not file.exists() and not options.kept:
            file.parent.mkdir(parents=True, exist_ok=True)
            made = {"about": settings_of(cell, options), "errors": result(cell, options)}
            file.write_text(json.dumps(made, indent=1), encoding="utf-8")
        if file.exists():
            errors[cell] = json.loads(file.read_text("utf-8"))["errors"]
    rows = rows_of(errors)
    publish("The equation as input", rows, options.json)
    if options.docs:
        put_into(options.docs, "benchmarks/equation_as_input.py", tables_of(rows, errors, options))


def parsed() -> Namespace:
    """Return the arguments."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="where numbers are kept")
    parser.add_argument("--mixtures", nargs="+", choices=MIXTURES, default=list(MIXTURES))
    parser.add_argument("--told", nargs="+", choices=TOLD, default=list(TOLD))
    parser.add_argument("--trajectories", type=int, default=256, help="of each equation to train on, of 4 steps each")
    parser.add_argument("--test", type=int, default=32, help="unseen trajectories of each equation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--kept", action="store_true", help="train nothing: tell the numbers that are kept")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the tables into this page")
    return parser.parse_args()


def settings_of(cell: Cell, options: Namespace) -> dict[str, Any]:
    """Return all that decides the numbers of a cell."""
    names = ("trajectories", "test", "steps", "batch_size", "learning_rate", "width", "blocks")
    mixture = {
        part: [[one.name, *([name, knob.low, knob.high] for name, knob in sorted(one.knobs.items()))] for one in own]
        for part, own in MIXTURES[cell.mixture].items()
    }
    return {name: getattr(options, name) for name in names} | {"cell": vars(cell), "mixture": mixture}


# --- samples ----------------------------------------------------------------------------------------------------------


def samples_of(equation: Equation, num: int, which: str, signature: Signature | None = None) -> Batch:
    """Return single steps of trajectories on 64 points, solved on 128, with the equation's own names."""
    absent = [name for name in STRENGTHS if name not in equation.knobs]
    system = ScalarEvolution(**{**dict.fromkeys(absent, 0.0), **equation.knobs}, save_interval=INTERVAL,
                             num_frames=FRAMES)  # fmt: skip
    drawn = system.sample(num, Grid((128,), (1.0,), (True,)), generator_for(0, which, equation.name))
    frames = torch.cat([drawn.inputs, drawn.require_targets()], dim=1)[..., ::2]
    columns = {name: (own, sign) for own, (name, sign) in equation.called.items() if name is not None}
    numbers = [sign * drawn.coefficient(own) for own, sign in columns.values()]
    names = Signature((U,), tuple(columns), (U,), 1, evolves=True)
    count, steps = num * (FRAMES - 1), FRAMES - 1
    coefficients = torch.stack(numbers, dim=1).repeat_interleave(steps, dim=0)
    inputs, targets = (part.reshape(count, 1, 1, 64) for part in (frames[:, :-1], frames[:, 1:]))
    about: dict[str, Any] = {"systems": (equation.name,) * count, "lead_time": torch.full((count, 1), INTERVAL)}
    batch = Batch(names, Grid((64,), (1.0,), (True,)), inputs, coefficients, targets, **about)
    return batch if signature is None else batch.aligned(signature)


@cache
def made(mixture: str, trajectories: int, test: int) -> tuple[Batch, dict[str, dict[str, Batch]]]:
    """Return samples of all seen equations to train on, and unseen ones of each, by the part it belongs to."""
    parts = MIXTURES[mixture]
    signature = samples_of(parts["seen"][0], 1, "names").signature
    for equation in parts["seen"][1:]:
        signature = signature.union(samples_of(equation, 1, "names").signature)
    train_on = Batch.concatenate(samples_of(own, trajectories, "train", signature) for own in parts["seen"])
    tests = {
        part: {own.name: samples_of(own, test, "test", signature) for own in equations}
        for part, equations in parts.items()
    }
    return train_on, tests


def without_coefficients(batch: Batch) -> Batch:
    """Return the samples as if nobody knew of coefficients."""
    names = Signature((U,), (), (U,), 1, evolves=True)
    return replace(batch, signature=names, coefficients=batch.coefficients[:, :0], present=None)


# --- one cell ---------------------------------------------------------------------------------------------------------


def result(cell: Cell, options: Namespace) -> dict[str, float]:
    """Train one network and return its error on each equation."""
    samples, tests = made(cell.mixture, options.trajectories, options.test)
    samples = without_coefficients(samples) if cell.told == "neither" else samples
    equations: Equations = {own.name: own.terms for own in MIXTURES[cell.mixture]["seen"]}
    how: Any = {"terms": "instead", "both": "beside"}.get(cell.told)
    network = AxialTransformerConfig(
        width=options.width, num_heads=2, num_blocks=options.blocks, patch=4, condition_width=32, lead_time=False,
        history=1, terms=how, equations=equations if how else None,
    )  # fmt: skip
    normalization = fit_normalization(samples, (), kind="constant")
    operator = build_operator(samples.signature, network, normalization, seed=cell.seed)
    settings: dict[str, Any] = {"objective": "relative_change", "accelerator": "cpu", "validate_every": options.steps}
    settings |= {name: getattr(options, name) for name in ("batch_size", "learning_rate")}
    config = TrainingConfig(num_steps=options.steps, **settings)
    train(operator, Epochs(samples, batch_size=options.batch_size, seed=cell.seed), config=config, seed=cell.seed)
    taught(operator, {own.name: own.terms for equations in MIXTURES[cell.mixture].values() for own in equations})
    errors = {}
    for name, test in ((name, test) for own in tests.values() for name, test in own.items()):
        asked = without_coefficients(test) if cell.told == "neither" else test
        errors[name] = float(error_of(operator.answers(asked).require_targets(), test).mean())
    told = ", ".join(f"{part} {mean(errors[name] for name in own):.3g}" for part, own in tests.items())
    print(f"{cell.mixture}, {cell.told}, seed {cell.seed}: {told}", file=sys.stderr)
    return errors


def error_of(answer: Tensor, batch: Batch) -> Tensor:
    """Return the error of each step over its change, ``(sample,)``."""
    truth = batch.require_targets()
    return (answer - truth).flatten(1).norm(dim=1) / (truth - batch.inputs).flatten(1).norm(dim=1)


def mean(errors: Any) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, errors)))


# --- tables -----------------------------------------------------------------------------------------------------------


def rows_of(errors: Mapping[Cell, Mapping[str, float]]) -> list[Row]:
    """Return of each part of each mixture the geometric mean over its equations: mean and spread over the seeds."""
    rows = []
    for mixture, told in product(MIXTURES, TOLD):
        cells = [cell for cell in errors if (cell.mixture, cell.told) == (mixture, told)]
        for part, equations in MIXTURES[mixture].items():
            values = [mean(errors[cell][own.name] for own in equations) for cell in cells]
            if values:
                case = f"{mixture}, {told}"
                rows.append(Row(case, part, statistics.fmean(values), "error over change"))
            if len(values) > 1:
                rows.append(Row(case, f"{part}, spread over seeds", statistics.stdev(values), "error over change"))
    return rows


def tables_of(rows: list[Row], errors: Mapping[Cell, Mapping[str, float]], options: Namespace) -> str:
    """Return what a page says: a table for each mixture, and one of each held-out equation."""
    found = {(row.case, row.metric): row.value for row in rows}
    text = [
        f"Steps of {INTERVAL:g}, 64 points; width {options.width}, {options.blocks} blocks; {options.steps:,} training "
        f"steps of {options.batch_size} samples, {(FRAMES - 1) * options.trajectories:,} samples of each equation and "
        f"{(FRAMES - 1) * options.test} of each to score. Error over change, mean ± standard deviation of seeds."
    ]
    for mixture in options.mixtures:
        parts = list(MIXTURES[mixture])
        lines = [f"| `{mixture}`: told | {' | '.join(parts)} | seeds |", f"|---|{'---|' * (len(parts) + 1)}"]
        for told in TOLD:
            case, cells = f"{mixture}, {told}", []
            for part in parts:
                value, spread = (found.get((case, metric)) for metric in (part, f"{part}, spread over seeds"))
                number = "–" if value is None else f"{value:.3g}"
                cells.append(number if spread is None else f"{number} ± {spread:.2g}")
            count = sum((cell.mixture, cell.told) == (mixture, told) for cell in errors)
            lines.append(f"| {told} | {' | '.join(cells)} | {count} |")
        text.append("\n".join(lines))
        names = [own.name for part, equations in MIXTURES[mixture].items() if part != "seen" for own in equations]
        lines = [f"| held out of `{mixture}` | {' | '.join(TOLD)} |", f"|---|{'---|' * len(TOLD)}"]
        for name in names:
            values = [[errors[c][name] for c in errors if (c.mixture, c.told) == (mixture, told)] for told in TOLD]
            lines.append(f"| {name} | {' | '.join(f'{statistics.fmean(v):.3g}' if v else '–' for v in values)} |")
        text.append("\n".join(lines))
    return "\n\n".join(text)


if __name__ == "__main__":
    main()
