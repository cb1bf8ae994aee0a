"""A figure of your own: is the error larger where the problem is harder? As a file, and on the page of the run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scifm
from scifm.findings import Axis, Figure, Finding, Panel, Series
from scifm.findings.finding import record_findings
from scifm.report import write_figure

RECIPE = Path(__file__).parents[1] / "recipes" / "poisson-tiny.toml"


def main(folder: str | Path, recipe: object = RECIPE) -> Path:
    """Train an operator in `folder`, draw its errors; return the page of its run."""
    run, poisson = scifm.pretrain(recipe, out=folder), scifm.Poisson(anisotropy=scifm.Knob(1, 10))
    samples = poisson.sample(64, scifm.Grid.square(32))
    errors = scifm.evaluate(run, samples).values["relative_l2"].flatten().tolist()
    hardness = poisson.measured_knobs(samples)["anisotropy"].tolist()
    points = [{"x": x, "y": y, "told": f"error {y:.3f} at {x:.3g}"} for x, y in zip(hardness, errors, strict=True)]
    panel = Panel(
        x=Axis(label="anisotropy"),
        y=Axis(label="relative L2 error", scale="log"),
        series=(Series.of(points, label="unseen sample", joined=False),),
    )
    figure = Figure(caption="Error of each sample against how anisotropic its diffusion is.", panels=(panel,))
    write_figure(figure, Path(folder) / "hardness.svg")
    said = "It was trained up to an anisotropy of 5: beyond, errors grow."
    record_findings(run.path / "findings.json", [Finding(name="hardness", said=said, figure=figure)])
    return scifm.page(run.path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(main(sys.argv[1] if len(sys.argv) > 1 else scratch))
