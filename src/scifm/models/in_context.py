"""A space–time transformer that learns to use solved examples of the physics it is asked about.

``each example → fields and answer by name → patches → blocks → mean over tokens``, then ``mean over examples → a small
network``, added to what moves every norm of the transformer. A mean knows no order, and examples that are given twice
count as given once; with none nothing is added, and the answer is the transformer's own.

What it learns that by is `scifm.objectives.supervised`: with ``shows`` the samples of a batch are shown to each other.
Examples are worth something where physics is not told: coefficients that samples do not have, or that are hidden from
the network (``hides``), while samples of one group share them (``data.same_knobs``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, Self, cast

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.on_device import numbers_for
from scifm.models.architecture import OuterMaps, evaluating
from scifm.models.axial_transformer import AxialTransformer, AxialTransformerConfig
from scifm.models.demonstrated import Demonstrated, LearnsInContext
from scifm.models.neighbours import Corrected, NeighbourCorrection, corrected
from scifm.models.operator import Operator
from scifm.models.parts.axial import AxialBlock, Modulations
from scifm.models.parts.convnext import channel_norm
from scifm.models.parts.patches import FieldEmbedding, PatchesIn, Tiles
from scifm.models.parts.workspace import Workspace

__all__ = ["InContext", "InContextConfig", "Prompted", "helped", "shown"]

_AT_ONCE = 64  # demonstrations


class InContextConfig(AxialTransformerConfig):
    """Architecture of an `InContext`.

    Args:
        context_blocks: of the network that reads examples, which has the width and the heads of the other.
        hides: coefficients that the network is never told, though samples have them: what examples are to teach. No
            sample is normalized by an exact scaling that would tell them.
    """

    kind: ClassVar[str] = "in_context"
    sized_by: ClassVar[tuple[str, ...] | None] = (*(AxialTransformerConfig.sized_by or ()), "context_blocks")

    context_blocks: int = Field(2, ge=1, le=256)
    hides: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _hides_them(self) -> InContextConfig:
        if self.hides and self.terms:
            raise ValueError(
                f"hides = {list(self.hides)} and terms contradict each other: terms tell how strong each one is, and "
                "so the coefficients. Leave one of them out"
            )
        return self

    def scalings(self, declared: tuple[Homogeneity, ...]) -> tuple[Homogeneity, ...]:
        return tuple(scaling for scaling in declared if not any(map(scaling.exponent, self.hides)))

    def renamed(self, call: Callable[[str], str]) -> Self:
        return super().renamed(call).model_copy(update={"hides": tuple(map(call, self.hides))})

    def require_names(self, signature: Signature) -> None:
        super().require_names(signature)
        for name in self.hides:
            if name not in signature.coefficients:
                raise ConfigError(f"hides names coefficients of the samples: {suggest(name, signature.coefficients)}")

    def within(self, signature: Signature) -> Self:
        hides = tuple(name for name in self.hides if name in signature.coefficients)
        return super().within(signature).model_copy(update={"hides": hides})


class _Reader(nn.Module):
    """What reads examples: fields and answers on patches, blocks, a mean over tokens; and what is made of their mean.

    Args:
        num_outputs: of an example, whose answers have columns of their own.
        config: of the operator.
        num_axes: of space.
    """

    def __init__(self, num_outputs: int, config: InContextConfig, num_axes: int) -> None:
        super().__init__()
        width, inner, told = config.width, config.width // 4, config.condition_width
        workspace = Workspace()
        self.answers = FieldEmbedding(num_outputs, inner, bias=False)
        patches = {"patch": config.patch, "num_axes": num_axes}
        self.patches_in = PatchesIn(inner, width, **patches, workspace=None if config.plain else workspace)
        self.blocks = nn.ModuleList(
            AxialBlock(
                width,
                config.num_heads,
                layer_scale=config.layer_scale,
                sees_time=False,
                last=False,
                plain=config.plain,
                workspace=workspace,
            )
            for _ in range(config.context_blocks)
        )
        of_block = width * AxialBlock.num_norms(sees_time=False)
        self.modulations = Modulations([sum(self.patches_in.channels), *[of_block] * config.context_blocks], 0)
        self.read = nn.Linear(width, width)
        self.told = nn.Sequential(nn.Linear(width, told), nn.GELU(), nn.Linear(told, told))


class InContext(AxialTransformer, LearnsInContext):
    """A space–time transformer with a network beside it that reads solved examples."""

    config: InContextConfig
    config_class = InContextConfig
    parts = {**AxialTransformer.parts, "reader": "inner"}  # noqa: RUF012
    uses_all_weights = False  # those that read examples, only where there are some

    def __init__(
        self, signature: Signature, config: InContextConfig | None = None, *,
        normalization: Normalization | None = None,
    ) -> None:  # fmt: skip
        config = config or InContextConfig()
        config.require_names(signature)
        super().__init__(signature, config, normalization=normalization)
        told = [h for h in self.normalization.homogeneities if h not in config.scalings((h,))]
        if told:
            raise ConfigError(
                f"The samples' sizes would tell what is hidden, {', '.join(config.hides)}: they are normalized by the "
                f"scaling of {', '.join(told[0].gauge)}. Fit a normalization with config.scalings(…) alone, or "
                "kind='constant'."
            )
        self.reader = _Reader(len(signature.outputs), config, signature.num_spatial_dims)
        self._context: Tensor | None = None

    @property
    def told_width(self) -> int:
        return self.config.condition_width

    def outer_maps(self) -> OuterMaps:
        return replace(super().outer_maps(), shown=self.reader.answers)

    def outside(self, batch: Batch) -> list[str]:
        # a hidden coefficient may be left out: it is not zero for that
        untold = {name for name in self.config.hides if name not in batch.signature.coefficients}
        domain = self.domain.without(untold)
        return domain.outside(self.align(batch), self.normalization, any_resolution=self.any_resolution)

    def encoded(self, batch: Batch) -> Encoded:
        encoded, hidden = super().encoded(batch), self.config.hides
        if not hidden:
            return encoded
        told = [float(name not in hidden) for name in self.signature.coefficients]
        told += [1.0] * (encoded.coefficients.shape[1] - len(told))  # a lead time
        numbers = torch.where(numbers_for(told, encoded.coefficients) > 0, encoded.coefficients, 0.0)
        return replace(encoded, coefficients=numbers)

    def told(self, encoded: Encoded, constants: Tensor) -> Tensor | None:
        told, context = super().told(encoded, constants), self._context
        assert told is not None, "its norms are always told something"
        return told if context is None else told + context

    # --- solved examples ----------------------------------------------------------------------------------------------

    def tokens(self, demonstrations: Batch) -> Float[Tensor, "demonstration number"]:
        """Return what is read from each of some solved examples, from the last input frame and its answer."""
        encoded, reader = self.encoded(demonstrations), self.reader
        inputs, sizes = self._sized(encoded.inputs)
        answers = encoded.encode(demonstrations.require_targets())
        answers = answers if sizes is None else answers / sizes
        if demonstrations.valid_targets is not None:
            answers = torch.where(demonstrations.valid_targets, answers, 0.0)
        fields, columns = inputs.shape[2], self.embedding.weight
        of_fields, of_constants = columns.split([fields, columns.shape[1] - fields], dim=1)
        constants = functional.linear(encoded.coefficients, of_constants, self.embedding.bias)
        share = self._share(encoded)
        first, patch = self._strides(encoded.grid)
        both = torch.cat([inputs[:, -1:], answers], dim=2)
        tiled = Tiles(encoded.grid, patch).put(both * share.view(-1, *(1,) * (both.dim() - 1)))
        into, *of_blocks = (norms.expand(len(both), -1) for norms in reader.modulations(None))
        all_columns = torch.cat([of_fields, reader.answers.weight], dim=1)
        x = reader.patches_in(tiled, all_columns, constants * share.view(-1, 1), into, first=first)
        for block, norms in zip(reader.blocks, of_blocks, strict=True):
            x = block(x, encoded.grid.periodic, norms)
        read: Tensor = functional.gelu(reader.read(channel_norm(x)))
        return read.flatten(1, -2).mean(1)

    def context(self, tokens: Tensor, shares: Float[Tensor, "question demonstration"]) -> Tensor:
        there = (shares != 0).any(dim=1, keepdim=True)
        return torch.where(there, self.reader.told(shares.to(tokens) @ tokens), 0.0)

    @contextmanager
    def told_by(self, context: Tensor | None) -> Iterator[None]:
        before, self._context = self._context, context
        try:
            yield
        finally:
            self._context = before


class Prompted(Demonstrated):
    """An operator that is shown demonstrations before it answers; see `shown`.

    Attributes:
        context: ``(1, number)`` what they tell it, found once from its weights as they are; None where there are none.
    """

    context: Tensor | None

    def __init__(self, operator: Operator, demonstrations: Batch) -> None:
        if not isinstance(operator, LearnsInContext):
            raise ConfigError(
                f"An operator of kind '{operator.kind}' did not learn to use demonstrations. Correct its answers by "
                "them without training (scifm.corrected), or train one of kind 'in_context'."
            )
        super().__init__(operator, demonstrations)
        self.register_buffer("context", self._read() if self.demonstrations.num_samples else None, persistent=False)

    @property
    def _learns(self) -> LearnsInContext:
        return cast(LearnsInContext, self.operator)

    @torch.no_grad()
    def _read(self) -> Tensor:
        shown = self.demonstrations.to(*self.operator.home)
        with evaluating(self.operator):
            tokens = torch.cat([self._learns.tokens(part) for part in shown.batches(_AT_ONCE)])
            return self._learns.context(tokens, tokens.new_full((1, len(tokens)), 1 / len(tokens)))

    def _next_frame(self, batch: Batch) -> Tensor:
        context = None if self.context is None else self.context.expand(batch.num_samples, -1)
        with self._learns.told_by(context):
            return self.operator._next_frame(batch)


def shown(operator: Operator, demonstrations: Batch) -> Prompted:
    """Return an operator that answers as this one does when it is shown solved examples; nothing is trained.

    Args:
        operator: one that learned to use them: of kind ``in_context``, trained with ``shows``. It is left as it is.
        demonstrations: problems with targets, of the system that will be asked about, on its grid, one step each, and
            of the physics that is asked about, as far as that is not told. None of them: the operator's own answers.

    Returns:
        An operator: `predict`, `evaluate`, `rollout` and checks take it.

    Raises:
        ConfigError: if the operator did not learn to use them.
        SignatureError: if demonstrations have no targets, or several frames of them, or do not fit the operator. Asked
            about others later: if these are of another system, grid or lead time.
        DataError: if demonstrations hold NaN.

    Example::

        helped = scifm.shown(operator, demonstrations)
        scifm.evaluate(helped, samples)
    """
    return Prompted(operator, demonstrations)


def helped(operator: Operator, demonstrations: Batch, how: NeighbourCorrection | None = None) -> Prompted | Corrected:
    """Return an operator that answers with the help of solved examples, the way its own allows or settings say.

    Args:
        operator: any.
        demonstrations: as for `shown` and for `scifm.models.neighbours.corrected`.
        how: settings; where there are none, an operator that learned to use them is shown them.

    Raises:
        ConfigError, SignatureError, DataError: as these two do.
    """
    how = how or NeighbourCorrection()
    learned = how.way == "learned" or (how == NeighbourCorrection() and isinstance(operator, LearnsInContext))
    return shown(operator, demonstrations) if learned else corrected(operator, demonstrations, how)
