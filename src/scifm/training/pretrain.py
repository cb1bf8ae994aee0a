"""Pre-training: recipe in, run folder out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from scifm.config import Config, build_config, read_recipe, refuse_idle
from scifm.data.equations import equations_of
from scifm.data.normalize import fit_normalization
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.partly_solved import PartlySolved, source_of, unsolved_samples
from scifm.data.reconstruction import reconstructing
from scifm.data.resolving import resolve_origin
from scifm.data.run_origin import provenance_of
from scifm.data.store import Store, require_signature
from scifm.data.stream import BatchSource
from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.holding import Holding, Holds
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization, NormalizationKind
from scifm.fields.seeds import DrawingFrom, generator_for, lent_to_torch
from scifm.fields.window import WINDOW_SETTINGS, Window, is_one_time
from scifm.models.ensemble import MOST_MEMBERS, EnsembleConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import DEFAULT_KIND, operator_class, settings_of
from scifm.runs import Run
from scifm.systems.catalog import find_system
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
        num_members, num_heads: make an ensemble of so many such networks, each with so many heads; absent: one of one.
        dropout: share of the hidden channels that each of the heads does not see; absent: each has a last map of its
            own instead.
        hold: what answers hold exactly, from the first step of training on; see ``scifm.fields.holding.Holds``.
    """

    kind: str = DEFAULT_KIND
    size: str | None = None
    network: SerializeAsAny[OperatorConfig] | None = None
    normalization: NormalizationKind = "homogeneous"
    num_members: int | None = Field(None, ge=1, le=MOST_MEMBERS)
    num_heads: int | None = Field(None, ge=1, le=MOST_MEMBERS)
    dropout: float | None = Field(None, gt=0, lt=1)
    hold: Holds | None = None

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
        if self.hold is not None and self.network is not None and self.network.holds is not None:
            raise ValueError("give hold in one place, model.hold or the settings of the network, not both")
        if self.network is None and not sizes:
            raise ValueError(f"kind '{self.kind}' needs its settings: give [model.network]")
        return self

    def resolve(self) -> OperatorConfig:
        """Return the complete architecture.

        Raises:
            ConfigError: if the size is unknown.
        """
        own = self.network or operator_class(self.kind).config_class.of_size(self.size or "small")
        own = own if self.hold is None else own.holding(self.hold)
        several = {"num_members": self.num_members, "num_heads": self.num_heads, "dropout": self.dropout}
        if all(value is None for value in several.values()):
            return own
        several |= {"num_members": self.num_members or 1, "num_heads": self.num_heads or 1}
        return build_config(EnsembleConfig, {"member": own, **several}, source="[model]")

    def resolved(self, network: OperatorConfig) -> ModelConfig:
        """Return the same with its complete architecture in place of what said it."""
        said = dict.fromkeys(("size", "num_members", "num_heads", "dropout", "hold"))
        return self.model_copy(update={"kind": network.kind, "network": network, **said})


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
        held_out: names of systems that it must not see, so that it can be moved to them later as to new ones: a member
            that is one of them, or a store that was generated by one, is refused. Absent: none.
    """

    name: str = "pretrain"
    seed: int = 0
    held_out: tuple[str, ...] | None = None
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
        about: dict[str, bool] = {"drawn_alone": self.system is not None, "evolves": evolves}
        self.data.check(**about, mixes_stores=any(entry.store is not None for entry in self.mixture))
        made = operator_class(self.model.resolve().kind)
        self.training.objective.require_operator(made)
        if made.knows_one_problem and (self.system is None or self.data.num_samples != 1):
            raise ConfigError(
                f"An operator of kind '{self.model.kind}' knows one problem: give a [system], set data.num_samples = 1 "
                f"(it is {self.data.num_samples}), and data.horizon to as many frames as it is to know."
            )
        self._require_teachers()
        if self.data.stream_blocks > self.training.batch_size:
            raise ConfigError(
                f"data.stream_blocks = {self.data.stream_blocks} is more than training.batch_size = "
                f"{self.training.batch_size}, and a block holds at least one sample of a step. Lower it."
            )
        for name in self.held_out or ():
            find_system(name)
        if self.training.objective.reconstructs:
            why = f"training.objective = '{self.training.objective.name}' takes every frame by itself"
            refuse_idle(self.data, WINDOW_SETTINGS, why, prefix="data.")
        if len(self.mixture) == 1:
            refuse_idle(self.mixture[0], ("weight", "loss_weight"), "it weighs members of a mixture, and there is one")

    def _require_teachers(self) -> None:
        """Check that the objective has use for samples with solutions, or without, where there are such."""
        objective, data = self.training.objective, self.data
        if data.num_solved is None:
            return
        if objective.reconstructs or not (objective.needs_solutions or data.num_solved == 0):
            refuse_idle(data, ("num_solved",), f"objective '{objective.name}' reads no solution", prefix="data.")
        if objective.needs_solutions and data.num_solved == 0:
            raise ConfigError(
                f"data.num_solved = 0: the objective '{objective.name}' learns from solutions. Choose "
                "training.objective = 'residual', which reads none, or give it some."
            )
        if data.num_solved != data.num_samples and not objective.teaches_unsolved:
            raise ConfigError(
                f"data.num_solved = {data.num_solved} leaves samples without solutions, from which the objective "
                f"'{objective.name}' learns nothing: give it a residual (objective = {{ name = '{objective.name}', "
                f"residual = 1.0 }}), or lower data.num_samples to {data.num_solved}."
            )

    def require_unseen(self, origin: Origin) -> None:
        """Check that nothing is trained on that is held out.

        Raises:
            ConfigError: if a system that is held out draws samples of the origin, or made a store of it.
        """
        if seen := [name for name in self.held_out or () if name in origin.systems]:
            raise ConfigError(f"held_out names '{seen[0]}', and the recipe trains on it. Take it out of one.")

    @property
    def origin(self) -> Origin:
        """Where samples come from.

        Raises:
            ConfigError: if a range is not valid.
            StoreError, DataError: if a store cannot be read.
        """
        return self.seen(resolve_origin(self.data, system=self.system, mixture=self.mixture))

    def seen(self, origin: Origin) -> Origin:
        """Return an origin as the objective wants its samples: with solutions, or the whole inputs alone.

        Raises:
            ConfigError: if the objective cannot be asked of samples on its grid, or there are no solutions to learn.
        """
        objective = self.training.objective
        objective.require_grid(origin.grid)
        if operator_class(self.model.resolve().kind).knows_one_problem and isinstance(origin, SystemOrigin):
            origin = replace(origin, problem=self.seed)
        objective.require_systems(origin.systems, origin.grid)
        if objective.reconstructs:
            return reconstructing(origin, objective.hiding)
        require_solutions(origin.signature, origin.name)
        return origin

    @classmethod
    def read(cls, recipe: str | Path | Mapping[str, Any], *, overrides: Iterable[str] = ()) -> PretrainRecipe:
        """Return a recipe from a TOML file or a tree, with ``a.b=c`` overrides.

        Raises:
            ConfigError: if it is missing, malformed, or holds unknown keys.
        """
        return read_recipe(cls, recipe, "pretrain", overrides=overrides)


def require_solutions(signature: Signature, name: str) -> None:
    """Refuse samples that have nothing to answer.

    Raises:
        ConfigError: says what can be learned of them.
    """
    if not signature.outputs:
        raise ConfigError(
            f"The samples of {name} are inputs alone, {', '.join(signature.inputs)}, without solutions to learn. What "
            "can be learned of them are the inputs themselves: training.objective = 'masked' of scifm pretrain."
        )


def settled(
    network: OperatorConfig,
    signature: Signature,
    grid: Grid,
    *,
    window: Window,
    lead_times: tuple[float, float] | None,
    homogeneities: tuple[Homogeneity, ...],
    origin: Mapping[str, Any],
) -> OperatorConfig:
    """Return an architecture with what it left to the first data settled: names, grid, window and times of these.

    Args:
        origin: what the data say of where they are from: their systems have the equations that terms are of.

    Raises:
        ConfigError: if such an operator cannot take the data.
    """
    network.require_names(signature)
    if network.holds is not None:
        Holding(network.holds, signature, grid)  # says what cannot hold before anything is spent
    if network.wants_terms:
        network = network.knowing(equations_of(origin, known=network.equations_known), signature=signature)
    if not signature.evolves:
        return network.on(grid)
    duration = None if lead_times is None else window.horizon * lead_times[1]
    network = network.lasting(duration)
    scalings = network.scalings(homogeneities)
    differs = lead_times is not None and (
        not is_one_time(lead_times) or any(scaling.exponent("lead_time") for scaling in scalings)
    )
    return network.on(grid, history=window.history, lead_time=differs)


def require_same_terms(network: OperatorConfig, origin: Origin) -> None:
    """Refuse equations that say other terms of a system than it says itself.

    Raises:
        ConfigError: names the system.
    """
    said = network.equations_known
    declared = equations_of(origin.describe(), known=said) if said else {}
    if odd := [name for name in said if declared.get(name, said[name]) != said[name]]:
        raise ConfigError(
            f"model.network.equations says other terms of '{odd[0]}' than the system itself, "
            f"{' '.join(term.told for term in declared[odd[0]])}. Leave it out: they are taken from there."
        )


def settled_on(origin: Origin, network: OperatorConfig) -> OperatorConfig:
    """Return an architecture settled by the samples of an origin, see `settled`."""
    return settled(
        network,
        origin.signature,
        origin.grid,
        window=origin.window,
        lead_times=origin.lead_times,
        homogeneities=origin.homogeneities,
        origin=origin.describe(),
    )


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
    reconstructs = recipe.training.objective.reconstructs
    if store is not None:
        if recipe.system is not None:
            wanted = recipe.system.build().signature
            require_signature(store.signature, replace(wanted, outputs=()) if reconstructs else wanted)
        data = recipe.data.at(str(store.path), store.mapping)
        recipe = recipe.model_copy(update={"system": None, "mixture": (), "data": data})
    recipe.check()
    require_loggers(recipe.training.loggers)
    origin = recipe.origin if store is None else recipe.seen(StoreOrigin(store, recipe.data.window))
    recipe.require_unseen(origin)
    network = recipe.model.resolve()
    network.require_known()
    require_same_terms(network, origin)
    network = settled_on(origin, network)
    recipe = recipe.model_copy(update={"model": recipe.model.resolved(network)})
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
    fitting = fitting_samples(recipe, origin, source)
    validation = origin.validation(data.num_validation_samples, seed)
    scalings = recipe.model.resolve().scalings(origin.homogeneities)
    normalization = fit_normalization(fitting, scalings, kind=recipe.model.normalization)
    operator = build_operator(source.signature, recipe.model.resolve(), normalization, seed=seed)
    # that some were not solved is no gap in them
    known = fitting if data.num_solved is None else fitting.with_targets(None)
    domain = Domain.of(known, normalization, lead_times=source.lead_times, forms=fitting.forms)
    operator.domain = replace(domain, meanings=origin.meanings)
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
    counts: dict[str, int | None] = {"num_samples": data.num_samples, "num_solved": data.num_solved}
    if not recipe.training.objective.needs_solutions:
        counts["num_solved"] = 0
    return source_of(origin, recipe.training.batch_size, recipe.seed, blocks=data.stream_blocks, **counts)


def fitting_samples(recipe: PretrainRecipe, origin: Origin, source: BatchSource) -> Batch:
    """Return what a normalization is fitted on: solved samples, or those that are solved of those to train on, or none.

    Where no solution is read to train, none is read for this either: the objective says how large they may be.
    """
    count, objective = recipe.data.num_normalization_samples, recipe.training.objective
    if isinstance(source, PartlySolved):
        return source.some(count)
    if objective.needs_solutions or origin.is_one_problem:  # which has no use for constants
        return origin.fitting(count, recipe.seed)
    return objective.stand_ins(unsolved_samples(origin, count, recipe.seed).some(count))
