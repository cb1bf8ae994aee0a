"""Score an operator on samples it has not seen, and what needs no model beside it; nothing is reduced but space.

Scores say what samples they were made on, so that a number can be made again and told from another.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from scifm.config import config_hash
from scifm.data.demonstrations import demonstrations_of
from scifm.data.equations import told_of
from scifm.data.origins import StoreOrigin
from scifm.data.sample_recipe import SampleRecipe
from scifm.errors import ConfigError, DataError, RunError, SignatureError, suggest
from scifm.evaluation.baselines import last_states
from scifm.evaluation.pointwise import METRICS, undefined_of
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.findings.provenance import Scored
from scifm.models.folder import find_model
from scifm.models.in_context import Prompted, helped
from scifm.models.neighbours import Corrected, NeighbourCorrection, Tally
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.models.surgery import renamed
from scifm.prompt import Shown
from scifm.report.records import ALL_ZERO, BEFORE, NOTHING_CHANGES, WITHOUT_DEMONSTRATIONS, origin_text
from scifm.runs import Run, write_atomically
from scifm.wording import number_text, plural

__all__ = ["EvaluateRecipe", "Scores", "evaluate", "origin_of", "persistence", "ratio_of_means", "score_of"]


class EvaluateRecipe(SampleRecipe):
    """What a model is scored on.

    Args:
        rename: new name → name the operator knows.
        demonstrations: how many solved examples correct its answers, or are shown to it where it learned to use them;
            0: none.
        correction: how they correct; see `NeighbourCorrection`.
    """

    rename: dict[str, str] = Field(default_factory=dict)
    demonstrations: int = Field(0, ge=0)
    correction: NeighbourCorrection = NeighbourCorrection()

    @model_validator(mode="after")
    def _corrects(self) -> EvaluateRecipe:
        if not self.demonstrations and self.correction != NeighbourCorrection():
            raise ValueError("the settings of correction would have no effect without --demonstrations: give some")
        return self

    @property
    def idle_with_a_store(self) -> tuple[str, ...]:
        random = () if self.demonstrations else ("seed",)  # which choose demonstrations; nothing else is random
        return (*super().idle_with_a_store, *random)

    def demonstrations_for(self, run: str | Path) -> Batch | None:
        """Return the solved examples that correct answers about `samples_for`, among which there are none of them.

        Those of a store are of its training split, those of a system are drawn for this; of trajectories one step each.

        Raises:
            ConfigError: if there are not so many, they would meet the samples that are scored, or these are a mixture.
            RunError, StoreError: as for `origin_for`.
        """
        if not self.demonstrations:
            return None
        origin = self.origin_for(find_model(run))
        if isinstance(origin, StoreOrigin) and self.split == "train":
            raise ConfigError(
                "Demonstrations are taken from the training split of a store, which is scored here: they would hold "
                "the answers. Score another split (--set split=test)."
            )
        return demonstrations_of(origin, self.demonstrations, seed=self.seed)


@dataclass(frozen=True, repr=False)
class Scores(Shown):
    """Errors per sample, frame and channel.

    Args:
        values: for each metric a tensor ``(sample, time, channel)``.
        channels: names of the output fields.
        origin: in plain values, which samples they are of; see `origin_of`.
        path: the file they were recorded in; None where they were not.
        undefined: for each metric where the truth leaves it undefined, such as a relative error of what is zero.
        present: ``(sample, time, channel)``: which fields each sample has, and in which frames a point of them counts;
            its other errors mean nothing and are left out everywhere. None: all.
        beside: mean relative L2 errors of other answers to the same samples, by what they are; see `evaluate`.
        corrected: which part of the points that were answered demonstrations changed; None where there were none.
    """

    values: dict[str, Tensor]
    channels: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    undefined: Mapping[str, Tensor] = field(default_factory=dict)
    present: Tensor | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    corrected: float | None = None

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [(f"{name}, mean", number_text(self.mean(name), digits=4)) for name in self.values]
        kept = "" if self.path is None else str(self.path)
        return f"Scores: {plural(self.num_samples, 'sample')}", [*rows, ("kept in", kept)]

    @property
    def num_samples(self) -> int:
        return next(iter(self.values.values())).shape[0]

    def mean(self, metric: str = "relative_l2") -> float:
        """Return the mean over samples, frames and channels: one number, NaN if any error is NaN."""
        return float(self._there(self._metric(metric)).double().mean())

    def quantile(self, level: float, metric: str = "relative_l2") -> float:
        """Return a quantile over samples, frames and channels; `level` from 0 to 1."""
        return float(self._there(self._metric(metric)).double().quantile(level))

    def defined(self, metric: str = "relative_l2") -> Tensor:
        """Return the errors of a metric where the truth defines it, one after the other: those of `undefined` left out.

        Raises:
            ConfigError: if there is no such metric.
        """
        values = self._there(self._metric(metric))
        return values[~self._there(self.undefined[metric])] if metric in self.undefined else values

    def undefined_samples(self, metric: str) -> list[int]:
        """Return the samples whose truth leaves a metric undefined, in some frame and channel."""
        if metric not in self.undefined:
            return []
        undefined = self.undefined[metric]
        undefined = undefined if self.present is None else undefined & self.present
        return [int(place) for place in undefined.flatten(1).any(dim=1).nonzero().flatten()]

    def _there(self, values: Tensor) -> Tensor:
        """Return what ``(sample, time, channel)`` holds of the fields that are there, one after the other."""
        return values.flatten() if self.present is None else values[self.present.expand_as(values)]

    def _metric(self, name: str) -> Tensor:
        if name not in self.values:
            raise ConfigError(f"Metric {suggest(name, self.values)}")
        return self.values[name]

    def write(self, path: str | Path) -> None:
        """Write a row for each sample, frame and channel, a column for each metric, as Parquet.

        The file's own metadata hold the origin, the time and by metric the rows in which the truth leaves it undefined,
        as JSON under the key ``scifm``.

        Raises:
            RunError: if the file cannot be written.
        """
        shape = next(iter(self.values.values())).shape
        index = [self._there(torch.from_numpy(places)).numpy() for places in np.indices(shape)]
        columns = {"sample": index[0], "frame": index[1], "channel": np.array(self.channels)[index[2]]}
        columns |= {name: self._there(value).double().cpu().numpy() for name, value in self.values.items()}
        buffer = io.BytesIO()
        about: dict[str, Any] = {"origin": dict(self.origin), "recorded": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        places = {name: self._there(where).nonzero().flatten().tolist() for name, where in self.undefined.items()}
        about |= {"undefined": {name: rows for name, rows in places.items() if rows}}
        about |= {} if self.corrected is None or not math.isfinite(self.corrected) else {"corrected": self.corrected}
        about |= {"beside": {name: mean for name, mean in self.beside.items() if math.isfinite(mean)}}
        pq.write_table(pa.table(columns, metadata={"scifm": json.dumps(about, allow_nan=False)}), buffer)
        write_atomically(Path(path), buffer.getvalue())


def evaluate(
    operator: Operator | Run | str | Path,
    samples: Samples,
    *,
    metrics: Iterable[str] = ("relative_l2", "vrmse", "rmse", "max_error"),
    batch_size: int = 64,
    rename: Mapping[str, str] | None = None,
    record: bool | str | Path = True,
    origin: Mapping[str, Any] | None = None,
    beside: bool = False,
    demonstrations: Batch | None = None,
    correction: NeighbourCorrection | None = None,
) -> Scores:
    """Score an operator; the scores of a run of one's own are recorded in its folder, beside those on other samples.

    Args:
        operator: an operator, or where one lies: a run, its folder, that of a model, ``hf:name/model``.
        samples: a batch with targets, or a split of a store, read piece by piece.
        metrics: names in ``scifm.evaluation.METRICS``.
        batch_size: samples answered at a time.
        rename: new name → name the operator knows, for channels that the samples only call otherwise; an operator that
            is given as such is renamed in place.
        record: True: in the folder of the run, where `operator` is a complete one and this user's; nothing is written
            for a model alone, or into anybody else's folder. A path: into this file. False: nowhere.
        origin: what the record says of the samples, where they do not say all themselves.
        beside: score other answers too, and record their mean relative L2 error: of what evolves that nothing changes,
            of what is steady that all is zero, of a fine-tuned run the one it was made of, as it was, and of answers
            with the help of demonstrations the operator's own.
        demonstrations: solved examples that an operator is shown which learned to use them, see
            `scifm.models.in_context.shown`, and by which the answers of any other are corrected before they are scored,
            see `scifm.models.neighbours.corrected`; None: answers are scored as they are.
        correction: how they are corrected; as published where it is left out.

    Returns:
        One error for each metric, sample, frame and channel.

    Raises:
        ConfigError: if a metric or a name in `rename` is unknown, or there is a correction without demonstrations.
        DataError: if there are no samples.
        SignatureError: if samples or demonstrations do not fit the operator, or each other.
        RunError: if there is no readable operator in the run, or the scores cannot be written.
    """
    run, folder = None, Path()
    if not isinstance(operator, Operator):
        place = find_model(operator)
        run, folder, operator = place.run, place.folder, load_operator(place.folder)
    if rename:
        operator = renamed(operator, rename)
    about = {**(origin_of(samples) if origin is None else origin), **({"rename": dict(rename)} if rename else {})}
    operator = told_of(operator, {**samples.describe(), **about})
    own = operator
    if demonstrations is not None:
        operator = helper = helped(own, demonstrations, correction)
        about["demonstrations"] = _told(helper)
    elif correction is not None:
        raise ConfigError("A correction is by demonstrations: give some, or leave it out.")
    try:
        names = operator.signature.common(samples.signature)
    except SignatureError:
        operator.align(samples.some(1))  # which says in what they do not fit
        raise

    def answers() -> Iterator[tuple[Batch, Tensor]]:
        for piece in samples.pieces(batch_size):
            answer = operator.answers(piece, batch_size=batch_size).without_absent(names)
            yield operator.align(piece).without_absent(names), answer.require_targets()

    before = replace(operator.tally) if isinstance(operator, Corrected) else Tally()
    scores = _scored(answers(), metrics, names.outputs, about)
    if isinstance(operator, Corrected):
        scores = replace(scores, corrected=operator.tally.since(before).share)
    if beside:
        others = _other_answers(samples, run, rename, batch_size)
        if demonstrations is not None:
            how: dict[str, Any] = {"metrics": ("relative_l2",), "batch_size": batch_size, "record": False}
            others = {WITHOUT_DEMONSTRATIONS: _mean_of(evaluate(own, samples, **how)), **others}
        scores = replace(scores, beside=others)
    if not isinstance(record, bool):
        file = Path(record)
    elif record and run is not None and run.is_own:
        # a store that was moved is the same one, by its content
        which = {key: value for key, value in about.items() if key != "store" or "content" not in about}
        file = run.scores_file(_name_of(about), {**which, "metrics": list(scores.values)})
        if demonstrations is None:
            operator.remember(folder, operator.provenance.scored(score_of(scores)))
    else:
        return scores
    scores.write(file)
    return replace(scores, path=file)


def _mean_of(scores: Scores) -> float:
    """Return the mean relative L2 error where it is defined."""
    return float(values.mean()) if (values := scores.defined()).numel() else math.nan


def _told(helper: Prompted | Corrected) -> dict[str, Any]:
    """Return what scores say of demonstrations, all that tells them from others."""
    shown = helper.demonstrations
    about = {"count": shown.num_samples, "batch": shown.describe()["batch"]}
    if isinstance(helper, Prompted):
        return {**about, "way": "learned"}
    how = helper.how
    used = how.to_dict()
    idle = {"memory"} | (set() if how.passes else {"drop", "seed"})
    told = {name: value for name, value in used.items() if name not in idle}
    return {**about, **told}


def _other_answers(
    samples: Samples, run: Run | None, rename: Mapping[str, str] | None, batch_size: int
) -> dict[str, float]:
    """Return the mean relative L2 error of answers that need no training on these samples."""
    names, found = samples.signature, dict[str, float]()
    if names.state == names.outputs:
        found[NOTHING_CHANGES] = _mean_of(persistence(samples, batch_size=batch_size))
    elif not names.evolves:
        found[ALL_ZERO] = 1.0  # by definition
    with suppress(RunError, SignatureError, ConfigError):  # it is gone, or knows other fields
        if run is not None and (parent := run.parent) is not None:
            how: dict[str, Any] = {"metrics": ("relative_l2",), "batch_size": batch_size, "record": False}
            found[BEFORE] = _mean_of(evaluate(parent, samples, rename=rename, **how))
    return found


def score_of(scores: Scores) -> Scored:
    """Return what the page of a model says of its scores: means, where the truth defines them."""
    means = {name: float(values.mean()) for name in scores.values if (values := scores.defined(name)).numel()}
    about = _without_place(scores.origin)
    if "members" in about:
        about["members"] = [_without_place(member) for member in about["members"]]
    return Scored(origin_text(about), scores.num_samples, means, time.strftime("%Y-%m-%d"))


def _without_place(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return an origin with the name of its store alone: where it lies is nobody's business elsewhere."""
    return {**origin, **({"store": Path(str(origin["store"])).name} if "store" in origin else {})}


def persistence(samples: Samples, *, metrics: Iterable[str] = ("relative_l2",), batch_size: int = 64) -> Scores:
    """Score the answer that nothing changes: each state field stays what it was in the last input frame.

    A point that was missing in that frame is answered by the mean of the others of its field.

    Args:
        samples: of an evolving system whose outputs are all state.

    Raises:
        SignatureError: if some output is not a state.
    """
    names = samples.signature
    if names.state != names.outputs:
        raise SignatureError(
            f"Persistence is for outputs that were inputs before; of {names.outputs} only {names.state} were."
        )

    def answers() -> Iterator[tuple[Batch, Tensor]]:
        for piece in samples.pieces(batch_size):
            yield piece, last_states(piece).expand_as(piece.require_targets())

    return _scored(answers(), metrics, names.outputs)


def _scored(
    answers: Iterable[tuple[Batch, Tensor]],
    metrics: Iterable[str],
    channels: tuple[str, ...],
    origin: Mapping[str, Any] | None = None,
) -> Scores:
    """Score answers, each with the truth before it, that come piece by piece."""
    names = list(metrics)
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"Metric {suggest(name, METRICS)}")
    values: dict[str, list[Tensor]] = {name: [] for name in names}
    undefined: dict[str, list[Tensor]] = {name: [] for name in names}
    present: list[Tensor] = []
    for truth, answer in answers:
        target, there, valid = truth.require_targets(), truth.counted(), truth.valid_targets
        present.append(target.new_ones(target.shape[:3], dtype=torch.bool) if there is None else there)
        for name in names:
            values[name].append(METRICS[name](answer, target, truth.grid, valid=valid))
            undefined[name].append(undefined_of(name, target, valid))
    if not names or not values[names[0]]:
        raise DataError("There is nothing to score: give at least one sample and one metric.")
    joined, places = ({name: torch.cat(parts) for name, parts in found.items()} for found in (values, undefined))
    there = torch.cat(present)
    return Scores(joined, channels, origin or {}, undefined=places, present=None if there.all() else there)


def ratio_of_means(
    errors: Float[Tensor, " sample"],
    others: Float[Tensor, " sample"],
    *,
    generator: torch.Generator,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> tuple[float, float | None, float | None]:
    """Return mean(errors) / mean(others) and its bootstrap percentile interval over samples.

    Both are of the same samples, which are drawn together: what makes a sample hard for both cancels. Of fewer than
    four samples there is no interval. NaN in gives NaN out, and others that are all zero give infinity or NaN.

    Args:
        generator: of the resampling, on the CPU.

    Returns:
        The ratio, the lower and the upper end.
    """
    errors, others = errors.detach().cpu().double(), others.detach().cpu().double()
    ratio = float(errors.mean() / others.mean())
    if len(errors) < 4:
        return ratio, None, None
    drawn = torch.randint(len(errors), (num_resamples, len(errors)), generator=generator)
    ratios = errors[drawn].mean(1) / others[drawn].mean(1)
    tail = (1 - level) / 2
    low, high = ratios.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return ratio, low, high


# --- origins ----------------------------------------------------------------------------------------------------------


def origin_of(samples: Samples) -> dict[str, Any]:
    """Return in plain values where samples came from, as far as they say it themselves.

    A split tells its store, its name and its stride. A batch that was made in Python tells its systems, the range of
    each coefficient and a hash of its numbers.
    """
    return {**samples.describe(), "num_samples": samples.num_samples, "num_points": list(samples.grid.num_points)}


def _name_of(origin: Mapping[str, Any]) -> str:
    """Return a word for samples, the readable beginning of a file's name."""
    if "store" in origin:
        return f"{str(origin['store']).rstrip('/').rpartition('/')[2]}-{origin.get('split', 'samples')}"
    if "system" in origin:
        return str(origin["system"]["name"])
    return "+".join(origin.get("systems", ())) or f"samples-{config_hash(origin)}"
