"""A forecast judged by lead time: how far ahead it can be trusted, in which scales, and beside what needs no model.

`judge` lets an operator march from the first frames of trajectories and compares every frame with the truth:

* relative L2 and VRMSE, `scifm.evaluation.pointwise`;
* the **spectral error** in three bands of wavenumbers, equal parts of the logarithm from the longest wave to the
  shortest that the grid holds: the relative L2 error of what the band holds;
* the **correlation** with the truth over space, and from it the correlation time;
* the **drift** of what the system conserves, beside the truth's own;
* the same errors of three baselines: **persistence**, nothing changes; **climatology**, the mean of all frames of the
  training trajectories; **linear**, dynamic mode decomposition of them.

A frame that left every bound is NaN from then on, and so are means over it: a lost forecast has no error.

Where points are missing all of these count the others. Waves are not defined then, so errors by scale and spectra are
left out, and so is what needs every point of every frame; `Forecast.remarks` says it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import DataError, SignatureError
from scifm.evaluation.baselines import last_states
from scifm.evaluation.pointwise import relative_l2, vrmse
from scifm.evaluation.spectra import energy_spectrum, mode_energy, shortest_wave
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.samples import Samples
from scifm.models.operator import Operator
from scifm.models.rollout import BOUND, rollout
from scifm.prompt import Shown
from scifm.systems.evolving import Evolving
from scifm.wording import number_text, plural

__all__ = ["BANDS", "WINDOWS", "Forecast", "LinearModel", "correlation", "judge", "spectral_error"]

BANDS = ("low", "middle", "high")
"""Thirds of the wavenumbers, on a logarithmic scale."""
WINDOWS = ((1, 1), (6, 12), (13, 30))
"""Steps, first and last, over which The Well reports VRMSE (arXiv:2412.00568, Table 3)."""

_CORRELATED = 0.8
_MOST_MODES = 32  # of the linear model
_LEAST = 1e-5  # of the largest singular value: below it rounding of float32 is all there is


def correlation(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Float[Tensor, "batch time channel"]:
    """Return the correlation over space of prediction and truth, each about its own mean.

    Perfect 1 · no relation 0 · predicting a constant NaN. All points count alike; with `valid` those it names.
    """
    if valid is None or valid.all():
        p, t = (fields.flatten(3) - fields.flatten(3).mean(-1, keepdim=True) for fields in (prediction, target))
    else:
        where = valid.flatten(3)
        flat = [torch.where(where, fields.flatten(3), 0.0) for fields in (prediction, target)]
        means = [fields.sum(-1, keepdim=True) / where.sum(-1, keepdim=True) for fields in flat]
        p, t = (torch.where(where, fields - mean, 0.0) for fields, mean in zip(flat, means, strict=True))
    return (p * t).sum(-1) / (torch.linalg.vector_norm(p, dim=-1) * torch.linalg.vector_norm(t, dim=-1))


def spectral_error(
    prediction: Tensor, target: Tensor, grid: Grid, *, resolved: float | None = None, least_share: float = 0.0
) -> dict[str, Float[Tensor, "batch time channel"]]:
    """Return the relative L2 error of what each of `BANDS` holds; the spatial mean is in none.

    Perfect 0 · predicting nothing 1. NaN where a band holds nothing of the truth. Waves are counted by |n|, n the
    whole-numbered wave vector; on axes with walls they are those of the fields continued evenly, cosines.

    Args:
        prediction, target: ``(batch, time, channel, *space)``.
        grid: where they live.
        resolved: of a coarser grid, the largest |n| that it holds, of `shortest_wave`. The bands are then thirds of
            what that grid holds, and what only the finer one does is a fourth, ``beyond``.
        least_share: of the energy outside of the mean; a band that holds less counts as if it held that, so that what
            is made up where the truth has next to nothing is told beside the whole.
    """
    lengths, error = mode_energy(prediction - target, grid)
    _, truth = mode_energy(target, grid)
    longest = shortest_wave(grid) if resolved is None else resolved
    ends = [longest ** (part / len(BANDS)) for part in range(1, len(BANDS))]
    names, last = ((*BANDS, "beyond"), [longest]) if resolved is not None else (BANDS, [])
    least = least_share * (truth * (lengths > 0)).flatten(3).sum(-1)
    errors = {}
    for name, (low, high) in zip(names, pairwise([0.0, *ends, *last, math.inf]), strict=True):
        mask = ((lengths > low) & (lengths <= high)).to(truth.dtype)
        own, whole = ((energy * mask).flatten(3).sum(-1) for energy in (error, truth))
        errors[name] = (own / torch.maximum(whole, least)).sqrt()
    return errors


class LinearModel:
    """The linear map from one frame to the next that fits trajectories best, in their leading principal components.

    That is dynamic mode decomposition: Schmid, J. Fluid Mech. 656 (2010) 5, doi:10.1017/S0022112010001217.

    Args:
        trajectories: ``(batch, time, channel, *space)``, at least two frames.
    """

    def __init__(self, trajectories: Tensor) -> None:
        frames = trajectories.double().flatten(2)
        self._mean = frames.mean(dim=(0, 1))
        centered = frames - self._mean
        _, values, modes = torch.linalg.svd(centered.flatten(0, 1), full_matrices=False)
        self._modes = modes[: max(1, min(int((values > _LEAST * values[0]).sum()), _MOST_MODES))]
        now, then = (part.flatten(0, 1) @ self._modes.T for part in (centered[:, :-1], centered[:, 1:]))
        self._map = torch.linalg.lstsq(now, then).solution

    def march(self, frame: Tensor, num_steps: int) -> Iterator[Tensor]:
        """Yield the frames behind one, ``(batch, channel, *space)`` each."""
        state = (frame.double().flatten(1) - self._mean) @ self._modes.T
        for _ in range(num_steps):
            state = state @ self._map
            yield (state @ self._modes + self._mean).view(frame.shape).to(frame.dtype)


@dataclass(frozen=True, repr=False)
class Forecast(Shown):
    """What `judge` found. Errors are ``(sample, time, channel)``, NaN where a forecast is lost.

    Args:
        times: of the frames, from the last input frame [T].
        channels: names of the output fields.
        errors: ``relative_l2``, ``vrmse`` and, but of series, ``correlation`` and for each band ``spectral_low``, …
        baselines: by name, ``relative_l2`` and ``vrmse`` of what needs no model.
        drifts: by quantity, ``(sample, time)``: how far it is from its value at the start, over its scale.
        own_drifts: the same of the truth.
        lost_at: ``(sample,)`` the step at which each forecast left every bound; 0: it did not.
        spectra: ``model`` and ``truth``, ``(sample, time, channel, shell)``: energy by wavenumber at the first, the
            middle and the last step, `scifm.evaluation.spectra.energy_spectrum`.
        counted: ``(sample, time, channel)``: where a point of the truth counts; other errors are left out. None: all.
        remarks: what was left out, and why, a sentence each.
    """

    times: tuple[float, ...]
    channels: tuple[str, ...]
    errors: Mapping[str, Tensor]
    baselines: Mapping[str, Mapping[str, Tensor]]
    drifts: Mapping[str, Tensor] = field(default_factory=dict)
    own_drifts: Mapping[str, Tensor] = field(default_factory=dict)
    lost_at: Tensor = field(default_factory=lambda: torch.zeros(0))
    spectra: Mapping[str, Tensor] = field(default_factory=dict)
    counted: Tensor | None = None
    remarks: tuple[str, ...] = ()

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        head = f"Forecast: {plural(len(self.lost_at), 'sample')}, {plural(self.num_steps, 'step')}"
        rows = [(f"VRMSE, step {name}", number_text(value)) for name, value in self.windows().items()]
        return head, [*rows, ("left every bound", str(int((self.lost_at > 0).sum())))]

    @property
    def num_steps(self) -> int:
        """Frames that were judged."""
        return len(self.times)

    def _mean(self, values: Tensor, *dims: int) -> Tensor:
        """Return the mean over some axes of errors that count; NaN where none does."""
        values = values.double()
        if self.counted is None:
            return values.mean(dim=dims)
        return torch.where(self.counted, values, 0.0).sum(dim=dims) / self.counted.sum(dim=dims)

    def curve(self, metric: str = "relative_l2") -> list[float]:
        """Return the mean error over samples and channels at each time; NaN from where one forecast is lost."""
        means: list[float] = self._mean(self.errors[metric], 0, 2).tolist()
        return means

    def sample_errors(self, metric: str = "relative_l2") -> Tensor:
        """Return the error of each sample, ``(sample,)``, the mean over times and channels."""
        return self._mean(self.errors[metric], 1, 2)

    def frame_errors(self, metric: str = "relative_l2") -> Tensor:
        """Return the error of each frame, ``(sample, time)``, the mean over channels."""
        return self._mean(self.errors[metric], 2)

    def quantiles(self, level: float, metric: str = "relative_l2") -> list[float]:
        """Return a quantile over samples of the mean over channels, at each time."""
        values = self.frame_errors(metric)
        if self.counted is None:
            found: list[float] = values.quantile(level, dim=0).tolist()
            return found
        columns = zip(values.unbind(1), self.counted.any(dim=2).unbind(1), strict=True)
        return [float(own[some].quantile(level)) if some.any() else math.nan for own, some in columns]

    def baseline(self, name: str, metric: str = "relative_l2") -> list[float]:
        """Return the mean error of a baseline at each time."""
        means: list[float] = self._mean(self.baselines[name][metric], 0, 2).tolist()
        return means

    def correlation_time(self) -> list[float | None]:
        """Return for each sample the last time up to which every channel correlates by 0.8; None: to the end.

        None of series, which have no space to correlate over.
        """
        if "correlation" not in self.errors:
            return []
        good = self.errors["correlation"] >= _CORRELATED
        good = (good if self.counted is None else good | ~self.counted).all(dim=2)
        steps = good.long().cumprod(dim=1).sum(1).tolist()
        return [None if count == self.num_steps else ([0.0, *self.times][count]) for count in steps]

    def windows(self) -> dict[str, float]:
        """Return the mean VRMSE over the steps of each of `WINDOWS` that the forecast reaches."""
        reached = [(first, last) for first, last in WINDOWS if last <= self.num_steps]
        return {str(f) if f == t else f"{f}–{t}": self._of_window(slice(f - 1, t)) for f, t in reached}

    def _of_window(self, steps: slice) -> float:
        values = self.errors["vrmse"].double()[:, steps]
        return float((values if self.counted is None else values[self.counted[:, steps]]).mean())

    def _spectra(self) -> list[dict[str, Any]]:
        """Return an entry for each channel and step: mean, 10th and 90th percentile over samples of each shell."""
        return [
            {
                "channel": channel,
                "step": step,
                "time": self.times[step - 1],
                **{name: _spread(values[:, at, place]) for name, values in self.spectra.items()},
            }
            for place, channel in enumerate(self.channels if self.spectra else ())
            for at, step in enumerate(_told_steps(self.num_steps))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what a report shows, in plain values; None where there is no number."""
        metrics = ("relative_l2", "vrmse")
        return {
            "times": list(self.times),
            "channels": list(self.channels),
            "num_samples": len(self.lost_at),
            "num_lost": int((self.lost_at > 0).sum()),
            "lost_at": self.lost_at.tolist(),
            "errors": {name: _plain(self.curve(name)) for name in self.errors},
            "low": _plain(self.quantiles(0.1)),
            "high": _plain(self.quantiles(0.9)),
            "baselines": {name: {m: _plain(self.baseline(name, m)) for m in metrics} for name in self.baselines},
            "drifts": {name: _plain(values.abs().double().mean(0)) for name, values in self.drifts.items()},
            "own_drifts": {name: _plain(values.abs().double().mean(0)) for name, values in self.own_drifts.items()},
            "drift_ranges": {name: _range(values.abs()) for name, values in self.drifts.items()},
            "own_drift_ranges": {name: _range(values.abs()) for name, values in self.own_drifts.items()},
            "spectra": self._spectra(),
            "windows": {name: value if math.isfinite(value) else None for name, value in self.windows().items()},
            "correlation_times": self.correlation_time(),
        } | ({"remarks": list(self.remarks)} if self.remarks else {})


def _plain(values: Tensor | list[float]) -> list[float | None]:
    numbers = values.tolist() if isinstance(values, Tensor) else values
    return [value if math.isfinite(value) else None for value in numbers]


def _range(values: Tensor) -> dict[str, list[float | None]]:
    """Return the 10th and the 90th percentile over the first axis."""
    low, high = (_plain(values.double().quantile(level, dim=0)) for level in (0.1, 0.9))
    return {"low": low, "high": high}


def _spread(values: Tensor) -> dict[str, list[float | None]]:
    return {"mean": _plain(values.double().mean(0)), **_range(values)}


def _told_steps(num_steps: int) -> list[int]:
    """Return the first, the middle and the last step."""
    return sorted({1, (num_steps + 1) // 2, num_steps})


def judge(
    operator: Operator,
    samples: Samples,
    *,
    training: Samples | None = None,
    system: Evolving | None = None,
    bound: float = BOUND,
    batch_size: int = 64,
) -> Forecast:
    """Let an operator march over trajectories and compare every frame with the truth.

    Args:
        operator: of an evolving problem; every output is a state.
        samples: windows with as many targets as steps are wanted; the operator's history as inputs.
        training: windows of training trajectories, for climatology and the linear model; None: without these two.
        system: what conserves something; None: no drift is told.
        bound: see `scifm.models.rollout.rollout`.
        batch_size: trajectories marched at a time.

    Raises:
        DataError: if there are no samples.
        SignatureError: if the samples do not fit the operator, or do not evolve.
    """
    if samples.num_samples < 1:
        raise DataError("There is nothing to judge: give at least one trajectory.")
    names = samples.signature
    if names.state != names.outputs or not names.evolves:
        raise SignatureError(f"A forecast is of states; of the outputs {names.outputs} these are: {names.state}.")
    channels = operator.signature.common(names).outputs
    learned = None if training is None else Learned.of(training.in_memory(512), channels)
    gaps = tuple(name for name in channels if name in samples.gaps)
    parts: dict[str, list[Tensor]] = {}
    times: tuple[float, ...] = ()
    for piece in samples.pieces(batch_size):
        for own in piece.batches(batch_size):
            found, times = _judged(operator, own, learned, None if gaps else system, bound, whole=not gaps)
            for name, values in found.items():
                parts.setdefault(name, []).append(values)
    whole = {name: torch.cat(values) for name, values in parts.items()}

    def named(prefix: str) -> dict[str, Tensor]:
        return {name.partition(":")[2]: values for name, values in whole.items() if name.startswith(prefix + ":")}

    baselines: dict[str, dict[str, Tensor]] = {}
    for name, values in named("baseline").items():
        baseline, _, metric = name.partition(":")
        baselines.setdefault(baseline, {})[metric] = values
    return Forecast(
        times,
        channels,
        named("error"),
        baselines,
        named("drift"),
        named("own"),
        whole["lost_at"],
        named("spectrum"),
        None if whole["counted"].all() else whole["counted"],
        _remarks(gaps, learned, system),
    )


def _remarks(gaps: tuple[str, ...], learned: Learned | None, system: Evolving | None) -> tuple[str, ...]:
    """Return in sentences what was left out."""
    if not gaps:
        return ()
    names = ", ".join(gaps)
    told = [
        f"Points of {names} are missing: errors count the others. Waves are not defined without them, so there are no "
        "errors by scale and no energy spectra."
    ]
    if learned is not None and learned.linear is None:
        told.append("There is no linear model to compare with: it needs the same points in all frames of training.")
    if system is not None:
        told.append("There is no drift of what the equation conserves, a sum over every point.")
    return tuple(told)


@dataclass(frozen=True)
class Learned:
    """What training frames tell without a network.

    Args:
        climatology: ``(channel, *space)``, the mean of all frames.
        linear: the linear model; None where points are missing that are not the same in all frames.
    """

    climatology: Tensor
    linear: LinearModel | None

    @classmethod
    def of(cls, batch: Batch, names: Sequence[str]) -> Learned:
        """Return what windows of training trajectories tell."""
        frames = torch.stack([torch.cat([batch.field(name), batch.target(name)], dim=1) for name in names], dim=2)
        if not batch.gaps:
            return cls(frames.mean(dim=(0, 1)), None if frames.shape[1] < 2 else LinearModel(frames))
        valid = torch.stack([_known(batch, name) for name in names], dim=2)
        frames, count = torch.where(valid, frames, 0.0), valid.sum(dim=(0, 1))
        mean = frames.sum(dim=(0, 1)) / count.clamp(min=1)
        usual = frames.transpose(0, 2).flatten(1).sum(1) / valid.transpose(0, 2).flatten(1).sum(1).clamp(min=1)
        mean = torch.where(count > 0, mean, usual.view(-1, *(1,) * (mean.dim() - 1)))
        same = bool(((count == 0) | (count == len(valid) * valid.shape[1])).all())
        filled = torch.where(valid, frames, mean)
        return cls(mean, LinearModel(filled) if same and frames.shape[1] > 1 else None)


def _known(batch: Batch, name: str) -> Tensor:
    """Return where a state has numbers in the frames of windows, inputs and targets one after the other."""
    pairs = (batch.valid(name), batch.field(name)), (batch.valid_target(name), batch.target(name))
    masks = [torch.ones_like(fields, dtype=torch.bool) if valid is None else valid for valid, fields in pairs]
    return torch.cat(masks, dim=1)


def _quantities(system: Evolving, states: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return what a system conserves of states in the order of the batch's names."""
    ours = system.signature
    order = [batch.signature.outputs.index(name) for name in ours.outputs]
    states = states[:, :, order]
    constants = [batch.field(name)[:, -1:].double() for name in ours.inputs if name not in ours.outputs]
    if constants:
        still = torch.stack(constants, dim=2).expand(-1, states.shape[1], *(-1,) * (states.dim() - 2))
        states = torch.cat([states, still], dim=2)
    coefficients = [batch.coefficient(name).double() for name in ours.coefficients]
    numbers = torch.stack(coefficients, 1) if coefficients else batch.coefficients[:, :0].double()
    return system.quantities(states, numbers, batch.grid)


def _judged(
    operator: Operator,
    batch: Batch,
    learned: Learned | None,
    system: Evolving | None,
    bound: float,
    *,
    whole: bool,
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    names, march = operator.signature.common(batch.signature), rollout(operator, batch, batch.num_frames, bound=bound)
    frames = [frame.without_absent(names).require_targets() for frame in march]
    batch = operator.align(batch).without_absent(names)
    truth, grid, num_steps = batch.require_targets(), batch.grid, batch.num_frames
    missing = num_steps - len(frames)
    answer = torch.cat([*frames, *([torch.full_like(frames[0], torch.nan)] * missing)], dim=1)
    valid, counted = batch.valid_targets, batch.counted()
    found = {
        "error:relative_l2": relative_l2(answer, truth, grid, valid=valid),
        "error:vrmse": vrmse(answer, truth, grid, valid=valid),
        "lost_at": march.lost_at,
        "counted": torch.ones_like(truth.flatten(3)[..., 0], dtype=torch.bool) if counted is None else counted,
    }
    if not grid.is_place:
        found["error:correlation"] = correlation(answer, truth, valid)
    if whole and not grid.is_place:
        found |= {f"error:spectral_{name}": values for name, values in spectral_error(answer, truth, grid).items()}
        places = [step - 1 for step in _told_steps(num_steps)]
        found |= {
            f"spectrum:{name}": energy_spectrum(states[:, places], grid)
            for name, states in (("model", answer), ("truth", truth))
        }
    last = last_states(batch)
    trivial = {"persistence": last.expand_as(truth)}
    if learned is not None:
        trivial["climatology"] = learned.climatology.to(truth).expand_as(truth)
    if learned is not None and learned.linear is not None:
        known = batch.valid_inputs
        state = batch.signature.state_places
        start = last if known is None else torch.where(known[:, -1:, state], last, learned.climatology.to(last))
        trivial["linear"] = torch.stack(list(learned.linear.march(start[:, 0], num_steps)), dim=1)
    for name, values in trivial.items():
        found[f"baseline:{name}:relative_l2"] = relative_l2(values, truth, grid, valid=valid)
        found[f"baseline:{name}:vrmse"] = vrmse(values, truth, grid, valid=valid)
    if system is not None:
        for kind, states in (("drift", answer), ("own", truth)):
            marched = torch.cat([last, states], dim=1).double()
            for name, values in _quantities(system, marched, batch).items():
                found[f"{kind}:{name}"] = values[:, 1:] - values[:, :1]
    times = batch.lead_time[0].tolist() if batch.lead_time is not None else range(1, num_steps + 1)
    return found, tuple(float(time) for time in times)
