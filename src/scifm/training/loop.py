"""The training loop: steps, schedule, validation, early stopping, and what is written. Nothing else.

`processes` says on which device, `sharing` has the gradient of a step and how several processes hold the operator.
Batches come by step number (`scifm.data.stream`), the learning rate is a function of the step, so a run that stops
anywhere goes on exactly where it was. A batch is that of all processes together: however many there are, a step is the
same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol, cast

import torch
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from scifm.config import Config, refuse_idle
from scifm.data.partly_solved import PartlySolved
from scifm.data.staged import Staged, stage_of
from scifm.data.stream import WHOLE, BatchSource, Epochs
from scifm.errors import suggest
from scifm.evaluation.pointwise import METRICS
from scifm.fields.batch import Batch
from scifm.fields.gaps import require_whole
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for, lent_to_torch
from scifm.models.operator import Operator
from scifm.objectives.named import NamedObjective
from scifm.objectives.objective import Objective
from scifm.objectives.supervised import RelativeL2
from scifm.training.checkpoint import Checkpoint, DivergedError, Position, require_finite
from scifm.training.costs import available_memory, measure_need, require_memory
from scifm.training.floors import floors_at
from scifm.training.loggers import NamedLoggers
from scifm.training.optimizers import AdamW, LevenbergMarquardtSteps, NamedOptimizer, require_whole_set
from scifm.training.processes import ALONE, World, device_for, stop_requests
from scifm.training.schedules import SCHEDULES, NamedSchedule, learning_rate_factor
from scifm.training.sharing import SharedGradient, Strategy
from scifm.training.validation import validation_errors
from scifm.training.weights import (
    Anchors,
    MovingAverage,
    ParameterGroup,
    Precision,
    bytes_of_gradients,
    bytes_of_optimizer,
    dtype_of,
    in_precision,
    place,
    whole,
)  # fmt: skip

__all__ = [
    "DivergedError", "Observer", "TrainingConfig", "prepared", "product_precision", "silent", "train",
]  # fmt: skip


class TrainingConfig(Config):
    """How to train.

    Args:
        num_steps: optimizer steps in all.
        batch_size: samples a step, of all processes together.
        micro_batches: pieces in which each process takes its share of a step, one after the other, to save memory.
        learning_rate: peak learning rate.
        schedule: of the learning rate, a key of ``scifm.training.schedules.SCHEDULES``: ``one_cycle``, ``cosine``,
            ``constant``.
        warmup_fraction: share of the steps in which the learning rate rises.
        weight_decay: decoupled.
        optimizer: a name of ``scifm.training.optimizers.OPTIMIZERS``, or a table of its name and settings.
        objective: a name of ``scifm.objectives.OBJECTIVES``, or a table of its name and settings.
        validation_metric: a name of ``scifm.evaluation.METRICS``: what `patience` and the best state go by.
        gradient_clip: largest norm of the gradient; absent: no clipping.
        validate_every: steps between validations.
        log_every: steps between log lines of the training loss.
        checkpoint_every: steps between saved states. The newest two are kept, and the best one by validation.
        keep_every: keep also the states of steps that this divides; absent: none.
        patience: stop after this many validations without a better score and go back to the weights that had the best
            one; absent: train to the end and keep the last weights.
        ema_decay: score, and end with, the exponential moving average of the weights, which keeps this share of itself
            at every step; absent: the weights themselves.
        precision: ``32-true``, ``64-true`` or ``bf16-mixed``.
        tf32: on NVIDIA GPUs, multiply float32 matrices in TensorFloat-32 (10 bits of mantissa); no effect elsewhere.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        strategy: how several processes hold the operator: ``ddp``, a copy each, or ``fsdp``, a share each.
        recompute: compute the inside of layers again in the backward pass instead of keeping it: less memory, more
            time.
        loggers: names of ``scifm.training.LOGGERS``, or tables of their names and settings: who is told of every event
            besides ``metrics.jsonl``. They change no result, and are no part of what a run is known by.
    """

    num_steps: int = Field(1000, ge=1)
    batch_size: int = Field(32, ge=1)
    micro_batches: int = Field(1, ge=1)
    learning_rate: float = Field(3e-3, gt=0, allow_inf_nan=False)
    schedule: NamedSchedule = "one_cycle"
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    optimizer: NamedOptimizer = AdamW()
    objective: NamedObjective = RelativeL2()
    validation_metric: str = "relative_l2"
    gradient_clip: float | None = Field(None, gt=0)
    validate_every: int = Field(250, ge=1)
    log_every: int = Field(25, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    keep_every: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    precision: Precision = "32-true"
    tf32: bool = False
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    strategy: Strategy = "ddp"
    recompute: bool = False
    loggers: NamedLoggers = ()

    @model_validator(mode="after")
    def _every_setting_counts(self) -> TrainingConfig:
        if SCHEDULES[self.schedule].rise is None:
            refuse_idle(self, ("warmup_fraction",), f"a {self.schedule} schedule does not rise", prefix="training.")
        for name, why in self.optimizer.refuses.items():
            refuse_idle(self, (name,), why, prefix="training.")
        if self.optimizer.takes_squares and not self.objective.sums_squares:
            raise ValueError(
                f"optimizer '{self.optimizer.name}' needs an objective that says what it is the sum of squares of, "
                f"such as 'collocation'; '{self.objective.name}' does not"
            )
        return self

    @field_validator("validation_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        if value not in METRICS:
            raise ValueError(suggest(value, METRICS))
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Leave out what came later and is at its default: a recipe of before finds its run folder again."""
        settings: dict[str, Any] = handler(self)
        later: dict[str, Any] = {"optimizer": AdamW.name, "validation_metric": "relative_l2"}
        later["loggers"] = settings.get("loggers") if (info.context or {}).get("record") else []
        return {name: value for name, value in settings.items() if later.get(name, object()) != value}


class Observer(Protocol):
    """Told about every event; a run's `log` is one, a progress bar another."""

    def __call__(self, **event: Any) -> None: ...


def silent(**event: Any) -> None:
    """Be the observer that passes over everything."""


# --- training ---------------------------------------------------------------------------------------------------------


def train(
    operator: Operator,
    source: BatchSource,
    *,
    config: TrainingConfig,
    groups: Sequence[ParameterGroup] | None = None,
    validation: Batch | None = None,
    checkpoint: Checkpoint | None = None,
    observe: Observer | None = None,
    world: World = ALONE,
    seed: int = 0,
    watch_memory: bool = True,
) -> Position:
    """Train `operator` in place.

    Args:
        operator: its weights are changed.
        source: batches by step number.
        config: how to train.
        groups: the weights that train; all, alike, when left out. The rest should be frozen (``requires_grad`` False).
        validation: samples to score; needed for early stopping.
        checkpoint: where the state is kept; resumed from when it holds one. None: nothing is kept.
        observe: called with every event: ``resumed`` first, ``damaged`` for each state that had to be passed over,
            ``memory``, ``floor`` (what the objective is at the truth, by system), ``step``, ``spike``, ``train``,
            ``valid``, and ``saving`` before a state is written.
        world: the processes that train together, connected; each calls this with the same arguments, and ends with
            the same weights.
        seed: of what a network of someone else's draws while it trains, such as dropout; each process draws its own.
        watch_memory: whether to measure first what a step holds, and to refuse what does not fit. Who trains the same
            many times measures once.

    Returns:
        Where training ended.

    Raises:
        DivergedError: if the loss or a gradient becomes NaN or infinite; the weights stay as they were before that
            step, the last saved state is kept, and the batch is recorded beside it.
        ConfigError: if `config` names loggers, which write beside a run's log: here is none.
        RunError: if there is not enough memory, the disk is full, or no saved state is whole.
        KeyboardInterrupt: after Ctrl-C, once the state is saved; `StopRequested`, which is one too, after SIGTERM,
            SIGUSR1 or SIGUSR2.
    """
    why = "a training that is no run has no log for them to follow; give it an observer"
    refuse_idle(config, ("loggers",), why, prefix="training.")
    groups = groups if groups is not None else [ParameterGroup(tuple(operator.parameters()))]
    observe = observe if observe is not None else silent  # one that keeps a list of events is false while it is empty
    loop = _Loop(operator, source, config, groups, validation, checkpoint, observe, world, seed)
    return loop.run(watch_memory=watch_memory)


def prepared(
    objective: Objective, source: BatchSource, operator: Operator, device: torch.device | None = None
) -> Objective:
    """Return the objective for samples of a source, after the look at them that it asks for.

    Of what is sampled without end it sees the first batch.

    Args:
        device: where it will be asked: what it finds lies there and is not copied at every step. None: where they lie.

    Raises:
        ConfigError: if points of the samples may be missing, and it would count them.
        StoreError, DataError: if the samples cannot be read.
    """
    if not objective.leaves_out_gaps:
        require_whole(
            objective.counted_gaps(source.signature, source.gaps),
            f"The objective '{objective.name}' counts every point",
            "Choose training.objective = 'relative_l2', or fill the gaps (gaps = { fill = … } in the map).",
        )
    if not objective.num_looked_at:
        return objective
    samples = _seen(source)
    looked_at = samples if isinstance(samples, Batch) else samples.some(objective.num_looked_at)
    looked_at = looked_at if objective.needs_solutions else looked_at.with_targets(None)
    return objective.on(operator.align(looked_at).to(device))


def _seen(source: BatchSource) -> Samples | PartlySolved | Batch:
    """Return the samples that a source has or, of what is drawn without end, its first batch."""
    if isinstance(source, Staged):
        return _seen(source.sources[-1])
    if isinstance(source, PartlySolved):
        return source
    return source.samples if isinstance(source, Epochs) else source.batch(0)


@contextmanager
def product_precision(tf32: bool) -> Iterator[None]:
    """Let GPUs multiply float32 matrices in TensorFloat-32, and put torch's global setting back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Loop:
    def __init__(
        self,
        operator: Operator,
        source: BatchSource,
        config: TrainingConfig,
        groups: Sequence[ParameterGroup],
        validation: Batch | None,
        checkpoint: Checkpoint | None,
        observe: Observer,
        world: World,
        seed: int,
    ) -> None:
        self.whole, self.source, self.config, self.world = operator, source, config, world
        self.validation, self.checkpoint, self.observe = validation, checkpoint, observe
        self.device, self.dtype = device_for(config.accelerator, world), dtype_of(config.precision)
        self.objective = prepared(config.objective, source, operator, self.device)
        require_whole_set(config.optimizer, source)
        place(operator, self.device, self.dtype)
        drawing = sorted({"cpu", str(self.device)})
        self.generators = [generator_for(seed, "training", world.rank, device=device) for device in drawing]
        self.gradient = SharedGradient(
            operator,
            self.objective,
            source,
            world,
            strategy=config.strategy,
            recompute=config.recompute,
            device=self.device,
            precision=config.precision,
            micro_batches=config.micro_batches,
            asks_again=config.optimizer.takes_closure or config.optimizer.takes_squares,
            seed=seed,
        )
        self.operator, groups = self.gradient.trained, self.gradient.groups(groups, operator)
        rates = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
        self.optimizer = config.optimizer.build(groups, **rates)
        self.trained = [parameter for group in groups for parameter in group.parameters]
        self.average = MovingAverage(self.operator, self.trained, config.ema_decay)
        self.anchors = Anchors(groups)  # before a saved state is loaded: a resumed run is held where it first began
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.saved_step: int | None = None

    def run(self, *, watch_memory: bool) -> Position:
        self._resume()
        self.operator.calibration = None  # of the weights before
        self.operator.train()
        tf32 = self.config.tf32 and self.device.type == "cuda"
        with stop_requests() as stop_requested, product_precision(tf32):
            self.gradient.require_samples(self.position.step)
            if self.position.step == 0:
                if watch_memory:
                    self._require_memory()
                self._tell_floor()
            while self.position.step < self.config.num_steps and not self._out_of_patience():
                self._step()
                self._keep_books()
                if self.world.any(stop_requested() is not None):
                    break
            self._save()
            if (request := self.world.stop_of_all(stop_requested())) is not None:
                raise request
        self.average.put()
        self.gradient.give_back(self.whole)
        if self.best:
            self.whole.load_state_dict({name: whole(tensor) for name, tensor in self.best.items()})
        self.whole.eval()
        return self.position

    def _drawing(self, generators: Sequence[torch.Generator]) -> AbstractContextManager[None]:
        """Let the network draw from these, if it draws at all."""
        return lent_to_torch(generators) if self.whole.uses_global_generator else nullcontext()

    def _resume(self) -> None:
        damaged: dict[str, str] = {}
        if self.checkpoint is not None:
            restored = self.checkpoint.load(self.operator, self.optimizer, self.generators)
            self.position, self.best, damaged = restored.position, restored.best, restored.damaged
            self.saved_step = self.position.step or None
            self.average.restore(restored.average)
        self.observe(event="resumed", step=self.position.step)
        for name, reason in damaged.items():
            self.observe(event="damaged", step=self.position.step, file=name, reason=reason)

    def _require_memory(self) -> None:
        batch, generator = self.gradient.batch(0, self.gradient.pieces[0]), self.gradient.generator(0, WHOLE)

        def loss_of(operator: Operator, few: Batch) -> Tensor:
            with in_precision(self.config.precision, self.device):
                operator.redraw(generator)
                return self.objective(operator, few, step=0, generator=generator)

        with self._drawing([generator.clone_state() for generator in self.generators]):
            need = measure_need(
                self.whole,
                loss_of,
                batch,
                keeps_best=self.config.patience is not None,
                keeps_average=self.config.ema_decay is not None,
                saves=self.checkpoint is not None,
                num_moments=self.config.optimizer.num_moments,
            )
        require_memory(need, available_memory(self.device), batch_size=batch.num_samples)
        self.observe(event="memory", step=1, **need.to_dict())  # told once, of the first step on

    def _tell_floor(self) -> None:
        """Say what the objective is at the truth, where it says that this is not zero."""
        if self.validation is not None and self.world.is_first:
            truth = self.validation.to(self.device, self.dtype)
            if floors := floors_at(self.objective, self.operator, truth):
                self.observe(event="floor", step=1, **floors)

    def _learning_rate(self) -> float:
        c = self.config
        factor = learning_rate_factor(c.schedule, self.position.step, c.num_steps, warmup_fraction=c.warmup_fraction)
        return c.learning_rate * factor

    def _gradient_norm(self) -> Tensor:
        """Return the norm of the gradient, which is computed once, for clipping and for the guard."""
        norm = get_total_norm([weight.grad for weight in self.trained if weight.grad is not None])
        if self.config.gradient_clip is not None:
            clip_grads_with_norm_(self.trained, self.config.gradient_clip, norm)
        return whole(norm)

    def _step(self) -> None:
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["learning_rate_factor"]
        losses, batch = self._evaluated()
        *pieces, norm = torch.cat([losses, self._gradient_norm()[None]]).tolist()  # the one time a GPU is waited for
        value = self.gradient.total_loss(pieces)
        require_finite(
            value,
            norm,
            step=self.position.step,
            learning_rate=self._learning_rate(),
            batch=batch,
            source=self.source,
            checkpoint=self.checkpoint if self.world.is_first else None,
        )
        self._move(value)
        self.anchors.pull(self._learning_rate())
        if self.position.optimizer_bytes is None:  # all there after the first step, and the same ever after
            self.position.optimizer_bytes = bytes_of_optimizer(self.optimizer)
            self.position.gradient_bytes = bytes_of_gradients(self.operator)
        self.position.loss_sum += value
        self.position.step += 1
        self.average.follow(self.position.step)
        spike = self.position.note_loss(value)
        self.position.seconds += time.perf_counter() - started
        if spike is not None:
            self.observe(event="spike", step=self.position.step, loss=value, times_median=spike)

    def _evaluated(self) -> tuple[Tensor, Batch]:
        """Put a fresh gradient beside the weights; return the losses of the pieces and the last of these."""
        self.optimizer.zero_grad()
        with self._drawing(self.generators):
            return self.gradient.compute(self.position.step)

    def _stage(self, step: int) -> tuple[int, int]:
        return stage_of(self.source, step), self.objective.stage(self.whole, step)

    def _move(self, value: float) -> None:
        """Let the optimizer take its step; one that asks again is given what is known of where it stands first."""
        optimizer, step = self.config.optimizer, self.position.step
        if step:
            begins = self._stage(step) != self._stage(step - 1)
            if begins:
                self.position.recent_losses = []  # another stage has other losses, which is no spike
            if optimizer.compares and (begins or self.objective.draw(step) != self.objective.draw(step - 1)):
                self.optimizer.state.clear()
        if optimizer.takes_squares:
            cast(LevenbergMarquardtSteps, self.optimizer).step(lambda: self.gradient.squares(step))
            return
        if not optimizer.takes_closure:
            self.optimizer.step()
            return
        known = [value]
        self.optimizer.step(
            closure=lambda: known.pop() if known else self.gradient.total_loss(self._evaluated()[0].tolist())
        )

    def _keep_books(self) -> None:
        p, c = self.position, self.config
        last = p.step == c.num_steps
        self.observe(event="step", step=p.step)
        if p.step % c.log_every == 0 or last:
            since = c.log_every if p.step % c.log_every == 0 else p.step % c.log_every
            numbers = {"loss": p.loss_sum / since, "learning_rate": self._learning_rate(), "seconds": p.seconds}
            self.observe(event="train", step=p.step, **numbers)
            p.loss_sum = 0.0
        is_best = False
        if self.validation is not None and (p.step % c.validate_every == 0 or last):
            is_best = self._validate(self.validation)
        # early stopping carries the best weights in every state, so theirs need not be kept
        if not last and (p.step % c.checkpoint_every == 0 or (is_best and c.patience is None)):
            self._save()

    def _validate(self, batch: Batch) -> bool:
        """Score the weights; return whether they are the best so far."""
        with self.average.in_place(), self._drawing(self.generators):
            metrics = ("relative_l2", self.config.validation_metric)
            scores = validation_errors(self.operator, batch.to(dtype=self.dtype), metrics, self.world)
            score = scores[self.config.validation_metric]
            is_best = score < self.position.best_score
            if is_best and self.config.patience is not None:
                self.best = {name: tensor.detach().clone() for name, tensor in self.operator.state_dict().items()}
        self.observe(event="valid", step=self.position.step, **scores)
        if is_best:
            self.position.best_score, self.position.best_step = score, self.position.step
        return is_best

    def _out_of_patience(self) -> bool:
        if self.config.patience is None or self.validation is None:
            return False
        return self.position.step - self.position.best_step >= self.config.patience * self.config.validate_every

    def _save(self) -> None:
        if self.checkpoint is None or self.saved_step == self.position.step:
            return
        self.observe(event="saving", step=self.position.step)
        self.checkpoint.save(
            self.operator,
            self.optimizer,
            self.position,
            self.best,
            average=self.average.values,
            generators=self.generators,
            keep_every=self.config.keep_every,
        )
        self.saved_step = self.position.step
