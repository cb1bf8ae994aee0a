"""Convolutional recurrent networks, from a sequence of frames to the next ones: encoder and decoder.

``embedding → encoder → decoder → reconstruction``. Every frame of the history is brought to fewer points, half as many
along each axis a step, and more channels; cells go through them, one on top of the other. Their states begin the
decoder, whose cells are fed what the top one said before, and zero at first; what it says is brought back to the points
of the grid, frame after frame. After as many frames as were read the answers are read in their turn. Where `stations`
are all that is seen, two dense maps bring their numbers to the points of a grid first.

It is the network of WaveCastNet, which forecasts wavefields of earthquakes from their first seconds. Two things differ
from the published code. Its decoder begins with random numbers, in use too, so that two answers to one question differ;
here with zero. It normalizes the embedding over the samples of a batch; here channels have a scale and a shift that are
learned, and samples do not see each other. The number of weights is the same.

References:
    Lyu et al., Rapid wavefield forecasting for earthquake early warning via deep sequence to sequence learning,
    Nature Communications 2025, arXiv:2405.20516.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
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
        stations: read the fields at some points alone: at every so many-th along each axis, a number, as
            ``data.station_spacing`` places them, or at those that are listed, (y, x); absent: everywhere. Two dense
            maps, the same for every field, take what is read there to a grid of twice the cells' points along each
            axis, so places, like peepholes, belong to one grid.
        station_width: numbers between the two maps; absent: a quarter of those behind them.
        latent: points that the cells see, settled by the first data where there are peepholes or stations.
        num_places: of stations that are not listed, how many there are, settled likewise.
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
    stations: int | tuple[tuple[int, ...], ...] | None = None
    station_width: int | None = Field(None, ge=1)
    latent: tuple[int, ...] | None = None
    num_places: int | None = Field(None, ge=1)
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
        if self.latent is not None and not self.of_one_grid:
            raise ValueError("latent is what peepholes and stations are for: leave it out, or have some")
        if self.station_width is not None and self.stations is None:
            raise ValueError("station_width is of stations: say which, or leave it out")
        if self.num_places is not None and not isinstance(self.stations, int):
            raise ValueError("num_places counts stations that are told by a spacing: leave it out")
        if isinstance(self.stations, int) and self.stations < 1:
            raise ValueError(f"stations stand at every so many-th point, 1 or more; got {self.stations}")
        if self.stations == ():
            raise ValueError("give one station at least, or leave stations out")
        if self.stations is not None and not self.halvings:
            raise ValueError("stations are read for cells on fewer points than the grid's: give halvings of 1 or more")
        return self

    @property
    def of_one_grid(self) -> bool:
        """Whether it has numbers of each place, so that other grids are refused."""
        return self.peepholes or self.stations is not None

    def on(self, grid: Grid, *, history: int | None = None, lead_time: bool | None = None) -> Self:
        """As of any operator; of peepholes and stations the points that the cells see, and how many are read."""
        settled = super().on(grid, history=history, lead_time=lead_time)
        own: dict[str, Any] = {}
        if self.of_one_grid and self.latent is None:
            own["latent"] = tuple(-(-n // 2**self.halvings) for n in grid.num_points)
        if isinstance(self.stations, int) and self.num_places is None:
            own["num_places"] = math.prod(-(-n // self.stations) for n in grid.num_points)
        return settled.model_copy(update=own)


class _Scale(nn.Module):
    """A scale and a shift of every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        column = (-1, *(1,) * (x.dim() - 2))
        return x * self.weight.view(column) + self.bias.view(column)


class _Affine(_Scale):
    """The same, and a leaky rectifier."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(super().forward(x), _SLOPE)


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


class _StationEmbedding(nn.Module):
    """From numbers at stations to the points of the cells: two dense maps, the same for all fields, and convolutions.

    Args:
        num_inputs: fields.
        width: channels of the cells.
        num_places: stations that are read.
        between: numbers between the two maps; None: a quarter of those behind them.
        latent: points of the cells; the maps lead to twice as many along each axis.
    """

    def __init__(
        self, num_inputs: int, width: int, num_places: int, between: int | None, latent: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.spread = tuple(2 * n for n in latent)
        count, dims = math.prod(self.spread), len(latent)
        sizes = (num_places, between or max(1, count // 4), count)
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.scales = nn.ModuleList(_Scale(num_inputs) for _ in self.maps)
        half = max(1, width // 2)
        self.fine, self.down = (
            Convolution(num_inputs, half, 3, dims), Convolution(half, width, _TAPS, dims, stride=2),
        )  # fmt: skip
        self.norms = nn.ModuleList((_Affine(half), _Affine(width)))

    def forward(self, read: Float[Tensor, "sample channel place"], wraps: tuple[bool, ...]) -> Tensor:
        for dense, scale in zip(self.maps, self.scales, strict=True):
            read = scale(functional.leaky_relu(dense(read), _SLOPE))
        x = read.view(*read.shape[:2], *self.spread)
        return self.norms[1](self.down(self.norms[0](self.fine(x, wraps)), wraps))


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
        if c.of_one_grid and (c.latent is None or len(c.latent) != dims):
            raise SignatureError(
                "Peepholes and stations are numbers of each place: give latent, the points that the cells see along "
                f"{dims} axes (the grid's over {2**c.halvings}), or neither of them; got latent = {c.latent}."
            )
        about: dict[str, Any] = {"time_step": c.time_step or 1.0} if c.cell == "lem" else {}
        cells = [
            nn.ModuleList(
                CELLS[c.cell](c.width, c.width, c.kernel_size, c.latent, dims, **about) for _ in range(c.num_layers)
            )
            for _ in range(2)
        ]
        self.embedding = self._embedding(self.num_channels + self.num_coefficients)
        self.encoder, self.decoder = cells
        self.reconstruction = _Reconstruction(c.width, len(signature.outputs), c.halvings, dims)

    def _embedding(self, num_inputs: int) -> _Embedding | _StationEmbedding:
        c, dims = self.config, self.signature.num_spatial_dims
        if c.stations is None:
            return _Embedding(num_inputs, c.width, c.halvings, dims)
        places = c.num_places if isinstance(c.stations, int) else len(c.stations)
        if places is None:
            raise SignatureError(f"Of stations at every {c.stations}th point num_places says how many there are.")
        if not isinstance(c.stations, int) and {len(place) for place in c.stations} != {dims}:
            raise SignatureError(f"Stations of a problem in {dims} dimensions are lists of {dims} numbers each.")
        assert c.latent is not None
        return _StationEmbedding(num_inputs, c.width, places, c.station_width, c.latent)

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
        """As of any operator; where states are answered, in units of the inputs.

        A sample's own size, by which exact scalings measure it, is that of the frames that were read at last.
        """
        encoded, memory, inputs = super().encoded(batch), batch.memory, batch.inputs
        n, names = self.normalization, self.signature
        column = (1, 1, -1, *(1,) * batch.grid.num_spatial_dims)

        def row(values: Sequence[float]) -> Tensor:
            return numbers_for(values, inputs).view(column)

        now = encoded.output_scale / row(n.output_scale)  # zero in what a sample has not
        known = None if memory is None else memory.of(self)
        sizes = now if known is None or known[0] == self.block else memory.of(self.embedding)  # type: ignore[union-attr]
        if memory is not None:
            memory.keep(self.embedding, sizes)
        if self.config.answers == "changes" or not names.state:
            offset = encoded.output_offset
            offset = None if offset is None else offset + row(n.output_shift) * (sizes - now)
            return replace(encoded, output_scale=row(n.output_scale) * sizes, output_offset=offset)
        scale, shift = list(n.output_scale), list(n.output_shift)
        for place, name in enumerate(names.outputs):
            if name in names.state:
                own = names.inputs.index(name)
                scale[place], shift[place] = n.input_scale[own], n.input_shift[own]
        return replace(encoded, output_scale=row(scale) * sizes, output_offset=row(shift) * sizes)

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
        hidden = self._embedded(frames.transpose(0, 1).flatten(0, 1), wraps).unflatten(0, (frames.shape[1], -1))
        space, latent = frames.shape[3:], self.config.latent
        if latent is not None and tuple(hidden.shape[3:]) != tuple(latent):
            raise self._elsewhere(space, f"gives {' × '.join(map(str, hidden.shape[3:]))}")
        states = []
        for cell in self.encoder:
            hidden, state = cell(hidden, None, wraps)
            states.append(state)
        return tuple(states)

    def _embedded(self, fields: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        """Return what the cells see of fields ``(sample, channel, *space)``, on their points."""
        stations, space, unit = self.config.stations, fields.shape[2:], 2**self.config.halvings
        if stations is None:
            for axis, n in enumerate(space):
                fields = padded(fields, 2 + axis, 0, -n % unit, wraps=wraps[axis])
            return cast(Tensor, self.embedding(fields, wraps))
        if isinstance(stations, int):
            read = fields[(slice(None), slice(None), *(slice(None, None, stations) for _ in space))].flatten(2)
            if read.shape[2] != self.config.num_places:
                raise self._elsewhere(space, f"has {read.shape[2]} of its {self.config.num_places} stations")
        else:
            for place in stations:
                if not all(0 <= at < n for at, n in zip(place, space, strict=True)):
                    raise self._elsewhere(space, f"has no point {place}, where a station stands")
            flat = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
            where = [sum(at * step for at, step in zip(place, flat, strict=True)) for place in stations]
            read = fields.flatten(2)[:, :, where]
        return cast(Tensor, self.embedding(read, wraps))

    def _elsewhere(self, space: Sequence[int], why: str) -> SignatureError:
        """Return the refusal of a grid that its places are not of."""
        latent = " × ".join(map(str, self.config.latent or ()))
        return SignatureError(
            f"This operator of kind '{self.kind}' has numbers of its own for each of {latent} points of its cells, and "
            f"a grid of {' × '.join(map(str, space))} {why}. Ask it on the grid of its training, or train one with "
            "peepholes = false and without stations."
        )
