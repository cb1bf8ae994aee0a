"""Convolutional recurrent networks, from a sequence of frames to the next ones: encoder and decoder.

``embedding → encoder → decoder → reconstruction``. Every frame of the history is brought to fewer points, half as many
along each axis a step, and more channels; cells go through them, one on top of the other. Their states begin the
decoder, whose cells are fed what the top one said before, and zero at first; what it says is brought back to the points
of the grid, frame after frame. After as many frames as were read the answers are read in their turn.

It is the network of WaveCastNet, which forecasts wavefields of earthquakes from their first seconds. Two things differ
from the published code. Its decoder begins with random numbers, in use too, so that two answers to one question differ;
here with zero. It normalizes the embedding over the samples of a batch; here channels have a scale and a shift that are
learned, and samples do not see each other. The number of weights is the same.

References:
    Lyu et al., Rapid wavefield forecasting for earthquake early warning via deep sequence to sequence learning,
    Nature Communications 2025, arXiv:2405.20516.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.on_device import numbers_for
from scifm.models.architecture import Hidden
from scifm.models.marching import one_by_one
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.parts.convolutional_cells import CELLS, Convolution, framed
from scifm.models.parts.depthwise import padded

__all__ = ["ConvRecurrent", "ConvRecurrentConfig"]

_SIZES: dict[str, int] = {"tiny": 16, "small": 48, "base": 96, "large": 144, "huge": 288}
_SLOPE = 0.01  # of leaky rectifiers below zero
_TAPS = 4  # of convolutions that halve, and of those that double


class ConvRecurrentConfig(OperatorConfig):
    """Architecture of a `ConvRecurrent`.

    Args:
        cell: ``lem``, ``lstm`` or ``gru``, see `scifm.models.parts.convolutional_cells`.
        width: channels of what is remembered.
        num_layers: cells of the encoder, and of the decoder.
        halvings: how often the points along each axis are halved before cells see them. A grid whose points cannot be
            is extended for that, as its ends say, and where they meet they then do only nearly.
        kernel_size: taps of the cells' convolutions along each axis, odd.
        peepholes: whether gates see what is remembered, each place by numbers of its own: the network then knows where
            a place lies, and other grids are refused.
        time_step: of ``lem``, the longest step Δt; absent: 1.
        answers: ``states``, or their ``changes`` from frame to frame.
        block: frames that are answered before the answers are read in their turn; absent: as many as `history`.
        latent: points that the cells see, settled by the first data where there are peepholes.
        history: input frames; when left out, as many as the first data have.
        mask_channels: give the network, for each of its fields, one more channel that is 1 where a point counts and 0
            where it is missing.
    """

    kind: ClassVar[str] = "conv_recurrent"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {name: {"width": width} for name, width in _SIZES.items()}
    sized_by: ClassVar[tuple[str, ...] | None] = ("width", "num_layers")

    cell: Literal["lem", "lstm", "gru"] = "lem"
    width: int = Field(48, ge=1, le=4096)
    num_layers: int = Field(2, ge=1, le=16)
    halvings: int = Field(2, ge=0, le=6)
    kernel_size: int = Field(3, ge=1, le=31)
    peepholes: bool = True
    time_step: float | None = Field(None, gt=0, le=1)
    answers: Literal["states", "changes"] = "states"
    block: int | None = Field(None, ge=1)
    latent: tuple[int, ...] | None = None
    history: int | None = Field(None, ge=1, le=1024)
    mask_channels: bool | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> ConvRecurrentConfig:
        if self.time_step is not None and self.cell != "lem":
            raise ValueError(f"time_step is of cell = 'lem'; '{self.cell}' has none: leave it out")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"give kernel_size an odd number of taps, such as {self.kernel_size + 1}")
        if self.width % 2 ** max(self.halvings - 1, 0):
            raise ValueError(f"width must be a multiple of {2 ** (self.halvings - 1)}, for {self.halvings} halvings")
        if self.latent is not None and not self.peepholes:
            raise ValueError("latent is what peepholes are for: leave it out, or have peepholes")
        return self

    def on(self, grid: Grid, *, history: int | None = None, lead_time: bool | None = None) -> Self:
        """As of any operator; of peepholes the points that the cells see."""
        settled = super().on(grid, history=history, lead_time=lead_time)
        if not self.peepholes or self.latent is not None:
            return settled
        return settled.model_copy(update={"latent": tuple(-(-n // 2**self.halvings) for n in grid.num_points)})

    def scalings(self, declared: tuple[Homogeneity, ...]) -> tuple[Homogeneity, ...]:
        """Return none: what is remembered would be in units of another frame."""
        return ()


class _Affine(nn.Module):
    """A scale and a shift of every channel, and a leaky rectifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        column = (-1, *(1,) * (x.dim() - 2))
        return functional.leaky_relu(x * self.weight.view(column) + self.bias.view(column), _SLOPE)


class _Embedding(nn.Module):
    """Half the points along every axis, again and again, and more channels."""

    def __init__(self, num_inputs: int, width: int, halvings: int, num_axes: int) -> None:
        super().__init__()
        widths = [num_inputs, *(width // 2**step for step in reversed(range(halvings)))] if halvings else []
        maps = [Convolution(a, b, _TAPS, num_axes, stride=2) for a, b in pairwise(widths)]
        self.maps = nn.ModuleList(maps or [Convolution(num_inputs, width, 3, num_axes)])
        self.norms = nn.ModuleList(_Affine(own) for own in widths[1:] or [width])

    def forward(self, x: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        for down, norm in zip(self.maps, self.norms, strict=True):
            x = norm(down(x, wraps))
        return x


class _Doubling(nn.Module):
    """Twice the points along every axis: a convolution's transpose, and a leaky rectifier."""

    def __init__(self, width: int, num_axes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width, *(_TAPS,) * num_axes))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        transposed = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
        wide = transposed[len(wraps) - 1](framed(x, 1, 1, wraps), self.weight, self.bias, stride=2)
        inside = (slice(None), slice(None), *(slice(3, 3 + 2 * n) for n in x.shape[2:]))
        return functional.leaky_relu(wide[inside], _SLOPE)


class _Reconstruction(nn.Module):
    """From what the top cell says to the fields: twice the points, again and again, the last two times by channels."""

    def __init__(self, width: int, num_outputs: int, halvings: int, num_axes: int) -> None:
        super().__init__()
        self.spread = 2 ** min(halvings, 2)
        self.doublings = nn.ModuleList(_Doubling(width, num_axes) for _ in range(max(halvings - 2, 0)))
        shares = self.spread**num_axes
        self.left = max(1, width // shares)  # channels behind that
        self.widen = None if self.left * shares == width else Convolution(width, self.left * shares, 1, num_axes)
        self.last = Convolution(self.left, num_outputs, 3, num_axes)

    def forward(self, x: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        for doubling in self.doublings:
            x = doubling(x, wraps)
        x = x if self.widen is None else self.widen(x, wraps)
        dims, spread, space = len(wraps), self.spread, x.shape[2:]
        parts = x.view(len(x), self.left, *(spread,) * dims, *space)
        order = [place for axis in range(dims) for place in (2 + dims + axis, 2 + axis)]
        fine = parts.permute(0, 1, *order).reshape(len(x), self.left, *(n * spread for n in space))
        return self.last(fine, wraps)


class ConvRecurrent(Operator):
    """A convolutional recurrent network on boxes of one to three dimensions, from some frames to the next ones."""

    config: ConvRecurrentConfig
    config_class = ConvRecurrentConfig
    parts = {  # noqa: RUF012
        "embedding": "lift", "encoder": "inner", "decoder": "inner", "reconstruction": "projection",
    }  # fmt: skip
    needs_periodic = False
    sees_frames = True
    uses_global_generator = False

    def __init__(
        self,
        signature: Signature,
        config: ConvRecurrentConfig | None = None,
        *,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(signature, config or ConvRecurrentConfig(peepholes=False), normalization=normalization)
        c, dims = self.config, signature.num_spatial_dims
        if c.peepholes and (c.latent is None or len(c.latent) != dims):
            raise SignatureError(
                f"Peepholes are numbers of each place: give latent, the points that the cells see along {dims} axes "
                f"(the grid's over {2**c.halvings}), or peepholes = false; got latent = {c.latent}."
            )
        about: dict[str, Any] = {"time_step": c.time_step or 1.0} if c.cell == "lem" else {}
        cells = [
            nn.ModuleList(
                CELLS[c.cell](c.width, c.width, c.kernel_size, c.latent, dims, **about) for _ in range(c.num_layers)
            )
            for _ in range(2)
        ]
        self.embedding = _Embedding(self.num_channels + self.num_coefficients, c.width, c.halvings, dims)
        self.encoder, self.decoder = cells
        self.reconstruction = _Reconstruction(c.width, len(signature.outputs), c.halvings, dims)

    @property
    def remembers(self) -> bool:
        return True

    @property
    def any_history(self) -> bool:
        return True

    @property
    def block(self) -> int:
        """Frames that are answered before the answers are read in their turn."""
        return self.config.block or self.history

    def hidden(self) -> Hidden:
        """As of any operator: what the top cell of the decoder says, from which the fields are made."""
        return Hidden((self.reconstruction,), ("batch", "channel", "space"), before=True)

    def follow(self, batch: Batch) -> Tensor:
        """As of any operator, each frame by itself: what is observed is read, and no answer is."""
        return one_by_one(self, batch)

    def encoded(self, batch: Batch) -> Encoded:
        """As of any operator; where states are answered, in units of the inputs."""
        encoded = super().encoded(batch)
        if self.config.answers == "changes" or not self.signature.state:
            return encoded
        names, inputs = self.signature, batch.inputs
        column = (1, 1, -1, *(1,) * batch.grid.num_spatial_dims)
        scale, shift = list(self.normalization.output_scale), list(self.normalization.output_shift)
        for place, name in enumerate(names.outputs):
            if name in names.state:
                own = names.inputs.index(name)
                scale[place], shift[place] = self.normalization.input_scale[own], self.normalization.input_shift[own]
        there = (encoded.output_scale != 0).to(inputs)
        return replace(
            encoded,
            output_scale=numbers_for(scale, inputs).view(column) * there,
            output_offset=numbers_for(shift, inputs).view(column) * there,
        )

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded frames, or what is remembered of them, to the encoded answer; as in `Operator.network`."""
        memory, wraps = encoded.memory, encoded.grid.periodic
        known = None if memory is None else memory.of(self)
        if known is None or known[0] == self.block:
            told, states = 0, self._read(encoded, wraps)
            said = torch.zeros_like(states[-1][-1])
        else:
            told, said, states = known
        going = []
        for cell, state in zip(self.decoder, states, strict=True):
            said, state = cell(said.unsqueeze(0), state, wraps)
            said = said[0]
            going.append(state)
        if memory is not None:
            memory.keep(self, (told + 1, said, tuple(going)))
        fields = self.reconstruction(said, wraps)
        inside = (slice(None), slice(None), *(slice(0, n) for n in encoded.grid.num_points))
        return fields[inside].unsqueeze(1)

    def _read(self, encoded: Encoded, wraps: tuple[bool, ...]) -> Any:
        """Return what the cells of the encoder remember of all frames."""
        frames, told = encoded.inputs, encoded.coefficients
        if told.shape[1]:
            constant = told.view(len(told), 1, -1, *(1,) * (frames.dim() - 3))
            frames = torch.cat([frames, constant.expand(-1, frames.shape[1], -1, *frames.shape[3:])], dim=2)
        space, unit = frames.shape[3:], 2**self.config.halvings
        flat = frames.transpose(0, 1).flatten(0, 1)
        for axis, n in enumerate(space):
            flat = padded(flat, 2 + axis, 0, -n % unit, wraps=wraps[axis])
        hidden = self.embedding(flat, wraps).unflatten(0, (frames.shape[1], -1))
        latent = self.config.latent
        if latent is not None and tuple(hidden.shape[3:]) != tuple(latent):
            raise SignatureError(
                f"This operator of kind '{self.kind}' has peepholes for {' × '.join(map(str, latent))} points of its "
                f"cells, and a grid of {' × '.join(map(str, space))} gives {' × '.join(map(str, hidden.shape[3:]))}. "
                "Ask it on the grid of its training, or train one with peepholes = false."
            )
        states = []
        for cell in self.encoder:
            hidden, state = cell(hidden, None, wraps)
            states.append(state)
        return tuple(states)
