"""Operators with solved examples beside them: what is asked of the examples, and which questions they are for.

A **demonstration** is a problem with its solution: of the system, the grid, the fields and the lead time that are asked
about. What is made of them is said elsewhere: `neighbours` corrects the answers of any operator by them, `in_context`
shows them to one that learned to use them.
"""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.window import are_within, told_times
from scifm.models.operator import Operator

__all__ = ["Demonstrated", "LearnsInContext"]


class LearnsInContext(abc.ABC):
    """What an operator promises that learns to use solved examples."""

    @abc.abstractmethod
    def tokens(self, demonstrations: Batch) -> Float[Tensor, "demonstration number"]:
        """Return what is read from each of some solved examples, in the operator's order of names, one step each."""

    @abc.abstractmethod
    def context(self, tokens: Tensor, shares: Float[Tensor, "question demonstration"]) -> Tensor:
        """Return what questions are told, ``(question, number)``.

        Args:
            tokens: of demonstrations.
            shares: how much of each one every question is told: a row sums to 1, or is zero where nothing is shown.
        """

    @abc.abstractmethod
    def told_by(self, context: Tensor | None) -> AbstractContextManager[None]:
        """Let it answer by what it is told; with None, or for a row that was shown nothing, by itself.

        Args:
            context: of `context`, a row for each sample that is asked about.
        """


class Demonstrated(Operator):
    """An operator that answers with the help of demonstrations; a subclass says in `_next_frame` how.

    It is asked as every operator is, and marches. It is no model of its own, and is not saved.

    Args:
        operator: the one that is helped; it is left as it is.
        demonstrations: problems with targets, one step each.

    Attributes:
        operator: the one that is helped.
        demonstrations: in the operator's order of names.

    Raises:
        SignatureError: if demonstrations have no targets, or several frames of them, or do not fit the operator. Asked
            about others later: if these are of another system, grid or lead time.
        DataError: if demonstrations hold NaN.
    """

    def __init__(self, operator: Operator, demonstrations: Batch) -> None:
        super().__init__(operator.signature, operator.config, normalization=operator.normalization)
        self.operator = operator
        self.domain, self.provenance = operator.domain, operator.provenance
        self.demonstrations = operator.align(_required(demonstrations))
        self._channels = _channels_of(self.demonstrations)

    def align(self, batch: Batch) -> Batch:
        aligned, shown = self.operator.align(batch), self.demonstrations
        if not shown.num_samples:
            return aligned
        systems = set(aligned.systems), set(shown.systems)
        if all(systems) and not systems[0] <= systems[1]:
            asked, given = (", ".join(sorted(names)) for names in systems)
            raise SignatureError(
                f"Demonstrations are of the system that is asked about, {asked}; these are of {given}."
            )
        if aligned.grid != shown.grid:
            raise SignatureError(
                f"Demonstrations lie on the grid that is asked about, {aligned.grid.told}; these lie on "
                f"{shown.grid.told}. Take some that do, or bring both onto one grid first."
            )
        if _channels_of(aligned) != self._channels:
            raise SignatureError(
                "Demonstrations have the fields of the samples that are asked about; these have others: "
                f"{', '.join(self.signature.outputs[i] for i in self._channels)}."
            )
        times = aligned.lead_times, shown.lead_times
        if times[0] is not None and times[1] is not None and not are_within(times[0], times[1]):
            raise SignatureError(
                f"Demonstrations reach as far ahead as is asked, {told_times(times[0])}; these reach "
                f"{told_times(times[1])}. Take frames that are as far apart."
            )
        return aligned

    def outside(self, batch: Batch) -> list[str]:
        return self.operator.outside(self.align(batch))

    def save_pretrained(self, path: Any, **about: Any) -> NoReturn:
        """Refuse: what is saved is the operator alone."""
        raise ConfigError(
            f"A {type(self).__name__.lower()} operator is an operator and its demonstrations, and no model of its own: "
            "save its operator (.operator), and give it demonstrations again where it is loaded."
        )


def _required(demonstrations: Batch) -> Batch:
    """Return demonstrations that can teach, or say why they cannot."""
    if not demonstrations.num_samples:
        return demonstrations
    if demonstrations.targets is None:
        raise SignatureError("Demonstrations are solved examples; these have no targets. Give a batch with solutions.")
    if demonstrations.num_frames > 1:
        raise SignatureError(
            f"A demonstration is one step; these have {demonstrations.num_frames} target frames. Cut them into windows "
            "of one step first: scifm.data.windows_of(batch, Window(history))."
        )
    for role in ("inputs", "targets"):
        fields, valid = getattr(demonstrations, role), getattr(demonstrations, f"valid_{role}")
        bad = ~(fields if valid is None else torch.where(valid, fields, 0.0)).isfinite().flatten(1).all(1)
        if bad.any():
            places = ", ".join(map(str, bad.nonzero().flatten()[:8].tolist()))
            raise DataError(f"Demonstrations hold NaN or infinite {role} (sample {places}): leave these out.")
    return demonstrations


def _channels_of(batch: Batch) -> list[int]:
    """Return which outputs samples have, all the same."""
    there = batch.has(batch.signature.outputs)
    if there is None or not len(there):
        return list(range(len(batch.signature.outputs)))
    if (there != there[:1]).any():
        raise SignatureError(
            "Demonstrations, and the samples they are for, are of one system; these are of a mixture of systems with "
            "other fields. Take those of each system by themselves."
        )
    return [int(place) for place in there[0].nonzero().flatten()]
