"""How several processes hold one operator: each a whole copy, or each a share of every weight.

``ddp`` keeps a copy in every process and averages gradients. ``fsdp`` (PyTorch's second: `fully_shard`) keeps a share
of every weight, gradient and moment, and puts a layer together only while it is used. Either way the weights afterwards
are those that one process would have found, and what is saved is one portable file of whole tensors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scifm.data.stream import BatchSource, Epochs
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective
from scifm.training.parameter_groups import ParameterGroup
from scifm.training.processes import World

__all__ = ["Parcel", "SharedLoss", "Strategy", "Task", "placed_like", "prepared", "whole"]

Strategy = Literal["ddp", "fsdp"]


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whose shares lie in several processes in one piece; all of them must ask."""
    join = getattr(tensor, "full_tensor", None)  # a DTensor's, whose package costs half a second to import
    return tensor if join is None else join()


def placed_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, which every process has, laid out and placed as `like` is."""
    tensor = tensor.to(like.device)
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or not tensor.dim():
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Task:
    """What a loss is asked for.

    Args:
        batch: the samples.
        step: of the optimizer, from 0.
        generator: what the objective may draw from.
    """

    batch: Batch
    step: int
    generator: torch.Generator


class Parcel:
    """Carries what is no tensor through wrappers that would otherwise take it apart to cast or to count."""

    def __init__(self, content: Task | Tensor) -> None:
        self.content = content


class _Loss(nn.Module):
    """The loss of an operator on a batch: what wrappers see is a module from a parcel to a scalar."""

    def __init__(self, operator: Operator, objective: Objective) -> None:
        super().__init__()
        self.operator, self.objective = operator, objective

    def forward(self, parcel: Parcel) -> Tensor:
        task = parcel.content
        assert isinstance(task, Task)
        return self.objective(self.operator, task.batch, step=task.step, generator=task.generator)


def prepared(objective: Objective, source: BatchSource, operator: Operator) -> Objective:
    """Return the objective for samples of a source, after the look at them that it asks for.

    Raises:
        StoreError, DataError: if the samples cannot be read.
    """
    if not objective.num_looked_at or not isinstance(source, Epochs):
        return objective  # what is sampled without end is not looked at
    samples = source.samples
    looked_at = samples if isinstance(samples, Batch) else samples.some(objective.num_looked_at)
    return objective.on(operator.align(looked_at))


def _shard(operator: Operator, world: World) -> None:
    from torch.distributed.fsdp import fully_shard

    _require_real(operator)
    mesh = world.mesh(next(operator.parameters()).device.type)
    for stage in operator.stages():
        fully_shard(stage, mesh=mesh)
    fully_shard(operator, mesh=mesh)  # itself, since it also answers without a loss


def _require_real(operator: Operator) -> None:
    odd = [name for name, parameter in operator.named_parameters() if parameter.is_complex()]
    if odd:
        raise ConfigError(
            f"training.strategy = 'fsdp' cannot share complex weights, such as '{odd[0]}'. Choose 'ddp', or a network "
            "with real weights."
        )


class SharedLoss(nn.Module):
    """The loss as all processes compute it together; its gradient is that of the whole batch.

    Args:
        operator: already on its device and in its precision; the same in every process.
        objective: a mean over samples.
        world: the processes.
        strategy: how they share; of no account for one alone.
        recompute: compute the inside of stages again in the backward pass instead of keeping it.

    Raises:
        ConfigError: if the operator cannot do what is asked.
    """

    def __init__(
        self, operator: Operator, objective: Objective, world: World, strategy: Strategy, *, recompute: bool
    ) -> None:
        super().__init__()
        self.world = world
        self.is_sharded = world.size > 1 and strategy == "fsdp"
        self.trained = copy.deepcopy(operator) if self.is_sharded else operator
        if recompute and not operator.can_recompute:
            raise ConfigError(
                f"training.recompute needs an operator that computes its stages again when asked; one of kind "
                f"'{operator.kind}' does not. Leave it out, or use a smaller batch or more micro_batches."
            )
        self.trained.recompute = recompute
        loss: nn.Module = _Loss(self.trained, objective)
        if self.is_sharded:
            _shard(self.trained, world)
        elif world.size > 1:
            idle = not operator.uses_all_weights
            loss = DistributedDataParallel(loss, find_unused_parameters=idle, gradient_as_bucket_view=True)
        self.loss = loss

    def forward(self, parcel: Parcel) -> Parcel:
        """Return the loss of this process's samples."""
        if not self.is_sharded:
            return Parcel(self.loss(parcel))
        with warnings.catch_warnings():
            # layers answer with views, and none writes into what it is given
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            return Parcel(self.loss(parcel))

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
    def adding_up(self, is_last: bool) -> Iterator[None]:
        """Keep gradients to this process while more of them are to be added."""
        if isinstance(self.loss, DistributedDataParallel):
            with nullcontext() if is_last else self.loss.no_sync():
                yield
            return
        if self.is_sharded:
            sharded: Any = self.trained  # a class of its own that FSDP made of the operator's
            sharded.set_requires_gradient_sync(is_last)
        yield

    @torch.no_grad()
    def give_back(self, operator: Operator) -> None:
        """Copy the trained weights into `operator`, where they were trained in shares."""
        self.trained.recompute = False
        if self.is_sharded:
            operator.load_state_dict({name: whole(value) for name, value in self.trained.state_dict().items()})
