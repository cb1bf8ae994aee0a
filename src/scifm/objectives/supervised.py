"""Objectives against known targets: differentiable, one scalar, zero at the truth."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from scifm.config import refuse_idle
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import VANISHES, is_series, relative_l2, sizes_of, typical_sizes, valid_share, vanishing_part
from scifm.fields.on_device import in_a_row
from scifm.models.ensemble import Ensemble, apart
from scifm.models.operator import Operator
from scifm.objectives.conserving import budgeted_sizes, missed_budgets
from scifm.objectives.equation import Equation, Norm, residual_floor
from scifm.objectives.objective import Objective
from scifm.objectives.showing import require_learning, showing

__all__ = [
    "MeanSquaredError",
    "RelativeChange",
    "RelativeL2",
    "SummedSquaredError",
    "Supervised",
    "errors_of",
    "mean_over_members",
    "mean_over_samples",
]

_LOOKED_AT = 512  # training samples, by those that want to see some


def errors_of(prediction: Batch, truth: Batch) -> Tensor:
    """Return prediction − truth, zero in the channels that a sample has not and at points that are missing."""
    error, present = prediction.require_targets() - truth.require_targets(), truth.has(truth.signature.outputs)
    if present is not None:
        error = torch.where(present.view(len(present), 1, -1, *(1,) * (error.dim() - 3)), error, 0.0)
    return error if truth.valid_targets is None else torch.where(truth.valid_targets, error, 0.0)


def _moved(batch: Batch, generator: torch.Generator) -> Batch:
    """Return the batch with all its fields moved around the axes that wrap, all samples by the same points."""
    places = torch.rand(batch.grid.num_spatial_dims, generator=generator, device=generator.device).tolist()
    shifts = [
        int(place * points) if wraps else 0
        for place, points, wraps in zip(places, batch.grid.num_points, batch.grid.periodic, strict=True)
    ]
    axes = tuple(range(-len(shifts), 0))
    fields = {name: getattr(batch, name) for name in ("inputs", "targets", "valid_inputs", "valid_targets")}
    return replace(batch, **{name: f.roll(shifts, axes) for name, f in fields.items() if f is not None})


def mean_over_samples(losses: Tensor, truth: Batch) -> Tensor:
    """Return the mean of losses over everything that is there, samples weighed by the batch's weights.

    A sample without a target that counts adds nothing, and stays one of those that are counted: so parts of a batch
    add up to it.

    Args:
        losses: ``(batch, time, channel, …)``, zero at points that are missing; or ``(batch, 1)`` where channels have
            been summed.
        truth: what they are of.
    """
    present, valid = truth.has(truth.signature.outputs), truth.valid_targets
    if truth.loss_weights is None and present is None and valid is None:
        return losses.mean()
    if losses.dim() == 2 or (present is None and valid is None):
        each = losses.flatten(1).mean(1)
    elif valid is not None:
        each = _mean_of_valid(losses, truth, valid)
    else:
        assert present is not None
        channels = losses.transpose(1, 2).flatten(2).mean(2)  # (batch, channel)
        each = torch.where(present, channels, 0.0).sum(1) / present.sum(1)
    if truth.loss_weights is None:
        return each.mean()
    weights = truth.loss_weights
    return (each * weights).sum() / weights.sum()


def mean_over_members(losses: Sequence[Tensor]) -> Tensor:
    """Return the mean loss of the members of an ensemble, each of which learns; of one alone its own."""
    return torch.stack(list(losses)).mean() if len(losses) > 1 else losses[0]


def _mean_of_valid(losses: Tensor, truth: Batch, valid: Tensor) -> Tensor:
    """Return the mean of each sample over its frames and channels, each the mean over its points that count."""
    counted = truth.counted()
    assert counted is not None
    if losses.dim() > 3:
        count = valid.flatten(3).sum(-1).clamp(min=1).to(losses)
        losses = losses.flatten(3).mean(-1) * (valid[0, 0, 0].numel() / count)
    return torch.where(counted, losses, 0.0).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)


class Supervised(Objective):
    """Compares answers with the truth. Of windows with several targets the operator marches, and every frame counts.

    Args:
        through: of such a march, how many steps gradients go back through at most; absent: all. With 1 each frame
            teaches its own step alone, from a state that is the operator's own (the pushforward of Brandstetter,
            Worrall and Welling, arXiv:2202.03376).
        noise: standard deviation of normal noise that is added to the state fields of the inputs, in parts of each
            sample's own root mean square; a little makes forecasts steadier.
        jitter: move every batch, inputs and targets, by random whole points along each axis that wraps around. No place
            there is special, but to a network that cuts fields into patches or halves its points some are.
        shows: how many others of its part of a batch each sample is shown at most, with their answers: a number drawn
            anew for each, from 0. It is for operators that learn to use them, of kind ``in_context``; see
            `scifm.objectives.showing`. Parts of a batch then do not add up to it, as they do not see each other, and
            training with several is refused.
        diversity: of an ensemble: weight of how far its heads are apart, which is taken from the loss.
        conserve: weight of a soft penalty: the mean square of what answers miss of the integrals that their equation
            knows (`Evolving.budgets`), as means over space, in units of the root mean square of that output over
            training samples. It makes answers conserve better, not exactly: that is `scifm.models.conserved`.
        residual: weight of what answers miss of their equation, as the objective `scifm.objectives.residual.Residual`
            says it, mean over all samples, solved or not (``data.num_solved``). The other terms are means over all
            samples too, in which those without a solution count as zero: where half of a batch is solved, they weigh
            half as much beside this one as where all is.
        residual_norm: the norm of what is missed, as of `Residual`.
    """

    through: int | None = Field(None, ge=1)
    noise: float = Field(0.0, ge=0, allow_inf_nan=False)
    jitter: bool = False
    shows: int = Field(0, ge=0)
    diversity: float = Field(0.0, ge=0, allow_inf_nan=False)
    conserve: float = Field(0.0, ge=0, allow_inf_nan=False)
    residual: float = Field(0.0, ge=0, allow_inf_nan=False)
    residual_norm: Norm | None = None
    _sizes: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _equation: Equation | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Self:
        if not self.residual:
            refuse_idle(self, ("residual_norm",), "residual = 0 asks no equation", prefix="objective.")
        return self

    @property
    def num_looked_at(self) -> int:
        return _LOOKED_AT if self.conserve or self.residual else 0

    @property
    def teaches_unsolved(self) -> bool:
        return self.residual > 0

    def require_systems(self, names: Iterable[str], grid: Grid) -> None:
        if self.residual:
            self.equation.require_systems(names, grid)

    def floor(self, samples: Batch) -> dict[str, float]:
        return residual_floor(samples, norm=self.residual_norm) if self.residual else {}

    @property
    def equation(self) -> Equation:
        """What answers are asked by where there is a `residual`."""
        return self._equation or Equation(self.residual_norm)

    @property
    def adds_up(self) -> bool:
        return not self.shows

    def require_operator(self, cls: type[Operator]) -> None:
        if self.shows:
            require_learning(cls, self.shows)
        if self.diversity and not issubclass(cls, Ensemble):
            raise ConfigError(
                f"diversity = {self.diversity:g} of the objective pushes the heads of an ensemble apart; one of kind "
                f"'{cls.config_class.kind or cls.__name__}' has none. Leave it out, or give model.num_heads, 10 "
                "for example."
            )

    def __call__(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        truth = operator.align(_moved(batch, generator) if self.jitter else batch)
        asked = self._noisy(truth, generator) if self.noise else truth
        through = None if truth.num_frames == 1 else self.through
        with showing(operator, truth, self.shows, generator) if self.shows else nullcontext():
            answers = operator.each(asked, through=through)  # of an ensemble every member is trained
        losses = [self._loss(answer, truth) for answer in answers]
        loss = mean_over_members(losses)
        return loss - self.diversity * apart(operator) if self.diversity else loss

    def _loss(self, answer: Batch, truth: Batch) -> Tensor:
        loss = self.compare(answer, truth)
        if self.conserve:
            loss = loss + self.conserve * mean_over_samples(missed_budgets(answer, truth, self._sizes), truth)
        if self.residual:
            asked = truth.with_targets(answer.targets)  # where solutions count is of no account
            loss = loss + self.residual * mean_over_samples(self.equation.missed(asked), truth)
        return loss

    def on(self, samples: Batch) -> Self:
        """Return this objective with the sizes of what is conserved, and of what its equation knows.

        Raises:
            ConfigError: if it is to `conserve`, and nobody says what these samples hold; or if there is to be a
                `residual`, and they are of no system that has one.
        """
        prepared = self.model_copy()
        if self.conserve:
            prepared._sizes = budgeted_sizes(samples)
        if self.residual:
            prepared._equation = self.equation.on(samples)
        return prepared

    def _noisy(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with noise on what evolves."""
        names, inputs = batch.signature, batch.inputs
        if not names.state:
            raise SignatureError(
                f"noise = {self.noise:g} is for the states of an evolving problem; {names.outputs} are none. Leave it "
                "out."
            )
        state = in_a_row(names.state_places)
        fields = inputs[:, :, state]
        if batch.valid_inputs is None:
            square = fields.flatten(3).square().mean(-1)
        else:  # what stands at missing points is passed over when the inputs are encoded, and counts for nothing here
            valid = batch.valid_inputs[:, :, state].flatten(3)
            square = torch.where(valid, fields.flatten(3), 0.0).square().sum(-1) / valid.sum(-1).clamp(min=1)
        size = square.sqrt().view(*fields.shape[:3], *(1,) * (fields.dim() - 3))
        drawn = torch.randn(fields.shape, generator=generator, dtype=fields.dtype, device=fields.device)
        changed = inputs.clone()
        changed[:, :, state] = fields + self.noise * size * drawn
        return replace(batch, inputs=changed)

    @abc.abstractmethod
    def compare(self, prediction: Batch, truth: Batch) -> Tensor:
        """Return the loss of an answer; both have names in one order."""


class RelativeL2(Supervised):
    """Mean over samples, frames and channels of ‖prediction − truth‖₂ / ‖truth‖₂ over space.

    Every sample weighs the same whatever its size. Where a truth vanishes, such as a trajectory at rest, the error is
    divided by the typical size of that channel over the training samples instead, and by that of ones if the channel is
    zero in all of them, so that such samples are learned too. Not yet prepared by `on`, it is infinite there: there is
    no hidden ε.

    Args:
        vanishes: part of the typical size below which a truth counts as zero; absent: 1e-6, and 0.01 of what evolves,
            which may die out.
    """

    name: ClassVar[str] = "relative_l2"
    leaves_out_gaps: ClassVar[bool] = True
    vanishes: float | None = Field(None, ge=0, lt=1)
    _typical: Tensor | None = PrivateAttr(None)

    def compare(self, prediction: Batch, truth: Batch) -> Tensor:
        start, answer, wanted = self._start(truth), prediction.require_targets(), truth.require_targets()
        pair = (answer, wanted) if start is None else (answer - start, wanted - start)
        about: dict[str, Any] = {"present": truth.counted(), "valid": truth.valid_targets}
        errors = relative_l2(*pair, truth.grid, typical=self._typical, vanishes=self._part(truth), **about)
        return mean_over_samples(errors, truth)

    @property
    def num_looked_at(self) -> int:
        return _LOOKED_AT

    def _start(self, truth: Batch) -> Tensor | None:
        """Return what fields are measured from, ``(batch, time, output, *space)``; None: from zero."""
        return None

    def _part(self, samples: Batch) -> float:
        return vanishing_part(samples.signature.evolves) if self.vanishes is None else self.vanishes

    def on(self, samples: Batch) -> Self:
        """Return this objective with the typical sizes of the samples; warns of channels that vanish in some."""
        targets, start = samples.require_targets(), self._start(samples)
        targets = targets if start is None else targets - start
        prepared = super().on(samples)
        present, valid = samples.counted(), samples.valid_targets
        prepared._typical = typical = typical_sizes(targets, samples.grid, present, valid)
        if start is not None:  # that little changes now and then is nothing to be told
            return prepared
        part = self._part(samples)
        least = typical if valid is None else typical * valid_share(valid, samples.grid, targets).sqrt()
        sizes = sizes_of(targets, samples.grid, valid=valid, together=is_series(targets))
        vanished = sizes <= part * least
        vanished = (vanished if present is None else vanished & present).any(dim=1)
        nothing = "zero" if part <= VANISHES else f"below {part:g} of its usual size"
        for name, count in zip(samples.signature.outputs, vanished.sum(dim=0).tolist(), strict=True):
            if count:
                warnings.warn(
                    f"The target '{name}' is {nothing} in {count} of {len(vanished)} training samples that were looked "
                    "at. A relative error means nothing there; it is divided by the typical size of the channel "
                    "instead. Leave those samples out, or choose training.objective = 'mean_squared_error', if that is "
                    "not meant.",
                    stacklevel=2,
                )
        return prepared


class RelativeChange(RelativeL2):
    """The same of changes: ‖prediction − truth‖₂ / ‖truth − the frame before‖₂, for problems that evolve.

    The answer that nothing changes has the loss 1 in every system, slow or fast: systems of one mixture are balanced.
    Less than that has only what hardly changes beside others, see `vanishes`.

    Args:
        vanishes: part of the typical change of that field, over all systems that have it, below which errors are
            divided by the typical change instead; absent: 0.1.
    """

    name: ClassVar[str] = "relative_change"

    def _start(self, truth: Batch) -> Tensor:
        names, targets = truth.signature, truth.require_targets()
        if not names.state:
            raise SignatureError(
                f"relative_change compares with the frame before, and {', '.join(names.outputs)} have none. Choose "
                "training.objective = 'relative_l2'."
            )
        first = torch.zeros_like(targets[:, :1])
        for place, name in enumerate(names.outputs):
            if name in names.state:
                first[:, 0, place] = truth.inputs[:, -1, names.inputs.index(name)]
        return torch.cat([first, targets[:, :-1]], dim=1)

    def _part(self, samples: Batch) -> float:
        return 0.1 if self.vanishes is None else self.vanishes


class MeanSquaredError(Supervised):
    """Mean of (prediction − truth)² over everything; of fields with missing points over the others, frame by frame."""

    name: ClassVar[str] = "mean_squared_error"
    leaves_out_gaps: ClassVar[bool] = True

    def compare(self, prediction: Batch, truth: Batch) -> Tensor:
        return mean_over_samples(errors_of(prediction, truth).square(), truth)


class SummedSquaredError(Supervised):
    """Sum of (prediction − truth)² over space and channels, mean over samples: the reference paper's loss.

    Points that are missing add nothing to it.
    """

    name: ClassVar[str] = "summed_squared_error"
    leaves_out_gaps: ClassVar[bool] = True

    def compare(self, prediction: Batch, truth: Batch) -> Tensor:
        return mean_over_samples(errors_of(prediction, truth).square().flatten(1).sum(1, keepdim=True), truth)
