"""The FNO of neuraloperator 2.0, in real arithmetic, with that library's names for its settings.

Same weights, same answers as ``neuralop.models.FNO``; unlike it, it can be saved as safetensors, and trains anywhere.
Coefficients become constant channels behind the input fields.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.errors import ConfigError
from scifm.fields.batch import Signature
from scifm.fields.normalization import Encoded, Normalization
from scifm.models.architecture import Hidden
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.models.parts.centered_spectral import CenteredSpectral
from scifm.wording import plural

__all__ = ["ONLY", "NeuralopFNO", "NeuralopFNOConfig"]

Skip = Literal["linear", "identity", "soft-gating", "none"]

ONLY: dict[str, Any] = {
    "domain_padding": None,
    "factorization": None,
    "resolution_scaling_factor": None,
    "stabilizer": None,
    "complex_data": False,
    "separable": False,
    "preactivation": False,
    "channel_mlp_dropout": 0,
    "fno_block_precision": "full",
}
"""Settings of ``neuralop.models.FNO`` with one value we know."""


class NeuralopFNOConfig(OperatorConfig):
    """Architecture of a `NeuralopFNO`; names and defaults are those of ``neuralop.models.FNO``.

    Where neuraloperator takes None, ``"none"`` may be written, since a recipe has no word for None. Its settings
    ``domain_padding``, ``factorization`` and others that change the network are refused unless they ask for nothing.

    Args:
        n_modes: modes per axis, in the order of the axes; of the last, which holds non-negative ones only, half.
        hidden_channels: channels of the layers.
        n_layers: spectral layers.
        lifting_channel_ratio: hidden channels of the lifting, over `hidden_channels`; 0: a single map.
        projection_channel_ratio: the same of the projection.
        positional_embedding: ``grid``, coordinates from 0 to 1 as further channels, or ``none``.
        norm: ``group_norm``, ``instance_norm`` or ``none``.
        use_channel_mlp: a two-layer network at every point of every layer.
        channel_mlp_expansion: its hidden channels, over `hidden_channels`.
        channel_mlp_skip: what goes around it.
        fno_skip: what goes around the spectral convolution.
    """

    kind: ClassVar[str] = "neuralop_fno"
    sized_by: ClassVar[tuple[str, ...] | None] = (
        "n_modes", "hidden_channels", "n_layers", "lifting_channel_ratio", "projection_channel_ratio",
        "channel_mlp_expansion",
    )  # fmt: skip

    n_modes: tuple[int, ...] = Field(min_length=1, max_length=3)
    hidden_channels: int = Field(ge=1, le=4096)
    n_layers: int = Field(4, ge=1, le=64)
    lifting_channel_ratio: float = Field(2.0, ge=0, le=64)
    projection_channel_ratio: float = Field(2.0, gt=0, le=64)
    positional_embedding: Literal["grid", "none"] = "grid"
    norm: Literal["group_norm", "instance_norm", "none"] = "none"
    use_channel_mlp: bool = True
    channel_mlp_expansion: float = Field(0.5, gt=0, le=64)
    channel_mlp_skip: Skip = "soft-gating"
    fno_skip: Skip = "linear"

    @model_validator(mode="before")
    @classmethod
    def _what_we_know(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name, only in ONLY.items():
            if value.get(name, only) not in (only, "none" if only is None else only):
                raise ValueError(f"{name} = {value[name]!r} is not supported; only {only} is: leave it out")
        return {name: "none" if given is None else given for name, given in value.items() if name not in ONLY}

    @field_validator("n_modes")
    @classmethod
    def _some_modes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= n <= 8192 for n in value):
            raise ValueError("give from 1 to 8192 modes for each axis")
        return value

    @property
    def weight_modes(self) -> tuple[int, ...]:
        """Modes per axis that have weights."""
        return (*self.n_modes[:-1], self.n_modes[-1] // 2 + 1)


class _SoftGating(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class _Norm(nn.Module):
    """Each sample to mean zero and size one, over all channels together (group) or each by itself (instance)."""

    def __init__(self, channels: int, *, together: bool) -> None:
        super().__init__()
        self.together = together
        if together:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        over = (*range(x.dim() - 2), *((x.dim() - 1,) if self.together else ()))
        mean, variance = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
        x = (x - mean) * torch.rsqrt(variance + 1e-5)
        return x * self.weight + self.bias if self.together else x


def _skip(kind: Skip, channels: int) -> nn.Module | None:
    if kind == "linear":
        return nn.Linear(channels, channels, bias=False)
    if kind == "soft-gating":
        return _SoftGating(channels)
    return nn.Identity() if kind == "identity" else None


def _two_maps(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, hidden), nn.GELU(), nn.Linear(hidden, channels_out))


class _Block(nn.Module):
    """A spectral convolution and a pointwise network, each with its skip, norm and activation."""

    def __init__(self, c: NeuralopFNOConfig, *, is_last: bool) -> None:
        super().__init__()
        width = c.hidden_channels
        self.is_last = is_last
        self.conv = CenteredSpectral(width, width, c.weight_modes)
        self.skip = _skip(c.fno_skip, width)
        norms = [] if c.norm == "none" else [_Norm(width, together=c.norm == "group_norm") for _ in range(2)]
        self.norms = nn.ModuleList(norms)
        self.mlp = _two_maps(width, round(width * c.channel_mlp_expansion), width) if c.use_channel_mlp else None
        self.mlp_skip = _skip(c.channel_mlp_skip, width) if c.use_channel_mlp else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.norms:
            out = self.norms[0](out)
        if self.skip is not None:
            out = out + self.skip(x)
        if not self.is_last:
            out = functional.gelu(out)
        if self.mlp is not None:
            out = self.mlp(out)
            if self.mlp_skip is not None:
                out = out + self.mlp_skip(x)
        if self.norms:
            out = self.norms[1](out)
        return out if self.is_last else functional.gelu(out)


class NeuralopFNO(Operator):
    """The network of ``neuralop.models.FNO`` on grids of one to three dimensions, one frame to one.

    Raises:
        ConfigError: if `config` has not as many axes as the signature.
    """

    config: NeuralopFNOConfig
    config_class = NeuralopFNOConfig
    parts = {"lifting": "lift", "blocks": "inner", "projection": "projection"}  # noqa: RUF012
    uses_global_generator = False
    uses_all_weights = True
    can_recompute = True
    any_resolution = True
    needs_periodic = False  # theirs takes any grid as it comes, and so must ours to be equal

    def __init__(
        self, signature: Signature, config: NeuralopFNOConfig, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__(signature, config, normalization=normalization)
        c, dims, width = config, signature.num_spatial_dims, config.hidden_channels
        if len(c.n_modes) != dims:
            raise ConfigError(
                f"n_modes = {list(c.n_modes)} names {plural(len(c.n_modes), 'axis', 'axes')}; the fields have {dims}."
            )
        hidden = round(width * c.channel_mlp_expansion), int(width * c.projection_channel_ratio)
        if not all(hidden):
            raise ConfigError("channel_mlp_expansion and projection_channel_ratio must leave at least one channel.")
        channels = len(signature.inputs) + len(signature.coefficients) + (dims if self._embeds else 0)
        lifting = int(c.lifting_channel_ratio * width)
        self.lifting = _two_maps(channels, lifting, width) if lifting else nn.Linear(channels, width)
        self.blocks = nn.ModuleList(_Block(c, is_last=index == c.n_layers - 1) for index in range(c.n_layers))
        self.projection = _two_maps(width, hidden[1], len(signature.outputs))

    @property
    def _embeds(self) -> bool:
        return self.config.positional_embedding == "grid"

    def outer_maps(self) -> OuterMaps:
        first = self.lifting[0] if isinstance(self.lifting, nn.Sequential) else self.lifting
        last = self.projection[-1]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        positions: tuple[Role, ...] = ("position",) if self._embeds else ()
        return OuterMaps(first, ("input", "coefficient", *positions), last)

    def hidden(self) -> Hidden:
        return Hidden(tuple(self.stages()), ("space", "batch", "channel"))

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded inputs to encoded answers; shapes as in `Operator.network`."""
        inputs, coefficients = encoded.inputs, encoded.coefficients
        space = tuple(inputs.shape[3:])
        axes = range(len(space))
        fields = inputs[:, 0].permute(*range(2, inputs.dim() - 1), 0, 1)
        channels = [fields, coefficients.expand(*space, *coefficients.shape)]
        if self._embeds:
            lines = [torch.arange(n, dtype=torch.float64, device=inputs.device) / n for n in space]
            grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).to(inputs.dtype)
            channels.append(grid.unsqueeze(-2).expand(*space, inputs.shape[0], -1))
        hidden = self.lifting(torch.cat(channels, dim=-1))
        for block in self.blocks:
            hidden = self.through(block, hidden)
        return self.projection(hidden).permute(-2, -1, *axes).unsqueeze(1)
