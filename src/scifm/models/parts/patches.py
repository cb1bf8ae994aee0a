"""From fields to tokens and back: convolutions whose kernels tile the box, one stage after the other.

A convolution with stride as long as its kernel is one product on patches, so every stage is a reshaping and a linear
map. The first one goes from the names: what embeds a field, a column for each, and the first convolution are both
linear, so they are multiplied before they meet the points.

Kernels can be asked for another stride than they were trained with. They are then resampled, as functions on the patch,
and a patch that is twice as long is still heard as the same patch (what Walrus, arXiv:2511.15684, calls stride
modulation, with its kernel resampled too).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from scifm.fields.grid import Grid
from scifm.models.parts.grids import are_equal, band_limited_resize
from scifm.models.parts.matrices import Matrices
from scifm.models.parts.stages import mapped
from scifm.models.parts.workspace import Workspace

__all__ = ["FieldEmbedding", "LastStage", "PatchesIn", "PatchesOut", "Tiles", "strides_of"]


def strides_of(patch: int) -> tuple[int, ...]:
    """Return the strides whose product is `patch`, a power of two: 4 first where it is at least 8, then 2 by 2."""
    first = 4 if patch >= 8 else min(patch, 2)
    return (first, *(2,) * round(math.log2(patch / first)))


@dataclass(frozen=True)
class Tiles:
    """How a grid is brought to whole patches, and an answer back.

    An axis that wraps around is resampled within its band to the next multiple of the patch; behind one with walls the
    last values are repeated.

    Args:
        grid: of the data.
        patch: points that a token holds along each axis.
    """

    grid: Grid
    patch: int

    def put(self, fields: Tensor) -> Tensor:
        """Return ``(…, *space)`` fields on whole patches."""
        first = fields.dim() - self.grid.num_spatial_dims
        for axis, (num, wraps) in enumerate(self._axes, start=first):
            if wraps:
                fields = _resampled(fields, axis, first, self._whole(num))
            elif not are_equal(self._whole(num), num):
                end = fields.narrow(axis, num - 1, 1)
                behind = [-1] * fields.dim()
                behind[axis] = self._whole(num) - num
                fields = torch.cat([fields, end.expand(behind)], dim=axis)
        return fields

    def take(self, fields: Tensor) -> Tensor:
        """Return what lies on the grid, of ``(…, *space)`` on whole patches."""
        first = fields.dim() - self.grid.num_spatial_dims
        for axis, (num, wraps) in enumerate(self._axes, start=first):
            fields = _resampled(fields, axis, first, num) if wraps else fields.narrow(axis, 0, num)
        return fields

    @property
    def _axes(self) -> list[tuple[int, bool]]:
        return list(zip(self.grid.num_points, self.grid.periodic, strict=True))

    def _whole(self, num: int) -> int:
        return (num + self.patch - 1) // self.patch * self.patch  # ONNX divides negative numbers otherwise


def _resampled(fields: Tensor, axis: int, first: int, num: int) -> Tensor:
    points = list(fields.shape[first:])
    points[axis - first] = num
    return band_limited_resize(fields, tuple(points))


class FieldEmbedding(nn.Linear):
    """A column for each channel that goes in, by its name; their sum is divided by √(fields that the sample has).

    So a sample of few fields and one of many are alike in size, and a name that a sample lacks changes nothing in it,
    whether the network knows that name or not: the size of the vocabulary enters nowhere. Each column is drawn from
    [−1, 1) on its own.
    """

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -1.0, 1.0)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1.0, 1.0)


class _Stage(nn.Module):
    """A convolution whose kernels tile the box, or one transposed: weights ``(out, in, *kernel)``.

    Args:
        num_in, num_out: channels.
        stride: points of the kernel along each axis.
        num_axes: of space.
        inwards: whether patches become points, or points patches.
    """

    def __init__(self, num_in: int, num_out: int, *, stride: int, num_axes: int, inwards: bool) -> None:
        super().__init__()
        self.stride, self.num_axes, self.inwards = stride, num_axes, inwards
        self.weight = nn.Parameter(torch.empty(num_out, num_in, *(stride,) * num_axes))
        bound = math.sqrt(3 / (num_in * (stride**num_axes if inwards else 1)))
        nn.init.uniform_(self.weight, -bound, bound)

    def matrices(self) -> Matrices:
        """Return the one matrix between the channels of a patch and those of its points, which tiles make of it."""
        weight = self.weight.detach()
        return Matrices("weight", (weight if self.inwards else weight.transpose(0, 1)).flatten(1)[None])

    def kernel(self, stride: int) -> Tensor:
        """Return the weights for another stride: a patch sums to what it did, or is as high as it was."""
        if stride == self.stride:
            return self.weight
        resampled = functional.interpolate(self.weight, size=(stride,) * self.num_axes, mode=_MODES[self.num_axes])
        return resampled * (self.stride / stride) ** self.num_axes if self.inwards else resampled


_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _cut(space: tuple[int, ...], stride: int) -> tuple[int, ...]:
    return tuple(part for n in space for part in (n // stride, stride))


class _Way(nn.Module):
    """Stages, one after the other."""

    def __init__(self, stages: Iterable[_Stage], workspace: Workspace | None) -> None:
        super().__init__()
        self.stages, self.workspace = nn.ModuleList(stages), workspace

    @property
    def _all(self) -> list[_Stage]:
        return [stage for stage in self.stages if isinstance(stage, _Stage)]

    @property
    def channels(self) -> list[int]:
        """How many channels there are behind each stage, all of which have a scale and a shift."""
        return [len(stage.weight) for stage in self._all]

    def _apart(self, told: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return scale and shift of each stage."""
        parts = told.split(2 * self.channels, dim=1)
        return parts[: len(parts) // 2], parts[len(parts) // 2 :]


class PatchesIn(_Way):
    """From channels of fields to tokens: stages, and a GELU between each and the next.

    Args:
        width: of the embedding of fields, and between stages.
        channels: of a token.
        patch: points that a token holds along each axis, a power of two.
        num_axes: of space.
        workspace: of the network; None: torch's own operations do it, which have derivatives of every order.
    """

    def __init__(
        self, width: int, channels: int, *, patch: int, num_axes: int, workspace: Workspace | None = None
    ) -> None:
        strides = strides_of(patch)
        outs = (*(width,) * (len(strides) - 1), channels)
        about: dict[str, Any] = {"num_axes": num_axes, "inwards": True}
        stages = [_Stage(width, out, stride=stride, **about) for out, stride in zip(outs, strides, strict=True)]
        super().__init__(stages, workspace)

    def forward(
        self,
        fields: Float[Tensor, "batch time channel *space"],
        columns: Float[Tensor, "width channel"],
        constants: Float[Tensor, "batch width"],
        told: Float[Tensor, "sample norms"],
        *,
        first: int,
    ) -> Float[Tensor, "batch time *tokens number"]:
        """Return the tokens.

        Args:
            fields: whose numbers of points are multiples of the patch.
            columns: what embeds each channel.
            constants: what is added at every point.
            told: the scales of the channels behind each stage, one after the other, then their shifts.
            first: stride of the first stage.
        """
        stage, *others = self._all
        (scale, *scales), (shift, *shifts) = self._apart(told)
        axes, batch, time = stage.num_axes, *fields.shape[:2]
        space = fields.shape[3:]
        cut = fields.reshape(batch, time, -1, *_cut(space, first))
        places, offsets = range(3, 3 + 2 * axes, 2), range(4, 4 + 2 * axes, 2)
        patches = cut.permute(0, 1, *places, 2, *offsets).reshape(batch, time, *(n // first for n in space), -1)
        kernel = stage.kernel(first).flatten(2)  # (out, width, offset)
        ours = torch.einsum("owp,wc->cpo", kernel, columns).flatten(0, 1)
        shift = torch.addcmul(shift, constants @ kernel.sum(2).T, scale)  # what is added at every point
        x = mapped(patches, ours, scale, shift, active=bool(others), workspace=self.workspace)
        for stage, scale, shift in zip(others, scales, shifts, strict=True):
            weight = stage.weight.movedim(0, -1).movedim(0, -2).flatten(0, -2)
            active = stage is not others[-1]
            x = mapped(self._patches(x, stage), weight, scale, shift, active=active, workspace=self.workspace)
        return x

    @staticmethod
    def _patches(x: Tensor, stage: _Stage) -> Tensor:
        axes, space = stage.num_axes, x.shape[2:-1]
        cut = x.reshape(*x.shape[:2], *_cut(space, stage.stride), x.shape[-1])
        places, offsets = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
        patches = cut.permute(0, 1, *places, *offsets, 2 + 2 * axes)
        return patches.reshape(*x.shape[:2], *(n // stage.stride for n in space), -1)


class PatchesOut(_Way):
    """From tokens to channels at points: the stages of `PatchesIn` the other way, but for the last, see `LastStage`."""

    def __init__(
        self, width: int, channels: int, *, patch: int, num_axes: int, workspace: Workspace | None = None
    ) -> None:
        strides = strides_of(patch)[:0:-1]
        ins = (channels, *(width,) * len(strides))
        about: dict[str, Any] = {"num_axes": num_axes, "inwards": False}
        stages = [_Stage(num_in, width, stride=stride, **about) for num_in, stride in zip(ins, strides, strict=False)]
        super().__init__(stages, workspace)

    def forward(
        self, x: Float[Tensor, "batch *tokens number"], told: Float[Tensor, "sample norms"]
    ) -> Float[Tensor, "batch *space width"]:
        """Return as many points as the last stage needs; `told` as in `PatchesIn`."""
        for stage, scale, shift in zip(self._all, *self._apart(told), strict=True):
            offsets = stage.stride**stage.num_axes
            weight = stage.weight.flatten(2).permute(1, 2, 0).flatten(1)  # (in, offset and out)
            repeated = scale.repeat(1, offsets), shift.repeat(1, offsets)
            x = self._spread(mapped(x, weight, *repeated, active=True, workspace=self.workspace), stage)
        return x

    @staticmethod
    def _spread(x: Tensor, stage: _Stage) -> Tensor:
        axes, space, stride = stage.num_axes, x.shape[1:-1], stage.stride
        order = (part for axis in range(axes) for part in (1 + axis, 1 + axes + axis))
        spread = x.unflatten(-1, (*(stride,) * axes, -1)).permute(0, *order, 1 + 2 * axes)
        return spread.reshape(x.shape[0], *(n * stride for n in space), -1)


class LastStage(nn.Module):
    """The last convolution on the way out: kernels and a constant of each output, by its name.

    Args:
        in_features: channels that come.
        num_outputs: fields that go.
        stride: points of the kernel along each axis.
        num_axes: of space.
    """

    def __init__(self, in_features: int, num_outputs: int, *, stride: int, num_axes: int) -> None:
        super().__init__()
        self.in_features, self.stride, self.num_axes = in_features, stride, num_axes
        self.weight = nn.Parameter(torch.empty(num_outputs, in_features, *(stride,) * num_axes))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.uniform_(self.weight, -(in_features**-0.5), in_features**-0.5)

    def matrices(self) -> Matrices:
        """Return the one matrix between the channels of a patch and the outputs at its points."""
        return Matrices("weight", self.weight.detach().transpose(0, 1).flatten(1)[None])

    def forward(self, x: Float[Tensor, "batch *tokens number"], *, stride: int) -> Tensor:
        """Return ``(batch, output, *space)``."""
        axes, space = self.num_axes, x.shape[1:-1]
        weight: Tensor = self.weight
        if stride != self.stride:
            weight = functional.interpolate(weight, size=(stride,) * axes, mode=_MODES[axes])
        rows = weight.movedim(1, -1).flatten(0, -2)
        bias = self.bias.repeat_interleave(stride**axes)
        spread = functional.linear(x, rows, bias).unflatten(-1, (-1, *(stride,) * axes))
        order = (part for axis in range(axes) for part in (1 + axis, 2 + axes + axis))
        return spread.permute(0, 1 + axes, *order).reshape(x.shape[0], -1, *(n * stride for n in space))
