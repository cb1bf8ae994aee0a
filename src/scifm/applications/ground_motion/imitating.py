"""`imitate`: train a generator of records on a store of them; a run as any other, resumed by the same call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scifm.applications.ground_motion.elbo import EvidenceBound
from scifm.applications.ground_motion.making import EVENT, VELOCITY, rate_of
from scifm.applications.ground_motion.network import MotionConfig, MotionGenerator
from scifm.applications.ground_motion.spectrograms import Frames
from scifm.config import Config, refuse_idle
from scifm.data.origins import StoreOrigin
from scifm.data.run_origin import provenance_of
from scifm.data.store import Store
from scifm.data.stream import Epochs
from scifm.errors import ConfigError, SignatureError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import DrawingFrom, generator_for
from scifm.fields.window import Window
from scifm.runs import Run
from scifm.training.checkpoint import Checkpoint
from scifm.training.loggers import require_loggers
from scifm.training.loop import Observer, TrainingConfig, train
from scifm.training.recording import recording

__all__ = ["ImitateRecipe", "imitate", "spectrograms_of"]

_SETTLED = ("num_samples", "rate", "noise")
_UNUSED = ("objective", "validation_metric", "patience", "micro_batches", "recompute")
_LEAST = 1e-6  # of a condition that counts by its logarithm: less is taken for this


class ImitateRecipe(Config):
    """How a generator is trained.

    Args:
        store: folder of a store of records.
        name: first part of the run folder's name.
        conditions: coefficients of the store that a record is asked for by; absent: all but the event's number.
        logarithms: those of them that count by their logarithm.
        network: the generator; what it has to know of records is settled by the store.
        beta: weight of the divergence, see `EvidenceBound`.
        warmup_fraction: share of the steps in which it rises from zero.
        training: how to train. Nothing stops it early: what is made small is no error.
        seed: of weights, order and draws.
    """

    store: str
    name: str = "imitate"
    conditions: tuple[str, ...] | None = None
    logarithms: tuple[str, ...] = ("distance",)
    network: MotionConfig = MotionConfig()
    beta: float = Field(1.0, gt=0, allow_inf_nan=False)
    warmup_fraction: float = Field(0.2, ge=0, lt=1)
    training: TrainingConfig = TrainingConfig(
        num_steps=1500, batch_size=32, learning_rate=2e-3, gradient_clip=1.0, validate_every=250
    )
    seed: int = 0

    @model_validator(mode="after")
    def _every_setting_counts(self) -> ImitateRecipe:
        why = "a generator is trained by its own bound, in one piece and to the end"
        refuse_idle(self.training, _UNUSED, why, prefix="training.")
        refuse_idle(self.network, _SETTLED, "the store says it", prefix="network.")
        refuse_idle(self.network, ("hold",), "spectrograms hold no equation", prefix="network.")
        return self

    @property
    def objective(self) -> EvidenceBound:
        """What is made small."""
        return EvidenceBound(beta=self.beta, warmup=round(self.warmup_fraction * self.training.num_steps))


def imitate(recipe: ImitateRecipe, *, out: str | Path = "runs", observe: Observer | None = None) -> Run:
    """Train a generator, or go on where an interrupted training of the same recipe stopped.

    Args:
        recipe: what to train, on which records.
        out: folder that holds run folders.
        observe: called with every event, for progress; beside those of a training, ``bound`` on validation records.

    Returns:
        The run folder, complete.

    Raises:
        ConfigError: if the recipe does not fit the store.
        DataError: if noise cannot be measured on the records.
        DivergedError: if the loss is not finite.
        RunError: if the folder is in use or cannot be written.
        SignatureError: if the store holds no records.
        StoreError: if it cannot be read.
    """
    require_loggers(recipe.training.loggers)
    store = Store.open(recipe.store)
    conditions = _conditions(store, recipe)
    recipe = recipe.model_copy(update={"conditions": conditions})
    record = {"kind": "imitate", **recipe.to_record(), "origin": StoreOrigin(store, Window()).describe()}
    run = Run.prepare(out, recipe.name, record)
    with run.locked():
        if not run.is_complete:
            _train(run, recipe, store, observe)
    return run


def _conditions(store: Store, recipe: ImitateRecipe) -> tuple[str, ...]:
    """Return the names of the conditions; refuses a store of something else."""
    names = store.signature
    if names.inputs != (VELOCITY,) or EVENT not in names.coefficients or names.num_spatial_dims != 1:
        raise SignatureError(
            f"'{store.path}' holds no records: a store that 'scifm records' made has the input '{VELOCITY}' along its "
            f"time and the coefficient '{EVENT}'; this one has {names.inputs} and {names.coefficients}."
        )
    offered = tuple(name for name in names.coefficients if name != EVENT)
    chosen = offered if recipe.conditions is None else recipe.conditions
    if not chosen:
        raise ConfigError("A generator is asked by conditions: name one at least.")
    for name in chosen:
        if name not in offered:
            raise ConfigError(f"Condition {suggest(name, offered)}")
    return chosen


def spectrograms_of(records: Batch, config: MotionConfig, conditions: tuple[str, ...]) -> Batch:
    """Return records as a generator is trained on them: ln amplitudes in the plane (time, frequency)."""
    velocity = records.field(VELOCITY)[:, 0]
    levels = config.frames.levels(velocity, config.noise).float()
    told = torch.stack([records.coefficient(name) for name in conditions], dim=1)
    return Batch(_signature(conditions), config.grid, levels[:, None, None], told.float())


def _signature(conditions: tuple[str, ...]) -> Signature:
    return Signature(("log_amplitude",), conditions, ("level",), 2)


def _normalization(coefficients: Tensor, conditions: tuple[str, ...], recipe: ImitateRecipe) -> Normalization:
    """Return mean and standard deviation of each condition, or of its logarithm, over the training records."""
    floors = tuple(_LEAST if name in recipe.logarithms else 0.0 for name in conditions)
    for name, floor, values in zip(conditions, floors, coefficients.T, strict=True):
        if floor and not bool((values > 0).all()):
            raise ConfigError(
                f"'{name}' counts by its logarithm, and records have {float(values.min()):g}: take it out."
            )
    columns = [v.double().log() if floor else v.double() for v, floor in zip(coefficients.T, floors, strict=True)]
    for name, column in zip(conditions, columns, strict=True):
        if not float(column.std()) > 0:
            raise ConfigError(f"All training records have the same '{name}': leave it out of the conditions.")
    shift, scale = (tuple(float(getattr(column, of)()) for column in columns) for of in ("mean", "std"))
    return Normalization(
        (), (), (0.0,), (1.0,), shift, scale, (0.0,), (1.0,), kind="constant", coefficient_floor=floors
    )  # fmt: skip


def _settled(recipe: ImitateRecipe, store: Store, velocity: Tensor) -> MotionConfig:
    frames: Frames = recipe.network.frames
    rate = rate_of(store.grid)
    about: dict[str, Any] = {"num_samples": velocity.shape[1], "rate": rate}
    return recipe.network.model_copy(update={**about, "noise": frames.noise_level(velocity, rate)})


def _train(run: Run, recipe: ImitateRecipe, store: Store, observe: Observer | None) -> None:
    conditions = recipe.conditions
    assert conditions is not None
    records = store.split("train").load()
    config = _settled(recipe, store, records.field(VELOCITY)[:, 0])
    samples = spectrograms_of(records, config, conditions)
    normalization = _normalization(samples.coefficients, conditions, recipe)
    with DrawingFrom(generator_for(recipe.seed, "weights")):
        generator = MotionGenerator(samples.signature, config, normalization=normalization)
    generator.know_levels(samples)
    domain = Domain.of(samples, normalization)
    ranges = {name: own for name, own in domain.encoded.items() if name in conditions}
    generator.domain = replace(domain, sizes={}, encoded=ranges)  # how strong a record is, nobody is asked by
    held = spectrograms_of(store.split("valid").load(), config, conditions) if "valid" in store.splits else None
    run.set_status("running")
    objective = recipe.objective
    objective.require_operator(type(generator))
    training = recipe.training.model_copy(update={"objective": objective, "loggers": ()})
    source = Epochs(samples, batch_size=training.batch_size, seed=recipe.seed)
    with recording(run, observe, recipe.training.loggers) as note:
        watched = note if held is None else _watching(note, generator, held, recipe)
        train(
            generator, source, config=training, checkpoint=Checkpoint(run.path / "state"), observe=watched,
            seed=recipe.seed,
        )  # fmt: skip
    generator.provenance = provenance_of(run)
    generator.save_pretrained(run.path / "model")
    run.set_status("complete")


def _watching(note: Observer, generator: MotionGenerator, held: Batch, recipe: ImitateRecipe) -> Observer:
    """Return an observer that also notes the bound on records that are held out, from time to time."""
    every, last = recipe.training.validate_every, recipe.training.num_steps

    def tell(**event: Any) -> None:
        if event["event"] == "step" and (event["step"] % every == 0 or event["step"] == last):
            device, dtype = generator.home
            draw = generator_for(recipe.seed, "bound", device=device)
            with torch.no_grad():
                parts = generator.bound(held.to(device, dtype), draw)
            frames, frequencies = held.grid.num_points
            told = {"misfit": parts.misfit, "divergence": parts.divergence}
            numbers = {name: float(own.mean()) / (frames * frequencies) for name, own in told.items()}
            note(event="bound", step=event["step"], **numbers)
        note(**event)

    return tell
