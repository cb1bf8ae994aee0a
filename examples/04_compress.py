"""Make a trained operator four times smaller, and look at what that changed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scifm

RECIPE = Path(__file__).parents[1] / "recipes" / "poisson-tiny.toml"


def main(folder: str | Path) -> dict[str, float | None]:
    """Train an operator in `folder` and compress it there; return the measured numbers by name."""
    run = scifm.pretrain(RECIPE, out=folder)
    samples = scifm.Poisson(anisotropy=scifm.Knob(1, 5)).sample(64, scifm.Grid.square(32))
    record = scifm.compress(run, samples, Path(folder) / "poisson-tiny-int8", to="int8")
    operator = scifm.load_operator(Path(folder) / "poisson-tiny-int8")  # like any other model
    assert operator.predict(samples).num_samples == samples.num_samples
    return {found.name: found.statistic for found in record.findings}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, value in main(sys.argv[1] if len(sys.argv) > 1 else scratch).items():
            print(f"{name:8s} {value:.3g}")
