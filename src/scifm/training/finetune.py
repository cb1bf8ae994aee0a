"""Adapting to a new system with few samples: fine-tuning, and training from scratch beside it under the same rules.

Both choose alike (`scifm.training.choice`): candidates train on part of the downstream samples, the rest scores them,
and the winner trains again on all of them. The test set plays no part. Trials are counted and recorded. Fine-tuning
chooses whether the constants of the coefficients are fitted anew, besides the learning rate, and may not train at all.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from scifm.config import build_config, refuse_idle
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.origins import DownstreamPool, Origin, StoreOrigin, SystemOrigin
from scifm.data.run_origin import RunOrigin
from scifm.data.store import Store
from scifm.data.stream import Epochs
from scifm.data.subsets import nested_subsets
from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization, NormalizationKind
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.models.hub import digest, find_model, load_operator, save_operator
from scifm.models.operator import Operator
from scifm.models.surgery import fits, renamed, with_channels
from scifm.runs import Run, write_json
from scifm.systems.system import System
from scifm.training.adapt_recipe import AdaptRecipe
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.choice import Candidate, Trial, choose
from scifm.training.loop import DivergedError, Observer, TrainingConfig, sample_errors, train
from scifm.training.methods import FinetuneMethod, finish, prepare
from scifm.training.pretrain import build_operator, recorded
from scifm.training.processes import require_alone
from scifm.training.recipe import ModelConfig

__all__ = ["AdaptRecipe", "finetune", "from_scratch"]

_NUM_FITTED = 512  # samples of a large store that a normalization is fitted on
_NUM_SCORED = 512  # and that score a learning rate


def finetune(
    parent: Run | str | Path,
    pool: DownstreamPool | Origin | System | Store,
    recipe: AdaptRecipe | None = None,
    *,
    out: str | Path = "runs",
    observe: Observer | None = None,
    **settings: Any,
) -> Run:
    """Fine-tune a pre-trained operator on downstream samples: all its weights, or those `recipe.method` names.

    Where the samples hold other fields or coefficients than the operator knows, it is given the channels it lacks;
    ``channels.json`` in the run folder says what was reused, added and dropped. Where nothing does clearly better on
    the held-out samples, the weights stay as they are, and ``outcome.json`` says so; ``trials.json`` holds all trials.

    Args:
        parent: a complete run, its folder, the folder of a model, or ``hf:name/model``.
        pool: downstream samples, or the origin, system or store they come from; a system alone only with a run, which
            has a grid.
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
    pool: DownstreamPool | Origin | System | Store,
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
        pool: downstream samples, or the origin or store they come from; with a run also a system.
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
    nothing_to_keep = {"method": FinetuneMethod(), "try_zero_shot": False, "refit_coefficients": "never"}
    whole = _recipe("from_scratch", recipe, settings)
    of_finetuning = settings.keys() & {"method", "rename"}  # a whole recipe may serve both ways
    refuse_idle(whole, sorted(of_finetuning), "training from scratch starts from no operator and trains all weights")
    whole = whole.model_copy(update=nothing_to_keep)
    return _FromScratch(whole, observe, model).run_in(out, pool, parent)


def _recipe(kind: str, recipe: AdaptRecipe | None, settings: dict[str, Any]) -> AdaptRecipe:
    tree = {**(recipe.to_dict() if recipe is not None else {}), **settings}
    return build_config(AdaptRecipe, tree, source=f"settings of {kind}")


def _pool(pool: DownstreamPool | Origin | System | Store, recipe: AdaptRecipe, model: Run | None) -> DownstreamPool:
    if isinstance(pool, System):
        pool = SystemOrigin.of(pool, _grid_of(model))
    if isinstance(pool, Store):
        pool = StoreOrigin(pool, recipe.stride)
    if isinstance(pool, Origin):
        pool = pool.pool(max(1024, recipe.num_samples), recipe.seed)
    if recipe.stride not in (1, pool.stride):
        raise ConfigError(f"stride = {recipe.stride} was asked for, and the samples have {pool.stride}.")
    return pool


def _grid_of(model: Run | None) -> Grid:
    """Return the grid a run was trained on last."""
    if model is None or (origin := RunOrigin.of(model)) is None:
        raise ConfigError(
            "Nothing says on which grid to sample the system: give a store, an origin (SystemOrigin.of(system, grid)), "
            "or adapt a run instead of a model."
        )
    return origin.grid


class _Adaptation(abc.ABC):
    """Choose a learning rate, train with it, keep the outcome. Subclasses say what training starts from."""

    kind: ClassVar[str]
    pool: DownstreamPool
    index: Tensor
    samples: Samples
    run: Run

    def __init__(self, recipe: AdaptRecipe, observe: Observer | None) -> None:
        self.recipe, self.observe = recipe, observe

    def run_in(self, out: str | Path, pool: DownstreamPool | Origin | System | Store, model: Run | None) -> Run:
        """Do all that is not done yet in the run folder of these settings under `out`."""
        recipe = self.recipe
        self.pool = _pool(pool, recipe, model)
        config = {"kind": self.kind, **recipe.to_dict(), "origin": self.pool.origin, **self.beginning()}
        self.run = Run.prepare(out, f"{self.kind}-{recipe.num_samples}-seed{recipe.seed}", config, parent=self.parent)
        with self.run.locked():
            if not self.run.is_complete:
                subset = nested_subsets(self.pool.num_problems, [recipe.num_samples], recipe.seed)
                self.index = subset[recipe.num_samples]
                self.samples = self.pool.samples.problems(self.index)
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
    def candidates(self) -> tuple[Candidate, ...]:
        """Return what there is to choose from."""

    @abc.abstractmethod
    def fresh(self, samples: Samples, candidate: Candidate) -> Operator:
        """Return an operator to train on `samples`."""

    def carry_out(self) -> None:
        self.run.set_status("running")
        best, trials = self._chosen()
        candidate = best.candidate if best is not None else self.candidates()[0]
        if best is not None and best.errors is None:
            raise DivergedError(
                f"Every learning rate of {list(self.recipe.learning_rates)} diverged on {self.recipe.num_samples} "
                "samples. Give smaller ones in learning_rates."
            )
        num_steps = best.num_steps if best is not None and self.recipe.max_doublings else self.recipe.training.num_steps
        operator = self.fresh(self.samples, candidate)
        outcome = self._train(operator, candidate, num_steps) if candidate.learning_rate else self._keep(trials)
        save_operator(operator, self.run.path / "model")
        spent = {
            "num_trials": len({trial.candidate for trial in trials}) or 1,
            "trial_steps": sum(trial.num_steps * trial.num_splits for trial in trials),
            "samples_seen": sum(trial.samples_seen for trial in trials) + outcome.pop("samples_seen"),
        }
        self.run.note_time()
        outcome = {**candidate.to_dict(), **spent, **outcome, "seconds": self.run.seconds}
        write_json(self.run.path / "outcome.json", outcome)
        self.run.set_status("complete")

    def _keep(self, trials: list[Trial]) -> dict[str, Any]:
        """Record that the operator stays as it is, the first of `trials`, and return what the outcome says of it."""
        diverged = all(trial.errors is None for trial in trials[1:])
        why = "every learning rate diverged" if diverged else "nothing did clearly better on the held-out samples"

        def say(note: Observer) -> Position:
            note(event="resumed", step=0)  # so that what an interrupted sitting said is not said twice
            note(event="kept", step=0, relative_l2=trials[0].relative_l2, reason=why)
            return Position(optimizer_bytes=0, gradient_bytes=0)

        spent = _spent(recorded(self.run, say, self.observe), num_steps=0, batch_size=0, num_trainable=0)
        return {"kept": f"the pre-trained weights: {why}", **spent}

    def _train(self, operator: Operator, candidate: Candidate, num_steps: int) -> dict[str, Any]:
        """Train on all samples, and return what the outcome says of it."""
        groups = prepare(operator, self.recipe.method, seed=self.recipe.seed)
        config = self._training(candidate, num_steps)
        source = self._source(self.samples)
        position = recorded(
            self.run,
            lambda note: train(
                operator,
                source,
                config=config,
                groups=groups,
                checkpoint=Checkpoint(self.run.path / "state"),
                observe=note,
                seed=self.recipe.seed,
            ),
            self.observe,
        )
        finish(operator)
        return _spent(
            position,
            num_steps=config.num_steps,
            batch_size=source.batch_size,
            num_trainable=sum(group.num_params for group in groups),
        )

    def _chosen(self) -> tuple[Trial | None, list[Trial]]:
        """Return the best trial and all of them, going on behind those an interrupted sitting made; None: no choice."""
        recipe, file = self.recipe, self.run.path / "trials.json"
        if not recipe.chooses:
            return None, []
        done = Trial.read_all(file)
        made = list(done)

        def attempt(candidate: Candidate, num_steps: int) -> Trial:
            made.append(self._try(candidate, num_steps))
            write_json(file, [trial.to_dict() for trial in made])
            self.run.note_time()
            return made[-1]

        return choose(
            self.candidates(),
            attempt,
            num_steps=recipe.training.num_steps,
            budget=recipe.trial_budget,
            max_doublings=recipe.max_doublings,
            done=done,
        )

    def _try(self, candidate: Candidate, num_steps: int) -> Trial:
        recipe, seen, num_splits = self.recipe, 0, len(self.recipe.splits)
        errors: list[float] = []
        for left, held_out in recipe.splits:
            scores, num_seen = self._try_on(left, held_out, candidate, num_steps)
            seen += num_seen
            if scores is None:
                return Trial(candidate, num_steps, num_splits, seen, None)
            errors += scores
        return Trial(candidate, num_steps, num_splits, seen, tuple(errors))

    def _try_on(
        self, left: Tensor, held_out: Tensor, candidate: Candidate, num_steps: int
    ) -> tuple[list[float] | None, int]:
        """Return the errors of samples held out, None if training diverged, and how many samples training saw."""
        part = self.pool.samples.problems(self.index[left])
        operator, source = self.fresh(part, candidate), self._source(part)

        def pass_on(**event: Any) -> None:
            if self.observe is not None and event["event"] == "step":
                self.observe(**event)

        try:
            if num_steps:
                groups = prepare(operator, self.recipe.method, seed=self.recipe.seed)
                config = self._training(candidate, num_steps)
                train(operator, source, config=config, groups=groups, observe=pass_on, seed=self.recipe.seed)
        except DivergedError:
            return None, num_steps * source.batch_size
        scored = self.pool.samples.problems(self.index[held_out]).in_memory(_NUM_SCORED)
        errors = sample_errors(operator, scored)
        return errors.tolist() if bool(errors.isfinite().all()) else None, num_steps * source.batch_size

    def _training(self, candidate: Candidate, num_steps: int) -> TrainingConfig:
        settings = {"learning_rate": candidate.learning_rate, "num_steps": num_steps}
        return self.recipe.training.model_copy(update=settings)

    def _source(self, samples: Samples) -> Epochs:
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

    def candidates(self) -> tuple[Candidate, ...]:
        operator = renamed(load_operator(self.model), self.recipe.rename)
        names = self.pool.samples.signature
        return self.recipe.candidates(
            fits=fits(operator, names, self.pool.samples.grid), has_coefficients=bool(names.coefficients)
        )

    def fresh(self, samples: Samples, candidate: Candidate) -> Operator:
        operator = renamed(load_operator(self.model), self.recipe.rename)
        operator.require_lead_times(samples.lead_times)
        operator.lead_times = operator.lead_times or samples.lead_times
        signature, grid = samples.signature, samples.grid
        if fits(operator, signature, grid):
            if candidate.coefficients == "refitted":
                few = samples.in_memory(_NUM_FITTED)
                operator.normalization = refit_coefficients(operator.normalization, operator.signature, few)
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

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(rate) for rate in self.recipe.learning_rates)

    def fresh(self, samples: Samples, candidate: Candidate) -> Operator:
        try:
            normalization = _fit(samples, self.pool.homogeneities, self.model.normalization)
        except DataError as error:
            raise DataError(f"From scratch on {self.recipe.num_samples} samples: {error}") from error
        settings = self.model.resolve().on(samples.grid)
        operator = build_operator(samples.signature, settings, normalization, seed=self.recipe.seed)
        operator.lead_times = samples.lead_times
        return operator


def _spent(position: Position, *, num_steps: int, batch_size: int, num_trainable: int) -> dict[str, Any]:
    sizes = {"optimizer_bytes": position.optimizer_bytes, "gradient_bytes": position.gradient_bytes}
    return {"num_steps": num_steps, "samples_seen": num_steps * batch_size, "num_trainable": num_trainable, **sizes}


def _fit(samples: Samples, homogeneities: tuple[Homogeneity, ...], kind: NormalizationKind) -> Normalization:
    kind = "constant" if kind == "joint" and not homogeneities else kind
    return fit_normalization(samples.in_memory(_NUM_FITTED), homogeneities, kind=kind)
