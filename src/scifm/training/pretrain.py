"""Pre-training: recipe in, run folder out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from scifm.config import Config, read_recipe, refuse_idle
from scifm.data.mixture import MixtureStream, joined_homogeneities, joined_signature
from scifm.data.normalize import fit_normalization
from scifm.data.store import Store, require_signature
from scifm.data.stream import BatchSource, Epochs, Stream
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import DrawingFrom, generator_for, lent_to_torch
from scifm.models.hub import save_operator
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import operator_class
from scifm.runs import Run
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.loop import Observer, TrainingConfig, train
from scifm.training.processes import World, run_together
from scifm.training.recipe import DataConfig, MixtureConfig, ModelConfig, SystemConfig

__all__ = ["PretrainRecipe", "build_operator", "pretrain", "recorded", "training_source"]


class PretrainRecipe(Config):
    """Everything a pre-training needs.

    Args:
        name: first part of the run folder's name.
        seed: of weights, samples and order.
        system: what to sample; absent when ``data.store`` names a store or a mixture is given.
        mixture: several systems to sample together, over the union of their names.
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
                "systems, or data.store, the folder of a store."
            )
        self.data.check()
        if self.data.stream_blocks > self.training.batch_size:
            raise ConfigError(
                f"data.stream_blocks = {self.data.stream_blocks} is more than training.batch_size = "
                f"{self.training.batch_size}, and a block holds at least one sample of a step. Lower it."
            )
        if len(self.mixture) == 1:
            refuse_idle(self.mixture[0], ("weight", "loss_weight"), "it weighs systems of a mixture, and there is one")

    @classmethod
    def read(cls, recipe: str | Path | Mapping[str, Any], *, overrides: Iterable[str] = ()) -> PretrainRecipe:
        """Return a recipe from a TOML file or a tree, with ``a.b=c`` overrides.

        Raises:
            ConfigError: if it is missing, malformed, or holds unknown keys.
        """
        return read_recipe(cls, recipe, "pretrain", overrides=overrides)


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
        ConfigError: if the recipe does not add up.
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
    recipe = recipe.model_copy(update={"model": _resolved(recipe)})
    with run_together(recipe.training.accelerator) as world:
        run = Run.prepare(out, recipe.name, recipe.to_dict()) if world.is_first else None
        world.wait()
        run = run or Run.find(out, recipe.name, recipe.to_dict())
        with run.locked() if world.is_first else nullcontext():
            world.wait()
            if not run.is_complete:
                _train_run(run, recipe, observe, world)
            world.wait()
    return run


def _resolved(recipe: PretrainRecipe) -> ModelConfig:
    network = recipe.model.resolve()
    network.require_known()
    if recipe.data.store is not None:
        network = network.on(recipe.data.open_store().grid)
    return recipe.model.model_copy(update={"network": network, "size": None})


def _train_run(run: Run, recipe: PretrainRecipe, observe: Observer | None, world: World) -> None:
    source, fitting, validation, homogeneities = _data(recipe)
    normalization = fit_normalization(fitting, homogeneities, kind=recipe.model.normalization)
    operator = build_operator(source.signature, recipe.model.resolve(), normalization, seed=recipe.seed)
    operator.lead_times = source.samples.lead_times if isinstance(source, Epochs) else None  # fresh samples are steady
    world.wait()  # every process has seen the status of before

    def work(note: Observer) -> Position:
        return train(
            operator,
            source,
            config=recipe.training,
            validation=validation,
            checkpoint=Checkpoint(run.path / "state", world),
            observe=note,
            world=world,
            seed=recipe.seed,
        )

    if not world.is_first:
        work(_ignore)
        return
    run.set_status("running")
    recorded(run, work, observe)
    save_operator(operator, run.path / "model")
    run.set_status("complete")


def _ignore(**event: Any) -> None:
    pass


def recorded(run: Run, work: Callable[[Observer], Position], observe: Observer | None) -> Position:
    """Do some training with its events written to the run's log and passed on to `observe`.

    A resumed run first drops the log lines behind the state it resumes from, so that each occurs once.
    """

    def note(**event: Any) -> None:
        if event["event"] == "resumed":
            run.rewind(event["step"])
        elif event["event"] == "saving":
            run.flush_log()
            run.note_time()
        elif event["event"] != "step":
            run.log(**event)
        if observe is not None:
            observe(**event)

    return work(note)


def training_source(recipe: PretrainRecipe) -> BatchSource:
    """Return the batches a recipe trains on, step by step.

    Raises:
        ConfigError: if a range is not valid.
        StoreError, DataError: if the store cannot be read.
    """
    return _data(recipe)[0]


def _data(recipe: PretrainRecipe) -> tuple[BatchSource, Batch, Batch, tuple[Homogeneity, ...]]:
    """Return the source of training batches, samples to fit the normalization, samples to score, and homogeneities."""
    data, size, seed = recipe.data, recipe.training.batch_size, recipe.seed
    if data.store is not None:
        store = data.open_store()
        split = store.split("train", stride=data.stride)
        fitting = split.some(data.num_normalization_samples)
        validation = store.split("valid", stride=data.stride).some(data.num_validation_samples)
        return Epochs(split, batch_size=size, seed=seed), fitting, validation, store.homogeneities
    if recipe.mixture:
        return _mixed_data(recipe)
    assert recipe.system is not None
    system = recipe.system.build()
    grid = data.grid(system.signature.num_spatial_dims)

    def draw(purpose: str, count: int) -> Batch:
        return system.sample(count, grid, generator_for(seed, "pretrain", purpose))

    source: BatchSource = Stream(system, grid, batch_size=size, seed=seed, blocks=data.stream_blocks)
    if data.num_samples is not None:
        source = Epochs(draw("train", data.num_samples), batch_size=size, seed=seed)
    fitting, validation = (
        draw("normalization", data.num_normalization_samples),
        draw("valid", data.num_validation_samples),
    )
    return source, fitting, validation, system.homogeneities


def _mixed_data(recipe: PretrainRecipe) -> tuple[BatchSource, Batch, Batch, tuple[Homogeneity, ...]]:
    """Do the same for a mixture; the samples that fit and score are drawn of every system alike."""
    data, members = recipe.data, [entry.member() for entry in recipe.mixture]
    systems = [member.system for member in members]
    grid = data.grid(joined_signature(systems).num_spatial_dims)
    size, seed = recipe.training.batch_size, recipe.seed
    stream = MixtureStream(members, grid, batch_size=size, seed=seed, blocks=data.stream_blocks)
    source: BatchSource = stream
    if data.num_samples is not None:
        whole = MixtureStream(members, grid, batch_size=data.num_samples, seed=seed).batch(0)
        source = Epochs(whole, batch_size=size, seed=seed)
    fitting, validation = (
        stream.draw(-(-count // len(members)), purpose)
        for count, purpose in (
            (data.num_normalization_samples, "normalization"),
            (data.num_validation_samples, "valid"),
        )
    )
    return source, fitting, validation, joined_homogeneities(systems)
