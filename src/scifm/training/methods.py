"""Which weights fine-tuning trains: all of them, some of them, or an adapter beside them.

`prepare` turns an operator and a `FinetuneMethod` into parameter groups and freezes every other weight; frozen weights
get no gradient and no optimizer state. `finish` turns it back into a plain operator.

An adapter is a small trainable change of a frozen spectral weight, a parametrization (`torch.nn.utils.parametrize`) of
what a layer calls ``spectral_weight``, ``(2, *modes, in, out)``. The layer keeps its weight and reads
``adapter(weight)`` instead. All adapters here

* are the identity when new, bit for bit: the adapted operator answers as the one it was made from;
* hold deviations, so that zero means "as pre-trained": weight decay and an `l2_sp` penalty then pull towards the
  pre-trained operator and not away from it;
* add channels' worth of weights and not modes' worth, which is what makes them small.

The whole adapted weight is made anew in every step, so an adapter saves gradients and optimizer state, not time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scifm.config import Config
from scifm.errors import ConfigError, suggest
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.training.weights import ParameterGroup

__all__ = ["METHODS", "AffineAdapter", "FinetuneMethod", "LowRankAdapter", "attach_adapters", "finish", "prepare"]

_ADAPTED = "spectral_weight"

METHODS: dict[str, tuple[str, ...]] = {
    "all": ("lift", "spectral", "pointwise", "projection"),
    "split": ("spectral", "pointwise"),
    "frozen_spectral": ("lift", "pointwise", "projection"),
    "projection": ("projection",),
    "affine": ("lift", "pointwise", "projection"),
    "low_rank": ("lift", "pointwise", "projection"),
}
"""The parts of an operator that a method trains at the learning rate of the loop; `prepare` does the rest."""

# settings of one method alone: whose, and what it is when left out
_OWN: dict[str, tuple[str, float]] = {"rank": ("low_rank", 4), "ends_factor": ("split", 10.0)}


class FinetuneMethod(Config):
    """What fine-tuning trains. In Python and TOML the name alone will do: ``method = "affine"``.

    Args:
        method: a key of `METHODS`. For an operator of any kind: ``all`` weights. For one that tells its parts
            (`Operator.groups`) also ``split``, all, with lift and projection at a multiple of the learning rate;
            ``frozen_spectral``, all but the spectral weights; ``projection``, the projection only; ``affine`` or
            ``low_rank``, what ``frozen_spectral`` trains and an adapter of the spectral weights.
        rank: of ``low_rank``, from 1 to the width; 4 when left out.
        ends_factor: of ``split``, the multiple; 10 when left out.
        l2_sp: weight λ of the penalty λ‖w − w₀‖² on the distance of trained weights from the pre-trained ones (for
            an adapter: from doing nothing); a decoupled step, see `Anchors`. 0: none.
    """

    method: str = "all"
    rank: int | None = Field(None, ge=1)
    ends_factor: float | None = Field(None, gt=0, allow_inf_nan=False)
    l2_sp: float = Field(0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"method": value}
        if not isinstance(value, dict):
            return value
        method = str(value.get("method", "all"))
        for name, (owner, default) in _OWN.items():
            given = value.get(name) is not None
            if given and method != owner and method in METHODS:
                raise ValueError(f"{name} belongs to method '{owner}', not to '{method}'; leave it out")
            if not given and method == owner:
                value = {**value, name: default}
        return value

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(suggest(value, METHODS))
        return value


class AffineAdapter(nn.Module):
    """``R ↦ γ R + β``: each pair of channels is scaled and shifted, alike in all modes.

    γ is real, ``(in, out)``, kept as ``gain = γ − 1``; β is complex, ``(2, in, out)`` with its real and imaginary parts
    stacked, kept as ``shift``. Both are zero at first. 3·in·out weights a layer. A β that is alike in all modes is a
    pointwise map of the fields' low modes.

    NLT of arXiv:2512.17969, there for convolution kernels and here for spectral weights.

    Args:
        weight: the spectral weight to adapt, ``(2, *modes, in, out)``; gives sizes, device and precision.
    """

    def __init__(self, weight: Float[Tensor, "2 *modes c_in c_out"]) -> None:
        super().__init__()
        channels_in, channels_out = weight.shape[-2:]
        self.gain = nn.Parameter(weight.new_zeros(channels_in, channels_out))
        self.shift = nn.Parameter(weight.new_zeros(2, channels_in, channels_out))

    def forward(self, weight: Float[Tensor, "2 *modes c_in c_out"]) -> Float[Tensor, "2 *modes c_in c_out"]:
        """Return the adapted weight."""
        return weight * (1 + self.gain) + self.shift.view(2, *(1,) * (weight.dim() - 3), *self.shift.shape[1:])


class LowRankAdapter(nn.Module):
    """``R_k ↦ R_k + A diag(d_k) B``: a change of low rank, with factors shared by all modes.

    A is real, ``(in, rank)``, B is real, ``(rank, out)``, and each mode k has its own complex diagonal d_k, kept as
    ``(2, modes, rank)``. B is zero at first, so the change is; A is normal with variance 1/rank and d is one. The first
    step of Adam then moves a spectral weight by about as much as it would without an adapter, and the same learning
    rates serve. ``rank·(in + out + 2·modes)`` weights a layer.

    LoRA (Hu et al., arXiv:2106.09685), with the diagonal so that modes need not change alike.

    Args:
        weight: the spectral weight to adapt, ``(2, *modes, in, out)``; gives sizes, device and precision.
        rank: of the change, from 1 to the smaller number of channels.
        generator: of A's first numbers, on the CPU.

    Raises:
        ConfigError: if the rank does not fit the channels.
    """

    def __init__(self, weight: Float[Tensor, "2 *modes c_in c_out"], rank: int, *, generator: torch.Generator) -> None:
        super().__init__()
        channels_in, channels_out = weight.shape[-2:]
        most = min(channels_in, channels_out)
        if not 1 <= rank <= most:
            raise ConfigError(
                f"The rank of an adapter is from 1 to the channels of the layer, {most} here; got {rank}. Give a "
                "rank within, or fine-tune with another method."
            )
        drawn = torch.randn(channels_in, rank, generator=generator, dtype=torch.float64) / math.sqrt(rank)
        diagonal = weight.new_zeros(*weight.shape[:-2], rank)
        diagonal[0] = 1
        self.first = nn.Parameter(drawn.to(weight))
        self.diagonal = nn.Parameter(diagonal)
        self.last = nn.Parameter(weight.new_zeros(rank, channels_out))

    def forward(self, weight: Float[Tensor, "2 *modes c_in c_out"]) -> Float[Tensor, "2 *modes c_in c_out"]:
        """Return the adapted weight."""
        return weight + (self.first * self.diagonal.unsqueeze(-2)) @ self.last


def attach_adapters(operator: nn.Module, make: Callable[[Tensor], nn.Module]) -> None:
    """Put an adapter before every spectral weight of an operator and freeze these weights.

    Args:
        operator: changed in place.
        make: returns the adapter of a weight ``(2, *modes, in, out)``.

    Raises:
        ConfigError: if the operator has no such weight.
    """
    layers = [module for module in operator.modules() if isinstance(getattr(module, _ADAPTED, None), nn.Parameter)]
    if not layers:
        raise ConfigError(f"Adapters change spectral weights; a {type(operator).__name__} has none.")
    adapters = [make(layer.get_parameter(_ADAPTED)) for layer in layers]  # all or none are attached
    for layer, adapter in zip(layers, adapters, strict=True):
        layer.get_parameter(_ADAPTED).requires_grad_(False)
        parametrize.register_parametrization(layer, _ADAPTED, adapter)


def _group(operator: Operator, parts: tuple[str, ...], factor: float, l2_sp: float) -> ParameterGroup:
    """Return the weights of those of some parts that an operator has, in the order it names them."""
    groups = operator.groups()
    chosen = {id(parameter) for part in parts for parameter in groups.get(part, ())}
    if not chosen:
        raise ConfigError(
            f"The method trains {' and '.join(parts)}, and of its parts an operator of kind '{operator.kind}' tells "
            f"{', '.join(groups)} only. Use method 'all'."
        )
    return ParameterGroup(tuple(p for p in operator.parameters() if id(p) in chosen), factor, l2_sp)


def prepare(operator: Operator, method: FinetuneMethod, *, seed: int) -> list[ParameterGroup]:
    """Make `operator` ready to train by `method`: adapters attached, all other weights frozen.

    Args:
        operator: changed in place; answers as before, bit for bit.
        method: what trains.
        seed: of an adapter's first numbers.

    Returns:
        What trains, for `train`.

    Raises:
        ConfigError: if the method does not fit the operator.
    """
    name, rank = method.method, method.rank
    if name == "all":
        return [ParameterGroup(tuple(operator.requires_grad_(True).parameters()), l2_sp=method.l2_sp)]
    if not operator.groups():
        raise ConfigError(
            f"Method '{name}' trains some parts of an operator, and one of kind '{operator.kind}' does not tell its "
            "parts. Use method 'all'."
        )
    if name == "frozen_spectral" and not operator.groups().get("spectral"):
        raise ConfigError(
            f"Method 'frozen_spectral' leaves spectral weights as they are, and an operator of kind '{operator.kind}' "
            "has none: all of it would train. Use method 'all'."
        )
    if name == "affine":
        attach_adapters(operator, AffineAdapter)
    elif name == "low_rank" and rank is not None:
        generator = generator_for(seed, "adapters")
        attach_adapters(operator, lambda weight: LowRankAdapter(weight, rank, generator=generator))
    groups = [_group(operator, METHODS[name], 1.0, method.l2_sp)]
    if method.ends_factor is not None:
        groups.append(_group(operator, ("lift", "projection"), method.ends_factor, method.l2_sp))
    trained = {id(parameter) for group in groups for parameter in group.parameters}
    for parameter in operator.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return groups


def finish(operator: nn.Module) -> None:
    """Undo `prepare` after training: adapters merged into plain weights, nothing frozen; answers stay as they are."""
    for module in list(operator.modules()):
        if parametrize.is_parametrized(module, _ADAPTED):
            parametrize.remove_parametrizations(module, _ADAPTED, leave_parametrized=True)
    operator.requires_grad_(True)
