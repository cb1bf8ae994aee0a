"""Which weights fine-tuning trains: all of them, some of them, or an adapter beside them.

`prepare` turns an operator and a `FinetuneMethod` into parameter groups and freezes every other weight; frozen weights
get no gradient and no optimizer state. `finish` turns it back into a plain operator.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator
from torch import nn

from scifm.config import Config
from scifm.errors import ConfigError, suggest
from scifm.fields.seeds import generator_for
from scifm.models.adapters import AffineAdapter, LowRankAdapter, attach_adapters, merge_adapters
from scifm.models.operator import Operator
from scifm.training.weights import ParameterGroup

__all__ = ["METHODS", "FinetuneMethod", "finish", "prepare"]

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


def _group(operator: Operator, parts: tuple[str, ...], factor: float, l2_sp: float) -> ParameterGroup:
    """Return the weights of some parts, in the order the operator names them."""
    groups = operator.groups()
    chosen = {id(parameter) for part in parts for parameter in groups[part]}
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
    merge_adapters(operator)
    operator.requires_grad_(True)
