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


def correlation(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time channel"]:
    """Return the correlation over space of prediction and truth, each about its own mean.

    Perfect 1 · no relation 0 · predicting a constant NaN. All points count alike.
    """
    p, t = (fields.flatten(3) - fields.flatten(3).mean(-1, keepdim=True) for fields in (prediction, target))
    return (p * t).sum(-1) / (torch.linalg.vector_norm(p, dim=-1) * torch.linalg.vector_norm(t, dim=-1))


def spectral_error(prediction: Tensor, target: Tensor, grid: Grid) -> dict[str, Float[Tensor, "batch time channel"]]:
    """Return the relative L2 error of what each of `BANDS` holds; the spatial mean is in none.

    Perfect 0 · predicting nothing 1. NaN where a band holds nothing of the truth. Waves are counted by |n|, n the
    whole-numbered wave vector; on axes with walls they are those of the fields continued evenly, cosines.

    Args:
        prediction, target: ``(batch, time, channel, *space)``.
        grid: where they live.
    """
    lengths, error = mode_energy(prediction - target, grid)
    _, truth = mode_energy(target, grid)
    ends = [shortest_wave(grid) ** (part / len(BANDS)) for part in range(1, len(BANDS))]
    inner = [0.0, *ends, math.inf]
    errors = {}
    for name, (low, high) in zip(BANDS, pairwise(inner), strict=True):
        mask = ((lengths > low) & (lengths <= high)).to(truth.dtype)
        own, whole = ((energy * mask).flatten(3).sum(-1) for energy in (error, truth))
        errors[name] = (own / whole).sqrt()
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
        errors: ``relative_l2``, ``vrmse``, ``correlation`` and, for each band, ``spectral_low``, …
        baselines: by name, ``relative_l2`` and ``vrmse`` of what needs no model.
        drifts: by quantity, ``(sample, time)``: how far it is from its value at the start, over its scale.
        own_drifts: the same of the truth.
        lost_at: ``(sample,)`` the step at which each forecast left every bound; 0: it did not.
        spectra: ``model`` and ``truth``, ``(sample, time, channel, shell)``: energy by wavenumber at the first, the
            middle and the last step, `scifm.evaluation.spectra.energy_spectrum`.
    """

    times: tuple[float, ...]
    channels: tuple[str, ...]
    errors: Mapping[str, Tensor]
    baselines: Mapping[str, Mapping[str, Tensor]]
    drifts: Mapping[str, Tensor] = field(default_factory=dict)
    own_drifts: Mapping[str, Tensor] = field(default_factory=dict)
    lost_at: Tensor = field(default_factory=lambda: torch.zeros(0))
    spectra: Mapping[str, Tensor] = field(default_factory=dict)

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        head = f"Forecast: {plural(len(self.lost_at), 'sample')}, {plural(self.num_steps, 'step')}"
        rows = [(f"VRMSE, step {name}", number_text(value)) for name, value in self.windows().items()]
        return head, [*rows, ("left every bound", str(int((self.lost_at > 0).sum())))]

    @property
    def num_steps(self) -> int:
        """Frames that were judged."""
        return len(self.times)

    def curve(self, metric: str = "relative_l2") -> list[float]:
        """Return the mean error over samples and channels at each time; NaN from where one forecast is lost."""
        means: list[float] = self.errors[metric].double().mean(dim=(0, 2)).tolist()
        return means

    def quantiles(self, level: float, metric: str = "relative_l2") -> list[float]:
        """Return a quantile over samples of the mean over channels, at each time."""
        values = self.errors[metric].double().mean(2)
        found: list[float] = values.quantile(level, dim=0).tolist()
        return found

    def baseline(self, name: str, metric: str = "relative_l2") -> list[float]:
        """Return the mean error of a baseline at each time."""
        means: list[float] = self.baselines[name][metric].double().mean(dim=(0, 2)).tolist()
        return means

    def correlation_time(self) -> list[float | None]:
        """Return for each sample the last time up to which every channel correlates by 0.8; None: to the end."""
        good = (self.errors["correlation"] >= _CORRELATED).all(dim=2)
        steps = good.long().cumprod(dim=1).sum(1).tolist()
        return [None if count == self.num_steps else ([0.0, *self.times][count]) for count in steps]

    def windows(self) -> dict[str, float]:
        """Return the mean VRMSE over the steps of each of `WINDOWS` that the forecast reaches."""
        values = self.errors["vrmse"].double()
        reached = [(first, last) for first, last in WINDOWS if last <= self.num_steps]
        return {
            str(first) if first == last else f"{first}–{last}": float(values[:, first - 1 : last].mean())
            for first, last in reached
        }

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
        }


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
    learned = None if training is None else _frames(training.in_memory(512), channels)
    linear = None if learned is None or learned.shape[1] < 2 else LinearModel(learned)
    parts: dict[str, list[Tensor]] = {}
    times: tuple[float, ...] = ()
    for piece in samples.pieces(batch_size):
        for start in range(0, piece.num_samples, batch_size):
            own = piece.select(slice(start, start + batch_size))
            found, times = _judged(operator, own, learned, linear, system, bound)
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
    )


def _frames(batch: Batch, names: Sequence[str]) -> Tensor:
    """Return the states of windows, inputs and targets one after the other, ``(batch, time, name, *space)``."""
    return torch.stack([torch.cat([batch.field(name), batch.target(name)], dim=1) for name in names], dim=2)


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
    learned: Tensor | None,
    linear: LinearModel | None,
    system: Evolving | None,
    bound: float,
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    names, march = operator.signature.common(batch.signature), rollout(operator, batch, batch.num_frames, bound=bound)
    frames = [frame.without_absent(names).require_targets() for frame in march]
    batch = operator.align(batch).without_absent(names)
    truth, grid, num_steps = batch.require_targets(), batch.grid, batch.num_frames
    missing = num_steps - len(frames)
    answer = torch.cat([*frames, *([torch.full_like(frames[0], torch.nan)] * missing)], dim=1)
    found = {
        "error:relative_l2": relative_l2(answer, truth, grid),
        "error:vrmse": vrmse(answer, truth, grid),
        "error:correlation": correlation(answer, truth),
        "lost_at": march.lost_at,
    }
    found |= {f"error:spectral_{name}": values for name, values in spectral_error(answer, truth, grid).items()}
    places = [step - 1 for step in _told_steps(num_steps)]
    found |= {
        f"spectrum:{name}": energy_spectrum(states[:, places], grid)
        for name, states in (("model", answer), ("truth", truth))
    }
    last = torch.stack([batch.field(name)[:, -1] for name in batch.signature.outputs], dim=1)
    trivial = {"persistence": last.unsqueeze(1).expand_as(truth)}
    if learned is not None:
        trivial["climatology"] = learned.mean(dim=(0, 1)).to(truth).expand_as(truth)
    if linear is not None:
        trivial["linear"] = torch.stack(list(linear.march(last, num_steps)), dim=1)
    for name, values in trivial.items():
        found[f"baseline:{name}:relative_l2"] = relative_l2(values, truth, grid)
        found[f"baseline:{name}:vrmse"] = vrmse(values, truth, grid)
    if system is not None:
        start = last.unsqueeze(1)
        for kind, states in (("drift", answer), ("own", truth)):
            whole = torch.cat([start, states], dim=1).double()
            for name, values in _quantities(system, whole, batch).items():
                found[f"{kind}:{name}"] = values[:, 1:] - values[:, :1]
    times = batch.lead_time[0].tolist() if batch.lead_time is not None else range(1, num_steps + 1)
    return found, tuple(float(time) for time in times)
