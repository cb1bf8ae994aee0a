"""Scores of what an answer says of its own uncertainty, as it is defined in the literature; tensors in, numbers out.

Members of an ensemble lie along the first axis, ``(member, …)``; everything else has the shape of the truth, ``(…)``.

References:
    T. Gneiting, A. E. Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007).
    V. Fortin et al., "Why should ensemble spread match the RMSE of the ensemble mean?", J. Hydrometeor. 15 (2014).
    S. C. Mouli et al., "Using uncertainty quantification to characterize and improve out-of-domain learning for PDEs",
    arXiv:2403.10642 (n-MeRCI, after Moukari et al. 2019).
"""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.seeds import generator_for

__all__ = [
    "calibration_error", "coverage", "crps_ensemble", "crps_normal", "log_density", "n_merci",
    "rank_correlation_interval", "risk_coverage", "spread_skill",
]  # fmt: skip

_LEVELS = 11  # quantiles, from 0 to 1
_QUANTILE = 0.95  # of the ratios that n-MeRCI takes its unit from
_RESAMPLES = 1000


def crps_ensemble(members: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score of members, in units of the truth; smaller is better.

    The fair one: its mean is least where members are draws of what the truth is a draw of, however few there are.

    Raises:
        SignatureError: if there are fewer than two members.
    """
    count = _members(members)
    skill = (members - truth).abs().mean(0)
    ordered = members.sort(0).values
    weights = 2 * torch.arange(1, count + 1, dtype=members.dtype, device=members.device) - count - 1
    pairs = torch.tensordot(weights, ordered, dims=1) / (count * (count - 1))  # half the mean distance of two members
    return skill - pairs


def crps_normal(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score of normal predictions, in units of the truth; std > 0."""
    z = (truth - mean) / std
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(z)
    return std * (z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))


def log_density(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """Return the logarithm of the density of the truth under normal predictions, at each point; larger is better."""
    return -0.5 * ((truth - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)


def coverage(low: Tensor, high: Tensor, truth: Tensor) -> float:
    """Return the share of points that lie between two bounds."""
    return float(((truth >= low) & (truth <= high)).double().mean())


def calibration_error(mean: Tensor, std: Tensor, truth: Tensor) -> float:
    """Return the root mean square, over 11 levels, of the share of points below a quantile minus its level."""
    levels = torch.linspace(0, 1, _LEVELS, dtype=torch.float64)
    off = ((truth - mean) / std).double().flatten()
    observed = (off[:, None] <= torch.special.ndtri(levels)).double().mean(0)
    return float((observed - levels).square().mean().sqrt())


def spread_skill(members: Tensor, truth: Tensor) -> float:
    """Return the spread of members over the error of their mean, root mean squares over all points.

    One where the truth could be a further member: the spread is then enlarged by √((M + 1)/M). Below one the ensemble
    is more certain than right.
    """
    count = _members(members)
    variance = members.double().var(0, unbiased=True).mean() * (count + 1) / count
    error = (members.double().mean(0) - truth.double()).square().mean()
    return float((variance / error).sqrt())


def n_merci(errors: Tensor, spreads: Tensor) -> float:
    """Return the normalized mean rescaled confidence interval of samples: 0 where spreads follow errors exactly.

    Spreads are first multiplied by the 95 % quantile of error over spread. Far above zero they are no better than one
    constant. It hangs on the largest error of all, so take some hundred samples.

    Args:
        errors: of each sample.
        spreads: what was said of it, in any unit; above zero.
    """
    errors, spreads = errors.double(), spreads.double()
    unit = torch.quantile(errors / spreads, _QUANTILE)
    return float(((unit * spreads).mean() - errors.mean()) / (errors.max() - errors.mean()))


def rank_correlation_interval(scores: Tensor, errors: Tensor, *, seed: int = 0) -> tuple[float, float, float]:
    """Return Spearman's rank correlation of scores with errors, and its 95 % interval by bootstrap over samples.

    Raises:
        SignatureError: if there are fewer than four samples.
    """
    if len(scores) < 4:
        raise SignatureError(f"A rank correlation needs at least four samples; got {len(scores)}.")
    pair = torch.stack([scores.double(), errors.double()])
    generator = generator_for(seed, "rank correlation")
    drawn = torch.randint(len(scores), (_RESAMPLES, len(scores)), generator=generator)
    values = torch.tensor([_spearman(pair[:, some]) for some in drawn], dtype=torch.float64)
    low, high = torch.quantile(values[~values.isnan()], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return _spearman(pair), low, high


def _spearman(pair: Tensor) -> float:
    ranks = torch.from_numpy(stats.rankdata(pair.numpy(), axis=1))
    return float(torch.corrcoef(ranks)[0, 1])


def risk_coverage(scores: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Return what share of questions is answered, and the mean error on these, if those of low scores come first.

    Returns:
        ``(sample,)`` each: shares from 1/n to 1, and the risk at each.
    """
    ordered = errors.double()[scores.argsort(stable=True)]
    counts = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    return counts / len(ordered), ordered.cumsum(0) / counts


def _members(members: Tensor) -> int:
    if len(members) < 2:
        raise SignatureError(f"An ensemble has at least two members, to tell how they differ; got {len(members)}.")
    return len(members)
