"""`assess`: are made records like true ones? Spectra, their scaling, their scatter, and whether a network can tell.

True records are drawn anew where a store is of drawn ones, so that how well is not hidden by how few; of real ones they
are those of a split that was held out, by events. Made ones are of the very same conditions, and go the same way
through smoothing and regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scifm.applications.accounts import keep_account
from scifm.applications.ground_motion.discrimination import discriminative_score
from scifm.applications.ground_motion.making import SYNTHETIC, VELOCITY, rate_of
from scifm.applications.ground_motion.network import MotionGenerator
from scifm.applications.ground_motion.scaling import Scaling, regressed
from scifm.applications.ground_motion.shaking import amplitudes_for, load_generator
from scifm.applications.ground_motion.spectra import BANDWIDTH, smoothed_medians, smoothed_spectra
from scifm.applications.ground_motion.spectrograms import inverted, spectral_convergence
from scifm.applications.ground_motion.synthesis import StochasticMotion
from scifm.config import Config, build_config, config_hash
from scifm.data.origins import StoreOrigin
from scifm.data.run_origin import RunOrigin
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError
from scifm.fields.seeds import generator_for
from scifm.findings.account import Account
from scifm.models.folder import ModelPlace, digest, find_model
from scifm.runs import Run

__all__ = ["AssessRecipe", "Compared", "Likeness", "assess", "compared", "likeness"]

_RECORDS_PER_EVENT = 4


class AssessRecipe(Config):
    """How made records are compared with true ones.

    Args:
        store: folder of a store of records; absent: that of the training.
        split: of it; drawn records are drawn anew instead.
        num_records: true ones, and as many made ones, at most.
        frequencies: lowest and highest at which spectra are compared [Hz].
        num_frequencies: between them, evenly in the logarithm.
        bandwidth: b of Konno and Ohmachi's windows.
        iterations: of Griffin and Lim's method.
        discriminator_steps: of the training of the network that tells records apart; 0: none is asked.
        seed: of every draw.
    """

    store: str | None = None
    split: str = "test"
    num_records: int = Field(1000, ge=16)
    frequencies: tuple[float, float] = (1.0, 15.0)
    num_frequencies: int = Field(12, ge=2)
    bandwidth: float = Field(BANDWIDTH, gt=0, allow_inf_nan=False)
    iterations: int = Field(100, ge=1)
    discriminator_steps: int = Field(400, ge=0)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _a_range(self) -> AssessRecipe:
        low, high = self.frequencies
        if not (0 < low < high < math.inf):
            raise ValueError(f"frequencies are a lowest and a highest, positive and in this order; got {low}, {high}")
        return self

    @property
    def centers(self) -> Tensor:
        """The frequencies [Hz]."""
        low, high = map(math.log, self.frequencies)
        return torch.linspace(low, high, self.num_frequencies, dtype=torch.float64).exp()


@dataclass(frozen=True)
class Likeness:
    """How one set of records compares with another of the same conditions, by frequency.

    Args:
        bias: mean of log₁₀ of the ratio of spectra: of lognormal ones that of their medians.
        slopes: of the regression over those of the other set, less one, ``(regressor, frequency)``.
        sigma: standard deviation of residuals over that of the other set, less one.
    """

    bias: Tensor
    slopes: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Compared:
    """True and made records of the same conditions, and all that was found of them.

    Args:
        centers: frequencies [Hz].
        conditions: by name, a number a record.
        regressors: what spectra are regressed on, in words.
        true, made: velocities, ``(record, sample)`` [m/s].
        rate: samples a second [Hz].
        levels: ln amplitudes of both, ``(record, frame, frequency)``.
        extent: of a spectrogram: highest frequency [Hz] and duration [s].
        spectra: smoothed, of both [m].
        medians: smoothed median spectra, where records are drawn and these are known.
        scalings: of both.
        likeness: of made records to true ones.
        itself: of other true ones to these, where records can be drawn anew: what no maker does better.
        score: the discriminative one; None: it was not asked for.
        score_itself: the same for other true ones.
        convergence: how far amplitudes of made records are from those asked for, the median.
        outside: in what conditions lie beyond those of the training.
    """

    centers: Tensor
    conditions: dict[str, Tensor]
    regressors: tuple[str, ...]
    true: Tensor
    made: Tensor
    rate: float
    levels: tuple[Tensor, Tensor]
    extent: tuple[float, float]
    spectra: tuple[Tensor, Tensor]
    medians: Tensor | None
    scalings: tuple[Scaling, Scaling]
    likeness: Likeness
    itself: Likeness | None
    score: float | None
    score_itself: float | None
    convergence: float
    outside: tuple[str, ...] = ()


def assess(run: Run | str | Path, recipe: AssessRecipe | None = None, *, out: str | Path) -> Account:
    """Compare records that a generator makes with true ones, and tell what was found.

    Args:
        run: a run of 'scifm imitate', or the folder of its model.
        recipe: how; the defaults when left out.
        out: folder of the account.

    Returns:
        The account, also written to account.json in `out`.

    Raises:
        ConfigError: if nothing says which records, or a package is missing.
        DataError: if there are too few of them.
        RunError: if there is no generator, or the folder holds something else or cannot be written.
        StoreError: if the store cannot be read.
    """
    from scifm.applications.ground_motion.telling import account_of, arrays_of

    recipe, place = recipe or AssessRecipe(), find_model(run)
    generator, store = load_generator(run), _store_of(place, recipe)
    parent = config_hash(place.run.config) if place.run is not None else digest(place.folder)
    record = {"kind": "assess", **recipe.to_dict(), "about": {"parent": parent, "samples": store.content}}
    work = Run.claim(out, record)
    with work.locked():
        work.set_status("running")
        found = compared(generator, store, recipe)
        account = account_of(found, recipe, model=str(place.path), store=str(store.path))
        work.note_time()
        keep_account(work, account, arrays_of(found))
    return account


def _store_of(place: ModelPlace, recipe: AssessRecipe) -> Store:
    if recipe.store is not None:
        return Store.open(recipe.store)
    trained = RunOrigin.of_model(place)
    origin = None if trained is None else trained.resolved()
    if not isinstance(origin, StoreOrigin):
        raise ConfigError(
            f"'{place.path}' does not say which stored records it was trained on: give a store (--store FOLDER)."
        )
    return origin.store


def compared(generator: MotionGenerator, store: Store, recipe: AssessRecipe) -> Compared:
    """Return what is found of a generator beside the records of a store; the arguments of `assess`."""
    config, centers = generator.config, recipe.centers
    if centers[-1] > 0.5 * config.rate:
        raise ConfigError(
            f"Records of {config.rate:g} samples a second hold frequencies up to {config.rate / 2:g} Hz; compared are "
            f"those up to {float(centers[-1]):g}: set frequencies."
        )
    motion = _motion(store)
    true, conditions = _true(store, motion, recipe, config.num_samples, config.rate, "true")
    row = torch.stack([conditions[name] for name in generator.signature.coefficients], dim=1)
    amplitudes = amplitudes_for(generator, row.float(), seed=recipe.seed)
    about: dict[str, Any] = {"num_iterations": recipe.iterations, "seed": recipe.seed}
    made = inverted(amplitudes, config.frames, config.num_samples, **about)
    convergence = float(spectral_convergence(made, amplitudes, config.frames).median())
    names, regressors = _regressors(generator, conditions)
    spectra = [smoothed_spectra(own, config.rate, centers, recipe.bandwidth) for own in (true, made)]
    scalings = [regressed(own.log(), regressors) for own in spectra]
    levels = [config.frames.levels(own, config.noise) for own in (true, made)]
    asked = recipe.discriminator_steps
    about = {"num_steps": asked, "seed": recipe.seed}
    again, itself, score_itself = None, None, None
    if motion is not None:
        again = _again(motion, conditions, recipe)
        other = smoothed_spectra(again, config.rate, centers, recipe.bandwidth)
        itself = likeness(spectra[0], scalings[0], other, regressed(other.log(), regressors))
        if asked:
            score_itself = discriminative_score(levels[0], config.frames.levels(again, config.noise), **about)
    return Compared(
        centers, conditions, names, true, made, config.rate, (levels[0], levels[1]),
        (config.rate / 2, config.grid.extent[0]), (spectra[0], spectra[1]),
        None if motion is None else smoothed_medians(motion, conditions, centers, recipe.bandwidth),
        (scalings[0], scalings[1]), likeness(spectra[0], scalings[0], spectra[1], scalings[1]), itself,
        discriminative_score(levels[0], levels[1], **about) if asked else None, score_itself, convergence,
        tuple(generator.outside(generator.asked(row.float()))),
    )  # fmt: skip


def likeness(true: Tensor, scaling: Scaling, made: Tensor, other: Scaling) -> Likeness:
    """Return how spectra of made records ``(record, frequency)`` and their scaling compare with those of true ones."""
    return Likeness(
        (made.log() - true.log()).mean(dim=0) / math.log(10),
        other.coefficients[1:] / scaling.coefficients[1:] - 1,
        other.sigma / scaling.sigma - 1,
    )


def _motion(store: Store) -> StochasticMotion | None:
    """Return how the records of a store are drawn; None of real ones."""
    made = store.card.generation
    if made is None or made.system.get("name") != SYNTHETIC:
        return None
    settings = {name: value for name, value in made.system.items() if name not in ("name", "records_per_event")}
    return build_config(StochasticMotion, settings, source=f"the card of '{store.path}'")


def _true(
    store: Store, motion: StochasticMotion | None, recipe: AssessRecipe, num_samples: int, rate: float, what: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return true records and their conditions, float64."""
    points = store.grid.num_points
    if points != (num_samples,) or not math.isclose(rate_of(store.grid), rate, rel_tol=1e-6):
        raise DataError(
            f"The generator makes records of {num_samples} samples at {rate:g} Hz; those of '{store.path}' have "
            f"{points[0]} at {rate_of(store.grid):g} Hz. Give a store of the same."
        )
    if motion is not None:
        count = math.ceil(recipe.num_records / _RECORDS_PER_EVENT)
        drawn = motion.draw(count, _RECORDS_PER_EVENT, generator_for(recipe.seed, "assess", what))
        rows = slice(0, recipe.num_records)
        return drawn.velocity[rows], {"magnitude": drawn.magnitude[rows], "distance": drawn.distance[rows]}
    held = store.split(recipe.split).some(recipe.num_records)
    conditions = {name: held.coefficient(name).double() for name in held.signature.coefficients}
    return held.field(VELOCITY)[:, 0].double(), conditions


def _again(motion: StochasticMotion, conditions: dict[str, Tensor], recipe: AssessRecipe) -> Tensor:
    """Return other true records of the same conditions."""
    generator = generator_for(recipe.seed, "assess", "again")
    count = len(conditions["magnitude"])
    events = -(-count // _RECORDS_PER_EVENT)
    between = torch.randn(events, generator=generator, dtype=torch.float64).repeat_interleave(_RECORDS_PER_EVENT)
    within = torch.randn(count, generator=generator, dtype=torch.float64)
    term = motion.between * between[:count] + motion.within * within
    shaken = motion.shaken(conditions["magnitude"], conditions["distance"], generator) * term.exp()[:, None]
    return shaken + motion.noise * torch.randn(shaken.shape, generator=generator, dtype=torch.float64)


def _regressors(generator: MotionGenerator, conditions: dict[str, Tensor]) -> tuple[tuple[str, ...], Tensor]:
    """Return the conditions as spectra are regressed on them: by their logarithms where the generator takes those."""
    names, columns = [], []
    floors = generator.normalization.coefficient_floor
    for name, floor in zip(generator.signature.coefficients, floors, strict=True):
        names.append(f"ln {name}" if floor else name)
        columns.append(conditions[name].log() if floor else conditions[name])
    return tuple(names), torch.stack(columns, dim=1)
