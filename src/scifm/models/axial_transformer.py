"""A space–time transformer: fields by name, patches, attention along time and along each axis of space.

``embedding by name → patches → blocks (attention over time, over each axis, pointwise) → patches back → outputs by
name``, in one to three dimensions, for steady problems, single frames and histories alike.

After McCabe et al., "Multiple physics pretraining for spatiotemporal surrogate models" (arXiv:2310.02994): with the
settings of `AxialTransformerConfig.published` it has their weights, one for one. What is done otherwise here: answers
are increments (by the operator's normalization), coefficients and the lead time move every norm, relative positions on
an axis that wraps around are circular, the vocabulary of fields is open, and norms take a token's channels
(`parts/axial.py` says why), none standing between the stages of patches, so that what is small stays small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.config import refuse_idle
from scifm.errors import ConfigError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.on_device import in_a_row, numbers_for
from scifm.fields.term import Equations, Term
from scifm.models.architecture import Hidden
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.models.parts.axial import AxialBlock, Modulations
from scifm.models.parts.patches import FieldEmbedding, LastStage, PatchesIn, PatchesOut, Tiles, strides_of
from scifm.models.parts.terms import TermTokens
from scifm.models.parts.workspace import Workspace

__all__ = ["AXIAL_SIZES", "AxialTransformer", "AxialTransformerConfig"]

AXIAL_SIZES: dict[str, tuple[int, int, int]] = {
    "nano": (96, 3, 6),
    "tiny": (192, 3, 12),
    "small": (384, 6, 12),
    "base": (768, 12, 12),
    "large": (1024, 16, 24),
}
"""Width, heads and blocks by name; all but the first are the published ones."""

_LEAST = 1e-6  # of numbers of order one: a field smaller than that is not there
_LEAST_CHANGE = 1e-2  # of the usual one: what rests is not kept from moving


class AxialTransformerConfig(OperatorConfig):
    """Architecture of an `AxialTransformer`.

    Args:
        width: numbers of a token.
        num_heads: of attention, which share them.
        num_blocks: one after the other.
        patch: points that a token holds along each axis, a power of two.
        tokens: how many tokens stand along the longest axis, on whatever grid: the first kernel, that of the last
            step out too, is resampled to the stride this takes. Absent: `patch` is what it is on every grid.
        condition_width: numbers that coefficients and lead time are made into before they move the norms.
        layer_scale: of every block at first: how far it is from doing nothing. Published: 1e-6.
        instance_norm: whether the states of each sample are brought to one size over its frames and points. ``rms``:
            divided by their root mean square, and answers multiplied by that of the change between its frames (of one
            frame: of the state), so that neither a small field nor a slow one is lost beside others. ``reversible``:
            to mean zero and size one, and answers multiplied by that size; an answer then follows every scaling and
            shift of a field, which is right only where the physics does. ``none``: what the normalization of the
            operator makes of them, which knows the exact scalings.
        position: give the network one more input channel for each axis: where between its ends a point lies, −1 to 1,
            and 0 on an axis that wraps around. When left out, it is settled by the first data: given where they have
            walls.
        mask_channels: give the network, for each of its fields, one more channel that is 1 where a point counts and 0
            where it is missing: for fields with gaps that move, or differ from sample to sample.
        history: input frames of an evolving problem; when left out, as many as the first data have.
        lead_time: tell every norm how far ahead the answer lies; when left out, they are told where the first data
            have several lead times, or one that a scaling of the system changes from sample to sample.
        terms: tell every norm the terms of each sample's equation, a token each (`models/parts/terms.py`), ``beside``
            the coefficients (or true), or ``instead`` of them: then what a coefficient is called counts for nothing.
            Samples say which system they are of.
        equations: the terms of each system, by name; when left out, those that the systems of the first data declare.
        plain: let torch's own operations do it all: derivatives of every order, for `torch.func`, at a lower speed.
    """

    kind: ClassVar[str] = "axial_transformer"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"width": width, "num_heads": heads, "num_blocks": blocks}
        for name, (width, heads, blocks) in AXIAL_SIZES.items()
    }
    sized_by: ClassVar[tuple[str, ...] | None] = (
        "width", "num_heads", "num_blocks", "condition_width", "plain", "equations",
    )  # fmt: skip

    width: int = Field(96, ge=4, le=16384)
    num_heads: int = Field(3, ge=1, le=1024)
    num_blocks: int = Field(6, ge=1, le=256)
    patch: int = Field(8, ge=1, le=64)
    tokens: int | None = Field(None, ge=1, le=4096)
    condition_width: int = Field(64, ge=1, le=8192)
    layer_scale: float = Field(0.1, gt=0, le=1)
    instance_norm: Literal["none", "rms", "reversible"] = "none"
    position: bool | None = None
    mask_channels: bool | None = None
    history: int | None = Field(None, ge=1, le=64)
    lead_time: bool | None = None
    terms: Literal["beside", "instead"] | None = None
    equations: dict[str, tuple[Term, ...]] | None = None
    plain: bool = False

    @field_validator("terms", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        return {True: "beside", False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _adds_up(self) -> AxialTransformerConfig:
        if self.width % self.num_heads or self.width % 4:
            raise ValueError(f"width must be a multiple of num_heads ({self.num_heads}) and of 4; got {self.width}")
        if self.patch & (self.patch - 1):
            raise ValueError(f"patch must be a power of two: 1, 2, 4, 8, 16, …; got {self.patch}")
        if self.terms is None:
            refuse_idle(self, ("equations",), "they are told where terms is 'beside' or 'instead'")
        return self

    @property
    def wants_terms(self) -> bool:
        return self.terms is not None

    @property
    def equations_known(self) -> Equations:
        return self.equations or {}

    def knowing(self, equations: Equations, *, signature: Signature | None = None) -> Self:
        if self.terms is None:
            return self
        whole = {**self.equations_known, **equations}
        if signature is not None:
            known = {None, *signature.coefficients}
            whole = {name: own for name, own in whole.items() if all(term.coefficient in known for term in own)}
        return self.model_copy(update={"equations": whole or None})

    @classmethod
    def published(cls, size: str = "tiny") -> AxialTransformerConfig:
        """Return the published layout of a size: patches of 16 points, 16 frames, reversible normalization."""
        about = {"patch": 16, "history": 16, "instance_norm": "reversible", "layer_scale": 1e-6}
        return cls.of_size(size).model_copy(update=about)


class AxialTransformer(Operator):
    """A space–time transformer on boxes of one to three dimensions, periodic or not, a history to one frame."""

    config: AxialTransformerConfig
    config_class = AxialTransformerConfig
    parts = {  # noqa: RUF012
        "embedding": "lift", "condition": "inner", "terms": "inner", "modulations": "inner", "patches_in": "inner",
        "blocks": "inner", "patches_out": "inner", "last": "projection",
    }  # fmt: skip
    needs_periodic = False
    sees_frames = True
    uses_global_generator = False
    uses_all_weights = True
    can_recompute = True

    def __init__(
        self, signature: Signature, config: AxialTransformerConfig | None = None, *,
        normalization: Normalization | None = None,
    ) -> None:  # fmt: skip
        super().__init__(signature, config or AxialTransformerConfig(), normalization=normalization)
        c, dims, inner = self.config, signature.num_spatial_dims, self.config.width // 4
        told, constants = self.told_width, self.num_coefficients - self._num_hidden
        sees_time, strides = self.history > 1, strides_of(c.patch)
        self.embedding = FieldEmbedding(self.num_channels + constants, inner)
        self.condition = (
            nn.Sequential(nn.Linear(inner, told), nn.GELU(), nn.Linear(told, told), nn.GELU())
            if constants or (told and not c.terms)
            else None
        )
        self.terms = self._tokens(told) if c.terms else None
        workspace = Workspace()
        patches: dict[str, Any] = {"patch": c.patch, "num_axes": dims, "workspace": None if c.plain else workspace}
        self.patches_in = PatchesIn(inner, c.width, **patches)
        about: dict[str, Any] = {"layer_scale": c.layer_scale, "sees_time": sees_time, "plain": c.plain}
        about["workspace"] = workspace
        self.blocks = nn.ModuleList(
            AxialBlock(c.width, c.num_heads, last=place == c.num_blocks - 1, **about) for place in range(c.num_blocks)
        )
        self.patches_out = PatchesOut(inner, c.width, **patches)
        of_block = c.width * AxialBlock.num_norms(sees_time=sees_time)
        into, out = sum(self.patches_in.channels), sum(self.patches_out.channels)
        self.modulations = Modulations([into, *[of_block] * c.num_blocks, out], told, workspace=patches["workspace"])
        comes = inner if len(strides) > 1 else c.width
        self.last = LastStage(comes, len(signature.outputs), stride=strides[0], num_axes=dims)

    @property
    def told_width(self) -> int:
        """How many numbers move the norms, those of `told`; 0: none do."""
        return self.config.condition_width if self.num_coefficients - self._num_hidden or self.config.terms else 0

    @property
    def _num_hidden(self) -> int:
        """Coefficients that only terms tell of."""
        return len(self.signature.coefficients) if self.config.terms == "instead" else 0

    def _tokens(self, told: int) -> TermTokens:
        equations = self.config.equations
        if not equations:
            raise ConfigError(
                f"terms = '{self.config.terms}' wants the terms of every system, and there are none: train by a "
                "recipe, whose systems declare theirs, or give equations, the terms by the name of a system."
            )
        about: dict[str, Any] = {"hidden": self.config.condition_width, "width": told}
        about["sees_lead_time"] = self.sees_lead_time
        return TermTokens(equations, self.signature, self.normalization, **about)

    def stages(self) -> list[nn.Module]:
        return list(self.blocks)

    def outer_maps(self) -> OuterMaps:
        positions: tuple[Role, ...] = ("mask",) if self.num_masks else ()
        positions += ("position",) if self.num_positions else ()
        time: tuple[Role, ...] = ("lead_time",) if self.sees_lead_time else ()
        constants: tuple[Role, ...] = () if self._num_hidden else ("coefficient",)
        return OuterMaps(self.embedding, ("input", *positions, *constants, *time), self.last, spread=1.0)

    def hidden(self) -> Hidden:
        return Hidden(tuple(self.stages()), ("batch", "time", "space", "channel"))

    def weights_for(self, other: Self) -> dict[str, Tensor]:
        weights = super().weights_for(other)
        if self.terms is not None and other.terms is not None:
            weights |= {f"terms.{name}": table for name, table in self.terms.rows_in(other.terms).items()}
        if (self.history > 1) == (other.history > 1):
            return weights
        # attention over time has norms and a layer scale in each block, in front of the others, which are put in place
        taken, sizes = other.weights_for(other), (self.modulations.sizes, other.modulations.sizes)
        for name in ("modulations.base", "modulations.moved"):
            if name in weights and name in taken:
                parts = [of[name].detach().split(size) for of, size in zip((weights, taken), sizes, strict=True)]
                weights[name] = torch.cat([self._in_place_of(*each) for each in zip(*parts, strict=True)])
        for name in (name for name in weights if name.endswith(".layer_scales")):
            weights[name] = torch.cat([taken[name].detach()[:-2], weights[name].detach()[-2:]])  # space, and pointwise
        return weights

    def _in_place_of(self, old: Tensor, new: Tensor) -> Tensor:
        """Return what is told to the norms of a part, those of `old` in place of the last of `new` or of them alone."""
        if old.shape == new.shape:
            return old
        ours, theirs = (part.unflatten(0, (2, -1, self.config.width)) for part in (old, new))  # scales and shifts, norm
        shared = min(ours.shape[1], theirs.shape[1])
        return torch.cat([theirs[:, : theirs.shape[1] - shared], ours[:, ours.shape[1] - shared :]], dim=1).flatten(
            0, 2
        )

    def plain_config(self) -> OperatorConfig:
        return self.config.model_copy(update={"plain": True})

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded inputs to encoded answers; shapes as in `Operator.network`."""
        grid, inputs = encoded.grid, encoded.inputs
        inputs, sizes = self._sized(inputs)
        fields, columns = inputs.shape[2], self.embedding.weight
        of_fields, of_constants = columns.split([fields, columns.shape[1] - fields], dim=1)
        constants = functional.linear(encoded.coefficients[:, self._num_hidden :], of_constants, self.embedding.bias)
        into, *of_blocks, out = self.modulations(self.told(encoded, constants))
        share = self._share(encoded)
        first, patch = self._strides(grid)
        tiles = Tiles(grid, patch)
        tiled = tiles.put(inputs * share.view(-1, *(1,) * (inputs.dim() - 1)))
        x = self.patches_in(tiled, of_fields, constants * share.view(-1, 1), into, first=first)
        for block, told in zip(self.blocks, of_blocks, strict=True):
            x = self.through(block, x, grid.periodic, told)
        answer = tiles.take(self.last(self.patches_out(x[:, -1], out), stride=first)).unsqueeze(1)
        if sizes is None:
            return answer
        heads = answer.unflatten(2, (-1, len(self.signature.outputs)))  # of an ensemble may be several
        return (heads * sizes.unsqueeze(2)).flatten(2, 3)

    def told(self, encoded: Encoded, constants: Tensor) -> Tensor | None:
        """Return what moves the norms, ``(batch, condition_width)``: coefficients, terms, both; None: nothing does.

        Args:
            encoded: what is asked.
            constants: its coefficients and lead time, embedded, ``(batch, width/4)``.
        """
        parts = [] if self.condition is None else [self.condition(constants)]
        parts += [] if self.terms is None else [self.terms(encoded)]
        return sum(parts[1:], start=parts[0]) if parts else None

    def _share(self, encoded: Encoded) -> Tensor:
        """Return 1/√(number of fields) of each sample, ``(batch,)``."""
        inputs = encoded.inputs
        if encoded.present is None:
            return inputs.new_full((inputs.shape[0],), len(self.signature.inputs) ** -0.5)
        return encoded.present.sum(dim=1).clamp(min=1).to(inputs).rsqrt()

    def _strides(self, grid: Grid) -> tuple[int, int]:
        """Return the stride of the first stage on a grid, and of all together."""
        first = strides_of(self.config.patch)[0]
        rest = self.config.patch // first
        if self.config.tokens is None:
            return first, self.config.patch
        first = max(1, math.ceil(max(grid.num_points) / (self.config.tokens * rest)))
        return first, first * rest

    def _sized(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return inputs whose states have one size, and what multiplies answers, ``(batch, 1, output, 1, …)``."""
        how, names = self.config.instance_norm, self.signature
        if how == "none" or not names.state:
            return inputs, None
        places = names.state_places
        among, answered = in_a_row(places), in_a_row([names.outputs.index(name) for name in names.state])
        states, rest = inputs[:, :, among], [1, *range(3, inputs.dim())]
        centered = states - states.mean(rest, keepdim=True) if how == "reversible" else states
        square = centered.square().mean(rest, keepdim=True)
        size = torch.where(square > _LEAST**2, square, 1.0).sqrt()  # a root of zero would have no derivative
        sized = inputs.clone()
        sized[:, :, among] = centered / size
        if how == "rms" and inputs.shape[1] > 1:
            units = [
                self.normalization.input_scale[place] / self.normalization.output_scale[names.outputs.index(name)]
                for name, place in zip(names.state, places, strict=True)
            ]
            change = (states.diff(dim=1) * _on_channels(units, states)).square().mean(rest, keepdim=True)
            size = (change + _LEAST_CHANGE**2).sqrt()
        factors = torch.ones_like(size[:, :, :1]).expand(-1, -1, len(names.outputs), *size.shape[3:]).clone()
        factors[:, :, answered] = size
        return sized, factors


def _on_channels(values: list[float], fields: Tensor) -> Tensor:
    return numbers_for(values, fields).view(1, 1, -1, *(1,) * (fields.dim() - 3))
