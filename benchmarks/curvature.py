"""How a loss curves while a small FNO learns, and which moments and trainings the check `curvature` tells apart.

Three seeds of an FNO (8 channels, 6 modes, 3 layers, 28 thousand weights) learn Poisson's equation (16², anisotropy 1
to 5, 256 samples) by the relative L2 error in 600 steps; others do so in 100 steps, or learn shuffled labels.
Of the first seed the curvature is measured on 16 training samples at five moments, and the landscape drawn at three; of
all seeds the check is asked on 8 samples they have not seen. About two minutes of a core.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness import Row, argument_parser, publish, put_into
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Epochs
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.report.drawing import write_figure
from scifm.systems.poisson import Poisson
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import build_operator
from scifm.training.validation import sample_errors
from scifm.trust.curvature import Curvature, LossCurvature
from scifm.trust.hessian import hessian_of
from scifm.trust.landscape import landscape_of, panel_of

MOMENTS, STEPS, SHORT, SEEDS = (0, 30, 100, 300, 600), 600, 100, (0, 1, 2)
DRAWN, LEVELS = (0, 100, 600), (0.1, 0.2, 0.5, 1, 1.5, 2)
DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "concepts" / "curvature.md"
NETWORK = FNOConfig(width=8, modes=6, num_layers=3, projection_width=16, latent_points=12)


def drawn(count: int, *name: int | str) -> Batch:
    return Poisson(anisotropy=(1, 5)).sample(count, Grid.square(16), generator_for(0, "curvature", *name))


def trained(samples: Batch, seed: int, num_steps: int) -> dict[int, Operator]:
    """Return the operator at the moments of its training."""
    normalization = fit_normalization(samples.select(slice(0, 128)), Poisson.homogeneities)
    operator = build_operator(Poisson.signature, NETWORK, normalization, seed=seed)
    found = {0: copy.deepcopy(operator)}

    def observe(**event: Any) -> None:
        if event["event"] == "train" and event["step"] in (*MOMENTS, num_steps):
            found[event["step"]] = copy.deepcopy(operator)

    settings = TrainingConfig(num_steps=num_steps, batch_size=16, learning_rate=5e-3, log_every=1, accelerator="cpu")
    train(operator, Epochs(samples, batch_size=16, seed=seed), config=settings, observe=observe)
    return found


def shuffled(samples: Batch) -> Batch:
    order = torch.randperm(samples.num_samples, generator=generator_for(0, "shuffled"))
    return samples.with_targets(samples.require_targets()[order])


def along_training(operators: dict[int, Operator], samples: Batch, test: Batch) -> tuple[list[Row], dict[int, Any]]:
    rows, found = [], {}
    for step, operator in operators.items():
        hessian = hessian_of(operator, samples)
        own = LossCurvature.of(hessian, num_runs=5)
        found[step] = own
        told = {
            "error": float(sample_errors(operator, test).mean()), "loss": own.loss, "slope": own.slope,
            "largest": own.top, "smallest": own.bottom, "negative": own.negative, "trace": own.trace.value,
            "standard error": own.trace.standard_error, "negative mass": own.negative_mass, "gain": own.gain,
        }  # fmt: skip
        rows += [Row(f"step {step}", name, value, "") for name, value in told.items()]
        print(step, told, flush=True)
    return rows, found


def landscapes(operators: dict[int, Operator], samples: Batch) -> tuple[list[Row], Figure]:
    rows, panels = [], []
    for step in DRAWN:
        hessian = hessian_of(operators[step], samples)
        far = 0.5
        plane = landscape_of(hessian, extent=far, num_points=31)
        rows.append(Row(f"step {step}", "roughness", plane.roughness(), f"extent {far:g}"))
        rows += [Row(f"step {step}", f"curvature {i}", value, "") for i, value in enumerate(plane.curvatures)]
        panels.append(panel_of(plane, levels=LEVELS, title=f"after {step} steps"))
        print(rows[-3:], flush=True)
    caption = "The loss on the plane of the two eigenvectors of largest curvature, through the weights (hollow)."
    return rows, Figure(caption=caption, panels=tuple(panels), shared=("x", "y"), ordered=True)


def asked(test: Batch) -> list[Row]:
    """Return what the check finds, of all seeds and ways to train."""
    rows = []
    for seed in SEEDS:
        samples = drawn(256, "train", seed)
        operators = {f"{step} of {STEPS} steps": own for step, own in trained(samples, seed, STEPS).items()}
        operators[f"{SHORT} of {SHORT} steps"] = trained(samples, seed, SHORT)[SHORT]
        operators[f"{STEPS} steps, shuffled labels"] = trained(shuffled(samples), seed, STEPS)[STEPS]
        for name, operator in operators.items():
            finding = Curvature()(operator, test, generator=generator_for(seed, "check"))
            error = float(sample_errors(operator, test).mean())
            rows += [Row(f"{name}, seed {seed}", "error", error, ""),
                     Row(f"{name}, seed {seed}", "statistic", finding.statistic or 0.0, finding.light)]  # fmt: skip
            print(name, seed, error, finding.statistic, finding.light, flush=True)
    return rows


def figure(found: dict[int, LossCurvature]) -> Figure:
    x = tuple(float(step) for step in found)
    looks: dict[str, Any] = {"x": x}
    ends = [
        Series(label="largest eigenvalue", y=tuple(own.top for own in found.values()), **looks),
        Series(label="size of the smallest", y=tuple(max(0.0, -own.bottom) or None for own in found.values()), **looks),
        Series(
            label="sum of all",
            y=tuple(own.trace.value for own in found.values()),
            low=tuple(own.trace.value - own.trace.standard_error for own in found.values()),
            high=tuple(own.trace.value + own.trace.standard_error for own in found.values()),
            interval="bar", **looks,
        ),
    ]  # fmt: skip
    shares = [
        Series(label="smallest over largest", y=tuple(own.negative or None for own in found.values()), **looks),
        Series(label="negative over positive mass", y=tuple(own.negative_mass for own in found.values()), **looks),
    ]
    step = Axis(label="step of training")
    rule = Rule(at=Curvature().most_negative, label="threshold of the check", line="dashed")
    panels = (
        Panel(x=step, y=Axis(label="eigenvalue", scale="log"), series=tuple(ends), group="Eigenvalues"),
        Panel(
            x=step, y=Axis(label="ratio", scale="log"), series=tuple(shares), rules=(rule,), group="What is negative"
        ),
    )
    return Figure(caption="Eigenvalues of the Hessian along a training.", panels=panels)


def _short(value: float, digits: int = 3) -> str:
    return f"{float(f'{value:.{digits}g}'):g}"


def as_table(rows: Sequence[Row]) -> str:
    found = {(row.case, row.metric): row.value for row in rows}
    lines = [
        "| steps | error | loss | λ_max | λ_min | −λ_min/λ_max | trace | negative/positive mass | left to gain |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for step in MOMENTS:
        own = {metric: value for (case, metric), value in found.items() if case == f"step {step}"}
        trace = f"{_short(own['trace'])} ± {_short(own['standard error'], 2)}"
        numbers = [_short(own[name]) for name in ("error", "loss", "largest", "smallest", "negative")]
        ends = [trace, _short(own["negative mass"], 2), _short(own["gain"], 2)]
        lines.append(f"| {step} | {' | '.join([*numbers, *ends]).replace('-', '−')} |")
    return "\n".join(lines)


def as_verdicts(rows: Sequence[Row]) -> str:
    errors = {row.case: row.value for row in rows if row.metric == "error"}
    lines = ["| training | error | −λ_min/λ_max, each seed | light |", "|---|---|---|---|"]
    for name in dict.fromkeys(row.case.rsplit(", ", 1)[0] for row in rows):
        own = [row for row in rows if row.metric == "statistic" and row.case.rsplit(", ", 1)[0] == name]
        told = ", ".join(f"{row.value:.2g}" for row in own)
        error = ", ".join(f"{errors[row.case]:.2g}" for row in own)
        lines.append(f"| {name} | {error} | {told} | {', '.join(dict.fromkeys(row.unit for row in own))} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--page", action="store_true", help="write tables and figures into the documentation")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or 1)
    test, samples = drawn(256, "test"), drawn(256, "train", 0)
    checks = asked(test)
    operators, few = trained(samples, 0, STEPS), samples.select(slice(0, 16))
    rows, found = along_training(operators, few, test)
    planes, drawing = landscapes(operators, few)
    publish("Curvature of the loss along a training", [*rows, *planes, *checks], arguments.json)
    if arguments.page:
        put_into(PAGE, "along training", as_table(rows))
        put_into(PAGE, "verdicts", as_verdicts(checks))
        write_figure(figure(found), DOCS / "images" / "curvature-training.svg")
        write_figure(drawing, DOCS / "images" / "curvature-landscape.svg")


if __name__ == "__main__":
    main()
