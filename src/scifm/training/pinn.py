"""`solve`: one problem of a system from its equation alone, by a network of coordinates; what ``scifm pinn`` does.

`problem_recipe` makes the recipe of a pre-training of it, with a system, its frames and a box put in; `solve` trains,
scores the answer against the solver, keeps a forecast over all frames and says what the loss is at points that were not
trained on: a small loss is no small error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from scifm.config import apply_overrides, build_config, read_toml
from scifm.data.origin_config import Curriculum, DataConfig, SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.data.run_origin import RunOrigin
from scifm.errors import ConfigError
from scifm.evaluation.evaluate import evaluate
from scifm.evaluation.rollouts import forecast
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.coordinate import Coordinate
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.objectives.collocation import Collocation
from scifm.runs import Run
from scifm.systems.evolving import Evolving
from scifm.training.loop import Observer, silent
from scifm.training.pretrain import PretrainRecipe, pretrain
from scifm.wording import plural

__all__ = ["DEFAULT_RECIPE", "Solved", "problem_recipe", "solve", "stages_of"]

DEFAULT_RECIPE = "pinn"
"""The recipe that comes with the package, from which one problem is solved where no other is given."""

_BOX: dict[str, Any] = {"num_points": 64, "extent": 1.0}  # where a recipe has none of as many axes
_FRESH = 4  # times as many points as are trained on
_MUCH = 10.0  # times the loss at its own points, from which on the fresh one is worth a word


def stages_of(text: str, knobs: Mapping[str, float], num_steps: int) -> Curriculum:
    """Return the easier problems that a text ``[NAME=]FIRST:LAST:STEP`` puts before the one that is asked for.

    Half of all steps are theirs, each as many; the other half is the problem's own.

    Args:
        text: FIRST, FIRST + STEP, … before LAST, which is the knob's own value. The name may be left out where one
            knob is given.
        knobs: that are given, by name.
        num_steps: of the whole training.

    Raises:
        ConfigError: if it is malformed, does not lead to the knob's value, or there are not enough steps.
    """
    name, equals, rest = text.rpartition("=")
    name = name.strip() if equals else next(iter(knobs), "")
    if not equals and len(knobs) != 1:
        given = ", ".join(knobs) or "none"
        raise ConfigError(
            f"The curriculum '{text}' is of the one knob that is given, and here it is {given}: give one and say "
            "which, as in --knob speed=30 --curriculum speed=5:30:5."
        )
    if name not in knobs:
        raise ConfigError(
            f"The curriculum '{text}' is of the knob '{name}', whose value is not given: give it (--knob {name}=VALUE)."
        )
    try:
        first, last, step = (float(part) for part in rest.split(":"))
    except ValueError:
        first = last = step = math.nan
    if not all(map(math.isfinite, (first, last, step))):
        raise ConfigError(f"The curriculum '{text}' is not of the form FIRST:LAST:STEP, for example 5:30:5.")
    if not math.isclose(last, knobs[name], rel_tol=1e-9):
        raise ConfigError(
            f"The curriculum '{text}' ends at {last:g} and the problem asks for {name} = {knobs[name]:g}: let it end "
            f"there, {first:g}:{knobs[name]:g}:{step:g}."
        )
    if first == last or not (last - first) * step > 0:
        raise ConfigError(
            f"The curriculum '{text}' never gets from {first:g} to {last:g} in steps of {step:g}: FIRST lies before "
            "LAST, and STEP leads there."
        )
    count = math.ceil((last - first) / step * (1 - 1e-9))
    if count * 2 > num_steps:
        raise ConfigError(
            f"The curriculum '{text}' has {plural(count, 'stage')} before the problem itself, which share half of all "
            f"steps, and there are {num_steps}: give more (--set training.num_steps={20 * count}) or a larger STEP."
        )
    values = tuple(float(f"{first + i * step:.12g}") for i in range(count))
    return Curriculum(knob=name, values=values, steps=num_steps // (2 * count))


def problem_recipe(
    system: str | Mapping[str, Any],
    knobs: Mapping[str, Any] | None = None,
    *,
    curriculum: str | None = None,
    recipe: str | Path | Mapping[str, Any] = DEFAULT_RECIPE,
    seed: int | None = None,
    overrides: Iterable[str] = (),
) -> PretrainRecipe:
    """Return the recipe that solves one problem of a system from its equation alone.

    What the recipe says of a system goes, but for the box where that has as many axes: else it is 64 points a side of
    length 1. The problem lasts as long as the system's trajectories do.

    Args:
        system: its name, or a table of its name and options.
        knobs: a number each. Knobs left out, and all that is random in a problem, are drawn by the seed.
        curriculum: easier problems that come first, ``[NAME=]FIRST:LAST:STEP``, see `stages_of`.
        recipe: of a pre-training of a network of coordinates: a file, the name of one that comes with the package, or
            its content.
        seed: of the problem, the weights and what is random in training; the recipe's own when left out.
        overrides: settings ``a.b=c``, which go before all else.

    Raises:
        ConfigError: if a name is unknown, a knob is a range, the system does not evolve or no terms say its equation,
            the curriculum is no way to the problem, or the recipe is malformed or of another kind of operator.
    """
    tree = dict(recipe) if isinstance(recipe, Mapping) else read_toml(recipe)
    named: dict[str, Any] = {"name": system} if isinstance(system, str) else dict(system)
    numbers = {**named.get("knobs", {}), **(knobs or {})}
    given = {name: _number(name, value) for name, value in numbers.items()}
    about: dict[str, Any] = {"name": f"pinn-{named['name']}", "system": {**named, "knobs": given}}
    about |= {} if seed is None else {"seed": seed}
    overrides = list(overrides)
    asked = apply_overrides({**tree, **about}, overrides)
    made = _solvable(build_config(SystemConfig, asked["system"], source="the problem"))
    data = {**tree.get("data", {}), "num_samples": 1, "horizon": (made.num_frames - 1) // _stride(asked)}
    if (dims := made.signature.num_spatial_dims) != _axes_of(tree):
        data |= {name: value if dims else () for name, value in _BOX.items()}
    if curriculum is not None:
        steps = int(asked.get("training", {}).get("num_steps", PretrainRecipe().training.num_steps))
        data["curriculum"] = stages_of(curriculum, given, steps).to_dict()
    read = PretrainRecipe.read(apply_overrides({**tree, **about, "data": data}, overrides))
    if not isinstance(read.training.objective, Collocation):
        raise ConfigError(
            "One problem is solved from its equation by training.objective = 'collocation'; the recipe says "
            f"'{read.training.objective.name}': start from the recipe '{DEFAULT_RECIPE}', or use 'scifm pretrain'."
        )
    if read.system is not None and read.data.curriculum is not None:
        read.data.curriculum.stages(read.system)
    read.training.objective.require_grid(read.data.grid(dims))
    return read


def _stride(asked: Mapping[str, Any]) -> int:
    return build_config(DataConfig, asked.get("data", {}), source="data of the recipe").stride


def _axes_of(tree: Mapping[str, Any]) -> int | None:
    """Return how many axes the box of a recipe has, None where it says nothing of it."""
    named = tree.get("system")
    if not isinstance(named, Mapping) or "data" not in tree:
        return None
    return build_config(SystemConfig, named, source="system of the recipe").build().signature.num_spatial_dims


def _number(name: str, value: Any) -> float:
    ends = list(value) if isinstance(value, list | tuple) else [value]
    try:
        numbers = {float(end) for end in ends}
    except (TypeError, ValueError):
        numbers = set()
    if len(numbers) != 1:
        raise ConfigError(
            f"The knob '{name}' is {value}, a range, and one problem is solved: give a number, --knob {name}=VALUE."
        )
    return numbers.pop()


def _solvable(config: SystemConfig) -> Evolving:
    """Return the system of a problem that can be solved from its terms."""
    system = config.build()
    if not isinstance(system, Evolving):
        raise ConfigError(
            f"'{system.name}' is steady, and a problem is solved from its equation where it evolves in time: choose "
            "one of those, which 'scifm systems' tells by a term du/dt."
        )
    if not system.terms:
        raise ConfigError(
            f"'{system.name}' declares no terms, so nobody says its equation at points: choose a system whose terms "
            "'scifm systems NAME' lists."
        )
    return system


@dataclass(frozen=True)
class Solved:
    """One problem, and how well it was solved.

    Args:
        run: its folder, with scores against the solver and a forecast over all frames.
        problem: the system with its knobs and coefficients, in words.
        curriculum: what came first, in words; empty: nothing did.
        error: ‖û − u‖₂/‖u‖₂ over all frames behind the first, as it is published.
        mean_error: the relative L2 error of a frame, mean over frames and channels.
        loss: at the points of training, of all slabs of time, with the weights of the end.
        fresh_loss: the same at points drawn anew at any times.
    """

    run: Run
    problem: str
    curriculum: str
    error: float
    mean_error: float
    loss: float
    fresh_loss: float

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in plain values."""
        plain = {key: getattr(self, key) for key in ("problem", "error", "mean_error", "loss", "fresh_loss", "remark")}
        return {"run": str(self.run.path), "curriculum": self.curriculum or None, **plain}

    @property
    def remark(self) -> str:
        """What has to be said of the loss, a sentence; empty: nothing."""
        if not self.fresh_loss > _MUCH * self.loss:
            return ""
        return (
            f"The loss at fresh points is {self.fresh_loss / max(self.loss, 1e-300):.3g} times that at the points of "
            "training: the equation holds there and not between them, so that a small loss is no small error (points "
            "that are drawn anew, training.objective.points = 'uniform', do not allow it)."
        )


def solve(recipe: PretrainRecipe, *, out: str | Path = "runs", observe: Observer = silent) -> Solved:
    """Solve one problem from its equation alone, and say how well that went.

    Args:
        recipe: see `problem_recipe`.
        out: folder for run folders.
        observe: called with every event of training.

    Returns:
        The run, which is not trained again where it is complete, and its error.

    Raises:
        ConfigError: if the recipe does not add up.
        DivergedError: if the loss is not finite.
        RunError: if the folder is in use or cannot be written.
    """
    run = pretrain(recipe, out=out, observe=observe)
    recorded = RunOrigin.of_model(find_model(run.path))
    assert recorded is not None, "a run says what it was trained on"
    origin = recorded.resolved()
    assert isinstance(origin, SystemOrigin), "one problem is of a system"
    samples, about = origin.unseen(1)
    scores = evaluate(run, samples, origin=about, beside=True)
    forecast(run, steps=recipe.data.horizon, stride=recipe.data.stride)
    batch = samples.in_memory(1).to(dtype=torch.float64)
    operator = cast(Coordinate, load_operator(find_model(run.path).folder).double())
    with torch.no_grad():
        truth = operator.align(batch).require_targets()
        error = float((operator(batch).require_targets() - truth).norm() / truth.norm())
        losses = _losses(operator, batch, cast(Collocation, recipe.training.objective), recipe.training.num_steps)
    numbers = zip(batch.signature.coefficients, batch.coefficients[0].tolist(), strict=True)
    problem = ", ".join([origin.system.title, *(f"{name.replace('_', ' ')} {value:.4g}" for name, value in numbers)])
    first = "" if (own := recipe.data.curriculum) is None else _told(own, recipe.training.num_steps)
    return Solved(run, problem, first, error, scores.mean(), *losses)


def _told(curriculum: Curriculum, num_steps: int) -> str:
    each = ", ".join(f"{value:g}" if isinstance(value, int | float) else str(value) for value in curriculum.values)
    left = num_steps - curriculum.steps * len(curriculum.values)
    return f"{curriculum.knob} {each}: {plural(curriculum.steps, 'step')} each, then {left} of the problem itself"


def _losses(operator: Coordinate, batch: Batch, objective: Collocation, num_steps: int) -> tuple[float, float]:
    """Return the loss at the points of training and at fresh ones, each the mean over slabs of time.

    Parts have the weights that were given, so that both can be compared where those of a step are balanced.
    """
    objective = objective.model_copy(update={"balance": False})
    drawn = {"every": 1, "cycle": None} if objective.points != "uniform" else {"every": 1}
    fresh = {"points": "uniform", "num_points": _FRESH * objective.num_points, "seed": objective.seed + 1, **drawn}
    found = []
    for asked in (objective, objective.model_copy(update=fresh)):
        asked, total = asked.on(batch), 0.0
        slabs = operator.config.slabs
        for slab in range(slabs):
            step = num_steps - 1
            if asked.slab_steps is not None and slab < slabs - 1:
                step = min(step, (slab + 1) * asked.slab_steps - 1)
            generator = generator_for(objective.seed, "fresh", slab)
            total += float(asked(operator, batch, step=step, generator=generator)) / slabs
        found.append(total)
    return found[0], found[1]
