"""What a transfer and scaling study does, as one short recipe.

Sources are pre-trainings, targets are tasks. Every source is moved to every target it knows all names of, at each
number of samples and with each seed; training from scratch on as many samples stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from scifm.config import Config, read_recipe, refuse_idle
from scifm.data.mixtures import MixtureOrigin
from scifm.data.origin_config import BOX_SETTINGS, DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import Origin, StoreOrigin
from scifm.data.reconstruction import reconstructing
from scifm.data.resolving import resolve_origin
from scifm.data.store import Store
from scifm.errors import ConfigError, suggest
from scifm.fields.grid import Grid
from scifm.fields.normalization import NormalizationKind
from scifm.fields.window import NEXT_FRAME, WINDOW_SETTINGS
from scifm.models.fno import SIZES
from scifm.objectives.named import NamedObjective
from scifm.studies.adapting import AdaptConfig
from scifm.studies.networks import StudyModel, architecture_names, first_of_each, with_models
from scifm.training.loop import TrainingConfig
from scifm.training.pretrain import PretrainRecipe
from scifm.wording import plural

__all__ = ["ConvergenceConfig", "ScalingConfig", "SourceConfig", "StudyRecipe", "TargetConfig"]

Counts = tuple[int, ...]


def _named(name: str) -> str:
    if not name or any(sign in name for sign in "/\\ @+") or name.startswith("."):
        raise ValueError(f"'{name}' must be a name that can be part of a file's: no slash, blank, + or @, no dot first")
    return name


class SourceConfig(Config):
    """A pre-training.

    Args:
        name: how tables and figures call it.
        systems: what it is pre-trained on; several are a mixture, of which some may be stores.
        store: folder of a store to pre-train on, instead of systems.
        sizes: names of networks, each pre-trained and moved; empty: those of the study.
        seeds: of separate pre-trainings; adaptations take them in turn. Empty: the study's.
        num_steps: optimizer steps; absent: the study's.
        objective: what its pre-training makes small; absent: the study's.
        targets: names of targets to move to; absent: all whose names it knows. One that is named may hold fields or
            coefficients that it does not know: it is given channels for them, and is not asked without an example.
        few_shot: numbers of samples to fine-tune on; absent: the study's.
        from_scratch: numbers of samples to train the same networks from scratch on, on the same targets; absent: the
            study's.
    """

    name: str
    systems: tuple[MixtureConfig, ...] = ()
    store: str | None = None
    sizes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    num_steps: int | None = Field(None, ge=1)
    objective: NamedObjective | None = None
    targets: tuple[str, ...] | None = None
    few_shot: Counts | None = None
    from_scratch: Counts | None = None

    _check_name = field_validator("name")(_named)

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if bool(self.systems) == (self.store is not None):
            raise ValueError("a source needs either systems or a store, the folder of one")
        return self

    @property
    def mixes_stores(self) -> bool:
        """Whether some member of its mixture is a store."""
        return any(entry.store is not None for entry in self.systems)


class TargetConfig(Config):
    """A task: a system with its own ranges, or a store.

    Args:
        name: how tables and figures call it.
        system: its system.
        store: folder of a store, instead of a system: subsets are taken from its training split, its test split scores.
    """

    name: str
    system: SystemConfig | None = None
    store: str | None = None

    _check_name = field_validator("name")(_named)

    @model_validator(mode="after")
    def _one_kind(self) -> TargetConfig:
        if (self.system is None) == (self.store is None):
            raise ValueError("a target needs either a system or a store, the folder of one")
        return self


class ScalingConfig(Config):
    """Pre-trainings of several sizes and lengths, scored and not moved: for the laws of scaling.

    Where the sizes are of several architectures, each has laws of its own.

    Args:
        source: name of the source whose systems are learned.
        sizes: names of networks.
        num_steps: optimizer steps, each with a schedule of its own; times the batch size: the samples seen. They are
            the same for every network.
        seeds: of pre-training; empty: the study's.
    """

    source: str
    sizes: tuple[str, ...] = Field(min_length=1)
    num_steps: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = ()


class ConvergenceConfig(Config):
    """Training from scratch as long as it helps, beside the equal budget: its best, whatever it costs.

    Steps are doubled beyond those of the others as long as the held-out error falls, see ``max_doublings`` of
    `AdaptRecipe`. Every source that is moved to the target is held to it.

    Args:
        targets: names of targets.
        num_samples: numbers of samples.
        max_doublings: how often the steps may be doubled.
    """

    targets: tuple[str, ...] = Field(min_length=1)
    num_samples: Counts = Field((1024,), min_length=1)
    max_doublings: int = Field(4, ge=1, le=20)


class StudyRecipe(Config):
    """A whole study.

    Args:
        title: heading of the report.
        seeds: each repeats every adaptation with other samples and other first weights.
        few_shot: numbers of downstream samples to fine-tune on.
        from_scratch: numbers of downstream samples to train from scratch on.
        sizes: names of networks, of `models` or sizes of our FNO: every source that names none is pre-trained, moved
            and compared in each of them. Left out: all `models`, ``small`` where there are none.
        models: networks under names of one's own, sizes and architectures alike: each says what ``[model]`` of a
            pre-training does. One that no `sizes` name is a definition and no more.
        normalization: of every network that does not say its own, see ``scifm.data.fit_normalization``.
        data: the grid, and how many samples are set aside in pre-training.
        training: how to pre-train.
        adapt: how to adapt.
        sources: the pre-trainings.
        targets: the tasks, of each system the mildest shift first.
        scaling: further pre-trainings for the laws of scaling.
        convergence: where training from scratch is also given its best budget.
        pool_size: downstream samples that subsets of a system are taken from; of a store it is the training split.
        num_test_samples: unseen samples for every score; of a store of trajectories as many whole ones, all of whose
            windows are scored.
        num_examples: test samples of the first task that the page shows as pictures; those of two dimensions with a
            forcing only.
        keep_weights: of ``all`` runs, or of the ``pretrained`` ones only; scores are always kept.
    """

    title: str = "Transfer study"
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    few_shot: Counts = (4, 16, 64, 256)
    from_scratch: Counts = (16, 64, 256, 1024)
    sizes: tuple[str, ...] = Field(("small",), min_length=1)
    models: dict[str, StudyModel] = Field(default_factory=dict)
    normalization: NormalizationKind = "homogeneous"
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig(num_steps=3000)
    adapt: AdaptConfig = AdaptConfig()
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    targets: tuple[TargetConfig, ...] = Field(min_length=1)
    scaling: ScalingConfig | None = None
    convergence: ConvergenceConfig | None = None
    pool_size: int = Field(1024, ge=2)
    num_test_samples: int = Field(256, ge=2)
    num_examples: int = Field(2, ge=0, le=8)
    keep_weights: Literal["all", "pretrained"] = "all"

    @classmethod
    def read(cls, recipe: str | Path | Mapping[str, Any], *, overrides: Iterable[str] = ()) -> StudyRecipe:
        """Return a recipe from a TOML file or a tree, with ``a.b=c`` overrides.

        Raises:
            ConfigError: if it is missing, malformed, holds unknown keys or does not add up.
        """
        result = read_recipe(cls, recipe, "study", overrides=overrides)
        with _about("the recipe" if isinstance(recipe, Mapping) else f"recipe '{recipe}'"):
            result.check()
        return result

    @model_validator(mode="before")
    @classmethod
    def _every_network_by_name(cls, tree: Any) -> Any:
        return with_models(tree) if isinstance(tree, Mapping) else tree

    @model_validator(mode="after")
    def _counts_fit(self) -> StudyRecipe:
        counts = [*self.few_shot, *self.from_scratch]
        counts += self.convergence.num_samples if self.convergence is not None else ()
        counts += [n for source in self.sources for n in (*(source.few_shot or ()), *(source.from_scratch or ()))]
        if any(n < 1 for n in counts):
            raise ValueError(f"numbers of samples must be at least 1; got {counts}")
        draws = any(target.store is None for target in self.targets)  # the pool of a store is its training split
        if draws and counts and max(counts) > self.pool_size:
            raise ValueError(f"pool_size = {self.pool_size} is smaller than the largest subset, {max(counts)}")
        if self.data.store is not None:
            raise ValueError("leave data.store out: a source or a target names its own store")
        return self

    def check(self) -> None:
        """Check names, sizes and ranges.

        Raises:
            ConfigError: if a name is unknown or comes twice, a system refuses its ranges, or nothing can be moved.
        """
        sources = [f"{source.name}' in size '{size}" for source in self.sources for size in self.sizes_of(source)]
        for kind, names in (("source", sources), ("target", [target.name for target in self.targets])):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ConfigError(f"{kind} '{twice}' is there twice; give each its own name.")
        for target in self.targets:
            with _about(f"target '{target.name}'"):
                origin = self.origin(target)
                _ = origin.signature  # refuses wrong ranges
                if isinstance(origin, StoreOrigin):
                    origin.require({"train": self._largest_subset(target), "test": self.num_test_samples})
        for source in self.sources:
            with _about(f"source '{source.name}'"):
                _ = self.origin(source).signature  # refuses wrong ranges and systems that cannot be joined
                for origin in self.origins(source):
                    if isinstance(origin, StoreOrigin):
                        origin.require({"train": 2, "valid": 1, "test": self.num_test_samples})
            if not self.targets_of(source):
                raise ConfigError(
                    f"source '{source.name}' knows the names of none of the targets. Name those it is to be moved to "
                    "(targets = …): it is given the channels it lacks."
                )
        for size in self.all_sizes:
            with _about(f"network '{size}'"):
                self.model(size).resolve().require_known()
        if self.scaling is not None:
            self.source(self.scaling.source)
        if self.convergence is not None:
            self._check_convergence(self.convergence)
        self._refuse_idle()
        for source in self.sources:  # what a single pre-training refuses
            with _about(f"source '{source.name}'"):
                self.pretraining(source, self.sizes_of(source)[0], 0).check()

    def _check_convergence(self, convergence: ConvergenceConfig) -> None:
        names = [target.name for target in self.targets]
        for name in convergence.targets:
            if name not in names:
                raise ConfigError(f"convergence: target {suggest(name, names)}")
        if len(self.adapt.scratch_learning_rates) < 2:
            raise ConfigError(
                "convergence: whether an error still falls is told by held-out samples, which are scored only where "
                "there is something to choose. Give two adapt.scratch_learning_rates or more."
            )

    def _largest_subset(self, target: TargetConfig) -> int:
        counts = [2]
        if self.convergence is not None and target.name in self.convergence.targets:
            counts += self.convergence.num_samples
        for source in self.sources:
            if source.targets is None or target.name in source.targets:
                counts += [count for kind in self.counts_of(source) for count in kind]
        return max(counts)

    def _refuse_idle(self) -> None:
        """Refuse settings that nothing in this study asks for: nothing a user says is passed over in silence."""
        drawn = [source for source in self.sources if source.store is None]
        tasks = [target for target in self.targets if target.store is None]
        if not drawn:
            why = "no source draws samples: each has a store"
            refuse_idle(self.data, ("num_samples", "stream_blocks", "windows_per_trajectory"), why, prefix="data.")
        if not tasks:
            refuse_idle(self, ("pool_size",), "no task draws samples: each has a store")
        if not drawn and not tasks:
            refuse_idle(self.data, BOX_SETTINGS, "every store has its own grid", prefix="data.")
        origins = [*map(self.origin, self.sources), *map(self.origin, self.targets)]
        if not any(origin.signature.evolves for origin in origins):
            refuse_idle(self.data, WINDOW_SETTINGS, "nothing here evolves in time", prefix="data.")
        if not self.can_be_drawn:
            refuse_idle(self, ("num_examples",), "only fields of two dimensions with a forcing are drawn")
        if not any(source.mixes_stores for source in drawn):
            why = "it weighs the stores of a mixture by their sizes, and no source is one"
            refuse_idle(self.data, ("temperature",), why, prefix="data.")
        for source in drawn:
            if len(source.systems) == 1:
                why = f"it weighs the systems of a mixture, and source '{source.name}' has one"
                refuse_idle(source.systems[0], ("weight", "loss_weight"), why)
        if not any(self.model(size).normalization == self.normalization for size in self.all_sizes):
            refuse_idle(self, ("normalization",), "every network that is used says its own")
        for table, training in (("training", self.training), ("adapt.training", self.adapt.training)):
            why = "a study drops the saved states of a run that is complete"
            refuse_idle(training, ("keep_every",), why, prefix=f"{table}.")
            refuse_idle(training, ("strategy",), "one process carries out a run of a study", prefix=f"{table}.")

    @property
    def all_sizes(self) -> list[str]:
        """Every network that is used, by name, each once."""
        named = [size for source in self.sources for size in self.sizes_of(source)]
        named += self.scaling.sizes if self.scaling is not None else ()
        return list(dict.fromkeys(named))

    @property
    def architectures(self) -> dict[str, str]:
        """For every network that is used the name of its architecture, see `architecture_names`."""
        return architecture_names({size: self.model(size) for size in self.all_sizes})

    @property
    def converged_sizes(self) -> list[str]:
        """The networks that are also trained from scratch as long as it helps: the study's first of each kind."""
        return first_of_each(self.sizes, self.architectures) if self.convergence is not None else []

    def sizes_of(self, source: SourceConfig) -> tuple[str, ...]:
        """Return the networks a source is pre-trained in: its own, or every one of the study's."""
        return source.sizes or self.sizes

    def scratches(self, target: TargetConfig) -> list[tuple[str, int]]:
        """Return the networks and numbers of samples to train from scratch on a target: what sources are held to."""
        beside = [
            (size, count)
            for source in self.sources
            if target in self.targets_of(source)
            for size in self.sizes_of(source)
            for count in self.counts_of(source)[1]
        ]
        return list(dict.fromkeys(beside))

    def counts_of(self, source: SourceConfig) -> tuple[Counts, Counts]:
        """Return the numbers of samples to fine-tune a source on, and those to train from scratch on beside it."""
        few_shot = self.few_shot if source.few_shot is None else source.few_shot
        return few_shot, self.from_scratch if source.from_scratch is None else source.from_scratch

    @property
    def can_be_drawn(self) -> bool:
        """Whether samples of the first task can be shown as pictures: fields of two dimensions with a forcing."""
        signature = self.origin(self.targets[0]).signature
        return signature.num_spatial_dims == 2 and "forcing" in signature.inputs

    def most_scratch_steps(self, size: str, num_samples: int) -> int:
        """Return the optimizer steps that a training of a network from scratch on so many samples may take at most."""
        doublings = self.convergence.max_doublings if self.convergence is not None else 0
        settings = self.adapt.recipe("from_scratch", num_samples, 0, model=self.model(size))
        return 2**doublings * settings.training.num_steps

    @property
    def grid(self) -> Grid:
        """Where every field that the study draws lives; those of a store live on its own grid."""
        return self.data.grid(self.origin(self.targets[0]).signature.num_spatial_dims)

    def origin(self, entry: SourceConfig | TargetConfig) -> Origin:
        """Return where the samples of a source or a target come from: of a source as its objective wants them.

        Raises:
            ConfigError: if a range is not valid.
            StoreError, DataError: if a store cannot be read.
        """
        origin = self._named(entry)
        if isinstance(entry, TargetConfig):
            return origin
        objective = entry.objective or self.training.objective
        return reconstructing(origin, objective.hiding) if objective.reconstructs else origin

    def _named(self, entry: SourceConfig | TargetConfig) -> Origin:
        """Return where samples come from, whatever is learned of them."""
        if entry.store is not None:
            store = Store.open(entry.store)
            # a study may hold steady stores beside evolving ones
            return StoreOrigin(store, self.data.window if store.signature.evolves else NEXT_FRAME)
        if isinstance(entry, TargetConfig):
            return resolve_origin(self.data, system=entry.system)
        if len(entry.systems) > 1 or entry.systems[0].store is not None:
            return resolve_origin(self.data, mixture=entry.systems)
        return resolve_origin(self.data, system=entry.systems[0])

    def origins(self, source: SourceConfig) -> tuple[Origin, ...]:
        """Return where the samples of a source come from: of a mixture, every member for itself."""
        origin = self.origin(source)
        return tuple(member.origin for member in origin.members) if isinstance(origin, MixtureOrigin) else (origin,)

    def model(self, size: str) -> StudyModel:
        """Return the network of that name.

        Raises:
            ConfigError: if there is none.
        """
        if size in self.models:
            return self.models[size]
        if size not in SIZES:
            raise ConfigError(f"Size {suggest(size, [*self.models, *SIZES])}")
        return StudyModel(size=size, normalization=self.normalization)

    def source(self, name: str) -> SourceConfig:
        """Return the source of that name.

        Raises:
            ConfigError: if there is none.
        """
        named = {source.name: source for source in self.sources}
        if name not in named:
            raise ConfigError(f"Source {suggest(name, named)}")
        return named[name]

    def targets_of(self, source: SourceConfig) -> list[TargetConfig]:
        """Return the targets a source is moved to.

        Raises:
            ConfigError: if it names one that is not there, or of another number of dimensions.
        """
        named = {target.name: target for target in self.targets}
        if source.targets is None:
            return [target for target in self.targets if self.knows(source, target)]
        ours = self.origin(source).signature
        for name in source.targets:
            if name not in named:
                raise ConfigError(f"source '{source.name}': target {suggest(name, named)}")
            theirs = self.origin(named[name]).signature
            if ours.num_spatial_dims != theirs.num_spatial_dims:
                raise ConfigError(
                    f"source '{source.name}' cannot be moved to '{name}': it has "
                    f"{plural(ours.num_spatial_dims, 'dimension')}, '{name}' has {theirs.num_spatial_dims}."
                )
        return [named[name] for name in source.targets]

    def knows(self, source: SourceConfig, target: TargetConfig) -> bool:
        """Return whether a source can be asked about a target as it is: it knows its names, and samples of such fields.

        Raises:
            ConfigError: if a range is not valid.
        """
        ours, theirs = self.origin(source).signature, self.origin(target).signature
        alike = (ours.num_spatial_dims, ours.evolves) == (theirs.num_spatial_dims, theirs.evolves)
        forms = [ours, *(origin.signature for origin in self.origins(source))]
        known = any(set(theirs.fields) == set(form.fields) for form in forms)
        return alike and known and not ours.missing_from(theirs)

    def pretraining(self, source: SourceConfig, size: str, seed: int, num_steps: int | None = None) -> PretrainRecipe:
        """Return the recipe of one pre-training."""
        model = self.model(size)
        steps = num_steps or model.steps(source.num_steps or self.training.num_steps)
        mixed = len(source.systems) > 1 or source.mixes_stores
        return PretrainRecipe(
            name=f"{source.name}-{size}-seed{seed}" + ("" if num_steps is None else f"-{num_steps}steps"),
            seed=seed,
            system=None if mixed or source.store else SystemConfig.of(source.systems[0].build()),
            mixture=source.systems if mixed else (),
            data=self._data_of(source),
            model=model.plain(),
            training=self.training.model_copy(
                update={"num_steps": steps, "objective": source.objective or self.training.objective}
            ),
        )

    def _data_of(self, source: SourceConfig) -> DataConfig:
        """Return the settings for a source; of stores those of drawn samples are the other sources'."""
        stored = source.store is not None or source.mixes_stores
        evolves, has_frames = self.origin(source).signature.evolves, self._named(source).signature.evolves
        drawn = any(entry.store is None for entry in source.systems)
        idle = [*(BOX_SETTINGS * stored), *(("num_samples", "stream_blocks") * (source.store is not None))]
        idle += [] if evolves else WINDOW_SETTINGS
        idle += [] if has_frames and drawn else ["windows_per_trajectory"]
        idle += [] if source.mixes_stores else ["temperature"]
        changes = {name: getattr(DataConfig(), name) for name in idle}
        if source.store is not None:
            changes["store"] = source.store
        return self.data.model_copy(update=changes)

    def contents(self) -> dict[str, Any]:
        """Return a hash of the content of every store that is named: other data are another study."""
        named = [source.store for source in self.sources] + [target.store for target in self.targets]
        named += [entry.store for source in self.sources for entry in source.systems]
        return {"contents": {place: Store.open(place).content for place in named if place is not None}}


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Say of what an error is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error
