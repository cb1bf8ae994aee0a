"""How far a downstream task lies from the pre-training, told from samples alone, with no trained operator.

Each of `SHIFT_MEASURES` compares samples of the pre-training with samples of the task and returns a number ≥ 0 that is
0 when both are the same samples. Two independent draws of one system differ by their sampling noise.

Fields are first divided by the sizes of the sample's declared homogeneities, so that a rescaled problem is the same
problem, and then seen as energies |û|² in five bands, 1, 2, 3–4, 5–8 and 9–12 waves across the box (each axis counted
by its own side, |n| rounded), and in their direction: means of cos mθ and sin mθ over the band weighted by energy,
m = 2 and 4, θ the direction of n. That needs two periodic axes and only low modes, so it hardly depends on the
resolution; grids of fewer than 26 points a side have fewer bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scifm.errors import DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.spectral import wavenumbers
from scifm.systems.knobs import Knob
from scifm.systems.system import System

__all__ = ["SHIFT_MEASURES", "Population", "measure_shift"]

_BANDS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 12))  # first and last shell of each
_MOMENTS = (2, 4)  # real fields have the same energy at θ and θ + π: odd moments are zero
_NEIGHBORS = 5


@dataclass(frozen=True)
class Population:
    """Samples of one equation.

    Args:
        system: that drew them; its knobs are the ranges drawn from. None where it is unknown, and so is any shift of
            knobs.
        samples: some of its samples, with targets; a few hundred are enough.
        homogeneities: exact scalings; the system's when left out.

    Raises:
        SignatureError: if the samples have no targets, or do not live on two periodic axes.
        DataError: if there are fewer than two.
    """

    system: System | None
    samples: Batch
    homogeneities: tuple[Homogeneity, ...] | None = None

    def __post_init__(self) -> None:
        if self.homogeneities is None:
            object.__setattr__(self, "homogeneities", () if self.system is None else self.system.homogeneities)
        self.samples.require_targets()
        if self.samples.num_samples < 2:
            raise DataError(f"A shift is measured on at least 2 samples a system; got {self.samples.num_samples}.")
        if self.samples.grid.num_spatial_dims != 2:
            raise SignatureError(
                f"Shifts are measured on fields of two dimensions; got {self.samples.grid.num_spatial_dims}."
            )


Parts = Sequence[Population]


def measure_shift(pretrain: Population | Parts, downstream: Population) -> dict[str, float | None]:
    """Return every measure of `SHIFT_MEASURES` by name: 0 for the same samples, None where one says nothing of a pair.

    Args:
        pretrain: what was pre-trained on; several populations for a mixture, in the mixture's proportions.
        downstream: the task.

    Raises:
        DataError: if there is no population, or a grid is too coarse.
        SignatureError: if a grid is not periodic.
    """
    parts = [pretrain] if isinstance(pretrain, Population) else list(pretrain)
    if not parts:
        raise DataError("Nothing to measure a shift from: give at least one population of the pre-training.")
    return {name: distance(parts, downstream) for name, (_, distance) in SHIFT_MEASURES.items()}


# --- knobs and coefficients -------------------------------------------------------------------------------------------


def _knobs(pretrain: Parts, downstream: Population) -> float | None:
    """Return the mean distance of the task's measured knobs from the nearest range of its own equation, if known."""
    if downstream.system is None:
        return None
    name = downstream.system.name
    known = [part for part in pretrain if part.system is not None and part.system.name == name]
    distances = [distance for part in known if (distance := _outside(part, downstream.samples)) is not None]
    return float(torch.stack(distances).amin(0).mean()) if distances else None


def _outside(part: Population, samples: Batch) -> Tensor | None:
    """Return by how much each sample leaves a population's ranges, all knobs together, ``(batch,)``.

    None where the system does not measure every knob: what left the range unseen would count as no shift.
    """
    system = part.system
    if system is None:
        return None
    ours, theirs = (system.measured_knobs(batch) for batch in (part.samples, samples))
    if set(ours) != set(system.knobs):
        return None
    beyond = [_beyond(theirs[name], ours[name], system.knobs[name]) for name in ours]
    return torch.stack(beyond).square().sum(0).sqrt()


def _beyond(values: Tensor, drawn: Tensor, knob: Knob) -> Tensor:
    """Return the distance of values from a range, widened to what was really drawn so that rounding does not count."""
    low, high = drawn.amin().clamp(max=knob.low), drawn.amax().clamp(min=knob.high)
    if bool(low > 0):
        values, low, high = values.log(), low.log(), high.log()
        width = torch.ones_like(low)
    else:
        width = high - low if knob.high > knob.low else torch.ones_like(low)
    return torch.maximum(low - values, values - high).clamp(min=0) / width


def _coefficients(pretrain: Parts, downstream: Population) -> float:
    """Return the root of the sum of squares of standardized Wasserstein-1 distances, one a coefficient."""
    from scipy.stats import wasserstein_distance  # half a second to import, which every worker of a study would pay

    names = sorted({name for part in (*pretrain, downstream) for name in part.samples.signature.coefficients})
    ours = torch.cat([_gauged_coefficients(part, names) for part in pretrain])
    theirs = _gauged_coefficients(downstream, names)
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in zip(ours.T, theirs.T, strict=True):
        distance = torch.tensor(wasserstein_distance(mine.numpy(), other.numpy()), dtype=torch.float64)
        spread = mine.std(correction=0)
        if bool(spread == 0):  # constant or absent in pre-training: the size of the change is its own measure
            spread = (other - mine[0]).square().mean().sqrt()
        total = total + torch.where(distance == 0, distance, distance / spread).square()
    return float(total.sqrt())


def _gauged_coefficients(part: Population, names: Sequence[str]) -> Tensor:
    """Return named coefficients as a homogeneous normalization shows them; an absent one is 0, as operators take it."""
    samples = part.samples
    gauged = torch.zeros(samples.num_samples, len(names), dtype=torch.float64)
    for column, name in enumerate(names):
        if name in samples.signature.coefficients:
            gauged[:, column] = samples.coefficient(name).to("cpu", torch.float64) / _size(part, name)
    return gauged


def _size(part: Population, name: str) -> Tensor:
    """Return the size of a quantity that the system's homogeneities give it in each sample, ``(batch,)`` float64."""
    size = torch.ones(part.samples.num_samples, dtype=torch.float64)
    for homogeneity in part.homogeneities or ():
        size = size * homogeneity.size(part.samples).to("cpu", torch.float64) ** homogeneity.exponent(name)
    return size


# --- fields -----------------------------------------------------------------------------------------------------------


def _spectra(pretrain: Parts, downstream: Population) -> float:
    """Return the rms over shells of the difference of mean log energies of the solution over those of the forcing."""
    shells = [(n, n) for n in range(1, _last_shell(*pretrain, downstream) + 1)]

    def mean_log(parts: Parts) -> Tensor:
        energies = [[_moments(part, names, shells)[0].log() for names in _roles(part)] for part in parts]
        return torch.cat([solution - forcing for solution, forcing in energies]).mean(0)

    return float((mean_log(pretrain) - mean_log([downstream])).square().mean().sqrt())


def _fields(pretrain: Parts, downstream: Population) -> float:
    return _energy_distance(*_standardized(_field_embedding, pretrain, downstream))


def _responses(pretrain: Parts, downstream: Population) -> float:
    return _energy_distance(*_standardized(_response_embedding, pretrain, downstream))


def _novelty(pretrain: Parts, downstream: Population) -> float:
    """Return in log units how much farther the task's samples lie from pre-training ones than those from each other.

    Far is told beside how far the neighbors lie from their own, since responses lie closer in some parts of a range.
    """
    ours, theirs = _standardized(_response_embedding, pretrain, downstream)
    count = min(_NEIGHBORS, len(ours) - 1)
    among = torch.cdist(ours, ours).fill_diagonal_(math.inf).topk(count, largest=False)
    reached = torch.cdist(theirs, ours).topk(count, largest=False)
    own = among.values.mean(1)
    isolation = [near.values.mean() / own[near.indices].mean() for near in (reached, among)]
    return float((isolation[0] / isolation[1]).log().clamp(min=0))


Embedding = Callable[[Population, Sequence[tuple[int, int]]], Tensor]


def _field_embedding(part: Population, bands: Sequence[tuple[int, int]]) -> Tensor:
    """Return log shares of the solution's energy by band, and its directions, ``(batch, 5 * bands)``."""
    energy, directions = _moments(part, _roles(part)[0], bands)
    return torch.cat([energy.log() - energy.sum(1, keepdim=True).log(), directions], 1)


def _response_embedding(part: Population, bands: Sequence[tuple[int, int]]) -> Tensor:
    """Return the solution's log energies over the forcing's, and its directions less the forcing's."""
    solution, forcing = (_moments(part, names, bands) for names in _roles(part))
    return torch.cat([solution[0].log() - forcing[0].log(), solution[1] - forcing[1]], 1)


def _standardized(embedding: Embedding, pretrain: Parts, downstream: Population) -> tuple[Tensor, Tensor]:
    """Return both embeddings divided by the spread of the pre-training's along each of their axes."""
    last = _last_shell(*pretrain, downstream)
    bands = [band for band in _BANDS if band[1] <= last]
    ours = torch.cat([embedding(part, bands) for part in pretrain])
    spread = ours.std(0)
    return ours / spread, embedding(downstream, bands) / spread


def _energy_distance(first: Tensor, second: Tensor) -> float:
    """Return (2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖)^½, every pair counted, so that it is never negative."""
    between, within_first, within_second = (
        torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").mean()
        for a, b in ((first, second), (first, first), (second, second))
    )
    return float((2 * between - within_first - within_second).clamp(min=0).sqrt())


def _roles(part: Population) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the solution's and of the forcing's fields."""
    return part.samples.signature.outputs, part.samples.signature.inputs


def _moments(part: Population, names: Sequence[str], bands: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return energies ``(batch, bands)`` and directions ``(batch, moments * bands)`` of gauged fields, all together."""
    grid = part.samples.grid
    power = torch.zeros((), dtype=torch.float64)
    for name in names:
        spectrum = torch.fft.rfft2(part.samples.field(name).to("cpu", torch.float64), norm="forward")
        energy = spectrum.real.square() + spectrum.imag.square()
        power = power + energy.sum(1) / _size(part, name).square()[:, None, None]
    weights = _band_weights(grid, bands)
    sums = torch.einsum("byx,mkyx->bmk", power, weights)
    return sums[:, 0], (sums[:, 1:] / sums[:, :1]).flatten(1)


def _band_weights(grid: Grid, bands: Sequence[tuple[int, int]]) -> Tensor:
    """Return what each mode of the half-spectrum counts for, ``(1 + moments, bands, ny, nx // 2 + 1)``."""
    waves_across = (wave * (side / (2 * math.pi)) for wave, side in zip(wavenumbers(grid), grid.extent, strict=True))
    wave_y, wave_x = torch.broadcast_tensors(*waves_across)
    shell = torch.hypot(wave_y, wave_x).round()
    angle = torch.atan2(wave_y, wave_x)
    twice = torch.full_like(angle, 2.0)  # modes of the other half
    twice[:, 0] = 1.0
    inside = torch.stack([(shell >= first) & (shell <= last) for first, last in bands])
    waves = [torch.ones_like(angle)]
    for moment in _MOMENTS:
        waves += [(moment * angle).cos(), (moment * angle).sin()]
    return torch.stack(waves)[:, None] * (twice * inside)


def _last_shell(*parts: Population) -> int:
    """Return the last shell that every grid holds whole, below its Nyquist wavenumbers, at most 12.

    Raises:
        DataError: if that is not even 2.
    """
    last = min((num + 1) // 2 - 1 for part in parts for num in part.samples.grid.num_points)
    if last < 2:
        raise DataError(f"Shifts are measured on at least 2 waves across the box; these grids hold {last}.")
    return min(last, _BANDS[-1][1])


SHIFT_MEASURES: dict[str, tuple[str, Callable[[Parts, Population], float | None]]] = {
    "knobs": ("distance of knobs from the pre-training range", _knobs),
    "coefficients": ("distance of coefficients", _coefficients),
    "spectra": ("distance of spectra", _spectra),
    "fields": ("distance of solutions", _fields),
    "responses": ("distance of responses", _responses),
    "novelty": ("novelty of responses", _novelty),
}
"""By name: what axes and tables call it, and the distance of a task from the populations pre-trained on."""
