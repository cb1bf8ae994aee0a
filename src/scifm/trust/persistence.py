"""Is it better than no model at all? An error means little beside what a trivial answer has."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from scifm.evaluation.baselines import last_states
from scifm.evaluation.evaluate import ratio_of_means
from scifm.fields.batch import Batch
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.errors import errors_of
from scifm.wording import plural

__all__ = ["Persistence", "trivial_answers"]


class Persistence(Check):
    """The operator's errors are compared with those of answers that need no model; the best of these counts.

    ``zero``: nothing. ``mean field``: the mean of the samples' own truths, which so has seen them. ``multiple of the
    input``: of every output the multiple of one input field that fits all samples best, where a steady problem has as
    many inputs as outputs. ``last frame``: of an evolving problem whose outputs are all state, what it was.

    Statistic: mean over samples of the operator's relative L2 error, over the same mean of the best trivial answer;
    frames and channels whose truth is zero are left out. Interval: bootstrap over samples, 95 %.

    Threshold: 1. It is good news where the whole interval lies below, bad where the ratio does not; of fewer than four
    samples there is no interval, and no good news.
    """

    name: ClassVar[str] = "persistence"
    leaves_out_gaps: ClassVar[bool] = True
    question: ClassVar[str] = "Is the operator better than the best answer that needs no model?"
    advice: ClassVar[str] = (
        "Do not use it: train longer, on more samples, or look for targets that are not those of the inputs."
    )

    def ask(self, case: Case) -> Finding:
        samples = case.samples
        truth = samples.require_targets().double()
        own = case.errors(samples)
        trivial = {name: errors_of(answer, truth, samples) for name, answer in trivial_answers(samples).items()}
        counts = own.isfinite()  # the same samples for all: where the truth defines an error
        if not counts.any():
            return Finding(said="The truth is zero in every sample: there is no relative error to compare.")
        means = {name: float(errors[counts].mean()) for name, errors in trivial.items()}
        best = min(means, key=lambda name: means[name])
        others, own = trivial[best][counts], own[counts]
        if means[best] == 0:
            return Finding(said=f"The trivial answer '{best}' is exact: these samples ask nothing.", good=False)
        ratio, low, high = ratio_of_means(own, others, generator=case.generator)
        good = False if ratio >= 1 else True if high is not None and high < 1 else None
        words = {
            True: f"The operator beats every trivial answer; the best of them is '{best}'.",
            False: f"The operator is no better than a trivial answer: '{best}'.",
            None: f"The operator is not shown to beat the trivial answer '{best}' on so few samples.",
        }
        table = ", ".join(f"{name} {mean:.3g}" for name, mean in means.items())
        return Finding(
            said=words[good],
            evidence=f"Mean relative L2 on {plural(len(own), 'sample')}: operator {float(own.mean()):.3g}, {table}.",
            good=good,
            statistic=ratio,
            low=low,
            high=high,
            threshold=1.0,
            unit="error over the best trivial error",
            figure=_figure(own / others, best),
        )


def trivial_answers(samples: Batch) -> dict[str, Tensor]:
    """Return what needs no model, by name, each of the shape of the targets and in float64; see `Persistence`.

    Raises:
        SignatureError: if the samples have no targets.
    """
    truth, names, valid = samples.require_targets().double(), samples.signature, samples.valid_targets
    if valid is None:
        mean = truth.mean(0, keepdim=True)
    else:
        truth = torch.where(valid, truth, 0.0)
        mean = truth.sum(0, keepdim=True) / valid.sum(0, keepdim=True).clamp(min=1)
    answers = {"zero": torch.zeros_like(truth)}
    if len(truth) > 1:  # of one sample the mean field is its truth
        answers["mean field"] = mean.expand_as(truth)
    if names.outputs == names.state:
        answers["last frame"] = last_states(samples).double().expand_as(truth)
    elif not names.evolves and samples.inputs.shape == truth.shape:
        answers["multiple of the input"] = _best_multiples(samples, truth)
    return answers


def _best_multiples(samples: Batch, truth: Tensor) -> Tensor:
    """Return for each output the multiple of one input that is nearest to the truth over all samples together.

    A point that is missing in an input or in the truth, where `truth` is zero, counts as zero.
    """
    inputs, known, valid = samples.inputs.double(), samples.valid_inputs, samples.valid_targets
    inputs = inputs if known is None else torch.where(known, inputs, 0.0)
    x, y = (field.transpose(0, 2).flatten(1) for field in (inputs, truth))  # (channel, all the rest)
    products, sizes = y @ x.T, x.square().sum(1).expand(len(y), -1)
    if valid is not None:
        sizes = valid.transpose(0, 2).flatten(1).to(x) @ x.square().T  # where the truth is known
    factors = torch.where(sizes > 0, products / sizes, 0.0)  # (output, input)
    chosen = (factors * products).argmax(1)  # what it takes off the squared error
    return inputs[:, :, chosen] * factors.gather(1, chosen.view(-1, 1)).view(1, 1, -1, *(1,) * (inputs.dim() - 3))


def _figure(ratios: Tensor, best: str) -> Figure:
    ordered = ratios.sort().values.tolist()
    series = Series(
        label="operator",
        x=tuple(range(1, len(ordered) + 1)),
        y=tuple(v if 0 < v < float("inf") else None for v in ordered),
    )
    panel = Panel(
        x=Axis(label="sample, the easiest first"),
        y=Axis(label=f"error over that of '{best}'", scale="log"),
        series=(series,),
        rules=(Rule(at=1.0, label="as good as no model"),),
    )
    return Figure(
        caption="Error of the operator over that of the best trivial answer, sample by sample.", panels=(panel,)
    )
