"""Adapting to a new system with few samples: fine-tuning, and training from scratch beside it under the same rules.

Both choose their learning rate alike: every candidate trains on part of the downstream samples, the rest scores it, and
the winner trains again on all of them. The test set plays no part. Trials are counted and recorded.
"""

from __future__ import annotations

import abc
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from scifm.config import Config, build_config
from scifm.data.normalize import fit_normalization
from scifm.data.store import Store
from scifm.data.stream import Epochs
from scifm.data.subsets import nested_subsets, split_validation
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.models.hub import digest, holds_operator, load_operator, save_operator
from scifm.models.operator import Operator
from scifm.runs import Run, write_json
from scifm.systems.system import System
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import DivergedError, Observer, TrainingConfig, train, validation_error
from scifm.training.methods import FinetuneMethod, finish, prepare
from scifm.training.pretrain import PretrainRecipe, build_operator, recorded
from scifm.training.recipe import ModelConfig, SystemConfig

__all__ = ["AdaptRecipe", "DownstreamPool", "downstream_pool", "finetune", "from_scratch"]


class AdaptRecipe(Config):
    """How to adapt to downstream samples; the same settings serve fine-tuning and training from scratch.

    Args:
        num_samples: downstream samples used.
        seed: which samples, their order, and first weights (from scratch).
        learning_rates: candidates, tried in turn.
        held_out: share of the samples that scores the candidates.
        method: what fine-tuning trains; from scratch all weights train, whatever is said here.
        training: how each of them trains; its learning_rate is replaced.
    """

    num_samples: int = Field(64, ge=2)
    seed: int = 0
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    held_out: float = Field(0.2, gt=0, lt=1)
    method: FinetuneMethod = FinetuneMethod()
    training: TrainingConfig = TrainingConfig(num_steps=300, validate_every=100, checkpoint_every=100)

    @field_validator("learning_rates")
    @classmethod
    def _some_candidates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < rate < math.inf for rate in value):
            raise ValueError("give at least one positive learning rate")
        return value


@dataclass(frozen=True)
class DownstreamPool:
    """Samples of the downstream system that few-shot subsets are taken from.

    Args:
        samples: the whole pool; subsets of a seed are nested prefixes of one permutation of it.
        origin: where they came from, for the record.
        homogeneities: exact scalings of the system, for fitting a normalization from scratch.
    """

    samples: Batch
    origin: dict[str, Any]
    homogeneities: tuple[Homogeneity, ...]


def downstream_pool(target: System | Store, *, grid: Grid, num_samples: int, seed: int) -> DownstreamPool:
    """Return a pool of downstream samples, drawn from a system or taken from a store's training split.

    Args:
        target: where samples come from.
        grid: for a system, where its fields live.
        num_samples: for a system, the size of the pool. Subsets nest only within pools of one size and seed.
        seed: for a system, which samples.

    Raises:
        StoreError, DataError: if a store cannot be read.
    """
    if isinstance(target, System):
        samples = target.sample(num_samples, grid, generator_for(seed, "downstream", "pool"))
        origin = {
            "system": SystemConfig.of(target).to_dict(),
            "grid": grid.to_dict(),
            "num_samples": num_samples,
            "seed": seed,
        }
        return DownstreamPool(samples, origin, target.homogeneities)
    split = target.split("train")
    origin = {"store": str(target.path), "split": "train", "num_samples": split.num_samples}
    return DownstreamPool(split.load(), origin, target.homogeneities)


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

    Args:
        parent: a complete run, or the folder of a model.
        pool: downstream samples, or the system or store they come from; a system only with a run, which has a grid.
        recipe: how; the defaults when left out.
        out: folder that holds run folders.
        observe: called with every event, for progress.
        **settings: single settings of the recipe, such as ``num_samples=16``.

    Returns:
        The run folder, complete.

    Raises:
        ConfigError: if a setting is not valid.
        DataError: if there are too few samples.
        RunError: if the parent is not complete, or the folder is in use or cannot be written.
        SignatureError: if the samples hold names the operator does not know.
    """
    whole = _recipe("finetune", recipe, settings)
    if not isinstance(parent, Run) and holds_operator(parent):
        model = Path(parent)
        return _Finetuning(whole, observe, model, model, {"parent_model": digest(model)}).run_in(out, pool, None)
    parent = _complete(parent)
    beginning = {"parent_config": parent.config}
    return _Finetuning(whole, observe, parent.path, parent.path / "model", beginning).run_in(
        out, pool, _grid_of(parent)
    )


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
    grid = None
    if not isinstance(model, ModelConfig):
        if not isinstance(model, Run) and holds_operator(model):
            operator = load_operator(model)
        else:
            parent = _complete(model)
            operator = load_operator(parent.path / "model")
            grid = _grid_of(parent)
        model = ModelConfig(network=operator.config, normalization=operator.normalization.kind)
    model = ModelConfig(network=model.resolve(), normalization=model.normalization)
    whole = _recipe("from_scratch", recipe, settings).model_copy(update={"method": FinetuneMethod()})  # all there is
    return _FromScratch(whole, observe, model).run_in(out, pool, grid)


def _complete(run: Run | str | Path) -> Run:
    run = run if isinstance(run, Run) else Run.open(run)
    run.require_complete()
    return run


def _recipe(kind: str, recipe: AdaptRecipe | None, settings: dict[str, Any]) -> AdaptRecipe:
    tree = {**(recipe.to_dict() if recipe is not None else {}), **settings}
    return build_config(AdaptRecipe, tree, source=f"settings of {kind}")


def _grid_of(parent: Run) -> Grid:
    config = build_config(PretrainRecipe, parent.config, source=f"'{parent.path}'")
    if config.data.store is not None:
        return Store.open(config.data.store).grid
    return config.data.grid(load_operator(parent.path / "model").signature.num_spatial_dims)


class _Adaptation(abc.ABC):
    """Choose a learning rate, train with it, keep the outcome. Subclasses say what training starts from."""

    kind: ClassVar[str]
    pool: DownstreamPool
    samples: Batch
    run: Run

    def __init__(self, recipe: AdaptRecipe, observe: Observer | None) -> None:
        self.recipe, self.observe = recipe, observe

    def run_in(self, out: str | Path, pool: DownstreamPool | System | Store, grid: Grid | None) -> Run:
        """Do all that is not done yet in the run folder of these settings under `out`."""
        recipe = self.recipe
        if not isinstance(pool, DownstreamPool):
            if grid is None:
                if isinstance(pool, System):
                    raise ConfigError(
                        "Nothing says on which grid to sample the system: give a store, or a pool of samples "
                        "(downstream_pool), or adapt a run instead of a model."
                    )
                grid = pool.grid
            pool = downstream_pool(pool, grid=grid, num_samples=max(1024, recipe.num_samples), seed=recipe.seed)
        self.pool = pool
        config = {"kind": self.kind, **recipe.to_dict(), "downstream": pool.origin, **self.beginning()}
        self.run = Run.prepare(out, f"{self.kind}-{recipe.num_samples}-seed{recipe.seed}", config, parent=self.parent)
        with self.run.locked():
            if not self.run.is_complete:
                subset = nested_subsets(pool.samples.num_samples, [recipe.num_samples], recipe.seed)
                index = subset[recipe.num_samples]
                self.samples = pool.samples.select(index)
                write_json(self.run.path / "subset.json", {"pool": pool.origin, "index": index.tolist()})
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
    def fresh(self, samples: Batch) -> Operator:
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
        groups = prepare(operator, self.recipe.method, seed=self.recipe.seed)
        config = self._training(chosen["learning_rate"])
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
        save_operator(operator, self.run.path / "model")
        write_json(
            self.run.path / "outcome.json",
            {
                "learning_rate": chosen["learning_rate"],
                "num_trials": len(trials),
                "num_steps": config.num_steps,
                "num_trainable": sum(group.num_params for group in groups),
                "optimizer_bytes": position.optimizer_bytes,
                "gradient_bytes": position.gradient_bytes,
                "seconds": time.perf_counter() - started,
            },
        )
        self.run.set_status("complete")

    def _trials(self) -> list[dict[str, Any]]:
        """Score every learning rate, going on behind those an interrupted sitting already scored."""
        if len(self.recipe.learning_rates) == 1:
            return [{"learning_rate": self.recipe.learning_rates[0], "relative_l2": 0.0}]
        file = self.run.path / "trials.json"
        trials: list[dict[str, Any]] = self.run.read_json(file.name) if file.is_file() else []
        for rate in self.recipe.learning_rates[len(trials) :]:
            trials.append({"learning_rate": rate, "relative_l2": self._try(rate)})
            write_json(file, trials)
        return trials

    def _try(self, rate: float) -> float | None:
        kept, held_out = split_validation(self.recipe.num_samples, self.recipe.held_out, seed=self.recipe.seed)
        part = self.samples.select(kept)
        operator = self.fresh(part)
        groups = prepare(operator, self.recipe.method, seed=self.recipe.seed)

        def pass_on(**event: Any) -> None:
            if self.observe is not None and event["event"] == "step":
                self.observe(**event)

        try:
            train(operator, self._source(part), config=self._training(rate), groups=groups, observe=pass_on)
        except DivergedError:
            return None
        score = validation_error(operator, self.samples.select(held_out))
        return score if math.isfinite(score) else None

    def _training(self, rate: float) -> TrainingConfig:
        return self.recipe.training.model_copy(update={"learning_rate": rate})

    def _source(self, samples: Batch) -> Epochs:
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

    def fresh(self, samples: Batch) -> Operator:
        return load_operator(self.model)


class _FromScratch(_Adaptation):
    kind = "from_scratch"

    def __init__(self, recipe: AdaptRecipe, observe: Observer | None, model: ModelConfig) -> None:
        super().__init__(recipe, observe)
        self.model = model

    def beginning(self) -> dict[str, Any]:
        return {"model": self.model.to_dict()}

    def fresh(self, samples: Batch) -> Operator:
        try:
            normalization = fit_normalization(samples, self.pool.homogeneities, kind=self.model.normalization)
        except DataError as error:
            raise DataError(f"From scratch on {samples.num_samples} samples: {error}") from error
        return build_operator(samples.signature, self.model.resolve(), normalization, seed=self.recipe.seed)
