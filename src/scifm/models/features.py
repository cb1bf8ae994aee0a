"""`features_of`: what a network makes of a sample inside, as a row of numbers.

Features are the means over space of each hidden channel, then their root mean squares, in the last frame, at a stage
that every kind of operator says itself (`Operator.hidden`): behind the last Fourier layer of an FNO, where a U-Net is
deepest, behind the last block of a transformer. Means over a periodic box do not know where in it something lies.

They are of the network's own numbers, behind its normalization. Hidden channels live on the network's grid: a latent
one, patches, the periodic extension of a box with walls; points that are missing in the fields have places there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.normalization import Normalization
from scifm.models.architecture import Hidden, evaluating
from scifm.wording import plural

if TYPE_CHECKING:
    from scifm.models.operator import Operator

__all__ = ["chosen_stage", "feature_names", "features_of", "has_features", "looking_inside", "with_coefficients_hidden"]


@torch.no_grad()
def features_of(
    operator: Operator, batch: Batch, *, stage: int | None = None, blind: bool = False, batch_size: int = 64
) -> Float[Tensor, "sample feature"]:
    """Return the features of any number of samples, wherever they lie; the operator stays as it was.

    The work is done on the device and in the precision of the weights, in eval mode; features come back in those of the
    samples. Targets play no part.

    Args:
        operator: of any kind that says how its channels lie.
        batch: samples it can be asked, in any order of names.
        stage: which of the stages, from 0, or from −1 at the end; that of the kind when left out.
        blind: ask as if nobody knew the coefficients, see `with_coefficients_hidden`.
        batch_size: samples at a time.

    Returns:
        ``(sample, 2 · channels)``: means, then root mean squares; dimensionless. `feature_names` has their names.

    Raises:
        ConfigError: if the operator does not say where its hidden channels are, or has no such stage.
        SignatureError: if the samples do not fit the operator, are none, or a stage answers in another form than the
            operator says.
    """
    chosen = chosen_stage(operator, stage)
    batch = operator.align(batch)
    if not batch.num_samples:
        raise SignatureError("Features are of at least one sample; got none.")
    first = None if batch.lead_time is None else batch.lead_time[:, :1]
    batch = replace(batch, targets=None, valid_targets=None, lead_time=first)
    batch = with_coefficients_hidden(batch, operator.normalization) if blind else batch
    parts = []
    with evaluating(operator), looking_inside(operator, chosen) as features_now:
        for part in batch.batches(batch_size):
            operator(part.to(*operator.home))
            parts.append(features_now(part).to(part.inputs))
    return torch.cat(parts)


@contextmanager
def looking_inside(operator: Operator, stage: int | None = None) -> Iterator[Callable[[Batch], Tensor]]:
    """Give a function that returns the features of the samples that were answered last, of their first step.

    It is asked after every answer, with the samples; what follows then is another answer.

    Args:
        stage: as for `features_of`.
    """
    hidden, chosen = _hidden_of(operator), chosen_stage(operator, stage)
    module, seen = hidden.stages[chosen], list[Tensor]()

    def look(_: nn.Module, taken: tuple[Any, ...], answered: Any = None) -> None:
        if not seen:  # at once: a kernel may use its memory again
            seen.append(_summed_up(operator, taken[0] if hidden.before else answered, hidden))

    def features_now(samples: Batch) -> Tensor:
        if not seen:
            raise ConfigError(
                f"The network of this operator of kind '{operator.kind}' does not use its part "
                f"{type(module).__name__} that was asked for: choose another stage, {_choices(hidden)}."
            )
        features = seen.pop()
        if len(features) != samples.num_samples:
            raise SignatureError(
                f"Hidden channels of this operator of kind '{operator.kind}' were to lie as "
                f"({', '.join(hidden.axes)}), with {plural(samples.num_samples, 'sample')}; at this stage there are "
                f"{len(features)}. Choose another stage, {_choices(hidden)}."
            )
        return features

    listen = module.register_forward_pre_hook if hidden.before else module.register_forward_hook
    handle = listen(look)
    try:
        yield features_now
    finally:
        handle.remove()


def chosen_stage(operator: Operator, stage: int | None) -> int:
    """Return the place of a stage, counted from 0: of the one that is asked for, else of that of the kind.

    Raises:
        ConfigError: if there is no such stage, or the operator does not say where its hidden channels are.
    """
    hidden = _hidden_of(operator)
    place, count = hidden.stage if stage is None else stage, len(hidden.stages)
    if not -count <= place < count:
        raise ConfigError(
            f"There is no stage {place}: this operator of kind '{operator.kind}' has {plural(count, 'stage')}, "
            f"{_choices(hidden)}."
        )
    return place % count


def feature_names(num_features: int) -> tuple[str, ...]:
    """Return the names of the features of one sample: ``mean_0``, …, ``rms_0``, and so on."""
    return tuple(f"{name}_{channel}" for name in ("mean", "rms") for channel in range(num_features // 2))


def with_coefficients_hidden(batch: Batch, normalization: Normalization) -> Batch:
    """Return the samples as if nobody knew their coefficients.

    Each is said to be absent, so that a network is given zero, its mean over the training samples; and all are given
    one typical value, that what is measured in units of them tells nothing either.

    Args:
        batch: in the order of names of an operator.
        normalization: of that operator.
    """
    names = batch.signature
    if not names.coefficients:
        return batch
    nothing = batch.coefficients.new_zeros(1, len(names.coefficients))
    mean, above = normalization.coefficients_of(nothing), normalization.coefficients_of(nothing + 1)
    typical = torch.hypot(mean, above - mean)  # nowhere zero: some are divided by
    size = (batch.num_samples, len(names.names))
    there = torch.ones(size, dtype=torch.bool, device=batch.inputs.device) if batch.present is None else batch.present
    known = there.new_tensor([name not in names.coefficients for name in names.names])
    return replace(batch, coefficients=typical.expand_as(batch.coefficients), present=there & known)


def has_features(operator: Operator) -> bool:
    """Return whether an operator says where its hidden channels are, and has some."""
    hidden = operator.hidden()
    return hidden is not None and bool(hidden.stages)


def _hidden_of(operator: Operator) -> Hidden:
    hidden = operator.hidden()
    if hidden is None or not hidden.stages:
        told = "does not say how its hidden channels lie" if hidden is None else "has no parts to look between"
        raise ConfigError(
            f"This operator of kind '{operator.kind}' {told}, so it has no features to give. A kind of your own says "
            "it by the method hidden(); of a network that was wrapped, give one with parts inside."
        )
    return hidden


def _choices(hidden: Hidden) -> str:
    last = len(hidden.stages) - 1
    return f"0 to {last}, or −1 for the last" if last else "0, its only one"


def _summed_up(operator: Operator, channels: Any, hidden: Hidden) -> Tensor:
    """Return the mean and the root mean square over space of every channel, ``(batch, 2 · channel)``."""
    dims = operator.signature.num_spatial_dims
    axes = [axis for name in hidden.axes for axis in [name] * (dims if name == "space" else 1)]
    if not (isinstance(channels, Tensor) and channels.dim() == len(axes)):
        got = tuple(channels.shape) if isinstance(channels, Tensor) else f"a {type(channels).__name__}"
        raise SignatureError(
            f"Hidden channels of this operator of kind '{operator.kind}' were to lie as ({', '.join(axes)}); at this "
            f"stage there is {got}. Choose another stage, {_choices(hidden)}."
        )
    if "time" in axes:
        channels = channels.select(axes.index("time"), -1)
        axes.remove("time")
    precision = torch.promote_types(channels.dtype, torch.float32)  # sums of half precision lose too much
    ordered = channels.movedim([axes.index("batch"), axes.index("channel")], [0, 1]).flatten(2).to(precision)
    sizes = torch.linalg.vector_norm(ordered, dim=2) / ordered.shape[2] ** 0.5
    return torch.cat([ordered.mean(2), sizes], dim=1)
