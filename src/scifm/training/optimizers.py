"""Optimizers by name, with settings of their own.

A recipe writes them so::

    optimizer = "nadam"
    optimizer = { name = "lbfgs", iterations = 10 }
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field, PlainSerializer
from torch import Tensor

from scifm.config import Config, named_settings, told_by_name
from scifm.data.staged import sees_all
from scifm.data.stream import BatchSource
from scifm.errors import ConfigError, suggest
from scifm.objectives.squares import Squares
from scifm.training.weights import ParameterGroup

__all__ = [
    "LBFGS", "OPTIMIZERS", "AdamW", "LevenbergMarquardt", "LevenbergMarquardtSteps", "NAdam", "NamedOptimizer",
    "OptimizerConfig", "flattened_state", "require_whole_set", "restored_state",
]  # fmt: skip

Groups = Sequence[ParameterGroup]
_LEAST_DAMPING, _MOST_DAMPING = 1e-14, 1e14


class OptimizerConfig(Config, abc.ABC):
    """How weights are moved; the learning rate, its schedule and the decay of weights are settings of the training.

    Attributes:
        name: in `OPTIMIZERS`.
        takes_closure: whether a step asks for loss and gradient several times, of one and the same batch.
        takes_squares: whether a step asks for what the loss is the sum of squares of, see `Objective.squares`.
        compares: whether it compares its steps, which then must see the same samples and belong to one stage.
        refuses: settings of a training it has no use for, and why.
    """

    name: ClassVar[str]
    takes_closure: ClassVar[bool] = False
    takes_squares: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    refuses: ClassVar[Mapping[str, str]] = {}

    @property
    def num_moments(self) -> int:
        """Numbers kept for every weight."""
        return 2

    @abc.abstractmethod
    def build(self, groups: Groups, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimizer of these weights and no others; every group of it has ``learning_rate_factor``.

        Raises:
            ConfigError: if it cannot move them.
        """


def _entries(groups: Groups) -> list[dict[str, Any]]:
    return [{"params": list(group.parameters), "learning_rate_factor": group.learning_rate_factor} for group in groups]


class AdamW(OptimizerConfig):
    """Adam with decoupled decay of weights (Loshchilov & Hutter, arXiv:1711.05101)."""

    name: ClassVar[str] = "adamw"

    def build(self, groups: Groups, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        fused = not any(p.is_complex() for group in groups for p in group.parameters)  # torch fuses real weights only
        return torch.optim.AdamW(_entries(groups), lr=learning_rate, weight_decay=weight_decay, fused=fused)


class NAdam(OptimizerConfig):
    """Adam that looks ahead by Nesterov's momentum (Dozat, 2016), with decoupled decay of weights."""

    name: ClassVar[str] = "nadam"

    def build(self, groups: Groups, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.NAdam(
            _entries(groups), lr=learning_rate, weight_decay=weight_decay, decoupled_weight_decay=True
        )


class LBFGS(OptimizerConfig):
    """Quasi-Newton steps with a line search (strong Wolfe conditions), on all samples at once.

    For few samples: every step sees the whole set, ``training.batch_size`` at least as large, if need be in
    micro-batches. The learning rate multiplies its steps; 1 and a constant schedule are natural. Reference: Liu &
    Nocedal, Math. Program. 45 (1989).

    Args:
        iterations: quasi-Newton iterations in one step of training; each asks for one gradient or a few.
        history: pairs of steps and gradients it remembers.
        tolerance_change: a step of training ends where loss or weights change by less; absent: 1e-9, as torch has it.
            Where all iterations are one step, training then ends on the first plateau, as it did in published work.
    """

    name: ClassVar[str] = "lbfgs"
    takes_closure: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    refuses: ClassVar[Mapping[str, str]] = {
        "weight_decay": "L-BFGS knows no decay of weights",
        "gradient_clip": "a clipped gradient is not that of the loss its line search looks at",
    }

    iterations: int = Field(10, ge=1)
    history: int = Field(10, ge=1)
    tolerance_change: float | None = Field(None, gt=0, allow_inf_nan=False)

    @property
    def num_moments(self) -> int:
        return 2 * self.history + 4

    def build(self, groups: Groups, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        if len(groups) != 1 or any(hasattr(p, "full_tensor") for p in groups[0].parameters):
            raise ConfigError(
                "optimizer 'lbfgs' moves all weights alike and needs them whole: leave out a method with several "
                'learning rates, and strategy = "fsdp".'
            )
        ends: dict[str, Any] = {} if self.tolerance_change is None else {"tolerance_change": self.tolerance_change}
        return _LBFGS(
            _entries(groups),
            **ends,
            lr=learning_rate,
            max_iter=self.iterations,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )


class _LBFGS(torch.optim.LBFGS):
    """Torch's, of the weights that have a gradient: those of one slab of time, where slabs train one after another."""

    def step(self, closure: Callable[[], float]) -> Any:  # type: ignore[override]
        self._params = [weight for weight in self.param_groups[0]["params"] if weight.grad is not None]
        self._numel_cache = None
        return super().step(closure)


class LevenbergMarquardt(OptimizerConfig):
    """Gauss–Newton steps with damping, of a loss that is a sum of squares: for networks of coordinates.

    With r the terms and J their derivatives by the weights, a step is −Jᵀ(JJᵀ + μI)⁻¹ r. It is taken where it lowers
    the loss, and μ falls; else μ rises and it is tried again. A step costs the products of all terms with each other:
    it is for up to a few thousand terms or weights. Samples or points may be other ones at every step; the damping
    alone is remembered. References: Marquardt, J. SIAM 11 (1963); for equations, with the natural gradient of which the
    step is one form, Müller & Zeinhofer, arXiv:2302.13163. The learning rate multiplies its steps; 1 and a constant
    schedule are natural.

    Args:
        damping: the first μ, in parts of the mean of the diagonal of JJᵀ.
        tries: how often a step is tried, with four times the damping each time, before the weights stay as they are.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    takes_squares: ClassVar[bool] = True
    refuses: ClassVar[Mapping[str, str]] = {
        "weight_decay": "it knows no decay of weights",
        "gradient_clip": "its steps are not along the gradient",
        "micro_batches": "it asks for all terms of a step at once",
    }

    damping: float = Field(1e-3, gt=0, allow_inf_nan=False)
    tries: int = Field(6, ge=1)

    def build(self, groups: Groups, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        if len(groups) != 1 or any(p.is_complex() for p in groups[0].parameters):
            raise ConfigError(
                "optimizer 'levenberg_marquardt' moves all weights alike, and real ones only: leave out a method with "
                "several learning rates."
            )
        return LevenbergMarquardtSteps(_entries(groups), learning_rate, self.damping, self.tries)


class LevenbergMarquardtSteps(torch.optim.Optimizer):
    """What `LevenbergMarquardt` describes."""

    def __init__(self, entries: list[dict[str, Any]], lr: float, damping: float, tries: int) -> None:
        super().__init__(entries, {"lr": lr})
        self.damping, self.tries = damping, tries

    @torch.no_grad()
    def step(self, closure: Callable[[], Squares]) -> float:  # type: ignore[override]
        """Move the weights that have a gradient; return the loss that was reached."""
        (group,) = self.param_groups
        weights = [weight for weight in group["params"] if weight.grad is not None]
        with torch.enable_grad():
            squares = closure()
            slopes = squares.jacobian(weights).detach().double()
        terms = squares.values.detach().double()
        loss, state = float(terms.square().sum()), self.state[weights[0]]
        few = len(slopes) <= slopes.shape[1]
        products = slopes @ slopes.T if few else slopes.T @ slopes
        scale, right = float(products.diagonal().mean()), terms if few else slopes.T @ terms
        damping = float(state.get("damping", self.damping))
        before = [weight.clone() for weight in weights]
        for _ in range(self.tries if math.isfinite(scale) and scale > 0 else 0):
            damped = products + damping * scale * torch.eye(len(products), dtype=products.dtype, device=products.device)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not int(failed):
                solved = torch.cholesky_solve(right[:, None], factor)[:, 0]
                self._moved(weights, before, -group["lr"] * (slopes.T @ solved if few else solved))
                reached = float(closure().values.double().square().sum())
                if reached < loss:
                    state["damping"] = max(damping / 3, _LEAST_DAMPING)
                    return reached
            damping *= 4
        self._moved(weights, before, None)
        state["damping"] = min(damping, _MOST_DAMPING)
        return loss

    def _moved(self, weights: Sequence[Tensor], before: Sequence[Tensor], by: Tensor | None) -> None:
        start = 0
        for weight, old in zip(weights, before, strict=True):
            moved = 0 if by is None else by[start : start + weight.numel()].view_as(weight).to(weight)
            weight.copy_(old + moved)
            start += weight.numel()


OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "adamw": AdamW,
    "nadam": NAdam,
    "lbfgs": LBFGS,
    "levenberg_marquardt": LevenbergMarquardt,
}


def _find(name: str) -> type[OptimizerConfig]:
    if name not in OPTIMIZERS:
        raise ConfigError(f"Optimizer {suggest(name, OPTIMIZERS)}")
    return OPTIMIZERS[name]


NamedOptimizer = Annotated[
    OptimizerConfig,
    BeforeValidator(lambda value: named_settings(value, OptimizerConfig, _find)),
    PlainSerializer(told_by_name),
]
"""An optimizer, its name, or a table of its name and settings."""


def require_whole_set(optimizer: OptimizerConfig, source: BatchSource) -> None:
    """Check that every step sees the same samples, where an optimizer compares its steps.

    Raises:
        ConfigError: if they do not.
    """
    if optimizer.compares and not sees_all(source):
        raise ConfigError(
            f"optimizer '{optimizer.name}' compares its steps, so each must see all samples: set data.num_samples (or "
            "train on a store), and training.batch_size at least as large; micro_batches save memory."
        )


# --- what an optimizer remembers, as tensors by name ------------------------------------------------------------------


def flattened_state(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield what an optimizer remembers of one weight: tensors under their own names, numbers and lists as tensors."""
    for key, value in state.items():
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, int | float):
            yield f"{key}:number", torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
        elif isinstance(value, list) and all(isinstance(part, Tensor) for part in value):  # else scratch, not filled
            yield f"{key}:length", torch.tensor(len(value))
            yield from ((f"{key}:{index}", part) for index, part in enumerate(value))


def restored_state(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what `flattened_state` was given."""
    state: dict[str, Any] = {}
    for name, tensor in tensors.items():
        key, _, form = name.partition(":")
        if form == "length":
            state[key] = [tensors[f"{key}:{index}"] for index in range(int(tensor))]
        elif form in ("", "number"):
            state[key] = tensor if not form else tensor.item()
    return state
