"""A U-Net of ConvNeXt blocks, for boxes of one to three dimensions with ends that wrap around or are walls.

``lift → levels of blocks, each on half the points of the one before and with twice its channels → the way back, joined
at each level by what was there on the way down → projection``, all on ``(batch, *space, channel)``.

A block is a convolution of each channel by itself, a norm over channels, the scale and the shift that coefficients
give, and a pointwise network with a wide middle, around all of which its input is carried. Down goes what 2 points an
axis hold together, by one product; up the same way back, and what comes up is blurred a little, so that it matters
less where the pairs of points begin. Where an axis has an odd number of points, one more is added
for the way down, as the boundary would have it, and taken off on the way back.

Channels stay last from end to end: norms and pointwise products are then plain ones on rows that lie together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from scifm.fields.batch import Signature
from scifm.fields.normalization import Encoded, Normalization
from scifm.models.architecture import Hidden
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.models.parts.convnext import ConvNeXtBlock, channel_norm, per_sample
from scifm.models.parts.depthwise import blurred, padded
from scifm.models.parts.pointwise import Projection

__all__ = ["UNET_SIZES", "UNet", "UNetConfig"]

UNET_SIZES: dict[str, int] = {"tiny": 12, "small": 32, "base": 48, "large": 64, "huge": 128}
"""Width of the finest level by name; the deepest level, with 8 times as many channels, holds most weights."""


_OF_BLOCKS = ("kernel_size", "expansion", "condition_width", "plain")


class UNetConfig(OperatorConfig):
    """Architecture of a `UNet`.

    Args:
        width: channels of the finest level; each level below has twice as many.
        levels: how many resolutions, the data's among them.
        blocks: blocks of each level on the way down, and on the way back; the deepest level has them once.
        kernel_size: taps of a convolution along each axis, odd.
        expansion: channels in the middle of a block's pointwise network, over those of its level.
        condition_width: numbers that coefficients are made into before they reach the blocks.
        projection_width: channels of the hidden layer of the projection.
        position: give the network one more input channel for each axis: where between its ends a point lies, −1 to 1,
            and 0 on an axis that wraps around. When left out, it is settled by the first data: given where they have
            walls.
        mask_channels: give the network, for each of its fields, one more channel that is 1 where a point counts and 0
            where it is missing: for fields with gaps that move, or differ from sample to sample.
        history: input frames of an evolving problem; when left out, as many as the first data have.
        lead_time: tell every block how far ahead the answer lies; when left out, they are told where the first data
            have several lead times, or one that a scaling of the system changes from sample to sample.
        plain: let torch's own operations do it all: derivatives of every order, for `torch.func`, at a lower speed.
    """

    kind: ClassVar[str] = "unet"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"width": width, "projection_width": 2 * width} for name, width in UNET_SIZES.items()
    }
    sized_by: ClassVar[tuple[str, ...] | None] = (
        "width", "levels", "blocks", "expansion", "condition_width", "projection_width", "plain",
    )  # fmt: skip

    width: int = Field(32, ge=1, le=4096)
    levels: int = Field(4, ge=1, le=12)
    blocks: int = Field(2, ge=1, le=64)
    kernel_size: int = Field(7, ge=1, le=63)
    expansion: int = Field(4, ge=1, le=64)
    condition_width: int = Field(64, ge=1, le=8192)
    projection_width: int = Field(64, ge=1, le=8192)
    position: bool | None = None
    mask_channels: bool | None = None
    history: int | None = Field(None, ge=1, le=64)
    lead_time: bool | None = None
    plain: bool = False

    @field_validator("kernel_size")
    @classmethod
    def _has_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"give an odd number of taps, such as {value + 1}")
        return value


class _Down(nn.Module):
    """Half the points along every axis, twice the channels."""

    def __init__(self, channels: int, num_axes: int) -> None:
        super().__init__()
        self.map = nn.Linear(channels * 2**num_axes, 2 * channels)
        # the points that become one count alike at first: a mean, which moves with the field better than any other map
        weight = self.map.weight.data
        weight.copy_((weight[:, :channels] * 2 ** (-num_axes / 2)).repeat(1, 2**num_axes))

    def forward(self, x: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        x = channel_norm(x)
        for axis, wrap in enumerate(wraps, start=1):
            x = padded(x, axis, 0, x.shape[axis] % 2, wraps=wrap)
        dims, space = len(wraps), x.shape[1:-1]
        pairs = x.reshape(x.shape[0], *(part for n in space for part in (n // 2, 2)), x.shape[-1])
        halves, within = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
        corners = pairs.permute(0, *halves, *within, 2 * dims + 1)
        return self.map(corners.reshape(x.shape[0], *(n // 2 for n in space), -1))


class _Up(nn.Module):
    """Twice the points along every axis, half the channels."""

    def __init__(self, channels: int, num_axes: int, *, plain: bool) -> None:
        super().__init__()
        self.plain = plain
        self.map = nn.Linear(2 * channels, channels * 2**num_axes)
        for part in (self.map.weight, self.map.bias):  # the points that come of one are alike at first: no chequers
            part.data.copy_(part.data[:channels].repeat(2**num_axes, *(1,) * (part.dim() - 1)))

    def forward(self, x: Tensor, space: tuple[int, ...], wraps: tuple[bool, ...]) -> Tensor:
        """Return what lies on `space`, at most one point less an axis, without steps from pair to pair of points."""
        dims, batch, halves = len(space), x.shape[0], x.shape[1:-1]
        corners = self.map(channel_norm(x)).view(batch, *halves, *(2,) * dims, -1)
        order = itertools.chain.from_iterable((1 + axis, 1 + dims + axis) for axis in range(dims))
        fine = corners.permute(0, *order, 2 * dims + 1).reshape(batch, *(2 * n for n in halves), -1)
        inside: tuple[Any, ...] = (slice(None), *(slice(0, n) for n in space))
        return blurred(fine[inside], wraps, plain=self.plain)


class UNet(Operator):
    """A U-Net of ConvNeXt blocks on boxes of one to three dimensions, one frame to one."""

    config: UNetConfig
    config_class = UNetConfig
    parts = {  # noqa: RUF012
        "lift": "lift", "condition": "inner", "way_down": "inner", "downs": "inner", "ups": "inner", "way_up": "inner",
        "projection": "projection",
    }  # fmt: skip
    needs_periodic = False
    uses_global_generator = False
    uses_all_weights = True
    can_recompute = True
    counted_in = torch.float64  # the compiled kernels know float32 only

    def __init__(
        self, signature: Signature, config: UNetConfig | None = None, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__(signature, config or UNetConfig(), normalization=normalization)
        c, dims = self.config, signature.num_spatial_dims
        widths = [c.width * 2**level for level in range(c.levels)]

        shared: dict[str, Any] = {name: getattr(c, name) for name in _OF_BLOCKS}

        def blocks(width: int) -> nn.ModuleList:
            return nn.ModuleList(ConvNeXtBlock(width, dims, **shared) for _ in range(c.blocks))

        self.lift = nn.Linear(self.num_channels + self.num_coefficients, c.width)
        self.condition = nn.Sequential(
            nn.Linear(c.width, c.condition_width), nn.GELU(), nn.Linear(c.condition_width, c.condition_width), nn.GELU()
        )
        self.way_down = nn.ModuleList(blocks(width) for width in widths)
        self.downs = nn.ModuleList(_Down(width, dims) for width in widths[:-1])
        self.ups = nn.ModuleList(_Up(width, dims, plain=c.plain) for width in widths[:-1])
        self.way_up = nn.ModuleList(blocks(width) for width in widths[:-1])
        self.projection = Projection(c.width, c.projection_width, len(signature.outputs), plain=c.plain)

    def stages(self) -> list[nn.Module]:
        return [stage for part in (self.way_down, self.way_up) for blocks in part for stage in _members(blocks)]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """As those of any operator; ``spectral`` are the convolutions, which do here what modes do there."""
        groups = super().groups()
        convolutions = [p for name, p in self.named_parameters() if ".conv." in name]
        taken = {id(parameter) for parameter in convolutions}
        groups["pointwise"] = [parameter for parameter in groups["pointwise"] if id(parameter) not in taken]
        return {**groups, "spectral": convolutions}

    def outer_maps(self) -> OuterMaps:
        last = self.projection[-1]
        assert isinstance(last, nn.Linear)
        positions: tuple[Role, ...] = ("mask",) if self.num_masks else ()
        positions += ("position",) if self.num_positions else ()
        time: tuple[Role, ...] = ("lead_time",) if self.sees_lead_time else ()
        return OuterMaps(self.lift, ("input", *positions, "coefficient", *time), last)

    def hidden(self) -> Hidden:
        """As of any operator; features are taken where it is deepest, behind the last block on the way down."""
        deepest = self.config.levels * self.config.blocks - 1
        return Hidden(tuple(self.stages()), ("batch", "space", "channel"), deepest)

    def plain_config(self) -> OperatorConfig:
        return self.config.model_copy(update={"plain": True})

    def _lifted(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return the first hidden channels and what every block is told, ``(batch, condition_width)``.

        All that is known of a sample besides its fields enters here, by columns of the first map.
        """
        fields = encoded.inputs[:, 0].movedim(1, -1)
        of_fields, of_constants = self.lift.weight.split([fields.shape[-1], encoded.coefficients.shape[1]], dim=1)
        constants = torch.addmm(self.lift.bias, encoded.coefficients, of_constants.T)
        return fields @ of_fields.T + per_sample(constants, fields), self.condition(constants)

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded inputs to encoded answers; shapes as in `Operator.network`."""
        wraps: Any = encoded.grid.periodic
        hidden, condition = self._lifted(encoded)
        left: list[Tensor] = []
        for level, blocks in enumerate(self.way_down):
            if level:
                left.append(hidden)
                hidden = self.downs[level - 1](hidden, wraps)
            for block in _members(blocks):
                hidden = self.through(block, hidden, condition, wraps)
        for level in reversed(range(len(left))):
            fine = left.pop()
            hidden = fine + self.ups[level](hidden, tuple(fine.shape[1:-1]), wraps)
            for block in _members(self.way_up[level]):
                hidden = self.through(block, hidden, condition, wraps)
        return self.projection(channel_norm(hidden)).movedim(-1, 1).unsqueeze(1)


def _members(blocks: nn.Module) -> nn.ModuleList:
    assert isinstance(blocks, nn.ModuleList)
    return blocks
