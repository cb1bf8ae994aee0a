"""The Huber loss: squares of small errors, sizes of large ones, so that a few wild places do not outweigh the rest.

Of an error e in units of the sample's own size it is e²/2 up to δ and δ(|e| − δ/2) beyond, as Huber wrote it and the
paper on wavefields has it. The published code of that paper has another one, e²/(2δ) + δ/2 up to δ and |e| beyond:
1/δ times as steep, and never below δ/2.

References:
    Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35 (1964) 73; Lyu et al., arXiv:2405.20516.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

from pydantic import Field, PrivateAttr
from torch import Tensor
from torch.nn import functional

from scifm.fields.batch import Batch
from scifm.fields.norms import point_weights, sizes_of, typical_sizes, valid_share, vanishing_part
from scifm.objectives.supervised import Supervised, errors_of, mean_over_samples

__all__ = ["Huber"]

_LOOKED_AT = 512  # training samples


class Huber(Supervised):
    """Mean over samples, frames, channels and points of the Huber loss of (prediction − truth) / size.

    The size is the root mean square of a sample's truth, channel by channel, over all its frames and points: a frame in
    which little is left counts as little as it is. Where a truth vanishes it is that of the channel over the training
    samples.

    Args:
        delta: δ, from where on an error counts by its size.
    """

    name: ClassVar[str] = "huber"
    leaves_out_gaps: ClassVar[bool] = True

    delta: float = Field(0.2, gt=0, allow_inf_nan=False)
    _typical: Tensor | None = PrivateAttr(None)

    @property
    def num_looked_at(self) -> int:
        return _LOOKED_AT

    def on(self, samples: Batch) -> Self:
        prepared = super().on(samples)
        counts, valid = samples.counted(), samples.valid_targets
        prepared._typical = typical_sizes(samples.require_targets(), samples.grid, counts, valid)
        return prepared

    def compare(self, prediction: Batch, truth: Batch) -> Tensor:
        wanted, grid, valid = truth.require_targets(), truth.grid, truth.valid_targets
        part = vanishing_part(truth.signature.evolves)
        sizes = sizes_of(wanted, grid, self._typical, vanishes=part, valid=valid, together=True)
        weights = point_weights(grid, wanted)
        points = math.prod(grid.num_points) if weights is None else float(weights.sum())
        share = 1.0 if valid is None else valid_share(valid, grid, wanted).mean(1, keepdim=True)
        size = sizes / (points * share) ** 0.5
        present = truth.has(truth.signature.outputs)
        size = size if present is None else size.where(present[:, None], size.new_ones(()))
        scaled = errors_of(prediction, truth) / size.view(*size.shape, *(1,) * grid.num_spatial_dims)
        losses = functional.huber_loss(
            scaled, scaled.new_zeros(()).expand_as(scaled), reduction="none", delta=self.delta
        )
        return mean_over_samples(losses, truth)
