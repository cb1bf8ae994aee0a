"""Adapting to a new system with few samples: fine-tuning, and training from scratch beside it under the same rules.

Both choose alike (`scifm.training.choice`): candidates train on part of the downstream samples, the rest scores them,
and the winner trains again on all of them. With an objective that reads no label (`scifm.training.label_free`) nothing
is solved and nothing held out: candidates are compared by the objective itself. The test set plays no part. Trials are
counted and recorded. Fine-tuning chooses whether the constants of the coefficients are fitted anew, besides the
learning rate, and may not train at all.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.config import build_config, refuse_idle
from scifm.data.equations import equations_for
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.origins import DownstreamPool, Origin, StoreOrigin, SystemOrigin
from scifm.data.run_origin import RunOrigin, provenance_of
from scifm.data.store import Store
from scifm.data.stream import Epochs
from scifm.data.subsets import nested_subsets
from scifm.errors import ConfigError, DataError
from scifm.fields.domain import Domain
from scifm.fields.gaps import Gaps
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization, NormalizationKind
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.fields.window import NEXT_FRAME, WINDOW_SETTINGS, Pace
from scifm.models.equations import taught
from scifm.models.folder import ModelPlace, digest, find_model, pace_of
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import load_operator
from scifm.models.surgery import fits, renamed, with_channels
from scifm.runs import Run, write_json
from scifm.systems.system import System
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.choice import AdaptRecipe, Candidate, Trial, choose
from scifm.training.label_free import objective_of_each, unsolved_pool, without_solutions
from scifm.training.loggers import require_loggers
from scifm.training.loop import DivergedError, Observer, train
from scifm.training.methods import FinetuneMethod, finish, prepare
from scifm.training.pretrain import ModelConfig, build_operator, require_solutions, settled
from scifm.training.processes import require_alone
from scifm.training.recording import recording
from scifm.training.validation import sample_errors
from scifm.wording import plural

__all__ = ["AdaptRecipe", "finetune", "from_scratch"]

Source = DownstreamPool | Origin | System | Store
"""Where downstream samples are taken from."""

_NUM_FITTED = 512  # samples of a large store that a normalization is fitted on
_NUM_SCORED = 512  # and that score a learning rate


def finetune(
    parent: Run | str | Path,
    pool: Source,
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
        ConfigError: if a setting is not valid, a logger needs a package that is not installed, or a launcher started
            several processes.
        DataError: if there are too few samples.
        RunError: if the parent is not complete, or the folder is in use or cannot be written.
        SignatureError: if the samples have another number of dimensions.
    """
    require_alone("Fine-tuning")
    whole = _recipe("finetune", recipe, settings)
    place = find_model(parent)
    known = renamed(load_operator(place.folder), whole.rename)
    if whole.history is not None:
        _require_history(known.config, whole.history)
    beginning = {"parent_config": place.run.config} if place.run else {"parent_model": digest(place.folder)}
    downstream = _pool(pool, whole, place, pace_of(place.folder), known.signature.outputs)
    return _Finetuning(whole, downstream, observe, beginning, place.folder).run_in(out, parent=place.path)


def from_scratch(
    model: ModelConfig | Run | str | Path,
    pool: Source,
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
    place, pace = None, None
    if not isinstance(model, ModelConfig):
        place = find_model(model)
        operator = load_operator(place.folder)
        pace = operator.pace
        model = ModelConfig(network=operator.config, normalization=operator.normalization.kind)
    model = ModelConfig(network=model.resolve(), normalization=model.normalization)
    nothing_to_keep: dict[str, Any] = {"method": FinetuneMethod(), "try_zero_shot": False, "interpolation": (1.0,)}
    nothing_to_keep["refit_coefficients"] = "never"
    whole = _recipe("from_scratch", recipe, settings)
    of_finetuning = settings.keys() & {"method", "rename", "interpolation"}  # a whole recipe may serve both ways
    refuse_idle(whole, sorted(of_finetuning), "training from scratch starts from no operator and trains all weights")
    whole = whole.model_copy(update=nothing_to_keep)
    network = model.resolve()
    if whole.history is not None:
        _require_history(network, whole.history)
    pace = pace or Pace(getattr(network, "history", None) or 1)
    downstream = _pool(pool, whole, place, pace)
    return _FromScratch(whole, downstream, observe, {"model": model.to_dict()}, model).run_in(out)


def _recipe(kind: str, recipe: AdaptRecipe | None, settings: dict[str, Any]) -> AdaptRecipe:
    tree = {**(recipe.to_dict() if recipe is not None else {}), **settings}
    whole = build_config(AdaptRecipe, tree, source=f"settings of {kind}")
    require_loggers(whole.training.loggers)
    return whole


def _require_history(network: OperatorConfig, asked: int) -> None:
    """Refuse input frames that an operator cannot take; one that never saw any that follow each other may take many."""
    taken = getattr(network, "history", None)
    if taken is not None and taken != asked:
        raise ConfigError(
            f"history = {asked} was asked for, and the operator takes {plural(taken, 'input frame')}. Leave it out."
        )


def _pool(
    pool: Source, recipe: AdaptRecipe, model: ModelPlace | None, pace: Pace, outputs: tuple[str, ...] = ()
) -> DownstreamPool:
    """Return the problems that are adapted to; `outputs` are what the operator answers."""
    if isinstance(pool, System):
        if model is None or (origin := RunOrigin.of_model(model)) is None:
            raise ConfigError(
                "Nothing says on which grid to sample the system: give a store, an origin (SystemOrigin.of(system, "
                "grid)), or adapt a run instead of a model."
            )
        pool = recipe.framed(SystemOrigin.of(pool, origin.grid), pace)  # the grid a run was trained on last
    if isinstance(pool, Store):
        pool = recipe.framed(StoreOrigin(pool), pace)
    if isinstance(pool, Origin):
        count = max(1024, recipe.num_samples)
        if recipe.reads_labels:
            require_solutions(pool.signature, pool.name)
            pool = pool.pool(count, recipe.seed)
        else:
            pool = unsolved_pool(pool, count, recipe.seed, recipe.training.objective)
    frames = {"stride": recipe.stride or 1, "history": recipe.history or 1, "horizon": recipe.horizon}
    usual = NEXT_FRAME.to_dict()
    frames |= {name: getattr(recipe, name) for name in WINDOW_SETTINGS if name not in frames}
    for name, asked in frames.items():
        if asked not in (usual[name], has := getattr(pool.window, name)):
            raise ConfigError(f"{name} = {asked} was asked for, and the samples have {has}.")
    return pool if recipe.reads_labels else without_solutions(pool, outputs)


@dataclass(eq=False)
class _Adaptation(abc.ABC):
    """Choose a learning rate, train with it, keep the outcome. Subclasses say what training starts from."""

    recipe: AdaptRecipe
    pool: DownstreamPool
    observe: Observer | None
    beginning: dict[str, Any]  # what training starts from, for the record
    model: Any  # the same, for `fresh`

    kind: ClassVar[str]

    run: Run = field(init=False)
    index: Tensor = field(init=False)  # of the pool's problems: those that are used
    memory_is_known: bool = field(init=False, default=False)  # a trial has measured it: the others are like that one

    @abc.abstractmethod
    def candidates(self) -> tuple[Candidate, ...]:
        """Return what there is to choose from."""

    @abc.abstractmethod
    def fresh(self, samples: Samples, candidate: Candidate) -> Operator:
        """Return an operator to train on `samples`."""

    def run_in(self, out: str | Path, *, parent: Path | None = None) -> Run:
        """Do all that is not done yet in the run folder of these settings under `out`."""
        recipe, origin = self.recipe, self.pool.origin
        config = {"kind": self.kind, **recipe.to_record(), "origin": origin, **self.beginning}
        name = f"{self.kind}-{recipe.num_samples}-seed{recipe.seed}"
        self.run = run = Run.prepare(out, name, config, parent=parent)
        with run.locked():
            if not run.is_complete:
                subset = nested_subsets(self.pool.num_problems, [recipe.num_samples], recipe.seed)
                self.index = subset[recipe.num_samples]
                write_json(run.path / "subset.json", {"pool": origin, "index": self.index.tolist()})
                run.set_status("running")
                self._carry_out(self.pool.samples.problems(self.index))
                run.set_status("complete")
        return run

    def _carry_out(self, samples: Samples) -> None:
        run, recipe = self.run, self.recipe
        best, trials = self._chosen()
        candidate = best.candidate if best is not None else self.candidates()[0]
        if best is not None and best.errors is None:
            raise DivergedError(
                f"Every learning rate of {list(recipe.learning_rates)} diverged on {recipe.num_samples} samples. "
                "Give smaller ones in learning_rates."
            )
        num_steps = best.num_steps if best is not None and recipe.max_doublings else recipe.training.num_steps
        operator, seen = self.fresh(samples, candidate), sum(trial.samples_seen for trial in trials)
        if candidate.learning_rate:
            known, few = operator.domain, operator.align(samples.in_memory(_NUM_FITTED))
            times, forms = known.lead_times, known.forms or few.forms
            domain = Domain.of(few, operator.normalization, lead_times=times, forms=forms)
            operator.domain = replace(domain, meanings=dict(self.pool.meanings))
            source, checkpoint = self._source(samples), Checkpoint(run.path / "state")
            before = self._to_go_back_to(operator)
            with recording(run, self.observe, recipe.training.loggers) as note:
                position, num_trainable = self._train(operator, source, candidate, num_steps, note, checkpoint)
            finish(operator)
            share = best.interpolation if best is not None else recipe.interpolation[0]
            _interpolate(operator, before, share)
            seen += num_steps * source.batch_size
            outcome: dict[str, Any] = {} if share == 1 else {"interpolation": share}
        else:
            position, num_steps, num_trainable, outcome = Position(), 0, 0, {"kept": self._stay(trials)}
        operator.provenance = provenance_of(run)
        operator.save_pretrained(run.path / "model")
        run.note_time()
        spent = {
            "num_trials": len({trial.candidate for trial in trials}) or 1,
            "trial_steps": sum(trial.num_steps * trial.num_splits for trial in trials),
            "samples_seen": seen,
            "num_steps": num_steps,
            "num_trainable": num_trainable,
            "optimizer_bytes": position.optimizer_bytes or 0,
            "gradient_bytes": position.gradient_bytes or 0,
            "seconds": run.seconds,
        }
        write_json(run.path / "outcome.json", {**candidate.to_dict(), **outcome, **spent})

    def _stay(self, trials: list[Trial]) -> str:
        """Record that the operator stays as it is, the first of `trials`; return what the outcome says of it."""
        diverged, by = all(trial.errors is None for trial in trials[1:]), trials[0].by
        better = "on the held-out samples" if self.recipe.reads_labels else f"by the {by}"
        why = "every learning rate diverged" if diverged else f"nothing did clearly better {better}"
        with recording(self.run, self.observe, self.recipe.training.loggers) as note:
            note(event="resumed", step=0)  # so that what an interrupted sitting said is not said twice
            note(event="kept", step=0, reason=why, **{by: trials[0].score})
        return f"the pre-trained weights: {why}"

    def _source(self, samples: Samples) -> Epochs:
        return Epochs(samples, batch_size=self.recipe.training.batch_size, seed=self.recipe.seed)

    def _to_go_back_to(self, operator: Operator) -> dict[str, Tensor]:
        """Return a copy of the weights before training, if they are to be gone back to."""
        if min(self.recipe.interpolation) == 1:
            return {}
        return {name: weight.detach().clone() for name, weight in operator.named_parameters()}

    def _train(
        self,
        operator: Operator,
        source: Epochs,
        candidate: Candidate,
        num_steps: int,
        observe: Observer,
        checkpoint: Checkpoint | None = None,
        *,
        watch_memory: bool = True,
    ) -> tuple[Position, int]:
        """Train as a candidate says; return where it ended, and how many weights trained."""
        recipe = self.recipe
        groups = prepare(operator, recipe.method, seed=recipe.seed)
        settings = {"learning_rate": candidate.learning_rate, "num_steps": num_steps, "loggers": ()}
        config = recipe.training.model_copy(update=settings)
        position = train(
            operator,
            source,
            config=config,
            groups=groups,
            checkpoint=checkpoint,
            observe=observe,
            seed=recipe.seed,
            watch_memory=watch_memory,
        )
        return position, sum(group.num_params for group in groups)

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
        """Train on what each split leaves and score what it holds out; a training that diverges ends the trial."""
        errors: dict[float, list[float]] = {share: [] for share in self.recipe.interpolation if num_steps} or {1.0: []}
        seen, splits, problems = 0, self.recipe.splits, self.pool.samples.problems

        def trial(errors: list[float] | None, **of_shares: Any) -> Trial:
            counts: dict[str, Any] = {"num_steps": num_steps, "num_splits": len(splits), "samples_seen": seen}
            scores = None if errors is None else tuple(errors)
            of_shares |= {} if self.recipe.reads_labels else {"by": self.recipe.training.objective.name}
            return Trial(**vars(candidate), **counts, errors=scores, **of_shares)

        def pass_on(**event: Any) -> None:
            if self.observe is not None and event["event"] == "step":
                self.observe(**event)

        for left, held_out in splits:
            part = problems(self.index[left])
            operator, source = self.fresh(part, candidate), self._source(part)
            gaps = Gaps.of(operator.align(part.in_memory(_NUM_FITTED))) if part.gaps else Gaps()
            operator.domain = replace(operator.domain, gaps=gaps)
            seen += num_steps * source.batch_size
            unseen, before = problems(self.index[held_out]), self._to_go_back_to(operator)
            try:
                if num_steps:
                    self._train(operator, source, candidate, num_steps, pass_on, watch_memory=not self.memory_is_known)
                    self.memory_is_known = True
                    finish(operator)
                reached = 1.0
                for share in sorted(errors, reverse=True):  # each a share of the way that was left
                    _interpolate(operator, before, share / reached)
                    errors[share] += self._scores(operator, unseen).tolist()
                    reached = share
            except DivergedError:
                return trial(None)
        means = {share: math.fsum(scores) / len(scores) for share, scores in errors.items()}
        if not all(map(math.isfinite, means.values())):
            return trial(None)
        best = min(means, key=lambda share: (means[share], -share))
        return trial(errors[best], interpolation=best, furthest=means[max(means)])

    def _scores(self, operator: Operator, samples: Samples) -> Tensor:
        """Return the error of each sample, or where no label is read what the objective is of it."""
        if self.recipe.reads_labels:
            return sample_errors(operator, samples.in_memory(_NUM_SCORED))
        return objective_of_each(self.recipe.training.objective, operator, samples, _NUM_SCORED)

    def _fit(self, samples: Samples, scalings: tuple[Homogeneity, ...], kind: NormalizationKind) -> Normalization:
        kind = "constant" if kind == "joint" and not scalings else kind
        few = samples.in_memory(_NUM_FITTED)
        few = few if self.recipe.reads_labels else self.recipe.training.objective.stand_ins(few)
        return fit_normalization(few, scalings, kind=kind)


@torch.no_grad()
def _interpolate(operator: Operator, before: dict[str, Tensor], share: float) -> None:
    """Let weights go only a share of the way from those before training."""
    if share < 1:
        for name, weight in operator.named_parameters():
            weight.copy_(torch.lerp(before[name], weight, share))


class _Finetuning(_Adaptation):
    kind = "finetune"

    model: Path  # the folder of the pre-trained model

    def candidates(self) -> tuple[Candidate, ...]:
        samples, operator = self.pool.samples, renamed(load_operator(self.model), self.recipe.rename)
        known = fits(operator, samples.signature, samples.grid)
        return self.recipe.candidates(fits=known, has_coefficients=bool(samples.signature.coefficients))

    def fresh(self, samples: Samples, candidate: Candidate) -> Operator:
        operator = renamed(load_operator(self.model), self.recipe.rename)
        signature, grid = samples.signature, samples.grid
        if fits(operator, signature, grid):
            operator.require_lead_times(samples.lead_times)
            generator = generator_for(self.recipe.seed, "terms")
            taught(operator, equations_for(operator, self.pool.origin), generator=generator)
            operator.domain = replace(operator.domain, lead_times=operator.domain.lead_times or samples.lead_times)
            if candidate.coefficients == "refitted":
                few = samples.in_memory(_NUM_FITTED)
                operator.normalization = refit_coefficients(operator.normalization, operator.signature, few)
            return operator
        scalings = operator.config.scalings(self.pool.homogeneities)
        normalization = self._fit(samples, scalings, operator.normalization.kind)
        config = settled(
            operator.config.within(signature),
            signature,
            grid,
            window=self.pool.window,
            lead_times=samples.lead_times,
            homogeneities=self.pool.homogeneities,
            origin=self.pool.origin,
        )
        generator = generator_for(self.recipe.seed, "channels")
        operator, rows = with_channels(operator, signature, grid, normalization, config=config, generator=generator)
        operator.domain = replace(operator.domain, lead_times=samples.lead_times)  # another problem has another clock
        write_json(self.run.path / "channels.json", rows)
        return operator


class _FromScratch(_Adaptation):
    kind = "from_scratch"

    model: ModelConfig

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(rate) for rate in self.recipe.learning_rates)

    def fresh(self, samples: Samples, candidate: Candidate) -> Operator:
        try:
            scalings = self.model.resolve().scalings(self.pool.homogeneities)
            normalization = self._fit(samples, scalings, self.model.normalization)
        except DataError as error:
            raise DataError(f"From scratch on {self.recipe.num_samples} samples: {error}") from error
        settings = settled(
            self.model.resolve(),
            samples.signature,
            samples.grid,
            window=self.pool.window,
            lead_times=samples.lead_times,
            homogeneities=self.pool.homogeneities,
            origin=self.pool.origin,
        )
        operator = build_operator(samples.signature, settings, normalization, seed=self.recipe.seed)
        operator.domain = Domain(samples.lead_times)
        return operator
