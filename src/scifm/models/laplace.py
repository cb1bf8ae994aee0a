"""Last-layer Laplace: heads drawn where the samples leave the last map of a trained operator free; nothing is trained.

An answer is linear in the weights of the last map, so with normal errors their posterior is a normal distribution in
closed form (MacKay 1992; Daxberger et al., arXiv:2106.14806): around the trained weights w, with the precision
``Σᵢ φᵢφᵢᵀ/σ² + τ``, where φ is what the last map is given, σ² the mean squared residual and τ the precision of the
prior, found by maximizing the evidence. Points of one field are no independent observations: a sample counts as one, by
the mean of ``φφᵀ`` over its points.

Heads are draws of that distribution, shifted so that their mean is the trained map: the answer stays what it was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.architecture import evaluating
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.heads import widened
from scifm.models.operator import Operator

__all__ = ["laplace"]

_AT_ONCE = 8  # samples, of which all features are kept
_ROUNDS = 200  # of the evidence's fixed point, which converges within a few tens


def laplace(operator: Operator, samples: Batch, *, num_heads: int = 10, seed: int = 0) -> Ensemble:
    """Return an operator with heads drawn from the posterior of its last map; the given one is left as it is.

    Args:
        operator: trained, of a kind that tells where its answers leave it.
        samples: with targets, one step each; some hundreds that it was trained on, or others like them.
        num_heads: draws.
        seed: of the draws.

    Returns:
        One network with so many heads, whose mean is what the operator answers.

    Raises:
        ConfigError: if the operator is an ensemble, or does not tell where its answers leave it.
        SignatureError: if samples do not fit, have no targets, several frames of them, or missing points.
    """
    if operator.num_members > 1:
        raise ConfigError("An ensemble has a spread of its own; the Laplace approximation is for one that has none.")
    if num_heads < 2:
        raise ConfigError(f"num_heads must be at least 2, to tell how they differ; got {num_heads}.")
    samples = _required(operator.align(samples))
    ends = operator.outer_maps()
    if ends is None:
        raise ConfigError(
            f"An operator of kind '{operator.kind}' does not tell where its answers leave it, so it can be given no "
            "heads. A kind of your own says it by the method outer_maps()."
        )
    posteriors = _posteriors(operator, samples)
    weight, bias = ends.last.weight.detach(), ends.last.bias.detach()
    generator, rows = generator_for(seed, "laplace"), []
    for posterior in posteriors:
        rows.append(posterior.draws(num_heads, generator))
    moved = torch.stack(rows, dim=1)  # (head, output, number)
    shifts, constants = moved[..., :-1].to(weight), moved[..., -1].to(bias)
    heads = (weight + shifts.reshape(num_heads, *weight.shape)).flatten(0, 1)
    config = EnsembleConfig(member=operator.config, num_members=1, num_heads=num_heads)
    with torch.device("meta"):
        made = Ensemble(operator.signature, config, normalization=operator.normalization)
    weights = {f"networks.0.{name}": value.detach().clone() for name, value in operator.state_dict().items()}
    last = next(name for name, value in operator.state_dict(keep_vars=True).items() if value is ends.last.weight)
    weights[f"networks.0.{last}"] = heads
    weights[f"networks.0.{last.removesuffix('weight')}bias"] = (bias + constants).flatten()
    made.load_state_dict(weights, assign=True)
    made.domain, made.provenance = operator.domain, operator.provenance
    return made.train(operator.training)


def _required(samples: Batch) -> Batch:
    if samples.targets is None or samples.num_frames != 1:
        raise SignatureError(
            "The last map is looked at by samples with targets of one step; these have "
            f"{'none' if samples.targets is None else f'{samples.num_frames} frames of them'}. Cut trajectories into "
            "windows of one step first: scifm.data.windows_of(batch, Window(history))."
        )
    if samples.valid_targets is not None:
        raise SignatureError("The last map is looked at by whole fields; of these some points are missing.")
    return samples


@dataclass(frozen=True)
class _Posterior:
    """Of the weights and the bias of one output, around the trained ones.

    Args:
        directions: ``(number, number)``, orthonormal columns.
        deviations: ``(number,)``: standard deviation along each.
    """

    directions: Tensor
    deviations: Tensor

    def draws(self, count: int, generator: torch.Generator) -> Float[Tensor, "draw number"]:
        """Return draws with mean zero, and as widely spread as if they had not been centered."""
        drawn = torch.randn(count, len(self.deviations), generator=generator, dtype=self.deviations.dtype)
        drawn = (drawn - drawn.mean(0)) * (count / (count - 1)) ** 0.5
        return (drawn * self.deviations) @ self.directions.T


@torch.no_grad()
def _posteriors(operator: Operator, samples: Batch) -> list[_Posterior]:
    twin = copy.deepcopy(operator)
    ends = twin.outer_maps()
    assert ends is not None
    trained = torch.cat([ends.last.weight.flatten(1), ends.last.bias[:, None]], dim=1).double()
    outputs, numbers = trained.shape
    basis = torch.eye(numbers, dtype=ends.last.weight.dtype).repeat_interleave(outputs, dim=0)
    seer = copy.deepcopy(operator)
    widened(seer, numbers)  # a head for each number: what it answers is what that number is multiplied by
    last: Any = seer.outer_maps().last  # type: ignore[union-attr]
    last.weight = nn.Parameter(basis[:, :-1].reshape(-1, *ends.last.weight.shape[1:]))
    last.bias = nn.Parameter(basis[:, -1].clone())
    grams, squares = torch.zeros(outputs, numbers, numbers, dtype=torch.float64), torch.zeros(outputs).double()
    counts = torch.zeros(outputs, dtype=torch.float64)
    dims, weight = samples.grid.num_spatial_dims, ends.last.weight
    inside: tuple[Any, ...] = (..., *(slice(0, n) for n in samples.grid.num_points))
    with evaluating(twin), evaluating(seer):
        for start in range(0, samples.num_samples, _AT_ONCE):
            part = samples.select(slice(start, start + _AT_ONCE)).to(weight.device, weight.dtype)
            encoded = twin.encoded(part)
            residual = encoded.encode(part.require_targets()) - twin.network(encoded)[inside]
            features = seer.network(seer.encoded(part))[inside][:, 0].unflatten(1, (numbers, outputs))
            rows = features.flatten(-dims).permute(2, 0, 3, 1).double()  # (output, sample, point, number)
            there = part.has(part.signature.outputs)
            there = torch.ones(len(residual), outputs, dtype=torch.bool) if there is None else there
            own = there.T.to(rows)  # (output, sample)
            grams += torch.einsum("os,ospi,ospj->oij", own / rows.shape[2], rows, rows).cpu()
            squares += (residual[:, 0].flatten(2).square().mean(-1).double() * there).sum(0).cpu()
            counts += there.sum(0).double().cpu()
    return [
        _posterior(gram, float(square / count.clamp(min=1)), row.cpu())
        for gram, square, count, row in zip(grams, squares, counts, trained, strict=True)
    ]


def _posterior(gram: Tensor, noise: float, trained: Tensor) -> _Posterior:
    """Return the posterior whose prior has the precision of the largest evidence (MacKay's fixed point).

    Args:
        gram: ``Σ φφᵀ``, a sample counted as one.
        noise: mean squared residual.
        trained: the weights around which it lies.
    """
    eigenvalues, directions = torch.linalg.eigh(gram)
    noise, eigenvalues = max(noise, 1e-12), eigenvalues.clamp(min=0)
    square, precision = float(trained.square().sum()), 1.0
    for _ in range(_ROUNDS):
        determined = float((eigenvalues / noise / (eigenvalues / noise + precision)).sum())
        after = max(determined, 1e-6) / max(square, 1e-12)
        if abs(after - precision) <= 1e-6 * precision:
            break
        precision = after
    return _Posterior(directions, (eigenvalues / noise + precision).rsqrt())
