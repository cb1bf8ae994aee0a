"""`predict_file`: put a model to the arrays of a file, and write what it answers with names, axes, times and units."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from scifm import __version__
from scifm.config import Config, build_config, refuse_idle
from scifm.data.arrays_by_name import NamedArrays, is_store, names_in, read_named
from scifm.data.equations import told_of
from scifm.errors import ConfigError, SignatureError, suggest
from scifm.evaluation.forecast_file import decimal, require_netcdf
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Boundary
from scifm.models.arrays import Question
from scifm.models.bands import bands
from scifm.models.folder import find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.runs import Run, write_atomically
from scifm.wording import plural

if TYPE_CHECKING:
    import xarray

__all__ = ["PredictRecipe", "Prediction", "predict_file"]

Kind = Literal["netcdf", "npz"]
_KINDS: dict[str, Kind] = {".nc": "netcdf", ".nc4": "netcdf", ".npz": "npz"}


class PredictRecipe(Config):
    """How a model is put to arrays.

    Args:
        values: a number for an input or a coefficient that the file does not hold, by name.
        rename: name the operator knows → name in the file.
        split: of a store.
        steps: of what evolves, how many it marches from the last frames of the file.
        lead_time: of what evolves, physical time of a step; that of the training when left out.
        extent, boundary: of the box; as the file tells and as in training when left out.
        system: what the samples are of, by name, for a model that is told equations: one it knows, or one of ours.
        strict: refuse what lies outside of what the model was trained on.
        batch_size: samples answered at a time.
        level: of a model that was calibrated, the probability of bands around the answers; absent: no bands.
        unlike: share of the calibration's samples that lie as far from what the model knows, up to which a sample is
            told to be unlike them; of n of them at least 1/(n + 1), which is farther than all.
    """

    values: dict[str, float] = Field(default_factory=dict)
    rename: dict[str, str] = Field(default_factory=dict)
    split: str = "test"
    steps: int = Field(1, ge=1)
    lead_time: float | None = Field(None, gt=0, allow_inf_nan=False)
    extent: float | tuple[float, ...] | None = None
    boundary: Boundary | tuple[Boundary, ...] | None = None
    system: str = ""
    strict: bool = False
    batch_size: int = Field(64, ge=1)
    level: float | None = Field(None, gt=0, lt=1)
    unlike: float = Field(0.01, gt=0, lt=1)

    @model_validator(mode="after")
    def _has_effect(self) -> PredictRecipe:
        if self.level is None:
            refuse_idle(self, ("unlike",), "no level is asked for, so no sample is compared with the calibration's")
        return self


@dataclass(frozen=True)
class Prediction:
    """What a model answered.

    Args:
        path: the new file.
        sizes: length of each axis, by name.
        names: of the fields in it.
        outside: a sentence for each thing in which the samples lie outside of what the model was trained on.
        unlike: which samples are unlike those that the model was calibrated on, a sentence; empty: none, or not asked.
    """

    path: Path
    sizes: Mapping[str, int]
    names: tuple[str, ...]
    outside: tuple[str, ...]
    unlike: str = ""


def predict_file(
    model: Run | str | Path, source: str | Path, out: str | Path, how: PredictRecipe | None = None, **settings: Any
) -> Prediction:
    """Answer all samples of a file, and write a new one.

    Args:
        model: a run, its folder, that of a model, or ``hf:name/model``.
        source: NetCDF, Zarr, NumPy (``.npz``), HDF5, MATLAB, or the folder of a store, whose arrays are called as the
            model's inputs and coefficients.
        out: the new file: NetCDF (``.nc``) with axes, times, units and coordinates, or NumPy's ``.npz``. Where points
            were missing in training, answers are missing too: NaN, see `scifm.fields.gaps`.
        how: the defaults when left out.
        **settings: single settings, such as ``steps=20``.

    Raises:
        ConfigError: if a setting does not fit, a package is missing, or `out` is what is read, or lies in it.
        DataError: if a number is infinite, or NaN in a field of which no point was missing in training.
        RunError: if there is no model, or the file cannot be written.
        SignatureError: if names or axes do not fit, or samples lie outside and ``strict`` is set.
        StoreError: if the file cannot be read.
    """
    given = {} if how is None else {name: getattr(how, name) for name in how.model_fields_set}
    how = build_config(PredictRecipe, {**given, **settings}, source="settings of predict")
    source, out = Path(source).expanduser(), Path(out).expanduser()
    kind = _KINDS.get(out.suffix.lower())
    if kind is None:
        raise ConfigError(f"Predictions are written as {' or '.join(_KINDS)}; got '{out.name}'.")
    if kind == "netcdf":
        require_netcdf()
    if not is_store(source):
        refuse_idle(how, ("split",), f"'{source}' is no store")
    _require_apart(out, source)
    place = find_model(model)
    operator = load_operator(place.folder)
    operator = told_of(operator, {"systems": [how.system]})
    named = _read(operator, source, how)
    question = _question(operator, named, how)
    outside = operator.outside(question.batch)
    if outside and how.strict:
        raise SignatureError(f"'{source}' lies outside of what the model was trained on: {'; '.join(outside)}.")
    banded, unlike = None, ""
    if how.level is None:
        answered = operator.answers(question.batch, batch_size=how.batch_size)
    else:
        banded = bands(operator, question.batch, how.level, batch_size=how.batch_size)
        answered, unlike = banded.answers, banded.unlike(how.unlike)
    about = {"title": f"prediction of {place.path}", "source": str(source), "scifm": __version__}
    about |= {"outside_of_training": "; ".join(outside)} if outside else {}
    about |= {"unlike_calibration": unlike} if unlike else {}
    dataset = _labelled(answered, question.is_one, named, about)
    for end in ("low", "high") if banded is not None else ():
        fields = _labelled(
            answered.with_targets(getattr(banded, end), answered.valid_targets), question.is_one, named, {}
        )
        for name in answered.signature.outputs:
            dataset[f"{name}_{end}"] = fields[name].assign_attrs(long_name=f"{end} end of the band", level=how.level)
    if banded is not None and banded.p_values is not None:
        dataset["p_value"] = _p_values(banded.p_values, question.is_one)
    if kind == "netcdf":
        content = bytes(dataset.to_netcdf(engine="h5netcdf"))
    else:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {str(name): own.values for name, own in dataset.variables.items()}
        np.savez_compressed(buffer, **arrays)
        content = buffer.getvalue()
    write_atomically(out, content)
    sizes = {str(axis): length for axis, length in dataset.sizes.items()}
    return Prediction(out, sizes, answered.signature.outputs, tuple(outside), unlike)


def _require_apart(out: Path, source: Path) -> None:
    """Refuse to write over what is read, or among it, where it would be read with it the next time."""
    there, read = out.resolve(), source.resolve()
    if there == read or (out.exists() and source.exists() and out.samefile(source)):
        raise ConfigError(f"'{out}' is the file that is read, and would be lost: give the answers another name.")
    if read in there.parents:
        raise ConfigError(f"'{out}' lies in '{source}', which is read as a whole: write the answers elsewhere.")


def _p_values(values: Tensor, is_one: bool) -> xarray.Variable:
    import xarray

    said = {"long_name": "share of the samples of the calibration that lie as far from what the model knows"}
    numbers = values.numpy()
    return xarray.Variable((), numbers[0], said) if is_one else xarray.Variable("trajectory", numbers, said)


def _read(operator: Operator, source: Path, how: PredictRecipe) -> NamedArrays:
    names = _asked_names(operator, source, how)
    refuse = [name for name in (*how.values, *how.rename) if name not in (*names.inputs, *names.coefficients)]
    if refuse:
        raise ConfigError(f"Values and renaming: {suggest(refuse[0], (*names.inputs, *names.coefficients))}")
    called = {name: how.rename.get(name, name) for name in (*names.inputs, *names.coefficients)}
    asked = {name: own for name, own in called.items() if name not in how.values}
    fields = [own for name, own in asked.items() if name in names.inputs]
    numbers = [own for name, own in asked.items() if name in names.coefficients]
    try:
        found = read_named(source, fields, numbers, split=how.split)
    except SignatureError as error:
        raise SignatureError(
            f"{error} The model is given {', '.join(called)}: say what one is called there with --set rename.NAME=…, "
            "or give a number for it with --set values.NAME=…"
        ) from error
    back = {own: name for name, own in asked.items()}
    return replace(
        found,
        fields={back[own]: values for own, values in found.fields.items()},
        numbers={back[own]: values for own, values in found.numbers.items()},
        evolving=frozenset(back[own] for own in found.evolving),
        units={back.get(own, own): unit for own, unit in found.units.items()},
        labels=found.labels.model_copy(
            update={"texts": {back.get(own, own): texts for own, texts in found.labels.texts.items()}}
        ),
    )


def _asked_names(operator: Operator, source: Path, how: PredictRecipe) -> Signature:
    """Return the names that a file is asked for: of a model of several systems, whose fields differ, those it holds."""
    names, domain = operator.signature, operator.domain
    if not domain.forms:
        return names
    there = names_in(source)
    held = [n for n in (*names.inputs, *names.coefficients) if n in how.values or how.rename.get(n, n) in there]
    names = domain.form_of((name for name in names.inputs if name in held), names)
    return replace(names, coefficients=tuple(name for name in names.coefficients if name in held))


def _question(operator: Operator, named: NamedArrays, how: PredictRecipe) -> Question:
    known, names = operator.domain.grid, operator.signature
    told: Any = how.boundary or (known.boundary if known is not None else "periodic")
    ends: Any = (told,) * names.num_spatial_dims if isinstance(told, str) else told
    if named.evolving and not names.evolves:
        raise SignatureError(
            f"{', '.join(sorted(named.evolving))} of the file have an axis of time, and the model answers what does "
            "not evolve: take one time, or call that axis 'trajectory' if its entries are samples."
        )
    stride = operator.pace.stride(_steps(named.coordinates.get("time")))
    fields = {
        name: _last(name, values, operator.history if name in names.state else 1, stride, names.num_spatial_dims)
        if name in named.evolving
        else values
        for name, values in named.fields.items()
    }
    return Question.of(
        {**fields, **named.numbers, **how.values},
        names,
        operator.domain,
        history=operator.history,
        sees_lead_time=operator.sees_lead_time,
        takes_terms=operator.config.wants_terms,
        system=how.system,
        extent=how.extent if how.extent is not None else named.extent(ends),
        boundary=ends,
        lead_time=how.lead_time,
        num_steps=how.steps,
    )


def _steps(times: np.ndarray | None) -> tuple[float, float] | None:
    """Return the shortest and the longest time between neighbouring frames."""
    if times is None or len(times) < 2:
        return None
    steps = np.diff(times.astype(float))
    return (float(steps.min()), float(steps.max())) if steps.min() > 0 else None


def _last(name: str, values: np.ndarray, history: int, stride: int, num_spatial_dims: int) -> np.ndarray:
    """Return the last frames of a field ``([trajectory,] time, *space)``; of a history of one without their axis."""
    axis = values.ndim - num_spatial_dims - 1
    count, needed = values.shape[axis], (history - 1) * stride + 1
    if count < needed:
        raise SignatureError(
            f"'{name}' holds {plural(count, 'frame')}, and the model is given {history}, {stride} apart: {needed}."
        )
    places = range(count - needed, count, stride)
    return values.take(places[-1] if history == 1 else list(places), axis)


def _labelled(answered: Batch, is_one: bool, named: NamedArrays, about: Mapping[str, str]) -> xarray.Dataset:
    """Return the answers with names on their axes, units, and the coordinates of the file where it told some."""
    import xarray

    names, grid = answered.signature, answered.grid
    samples = () if is_one else ("trajectory",)
    times = ("time",) if names.evolves else ()
    labels = named.labels
    said = {name: {"units": own} for name, own in named.units.items()}
    said |= {name: said.get(name, {}) | own for name, own in labels.texts.items() if name}
    variables = {}
    for name in names.outputs:
        values, valid = answered.target(name).numpy(), answered.valid_target(name)
        values = values if valid is None else np.where(valid.numpy(), values, np.float32(np.nan))
        values = values if times else values[:, 0]
        variables[name] = xarray.Variable(
            (*samples, *times, *grid.axis_names), values[0] if is_one else values, said.get(name)
        )
    for name in names.coefficients:
        values = answered.coefficient(name).numpy()
        variables[name] = xarray.Variable(samples, values[0] if is_one else values, said.get(name))
    lines = {axis: points.numpy() for axis, points in zip(grid.axis_names, grid.coordinates(), strict=True)}
    lines |= {axis: own for axis, own in named.coordinates.items() if axis in lines}
    lines |= {axis: own for axis in lines if (own := labels.points(axis, len(lines[axis]))) is not None}
    coordinates = {axis: xarray.Variable(axis, points, said.get(axis)) for axis, points in lines.items()}
    if times:
        assert answered.lead_time is not None
        ahead = [decimal(float(time)) for time in answered.lead_time[0]]
        known = named.coordinates.get("time")
        told = {"long_name": "time since the last input frame"} if known is None else {}
        start = 0.0 if known is None else float(known[-1])
        told, instants = told | said.get("time", {}), start + np.array(ahead)
        if labels.dates is not None and known is not None:
            told, instants = told | labels.dates.attributes, labels.dates.of(instants)
        coordinates["time"] = xarray.Variable("time", instants, told)
    dataset = xarray.Dataset(variables, coordinates, {**labels.attributes(""), **about})
    return dataset.rename({axis: labels.name(axis) for axis in coordinates if labels.name(axis) not in variables})
