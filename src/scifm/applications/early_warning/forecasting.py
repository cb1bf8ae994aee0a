"""Wavefields forecast from what stations see first: which events, how they are seen, and what a network makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from scifm.applications.early_warning.peaks import Peaks, peaks_of
from scifm.config import Config
from scifm.data.store import Store
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.on_device import in_a_row
from scifm.fields.seeds import generator_for
from scifm.fields.stations import drawn_stations
from scifm.fields.window import Window
from scifm.models.architecture import evaluating
from scifm.models.operator import Operator

__all__ = ["Forecasts", "Progress", "WarnRecipe", "forecasts_of"]

_AT_ONCE = 16  # events answered together
_LEAST = 1e-3  # of the strongest peak of a place: what is less is not felt, and no logarithm is taken of it

Progress = Callable[[int, int], None]


class WarnRecipe(Config):
    """How a network is asked for warnings.

    Args:
        store: folder of a store of wavefields; absent: the one it was trained on.
        split: of it.
        num_events: first events of the split that are forecast at most.
        stations: at how many points the first frames are seen; 0: everywhere; absent: as it was trained.
        station_spacing: they stand at every so many-th point of each axis; absent: as it was trained.
        num_masks: sets of stations that each event is forecast from, for the uncertainty; one where all is seen.
        given: frames that are seen; absent: as many as it was trained with.
        steps: frames that are forecast at most; absent: to the end of the trajectories.
        velocities: fields whose length of a vector is what shakes; absent: outputs called velocity…, else all.
        threshold: velocity from which a place is warned; absent: the median of the peaks that were.
        level: probability of the intervals of peak velocity.
        calibrate_split: split of the run's own store whose events say how wide these have to be; empty: none, and the
            intervals are those of the draws alone.
        noise: standard deviation of normal noise on what stations record, in parts of its root mean square.
        delay: standard deviation of how late each station's frames come, in frames, rounded, 4 at most.
        seed: of stations, noise and delays.
    """

    store: str | None = None
    split: str = "test"
    num_events: int = Field(32, ge=1)
    stations: int | None = Field(None, ge=0)
    station_spacing: int | None = Field(None, ge=1)
    num_masks: int = Field(8, ge=1)
    given: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    velocities: tuple[str, ...] = ()
    threshold: float | None = Field(None, gt=0, allow_inf_nan=False)
    level: float = Field(0.9, gt=0, lt=1)
    calibrate_split: str = "valid"
    noise: float = Field(0.0, ge=0, allow_inf_nan=False)
    delay: float = Field(0.0, ge=0, allow_inf_nan=False)
    seed: int = 0


@dataclass(frozen=True)
class Forecasts:
    """Wavefields as they were, and as they were forecast.

    Args:
        asked: what was seen, the first set of stations; without targets.
        true: velocities behind that, ``(event, frame, direction, y, x)``.
        said: the mean over draws of what was forecast, likewise.
        draws: peaks of each draw, a set of stations or a member of an ensemble.
        peaks: those that were.
        lead_times: from the last frame seen, ``(event, frame)``.
        directions: names of the fields.
        outside: in what the events lie outside of what the network was trained on, sentences.
    """

    asked: Batch
    true: Tensor
    said: Tensor
    draws: Peaks
    peaks: Peaks
    lead_times: Tensor
    directions: tuple[str, ...]
    outside: tuple[str, ...] = ()

    @property
    def least(self) -> float:
        """Velocities that are smaller are not felt."""
        return _LEAST * float(self.peaks.velocity.max())


def forecasts_of(
    operator: Operator,
    store: Store,
    window: Window,
    recipe: WarnRecipe,
    *,
    split: str,
    progress: Progress | None = None,
) -> Forecasts:
    """Return the forecasts of the first events of a split, of each from its beginning.

    Raises:
        ConfigError: if the split is not there, or the stations do not fit.
        SignatureError: if the store's fields are not those of the operator.
    """
    samples = store.split(split, replace(window, stations=0, station_spacing=1))
    each, count = samples.windows_per_trajectory, min(recipe.num_events, samples.num_trajectories)
    whole = operator.align(samples.batch([k * each for k in range(count)]))
    directions = _directions(whole, recipe)
    rows = in_a_row([whole.signature.outputs.index(name) for name in directions])
    masks = recipe.num_masks if window.stations else 1
    assert whole.lead_time is not None
    said, draws, first = torch.zeros(()), list[Peaks](), None
    done, total = 0, masks * count
    for mask in range(masks):
        asked = _seen(whole, window, recipe, mask)
        first = first or asked
        members: list[list[Tensor]] = []
        for start in range(0, count, _AT_ONCE):
            members.append(
                [own[:, :, rows] for own in _answers(operator, asked.select(slice(start, start + _AT_ONCE)))]
            )
            done += min(_AT_ONCE, count - start)
            if progress is not None:
                progress(done, total)
        answers = [torch.cat(parts) for parts in zip(*members, strict=True)]
        draws += [peaks_of(answer, whole.lead_time) for answer in answers]
        said = said + torch.stack(answers).mean(0) / masks
    assert first is not None
    true = whole.require_targets()[:, :, rows]
    drawn = Peaks(torch.stack([own.velocity for own in draws]), torch.stack([own.time for own in draws]))
    if not bool(torch.isfinite(said).all()):
        raise SignatureError(
            "The network's forecasts are not finite: its march leaves every bound. Forecast fewer frames (--set "
            f"steps=…), or train it over more than {operator.history}."
        )
    outside = tuple(operator.outside(first))
    return Forecasts(
        first, true, said, drawn, peaks_of(true, whole.lead_time), whole.lead_time, directions, outside
    )  # fmt: skip


def _directions(batch: Batch, recipe: WarnRecipe) -> tuple[str, ...]:
    names = batch.signature.outputs
    for name in recipe.velocities:
        if name not in names:
            raise ConfigError(f"velocities name outputs of the network, {', '.join(names)}; got '{name}'.")
    return recipe.velocities or tuple(name for name in names if name.startswith("velocity")) or names


@torch.no_grad()
def _answers(operator: Operator, asked: Batch) -> list[Tensor]:
    """Return what each member forecasts, ``(event, frame, output, y, x)``."""
    with evaluating(operator):
        return [answer.require_targets().float() for answer in operator.each(asked)]


def _seen(whole: Batch, window: Window, recipe: WarnRecipe, mask: int) -> Batch:
    """Return what is seen of events: at stations alone, late and with noise; how far ahead targets say."""
    numbers = [recipe.seed * 1_000_003 + mask * 10_007 + event for event in range(len(whole))]
    inputs = whole.inputs
    if recipe.delay:
        inputs = _delayed(inputs, recipe, mask)
    seen = None
    if window.stations:
        at = drawn_stations(window.stations, window.station_spacing, whole.grid, numbers, seed=recipe.seed)
        seen = at[:, None, None].expand_as(inputs)
    if recipe.noise:
        drawn = torch.randn(inputs.shape, generator=generator_for(recipe.seed, "noise", mask))
        counted = torch.ones_like(inputs, dtype=torch.bool) if seen is None else seen
        square = torch.where(counted, inputs, 0.0).square().flatten(1).sum(1) / counted.flatten(1).sum(1)
        inputs = inputs + recipe.noise * square.sqrt().view(-1, *(1,) * (inputs.dim() - 1)) * drawn
    inputs = inputs if seen is None else torch.where(seen, inputs, 0.0)
    known = whole.valid_inputs
    return replace(whole, inputs=inputs, valid_inputs=seen if known is None or seen is None else known & seen)


def _delayed(inputs: Tensor, recipe: WarnRecipe, mask: int) -> Tensor:
    """Return the first frames with each point's own shift in time, earlier or later; ends are held."""
    late = torch.randn(inputs.shape[-2:], generator=generator_for(recipe.seed, "delay", mask)) * recipe.delay
    shift = late.round().clamp(-4, 4).long()
    frames = (torch.arange(inputs.shape[1]).view(-1, 1, 1) - shift).clamp(0, inputs.shape[1] - 1)
    index: Any = frames[None, :, None].expand_as(inputs)
    return inputs.gather(1, index)
