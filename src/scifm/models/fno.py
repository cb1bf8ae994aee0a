"""The Fourier neural operator, ours and the reference paper's.

``lift → num_layers × (Fourier layer, activation) → projection``, all on ``(*space, batch, channel)``.

Two named settings of one class:

* `FNOConfig()`, the default: hidden layers on a latent grid, residual connections.
* `FNOConfig.reference()`: exactly the network of Subramanian et al. (arXiv:2306.00258): full grid, no residual, GELU
  after every layer but the last, projection 64 → 128 → 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from scifm.fields.batch import Signature
from scifm.fields.normalization import Encoded, Normalization
from scifm.models.architecture import Hidden
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.models.parts.grids import band_limited_resize
from scifm.models.parts.pointwise import Lift, Projection
from scifm.models.parts.spectral import Engine, FourierLayer
from scifm.models.parts.workspace import Workspace

__all__ = ["FNO", "SIZES", "FNOConfig"]

# Width grows with the dial. The spectral weights dominate: about 4·(2·modes)·modes·width²·2 numbers in two dimensions,
# so a step of √2 in width doubles the model. Modes follow the smoothness of the data, not the size of the model, and
# stay at 12; measured on Poisson at 64², modes beyond 12 hold 5·10⁻⁴ of the solution's norm.
SIZES: dict[str, int] = {"tiny": 12, "small": 32, "base": 48, "large": 64, "huge": 128}
"""Width by name: one dial of size; `FNOConfig.of_size` derives the rest of an architecture from it."""


class FNOConfig(OperatorConfig):
    """Architecture of an `FNO`.

    Args:
        width: hidden channels.
        modes: Fourier modes kept per axis (non-negative ones; other axes than the last also keep their negatives).
        num_layers: Fourier layers.
        projection_width: channels of the hidden layer of the projection.
        latent_points: points a side of the grid of the hidden layers, at least twice `modes`; 0: the grid of the data.
            The operator then answers in modes below half of it only.
        residual: add each layer's input to its output.
        engine: how products are made: ``gemm`` and ``fft`` are two ways through the spectral layers, of which ``auto``
            picks the faster one; ``plain`` has derivatives of every order and serves `torch.func`, at a lower speed.
        position: give the network one more input channel for each axis: where between its ends a point lies, −1 to 1,
            and 0 on an axis that wraps around. On a box with walls it cannot see them otherwise. When left out, it is
            settled by the first data: given where they have walls.
        mask_channels: give the network, for each of its fields, one more channel that is 1 where a point counts and 0
            where it is missing: for fields with gaps that move, or differ from sample to sample.
        history: input frames of an evolving problem; when left out, as many as the first data have.
        lead_time: tell the network how far ahead it looks, as one more coefficient; when left out, it is told where the
            first data have several lead times, or one that a scaling of the system changes from sample to sample.
        conditioning: where coefficients and lead time enter: only in the ``lift``, or in all ``layers``, behind each of
            which they scale and shift every channel.
        spectral_init: standard deviation of the first spectral weights, in units of 1/√width; 0 means the reference's
            rule, uniform in [0, 1/width²).
    """

    kind: ClassVar[str] = "fno"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"width": width, "projection_width": 2 * width} for name, width in SIZES.items()
    }
    sized_by: ClassVar[tuple[str, ...] | None] = (
        "width", "modes", "num_layers", "projection_width", "latent_points", "engine",
    )  # fmt: skip

    width: int = Field(32, ge=1, le=4096)
    modes: int = Field(12, ge=1, le=4096)
    num_layers: int = Field(4, ge=1, le=64)
    projection_width: int = Field(64, ge=1, le=8192)
    latent_points: int = Field(24, ge=0, le=16384)
    residual: bool = True
    position: bool | None = None
    mask_channels: bool | None = None
    history: int | None = Field(None, ge=1, le=64)
    lead_time: bool | None = None
    conditioning: Literal["lift", "layers"] = "lift"
    engine: Engine = "auto"
    spectral_init: float = Field(0.125, ge=0)

    @model_validator(mode="after")
    def _latent_grid_holds_modes(self) -> FNOConfig:
        if self.latent_points and self.latent_points < 2 * self.modes:
            raise ValueError(
                f"latent_points must be at least twice modes ({self.modes}), or 0 for the grid of the data; got "
                f"{self.latent_points}"
            )
        return self

    @classmethod
    def reference(cls, *, width: int = 64, modes: int = 32) -> FNOConfig:
        """Return the reference paper's network."""
        hidden: dict[str, Any] = {"num_layers": 4, "projection_width": 128, "latent_points": 0, "residual": False}
        return cls(width=width, modes=modes, spectral_init=0.0, **hidden)


class FNO(Operator):
    """Fourier neural operator on boxes of one to three dimensions, periodic or extended to be so; one frame to one."""

    config: FNOConfig
    config_class = FNOConfig
    parts = {"lift": "lift", "layers": "inner", "modulations": "inner", "projection": "projection"}  # noqa: RUF012
    uses_global_generator = False
    uses_all_weights = True
    can_recompute = True
    any_resolution = True
    counted_in = torch.float64  # the compiled kernels know float32 only

    def __init__(
        self, signature: Signature, config: FNOConfig | None = None, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__(signature, config or FNOConfig(), normalization=normalization)
        c, plain = self.config, self.config.engine == "plain"
        modes, workspace = (c.modes,) * signature.num_spatial_dims, Workspace()
        shared: dict[str, Any] = {"engine": c.engine, "residual": c.residual, "workspace": workspace}
        self.lift = Lift(self.num_channels, self.num_coefficients, c.width, workspace=workspace, plain=plain)
        self.layers = nn.ModuleList(
            FourierLayer(c.width, c.width, modes, activation=index < c.num_layers - 1, **shared)
            for index in range(c.num_layers)
        )
        outputs = len(signature.outputs)
        self.projection = Projection(c.width, c.projection_width, outputs, workspace=workspace, plain=plain)
        told = self.num_coefficients if c.conditioning == "layers" else 0
        self.modulations = nn.ModuleList(nn.Linear(told, 2 * c.width) for _ in self.layers if told)
        for modulation in self.modulations:  # at first every layer is what it is without
            for weight in modulation.parameters():
                nn.init.zeros_(weight)
        for layer in self.layers:
            weight = layer.get_parameter("spectral_weight")
            if c.spectral_init:
                nn.init.normal_(weight, std=c.spectral_init / math.sqrt(c.width))
            else:
                nn.init.uniform_(weight, 0.0, 1 / c.width**2)

    def stages(self) -> list[nn.Module]:
        return list(self.layers)

    def outer_maps(self) -> OuterMaps:
        last = self.projection[-1]
        assert isinstance(last, nn.Linear)
        positions: tuple[Role, ...] = ("mask",) if self.num_masks else ()
        positions += ("position",) if self.num_positions else ()
        time: tuple[Role, ...] = ("lead_time",) if self.sees_lead_time else ()
        conditioned = tuple(map_ for map_ in self.modulations if isinstance(map_, nn.Linear))
        return OuterMaps(self.lift, ("input", *positions, "coefficient", *time), last, conditioned)

    def hidden(self) -> Hidden:
        return Hidden(tuple(self.stages()), ("space", "batch", "channel"))

    def plain_config(self) -> OperatorConfig:
        return self.config.model_copy(update={"engine": "plain"})

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded inputs to encoded answers; shapes as in `Operator.network`."""
        space = tuple(encoded.inputs.shape[3:])
        latent = (self.config.latent_points,) * len(space) if self.config.latent_points else space
        fields = band_limited_resize(encoded.inputs[:, 0], latent)
        hidden = self.lift(fields, encoded.coefficients)
        for place, layer in enumerate(self.layers):
            hidden = self.through(layer, hidden)
            if len(self.modulations):
                scale, shift = self.modulations[place](encoded.coefficients).chunk(2, dim=-1)
                hidden = torch.addcmul(shift + hidden, hidden, scale)
        answer = self.projection(hidden)
        answer = answer.permute(-2, -1, *range(len(space)))
        return band_limited_resize(answer, space).unsqueeze(1)
