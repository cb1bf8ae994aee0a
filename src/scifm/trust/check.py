"""`Check`: the interface of every question that is put to a trained operator, and what the equation itself answers."""

from __future__ import annotations

import abc
import copy
import math
import time
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.config import Config
from scifm.data.origins import Origin
from scifm.errors import SciFMError, SignatureError
from scifm.fields.batch import Batch
from scifm.findings.finding import Finding
from scifm.models.folder import ModelPlace
from scifm.models.operator import Operator
from scifm.systems.catalog import find_system
from scifm.trust.case import Case
from scifm.wording import plural

__all__ = ["Check", "solved"]


class Check(Config, abc.ABC):
    """One question with its settings, which are the fields of the subclass.

    A subclass says `name`, `question` and `advice` and implements `ask`. What every check promises is done here, once:
    the operator that is asked stays as it was, because a copy answers; samples are brought into its order of names, and
    no more than asked for are looked at; an operator whose answers are not finite is no good news, whatever is asked.

    Class variables:
        name: by which the command line and ``CHECKS`` know it; also the name of its finding.
        question: what is asked, one sentence.
        advice: what to do where the answer is not good, one sentence.
        leaves_out_gaps: whether it counts only the points that are there; of samples with missing points others are not
            asked, and say so.
        on_request: whether it is asked only where it is named, since it takes long or draws more than it judges.

    Args:
        num_samples: samples looked at, from the first on; None: all of them.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    advice: ClassVar[str] = ""
    leaves_out_gaps: ClassVar[bool] = False
    on_request: ClassVar[bool] = False

    num_samples: int | None = Field(None, ge=1)

    def __call__(
        self,
        operator: Operator,
        samples: Batch,
        *,
        generator: torch.Generator,
        origin: Origin | None = None,
        seconds: float | None = None,
        place: ModelPlace | None = None,
    ) -> Finding:
        """Put the question.

        Args:
            operator: stays as it was: weights, mode and gradients.
            samples: problems it can be asked, in physical units; most checks need their solutions too.
            generator: source of every random number, on the CPU; the same state gives the same finding.
            origin: where the samples come from, for checks that draw others like them; None: nobody says.
            seconds: how long it may take; None: as long as it does. One that would take longer says so.
            place: where the operator lies, for checks that compare it with what its training began with.

        Returns:
            The answer, its `name` that of this check; ``good`` is None where the question does not apply.

        Raises:
            SignatureError: if the samples do not fit the operator, are none, or lack solutions that are needed.
        """
        if not samples.num_samples:
            raise SignatureError(f"The check '{self.name}' needs at least one sample; got none.")
        samples = operator.align(samples)
        if samples.gaps and not self.leaves_out_gaps:
            return Finding(
                name=self.name,
                said="The question is not asked where points are missing: it counts every point.",
                evidence=f"Points of {', '.join(samples.gaps)} are missing in {samples.num_samples} samples looked at.",
            )
        twin = copy.deepcopy(operator).eval()
        until = math.inf if seconds is None else time.monotonic() + seconds
        case = Case(twin, samples, generator, origin, until, place).first(self.num_samples)
        broken = int((~case.answer.isfinite()).flatten(1).any(1).sum())
        if broken:
            return Finding(
                name=self.name,
                said="The operator does not answer with finite numbers.",
                evidence=f"In {broken} of {plural(case.samples.num_samples, 'sample')} an answer is NaN or infinite.",
                good=False,
                advice="Do not use it: look where the loss of its training broke, and at the sizes of its inputs.",
            )
        found = self.ask(case)
        advice = found.advice or (self.advice if found.light in ("amber", "red") else "")
        return found.model_copy(update={"name": self.name, "advice": advice})

    @abc.abstractmethod
    def ask(self, case: Case) -> Finding:
        """Put the question; see `__call__`."""


def solved(samples: Batch) -> Tensor | None:
    """Return solutions of steady samples in float64, ``(batch, 1, output, *space)``, by the solver of their system.

    None where they do not all say the same system, no package that is installed has it, or it does not solve them, as
    on a grid it is not defined on: nobody is asked to know the equation of foreign data.
    """
    names = set(samples.systems)
    if len(names) != 1 or samples.signature.evolves:
        return None
    try:
        answer = find_system(names.pop())().solve(samples.with_targets(None).to(dtype=torch.float64))
    except SciFMError:
        return None
    return answer.aligned(samples.signature).require_targets()
