"""`Objective`: what a training run makes small, an object with settings.

It sees the operator and not only its answer, so that it may ask as often as it likes, hide parts of what it is given,
or look at the equation. Its settings are fields of the class, so that a recipe can hold them::

    objective = "relative_l2"
    objective = { name = "relative_l2", vanishes = 1e-4 }
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import ClassVar, Self

import torch
from torch import Tensor

from scifm.config import Config
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding
from scifm.models.operator import Operator
from scifm.objectives.squares import Squares

__all__ = ["Objective"]


class Objective(Config, abc.ABC):
    """A differentiable scalar of an operator on a batch; the mean over samples, weighed by the batch's weights.

    Being a mean, it adds up over parts of a batch: micro-batches and processes that train together rely on it.

    Attributes:
        name: in ``scifm.objectives.OBJECTIVES``, or that of its entry point.
        leaves_out_gaps: whether it counts targets only where `Batch.valid_targets` says that they count. One that does
            not is refused for samples with missing points.
        needs_solutions: whether it compares answers with solutions. One that does not never reads a target, and whoever
            trains by it solves nothing for it.
        reconstructs: whether it learns the input fields themselves: pre-training then gives it samples whose targets
            are these, as `scifm.fields.hiding` names them, and no solutions.
        sums_squares: whether it says, by `squares`, what it is the sum of squares of: some optimizers ask for it.
    """

    name: ClassVar[str]
    leaves_out_gaps: ClassVar[bool] = False
    needs_solutions: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = False
    sums_squares: ClassVar[bool] = False

    @property
    def num_looked_at(self) -> int:
        """How many training samples it wants to see beforehand, see `on`; 0: none."""
        return 0

    @property
    def teaches_unsolved(self) -> bool:
        """Whether it learns something of a sample without a target that counts."""
        return not self.needs_solutions

    def stand_ins(self, samples: Batch) -> Batch:
        """Return samples with numbers of the size of solutions in their place, to fit a normalization on.

        Of one that needs no solutions, and then has to say them: it knows what is asked.

        Raises:
            ConfigError: if it knows none.
        """
        raise ConfigError(
            f"The objective '{self.name}' does not say how large solutions are, and there are none to see: it has to "
            "write stand_ins."
        )

    @property
    def hiding(self) -> Hiding:
        """Of one that reconstructs, what is hidden of samples that score; nothing where it does not say."""
        return Hiding()

    @abc.abstractmethod
    def __call__(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss.

        Args:
            operator: asked in any way.
            batch: samples, as they were drawn or read.
            step: of the optimizer, from 0.
            generator: to draw from, on the device of the batch: another one for every step and part of a batch, the
                same one when the step is taken again.
        """

    def squares(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Squares:
        """Return what the loss is the sum of squares of; arguments are those of a call.

        Raises:
            ConfigError: if it is none.
        """
        raise ConfigError(f"The objective '{self.name}' does not say what it is the sum of squares of.")

    def stage(self, operator: Operator, step: int) -> int:
        """Return in which stage of a training a step lies; losses of one mean nothing in another."""
        return 0

    def draw(self, step: int) -> int:
        """Return which draw of what it is asked on a step has: an optimizer that compares its steps forgets at another.

        What comes from the samples does not count: such an optimizer sees all of them at every step.
        """
        return 0

    @property
    def adds_up(self) -> bool:
        """Whether parts of a batch add up to it; training in several is refused where not."""
        return True

    def require_operator(self, cls: type[Operator]) -> None:
        """Check that it can be asked of operators of a class, before anything is spent on it.

        Raises:
            ConfigError: if it cannot.
        """

    def counted_gaps(self, signature: Signature, gaps: tuple[str, ...]) -> tuple[str, ...]:
        """Return, where it does not leave gaps out, of which fields it counts every point: with gaps it is refused.

        Args:
            signature: of the samples.
            gaps: names of all such fields.
        """
        return gaps

    def require_systems(self, names: Iterable[str], grid: Grid) -> None:
        """Check that it can be asked of samples of these systems on a grid, before anything is spent on it.

        Raises:
            ConfigError: if it cannot.
        """

    def floor(self, samples: Batch) -> dict[str, float]:
        """Return what it is at the truth, by system, where that is not zero by definition: what no training goes below.

        Args:
            samples: with solutions.
        """
        return {}

    def on(self, samples: Batch) -> Self:
        """Return this objective for training on samples like these, in the operator's order of names."""
        return self

    def require_grid(self, grid: Grid) -> None:
        """Check that it can be asked of samples on a grid, before anything is spent on it.

        Raises:
            ConfigError: if it cannot.
        """
