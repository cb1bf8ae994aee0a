"""What an architecture says of itself: its settings, where its channels enter and leave, how they lie between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from pydantic import model_validator
from torch import Tensor, nn

from scifm.config import Config
from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.holding import Holds
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Equations

__all__ = ["Hidden", "OperatorConfig", "OuterMaps", "Role", "Stepped", "evaluating"]

Role = Literal["input", "mask", "position", "coefficient", "lead_time", "output"]
"""What a channel is to a network."""


class LastMap(Protocol):
    """A map whose weights and biases have a row for each output."""

    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor: ...

    @property
    def in_features(self) -> int: ...


@dataclass(frozen=True)
class OuterMaps:
    """Where a network meets its channels; everything between them knows hidden channels only.

    Args:
        first: the first map; its columns are channels.
        columns: which, in their order: all of one role, then all of the next.
        last: the last map; its rows are the outputs.
        conditioned: maps between them whose columns are the coefficients and, where it is seen, the lead time.
        spread: first weights of a column are drawn from −spread to spread; None: 1/√(columns), as in linear layers.
        shown: of one that is shown solved examples, the map whose columns are the outputs.
    """

    first: nn.Linear
    columns: tuple[Role, ...]
    last: LastMap
    conditioned: tuple[nn.Linear, ...] = ()
    spread: float | None = None
    shown: nn.Linear | None = None


@dataclass(frozen=True)
class Hidden:
    """How hidden channels lie between the stages of a network, and where they say most of a sample.

    Args:
        stages: which it has, one behind the other.
        axes: of what comes out of each, in their order; ``space`` stands for all axes of space, and of several
            frames along ``time`` the last one counts.
        stage: the place among `stages` where features are taken unless another one is asked for.
        before: whether they are those that go into a stage; else those that come out of it.
    """

    stages: tuple[nn.Module, ...]
    axes: tuple[Literal["batch", "time", "space", "channel"], ...]
    stage: int = -1
    before: bool = False


@runtime_checkable
class Stepped(Protocol):
    """What an operator promises that follows a rate of change, in steps, to its answer."""

    @property
    def num_steps(self) -> int:
        """Steps from the input to the answer."""

    def stepped(self, *, scheme: str | None = None, num_steps: int | None = None) -> Self:
        """Return an operator with the same weights, shared, that goes there by other steps.

        Args:
            scheme: of the steps; its own when left out.
            num_steps: how many; as many as its own when left out.

        Raises:
            ConfigError: if it cannot go by such steps.
        """


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Bring a network into eval mode, and each of its parts back into its own afterwards."""
    modes = [(module, module.training) for module in network.modules()]  # a part may be frozen by itself
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class OperatorConfig(Config):
    """Base of the architecture settings that live beside each network.

    Args:
        hold: what answers hold exactly, whatever the network says: every frame is the nearest one that does, and
            gradients go through that. Absent: nothing.

    Attributes:
        kind: the name of the operators it describes, in ``scifm.models.OPERATORS`` or as an entry point.
        sizes: the settings of each named size; none where an architecture has no dial of size.
        sized_by: the settings in which networks of one architecture may differ: what makes them larger, and how they
            compute; None: all.
    """

    kind: ClassVar[str] = ""
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sized_by: ClassVar[tuple[str, ...] | None] = None

    answers_frames: ClassVar[bool] = True
    """Whether such an operator answers whole frames wherever it is asked and trained, so that these can be held."""

    hold: Holds | None = None

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        if self.hold is not None and not self.answers_frames:
            raise ValueError(self._no_frames)
        return self

    @property
    def holds(self) -> Holds | None:
        """What answers hold."""
        return self.hold

    @property
    def _no_frames(self) -> str:
        return (
            f"an operator of kind '{self.kind}' answers at single points, and what is held is said of whole fields: "
            "take hold out, or another kind of operator"
        )

    def holding(self, hold: Holds | None) -> Self:
        """Return these settings with other things that answers hold; None: nothing.

        Raises:
            ConfigError: if such an operator can hold nothing.
        """
        if hold is not None and not self.answers_frames:
            raise ConfigError(f"{self._no_frames}.")
        return self.model_copy(update={"hold": hold})

    @classmethod
    def of_size(cls, size: str) -> Self:
        """Return the architecture of a named size.

        Raises:
            ConfigError: if there is none of that name.
        """
        if not cls.sizes:
            raise ConfigError(f"kind '{cls.kind}' comes in no sizes; got '{size}': say what it is in model.network")
        if size not in cls.sizes:
            raise ConfigError(f"Size {suggest(size, cls.sizes)}")
        return cls(**cls.sizes[size])

    def architecture(self) -> str:
        """Return what networks that differ in size alone share, and no others: these may be joined by a line."""
        if self.sized_by is None:
            return self.kind
        rest = {name: value for name, value in self.to_dict().items() if name not in self.sized_by}
        return f"{self.kind} {json.dumps(rest, sort_keys=True)}" if rest else self.kind

    def on(self, grid: Grid, *, history: int | None = None, lead_time: bool | None = None) -> Self:
        """Return these settings with what they left to the first data settled: ``position`` and these, if None.

        Args:
            grid: where the data live.
            history: input frames of their samples; None: they do not evolve.
            lead_time: whether the time from input to target differs between their samples.

        Raises:
            ConfigError: if such an operator cannot take that many frames.
        """
        if (history or 1) > 1 and "history" not in type(self).model_fields:
            raise ConfigError(
                f"An operator of kind '{self.kind}' takes 1 input frame; got a history of {history}. Give history = 1, "
                "or another kind of operator."
            )
        settled = {"position": None if all(grid.periodic) else True, "history": history, "lead_time": lead_time}
        update = {
            name: value for name, value in settled.items() if value is not None and getattr(self, name, 0) is None
        }
        return self.model_copy(update=update)

    def lasting(self, duration: float | None) -> Self:
        """Return these settings with how long a problem lasts [T], where they ask; None: it does not evolve."""
        return self

    def scalings(self, declared: tuple[Homogeneity, ...]) -> tuple[Homogeneity, ...]:
        """Return those of a system's exact scalings that its samples may be normalized by."""
        return declared

    def renamed(self, call: Callable[[str], str]) -> Self:
        """Return these settings with other names for fields and coefficients."""
        return self if self.hold is None else self.model_copy(update={"hold": self.hold.renamed(call)})

    def within(self, signature: Signature) -> Self:
        """Return these settings without names of fields and coefficients that are not among these."""
        return self if self.hold is None else self.model_copy(update={"hold": self.hold.within(signature)})

    def require_names(self, signature: Signature) -> None:
        """Check that names of fields and coefficients in these settings are those of the samples.

        Raises:
            ConfigError: if one is not.
        """
        if self.hold is not None:
            self.hold.require(signature)

    @property
    def wants_terms(self) -> bool:
        """Whether such an operator is told the terms of each sample's equation, see `knowing`."""
        return False

    @property
    def equations_known(self) -> Equations:
        """The terms of the systems that such an operator was told of, by their names."""
        return {}

    def knowing(self, equations: Equations, *, signature: Signature | None = None) -> Self:
        """Return these settings with the terms of further systems; as they are where none are wanted.

        Args:
            equations: the terms of each system, by its name.
            signature: of the operator, if it is another one: then systems with coefficients it lacks are forgotten.
        """
        return self

    def require_known(self) -> None:
        """Check that what these settings name is there, before anything is spent on them.

        Raises:
            ConfigError: if it is not.
        """
