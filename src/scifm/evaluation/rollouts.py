"""`forecast`: march a run from the first frames of trajectories, judge it by lead time, and keep what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from scifm.config import build_config
from scifm.data.equations import told_of
from scifm.data.labels import Labels
from scifm.data.origin_config import BOX_SETTINGS, SystemConfig
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.sample_recipe import SampleRecipe
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.example import forecast_example
from scifm.evaluation.forecast import Forecast, judge
from scifm.evaluation.forecast_file import require_netcdf, write_forecast
from scifm.fields.batch import Batch
from scifm.fields.window import Window
from scifm.models.folder import ModelPlace, find_model
from scifm.models.registry import load_operator
from scifm.models.rollout import BOUND
from scifm.runs import Run, write_json
from scifm.systems.catalog import system_if_known
from scifm.systems.evolving import Evolving

__all__ = ["RolloutRecipe", "Starts", "forecast", "starts_of"]

_NUM_FITTED = 256  # pairs of frames that climatology and the linear model are made of


class RolloutRecipe(SampleRecipe):
    """How far an operator is asked to march, from where, and when it counts as lost.

    Args:
        num_samples: trajectories, drawn of a system or the first ones of a store.
        steps: how many; of a store the truth goes only as far as its trajectories do.
        given: frames of each trajectory that it is given first; absent: as many as it takes. More is for operators that
            read any number of them, one after the other, as recurrent ones do.
        bound: times its size at the start that a state may have before it counts as lost.
    """

    num_samples: int = Field(32, ge=1)
    steps: int = Field(20, ge=1)
    given: int | None = Field(None, ge=1)
    bound: float = Field(BOUND, gt=1, allow_inf_nan=False)

    @property
    def idle_with_a_store(self) -> tuple[str, ...]:
        return BOX_SETTINGS

    def origin_for(self, place: ModelPlace) -> Origin:
        """Return where trajectories come from, as `SampleRecipe.origin_for` says."""
        self.refuse("horizon", "observed", beside="beside steps")
        return super().origin_for(place)


@dataclass(frozen=True)
class Starts:
    """Where forecasts start, and the truth behind them.

    Args:
        samples: one window a trajectory: its first frames as input, as many targets as the truth has.
        training: pairs of frames of training trajectories; None: there are none beside the one that is asked about.
        system: the system that made them; None: it is not known.
        origin: what is said of them.
        units: of fields, coefficients, axes and ``time``, as the card of a store has them.
        labels: what else the card says of them; None: nothing.
        start: physical time of the last frame given, as a store has it.
    """

    samples: Batch
    training: Batch | None
    system: Evolving | None
    origin: dict[str, Any]
    units: Mapping[str, str]
    labels: Labels | None = None
    start: float = 0.0


def starts_of(origin: Origin, how: RolloutRecipe, history: int) -> Starts:
    """Return the starts that a recipe asks for.

    Raises:
        ConfigError: if a trajectory is too short for one step.
        SignatureError: if what the samples are of does not evolve, or is a mixture.
    """
    if not origin.signature.evolves:
        raise SignatureError(
            f"A rollout is of what evolves in time; {', '.join(origin.signature.outputs)} of {origin.name} does not."
        )
    stride = origin.window.stride
    training: Batch | None = None
    if not origin.is_one_problem:
        training = origin.framed(Window(stride=stride)).fitting(_NUM_FITTED, how.seed)
    units: Mapping[str, str] = {}
    labels, start = None, 0.0
    if isinstance(origin, StoreOrigin):
        store = origin.store
        assert store.card.times is not None, "what evolves has times"
        reaches = (len(store.card.times) - 1) // stride - history + 1
        window = Window(history, max(1, min(how.steps, reaches)), stride)
        split = store.split(how.split, window)
        if how.num_samples < split.num_problems:
            split = split.chosen(range(how.num_samples))
        about, made, units = dict(split.origin), store.card.generation, store.card.units
        known = system_if_known(dict(made.system)) if made is not None else None
        labels, start = store.card.labels, store.card.times[(history - 1) * stride]
    elif isinstance(origin, SystemOrigin) and isinstance(origin.system, Evolving):
        window = Window(history, how.steps, stride)
        known = replace(origin.system, num_frames=window.span)  # type: ignore[type-var]
        longer = replace(origin, config=SystemConfig.of(known), window=window)
        samples, about = longer.unseen(how.num_samples, how.seed)
        split = samples  # type: ignore[assignment]
    else:
        raise SignatureError(
            "A rollout starts from one system (--system NAME) or one store (--store FOLDER), not from a mixture: give "
            "one of them."
        )
    each = split.num_samples // split.num_problems
    first = split.batch(torch.arange(0, split.num_samples, each))
    return Starts(first, training, known if isinstance(known, Evolving) else None, about, units, labels, start)


def forecast(
    run: Run | str | Path,
    how: RolloutRecipe | None = None,
    *,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> tuple[Forecast, dict[str, Any]]:
    """March a trained operator, judge it by lead time, and write what it answers.

    Args:
        run: a run, its folder, that of a model, or ``hf:name/model``. What is found is kept in the folder of a run of
            one's own, in ``forecasts/``, with some frames of a typical trajectory beside it.
        how: from where and how far; the defaults when left out.
        out: NetCDF file for the frames; None: they are not kept.
        progress: called with (frames done, frames in all) while `out` is written.
        **settings: single settings of the recipe, such as ``steps=200``.

    Returns:
        What was found, and what is said of it in the file: ``origin``, ``file``, ``num_lost`` over all steps.

    Raises:
        ConfigError: if a setting is not valid, or h5netcdf is missing.
        SignatureError: if the samples do not fit the operator, or do not evolve.
        StoreError, DataError, RunError: if something cannot be read or written.
    """
    given = {} if how is None else {name: getattr(how, name) for name in how.model_fields_set}
    how = build_config(RolloutRecipe, {**given, **settings}, source="settings of a forecast")
    if out is not None:
        require_netcdf()
    place = find_model(run)
    operator = load_operator(place.folder)
    origin = how.origin_for(place)
    history = how.given or operator.history
    if history != operator.history and not operator.any_history:
        raise ConfigError(
            f"given = {history} is for operators that read any number of frames; this one, of kind '{operator.kind}', "
            f"takes {operator.history}. Leave it out."
        )
    starts = starts_of(origin, how, history)
    operator = told_of(operator, origin.describe())
    found = judge(operator, starts.samples, training=starts.training, system=starts.system, bound=how.bound)
    about: dict[str, Any] = {"origin": starts.origin, "steps": how.steps, "bound": how.bound}
    about |= {} if how.given is None else {"given": how.given}
    about |= {"time_unit": starts.units["time"]} if "time" in starts.units else {}
    lost = found.lost_at
    if out is not None:
        texts = {"title": f"forecast of {place.path}", "origin": json.dumps(starts.origin, sort_keys=True)}
        lost = write_forecast(
            out,
            operator,
            starts.samples,
            how.steps,
            bound=how.bound,
            attributes=texts,
            units=starts.units,
            labels=starts.labels,
            start=starts.start,
            progress=progress,
        )
        about["out"] = str(out)
    about["num_lost"] = int((lost > 0).sum())
    if place.run is not None and place.run.is_own:
        file = place.run.forecast_file({key: value for key, value in about.items() if key != "out"})
        # before the record that it belongs to, so that no record is left with the frames of another
        example = forecast_example(operator, found, starts.samples, bound=how.bound, labels=starts.labels)
        example.write(file.with_suffix(".npz"))
        write_json(file, {**about, **found.to_dict()})
        about["file"] = str(file)
    return found, about
