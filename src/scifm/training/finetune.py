"""Adapting to a new system with few samples: fine-tuning, and training from scratch beside it under the same rules.

Both choose their learning rate alike: every candidate trains on part of the downstream samples, the rest scores it, and
the winner trains again on all of them. The test set plays no part. Trials are counted and recorded. Fine-tuning has one
candidate more, a learning rate of 0: the pre-trained weights as they are.
"""

from __future__ import annotations

import abc
import math
import time
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator
from torch import Tensor

from scifm.config import Config, build_config
from scifm.data.normalize import fit_normalization
from scifm.data.split import StoreSplit
from scifm.data.store import Store
from scifm.data.stream import Epochs
from scifm.data.subsets import nested_subsets, split_validation
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization, NormalizationKind
from scifm.fields.seeds import generator_for
from scifm.models.hub import digest, find_model, load_operator, save_operator
from scifm.models.operator import Operator
from scifm.models.surgery import fits, renamed, with_channels
from scifm.runs import Run, write_json
from scifm.systems.system import System
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.loop import DivergedError, Observer, TrainingConfig, train, validation_error
from scifm.training.methods import FinetuneMethod, finish, prepare
from scifm.training.pool import DownstreamPool, downstream_pool, in_memory
from scifm.training.pretrain import PretrainRecipe, build_operator, recorded
from scifm.training.processes import require_alone
from scifm.training.recipe import ModelConfig

__all__ = ["AdaptRecipe", "finetune", "from_scratch", "grid_of_run"]

_NUM_FITTED = 512  # samples of a large store that a normalization is fitted on
_NUM_SCORED = 512  # and that score a learning rate


class AdaptRecipe(Config):
    """How to adapt to downstream samples; the same settings serve fine-tuning and training from scratch.

    Args:
        num_samples: downstream samples used; of a store of trajectories, whole trajectories.
        seed: which samples, their order, and first weights (from scratch).
        learning_rates: candidates, tried in turn.
        try_zero_shot: whether fine-tuning may keep the pre-trained weights as they are, when no learning rate does
            better on the held-out samples. Only where candidates are scored at all, with two learning rates or more;
            from scratch it is of no account.
        held_out: share of the samples that scores the candidates.
        stride: of a store of trajectories, frames from input to target.
        rename: new name → name the operator knows, for channels that are only called otherwise.
        method: what fine-tuning trains; from scratch all weights train, whatever is said here.
        training: how each of them trains; its learning_rate is replaced.
    """

    num_samples: int = Field(64, ge=2)
    seed: int = 0
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    try_zero_shot: bool = True
    held_out: float = Field(0.2, gt=0, lt=1)
    stride: int = Field(1, ge=1)
    rename: dict[str, str] = Field(default_factory=dict)
    method: FinetuneMethod = FinetuneMethod()
    training: TrainingConfig = TrainingConfig(num_steps=300, validate_every=100, checkpoint_every=100)

    @field_validator("learning_rates")
    @classmethod
    def _some_candidates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < rate < math.inf for rate in value):
            raise ValueError("give at least one positive learning rate")
        return value

    @property
    def candidates(self) -> tuple[float, ...]:
        """The learning rates that are scored; first 0, no training, where that is among the choices."""
        no_training = (0.0,) if self.try_zero_shot and len(self.learning_rates) > 1 else ()
        return (*no_training, *self.learning_rates)  # first: of equal scores the first is chosen


def finetune(
    parent: Run | str | Path,
    pool: DownstreamPool | System | Store,
    recipe: AdaptRecipe | None = None,
    *,
    out: str | Path = "runs",
    observe: Observer | None = None,
    **settings: Any,
) -> Run:
    """Fine-tune a pre-trained operator on downstream samples: all its weights, or those `recipe.method` names.

    Where the samples hold other fields or coefficients than the operator knows, it is given the channels it lacks;
    ``channels.json`` in the run folder says what was reused, added and dropped. Where no learning rate does better on
    the held-out samples, the weights are kept as they are, and ``outcome.json`` says so.

    Args:
        parent: a complete run, its folder, the folder of a model, or ``hf:name/model``.
        pool: downstream samples, or the system or store they come from; a system only with a run, which has a grid.
        recipe: how; the defaults when left out.
        out: folder that holds run folders.
        observe: called with every event, for progress.
        **settings: single settings of the recipe, such as ``num_samples=16``.

    Returns:
        The run folder, complete.

    Raises:
        ConfigError: if a setting is not valid, or a launcher started several processes.
        DataError: if there are too few samples.
        RunError: if the parent is not complete, or the folder is in use or cannot be written.
        SignatureError: if the samples have another number of dimensions.
    """
    require_alone("Fine-tuning")
    whole = _recipe("finetune", recipe, settings)
    place = find_model(parent)
    beginning = {"parent_config": place.run.config} if place.run else {"parent_model": digest(place.folder)}
    return _Finetuning(whole, observe, place.path, place.folder, beginning).run_in(out, pool, place.run)


def from_scratch(
    model: ModelConfig | Run | str | Path,
    pool: DownstreamPool | System | Store,
    recipe: AdaptRecipe | None = None,
    *,
    out: str | Path = "runs",
    observe: Observer | None = None,
    **settings: Any,
) -> Run:
    """Train an architecture from fresh weights on downstream samples alone: what fine-tuning must beat.

    The normalization is fitted on the downstream samples too.

    Args:
        model: the architecture and the kind of normalization, or a complete run or a model's folder to take both from.
        pool: downstream samples, or the store they come from; with a run also a system.
        recipe: how; the defaults when left out.
        out: folder that holds run folders.
        observe: called with every event, for progress.
        **settings: single settings of the recipe.

    Returns:
        The run folder, complete. It depends on the architecture alone, not on the run that was taken it from.

    Raises:
        ConfigError, DataError, RunError: as for `finetune`.
    """
    require_alone("Training from scratch")
    parent = None
    if not isinstance(model, ModelConfig):
        place = find_model(model)
        parent, operator = place.run, load_operator(place.folder)
        model = ModelConfig(network=operator.config, normalization=operator.normalization.kind)
    model = ModelConfig(network=model.resolve(), normalization=model.normalization)
    nothing_to_keep = {"method": FinetuneMethod(), "try_zero_shot": False}
    whole = _recipe("from_scratch", recipe, settings).model_copy(update=nothing_to_keep)
    return _FromScratch(whole, observe, model).run_in(out, pool, parent)


def _recipe(kind: str, recipe: AdaptRecipe | None, settings: dict[str, Any]) -> AdaptRecipe:
    tree = {**(recipe.to_dict() if recipe is not None else {}), **settings}
    return build_config(AdaptRecipe, tree, source=f"settings of {kind}")


def grid_of_run(run: Run) -> Grid:
    """Return the grid a run was trained on last.

    Raises:
        ConfigError: if its configuration is not that of a training.
        StoreError: if it was trained on a store that is gone.
    """
    downstream = run.config.get("downstream")
    if downstream is not None:
        return Grid.from_dict(downstream["grid"]) if "grid" in downstream else Store.open(downstream["store"]).grid
    config = build_config(PretrainRecipe, run.config, source=f"'{run.path}'")
    if config.data.store is not None:
        return Store.open(config.data.store).grid
    return config.data.grid(load_operator(run.path / "model").signature.num_spatial_dims)


def _pool(pool: DownstreamPool | System | Store, recipe: AdaptRecipe, model: Run | None) -> DownstreamPool:
    if isinstance(pool, DownstreamPool):
        return pool
    if isinstance(pool, System) and model is None:
        raise ConfigError(
            "Nothing says on which grid to sample the system: give a store, or a pool of samples (downstream_pool), or "
            "adapt a run instead of a model."
        )
    grid = pool.grid if isinstance(pool, Store) else grid_of_run(model)  # type: ignore[arg-type]
    num_samples = max(1024, recipe.num_samples)
    return downstream_pool(pool, grid=grid, num_samples=num_samples, seed=recipe.seed, stride=recipe.stride)


class _Adaptation(abc.ABC):
    """Choose a learning rate, train with it, keep the outcome. Subclasses say what training starts from."""

    kind: ClassVar[str]
    pool: DownstreamPool
    index: Tensor
    samples: Batch | StoreSplit
    run: Run

    def __init__(self, recipe: AdaptRecipe, observe: Observer | None) -> None:
        self.recipe, self.observe = recipe, observe

    def run_in(self, out: str | Path, pool: DownstreamPool | System | Store, model: Run | None) -> Run:
        """Do all that is not done yet in the run folder of these settings under `out`."""
        recipe = self.recipe
        self.pool = _pool(pool, recipe, model)
        config = {"kind": self.kind, **recipe.to_dict(), "downstream": self.pool.origin, **self.beginning()}
        self.run = Run.prepare(out, f"{self.kind}-{recipe.num_samples}-seed{recipe.seed}", config, parent=self.parent)
        with self.run.locked():
            if not self.run.is_complete:
                subset = nested_subsets(self.pool.num_problems, [recipe.num_samples], recipe.seed)
                self.index = subset[recipe.num_samples]
                self.samples = self.pool.take(self.index)
                write_json(self.run.path / "subset.json", {"pool": self.pool.origin, "index": self.index.tolist()})
                self.carry_out()
        return self.run

    @property
    def parent(self) -> Path | None:
        """The run that training starts from, if any."""
        return None

    @abc.abstractmethod
    def beginning(self) -> dict[str, Any]:
        """Return what training starts from, for the record."""

    @abc.abstractmethod
    def fresh(self, samples: Batch | StoreSplit) -> Operator:
        """Return an operator to train on `samples`."""

    def carry_out(self) -> None:
        self.run.set_status("running")
        started = time.perf_counter()
        trials = self._trials()
        chosen = min(trials, key=lambda trial: trial["relative_l2"] if trial["relative_l2"] is not None else math.inf)
        if chosen["relative_l2"] is None:
            raise DivergedError(
                f"Every learning rate of {list(self.recipe.learning_rates)} diverged on {self.recipe.num_samples} "
                "samples. Give smaller ones in learning_rates."
            )
        operator = self.fresh(self.samples)
        told = self._train(operator, chosen["learning_rate"]) if chosen["learning_rate"] else self._keep(trials)
        save_operator(operator, self.run.path / "model")
        told = {"learning_rate": chosen["learning_rate"], "num_trials": len(trials), **told}
        write_json(self.run.path / "outcome.json", {**told, "seconds": time.perf_counter() - started})
        self.run.set_status("complete")

    def _keep(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        """Record that the operator stays as it is, the first of `trials`, and return what the outcome says of it."""
        diverged = all(trial["relative_l2"] is None for trial in trials[1:])
        why = "every learning rate diverged" if diverged else "no learning rate did better on the held-out samples"

        def say(note: Observer) -> Position:
            note(event="resumed", step=0)  # so that what an interrupted sitting said is not said twice
            note(event="kept", step=0, relative_l2=trials[0]["relative_l2"], reason=why)
            return Position(optimizer_bytes=0, gradient_bytes=0)

        return {"kept": f"the pre-trained weights: {why}", **_told(recorded(self.run, say, self.observe), 0, 0)}

    def _train(self, operator: Operator, rate: float) -> dict[str, Any]:
        """Train on all samples, and return what the outcome says of it."""
        groups = prepare(operator, self.recipe.method, seed=self.recipe.seed)
        config = self._training(rate)
        position = recorded(
            self.run,
            lambda note: train(
                operator,
                self._source(self.samples),
                config=config,
                groups=groups,
                checkpoint=Checkpoint(self.run.path / "state"),
                observe=note,
            ),
            self.observe,
        )
        finish(operator)
        return _told(position, config.num_steps, sum(group.num_params for group in groups))

    def _trials(self) -> list[dict[str, Any]]:
        """Score every candidate, going on behind those an interrupted sitting already scored."""
        if len(self.recipe.learning_rates) == 1:
            return [{"learning_rate": self.recipe.learning_rates[0], "relative_l2": 0.0}]
        file = self.run.path / "trials.json"
        trials: list[dict[str, Any]] = self.run.read_json(file.name) if file.is_file() else []
        for rate in self.recipe.candidates[len(trials) :]:
            trials.append({"learning_rate": rate, "relative_l2": self._try(rate)})
            write_json(file, trials)
        return trials

    def _try(self, rate: float) -> float | None:
        kept, held_out = split_validation(self.recipe.num_samples, self.recipe.held_out, seed=self.recipe.seed)
        part = self.pool.take(self.index[kept])
        operator = self.fresh(part)

        def pass_on(**event: Any) -> None:
            if self.observe is not None and event["event"] == "step":
                self.observe(**event)

        try:
            if rate > 0:
                groups = prepare(operator, self.recipe.method, seed=self.recipe.seed)
                train(operator, self._source(part), config=self._training(rate), groups=groups, observe=pass_on)
        except DivergedError:
            return None
        score = validation_error(operator, in_memory(self.pool.take(self.index[held_out]), _NUM_SCORED))
        return score if math.isfinite(score) else None

    def _training(self, rate: float) -> TrainingConfig:
        return self.recipe.training.model_copy(update={"learning_rate": rate})

    def _source(self, samples: Batch | StoreSplit) -> Epochs:
        return Epochs(samples, batch_size=self.recipe.training.batch_size, seed=self.recipe.seed)


class _Finetuning(_Adaptation):
    kind = "finetune"

    def __init__(
        self, recipe: AdaptRecipe, observe: Observer | None, parent: Path, model: Path, beginning: dict[str, Any]
    ) -> None:
        super().__init__(recipe, observe)
        self._parent, self.model, self._beginning = parent, model, beginning

    @property
    def parent(self) -> Path | None:
        return self._parent

    def beginning(self) -> dict[str, Any]:
        return self._beginning

    def fresh(self, samples: Batch | StoreSplit) -> Operator:
        operator = renamed(load_operator(self.model), self.recipe.rename)
        signature, grid = samples.signature, samples.grid
        if fits(operator, signature, grid):
            return operator
        normalization = _fit(samples, self.pool.homogeneities, operator.normalization.kind)
        generator = generator_for(self.recipe.seed, "channels")
        operator, rows = with_channels(operator, signature, grid, normalization, generator=generator)
        write_json(self.run.path / "channels.json", [row.to_dict() for row in rows])
        return operator


class _FromScratch(_Adaptation):
    kind = "from_scratch"

    def __init__(self, recipe: AdaptRecipe, observe: Observer | None, model: ModelConfig) -> None:
        super().__init__(recipe, observe)
        self.model = model

    def beginning(self) -> dict[str, Any]:
        return {"model": self.model.to_dict()}

    def fresh(self, samples: Batch | StoreSplit) -> Operator:
        try:
            normalization = _fit(samples, self.pool.homogeneities, self.model.normalization)
        except DataError as error:
            raise DataError(f"From scratch on {self.recipe.num_samples} samples: {error}") from error
        settings = self.model.resolve().on(samples.grid)
        return build_operator(samples.signature, settings, normalization, seed=self.recipe.seed)


def _told(position: Position, num_steps: int, num_trainable: int) -> dict[str, Any]:
    sizes = {"optimizer_bytes": position.optimizer_bytes, "gradient_bytes": position.gradient_bytes}
    return {"num_steps": num_steps, "num_trainable": num_trainable, **sizes}


def _fit(samples: Batch | StoreSplit, homogeneities: tuple[Homogeneity, ...], kind: NormalizationKind) -> Normalization:
    kind = "constant" if kind == "joint" and not homogeneities else kind
    return fit_normalization(in_memory(samples, _NUM_FITTED), homogeneities, kind=kind)
