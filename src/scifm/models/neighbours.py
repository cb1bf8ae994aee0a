"""Answers corrected by a handful of solved examples, without training: neighbours in the space of answers.

After Chen et al., "Data-efficient operator learning via unsupervised pretraining and in-context learning"
(arXiv:2402.15734). A **demonstration** is a problem with its solution. The operator answers all of them too, so every
point of theirs has features, what the operator said there, and the truth. A point that is asked about is compared with
all points of all demonstrations: those whose features are nearest say what the truth was where the operator said the
same. That teaches what the operator gets wrong everywhere alike, such as an amplitude; not where a wave should have
been.

What is published, and what of it would break: gaps are divided by the square of the answer, which may cross zero (it
counts as 10⁻⁵ of its channel's size there); with one feature the angle between features says nothing (refused); a
coefficient of variation is infinite where neighbours are zero on average (left out of its mean); one neighbour never
differs from itself (at most the mean is taken, not less than it). Which points are neighbours hangs on values alone,
so the order of demonstrations changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from scifm.config import Config, build_config, refuse_idle
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.architecture import evaluating
from scifm.models.demonstrated import Demonstrated
from scifm.models.operator import Operator

__all__ = ["Corrected", "NeighbourCorrection", "Tally", "corrected"]

_LEAST = 1e-5  # of a channel's size: what a gap is divided by where an answer crosses zero
_MEGABYTE = 2**20


class NeighbourCorrection(Config):
    """How demonstrations correct answers.

    Args:
        way: ``published``: an answer is replaced by the mean of the true values at its neighbours, where these agree
            better than on average over the sample (standard deviation over mean, at most its own mean). ``checked``:
            the mean error at its neighbours, in units of the size of each sample's own answer, is taken from it as far
            as demonstrations say it should be: by the part, 0 to 1, that would have been best for each of them
            corrected by the others. Of one demonstration that part is 0. ``learned``: they are shown to an operator
            that learned to use them (`scifm.models.in_context`), and correct nothing. Absent: published; where nothing
            else is set either, learned of such an operator.
        neighbours: of one demonstration; of J of them √J times as many are taken, of all together, rounded down.
        passes: features of a point are so many answers, each to inputs of which a random part is set to zero, the same
            part for all samples; 0: the answer itself.
        drop: that part; what is left is divided by 1 − drop.
        cosine: multiply gaps by 1 − cos of the angle between features, of which it takes several: outputs or passes.
        memory: at most about so many megabytes for gaps at a time, which a cache holds; the answer does not hang on it.
        seed: of what is set to zero.
    """

    way: Literal["published", "checked", "learned"] | None = None
    neighbours: float = Field(20.0, ge=1, le=1e6)
    passes: int = Field(0, ge=0, le=1000)
    drop: float = Field(0.2, gt=0, lt=1)
    cosine: bool = False
    memory: float = Field(16.0, gt=0, allow_inf_nan=False)
    seed: int = 0

    @model_validator(mode="after")
    def _has_effect(self) -> NeighbourCorrection:
        if self.way == "learned":
            others = [name for name in type(self).model_fields if name != "way"]
            refuse_idle(self, others, "an operator that learned to use demonstrations is shown them as they are")
        for name in ("drop", "seed") if not self.passes else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} would have no effect without passes: leave it out, or give passes")
        return self

    def count(self, num_demonstrations: int) -> int:
        """Return how many neighbours a point has among so many demonstrations."""
        return int(self.neighbours * math.sqrt(num_demonstrations))


@dataclass
class Tally:
    """Points that were answered, and how many of these answers were changed."""

    answered: int = 0
    changed: int = 0

    @property
    def share(self) -> float:
        """The part that was changed; NaN before anything was asked."""
        return self.changed / self.answered if self.answered else math.nan

    def since(self, before: Tally) -> Tally:
        """Return what was counted after an earlier count."""
        return Tally(self.answered - before.answered, self.changed - before.changed)


@dataclass(frozen=True)
class _Pool:
    """Points of demonstrations, in an order that hangs on their values alone.

    Args:
        features: ``(point, feature)``, in their units.
        values: ``(point, value)``: what neighbours are asked for.
        owners: ``(point,)``: which demonstration each point is of.
        units: ``(feature,)``: what features are divided by.
        how: settings.
    """

    features: Tensor
    values: Tensor
    owners: Tensor
    units: Tensor
    how: NeighbourCorrection

    @classmethod
    def of(
        cls, features: Tensor, values: Tensor, owners: Tensor, *, how: NeighbourCorrection, num_outputs: int
    ) -> _Pool:
        """Return the pool of points in any order; features are those of all outputs, pass after pass."""
        units = features.new_ones(features.shape[1])
        if how.way == "published":  # else they are in units of each sample's size
            squares = features.double().square().mean(0).view(-1, num_outputs).mean(0)
            units = torch.where(squares > 0, squares.sqrt(), 1.0).to(features).repeat(features.shape[1] // num_outputs)
        features = features / units
        columns = [*features.unbind(1), *values.unbind(1)]
        order = np.lexsort([column.cpu().numpy() for column in reversed(columns)])  # the last key counts first
        places = torch.from_numpy(order).to(features.device)
        return cls(features[places], values[places], owners[places], units, how)

    def without(self, owner: int) -> _Pool:
        """Return the points of all other demonstrations."""
        kept = self.owners != owner
        return replace(self, features=self.features[kept], values=self.values[kept], owners=self.owners[kept])

    def at(self, like: Tensor) -> _Pool:
        """Return it on the device and in the precision of a tensor."""
        if self.features.device == like.device and self.features.dtype == like.dtype:
            return self
        moved = {name: getattr(self, name).to(like) for name in ("features", "values", "units")}
        return replace(self, **moved, owners=self.owners.to(like.device))

    def around(self, asked: Float[Tensor, "query feature"], num_demonstrations: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the values at the neighbours of each query, ``(query, value)``."""
        count = max(1, min(self.how.count(num_demonstrations), len(self.features)))
        numbers = count * (2 + 2 * self.values.shape[1])
        numbers += 0 if self._on_a_line else 5 * len(self.features)
        rows = max(1, int(self.how.memory * _MEGABYTE / (numbers * self.features.element_size())))
        means, spreads = [], []
        for part in (asked / self.units).split(rows):
            found = self.values[self._on_line(part, count) if self._on_a_line else self._nearest(part, count)]
            means.append(found.mean(1))
            spreads.append(found.std(1, correction=0))
        return torch.cat(means), torch.cat(spreads)

    @property
    def _on_a_line(self) -> bool:
        return self.features.shape[1] == 1

    def _on_line(self, asked: Tensor, count: int) -> Int[Tensor, "query neighbour"]:
        """Return the nearest of sorted numbers, which lie side by side: where they begin is found by halving.

        With one feature all gaps of a query are divided by the same number, which changes no order.
        """
        line, values = self.features[:, 0], asked[:, 0]
        low = torch.zeros(len(values), dtype=torch.long, device=values.device)
        high = torch.full_like(low, len(line) - count)
        for _ in range((len(line) - count).bit_length()):
            middle = (low + high) // 2
            above = line[(middle + count).clamp(max=len(line) - 1)] - values < values - line[middle]
            open_ = low < high
            low, high = torch.where(open_ & above, middle + 1, low), torch.where(open_ & ~above, middle, high)
        return low[:, None] + torch.arange(count, device=low.device)

    def _nearest(self, asked: Tensor, count: int) -> Int[Tensor, "query neighbour"]:
        gaps = asked.new_zeros(len(asked), len(self.features))
        for theirs, ours in zip(asked.unbind(1), self.features.T.contiguous(), strict=True):
            gap = theirs[:, None] - ours
            if self.how.way == "published":
                gap = gap.div_(theirs.abs().clamp(min=_LEAST)[:, None]).square_()
            gaps.addcmul_(gap, gap)
        if self.how.cosine:
            directions = [functional.normalize(own, dim=1) for own in (asked, self.features)]
            gaps *= (1 - directions[0] @ directions[1].T).clamp_(min=0).square_()  # gaps are squares
        return gaps.topk(count, dim=1, largest=False).indices  # NaN counts as larger than all


class Corrected(Demonstrated):
    """An operator whose answers are corrected by demonstrations; see `corrected`.

    Of a march each step is corrected before the next one. Gradients go through the operator's own answers alone.

    Attributes:
        how: settings.
        tally: counts the points that were answered, and those of them that were changed.
    """

    def __init__(self, operator: Operator, demonstrations: Batch, how: NeighbourCorrection) -> None:
        super().__init__(operator, demonstrations)
        self.how = how = how if how.way else how.model_copy(update={"way": "published"})
        self.tally = Tally()
        self._parts = torch.zeros(len(self._channels))
        if how.cosine and len(self._channels) * max(1, how.passes) == 1:
            raise ConfigError(
                "cosine compares directions of features, and here is one feature, one output without passes: all of "
                "one sign would be as near as can be. Give passes, or leave cosine out."
            )
        self._pool = self._learned() if self.demonstrations.num_samples else None

    def _next_frame(self, batch: Batch) -> Tensor:
        own = self.operator._next_frame(batch)
        if self._pool is None:
            return own
        counted = self._counted(batch, own)
        with torch.no_grad():
            added, changed = self._correction(batch, own.detach(), counted)
        self.tally.answered += int(counted.sum())
        self.tally.changed += int(changed.sum())
        answer = own.clone()
        # not own + (other - own): what replaces an answer does so to the last bit
        replaced = added if self.how.way == "published" else own[:, :, self._channels] + added
        answer[:, :, self._channels] = torch.where(changed, replaced, own[:, :, self._channels])
        return answer

    # --- what demonstrations say ----------------------------------------------------------------------------------

    def _learned(self) -> _Pool:
        """Return the points of the demonstrations; and find, where that is asked, which part of errors to take away."""
        home, shown = self.operator.home, self.demonstrations
        own = self.operator.answers(shown.with_targets(None)).require_targets().to(*home)
        shown = shown.to(*home)
        with evaluating(self.operator), torch.no_grad():
            features = self._features(shown, own)
        truth, said = (fields[:, :, self._channels] for fields in (shown.require_targets(), own))
        valid = said.isfinite()
        valid = valid if shown.valid_targets is None else valid & shown.valid_targets[:, :, self._channels]
        sizes = _sizes(said, valid)
        values = truth if self.how.way == "published" else (truth - said) / sizes
        owners = torch.arange(len(truth), device=home[0])[:, None].expand(-1, truth[0, 0, 0].numel())
        there = valid.all(2).flatten()
        if not there.any():
            raise DataError("Demonstrations have no point at which all outputs are known: give others.")
        rows = (_rows(features)[there], _rows(values)[there], owners.flatten()[there])
        pool = _Pool.of(*rows, how=self.how, num_outputs=len(self._channels))
        if self.how.way == "checked":
            self._parts = self._best_parts(pool, features, truth, said, valid, sizes)
        return pool

    def _best_parts(
        self, pool: _Pool, features: Tensor, truth: Tensor, said: Tensor, valid: Tensor, sizes: Tensor
    ) -> Tensor:
        """Return for each output the part of corrections that is best for demonstrations corrected by the others.

        Best is where the mean of their relative L2 errors is lowest: not that of squares, which one of them that is
        far off would decide alone. Among 0, 0.001, …, 1 the first of equal ones.
        """
        parts = torch.linspace(0, 1, 1001, dtype=torch.float64, device=truth.device)[:, None]
        loss = torch.zeros(len(parts), len(self._channels), dtype=torch.float64, device=truth.device)
        for owner in range(len(truth)):
            one, others = slice(owner, owner + 1), pool.without(owner)
            if not len(others.features):
                continue
            mean, _ = others.around(_rows(features[one]), len(truth) - 1)
            added, error = _fields(mean, said[one]) * sizes[one], truth[one] - said[one]
            kinds = (error, error), (error, added), (added, added), (truth[one], truth[one])
            whole, both, own, size = (
                torch.where(valid[one], first.double() * second.double(), 0.0).flatten(3).sum((0, 1, 3))
                for first, second in kinds
            )
            left = (whole - 2 * parts * both + parts.square() * own).clamp(min=0).sqrt()
            loss += torch.where(size > 0, left / size.sqrt(), 0.0)
        return parts[loss.argmin(dim=0), 0].to(truth.dtype)

    # --- an answer ------------------------------------------------------------------------------------------------

    def _correction(self, batch: Batch, own: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Return what replaces answers, or is added to them, and where; ``(batch, 1, output, *space)``."""
        assert self._pool is not None
        said = own[:, :, self._channels]
        features = self._features(batch, own)
        mean, spread = self._pool.at(own).around(_rows(features), self.demonstrations.num_samples)
        mean, spread = _fields(mean, said), _fields(spread, said)
        if self.how.way == "checked":
            parts = self._parts.to(own).view(1, 1, -1, *(1,) * (own.dim() - 3))
            return mean * parts * _sizes(said, counted), counted & (parts > 0)
        varies = spread / mean.abs()
        varies = torch.where((spread == 0) & (mean == 0), 0.0, varies)
        known = counted & varies.isfinite()
        level = torch.where(known, varies, 0.0).flatten(3).sum(3) / known.flatten(3).sum(3).clamp(min=1)
        return mean, known & (varies <= level.view(*level.shape, *(1,) * (own.dim() - 3)))

    def _features(self, batch: Batch, own: Tensor) -> Tensor:
        """Return ``(batch, 1, feature, *space)``: outputs of one pass behind those of another."""
        answers = [own]
        if self.how.passes:
            answers = []
            for number in range(self.how.passes):
                drawn = torch.rand(batch.inputs.shape[1:], generator=generator_for(self.how.seed, "drop", number))
                kept = (drawn >= self.how.drop).to(batch.inputs) / (1 - self.how.drop)
                answers.append(self.operator._next_frame(replace(batch, inputs=batch.inputs * kept)))
        channels = [answer[:, :, self._channels] for answer in answers]
        if self.how.way == "checked":
            sizes = _sizes(own[:, :, self._channels], self._counted(batch, own))
            channels = [fields / sizes for fields in channels]
        return torch.cat(channels, dim=2)

    def _counted(self, batch: Batch, own: Tensor) -> Tensor:
        """Return where an answer is to be corrected: where it means something, and is a number."""
        known, answered = own[:, :, self._channels].isfinite(), self.domain.gaps.answered(batch)
        return known if answered is None else known & answered[:, :, self._channels]


def _rows(fields: Float[Tensor, "batch 1 channel *space"]) -> Float[Tensor, "point channel"]:
    return fields[:, 0].flatten(2).transpose(1, 2).flatten(0, 1)


def _fields(rows: Float[Tensor, "point channel"], like: Tensor) -> Float[Tensor, "batch 1 channel *space"]:
    space = like.shape[3:]
    return rows.view(len(like), -1, rows.shape[1]).transpose(1, 2).reshape(len(like), 1, -1, *space)


def _sizes(fields: Tensor, counted: Tensor) -> Float[Tensor, "batch 1 channel ..."]:
    """Return the root mean square of each sample and channel over the points that count; 1 where it is zero."""
    squares = torch.where(counted, fields, 0.0).square().flatten(3).sum(3)
    sizes = (squares / counted.flatten(3).sum(3).clamp(min=1)).sqrt()
    return torch.where(sizes > 0, sizes, 1.0).view(*sizes.shape, *(1,) * (fields.dim() - 3))


def corrected(
    operator: Operator, demonstrations: Batch, how: NeighbourCorrection | None = None, **settings: Any
) -> Corrected:
    """Return an operator that answers as this one does, corrected by solved examples; nothing is trained.

    Args:
        operator: any; it is left as it is.
        demonstrations: problems with targets, of the system that will be asked about, on its grid, one step each. None
            of them: the operator's own answers.
        how: settings; or give them by name.

    Returns:
        An operator: `predict`, `evaluate`, `rollout` and checks take it.

    Raises:
        ConfigError: if a setting is not allowed, or has no effect here, or `way` is learned, which is that of
            `scifm.models.in_context.shown`.
        SignatureError: if demonstrations have no targets, or several frames of them, or do not fit the operator. Asked
            about others later: if these are of another system, grid or lead time.
        DataError: if demonstrations hold NaN, or no point at which all outputs are known.

    Example::

        corrected = scifm.corrected(operator, demonstrations, way="checked")
        scifm.evaluate(corrected, samples)
    """
    if how is not None and settings:
        raise ConfigError(f"Give settings of the correction as an object or by name, not both: {', '.join(settings)}.")
    how = how or build_config(NeighbourCorrection, settings, source="corrected")
    if how.way == "learned":
        raise ConfigError("way = 'learned' corrects nothing: show the demonstrations to the operator (scifm.shown).")
    return Corrected(operator, demonstrations, how)
