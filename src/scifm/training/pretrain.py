"""Pre-training: recipe in, run folder out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import SerializeAsAny, ValidationInfo, field_validator, model_validator

from scifm.config import Config, read_recipe, refuse_idle
from scifm.data.normalize import fit_normalization
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import Origin, StoreOrigin
from scifm.data.resolving import resolve_origin
from scifm.data.run_origin import provenance_of
from scifm.data.store import Store, require_signature
from scifm.data.stream import BatchSource
from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import DrawingFrom, generator_for, lent_to_torch
from scifm.fields.window import Window, is_one_time
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import DEFAULT_KIND, operator_class, settings_of
from scifm.runs import Run
from scifm.training.checkpoint import Checkpoint
from scifm.training.loggers import require_loggers
from scifm.training.loop import Observer, TrainingConfig, silent, train
from scifm.training.processes import World, joined, world_from
from scifm.training.recording import recording

__all__ = ["ModelConfig", "PretrainRecipe", "build_operator", "pretrain", "training_source"]


class ModelConfig(Config):
    """The operator: one dial of size, or every setting.

    Args:
        kind: a name of ``scifm.models.OPERATORS``; taken from `network` where that is a configuration already.
        size: a name of ``scifm.models.SIZES``, for a kind that has sizes.
        network: settings of that kind, instead of `size`.
        normalization: how numbers are brought to order one; see ``scifm.data.fit_normalization``.
    """

    kind: str = DEFAULT_KIND
    size: str | None = None
    network: SerializeAsAny[OperatorConfig] | None = None
    normalization: Literal["homogeneous", "joint", "constant"] = "homogeneous"

    @model_validator(mode="before")
    @classmethod
    def _kind_of_settings(cls, value: Any) -> Any:
        if isinstance(value, dict) and "kind" not in value and isinstance(value.get("network"), OperatorConfig):
            return {**value, "kind": value["network"].kind}
        return value

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        operator_class(value)
        return value

    @field_validator("network", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or "kind" not in info.data:  # a kind nobody knows is told alone
            return None
        return settings_of(info.data["kind"], value)

    @model_validator(mode="after")
    def _one_of_two(self) -> ModelConfig:
        sizes = operator_class(self.kind).config_class.sizes
        if self.size is not None and not sizes:
            raise ValueError(f"a '{self.kind}' comes in no sizes; say what it is in model.network")
        if self.size is not None and self.size not in sizes:
            raise ValueError(f"size {suggest(self.size, sizes)}")
        if self.size is not None and self.network is not None:
            raise ValueError("give either size or network, not both")
        if self.network is None and not sizes:
            raise ValueError(f"kind '{self.kind}' needs its settings: give [model.network]")
        return self

    def resolve(self) -> OperatorConfig:
        """Return the complete architecture.

        Raises:
            ConfigError: if the size is unknown.
        """
        return self.network or operator_class(self.kind).config_class.of_size(self.size or "small")


class PretrainRecipe(Config):
    """Everything a pre-training needs.

    Args:
        name: first part of the run folder's name.
        seed: of weights, samples and order.
        system: what to sample; absent when ``data.store`` names a store or a mixture is given.
        mixture: several systems and stores to train on together, over the union of their names.
        data: grid, store, numbers of samples.
        model: the operator.
        training: how to train.
    """

    name: str = "pretrain"
    seed: int = 0
    system: SystemConfig | None = None
    mixture: tuple[MixtureConfig, ...] = ()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    def check(self) -> None:
        """Check that the recipe says where samples come from, and that every setting has an effect.

        Raises:
            ConfigError: if it does not add up.
        """
        if [self.system is not None, bool(self.mixture), self.data.store is not None].count(True) != 1:
            raise ConfigError(
                "A recipe needs exactly one of these: a [system] to sample, a [[mixture]] table for each of several "
                "systems and stores, or data.store, the folder of a store."
            )
        drawn = [entry for entry in (self.system, *self.mixture) if entry is not None and entry.name]
        evolves = any(entry.build().signature.evolves for entry in drawn)
        self.data.check(mixes_stores=any(entry.store is not None for entry in self.mixture), evolves=evolves)
        if self.data.stream_blocks > self.training.batch_size:
            raise ConfigError(
                f"data.stream_blocks = {self.data.stream_blocks} is more than training.batch_size = "
                f"{self.training.batch_size}, and a block holds at least one sample of a step. Lower it."
            )
        if len(self.mixture) == 1:
            refuse_idle(self.mixture[0], ("weight", "loss_weight"), "it weighs members of a mixture, and there is one")

    @property
    def origin(self) -> Origin:
        """Where samples come from.

        Raises:
            ConfigError: if a range is not valid.
            StoreError, DataError: if a store cannot be read.
        """
        return resolve_origin(self.data, system=self.system, mixture=self.mixture)

    @classmethod
    def read(cls, recipe: str | Path | Mapping[str, Any], *, overrides: Iterable[str] = ()) -> PretrainRecipe:
        """Return a recipe from a TOML file or a tree, with ``a.b=c`` overrides.

        Raises:
            ConfigError: if it is missing, malformed, or holds unknown keys.
        """
        return read_recipe(cls, recipe, "pretrain", overrides=overrides)


def settled(
    network: OperatorConfig,
    signature: Signature,
    grid: Grid,
    *,
    window: Window,
    lead_times: tuple[float, float] | None,
    homogeneities: tuple[Homogeneity, ...],
) -> OperatorConfig:
    """Return an architecture with what it left to the first data settled: names, grid, window and times of these.

    Raises:
        ConfigError: if such an operator cannot take the data.
    """
    if not signature.evolves:
        return network.on(grid)
    differs = lead_times is not None and (
        not is_one_time(lead_times) or any(scaling.exponent("lead_time") for scaling in homogeneities)
    )
    return network.on(grid, history=window.history, lead_time=differs)


def build_operator(
    signature: Signature, config: OperatorConfig, normalization: Normalization, *, seed: int
) -> Operator:
    """Return a fresh operator of the kind that `config` belongs to.

    Its first weights depend on `seed` alone, whatever other threads of the library do; torch's global generator is left
    as it was. A network of someone else's has to draw them by torch, on the CPU.

    Raises:
        ConfigError: if the settings do not fit the signature.
    """
    cls, generator = operator_class(config.kind), generator_for(seed, "weights")
    with lent_to_torch([generator]) if cls.uses_global_generator else DrawingFrom(generator), torch.device("cpu"):
        return cls(signature, config, normalization=normalization)


def pretrain(
    recipe: PretrainRecipe | str | Path | Mapping[str, Any],
    *,
    store: Store | None = None,
    out: str | Path = "runs",
    observe: Observer | None = None,
) -> Run:
    """Pre-train an operator, or go on where an interrupted run of the same recipe stopped.

    Args:
        recipe: a recipe, its TOML file, or a tree of settings.
        store: data to train on, instead of fresh samples of the recipe's system on its grid; it must offer the same
            names. A store of our own, or foreign data opened where they lie.
        out: folder that holds run folders.
        observe: called with every event, for progress.

    Returns:
        The run folder, complete: ``run.path / "model"`` holds the operator. Started by torchrun or srun, all processes
        train together and the first one writes.

    Raises:
        ConfigError: if the recipe does not add up, or a logger needs a package that is not installed.
        RunError: if the folder is in use or cannot be written.
        SignatureError: if the store lacks names of the recipe's system.
        StoreError, DataError: if the store cannot be read.
    """
    if not isinstance(recipe, PretrainRecipe):
        recipe = PretrainRecipe.read(recipe)
    if store is not None:
        if recipe.system is not None:
            require_signature(store.signature, recipe.system.build().signature)
        data = recipe.data.at(str(store.path), store.mapping)
        recipe = recipe.model_copy(update={"system": None, "mixture": (), "data": data})
    recipe.check()
    require_loggers(recipe.training.loggers)
    origin = recipe.origin if store is None else StoreOrigin(store, recipe.data.window)
    network = recipe.model.resolve()
    network.require_known()
    network = settled(
        network,
        origin.signature,
        origin.grid,
        window=origin.window,
        lead_times=origin.lead_times,
        homogeneities=origin.homogeneities,
    )
    model = recipe.model.model_copy(update={"network": network, "size": None})
    recipe = recipe.model_copy(update={"model": model})
    # what the samples are enters the name of the folder: other data at the same place are another run
    record = {"kind": "pretrain", **recipe.to_record(), "origin": origin.describe()}
    with joined(world_from(), recipe.training.accelerator) as world:
        run = Run.prepare(out, recipe.name, record) if world.is_first else None
        world.wait()
        run = run or Run.find(out, recipe.name, record)
        with run.locked() if world.is_first else nullcontext():
            world.wait()
            if not run.is_complete:
                _train_run(run, recipe, origin, observe, world)
            world.wait()
    return run


def _train_run(run: Run, recipe: PretrainRecipe, origin: Origin, observe: Observer | None, world: World) -> None:
    data, seed, source = recipe.data, recipe.seed, training_source(recipe, origin)
    fitting = origin.fitting(data.num_normalization_samples, seed)
    validation = origin.validation(data.num_validation_samples, seed)
    normalization = fit_normalization(fitting, origin.homogeneities, kind=recipe.model.normalization)
    operator = build_operator(source.signature, recipe.model.resolve(), normalization, seed=seed)
    domain = Domain.of(fitting, normalization, lead_times=source.lead_times, forms=fitting.forms)
    told = origin.store.card.meanings if isinstance(origin, StoreOrigin) else {}
    operator.domain = replace(domain, meanings=told)
    world.wait()  # every process has seen the status of before

    if world.is_first:
        run.set_status("running")
    noting = recording(run, observe, recipe.training.loggers) if world.is_first else nullcontext(silent)
    with noting as note:
        train(
            operator,
            source,
            config=recipe.training.model_copy(update={"loggers": ()}),
            validation=validation,
            checkpoint=Checkpoint(run.path / "state", world),
            observe=note,
            world=world,
            seed=seed,
        )
    if world.is_first:
        operator.provenance = provenance_of(run)
        operator.save_pretrained(run.path / "model")
        run.set_status("complete")


def training_source(recipe: PretrainRecipe, origin: Origin | None = None) -> BatchSource:
    """Return the batches a recipe trains on, step by step.

    Args:
        origin: where samples come from; what the recipe says when left out.

    Raises:
        ConfigError: if a range is not valid.
        StoreError, DataError: if the store cannot be read.
    """
    data = recipe.data
    origin = recipe.origin if origin is None else origin
    return origin.stream(
        recipe.training.batch_size, recipe.seed, num_samples=data.num_samples, blocks=data.stream_blocks
    )
