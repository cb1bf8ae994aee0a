"""Question a trained operator: the checks of the house, and one of your own in ten lines.

The solution of Poisson's equation on a periodic box has the mean zero. No loss says so; does the operator know?
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import scifm
from scifm.findings import Finding
from scifm.trust import CHECKS, Case, Check

RECIPE = Path(__file__).parents[1] / "recipes" / "poisson-tiny.toml"


class MeanIsZero(Check):
    """Largest |mean of the answer| over its root mean square, over samples."""

    name: ClassVar[str] = "mean_is_zero"
    question: ClassVar[str] = "Does the answer have the mean that the equation gives it?"
    advice: ClassVar[str] = "Take the mean off the answer."
    most: float = 0.05  # a setting: MeanIsZero(most=0.01)

    def ask(self, case: Case) -> Finding:
        answers = case.operator.answers(case.samples).require_targets().flatten(1)
        off = float((answers.mean(1).abs() / answers.square().mean(1).sqrt()).max())
        said = "The mean of the answer is zero." if off <= self.most else "The answer has a mean it should not have."
        return Finding(said=said, good=off <= self.most, statistic=off, threshold=self.most, unit="of its size")


# --8<-- [start:asking]
def main(folder: str | Path) -> dict[str, Finding]:
    """Train an operator in `folder`, put all checks to it; return what they find, by name."""
    run = scifm.pretrain(RECIPE, out=folder)
    samples = scifm.Poisson(anisotropy=scifm.Knob(1, 5)).sample(64, scifm.Grid.square(32))
    findings = scifm.check_operator(run, samples, [*CHECKS, MeanIsZero()])
    return {found.name: found for found in findings}  # they lie in the run's folder too, as findings.json


# --8<-- [end:asking]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, found in main(sys.argv[1] if len(sys.argv) > 1 else scratch).items():
            print(f"{name:20s} {found.statistic:8.2g}  {found.said}")
