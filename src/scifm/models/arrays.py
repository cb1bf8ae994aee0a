"""Arrays in, arrays out: what stands between arrays by name, as a user holds them, and a `Batch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError, suggest
from scifm.fields.axis_names import axis_of_name
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain, Range
from scifm.fields.grid import Boundary, Grid
from scifm.fields.window import is_one_time, told_times
from scifm.models.bands import Bands

__all__ = ["Question"]

_AXES = ("z", "y", "x")


@dataclass(frozen=True)
class _Given:
    """One of the arrays.

    Args:
        values: of a field ``(sample, frame, *space)``, or ``(1, 1)`` where it is one number; of a coefficient
            ``(sample,)``.
        has_samples: whether it came with an axis of samples.
        is_tensor: whether it came as a tensor.
        valid: of a field with missing points, of the shape of `values`: where it has numbers.
    """

    values: Tensor
    has_samples: bool
    is_tensor: bool
    valid: Tensor | None = None

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(self.values.shape[2:])

    @classmethod
    def field(cls, name: str, value: Any, num_frames: int, num_spatial_dims: int, *, gaps: bool) -> _Given:
        """Return a field; with `gaps` NaN stands for a point that is missing."""
        value = _in_order(value)
        values, shape = _numbers(name, value, gaps=gaps and bool(np.shape(value))), tuple(np.shape(value))
        if values.isnan().any():
            given = cls.field(name, values.where(~values.isnan(), 0.0), num_frames, num_spatial_dims, gaps=False)
            return replace(given, valid=~values.isnan().view(given.values.shape), is_tensor=isinstance(value, Tensor))
        own = num_spatial_dims + (num_frames > 1)  # axes of one sample
        if not shape:
            return cls(values.reshape(1, 1), False, isinstance(value, Tensor))
        if len(shape) == own + 2 and num_frames == 1 and shape[1] == 1:  # as batches have it
            return cls(values, True, isinstance(value, Tensor))
        if len(shape) not in (own, own + 1) or (num_frames > 1 and shape[-own] != num_frames):
            axes = ", ".join(([str(num_frames)] if num_frames > 1 else []) + list(_AXES[-num_spatial_dims:]))
            raise SignatureError(f"'{name}' must have shape ({axes}), or (sample, {axes}) of several; got {shape}.")
        values = values if len(shape) > own else values[None]
        return cls(values if num_frames > 1 else values.unsqueeze(1), len(shape) > own, isinstance(value, Tensor))

    @classmethod
    def coefficient(cls, name: str, value: Any) -> _Given:
        values = _numbers(name, value)
        if values.dim() > 1:
            raise SignatureError(f"'{name}' must be a number, or of shape (sample,); got {tuple(values.shape)}.")
        return cls(values.reshape(-1), values.dim() == 1, isinstance(value, Tensor))

    def filled(self, num_samples: int, num_frames: int, space: tuple[int, ...]) -> Tensor:
        """Return a field of so many samples and frames everywhere."""
        values = self.values if self.space else self.values.reshape(1, 1, *(1,) * len(space))
        return values.expand(num_samples, num_frames, *space)

    def known(self, num_samples: int, num_frames: int, space: tuple[int, ...]) -> Tensor:
        """Return where it has numbers, likewise."""
        valid = torch.ones((1, 1, *space), dtype=torch.bool) if self.valid is None else self.valid
        return valid.expand(num_samples, num_frames, *space)


@dataclass(frozen=True)
class Question:
    """Problems that were given as arrays by name.

    Args:
        batch: the problems.
        is_one: whether it is a single one, given without an axis of samples.
        has_steps: whether several steps are asked for.
        as_tensors: whether a field came as a tensor, and answers shall be tensors.
        is_series: whether fields came without an axis of space, and answers shall have none.
    """

    batch: Batch
    is_one: bool
    has_steps: bool
    as_tensors: bool
    is_series: bool = False

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, Any],
        signature: Signature,
        domain: Domain,
        *,
        history: int = 1,
        any_history: bool = False,
        sees_lead_time: bool = False,
        takes_terms: bool = False,
        extent: float | Sequence[float] | None = None,
        boundary: Boundary | Sequence[Boundary] | None = None,
        lead_time: float | None = None,
        num_steps: int = 1,
        system: str = "",
    ) -> Question:
        """Return the problems that arrays pose to an operator.

        Args:
            arrays: by the names of `signature`. A field is ``(*space)`` or ``(sample, *space)``; the frames of a
                history stand before the space of what evolves, the oldest first; of an operator for series at one place
                it is ``(frame,)`` or ``(sample, frame)``, any number of frames; a number is a field that is the same
                everywhere; where a point is missing it is NaN, or masked. A coefficient is a number or ``(sample,)``.
                NumPy, torch, lists, and xarray, whose axes of space and time are found by their names.
            signature, domain: of the operator; its box and its time step are taken where none is given.
            history, any_history, sees_lead_time, takes_terms: of the operator.
            extent, boundary: of the box, as of `Grid`.
            lead_time: physical time of each step.
            num_steps: steps that are asked for.
            system: what all of them are of, for an operator that is told equations; empty: nobody says.

        Raises:
            ConfigError: if time is told of what does not evolve, or is not told where it has to be; or a system of an
                operator that is told no equations.
            DataError: if a number is infinite, or NaN in a field of which no point was missing in training.
            SignatureError: if a name is missing or unknown, or a shape does not fit.
        """
        if system and not takes_terms:
            raise ConfigError(f"system = '{system}' would have no effect: the operator is not told equations.")
        if domain.forms:  # one of several systems: its fields, and those coefficients that are given
            signature = domain.form_of((name for name in signature.inputs if name in arrays), signature)
            signature = replace(signature, coefficients=tuple(n for n in signature.coefficients if n in arrays))
        _require_names(arrays, signature)
        dims, states = signature.num_spatial_dims, signature.state
        is_series = any_history and domain.grid is not None and domain.grid.is_place
        if is_series:
            arrays, history = _at_one_place(arrays, states)
        gaps = domain.gaps.fields
        fields = {
            name: _Given.field(name, arrays[name], history if name in states else 1, dims, gaps=name in gaps)
            for name in signature.inputs
        }
        numbers = {name: _Given.coefficient(name, arrays[name]) for name in signature.coefficients}
        spaces = {name: own.space for name, own in fields.items() if own.space}
        if len(set(spaces.values())) != 1:
            told = ", ".join(f"'{name}' {shape}" for name, shape in spaces.items()) or "numbers only"
            raise SignatureError(f"The fields must be arrays over the same points of space; got {told}.")
        counts = {n: len(own.values) for n, own in (fields | numbers).items() if len(own.values) > 1}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise SignatureError(f"The arrays must be of as many samples each, or of one; got {told}.")
        count, space = max(counts.values(), default=1), next(iter(spaces.values()))
        dtype = next(own.values.dtype for own in fields.values() if own.space)
        inputs = torch.stack([own.filled(count, history, space).to(dtype) for own in fields.values()], dim=2)
        columns = [own.values.expand(count).to(inputs) for own in numbers.values()]
        valid = None
        if any(own.valid is not None for own in fields.values()):
            valid = torch.stack([own.known(count, history, space) for own in fields.values()], dim=2).to(inputs.device)
        time = _time(signature, domain.lead_times, lead_time, num_steps, sees_lead_time)
        steps = None if time is None else time * torch.arange(1, num_steps + 1).to(inputs)
        batch = Batch(
            signature,
            _grid(space, domain.grid, extent, boundary),
            inputs,
            torch.stack(columns, dim=1) if columns else inputs.new_zeros(count, 0),
            lead_time=None if steps is None else steps.expand(count, num_steps),
            valid_inputs=valid,
            systems=(system,) * count if system else (),
        )
        is_one = not any(own.has_samples for own in (fields | numbers).values())
        return cls(batch, is_one, num_steps > 1, any(own.is_tensor for own in fields.values()), is_series)

    def answers(self, answered: Batch) -> dict[str, Any]:
        """Return what was answered, by name: ``(sample, step, *space)`` without the axes that were not asked for.

        It is NaN where an answer means nothing.
        """
        found = {}
        for name in answered.signature.outputs:
            field, valid = answered.target(name), answered.valid_target(name)
            field = field if valid is None else torch.where(valid, field, torch.nan)
            field = field[..., 0] if self.is_series else field
            field = field if self.has_steps else field[:, 0]
            field = field[0] if self.is_one else field
            found[name] = field if self.as_tensors else field.cpu().numpy()
        return found

    def between(self, banded: Bands) -> dict[str, Any]:
        """Return what was answered, as `answers` does, with ``NAME_low`` and ``NAME_high`` around each."""
        own = self.batch.signature
        mean = banded.answers
        found = self.answers(mean.without_absent(own))
        for end in ("low", "high"):
            fields = mean.with_targets(getattr(banded, end), mean.valid_targets).without_absent(own)
            found |= {f"{name}_{end}": field for name, field in self.answers(fields).items()}
        return found


def _at_one_place(arrays: Mapping[str, Any], states: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """Return series with an axis of space, and how many frames they have.

    Raises:
        SignatureError: if they differ in that, or are single numbers.
    """
    frames = {name: np.shape(arrays[name])[-1:] for name in states}
    if len(set(frames.values())) != 1 or () in frames.values():
        told = ", ".join(f"'{name}' {tuple(np.shape(arrays[name]))}" for name in states)
        raise SignatureError(f"Series are of shape (frame,) or (sample, frame), all of as many frames; got {told}.")
    (count,) = next(iter(frames.values()))
    longer = {name: value if name not in states else _with_space(value) for name, value in arrays.items()}
    return longer, int(count)


def _with_space(series: Any) -> Any:
    return series[..., None] if isinstance(series, Tensor) else np.asarray(series)[..., None]


def _grid(
    space: tuple[int, ...],
    trained: Grid | None,
    extent: float | Sequence[float] | None,
    boundary: Boundary | Sequence[Boundary] | None,
) -> Grid:
    known: dict[str, Any] = {} if trained is None else {"extent": trained.extent, "boundary": trained.boundary}
    given = {"extent": extent, "boundary": boundary}
    return Grid(space, **known | {name: value for name, value in given.items() if value is not None})


def _time(
    signature: Signature, trained: Range | None, asked: float | None, num_steps: int, is_told: bool
) -> float | None:
    """Return the time of a step: what is asked for, else that of the training; None of what does not evolve."""
    if num_steps < 1:
        raise ConfigError(f"num_steps counts steps and is at least 1; got {num_steps}.")
    if not signature.evolves:
        if asked is not None or num_steps > 1:
            raise ConfigError("lead_time and num_steps are of what evolves; this operator answers what does not.")
        return None
    if asked is not None:
        return asked
    if is_told and (trained is None or not is_one_time(trained)):
        told = "" if trained is None else f", {told_times(trained)} in training"
        raise ConfigError(f"The operator is told how far ahead it looks{told}: say it by lead_time.")
    return trained[0] if trained is not None else 1.0  # which it is not told


def _require_names(arrays: Mapping[str, Any], signature: Signature) -> None:
    wanted = (*signature.inputs, *signature.coefficients)
    told = f"fields {', '.join(signature.inputs)}"
    told += f" and coefficients {', '.join(signature.coefficients)}" if signature.coefficients else ""
    for name in arrays:
        if name not in wanted:
            raise SignatureError(f"The operator is given {told}. {suggest(str(name), wanted)}")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise SignatureError(f"The operator is given {told}; missing: {', '.join(missing)}. A number serves for each.")


def _in_order(value: Any) -> Any:
    """Return an array whose dimensions have names, as xarray's do, in our order: the rest, then time, z, y, x."""
    dims = getattr(value, "dims", None)
    if not isinstance(dims, tuple) or not hasattr(value, "transpose"):
        return value
    places = {axis: place for place, axis in enumerate(("time", *_AXES), start=1)}
    wanted = sorted(dims, key=lambda dim: places.get(axis_of_name(str(dim)) or "", 0))
    return value if tuple(wanted) == dims else value.transpose(*wanted)


def _floating(value: Any) -> Any:
    """Return a masked array in a type that has NaN."""
    return value if value.dtype.kind in "fc" else value.astype(np.float64)


def _numbers(name: str, value: Any, *, gaps: bool = False) -> Tensor:
    """Return what is given in the precision in which it is answered: double where it came so, else single."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(np.ma.filled(_floating(value), np.nan) if np.ma.isMaskedArray(value) else value)
        except (TypeError, ValueError) as error:
            raise SignatureError(f"'{name}' must be an array of numbers: {error}.") from error
        if array.dtype.kind not in "fiub":
            raise SignatureError(f"'{name}' must be an array of real numbers; got {array.dtype}.")
        value = torch.from_numpy(np.array(array, dtype=np.float64 if array.dtype == np.float64 else np.float32))
    if value.is_complex():
        raise SignatureError(f"'{name}' must be an array of real numbers; got {value.dtype}.")
    tensor = value.detach().to(torch.float64 if value.dtype == torch.float64 else torch.float32)
    num_bad = int((tensor.isinf() if gaps else ~tensor.isfinite()).sum())
    if num_bad:
        what = "infinite" if gaps else "NaN or infinite"
        raise DataError(
            f"'{name}' is {what} at {num_bad:,} of {tensor.numel():,} places: nothing can be answered from that. Fill "
            "them, or leave those samples out; a model that was trained on such a field with missing points (gaps = "
            '"mask") takes NaN for these.'
        )
    return tensor
