"""`Masked`: learn to tell whole input fields from what is shown of them; no solution is needed.

After Chen et al., "Data-efficient operator learning via unsupervised pretraining and in-context learning"
(arXiv:2402.15734), who hide points of the inputs of an equation, blur them, or both, and fine-tune the encoder. Done
otherwise here: hidden points stand at what the operator's normalization takes as zero, and sizes are those of what is
seen; where nothing is hidden all points teach (their published code has a loss of zero then); all fields count alike.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective
from scifm.objectives.supervised import mean_over_members, mean_over_samples

__all__ = ["Masked"]

_VARIES = 1e-10  # of the mean square: a smaller variance is rounding


class Masked(Objective):
    """Squared error of the fields at hidden points, each field's in units of its own variance over training samples.

    With H the hidden points of a sample (all of them where `ratio` is 0), x̂ the answer to its blurred fields without H,
    and v_c the variance of field c over all points of the samples that `on` has seen::

        mean over samples, mean over fields c:  1/|H| Σ_{p ∈ H} (x̂_c(p) − x_c(p))² / v_c

    so that the mean of every field, answered everywhere, has a loss of 1. A field that does not vary is divided by its
    mean square, one that is zero by 1. Unprepared by `on` all v_c are 1. Points that are missing from the data are
    neither shown nor asked for, and a field that a sample lacks is none of its fields.

    Args:
        ratio: part of the points that is hidden, rounded down; the same points of all fields of a sample. 0: none.
        patch: points a side of what is hidden at once, which has to divide the grid. 1: single points, as published.
        blur: lowest and highest standard deviation, in points, of a Gaussian that each sample's fields are blurred with
            before; published: [0, 1]. Absent: they are not.
    """

    name: ClassVar[str] = "masked"
    leaves_out_gaps: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = True

    ratio: float = Field(0.6, allow_inf_nan=False)
    patch: int = 1
    blur: tuple[float, float] | None = None
    _variances: Tensor | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _allowed(self) -> Masked:
        _ = self.hiding  # refuses what is not
        if not self.ratio and self.patch != 1:
            raise ValueError(f"patch = {self.patch} would have no effect: ratio = 0 hides nothing. Leave it out")
        return self

    @property
    def num_looked_at(self) -> int:
        return 512

    @property
    def hiding(self) -> Hiding:
        return Hiding(self.ratio, self.patch, self.blur)

    def require_grid(self, grid: Grid) -> None:
        self.hiding.require_grid(grid)

    def __call__(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        asked = self.hiding.of(operator.align(batch), generator)
        losses = [self.compare(answer, asked) for answer in operator.each(asked)]  # of an ensemble every member learns
        return mean_over_members(losses)

    def compare(self, prediction: Batch, truth: Batch) -> Tensor:
        """Return the loss of an answer to samples as `Hiding.of` gives them."""
        error, present = prediction.require_targets() - truth.require_targets(), truth.has(truth.signature.outputs)
        by_channel = (1, 1, -1, *(1,) * (error.dim() - 3))
        if present is not None:
            error = torch.where(present.view(len(present), *by_channel[1:]), error, 0.0)
        if truth.valid_targets is not None:
            error = torch.where(truth.valid_targets, error, 0.0)
        losses = error.square()
        if self._variances is not None:
            losses = losses / self._variances.to(losses).view(by_channel)
        return mean_over_samples(losses, truth)

    def on(self, samples: Batch) -> Self:
        """Return this objective with the variances of the fields over these samples."""
        targets, there, valid = samples.require_targets().double(), samples.counted(), samples.valid_targets
        counts = torch.ones_like(targets, dtype=torch.bool) if valid is None else valid
        if there is not None:
            counts = counts & there.view(*there.shape, *(1,) * (targets.dim() - 3))
        apart = torch.where(counts, targets, 0.0).transpose(0, 2).flatten(1)  # (channel, all that is of it)
        count = counts.transpose(0, 2).flatten(1).sum(1).clamp(min=1)
        mean, square = apart.sum(1) / count, apart.square().sum(1) / count
        counted = counts.transpose(0, 2).flatten(1)
        variance = torch.where(counted, apart - mean[:, None], 0.0).square().sum(1) / count
        size = torch.where(variance > _VARIES * square, variance, square)
        prepared = self.model_copy()
        prepared._variances = torch.where(size > 0, size, 1.0)
        return prepared
