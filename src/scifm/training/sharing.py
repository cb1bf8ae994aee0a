"""Loss and gradient of a step, and how several processes hold the operator: each a whole copy, or a share of it.

``ddp`` keeps a copy in every process and averages gradients. ``fsdp`` (PyTorch's second: `fully_shard`) keeps a share
of every weight, gradient and moment, and puts a layer together only while it is used. Either way the weights afterwards
are those that one process would have found, and what is saved is one portable file of whole tensors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scifm.data.stream import WHOLE, BatchSource, Part
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective
from scifm.objectives.squares import Squares
from scifm.training.processes import World
from scifm.training.weights import ParameterGroup, Precision, dtype_of, in_precision, whole

__all__ = ["SharedGradient", "Strategy"]

Strategy = Literal["ddp", "fsdp"]
_CPU = torch.device("cpu")


class _Loss(nn.Module):
    """The loss of an operator on a batch as a module, which is what DDP takes."""

    def __init__(self, operator: Operator, objective: Objective) -> None:
        super().__init__()
        self.operator, self.objective = operator, objective

    def forward(self, batch: Batch, step: int, generator: torch.Generator) -> Tensor:
        self.operator.redraw(generator)
        return self.objective(self.operator, batch, step=step, generator=generator)


def _shard(operator: Operator, world: World) -> None:
    from torch.distributed.fsdp import fully_shard

    odd = [name for name, parameter in operator.named_parameters() if parameter.is_complex()]
    if odd:
        raise ConfigError(
            f"training.strategy = 'fsdp' cannot share complex weights, such as '{odd[0]}'. Choose 'ddp', or a network "
            "with real weights."
        )
    mesh = world.mesh(next(operator.parameters()).device.type)
    for stage in operator.stages():
        fully_shard(stage, mesh=mesh)
    fully_shard(operator, mesh=mesh)  # itself, since it also answers without a loss


class SharedGradient:
    """Loss and gradient of a step, a function of its number alone, as all processes compute them together.

    Args:
        operator: already on its device and in its precision; the same in every process.
        objective: a mean over samples.
        strategy: how they share; of no account for one alone.
        recompute: compute the inside of stages again in the backward pass instead of keeping it.
        micro_batches: pieces in which each process takes its share.
        asks_again: whether a step is asked for several times, so that its samples are kept for it.
        seed: of what the objective draws.

    Raises:
        ConfigError: if the operator cannot do what is asked.
    """

    def __init__(
        self,
        operator: Operator,
        objective: Objective,
        source: BatchSource,
        world: World,
        *,
        strategy: Strategy = "ddp",
        recompute: bool = False,
        device: torch.device = _CPU,
        precision: Precision = "32-true",
        micro_batches: int = 1,
        asks_again: bool = False,
        seed: int = 0,
    ) -> None:
        self.source, self.world, self.seed, self.objective = source, world, seed, objective
        self.device, self.precision, self.dtype = device, precision, dtype_of(precision)
        self.asks_again = asks_again
        self._kept: tuple[tuple[int, Part], Batch] | None = None
        self._shares: tuple[list[float], float] | None = None  # weights of the pieces, and of those of all processes
        self.pieces = Part(world.rank, world.size).split(micro_batches)
        if self.pieces != [WHOLE] and not objective.adds_up:
            raise ConfigError(
                f"The objective '{objective.name}' needs all samples of a step together, and one process or "
                "micro-batch does not see those of the others: train in one process, with training.micro_batches = 1."
            )
        self.is_sharded = world.size > 1 and strategy == "fsdp"
        self.trained = copy.deepcopy(operator) if self.is_sharded else operator
        if recompute and not operator.can_recompute:
            raise ConfigError(
                f"training.recompute needs an operator that computes its stages again when asked; one of kind "
                f"'{operator.kind}' does not. Leave it out, or use a smaller batch or more micro_batches."
            )
        self.trained.recompute = recompute
        self.loss: nn.Module = _Loss(self.trained, objective)
        if self.is_sharded:
            _shard(self.trained, world)
        elif world.size > 1:
            idle = not operator.uses_all_weights
            self.loss = DistributedDataParallel(self.loss, find_unused_parameters=idle, gradient_as_bucket_view=True)

    def groups(self, given: Sequence[ParameterGroup], operator: Operator) -> list[ParameterGroup]:
        """Return the groups of `operator`'s weights as groups of those that train."""
        if not self.is_sharded:
            return list(given)
        names = {id(parameter): name for name, parameter in operator.named_parameters()}
        own = dict(self.trained.named_parameters())
        return [
            ParameterGroup(tuple(own[names[id(p)]] for p in g.parameters), g.learning_rate_factor, g.l2_sp)
            for g in given
        ]

    @contextmanager
    def _adding_up(self, is_last: bool) -> Iterator[None]:
        """Keep gradients to this process while more of them are to be added."""
        if self.is_sharded:
            sharded: Any = self.trained  # a class of its own that FSDP made of the operator's
            sharded.set_requires_gradient_sync(is_last)
        waits = not is_last and isinstance(self.loss, DistributedDataParallel)
        with cast(Any, self.loss).no_sync() if waits else nullcontext(), warnings.catch_warnings():
            if self.is_sharded:  # layers answer with views, and none writes into what it is given
                warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            yield

    @torch.no_grad()
    def give_back(self, operator: Operator) -> None:
        """Copy the trained weights into `operator`, where they were trained in shares."""
        self.trained.recompute = False
        if self.is_sharded:
            operator.load_state_dict({name: whole(value) for name, value in self.trained.state_dict().items()})

    def batch(self, step: int, part: Part) -> Batch:
        """Return a part of the batch of a step, on the device."""
        if self._kept is not None and self._kept[0] == (step, part):
            return self._kept[1]
        batch = self.source.batch(step) if part == WHOLE else self.source.batch(step, part)
        batch = batch.to(self.device, self.dtype)
        self._kept = ((step, part), batch) if self.asks_again else None
        return batch

    def require_samples(self, step: int) -> None:
        """Check that no piece of a step is empty; batches are of one size, and all processes are told alike.

        Raises:
            ConfigError: if one is.
        """
        pieces = self.pieces
        if pieces != [WHOLE] and self.world.any(not all(self.batch(step, part).num_samples for part in pieces)):
            raise ConfigError(
                f"A step is divided among {self.world.size} processes in {len(pieces)} pieces each, and "
                "has fewer samples than that. Raise training.batch_size (and have as many samples), or divide less."
            )

    def generator(self, step: int, part: Part) -> torch.Generator:
        """Return what the objective draws from there: a function of numbers, so nothing of it is ever saved."""
        return generator_for(self.seed, "objective", step, part.number, part.count, device=self.device)

    def compute(self, step: int) -> tuple[Tensor, Batch]:
        """Add the gradient to those beside the weights; return the losses of the pieces and the last piece.

        The losses, ``(piece,)``, are on the device, and nobody has waited for them yet; `total_loss` adds them up.
        """
        batches = [self.batch(step, part) for part in self.pieces]
        if len(batches) == 1 and self.world.size == 1:
            self._shares = None
            return self._backward(step, self.pieces[0], batches[0], None)[None], batches[0]
        weights = [float(b.num_samples if b.loss_weights is None else b.loss_weights.double().sum()) for b in batches]
        every, losses = self.world.total(sum(weights)), []
        for part, batch, weight in zip(self.pieces, batches, weights, strict=True):
            with self._adding_up(batch is batches[-1]):
                # times the number of processes, since they average
                losses.append(self._backward(step, part, batch, weight * self.world.size / every))
        self._shares = weights, every
        return torch.stack(losses), batches[-1]

    def total_loss(self, losses: Sequence[float]) -> float:
        """Return the loss of the step that was computed last, of all processes, from those of this one's pieces."""
        if self._shares is None:
            return losses[0]
        weights, every = self._shares
        return self.world.total(sum(loss * weight / every for loss, weight in zip(losses, weights, strict=True)))

    def squares(self, step: int) -> Squares:
        """Return what the loss of a step is the sum of squares of, of all its samples in this process.

        Raises:
            ConfigError: if several processes share it.
        """
        if self.pieces != [WHOLE]:
            raise ConfigError("What asks for all terms of a step at once trains in one process, without micro_batches.")
        with in_precision(self.precision, self.device):
            return self.objective.squares(
                self.trained, self.batch(step, WHOLE), step=step, generator=self.generator(step, WHOLE)
            )

    def _backward(self, step: int, part: Part, batch: Batch, share: float | None) -> Tensor:
        """Add `share` of the gradient of a piece, all of it where None; return its loss, which nobody waited for."""
        with in_precision(self.precision, self.device):
            loss: Tensor = self.loss(batch, step, self.generator(step, part))
        (loss if share is None else loss * share).backward()
        return loss.detach()
