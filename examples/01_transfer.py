"""Pre-train a tiny operator on Poisson, shift the anisotropy, fine-tune on 16 samples, compare.

Runs in well under a minute on one core; accuracy is not the point here (see ``make demo`` for that).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scifm

RECIPE = Path(__file__).parents[1] / "recipes" / "poisson-tiny.toml"


def main(folder: str | Path) -> dict[str, float]:
    """Carry out the comparison in `folder`; return mean relative L2 errors on unseen samples of the shifted system."""
    run = scifm.pretrain(RECIPE, out=folder)

    shifted = scifm.Poisson(anisotropy=scifm.Knob(5, 10))
    settings = {"num_samples": 16, "learning_rates": (1e-3,), "training": {"num_steps": 60, "batch_size": 16}}
    tuned = scifm.finetune(run, shifted, out=folder, **settings)
    scratch = scifm.from_scratch(run, shifted, out=folder, **settings)

    test = shifted.sample(64, scifm.Grid.square(32))
    operators = {"zero_shot": run, "few_shot": tuned, "from_scratch": scratch}
    return {kind: scifm.evaluate(operator, test).mean() for kind, operator in operators.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch_folder:
        for kind, error in main(sys.argv[1] if len(sys.argv) > 1 else scratch_folder).items():
            print(f"{kind:13s} relative L2 error {error:.3f}")
