"""`Signature`: what a data set, a system or an operator offers, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from scifm.config import Plain
from scifm.errors import SignatureError
from scifm.wording import plural

__all__ = ["Signature"]


@dataclass(frozen=True)
class Signature(Plain):
    """What a system or a data set offers, by name.

    Args:
        inputs: names of the input fields.
        coefficients: names of the scalar coefficients.
        outputs: names of the output fields; none where only inputs are known, which no operator answers.
        num_spatial_dims: 1, 2 or 3.
        evolves: True when targets lie later in time than inputs; a name may then stand in inputs and in outputs.
    """

    inputs: tuple[str, ...]
    coefficients: tuple[str, ...]
    outputs: tuple[str, ...]
    num_spatial_dims: int = 2
    evolves: bool = False

    def __post_init__(self) -> None:
        if self.num_spatial_dims not in (1, 2, 3):
            raise SignatureError(f"num_spatial_dims must be 1, 2 or 3; got {self.num_spatial_dims}.")
        if not self.inputs:
            raise SignatureError(f"A signature needs at least one input field; got {self}.")
        answers = [name for name in self.outputs if name not in self.state]
        names = [*self.inputs, *self.coefficients, *answers]
        if len(set(names)) != len(names) or len(set(self.outputs)) != len(self.outputs):
            raise SignatureError(
                f"The names of a signature must differ from each other; got {names}. Only the state of an evolving "
                "system is both input and output."
            )

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the fields that evolve from input to output; none for steady problems."""
        return tuple(name for name in self.outputs if self.evolves and name in self.inputs)

    @property
    def state_places(self) -> list[int]:
        """Where among the inputs each field of `state` stands."""
        return [self.inputs.index(name) for name in self.state]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all fields, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.outputs)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all fields, and of the coefficients behind them, each once."""
        return (*self.fields, *self.coefficients)

    @property
    def _told(self) -> str:
        kind = "evolving" if self.evolves else "steady"
        return f"{kind} problems of {', '.join(self.fields)} in {plural(self.num_spatial_dims, 'dimension')}"

    def union(self, other: Signature) -> Signature:
        """Return the signature that holds every name of both, ours first.

        Raises:
            SignatureError: if the two differ in dimension or in being steady, or a name is something else in each.
        """
        if (self.num_spatial_dims, self.evolves) != (other.num_spatial_dims, other.evolves):
            raise SignatureError(
                "Problems in one mixture have one number of dimensions and are all steady or all evolving: cannot join "
                f"{self._told} and {other._told}. Train on them apart."
            )
        for name in (name for name in self.fields if name in other.fields):
            roles = [(name in names.inputs, name in names.outputs) for names in (self, other)]
            if roles[0] != roles[1]:
                raise SignatureError(
                    f"Cannot join {self._told} and {other._told}: '{name}' is given in one and asked for in the other. "
                    "Rename it in one of them."
                )
        for name in self.names:
            if name in other.names and (name in self.fields) != (name in other.fields):
                raise SignatureError(
                    f"Cannot join {self._told} and {other._told}: '{name}' is a field in one and a coefficient in the "
                    "other. Rename it in one of them."
                )
        merged: dict[str, Any] = {
            part: tuple(dict.fromkeys((*getattr(self, part), *getattr(other, part))))
            for part in ("inputs", "coefficients", "outputs")
        }
        return replace(self, **merged)

    def common(self, other: Signature) -> Signature:
        """Return this signature with the names alone that the other holds too."""
        parts = ("inputs", "coefficients", "outputs")
        names: dict[str, Any] = {
            part: tuple(name for name in getattr(self, part) if name in getattr(other, part)) for part in parts
        }
        return replace(self, **names)

    def missing_from(self, other: Signature) -> tuple[str, ...]:
        """Return the names of `other` that this signature does not hold."""
        ours = {*self.inputs, *self.coefficients, *self.outputs}
        return tuple(n for n in (*other.inputs, *other.coefficients, *other.outputs) if n not in ours)
