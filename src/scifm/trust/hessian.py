"""`Hessian`: the second derivatives of a loss by its weights, known by their products with vectors.

The questions asked of it (`scifm.trust.eigenvalues`) are those of PyHessian (Yao, Gholami, Keutzer & Mahoney,
arXiv:1912.07145), of any scalar function of weights; `hessian_of` asks them of any objective, operator and samples. A
product is two calls of ``torch.autograd.grad``; they are written here, as packages that offer them (curvlinops,
PyHessian) take a model, a loss of its answer and pairs of data, and what is made small here is an `Objective`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn
from torch.func import functional_call

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective
from scifm.objectives.supervised import RelativeL2
from scifm.training.weights import place

__all__ = ["Hessian", "Loss", "hessian_of"]

_ONCE = "torch::autograd::Error"  # what stands in the graph of what is once_differentiable

Loss = Callable[[Mapping[str, Tensor]], Tensor]
"""A scalar of named weights, twice differentiable; the same weights always give the same number."""


class Hessian(LinearOperator):
    """The second derivatives of a loss by its weights, where these are now, as a symmetric linear operator of SciPy.

    Weights are copied, and lie one behind the other in one vector of float64; a complex weight is a pair of real ones.
    Products are computed in the precision of the weights and on their device. The graph of the gradient is kept between
    products where the loss has one part; of several each is computed anew, and memory is that of the largest.

    Args:
        loss: of the weights; or its parts, each with how much it counts: the loss is their mean, weighed so.
        weights: real or complex, by name.

    Attributes:
        shape: (P, P), P the number of real weights.

    Raises:
        DataError: here if there are no weights or no parts; where a product is asked for, if the loss is no finite real
            number, hangs on none of the weights, or a derivative is not finite.
    """

    def __init__(self, loss: Loss | Sequence[tuple[float, Loss]], weights: Mapping[str, Tensor]) -> None:
        parts = [(1.0, loss)] if callable(loss) else list(loss)
        total = sum(share for share, _ in parts)
        if not weights or not parts or not total > 0:
            raise DataError("A loss has a curvature where it has weights and a part that counts; here is none.")
        for name, weight in weights.items():
            if not (weight.is_floating_point() or weight.is_complex()):
                raise DataError(f"The weight '{name}' is {weight.dtype}; only by real and complex ones is derived.")
        self.parts = [(share / total, part) for share, part in parts]
        self.weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self._leaves = {name: _real(weight).clone().requires_grad_() for name, weight in self.weights.items()}
        self._kept: tuple[Tensor, ...] | None = None
        count = sum(leaf.numel() for leaf in self._leaves.values())
        super().__init__(np.float64, (count, count))

    def vector(self, tensors: Mapping[str, Tensor]) -> np.ndarray:
        """Return tensors of the names and shapes of the weights as one vector, ``(P,)`` float64."""
        return _joined([_real(tensors[name]) for name in self.weights])

    def tensors(self, vector: np.ndarray) -> dict[str, Tensor]:
        """Return a vector as tensors with the names, shapes and types of the weights."""
        if np.shape(vector) != self.shape[:1]:
            raise DataError(f"A vector of these weights has the shape {self.shape[:1]}; got {np.shape(vector)}.")
        return self._named(self._split(vector))

    def loss(self, weights: Mapping[str, Tensor] | None = None) -> float:
        """Return the loss, at other weights where some are given; it may be infinite or NaN there."""
        at = {name: w.detach() for name, w in (self.weights if weights is None else weights).items()}
        with torch.enable_grad():  # a loss may derive by its own inputs, as one that asks an equation does
            return float(sum(share * float(part(at).detach()) for share, part in self.parts))

    @cached_property
    def gradient(self) -> np.ndarray:
        """The slopes at the weights, ``(P,)`` float64."""
        total = np.zeros(self.shape[0])
        for share, part in self.parts:
            total += share * _joined(self._slopes(part, again=False))
        return _finite(total, "the gradient")

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        into, leaves, total = self._split(vector), list(self._leaves.values()), np.zeros(self.shape[0])
        keep = len(self.parts) == 1
        for share, part in self.parts:
            slopes = self._kept or self._slopes(part, again=True)
            self._kept = slopes if keep else None
            with torch.enable_grad():
                along = torch.stack([(slope * v).sum() for slope, v in zip(slopes, into, strict=True)]).sum()
            if along.requires_grad:  # else it is linear in all weights
                about: dict[str, Any] = {"retain_graph": keep, "allow_unused": True, "materialize_grads": True}
                total += share * _joined(torch.autograd.grad(along, leaves, **about))
        return _finite(total, "a product with the Hessian")

    def _adjoint(self) -> Hessian:
        return self

    def _split(self, vector: np.ndarray) -> list[Tensor]:
        whole, found, begin = torch.from_numpy(np.array(vector, dtype=np.float64).reshape(-1)), [], 0
        for leaf in self._leaves.values():
            found.append(whole[begin : begin + leaf.numel()].view(leaf.shape).to(leaf))
            begin += leaf.numel()
        return found

    def _named(self, reals: Sequence[Tensor]) -> dict[str, Tensor]:
        pairs = zip(self.weights.items(), reals, strict=True)
        return {name: torch.view_as_complex(v) if weight.is_complex() else v for (name, weight), v in pairs}

    def _slopes(self, part: Loss, *, again: bool) -> tuple[Tensor, ...]:
        """Return the gradient of a part by the leaves, to be derived `again` or not."""
        leaves = list(self._leaves.values())
        with torch.enable_grad():
            loss = part(self._named(leaves))
            if loss.dim() or loss.is_complex():
                raise DataError(f"A loss is one real number; got {loss.dtype} of shape {tuple(loss.shape)}.")
            if not bool(loss.isfinite()):
                raise DataError(f"The loss at these weights is {float(loss.detach())}: it has no curvature.")
            if not loss.requires_grad:
                raise DataError("The loss does not hang on any of these weights.")
            slopes = torch.autograd.grad(loss, leaves, create_graph=again, allow_unused=True, materialize_grads=True)
        if again:
            _require_twice(slopes)
        return slopes


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _joined(reals: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([part.detach().flatten().double().cpu().numpy() for part in reals])


def _require_twice(slopes: Sequence[Tensor]) -> None:
    """Refuse a gradient that somebody derived by hand once: torch takes its own derivative for zero, and is silent."""
    seen, left = set[Any](), [slope.grad_fn for slope in slopes]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if node.name() == _ONCE:
            raise DataError(
                "Some operation of this loss has no second derivative, as one that computes its first by hand. Ask the "
                "same network in torch's own operations."
            )
        seen.add(node)
        left += [before for before, _ in node.next_functions]


def _finite(vector: np.ndarray, what: str) -> np.ndarray:
    if broken := int((~np.isfinite(vector)).sum()):
        raise DataError(
            f"{broken} of {len(vector)} numbers of {what} are NaN or infinite. Norms and roots have no derivative at "
            "zero: choose a smooth objective, mean_squared_error for example."
        )
    return vector


class _Asked(nn.Module):
    """The loss of an operator as a function of its weights, as ``functional_call`` takes it."""

    def __init__(self, operator: Operator, objective: Objective) -> None:
        super().__init__()
        self.operator, self.objective = operator, objective

    def forward(self, batch: Batch, step: int, generator: torch.Generator) -> Tensor:
        return self.objective(self.operator, batch, step=step, generator=generator)


def hessian_of(
    operator: Operator,
    samples: Samples,
    objective: Objective | None = None,
    *,
    batch_size: int | None = None,
    dtype: torch.dtype | None = torch.float64,
    step: int = 0,
    seed: int = 0,
) -> Hessian:
    """Return the Hessian of an objective by the trainable weights of an operator, on samples.

    The operator stays as it was. A copy in eval mode is asked, in torch's own operations where kernels have no second
    derivative (`Operator.differentiable`); of frozen weights nothing is said. What an objective draws is alike in every
    product.

    Args:
        operator: at the weights in question; an ensemble has those of all its members.
        samples: with what the objective wants of them, a batch or a split of a store.
        objective: what was made small, prepared on these samples; the relative L2 error when left out.
        batch_size: samples taken at once; None: all. A part counts by its samples, or by their `loss_weights`.
        dtype: of all arithmetic; None: that of the weights. Small eigenvalues are lost in float32.
        step: of the optimizer, which an objective may look at.
        seed: of what the objective draws.

    Raises:
        SignatureError: if samples do not fit, or there are none.
        ConfigError: if parts of a batch do not add up to the objective, it counts points that are missing, or no weight
            is trainable.
    """
    if not samples.num_samples:
        raise SignatureError("The curvature of a loss is asked on at least one sample; got none.")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size is at least 1; got {batch_size}.")
    trained = {name for name, weight in operator.named_parameters() if weight.requires_grad}
    twin = copy.deepcopy(operator).eval().differentiable()
    weight = next(twin.parameters(), None)
    if weight is None or not trained:
        raise ConfigError("No weight of this operator is trainable (requires_grad): there is nothing to derive by.")
    real = dtype or (weight.real.dtype if weight.is_complex() else weight.dtype)
    place(twin, weight.device, real)
    objective, count = RelativeL2() if objective is None else objective, samples.num_samples
    if samples.gaps and not objective.leaves_out_gaps:
        raise ConfigError(f"Points are missing, and the objective '{objective.name}' counts every point.")
    if objective.num_looked_at:
        with warnings.catch_warnings():  # what vanishes has been told in training
            warnings.simplefilter("ignore")
            objective = objective.on(twin.align(samples.some(objective.num_looked_at)))
    asked = _Asked(twin, objective)
    size = batch_size or count
    if size < count and not objective.adds_up:
        raise ConfigError(f"Parts of a batch do not add up to '{objective.name}': leave batch_size out.")

    def part(begin: int) -> Loss:
        generator = generator_for(seed, "curvature", begin, device=weight.device)
        state = generator.get_state()

        def loss(weights: Mapping[str, Tensor]) -> Tensor:
            batch = samples.batch(slice(begin, min(begin + size, count))).to(weight.device, real)
            generator.set_state(state)
            return functional_call(asked, dict(weights), (batch, step, generator))

        return loss

    parts = [(_counts(samples, begin, size), part(begin)) for begin in range(0, count, size)]
    return Hessian(parts, {name: p for name, p in asked.named_parameters() if name.partition(".")[2] in trained})


def _counts(samples: Samples, begin: int, size: int) -> float:
    """Return how much a part counts."""
    end = min(begin + size, samples.num_samples)
    if not isinstance(samples, Batch) or samples.loss_weights is None:
        return float(end - begin)
    return float(samples.loss_weights[begin:end].double().sum())
