"""Bands around answers that hold the truth as often as they say, and how unlike what it knows a question is.

An operator is calibrated once, on samples with solutions that it was not trained on (`calibrate`); from then on `bands`
answers with a band around every point. The guess that a band is so many times as wide as is, of an ensemble, how its
members differ at that point, else the size of the answer. It is an ordinary split-conformal prediction, see
`scifm.models.calibration`: where questions are of the kind it was calibrated on, the promise holds for any operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.norms import relative_l2
from scifm.models.architecture import evaluating
from scifm.models.calibration import Calibration, FeatureSpace
from scifm.models.features import features_of, has_features, looking_inside
from scifm.wording import plural

if TYPE_CHECKING:
    from scifm.models.operator import Operator

__all__ = ["Bands", "bands", "calibrate", "scores_of"]

_MOST_NAMED = 8  # samples in a message
_FLOOR = 0.1  # of the spread's own root mean square: nowhere do members agree by chance as well as that


@dataclass(frozen=True)
class Bands:
    """Answers with a band around each.

    Args:
        answers: the samples with the answers as targets.
        low, high: ends of the bands, ``(batch, time, output, *space)``, in physical units.
        level: the probability with which a band holds its part of a field, for samples of the calibration's kind.
        distances: ``(batch,)``: how far each sample lies from those of the calibration, inside the network; None where
            it has no features.
        p_values: ``(batch,)``: the share of the calibration's samples that lie as far, at least.
        least: the smallest p-value there is: farther than all of them.
    """

    answers: Batch
    low: Tensor
    high: Tensor
    level: float
    distances: Tensor | None = None
    p_values: Tensor | None = None
    least: float = 1.0

    def unlike(self, share: float = 0.01) -> str:
        """Return a sentence that says which samples are unlike those of the calibration; empty: none, or nobody knows.

        Args:
            share: of the calibration's samples that lie as far, up to which a sample is unlike them.
        """
        if self.p_values is None:
            return ""
        share = max(share, self.least)  # of few samples none can be told by less than that it lies farther than all
        places = (self.p_values <= share * (1 + 1e-6)).nonzero().flatten().tolist()
        if not places:
            return ""
        some = ", ".join(map(str, places[:_MOST_NAMED])) + (", …" if len(places) > _MOST_NAMED else "")
        return (
            f"{len(places)} of {plural(len(self.p_values), 'sample')} ({some}) are unlike those that the model was "
            f"calibrated on, of which at most {share:.3g} lie as far from what it knows: their bands promise nothing. "
            "Solve them, or fine-tune on some such samples and calibrate again."
        )


def bands(operator: Operator, samples: Batch, level: float = 0.9, *, batch_size: int = 64) -> Bands:
    """Answer any number of samples, each with a band around it, at the cost of answering.

    Args:
        operator: one that was calibrated.
        samples: as many steps ahead as it was calibrated for, at most.
        level: probability that a band holds.
        batch_size: samples at a time.

    Raises:
        ConfigError: if the operator was not calibrated, or on too few samples for that level.
        SignatureError: if samples do not fit, or reach further ahead than those it was calibrated on.
    """
    known = operator.calibration
    if known is None:
        raise ConfigError(
            "The operator was not calibrated, so nobody knows how wide its bands have to be: calibrate it on samples "
            "that it was not trained on ('scifm calibrate', or scifm.calibrate)."
        )
    widths = known.widths(level)
    if samples.num_frames > known.num_frames:
        raise SignatureError(
            f"The operator was calibrated for {known.num_frames} steps ahead, and {samples.num_frames} are asked for. "
            f"Ask for fewer, or calibrate it on trajectories of so many (--set horizon={samples.num_frames})."
        )
    answers, guess, features = _asked(operator, samples, batch_size, looks=known.space is not None)
    frames, dims = samples.num_frames, samples.grid.num_spatial_dims
    half = guess * widths[:frames].to(guess)[(None, ..., *(None,) * dims)]
    mean = answers.require_targets()
    distances, p_values = (None, None) if features is None else known.unlikeness(features)
    least = 1.0 if known.distances is None else 1 / (1 + len(known.distances))
    return Bands(answers, mean - half, mean + half, level, distances, p_values, least)


def calibrate(
    operator: Operator,
    samples: Batch,
    *,
    seen: Batch | None = None,
    share: float = 1.0,
    batch_size: int = 64,
    about: str = "",
) -> Calibration:
    """Find how wide bands have to be, on samples that the operator was not trained on; they become its `calibration`.

    Args:
        operator: of any kind; what is found is kept where it is saved.
        samples: with targets, one draw of the problems that it will be asked, in physical units: at least nine for a
            level of 0.9. Of trajectories with several targets it marches, and each step has bands of its own.
        seen: samples like those it was trained on, whose solutions are not looked at: what lies far from them, inside
            the network, is told to be unlike them. When left out, the first half of `samples`, and only the rest is
            compared with them.
        share: of the points of a field that a band holds; 1: the whole field.
        batch_size: samples at a time.
        about: what the samples are, in words.

    Returns:
        What was found, which is ``operator.calibration`` from now on.

    Raises:
        ConfigError: if `share` is none.
        SignatureError: if samples do not fit, are too few to tell anything, or have no targets.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share is a part of the points of a field, above 0 and at most 1; got {share:g}.")
    samples = operator.align(samples)
    truth = samples.require_targets()
    if samples.num_samples < 2:
        raise SignatureError(f"An operator is calibrated on several samples, 100 for example; got {len(truth)}.")
    looks = has_features(operator)
    answers, guess, features = _asked(operator, samples, batch_size, looks=looks)
    mean = answers.require_targets()
    scores = _scores(mean, guess, samples, share)
    errors = relative_l2(mean.double(), truth.double(), samples.grid, vanishes=0.0, valid=samples.valid_targets)
    errors = errors.masked_fill(_absent(samples, errors), torch.nan)
    space = distances = None
    if features is not None:
        known = features[: len(features) // 2] if seen is None else features_of(operator, seen, batch_size=batch_size)
        space = FeatureSpace.of(known)
        distances = space.distances(features[len(features) // 2 :] if seen is None else features)
    operator.calibration = Calibration(scores, errors, share, space, distances, about)
    return operator.calibration


@torch.no_grad()
def _asked(operator: Operator, samples: Batch, batch_size: int, *, looks: bool) -> tuple[Batch, Tensor, Tensor | None]:
    """Return answers, the guess of how wrong each point is, and features, at the cost of answering."""
    samples = operator.align(samples)
    answers, guesses, features = list[Batch](), list[Tensor](), list[Tensor]()

    def ask(part: Batch, features_now: Any) -> None:
        each = operator.each(part.to(*operator.home))
        members = torch.stack([one.require_targets().to(part.inputs) for one in each])
        answers.append(part.with_targets(members.mean(0), each[0].valid_targets))
        guesses.append(_guess(members, part.grid.num_spatial_dims))
        if features_now is not None:
            features.append(features_now(part).to(part.inputs))

    with evaluating(operator):
        if not looks:
            for part in samples.batches(batch_size):
                ask(part, None)
        else:
            with looking_inside(operator) as features_now:
                for part in samples.batches(batch_size):
                    ask(part, features_now)
    return Batch.concatenate(answers), torch.cat(guesses), torch.cat(features) if looks else None


def _guess(members: Tensor, dims: int) -> Tensor:
    """Return the guess of how wrong an answer is at each point, of its shape: above zero where it is not zero."""
    axes = tuple(range(-dims, 0))
    if len(members) == 1:
        size = members[0].square().mean(axes, keepdim=True).sqrt()
        return size.expand_as(members[0])
    variance = members.var(0, unbiased=True)
    return (variance + _FLOOR**2 * variance.mean(axes, keepdim=True)).sqrt()


def scores_of(operator: Operator, samples: Batch, share: float, *, batch_size: int = 64) -> Tensor:
    """Return how many times wider than the guess a band has to be to hold a share of the points of each field.

    Returns:
        ``(sample, time, output)``; NaN where a sample has not the field, or none of its points counts.
    """
    samples = operator.align(samples)
    answers, guess, _ = _asked(operator, samples, batch_size, looks=False)
    return _scores(answers.require_targets(), guess, samples, share)


def _scores(mean: Tensor, guess: Tensor, samples: Batch, share: float) -> Tensor:
    error, guess = (mean - samples.require_targets()).double(), guess.double()
    wide = torch.where(error == 0, 0.0, error.abs() / guess)
    if samples.valid_targets is not None:
        wide = torch.where(samples.valid_targets, wide, torch.nan)
    wide = wide.flatten(3)
    if share == 1:
        scores = torch.where(wide.isnan(), -torch.inf, wide).amax(-1).masked_fill(wide.isnan().all(-1), torch.nan)
    else:
        scores = wide.nanquantile(share, dim=-1, interpolation="higher")
    return scores.masked_fill(_absent(samples, scores), torch.nan)


def _absent(samples: Batch, scores: Tensor) -> Tensor:
    there = samples.has(samples.signature.outputs)
    if there is None:
        return torch.zeros_like(scores, dtype=torch.bool)
    return ~there[:, None].to(scores.device).expand_as(scores)
