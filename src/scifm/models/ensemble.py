"""Several answers to one question: whole networks beside each other, or heads on one network.

Where members disagree, none of them knows. Networks that were drawn and trained apart (Lakshminarayanan, Pritzel and
Blundell, arXiv:1612.01474) cost as much as they are many. Heads are further rows of the last map of one network, which
costs what one network costs; an objective can push them apart (`Supervised.diversity`; Mouli et al., arXiv:2403.10642),
each can be kept from seeing some of the hidden channels (`scifm.models.heads`), or they are drawn where the data
leave the last map free (`scifm.models.laplace`).

Asked as every operator is, it answers the mean; `each` and `spread` have what its members answer. Forecasts march the
mean, or every member by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor, nn

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.holding import Holds
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.term import Equations
from scifm.models.architecture import Hidden, OperatorConfig
from scifm.models.card import ModelCard
from scifm.models.fno import FNOConfig
from scifm.models.folder import ModelContent
from scifm.models.heads import dropping, redraw_masks, widened
from scifm.models.operator import Operator
from scifm.models.parts.grids import cropped

__all__ = ["MOST_MEMBERS", "Ensemble", "EnsembleConfig", "apart"]

MOST_MEMBERS = 256

# The registry knows every kind, this one too; so it is asked when settings are there, and not when files are read.


def _settings(network: Any) -> OperatorConfig:
    from scifm.models.registry import named_network

    return named_network(network)


def _told(network: OperatorConfig) -> dict[str, Any]:
    from scifm.models.registry import told_network

    return told_network(network)


class EnsembleConfig(OperatorConfig):
    """Architecture of an `Ensemble`.

    Args:
        member: settings of each network; the key ``kind`` says of which kind, ``fno`` when left out.
        num_members: networks, each with weights of its own.
        num_heads: answers of each network, which share all but the last map.
        dropout: share of the hidden channels that each head does not see, others at every step of training; heads then
            share the last map too. Absent: each has one of its own.
    """

    kind: ClassVar[str] = "ensemble"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = FNOConfig.sizes  # of a member

    member: Annotated[OperatorConfig, BeforeValidator(_settings), PlainSerializer(_told)] = FNOConfig()
    num_members: int = Field(5, ge=1, le=MOST_MEMBERS)
    num_heads: int = Field(1, ge=1, le=MOST_MEMBERS)
    dropout: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _are_several(self) -> EnsembleConfig:
        if self.dropout is not None and self.num_heads < 2:
            raise ValueError(
                f"dropout = {self.dropout:g} is what heads differ in, and there is one; give num_heads, 10 for example"
            )
        if self.num_members * self.num_heads < 2:
            raise ValueError(
                "an ensemble has at least two answers; got num_members = 1 and num_heads = 1. Give more of one of "
                "them, or train the member alone"
            )
        if self.hold is not None:
            raise ValueError("what an ensemble holds its members hold: give member.hold")
        if isinstance(self.member, EnsembleConfig):
            raise ValueError("a member of an ensemble is no ensemble; give num_members and num_heads")
        return self

    @classmethod
    def of_size(cls, size: str) -> EnsembleConfig:
        return cls(member=FNOConfig.of_size(size))

    @property
    def num_answers(self) -> int:
        """How many answers there are to a question."""
        return self.num_members * self.num_heads

    @property
    def history(self) -> int | None:
        """Input frames of a member."""
        return getattr(self.member, "history", None)

    @property
    def lead_time(self) -> bool | None:
        """Whether a member is told how far ahead it looks."""
        return getattr(self.member, "lead_time", None)

    @property
    def mask_channels(self) -> bool | None:
        """Whether a member is told where points are missing."""
        return getattr(self.member, "mask_channels", None)

    def on(self, grid: Grid, *, history: int | None = None, lead_time: bool | None = None) -> Self:
        return self._with(self.member.on(grid, history=history, lead_time=lead_time))

    def scalings(self, declared: tuple[Homogeneity, ...]) -> tuple[Homogeneity, ...]:
        return self.member.scalings(declared)

    def renamed(self, call: Callable[[str], str]) -> Self:
        return self._with(self.member.renamed(call))

    def within(self, signature: Signature) -> Self:
        return self._with(self.member.within(signature))

    def require_names(self, signature: Signature) -> None:
        self.member.require_names(signature)

    @property
    def holds(self) -> Holds | None:
        return self.member.holds

    def holding(self, hold: Holds | None) -> Self:
        return self._with(self.member.holding(hold))

    @property
    def wants_terms(self) -> bool:
        return self.member.wants_terms

    @property
    def equations_known(self) -> Equations:
        return self.member.equations_known

    def knowing(self, equations: Equations, *, signature: Signature | None = None) -> Self:
        return self._with(self.member.knowing(equations, signature=signature))

    def require_known(self) -> None:
        self.member.require_known()

    def _with(self, member: OperatorConfig) -> Self:
        return self.model_copy(update={"member": member})


class Ensemble(Operator):
    """Networks of one architecture that answer the same question, each with one head or several.

    Args:
        normalizations: of each network, where they differ, as those of runs on samples of their own do.
        networks: ready ones, instead of fresh ones.

    Attributes:
        networks: operators, each of which knows the numbers it was fitted on.

    Raises:
        ConfigError: if its members would know one problem alone.
    """

    config: EnsembleConfig
    config_class = EnsembleConfig

    def __init__(
        self,
        signature: Signature,
        config: EnsembleConfig | None = None,
        *,
        normalization: Normalization | None = None,
        normalizations: Sequence[Normalization] = (),
        networks: Sequence[Operator] = (),
    ) -> None:
        from scifm.models.registry import operator_class

        config = config or EnsembleConfig()
        super().__init__(signature, config, normalization=normalization)
        own = tuple(normalizations) or (self.normalization,) * config.num_members
        cls = operator_class(config.member.kind)
        if cls.knows_one_problem:
            raise ConfigError(
                f"Members of an ensemble answer any problem, and an operator of kind '{config.member.kind}' knows one: "
                "leave out num_members and num_heads."
            )
        self.networks = nn.ModuleList(
            networks or (self._headed(cls(signature, config.member, normalization=numbers)) for numbers in own)
        )
        self._apart = False
        self.answers_at_once, self.any_lead_time = self._first.answers_at_once, self._first.any_lead_time

    @classmethod
    def of(cls, operators: Sequence[Operator]) -> Ensemble:
        """Return trained operators as one, which are copied.

        Args:
            operators: of one architecture, for the same names.

        Raises:
            ConfigError: if they are fewer than two, or of several architectures.
            SignatureError: if they know different names.
        """
        if len(operators) < 2:
            raise ConfigError(f"An ensemble has at least two members; got {len(operators)}.")
        first = operators[0]
        for place, other in enumerate(operators[1:], start=1):
            if other.signature != first.signature:
                raise SignatureError(
                    f"Members of an ensemble know the same names in one order: the first one {first.signature}, that "
                    f"in place {place} {other.signature}."
                )
            if other.config != first.config:
                raise ConfigError(
                    f"Members of an ensemble are of one architecture: the first one is {first.config!r}, that in place "
                    f"{place} {other.config!r}."
                )
        config = EnsembleConfig(member=first.config, num_members=len(operators))
        copies = [copy.deepcopy(operator) for operator in operators]
        made = cls(first.signature, config, normalization=first.normalization, networks=copies)
        made.domain, made.provenance = first.domain, first.provenance
        return made.train(first.training)

    # --- what it says of itself: what its networks do -----------------------------------------------------------------

    @property
    def _first(self) -> Operator:
        network = self.networks[0]
        assert isinstance(network, Operator)
        return network

    @property
    def any_resolution(self) -> bool:  # type: ignore[override]
        """As of its networks."""
        return self._first.any_resolution

    @property
    def counted_in(self) -> torch.dtype | None:  # type: ignore[override]
        """As of its networks."""
        return self._first.counted_in

    @property
    def needs_module(self) -> bool:  # type: ignore[override]
        """As of its networks."""
        return self._first.needs_module

    @property
    def num_positions(self) -> int:
        return self._first.num_positions

    @property
    def sees_lead_time(self) -> bool:
        return self._first.sees_lead_time if "networks" in self._modules else super().sees_lead_time

    @property
    def num_members(self) -> int:
        return self.config.num_answers

    def stages(self) -> list[nn.Module]:
        return [stage for network in self._networks() for stage in network.stages()]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = {}
        for network in self._networks():
            for part, weights in network.groups().items():
                groups.setdefault(part, []).extend(weights)
        return groups

    def hidden(self) -> Hidden | None:
        """As of its first network."""
        return self._first.hidden()

    def plain_config(self) -> EnsembleConfig:
        return self.config.model_copy(update={"member": self._first.plain_config()})

    def _fresh(self, config: OperatorConfig) -> Self:
        assert isinstance(config, EnsembleConfig)
        numbers = [network.normalization for network in self._networks()]
        return type(self)(self.signature, config, normalization=self.normalization, normalizations=numbers)

    def redraw(self, generator: torch.Generator) -> None:
        """Draw which channels each head does not see in the coming step of training."""
        redraw_masks(self, generator)

    def describe(self) -> dict[str, Any]:
        about = super().describe()
        numbers = [network.normalization for network in self._networks()]
        if any(each != self.normalization for each in numbers):
            about["normalizations"] = [each.to_dict() for each in numbers]
        return about

    @classmethod
    def _with_weights(cls, config: OperatorConfig, content: ModelContent, module: nn.Module | None) -> Self:
        assert isinstance(config, EnsembleConfig)
        if module is not None:
            return super()._with_weights(config, content, module)
        numbers = [Normalization.from_dict(each) for each in content.entries.get("normalizations", ())]
        with torch.device("meta"):
            made = cls(content.signature, config, normalization=content.normalization, normalizations=numbers)
        content.require_shapes({name: tuple(tensor.shape) for name, tensor in made.state_dict().items()})
        made.load_state_dict(content.tensors(), assign=True)
        return made

    def save_pretrained(
        self, path: str | Path, *, card: ModelCard | Mapping[str, Any] | None = None, codec: str | None = None
    ) -> None:
        """Write the folder `path`, as any operator does.

        Raises:
            ConfigError: if its networks were given as objects and could not be made again.
        """
        if self.needs_module:
            raise ConfigError(
                "The networks of this ensemble were wrapped from objects, so nobody could make them again: wrap them "
                "by the name of their class (target=…), or save each by itself."
            )
        super().save_pretrained(path, card=card, codec=codec)

    def _networks(self) -> list[Operator]:
        return [network for network in self.networks if isinstance(network, Operator)]

    def _headed(self, network: Operator) -> Operator:
        heads, dropout = self.config.num_heads, self.config.dropout
        return widened(network, heads) if dropout is None else dropping(network, heads, dropout)

    # --- answers ------------------------------------------------------------------------------------------------------

    def encoded(self, batch: Batch) -> Encoded:
        return self._first.encoded(batch)

    def network(self, encoded: Encoded) -> Tensor:
        """Return the mean of encoded answers, of networks that were fitted on the same numbers."""
        parts = [self._by_head(network.network(encoded)) for network in self._networks()]
        return torch.cat(parts, dim=2).mean(2)

    def frames(self, batch: Batch) -> Float[Tensor, "member batch 1 output *space"]:
        """Return what every member answers to aligned samples, one frame, in physical units."""
        answers, encoded = [], None
        for network in self._networks():
            if not network.answers_at_once:
                answers.append(self.held(network._next_frame(batch), batch))
                continue
            if encoded is None or network.normalization != self._first.normalization:
                encoded = network.encoded(batch)
            heads = self._by_head(cropped(network.network(encoded), batch.grid)).unbind(2)
            answers += [self.held(encoded.decode(head), batch) for head in heads]
            encoded = encoded if network.normalization == self._first.normalization else None
        return torch.stack(answers)

    def _by_head(self, channels: Tensor) -> Float[Tensor, "batch 1 head output *space"]:
        return channels.unflatten(2, (self.config.num_heads, -1))

    def _next_frame(self, batch: Batch) -> Tensor:
        if not self._apart:
            return self.frames(batch).mean(0)
        answers, heads = [], self.config.num_heads
        each = batch.num_samples // self.num_members  # samples of every member, behind those of the one before
        for place, network in enumerate(self._networks()):
            first = place * heads * each
            mine = batch.select(slice(first, first + heads * each))
            if not network.answers_at_once:
                answers.append(network._next_frame(mine))
                continue
            encoded = network.encoded(mine)
            channels = self._by_head(cropped(network.network(encoded), batch.grid))
            own = torch.arange(heads, device=channels.device).repeat_interleave(each)
            chosen = channels[torch.arange(len(own), device=own.device), :, own]
            answers.append(encoded.decode(chosen))
        return torch.cat(answers)

    def forward(self, batch: Batch, *, through: int | None = None, apart: bool = False) -> Batch:
        """Return the mean of the answers; with `apart` those of every member, one behind the other along the batch."""
        if not apart:
            return super().forward(batch, through=through)
        batch, count = self.align(batch), self.num_members
        several = Batch.concatenate([batch] * count)
        if batch.num_frames == 1 and batch.inputs.shape[1] == self.history:
            answered = self.domain.gaps.answered(several)
            return several.with_targets(self.frames(batch).flatten(0, 1), answered)
        self._apart = True
        try:
            return super().forward(several, through=through)
        finally:
            self._apart = False

    def each(self, batch: Batch, *, through: int | None = None) -> list[Batch]:
        stacked, count = self(batch, through=through, apart=True), batch.num_samples
        return [stacked.select(slice(place * count, (place + 1) * count)) for place in range(self.num_members)]

    def head_weights(self) -> Float[Tensor, "network head number"] | None:
        """Return the weights in which the heads of each network differ; None where they have one each, or share it."""
        if self.config.num_heads == 1 or self.config.dropout is not None:
            return None
        rows = []
        for network in self._networks():
            ends = network.outer_maps()
            assert ends is not None
            rows.append(ends.last.weight.unflatten(0, (self.config.num_heads, -1)).flatten(1))
        return torch.stack(rows)


def apart(operator: Operator) -> Tensor:
    """Return the mean squared distance between the weights of two heads of one network, over all its pairs.

    Raises:
        ConfigError: if it is no ensemble whose networks have several heads.
    """
    weights = operator.head_weights() if isinstance(operator, Ensemble) else None
    if weights is None:
        raise ConfigError(
            "diversity of the objective pushes the last maps of a network apart, and here each has one: give "
            "model.num_heads, 10 for example, without dropout; or leave diversity out."
        )
    # the mean over pairs of different heads is twice the variance with one less in its place
    return 2 * weights.var(dim=1, unbiased=True).sum(-1).mean()
