"""Does the loss curve upward around the weights, as at a minimum? Its curvature there, measured and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from scifm.config import Config, build_config
from scifm.errors import ConfigError, DataError
from scifm.fields.samples import Samples
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.models.folder import ModelPlace, find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.objectives.named import NamedObjective
from scifm.objectives.objective import Objective
from scifm.objectives.supervised import RelativeL2
from scifm.runs import Run
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.eigenvalues import Density, Krylov, Trace, density_of, lanczos
from scifm.trust.hessian import Hessian, hessian_of
from scifm.wording import plural

__all__ = ["Curvature", "LossCurvature", "curvature_of", "figure_of", "objective_of"]

_LEVEL = 1e-3  # of the largest eigenvalue: below it a slope is not followed to a minimum
_FAR = 3.0  # times the threshold, beyond which it is bad news
_POINTS = 301  # of a curve


@dataclass(frozen=True)
class LossCurvature:
    """The curvature of a loss at given weights.

    Eigenvalues are in units of the loss over those of weights, squared.

    Args:
        loss: there.
        slope: ‖g‖, the length of the gradient.
        top: the largest eigenvalue, the sharpness; plain gradient descent is stable with steps below 2/top.
        bottom: the smallest.
        density: how all of them are distributed.
        trace: their sum.
        gain: what a step to the minimum of the loss's model of second order should gain, as a share of the loss, within
            the space of the gradient and its products; directions that curve less than a thousandth of the largest are
            left out. It is the model's word alone: above 1 the loss is not like its model that far.
        is_whole: whether as many products were made as were asked for; else `bottom` may lie lower.
    """

    loss: float
    slope: float
    top: float
    bottom: float
    density: Density
    trace: Trace
    gain: float
    is_whole: bool

    @property
    def negative(self) -> float:
        """−λ_min/λ_max, zero where nothing is negative: how far from a minimum; infinite where nothing is positive."""
        if self.bottom >= 0:
            return 0.0
        return -self.bottom / self.top if self.top > 0 else math.inf

    @property
    def negative_mass(self) -> float:
        """The sum of the sizes of negative eigenvalues over that of positive ones, by the density."""
        return self.density.negative_mass

    @classmethod
    def of(
        cls, hessian: Hessian, *, num_runs: int = 3, num_steps: int = 30, seed: int = 0, until: float = math.inf
    ) -> LossCurvature:
        """Measure the curvature of any loss, by (`num_runs` + 1)·`num_steps` products.

        Args:
            hessian: of it.
            num_runs: of Lanczos' method from random signs, beside one from the gradient.
            num_steps: of each. Both ends of 111 thousand weights of an FNO are exact to four digits after 30.
            seed: of the signs.
            until: of `time.monotonic`: no product but the first of each kind begins later.

        Raises:
            ConfigError: if a number is below 1.
            DataError: if the loss or a derivative is not finite.
        """
        density = density_of(hessian, num_runs, num_steps, seed=seed, until=until)
        slope, runs = float(np.linalg.norm(hessian.gradient)), list[Krylov]()
        if slope > 0:
            runs.append(lanczos(hessian, hessian.gradient, num_steps, until=until))
        nodes = np.concatenate([density.nodes, *(run.nodes for run in runs)])
        top, bottom, loss = float(nodes.max()), float(nodes.min()), hessian.loss()
        gain = 0.0
        for run in runs:
            steep = run.nodes > _LEVEL * top
            falls = run.length**2 * (run.parts[steep] / (2 * run.nodes[steep])).sum()
            gain = float(falls) / abs(loss) if loss else math.inf
        is_whole = density.is_whole and all(run.is_whole for run in runs)
        return cls(loss, slope, top, bottom, density, density.trace, gain, is_whole)


def curvature_of(
    operator: Operator | Run | str | Path,
    samples: Samples,
    objective: Objective | None = None,
    *,
    num_runs: int = 3,
    num_steps: int = 30,
    seed: int = 0,
    **how: Any,
) -> LossCurvature:
    """Return the curvature of what an operator was trained to make small, at its weights.

    Args:
        operator: an operator, or where one lies: a run, its folder, that of a model.
        samples: a batch or a split of a store, with targets.
        objective: that of the run when left out; the relative L2 error where there is no run.
        num_runs: as for `LossCurvature.of`, as are `num_steps` and `seed`.
        how: as for `scifm.trust.hessian.hessian_of`: `batch_size`, `dtype`, `step`.

    Raises:
        RunError: if there is no readable operator.
        SignatureError, ConfigError: if samples, objective and operator do not go together.
        DataError: if the loss or a derivative is not finite.
    """
    if not isinstance(operator, Operator):
        model = find_model(operator)
        operator, objective = load_operator(model.folder), objective or objective_of(model)
    hessian = hessian_of(operator, samples, objective, seed=seed, **how)
    return LossCurvature.of(hessian, num_runs=num_runs, num_steps=num_steps, seed=seed)


class _Trained(Config):
    """What a run says of its training, as far as it is asked here."""

    objective: NamedObjective


def objective_of(model: ModelPlace | None) -> Objective | None:
    """Return what a run made small; None where there is no run that says it."""
    said = {} if model is None or model.run is None else model.run.config.get("training", {})
    if "objective" not in said:
        return None
    return build_config(_Trained, {"objective": said["objective"]}, source="the record of a run").objective


class Curvature(Check):
    """Eigenvalues of the Hessian of the training loss, by Lanczos' method, on a few samples.

    At a minimum no eigenvalue is negative. On the way there some are: the Hessian of a loss of errors is a part that is
    never negative, made of the slopes of the answers (Gauss and Newton's), and one made of the errors that are left and
    the bends of the network, of either sign. Training makes the second small beside the first.

    Statistic: −λ_min/λ_max, zero where nothing is negative. The loss is that of the run, else the relative L2 error,
    prepared on these samples. Both ends are those that 30 steps of Lanczos' method see, from random signs and from the
    gradient: the smallest may lie a little lower.

    Threshold: `most_negative`, 0.003; bad news beyond three times that, between the two it is told without a verdict.
    Small FNOs that learned Poisson's equation for 600 steps have less than 0.001; untrained ones 0.38 to 0.63, stopped
    after 30 of 600 steps 0.02 to 0.6, after 100 of them 0.006 to 0.02, and those that learned shuffled labels 0.03 to
    0.1, asked about right ones. After 300 of them it is 0.001 to 0.007.

    What it cannot tell: that the minimum is a good one, or that it was reached. The loss may curve upward on a slope:
    an FNO that was stopped after 10 steps of L-BFGS has 0.002 at an error of 0.73. A network that learned wrong labels
    by heart may pass on these very labels. On samples it was not trained on the loss is another, with its minimum
    elsewhere.

    Args:
        num_runs: of Lanczos' method from random signs.
        num_steps: products of each.
        most_negative: threshold.
    """

    name: ClassVar[str] = "curvature"
    question: ClassVar[str] = "Does the loss curve upward around the weights, as at a minimum?"
    leaves_out_gaps: ClassVar[bool] = True
    advice: ClassVar[str] = (
        "Train longer, with a learning rate that falls to zero; if training had ended, look whether these samples are "
        "like those it was trained on."
    )

    num_samples: int | None = Field(8, ge=1)
    num_runs: int = Field(3, ge=1)
    num_steps: int = Field(30, ge=2)
    most_negative: float = Field(0.003, gt=0, allow_inf_nan=False)

    def ask(self, case: Case) -> Finding:
        samples = case.samples
        samples.require_targets()
        seed = case.draw_seed()
        try:
            objective = objective_of(case.place) or RelativeL2()
            hessian = hessian_of(case.operator, samples, objective, seed=seed)
            how: dict[str, Any] = {"num_runs": self.num_runs, "num_steps": self.num_steps, "seed": seed}
            found = LossCurvature.of(hessian, **how, until=case.until)
        except (ConfigError, DataError) as reason:
            return Finding(
                said="The loss of this operator has no curvature that could be measured.", evidence=str(reason)
            )
        return self._finding(found, samples.num_samples, objective.name)

    def _finding(self, found: LossCurvature, count: int, objective: str) -> Finding:
        negative, most = found.negative, self.most_negative
        good = True if negative <= most else False if negative > _FAR * most else None
        if good and not found.is_whole:
            good = None
        said = {
            True: "The loss curves upward around the weights, as at a minimum.",
            False: "The loss curves downward along some directions: training did not end at a minimum.",
            None: "The loss curves downward a little along some directions: training may have been stopped early.",
        }[good]
        if good is None and negative <= most:
            said = "No sizeable downward curvature was seen before the budget was spent."
        error = "" if math.isnan(found.trace.standard_error) else f" ± {found.trace.standard_error:.2g}"
        return Finding(
            said=said,
            evidence=f"Of the Hessian of {objective}, {plural(count, 'sample')}, {found.density.num_rows:,} weights: "
            f"largest eigenvalue {found.top:.4g}, smallest {found.bottom:.3g}, sum {found.trace.value:.4g}{error}, "
            f"negative over positive mass {found.negative_mass:.2g}. Loss {found.loss:.3g}; by its model of second "
            f"order a step downhill should gain {found.gain:.2g} of it.",
            good=good,
            statistic=negative if math.isfinite(negative) else None,
            threshold=most,
            unit="most negative eigenvalue over the largest",
            figure=figure_of({"": found}),
        )


def figure_of(found: dict[str, LossCurvature]) -> Figure:
    """Return the densities of some curvatures, by name, and how many eigenvalues are larger than a size, by sign."""
    panels = (_density(found), _tails(found))
    return Figure(
        caption="Eigenvalues of the Hessian of the loss. Left their density, each node of Lanczos' method spread by a "
        "hundredth of the whole range. Right how many are larger in size, the negative ones dashed; of those that are "
        "small beside the largest few nodes tell.",
        panels=panels,
    )


def _density(found: dict[str, LossCurvature]) -> Panel:
    series = []
    low, high = min(own.bottom for own in found.values()), max(own.top for own in found.values())
    width = max(high - low, 1e-300) / 100
    values = np.linspace(low - 4 * width, high + 4 * width, _POINTS)
    for place, (name, own) in enumerate(found.items()):
        density = own.density.at(values, width) * width
        y = tuple(float(v) if v > 1e-9 else None for v in density)
        series.append(Series(label=name, x=tuple(values), y=y, marked=False, place=place))
    axes = Axis(label="eigenvalue"), Axis(label="density", scale="log")
    rules = (Rule(at=0.0, crosses="x", line="dotted"),)
    return Panel(x=axes[0], y=axes[1], series=tuple(series), rules=rules, group="Density")


def _tails(found: dict[str, LossCurvature]) -> Panel:
    series: list[Series] = []
    for place, (name, own) in enumerate(found.items()):
        for sign, line in ((1, "solid"), (-1, "dashed")):
            looks: dict[str, Any] = {"label": name, "marked": False, "place": place, "line": line}
            series += _larger(own.density, sign, looks)
    axes = Axis(label="size of an eigenvalue", scale="log"), Axis(label="how many are larger", scale="log")
    return Panel(x=axes[0], y=axes[1], series=tuple(series), group="How many")


def _larger(density: Density, sign: int, looks: dict[str, Any]) -> Sequence[Series]:
    nodes, weights = sign * density.nodes, density.weights
    largest = float(np.abs(density.nodes).max())
    order = np.argsort(nodes)[::-1]
    nodes, counts = nodes[order], np.cumsum(weights[order]) * density.num_rows
    kept = nodes > 1e-4 * largest  # what is smaller is one node or two for most of all weights
    if kept.sum() < 2:
        return []
    return [Series(x=tuple(map(float, nodes[kept])), y=tuple(map(float, counts[kept])), **looks)]
